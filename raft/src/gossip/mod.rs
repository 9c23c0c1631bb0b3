//! Gossip: who is out there, where, and whether it seems to live. Hints only: no safety decision reads this.
//!
//! memberlist spreads each node's [`GossipMeta`]. What it does not do is done in `keeper`: it never heals a partition by
//! itself, and it does not survive a panic of its own. The crate stays behind [`Gossip`]: its next version is another
//! protocol.

mod keeper;
mod runtime;
mod transport;

use keeper::Keeper;
use memberlist::proto::Meta;
use model::{BoxFuture, ClusterId, Net, NodeId};
use serde::{Deserialize, Serialize};
use std::{
    fmt,
    net::SocketAddr,
    sync::{Arc, atomic::Ordering},
};
use tokio::{sync::watch, task::AbortHandle};

/// Version of the metadata's bytes.
pub(crate) const META_VERSION: u8 = 1;
/// Longest metadata that memberlist carries.
const META_BYTES_MAX: usize = 512;

/// What a node says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GossipMeta {
    /// Its name.
    pub name: String,
    /// Its id, once it has one.
    pub node: Option<NodeId>,
    /// Its cluster, once it has one.
    pub cluster: Option<ClusterId>,
    /// Where its peer server can be reached, HOST:PORT.
    pub address: String,
    /// Where its HTTP API can be reached, HOST:PORT.
    pub web_address: String,
    /// Its program's version.
    pub version: String,
}

/// Whether a node seems to live.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Liveness {
    /// It answers, or did a moment ago.
    Alive,
    /// It has not answered for some time, or has left.
    Dead,
}

/// A node other than this one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GossipPeer {
    /// What it said last.
    pub meta: GossipMeta,
    /// How it seems to be.
    pub liveness: Liveness,
}

/// Gossip can not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GossipError {
    /// The metadata does not fit.
    #[error(
        "gossip metadata has {0} bytes, at most {META_BYTES_MAX} fit: shorten --node.name or the addresses"
    )]
    TooLong(usize),
    /// No socket, or no address.
    #[error("start gossip: {0}")]
    Start(String),
}

/// Who is out there. Cheap to ask.
pub trait Gossip: Send + Sync + fmt::Debug {
    /// The other nodes that were heard of, without those that belong to another cluster.
    fn peers(&self) -> watch::Receiver<Vec<GossipPeer>>;
    /// Spreads other metadata from now on.
    ///
    /// # Errors
    /// If it does not fit.
    fn announce(&self, meta: GossipMeta) -> Result<(), GossipError>;
    /// How often gossip was begun anew since the start, because a part of it had come to its end.
    fn restarts(&self) -> u64;
    /// Says goodbye and stops.
    fn leave(&self) -> BoxFuture<'_, ()>;
}

/// Where gossip happens.
#[derive(Clone, Debug)]
pub struct GossipOptions {
    /// TCP and UDP.
    pub listen: SocketAddr,
    /// What others reach it by; the port is that of `listen`.
    pub advertise: SocketAddr,
    /// Gossip addresses of other nodes, HOST:PORT.
    pub seeds: Vec<String>,
}

pub(crate) fn encode(meta: &GossipMeta) -> Result<Meta, GossipError> {
    let body = postcard::to_stdvec(meta).map_err(|error| GossipError::Start(error.to_string()))?;
    let bytes = [&[META_VERSION], body.as_slice()].concat();
    let len = bytes.len();
    Meta::try_from(bytes).map_err(|_| GossipError::TooLong(len))
}

pub(crate) fn decode(bytes: &[u8]) -> Option<GossipMeta> {
    let (version, body) = bytes.split_first()?;
    if *version != META_VERSION { None } else { postcard::from_bytes(body).ok() }
}

/// Gossip by memberlist.
pub struct MemberlistGossip {
    us: watch::Sender<GossipMeta>,
    peers: watch::Receiver<Vec<GossipPeer>>,
    shared: Arc<keeper::Shared>,
    task: AbortHandle,
}

impl fmt::Debug for MemberlistGossip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemberlistGossip").field("us", &*self.us.borrow()).finish_non_exhaustive()
    }
}

impl MemberlistGossip {
    /// Starts on the caller's runtime.
    ///
    /// # Errors
    /// See [`GossipError`].
    pub async fn start(
        net: Arc<dyn Net>,
        gossip: GossipOptions,
        meta: GossipMeta,
    ) -> Result<MemberlistGossip, GossipError> {
        encode(&meta)?;
        let us = watch::Sender::new(meta);
        let (found, peers) = watch::channel(Vec::new());
        let (keeper, list) = Keeper::start(net, gossip, us.subscribe(), found).await?;
        let shared = keeper.shared();
        let task = tokio::spawn(keeper.run(list)).abort_handle();
        Ok(MemberlistGossip { us, peers, shared, task })
    }
}

impl Gossip for MemberlistGossip {
    fn peers(&self) -> watch::Receiver<Vec<GossipPeer>> {
        self.peers.clone()
    }

    fn announce(&self, meta: GossipMeta) -> Result<(), GossipError> {
        encode(&meta)?;
        self.us.send_replace(meta);
        Ok(())
    }

    fn restarts(&self) -> u64 {
        self.shared.restarts.load(Ordering::Relaxed)
    }

    fn leave(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            self.task.abort();
            self.shared.leave().await;
        })
    }
}

impl Drop for MemberlistGossip {
    fn drop(&mut self) {
        self.task.abort();
    }
}
