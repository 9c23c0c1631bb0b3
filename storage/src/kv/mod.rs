//! The key-value port: an ordered store with families, atomic batches and consistent views, on which a shard's
//! replica keeps what is sealed or checkpointed.
//!
//! ```text
//!  shard ──WriteBatch──▶ memory of the engine ──flush_sync──▶ disk         a crash keeps a prefix of the batches,
//!    │                                                                     at least up to the last flush_sync
//!    └──snapshot()──▶ KvView (a query holds it; sees neither later writes nor later drops)
//! ```
//!
//! Two engines: [`RocksKv`] for production, [`MemKv`] for the simulator, where RocksDB's own threads cannot live.
//! There is no write-ahead log in either: the Raft log is the only one. Batches apply in the order of their calls;
//! one writer at a time is expected, readers come from anywhere.
//! Keys are compared as bytes. A range is half-open.

mod mem;
mod range;
mod rocks;
#[cfg(test)]
mod tests;

pub use mem::{MemDisk, MemKv};
pub use range::KeyRange;
pub use rocks::{RocksEngine, RocksKv, RocksOptions};

use bytes::Bytes;
use model::StateError;
use std::{
    fmt::Debug,
    path::{Path, PathBuf},
    sync::Arc,
};

/// A key space of its own, with settings for what it holds. The names are written to disk and never change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// Few small records: applied index, format version, partition hashes.
    Meta,
    /// Sources, layouts, open rows, duty states: what a checkpoint rewrites.
    State,
    /// Series labels and symbols. Compressed.
    Series,
    /// Sealed windows and two-hour chunks, partition first. Not compressed again.
    Chunks,
}

impl Family {
    /// All families; an engine opens every one of them.
    pub const ALL: [Family; 4] = [Family::Meta, Family::State, Family::Series, Family::Chunks];

    /// The name on disk.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Family::Meta => "meta",
            Family::State => "state",
            Family::Series => "series",
            Family::Chunks => "chunks",
        }
    }

    fn index(self) -> usize {
        self as usize
    }
}

/// Why the store could not do what was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KvError {
    /// Stored bytes are not what was written; the replica must be rebuilt from another.
    #[error("key-value store is corrupt: {0}")]
    Corrupt(String),
    /// No room; possible again when there is some.
    #[error("no space left for the key-value store: {0}")]
    DiskFull(String),
    /// Reading or writing failed.
    #[error("key-value store: {0}")]
    Io(String),
}

impl From<KvError> for StateError {
    fn from(error: KvError) -> StateError {
        match error {
            KvError::Corrupt(text) => StateError::Corrupt(text),
            KvError::DiskFull(text) => StateError::DiskFull(text),
            KvError::Io(text) => StateError::Io(text),
        }
    }
}

/// Which end an iteration begins at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Smallest key first.
    Ascending,
    /// Largest key first.
    Descending,
}

/// Pairs in key order; after an error nothing follows.
pub type KvIter<'a> = Box<dyn Iterator<Item = Result<(Bytes, Bytes), KvError>> + Send + 'a>;

/// One change of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WriteOp {
    /// Sets a key.
    Put(Family, Bytes, Bytes),
    /// Removes a key, if it is there.
    Delete(Family, Bytes),
    /// Removes all keys of a range. Costs every later read of the range a little until compaction: for ranges,
    /// not for keys.
    DeleteRange(Family, KeyRange),
}

/// Changes that become visible, and after a crash are there, together or not at all. Later changes of one batch
/// win over earlier ones.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WriteBatch {
    ops: Vec<WriteOp>,
    bytes: usize,
}

impl WriteBatch {
    /// An empty batch.
    #[must_use]
    pub fn new() -> WriteBatch {
        WriteBatch::default()
    }

    /// Sets a key.
    pub fn put(&mut self, family: Family, key: impl Into<Bytes>, value: impl Into<Bytes>) {
        let (key, value) = (key.into(), value.into());
        self.bytes += key.len() + value.len();
        self.ops.push(WriteOp::Put(family, key, value));
    }

    /// Removes a key.
    pub fn delete(&mut self, family: Family, key: impl Into<Bytes>) {
        let key = key.into();
        self.bytes += key.len();
        self.ops.push(WriteOp::Delete(family, key));
    }

    /// Removes all keys of a range.
    pub fn delete_range(&mut self, family: Family, range: KeyRange) {
        self.ops.push(WriteOp::DeleteRange(family, range));
    }

    /// The changes in order.
    #[must_use]
    pub fn ops(&self) -> &[WriteOp] {
        &self.ops
    }

    /// Bytes of keys and values, so that a caller can bound its batches.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether nothing was put in.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }
}

