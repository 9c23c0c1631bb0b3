//! Checkpoint and restart: the whole state as of one index, in one atomic, synced step; and back.
//!
//! Written are: sealed chunks that were only in memory, the records of changed sources with their open windows (in
//! the form of chunks), new, changed and removed series, the dropped partitions, and the meta record that names the
//! index. What is in the store afterwards is the state, so replay begins behind it.

use super::{
    cache::ChunkCache,
    cells::{ColumnSet, NewCells},
    chunk::{Chunk, ChunkHead, Column, GROUP, Group},
    hash,
    index::SourceId,
    keys,
    merge::put_chunk,
    seal::chunk_of,
    settings::ShardSettings,
    source::{ChunkBody, ChunkRef, Source},
    state::{PartitionSum, State, source_mut},
    window::Window,
    wire::{Malformed, Put, Reader},
};
use crate::kv::{Direction, Family, KeyRange, Kv, KvRead, WriteBatch};
use bytes::Bytes;
use model::{Applied, LogId, LogIndex, ShardId, StateError, Term, TimestampMs};
use std::{collections::BTreeMap, sync::Arc};

/// Leads the meta record, and counts for the records beside it.
pub(crate) const VERSION: u8 = 2;
/// Leads the record of a series.
const SERIES_VERSION: u8 = 1;

/// What the meta record says.
#[derive(Clone, Debug)]
pub(crate) struct MetaRecord {
    pub shard: ShardId,
    pub applied: Applied,
    pub settings: ShardSettings,
    pub cutoff: TimestampMs,
    pub next_series: u32,
    pub next_source: u32,
    pub partitions: BTreeMap<i64, PartitionSum>,
    /// The state hash as of the checkpoint.
    pub hash: u128,
}

impl MetaRecord {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        out.put_u64(u64::from(self.shard.0));
        put_applied(&mut out, &self.applied);
        self.settings.put(&mut out);
        out.put_i64(self.cutoff.0);
        out.put_u64(u64::from(self.next_series));
        out.put_u64(u64::from(self.next_source));
        out.put_u64(self.partitions.len() as u64);
        for (start, sum) in &self.partitions {
            out.put_i64(*start);
            out.extend_from_slice(&sum.sum.to_le_bytes());
            out.put_u64(sum.samples);
            out.extend_from_slice(&sum.open_sum.to_le_bytes());
        }
        out.extend_from_slice(&self.hash.to_le_bytes());
        let sum = crc32c::crc32c(&out);
        out.extend_from_slice(&sum.to_le_bytes());
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<MetaRecord, Malformed> {
        let (body, sum) = bytes.split_last_chunk::<4>().ok_or(Malformed("meta record: it ends early"))?;
        if crc32c::crc32c(body) != u32::from_le_bytes(*sum) {
            return Err(Malformed("meta record: checksum"));
        }
        let mut reader = Reader::new(body);
        // In version 1 sources know nothing of partial columns; their records say so themselves.
        if !(1..=VERSION).contains(&reader.byte()?) {
            return Err(Malformed("meta record: unknown version"));
        }
        let shard = ShardId(reader.u32()?);
        let applied = read_applied(&mut reader)?;
        let settings = ShardSettings::read(&mut reader)?;
        let cutoff = TimestampMs(reader.i64()?);
        let next_series = reader.u32()?;
        let next_source = reader.u32()?;
        let mut partitions = BTreeMap::new();
        for _ in 0..reader.count()? {
            let start = reader.i64()?;
            let (sum, samples, open_sum) = (reader.u128()?, reader.u64()?, reader.u128()?);
            partitions.insert(start, PartitionSum { sum, samples, open_sum });
        }
        let hash = reader.u128()?;
        Ok(MetaRecord { shard, applied, settings, cutoff, next_series, next_source, partitions, hash })
    }
}

pub(crate) fn put_applied(out: &mut Vec<u8>, applied: &Applied) {
    match applied.log_id {
        None => out.push(0),
        Some(id) => {
            out.push(1);
            out.put_u64(id.term.0);
            out.put_u64(id.index.0);
        }
    }
    out.put_bytes(&applied.membership);
}

pub(crate) fn read_applied(reader: &mut Reader<'_>) -> Result<Applied, Malformed> {
    let log_id = match reader.byte()? {
        0 => None,
        1 => Some(LogId { term: Term(reader.u64()?), index: LogIndex(reader.u64()?) }),
        _ => return Err(Malformed("applied position")),
    };
    Ok(Applied { log_id, membership: Bytes::copy_from_slice(reader.bytes()?) })
}

/// What a checkpoint wrote.
pub(crate) struct Written {
    dirty: Vec<SourceId>,
    /// All series below this id are stored.
    next_series: u32,
}

