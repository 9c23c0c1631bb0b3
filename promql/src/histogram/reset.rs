//! Counter resets between two histograms of one series.

use super::sparse::{Sparse, remap, same_bounds, shared_bounds};
use model::{CounterResetHint, Histogram, HistogramLayout, HistogramRow, HistogramView};
use std::sync::Arc;

/// Whether a counter that stood at `previous` must have been reset before it came to `current`. An explicit hint of
/// `current` decides; else a lower count anywhere, or a finer layout, gives it away.
pub(crate) fn detect_reset(current: HistogramView<'_>, previous: HistogramView<'_>) -> bool {
    match current.counter_reset_hint {
        CounterResetHint::Reset => return true,
        CounterResetHint::NotReset => return false,
        CounterResetHint::Unknown | CounterResetHint::Gauge => {}
    }
    if current.count < previous.count {
        return true;
    }
    if is_laid_out_alike(current, previous) {
        // As nearly always: no bucket has to be found, so none is copied.
        return any_fell(current.positive_buckets, previous.positive_buckets)
            || !current.uses_custom_buckets()
                && (current.zero_count < previous.zero_count
                    || any_fell(current.negative_buckets, previous.negative_buckets));
    }
    buckets_tell_reset(current, previous)
}

/// [`detect_reset`] of histograms in a column, most of which share their layout.
#[inline]
pub(crate) fn is_reset(current: HistogramRow<'_>, previous: HistogramRow<'_>) -> bool {
    let layout = current.layout;
    let plain = layout.schema != CUSTOM && !layout.zero_threshold.is_nan();
    if !plain || !Arc::ptr_eq(layout, previous.layout) {
        return detect_reset(current.view(), previous.view());
    }
    match current.hint {
        CounterResetHint::Reset => true,
        CounterResetHint::NotReset => false,
        CounterResetHint::Unknown | CounterResetHint::Gauge => {
            let (now, before) = (current.amounts, previous.amounts);
            now[HistogramLayout::COUNT] < before[HistogramLayout::COUNT]
                || now[HistogramLayout::ZERO] < before[HistogramLayout::ZERO]
                || any_fell(&now[HistogramLayout::BUCKETS..], &before[HistogramLayout::BUCKETS..])
        }
    }
}

const CUSTOM: i32 = Histogram::CUSTOM_BUCKETS_SCHEMA;

/// Whether both have the same buckets at the same places.
fn is_laid_out_alike(a: HistogramView<'_>, b: HistogramView<'_>) -> bool {
    a.schema == b.schema
        && (if a.uses_custom_buckets() {
            same_bounds(a.custom_values, b.custom_values)
        } else {
            a.zero_threshold == b.zero_threshold
        })
        && a.positive_spans == b.positive_spans
        && a.negative_spans == b.negative_spans
}

/// Whether some bucket that had observations has fewer. Both lists have the same buckets.
fn any_fell(current: &[f64], previous: &[f64]) -> bool {
    // Most have none that fell: no branch for each, so that several are looked at at once.
    current.iter().zip(previous).fold(false, |any, (now, before)| any | ((*before != 0.0) & (now < before)))
}

/// [`detect_reset`] by the buckets alone, however they are laid out.
fn buckets_tell_reset(current: HistogramView<'_>, previous: HistogramView<'_>) -> bool {
    if current.uses_custom_buckets() {
        if !previous.uses_custom_buckets() {
            return true;
        }
        let (current, previous) = (Sparse::<f64>::new(current), Sparse::<f64>::new(previous));
        if same_bounds(&current.bounds, &previous.bounds) {
            return decreased(&current.positive, &previous.positive);
        }
        let shared = shared_bounds(&current.bounds, &previous.bounds);
        return decreased(
            &remap(&current.positive, &current.bounds, &shared),
            &remap(&previous.positive, &previous.bounds, &shared),
        );
    }
    if current.schema > previous.schema || current.zero_threshold < previous.zero_threshold {
        return true;
    }
    let mut coarse = Sparse::<f64>::new(previous);
    coarse.widen_zero(current.zero_threshold);
    if coarse.zero_threshold != current.zero_threshold || current.zero_count < coarse.zero {
        return true;
    }
    coarse.reduce_to(current.schema);
    let current = Sparse::<f64>::new(current);
    decreased(&current.positive, &coarse.positive) || decreased(&current.negative, &coarse.negative)
}

/// Whether some bucket of `previous` has fewer observations in `current`. Neither list has empty buckets.
fn decreased(current: &[(i32, f64)], previous: &[(i32, f64)]) -> bool {
    let mut rest = current.iter().peekable();
    previous.iter().any(|(index, before)| {
        while rest.next_if(|bucket| bucket.0 < *index).is_some() {}
        let now = rest.peek().filter(|bucket| bucket.0 == *index).map_or(0.0, |bucket| bucket.1);
        now < *before
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::{FloatHistogram, HistogramColumn, Span};
    use proptest::prelude::*;

    fn histogram(counts: &[u8], zero: u8) -> FloatHistogram {
        let counts: Vec<f64> = counts.iter().map(|count| f64::from(*count)).collect();
        FloatHistogram {
            schema: 1,
            zero_threshold: 0.001,
            zero_count: f64::from(zero),
            positive_spans: vec![Span { offset: -1, length: 2 }, Span { offset: 1, length: 1 }],
            negative_spans: vec![Span { offset: 0, length: 2 }],
            positive_buckets: counts[..3].to_vec(),
            negative_buckets: counts[3..].to_vec(),
            ..FloatHistogram::default()
        }
    }

    proptest! {
        #[test]
        fn equal_layouts_tell_resets_as_all_do(
            before in proptest::collection::vec(0_u8..3, 5),
            now in proptest::collection::vec(0_u8..3, 5),
            zero in (0_u8..3, 0_u8..3),
        ) {
            let (before, now) = (histogram(&before, zero.0), histogram(&now, zero.1));
            let customs = [&before, &now].map(|h| FloatHistogram { schema: CUSTOM, ..h.clone() });
            for (before, now) in [(before.view(), now.view()), (customs[0].view(), customs[1].view())] {
                prop_assert!(is_laid_out_alike(now, before));
                prop_assert_eq!(detect_reset(now, before), buckets_tell_reset(now, before));
                let mut column = HistogramColumn::default();
                column.push(0, before);
                column.push(1, now);
                prop_assert_eq!(is_reset(column.row(1), column.row(0)), detect_reset(now, before));
            }
        }
    }
}
