//! Timestamps, durations and values.

use crate::FloatHistogram;
use serde::{Deserialize, Serialize};
use std::{fmt, sync::Arc};

/// The bit pattern of Prometheus's staleness marker (`model/value/value.go`, `StaleNaN`).
pub const STALE_NAN_BITS: u64 = 0x7ff0_0000_0000_0002;

/// The staleness marker: the series ended here. Compare with [`is_stale_nan`], never with `==`.
pub const STALE_NAN: f64 = f64::from_bits(STALE_NAN_BITS);
/// The ordinary NaN (Go's `math.NaN()`): every scraped or written NaN becomes this, so that none passes for a stale
/// marker, nor for what queries mark with bits beside it.
pub const NORMAL_NAN: f64 = f64::from_bits(0x7ff8_0000_0000_0001);

/// Whether `value` is the staleness marker, by its bits: an ordinary NaN is data.
#[inline]
#[must_use]
pub fn is_stale_nan(value: f64) -> bool {
    value.to_bits() == STALE_NAN_BITS
}

/// Milliseconds since the Unix epoch. Signed, because Prometheus is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TimestampMs(pub i64);

/// A span of time in milliseconds. Kept apart from [`TimestampMs`]: two instants do not add.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct DurationMs(pub u64);

impl TimestampMs {
    /// The earliest timestamp there is.
    pub const MIN: TimestampMs = TimestampMs(i64::MIN);
    /// The latest timestamp there is.
    pub const MAX: TimestampMs = TimestampMs(i64::MAX);

    /// The instant `span` later, at most [`TimestampMs::MAX`].
    #[must_use]
    pub fn plus(self, span: DurationMs) -> TimestampMs {
        TimestampMs(self.0.saturating_add_unsigned(span.0))
    }

    /// The instant `span` earlier, at least [`TimestampMs::MIN`].
    #[must_use]
    pub fn minus(self, span: DurationMs) -> TimestampMs {
        TimestampMs(self.0.saturating_sub_unsigned(span.0))
    }

    /// How long ago `earlier` was; zero if it lies ahead.
    #[must_use]
    pub fn since(self, earlier: TimestampMs) -> DurationMs {
        DurationMs(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

impl fmt::Display for TimestampMs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl From<DurationMs> for std::time::Duration {
    fn from(span: DurationMs) -> Self {
        std::time::Duration::from_millis(span.0)
    }
}

/// What a series has at one timestamp.
#[derive(Clone, Debug)]
pub enum Value {
    /// A float. NaN payloads are kept: a stale marker is one.
    Float(f64),
    /// A native histogram, integer or float form, with exponential or custom buckets.
    Histogram(Arc<crate::Histogram>),
    /// A native histogram in float form, as PromQL computes with it.
    FloatHistogram(Arc<FloatHistogram>),
}

impl Value {
    /// Whether this is the staleness marker, which in a histogram sits in the sum.
    #[must_use]
    pub fn is_stale(&self) -> bool {
        match self {
            Value::Float(value) => is_stale_nan(*value),
            Value::Histogram(histogram) => is_stale_nan(histogram.sum),
            Value::FloatHistogram(histogram) => is_stale_nan(histogram.sum),
        }
    }

    /// Whether both are the same to the bit.
    #[must_use]
    pub fn same_bits(&self, other: &Value) -> bool {
        match (self, other) {
            (Value::Float(a), Value::Float(b)) => a.to_bits() == b.to_bits(),
            (Value::Histogram(a), Value::Histogram(b)) => a.same_bits(b),
            (Value::FloatHistogram(a), Value::FloatHistogram(b)) => a.same_bits(b),
            _ => false,
        }
    }
}
