//! Packing: the small chunks of a source and partition become one when the partition is over.
//!
//! Content does not change, so neither does the state hash: each replica packs when it has the time, outside of
//! apply and without keeping anybody from reading. Only chunks that a checkpoint has stored are packed, and they
//! are replaced in one atomic batch, so a crash finds one packing or the other.

use super::{
    DataShard,
    cache::{ReadError, damaged, read_group, read_head},
    chunk::{Chunk, ChunkHead, Column, GROUP, Group, ROWS_MAX, SERIES_MAX},
    index::SourceId,
    keys,
    seal::chunk_ref,
    source::{ChunkBody, ChunkName, ChunkRef},
    state::{State, source_mut},
    stored::to_state_error,
    window::{PARTITION_MS, partition_of},
    wire::Malformed,
};
use crate::kv::{Family, KeyRange, Kv, KvRead, WriteBatch};
use bytes::Bytes;
use model::{DurationMs, StateError, TimestampMs, Value};
use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
};

/// How long after its end a partition is packed.
const SETTLED: DurationMs = DurationMs(900_000);
/// Columns times rows of one packed chunk; more stays in several.
const CELLS_MAX: u64 = 64 << 20;
/// Space is taken back at once where more than one part in so many of what is stored is dead; else the store's own
/// compaction gets to it.
const DEAD_SHARE: u64 = 8;

/// What is to be packed, and what that left behind.
#[derive(Debug, Default)]
pub(crate) struct Packing {
    /// Sources and partitions with several chunks.
    queue: VecDeque<(SourceId, i64)>,
    /// The number of checkpoints and of settled partitions when `queue` was filled.
    looked: Option<(u64, i64)>,
    dead: Dead,
}

/// What was replaced since space was taken back.
#[derive(Debug, Default)]
struct Dead {
    bytes: u64,
    /// First and last.
    partitions: Option<(i64, i64)>,
}

impl Dead {
    fn add(&mut self, partition: i64, bytes: u64) {
        self.bytes += bytes;
        let (first, last) = self.partitions.unwrap_or((partition, partition));
        self.partitions = Some((first.min(partition), last.max(partition)));
    }
}

impl Packing {
    /// Forgets partitions that are dropped.
    pub(crate) fn retain(&mut self, first: i64) {
        self.queue.retain(|(_, partition)| *partition >= first);
    }
}

/// Chunks that are to become one.
#[derive(Debug)]
pub(crate) struct Task {
    name: ChunkName,
    parts: Vec<ChunkRef>,
    kv: Arc<dyn Kv>,
}

impl DataShard {
    /// Packs the chunks of one source in one partition that is over, as of the wall-clock time `now`. Whether there
    /// may be more to do: then call it again soon. It computes for milliseconds and writes, and syncs when it comes
    /// to the end: not for async threads. One caller at a time.
    ///
    /// # Errors
    /// If a chunk is damaged, or the store fails. The chunks stay as they are, and are not tried again before the
    /// next checkpoint.
    pub fn pack(&self, now: TimestampMs) -> Result<bool, StateError> {
        let task = {
            let mut state = self.write()?;
            state.look_for_packing(now);
            match state.packing.queue.pop_front() {
                Some((id, partition)) => state.task(id, partition),
                None => {
                    let dead = std::mem::take(&mut state.packing.dead);
                    let kv = Arc::clone(&state.kv);
                    drop(state);
                    dead.take_back(&*kv)?;
                    return Ok(false);
                }
            }
        };
        if let Some(task) = task
            && let Some(chunk) = task.merged()?
        {
            self.write()?.replace(&task, chunk)?;
        }
        Ok(true)
    }
}

impl Task {
    /// The content of the parts as one chunk; `None` if it is too much for one.
    pub(crate) fn merged(&self) -> Result<Option<Chunk>, StateError> {
        self.merged_within(SERIES_MAX, CELLS_MAX)
    }

    /// The same, if it has no more than so many series, and cells.
    pub(crate) fn merged_within(
        &self,
        series_max: usize,
        cells_max: u64,
    ) -> Result<Option<Chunk>, StateError> {
        merged(&*self.kv, &self.parts, (series_max, cells_max)).map_err(to_state_error)
    }
}

impl Dead {
    /// Makes what was packed durable and, if much lies dead, gives its space back.
    fn take_back(self, kv: &dyn Kv) -> Result<(), StateError> {
        let Some((first, last)) = self.partitions else { return Ok(()) };
        kv.flush_sync()?;
        if self.bytes.saturating_mul(DEAD_SHARE) > kv.approximate_bytes(Family::Chunks) {
            let end = keys::partition(last.saturating_add(PARTITION_MS));
            let start = Bytes::copy_from_slice(&keys::partition(first));
            kv.compact(Family::Chunks, &KeyRange::new(start, Bytes::copy_from_slice(&end)))?;
        }
        Ok(())
    }
}

