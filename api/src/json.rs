//! Values of Prometheus's JSON, appended to a buffer byte by byte as Prometheus writes them.
//!
//! Two kinds of strings: in label sets Prometheus escapes what JSON demands ([`label_text`]), everywhere else also
//! `<`, `>`, `&`, U+2028 and U+2029 as Go's `encoding/json` does ([`text`]).

use model::{Labels, TimestampMs};
use std::io::Write;

const HEX: &[u8; 16] = b"0123456789abcdef";

/// A string inside a label set.
pub(crate) fn label_text(out: &mut Vec<u8>, text: &str) {
    quoted(out, text, |byte| byte >= 0x20 && byte != b'"' && byte != b'\\');
}

/// A string anywhere else.
pub(crate) fn text(out: &mut Vec<u8>, text: &str) {
    if text.contains(['\u{2028}', '\u{2029}']) {
        // Rare enough to be allowed an allocation.
        let mut escaped = Vec::new();
        quoted(&mut escaped, text, |byte| byte >= 0x20 && !b"\"\\<>&".contains(&byte));
        let escaped = String::from_utf8(escaped).expect("made of a string and ASCII");
        out.extend_from_slice(
            escaped.replace('\u{2028}', "\\u2028").replace('\u{2029}', "\\u2029").as_bytes(),
        );
    } else {
        quoted(out, text, |byte| byte >= 0x20 && !b"\"\\<>&".contains(&byte));
    }
}

#[inline]
fn quoted(out: &mut Vec<u8>, text: &str, plain: impl Fn(u8) -> bool) {
    out.push(b'"');
    let mut rest = text.as_bytes();
    while let Some(stop) = rest.iter().position(|byte| !plain(*byte)) {
        out.extend_from_slice(&rest[..stop]);
        let byte = rest[stop];
        match byte {
            b'"' | b'\\' => out.extend([b'\\', byte]),
            b'\n' => out.extend(b"\\n"),
            b'\r' => out.extend(b"\\r"),
            b'\t' => out.extend(b"\\t"),
            _ => {
                out.extend(b"\\u00");
                out.extend([HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
            }
        }
        rest = &rest[stop + 1..];
    }
    out.extend_from_slice(rest);
    out.push(b'"');
}

/// A label set as an object.
pub(crate) fn labels(out: &mut Vec<u8>, labels: &Labels) {
    out.push(b'{');
    for (i, (name, value)) in labels.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        label_text(out, name);
        out.push(b':');
        label_text(out, value);
    }
    out.push(b'}');
}

/// A list of strings.
pub(crate) fn texts<'a>(out: &mut Vec<u8>, list: impl IntoIterator<Item = &'a str>) {
    array(out, list, text);
}

/// A list.
pub(crate) fn array<T>(
    out: &mut Vec<u8>,
    list: impl IntoIterator<Item = T>,
    mut item: impl FnMut(&mut Vec<u8>, T),
) {
    out.push(b'[');
    for (i, value) in list.into_iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        item(out, value);
    }
    out.push(b']');
}

/// An object of which the fields are written one by one.
pub(crate) struct Object<'a> {
    out: &'a mut Vec<u8>,
    first: bool,
}

impl<'a> Object<'a> {
    pub(crate) fn new(out: &'a mut Vec<u8>) -> Self {
        out.push(b'{');
        Object { out, first: true }
    }

    /// Starts a field; the value is for the caller to append.
    pub(crate) fn key(&mut self, name: &str) -> &mut Vec<u8> {
        if !std::mem::take(&mut self.first) {
            self.out.push(b',');
        }
        text(self.out, name);
        self.out.push(b':');
        self.out
    }

    pub(crate) fn text(&mut self, name: &str, value: &str) -> &mut Self {
        text(self.key(name), value);
        self
    }

    pub(crate) fn integer(&mut self, name: &str, value: impl Into<i128>) -> &mut Self {
        integer(self.key(name), value);
        self
    }

    pub(crate) fn bool(&mut self, name: &str, value: bool) -> &mut Self {
        bool(self.key(name), value);
        self
    }

    pub(crate) fn number(&mut self, name: &str, value: f64) -> &mut Self {
        number(self.key(name), value);
        self
    }

    pub(crate) fn labels(&mut self, name: &str, value: &Labels) -> &mut Self {
        labels(self.key(name), value);
        self
    }

    pub(crate) fn null(&mut self, name: &str) -> &mut Self {
        self.key(name).extend(b"null");
        self
    }

    pub(crate) fn end(self) {
        self.out.push(b'}');
    }
}

pub(crate) fn bool(out: &mut Vec<u8>, value: bool) {
    out.extend_from_slice(if value { b"true" } else { b"false" });
}

/// A whole number.
pub(crate) fn integer(out: &mut Vec<u8>, value: impl Into<i128>) {
    let value: i128 = value.into();
    match u64::try_from(value.unsigned_abs()) {
        Ok(digits) => {
            if value < 0 {
                out.push(b'-');
            }
            unsigned(out, digits);
        }
        Err(_) => write!(out, "{value}").expect("a Vec takes all bytes"),
    }
}

