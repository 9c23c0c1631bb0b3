//! Open windows: the rows of one source in one two-hour partition, not sealed yet, readable all the time.

use super::cells::{NewCells, RowCells};
use model::TimestampMs;
use std::sync::Arc;

/// A window closes at so many rows.
pub(crate) const ROWS_MAX: usize = 64;
/// Windows and chunks never cross a multiple of this, in milliseconds: two hours.
pub(crate) const PARTITION_MS: i64 = 7_200_000;

/// The start of the partition that holds `timestamp`.
pub(crate) fn partition_of(timestamp: TimestampMs) -> i64 {
    timestamp.0.div_euclid(PARTITION_MS).saturating_mul(PARTITION_MS)
}

/// One row.
#[derive(Clone, Debug)]
pub(crate) struct OpenRow {
    pub timestamp: TimestampMs,
    pub cells: Arc<RowCells>,
}

/// Rows of one partition, ascending, each timestamp once.
#[derive(Clone, Debug)]
pub(crate) struct Window {
    pub partition: i64,
    /// Opened when a later partition had rows already: holds late samples, closes only when full or when a
    /// checkpoint names it.
    pub late: bool,
    pub rows: Vec<OpenRow>,
}

impl Window {
    /// Where a row with this timestamp is, or would be.
    pub(crate) fn position(&self, timestamp: TimestampMs) -> Result<usize, usize> {
        match self.rows.last() {
            Some(last) if last.timestamp < timestamp => Err(self.rows.len()),
            _ => self.rows.binary_search_by_key(&timestamp, |row| row.timestamp),
        }
    }

    /// Stores cells under a timestamp; those that are there already keep their value.
    pub(crate) fn store(&mut self, timestamp: TimestampMs, cells: NewCells, width: usize) {
        match self.position(timestamp) {
            Ok(at) => Arc::make_mut(&mut self.rows[at].cells).merge(cells, width),
            Err(at) => {
                let cells = Arc::new(RowCells::of(cells, width));
                self.rows.insert(at, OpenRow { timestamp, cells });
            }
        }
    }

    /// The rows from `start` to `end`, both included.
    pub(crate) fn between(&self, start: TimestampMs, end: TimestampMs) -> &[OpenRow] {
        let from = self.rows.partition_point(|row| row.timestamp < start);
        let to = self.rows.partition_point(|row| row.timestamp <= end);
        self.rows.get(from..to).unwrap_or_default()
    }

    /// First and last timestamp.
    pub(crate) fn bounds(&self) -> Option<(TimestampMs, TimestampMs)> {
        Some((self.rows.first()?.timestamp, self.rows.last()?.timestamp))
    }

    /// Bytes on the heap.
    pub(crate) fn bytes(&self) -> usize {
        self.rows.iter().map(|row| row.cells.bytes() + 96).sum()
    }
}
