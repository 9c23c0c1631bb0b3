//! A data shard: what its log says, as state that can be read, checkpointed, copied and compared.
//!
//! ```text
//!            SegmentBuilder ─command─▶ (raft) ─entry─▶ DataShard::apply ─▶ open windows ─seal─▶ chunks ─▶ Kv
//!                 ▲                                        │  index, sources, settings            │
//!        rows, last applied layout                         └──────────▶ DataShard::view ◀─────────┘
//! ```
//!
//! Apply is total and deterministic: what one replica answers to an entry, every replica answers. State hashes at
//! equal indexes are equal, whatever was checkpointed, restarted, merged or copied in between.

mod apply;
mod blocks;
mod cache;
mod cells;
mod checkpoint;
mod chunk;
pub mod command;
mod encode;
mod hash;
mod index;
mod keys;
mod matching;
mod merge;
mod parts;
mod reading;
mod retention;
mod seal;
mod segment;
mod settings;
mod snapshot;
mod source;
mod state;
mod stats;
mod stored;
mod table;
#[cfg(test)]
mod tests;
mod told;
mod verify;
mod view;
mod window;
mod wire;

pub use cache::ReadError;
pub use command::{COMMAND_BYTES_MAX, DataCommand, DataResponse, MissedSlots, Refusal, Rejection, RowResult};
pub use encode::{Pass, Pushed, RowEncoder, RowTooLong, SEGMENT_BYTES_MAX, SegmentBuilder};
pub use parts::MergedView;
pub use settings::ShardSettings;
pub use snapshot::KEY_MANIFEST;
pub use state::ShardCounters;
pub use stats::{CountByName, Gap, ShardStats};
pub use verify::{CheckReport, check};
pub use view::ShardView;
pub use wire::Malformed;

use crate::kv::{Family, Kv, KvEngine};
use apply::After;
use bytes::Bytes;
use cache::ChunkCache;
use index::{NO_COLUMN, SourceId};
use model::{
    Applied, CommittedEntry, ConfigVersion, Labels, LogIndex, ShardId, SnapshotSink, SnapshotSource,
    SourceKey, StateError, StateHash, StateMachine, TimestampMs,
};
use snapshot::Stores;
use state::State;
use std::{
    ops::{Deref, DerefMut},
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicBool, Ordering},
    },
};
use told::Told;
use view::ViewInner;

/// Bytes of chunks that a shard keeps unpacked after reading.
const CACHE_BYTES_MAX: usize = 32 << 20;

/// One replica of one data shard. A replica is a directory.
#[derive(Debug)]
pub struct DataShard {
    shard: ShardId,
    stores: Arc<Stores>,
    shared: Arc<Shared>,
}

/// What a replica is now; an installed snapshot changes it.
#[derive(Debug)]
struct Shared {
    /// Held by who changes the state for as long as that takes. Readers do not wait for it.
    changing: Mutex<()>,
    state: RwLock<State>,
    /// The last view, shared until something is applied.
    last_view: Mutex<Option<ShardView>>,
    told: Mutex<Told>,
    /// An entry asked for a checkpoint that was not begun yet.
    wants_checkpoint: AtomicBool,
}

impl Shared {
    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().expect("apply is total: no holder panics")
    }

    fn changing(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state, for a change. A state that was being changed when somebody panicked is not to be gone on with, and
    /// least of all to be made durable.
    fn write(&self) -> Result<Change<'_>, StateError> {
        let changing = self.changing();
        Ok(Change { state: self.state.write().map_err(broken)?, _changing: changing })
    }

    /// Makes the state durable, while others read it.
    fn checkpoint(&self) -> Result<Applied, StateError> {
        let _changing = self.changing();
        self.wants_checkpoint.store(false, Ordering::Release);
        let written = self.state.read().map_err(broken)?.write_checkpoint()?;
        let mut state = self.state.write().map_err(broken)?;
        if let Some(written) = written {
            state.checkpoint_written(written)?;
        }
        self.note(&state);
        Ok(state.checkpointed.clone())
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells of an entry or a checkpoint.
    fn note(&self, state: &State) {
        if self.told().note(state) {
            // Else a shard that nobody asks would keep the files of its last query for ever.
            self.last_view.lock().unwrap_or_else(PoisonError::into_inner).take();
        }
    }

    /// Puts another state in force; yields the one before.
    fn replace(&self, state: State) -> Result<State, StateError> {
        let mut current = self.write()?;
        *self.told() = Told::of(&state);
        self.last_view.lock().unwrap_or_else(PoisonError::into_inner).take();
        Ok(std::mem::replace(&mut *current, state))
    }
}

