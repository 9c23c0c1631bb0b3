//! Merging: the small chunks of a source and partition become one when the partition is over.
//!
//! Content does not change, so neither does the state hash; one merge at most follows a call of apply, and only of
//! chunks that a checkpoint has stored, so a crash finds one packing or the other.

use super::{
    cache::{ReadError, damaged},
    chunk::{Chunk, ChunkHead, Column, GROUP},
    index::SourceId,
    keys,
    seal::chunk_ref,
    source::{ChunkBody, ChunkName, ChunkRef},
    state::{State, source_mut},
    stored::to_state_error,
    window::PARTITION_MS,
    wire::Malformed,
};
use crate::kv::{Family, WriteBatch};
use model::{DurationMs, StateError, TimestampMs, Value};
use std::{collections::BTreeSet, sync::Arc};

/// How long after its end a partition is merged.
const SETTLED: DurationMs = DurationMs(900_000);
/// Columns times rows of one merged chunk; more stays in several.
const CELLS_MAX: u64 = 64 << 20;
/// Rows of one merged chunk: what a codec's block takes.
const MERGED_ROWS_MAX: u64 = 1 << 16;

impl State {
    /// Notes which partitions are over and in pieces.
    pub(crate) fn find_merges(&mut self, time: TimestampMs) {
        let over = |partition: i64| TimestampMs(partition.saturating_add(PARTITION_MS)).plus(SETTLED) <= time;
        let mut found: BTreeSet<(i64, SourceId)> = BTreeSet::new();
        for source in self.sources.iter().flatten() {
            for pair in source.chunks.windows(2) {
                if pair[0].name.partition == pair[1].name.partition && over(pair[0].name.partition) {
                    found.insert((pair[0].name.partition, source.id));
                }
            }
        }
        self.merges = found.into_iter().map(|(partition, id)| (id, partition)).collect();
    }

    /// Merges one partition of one source, if there is one to merge.
    pub(crate) fn merge_one(&mut self) -> Result<(), StateError> {
        let Some((id, partition)) = self.merges.pop_front() else { return Ok(()) };
        let Some(source) = self.source(id).map(Arc::clone) else { return Ok(()) };
        let parts: Vec<ChunkRef> = source
            .chunks
            .iter()
            .filter(|c| c.name.partition == partition && matches!(c.body, ChunkBody::Stored))
            .cloned()
            .collect();
        let (Some(last), true) = (parts.last(), parts.len() > 1) else { return Ok(()) };
        let level = parts.iter().map(|chunk| chunk.name.level).max().unwrap_or(0);
        let rows: u64 = parts.iter().map(|chunk| u64::from(chunk.rows)).sum();
        let groups = parts.iter().map(|chunk| u64::from(chunk.groups)).max().unwrap_or(0);
        if level == u8::MAX || rows > MERGED_ROWS_MAX || rows * groups * GROUP as u64 > CELLS_MAX {
            return Ok(());
        }
        let name = ChunkName { level: level + 1, ..last.name };
        let chunk = self.merged(&parts).map_err(to_state_error)?;
        let head = Arc::clone(&chunk.head);
        let (Some(first), Some(end)) = (head.timestamps.first(), head.timestamps.last()) else {
            return Ok(());
        };
        let bounds = (TimestampMs(*first), TimestampMs(*end));
        let mut batch = WriteBatch::new();
        put_chunk(&mut batch, &name, &chunk);
        for part in &parts {
            delete_chunk(&mut batch, part);
        }
        self.kv.write(&batch)?;
        let mut merged = chunk_ref(name, bounds, chunk);
        merged.body = ChunkBody::Stored;
        let chunks = Arc::make_mut(&mut source_mut(&mut self.sources, id).chunks);
        chunks.retain(|chunk| !parts.iter().any(|part| part.name == chunk.name));
        let at = chunks.partition_point(|other| other.name < name);
        chunks.insert(at, merged);
        self.counters.chunks_merged += parts.len() as u64;
        Ok(())
    }

    fn merged(&self, parts: &[ChunkRef]) -> Result<Chunk, ReadError> {
        let heads = parts.iter().map(|p| self.cache.head(&*self.kv, p)).collect::<Result<Vec<_>, _>>()?;
        let timestamps: BTreeSet<i64> =
            heads.iter().flat_map(|head| head.timestamps.iter().copied()).collect();
        let series: BTreeSet<u32> = heads.iter().flat_map(|head| head.series.iter().copied()).collect();
        let head =
            ChunkHead { timestamps: timestamps.into_iter().collect(), series: series.into_iter().collect() };
        // Where the rows of each part are in the whole.
        let rows: Vec<Vec<u32>> = heads
            .iter()
            .map(|part| {
                let place = |t: &i64| head.timestamps.partition_point(|other| other < t) as u32;
                part.timestamps.iter().map(place).collect()
            })
            .collect();
        let wanted = head.series.clone();
        let mut failed = None;
        let mut scratch = Column::default();
        let built = Chunk::build(head, true, |at, column| {
            let series = wanted[at];
            let mut floats: Vec<(u32, f64)> = Vec::new();
            let mut histograms: Vec<(u32, Value)> = Vec::new();
            for ((part, head), rows) in parts.iter().zip(&heads).zip(&rows) {
                let Ok(position) = head.series.binary_search(&series) else { continue };
                let read = self.cache.group(&*self.kv, part, position / GROUP).and_then(|group| {
                    group
                        .column(position % GROUP, head.timestamps.len(), &mut scratch)
                        .map_err(|cause| damaged(&part.name, cause))
                });
                if let Err(error) = read {
                    failed = Some(error);
                    return Err(Malformed("part of a merge"));
                }
                let place = scratch.float_rows.iter().map(|row| rows[*row as usize]);
                floats.extend(place.zip(scratch.floats.iter().copied()));
                histograms.extend(scratch.histograms.drain(..).map(|(row, v)| (rows[row as usize], v)));
            }
            if !floats.is_sorted_by_key(|(row, _)| *row) {
                floats.sort_by_key(|(row, _)| *row);
            }
            histograms.sort_by_key(|(row, _)| *row);
            column.float_rows.clear();
            column.floats.clear();
            column.float_rows.extend(floats.iter().map(|(row, _)| *row));
            column.floats.extend(floats.iter().map(|(_, value)| *value));
            column.histograms = histograms;
            Ok(())
        });
        match (built, failed) {
            (_, Some(error)) => Err(error),
            (Ok(chunk), None) => Ok(chunk),
            (Err(cause), None) => Err(damaged(&parts[0].name, cause)),
        }
    }
}

/// Writes a chunk's records.
pub(crate) fn put_chunk(batch: &mut WriteBatch, name: &ChunkName, chunk: &Chunk) {
    batch.put(Family::Chunks, keys::chunk_head(name), keys::put_head(chunk.bytes() as u64, &chunk.head));
    for (group, bytes) in chunk.groups.iter().enumerate() {
        batch.put(Family::Chunks, keys::chunk_group(name, group), bytes.clone());
    }
}

/// Removes a chunk's records.
fn delete_chunk(batch: &mut WriteBatch, chunk: &ChunkRef) {
    batch.delete(Family::Chunks, keys::chunk_head(&chunk.name));
    for group in 0..chunk.groups as usize {
        batch.delete(Family::Chunks, keys::chunk_group(&chunk.name, group));
    }
}
