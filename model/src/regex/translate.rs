//! From Go's dialect to that of the `regex` crate.
//!
//! Reads an expression as Go's `regexp/syntax` does (flags `Perl | DotNL`), refuses what Go refuses with Go's words,
//! and writes one that means the same in Rust. Every atom is written with its flags, so that flags set in the
//! middle need no scope, and what Rust would read otherwise (`&&` in a class, `\d` as Unicode) never appears.
//! Groups lose their names: Go lets them begin with a digit and come twice. The names are kept beside.

mod class;
mod escape;

use super::RegexError;

/// An expression in Rust's dialect.
pub(super) struct Translated {
    /// Without anchors, without names.
    pub(super) pattern: String,
    /// The names of the groups, from group 1 on; empty for those without.
    pub(super) names: Vec<String>,
}

/// The deepest nesting of groups. Go allows 1000; the compiler behind recurses.
const DEPTH_MAX: usize = 250;

/// The largest count of a repetition, and of nested ones multiplied.
const REPEAT_MAX: i64 = 1000;

#[derive(Clone, Copy)]
struct Flags {
    fold_case: bool,
    multi_line: bool,
    dot_newline: bool,
    non_greedy: bool,
}

/// A group that is still open.
struct Open {
    flags: Flags,
    /// Where the group begins in the output.
    at: usize,
    /// The heaviest atom before the group.
    heaviest: i64,
}

/// The atom that a repetition would apply to.
#[derive(Clone, Copy)]
struct Atom {
    at: usize,
    /// The product of nested repetition counts.
    weight: i64,
}

struct Translator<'a> {
    whole: &'a str,
    flags: Flags,
    open: Vec<Open>,
    out: String,
    names: Vec<String>,
    atom: Option<Atom>,
    heaviest: i64,
}

fn error<T>(code: &str, text: &str) -> Result<T, RegexError> {
    Err(RegexError(format!("{code}: `{text}`")))
}

/// Translates `source`.
pub(super) fn translate(source: &str) -> Result<Translated, RegexError> {
    let flags = Flags { fold_case: false, multi_line: false, dot_newline: true, non_greedy: false };
    let mut t = Translator {
        whole: source,
        flags,
        open: Vec::new(),
        out: String::with_capacity(source.len() + 16),
        names: Vec::new(),
        atom: None,
        heaviest: 1,
    };
    t.run()?;
    Ok(Translated { pattern: t.out, names: t.names })
}

impl<'a> Translator<'a> {
    fn run(&mut self) -> Result<(), RegexError> {
        let mut rest = self.whole;
        let mut last_repeat = "";
        while let Some(c) = rest.chars().next() {
            let before = rest;
            let mut repeated = false;
            rest = match c {
                '(' if rest.starts_with("(?") => self.special_group(rest)?,
                '(' => {
                    self.names.push(String::new());
                    self.open("(")?;
                    &rest[1..]
                }
                '|' => {
                    self.out.push('|');
                    self.atom = None;
                    &rest[1..]
                }
                ')' => {
                    self.close()?;
                    &rest[1..]
                }
                '^' => self.raw(if self.flags.multi_line { "(?m:^)" } else { "\\A" }, &rest[1..]),
                '$' => self.raw(if self.flags.multi_line { "(?m:$)" } else { "\\z" }, &rest[1..]),
                '.' => self.raw(if self.flags.dot_newline { "(?s:.)" } else { "[^\\n]" }, &rest[1..]),
                '[' => self.class(rest)?,
                '*' | '+' | '?' => {
                    repeated = true;
                    let counts = if c == '+' { (1, -1) } else { (0, if c == '?' { 1 } else { -1 }) };
                    self.repeat(&rest[..1], counts, before, &rest[1..], last_repeat)?
                }
                '{' => match braces(rest) {
                    None => {
                        self.literal('{');
                        &rest[1..]
                    }
                    Some((min, max, after)) => {
                        repeated = true;
                        let is_count = (0..=REPEAT_MAX).contains(&min) && max <= REPEAT_MAX;
                        if !is_count || (max >= 0 && min > max) {
                            return error("invalid repeat count", &before[..before.len() - after.len()]);
                        }
                        let text = &rest[..rest.len() - after.len()];
                        self.repeat(text, (min, max), before, after, last_repeat)?
                    }
                },
                '\\' => self.backslash(rest)?,
                other => {
                    self.literal(other);
                    &rest[other.len_utf8()..]
                }
            };
            last_repeat = if repeated { before } else { "" };
        }
        if self.open.is_empty() { Ok(()) } else { error("missing closing )", self.whole) }
    }

