//! Buckets with their bounds, and what is computed from them one by one.

use super::{exponential_bound, sparse::indexed, sparse::same_bounds};
use crate::{kahan::Kahan, number::format_float_g};
use model::{HistogramView, Span};

/// One bucket of a native histogram.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bucket {
    /// Lower bound.
    pub lower: f64,
    /// Upper bound.
    pub upper: f64,
    /// Whether a value at the lower bound is counted here.
    pub lower_inclusive: bool,
    /// Whether a value at the upper bound is counted here.
    pub upper_inclusive: bool,
    /// Observations.
    pub count: f64,
}

impl Bucket {
    /// The part of the bucket that lies below `value`, which is inside its finite bounds: linear, or on a scale of
    /// logarithms as exponential buckets are.
    pub(crate) fn fraction_below(&self, value: f64, linear: bool) -> f64 {
        if linear {
            return (value - self.lower) / (self.upper - self.lower);
        }
        let (lower, upper, v) = (self.lower.abs().log2(), self.upper.abs().log2(), value.abs().log2());
        if value > 0.0 { (v - lower) / (upper - lower) } else { 1.0 - (v - upper) / (lower - upper) }
    }
}

/// The bound above custom bucket `index`.
fn custom_bound(index: i32, bounds: &[f64]) -> f64 {
    match usize::try_from(index) {
        Ok(index) => bounds.get(index).copied().unwrap_or(f64::INFINITY),
        Err(_) => f64::NEG_INFINITY,
    }
}

