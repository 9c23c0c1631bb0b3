//! Functions of windows of samples.
//!
//! A series is walked through once: the window's two ends only move forward. Functions that can be had from what
//! enters and leaves a window cost O(samples), whatever the length of the window; those whose result depends on the
//! order of additions look at each window as a whole.

use super::{
    Evaluator, Grid, Sink,
    floats::{LANES, double_exponential_smoothing, float_value, smoothings},
    frames::{Ends, FrameCache, Layout, Span},
    plan::{Call, Kind, Range, Subquery},
    rate::{RateKind, linear_regression},
    scalar::Column,
    series::{Columns, Slice},
    sliding,
    track::{ABSENT, Cell, Matrix, Out, Track, is_float, is_present},
    window_func::WindowFunc,
};
use crate::annotations::{Operation, Position};
use crate::ast::RangeMode;
use crate::engine::EvalError;
use crate::histogram::{self, Mismatch, Sparse, is_reset, layout_size};
use crate::kahan::{Kahan, Mean};
use crate::number;
use model::{CounterResetHint, FloatHistogram, HistogramColumn, HistogramRow, HistogramView, Labels, Series};
use std::sync::Arc;

/// A window at one step.
#[derive(Clone, Copy)]
pub(crate) struct Window<'s> {
    pub(crate) floats: Slice<'s, f64>,
    pub(crate) histograms: Slice<'s, HistogramRow<'s>>,
    /// Its samples are later than this. `anchored` and `smoothed` windows hold samples beyond their ends too.
    pub(crate) start: i64,
    /// Its samples are not later than this.
    pub(crate) end: i64,
    /// Time of the step.
    pub(crate) time: i64,
}

/// A call at its place.
pub(crate) struct WindowCall<'c> {
    pub(crate) func: WindowFunc,
    pub(crate) mode: RangeMode,
    /// Where the window's expression begins.
    pub(crate) at: Position,
    /// Where the first argument begins.
    pub(crate) first_at: Position,
    pub(crate) metric: &'c Labels,
    /// Scalar arguments at this step.
    pub(crate) params: [f64; 2],
}

impl WindowCall<'_> {
    pub(crate) fn name(&self) -> &str {
        self.metric.metric_name()
    }
}

/// Whether smoothing may have this factor.
fn is_factor(factor: f64) -> bool {
    factor > 0.0 && factor < 1.0
}

/// Where windows come from, and how they lie.
struct Frame {
    func: WindowFunc,
    mode: RangeMode,
    length: i64,
    at: Position,
    first_at: Position,
    params: Vec<Column>,
}

/// Samples in windows between two looks at the time: some milliseconds.
const UNCHECKED_MAX: u64 = 1 << 17;