fn unsigned(out: &mut Vec<u8>, mut value: u64) {
    let mut digits = [0_u8; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// A timestamp as seconds with at most three decimals: `1435781451.781`, `1435781460`.
pub(crate) fn timestamp(out: &mut Vec<u8>, timestamp: TimestampMs) {
    let ms = timestamp.0.unsigned_abs();
    if timestamp.0 < 0 {
        out.push(b'-');
    }
    unsigned(out, ms / 1000);
    let fraction = ms % 1000;
    if fraction > 0 {
        let digits =
            [b'0' + (fraction / 100) as u8, b'0' + (fraction / 10 % 10) as u8, b'0' + (fraction % 10) as u8];
        out.push(b'.');
        out.extend_from_slice(&digits);
    }
}

/// A sample value: a string with Go's shortest form, `"1e+21"`, `"+Inf"`.
#[inline]
pub(crate) fn value(out: &mut Vec<u8>, value: f64) {
    out.push(b'"');
    bare(out, value);
    out.push(b'"');
}

/// A JSON number, as Go writes a float: the digits of [`value`] without quotes. What JSON cannot say is null.
pub(crate) fn number(out: &mut Vec<u8>, value: f64) {
    if value.is_finite() { bare(out, value) } else { out.extend(b"null") }
}

/// Whole numbers below this are exact and short, and by far the most frequent values.
const WHOLE_MAX: f64 = 1e15;

#[inline]
pub(crate) fn bare(out: &mut Vec<u8>, value: f64) {
    let magnitude = value.abs();
    if magnitude < WHOLE_MAX && value.trunc() == value {
        if value.is_sign_negative() {
            out.push(b'-');
        }
        unsigned(out, magnitude as u64);
    } else if value.is_nan() {
        out.extend(b"NaN");
    } else if value.is_infinite() {
        out.extend(if value > 0.0 { b"+Inf" } else { b"-Inf" });
    } else if !(1e-6..1e21).contains(&magnitude) {
        exponential(out, value);
    } else {
        let mut buffer = zmij::Buffer::new();
        let digits = buffer.format_finite(value);
        if digits.contains('e') {
            write!(out, "{value}").expect("a Vec takes all bytes"); // rare
        } else {
            out.extend_from_slice(digits.strip_suffix(".0").unwrap_or(digits).as_bytes());
        }
    }
}

/// Go's `'e'` form: a sign and at least two digits in the exponent.
fn exponential(out: &mut Vec<u8>, value: f64) {
    let start = out.len();
    write!(out, "{value:e}").expect("a Vec takes all bytes");
    let at =
        start + out[start..].iter().position(|byte| *byte == b'e').expect("written with an exponent") + 1;
    let negative = out[at] == b'-';
    let digits = out.split_off(at + usize::from(negative));
    out.truncate(at);
    out.push(if negative { b'-' } else { b'+' });
    if digits.len() < 2 {
        out.push(b'0');
    }
    out.extend(digits);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn values_are_written_as_go_writes_them() {
        let check = |v, expected: &str| assert_eq!(written(|out| value(out, v)), format!("\"{expected}\""));
        check(0.0, "0");
        check(-0.0, "-0");
        check(1.0, "1");
        check(-1.5, "-1.5");
        check(0.1, "0.1");
        check(1e-6, "0.000001");
        check(1e-7, "1e-07");
        check(1.25e-10, "1.25e-10");
        check(1e20, "100000000000000000000");
        check(1e21, "1e+21");
        check(-1.5e300, "-1.5e+300");
        check(5e-324, "5e-324");
        check(123456789012345680.0, "123456789012345680");
        check(2_960_569_473_376_561.0 / 4.0, "740142368344140.2"); // .25: a tie goes to the even digit, not up
        check(1e16, "10000000000000000");
        check(12_345_678_901_234_567.0, "12345678901234568");
        check(f64::NAN, "NaN");
        check(f64::INFINITY, "+Inf");
        check(f64::NEG_INFINITY, "-Inf");
    }

    #[test]
    fn timestamps_are_seconds_with_three_decimals_or_none() {
        let check = |ms, expected| assert_eq!(written(|out| timestamp(out, TimestampMs(ms))), expected);
        check(1_435_781_451_781, "1435781451.781");
        check(1_435_781_460_000, "1435781460");
        check(5, "0.005");
        check(-1, "-0.001");
        check(-2_500, "-2.500");
        check(i64::MIN, "-9223372036854775.808");
    }

    #[test]
    fn strings_are_escaped_as_go_escapes_them() {
        assert_eq!(
            written(|out| text(out, "a<b>&\"\\\n\t\r\u{1}\u{7f}é")),
            "\"a\\u003cb\\u003e\\u0026\\\"\\\\\\n\\t\\r\\u0001\u{7f}é\""
        );
        assert_eq!(written(|out| text(out, "\u{2028}<")), r#""\u2028\u003c""#);
        assert_eq!(written(|out| label_text(out, "a<b>&\"")), r#""a<b>&\"""#);
    }

    #[test]
    fn every_string_reads_back_as_itself() {
        let all: String = (0..0x3000).filter_map(char::from_u32).collect();
        let back: String = serde_json::from_str(&written(|out| text(out, &all))).unwrap();
        assert_eq!(back, all);
        let back: String = serde_json::from_str(&written(|out| label_text(out, &all))).unwrap();
        assert_eq!(back, all);
    }

    proptest::proptest! {
        #[test]
        fn every_value_reads_back_as_itself(bits: u64) {
            let v = f64::from_bits(bits);
            let text = written(|out| bare(out, v));
            let back: f64 = text.parse().unwrap();
            assert!(back.to_bits() == bits || v.is_nan() && back.is_nan(), "{text}");
        }

        #[test]
        fn values_are_as_short_as_the_standard_library_has_them(mantissa: i64, places in 0..20_i32) {
            let v = mantissa as f64 * 10_f64.powi(-places);
            proptest::prop_assume!(v.abs() < 1e21 && v.abs() >= 1e-6);
            assert_eq!(written(|out| bare(out, v)).len(), v.to_string().len());
        }
    }
}
