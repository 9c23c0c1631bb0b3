//! Rows: what a source yields at one timestamp.

use crate::{Labels, SourceKey, TimestampMs, Value};
use std::sync::{Arc, RwLock};

/// A position in a [`SeriesTable`].
pub type SlotId = u32;

/// The series that one producer has seen of one source, append-only: a row names its series by their slots, so
/// that a steady scrape carries no labels. A producer that wants to forget series starts a new table.
#[derive(Debug)]
pub struct SeriesTable {
    /// Tells tables of one process apart, so that a reader may cache by (identity, length).
    identity: u64,
    series: RwLock<Vec<Labels>>,
}

impl SeriesTable {
    /// An empty table. `identity` must be unique in the process.
    #[must_use]
    pub fn new(identity: u64) -> SeriesTable {
        SeriesTable { identity, series: RwLock::new(Vec::new()) }
    }

    /// What tells this table from others of the process.
    #[must_use]
    pub fn identity(&self) -> u64 {
        self.identity
    }

    /// Adds a series and returns its slot.
    pub fn push(&self, labels: Labels) -> SlotId {
        let mut series = self.series.write().expect("no writer panics");
        series.push(labels);
        SlotId::try_from(series.len() - 1).expect("a source has fewer than 2^32 series")
    }

    /// Number of series.
    #[must_use]
    pub fn len(&self) -> usize {
        self.series.read().expect("no writer panics").len()
    }

    /// Whether it has no series.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The labels from slot `from` on; cheap clones.
    #[must_use]
    pub fn labels_from(&self, from: usize) -> Vec<Labels> {
        self.series.read().expect("no writer panics").get(from..).unwrap_or_default().to_vec()
    }

    /// The labels of some slots, which exist; cheap clones.
    ///
    /// # Panics
    /// If one does not.
    #[must_use]
    pub fn labels_of(&self, slots: &[SlotId]) -> Vec<Labels> {
        let series = self.series.read().expect("no writer panics");
        slots.iter().map(|slot| series[*slot as usize].clone()).collect()
    }

    /// The labels of one slot.
    #[must_use]
    pub fn get(&self, slot: SlotId) -> Option<Labels> {
        self.series.read().expect("no writer panics").get(slot as usize).cloned()
    }
}

/// What a row says about the series that it does not contain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowKind {
    /// The row is everything the source had in this slot: what was in the whole row before and is missing here has
    /// ended, and apply writes its stale marker. A second whole row of one slot is refused.
    Whole {
        /// The scheduled time of the scrape or evaluation.
        slot: TimestampMs,
    },
    /// The row is a part: absence says nothing (remote write, samples with timestamps of their own).
    Partial,
}

/// The values of one source at one timestamp.
#[derive(Clone, Debug)]
pub struct Row {
    /// Whose values.
    pub source: Arc<SourceKey>,
    /// Whole or partial.
    pub kind: RowKind,
    /// The samples' timestamp.
    pub timestamp: TimestampMs,
    /// The labels that the cells' slots mean.
    pub table: Arc<SeriesTable>,
    /// Values by slot, each slot at most once, in any order (fastest when it is the order of the row before).
    pub cells: Vec<(SlotId, Value)>,
}
