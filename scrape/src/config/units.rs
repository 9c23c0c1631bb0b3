//! Spans of time and sizes as `prometheus.yml` writes them.

use model::DurationMs;
use std::fmt;

/// A text is not a span of time or a size.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnitError {
    /// Not of the form `1h30m`.
    #[error("not a valid duration string: {0:?}")]
    Duration(String),
    /// The empty text where a span of time is due.
    #[error("empty duration string")]
    EmptyDuration,
    /// More than fits.
    #[error("duration out of range")]
    DurationRange,
    /// A number without a known unit behind it.
    #[error("units: unknown unit {unit} in {text}")]
    SizeUnit {
        /// What stands behind the number.
        unit: String,
        /// The whole text.
        text: String,
    },
    /// No number, or more than fits.
    #[error("units: invalid {0}")]
    Size(String),
}

/// The units of a span in the order in which they may follow each other, with their milliseconds.
const TIME_UNITS: [(&str, u64); 7] = [
    ("y", 365 * 86_400_000),
    ("w", 7 * 86_400_000),
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

/// Reads a span as Prometheus does: `0`, or numbers with units in falling order, each once (`1h30m`).
///
/// # Errors
/// If it is none, or longer than 292 years.
pub fn parse_duration(text: &str) -> Result<DurationMs, UnitError> {
    match text {
        "0" => return Ok(DurationMs(0)),
        "" => return Err(UnitError::EmptyDuration),
        _ => {}
    }
    let malformed = || UnitError::Duration(text.to_owned());
    let mut rest = text;
    let mut total = 0_u64;
    let mut units = TIME_UNITS.as_slice();
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, behind) = rest.split_at(digits);
        let letters = behind.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (unit, behind) = behind.split_at(letters);
        let position = units.iter().position(|(name, _)| *name == unit).ok_or_else(malformed)?;
        if number.is_empty() {
            return Err(malformed());
        }
        let number: u64 = number.parse().map_err(|_| UnitError::DurationRange)?;
        let span = number.checked_mul(units[position].1).ok_or(UnitError::DurationRange)?;
        total = total.checked_add(span).ok_or(UnitError::DurationRange)?;
        units = &units[position + 1..];
        rest = behind;
    }
    // Prometheus counts nanoseconds in 63 bits.
    if total > i64::MAX as u64 / 1_000_000 { Err(UnitError::DurationRange) } else { Ok(DurationMs(total)) }
}

/// Writes a span as Prometheus does: `1h30m`, `15s`, `0s`. Years, weeks and days stand only where they are exact.
#[must_use]
pub fn format_duration(span: DurationMs) -> String {
    let mut rest = span.0;
    if rest == 0 {
        return "0s".to_owned();
    }
    let mut text = String::new();
    for (i, (unit, size)) in TIME_UNITS.iter().enumerate() {
        let exact_only = i < 3;
        if exact_only && !rest.is_multiple_of(*size) {
            continue;
        }
        let count = rest / size;
        if count > 0 {
            text.push_str(&count.to_string());
            text.push_str(unit);
            rest -= count * size;
        }
    }
    text
}

/// A number of bytes. Zero as a limit means that there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteSize(pub u64);

impl ByteSize {
    /// Reads `100MB`, `1GiB`, `0`. As in Prometheus, `KB` is 1024 bytes like `KiB`, and a number other than 0
    /// needs a unit.
    ///
    /// # Errors
    /// If it is none, or more than 8 EiB.
    pub fn parse(text: &str) -> Result<ByteSize, UnitError> {
        if text == "0" {
            return Ok(ByteSize(0));
        }
        let split = text.bytes().take_while(|b| b.is_ascii_digit() || *b == b'.').count();
        let (number, unit) = text.split_at(split);
        if number.is_empty() {
            return Err(UnitError::Size(text.to_owned()));
        }
        let unknown = || UnitError::SizeUnit { unit: unit.to_owned(), text: text.to_owned() };
        let power = match unit.strip_suffix('B').ok_or_else(unknown)?.trim_end_matches('i') {
            "" => 0,
            "K" => 1,
            "M" => 2,
            "G" => 3,
            "T" => 4,
            "P" => 5,
            "E" => 6,
            _ => return Err(unknown()),
        };
        let number: f64 = number.parse().map_err(|_| UnitError::Size(text.to_owned()))?;
        let bytes = number * 1024_f64.powi(power);
        if bytes < i64::MAX as f64 {
            Ok(ByteSize(bytes as u64))
        } else {
            Err(UnitError::Size(text.to_owned()))
        }
    }
}

/// Reads a size as a number of bytes; see [`ByteSize::parse`].
///
/// # Errors
/// If it is none.
pub fn parse_bytes(text: &str) -> Result<u64, UnitError> {
    ByteSize::parse(text).map(|size| size.0)
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
        let mut size = self.0;
        let mut unit = 0;
        while size != 0 && size.is_multiple_of(1024) && unit < 6 {
            size /= 1024;
            unit += 1;
        }
        if self.0 == 0 { f.write_str("0") } else { write!(f, "{size}{}", UNITS[unit]) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(text: &str) -> Option<u64> {
        parse_duration(text).ok().map(|span| span.0)
    }

    #[test]
    fn a_duration_is_numbers_with_units_in_falling_order() {
        assert_eq!(ms("1h30m"), Some(5_400_000));
        assert_eq!(ms("10s500ms"), Some(10_500));
        assert_eq!(ms("0"), Some(0));
        assert_eq!(ms("1y"), Some(365 * 86_400_000));
    }

    #[test]
    fn what_is_not_a_duration_is_refused_with_prometheus_text() {
        assert_eq!(ms("30m1h"), None);
        assert_eq!(ms("1s1s"), None);
        assert_eq!(ms("10"), None);
        assert_eq!(parse_duration("-1h").unwrap_err().to_string(), "not a valid duration string: \"-1h\"");
        assert_eq!(parse_duration("").unwrap_err().to_string(), "empty duration string");
        assert_eq!(parse_duration("99999999999y"), Err(UnitError::DurationRange));
    }

    #[test]
    fn a_duration_prints_as_prometheus_prints_it() {
        assert_eq!(format_duration(DurationMs(5_400_000)), "1h30m");
        assert_eq!(format_duration(DurationMs(15_000)), "15s");
        assert_eq!(format_duration(DurationMs(0)), "0s");
        assert_eq!(format_duration(DurationMs(86_400_000)), "1d");
        assert_eq!(format_duration(DurationMs(90_000_000)), "25h");
    }

    #[test]
    fn a_size_is_a_number_with_a_unit_of_1024() {
        assert_eq!(ByteSize::parse("10MB"), Ok(ByteSize(10 << 20)));
        assert_eq!(ByteSize::parse("1GiB"), Ok(ByteSize(1 << 30)));
        assert_eq!(ByteSize::parse("1.5KB"), Ok(ByteSize(1536)));
        assert_eq!(ByteSize::parse("0"), Ok(ByteSize(0)));
        assert_eq!(ByteSize::parse("100").unwrap_err().to_string(), "units: unknown unit  in 100");
        assert!(ByteSize::parse("MB").is_err());
        assert_eq!(ByteSize(10 << 20).to_string(), "10MiB");
    }
}
