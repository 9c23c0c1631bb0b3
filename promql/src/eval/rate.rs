//! `rate`, `increase`, `delta`, `irate`, `idelta`, and the regression behind `deriv` and `predict_linear`.

use super::{
    Evaluator,
    series::Slice,
    track::Out,
    window::{Window, WindowCall},
};
use crate::annotations::Operation;
use crate::histogram::{self, Mismatch, Sparse, detect_reset, is_reset};
use crate::kahan::Kahan;
use model::{CounterResetHint, FloatHistogram, Histogram, HistogramLayout, HistogramRow};
use std::sync::Arc;

/// The three extrapolating functions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RateKind {
    /// Per second, of a counter.
    Rate,
    /// Of a counter.
    Increase,
    /// Of a gauge.
    Delta,
}

impl RateKind {
    pub(crate) fn is_counter(self) -> bool {
        self != RateKind::Delta
    }
}

/// Whether a sample's start time says that the counter was restarted after the sample before.
pub(crate) fn is_restart(start_before: i64, time_before: i64, start: i64, time: i64) -> bool {
    if start == 0 || start >= time || start < time_before {
        return false;
    }
    if start > time_before {
        return true;
    }
    // It starts where the sample before ended: a restart if that is a series of deltas, which is if the start of the
    // sample before is known and makes sense.
    start_before != 0 && start_before < time_before
}

/// Whether a sample claims to have begun before the one before ended, without continuing it.
fn overlaps(start_before: i64, time_before: i64, start: i64) -> bool {
    start != 0 && start < time_before && start != start_before
}

/// How far samples reach, and what to multiply a difference with to stretch it over the window.
struct Extrapolation {
    /// Seconds from the window's start to the first sample.
    to_start: f64,
    /// Seconds from the last sample to the window's end.
    to_end: f64,
    /// Seconds from first to last sample.
    sampled: f64,
    /// Mean distance of samples, seconds.
    distance: f64,
}

impl Extrapolation {
    fn new(window: &Window<'_>, times: &[i64]) -> Extrapolation {
        Extrapolation::of((window.start, window.end), (times[0], times[times.len() - 1]), times.len())
    }

    /// Of `count` samples, the first and last of which are at these times.
    fn of((start, end): (i64, i64), (first, last): (i64, i64), count: usize) -> Extrapolation {
        let seconds = |ms: i64| ms as f64 / 1000.0;
        let sampled = seconds(last - first);
        let gaps = count - 1;
        Extrapolation {
            to_start: seconds(first - start),
            to_end: seconds(end - last),
            sampled,
            distance: if gaps > 0 { sampled / gaps as f64 } else { 0.0 },
        }
    }

    /// A boundary that is farther away than the next sample would be is not reached: half a distance has to do.
    fn limited(&self, to_boundary: f64) -> f64 {
        if to_boundary >= self.distance * 1.1 { self.distance / 2.0 } else { to_boundary }
    }

    /// Keeps a counter from beginning below zero: `first` of `increase` were there at the first sample.
    fn limit_start(&mut self, kind: RateKind, first: f64, increase: f64) {
        self.to_start = self.limited(self.to_start);
        if kind.is_counter() && increase > 0.0 && first >= 0.0 {
            let to_zero = self.sampled * (first / increase);
            if to_zero < self.to_start {
                self.to_start = to_zero;
            }
        }
    }

    fn factor(&self, kind: RateKind, window: &Window<'_>) -> f64 {
        let to_end = self.limited(self.to_end);
        factor(kind, self.sampled, self.to_start, to_end, window.end - window.start)
    }
}

/// What to multiply a difference with; `length` of the window is in milliseconds, the rest in seconds.
#[inline]
fn factor(kind: RateKind, sampled: f64, to_start: f64, to_end: f64, length: i64) -> f64 {
    let mut factor = 1.0;
    if sampled != 0.0 {
        factor = (sampled + to_start + to_end) / sampled;
    }
    if kind == RateKind::Rate {
        factor /= length as f64 / 1000.0;
    }
    factor
}

/// What times alone say of how far the samples of a window reach.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Reach {
    to_start: f64,
    to_end: f64,
    sampled: f64,
    /// Milliseconds.
    length: i64,
    /// The factor, unless the counter would begin below zero.
    factor: f64,
}

