//! Takes a snapshot over, in a store beside the one in force.

use super::{
    KEY_MANIFEST, Manifest, PartHead,
    check::{Checking, Found},
    parts::{next_record, place, ranges},
    stores::Stores,
};
use crate::{
    kv::{Direction, Family, KeyRange, Kv, KvError, KvRead, WriteBatch},
    shard::{
        Shared,
        checkpoint::{MetaRecord, corrupt, put_applied},
        keys,
        wire::Reader,
    },
};
use bytes::Bytes;
use model::{Applied, ShardId, SnapshotCheck, SnapshotSink, StateError, WantedPart};
use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
    path::PathBuf,
    sync::Arc,
};
use xxhash_rust::xxh3::xxh3_128;

/// Bytes received before they are made durable.
const SYNC_BYTES: usize = 16 << 20;
const PROGRESS: &[u8] = b"snapshot/part/";
const PROGRESS_STATE: &[u8] = b"snapshot/state";

/// See the module.
pub(crate) struct Sink {
    stores: Arc<Stores>,
    shared: Arc<Shared>,
    path: PathBuf,
    store: Arc<dyn Kv>,
    manifest: Manifest,
    /// By number.
    parts: Vec<Have>,
    /// The part that is being written, and its last record.
    writing: Option<(u32, Vec<u8>)>,
    unsynced: usize,
    checking: Option<Checking>,
}

/// What is here of a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Have {
    Nothing,
    /// The replica had it before the transfer.
    Own,
    Received,
}

/// What a whole part holds; written with its last records, so it is never durable before them.
#[derive(Clone, Copy, Debug)]
struct Progress {
    content: u128,
    have: Have,
}

impl Progress {
    fn encode(self) -> Vec<u8> {
        let mut out = self.content.to_le_bytes().to_vec();
        out.push(u8::from(self.have == Have::Received));
        out
    }

    fn decode(bytes: &[u8]) -> Option<Progress> {
        let (content, received) = bytes.split_first_chunk::<16>()?;
        let have = if received == [0] { Have::Own } else { Have::Received };
        Some(Progress { content: u128::from_le_bytes(*content), have })
    }
}

fn progress_key(partition: Option<i64>) -> Vec<u8> {
    match partition {
        None => PROGRESS_STATE.to_vec(),
        Some(partition) => [PROGRESS, &keys::partition(partition)].concat(),
    }
}

/// What identifies a part: the partition's content, for part 0 index and state hash.
fn content(manifest: &Manifest, head: &PartHead) -> u128 {
    if head.partition.is_some() {
        return head.content;
    }
    let mut bytes = head.content.to_le_bytes().to_vec();
    put_applied(&mut bytes, &manifest.applied);
    xxh3_128(&bytes)
}

/// What a store that was unfinished before has whole.
fn progress_of(kv: &dyn KvRead) -> Result<BTreeMap<Option<i64>, Progress>, StateError> {
    let mut all = BTreeMap::new();
    if let Some(state) = kv.get(Family::Meta, PROGRESS_STATE)?.as_deref().and_then(Progress::decode) {
        all.insert(None, state);
    }
    for pair in kv.iter(Family::Meta, &KeyRange::prefix(PROGRESS), Direction::Ascending)? {
        let (key, value) = pair?;
        let partition = keys::read_time(&key[PROGRESS.len()..]);
        if let Some((partition, progress)) = partition.zip(Progress::decode(&value)) {
            all.insert(Some(partition), progress);
        }
    }
    Ok(all)
}

/// What a copy of the store in force has whole: what its checkpoint says.
fn progress_of_copy(kv: &dyn KvRead) -> Result<BTreeMap<Option<i64>, Progress>, StateError> {
    let Some(bytes) = kv.get(Family::Meta, keys::META)? else { return Ok(BTreeMap::new()) };
    let meta = MetaRecord::decode(&bytes).map_err(corrupt)?;
    let of = |(start, sum): (&i64, &crate::shard::state::PartitionSum)| {
        (Some(*start), Progress { content: sum.sum.wrapping_sub(sum.open_sum), have: Have::Own })
    };
    Ok(meta.partitions.iter().map(of).collect())
}

