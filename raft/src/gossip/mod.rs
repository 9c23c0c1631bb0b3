//! Gossip: who is out there, where, and whether it seems to live. Hints only: no safety decision reads this.
//!
//! memberlist spreads each node's [`GossipMeta`]; because it never heals a partition by itself, the seeds and all
//! peers ever seen are joined again every few seconds while not everybody is alive. The crate stays behind
//! [`Gossip`]: its next version is another protocol.

mod transport;

use memberlist::{
    Memberlist, Options,
    delegate::{CompositeDelegate, NodeDelegate, VoidDelegate},
    proto::{ChecksumAlgorithm, MaybeResolvedAddress, Meta, State},
};
use model::{BoxFuture, ClusterId, Net, NodeId};
use serde::{Deserialize, Serialize};
use smol_str::SmolStr;
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{sync::watch, task::AbortHandle, time::timeout};
use transport::{NetTransport, NetTransportOptions};

/// Version of the metadata's bytes.
const META_VERSION: u8 = 1;
/// Longest metadata that memberlist carries.
const META_BYTES_MAX: usize = 512;
/// Between two looks at who is there.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// Between two attempts to join who is missing.
const REJOIN_INTERVAL: Duration = Duration::from_secs(3);
/// Peers that are remembered, dead ones included.
const PEERS_MAX: usize = 256;
/// How long leaving and updating may take.
const PATIENCE: Duration = Duration::from_secs(1);

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
    /// It answers.
    Alive,
    /// It did not answer lately.
    Suspect,
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

fn encode(meta: &GossipMeta) -> Result<Meta, GossipError> {
    let body = postcard::to_stdvec(meta).map_err(|error| GossipError::Start(error.to_string()))?;
    let bytes = [&[META_VERSION], body.as_slice()].concat();
    let len = bytes.len();
    Meta::try_from(bytes).map_err(|_| GossipError::TooLong(len))
}

fn decode(bytes: &[u8]) -> Option<GossipMeta> {
    let (version, body) = bytes.split_first()?;
    if *version != META_VERSION { None } else { postcard::from_bytes(body).ok() }
}

/// Gives memberlist our metadata.
struct Announcer(Arc<Mutex<Meta>>);

impl NodeDelegate for Announcer {
    async fn node_meta(&self, _limit: usize) -> Meta {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

type Void = VoidDelegate<SmolStr, SocketAddr>;
type Delegate = CompositeDelegate<SmolStr, SocketAddr, Void, Void, Void, Void, Announcer, Void>;
type List = Memberlist<NetTransport, Delegate>;

/// Gossip by memberlist.
pub struct MemberlistGossip {
    list: List,
    meta: Arc<Mutex<Meta>>,
    us: watch::Sender<GossipMeta>,
    peers: watch::Receiver<Vec<GossipPeer>>,
    tasks: [AbortHandle; 2],
}

impl fmt::Debug for MemberlistGossip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemberlistGossip").field("us", &*self.us.borrow()).finish_non_exhaustive()
    }
}

/// Quick to notice a death: a node is suspected after a second and declared dead a few later.
fn options() -> Options {
    Options::local()
        .with_probe_interval(Duration::from_millis(1000))
        .with_probe_timeout(Duration::from_millis(300))
        .with_gossip_interval(Duration::from_millis(200))
        .with_push_pull_interval(Duration::from_secs(10))
        .with_checksum_algo(ChecksumAlgorithm::Crc32)
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
        let encoded = Arc::new(Mutex::new(encode(&meta)?));
        let delegate =
            CompositeDelegate::<SmolStr, SocketAddr>::new().with_node_delegate(Announcer(encoded.clone()));
        // A name alone would make a wiped node and its former self one and the same.
        let id = SmolStr::new(format!("{}@{}", meta.name, gossip.advertise));
        let transport =
            NetTransportOptions { net: net.clone(), id, listen: gossip.listen, advertise: gossip.advertise };
        let list: List = Memberlist::with_delegate(delegate, transport, options())
            .await
            .map_err(|error| GossipError::Start(error.to_string()))?;
        let us = watch::Sender::new(meta);
        let (found, peers) = watch::channel(Vec::new());
        let seen = Arc::new(Mutex::new(BTreeSet::new()));
        let look = tokio::spawn(look(list.clone(), us.subscribe(), found, seen.clone())).abort_handle();
        let join = tokio::spawn(rejoin(list.clone(), net, gossip, seen)).abort_handle();
        Ok(MemberlistGossip { list, meta: encoded, us, peers, tasks: [look, join] })
    }
}

