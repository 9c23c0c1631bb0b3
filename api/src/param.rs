//! Times, durations and limits as parameters, read as Prometheus reads them.

use model::TimestampMs;

/// The earliest time an optional range begins at (`MinTime` of Prometheus's API, in ms).
pub(crate) const TIME_MIN: TimestampMs = TimestampMs((i64::MIN / 1000 + 62_135_596_801) * 1000);
/// The latest (`MaxTime`).
pub(crate) const TIME_MAX: TimestampMs = TimestampMs((i64::MAX / 1000 - 62_135_596_801) * 1000 + 999);

const TIME_MIN_TEXT: &str = "-292273086-05-16T16:47:06Z";
const TIME_MAX_TEXT: &str = "292277025-08-18T07:12:54.999999999Z";

/// A point in time: seconds as a float, rounded to milliseconds, or RFC 3339.
///
/// # Errors
/// Prometheus's text.
pub(crate) fn time(text: &str) -> Result<TimestampMs, String> {
    if let Some(seconds) = float(text) {
        let whole = seconds.trunc();
        let fraction = ((seconds - whole) * 1000.0).round();
        return Ok(TimestampMs((whole as i64).saturating_mul(1000).saturating_add(fraction as i64)));
    }
    match text {
        TIME_MIN_TEXT => Ok(TIME_MIN),
        TIME_MAX_TEXT => Ok(TIME_MAX),
        _ => rfc3339(text).ok_or_else(|| format!("cannot parse {text:?} to a valid timestamp")),
    }
}

/// An optional point in time.
///
/// # Errors
/// Prometheus's text.
pub(crate) fn time_or(text: &str, name: &str, default: TimestampMs) -> Result<TimestampMs, String> {
    if text.is_empty() {
        return Ok(default);
    }
    time(text).map_err(|error| format!("invalid time value for '{name}': {error}"))
}

/// A span in nanoseconds: seconds as a float or a Prometheus duration, `1h30m`.
///
/// # Errors
/// Prometheus's text.
pub(crate) fn duration(text: &str) -> Result<i64, String> {
    if let Some(seconds) = float(text) {
        let nanos = seconds * 1e9;
        if nanos > i64::MAX as f64 || nanos < i64::MIN as f64 {
            return Err(format!("cannot parse {text:?} to a valid duration. It overflows int64"));
        }
        return Ok(nanos as i64);
    }
    units(text).ok_or_else(|| format!("cannot parse {text:?} to a valid duration"))
}

/// A limit; 0 is none.
///
/// # Errors
/// Prometheus's text, which is Go's `strconv.Atoi`'s.
pub(crate) fn limit(text: &str) -> Result<usize, String> {
    if text.is_empty() {
        return Ok(0);
    }
    match whole(text)? {
        number if number < 0 => Err("limit must be non-negative".into()),
        number => Ok(usize::try_from(number).unwrap_or(usize::MAX)),
    }
}

/// A whole number as `strconv.Atoi` reads it.
///
/// # Errors
/// Its text.
pub(crate) fn whole(text: &str) -> Result<i64, String> {
    use std::num::IntErrorKind::{NegOverflow, PosOverflow};
    text.parse().map_err(|error: std::num::ParseIntError| {
        let reason = match error.kind() {
            PosOverflow | NegOverflow => "value out of range",
            _ => "invalid syntax",
        };
        format!("strconv.Atoi: parsing {text:?}: {reason}")
    })
}

/// A float in what of Go's syntax clients use: no `infinity` with odd cases is lost, underscores are refused.
fn float(text: &str) -> Option<f64> {
    let bytes = text.as_bytes();
    let sane = !bytes.is_empty() && bytes.len() <= 400 && !bytes.iter().any(u8::is_ascii_whitespace);
    if sane { text.parse().ok() } else { None }
}

/// Go's units in descending order, in milliseconds.
const UNITS: [(&str, u64); 7] = [
    ("y", 31_536_000_000),
    ("w", 604_800_000),
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1000),
    ("ms", 1),
];

/// `1w2d`, units descending and each once; nanoseconds.
fn units(text: &str) -> Option<i64> {
    if text == "0" {
        return Some(0);
    }
    let mut rest = text;
    let mut next = 0;
    let mut total = 0_u64;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let number: u64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let letters = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let at = UNITS.iter().position(|(name, _)| *name == &rest[..letters])?;
        if at < next {
            return None;
        }
        next = at + 1;
        rest = &rest[letters..];
        total = total.checked_add(number.checked_mul(UNITS[at].1)?)?;
    }
    if text.is_empty() { None } else { i64::try_from(total.checked_mul(1_000_000)?).ok() }
}

