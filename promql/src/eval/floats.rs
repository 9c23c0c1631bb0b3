//! Functions of the floats in a window, looked at as a whole.

use super::{pick::quantile, series::Slice, window::WindowCall, window_func::WindowFunc};
use crate::kahan::Kahan;

/// Functions of floats alone.
pub(crate) fn float_value(call: &WindowCall<'_>, floats: &Slice<'_, f64>) -> f64 {
    let values = floats.values;
    match call.func {
        WindowFunc::Max => extreme(values, true),
        WindowFunc::Min => extreme(values, false),
        WindowFunc::TimeOfMax => time_of_extreme(floats, true),
        WindowFunc::TimeOfMin => time_of_extreme(floats, false),
        WindowFunc::Quantile => quantile(call.params[0], &mut values.to_vec()),
        WindowFunc::Stdvar => variance(values),
        WindowFunc::Stddev => variance(values).sqrt(),
        WindowFunc::Mad => {
            if values.iter().any(|value| value.is_nan()) {
                return f64::NAN;
            }
            let mut values = values.to_vec();
            let median = quantile(0.5, &mut values);
            values.iter_mut().for_each(|value| *value = (*value - median).abs());
            quantile(0.5, &mut values)
        }
        _ => f64::NAN,
    }
}

fn extreme(values: &[f64], largest: bool) -> f64 {
    let mut best = values[0];
    for value in values {
        let better = if largest { *value > best } else { *value < best };
        if better || best.is_nan() {
            best = *value;
        }
    }
    best
}

/// Seconds; of equal values the last counts.
fn time_of_extreme(floats: &Slice<'_, f64>, largest: bool) -> f64 {
    let mut best = 0;
    for (index, value) in floats.values.iter().enumerate() {
        let before = floats.values[best];
        let better = if largest { *value >= before } else { *value <= before };
        if better || before.is_nan() {
            best = index;
        }
    }
    floats.times[best] as f64 / 1000.0
}

fn variance(values: &[f64]) -> f64 {
    let (mut count, mut mean, mut squares) = (0.0, Kahan::default(), Kahan::default());
    for value in values {
        count += 1.0;
        let delta = value - mean.total();
        mean.add(delta / count);
        squares.add(delta * (value - mean.total()));
    }
    squares.total() / count
}

/// Double exponential smoothing under way.
#[derive(Clone, Copy)]
struct Smoothed {
    before: f64,
    level: f64,
    slope: f64,
}

impl Smoothed {
    /// After the first two values, at which the slope is not smoothed yet.
    #[inline]
    fn of_two(values: &[f64], smoothing: f64) -> Smoothed {
        let (before, slope) = (values[0], values[1] - values[0]);
        let level = smoothing * values[1] + (1.0 - smoothing) * (before + slope);
        Smoothed { before, level, slope }
    }

    #[inline]
    fn add(&mut self, value: f64, smoothing: f64, trend: f64) {
        self.slope = trend * (self.level - self.before) + (1.0 - trend) * self.slope;
        let next = smoothing * value + (1.0 - smoothing) * (self.level + self.slope);
        self.before = self.level;
        self.level = next;
    }
}

/// Of at least two values.
pub(crate) fn double_exponential_smoothing(values: &[f64], smoothing: f64, trend: f64) -> f64 {
    let mut smoothed = Smoothed::of_two(values, smoothing);
    values[2..].iter().for_each(|value| smoothed.add(*value, smoothing, trend));
    smoothed.level
}

/// Windows that [`smoothings`] takes at once.
pub(crate) const LANES: usize = 4;

/// [`double_exponential_smoothing`] of several windows. Each step of it waits for the one before, which leaves the
/// processor idle; steps of different windows do not wait for each other.
pub(crate) fn smoothings(windows: [&[f64]; LANES], smoothing: f64, trend: f64) -> [f64; LANES] {
    let shared = windows.iter().map(|values| values.len()).min().unwrap_or(0);
    let heads = windows.map(|values| &values[..shared]);
    let mut smoothed = windows.map(|values| Smoothed::of_two(values, smoothing));
    for at in 2..shared {
        for (smoothed, head) in smoothed.iter_mut().zip(&heads) {
            smoothed.add(head[at], smoothing, trend);
        }
    }
    for (smoothed, values) in smoothed.iter_mut().zip(&windows) {
        values[shared.max(2)..].iter().for_each(|value| smoothed.add(*value, smoothing, trend));
    }
    smoothed.map(|smoothed| smoothed.level)
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn windows_are_smoothed_together_as_alone(
            values in proptest::collection::vec(-1e6..1e6_f64, 2..60),
            cuts in proptest::array::uniform4((0_usize..30, 0_usize..30)),
            smoothing in 0.01..0.99_f64,
            trend in 0.01..0.99_f64,
        ) {
            let window = |(first, less): (usize, usize)| {
                let first = first.min(values.len() - 2);
                &values[first..values.len().saturating_sub(less).max(first + 2)]
            };
            let windows = cuts.map(window);
            let alone = windows.map(|values| double_exponential_smoothing(values, smoothing, trend));
            let together = smoothings(windows, smoothing, trend);
            assert_eq!(together.map(f64::to_bits), alone.map(f64::to_bits));
        }
    }
}
