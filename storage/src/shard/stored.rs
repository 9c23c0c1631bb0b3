//! What a source has stored at a timestamp already: the question behind order and duplicates.

use super::{
    cache::{ChunkCache, ReadError, damaged},
    cells::histogram_bits,
    chunk::{Column, GROUP},
    index::SeriesId,
    source::{ChunkName, ChunkRef, Source},
};
use crate::kv::KvRead;
use model::{StateError, TimestampMs};
use std::collections::{BTreeMap, btree_map};

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

/// Decoded columns that are kept, in bytes, about.
const DECODED_BYTES_MAX: usize = 64 << 20;

/// Columns of chunks that the rows of one segment asked for: many old samples of a series lie in one chunk, and
/// decoding it for each of them would take longer than all else. A chunk's name never means other content, so what is
/// forgotten or kept changes no answer.
#[derive(Debug, Default)]
pub(crate) struct Decoded {
    columns: BTreeMap<(ChunkName, SeriesId), Column>,
    bytes: usize,
}

impl Decoded {
    /// The bits of the sample that a column has at a timestamp in some chunk.
    pub(crate) fn sealed_bits(
        &mut self,
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
            let (Ok(row), Some(at)) = (head.timestamps.binary_search(&timestamp.0), head.position(series))
            else {
                continue;
            };
            let samples = self.column(chunk, series, at, head.timestamps.len(), kv, cache)?;
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

    /// The column of a series, which is the `at`th of a chunk with so many rows.
    fn column(
        &mut self,
        chunk: &ChunkRef,
        series: SeriesId,
        at: usize,
        rows: usize,
        kv: &dyn KvRead,
        cache: &ChunkCache,
    ) -> Result<&Column, ReadError> {
        if self.bytes > DECODED_BYTES_MAX {
            *self = Decoded::default();
        }
        Ok(match self.columns.entry((chunk.name, series)) {
            btree_map::Entry::Occupied(entry) => entry.into_mut(),
            btree_map::Entry::Vacant(entry) => {
                let group = cache.group(kv, chunk, at / GROUP)?;
                let mut samples = Column::default();
                group.column(at % GROUP, rows, &mut samples).map_err(|cause| damaged(&chunk.name, cause))?;
                self.bytes += 128 + samples.floats.len() * 12 + samples.histograms.len() * 256;
                entry.insert(samples)
            }
        })
    }
}

/// A failed read stops the replica.
pub(crate) fn to_state_error(error: ReadError) -> StateError {
    match error {
        ReadError::Kv(error) => error.into(),
        ReadError::Damaged { .. } | ReadError::Missing { .. } => StateError::Corrupt(error.to_string()),
    }
}
