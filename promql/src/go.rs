//! Texts as Go's `fmt` and `strconv` print them, where Prometheus's output shows them.

use std::{borrow::Cow, fmt::Write};

/// Stands for byte 0: bytes that are not UTF-8 are kept as characters of the last private plane.
const STRAY: u32 = 0x10_FF00;

/// A Go string as text. Go's strings hold any bytes; where these are not UTF-8, each becomes the private character
/// that [`bytes`] turns back, so that `"\xff"` is a string of the language here as well.
#[must_use]
pub fn text(bytes: Vec<u8>) -> String {
    let mut bytes = match String::from_utf8(bytes) {
        Ok(text) => return text,
        Err(error) => error.into_bytes(),
    };
    let mut text = String::with_capacity(bytes.len() + 8);
    for chunk in std::mem::take(&mut bytes).utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(chunk.invalid().iter().filter_map(|byte| char::from_u32(STRAY + u32::from(*byte))));
    }
    text
}

/// The byte that a character stands for, if it is none of Unicode's.
fn stray(c: char) -> Option<u8> {
    u8::try_from((c as u32).checked_sub(STRAY)?).ok().filter(|byte| *byte >= 0x80)
}

/// Whether a character stands for a byte that is none of Unicode's.
pub(crate) fn is_stray(c: char) -> bool {
    stray(c).is_some()
}

/// What [`text`] made of a Go string as JSON shows it: each byte that is not UTF-8 as the replacement character.
#[must_use]
pub fn shown(text: &str) -> Cow<'_, str> {
    if !text.contains(is_stray) {
        return Cow::Borrowed(text);
    }
    text.chars().map(|c| if is_stray(c) { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

/// The bytes of a Go string from what [`text`] made of it.
#[must_use]
pub fn bytes(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    for c in text.chars() {
        match stray(c) {
            Some(byte) => bytes.push(byte),
            None => bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    bytes
}

/// Whether a Go string is UTF-8.
#[must_use]
pub fn is_utf8(text: &str) -> bool {
    !text.chars().any(|c| stray(c).is_some())
}

/// `%q` of a string.
#[must_use]
pub fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        put_escaped(&mut out, c, '"');
    }
    out.push('"');
    out
}

/// `%q` of a rune.
#[must_use]
pub fn quote_char(c: char) -> String {
    let mut out = String::from("'");
    put_escaped(&mut out, c, '\'');
    out.push('\'');
    out
}

/// `%#U` of a rune: its code point, and itself if it can be seen.
#[must_use]
pub fn code_point(c: char) -> String {
    let number = format!("U+{:04X}", c as u32);
    if is_printable(c) { format!("{number} '{c}'") } else { number }
}

fn put_escaped(out: &mut String, c: char, quote: char) {
    match c {
        c if let Some(byte) = stray(c) => write!(out, "\\x{byte:02x}").unwrap_or(()),
        '\\' => out.push_str("\\\\"),
        c if c == quote => {
            out.push('\\');
            out.push(c);
        }
        '\x07' => out.push_str("\\a"),
        '\x08' => out.push_str("\\b"),
        '\x0c' => out.push_str("\\f"),
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        '\x0b' => out.push_str("\\v"),
        c if is_printable(c) => out.push(c),
        c if (c as u32) < 0x80 => write!(out, "\\x{:02x}", c as u32).unwrap_or(()),
        c if (c as u32) < 0x1_0000 => write!(out, "\\u{:04x}", c as u32).unwrap_or(()),
        c => write!(out, "\\U{:08x}", c as u32).unwrap_or(()),
    }
}

/// Whether Go prints the character as it is: letters, marks, numbers, punctuation, symbols and the ASCII space.
fn is_printable(c: char) -> bool {
    // Rust's own escape knows the same categories; it also escapes marks that would join the quote before them.
    match c.escape_debug().next() {
        Some('\\') => matches!(c, '\\' | '\'' | '"') || is_mark(c),
        _ => true,
    }
}

/// Whether a character is escaped by Rust only because it extends the one before it.
fn is_mark(c: char) -> bool {
    let mut alone = String::from("a");
    alone.push(c);
    !c.is_control() && alone.escape_debug().nth(1) != Some('\\')
}

/// `%f` of a number: six decimals.
#[must_use]
pub fn fixed(value: f64) -> String {
    if value.is_nan() {
        return "NaN".into();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf".into() } else { "-Inf".into() };
    }
    format!("{value:.6}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_seen_is_escaped() {
        assert_eq!(quote("a\"b\\c\n\u{1}é\u{200b}\u{1f600}"), "\"a\\\"b\\\\c\\n\\x01é\\u200b\u{1f600}\"");
    }

    #[test]
    fn combining_marks_can_be_seen() {
        assert_eq!(quote("e\u{301}"), "\"e\u{301}\"");
    }

    #[test]
    fn only_the_ascii_space_is_a_visible_space() {
        assert_eq!(quote(" \u{a0}"), "\" \\u00a0\"");
    }

    #[test]
    fn a_rune_is_shown_with_its_code_point() {
        assert_eq!(code_point('*'), "U+002A '*'");
        assert_eq!(quote_char('\''), r"'\''");
    }
}
