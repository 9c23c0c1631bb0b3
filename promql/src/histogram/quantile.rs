//! Quantiles and fractions of native histograms, interpolated within a bucket.

use super::bucket::{Bucket, buckets};
use model::HistogramView;

/// What NaN observations did to a quantile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NanInput {
    /// The quantile lies among them.
    ResultIsNan,
    /// They count as larger than everything.
    SkewedHigher,
}

/// A quantile, and what to tell about it.
pub(crate) struct Quantile {
    pub(crate) value: f64,
    pub(crate) nan_input: Option<NanInput>,
}

/// A fraction, and whether NaN observations were left out of it.
pub(crate) struct Fraction {
    pub(crate) value: f64,
    pub(crate) nan_input: bool,
}

/// In the zero bucket, a side without buckets of its own has no observations.
fn narrow_zero(bucket: &mut Bucket, histogram: HistogramView<'_>) {
    let (negative, positive) = (histogram.negative_buckets, histogram.positive_buckets);
    if negative.is_empty() && !positive.is_empty() {
        bucket.lower = 0.0;
    } else if positive.is_empty() && !negative.is_empty() {
        bucket.upper = 0.0;
    }
}

/// The `q`-quantile.
pub(crate) fn quantile(q: f64, histogram: HistogramView<'_>) -> Quantile {
    let plain = |value| Quantile { value, nan_input: None };
    if q < 0.0 {
        return plain(f64::NEG_INFINITY);
    }
    if q > 1.0 {
        return plain(f64::INFINITY);
    }
    if histogram.count == 0.0 || q.is_nan() {
        return plain(f64::NAN);
    }
    // NaN observations are in the count but in no bucket: then only counting from below is right. Else the shorter
    // way is also the more precise.
    let forward = histogram.sum.is_nan() || q < 0.5;
    let mut all = buckets(histogram);
    let mut rank = if forward { q } else { 1.0 - q } * histogram.count;
    if !forward {
        all.reverse();
    }
    let mut bucket =
        Bucket { lower: 0.0, upper: 0.0, lower_inclusive: false, upper_inclusive: false, count: 0.0 };
    let mut count = 0.0;
    let mut rest = all.iter();
    for next in rest.by_ref() {
        bucket = *next;
        if bucket.count == 0.0 {
            continue;
        }
        count += bucket.count;
        if count >= rank {
            break;
        }
    }
    let custom = histogram.uses_custom_buckets();
    if custom {
        if bucket.lower == f64::NEG_INFINITY {
            if bucket.upper <= 0.0 {
                return plain(bucket.upper);
            }
            bucket.lower = 0.0;
        } else if bucket.upper == f64::INFINITY {
            return plain(bucket.lower);
        }
    } else if bucket.lower < 0.0 && bucket.upper > 0.0 {
        narrow_zero(&mut bucket, histogram);
    }
    let mut nan_input = None;
    count = count.min(histogram.count);
    if count < rank {
        if histogram.sum.is_nan() {
            return Quantile { value: f64::NAN, nan_input: Some(NanInput::ResultIsNan) };
        }
        return plain(bucket.upper);
    }
    if forward {
        rank -= count - bucket.count;
    } else {
        rank = count - rank;
    }
    if histogram.sum.is_nan() {
        // Looking for what is in no bucket, Prometheus goes on to the last one, and then interpolates in that.
        for next in rest {
            bucket = *next;
            count += bucket.count;
        }
        if count < histogram.count {
            nan_input = Some(NanInput::SkewedHigher);
        }
    }
    let fraction = rank / bucket.count;
    let value = if custom || (bucket.lower <= 0.0 && bucket.upper >= 0.0) {
        bucket.lower + (bucket.upper - bucket.lower) * fraction
    } else {
        let (lower, upper) = (bucket.lower.abs().log2(), bucket.upper.abs().log2());
        if bucket.lower > 0.0 {
            (lower + (upper - lower) * fraction).exp2()
        } else {
            -(upper + (lower - upper) * (1.0 - fraction)).exp2()
        }
    };
    Quantile { value, nan_input }
}

/// Observations below a bound, found while walking up through the buckets.
struct Mark {
    bound: f64,
    rank: Option<f64>,
}

impl Mark {
    fn visit(&mut self, bucket: &Bucket, below: f64, linear: bool) {
        if self.rank.is_some() {
            return;
        }
        if bucket.lower >= self.bound {
            self.rank = Some(below);
        } else if bucket.upper > self.bound {
            self.rank = Some(if linear && bucket.lower == f64::NEG_INFINITY {
                bucket.count // a bucket without a lower end has nothing to interpolate over
            } else {
                below + bucket.count * bucket.fraction_below(self.bound, linear)
            });
        }
    }
}

/// The fraction of the observations between two values.
pub(crate) fn fraction(lower: f64, upper: f64, histogram: HistogramView<'_>) -> Fraction {
    if histogram.count == 0.0 || lower.is_nan() || upper.is_nan() {
        return Fraction { value: f64::NAN, nan_input: false };
    }
    if lower >= upper {
        return Fraction { value: 0.0, nan_input: false };
    }
    let all = buckets(histogram);
    let (mut low, mut high) = (Mark { bound: lower, rank: None }, Mark { bound: upper, rank: None });
    let mut below = 0.0;
    for bucket in &all {
        let mut bucket = *bucket;
        let zero = bucket.lower <= 0.0 && bucket.upper >= 0.0;
        if zero {
            narrow_zero(&mut bucket, histogram);
        }
        let linear = histogram.uses_custom_buckets() || zero;
        low.visit(&bucket, below, linear);
        high.visit(&bucket, below, linear);
        if low.rank.is_some() && high.rank.is_some() {
            break;
        }
        below += bucket.count;
    }
    let (mut count, mut nan_input) = (histogram.count, false);
    if histogram.sum.is_nan() {
        count = all.iter().map(|bucket| bucket.count).sum();
        nan_input = count < histogram.count;
    }
    let at_most = |rank: Option<f64>| rank.map_or(count, |rank| if rank > count { count } else { rank });
    Fraction { value: (at_most(high.rank) - at_most(low.rank)) / histogram.count, nan_input }
}
