//! Nodes talking to each other: one gRPC stream per direction and pair of nodes for the messages of all groups, and one
//! plain connection for the questions of reads.
//!
//! ```text
//!  group 0 ─append──▶ ┌──────┐ frame ┌────────┐ ─▶ openraft of group 0
//!  group 1 ─vote────▶ │ Link │ ════▶ │ Server │ ─▶ openraft of group 1
//!  node ────call────▶ └──────┘ ◀════ └────────┘ ─▶ handler of the call's kind
//!                        answers, and the clock's offset
//! ```
//!
//! Invariants: both ends agree on protocol version and cluster before anything else is read; a node without a
//! cluster can only make calls of the open kinds; every call has a deadline; queues, frames and calls in progress
//! have limits, and beyond them a call fails at once.

mod io;
mod link;
mod plain;
mod refusals;
mod server;
mod wire;

pub(crate) use link::{Peers, Way};
pub(crate) use server::{Inbox, serve};
pub use wire::FRAME_BYTES_MAX;
pub(crate) use wire::kind;
#[cfg(test)]
pub(crate) use wire::{Message, Tag, messages};

use bytes::Bytes;
use model::{BoxFuture, ClusterId, NodeId};
use std::{fmt, sync::Arc, time::Duration};

/// The protocol as generated from `proto/peer.proto`.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic)]
pub(crate) mod proto {
    tonic::include_proto!("vestal.peer.v1");
}

/// Version of the messages inside of frames.
pub const PROTOCOL_VERSION: u32 = 1;
/// Kinds of calls that the node may register begin here.
pub const CALL_KIND_MIN: u16 = 0x0100;
/// Kinds from here on are open: they can be called by a node that belongs to no cluster, to form or join one.
pub const OPEN_KIND_MIN: u16 = 0xff00;

/// Who a node says it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerName {
    /// Its cluster; `None` while it belongs to none.
    pub cluster: Option<ClusterId>,
    /// Its id; `None` while it has none.
    pub node: Option<NodeId>,
    /// Its name.
    pub name: String,
    /// Where it can be reached, HOST:PORT.
    pub address: String,
}

impl fmt::Display for PeerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} at {}", self.name, self.address)
    }
}

/// Why a call to a peer has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PeerError {
    /// Nothing was sent: no address, no connection, or the queue is full.
    #[error("not sent: {0}")]
    NotSent(String),
    /// It may have been received and worked on: the connection broke.
    #[error("connection lost: {0}")]
    Lost(String),
    /// It may have been received and worked on: no answer within the deadline.
    #[error("no answer within {} ms", .0.as_millis())]
    TimedOut(Duration),
    /// The peer answered no.
    #[error("{0}")]
    Refused(String),
    /// What was to be sent, or came, is larger than [`FRAME_BYTES_MAX`] or malformed.
    #[error("{0}")]
    Malformed(String),
}

impl PeerError {
    /// Whether it is certain that the peer did not act on the call.
    #[must_use]
    pub fn is_certain(&self) -> bool {
        matches!(self, PeerError::NotSent(_) | PeerError::Refused(_))
    }
}

/// Answers calls of one kind.
pub type CallHandler =
    Arc<dyn Fn(PeerName, Bytes) -> BoxFuture<'static, Result<Bytes, String>> + Send + Sync>;

/// Decides whether a peer may connect; the text says why not.
pub type Gate = Arc<dyn Fn(&PeerName) -> Result<(), String> + Send + Sync>;

pub(crate) fn hello(us: &PeerName, to: Option<NodeId>) -> proto::Hello {
    proto::Hello {
        protocol_version: PROTOCOL_VERSION,
        cluster_id: us.cluster.map(|id| Bytes::copy_from_slice(&id.0.to_be_bytes())).unwrap_or_default(),
        node_id: us.node.map_or(0, |id| id.0),
        node_name: us.name.clone(),
        to_node_id: to.map_or(0, |id| id.0),
        advertised_address: us.address.clone(),
    }
}

/// Longest name or address that a peer may give itself.
const NAME_BYTES_MAX: usize = 256;

pub(crate) fn read_hello(hello: &proto::Hello) -> Result<PeerName, String> {
    if hello.protocol_version != PROTOCOL_VERSION {
        let found = hello.protocol_version;
        return Err(format!(
            "peer protocol version {found}, this node speaks version {PROTOCOL_VERSION}: upgrade one"
        ));
    }
    let cluster = match hello.cluster_id.len() {
        0 => None,
        16 => {
            let id: [u8; 16] = hello.cluster_id[..].try_into().expect("16 bytes");
            Some(ClusterId(u128::from_be_bytes(id)))
        }
        other => return Err(format!("cluster id of {other} bytes, expected 16")),
    };
    if hello.node_name.len() > NAME_BYTES_MAX || hello.advertised_address.len() > NAME_BYTES_MAX {
        return Err(format!("node name or address longer than {NAME_BYTES_MAX} bytes"));
    }
    Ok(PeerName {
        cluster,
        node: (hello.node_id != 0).then_some(NodeId(hello.node_id)),
        name: hello.node_name.clone(),
        address: hello.advertised_address.clone(),
    })
}

/// Whether two nodes may talk at all; both sides ask.
fn check_cluster(us: &PeerName, them: &PeerName) -> Result<(), String> {
    match (us.cluster, them.cluster) {
        (Some(ours), Some(theirs)) if ours != theirs => {
            Err(format!("node {us} belongs to cluster {ours}, node {them} to cluster {theirs}"))
        }
        _ => Ok(()),
    }
}
