//! Series on a grid: one cell per step.

use super::meter::{Held, Meter};
use crate::engine::EvalError;
use crate::histogram::{layout_size, sample_size};
use model::{FloatHistogram, HistogramColumn, HistogramRow, HistogramView, Labels, STALE_NAN_BITS};
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
    Histogram(HistogramCell<'t>),
}

/// A histogram of a track.
#[derive(Clone, Copy, Debug)]
pub(crate) enum HistogramCell<'t> {
    Shared(&'t Arc<FloatHistogram>),
    Row(HistogramRow<'t>),
}

impl<'t> HistogramCell<'t> {
    #[inline]
    pub(crate) fn view(self) -> HistogramView<'t> {
        match self {
            HistogramCell::Shared(histogram) => histogram.view(),
            HistogramCell::Row(row) => row.view(),
        }
    }

    /// A histogram to keep.
    pub(crate) fn to_shared(self) -> Arc<FloatHistogram> {
        match self {
            HistogramCell::Shared(histogram) => Arc::clone(histogram),
            HistogramCell::Row(row) => Arc::new(row.view().to_float()),
        }
    }
}

/// The histograms of a track.
#[derive(Clone, Debug, Default)]
pub(crate) enum Histograms {
    #[default]
    None,
    /// One for each step that has one; as long as the track.
    Each(Vec<Option<Arc<FloatHistogram>>>),
    /// By step, as selectors and rates give them.
    Column(HistogramColumn),
}

impl Histograms {
    pub(crate) fn is_empty(&self) -> bool {
        matches!(self, Histograms::None)
    }

    /// What stands at a step.
    #[inline]
    pub(crate) fn get(&self, step: usize) -> Option<HistogramCell<'_>> {
        match self {
            Histograms::None => None,
            Histograms::Each(all) => all.get(step)?.as_ref().map(HistogramCell::Shared),
            Histograms::Column(column) => {
                column.find(step as u32).map(|index| HistogramCell::Row(column.row(index)))
            }
        }
    }

    /// Whether there is any.
    pub(crate) fn has_any(&self) -> bool {
        match self {
            Histograms::None => false,
            Histograms::Each(all) => all.iter().any(Option::is_some),
            Histograms::Column(column) => !column.is_empty(),
        }
    }

    /// Their sizes together, see [`sample_size`].
    fn sizes(&self) -> u64 {
        match self {
            Histograms::None => 0,
            Histograms::Each(all) => all.iter().flatten().map(|h| sample_size(h.view())).sum(),
            Histograms::Column(column) => {
                column.runs().map(|(run, layout)| run.len() as u64 * layout_size(layout)).sum()
            }
        }
    }

    /// One by one, for so many steps.
    fn each(&mut self, steps: usize) -> &mut Vec<Option<Arc<FloatHistogram>>> {
        if !matches!(self, Histograms::Each(_)) {
            let mut each = vec![None; steps];
            if let Histograms::Column(column) = &*self {
                for (step, histogram) in column.iter() {
                    each[step as usize] = Some(Arc::new(histogram.to_float()));
                }
            }
            *self = Histograms::Each(each);
        }
        match self {
            Histograms::Each(each) => each,
            Histograms::None | Histograms::Column(_) => unreachable!("it was made so"),
        }
    }
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
            Cell::Histogram(histogram) => Out::Histogram(histogram.to_shared()),
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
    /// Only those that `floats` marks count.
    pub(crate) histograms: Histograms,
}

impl Track {
    /// A series without values.
    pub(crate) fn empty(labels: Labels, steps: usize) -> Track {
        Track { labels, drop_name: false, floats: vec![ABSENT; steps], histograms: Histograms::None }
    }

    /// A series of floats.
    pub(crate) fn of_floats(labels: Labels, floats: Vec<f64>) -> Track {
        Track { labels, drop_name: false, floats, histograms: Histograms::None }
    }

    #[inline]
    pub(crate) fn get(&self, step: usize) -> Cell<'_> {
        let value = self.floats[step];
        if is_float(value) {
            return Cell::Float(value);
        }
        if !is_present(value) {
            return Cell::Absent;
        }
        self.histograms.get(step).map_or(Cell::Absent, Cell::Histogram)
    }

    pub(crate) fn set(&mut self, step: usize, out: Out) {
        match out {
            Out::Absent => self.floats[step] = ABSENT,
            Out::Float(value) => self.floats[step] = value,
            Out::Histogram(histogram) => self.set_histogram(step, histogram),
        }
    }

    pub(crate) fn set_histogram(&mut self, step: usize, histogram: Arc<FloatHistogram>) {
        self.histograms.each(self.floats.len())[step] = Some(histogram);
        self.floats[step] = HISTOGRAM;
    }

    /// Whether some step has a value.
    pub(crate) fn has_points(&self) -> bool {
        self.floats.iter().any(|value| is_present(*value))
    }

    /// Points as the limit of samples counts them: a histogram weighs its size.
    pub(crate) fn points(&self) -> u64 {
        let floats = self.floats.iter().filter(|value| is_float(**value)).count() as u64;
        floats + self.histograms.sizes()
    }

    /// Bytes that it takes in memory, as the budget counts them.
    pub(crate) fn bytes(&self) -> u64 {
        let histograms = match &self.histograms {
            Histograms::None => 0,
            Histograms::Each(each) => each.len() as u64 * 8 + self.histograms.sizes() * 16,
            Histograms::Column(column) => column.bytes(),
        };
        self.floats.len() as u64 * 8 + histograms + 128
    }

    /// Changes every float.
    #[inline]
    pub(crate) fn map(&mut self, change: impl Fn(f64) -> f64) {
        for value in self.floats.iter_mut().filter(|value| is_float(**value)) {
            *value = change(*value);
        }
    }

    /// Changes every histogram; those that become `None` go.
    pub(crate) fn map_histograms(&mut self, change: impl Fn(HistogramView<'_>) -> Option<FloatHistogram>) {
        if self.histograms.is_empty() {
            return;
        }
        for (step, slot) in self.histograms.each(self.floats.len()).iter_mut().enumerate() {
            if let Some(histogram) = slot {
                match change(histogram.view()) {
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
            self.histograms = Histograms::None;
            self.floats.iter_mut().filter(|value| !is_float(**value)).for_each(|value| *value = ABSENT);
        }
    }

    /// Repeats the only step.
    pub(crate) fn spread(&mut self, steps: usize) {
        let value = self.floats.first().copied().unwrap_or(ABSENT);
        self.floats = vec![value; steps];
        if let Some(histogram) = self.histograms.get(0).map(HistogramCell::to_shared) {
            self.histograms = Histograms::Each(vec![Some(histogram); steps]);
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