impl Gossip for MemberlistGossip {
    fn peers(&self) -> watch::Receiver<Vec<GossipPeer>> {
        self.peers.clone()
    }

    fn announce(&self, meta: GossipMeta) -> Result<(), GossipError> {
        *self.meta.lock().unwrap_or_else(PoisonError::into_inner) = encode(&meta)?;
        self.us.send_replace(meta);
        let list = self.list.clone();
        tokio::spawn(async move { list.update_node(PATIENCE).await.ok() });
        Ok(())
    }

    fn leave(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            self.tasks.iter().for_each(AbortHandle::abort);
            timeout(2 * PATIENCE, self.list.leave(PATIENCE)).await.ok();
            timeout(PATIENCE, self.list.shutdown()).await.ok();
        })
    }
}

/// Publishes who is there. memberlist forgets the dead; here they stay listed until another takes their name.
async fn look(
    list: List,
    us: watch::Receiver<GossipMeta>,
    found: watch::Sender<Vec<GossipPeer>>,
    seen: Arc<Mutex<BTreeSet<SocketAddr>>>,
) {
    let mut known: BTreeMap<String, GossipPeer> = BTreeMap::new();
    loop {
        let ours = us.borrow().clone();
        let mut listed: BTreeMap<String, GossipPeer> = BTreeMap::new();
        for state in list.members().await.iter().filter(|state| state.id() != list.local_id()).take(PEERS_MAX)
        {
            let Some(meta) = decode(state.meta().as_ref()) else { continue };
            if ours.cluster.is_some() && meta.cluster.is_some() && ours.cluster != meta.cluster {
                continue;
            }
            let mut addresses = seen.lock().unwrap_or_else(PoisonError::into_inner);
            if addresses.len() < PEERS_MAX {
                addresses.insert(*state.address());
            }
            let liveness = match state.state() {
                State::Alive => Liveness::Alive,
                State::Suspect => Liveness::Suspect,
                _ => Liveness::Dead,
            };
            // Of two under one name the livelier counts.
            let peer = GossipPeer { meta, liveness };
            let entry = listed.entry(peer.meta.name.clone()).or_insert_with(|| peer.clone());
            if peer.liveness < entry.liveness {
                *entry = peer;
            }
        }
        known.values_mut().for_each(|peer| peer.liveness = Liveness::Dead);
        known.extend(listed);
        while known.len() > PEERS_MAX {
            known.pop_last();
        }
        let peers: Vec<GossipPeer> = known.values().cloned().collect();
        found.send_if_modified(|before| {
            let changed = *before != peers;
            *before = peers;
            changed
        });
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}

/// Joins whoever is not known to live: a partition heals no other way.
async fn rejoin(
    list: List,
    net: Arc<dyn Net>,
    gossip: GossipOptions,
    seen: Arc<Mutex<BTreeSet<SocketAddr>>>,
) {
    loop {
        let online: BTreeSet<SocketAddr> =
            list.online_members().await.iter().map(|state| *state.address()).collect();
        let mut missing = seen.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for seed in &gossip.seeds {
            if let Ok(Ok(addresses)) = timeout(PATIENCE, net.resolve(seed)).await {
                missing.extend(addresses.into_iter().take(4));
            }
        }
        missing.retain(|address| !online.contains(address) && *address != gossip.advertise);
        // One by one: joining many at once can not leave the thread.
        for address in missing {
            timeout(PATIENCE, list.join(MaybeResolvedAddress::resolved(address))).await.ok();
        }
        let alone = list.num_online_members().await <= 1;
        tokio::time::sleep(if alone { LOOK_INTERVAL } else { REJOIN_INTERVAL }).await;
    }
}
