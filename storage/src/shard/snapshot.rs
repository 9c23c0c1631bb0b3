//! Snapshots: the last checkpoint in parts, and taking one over.
//!
//! ```text
//!  part 0: meta record, sources, open windows, series      part n: the chunks of one partition
//!  directories of a replica:  data-0, data-1  (the one with the later index is in force)  ·  side (being received)
//! ```
//!
//! The manifest gives each partition the sum of what its chunks hold, whatever their packing; a receiver takes the
//! partitions from its own store where its sum is the same, and asks only for the others. What arrives is kept in
//! `side`, so a transfer goes on where it broke off. `commit` builds the store there and renames it once; the store
//! before it stays readable for views.

use super::{
    cache::ChunkCache,
    checkpoint::{MetaRecord, corrupt, put_applied, read_applied},
    keys,
    state::State,
    wire::{Malformed, Put, Reader},
};
use crate::kv::{Direction, Family, KeyRange, Kv, KvEngine, KvRead, KvView, WriteBatch};
use bytes::Bytes;
use model::{Applied, ShardId, SnapshotSink, SnapshotSource, StateError, WantedPart};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, RwLock},
};
use xxhash_rust::xxh3::Xxh3;

const VERSION: u8 = 1;
/// Bytes received before they are made durable (so is every complete part), and bytes of one batch.
const BATCH_BYTES: usize = 16 << 20;
/// The longest manifest that is read.
const MANIFEST_BYTES_MAX: usize = 16 << 20;
const KEY_MANIFEST: &[u8] = b"snapshot/manifest";

fn data_dirs(dir: &Path) -> [PathBuf; 2] {
    [dir.join("data-0"), dir.join("data-1")]
}

fn side_dir(dir: &Path) -> PathBuf {
    dir.join("side")
}

fn applied_of(kv: &dyn KvRead) -> Result<Applied, StateError> {
    let meta = kv.get(Family::Meta, keys::META)?;
    meta.map_or(Ok(Applied::default()), |bytes| {
        MetaRecord::decode(&bytes).map(|m| m.applied).map_err(corrupt)
    })
}

/// The store in force. Where a crash left two, the one that is further goes on and the other is removed.
pub(crate) fn settle_directories(dir: &Path, engine: &dyn KvEngine) -> Result<PathBuf, StateError> {
    let [first, second] = data_dirs(dir);
    if !engine.exists(&second) {
        return Ok(first);
    }
    if !engine.exists(&first) {
        return Ok(second);
    }
    let applied = |path: &Path| -> Result<Applied, StateError> {
        let kv = engine.open(path)?;
        let applied = applied_of(&*kv)?;
        kv.close();
        Ok(applied)
    };
    let (keep, drop) =
        if applied(&first)?.log_id >= applied(&second)?.log_id { (first, second) } else { (second, first) };
    engine.remove(&drop)?;
    Ok(keep)
}

/// One part of a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
struct PartHead {
    /// `None` for part 0.
    partition: Option<i64>,
    /// Sum over the cells in the partition's chunks.
    content: u128,
    length: u64,
    checksum: u128,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Manifest {
    shard: ShardId,
    applied: Applied,
    parts: Vec<PartHead>,
}

impl Manifest {
    fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        out.put_u64(u64::from(self.shard.0));
        put_applied(&mut out, &self.applied);
        out.put_u64(self.parts.len() as u64);
        for part in &self.parts {
            out.push(u8::from(part.partition.is_some()));
            out.put_i64(part.partition.unwrap_or(0));
            out.extend_from_slice(&part.content.to_le_bytes());
            out.put_u64(part.length);
            out.extend_from_slice(&part.checksum.to_le_bytes());
        }
        let sum = crc32c::crc32c(&out);
        out.extend_from_slice(&sum.to_le_bytes());
        out
    }

    fn decode(bytes: &[u8]) -> Result<Manifest, Malformed> {
        if bytes.len() > MANIFEST_BYTES_MAX {
            return Err(Malformed("snapshot manifest: too long"));
        }
        let (body, sum) = bytes.split_last_chunk::<4>().ok_or(Malformed("snapshot manifest"))?;
        if crc32c::crc32c(body) != u32::from_le_bytes(*sum) {
            return Err(Malformed("snapshot manifest: checksum"));
        }
        let mut reader = Reader::new(body);
        if reader.byte()? != VERSION {
            return Err(Malformed("snapshot manifest: unknown version"));
        }
        let shard = ShardId(reader.u32()?);
        let applied = read_applied(&mut reader)?;
        let mut parts = Vec::new();
        for _ in 0..reader.count()? {
            let is_partition = reader.byte()? == 1;
            let partition = reader.i64()?;
            parts.push(PartHead {
                partition: is_partition.then_some(partition),
                content: reader.u128()?,
                length: reader.u64()?,
                checksum: reader.u128()?,
            });
        }
        Ok(Manifest { shard, applied, parts })
    }
}

