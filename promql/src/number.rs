//! Numbers as Go prints them, because Prometheus does: in JSON, in labels and in messages.
//!
//! Rust's shortest decimal digits are Go's; only the layout around them differs.

use std::fmt::Write as _;

/// Digits and decimal exponent of the shortest text that reads back as `value`: `d.ddd` times ten to the exponent.
fn digits(value: f64) -> (String, i32) {
    split_exponent(&format!("{:e}", value.abs()))
}

fn split_exponent(text: &str) -> (String, i32) {
    let (mantissa, exponent) = text.split_once('e').expect("the `e` format has an exponent");
    (mantissa.replace('.', ""), exponent.parse().expect("an exponent is a small integer"))
}

fn special(value: f64) -> Option<&'static str> {
    if value.is_nan() {
        Some("NaN")
    } else if value == f64::INFINITY {
        Some("+Inf")
    } else if value == f64::NEG_INFINITY {
        Some("-Inf")
    } else {
        None
    }
}

/// `1.5e+09`: Go's `e` layout of given digits.
fn push_exponential(out: &mut String, digits: &str, exponent: i32) {
    out.push_str(&digits[..1]);
    if digits.len() > 1 {
        out.push('.');
        out.push_str(&digits[1..]);
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    let _ = write!(out, "e{sign}{:02}", exponent.unsigned_abs());
}

/// As Go's `strconv.FormatFloat(value, 'f', -1, 64)`: never an exponent; `+Inf`, `-Inf`, `NaN`.
/// Prometheus writes sample values and the labels of `count_values` like this.
#[must_use]
pub fn format_float(value: f64) -> String {
    special(value).map_or_else(|| value.to_string(), str::to_owned)
}

/// As Go's `%f`: six digits behind the point; `+Inf`, `-Inf`, `NaN`.
pub(crate) fn format_float_f(value: f64) -> String {
    special(value).map_or_else(|| format!("{value:.6}"), str::to_owned)
}

/// As Prometheus's JSON writes a sample value: like [`format_float`], but with an exponent below 1e-6 and from 1e21
/// (`util/jsonutil`, `MarshalFloat`).
#[must_use]
pub fn format_float_json(value: f64) -> String {
    let mut out = String::new();
    push_float_json(&mut out, value);
    out
}

/// Appends what [`format_float_json`] gives.
pub fn push_float_json(out: &mut String, value: f64) {
    if let Some(text) = special(value) {
        out.push_str(text);
        return;
    }
    let size = value.abs();
    if size != 0.0 && !(1e-6..1e21).contains(&size) {
        if value < 0.0 {
            out.push('-');
        }
        let (digits, exponent) = digits(value);
        push_exponential(out, &digits, exponent);
    } else {
        let _ = write!(out, "{value}");
    }
}

/// As Go's `%g` and `%v`: an exponent below 1e-4 and from 1e6 (`1e+06`).
#[must_use]
pub fn format_float_g(value: f64) -> String {
    if let Some(text) = special(value) {
        return text.to_owned();
    }
    if value == 0.0 {
        return if value.is_sign_negative() { "-0".to_owned() } else { "0".to_owned() };
    }
    let (digits, exponent) = digits(value);
    // The shortest form counts as a precision of 6 here, however many digits it has.
    if !(-4..6).contains(&exponent) {
        let mut out = String::new();
        if value < 0.0 {
            out.push('-');
        }
        push_exponential(&mut out, &digits, exponent);
        out
    } else {
        value.to_string()
    }
}

/// As Go's `%.<precision>g`, which drops trailing zeros.
#[must_use]
pub(crate) fn format_float_g_precision(value: f64, precision: usize) -> String {
    if let Some(text) = special(value) {
        return text.to_owned();
    }
    if value == 0.0 {
        return "0".to_owned();
    }
    let text = format!("{:.*e}", precision.max(1) - 1, value.abs());
    let (digits, exponent) = split_exponent(&text);
    let digits = digits.trim_end_matches('0');
    let digits = if digits.is_empty() { "0" } else { digits };
    let mut out = String::new();
    if value < 0.0 {
        out.push('-');
    }
    if exponent < -4 || exponent >= precision as i32 {
        push_exponential(&mut out, digits, exponent);
    } else {
        let rounded: f64 = text.parse().expect("a formatted float parses");
        let _ = write!(out, "{rounded}");
    }
    out
}

/// As OpenMetrics writes a float in a label: like `%g`, but a whole number gets `.0`. Labels `le` and `quantile`.
#[must_use]
pub fn format_float_label(value: f64) -> String {
    let mut text = format_float_g(value);
    if value.is_finite() && !text.contains(['e', '.']) {
        text.push_str(".0");
    }
    text
}

/// Reads a float as Go's `strconv.ParseFloat` does; `None` for what it refuses, overflow included.
#[must_use]
pub fn parse_float(text: &str) -> Option<f64> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    if unsigned.len() > 2 && unsigned.as_bytes()[0] == b'0' && unsigned.as_bytes()[1] | 0x20 == b'x' {
        return parse_hex(text.starts_with('-'), &unsigned[2..]);
    }
    let value: f64 = text.parse().ok()?;
    let infinite_text = unsigned.as_bytes().first().is_some_and(|b| b | 0x20 == b'i');
    if value.is_infinite() && !infinite_text { None } else { Some(value) }
}