impl State {
    pub(crate) fn meta(&self) -> MetaRecord {
        let mut partitions = self.partitions.clone();
        for partition in partitions.values_mut() {
            partition.open_sum = 0;
        }
        for source in self.sources.iter().flatten() {
            for window in &source.windows {
                let entry = partitions.entry(window.partition).or_default();
                for row in &window.rows {
                    let sum = row.cells.hash(row.timestamp, &source.columns.hashes);
                    entry.open_sum = entry.open_sum.wrapping_add(sum);
                }
            }
        }
        MetaRecord {
            shard: self.shard,
            applied: self.applied.clone(),
            settings: self.settings.clone(),
            cutoff: self.cutoff,
            next_series: self.index.read().expect("no holder panics").next_id(),
            next_source: self.sources.len() as u32,
            partitions,
            hash: self.hash(),
        }
    }

    /// Makes the present state durable; yields what is to be noted of it, if anything was to be done. Nobody may change
    /// the state in between.
    pub(crate) fn write_checkpoint(&self) -> Result<Option<Written>, StateError> {
        if self.checkpointed == self.applied && self.applied.log_id.is_some() {
            return Ok(None);
        }
        let mut batch = WriteBatch::new();
        if let Some(first) = self.drop_before {
            let end = Bytes::copy_from_slice(&keys::partition(first));
            batch.delete_range(Family::Chunks, KeyRange::new(Bytes::new(), end));
        }
        let dirty: Vec<SourceId> = self.dirty.iter().copied().collect();
        for id in &dirty {
            self.put_source(&mut batch, *id)?;
        }
        let next_series = self.put_series(&mut batch);
        batch.put(Family::Meta, keys::META, self.meta().encode());
        model::point!("shard.checkpoint.begin");
        self.kv.write(&batch)?;
        model::point!("shard.checkpoint.written");
        self.kv.flush_sync()?;
        model::point!("shard.checkpoint.durable");
        Ok(Some(Written { dirty, next_series }))
    }

    /// Notes that the present state is durable.
    pub(crate) fn checkpoint_written(&mut self, written: Written) -> Result<(), StateError> {
        for id in written.dirty {
            if self.source(id).is_some_and(|s| s.chunks.iter().any(in_memory)) {
                let source = source_mut(&mut self.sources, id);
                for chunk in Arc::make_mut(&mut source.chunks).iter_mut() {
                    chunk.body = ChunkBody::Stored;
                }
            }
        }
        if let Some(first) = self.drop_before.take() {
            let end = Bytes::copy_from_slice(&keys::partition(first));
            self.kv.drop_range(Family::Chunks, &KeyRange::new(Bytes::new(), end))?;
        }
        self.dirty.clear();
        self.changed_series.clear();
        self.removed_series.clear();
        self.stored_series = written.next_series;
        self.checkpointed = self.applied.clone();
        model::point!("shard.checkpoint.done");
        self.counters.checkpoints += 1;
        Ok(())
    }

    fn put_source(&self, batch: &mut WriteBatch, id: SourceId) -> Result<(), StateError> {
        let mut prefix = vec![b'o'];
        prefix.extend_from_slice(&id.to_be_bytes());
        batch.delete_range(Family::State, KeyRange::prefix(&prefix));
        let Some(source) = self.source(id) else {
            batch.delete(Family::State, keys::source(id));
            return Ok(());
        };
        batch.put(Family::State, keys::source(id), source.encode());
        for chunk in source.chunks.iter() {
            if let ChunkBody::Memory(body) = &chunk.body {
                put_chunk(batch, &chunk.name, body);
            }
        }
        for window in &source.windows {
            let mut used = ColumnSet::default();
            for row in &window.rows {
                row.cells.floats().for_each(|(column, _)| used.insert(column));
                row.cells.histograms().iter().for_each(|(column, _)| used.insert(*column));
            }
            let chunk = chunk_of(source, &window.rows, &used).map_err(corrupt)?;
            let key = |group| keys::open_window(id, window.partition, window.late, group);
            batch.put(Family::State, key(0), chunk.head.encode());
            for (group, bytes) in (1_u16..).zip(&chunk.groups) {
                batch.put(Family::State, key(group), bytes.clone());
            }
        }
        Ok(())
    }

    /// Writes new and changed series; returns the id up to which all are stored.
    fn put_series(&self, batch: &mut WriteBatch) -> u32 {
        for id in &self.removed_series {
            batch.delete(Family::Series, keys::series(*id).to_vec());
        }
        let index = self.index.read().expect("no holder panics");
        let new = self.stored_series..index.next_id();
        let changed = self.changed_series.iter().copied().filter(|id| *id < self.stored_series);
        for id in changed.chain(new.clone()) {
            if let Some(record) = index.get(id) {
                let mut out = vec![SERIES_VERSION];
                out.put_u64(u64::from(record.source));
                out.put_i64(record.first);
                out.put_i64(record.last);
                out.extend_from_slice(index.labels_of(record).as_bytes());
                batch.put(Family::Series, keys::series(id).to_vec(), out);
            }
        }
        new.end
    }