/// The records of a part, in order.
fn ranges(partition: Option<i64>) -> Vec<(Family, KeyRange)> {
    match partition {
        Some(partition) => vec![(Family::Chunks, KeyRange::prefix(&keys::partition(partition)))],
        None => [Family::Meta, Family::State, Family::Series].map(|family| (family, KeyRange::all())).into(),
    }
}

fn family_byte(family: Family) -> u8 {
    match family {
        Family::Meta => 1,
        Family::State => 2,
        Family::Series => 3,
        Family::Chunks => 4,
    }
}

fn frame(family: Family, key: &[u8], value: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(key.len() + value.len() + 8);
    out.push(family_byte(family));
    out.put_bytes(key);
    out.put_bytes(value);
    out
}

fn for_each_record(
    kv: &dyn KvRead,
    partition: Option<i64>,
    mut with: impl FnMut(Family, Bytes, Bytes) -> Result<(), StateError>,
) -> Result<(), StateError> {
    for (family, range) in ranges(partition) {
        for pair in kv.iter(family, &range, Direction::Ascending)? {
            let (key, value) = pair?;
            if family != Family::Meta || key == keys::META {
                with(family, key, value)?;
            }
        }
    }
    Ok(())
}

/// Where the frames of a part begin: (offset, family, key).
type Offsets = Arc<Vec<(u64, Family, Bytes)>>;

/// A checkpoint, opened for a lagging replica.
pub(crate) struct Source {
    view: KvView,
    manifest: Manifest,
    /// Found when a part is first read.
    offsets: Mutex<BTreeMap<u32, Offsets>>,
}

impl Source {
    pub(crate) fn open(view: KvView) -> Result<Source, StateError> {
        let bytes = view.get(Family::Meta, keys::META)?;
        let bytes = bytes.ok_or(StateError::Io("there is no checkpoint to read from".into()))?;
        let meta = MetaRecord::decode(&bytes).map_err(corrupt)?;
        let mut parts = vec![head(&*view, None, 0)?];
        for (start, partition) in &meta.partitions {
            let part = head(&*view, Some(*start), partition.sum.wrapping_sub(partition.open_sum))?;
            if part.length > 0 {
                parts.push(part);
            }
        }
        let manifest = Manifest { shard: meta.shard, applied: meta.applied, parts };
        Ok(Source { view, manifest, offsets: Mutex::default() })
    }

    fn offsets(&self, part: u32) -> Result<Offsets, StateError> {
        let mut known = self.offsets.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(offsets) = known.get(&part) {
            return Ok(Arc::clone(offsets));
        }
        let head = self.manifest.parts.get(part as usize);
        let head = head.ok_or_else(|| StateError::Io(format!("the snapshot has no part {part}")))?;
        let mut offsets = Vec::new();
        let mut at = 0;
        for_each_record(&*self.view, head.partition, |family, key, value| {
            offsets.push((at, family, key.clone()));
            at += frame(family, &key, &value).len() as u64;
            Ok(())
        })?;
        let offsets = Arc::new(offsets);
        known.insert(part, Arc::clone(&offsets));
        Ok(offsets)
    }
}

fn head(kv: &dyn KvRead, partition: Option<i64>, content: u128) -> Result<PartHead, StateError> {
    let (mut length, mut sum) = (0, Xxh3::new());
    for_each_record(kv, partition, |family, key, value| {
        let frame = frame(family, &key, &value);
        length += frame.len() as u64;
        sum.update(&frame);
        Ok(())
    })?;
    Ok(PartHead { partition, content, length, checksum: sum.digest128() })
}

impl SnapshotSource for Source {
    fn applied(&self) -> Applied {
        self.manifest.applied.clone()
    }

    fn manifest(&self) -> Bytes {
        self.manifest.encode().into()
    }

    fn read(&self, part: u32, offset: u64, max: usize) -> Result<Bytes, StateError> {
        let offsets = self.offsets(part)?;
        let first = offsets.partition_point(|(at, ..)| *at <= offset).saturating_sub(1);
        let mut out = Vec::new();
        for (at, family, key) in &offsets[first.min(offsets.len())..] {
            if out.len() >= max {
                break;
            }
            let value = self.view.get(*family, key)?;
            let value = value.ok_or(StateError::Corrupt("a record of the snapshot is missing".into()))?;
            let frame = frame(*family, key, &value);
            let skip = usize::try_from(offset.saturating_sub(*at)).unwrap_or(usize::MAX);
            let from = frame.get(skip.min(frame.len())..).unwrap_or_default();
            out.extend_from_slice(&from[..from.len().min(max - out.len())]);
        }
        Ok(out.into())
    }
}

