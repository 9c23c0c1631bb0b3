//! Quoted strings: finding their end, and what they mean.

use super::token::Kind;
use super::{Lexer, Step};

impl Lexer<'_> {
    /// A string with escapes; the opening quote has been read.
    pub(super) fn string(&mut self, open: char) -> Step {
        loop {
            match self.bump() {
                Some('\\') => {
                    if let Err(message) = self.escape(open) {
                        return self.error(message);
                    }
                }
                Some(char::REPLACEMENT_CHARACTER) => return self.error("invalid UTF-8 rune".into()),
                None | Some('\n') => return self.error("unterminated quoted string".into()),
                Some(c) if c == open => return self.some_string(),
                Some(_) => {}
            }
        }
    }

    /// A string in backticks, without escapes; the opening one has been read.
    pub(super) fn raw_string(&mut self) -> Step {
        loop {
            match self.bump() {
                Some(char::REPLACEMENT_CHARACTER) => return self.error("invalid UTF-8 rune".into()),
                None => return self.error("unterminated raw string".into()),
                Some('`') => return self.some_string(),
                Some(_) => {}
            }
        }
    }

    fn some_string(&mut self) -> Step {
        self.mode = super::Mode::Statements;
        self.some(Kind::String)
    }

    /// Checks an escape sequence; the backslash has been read.
    fn escape(&mut self, open: char) -> Result<(), String> {
        let unterminated = || "escape sequence not terminated".to_owned();
        let first = self.bump().ok_or_else(unterminated)?;
        let (digits, base, max) = match first {
            'a' | 'b' | 'f' | 'n' | 'r' | 't' | 'v' | '\\' => return Ok(()),
            c if c == open => return Ok(()),
            '0'..='7' => {
                self.pos -= 1;
                (3, 8, 255)
            }
            'x' => (2, 16, 255),
            'u' => (4, 16, 0x10_FFFF),
            'U' => (8, 16, 0x10_FFFF),
            other => return Err(format!("unknown escape sequence {}", crate::go::code_point(other))),
        };
        let mut value: u32 = 0;
        for _ in 0..digits {
            let c = self.bump().ok_or_else(unterminated)?;
            let digit = c.to_digit(base).ok_or_else(|| {
                format!("illegal character {} in escape sequence", crate::go::code_point(c))
            })?;
            value = value.wrapping_mul(base).wrapping_add(digit);
        }
        if value > max || (0xD800..0xE000).contains(&value) {
            return Err("escape sequence is an invalid Unicode code point".into());
        }
        Ok(())
    }
}

/// What a quoted string means; it has passed the lexer. Bytes that are not UTF-8 are kept as [`crate::go::text`] does.
pub(in crate::parse) fn unquote(quoted: &str) -> Option<String> {
    let inner = quoted.get(1..quoted.len().checked_sub(1)?)?;
    if quoted.starts_with('`') || !inner.contains('\\') {
        return Some(inner.to_owned());
    }
    let mut bytes = Vec::with_capacity(inner.len());
    let mut rest = inner;
    while let Some(at) = rest.find('\\') {
        bytes.extend_from_slice(&rest.as_bytes()[..at]);
        rest = unescape(&rest[at + 1..], &mut bytes)?;
    }
    bytes.extend_from_slice(rest.as_bytes());
    Some(crate::go::text(bytes))
}

/// Appends what the escape sequence after a backslash means, and returns what follows it.
fn unescape<'a>(rest: &'a str, bytes: &mut Vec<u8>) -> Option<&'a str> {
    let number = |from: usize, to: usize, base| u32::from_str_radix(rest.get(from..to)?, base).ok();
    let first = rest.chars().next()?;
    let (used, byte) = match first {
        'a' => (1, 7),
        'b' => (1, 8),
        'f' => (1, 12),
        'n' => (1, b'\n'),
        'r' => (1, b'\r'),
        't' => (1, b'\t'),
        'v' => (1, 11),
        '0'..='7' => (3, u8::try_from(number(0, 3, 8)?).ok()?),
        'x' => (3, u8::try_from(number(1, 3, 16)?).ok()?),
        'u' | 'U' => {
            let used = if first == 'u' { 5 } else { 9 };
            let c = char::from_u32(number(1, used, 16)?)?;
            bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            return rest.get(used..);
        }
        c if c.is_ascii() => (1, c as u8),
        _ => return None,
    };
    bytes.push(byte);
    rest.get(used..)
}