fn remove_part(batch: &mut WriteBatch, partition: Option<i64>) {
    batch.delete(Family::Meta, progress_key(partition));
    for (family, range) in ranges(partition) {
        batch.delete_range(family, range);
    }
}

impl Sink {
    /// Begins, or goes on with what an earlier transfer left. Works on the parts' list, not on what they hold.
    pub(crate) fn begin(
        shard: ShardId,
        stores: Arc<Stores>,
        shared: Arc<Shared>,
        bytes: &Bytes,
    ) -> Result<Sink, StateError> {
        let manifest = Manifest::decode(bytes).map_err(corrupt)?;
        if manifest.shard != shard {
            return Err(StateError::Corrupt("snapshot manifest: of another shard".into()));
        }
        let mut numbers = stores.numbers();
        let path = match numbers.unfinished.clone() {
            Some(path) => path,
            None => {
                let path = numbers.new_path(&stores.dir);
                let kv = Arc::clone(&shared.write()?.kv);
                // Shares its files, so what need not be received costs nothing.
                kv.checkpoint_to(&path)?;
                model::point!("shard.install.copied");
                numbers.unfinished = Some(path.clone());
                path
            }
        };
        let store = stores.engine.open(&path);
        if matches!(store, Err(KvError::Corrupt(_))) {
            stores.engine.remove(&path)?; // nothing in it is needed; the next transfer begins with a new one
            numbers.unfinished = None;
        }
        drop(numbers);
        let store = store?;
        let before = store.get(Family::Meta, KEY_MANIFEST)?;
        let (progress, parts_before) = match &before {
            None => (progress_of_copy(&*store)?, Vec::new()),
            Some(bytes) => {
                (progress_of(&*store)?, Manifest::decode(bytes).map(|m| m.parts).unwrap_or_default())
            }
        };
        let mut batch = WriteBatch::new();
        batch.put(Family::Meta, KEY_MANIFEST, bytes.clone());
        let mut parts = Vec::with_capacity(manifest.parts.len());
        for head in &manifest.parts {
            let whole = progress.get(&head.partition).filter(|p| p.content == content(&manifest, head));
            match whole {
                Some(whole) => batch.put(Family::Meta, progress_key(head.partition), whole.encode()),
                None => remove_part(&mut batch, head.partition),
            }
            parts.push(whole.map_or(Have::Nothing, |whole| whole.have));
        }
        let known: BTreeSet<i64> = progress
            .keys()
            .copied()
            .chain(parts_before.iter().map(|part| part.partition))
            .flatten()
            .collect();
        for partition in known.into_iter().filter(|partition| manifest.content_of(*partition).is_none()) {
            remove_part(&mut batch, Some(partition));
        }
        store.write_synced(&batch)?;
        model::point!("shard.install.begun");
        Ok(Sink { stores, shared, path, store, manifest, parts, writing: None, unsynced: 0, checking: None })
    }

    /// Takes a part that is not what it must be out again.
    fn reject(&mut self, part: u32, reason: &str) -> Result<SnapshotCheck, StateError> {
        let head = &self.manifest.parts[part as usize];
        let mut batch = WriteBatch::new();
        remove_part(&mut batch, head.partition);
        self.store.write_synced(&batch)?;
        self.checking = None;
        let what = head.partition.map_or("the state".to_owned(), |start| format!("partition {start}"));
        match mem::replace(&mut self.parts[part as usize], Have::Nothing) {
            Have::Own => {
                tracing::warn!(path = %self.path.display(), what, reason, "damaged here, is received instead");
                Ok(SnapshotCheck::Wanted)
            }
            _ => Err(StateError::Io(format!(
                "{what} of the snapshot is not what its leader recorded ({reason}); it is received again, and if that does not help, run vestal check on that leader"
            ))),
        }
    }
}

