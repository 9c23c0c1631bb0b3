//! Selectors: from stored samples to one cell per step.

use super::{
    Evaluator, Grid, Sink,
    frames::advance,
    plan::{Node, Selector},
    series::{is_stale, reduce_to_stats},
    track::{HISTOGRAM, Histograms, Track},
};
use crate::ast::RangeMode;
use crate::engine::EvalError;
use crate::histogram::layout_size;
use model::{
    HistogramColumn, HistogramRow, Samples, SelectRequest, Series, SeriesSet, TimestampMs, is_stale_nan,
};

/// Walks through a series as the steps look at it. References may not go back.
pub(crate) struct Cursor<'s> {
    samples: &'s Samples,
    /// Samples up to here are at or before the last reference.
    next: usize,
    /// By how much the last step moved.
    stride: usize,
    lookback: i64,
}

impl<'s> Cursor<'s> {
    pub(crate) fn new(samples: &'s Samples, lookback: i64) -> Cursor<'s> {
        Cursor { samples, next: 0, stride: 0, lookback }
    }

    /// The position of the newest sample at or before `reference`, unless it is too old or a stale marker.
    #[inline]
    pub(crate) fn seek(&mut self, reference: i64) -> Option<usize> {
        let times = &self.samples.timestamps;
        let next = advance(times, self.next, reference, self.stride);
        self.stride = next - self.next;
        self.next = next;
        let position = self.next.checked_sub(1)?;
        if times[position] <= reference.saturating_sub(self.lookback)
            || is_stale_nan(self.samples.floats[position])
        {
            return None;
        }
        Some(position)
    }

    /// The histogram at a position, if it is one.
    pub(crate) fn histogram(&self, position: usize) -> Option<HistogramRow<'s>> {
        let histograms = &self.samples.histograms;
        histograms.find(position as u32).map(|index| histograms.row(index))
    }
}

/// What to ask for to have the samples in `(first - before, last + after]`.
pub(crate) fn request(selector: &Selector, grid: &Grid, before: i64, after: i64) -> SelectRequest {
    let first = selector.reference(grid.start);
    let last = selector.reference(grid.end());
    SelectRequest {
        matchers: selector.matchers.clone(),
        start: TimestampMs(first.saturating_sub(before).saturating_add(1)),
        end: TimestampMs(last.saturating_add(after)),
        with_samples: true,
        limit: 0,
    }
}

impl Evaluator<'_> {
    /// Hands every matching series with its samples in `(first - before, last + after]` to `each`.
    pub(crate) fn select(
        &self,
        selector: &Selector,
        grid: &Grid,
        before: i64,
        after: i64,
        mut each: impl FnMut(Series) -> Result<(), EvalError>,
    ) -> Result<(), EvalError> {
        let request = request(selector, grid, before, after);
        self.read_all(self.queryable.select(&request, self.budget)?, selector, &mut each)
    }

    /// Hands every series with samples to `each`.
    pub(crate) fn read_all(
        &self,
        set: SeriesSet<'_>,
        selector: &Selector,
        each: &mut dyn FnMut(Series) -> Result<(), EvalError>,
    ) -> Result<(), EvalError> {
        for series in set {
            self.check()?;
            let mut series = series?;
            if series.samples.is_empty() {
                continue;
            }
            if selector.stats_only && !series.samples.histograms.is_empty() {
                series.samples.histograms = reduce_to_stats(&series.samples.histograms);
            }
            each(series)?; // its samples are taken from the budget until the next series is asked for
        }
        Ok(())
    }

    pub(crate) fn stream_selector(
        &self,
        node: &Node,
        selector: &Selector,
        grid: &Grid,
        sink: Sink<'_>,
    ) -> Result<(), EvalError> {
        if selector.mode == RangeMode::Smoothed {
            return self.stream_smoothed(node, selector, grid, sink);
        }
        self.each_series(selector, grid, (self.lookback, 0), sink, &|evaluator, _, series| {
            let Series { labels, samples } = series;
            let mut track = Track::empty(labels, grid.steps);
            let mut cursor = Cursor::new(&samples, evaluator.lookback);
            let mut count = 0_u64;
            if samples.histograms.is_empty() {
                for step in 0..grid.steps {
                    if let Some(position) = cursor.seek(selector.reference(grid.time(step))) {
                        track.floats[step] = samples.floats[position];
                        count += 1;
                    }
                }
                evaluator.meter.count_present(&track.floats, count);
            } else {
                let mut column = HistogramColumn::default();
                for step in 0..grid.steps {
                    let Some(position) = cursor.seek(selector.reference(grid.time(step))) else { continue };
                    match cursor.histogram(position) {
                        None => {
                            track.floats[step] = samples.floats[position];
                            count += 1;
                            evaluator.meter.count_read(step, 1);
                        }
                        Some(histogram) if is_stale(histogram) => {}
                        Some(histogram) => {
                            count += 1;
                            evaluator.meter.count_read(step, layout_size(histogram.layout));
                            track.floats[step] = HISTOGRAM;
                            column.push_row(step as u32, histogram);
                        }
                    }
                }
                if !column.is_empty() {
                    track.histograms = Histograms::Column(column);
                }
            }
            Ok((count > 0).then_some(track))
        })
    }

    /// `timestamp` and `start_timestamp` of a selector: times of the samples themselves, seconds.
    pub(crate) fn stream_sample_times(
        &self,
        selector: &Selector,
        starts: bool,
        grid: &Grid,
        sink: Sink<'_>,
    ) -> Result<(), EvalError> {
        // With `@`, Prometheus leaves the offset out of account here.
        let offset = if selector.time.is_some() { 0 } else { selector.offset };
        let selector = Selector { offset, ..selector.clone() };
        if starts && !self.features.use_start_timestamps {
            return Ok(());
        }
        self.select(&selector, grid, self.lookback, 0, |series| {
            let Series { labels, samples } = series;
            let mut track = Track::empty(labels, grid.steps);
            let mut cursor = Cursor::new(&samples, self.lookback);
            let mut count = 0_u64;
            for step in 0..grid.steps {
                let Some(position) = cursor.seek(selector.reference(grid.time(step))) else { continue };
                if cursor.histogram(position).is_some_and(is_stale) {
                    continue;
                }
                let time = if starts {
                    samples.start_timestamps.get(position).copied().unwrap_or(0)
                } else {
                    samples.timestamps[position]
                };
                track.floats[step] = time as f64 / 1000.0;
                count += 1;
                self.meter.count_read(step, 1);
            }
            if count == 0 {
                return Ok(());
            }
            self.drop_name(&mut track);
            sink(track)
        })
    }
}
