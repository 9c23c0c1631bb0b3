//! The operators `</` and `>/`: what remains of a histogram below or above a value.

use super::{bucket::Bucket, bucket::negative, bucket::positive, bucket::zero, compacted};
use model::{FloatHistogram, HistogramView};

/// Which observations stay.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Keep {
    Below,
    Above,
}

fn zero_if_infinite(value: f64) -> f64 {
    if value.is_infinite() { 0.0 } else { value }
}

/// The value that stands for the observations between two bounds.
fn middle(lower: f64, upper: f64, is_positive: bool, linear: bool) -> f64 {
    match (lower.is_infinite(), upper.is_infinite()) {
        (true, true) => 0.0,
        (true, false) if upper > 0.0 => upper / 2.0,
        (true, false) => upper,
        (false, true) => lower,
        (false, false) if linear => (lower + upper) / 2.0,
        (false, false) => {
            let mean = (lower * upper).abs().sqrt();
            if is_positive { mean } else { -mean }
        }
    }
}

/// Count and representative value of what stays of a bucket that has an infinite bound.
fn trim_infinite(bucket: &Bucket, at: f64, keep: Keep) -> (f64, f64) {
    let Bucket { lower, upper, count, .. } = *bucket;
    if lower == f64::NEG_INFINITY {
        let finite = upper < f64::INFINITY;
        return match keep {
            Keep::Below if at >= upper => (count, 0.0),
            Keep::Below if at > 0.0 && upper > 0.0 && finite => (count * at / upper, at / 2.0),
            Keep::Below if upper <= 0.0 => (count, at),
            Keep::Above if at <= lower => (count, 0.0),
            Keep::Above if at >= 0.0 && upper > at && finite => {
                (count * (1.0 - at / upper), (at + upper) / 2.0)
            }
            _ => (0.0, zero_if_infinite(upper)),
        };
    }
    if keep == Keep::Above && at >= lower { (count, at) } else { (0.0, zero_if_infinite(lower)) }
}

/// Count and representative value of what stays of a bucket that contains `at`.
fn trim_bucket(bucket: &Bucket, at: f64, keep: Keep, is_positive: bool, linear: bool) -> (f64, f64) {
    if bucket.lower == f64::NEG_INFINITY || bucket.upper == f64::INFINITY {
        return trim_infinite(bucket, at, keep);
    }
    let below = bucket.count * bucket.fraction_below(at, linear);
    match keep {
        Keep::Below => (below, middle(bucket.lower, at, is_positive, linear)),
        Keep::Above => (bucket.count - below, middle(at, bucket.upper, is_positive, linear)),
    }
}

fn trim_zero(bucket: &Bucket, at: f64, keep: Keep, has_negative: bool, has_positive: bool) -> (f64, f64) {
    let lower = if has_positive && !has_negative { 0.0 } else { bucket.lower };
    let upper = if has_negative && !has_positive { 0.0 } else { bucket.upper };
    let whole = (bucket.count, (lower + upper) / 2.0);
    match keep {
        Keep::Below if at <= lower => (0.0, 0.0),
        Keep::Below if at >= upper => whole,
        Keep::Below => (bucket.count * ((at - lower) / (upper - lower)), (lower + at) / 2.0),
        Keep::Above if at <= lower => whole,
        Keep::Above if at >= upper => (0.0, 0.0),
        Keep::Above => (bucket.count * ((upper - at) / (upper - lower)), (at + upper) / 2.0),
    }
}

/// The totals of what stays.
#[derive(Default)]
struct Kept {
    count: f64,
    sum: f64,
    changed: bool,
}

impl Kept {
    /// The new count of each bucket; the second value says whether the side had observations.
    fn side(
        &mut self,
        buckets: impl Iterator<Item = Bucket>,
        at: f64,
        keep: Keep,
        is_positive: bool,
        linear: bool,
    ) -> (Vec<f64>, bool) {
        let mut seen = false;
        let counts = buckets.map(|bucket| {
            if bucket.count == 0.0 {
                return 0.0;
            }
            seen = true;
            let (inside, partly) = match keep {
                Keep::Below => (bucket.upper <= at, bucket.lower < at),
                Keep::Above => (bucket.lower >= at, bucket.upper > at),
            };
            let (count, value) = if inside {
                (bucket.count, middle(bucket.lower, bucket.upper, is_positive, linear))
            } else if partly {
                trim_bucket(&bucket, at, keep, is_positive, linear)
            } else {
                self.changed = true;
                return 0.0;
            };
            self.count += count;
            self.sum += value * count;
            self.changed |= count != bucket.count;
            count
        });
        (counts.collect(), seen)
    }
}

/// What remains of `histogram` below (`upper_trim`) or above `at`. Count and sum change only if a bucket does.
pub(crate) fn trim(histogram: HistogramView<'_>, at: f64, upper_trim: bool) -> FloatHistogram {
    let keep = if upper_trim { Keep::Below } else { Keep::Above };
    let linear = histogram.uses_custom_buckets();
    let mut kept = Kept::default();
    let (positive_buckets, has_positive) = kept.side(positive(histogram), at, keep, true, linear);
    let (negative_buckets, has_negative) = kept.side(negative(histogram), at, keep, false, linear);
    let mut out = FloatHistogram { positive_buckets, negative_buckets, ..histogram.to_float() };
    if histogram.zero_count > 0.0 {
        let (count, value) = trim_zero(&zero(histogram), at, keep, has_negative, has_positive);
        kept.changed |= count != histogram.zero_count;
        kept.sum += value * count;
        kept.count += count;
        out.zero_count = count;
    }
    if !kept.changed {
        return out;
    }
    out.count = kept.count;
    out.sum = kept.sum;
    compacted(out.view())
}