impl Evaluator<'_> {
    /// Applies a window function to every series.
    pub(crate) fn stream_window(
        &self,
        call: &Call,
        func: WindowFunc,
        grid: &Grid,
        sink: Sink<'_>,
    ) -> Result<(), EvalError> {
        let mut params = Vec::new();
        let mut source = None;
        for arg in &call.args {
            match &arg.kind {
                Kind::Range(_) | Kind::Subquery(_) => source = Some(arg),
                _ => params.push(self.scalar(arg, grid)?),
            }
        }
        let Some(source) = source else { return Ok(()) };
        let first_at = call.args.first().map_or(source.at, |arg| arg.at);
        let mut unique = super::Unique::default();
        let checks = !self.features.delayed_name_removal && !func.keeps_name();
        let sink: Sink<'_> = &mut |track: Track| {
            if checks {
                unique.see(&track);
                if unique.has_duplicate() && func != WindowFunc::Absent {
                    return Err(EvalError::same_labels());
                }
            }
            sink(track)
        };
        match &source.kind {
            Kind::Range(range) => {
                func.check_mode(range.selector.mode)?;
                let mode = range.selector.mode;
                let frame = Frame { func, mode, length: range.length, at: source.at, first_at, params };
                self.over_selector(&frame, range, grid, sink)
            }
            Kind::Subquery(subquery) => {
                let frame = Frame {
                    func,
                    mode: RangeMode::Plain,
                    length: subquery.length,
                    at: source.at,
                    first_at,
                    params,
                };
                self.over_subquery(&frame, subquery, grid, sink)
            }
            _ => Ok(()),
        }
    }

    fn over_selector(
        &self,
        frame: &Frame,
        range: &Range,
        grid: &Grid,
        sink: Sink<'_>,
    ) -> Result<(), EvalError> {
        let with_starts = self.features.use_start_timestamps && frame.func.uses_starts();
        let (before, after) = match frame.mode {
            RangeMode::Plain => (0, 0),
            RangeMode::Anchored => (self.lookback, 0),
            RangeMode::Smoothed => (self.lookback, self.lookback),
        };
        let reference = |step: usize| range.selector.reference(grid.time(step));
        let reach = (range.length.saturating_add(before), after);
        self.each_series(&range.selector, grid, reach, sink, &|evaluator, frames, series| {
            let Series { labels, mut samples } = series;
            let histograms = std::mem::take(&mut samples.histograms);
            let columns = Columns::new(samples, &histograms, with_starts);
            if frame.mode == RangeMode::Plain {
                evaluator.over_plain(frame, labels, false, &columns, grid, frames, reference)
            } else {
                evaluator.over_series(frame, labels, false, &columns, grid, (before, after), reference)
            }
        })
    }

    /// The grid and the series of a subquery.
    pub(crate) fn subquery(&self, subquery: &Subquery, grid: &Grid) -> Result<(Grid, Matrix<'_>), EvalError> {
        let interval = if subquery.step > 0 { subquery.step } else { self.subquery_interval.max(1) };
        let first = subquery.reference(grid.start).saturating_sub(subquery.length);
        let mut start = (first / interval) * interval;
        if start <= first {
            start += interval;
        }
        let inner = Grid::range(start, subquery.reference(grid.end()), interval);
        self.check_grid(&inner)?;
        let matrix = if inner.steps == 0 {
            Matrix::new(self.meter)
        } else if subquery.inner.value_type == crate::ast::ValueType::Scalar {
            let mut matrix = Matrix::new(self.meter);
            let values = self.scalar(&subquery.inner, &inner)?.into_steps(inner.steps);
            matrix.push(Track::of_floats(Labels::empty(), values))?;
            matrix
        } else {
            self.vector(&subquery.inner, &inner)?
        };
        Ok((inner, matrix))
    }

    fn over_subquery(
        &self,
        frame: &Frame,
        subquery: &Subquery,
        grid: &Grid,
        sink: Sink<'_>,
    ) -> Result<(), EvalError> {
        let (inner, matrix) = self.meter.muted(|| self.subquery(subquery, grid))?;
        let reference = |step: usize| subquery.reference(grid.time(step));
        let mut frames = FrameCache::default();
        for track in matrix.tracks {
            self.check()?;
            let histograms = track_histograms(&track, &inner);
            let columns = track_columns(&track, &histograms, &inner);
            let (labels, dropped) = (track.labels, track.drop_name);
            let done = self.over_plain(frame, labels, dropped, &columns, grid, &mut frames, reference)?;
            if let Some(track) = done {
                sink(track)?;
            }
        }
        Ok(())
    }

    /// Looks at the time after so many samples in windows: one series may have so many steps with such wide windows
    /// that looking once a series is too seldom.
    #[inline]
    pub(crate) fn check_now_and_then(&self, unchecked: &mut u64, samples: u64) -> Result<(), EvalError> {
        *unchecked += samples;
        if *unchecked > UNCHECKED_MAX {
            *unchecked = 0;
            self.check()?;
        }
        Ok(())
    }

    /// One series in plain windows; `None` if no step has a value.
    #[expect(clippy::too_many_arguments, reason = "two callers, which differ in exactly these")]
    fn over_plain(
        &self,
        frame: &Frame,
        labels: Labels,
        dropped: bool,
        columns: &Columns<'_>,
        grid: &Grid,
        frames: &mut FrameCache,
        reference: impl Fn(usize) -> i64,
    ) -> Result<Option<Track>, EvalError> {
        let (floats, histograms) = (columns.floats.all(), columns.histograms.all());
        if histograms.is_empty() {
            return self.over_floats(frame, labels, dropped, columns, grid, frames, reference);
        }
        let WindowFunc::Rate(kind) = frame.func else {
            return self.over_series(frame, labels, dropped, columns, grid, (0, 0), reference);
        };
        if !floats.is_empty() || !histograms.starts.is_empty() {
            return self.over_series(frame, labels, dropped, columns, grid, (0, 0), reference);
        }
        let layout = Layout { length: frame.length, rate: Some(kind) };
        let frames = frames.get(histograms.times, layout, grid.steps, &reference);
        let call = WindowCall {
            func: frame.func,
            mode: frame.mode,
            at: frame.at,
            first_at: frame.first_at,
            metric: &labels,
            params: [f64::NAN; 2],
        };
        let track = self.histogram_rates(kind, &call, &histograms, frames, (labels.clone(), grid))?;
        Ok(self.windowed(frame, track, dropped))
    }

    /// One series of floats in plain windows; `None` if no step has a value.
    #[expect(clippy::too_many_arguments, reason = "two callers, which differ in exactly these")]
    fn over_floats(
        &self,
        frame: &Frame,
        labels: Labels,
        dropped: bool,
        columns: &Columns<'_>,
        grid: &Grid,
        frames: &mut FrameCache,
        reference: impl Fn(usize) -> i64,
    ) -> Result<Option<Track>, EvalError> {
        let floats = columns.floats.all();
        let (times, values, func) = (floats.times, floats.values, frame.func);
        let plain = floats.starts.is_empty();
        let rate = match func {
            WindowFunc::Rate(kind) => Some(kind), // for all series alike: they share what is found
            _ => None,
        };
        let layout = Layout { length: frame.length, rate };
        let frames = frames.get(times, layout, grid.steps, &reference);
        if frames.samples == 0 {
            return Ok(None);
        }
        self.meter.count_spans(&frames.spans, frames.samples);
        self.meter.would_hold(frames.widest)?;
        let mut out = vec![ABSENT; grid.steps];
        // Whether windows that are still without a value have to be looked at as a whole.
        let mut whole = false;
        match func {
            WindowFunc::Rate(kind) if plain => sliding::rates(kind, values, frames, &mut out),
            WindowFunc::Resets if plain => {
                let falls = sliding::positions(values, |before, now| now < before);
                sliding::counts(&falls, frames, &mut out);
            }
            WindowFunc::Changes => {
                let changed = |before: f64, now: f64| before != now && !(before.is_nan() && now.is_nan());
                sliding::counts(&sliding::positions(values, changed), frames, &mut out);
            }
            WindowFunc::Max | WindowFunc::Min => {
                sliding::extremes(values, frames, func == WindowFunc::Max, &mut out);
            }
            WindowFunc::Sum | WindowFunc::Avg
                if sliding::is_worth_sliding(times, frame.length, grid.interval) =>
            {
                sliding::sums(values, frames, func == WindowFunc::Avg, &mut out);
                whole = true;
            }
            WindowFunc::Smoothing => {
                if let [Column::Constant(smoothing), Column::Constant(trend)] = frame.params[..]
                    && [smoothing, trend].iter().all(|factor| is_factor(*factor))
                {
                    self.smoothings(values, &frames.spans, (smoothing, trend), &mut out)?;
                }
                whole = true;
            }
            _ => whole = true,
        }
        if whole {
            let mut call = WindowCall {
                func,
                mode: frame.mode,
                at: frame.at,
                first_at: frame.first_at,
                metric: &labels,
                params: [f64::NAN; 2],
            };
            let mut unchecked = 0;
            for (step, span) in frames.spans.iter().enumerate() {
                if span.is_empty() || is_present(out[step]) {
                    continue;
                }
                self.check_now_and_then(&mut unchecked, span.range().len() as u64)?;
                for (param, column) in call.params.iter_mut().zip(&frame.params) {
                    *param = column.get(step);
                }
                let end = reference(step);
                let window = Window {
                    floats: floats.part(span.range()),
                    histograms: columns.histograms.all(),
                    start: end.saturating_sub(frame.length),
                    end,
                    time: grid.time(step),
                };
                if let Out::Float(value) = self.over_window(&call, &window)? {
                    out[step] = value;
                }
            }
        }
        Ok(self.windowed(frame, Track::of_floats(labels, out), dropped))
    }

    /// Smooths all windows that have two values, several at once.
    fn smoothings(
        &self,
        values: &[f64],
        spans: &[Span],
        (smoothing, trend): (f64, f64),
        out: &mut [f64],
    ) -> Result<(), EvalError> {
        let steps: Vec<usize> = (0..spans.len()).filter(|step| spans[*step].len() > 1).collect();
        let mut unchecked = 0;
        for steps in steps.chunks(LANES) {
            // What is missing in the last lanes is done twice, which takes no longer.
            let step_of = |lane: usize| steps[lane.min(steps.len() - 1)];
            let windows: [&[f64]; LANES] = std::array::from_fn(|lane| &values[spans[step_of(lane)].range()]);
            let samples: usize = windows.iter().map(|window| window.len()).sum();
            self.check_now_and_then(&mut unchecked, samples as u64)?;
            for (lane, smoothed) in smoothings(windows, smoothing, trend).into_iter().enumerate() {
                out[step_of(lane)] = smoothed;
            }
        }
        Ok(())
    }

    /// What becomes of the series of a call's results; `None` if no step has a value.
    fn windowed(&self, frame: &Frame, mut track: Track, dropped: bool) -> Option<Track> {
        if !track.has_points() {
            return None;
        }
        if matches!(frame.func, WindowFunc::Rate(RateKind::Rate | RateKind::Increase)) {
            self.note_counter_name(&track, frame.first_at);
        }
        track.drop_name = dropped;
        if !frame.func.keeps_name() || dropped {
            self.drop_name(&mut track);
        }
        Some(track)
    }

    /// One series of any kind; `None` if no step has a value.
    #[expect(clippy::too_many_arguments, reason = "two callers, which differ in exactly these")]
    fn over_series(
        &self,
        frame: &Frame,
        labels: Labels,
        dropped: bool,
        columns: &Columns<'_>,
        grid: &Grid,
        (before, after): (i64, i64),
        reference: impl Fn(usize) -> i64,
    ) -> Result<Option<Track>, EvalError> {
        let mut track = Track::empty(labels.clone(), grid.steps);
        let (floats, histograms) = (columns.floats.all(), columns.histograms.all());
        let mut ends = Ends::default();
        let mut histogram_ends = Ends::default();
        let mut call = WindowCall {
            func: frame.func,
            mode: frame.mode,
            at: frame.at,
            first_at: frame.first_at,
            metric: &labels,
            params: [f64::NAN; 2],
        };
        let mut widest = 0;
        let mut unchecked = 0;
        let sizes = running_sizes(histograms.values);
        for step in 0..grid.steps {
            let end = reference(step);
            let start = end.saturating_sub(frame.length);
            ends.advance(floats.times, start.saturating_sub(before), end.saturating_add(after));
            if !histograms.is_empty() {
                histogram_ends.advance(
                    histograms.times,
                    start.saturating_sub(before),
                    end.saturating_add(after),
                );
            }
            if ends.is_empty() && histogram_ends.is_empty() {
                continue;
            }
            let histogram_range = histogram_ends.range();
            let in_window = ends.len() as u64 + sizes[histogram_range.end] - sizes[histogram_range.start];
            widest = widest.max(in_window);
            self.meter.count_read(step, in_window);
            self.check_now_and_then(&mut unchecked, in_window)?;
            for (param, column) in call.params.iter_mut().zip(&frame.params) {
                *param = column.get(step);
            }
            let window = Window {
                floats: floats.part(ends.range()),
                histograms: histograms.part(histogram_range),
                start,
                end,
                time: grid.time(step),
            };
            track.set(step, self.over_window(&call, &window)?);
        }
        self.meter.would_hold(widest)?;
        Ok(self.windowed(frame, track, dropped))
    }

    fn note_counter_name(&self, track: &Track, at: Position) {
        let name = track.labels.metric_name();
        if name.is_empty() || !track.floats.iter().any(|value| is_float(*value)) {
            return;
        }
        if self.features.type_and_unit_labels {
            let kind = track.labels.get("__type__").unwrap_or("");
            if kind != "counter" && kind != "histogram" {
                self.note(|notes| notes.not_counter_type(name, kind, at));
            }
        } else if !["_total", "_sum", "_count", "_bucket"].iter().any(|suffix| name.ends_with(suffix)) {
            self.note(|notes| notes.not_counter_name(name, at));
        }
    }

    /// The function's value for one window that is not empty.
    fn over_window(&self, call: &WindowCall<'_>, window: &Window<'_>) -> Result<Out, EvalError> {
        let (floats, histograms) = (&window.floats, &window.histograms);
        let seconds = |ms: i64| ms as f64 / 1000.0;
        let histogram = |row: HistogramRow<'_>| Out::Histogram(Arc::new(row.view().to_float()));
        Ok(match call.func {
            WindowFunc::Rate(kind) if call.mode == RangeMode::Plain => self.rate(kind, call, window),
            WindowFunc::Rate(kind) => self.extended_rate(kind, call, window),
            WindowFunc::Irate => self.instant_rate(call, window, true),
            WindowFunc::Idelta => self.instant_rate(call, window, false),
            WindowFunc::Changes | WindowFunc::Resets => self.count_transitions(call, window),
            WindowFunc::Absent | WindowFunc::Present => Out::Float(1.0),
            WindowFunc::Count => Out::Float((floats.len() + histograms.len()) as f64),
            WindowFunc::First => match (floats.times.first(), histograms.times.first()) {
                (Some(f), Some(h)) if h <= f => histogram(histograms.values[0]),
                (Some(_), _) => Out::Float(floats.values[0]),
                (None, Some(_)) => histogram(histograms.values[0]),
                (None, None) => Out::Absent,
            },
            WindowFunc::Last => match (floats.times.last(), histograms.times.last()) {
                (Some(f), h) if h.is_none_or(|h| h < f) => Out::Float(floats.values[floats.len() - 1]),
                (_, Some(_)) => histogram(histograms.values[histograms.len() - 1]),
                _ => Out::Absent,
            },
            WindowFunc::TimeOfFirst => {
                let first = floats.times.first().into_iter().chain(histograms.times.first()).min();
                first.map_or(Out::Absent, |time| Out::Float(seconds(*time)))
            }
            WindowFunc::TimeOfLast => {
                let last = floats.times.last().into_iter().chain(histograms.times.last()).max();
                last.map_or(Out::Absent, |time| Out::Float(seconds(*time)))
            }
            WindowFunc::Sum | WindowFunc::Avg => self.sum_or_average(call, window),
            WindowFunc::Deriv | WindowFunc::PredictLinear | WindowFunc::Smoothing => {
                self.trend(call, window)?
            }
            _ if floats.is_empty() => Out::Absent,
            _ => {
                if call.func == WindowFunc::Quantile {
                    let q = call.params[0];
                    if !(0.0..=1.0).contains(&q) {
                        self.note(|notes| notes.invalid_quantile(q, call.first_at));
                    }
                }
                if !histograms.is_empty() {
                    // The first argument is where Prometheus points, whichever it is.
                    self.note(|notes| notes.ignored_in_mixed_range(call.name(), call.first_at));
                }
                Out::Float(float_value(call, floats))
            }
        })
    }

    fn sum_or_average(&self, call: &WindowCall<'_>, window: &Window<'_>) -> Out {
        let (floats, histograms) = (&window.floats, &window.histograms);
        let averages = call.func == WindowFunc::Avg;
        if !floats.is_empty() && !histograms.is_empty() {
            self.note(|notes| notes.mixed_floats_histograms(call.name(), call.at));
            return Out::Absent;
        }
        if histograms.is_empty() {
            let (first, rest) = (floats.values[0], &floats.values[1..]);
            if averages {
                let mut mean = Mean::new(first);
                rest.iter().for_each(|value| mean.add(*value));
                return Out::Float(mean.total());
            }
            let mut sum = Kahan::default();
            floats.values.iter().for_each(|value| sum.add(*value));
            return Out::Float(if sum.sum.is_infinite() { sum.sum } else { sum.total() });
        }
        match self.combine_histograms_of_window(call, histograms.values, averages) {
            Ok(total) => Out::Histogram(Arc::new(total)),
            Err(Mismatch) => {
                self.note(|notes| notes.mixed_exponential_custom(call.name(), call.at));
                Out::Absent
            }
        }
    }

    fn combine_histograms_of_window(
        &self,
        call: &WindowCall<'_>,
        histograms: &[HistogramRow<'_>],
        averages: bool,
    ) -> Result<FloatHistogram, Mismatch> {
        let has = |hint: CounterResetHint| histograms.iter().any(|h| h.hint == hint);
        let mut sum = Sparse::<Kahan>::new(histograms[0].view());
        let mut mean = None;
        let mut reconciled = false;
        for (index, histogram) in histograms.iter().enumerate().skip(1) {
            reconciled |= if averages {
                super::aggregate::average_in(&mut sum, &mut mean, histogram.view(), (index + 1) as f64)?
            } else {
                sum.add(histogram.view())?.bounds_reconciled
            };
        }
        if has(CounterResetHint::Reset) && has(CounterResetHint::NotReset) {
            self.note(|notes| notes.reset_collision(Operation::Aggregation, call.at));
        }
        if reconciled {
            self.note(|notes| notes.bounds_reconciled(Operation::Aggregation, call.at));
        }
        if let Some(mean) = mean {
            return Ok(mean.finish());
        }
        if averages {
            let count = histograms.len() as f64;
            sum.map(|amount| amount / count);
        }
        Ok(sum.finish())
    }

    /// `deriv`, `predict_linear`, `double_exponential_smoothing`: they need two floats.
    fn trend(&self, call: &WindowCall<'_>, window: &Window<'_>) -> Result<Out, EvalError> {
        let floats = &window.floats;
        if call.func == WindowFunc::Smoothing {
            let [smoothing, trend] = call.params;
            if !is_factor(smoothing) && !smoothing.is_nan() {
                return Err(EvalError::execution(format!(
                    "invalid smoothing factor. Expected: 0 < sf < 1, got: {}",
                    number::format_float_f(smoothing)
                )));
            }
            if !is_factor(trend) && !trend.is_nan() {
                return Err(EvalError::execution(format!(
                    "invalid trend factor. Expected: 0 < tf < 1, got: {}",
                    number::format_float_f(trend)
                )));
            }
        }
        if !window.histograms.is_empty() && !floats.is_empty() {
            self.note(|notes| notes.ignored_in_mixed_range(call.name(), call.first_at));
        }
        if floats.len() < 2 {
            return Ok(Out::Absent);
        }
        Ok(Out::Float(match call.func {
            WindowFunc::Deriv => linear_regression(floats, floats.times[0]).0,
            WindowFunc::PredictLinear => {
                let (slope, intercept) = linear_regression(floats, window.time);
                slope * call.params[0] + intercept
            }
            _ => double_exponential_smoothing(floats.values, call.params[0], call.params[1]),
        }))
    }

    /// `changes` and `resets`.
    fn count_transitions(&self, call: &WindowCall<'_>, window: &Window<'_>) -> Out {
        let Some((first_float, first_histogram)) = first_samples(call, window) else { return Out::Absent };
        let (floats, histograms) = (&window.floats, &window.histograms);
        let (mut f, mut h) = (first_float, first_histogram);
        let mut before: Option<(i64, i64, Value<'_>)> = None;
        let mut count = 0_u64;
        loop {
            let take_float = match (floats.times.get(f), histograms.times.get(h)) {
                (Some(a), Some(b)) => a < b,
                (Some(_), None) => true,
                (None, Some(_)) => false,
                (None, None) => break,
            };
            let now = if take_float {
                f += 1;
                (floats.times[f - 1], floats.start(f - 1), Value::Float(floats.values[f - 1]))
            } else {
                h += 1;
                (histograms.times[h - 1], histograms.start(h - 1), Value::Histogram(histograms.values[h - 1]))
            };
            if let Some((time, start, value)) = &before {
                let restarted = || super::rate::is_restart(*start, *time, now.1, now.0);
                let counts = match (value, &now.2, call.func) {
                    (Value::Float(a), Value::Float(b), WindowFunc::Changes) => {
                        a != b && !(a.is_nan() && b.is_nan())
                    }
                    (Value::Float(a), Value::Float(b), _) => b < a || restarted(),
                    (Value::Histogram(a), Value::Histogram(b), WindowFunc::Changes) => {
                        !histogram::same(b.view(), a.view())
                    }
                    (Value::Histogram(a), Value::Histogram(b), _) => restarted() || is_reset(*b, *a),
                    _ => true,
                };
                count += u64::from(counts);
            }
            before = Some(now);
        }
        Out::Float(count as f64)
    }
}

/// What so many of the first histograms count together, see [`histogram::sample_size`].
pub(crate) fn running_sizes(histograms: &[HistogramRow<'_>]) -> Vec<u64> {
    let mut sum = 0;
    let sums = histograms.iter().map(|row| {
        sum += layout_size(row.layout);
        sum
    });
    std::iter::once(0).chain(sums).collect()
}

enum Value<'s> {
    Float(f64),
    Histogram(HistogramRow<'s>),
}

/// The first float and histogram that count. In an anchored window, that is the newest sample at or before its
/// start and everything later; `None` if nothing is later.
fn first_samples(call: &WindowCall<'_>, window: &Window<'_>) -> Option<(usize, usize)> {
    if call.mode != RangeMode::Anchored {
        return Some((0, 0));
    }
    let (floats, histograms) = (window.floats.times, window.histograms.times);
    let f = floats.partition_point(|time| *time <= window.start);
    let h = histograms.partition_point(|time| *time <= window.start);
    if f == floats.len() && h == histograms.len() {
        return None;
    }
    Some(match (f.checked_sub(1), h.checked_sub(1)) {
        (Some(a), Some(b)) if floats[a] < histograms[b] => (f, b),
        (Some(a), _) => (a, h),
        (None, Some(b)) => (f, b),
        (None, None) => (0, 0),
    })
}

/// The histograms of a track as samples again. What is known of counter resets does not hold for them.
pub(crate) fn track_histograms(track: &Track, grid: &Grid) -> HistogramColumn {
    let mut column = HistogramColumn::default();
    if track.histograms.is_empty() {
        return column;
    }
    for step in 0..grid.steps {
        let Cell::Histogram(histogram) = track.get(step) else { continue };
        let view = histogram.view();
        let counter_reset_hint = match view.counter_reset_hint {
            CounterResetHint::Reset | CounterResetHint::NotReset => CounterResetHint::Unknown,
            hint => hint,
        };
        column.push(step as u32, HistogramView { counter_reset_hint, ..view });
    }
    column
}

/// A track as samples again, with [`track_histograms`].
pub(crate) fn track_columns<'c>(track: &Track, histograms: &'c HistogramColumn, grid: &Grid) -> Columns<'c> {
    let mut columns = Columns::default();
    for (step, value) in track.floats.iter().enumerate().take(grid.steps) {
        if is_float(*value) {
            columns.floats.times.push(grid.time(step));
            columns.floats.values.push(*value);
        }
    }
    for (step, row) in histograms.rows() {
        columns.histograms.times.push(grid.time(step as usize));
        columns.histograms.values.push(row);
    }
    columns
}
