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

pub(crate) fn double_exponential_smoothing(values: &[f64], smoothing: f64, trend: f64) -> f64 {
    let (mut before, mut level, mut slope) = (0.0, values[0], values[1] - values[0]);
    for (index, value) in values.iter().enumerate().skip(1) {
        if index > 1 {
            slope = trend * (level - before) + (1.0 - trend) * slope;
        }
        let next = smoothing * value + (1.0 - smoothing) * (level + slope);
        before = level;
        level = next;
    }
    level
}
