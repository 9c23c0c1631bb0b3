//! What can go wrong, by remedy.

use super::Position;
use model::{LogIndex, ShardId};
use std::io;

/// The log could not be opened. Nothing was changed on disk.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The limits contradict each other.
    #[error("{0}")]
    Options(String),
    /// Synced bytes are not what was written. The node is fenced: its replicas must be rebuilt from others.
    #[error(
        "log is damaged at segment {} offset {}: {reason}; nothing was deleted, \
         move the data directory away and let the node rejoin with an empty one",
        at.segment, at.offset
    )]
    Corrupt {
        /// Where.
        at: Position,
        /// What is wrong.
        reason: String,
    },
    /// A segment file that must be there is not.
    #[error(
        "log segment {segment} is missing; restore the file, or move the data directory away and let the node \
         rejoin with an empty one"
    )]
    SegmentMissing {
        /// Its number.
        segment: u32,
    },
    /// The log was written by another version of the program.
    #[error("log segment {segment} has format version {found}, this program reads version {supported}")]
    Version {
        /// The segment.
        segment: u32,
        /// What it says.
        found: u32,
        /// What would be understood.
        supported: u32,
    },
    /// The file system failed.
    #[error("{doing}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
}

/// An operation on the open log failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// The live entries of all groups leave no room. Possible again when groups are checkpointed and purged.
    #[error(
        "log full: {live} bytes of live entries, {wanted} more wanted, {max} allowed by --storage.log.size"
    )]
    Full {
        /// Bytes of live entries, those that wait included.
        live: u64,
        /// Bytes of what was to be appended.
        wanted: u64,
        /// The limit.
        max: u64,
    },
    /// Too much waits for the disk; wait for [`super::Log::room`].
    #[error("log queue full: {queued} bytes wait for the disk")]
    QueueFull {
        /// Bytes that wait.
        queued: u64,
    },
    /// The file system has no room. What waits is held until there is; more is not taken.
    #[error("disk full: {0}")]
    DiskFull(String),
    /// The caller broke a rule; nothing was changed.
    #[error("{0}")]
    Invalid(String),
    /// Entries up to this index were purged.
    #[error("entries of shard {group} below {first} are purged")]
    Purged {
        /// The group.
        group: ShardId,
        /// The first index that is there.
        first: LogIndex,
    },
    /// What was read is not what was written. The node must be fenced.
    #[error("log is damaged at segment {} offset {}: {reason}", at.segment, at.offset)]
    Corrupt {
        /// Where.
        at: Position,
        /// What is wrong.
        reason: String,
    },
    /// A write or sync failed earlier; what is on disk is unknown. Only a restart helps.
    #[error("log is poisoned by an earlier failure: {0}")]
    Poisoned(String),
    /// Reading failed.
    #[error("read log segment {segment}: {reason}")]
    Read {
        /// The segment.
        segment: u32,
        /// What the system said.
        reason: String,
    },
    /// The log was closed.
    #[error("log is closed")]
    Closed,
}

/// What the caller can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// Later, or when entries were purged, the same will work.
    Retry,
    /// The call is wrong, or asks for what is gone.
    Caller,
    /// The node has to stop.
    StopNode,
}

impl LogError {
    /// What helps.
    #[must_use]
    pub fn remedy(&self) -> Remedy {
        match self {
            LogError::Full { .. } | LogError::QueueFull { .. } | LogError::DiskFull(_) => Remedy::Retry,
            LogError::Invalid(_) | LogError::Purged { .. } | LogError::Closed => Remedy::Caller,
            LogError::Corrupt { .. } | LogError::Poisoned(_) | LogError::Read { .. } => Remedy::StopNode,
        }
    }
}

impl From<LogError> for io::Error {
    fn from(error: LogError) -> io::Error {
        let kind = match &error {
            LogError::Full { .. } | LogError::DiskFull(_) => io::ErrorKind::StorageFull,
            LogError::QueueFull { .. } => io::ErrorKind::WouldBlock,
            LogError::Invalid(_) => io::ErrorKind::InvalidInput,
            LogError::Purged { .. } => io::ErrorKind::NotFound,
            LogError::Corrupt { .. } => io::ErrorKind::InvalidData,
            LogError::Closed => io::ErrorKind::BrokenPipe,
            LogError::Poisoned(_) | LogError::Read { .. } => io::ErrorKind::Other,
        };
        io::Error::new(kind, error)
    }
}