/// `0x1.8p3` without the prefix.
fn parse_hex(negative: bool, text: &str) -> Option<f64> {
    let (mantissa, exponent) = text.split_once(['p', 'P'])?;
    let exponent: i32 = exponent.parse().ok()?;
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let mut value = 0.0_f64;
    for digit in whole.chars().chain(fraction.chars()).filter(|c| *c != '_') {
        value = value * 16.0 + f64::from(digit.to_digit(16)?);
    }
    let value = value * 2.0_f64.powi(exponent - 4 * fraction.len() as i32);
    if value.is_infinite() {
        return None;
    }
    Some(if negative { -value } else { value })
}

/// Go's conversion of a float to `int64` on amd64: what does not fit becomes the smallest integer.
#[must_use]
pub(crate) fn to_int64(value: f64) -> i64 {
    if (-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0).contains(&value) {
        value as i64
    } else {
        i64::MIN
    }
}

/// Go's `math.Max`: NaN wins over everything but +Inf, 0 over -0.
#[must_use]
pub(crate) fn max(a: f64, b: f64) -> f64 {
    if a == f64::INFINITY || b == f64::INFINITY {
        f64::INFINITY
    } else if a.is_nan() || b.is_nan() {
        f64::NAN
    } else if a == 0.0 && b == 0.0 {
        if a.is_sign_negative() { b } else { a }
    } else if a > b {
        a
    } else {
        b
    }
}

/// Go's `math.Min`: NaN wins over everything but -Inf, -0 over 0.
#[must_use]
pub(crate) fn min(a: f64, b: f64) -> f64 {
    -max(-a, -b)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(value: f64, plain: &str, json: &str, g: &str) {
        assert_eq!(format_float(value), plain);
        assert_eq!(format_float_json(value), json);
        assert_eq!(format_float_g(value), g);
    }

    #[test]
    fn floats_print_as_go_prints_them() {
        check(1.0, "1", "1", "1");
        check(-0.0, "-0", "-0", "-0");
        check(0.1, "0.1", "0.1", "0.1");
        check(100_000.0, "100000", "100000", "100000");
        check(1e6, "1000000", "1000000", "1e+06");
        check(1_234_567.0, "1234567", "1234567", "1.234567e+06");
        check(1e21, "1000000000000000000000", "1e+21", "1e+21");
        check(1.5e-7, "0.00000015", "1.5e-07", "1.5e-07");
        check(-1e-10, "-0.0000000001", "-1e-10", "-1e-10");
        check(0.0001, "0.0001", "0.0001", "0.0001");
        check(1e-300, &format!("0.{}1", "0".repeat(299)), "1e-300", "1e-300");
        check(f64::INFINITY, "+Inf", "+Inf", "+Inf");
        check(f64::NAN, "NaN", "NaN", "NaN");
    }

    #[test]
    fn a_precision_rounds_and_drops_zeros() {
        assert_eq!(format_float_g_precision(0.1234, 2), "0.12");
        assert_eq!(format_float_g_precision(123.4, 2), "1.2e+02");
        assert_eq!(format_float_g_precision(2.0, 2), "2");
    }

    #[test]
    fn label_floats_show_that_they_are_floats() {
        assert_eq!(format_float_label(1.0), "1.0");
        assert_eq!(format_float_label(0.25), "0.25");
        assert_eq!(format_float_label(f64::INFINITY), "+Inf");
    }

    #[test]
    fn parsing_refuses_what_go_refuses() {
        assert_eq!(parse_float("1e999"), None);
        assert_eq!(parse_float("+Inf"), Some(f64::INFINITY));
        assert_eq!(parse_float("0x10p0"), Some(16.0));
        assert_eq!(parse_float(""), None);
    }

    #[test]
    fn max_and_min_treat_nan_and_zero_as_go_does() {
        assert!(max(f64::NAN, 1.0).is_nan());
        assert_eq!(max(f64::NAN, f64::INFINITY), f64::INFINITY);
        assert!(min(0.0, -0.0).is_sign_negative());
        assert_eq!(min(1.0, 2.0), 1.0);
    }
}
