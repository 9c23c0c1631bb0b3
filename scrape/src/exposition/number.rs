//! Numbers of the exposition formats, read and written as Go does.

use super::quote::quote;
use model::NORMAL_NAN;

/// Powers of ten that a double holds exactly.
const POWERS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18,
    1e19, 1e20, 1e21, 1e22,
];

/// Reads a value, with Prometheus's error texts.
#[inline]
pub(crate) fn parse_value(text: &[u8]) -> Result<f64, String> {
    match parse_simple(text) {
        Some(value) => Ok(value),
        None => parse_any(text),
    }
}

/// Reads digits with at most one point among them and perhaps an exponent behind; `None` for anything else, or if the
/// result may not be exact.
///
/// Below 2^53 the digits are an exact double, and one correctly rounded division or multiplication by an exact power
/// of ten gives the correctly rounded result (Clinger's fast path).
#[inline]
pub(crate) fn parse_simple(text: &[u8]) -> Option<f64> {
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        _ => (false, text),
    };
    let mut mantissa = 0_u64;
    let mut count = 0;
    let mut point = None;
    let mut exponent = 0;
    for (i, byte) in digits.iter().enumerate() {
        let digit = byte.wrapping_sub(b'0');
        if digit < 10 {
            mantissa = mantissa.wrapping_mul(10).wrapping_add(u64::from(digit));
            count += 1;
        } else if *byte == b'.' && point.is_none() {
            point = Some(count);
        } else if *byte == b'e' {
            exponent = parse_exponent(&digits[i + 1..])?;
            break;
        } else {
            return None;
        }
    }
    if count == 0 || count > 18 || mantissa >= 1 << 53 {
        return None;
    }
    let power = exponent - point.map_or(0, |at| count - at);
    let value = match power {
        0 => mantissa as f64,
        1..=22 => mantissa as f64 * POWERS[power as usize],
        -22..=-1 => mantissa as f64 / POWERS[-power as usize],
        _ => return None,
    };
    Some(if negative { -value } else { value })
}

#[inline]
fn parse_exponent(text: &[u8]) -> Option<i32> {
    let (sign, digits) = match text {
        [b'-', rest @ ..] => (-1, rest),
        [b'+', rest @ ..] => (1, rest),
        _ => (1, text),
    };
    let short = matches!(digits.len(), 1..=3) && digits.iter().all(u8::is_ascii_digit);
    short.then(|| sign * digits.iter().fold(0, |sum, digit| sum * 10 + i32::from(digit - b'0')))
}

#[cold]
fn parse_any(text: &[u8]) -> Result<f64, String> {
    if text.iter().any(|b| matches!(b, b'p' | b'P' | b'_')) {
        return Err("unsupported character in float".to_owned());
    }
    let value =
        parse_go(text).map_err(|why| format!("strconv.ParseFloat: parsing {}: {why}", quote(text)))?;
    Ok(if value.is_nan() { NORMAL_NAN } else { value })
}

/// Reads a float as Go does. Rust differs in that it takes a sign before NaN and lets overflow be infinite.
pub(crate) fn parse_go(text: &[u8]) -> Result<f64, &'static str> {
    let invalid = "invalid syntax";
    let text = std::str::from_utf8(text).map_err(|_| invalid)?;
    let value: f64 = text.parse().map_err(|_| invalid)?;
    let named = text.bytes().any(|b| matches!(b, b'n' | b'N'));
    if value.is_nan() && text.len() != 3 {
        return Err(invalid);
    }
    if value.is_infinite() && !named { Err("value out of range") } else { Ok(value) }
}

/// Writes a float as the labels `le` and `quantile` have it: shortest digits, always with a point or exponent.
pub(crate) fn format_openmetrics(value: f64) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    let scientific = format!("{value:e}");
    let (digits, exponent) = scientific.split_once('e').expect("the form has an exponent");
    let exponent: i32 = exponent.parse().expect("an exponent is a number");
    // Go's 'g' with shortest digits turns to an exponent from the seventh digit before the point on.
    if !(-4..6).contains(&exponent) {
        return exponent_form(digits, exponent);
    }
    let plain = format!("{value}");
    if plain.contains('.') { plain } else { plain + ".0" }
}

fn exponent_form(digits: &str, exponent: i32) -> String {
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn simple_numbers_take_the_fast_way_and_agree_with_the_slow_one() {
        let same = |text: &str| {
            let fast = parse_simple(text.as_bytes()).expect("simple");
            assert_eq!(fast.to_bits(), text.parse::<f64>().unwrap().to_bits(), "{text}");
        };
        [
            "0",
            "-0",
            "1",
            "123456789012345",
            "0.1",
            "4.35",
            "-12.75",
            "9007199254740991",
            "1.",
            ".5",
            "1.305e-06",
            "2.189426688e+10",
            "1e5",
            "-4e3",
            "1e22",
        ]
        .into_iter()
        .for_each(same);
        assert_eq!(parse_simple(b"9007199254740993"), None);
        assert_eq!(parse_simple(b"1e23"), None);
        assert_eq!(parse_simple(b"1e"), None);
        assert_eq!(parse_simple(b"1e+"), None);
        assert_eq!(parse_simple(b"e5"), None);
        assert_eq!(parse_simple(b"."), None);
        assert_eq!(parse_simple(b"-"), None);
    }

    proptest::proptest! {
        #[test]
        fn both_ways_agree_to_the_bit(text in "-?[0-9]{0,10}\\.?[0-9]{0,10}(e[+-]?[0-9]{1,3})?") {
            let slow: Option<f64> = text.parse().ok();
            if let Some(fast) = parse_simple(text.as_bytes()) {
                proptest::prop_assert_eq!(slow.map(f64::to_bits), Some(fast.to_bits()));
            }
        }
    }

    #[test]
    fn what_go_refuses_is_refused_with_its_words() {
        let error = |text: &str| parse_value(text.as_bytes()).unwrap_err();
        assert_eq!(error("true"), "strconv.ParseFloat: parsing \"true\": invalid syntax");
        assert_eq!(error("1e400"), "strconv.ParseFloat: parsing \"1e400\": value out of range");
        assert_eq!(error("0x1p-3"), "unsupported character in float");
        assert_eq!(error("-nan"), "strconv.ParseFloat: parsing \"-nan\": invalid syntax");
    }

    #[test]
    fn names_of_numbers_are_known_in_any_case() {
        assert_eq!(parse_value(b"+inf"), Ok(f64::INFINITY));
        assert_eq!(parse_value(b"-Infinity"), Ok(f64::NEG_INFINITY));
        assert_eq!(parse_value(b"NaN").unwrap().to_bits(), NORMAL_NAN.to_bits());
    }

    #[test]
    fn bucket_bounds_are_written_as_floats() {
        let cases = [(1.0, "1.0"), (0.0, "0.0"), (0.05, "0.05"), (f64::INFINITY, "+Inf"), (-1.0, "-1.0")];
        assert!(cases.iter().all(|(value, text)| format_openmetrics(*value) == *text));
        assert_eq!(format_openmetrics(1e6), "1e+06");
        assert_eq!(format_openmetrics(100_000.0), "100000.0");
        assert_eq!(format_openmetrics(1e-5), "1e-05");
        assert_eq!(format_openmetrics(1.5e300), "1.5e+300");
    }
}