    /// Reads the state that a store holds.
    pub(crate) fn load(shard: ShardId, kv: Arc<dyn Kv>, cache: Arc<ChunkCache>) -> Result<State, StateError> {
        let mut state = State::new(shard, Arc::clone(&kv), cache);
        let Some(bytes) = kv.get(Family::Meta, keys::META)? else { return Ok(state) };
        let meta = MetaRecord::decode(&bytes).map_err(corrupt)?;
        if meta.shard != shard {
            let text =
                format!("the directory holds shard {}, not {shard}; check where it was moved", meta.shard);
            return Err(StateError::Corrupt(text));
        }
        state.fill(&*kv, meta)?;
        Ok(state)
    }

    /// Takes over what a store holds under this meta record.
    pub(crate) fn fill(&mut self, kv: &dyn KvRead, meta: MetaRecord) -> Result<(), StateError> {
        let mut series: BTreeMap<SourceId, Vec<(u32, model::Labels, i64, i64)>> = BTreeMap::new();
        for pair in kv.iter(Family::Series, &KeyRange::all(), Direction::Ascending)? {
            let (key, value) = pair?;
            let id = keys::read_u32(&key).ok_or(StateError::Corrupt("series key".into()))?;
            if id >= meta.next_series {
                continue;
            }
            let (source, labels, first, last) = read_series(&value).map_err(corrupt)?;
            series.entry(source).or_default().push((id, labels, first, last));
        }
        let mut records = BTreeMap::new();
        for pair in kv.iter(Family::State, &KeyRange::prefix(b"s"), Direction::Ascending)? {
            let (key, value) = pair?;
            let id = keys::read_u32(&key[1..]).ok_or(StateError::Corrupt("source key".into()))?;
            records.insert(id, value);
        }
        // The index is filled in order of ids, whatever the sources.
        let mut ordered = Vec::new();
        for (source, list) in series {
            let Some(record) = records.get(&source) else { continue };
            let mut reader = Reader::new(record);
            let key = reader.byte().and_then(|_| reader.key()).map_err(corrupt)?;
            let probe = Source::new(source, Arc::new(key));
            for (id, labels, first, last) in list {
                let hash = probe.series_hash(&labels);
                ordered.push((id, source, hash, labels, first, last));
            }
        }
        ordered.sort_unstable_by_key(|(id, ..)| *id);
        let mut index = self.index.write().expect("no holder panics");
        for (id, source, hash, labels, first, last) in ordered {
            index.add_at(id, source, hash, &labels, super::index::NO_COLUMN, first, last);
        }
        index.reserve_to(meta.next_series);
        let mut sources = vec![None; meta.next_source as usize];
        for (id, bytes) in records {
            let mut source = Source::decode(id, &bytes, |series| index.get(series).map(|record| record.hash))
                .map_err(corrupt)?;
            for (column, series) in (0_u32..).zip(&source.columns.series) {
                if let Some(record) = index.get_mut(*series) {
                    record.column = column;
                }
            }
            source.windows = read_windows(kv, &source)?;
            self.by_key.insert(Arc::clone(&source.key), id);
            self.sources_hash = self.sources_hash.wrapping_add(source.contribution);
            let slot = sources.get_mut(id as usize).ok_or(StateError::Corrupt("source id".into()))?;
            *slot = Some(source);
        }
        drop(index);
        for partition in meta.partitions.keys() {
            let range = KeyRange::prefix(&keys::partition_heads(*partition));
            for pair in kv.iter(Family::Chunks, &range, Direction::Ascending)? {
                let (key, value) = pair?;
                let chunk = read_chunk_ref(&key, &value)?;
                if let Some(Some(source)) = sources.get_mut(chunk.name.source as usize)
                    && chunk.name.sequence < source.sequence
                {
                    Arc::make_mut(&mut source.chunks).push(chunk);
                }
            }
        }
        for source in sources.iter_mut().flatten() {
            Arc::make_mut(&mut source.chunks).sort_by_key(|chunk| chunk.name);
        }
        self.sources = Arc::new(sources.into_iter().map(|source| source.map(Arc::new)).collect());
        self.partitions_hash = meta
            .partitions
            .iter()
            .fold(0, |sum: u128, (start, p)| sum.wrapping_add(hash::partition(*start, p.sum)));
        self.partitions = meta.partitions;
        self.settings = meta.settings;
        self.cutoff = meta.cutoff;
        self.applied = meta.applied.clone();
        self.checkpointed = meta.applied;
        self.stored_series = meta.next_series;
        self.remember_hash();
        Ok(())
    }
}

