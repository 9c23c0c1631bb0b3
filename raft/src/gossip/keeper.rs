//! Keeps a memberlist alive: one list after the other, over the same sockets and under the same name.
//!
//! ```text
//!  start ──▶ list ──(a task panicked, too many dead)──▶ shut down ──(a pause)──▶ list …
//!             ├─ look: who is there ──▶ peers
//!             ├─ join: the seeds and all ever seen who are not there, every few seconds
//!             └─ update: what this node says of itself, when it changes
//! ```
//!
//! memberlist 0.8.5 panics once it has forgotten a dead node: it then looks up nodes by places that are no longer
//! there (`state.rs`, `suspicion.rs`). So it never forgets one here; when there are too many, a new list begins without
//! them. Whatever else may panic in it, a new list begins, too.

use super::{
    GossipError, GossipMeta, GossipOptions, GossipPeer, Liveness, decode, encode,
    runtime::Health,
    transport::{NetTransport, NetTransportOptions, Sockets},
};
use futures::FutureExt;
use memberlist::{
    Memberlist, Options,
    delegate::{CompositeDelegate, NodeDelegate, VoidDelegate},
    proto::{ChecksumAlgorithm, MaybeResolvedAddress, Meta},
};
use model::Net;
use smol_str::SmolStr;
use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    panic::AssertUnwindSafe,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};

/// Between two looks at who is there.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// Between two attempts to join who is missing.
const REJOIN_INTERVAL: Duration = Duration::from_secs(3);
/// Peers that are remembered, dead ones included.
const PEERS_MAX: usize = 256;
/// Dead nodes that a list may have: each new address of a node leaves one.
const DEAD_MAX: usize = 64;
/// How long leaving and updating may take.
const PATIENCE: Duration = Duration::from_secs(1);
/// From the end of a list to the beginning of the next.
const RESTART_PAUSE: Duration = Duration::from_secs(5);
/// Longer than any node lives.
const FOREVER: Duration = Duration::from_secs(100 * 365 * 86_400);

/// Gives memberlist our metadata.
pub(super) struct Announcer(watch::Receiver<GossipMeta>);

impl NodeDelegate for Announcer {
    async fn node_meta(&self, _limit: usize) -> Meta {
        encode(&self.0.borrow()).unwrap_or_else(|_| Meta::empty()) // what does not fit was refused before
    }
}

type Void = VoidDelegate<SmolStr, SocketAddr>;
type Delegate = CompositeDelegate<SmolStr, SocketAddr, Void, Void, Void, Void, Announcer, Void>;
pub(super) type List = Memberlist<NetTransport, Delegate>;

/// Quick to notice a death: a node is suspected after a second and declared dead a few later.
fn options() -> Options {
    Options::local()
        .with_probe_interval(Duration::from_millis(1000))
        .with_probe_timeout(Duration::from_millis(300))
        .with_gossip_interval(Duration::from_millis(200))
        .with_push_pull_interval(Duration::from_secs(10))
        .with_gossip_to_the_dead_time(FOREVER)
        .with_checksum_algo(ChecksumAlgorithm::Crc32)
}

/// What others see of a keeper.
#[derive(Default)]
pub(super) struct Shared {
    /// The present list.
    list: Mutex<Option<List>>,
    /// Lists that came to their end.
    pub(super) restarts: AtomicU64,
}

impl Shared {
    fn put(&self, list: Option<List>) -> Option<List> {
        std::mem::replace(&mut *self.list.lock().unwrap_or_else(PoisonError::into_inner), list)
    }

    /// Says goodbye and stops.
    pub(super) async fn leave(&self) {
        let Some(list) = self.put(None) else { return };
        timeout(2 * PATIENCE, list.leave(PATIENCE)).await.ok();
        timeout(PATIENCE, list.shutdown()).await.ok();
    }
}

/// Keeps one list after the other.
pub(super) struct Keeper {
    net: Arc<dyn Net>,
    sockets: Sockets,
    options: Options,
    gossip: GossipOptions,
    us: watch::Receiver<GossipMeta>,
    found: watch::Sender<Vec<GossipPeer>>,
    known: Mutex<BTreeMap<String, GossipPeer>>,
    seen: Mutex<BTreeSet<SocketAddr>>,
    health: Health,
    shared: Arc<Shared>,
}

impl Keeper {
    /// Binds the sockets and makes the first list.
    pub(super) async fn start(
        net: Arc<dyn Net>,
        gossip: GossipOptions,
        us: watch::Receiver<GossipMeta>,
        found: watch::Sender<Vec<GossipPeer>>,
    ) -> Result<(Keeper, List), GossipError> {
        let bound = Sockets::bind(&*net, gossip.listen).await;
        let sockets = bound.map_err(|error| GossipError::Start(error.to_string()))?;
        let (known, seen, health) = (Mutex::default(), Mutex::default(), Health::new());
        let (options, shared) = (options(), Arc::default());
        let mut keeper = Keeper { net, sockets, options, gossip, us, found, known, seen, health, shared };
        let list = keeper.make().await?;
        Ok((keeper, list))
    }

    pub(super) fn shared(&self) -> Arc<Shared> {
        self.shared.clone()
    }

