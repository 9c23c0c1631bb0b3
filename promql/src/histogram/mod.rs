//! Arithmetic on native histograms.
//!
//! [`model::HistogramView`] is how they come, [`model::FloatHistogram`] how they go. To compute, one side becomes a
//! [`Sparse`]: sorted lists of (bucket index, amount), where an amount is a plain float or a compensated sum. The other
//! is added where it lies if its buckets are the same. Results are compact: no empty bucket, no mergeable span.

mod bounds;
mod bucket;
mod quantile;
mod reset;
mod sparse;
mod trim;

pub(crate) use bounds::exponential_bound;
pub use bucket::{Bucket, buckets, histogram_text};
pub(crate) use bucket::{same, variance};
pub(crate) use quantile::{NanInput, fraction, quantile};
pub(crate) use reset::{detect_reset, is_reset};
pub(crate) use sparse::{Mismatch, Sparse};
pub(crate) use trim::trim;

use model::{CounterResetHint, FloatHistogram, HistogramLayout, HistogramView};

/// A copy with every amount multiplied. A negative factor makes a gauge of it.
pub(crate) fn scaled(
    histogram: HistogramView<'_>,
    by: impl Fn(f64) -> f64,
    negative: bool,
) -> FloatHistogram {
    let mut out = histogram.to_float();
    out.zero_count = by(out.zero_count);
    out.count = by(out.count);
    out.sum = by(out.sum);
    out.positive_buckets.iter_mut().chain(&mut out.negative_buckets).for_each(|count| *count = by(*count));
    if negative {
        out.counter_reset_hint = CounterResetHint::Gauge;
    }
    out
}

/// `histogram` times `factor`.
pub(crate) fn multiplied(histogram: HistogramView<'_>, factor: f64) -> FloatHistogram {
    scaled(histogram, |amount| amount * factor, factor < 0.0)
}

/// `histogram` divided by `divisor`; by zero all buckets go.
pub(crate) fn divided(histogram: HistogramView<'_>, divisor: f64) -> FloatHistogram {
    let mut out = scaled(histogram, |amount| amount / divisor, divisor < 0.0);
    if divisor == 0.0 {
        out.positive_spans.clear();
        out.positive_buckets.clear();
        out.negative_spans.clear();
        out.negative_buckets.clear();
    }
    out
}

/// The same histogram without empty buckets, in the fewest spans.
pub(crate) fn compacted(histogram: HistogramView<'_>) -> FloatHistogram {
    Sparse::<f64>::new(histogram).finish()
}

/// What it counts against the limit of samples: its size in units of 16 bytes, as Prometheus reckons.
pub(crate) fn sample_size(histogram: HistogramView<'_>) -> u64 {
    size_of_words(
        histogram.positive_spans.len()
            + histogram.negative_spans.len()
            + histogram.positive_buckets.len()
            + histogram.negative_buckets.len()
            + histogram.custom_values.len(),
    )
}

/// [`sample_size`] of each histogram of a layout.
pub(crate) fn layout_size(layout: &HistogramLayout) -> u64 {
    size_of_words(
        layout.positive_spans.len()
            + layout.negative_spans.len()
            + layout.positive_buckets
            + layout.negative_buckets
            + layout.custom_values.len(),
    )
}

fn size_of_words(words: usize) -> u64 {
    ((168 + words * 8 + 8) / 16) as u64
}