/// RFC 3339 with a fraction of any length and an offset; milliseconds, cut as Go's `UnixMilli` cuts.
fn rfc3339(text: &str) -> Option<TimestampMs> {
    let bytes = text.as_bytes();
    let number = |from: usize, to: usize| -> Option<i64> {
        let digits = bytes.get(from..to)?;
        digits
            .iter()
            .all(u8::is_ascii_digit)
            .then(|| digits.iter().fold(0, |number, digit| number * 10 + i64::from(digit - b'0')))
    };
    let is = |at: usize, wanted: u8| bytes.get(at) == Some(&wanted);
    if !(is(4, b'-') && is(7, b'-') && is(10, b'T') && is(13, b':') && is(16, b':')) {
        return None;
    }
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let month_days = match month {
        2 => 28 + i64::from(leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    if !(1..=month_days).contains(&day) || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let mut at = 19;
    let mut ms = 0;
    if is(at, b'.') || is(at, b',') {
        let digits = bytes[at + 1..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        if digits == 0 {
            return None;
        }
        for i in 0..3 {
            ms = ms * 10 + if i < digits { i64::from(bytes[at + 1 + i] - b'0') } else { 0 };
        }
        at += 1 + digits;
    }
    let offset_minutes = match bytes.get(at)? {
        b'Z' if bytes.len() == at + 1 => 0,
        sign @ (b'+' | b'-') if bytes.len() == at + 6 && is(at + 3, b':') => {
            let (hours, minutes) = (number(at + 1, at + 3)?, number(at + 4, at + 6)?);
            if hours > 23 || minutes > 59 {
                return None;
            }
            (hours * 60 + minutes) * if *sign == b'-' { -1 } else { 1 }
        }
        _ => return None,
    };
    let seconds = days_from_civil(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second;
    Some(TimestampMs((seconds - offset_minutes * 60) * 1000 + ms))
}

/// Days from 1970-01-01 to a date of the proleptic Gregorian calendar (Howard Hinnant's algorithm).
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// The date of a day since 1970-01-01; the inverse.
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// A time as Go writes it in JSON: RFC 3339 in UTC, the fraction without trailing zeros.
pub(crate) fn format_time(timestamp: TimestampMs) -> String {
    let (seconds, ms) = (timestamp.0.div_euclid(1000), timestamp.0.rem_euclid(1000));
    let (year, month, day) = civil_from_days(seconds.div_euclid(86_400));
    let second = seconds.rem_euclid(86_400);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let fraction = if ms == 0 { String::new() } else { format!(".{ms:03}") };
    let fraction = fraction.trim_end_matches('0');
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{fraction}Z")
}

/// What Go writes for a time that never was.
pub(crate) const TIME_NEVER: &str = "0001-01-01T00:00:00Z";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_prometheus_reads_them() {
        let check = |text, ms| assert_eq!(time(text), Ok(TimestampMs(ms)), "{text}");
        check("0", 0);
        check("123.123", 123_123);
        check("123.1235", 123_124); // rounded, not cut
        check("1543578564.705", 1_543_578_564_705);
        check("-1.5", -1500);
        check("1e3", 1_000_000);
        check("2015-06-03T13:21:58.555Z", 1_433_337_718_555);
        check("2015-06-03T14:21:58.555+01:00", 1_433_337_718_555);
        check("2015-06-03T13:21:58Z", 1_433_337_718_000);
        check("0001-01-01T00:00:00Z", -62_135_596_800_000);
        check("2024-02-29T00:00:00Z", 1_709_164_800_000);
        check(TIME_MIN_TEXT, TIME_MIN.0);
        check(TIME_MAX_TEXT, TIME_MAX.0);
    }

    #[test]
    fn what_is_no_time_is_refused_in_prometheus_words() {
        let check = |text: &str| {
            assert_eq!(time(text), Err(format!("cannot parse {text:?} to a valid timestamp")));
        };
        check("");
        check("foo");
        check("30s");
        check("2015-06-03T13:21:58");
        check("2015-02-30T13:21:58Z");
        check("2015-06-03T25:21:58Z");
        check("é015-06-03T13:21:58Z");
    }

    #[test]
    fn durations_are_read_as_prometheus_reads_them() {
        let check = |text, nanos| assert_eq!(duration(text), Ok(nanos), "{text}");
        check("1", 1_000_000_000);
        check("123.333", 123_333_000_000);
        check("1.5e-3", 1_500_000);
        check("15s", 15_000_000_000);
        check("5m", 300_000_000_000);
        check("1h30m", 5_400_000_000_000);
        check("1w2d3h4m5s6ms", 788_645_006_000_000);
        check("-5", -5_000_000_000);
    }

    #[test]
    fn what_is_no_duration_is_refused_in_prometheus_words() {
        let check = |text: &str| {
            assert_eq!(duration(text), Err(format!("cannot parse {text:?} to a valid duration")));
        };
        check("");
        check("1x");
        check("5m1h");
        check("1s1s");
        check("m");
        check("-5m");
        assert_eq!(
            duration("3e10"),
            Err("cannot parse \"3e10\" to a valid duration. It overflows int64".into())
        );
    }

    #[test]
    fn limits_are_whole_and_not_negative() {
        assert_eq!(limit(""), Ok(0));
        assert_eq!(limit("7"), Ok(7));
        assert_eq!(limit("-1"), Err("limit must be non-negative".into()));
        assert_eq!(limit("abc"), Err(r#"strconv.Atoi: parsing "abc": invalid syntax"#.into()));
    }

    #[test]
    fn times_are_written_as_go_writes_them() {
        let check = |ms, expected| assert_eq!(format_time(TimestampMs(ms)), expected);
        check(0, "1970-01-01T00:00:00Z");
        check(1_433_337_718_555, "2015-06-03T13:21:58.555Z");
        check(1_433_337_718_500, "2015-06-03T13:21:58.5Z");
        check(-62_135_596_800_000, TIME_NEVER);
    }

    proptest::proptest! {
        #[test]
        fn every_time_written_reads_back(ms in -62_135_596_800_000_i64..253_402_300_800_000) {
            assert_eq!(time(&format_time(TimestampMs(ms))), Ok(TimestampMs(ms)));
        }

        #[test]
        fn no_text_is_too_strange(text in ".{0,40}") {
            let _ = (time(&text), duration(&text), limit(&text));
        }
    }
}