impl Reach {
    /// Of `count` samples in a window, the first and last of which are at these times, milliseconds.
    pub(crate) fn new(kind: RateKind, window: (i64, i64), samples: (i64, i64), count: usize) -> Reach {
        let reach = Extrapolation::of(window, samples, count);
        let (to_start, to_end) = (reach.limited(reach.to_start), reach.limited(reach.to_end));
        let (sampled, length) = (reach.sampled, window.1 - window.0);
        Reach { to_start, to_end, sampled, length, factor: factor(kind, sampled, to_start, to_end, length) }
    }

    /// As [`Extrapolation::limit_start`] and [`Extrapolation::factor`], to the same bits.
    #[inline]
    pub(crate) fn factor(&self, kind: RateKind, first: f64, increase: f64) -> f64 {
        // Where first / increase is 1 or more, zero lies farther back than the start: no need to divide.
        let is_far = first >= increase && self.sampled >= self.to_start;
        if kind.is_counter() && increase > 0.0 && first >= 0.0 && !is_far {
            let to_zero = self.sampled * (first / increase);
            if to_zero < self.to_start {
                return factor(kind, self.sampled, to_zero, self.to_end, self.length);
            }
        }
        self.factor
    }
}

/// Whether start times say that a counter was restarted between a sample and the one before.
fn restarted<T>(points: &Slice<'_, T>, at: usize) -> bool {
    is_restart(points.start(at - 1), points.times[at - 1], points.start(at), points.times[at])
}

/// Where a counter was reset: ascending, and never at the first sample.
pub(super) fn resets(points: &Slice<'_, HistogramRow<'_>>) -> Vec<u32> {
    let values = points.values;
    (1..values.len())
        .filter(|at| restarted(points, *at) || is_reset(values[*at], values[at - 1]))
        .map(|at| at as u32)
        .collect()
}

/// A start time that lies inside the window, before its first sample.
fn start_inside<T>(kind: RateKind, window: &Window<'_>, points: &Slice<'_, T>) -> Option<i64> {
    let start = points.start(0);
    (kind.is_counter() && start != 0 && start > window.start && start < points.times[0]).then_some(start)
}

