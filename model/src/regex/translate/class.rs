//! Character classes: `[a-z]`, `[[:alpha:]]`, `\d`, `\pL`.

use super::escape::escape;
use super::{Translator, error};
use crate::RegexError;

/// A part of a class in Rust's syntax, to stand inside brackets, and the rest of the text.
type Part<'a> = Option<(String, &'a str)>;

impl<'a> Translator<'a> {
    /// A class in brackets.
    pub(super) fn class(&mut self, text: &'a str) -> Result<&'a str, RegexError> {
        let mut rest = &text[1..];
        let negated = rest.starts_with('^');
        let mut class = String::new();
        if negated {
            rest = &rest[1..];
        }
        let mut first = true;
        while first || !rest.starts_with(']') {
            first = false;
            if let Some((part, after)) = posix_class(rest)? {
                class.push_str(&part);
                rest = after;
            } else if let Some((part, after)) = self.escaped_class(rest)? {
                class.push_str(&part);
                rest = after;
            } else {
                rest = range(text, rest, &mut class)?;
            }
        }
        // Nothing is left of ranges of half surrogate pairs.
        let inner = if class.is_empty() { "[^\\x{0}-\\x{10FFFF}]" } else { &class };
        let sign = if negated { "^" } else { "" };
        let open = if self.flags.fold_case { "(?i:[" } else { "(?:[" };
        let atom = format!("{open}{sign}{inner}])");
        Ok(self.raw(&atom, &rest[1..]))
    }

    /// `\d`, `\pL`, `\p{Greek}` and the like at the start of `text`.
    pub(super) fn escaped_class(&self, text: &'a str) -> Result<Part<'a>, RegexError> {
        let Some(escaped) = text.strip_prefix('\\') else { return Ok(None) };
        let class = match escaped.chars().next() {
            Some('d') => "0-9",
            Some('D') => "[^0-9]",
            Some('s') => "\\t\\n\\x0c\\r\\x20",
            Some('S') => "[^\\t\\n\\x0c\\r\\x20]",
            Some('w') => "0-9A-Za-z_",
            Some('W') => "[^0-9A-Za-z_]",
            Some('p' | 'P') => return unicode_class(text).map(Some),
            _ => return Ok(None),
        };
        Ok(Some((class.to_owned(), &escaped[1..])))
    }
}

/// A character or a range of them; appended to `class`.
fn range<'a>(whole: &str, text: &'a str, class: &mut String) -> Result<&'a str, RegexError> {
    let (low, mut rest) = class_char(whole, text)?;
    let mut high = low;
    if rest.starts_with('-') && rest.len() >= 2 && !rest.starts_with("-]") {
        (high, rest) = class_char(whole, &rest[1..])?;
        if high < low {
            return error("invalid character class range", &text[..text.len() - rest.len()]);
        }
    }
    // Half surrogate pairs are in no text.
    let low = if (0xD800..0xE000).contains(&low) { 0xE000 } else { low };
    let high = if (0xD800..0xE000).contains(&high) { 0xD7FF } else { high };
    if low <= high {
        class.push_str(&format!("\\x{{{low:x}}}-\\x{{{high:x}}}"));
    }
    Ok(rest)
}

fn class_char<'a>(whole: &str, text: &'a str) -> Result<(u32, &'a str), RegexError> {
    match text.chars().next() {
        None => error("missing closing ]", whole),
        Some('\\') => escape(text),
        Some(c) => Ok((c as u32, &text[c.len_utf8()..])),
    }
}

/// `[:alpha:]` or `[:^alpha:]` at the start of `text`.
fn posix_class(text: &str) -> Result<Part<'_>, RegexError> {
    let Some(inside) = text.strip_prefix("[:") else { return Ok(None) };
    let Some(end) = inside.find(":]") else { return Ok(None) };
    let (name, rest) = (&inside[..end], &inside[end + 2..]);
    let known = [
        "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct", "space",
        "upper", "word", "xdigit",
    ];
    if !known.contains(&name.strip_prefix('^').unwrap_or(name)) {
        return error("invalid character class range", &text[..text.len() - rest.len()]);
    }
    Ok(Some((format!("[[:{name}:]]"), rest)))
}

/// `\pL`, `\p{Greek}`, `\P{^Lu}` at the start of `text`.
fn unicode_class(text: &str) -> Result<(String, &str), RegexError> {
    let mut negated = text.starts_with("\\P");
    let inside = &text[2..];
    let (mut name, rest) = match inside.chars().next() {
        // Go reads the end of the text as an empty name.
        None => ("", ""),
        Some('{') => match inside.find('}') {
            Some(end) => (&inside[1..end], &inside[end + 1..]),
            None => return error("invalid character class range", text),
        },
        Some(c) => inside.split_at(c.len_utf8()),
    };
    let written = &text[..text.len() - rest.len()];
    if let Some(other) = name.strip_prefix('^') {
        negated = !negated;
        name = other;
    }
    let plain = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_- ".contains(&b));
    let sign = if negated { "P" } else { "p" };
    let classes = ["gc", "sc"].map(|kind| format!("\\{sign}{{{kind}={name}}}"));
    match classes.into_iter().find(|class| plain && regex_syntax::parse(class).is_ok()) {
        Some(class) => Ok((class, rest)),
        None => error("invalid character class range", written),
    }
}
