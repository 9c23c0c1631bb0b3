//! What a backslash means.

use super::{Translator, error};
use crate::RegexError;

impl<'a> Translator<'a> {
    /// A backslash outside a class.
    pub(super) fn backslash(&mut self, rest: &'a str) -> Result<&'a str, RegexError> {
        let next = rest[1..].chars().next();
        match next {
            Some('A') => return Ok(self.raw("\\A", &rest[2..])),
            Some('z') => return Ok(self.raw("\\z", &rest[2..])),
            Some('b') => return Ok(self.raw("(?-u:\\b)", &rest[2..])),
            // Not `(?-u:\B)`, which is there between the bytes of a character, too.
            Some('B') => return Ok(self.raw(NO_BOUNDARY, &rest[2..])),
            Some('C') => return error("invalid escape sequence", &rest[..2]),
            Some('Q') => {
                let (literal, after) = rest[2..].split_once("\\E").unwrap_or((&rest[2..], ""));
                literal.chars().for_each(|c| self.literal(c));
                return Ok(after);
            }
            _ => {}
        }
        if let Some((class, after)) = self.escaped_class(rest)? {
            let fold = self.flags.fold_case;
            let text = if fold { format!("(?i:[{class}])") } else { format!("[{class}]") };
            return Ok(self.raw(&text, after));
        }
        let (code, after) = escape(rest)?;
        self.literal_code(code);
        Ok(after)
    }
}

/// No word boundary of ASCII words.
const NO_BOUNDARY: &str = "(?-u:\\B)";

/// A single escaped code point, and the rest.
pub(super) fn escape(text: &str) -> Result<(u32, &str), RegexError> {
    let mut chars = text[1..].chars();
    let Some(c) = chars.next() else { return error("trailing backslash at end of expression", "") };
    let mut octal = |first: char| {
        let mut code = first as u32 - '0' as u32;
        for _ in 1..3 {
            match chars.as_str().chars().next().and_then(|d| d.to_digit(8)) {
                Some(digit) => code = code * 8 + digit,
                None => break,
            }
            chars.next();
        }
        (code, chars.as_str())
    };
    let after = &text[1 + c.len_utf8()..];
    match c {
        '0' => return Ok(octal(c)),
        // A single digit would be a back reference.
        '1'..='7' if after.starts_with(|d: char| d.is_digit(8)) => return Ok(octal(c)),
        'x' => return hexadecimal(text, after),
        'a' => return Ok((7, after)),
        'f' => return Ok((12, after)),
        'n' => return Ok((10, after)),
        'r' => return Ok((13, after)),
        't' => return Ok((9, after)),
        'v' => return Ok((11, after)),
        c if c.is_ascii() && !c.is_ascii_alphanumeric() => return Ok((c as u32, after)),
        _ => {}
    }
    error("invalid escape sequence", &text[..text.len() - after.len()])
}

/// `\x41` or `\x{1F600}`
fn hexadecimal<'a>(text: &'a str, after: &'a str) -> Result<(u32, &'a str), RegexError> {
    let invalid = |rest: &str| error("invalid escape sequence", &text[..text.len() - rest.len()]);
    let mut chars = after.chars();
    let Some(first) = chars.next() else { return invalid("") };
    if first == '{' {
        let (mut code, mut digits) = (0u32, 0);
        while let Some(c) = chars.next() {
            match c.to_digit(16) {
                Some(digit) => {
                    code = code * 16 + digit;
                    digits += 1;
                    if code > 0x10_FFFF {
                        return invalid(chars.as_str());
                    }
                }
                None if c == '}' && digits > 0 => return Ok((code, chars.as_str())),
                None => return invalid(chars.as_str()),
            }
        }
        return invalid("");
    }
    let second = chars.next();
    match (first.to_digit(16), second.and_then(|c| c.to_digit(16))) {
        (Some(high), Some(low)) => Ok((high * 16 + low, chars.as_str())),
        // Go reads the second digit before it looks at the first, and the end of the text is no character.
        _ if second.is_none() => invalid(""),
        _ => invalid(chars.as_str()),
    }
}