/// Takes a snapshot over.
pub(crate) struct Sink {
    shard: ShardId,
    dir: PathBuf,
    engine: Arc<dyn KvEngine>,
    state: Arc<RwLock<State>>,
    side: Arc<dyn Kv>,
    manifest: Manifest,
    /// Parts whose content this replica has.
    own: Vec<bool>,
    received: Vec<u64>,
    unsynced: usize,
}

fn piece_key(part: u32, offset: u64) -> Vec<u8> {
    let mut key = b"snapshot/part/".to_vec();
    key.extend_from_slice(&part.to_be_bytes());
    key.extend_from_slice(&offset.to_be_bytes());
    key
}

fn pieces(part: u32) -> KeyRange {
    let mut prefix = b"snapshot/part/".to_vec();
    prefix.extend_from_slice(&part.to_be_bytes());
    KeyRange::prefix(&prefix)
}

impl Sink {
    pub(crate) fn begin(
        shard: ShardId,
        dir: &Path,
        engine: Arc<dyn KvEngine>,
        state: Arc<RwLock<State>>,
        bytes: &Bytes,
    ) -> Result<Sink, StateError> {
        let manifest = Manifest::decode(bytes).map_err(corrupt)?;
        let well_formed = manifest.parts.iter().enumerate().all(|(i, p)| (i == 0) == p.partition.is_none());
        if manifest.shard != shard || manifest.parts.is_empty() || !well_formed {
            return Err(StateError::Corrupt(
                "snapshot manifest: of another shard, or without a state".into(),
            ));
        }
        let own_meta = {
            let state = state.read().unwrap_or_else(PoisonError::into_inner);
            let bytes = state.kv.get(Family::Meta, keys::META)?;
            bytes.map(|bytes| MetaRecord::decode(&bytes).map_err(corrupt)).transpose()?
        };
        let own = manifest
            .parts
            .iter()
            .map(|part| {
                let ours = own_meta.as_ref().zip(part.partition).and_then(|(m, p)| m.partitions.get(&p));
                ours.is_some_and(|ours| ours.sum.wrapping_sub(ours.open_sum) == part.content)
            })
            .collect();
        let path = side_dir(dir);
        let mut side = engine.open(&path)?;
        let there = side.get(Family::Meta, KEY_MANIFEST)?;
        if there.as_ref() != Some(bytes) {
            side.close();
            drop(side);
            engine.remove(&path)?;
            side = engine.open(&path)?;
            let mut batch = WriteBatch::new();
            batch.put(Family::Meta, KEY_MANIFEST, bytes.clone());
            side.write_synced(&batch)?;
        }
        model::point!("shard.install.begun");
        let mut received = Vec::with_capacity(manifest.parts.len());
        for part in 0..manifest.parts.len() as u32 {
            let mut length = 0;
            for piece in side.iter(Family::Meta, &pieces(part), Direction::Ascending)? {
                let (key, value) = piece?;
                if key == piece_key(part, length) {
                    length += value.len() as u64;
                }
            }
            received.push(length);
        }
        let dir = dir.to_owned();
        Ok(Sink { shard, dir, engine, state, side, manifest, own, received, unsynced: 0 })
    }

    /// Copies a partition that this replica has, as it is packed here.
    fn copy_own(&self, partition: i64, kv: &dyn KvRead) -> Result<(), StateError> {
        let mut batch = WriteBatch::new();
        for_each_record(kv, Some(partition), |family, key, value| {
            batch.put(family, key, value);
            if batch.bytes() > BATCH_BYTES {
                self.side.write(&std::mem::take(&mut batch))?;
            }
            Ok(())
        })?;
        Ok(self.side.write(&batch)?)
    }

    /// Checks what was received of a part and turns it into records.
    fn unpack(&self, part: u32, head: &PartHead) -> Result<(), StateError> {
        let mut sum = Xxh3::new();
        let mut length = 0;
        for piece in self.side.iter(Family::Meta, &pieces(part), Direction::Ascending)? {
            let (_, value) = piece?;
            sum.update(&value);
            length += value.len() as u64;
        }
        if length != head.length || sum.digest128() != head.checksum {
            let mut batch = WriteBatch::new();
            batch.delete_range(Family::Meta, pieces(part));
            self.side.write_synced(&batch)?;
            let text = format!("part {part} of the snapshot does not match its checksum; receive it again");
            return Err(StateError::Io(text));
        }
        let mut pending: Vec<u8> = Vec::new();
        let mut batch = WriteBatch::new();
        for piece in self.side.iter(Family::Meta, &pieces(part), Direction::Ascending)? {
            pending.extend_from_slice(&piece?.1);
            let mut done = 0;
            while let Some((family, key, value, len)) = read_frame(&pending[done..], head)? {
                batch.put(family, key, value);
                done += len;
                if batch.bytes() > BATCH_BYTES {
                    self.side.write(&std::mem::take(&mut batch))?;
                }
            }
            pending.drain(..done);
        }
        if !pending.is_empty() {
            return Err(StateError::Corrupt(format!("part {part} of the snapshot ends within a record")));
        }
        batch.delete_range(Family::Meta, pieces(part));
        Ok(self.side.write(&batch)?)
    }
}

