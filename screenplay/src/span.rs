//! Spans of time as text: `250ms`, `5s`, `1.5m`, `1h`, `1d`; whole milliseconds.

/// Units and their milliseconds, longest first.
const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];

/// The longest span: a month is beyond anything that is played.
const MILLIS_MAX: u64 = 31 * 86_400_000;

/// Reads a span; yields milliseconds.
pub(crate) fn parse(text: &str) -> Option<u64> {
    let unit_at = text.find(|c: char| c.is_ascii_alphabetic())?;
    let (number, unit) = text.split_at(unit_at);
    let (_, unit) = UNITS.iter().find(|(name, _)| *name == unit)?;
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(part) || part.len() > 6 || number.ends_with('.') {
        return None;
    }
    let whole = whole.parse::<u64>().ok()?.checked_mul(*unit)?;
    let scale = 10_u64.pow(part.len() as u32);
    let part = if part.is_empty() { 0 } else { part.parse::<u64>().ok()? * unit };
    let millis = whole.checked_add(part / scale)?;
    (part % scale == 0 && millis <= MILLIS_MAX).then_some(millis)
}

/// Writes milliseconds as a span, in the longest unit that gives a whole number, but seconds rather than milliseconds.
pub(crate) fn print(millis: u64) -> String {
    match UNITS.iter().find(|(_, unit)| millis > 0 && millis.is_multiple_of(*unit)) {
        Some((name, unit)) if *unit > 1 => format!("{}{name}", millis / unit),
        _ if millis < 1000 => format!("{millis}ms"),
        _ => format!("{}.{:03}s", millis / 1000, millis % 1000).replace("00s", "s").replace("0s", "s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn spans_are_read_to_the_millisecond() {
        assert_eq!(parse("250ms"), Some(250));
        assert_eq!(parse("5.123s"), Some(5123));
        assert_eq!(parse("1.5m"), Some(90_000));
        assert_eq!(parse("1d"), Some(86_400_000));
        for wrong in ["", "5", "s", "5 s", "5.s", ".5s", "-5s", "0.5ms", "5x", "99999999999d", "1e3s"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn spans_are_written_in_the_longest_unit_that_is_whole() {
        let shown = [0, 7, 700, 1000, 1500, 12_345, 90_000, 3_600_000, 86_400_000].map(print);
        assert_eq!(shown, ["0ms", "7ms", "700ms", "1s", "1.5s", "12.345s", "90s", "1h", "1d"]);
    }

    proptest! {
        #[test]
        fn what_was_written_is_read_back(millis in 0..=MILLIS_MAX) {
            prop_assert_eq!(parse(&print(millis)), Some(millis));
        }
    }
}