    /// Writes an atom as it is.
    fn raw(&mut self, text: &str, rest: &'a str) -> &'a str {
        self.atom = Some(Atom { at: self.out.len(), weight: 1 });
        self.out.push_str(text);
        rest
    }

    /// Writes a character that stands for itself.
    fn literal(&mut self, c: char) {
        self.literal_code(c as u32);
    }

    /// Writes a code point that stands for itself; half a surrogate pair stands for nothing.
    fn literal_code(&mut self, code: u32) {
        self.atom = Some(Atom { at: self.out.len(), weight: 1 });
        let Some(c) = char::from_u32(code) else {
            self.out.push_str("[^\\x{0}-\\x{10FFFF}]");
            return;
        };
        let has_case = self.flags.fold_case && (c.is_alphabetic() || !c.is_ascii());
        self.out.push_str(if has_case { "(?i:" } else { "" });
        if c.is_ascii_alphanumeric() || c == '_' || (!c.is_ascii() && !c.is_whitespace()) {
            self.out.push(c);
        } else {
            self.out.push_str(&format!("\\x{{{:x}}}", c as u32));
        }
        self.out.push_str(if has_case { ")" } else { "" });
    }

    fn open(&mut self, text: &str) -> Result<(), RegexError> {
        if self.open.len() >= DEPTH_MAX {
            return error("expression nests too deeply", self.whole);
        }
        self.open.push(Open { flags: self.flags, at: self.out.len(), heaviest: self.heaviest });
        self.out.push_str(text);
        self.atom = None;
        self.heaviest = 1;
        Ok(())
    }

    fn close(&mut self) -> Result<(), RegexError> {
        let Some(open) = self.open.pop() else { return error("unexpected )", self.whole) };
        self.out.push(')');
        self.flags = open.flags;
        self.atom = Some(Atom { at: open.at, weight: self.heaviest });
        self.heaviest = self.heaviest.max(open.heaviest);
        Ok(())
    }

    /// A repetition; `text` is its operator, `before` begins with it, `after` follows it.
    fn repeat(
        &mut self,
        text: &str,
        (min, max): (i64, i64),
        before: &'a str,
        after: &'a str,
        last_repeat: &'a str,
    ) -> Result<&'a str, RegexError> {
        let (lazy, after) = match after.strip_prefix('?') {
            Some(rest) => (!self.flags.non_greedy, rest),
            None => (self.flags.non_greedy, after),
        };
        if !last_repeat.is_empty() {
            let both = &last_repeat[..last_repeat.len() - after.len()];
            return error("invalid nested repetition operator", both);
        }
        let operator = &before[..before.len() - after.len()];
        let Some(atom) = self.atom else {
            return error("missing argument to repetition operator", operator);
        };
        let mut weight = atom.weight;
        if text.starts_with('{') {
            let count = if max < 0 { min } else { max };
            weight = if max == 0 { 0 } else { weight * count.max(1) };
            if (min >= 2 || max >= 2) && weight > REPEAT_MAX {
                return error("invalid repeat count", operator);
            }
        }
        // What is repeated may be repeated already, if flags stand between.
        self.out.insert_str(atom.at, "(?:");
        self.out.push(')');
        self.out.push_str(text);
        self.out.push_str(if lazy { "?" } else { "" });
        self.atom = Some(Atom { at: atom.at, weight });
        self.heaviest = self.heaviest.max(weight);
        Ok(after)
    }

    /// `(?P<name>`, `(?<name>`, `(?flags)` or `(?flags:`
    fn special_group(&mut self, rest: &'a str) -> Result<&'a str, RegexError> {
        let named = rest.starts_with("(?P<") && rest.len() > 4 || rest.starts_with("(?<") && rest.len() > 3;
        if named {
            let Some(end) = rest.find('>') else { return error("invalid named capture", rest) };
            let name = &rest[rest.find('<').map_or(0, |at| at + 1)..end];
            if name.is_empty() || !name.bytes().all(|b| b == b'_' || b.is_ascii_alphanumeric()) {
                return error("invalid named capture", &rest[..=end]);
            }
            self.names.push(name.to_owned());
            self.open("(")?;
            return Ok(&rest[end + 1..]);
        }
        let (mut flags, mut on, mut seen) = (self.flags, true, false);
        let mut at = 2;
        for c in rest[2..].chars() {
            at += c.len_utf8();
            match c {
                'i' => flags.fold_case = on,
                'm' => flags.multi_line = on,
                's' => flags.dot_newline = on,
                'U' => flags.non_greedy = on,
                '-' if on => {
                    on = false;
                    seen = false;
                    continue;
                }
                ':' | ')' if on || seen => {
                    if c == ':' {
                        self.open("(?:")?;
                    }
                    self.flags = flags;
                    return Ok(&rest[at..]);
                }
                _ => break,
            }
            seen = true;
        }
        error("invalid or unsupported Perl syntax", &rest[..at])
    }
}

/// `{min}`, `{min,}` or `{min,max}` at the start of `text`: the counts (max -1: none; min -1: too big) and the rest.
fn braces(text: &str) -> Option<(i64, i64, &str)> {
    let (mut min, rest) = integer(text.strip_prefix('{')?)?;
    let (max, rest) = match rest.strip_prefix(',') {
        None => (min, rest),
        Some(rest) if rest.starts_with('}') => (-1, rest),
        Some(rest) => {
            let (max, rest) = integer(rest)?;
            if max < 0 {
                min = -1;
            }
            (max, rest)
        }
    };
    Some((min, max, rest.strip_prefix('}')?))
}

/// Digits without leading zeros; -1 if there are too many.
fn integer(text: &str) -> Option<(i64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let digits = &text[..end];
    if digits.is_empty() || (digits.len() > 1 && digits.starts_with('0')) {
        return None;
    }
    let value = if digits.len() > 9 { -1 } else { digits.parse().unwrap_or(-1) };
    Some((value, &text[end..]))
}