impl Evaluator<'_> {
    /// Any window, also with start times and histograms.
    pub(crate) fn rate(&self, kind: RateKind, call: &WindowCall<'_>, window: &Window<'_>) -> Out {
        match (window.floats.is_empty(), window.histograms.is_empty()) {
            (false, false) => {
                self.note(|notes| notes.mixed_floats_histograms(call.name(), call.at));
                Out::Absent
            }
            (false, true) => self.rate_with_starts(kind, call, window).map_or(Out::Absent, Out::Float),
            (true, false) => {
                self.histogram_rate(kind, call, window).map_or(Out::Absent, |h| Out::Histogram(Arc::new(h)))
            }
            (true, true) => Out::Absent,
        }
    }

    fn rate_with_starts(&self, kind: RateKind, call: &WindowCall<'_>, window: &Window<'_>) -> Option<f64> {
        let floats = &window.floats;
        let values = floats.values;
        let mut difference = values[values.len() - 1] - values[0];
        if kind.is_counter() {
            let mut overlap = false;
            for i in 1..values.len() {
                let (start_before, time_before) = (floats.start(i - 1), floats.times[i - 1]);
                overlap |= overlaps(start_before, time_before, floats.start(i));
                if values[i] < values[i - 1]
                    || is_restart(start_before, time_before, floats.start(i), floats.times[i])
                {
                    difference += values[i - 1];
                }
            }
            if overlap {
                self.note(|notes| notes.start_time_overlap(call.name(), call.at));
            }
        }
        let mut reach = Extrapolation::new(window, floats.times);
        if let Some(start) = start_inside(kind, window, floats) {
            // The counter stood at zero at its start time: no need to guess how it began.
            reach.to_start = 0.0;
            reach.sampled = (floats.times[values.len() - 1] - start) as f64 / 1000.0;
            difference += values[0];
        } else if values.len() < 2 {
            return None;
        } else {
            reach.limit_start(kind, values[0], difference);
        }
        Some(difference * reach.factor(kind, window))
    }

    fn histogram_rate(
        &self,
        kind: RateKind,
        call: &WindowCall<'_>,
        window: &Window<'_>,
    ) -> Option<FloatHistogram> {
        let points = &window.histograms;
        let mut difference = None;
        if points.len() > 1 {
            let resets: Vec<u32> = if kind.is_counter() { resets(points) } else { Vec::new() };
            difference = Some(self.histogram_difference(kind, call, points, &resets)?);
        }
        let mut reach = Extrapolation::new(window, points.times);
        if let Some(start) = start_inside(kind, window, points) {
            reach.to_start = 0.0;
            reach.sampled = (points.times[points.len() - 1] - start) as f64 / 1000.0;
            difference = Some(match difference {
                None => points.values[0].view().to_float(),
                Some(difference) => {
                    let mut sum = Sparse::<f64>::new(difference.view());
                    match sum.add(points.values[0].view()) {
                        Err(Mismatch) => {
                            self.note(|notes| notes.mixed_exponential_custom(call.name(), call.at));
                            return None;
                        }
                        Ok(combined) if combined.bounds_reconciled => {
                            self.note(|notes| notes.bounds_reconciled(Operation::Addition, call.at));
                        }
                        Ok(_) => {}
                    }
                    sum.finish()
                }
            });
        } else {
            let increase = difference.as_ref()?.count;
            reach.limit_start(kind, points.values[0].amounts[HistogramLayout::COUNT], increase);
        }
        Some(histogram::multiplied(difference?.view(), reach.factor(kind, window)))
    }

    /// Last minus first, plus what counter resets took away: those of a counter are at `resets`.
    pub(super) fn histogram_difference(
        &self,
        kind: RateKind,
        call: &WindowCall<'_>,
        points: &Slice<'_, HistogramRow<'_>>,
        resets: &[u32],
    ) -> Option<FloatHistogram> {
        let values = points.values;
        let is_gauge = |row: HistogramRow<'_>| row.hint == CounterResetHint::Gauge;
        let is_custom = |row: HistogramRow<'_>| row.layout.schema == Histogram::CUSTOM_BUCKETS_SCHEMA;
        let (first, last) = (values[0], values[values.len() - 1]);
        let not_counter = |told: bool| {
            if told && kind.is_counter() {
                self.note(|notes| notes.not_counter(call.name(), call.at));
            }
        };
        // If the counter was reset right after the first sample, that one's layout does not matter.
        let begins_anew = resets.first() == Some(&1);
        let anew = FloatHistogram {
            schema: values[1].layout.schema,
            custom_values: values[1].layout.custom_values.clone(),
            ..FloatHistogram::default()
        };
        let base = if begins_anew { anew.view() } else { first.view() };
        let custom = base.uses_custom_buckets();
        let looked_at = if kind.is_counter() { &values[1..] } else { &values[values.len() - 1..] };
        let mismatch = || self.note(|notes| notes.mixed_exponential_custom(call.name(), call.at));
        // A mix is told alone, unless it is seen by the last sample: then Prometheus has looked at the hints of both
        // ends.
        if is_custom(last) != custom {
            not_counter(is_gauge(first) || is_gauge(last));
            mismatch();
            return None;
        }
        if looked_at.iter().any(|row| is_custom(*row) != custom) {
            mismatch();
            return None;
        }
        not_counter(values.iter().any(|row| is_gauge(*row)));
        let mut sum = Sparse::<f64>::new(last.view());
        let lowest = looked_at.iter().map(|row| row.layout.schema).fold(base.schema, i32::min);
        sum.reduce_to(lowest);
        let Ok(combined) = sum.subtract(base) else {
            mismatch();
            return None;
        };
        if combined.bounds_reconciled {
            self.note(|notes| notes.bounds_reconciled(Operation::Subtraction, call.at));
        }
        if kind.is_counter() {
            for at in resets {
                let before = match *at as usize {
                    // There was nothing before, but Prometheus adds nothing as if it were something.
                    1 if restarted(points, 1) || detect_reset(values[1].view(), base) => base,
                    1 => continue,
                    at => values[at - 1].view(),
                };
                let Ok(combined) = sum.add(before) else {
                    mismatch();
                    return None;
                };
                if combined.bounds_reconciled {
                    self.note(|notes| notes.bounds_reconciled(Operation::Addition, call.at));
                }
            }
            let overlap = |i: usize| overlaps(points.start(i - 1), points.times[i - 1], points.start(i));
            if !points.starts.is_empty() && (1..values.len()).any(overlap) {
                self.note(|notes| notes.start_time_overlap(call.name(), call.at));
            }
        }
        if !kind.is_counter() && (!is_gauge(first) || !is_gauge(last)) {
            self.note(|notes| notes.not_gauge(call.name(), call.at));
        }
        sum.hint = CounterResetHint::Gauge;
        Some(sum.finish())
    }

    /// `irate` and `idelta`: the newest two samples.
    pub(crate) fn instant_rate(&self, call: &WindowCall<'_>, window: &Window<'_>, per_second: bool) -> Out {
        let (floats, histograms) = (&window.floats, &window.histograms);
        // From the end backwards, whichever kind is newer.
        let (mut f, mut h) = (floats.len(), histograms.len());
        let mut previous = || {
            let take_float = match (f.checked_sub(1), h.checked_sub(1)) {
                (Some(a), Some(b)) => floats.times[a] > histograms.times[b],
                (Some(_), None) => true,
                (None, Some(_)) => false,
                (None, None) => return None,
            };
            let (index, is_float) = if take_float {
                f -= 1;
                (f, true)
            } else {
                h -= 1;
                (h, false)
            };
            Some((index, is_float))
        };
        let (Some((b, b_is_float)), Some((a, a_is_float))) = (previous(), previous()) else {
            return Out::Absent;
        };
        if a_is_float != b_is_float {
            self.note(|notes| notes.mixed_floats_histograms(call.name(), call.at));
            return Out::Absent;
        }
        if a_is_float {
            let interval = floats.times[b] - floats.times[a];
            let (old, new) = (floats.values[a], floats.values[b]);
            let restarted = || is_restart(floats.start(a), floats.times[a], floats.start(b), floats.times[b]);
            let reset = per_second && (new < old || restarted());
            let value = if reset { new } else { new - old };
            let value = if per_second { value / (interval as f64 / 1000.0) } else { value };
            return if interval == 0 { Out::Absent } else { Out::Float(value) };
        }
        let interval = histograms.times[b] - histograms.times[a];
        if interval == 0 {
            return Out::Absent;
        }
        let (old, new) = (histograms.values[a], histograms.values[b]);
        let is_gauge = |row: HistogramRow<'_>| row.hint == CounterResetHint::Gauge;
        if per_second && (is_gauge(old) || is_gauge(new)) {
            self.note(|notes| notes.not_counter(call.name(), call.at));
        }
        if !per_second && (!is_gauge(old) || !is_gauge(new)) {
            self.note(|notes| notes.not_gauge(call.name(), call.at));
        }
        let restarted =
            is_restart(histograms.start(a), histograms.times[a], histograms.start(b), histograms.times[b]);
        let mut difference = Sparse::<f64>::new(new.view());
        if !per_second || !(restarted || is_reset(new, old)) {
            match difference.subtract(old.view()) {
                Err(Mismatch) => {
                    self.note(|notes| notes.mixed_exponential_custom(call.name(), call.at));
                    return Out::Absent;
                }
                Ok(combined) if combined.bounds_reconciled => {
                    self.note(|notes| notes.bounds_reconciled(Operation::Subtraction, call.at));
                }
                Ok(_) => {}
            }
        }
        difference.hint = CounterResetHint::Gauge;
        let difference = difference.finish();
        Out::Histogram(Arc::new(if per_second {
            histogram::divided(difference.view(), interval as f64 / 1000.0)
        } else {
            difference
        }))
    }
}

/// Slope per second and value at `at` of the line through the samples that has the least squares.
pub(crate) fn linear_regression(floats: &Slice<'_, f64>, at: i64) -> (f64, f64) {
    let first = floats.values[0];
    let (mut x_sum, mut y_sum, mut xy_sum, mut xx_sum) =
        (Kahan::default(), Kahan::default(), Kahan::default(), Kahan::default());
    let mut constant = true;
    for (index, (time, y)) in floats.times.iter().zip(floats.values).enumerate() {
        constant &= index == 0 || *y == first;
        let x = (time - at) as f64 / 1e3;
        x_sum.add(x);
        y_sum.add(*y);
        xy_sum.add(x * y);
        xx_sum.add(x * x);
    }
    if constant {
        return if first.is_infinite() { (f64::NAN, f64::NAN) } else { (0.0, first) };
    }
    let n = floats.len() as f64;
    let (x, y) = (x_sum.total(), y_sum.total());
    let covariance = xy_sum.total() - x * y / n;
    let variance = xx_sum.total() - x * x / n;
    let slope = covariance / variance;
    (slope, y / n - slope * x / n)
}
