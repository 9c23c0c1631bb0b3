//! `anchored` and `smoothed` selectors: windows with values exactly at their ends.

use super::{
    Evaluator, Grid, Sink,
    plan::{Node, Selector},
    rate::RateKind,
    series::{Columns, Slice},
    track::{Out, Track},
    window::{Window, WindowCall},
};
use crate::annotations::{Operation, Position};
use crate::ast::RangeMode;
use crate::engine::EvalError;
use crate::histogram::{self, Mismatch, Sparse, detect_reset, is_reset};
use model::{CounterResetHint, FloatHistogram, HistogramRow, HistogramView, Series};
use std::sync::Arc;

/// A sample with its time.
type Sample<T> = (i64, T);

/// The value at `time` on the line between two samples. A counter that was reset in between began at zero.
fn interpolate(a: Sample<f64>, b: Sample<f64>, time: i64, is_counter: bool) -> f64 {
    let start = if is_counter && b.1 < a.1 { 0.0 } else { a.1 };
    start + (b.1 - start) * (time - a.0) as f64 / (b.0 - a.0) as f64
}

/// The samples that matter for a window: those inside, the newest at or before its start, and, if smoothed, the
/// first at or after its end. `None` if nothing is inside.
pub(crate) fn boundaries(times: &[i64], window: &Window<'_>, smoothed: bool) -> Option<(usize, usize)> {
    let mut last = times.len().checked_sub(1)?;
    let first = times[..last].partition_point(|time| *time <= window.start).saturating_sub(1);
    if smoothed {
        last = times[..last].partition_point(|time| *time < window.end);
    }
    if times[last] <= window.start || (smoothed && times[first] > window.end) {
        return None;
    }
    Some((first, last))
}

fn left_float(floats: &Slice<'_, f64>, first: usize, start: i64, smoothed: bool, is_counter: bool) -> f64 {
    let sample = |index: usize| (floats.times[index], floats.values[index]);
    if smoothed && floats.times[first] < start {
        return interpolate(sample(first), sample(first + 1), start, is_counter);
    }
    floats.values[first]
}

fn right_float(floats: &Slice<'_, f64>, last: usize, end: i64, smoothed: bool, is_counter: bool) -> f64 {
    let sample = |index: usize| (floats.times[index], floats.values[index]);
    if smoothed && last > 0 && floats.times[last] > end {
        return interpolate(sample(last - 1), sample(last), end, is_counter);
    }
    floats.values[last]
}

/// What resets between the ends of a window took away.
fn lost_to_resets(left: f64, inside: &[f64], right: f64) -> f64 {
    let mut before = left;
    let mut lost = 0.0;
    for value in inside.iter().chain(std::iter::once(&right)) {
        if *value < before {
            lost += before;
        }
        before = *value;
    }
    lost
}

/// The samples of a range selector that is the whole query, with values at the window's ends.
pub(crate) fn extended_samples(
    floats: &Slice<'_, f64>,
    window: &Window<'_>,
    smoothed: bool,
) -> Vec<(i64, f64)> {
    let Some((first, last)) = boundaries(floats.times, window, smoothed) else { return Vec::new() };
    let left = left_float(floats, first, window.start, smoothed, false);
    let right = right_float(floats, last, window.end, smoothed, false);
    let inside = first..=last;
    let mut samples = vec![(window.start, left)];
    samples.extend(
        inside
            .map(|index| (floats.times[index], floats.values[index]))
            .filter(|(time, _)| *time > window.start && *time < window.end),
    );
    samples.push((window.end, right));
    samples
}

/// Histograms of a window at its place.
struct Histograms<'w> {
    points: &'w Slice<'w, HistogramRow<'w>>,
    start: i64,
    end: i64,
    smoothed: bool,
    is_counter: bool,
    name: &'w str,
    at: Position,
}

