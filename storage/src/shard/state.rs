//! The state of a shard in memory, and the small steps that keep its invariants.
//!
//! Invariants: `partitions` sums exactly the cells that windows and chunks hold; `sources_hash` is the sum of the
//! sources' contributions; a column's series points back at the column.

use super::{
    cache::ChunkCache,
    hash,
    index::{Index, SeriesId, SourceId},
    merge::Packing,
    settings::ShardSettings,
    source::Source,
    wire::Put,
};
use crate::kv::Kv;
use model::{Applied, ShardId, SourceKey, StateHash, TimestampMs};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, RwLock},
};

/// What is known of a partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct PartitionSum {
    /// Sum over its cells.
    pub sum: u128,
    /// Number of its cells.
    pub samples: u64,
    /// The part of `sum` that lies in open windows. Kept only in the meta record of a checkpoint.
    pub open_sum: u128,
}

/// Counters for metrics; they start at zero with the process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShardCounters {
    /// Samples stored, stale markers by layout included.
    pub samples_applied: u64,
    /// Samples not stored.
    pub samples_rejected: u64,
    /// Rows or commands refused whole.
    pub refusals: u64,
    /// Slots recorded as missed.
    pub slots_missed: u64,
    /// Windows sealed.
    pub windows_sealed: u64,
    /// Series added.
    pub series_added: u64,
    /// Series removed.
    pub series_removed: u64,
    /// Checkpoints written.
    pub checkpoints: u64,
    /// Chunks merged away.
    pub chunks_merged: u64,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct State {
    pub shard: ShardId,
    pub kv: Arc<dyn Kv>,
    pub cache: Arc<ChunkCache>,
    /// By id; a removed source leaves a hole.
    pub sources: Arc<Vec<Option<Arc<Source>>>>,
    pub by_key: BTreeMap<Arc<SourceKey>, SourceId>,
    /// Lives in a lock of its own because views share it.
    pub index: Arc<RwLock<Index>>,
    pub settings: ShardSettings,
    /// Everything before is dropped.
    pub cutoff: TimestampMs,
    pub partitions: BTreeMap<i64, PartitionSum>,
    pub partitions_hash: u128,
    pub sources_hash: u128,
    pub applied: Applied,
    pub checkpointed: Applied,
    /// Of the entry applied last.
    pub last_hash: Option<StateHash>,
    /// Series below this id are in the store.
    pub stored_series: SeriesId,
    /// Series in the store whose record is out of date.
    pub changed_series: BTreeSet<SeriesId>,
    /// Series to be removed from the store.
    pub removed_series: Vec<SeriesId>,
    /// Sources whose record is out of date.
    pub dirty: BTreeSet<SourceId>,
    /// Chunks before this partition are to be dropped from the store.
    pub drop_before: Option<i64>,
    pub packing: Packing,
    pub counters: ShardCounters,
}

impl State {
    pub(crate) fn new(shard: ShardId, kv: Arc<dyn Kv>, cache: Arc<ChunkCache>) -> State {
        State {
            shard,
            kv,
            cache,
            sources: Arc::default(),
            by_key: BTreeMap::new(),
            index: Arc::default(),
            settings: ShardSettings::default(),
            cutoff: TimestampMs::MIN,
            partitions: BTreeMap::new(),
            partitions_hash: 0,
            sources_hash: 0,
            applied: Applied::default(),
            checkpointed: Applied::default(),
            last_hash: None,
            stored_series: 0,
            changed_series: BTreeSet::new(),
            removed_series: Vec::new(),
            dirty: BTreeSet::new(),
            drop_before: None,
            packing: Packing::default(),
            counters: ShardCounters::default(),
        }
    }

    pub(crate) fn source(&self, id: SourceId) -> Option<&Arc<Source>> {
        self.sources.get(id as usize)?.as_ref()
    }

    pub(crate) fn source_by_key(&self, key: &SourceKey) -> Option<&Arc<Source>> {
        self.source(*self.by_key.get(key)?)
    }

    /// The source for a change; copied first if a view holds it.
    pub(crate) fn source_mut(&mut self, id: SourceId) -> &mut Source {
        self.dirty.insert(id);
        source_mut(&mut self.sources, id)
    }

    /// The id of the source with this key, which is made if there is none.
    pub(crate) fn ensure_source(&mut self, key: &Arc<SourceKey>) -> SourceId {
        if let Some(id) = self.by_key.get(key) {
            return *id;
        }
        let sources = Arc::make_mut(&mut self.sources);
        let id = u32::try_from(sources.len()).expect("fewer than 2^32 sources fit in a log");
        let mut source = Source::new(id, Arc::clone(key));
        source.contribution = source.state_hash();
        self.sources_hash = self.sources_hash.wrapping_add(source.contribution);
        sources.push(Some(Arc::new(source)));
        self.by_key.insert(Arc::clone(key), id);
        self.dirty.insert(id);
        id
    }

    /// Adds cells to a partition's sum.
    pub(crate) fn count(&mut self, partition: i64, sum: u128, samples: u64) {
        let entry = self.partitions.entry(partition).or_default();
        self.partitions_hash = self.partitions_hash.wrapping_sub(hash::partition(partition, entry.sum));
        entry.sum = entry.sum.wrapping_add(sum);
        entry.samples += samples;
        self.partitions_hash = self.partitions_hash.wrapping_add(hash::partition(partition, entry.sum));
    }

    /// Brings a source's part of the state hash up to date.
    pub(crate) fn settle(&mut self, id: SourceId) {
        let source = source_mut(&mut self.sources, id);
        let now = source.state_hash();
        self.sources_hash = self.sources_hash.wrapping_sub(source.contribution).wrapping_add(now);
        source.contribution = now;
    }

    /// The state hash at present.
    pub(crate) fn hash(&self) -> u128 {
        let mut bytes = Vec::with_capacity(96);
        bytes.extend_from_slice(&self.partitions_hash.to_le_bytes());
        bytes.extend_from_slice(&self.sources_hash.to_le_bytes());
        self.settings.put(&mut bytes);
        bytes.put_i64(self.cutoff.0);
        hash::record(&bytes)
    }

    /// Remembers the hash of the entry just applied.
    pub(crate) fn remember_hash(&mut self) {
        if let Some(log_id) = self.applied.log_id {
            self.last_hash = Some(StateHash { index: log_id.index, hash: self.hash() });
        }
    }
}

/// A source for a change, where `State` is borrowed in parts.
pub(crate) fn source_mut(sources: &mut Arc<Vec<Option<Arc<Source>>>>, id: SourceId) -> &mut Source {
    let source = Arc::make_mut(sources)[id as usize].as_mut().expect("a source that is known is there");
    Arc::make_mut(source)
}
