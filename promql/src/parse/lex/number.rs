//! Numbers and durations: what belongs to them, and what they mean.

use super::token::Kind;
use super::{Lexer, Step, is_alphanumeric};

impl Lexer<'_> {
    pub(super) fn number(&mut self) -> Step {
        if !self.scan_number() {
            let text = crate::go::quote(&self.input[self.start..self.pos]);
            return self.error(format!("bad number syntax: {text}"));
        }
        self.some(Kind::Number)
    }

    pub(super) fn number_or_duration(&mut self) -> Step {
        if self.scan_number() {
            return self.some(Kind::Number);
        }
        if self.scan_duration() {
            return self.some(Kind::Duration);
        }
        let text = crate::go::quote(&self.input[self.start..self.pos]);
        self.error(format!("bad number or duration syntax: {text}"))
    }

    /// Units, and further numbers with units, after a number that [`Lexer::scan_number`] did not like. On failure
    /// the offending character has been read, so that the error shows it.
    fn scan_duration(&mut self) -> bool {
        if !self.accept("smhdwy") {
            return false;
        }
        // For `ms`. Units like `hs` are found out when the value is computed.
        self.accept("s");
        while self.accept("0123456789") {
            while self.accept("0123456789") {}
            if !self.accept("smhdw") {
                return false;
            }
            self.accept("s");
        }
        let next = self.peek();
        if next.is_some_and(is_alphanumeric) {
            self.bump();
            return false;
        }
        true
    }

    /// Reads what looks like a number. Whether it is one, the parser finds out.
    fn scan_number(&mut self) -> bool {
        let initial = self.pos;
        let mut digits = "0123456789";
        // In a series description 0x3 is three zeros.
        if !self.series && self.accept("0") && self.accept("xX") {
            self.accept("_");
            digits = "0123456789abcdefABCDEF";
        }
        self.accept(".");
        self.accept(digits);
        let (mut dot_seen, mut exponent_seen) = (false, false);
        while self.is(digits) || self.is("._eE") {
            if (self.is(".") && dot_seen) || (self.is("eE") && exponent_seen) {
                self.pos += 1;
                return false;
            }
            if self.accept(".") {
                dot_seen = true;
                if self.accept("_.") || digits.len() > 10 {
                    return false;
                }
            } else if self.accept("eE") {
                exponent_seen = true;
                self.accept("+-");
                if self.accept("._eE") || self.peek().is_none() {
                    return false;
                }
            } else if self.accept("_") {
                if self.accept("._eE") || self.peek().is_none() {
                    return false;
                }
            } else {
                while self.accept(digits) {}
            }
        }
        if self.pos == initial {
            return false;
        }
        let next = self.peek();
        (self.series && next == Some('x')) || !next.is_some_and(is_alphanumeric)
    }
}

/// The value of a number as Go's `strconv.ParseInt` with base 0, then `strconv.ParseFloat`, see it.
pub(in crate::parse) fn number_value(text: &str) -> Result<f64, String> {
    let error = |reason| {
        Err(format!("error parsing number: strconv.ParseFloat: parsing {}: {reason}", crate::go::quote(text)))
    };
    if let Some(n) = integer_value(text) {
        return Ok(n as f64);
    }
    if !underscores_separate_digits(text) {
        return error("invalid syntax");
    }
    match text.replace('_', "").parse::<f64>() {
        Ok(value) if value.is_infinite() && !text.eq_ignore_ascii_case("inf") => error("value out of range"),
        Ok(value) => Ok(value),
        Err(_) => error("invalid syntax"),
    }
}

/// An integer with its base as a prefix, `0` being that of octal numbers.
fn integer_value(text: &str) -> Option<i64> {
    if !underscores_separate_digits(text) {
        return None;
    }
    let clean = text.replace('_', "").to_ascii_lowercase();
    let (digits, base) = match (clean.strip_prefix("0x"), clean.strip_prefix('0')) {
        (Some(hex), _) => (hex, 16),
        (None, Some(octal)) if !octal.is_empty() => (octal, 8),
        _ => (clean.as_str(), 10),
    };
    if !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    i64::from_str_radix(digits, base).ok()
}

/// Whether every underscore stands between digits; a base prefix counts as a digit.
fn underscores_separate_digits(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    let (hex, body) = match text.strip_prefix("0x") {
        Some(body) => (true, body),
        None => (false, text.as_str()),
    };
    let is_digit = |b: u8| if hex { b.is_ascii_hexdigit() } else { b.is_ascii_digit() };
    let mut before_is_digit = hex;
    let mut before_is_underscore = false;
    for b in body.bytes() {
        if b == b'_' && !before_is_digit || before_is_underscore && !is_digit(b) {
            return false;
        }
        before_is_underscore = b == b'_';
        before_is_digit = is_digit(b);
    }
    !before_is_underscore
}