impl SnapshotSink for Sink {
    fn wanted(&self) -> Vec<WantedPart> {
        let parts = (0..).zip(&self.manifest.parts).zip(&self.parts);
        let wanted = parts.filter(|(_, have)| **have == Have::Nothing);
        wanted.map(|((part, head), _)| WantedPart { part, bytes: head.bytes }).collect()
    }

    fn write(&mut self, part: u32, data: &[u8], last: bool) -> Result<(), StateError> {
        let head = self.manifest.parts.get(part as usize);
        let Some(head) = head.filter(|_| self.parts[part as usize] == Have::Nothing) else {
            return Err(StateError::Io(format!("part {part} of the snapshot is not wanted")));
        };
        let mut at = self.writing.take().filter(|(of, _)| *of == part).map(|(_, at)| at).unwrap_or_default();
        let mut reader = Reader::new(data);
        let mut batch = WriteBatch::new();
        while !reader.is_empty() {
            let record = next_record(&mut reader, head)?;
            let place = place(record.family, &record.key);
            if place <= at {
                return Err(StateError::Corrupt("piece of a snapshot: its records do not ascend".into()));
            }
            at = place;
            batch.put(record.family, record.key, record.value);
        }
        if last {
            let whole = Progress { content: content(&self.manifest, head), have: Have::Received };
            batch.put(Family::Meta, progress_key(head.partition), whole.encode());
        }
        self.store.write(&batch)?;
        model::point!("shard.install.part");
        if last {
            self.parts[part as usize] = Have::Received;
        } else {
            self.writing = Some((part, at));
        }
        self.unsynced += data.len();
        if self.unsynced > SYNC_BYTES {
            self.store.flush_sync()?;
            self.unsynced = 0;
        }
        Ok(())
    }

    fn check(&mut self) -> Result<SnapshotCheck, StateError> {
        if let Some(part) = self.wanted().first() {
            return Err(StateError::Io(format!("part {} of the snapshot is not complete", part.part)));
        }
        let found = match &mut self.checking {
            Some(checking) => checking.next(&*self.store, &self.manifest)?,
            None => {
                self.store.flush_sync()?;
                match Checking::begin(&self.manifest, Arc::clone(&self.store))? {
                    Ok(checking) => {
                        self.checking = Some(checking);
                        Found::Sound
                    }
                    Err(reason) => Found::Wrong(0, reason),
                }
            }
        };
        match found {
            Found::Sound => Ok(SnapshotCheck::More),
            Found::Whole => Ok(SnapshotCheck::Whole),
            Found::Wrong(part, reason) => self.reject(part, &reason),
        }
    }

    fn commit(&mut self) -> Result<Applied, StateError> {
        let Sink { stores, shared, store, manifest, checking, .. } = self;
        let unchecked = || StateError::Io("the snapshot was not checked to its end".into());
        if !checking.as_ref().is_some_and(|checking| checking.is_whole(manifest)) {
            return Err(unchecked());
        }
        if shared.write()?.checkpointed.log_id > manifest.applied.log_id {
            return Err(StateError::Io("the snapshot is older than what is here".into()));
        }
        let mut batch = WriteBatch::new();
        batch.delete(Family::Meta, KEY_MANIFEST);
        batch.delete(Family::Meta, PROGRESS_STATE);
        batch.delete_range(Family::Meta, KeyRange::prefix(PROGRESS));
        model::point!("shard.install.checked");
        store.write_synced(&batch)?;
        model::point!("shard.install.complete");
        // Only now: what found no room above is tried again.
        let state =
            checking.take().and_then(|checking| checking.into_whole(manifest)).ok_or_else(unchecked)?;
        let old = shared.replace(state)?;
        stores.numbers().unfinished = None;
        old.kv.retire();
        model::point!("shard.install.retired");
        Ok(manifest.applied.clone())
    }
}
