//! What a source has stored at a timestamp already: the question behind order and duplicates.

use super::{
    cache::{ChunkCache, ReadError, damaged},
    cells::histogram_bits,
    chunk::{Column, GROUP},
    source::Source,
};
use crate::kv::KvRead;
use model::{StateError, TimestampMs};

/// Where a timestamp lies in a series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Position {
    /// Behind everything the series has.
    Newest,
    /// The series has a sample there, in an open window, with these bits.
    Stored(u64),
    /// The series has something newer, and nothing at the timestamp in an open window.
    Older {
        /// A chunk may have the sample.
        maybe_sealed: bool,
    },
}

/// Places a timestamp in a column's samples.
pub(crate) fn position(source: &Source, column: u32, timestamp: TimestampMs) -> Position {
    let mut newer = false;
    for row in source.windows.iter().rev().flat_map(|window| window.rows.iter().rev()) {
        if row.timestamp < timestamp {
            break;
        }
        if let Some(cell) = row.cells.get(column) {
            if row.timestamp == timestamp {
                return Position::Stored(cell.bits());
            }
            newer = true;
        }
    }
    let maybe_sealed = source.columns.sealed_last[column as usize] >= timestamp.0;
    if newer || maybe_sealed { Position::Older { maybe_sealed } } else { Position::Newest }
}

/// The bits of the sample that a column has at a timestamp in some chunk.
pub(crate) fn sealed_bits(
    source: &Source,
    column: u32,
    timestamp: TimestampMs,
    kv: &dyn KvRead,
    cache: &ChunkCache,
) -> Result<Option<u64>, ReadError> {
    let series = source.columns.series[column as usize];
    let covering = source.chunks.iter().filter(|c| c.first <= timestamp && timestamp <= c.last);
    for chunk in covering {
        let head = cache.head(kv, chunk)?;
        let (Ok(row), Some(at)) = (head.timestamps.binary_search(&timestamp.0), head.position(series)) else {
            continue;
        };
        let group = cache.group(kv, chunk, at / GROUP)?;
        let mut samples = Column::default();
        group
            .column(at % GROUP, head.timestamps.len(), &mut samples)
            .map_err(|cause| damaged(&chunk.name, cause))?;
        let row = row as u32;
        if let Ok(at) = samples.float_rows.binary_search(&row) {
            return Ok(Some(samples.floats[at].to_bits()));
        }
        if let Ok(at) = samples.histograms.binary_search_by_key(&row, |(row, _)| *row) {
            return Ok(Some(histogram_bits(&samples.histograms[at].1)));
        }
    }
    Ok(None)
}

/// A failed read stops the replica.
pub(crate) fn to_state_error(error: ReadError) -> StateError {
    match error {
        ReadError::Kv(error) => error.into(),
        ReadError::Damaged { .. } | ReadError::Missing { .. } => StateError::Corrupt(error.to_string()),
    }
}
