//! Commands of the meta shard and their wire form: a version byte, then postcard. See `docs/formats/meta.md`.

use super::state::{ConfigFiles, Refusal};
use bytes::Bytes;
use model::{ClusterId, ConfigVersion, NodeId, TimestampMs};
use serde::{Deserialize, Serialize};

/// The largest configuration with its service discovery files, bytes.
pub const CONFIG_BYTES_MAX: usize = 8 << 20;

/// Leads every command and response.
pub(crate) const VERSION: u8 = 1;

/// When an offered configuration takes effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OfferMode {
    /// Only if the cluster has no configuration yet: a first sight on a new disk overrides nothing.
    IfNone,
    /// Instead of what is in force: an operator asked for it.
    Replace,
}

/// A change of what the cluster agrees on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MetaCommand {
    /// The cluster begins. Refused if it has begun already under another id.
    Begin {
        /// The id that all members promised.
        cluster_id: ClusterId,
        /// The number of data shards, chosen once.
        shards: u32,
        /// The first members: id and name.
        members: Vec<(NodeId, String)>,
    },
    /// A node says where it is; it does so at each start.
    Announce {
        /// Who.
        node: NodeId,
        /// Where its peers reach it: `HOST:PORT`.
        cluster_address: String,
        /// Where its HTTP API answers: `HOST:PORT`.
        web_address: String,
        /// Its Vestal version.
        version: String,
    },
    /// A new id for a node that returns with an empty disk under a known name, or joins.
    Allocate {
        /// Its name.
        name: String,
        /// Where its peers reach it.
        cluster_address: String,
        /// A random number the newcomer keeps, so that asking again yields the same id.
        nonce: u64,
    },
    /// A node has left all groups: its id is never used again.
    Remove {
        /// Who.
        node: NodeId,
        /// When, by the proposer's clock; only shown.
        at: TimestampMs,
    },
    /// A node offers a configuration. It has been checked whole before.
    OfferConfig {
        /// Who offers; `None` for an operator's `config apply`.
        node: Option<NodeId>,
        /// When it takes effect.
        mode: OfferMode,
        /// The text of `prometheus.yml`.
        text: String,
        /// Contents of the files that its `file_sd_configs` name, by path as written there.
        files: ConfigFiles,
        /// When, by the proposer's clock; only shown.
        at: TimestampMs,
    },
    /// A node offers service discovery files that changed under its eyes.
    OfferFiles {
        /// Who offers.
        node: NodeId,
        /// The changed files; the others stay.
        files: ConfigFiles,
        /// When, by the proposer's clock; only shown.
        at: TimestampMs,
    },
}

/// What a command came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MetaResponse {
    /// Done.
    Done,
    /// The newcomer's id.
    Allocated(NodeId),
    /// The version that is in force now; `changed` says whether this command made it.
    Config {
        /// In force.
        version: ConfigVersion,
        /// Whether it is new.
        changed: bool,
    },
    /// Nothing changed.
    Refused(Refusal),
}

/// The bytes are no command.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MetaCommandError {
    /// Written by a newer Vestal.
    #[error("meta command format {0} is not known here; upgrade this node")]
    Version(u8),
    /// Malformed.
    #[error("malformed meta command: {0}")]
    Malformed(String),
}

fn encode<T: Serialize>(what: &T) -> Bytes {
    postcard::to_extend(what, vec![VERSION]).expect("a vector takes all bytes").into()
}

fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, MetaCommandError> {
    match bytes.split_first() {
        Some((&VERSION, body)) => {
            postcard::from_bytes(body).map_err(|error| MetaCommandError::Malformed(error.to_string()))
        }
        Some((version, _)) => Err(MetaCommandError::Version(*version)),
        None => Err(MetaCommandError::Malformed("no bytes".into())),
    }
}

impl MetaCommand {
    /// The wire form.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        encode(self)
    }

    /// Reads the wire form.
    ///
    /// # Errors
    /// If it is of another version or malformed.
    pub fn decode(bytes: &[u8]) -> Result<MetaCommand, MetaCommandError> {
        decode(bytes)
    }
}

impl MetaResponse {
    /// The wire form.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        encode(self)
    }

    /// Reads the wire form.
    ///
    /// # Errors
    /// If it is of another version or malformed.
    pub fn decode(bytes: &[u8]) -> Result<MetaResponse, MetaCommandError> {
        decode(bytes)
    }
}
