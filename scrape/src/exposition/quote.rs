//! Quotes bytes as Go's `%q` does, so that errors read as Prometheus's.

use std::fmt::Write;

/// The bytes in double quotes, with escapes.
pub(crate) fn quote(bytes: &[u8]) -> String {
    let mut quoted = String::with_capacity(bytes.len() + 2);
    quoted.push('"');
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            push_char(&mut quoted, c);
        }
        for byte in chunk.invalid() {
            let _ = write!(quoted, "\\x{byte:02x}");
        }
    }
    quoted.push('"');
    quoted
}

fn push_char(quoted: &mut String, c: char) {
    let code = u32::from(c);
    match c {
        '"' => quoted.push_str("\\\""),
        '\\' => quoted.push_str("\\\\"),
        '\n' => quoted.push_str("\\n"),
        '\r' => quoted.push_str("\\r"),
        '\t' => quoted.push_str("\\t"),
        '\u{7}' => quoted.push_str("\\a"),
        '\u{8}' => quoted.push_str("\\b"),
        '\u{b}' => quoted.push_str("\\v"),
        '\u{c}' => quoted.push_str("\\f"),
        _ if code < 0x20 || code == 0x7f => {
            let _ = write!(quoted, "\\x{code:02x}");
        }
        _ if c.is_control() || (c.is_whitespace() && c != ' ') => {
            let _ = write!(quoted, "\\u{code:04x}");
        }
        _ => quoted.push(c),
    }
}

/// The first `max` characters, as Go's `%.50s`.
pub(crate) fn shorten(text: &str, max: usize) -> &str {
    text.char_indices().nth(max).map_or(text, |(end, _)| &text[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_quoted_as_go_quotes_them() {
        assert_eq!(quote(b"a\"b\\c\n\t"), r#""a\"b\\c\n\t""#);
        assert_eq!(quote(b"\xff\x00\x7f"), r#""\xff\x00\x7f""#);
        assert_eq!(quote("ä\u{85}\u{a0}".as_bytes()), "\"ä\\u0085\\u00a0\"");
    }

    #[test]
    fn a_long_text_is_cut_at_a_character() {
        assert_eq!(shorten("äöü", 2), "äö");
        assert_eq!(shorten("ab", 2), "ab");
    }
}
