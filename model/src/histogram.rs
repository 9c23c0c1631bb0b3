//! Native histograms as data. Their arithmetic is PromQL's and lives in `promql`.
//!
//! Spec: Prometheus, `docs/specs/native_histograms.md`. Positive bucket `i` of schema `n` covers
//! `(base^(i-1), base^i]` with `base = 2^(2^-n)`; schema -53 has explicit upper bounds instead.

use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// What is known about a counter reset between a histogram and the one before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum CounterResetHint {
    /// Nothing is known: compare the buckets.
    #[default]
    Unknown,
    /// This histogram is the first after a reset.
    Reset,
    /// There was no reset.
    NotReset,
    /// The histogram is a gauge: resets have no meaning.
    Gauge,
}

/// A run of consecutive buckets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Span {
    /// Gap to the end of the span before; for the first span the index of its first bucket.
    pub offset: i32,
    /// Number of buckets in the run.
    pub length: u32,
}

/// Upper bounds of custom buckets (schema -53), ascending, without +Inf.
pub type CustomBounds = Arc<[f64]>;

/// A native histogram in integer form, as exporters send it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Histogram {
    /// Counter reset hint.
    pub counter_reset_hint: CounterResetHint,
    /// Resolution, -4..=8, or -53 for custom buckets.
    pub schema: i32,
    /// Width of the zero bucket: it holds observations in [-zero_threshold, zero_threshold].
    pub zero_threshold: f64,
    /// Observations in the zero bucket.
    pub zero_count: u64,
    /// All observations.
    pub count: u64,
    /// Sum of all observations; holds the stale marker.
    pub sum: f64,
    /// Positive buckets present.
    pub positive_spans: Vec<Span>,
    /// Negative buckets present.
    pub negative_spans: Vec<Span>,
    /// Counts of the positive buckets: the first absolute, each further one as a difference to the one before.
    pub positive_deltas: Vec<i64>,
    /// Counts of the negative buckets, likewise.
    pub negative_deltas: Vec<i64>,
    /// Upper bounds for schema -53, else empty.
    pub custom_values: CustomBounds,
}

/// A native histogram in float form, as PromQL computes with it and some exporters send it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct FloatHistogram {
    /// Counter reset hint.
    pub counter_reset_hint: CounterResetHint,
    /// Resolution, -4..=8, or -53 for custom buckets.
    pub schema: i32,
    /// Width of the zero bucket.
    pub zero_threshold: f64,
    /// Observations in the zero bucket.
    pub zero_count: f64,
    /// All observations.
    pub count: f64,
    /// Sum of all observations; holds the stale marker.
    pub sum: f64,
    /// Positive buckets present.
    pub positive_spans: Vec<Span>,
    /// Negative buckets present.
    pub negative_spans: Vec<Span>,
    /// Absolute counts of the positive buckets.
    pub positive_buckets: Vec<f64>,
    /// Absolute counts of the negative buckets.
    pub negative_buckets: Vec<f64>,
    /// Upper bounds for schema -53, else empty.
    pub custom_values: CustomBounds,
}

fn bits(values: &[f64]) -> impl Iterator<Item = u64> + '_ {
    values.iter().map(|v| v.to_bits())
}

impl Histogram {
    /// The schema that means custom bucket bounds.
    pub const CUSTOM_BUCKETS_SCHEMA: i32 = -53;

    /// Whether both are the same to the bit.
    #[must_use]
    pub fn same_bits(&self, other: &Histogram) -> bool {
        self.counter_reset_hint == other.counter_reset_hint
            && self.schema == other.schema
            && self.zero_threshold.to_bits() == other.zero_threshold.to_bits()
            && self.zero_count == other.zero_count
            && self.count == other.count
            && self.sum.to_bits() == other.sum.to_bits()
            && self.positive_spans == other.positive_spans
            && self.negative_spans == other.negative_spans
            && self.positive_deltas == other.positive_deltas
            && self.negative_deltas == other.negative_deltas
            && bits(&self.custom_values).eq(bits(&other.custom_values))
    }

    /// The same histogram in float form.
    #[must_use]
    pub fn to_float(&self) -> FloatHistogram {
        let absolute = |deltas: &[i64]| {
            let mut count = 0_i64;
            deltas
                .iter()
                .map(|delta| {
                    count = count.wrapping_add(*delta);
                    count as f64
                })
                .collect()
        };
        FloatHistogram {
            counter_reset_hint: self.counter_reset_hint,
            schema: self.schema,
            zero_threshold: self.zero_threshold,
            zero_count: self.zero_count as f64,
            count: self.count as f64,
            sum: self.sum,
            positive_spans: self.positive_spans.clone(),
            negative_spans: self.negative_spans.clone(),
            positive_buckets: absolute(&self.positive_deltas),
            negative_buckets: absolute(&self.negative_deltas),
            custom_values: self.custom_values.clone(),
        }
    }
}

impl FloatHistogram {
    /// Whether both are the same to the bit.
    #[must_use]
    pub fn same_bits(&self, other: &FloatHistogram) -> bool {
        self.counter_reset_hint == other.counter_reset_hint
            && self.schema == other.schema
            && self.zero_threshold.to_bits() == other.zero_threshold.to_bits()
            && self.zero_count.to_bits() == other.zero_count.to_bits()
            && self.count.to_bits() == other.count.to_bits()
            && self.sum.to_bits() == other.sum.to_bits()
            && self.positive_spans == other.positive_spans
            && self.negative_spans == other.negative_spans
            && bits(&self.positive_buckets).eq(bits(&other.positive_buckets))
            && bits(&self.negative_buckets).eq(bits(&other.negative_buckets))
            && bits(&self.custom_values).eq(bits(&other.custom_values))
    }

    /// Whether the bucket bounds are explicit (schema -53).
    #[must_use]
    pub fn uses_custom_buckets(&self) -> bool {
        self.schema == Histogram::CUSTOM_BUCKETS_SCHEMA
    }
}