fn in_memory(chunk: &ChunkRef) -> bool {
    matches!(chunk.body, ChunkBody::Memory(_))
}

pub(crate) fn corrupt(cause: Malformed) -> StateError {
    StateError::Corrupt(cause.to_string())
}

pub(crate) fn read_series(bytes: &[u8]) -> Result<(SourceId, model::Labels, i64, i64), Malformed> {
    let mut reader = Reader::new(bytes);
    if reader.byte()? != SERIES_VERSION {
        return Err(Malformed("series record: unknown version"));
    }
    let source = reader.u32()?;
    let (first, last) = (reader.i64()?, reader.i64()?);
    let labels = model::Labels::from_bytes(reader.rest()).ok_or(Malformed("series record: labels"))?;
    Ok((source, labels, first, last))
}

pub(crate) fn read_chunk_ref(key: &[u8], value: &[u8]) -> Result<ChunkRef, StateError> {
    let name = keys::read_chunk_name(key).ok_or(StateError::Corrupt("chunk key".into()))?;
    let (bytes, head) = keys::read_head(value).map_err(corrupt)?;
    let first = head.timestamps.first().copied().unwrap_or_default();
    let last = head.timestamps.last().copied().unwrap_or_default();
    Ok(ChunkRef {
        name,
        first: TimestampMs(first),
        last: TimestampMs(last),
        rows: head.timestamps.len() as u32,
        groups: head.series.len().div_ceil(GROUP) as u32,
        bytes,
        body: ChunkBody::Stored,
    })
}

/// Reads the open windows of a source.
pub(crate) fn read_windows(kv: &dyn KvRead, source: &Source) -> Result<Vec<Arc<Window>>, StateError> {
    let mut prefix = vec![b'o'];
    prefix.extend_from_slice(&source.id.to_be_bytes());
    let mut found: BTreeMap<(i64, bool), (Option<ChunkHead>, Vec<Bytes>)> = BTreeMap::new();
    for pair in kv.iter(Family::State, &KeyRange::prefix(&prefix), Direction::Ascending)? {
        let (key, value) = pair?;
        let bad = || StateError::Corrupt("key of an open window".into());
        let partition = keys::read_time(key.get(5..).ok_or_else(bad)?).ok_or_else(bad)?;
        let late = *key.get(13).ok_or_else(bad)? == 1;
        let first = key.get(14..16) == Some(&[0, 0]);
        let entry = found.entry((partition, late)).or_default();
        if first {
            entry.0 = Some(ChunkHead::decode(&value, 0).map_err(corrupt)?);
        } else {
            entry.1.push(value);
        }
    }
    let column_of: BTreeMap<u32, u32> = source.columns.series.iter().copied().zip(0_u32..).collect();
    let mut windows = Vec::new();
    for ((partition, late), (head, groups)) in found {
        let head = head.ok_or(StateError::Corrupt("open window without a head".into()))?;
        let chunk = Chunk { head: Arc::new(head), groups };
        let mut rows: Vec<NewCells> = chunk.head.timestamps.iter().map(|_| NewCells::default()).collect();
        for_each_column(&chunk, |series, column| {
            let at = column_of.get(&series).ok_or(Malformed("open window: a series without a column"))?;
            for (row, value) in column.float_rows.iter().zip(&column.floats) {
                rows[*row as usize].floats.push((*at, *value));
            }
            for (row, value) in column.histograms.drain(..) {
                rows[row as usize].histograms.push((*at, value));
            }
            Ok(())
        })
        .map_err(corrupt)?;
        let mut window = Window { partition, late, rows: Vec::new() };
        let width = source.columns.len();
        for (timestamp, mut cells) in chunk.head.timestamps.iter().zip(rows) {
            cells.sort();
            window.store(TimestampMs(*timestamp), cells, width);
        }
        windows.push(Arc::new(window));
    }
    Ok(windows)
}

/// Reads every column of a chunk.
pub(crate) fn for_each_column(
    chunk: &Chunk,
    mut with: impl FnMut(u32, &mut Column) -> Result<(), Malformed>,
) -> Result<(), Malformed> {
    let mut column = Column::default();
    for (group, bytes) in chunk.groups.iter().enumerate() {
        let open = Group::open(bytes)?;
        for (at, series) in chunk.head.series.iter().skip(group * GROUP).take(GROUP).enumerate() {
            open.column(at, chunk.head.timestamps.len(), &mut column)?;
            with(*series, &mut column)?;
        }
    }
    if chunk.head.series.len().div_ceil(GROUP) == chunk.groups.len() {
        Ok(())
    } else {
        Err(Malformed("chunk: a group is missing"))
    }
}
