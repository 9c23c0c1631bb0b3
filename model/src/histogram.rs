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

/// The counts of buckets that stand as differences.
pub(crate) fn absolute(deltas: &[i64]) -> impl Iterator<Item = f64> + '_ {
    let mut count = 0_i64;
    deltas.iter().map(move |delta| {
        count = count.wrapping_add(*delta);
        count as f64
    })
}

/// Merges buckets until each holds `2^by` of the old ones. `add` must not run over.
fn coarser<C: Copy>(
    spans: &[Span],
    counts: impl IntoIterator<Item = C>,
    by: u32,
    add: impl Fn(C, C) -> C,
) -> (Vec<Span>, Vec<C>) {
    let (mut coarse_spans, mut coarse_counts): (Vec<Span>, Vec<C>) = (Vec::new(), Vec::new());
    let (mut counts, mut index, mut next) = (counts.into_iter(), 0_i64, 0_i64);
    for span in spans {
        index += i64::from(span.offset);
        for count in counts.by_ref().take(span.length as usize) {
            let coarse = ((index - 1) >> by.min(63)) + 1;
            index += 1;
            match (coarse_spans.last_mut(), coarse_counts.last_mut()) {
                (Some(_), Some(last)) if coarse < next => *last = add(*last, count),
                (Some(span), Some(_)) if coarse == next => {
                    span.length += 1;
                    coarse_counts.push(count);
                }
                _ => {
                    // Coarse gaps are smaller than the gaps they come from, so they fit, too.
                    let offset = i32::try_from(coarse - next).unwrap_or(i32::MAX);
                    coarse_spans.push(Span { offset, length: 1 });
                    coarse_counts.push(count);
                }
            }
            next = coarse + 1;
        }
    }
    (coarse_spans, coarse_counts)
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

    /// Lowers the resolution to `schema` if it is higher. Custom buckets stay as they are.
    pub fn reduce_to(&mut self, schema: i32) {
        if self.schema <= schema {
            return;
        }
        let by = self.schema.abs_diff(schema);
        for (spans, deltas) in [
            (&mut self.positive_spans, &mut self.positive_deltas),
            (&mut self.negative_spans, &mut self.negative_deltas),
        ] {
            let counts = deltas.iter().scan(0_i64, |count, delta| {
                *count = count.saturating_add(*delta);
                Some(*count)
            });
            let (coarse, counts) = coarser(spans, counts, by, i64::saturating_add);
            let before = std::iter::once(0).chain(counts.iter().copied());
            *deltas = counts.iter().zip(before).map(|(count, before)| count.saturating_sub(before)).collect();
            *spans = coarse;
        }
        self.schema = schema;
    }

    /// The same histogram in float form.
    #[must_use]
    pub fn to_float(&self) -> FloatHistogram {
        FloatHistogram {
            counter_reset_hint: self.counter_reset_hint,
            schema: self.schema,
            zero_threshold: self.zero_threshold,
            zero_count: self.zero_count as f64,
            count: self.count as f64,
            sum: self.sum,
            positive_spans: self.positive_spans.clone(),
            negative_spans: self.negative_spans.clone(),
            positive_buckets: absolute(&self.positive_deltas).collect(),
            negative_buckets: absolute(&self.negative_deltas).collect(),
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

    /// Lowers the resolution to `schema` if it is higher. Custom buckets stay as they are.
    pub fn reduce_to(&mut self, schema: i32) {
        if self.schema <= schema {
            return;
        }
        let by = self.schema.abs_diff(schema);
        for (spans, counts) in [
            (&mut self.positive_spans, &mut self.positive_buckets),
            (&mut self.negative_spans, &mut self.negative_buckets),
        ] {
            (*spans, *counts) = coarser(spans, std::mem::take(counts), by, |a, b| a + b);
        }
        self.schema = schema;
    }

    /// Whether the bucket bounds are explicit (schema -53).
    #[must_use]
    pub fn uses_custom_buckets(&self) -> bool {
        self.schema == Histogram::CUSTOM_BUCKETS_SCHEMA
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(offset: i32, length: u32) -> Span {
        Span { offset, length }
    }

    #[test]
    fn a_lower_resolution_merges_neighbours() {
        // Buckets -1, 0, 1, 2, 5 and 6 of schema 2 with 1, 2, 3, 4, 5 and 6 observations.
        let mut histogram = Histogram {
            schema: 2,
            positive_spans: vec![span(-1, 4), span(2, 2)],
            positive_deltas: vec![1; 6],
            negative_spans: vec![span(3, 1)],
            negative_deltas: vec![9],
            ..Histogram::default()
        };
        let mut float = histogram.to_float();
        histogram.reduce_to(1);
        assert_eq!(histogram.positive_spans, [span(0, 2), span(1, 1)]);
        assert_eq!(histogram.positive_deltas, [3, 4, 4]);
        assert_eq!((histogram.negative_spans[0], histogram.negative_deltas[0]), (span(2, 1), 9));
        float.reduce_to(1);
        assert!(float.same_bits(&histogram.to_float()));
    }

    #[test]
    fn a_resolution_is_never_raised_and_custom_buckets_have_none() {
        let custom =
            FloatHistogram { schema: -53, positive_spans: vec![span(0, 2)], ..FloatHistogram::default() };
        let mut same = custom.clone();
        same.reduce_to(-4);
        assert!(same.same_bits(&custom));
        let mut coarse = Histogram { schema: 0, ..Histogram::default() };
        coarse.reduce_to(8);
        assert_eq!(coarse.schema, 0);
    }
}
