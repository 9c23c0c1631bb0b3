//! Series on a grid: one cell per step.

use super::meter::{Held, Meter};
use crate::engine::EvalError;
use crate::histogram::sample_size;
use model::{FloatHistogram, Labels, STALE_NAN_BITS};
use std::sync::Arc;

/// Marks a step without a value. Stale markers are never values, so their bits are free to mean this.
pub(crate) const ABSENT: f64 = f64::from_bits(STALE_NAN_BITS);

/// Marks a step whose value is a histogram.
pub(crate) const HISTOGRAM: f64 = f64::from_bits(STALE_NAN_BITS | 1);

/// Whether a cell's float is a float and not a mark.
#[inline]
pub(crate) fn is_float(value: f64) -> bool {
    value.to_bits() | 1 != STALE_NAN_BITS | 1
}

/// Whether a step has a value.
#[inline]
pub(crate) fn is_present(value: f64) -> bool {
    value.to_bits() != STALE_NAN_BITS
}

/// What a series has at one step.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Cell<'t> {
    Absent,
    Float(f64),
    Histogram(&'t Arc<FloatHistogram>),
}

/// What an operation yields for one step.
#[derive(Clone, Debug)]
pub(crate) enum Out {
    Absent,
    Float(f64),
    Histogram(Arc<FloatHistogram>),
}

impl From<Cell<'_>> for Out {
    fn from(cell: Cell<'_>) -> Out {
        match cell {
            Cell::Absent => Out::Absent,
            Cell::Float(value) => Out::Float(value),
            Cell::Histogram(histogram) => Out::Histogram(Arc::clone(histogram)),
        }
    }
}

/// One series on a grid.
#[derive(Clone, Debug)]
pub(crate) struct Track {
    pub(crate) labels: Labels,
    /// Whether the metric name goes at the end of the query.
    pub(crate) drop_name: bool,
    /// A float, [`ABSENT`] or [`HISTOGRAM`] for each step.
    pub(crate) floats: Vec<f64>,
    /// Empty if there is no histogram, else as long as `floats`.
    pub(crate) histograms: Vec<Option<Arc<FloatHistogram>>>,
}

impl Track {
    /// A series without values.
    pub(crate) fn empty(labels: Labels, steps: usize) -> Track {
        Track { labels, drop_name: false, floats: vec![ABSENT; steps], histograms: Vec::new() }
    }

    /// A series of floats.
    pub(crate) fn of_floats(labels: Labels, floats: Vec<f64>) -> Track {
        Track { labels, drop_name: false, floats, histograms: Vec::new() }
    }

    #[inline]
    pub(crate) fn get(&self, step: usize) -> Cell<'_> {
        let value = self.floats[step];
        if is_float(value) {
            return Cell::Float(value);
        }
        match self.histograms.get(step) {
            Some(Some(histogram)) if is_present(value) => Cell::Histogram(histogram),
            _ => Cell::Absent,
        }
    }

    pub(crate) fn set(&mut self, step: usize, out: Out) {
        match out {
            Out::Absent => self.floats[step] = ABSENT,
            Out::Float(value) => self.floats[step] = value,
            Out::Histogram(histogram) => self.set_histogram(step, histogram),
        }
    }

    pub(crate) fn set_histogram(&mut self, step: usize, histogram: Arc<FloatHistogram>) {
        if self.histograms.is_empty() {
            self.histograms.resize(self.floats.len(), None);
        }
        self.floats[step] = HISTOGRAM;
        self.histograms[step] = Some(histogram);
    }

    /// Whether some step has a value.
    pub(crate) fn has_points(&self) -> bool {
        self.floats.iter().any(|value| is_present(*value))
    }

    /// Points as the limit of samples counts them: a histogram weighs its size.
    pub(crate) fn points(&self) -> u64 {
        let floats = self.floats.iter().filter(|value| is_float(**value)).count() as u64;
        let histograms: u64 = self.histograms.iter().flatten().map(|h| sample_size(h)).sum();
        floats + histograms
    }

    /// Bytes that it takes in memory, as the budget counts them.
    pub(crate) fn bytes(&self) -> u64 {
        let histograms: u64 = self.histograms.iter().flatten().map(|h| sample_size(h) * 16).sum();
        (self.floats.len() * 8 + self.histograms.len() * 8) as u64 + histograms + 128
    }

    /// Changes every float.
    #[inline]
    pub(crate) fn map(&mut self, change: impl Fn(f64) -> f64) {
        for value in self.floats.iter_mut().filter(|value| is_float(**value)) {
            *value = change(*value);
        }
    }

    /// Changes every histogram; those that become `None` go.
    pub(crate) fn map_histograms(&mut self, change: impl Fn(&FloatHistogram) -> Option<FloatHistogram>) {
        for (step, slot) in self.histograms.iter_mut().enumerate() {
            if let Some(histogram) = slot {
                match change(histogram) {
                    Some(new) => *histogram = Arc::new(new),
                    None => {
                        *slot = None;
                        if !is_float(self.floats[step]) {
                            self.floats[step] = ABSENT;
                        }
                    }
                }
            }
        }
    }

    /// Removes histograms.
    pub(crate) fn keep_floats(&mut self) {
        if !self.histograms.is_empty() {
            self.histograms = Vec::new();
            self.floats.iter_mut().filter(|value| !is_float(**value)).for_each(|value| *value = ABSENT);
        }
    }

    /// Repeats the only step.
    pub(crate) fn spread(&mut self, steps: usize) {
        let value = self.floats.first().copied().unwrap_or(ABSENT);
        self.floats = vec![value; steps];
        if let Some(histogram) = self.histograms.first().cloned() {
            self.histograms = vec![histogram; steps];
        }
    }

    /// Takes the other's values where this has none; fails if both have one at a step.
    pub(crate) fn join(&mut self, other: Track, steps: usize) -> Result<(), ()> {
        for step in 0..steps {
            match other.get(step) {
                Cell::Absent => {}
                _ if is_present(self.floats[step]) => return Err(()),
                cell => self.set(step, cell.into()),
            }
        }
        Ok(())
    }
}

/// Series on one grid, and their share of the limits.
pub(crate) struct Matrix<'a> {
    pub(crate) tracks: Vec<Track>,
    pub(crate) held: Held<'a>,
}

impl<'a> Matrix<'a> {
    pub(crate) fn new(meter: &'a Meter<'a>) -> Matrix<'a> {
        Matrix { tracks: Vec::new(), held: Held::new(meter) }
    }

    pub(crate) fn push(&mut self, track: Track) -> Result<(), EvalError> {
        self.held.take(track.bytes())?;
        self.held.hold(track.points())?;
        self.tracks.push(track);
        Ok(())
    }

    /// Takes a track if it has a value.
    pub(crate) fn push_if_any(&mut self, track: Track) -> Result<(), EvalError> {
        if track.has_points() { self.push(track) } else { Ok(()) }
    }
}