/// Reading: the store as it is, or as it was when a view was opened.
pub trait KvRead: Send + Sync + Debug {
    /// The value of a key.
    ///
    /// # Errors
    /// If the disk fails or what it holds is damaged.
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, KvError>;

    /// The pairs of a range, read as they are asked for, all as of this call (of the view's opening, for a view).
    ///
    /// # Errors
    /// If the iteration cannot begin; what fails later comes as an item.
    fn iter(&self, family: Family, range: &KeyRange, direction: Direction) -> Result<KvIter<'_>, KvError>;
}

/// A consistent view. Holding one keeps old files and versions: drop it when the query ends.
pub type KvView = Arc<dyn KvRead>;

/// An ordered key-value store.
pub trait Kv: KvRead {
    /// Applies a batch, visible at once, durable with the next [`Kv::flush_sync`] (or earlier: an engine may
    /// flush by itself, always a prefix of the batches).
    ///
    /// # Errors
    /// If the store cannot take it; nothing of the batch is visible then.
    fn write(&self, batch: &WriteBatch) -> Result<(), KvError>;

    /// Makes all earlier writes of all families durable in one atomic step; returns when they are.
    ///
    /// # Errors
    /// If they may not be durable; which of them are is then unknown, in order of the batches.
    fn flush_sync(&self) -> Result<(), KvError>;

    /// Applies a batch and makes it and everything before durable.
    ///
    /// # Errors
    /// As for `write` and `flush_sync`.
    fn write_synced(&self, batch: &WriteBatch) -> Result<(), KvError> {
        self.write(batch)?;
        self.flush_sync()
    }

    /// Opens a view of the present state.
    fn snapshot(&self) -> KvView;

    /// Writes pairs, which must ascend strictly by key, as files of their own that bypass the memory of the
    /// engine. They are visible all at once and durable on return, *before* unflushed batches are.
    ///
    /// # Errors
    /// If the keys do not ascend or the disk fails; nothing is visible then.
    fn ingest_sorted(
        &self,
        family: Family,
        pairs: &mut dyn Iterator<Item = (Bytes, Bytes)>,
    ) -> Result<(), KvError>;

    /// Removes a range as a [`WriteOp::DeleteRange`] does, and drops files that lie in it as a whole, as soon as
    /// no view can see them. After a crash before the next flush, any part of the range may be gone or back: call
    /// it only for what replay does not need, and again after a restart (retention does both).
    ///
    /// # Errors
    /// If the disk fails.
    fn drop_range(&self, family: Family, range: &KeyRange) -> Result<(), KvError>;

    /// Gives the space back that replaced and removed pairs of a range still take, now instead of some day. It may
    /// take long, and changes nothing that can be read.
    ///
    /// # Errors
    /// If the disk fails.
    fn compact(&self, family: Family, range: &KeyRange) -> Result<(), KvError>;

    /// Writes a copy of everything written so far to the new directory `dir`, sharing files (hard links) where
    /// it can. `dir` must not exist; its parent must. Opens like any other store.
    ///
    /// # Errors
    /// If the disk fails; `dir` may then be incomplete and is to be removed.
    fn checkpoint_to(&self, dir: &Path) -> Result<(), KvError>;

    /// About how many bytes a family takes, memory and disk.
    fn approximate_bytes(&self, family: Family) -> u64;

    /// Stops background work; what was not flushed may be lost. The store takes no writes after it. Its directory
    /// stays taken until the last handle and the last view are gone.
    fn close(&self);

    /// Closes the store, and removes its directory when the last handle and the last view are gone: another one has
    /// taken its place. A process that dies before leaves the directory.
    fn retire(&self);
}

/// Opens and removes stores: the production one on directories, the simulator's on a disk in memory.
pub trait KvEngine: Send + Sync + Debug {
    /// Opens the store in `dir`, making it if it does not exist. One store at a time per directory: it is taken for
    /// as long as there is a handle or a view of it.
    ///
    /// # Errors
    /// If it is damaged, of a later version, open already, or the disk fails.
    fn open(&self, dir: &Path) -> Result<Arc<dyn Kv>, KvError>;

    /// Whether there is a store in `dir`.
    fn exists(&self, dir: &Path) -> bool;

    /// The directories in `parent`, with a store in them or not, sorted; none if it does not exist.
    ///
    /// # Errors
    /// If the disk fails.
    fn list(&self, parent: &Path) -> Result<Vec<PathBuf>, KvError>;

    /// Removes a closed store with all its data; no error if there is none.
    ///
    /// # Errors
    /// If the disk fails.
    fn remove(&self, dir: &Path) -> Result<(), KvError>;
}