fn broken<T>(_: PoisonError<T>) -> StateError {
    StateError::Corrupt("the state in memory is broken by a panic; restart the node: it replays".into())
}

/// The state while somebody changes it.
struct Change<'a> {
    state: RwLockWriteGuard<'a, State>,
    _changing: MutexGuard<'a, ()>,
}

impl Deref for Change<'_> {
    type Target = State;

    fn deref(&self) -> &State {
        &self.state
    }
}

impl DerefMut for Change<'_> {
    fn deref_mut(&mut self) -> &mut State {
        &mut self.state
    }
}

impl DataShard {
    /// Opens the replica in `dir`, making it if it does not exist; finishes or undoes an installation that a crash
    /// broke off. The state is the one of the last checkpoint.
    ///
    /// # Errors
    /// If the directory is damaged, holds another shard, or the disk fails.
    pub fn open(shard: ShardId, dir: &Path, engine: Arc<dyn KvEngine>) -> Result<DataShard, StateError> {
        let (stores, data) = Stores::settle(dir, Arc::clone(&engine))?;
        let kv = engine.open(&data)?;
        if kv.get(Family::Meta, snapshot::KEY_MANIFEST)?.is_some() {
            let text = format!("{} is an unfinished snapshot; {}", data.display(), snapshot::REMEDY);
            return Err(StateError::Corrupt(text));
        }
        let state = State::load(shard, kv, Arc::new(ChunkCache::new(CACHE_BYTES_MAX)))?;
        let told = Mutex::new(Told::of(&state));
        let shared = Arc::new(Shared {
            changing: Mutex::default(),
            state: RwLock::new(state),
            last_view: Mutex::default(),
            told,
            wants_checkpoint: AtomicBool::new(false),
        });
        Ok(DataShard { shard, stores: Arc::new(stores), shared })
    }

    /// The shard.
    #[must_use]
    pub fn shard(&self) -> ShardId {
        self.shard
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.shared.read()
    }

