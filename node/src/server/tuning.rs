//! Intervals that only a simulator changes: what takes hours in production happens within its minute.

use std::time::Duration;

/// How often a node does what is done rarely.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tuning {
    /// Bytes of log after which a shard's checkpoint is proposed: what it replays after a crash, and holds sealed in
    /// memory, at most.
    pub checkpoint_bytes: u64,
    /// Time after which a checkpoint is proposed if anything was written.
    pub checkpoint_interval: Duration,
    /// Entries that are kept behind a checkpoint for followers that lag.
    pub entries_kept: u64,
}

impl Default for Tuning {
    /// Production's.
    fn default() -> Self {
        Tuning {
            checkpoint_bytes: 16 << 20,
            checkpoint_interval: Duration::from_secs(15 * 60),
            entries_kept: raft::RaftOptions::default().entries_kept,
        }
    }
}