    /// Makes a list.
    async fn make(&mut self) -> Result<List, GossipError> {
        self.health = Health::new();
        // A name alone would make a wiped node and its former self one and the same.
        let id = SmolStr::new(format!("{}@{}", self.us.borrow().name, self.gossip.advertise));
        let GossipOptions { listen, advertise, .. } = self.gossip;
        let (net, sockets) = (self.net.clone(), self.sockets.clone());
        let transport = NetTransportOptions { net, sockets, id, listen, advertise };
        let delegate =
            CompositeDelegate::<SmolStr, SocketAddr>::new().with_node_delegate(Announcer(self.us.clone()));
        let made = self.health.guard(Memberlist::with_delegate(delegate, transport, self.options.clone()));
        let list: List = made.await.map_err(|error| GossipError::Start(error.to_string()))?;
        self.shared.put(Some(list.clone()));
        Ok(list)
    }

    /// Works until it is aborted.
    pub(super) async fn run(mut self, first: List) {
        let mut list = first;
        loop {
            let why = self.serve(&list).await;
            let restarts = self.shared.restarts.fetch_add(1, Ordering::Relaxed) + 1;
            tracing::warn!(why, restarts, "gossip begins anew");
            self.shared.put(None);
            timeout(PATIENCE, list.shutdown()).await.ok();
            list = loop {
                sleep(RESTART_PAUSE).await;
                match self.make().await {
                    Ok(list) => break list,
                    Err(error) => tracing::warn!(%error, "gossip does not begin anew yet"),
                }
            };
        }
    }

    /// Serves a list until it comes to its end, and says why.
    async fn serve(&self, list: &List) -> &'static str {
        let work = async {
            tokio::select! {
                why = self.look(list) => why,
                () = self.join(list) => "",
                () = self.update(list) => "",
            }
        };
        tokio::select! {
            biased;
            () = self.health.lost() => "a task of it panicked",
            worked = AssertUnwindSafe(self.health.guard(work)).catch_unwind() => {
                worked.unwrap_or("a call to it panicked")
            }
        }
    }

    /// Publishes who is there. Who is no longer there stays listed until another takes its name.
    async fn look(&self, list: &List) -> &'static str {
        loop {
            sleep(LOOK_INTERVAL).await;
            let ours = self.us.borrow().clone();
            let members = list.members().await;
            // A node's own state is what it was when it was last alive: only this says who is.
            let online: BTreeSet<SmolStr> =
                list.online_members().await.iter().map(|state| state.id().clone()).collect();
            let mut listed: BTreeMap<String, GossipPeer> = BTreeMap::new();
            for state in members.iter().filter(|state| state.id() != list.local_id()).take(PEERS_MAX) {
                let Some(meta) = decode(state.meta().as_ref()) else { continue };
                if ours.cluster.is_some() && meta.cluster.is_some() && ours.cluster != meta.cluster {
                    continue;
                }
                let mut addresses = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
                if addresses.len() < PEERS_MAX {
                    addresses.insert(*state.address());
                }
                let liveness = if online.contains(state.id()) { Liveness::Alive } else { Liveness::Dead };
                // Of two under one name the livelier counts.
                let peer = GossipPeer { meta, liveness };
                let entry = listed.entry(peer.meta.name.clone()).or_insert_with(|| peer.clone());
                if peer.liveness < entry.liveness {
                    *entry = peer;
                }
            }
            self.publish(listed);
            if members.len() > online.len() + DEAD_MAX {
                return "it has too many dead";
            }
        }
    }

    fn publish(&self, listed: BTreeMap<String, GossipPeer>) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.values_mut().for_each(|peer| peer.liveness = Liveness::Dead);
        known.extend(listed);
        while known.len() > PEERS_MAX {
            known.pop_last();
        }
        let peers: Vec<GossipPeer> = known.values().cloned().collect();
        self.found.send_if_modified(|before| {
            let changed = *before != peers;
            *before = peers;
            changed
        });
    }

    /// Joins whoever is not known to live: a partition heals no other way.
    async fn join(&self, list: &List) {
        loop {
            let online: BTreeSet<SocketAddr> =
                list.online_members().await.iter().map(|state| *state.address()).collect();
            let mut missing = self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone();
            for seed in &self.gossip.seeds {
                if let Ok(Ok(addresses)) = timeout(PATIENCE, self.net.resolve(seed)).await {
                    missing.extend(addresses.into_iter().take(4));
                }
            }
            missing.retain(|address| !online.contains(address) && *address != self.gossip.advertise);
            // One by one: joining many at once can not leave the thread.
            for address in missing {
                timeout(PATIENCE, list.join(MaybeResolvedAddress::resolved(address))).await.ok();
            }
            let alone = list.num_online_members().await <= 1;
            sleep(if alone { LOOK_INTERVAL } else { REJOIN_INTERVAL }).await;
        }
    }

    /// Spreads what this node says of itself when that changes.
    async fn update(&self, list: &List) {
        let mut us = self.us.clone();
        while us.changed().await.is_ok() {
            list.update_node(PATIENCE).await.ok();
        }
    }
}
