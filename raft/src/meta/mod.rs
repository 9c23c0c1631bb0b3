//! Shard 0, meta: what the cluster agrees on about itself.
//!
//! ```text
//!  forming, nodes, operators ──MetaCommand──▶ raft ──commit──▶ Meta::apply ──▶ MetaState ──▶ every node reads
//! ```
//!
//! Holds the cluster id, the nodes and their ids, the number of data shards, and the configuration with its
//! versions. Apply is a pure function of state and command; the whole state is small (its one large part, the
//! configuration, is bounded by [`CONFIG_BYTES_MAX`]) and a checkpoint writes it whole into one file.

pub(crate) mod command;
pub(crate) mod machine;
mod state;

pub use command::{CONFIG_BYTES_MAX, MetaCommand, MetaCommandError, MetaResponse, OfferMode};
pub use machine::Meta;
pub use state::{ConfigFiles, ConfigRecord, MetaState, NodeRecord, Refusal};
