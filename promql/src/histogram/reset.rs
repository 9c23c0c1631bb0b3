//! Counter resets between two histograms of one series.

use super::sparse::{Sparse, remap, same_bounds, shared_bounds};
use model::{CounterResetHint, FloatHistogram};

/// Whether a counter that stood at `previous` must have been reset before it came to `current`. An explicit hint of
/// `current` decides; else a lower count anywhere, or a finer layout, gives it away.
pub(crate) fn detect_reset(current: &FloatHistogram, previous: &FloatHistogram) -> bool {
    match current.counter_reset_hint {
        CounterResetHint::Reset => return true,
        CounterResetHint::NotReset => return false,
        CounterResetHint::Unknown | CounterResetHint::Gauge => {}
    }
    if current.count < previous.count {
        return true;
    }
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