impl Evaluator<'_> {
    pub(crate) fn extended_rate(&self, kind: RateKind, call: &WindowCall<'_>, window: &Window<'_>) -> Out {
        let smoothed = call.mode == RangeMode::Smoothed;
        let seconds = (window.end - window.start) as f64 / 1000.0;
        match (window.floats.is_empty(), window.histograms.is_empty()) {
            (false, false) => {
                self.note(|notes| notes.mixed_floats_histograms(call.name(), call.at));
                Out::Absent
            }
            (false, true) => {
                let value = extended_float_rate(kind, window, smoothed);
                let per_second = |value: f64| if kind == RateKind::Rate { value / seconds } else { value };
                value.map_or(Out::Absent, |value| Out::Float(per_second(value)))
            }
            (true, false) => {
                let histograms = Histograms {
                    points: &window.histograms,
                    start: window.start,
                    end: window.end,
                    smoothed,
                    is_counter: kind.is_counter(),
                    name: call.name(),
                    at: call.at,
                };
                let Some(mut difference) = self.extended_histogram_difference(&histograms, window) else {
                    return Out::Absent;
                };
                if kind == RateKind::Rate {
                    difference = histogram::divided(difference.view(), seconds);
                }
                difference.counter_reset_hint = CounterResetHint::Gauge;
                Out::Histogram(Arc::new(difference))
            }
            (true, true) => Out::Absent,
        }
    }

    /// `sum` plus or minus `other`, with what is to be told about it.
    fn combine_noted(
        &self,
        sum: &mut Sparse<f64>,
        other: HistogramView<'_>,
        operation: Operation,
        name: &str,
        at: Position,
    ) -> Option<()> {
        let combined = if operation == Operation::Addition { sum.add(other) } else { sum.subtract(other) };
        match combined {
            Err(Mismatch) => {
                self.note(|notes| notes.mixed_exponential_custom(name, at));
                None
            }
            Ok(combined) => {
                if combined.bounds_reconciled {
                    self.note(|notes| notes.bounds_reconciled(operation, at));
                }
                Some(())
            }
        }
    }

    /// As [`interpolate`], of histograms.
    fn interpolate_histograms(
        &self,
        a: Sample<HistogramView<'_>>,
        b: Sample<HistogramView<'_>>,
        time: i64,
        is_counter: bool,
        (name, at): (&str, Position),
    ) -> Option<FloatHistogram> {
        if time == a.0 {
            return Some(a.1.to_float());
        }
        if time == b.0 {
            return Some(b.1.to_float());
        }
        let fraction = (time - a.0) as f64 / (b.0 - a.0) as f64;
        if is_counter && detect_reset(b.1, a.1) {
            return Some(histogram::multiplied(b.1, fraction));
        }
        let mut sum = Sparse::<f64>::new(b.1);
        self.combine_noted(&mut sum, a.1, Operation::Subtraction, name, at)?;
        sum.map(|amount| amount * fraction);
        self.combine_noted(&mut sum, a.1, Operation::Addition, name, at)?;
        Some(sum.finish())
    }

    fn extended_histogram_difference(
        &self,
        histograms: &Histograms<'_>,
        window: &Window<'_>,
    ) -> Option<FloatHistogram> {
        let Histograms { points, start, end, smoothed, is_counter, name, at } = *histograms;
        let (first, last) = boundaries(points.times, window, smoothed)?;
        let values = points.values;
        let custom = values[first].view().uses_custom_buckets();
        for value in &values[first..=last] {
            if value.view().uses_custom_buckets() != custom {
                self.note(|notes| notes.mixed_exponential_custom(name, at));
                return None;
            }
            if is_counter && value.hint == CounterResetHint::Gauge {
                self.note(|notes| notes.not_counter(name, at));
            }
        }
        let sample = |index: usize| (points.times[index], values[index].view());
        let left = if smoothed && points.times[first] < start {
            self.interpolate_histograms(sample(first), sample(first + 1), start, is_counter, (name, at))?
        } else {
            values[first].view().to_float()
        };
        let right = if smoothed && last > 0 && points.times[last] > end {
            self.interpolate_histograms(sample(last - 1), sample(last), end, is_counter, (name, at))?
        } else {
            values[last].view().to_float()
        };
        let is_gauge = |h: &FloatHistogram| h.counter_reset_hint == CounterResetHint::Gauge;
        if !is_counter && (!is_gauge(&left) || !is_gauge(&right)) {
            self.note(|notes| notes.not_gauge(name, at));
        }
        let mut difference = Sparse::<f64>::new(right.view());
        self.combine_noted(&mut difference, left.view(), Operation::Subtraction, name, at)?;
        if is_counter
            && let Some(lost) = self.histograms_lost(histograms, first, last, left.view(), right.view())?
        {
            self.combine_noted(&mut difference, lost.view(), Operation::Addition, name, at)?;
        }
        Some(difference.finish())
    }

    /// As [`lost_to_resets`], of histograms; the outer `None` means that they do not go together.
    #[expect(clippy::option_option, reason = "a failure and nothing lost are two things")]
    fn histograms_lost(
        &self,
        histograms: &Histograms<'_>,
        first: usize,
        last: usize,
        left: HistogramView<'_>,
        right: HistogramView<'_>,
    ) -> Option<Option<FloatHistogram>> {
        let values = histograms.points.values;
        let mut next = first + 1;
        let mut before = left;
        // An interpolation at the start that spans a reset has taken account of it.
        if histograms.smoothed
            && histograms.points.times[first] < histograms.start
            && is_reset(values[first + 1], values[first])
        {
            before = values[first + 1].view();
            next += 1;
        }
        // The last sample is represented by `right`.
        if next > last {
            return Some(None);
        }
        let mut lost: Option<Sparse<f64>> = None;
        let inside = values[next..last].iter().map(|row| row.view());
        for value in inside.chain(std::iter::once(right)) {
            if detect_reset(value, before) {
                match &mut lost {
                    None => lost = Some(Sparse::new(before)),
                    Some(lost) => {
                        let (name, at) = (histograms.name, histograms.at);
                        self.combine_noted(lost, before, Operation::Addition, name, at)?;
                    }
                }
            }
            before = value;
        }
        Some(lost.map(|lost| lost.finish()))
    }

    /// An instant selector with `smoothed`: values between samples are interpolated, the last one holds on.
    pub(crate) fn stream_smoothed(
        &self,
        node: &Node,
        selector: &Selector,
        grid: &Grid,
        sink: Sink<'_>,
    ) -> Result<(), EvalError> {
        self.select(selector, grid, self.lookback, self.lookback, |series| {
            let Series { labels, mut samples } = series;
            let histograms = std::mem::take(&mut samples.histograms);
            let columns = Columns::new(samples, &histograms, false);
            let name = labels.metric_name().to_owned();
            let mut track = Track::empty(labels, grid.steps);
            for step in 0..grid.steps {
                let time = selector.reference(grid.time(step));
                let out = self.smoothed_at(&columns, time, (&name, node.at));
                // Prometheus counts no sample here.
                track.set(step, out);
            }
            if track.has_points() { sink(track) } else { Ok(()) }
        })
    }

    fn smoothed_at(&self, columns: &Columns<'_>, time: i64, place: (&str, Position)) -> Out {
        let (from, to) = (time.saturating_sub(self.lookback), time.saturating_add(self.lookback));
        let around =
            |times: &[i64]| times.partition_point(|t| *t <= from)..times.partition_point(|t| *t <= to);
        let floats = columns.floats.all().part(around(&columns.floats.times));
        let histograms = columns.histograms.all().part(around(&columns.histograms.times));
        if !floats.is_empty() && !histograms.is_empty() {
            self.note(|notes| notes.mixed_floats_histograms(place.0, place.1));
            return Out::Absent;
        }
        let times = if floats.is_empty() { histograms.times } else { floats.times };
        let next = times.partition_point(|t| *t < time);
        let exact = times.get(next) == Some(&time);
        if next == 0 && !exact {
            return Out::Absent;
        }
        if !floats.is_empty() {
            let sample = |index: usize| (floats.times[index], floats.values[index]);
            return Out::Float(if exact {
                floats.values[next]
            } else if next == times.len() {
                floats.values[next - 1]
            } else {
                interpolate(sample(next - 1), sample(next), time, false)
            });
        }
        if exact {
            return Out::Histogram(Arc::new(histograms.values[next].view().to_float()));
        }
        let before = histograms.values[next - 1].view();
        if next == times.len() {
            let counter_reset_hint = CounterResetHint::Unknown;
            let held = FloatHistogram { counter_reset_hint, ..before.to_float() };
            return Out::Histogram(Arc::new(held));
        }
        let after = histograms.values[next].view();
        if before.uses_custom_buckets() != after.uses_custom_buckets() {
            self.note(|notes| notes.mixed_exponential_custom(place.0, place.1));
            return Out::Absent;
        }
        let is_gauge = |h: HistogramView<'_>| h.counter_reset_hint == CounterResetHint::Gauge;
        let is_counter = !is_gauge(before) || !is_gauge(after);
        let (a, b) = ((times[next - 1], before), (times[next], after));
        self.interpolate_histograms(a, b, time, is_counter, place)
            .map_or(Out::Absent, |histogram| Out::Histogram(Arc::new(histogram)))
    }
}

fn extended_float_rate(kind: RateKind, window: &Window<'_>, smoothed: bool) -> Option<f64> {
    let floats = &window.floats;
    let (first, last) = boundaries(floats.times, window, smoothed)?;
    let left = left_float(floats, first, window.start, smoothed, kind.is_counter());
    let right = right_float(floats, last, window.end, smoothed, kind.is_counter());
    let mut difference = right - left;
    if kind.is_counter() {
        let from = first + usize::from(floats.times[first] <= window.start);
        let to = (last + 1) - usize::from(floats.times[last] >= window.end);
        difference += lost_to_resets(left, floats.values.get(from..to).unwrap_or(&[]), right);
    }
    Some(difference)
}