/// The buckets of the positive side, ascending, empty ones included.
pub(crate) fn positive(histogram: HistogramView<'_>) -> impl Iterator<Item = Bucket> + '_ {
    let custom = histogram.uses_custom_buckets();
    indexed(histogram.positive_spans, histogram.positive_buckets).map(move |(index, count)| {
        if custom {
            let bounds = histogram.custom_values;
            Bucket {
                lower: custom_bound(index.wrapping_sub(1), bounds),
                upper: custom_bound(index, bounds),
                lower_inclusive: index == 0,
                upper_inclusive: true,
                count,
            }
        } else {
            Bucket {
                lower: exponential_bound(index.wrapping_sub(1), histogram.schema),
                upper: exponential_bound(index, histogram.schema),
                lower_inclusive: false,
                upper_inclusive: true,
                count,
            }
        }
    })
}

/// The buckets of the negative side, from zero downwards, empty ones included.
pub(crate) fn negative(histogram: HistogramView<'_>) -> impl Iterator<Item = Bucket> + '_ {
    indexed(histogram.negative_spans, histogram.negative_buckets).map(move |(index, count)| Bucket {
        lower: -exponential_bound(index, histogram.schema),
        upper: -exponential_bound(index.wrapping_sub(1), histogram.schema),
        lower_inclusive: true,
        upper_inclusive: false,
        count,
    })
}

/// The zero bucket.
pub(crate) fn zero(histogram: HistogramView<'_>) -> Bucket {
    Bucket {
        lower: -histogram.zero_threshold,
        upper: histogram.zero_threshold,
        lower_inclusive: true,
        upper_inclusive: true,
        count: histogram.zero_count,
    }
}

/// All buckets in ascending order, empty ones included except for the zero bucket. Buckets that overlap the zero
/// bucket are cut at its bounds.
#[must_use]
pub fn buckets(histogram: HistogramView<'_>) -> Vec<Bucket> {
    let threshold = histogram.zero_threshold;
    let mut all: Vec<Bucket> = negative(histogram)
        .map(|bucket| {
            let cut = bucket.upper < 0.0 && bucket.upper > -threshold;
            Bucket { upper: if cut { -threshold } else { bucket.upper }, ..bucket }
        })
        .collect();
    all.reverse();
    if histogram.zero_count > 0.0 {
        all.push(zero(histogram));
    }
    all.extend(positive(histogram).map(|bucket| {
        let cut = bucket.lower > 0.0 && bucket.lower < threshold;
        Bucket { lower: if cut { threshold } else { bucket.lower }, ..bucket }
    }));
    all
}

/// A histogram as Prometheus prints it: `{count:10, sum:3, (1,2]:4, (2,4]:6}`.
#[must_use]
pub fn histogram_text(histogram: HistogramView<'_>) -> String {
    let mut text =
        format!("{{count:{}, sum:{}", format_float_g(histogram.count), format_float_g(histogram.sum));
    let mut all: Vec<Bucket> = negative(histogram).collect();
    all.reverse();
    if histogram.zero_count != 0.0 {
        all.push(zero(histogram));
    }
    all.extend(positive(histogram));
    for bucket in all.iter().filter(|bucket| bucket.count != 0.0) {
        text.push_str(if bucket.lower_inclusive { ", [" } else { ", (" });
        text.push_str(&format_float_g(bucket.lower));
        text.push(',');
        text.push_str(&format_float_g(bucket.upper));
        text.push(if bucket.upper_inclusive { ']' } else { ')' });
        text.push(':');
        text.push_str(&format_float_g(bucket.count));
    }
    text.push('}');
    text
}

/// The variance of what was observed, each observation taken at the middle of its bucket.
pub(crate) fn variance(histogram: HistogramView<'_>) -> f64 {
    let mean = histogram.sum / histogram.count;
    let mut sum = Kahan::default();
    for bucket in buckets(histogram).iter().filter(|bucket| bucket.count != 0.0) {
        let middle = if histogram.uses_custom_buckets() {
            (bucket.upper + bucket.lower) / 2.0
        } else if bucket.lower <= 0.0 && bucket.upper >= 0.0 {
            0.0
        } else {
            (bucket.upper * bucket.lower).sqrt().copysign(bucket.upper)
        };
        let delta = middle - mean;
        sum.add(bucket.count * delta * delta);
    }
    sum.total() / histogram.count
}

fn same_spans(a: &[Span], b: &[Span]) -> bool {
    let starts = |spans: &[Span]| {
        let mut next = 0_i64;
        let mut runs: Vec<(i64, u64)> = Vec::new();
        for span in spans {
            let first = next + i64::from(span.offset);
            next = first + i64::from(span.length);
            match runs.last_mut() {
                _ if span.length == 0 => {}
                Some(run) if run.0 + run.1 as i64 == first => run.1 += u64::from(span.length),
                _ => runs.push((first, u64::from(span.length))),
            }
        }
        runs
    };
    a == b || starts(a) == starts(b)
}

fn same_counts(a: &[f64], b: &[f64]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(x, y)| x.to_bits() == y.to_bits())
}

/// Whether `==` holds between them: the same buckets with the same bits. The counter reset hint does not count.
pub(crate) fn same(a: HistogramView<'_>, b: HistogramView<'_>) -> bool {
    a.schema == b.schema
        && a.count.to_bits() == b.count.to_bits()
        && a.sum.to_bits() == b.sum.to_bits()
        && (!a.uses_custom_buckets() || same_bounds(a.custom_values, b.custom_values))
        && a.zero_threshold == b.zero_threshold
        && a.zero_count.to_bits() == b.zero_count.to_bits()
        && same_spans(a.negative_spans, b.negative_spans)
        && same_counts(a.negative_buckets, b.negative_buckets)
        && same_spans(a.positive_spans, b.positive_spans)
        && same_counts(a.positive_buckets, b.positive_buckets)
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::FloatHistogram;

    #[test]
    fn a_histogram_prints_as_prometheus_prints_it() {
        let histogram = FloatHistogram {
            count: 12.0,
            sum: 3.5,
            zero_threshold: 0.001,
            zero_count: 2.0,
            positive_spans: vec![Span { offset: 1, length: 2 }],
            positive_buckets: vec![4.0, 6.0],
            ..FloatHistogram::default()
        };
        assert_eq!(
            histogram_text(histogram.view()),
            "{count:12, sum:3.5, [-0.001,0.001]:2, (1,2]:4, (2,4]:6}"
        );
    }
}
