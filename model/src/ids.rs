//! Identifiers. Newtypes, so that two of them cannot be swapped.

use serde::{Deserialize, Serialize};
use std::fmt;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id! {
    /// A node of the cluster. Allocated by meta, never reused; names are for people.
    NodeId(u64)
}
id! {
    /// A shard, which is a Raft group: 0 is meta, 1..=N are data.
    ShardId(u32)
}
id! {
    /// A Raft term.
    Term(u64)
}
id! {
    /// The position of an entry in one shard's log.
    LogIndex(u64)
}
id! {
    /// A version of the cluster's configuration. Only rises.
    ConfigVersion(u64)
}

impl ShardId {
    /// The shard that holds nodes, placement and configuration.
    pub const META: ShardId = ShardId(0);
}

/// Term and index of one entry: names it uniquely in its shard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LogId {
    /// The term in which a leader proposed the entry.
    pub term: Term,
    /// Its position in the log.
    pub index: LogIndex,
}

/// The random name a cluster got when it was formed; travels in every message.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ClusterId(pub u128);

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClusterId({self})")
    }
}