type Frame = (Family, Bytes, Bytes, usize);

/// The next record; `None` if it is not all there yet.
fn read_frame(bytes: &[u8], head: &PartHead) -> Result<Option<Frame>, StateError> {
    let mut reader = Reader::new(bytes);
    let Ok(family) = reader.byte() else { return Ok(None) };
    let (Ok(key), Ok(value)) = (reader.bytes(), reader.bytes()) else { return Ok(None) };
    let family = match (family, head.partition) {
        (1, None) => Family::Meta,
        (2, None) => Family::State,
        (3, None) => Family::Series,
        (4, Some(partition)) if key.starts_with(&keys::partition(partition)) => Family::Chunks,
        _ => return Err(StateError::Corrupt("a record of the snapshot is in the wrong part".into())),
    };
    let len = bytes.len() - reader.len();
    Ok(Some((family, Bytes::copy_from_slice(key), Bytes::copy_from_slice(value), len)))
}

impl SnapshotSink for Sink {
    fn wanted(&self) -> Vec<WantedPart> {
        (0..)
            .zip(&self.manifest.parts)
            .zip(self.own.iter().zip(&self.received))
            .filter(|((_, head), (own, received))| !**own && **received < head.length)
            .map(|((part, head), (_, received))| WantedPart { part, from: *received, length: head.length })
            .collect()
    }

    fn write(&mut self, part: u32, offset: u64, data: &[u8]) -> Result<(), StateError> {
        let (Some(head), Some(received)) =
            (self.manifest.parts.get(part as usize), self.received.get_mut(part as usize))
        else {
            return Err(StateError::Io(format!("the snapshot has no part {part}")));
        };
        let end = offset.saturating_add(data.len() as u64);
        if offset != *received || end > head.length {
            let text = format!("part {part} of the snapshot goes on at {received}, not at {offset}");
            return Err(StateError::Io(text));
        }
        if data.is_empty() {
            return Ok(());
        }
        let mut batch = WriteBatch::new();
        batch.put(Family::Meta, piece_key(part, offset), Bytes::copy_from_slice(data));
        self.side.write(&batch)?;
        model::point!("shard.install.part");
        *received = end;
        self.unsynced += data.len();
        if self.unsynced > BATCH_BYTES || end == head.length {
            self.side.flush_sync()?;
            self.unsynced = 0;
        }
        Ok(())
    }

    fn commit(self: Box<Self>) -> Result<Applied, StateError> {
        if let Some(part) = self.wanted().first() {
            return Err(StateError::Io(format!("part {} of the snapshot is not complete", part.part)));
        }
        let ours = self.state.read().unwrap_or_else(PoisonError::into_inner).kv.snapshot();
        for ((part, head), own) in (0..).zip(&self.manifest.parts).zip(&self.own) {
            match (head.partition, own) {
                (Some(partition), true) => self.copy_own(partition, &*ours)?,
                _ => self.unpack(part, head)?,
            }
        }
        drop(ours);
        let applied = applied_of(&*self.side)?;
        if applied != self.manifest.applied {
            return Err(StateError::Corrupt("the snapshot's state is not of the index it names".into()));
        }
        let mut batch = WriteBatch::new();
        batch.delete(Family::Meta, KEY_MANIFEST);
        model::point!("shard.install.unpacked");
        self.side.write_synced(&batch)?;
        model::point!("shard.install.complete");
        self.switch(applied)
    }
}

impl Sink {
    /// Renames the side store into place and loads it. Apply waits.
    fn switch(self: Box<Self>, applied: Applied) -> Result<Applied, StateError> {
        let shared = Arc::clone(&self.state);
        let mut state = shared.write().unwrap_or_else(PoisonError::into_inner);
        if state.checkpointed.log_id > applied.log_id {
            return Err(StateError::Io("the snapshot is older than what is here".into()));
        }
        let [first, second] = data_dirs(&self.dir);
        let next = if state.directory == first { second } else { first };
        let Sink { side, engine, dir, shard, .. } = *self;
        side.close();
        drop(side);
        model::point!("shard.install.closed");
        engine.remove(&next)?;
        model::point!("shard.install.removed");
        engine.rename(&side_dir(&dir), &next)?;
        model::point!("shard.install.renamed");
        let kv = engine.open(&next)?;
        let cache = Arc::new(ChunkCache::new(super::CACHE_BYTES_MAX));
        *state = State::load(shard, kv, cache, next)?;
        Ok(applied)
    }
}