impl State {
    /// Notes which partitions are over and in pieces, if that may have changed.
    fn look_for_packing(&mut self, now: TimestampMs) {
        let settled = partition_of(now.minus(SETTLED));
        let looked = Some((self.counters.checkpoints, settled));
        if self.packing.looked == looked {
            return;
        }
        self.packing.looked = looked;
        let mut found: BTreeSet<(i64, SourceId)> = BTreeSet::new();
        for source in self.sources.iter().flatten() {
            for pair in source.chunks.windows(2) {
                let partition = pair[0].name.partition;
                if partition == pair[1].name.partition && partition < settled {
                    found.insert((partition, source.id));
                }
            }
        }
        self.packing.queue = found.into_iter().map(|(partition, id)| (id, partition)).collect();
    }

    /// What of a source and partition is to become one chunk.
    pub(crate) fn task(&self, id: SourceId, partition: i64) -> Option<Task> {
        let source = self.source(id)?;
        let parts: Vec<ChunkRef> = source
            .chunks
            .iter()
            .filter(|c| c.name.partition == partition && matches!(c.body, ChunkBody::Stored))
            .cloned()
            .collect();
        let last = parts.last().filter(|_| parts.len() > 1)?;
        let level = parts.iter().map(|chunk| chunk.name.level).max().unwrap_or(0);
        let rows: u64 = parts.iter().map(|chunk| u64::from(chunk.rows)).sum();
        let groups = parts.iter().map(|chunk| u64::from(chunk.groups)).max().unwrap_or(0);
        if level == u8::MAX || rows > ROWS_MAX as u64 || rows * groups * GROUP as u64 > CELLS_MAX {
            return None;
        }
        let name = ChunkName { level: level + 1, ..last.name };
        Some(Task { name, parts, kv: Arc::clone(&self.kv) })
    }

    /// Puts the packed chunk in the place of its parts, unless something else became of them meanwhile.
    pub(crate) fn replace(&mut self, task: &Task, chunk: Chunk) -> Result<(), StateError> {
        let Task { name, parts, kv, .. } = task;
        let Some(source) = self.source(name.source).filter(|_| Arc::ptr_eq(&self.kv, kv)) else {
            return Ok(());
        };
        if !parts.iter().all(|part| source.chunks.binary_search_by_key(&part.name, |c| c.name).is_ok()) {
            return Ok(());
        }
        let head = Arc::clone(&chunk.head);
        let (Some(first), Some(end)) = (head.timestamps.first(), head.timestamps.last()) else {
            return Ok(());
        };
        let bounds = (TimestampMs(*first), TimestampMs(*end));
        let mut batch = WriteBatch::new();
        put_chunk(&mut batch, name, &chunk);
        for part in parts {
            delete_chunk(&mut batch, part);
        }
        self.kv.write(&batch)?;
        let mut packed = chunk_ref(*name, bounds, chunk);
        packed.body = ChunkBody::Stored;
        let chunks = Arc::make_mut(&mut source_mut(&mut self.sources, name.source).chunks);
        chunks.retain(|chunk| !parts.iter().any(|part| part.name == chunk.name));
        let at = chunks.partition_point(|other| other.name < *name);
        chunks.insert(at, packed);
        self.packing.dead.add(name.partition, parts.iter().map(|part| part.bytes).sum());
        self.counters.chunks_merged += parts.len() as u64;
        Ok(())
    }
}

/// The content of several chunks as one. Each group of the parts is read once and goes through no cache: nobody will
/// ask for the parts again, and what queries read would have to make room for them. `None` if there is too much: parts
/// whose series come and go may have few in common.
fn merged(
    kv: &dyn KvRead,
    parts: &[ChunkRef],
    (series_max, cells_max): (usize, u64),
) -> Result<Option<Chunk>, ReadError> {
    let heads = parts.iter().map(|p| read_head(kv, p)).collect::<Result<Vec<_>, _>>()?;
    let timestamps: BTreeSet<i64> = heads.iter().flat_map(|head| head.timestamps.iter().copied()).collect();
    let series: BTreeSet<u32> = heads.iter().flat_map(|head| head.series.iter().copied()).collect();
    if series.len() > series_max || (timestamps.len() * series.len()) as u64 > cells_max {
        return Ok(None);
    }
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
    let mut groups: Vec<Option<(usize, Group)>> = vec![None; parts.len()];
    let built = Chunk::build(head, true, |at, column| {
        let series = wanted[at];
        let mut floats: Vec<(u32, f64)> = Vec::new();
        let mut histograms: Vec<(u32, Value)> = Vec::new();
        for (((part, head), rows), open) in parts.iter().zip(&heads).zip(&rows).zip(&mut groups) {
            let Some(position) = head.position(series) else { continue };
            let read = group_of(kv, part, position / GROUP, open).and_then(|group| {
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
        (Ok(chunk), None) => Ok(Some(chunk)),
        (Err(cause), None) => Err(damaged(&parts[0].name, cause)),
    }
}

/// A group of a part; `open` has the one read last.
fn group_of<'a>(
    kv: &dyn KvRead,
    part: &ChunkRef,
    number: usize,
    open: &'a mut Option<(usize, Group)>,
) -> Result<&'a Group, ReadError> {
    let read = match open.take().filter(|(there, _)| *there == number) {
        Some(read) => read,
        None => (number, read_group(kv, part, number)?),
    };
    Ok(&open.insert(read).1)
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
