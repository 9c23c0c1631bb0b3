//! Samples of one series as a window function sees them: floats and histograms in columns of their own, without
//! stale markers.

use crate::histogram::is_reset;
use model::{CounterResetHint, HistogramColumn, HistogramLayout, HistogramRow, Samples, is_stale_nan};
use std::sync::Arc;

/// Samples of one kind.
#[derive(Clone, Debug)]
pub(crate) struct Points<T> {
    pub(crate) times: Vec<i64>,
    pub(crate) values: Vec<T>,
    /// Start times, 0 where unknown; empty if none is known or wanted.
    pub(crate) starts: Vec<i64>,
}

impl<T> Default for Points<T> {
    fn default() -> Points<T> {
        Points { times: Vec::new(), values: Vec::new(), starts: Vec::new() }
    }
}

/// A part of [`Points`].
#[derive(Debug)]
pub(crate) struct Slice<'s, T> {
    pub(crate) times: &'s [i64],
    pub(crate) values: &'s [T],
    pub(crate) starts: &'s [i64],
}

impl<T> Clone for Slice<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Slice<'_, T> {}

impl<'s, T> Slice<'s, T> {
    pub(crate) fn len(&self) -> usize {
        self.times.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.times.is_empty()
    }

    /// Start time of a sample, 0 if unknown.
    pub(crate) fn start(&self, index: usize) -> i64 {
        self.starts.get(index).copied().unwrap_or(0)
    }

    pub(crate) fn part(&self, range: std::ops::Range<usize>) -> Slice<'s, T> {
        Slice {
            times: &self.times[range.clone()],
            values: &self.values[range.clone()],
            starts: if self.starts.is_empty() { &[] } else { &self.starts[range] },
        }
    }
}

impl<T> Points<T> {
    pub(crate) fn all(&self) -> Slice<'_, T> {
        Slice { times: &self.times, values: &self.values, starts: &self.starts }
    }
}

/// The samples of a series. The histograms lie elsewhere: these are their rows.
#[derive(Clone, Debug, Default)]
pub(crate) struct Columns<'c> {
    pub(crate) floats: Points<f64>,
    pub(crate) histograms: Points<HistogramRow<'c>>,
}

impl<'c> Columns<'c> {
    /// Takes the samples apart. Start times are kept if `with_starts`.
    pub(crate) fn new(samples: Samples, histograms: &'c HistogramColumn, with_starts: bool) -> Columns<'c> {
        let Samples { timestamps, floats, histograms: _, start_timestamps } = samples;
        let starts = if with_starts { start_timestamps } else { Vec::new() };
        if histograms.is_empty() && !has_stale(&floats) {
            let floats = Points { times: timestamps, values: floats, starts };
            return Columns { floats, histograms: Points::default() };
        }
        let mut columns = Columns::default();
        columns.histograms.times.reserve(histograms.len());
        columns.histograms.values.reserve(histograms.len());
        let mut next = histograms.rows().peekable();
        for (index, (time, value)) in timestamps.iter().zip(&floats).enumerate() {
            let start = starts.get(index).copied();
            if let Some((_, histogram)) = next.next_if(|(position, _)| *position as usize == index) {
                if !is_stale(histogram) {
                    columns.histograms.times.push(*time);
                    columns.histograms.values.push(histogram);
                    columns.histograms.starts.extend(start);
                }
            } else if !is_stale_nan(*value) {
                columns.floats.times.push(*time);
                columns.floats.values.push(*value);
                columns.floats.starts.extend(start);
            }
        }
        columns
    }
}

/// Whether a histogram is a stale marker.
pub(crate) fn is_stale(histogram: HistogramRow<'_>) -> bool {
    is_stale_nan(histogram.amounts[HistogramLayout::SUM])
}

/// Whether there is a stale marker. Looks at chunks without a branch for each sample.
fn has_stale(floats: &[f64]) -> bool {
    floats.chunks(256).any(|chunk| chunk.iter().fold(false, |any, value| any | is_stale_nan(*value)))
}

/// Leaves of each histogram only what functions of count and sum need. Counter resets are detected before the
/// buckets go, and told by the hint.
pub(crate) fn reduce_to_stats(histograms: &HistogramColumn) -> HistogramColumn {
    let mut stats = HistogramColumn::default();
    let mut before: Option<(u32, HistogramRow<'_>)> = None;
    let mut layout = Arc::new(HistogramLayout::default());
    for (position, row) in histograms.rows() {
        let follows = before.filter(|(last, _)| last + 1 == position);
        let hint = match (row.hint, follows) {
            (CounterResetHint::Unknown, Some((_, before))) if is_reset(row, before) => {
                CounterResetHint::Reset
            }
            (CounterResetHint::Unknown, Some(_)) => CounterResetHint::NotReset,
            (hint, _) => hint,
        };
        if layout.schema != row.layout.schema {
            layout = Arc::new(HistogramLayout { schema: row.layout.schema, ..HistogramLayout::default() });
        }
        let amounts = stats.grow(&layout, [(position, hint)]);
        amounts[HistogramLayout::COUNT] = row.amounts[HistogramLayout::COUNT];
        amounts[HistogramLayout::SUM] = row.amounts[HistogramLayout::SUM];
        before = Some((position, row));
    }
    stats
}
