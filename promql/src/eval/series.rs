//! Samples of one series as a window function sees them: floats and histograms in columns of their own, without
//! stale markers.

use crate::histogram::detect_reset;
use model::{CounterResetHint, FloatHistogram, Samples, is_stale_nan};
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

/// The samples of a series.
#[derive(Clone, Debug, Default)]
pub(crate) struct Columns {
    pub(crate) floats: Points<f64>,
    pub(crate) histograms: Points<Arc<FloatHistogram>>,
}

impl Columns {
    /// Takes the samples apart. Start times are kept if `with_starts`.
    pub(crate) fn new(samples: Samples, with_starts: bool) -> Columns {
        let Samples { timestamps, floats, histograms, start_timestamps } = samples;
        let starts = if with_starts { start_timestamps } else { Vec::new() };
        if histograms.is_empty() && !has_stale(&floats) {
            let floats = Points { times: timestamps, values: floats, starts };
            return Columns { floats, histograms: Points::default() };
        }
        let mut columns = Columns::default();
        let mut next = histograms.into_iter().peekable();
        for (index, (time, value)) in timestamps.iter().zip(&floats).enumerate() {
            let start = starts.get(index).copied();
            if let Some((_, histogram)) = next.next_if(|(position, _)| *position as usize == index) {
                if !is_stale_nan(histogram.sum) {
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

/// Whether there is a stale marker. Looks at chunks without a branch for each sample.
fn has_stale(floats: &[f64]) -> bool {
    floats.chunks(256).any(|chunk| chunk.iter().fold(false, |any, value| any | is_stale_nan(*value)))
}

/// Leaves of each histogram only what functions of count and sum need. Counter resets are detected before the
/// buckets go, and told by the hint.
pub(crate) fn reduce_to_stats(samples: &mut Samples) {
    let mut before: Option<Arc<FloatHistogram>> = None;
    let mut last_position = None;
    for (position, slot) in &mut samples.histograms {
        let histogram = Arc::clone(slot);
        let follows = last_position.is_some_and(|last: u32| last + 1 == *position);
        let hint = match (histogram.counter_reset_hint, before.as_ref().filter(|_| follows)) {
            (CounterResetHint::Unknown, Some(before)) if detect_reset(&histogram, before) => {
                CounterResetHint::Reset
            }
            (CounterResetHint::Unknown, Some(_)) => CounterResetHint::NotReset,
            (hint, _) => hint,
        };
        *slot = Arc::new(FloatHistogram {
            counter_reset_hint: hint,
            schema: histogram.schema,
            count: histogram.count,
            sum: histogram.sum,
            ..FloatHistogram::default()
        });
        last_position = Some(*position);
        before = Some(histogram);
    }
}
