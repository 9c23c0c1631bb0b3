//! Durations as texts: `1h30m`. Used by queries, configuration and the HTTP API alike.

use crate::go;

/// Units from large to small, in milliseconds.
const UNITS: [(&str, u64); 7] = [
    ("y", 365 * 86_400_000),
    ("w", 7 * 86_400_000),
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1000),
    ("ms", 1),
];

/// 2^63 nanoseconds, the bound of Go's `time.Duration`, in milliseconds.
const MS_MAX: u64 = 9_223_372_036_854;

/// Parses a duration like `1h30m` into milliseconds: units descend and come once each; `0` needs no unit.
///
/// # Errors
/// With Prometheus's text, if it is not a duration or longer than 292 years.
pub fn parse_ms(text: &str) -> Result<i64, String> {
    match text {
        "0" => return Ok(0),
        "" => return Err("empty duration string".into()),
        _ => {}
    }
    let invalid = || format!("not a valid duration string: {}", go::quote(text));
    let mut rest = text;
    let mut total: u64 = 0;
    let mut units = UNITS.iter();
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let count: u64 = rest[..digits].parse().map_err(|_| invalid())?;
        rest = &rest[digits..];
        let letters = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let unit = &rest[..letters];
        rest = &rest[letters..];
        if unit.is_empty() {
            return Err(invalid());
        }
        if !UNITS.iter().any(|(name, _)| *name == unit) {
            return Err(format!("unknown unit {} in duration {}", go::quote(unit), go::quote(text)));
        }
        let (_, ms) = units.find(|(name, _)| *name == unit).ok_or_else(invalid)?;
        let sum = count.checked_mul(*ms).and_then(|part| total.checked_add(part));
        total = sum.filter(|sum| *sum <= MS_MAX).ok_or("duration out of range")?;
    }
    i64::try_from(total).map_err(|_| "duration out of range".into())
}

/// Prints milliseconds the way Prometheus prints a duration: years and weeks only if nothing is left over.
#[must_use]
pub fn format_ms(ms: i64) -> String {
    if ms == 0 {
        return "0s".into();
    }
    let mut out = String::new();
    if ms < 0 {
        out.push('-');
    }
    let mut rest = ms.unsigned_abs();
    for (name, unit) in UNITS {
        let exact_only = matches!(name, "y" | "w");
        if rest == 0 || (exact_only && !rest.is_multiple_of(unit)) {
            continue;
        }
        let count = rest / unit;
        if count > 0 {
            out.push_str(&format!("{count}{name}"));
            rest -= count * unit;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_add_up() {
        assert_eq!(parse_ms("1h30m"), Ok(5_400_000));
        assert_eq!(parse_ms("1y2w3d4h5m6s7ms"), Ok(33_019_506_007));
    }

    #[test]
    fn units_descend() {
        assert_eq!(parse_ms("1m1h"), Err("not a valid duration string: \"1m1h\"".into()));
        assert_eq!(parse_ms("1m1m"), Err("not a valid duration string: \"1m1m\"".into()));
    }

    #[test]
    fn units_are_known() {
        assert_eq!(parse_ms("5hs"), Err("unknown unit \"hs\" in duration \"5hs\"".into()));
        assert_eq!(parse_ms("5"), Err("not a valid duration string: \"5\"".into()));
        assert_eq!(parse_ms(""), Err("empty duration string".into()));
    }

    #[test]
    fn three_centuries_are_too_long() {
        assert_eq!(parse_ms("292y"), Ok(9_208_512_000_000));
        assert_eq!(parse_ms("293y"), Err("duration out of range".into()));
        assert_eq!(parse_ms("99999999999999999y"), Err("duration out of range".into()));
    }

    #[test]
    fn large_units_are_printed_if_nothing_is_left_over() {
        assert_eq!(format_ms(86_400_000), "1d");
        assert_eq!(format_ms(90_000_000), "1d1h");
        assert_eq!(format_ms(8 * 86_400_000), "8d");
        assert_eq!(format_ms(5_400_000), "1h30m");
        assert_eq!(format_ms(-1500), "-1s500ms");
        assert_eq!(format_ms(0), "0s");
    }
}
