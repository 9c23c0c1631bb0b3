//! What a Raft group applies its entries to: the port between `raft`, which orders, and the state machines, which
//! keep (`storage`'s data shard, `raft`'s meta).
//!
//! Apply is total and deterministic: no clock, no randomness, no hash order, no failure on content. A failure of
//! the disk is a [`StateError`] and stops the replica, never the cluster.

use crate::{LogId, LogIndex};
use bytes::Bytes;

/// How far a state machine has come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// The last entry applied; `None` before the first.
    pub log_id: Option<LogId>,
    /// The group's membership as of that entry, opaque here: `raft` writes and reads it. Empty before the first.
    pub membership: Bytes,
}

/// What a committed entry says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntryPayload {
    /// A new leader's first entry.
    Blank,
    /// A command, in the state machine's own format.
    Command(Bytes),
    /// The membership from here on, opaque: kept and given back in [`Applied`].
    Membership(Bytes),
}

/// A committed entry, handed over exactly once and in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommittedEntry {
    /// Its term and index. The term is what fences a duty's outcome.
    pub log_id: LogId,
    /// What it says.
    pub payload: EntryPayload,
}

/// The local replica can not go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// Stored bytes are not what was written; the replica must be rebuilt from another.
    #[error("corrupt: {0}")]
    Corrupt(String),
    /// The disk is full; possible again when there is room.
    #[error("disk full: {0}")]
    DiskFull(String),
    /// Reading or writing failed.
    #[error("{0}")]
    Io(String),
}

/// The state hash of a replica at one index; equal at equal index on every replica, or one of them is damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StateHash {
    /// The applied index it belongs to.
    pub index: LogIndex,
    /// The hash over content, independent of packing.
    pub hash: u128,
}

/// A group's state. Calls to `apply` come from one thread at a time; everything else may come at any time.
/// `applied`, `checkpointed` and `recent_hashes` never wait for a disk, whatever else is under way: raft's one thread
/// asks them.
pub trait StateMachine: Send + Sync {
    /// How far it has applied, in memory.
    fn applied(&self) -> Applied;

    /// How far it is durable: replay starts behind this, and the log may be purged up to it.
    fn checkpointed(&self) -> Applied;

    /// Applies entries in order; one response for each (empty for blank and membership).
    ///
    /// # Errors
    /// Only of the local disk.
    fn apply(&self, entries: &[CommittedEntry]) -> Result<Vec<Bytes>, StateError>;

    /// Whether an entry asked for a checkpoint that was not begun yet. Who applies makes it before it applies more; it is
    /// no part of [`StateMachine::apply`], because it waits for the disk, and for long where that is slow.
    fn wants_checkpoint(&self) -> bool {
        false
    }

    /// Makes the present state durable; returns what is then [`StateMachine::checkpointed`].
    ///
    /// # Errors
    /// Only of the local disk.
    fn checkpoint(&self) -> Result<Applied, StateError>;

    /// Opens the last checkpoint for reading by another replica; it stays readable until it is dropped. Reads no
    /// more than the list of its parts.
    ///
    /// # Errors
    /// Only of the local disk.
    fn open_snapshot(&self) -> Result<Box<dyn SnapshotSource>, StateError>;

    /// Prepares to replace this state by a snapshot with this manifest. Nothing changes before the sink's `commit`;
    /// what a broken-off transfer of the same manifest left is used again.
    ///
    /// # Errors
    /// Of the local disk, or if the manifest is malformed.
    fn begin_install(&self, manifest: Bytes) -> Result<Box<dyn SnapshotSink>, StateError>;

    /// State hashes of the last indexes applied (some hundreds at most), ascending.
    fn recent_hashes(&self) -> Vec<StateHash>;
}

/// A checkpoint as a list of parts, each a run of pieces. Opening one reads no more than its list of parts: what is
/// large is read piece by piece, by whoever wants it.
pub trait SnapshotSource: Send + Sync {
    /// What the snapshot holds.
    fn applied(&self) -> Applied;
    /// The parts and what each must hold, versioned; what [`StateMachine::begin_install`] takes.
    fn manifest(&self) -> Bytes;
    /// The piece of a part that begins at `from`: nothing for the first, else where the piece before says that the
    /// next one begins. It has about `max` bytes; whole records are not cut.
    ///
    /// # Errors
    /// Of the local disk, or for a part or place that does not exist.
    fn read(&self, part: u32, from: &[u8], max: usize) -> Result<SnapshotPiece, StateError>;
}

/// A run of a part.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SnapshotPiece {
    /// What [`SnapshotSink::write`] takes.
    pub data: Bytes,
    /// Where the next piece begins, opaque; `None` at the end of the part.
    pub next: Option<Bytes>,
}

/// A part that the installing side still needs, from its beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WantedPart {
    /// Its number in the manifest.
    pub part: u32,
    /// About how many bytes it has: for progress, nothing relies on it.
    pub bytes: u64,
}

/// What [`SnapshotSink::check`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SnapshotCheck {
    /// One part is as the manifest says; there are more to look at.
    More,
    /// A part that was here already is not what the manifest says, and is wanted now.
    Wanted,
    /// Everything is here, as the manifest says, and can be committed.
    Whole,
}

/// Takes a snapshot's parts. All calls but `wanted` work on disk: never on a thread that others wait for.
pub trait SnapshotSink: Send {
    /// What is still needed; parts that are here already with the same content are not asked for.
    fn wanted(&self) -> Vec<WantedPart>;
    /// Takes the next piece of a part; `last` ends it.
    ///
    /// # Errors
    /// Of the local disk, or if the piece does not belong behind what is there.
    fn write(&mut self, part: u32, data: &[u8], last: bool) -> Result<(), StateError>;
    /// Compares the next part with what the manifest says it holds. To be called until it is
    /// [`SnapshotCheck::Whole`].
    ///
    /// # Errors
    /// If something is missing, or a received part is not what the manifest says; it is then wanted again by the
    /// next transfer.
    fn check(&mut self) -> Result<SnapshotCheck, StateError>;
    /// Switches the state machine over, durably and at once. Short: everything long is done before.
    ///
    /// # Errors
    /// If not everything was checked, or the disk fails; the old state is then in force. After
    /// [`StateError::DiskFull`] it may be tried again.
    fn commit(&mut self) -> Result<Applied, StateError>;
}