    fn write(&self) -> Result<Change<'_>, StateError> {
        self.shared.write()
    }

    /// A view of what is applied now.
    #[must_use]
    pub fn view(&self) -> ShardView {
        let state = self.read();
        let mut last = self.shared.last_view.lock().unwrap_or_else(PoisonError::into_inner);
        let applied = state.applied.log_id.map_or(LogIndex(0), |id| id.index);
        if let Some(view) = &*last
            && view.inner.index_applied == applied
            && Arc::ptr_eq(&view.inner.sources, &state.sources)
            && Arc::ptr_eq(&view.inner.index, &state.index)
        {
            return view.clone();
        }
        let bound = state.index.read().expect("no holder panics").next_id();
        let view = ShardView {
            inner: Arc::new(ViewInner {
                shard: self.shard,
                index_applied: applied,
                sources: Arc::clone(&state.sources),
                index: Arc::clone(&state.index),
                bound,
                kv: state.kv.snapshot(),
                cache: Arc::clone(&state.cache),
            }),
        };
        *last = Some(view.clone());
        view
    }

    /// The id and layout of a source that is applied.
    pub(crate) fn layout(&self, key: &SourceKey) -> Option<(SourceId, u64)> {
        let state = self.read();
        let source = state.source_by_key(key)?;
        Some((source.id, source.layout))
    }

    /// The columns that series have in a layout; [`NO_COLUMN`] for those that have none, or if the layout is gone.
    pub(crate) fn columns_of(&self, id: SourceId, layout: u64, series: &[Labels]) -> Vec<u32> {
        let state = self.read();
        let Some(source) = state.source(id).filter(|source| source.layout == layout) else {
            return vec![NO_COLUMN; series.len()];
        };
        let index = state.index.read().expect("no holder panics");
        series
            .iter()
            .map(|labels| {
                index
                    .find(id, source.series_hash(labels), labels)
                    .and_then(|series| index.get(series))
                    .map_or(NO_COLUMN, |record| record.column)
            })
            .collect()
    }

    /// The last slot of a source that has an outcome or was recorded as missed. A new leader asks it before it begins.
    #[must_use]
    pub fn last_slot(&self, key: &SourceKey) -> Option<TimestampMs> {
        let state = self.read();
        let last = state.source_by_key(key)?.last_slot;
        (last != TimestampMs::MIN).then_some(last)
    }

    /// The newest timestamp of a source: what a row with this one or an older one brings may be refused.
    #[must_use]
    pub fn newest(&self, key: &SourceKey) -> Option<TimestampMs> {
        let newest = self.read().source_by_key(key)?.newest;
        (newest != TimestampMs::MIN).then_some(newest)
    }

    /// All sources that are applied.
    #[must_use]
    pub fn sources(&self) -> Vec<Arc<SourceKey>> {
        self.read().by_key.keys().cloned().collect()
    }

    /// Sources with series that have not ended: those of targets that were removed need an `EndSource`.
    #[must_use]
    pub fn live_sources(&self) -> Vec<Arc<SourceKey>> {
        let state = self.read();
        state.sources.iter().flatten().filter(|s| s.live.len() > 0).map(|s| Arc::clone(&s.key)).collect()
    }

    /// The version of the settings in force. Does not wait for a checkpoint that is being written.
    #[must_use]
    pub fn config_version(&self) -> ConfigVersion {
        self.shared.told().config_version
    }

    /// The settings in force.
    #[must_use]
    pub fn settings(&self) -> ShardSettings {
        self.read().settings.clone()
    }

    /// The state hash at present.
    #[must_use]
    pub fn state_hash(&self) -> u128 {
        self.read().hash()
    }
}

impl StateMachine for DataShard {
    fn applied(&self) -> Applied {
        self.shared.told().applied.clone()
    }

    fn checkpointed(&self) -> Applied {
        self.shared.told().checkpointed.clone()
    }

    fn apply(&self, entries: &[CommittedEntry]) -> Result<Vec<Bytes>, StateError> {
        let mut responses = Vec::with_capacity(entries.len());
        for entry in entries {
            // One lock per entry: a view waits for one entry at most, and never sees half of one.
            let mut state = self.write()?;
            let applied = state.apply_entry(entry);
            self.shared.note(&state);
            drop(state);
            let (response, after) = applied?;
            if after == After::Checkpoint {
                self.shared.wants_checkpoint.store(true, Ordering::Release);
            }
            responses.push(response);
        }
        Ok(responses)
    }

    fn wants_checkpoint(&self) -> bool {
        self.shared.wants_checkpoint.load(Ordering::Acquire)
    }

    fn checkpoint(&self) -> Result<Applied, StateError> {
        self.shared.checkpoint()
    }

    fn open_snapshot(&self) -> Result<Box<dyn SnapshotSource>, StateError> {
        if self.checkpointed().log_id.is_none() {
            self.checkpoint()?;
        }
        let kv: Arc<dyn Kv> = Arc::clone(&self.read().kv);
        Ok(Box::new(snapshot::Source::open(&*kv)?))
    }

    fn begin_install(&self, manifest: Bytes) -> Result<Box<dyn SnapshotSink>, StateError> {
        let (stores, shared) = (Arc::clone(&self.stores), Arc::clone(&self.shared));
        Ok(Box::new(snapshot::Sink::begin(self.shard, stores, shared, &manifest)?))
    }

    fn recent_hashes(&self) -> Vec<StateHash> {
        self.shared.told().hashes.iter().copied().collect()
    }
}
