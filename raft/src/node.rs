//! All groups of this node: started, driven, served to peers, and kept within the log's bound.
//!
//! ```text
//!             ┌────────────── one thread ──────────────┐
//!  propose ──▶│ openraft × groups ──▶ storage::log     │──▶ log thread: fsync
//!  peers  ◀──▶│ links, server         driver: one timer │──▶ apply threads: state machines
//!             └────────────────────────────────────────┘
//! ```
//!
//! Everything here may be called from any thread. In a simulation all of it runs on the caller's runtime.

use crate::{
    confirm::Tardy,
    engine::{
        apply::ApplyPool,
        driver::{Driver, Effect, Event, Timing},
        log_store::LogStore,
        machine::{DiskTrouble, Machine, Troubles},
        network::{self, GroupNet, Noted},
        snapshot::{Receiver, SnapshotProgress, Snapshots},
        types::{Command, Raft, Room, Types},
    },
    group::{Group, watch_group},
    peer::{CallHandler, Gate, Inbox, PeerError, PeerName, Peers, Way, kind, serve},
    reach::Tail,
    status::{GroupProgress, GroupRole, GroupStatus},
    time::{ClockSample, ClusterTime},
};
use bytes::Bytes;
use model::{
    BoxFuture, Clock, LogId, LogIndex, Net, NodeId, ProposeError, Proposer, Rng, ShardId, Spawner,
    StateMachine, Term,
};
use openraft::{
    Config, SnapshotPolicy,
    async_runtime::WatchReceiver,
    errors::{ClientWriteError, ForwardToLeader, InitializeError, RaftError},
    impls::{EmptyNode, ProgressResponder},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, io,
    net::SocketAddr,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use storage::log::{Log, Remedy};
use tokio::{
    runtime::Handle,
    sync::{mpsc, oneshot, watch},
    time::{sleep, timeout},
};

/// Longest command; with its header it fits into a frame and into any log of the default size.
pub const COMMAND_BYTES_MAX: usize = 16 << 20;
/// Events that may wait for the driver: a burst of all groups.
const DRIVER_QUEUE_MAX: usize = 4096;
/// Between two looks at checkpoints, the log's pressure and stopped groups.
const UPKEEP_INTERVAL: Duration = Duration::from_millis(500);
/// Looks from one attempt at a checkpoint to the next, after one that found no room on the disk.
const NO_ROOM_ROUNDS: u32 = 10;

/// Where raft runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Threading {
    /// On a thread of its own, apply on others.
    #[default]
    Own,
    /// On the runtime from which [`RaftNode::start`] is called, apply included: for simulations.
    Inline,
}

/// How raft works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RaftOptions {
    /// Heartbeats, lease and campaigns.
    pub timing: Timing,
    /// Threads that apply.
    pub apply_threads: usize,
    /// Entries kept behind a checkpoint for followers that lag, while the log has room.
    pub entries_kept: u64,
    /// Bytes per second that one snapshot may receive; 0 for as fast as it goes.
    pub snapshot_bytes_per_second: u64,
    /// A proposal that has no outcome for so long ends as unknown.
    pub propose_patience: Duration,
    /// Where it runs.
    pub threading: Threading,
}

impl Default for RaftOptions {
    fn default() -> Self {
        RaftOptions {
            timing: Timing::default(),
            apply_threads: 2,
            entries_kept: 512,
            snapshot_bytes_per_second: 64 << 20,
            propose_patience: Duration::from_secs(10),
            threading: Threading::Own,
        }
    }
}

/// The outside, and the log.
#[derive(Clone, Debug)]
pub struct RaftPorts {
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Spreads campaigns.
    pub rng: Arc<dyn Rng>,
    /// Gives threads.
    pub spawner: Arc<dyn Spawner>,
    /// Reaches peers.
    pub net: Arc<dyn Net>,
    /// Keeps entries and votes.
    pub log: Arc<Log>,
}

/// Raft can not be started, or a group can not be added.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The intervals contradict each other.
    #[error("raft timing: {0}")]
    Timing(String),
    /// No thread, no address.
    #[error("{doing}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// The node has no id yet: form or join a cluster first.
    #[error("node has no id yet: form or join a cluster before adding shard {0}")]
    NoId(ShardId),
    /// The group is hosted already.
    #[error("shard {0} is hosted already")]
    Hosted(ShardId),
    /// What is stored does not fit together.
    #[error("shard {shard} does not start: {reason}")]
    Group {
        /// The group.
        shard: ShardId,
        /// Why.
        reason: String,
    },
}

pub(crate) struct Inner {
    pub(crate) ports: RaftPorts,
    pub(crate) options: RaftOptions,
    config: Arc<Config>,
    pub(crate) us: watch::Sender<PeerName>,
    pub(crate) peers: Peers,
    /// Links of their own for the questions of reads, on the runtime of those who ask: no thread between them, and no
    /// entries in front.
    pub(crate) reading: Peers,
    pub(crate) tardy: Tardy,
    pub(crate) groups: RwLock<BTreeMap<ShardId, Arc<Group>>>,
    inbox: Arc<Inbox>,
    snapshots: Arc<Snapshots>,
    pool: ApplyPool,
    driver: mpsc::Sender<Event>,
    /// Whether this node takes no leadership.
    abstains: AtomicBool,
    runtime: Handle,
    fenced: watch::Sender<Option<String>>,
    stop: watch::Sender<bool>,
}

/// The groups of this node. Cheap to clone.
#[derive(Clone)]
pub struct RaftNode(pub(crate) Arc<Inner>);

impl fmt::Debug for RaftNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RaftNode").field("us", &*self.0.us.borrow()).finish_non_exhaustive()
    }
}

/// As measured: openraft's own timers are off; what remains of them are limits and the lease.
fn config(timing: &Timing) -> Result<Config, StartError> {
    let ms = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
    let lease = ms(timing.lease);
    let config = Config {
        cluster_name: "vestal".to_owned(),
        // Only the limit of votes and heartbeats, because the heartbeats are the driver's.
        heartbeat_interval: lease * 2 / 3,
        election_timeout_min: lease * 2 / 3 + 1,
        election_timeout_max: lease,
        enable_tick: false,
        enable_heartbeat: false,
        enable_elect: false,
        enable_pre_vote: Some(true),
        enable_leader_restore: Some(false),
        max_payload_entries: 64,
        // Checkpoints and purges are decided in `upkeep`.
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: u64::MAX / 2,
        ..Config::default()
    };
    config.validate().map_err(|error| StartError::Timing(error.to_string()))
}

impl RaftNode {
    /// Starts links, server and timer; groups are added later. Without `listen` nobody can connect: a cluster of
    /// one. `us` may have no cluster and no id yet.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn start(
        ports: RaftPorts,
        options: RaftOptions,
        us: PeerName,
        listen: Option<SocketAddr>,
    ) -> Result<RaftNode, StartError> {
        let config = Arc::new(config(&options.timing)?);
        let (stop, stopped) = watch::channel(false);
        let runtime = match options.threading {
            Threading::Inline => Handle::current(),
            Threading::Own => own_runtime(&*ports.spawner, stopped.clone()).await?,
        };
        let pool = match options.threading {
            Threading::Inline => ApplyPool::inline(ports.spawner.clone()),
            Threading::Own => ApplyPool::start(ports.spawner.clone(), options.apply_threads.max(1))
                .map_err(|source| StartError::Io { doing: "start apply threads", source })?,
        };
        let listener = match listen {
            None => None,
            Some(address) => {
                // On raft's own runtime, which is the one that will poll the sockets.
                let net = ports.net.clone();
                let bound = runtime.spawn(async move { net.listen(address).await }).await;
                let bound = bound.map_err(io::Error::other).and_then(|bound| bound);
                Some(bound.map_err(|source| StartError::Io { doing: "listen for peers", source })?)
            }
        };
        let us = watch::Sender::new(us);
        let links = |way, runtime| {
            let RaftPorts { net, clock, spawner, .. } = ports.clone();
            Peers::new(way, net, clock, us.subscribe(), runtime, spawner)
        };
        let peers = links(Way::Grpc, runtime.clone());
        let reading = links(Way::Plain, Handle::current());
        let (driver, events) = mpsc::channel(DRIVER_QUEUE_MAX);
        let rate = options.snapshot_bytes_per_second;
        let (clock, spawner) = (ports.clock.clone(), ports.spawner.clone());
        let snapshots = Snapshots::new(peers.clone(), clock, spawner, rate, stopped.clone());
        let inner = Arc::new_cyclic(|inner: &std::sync::Weak<Inner>| {
            let inner = inner.clone();
            let raft =
                Arc::new(move |from, kind, shard, body| -> BoxFuture<'static, Result<Bytes, String>> {
                    let inner = inner.clone();
                    Box::pin(async move {
                        let inner = inner.upgrade().ok_or("node is stopping")?;
                        inner.answer(from, kind, shard, body).await
                    })
                });
            let inbox = Arc::new(Inbox::new(us.subscribe(), ports.clock.clone(), raft, stopped.clone()));
            let (groups, tardy, runtime) = (RwLock::default(), Tardy::default(), runtime.clone());
            let fenced = watch::Sender::new(None);
            let abstains = AtomicBool::new(false);
            Inner {
                ports,
                options,
                config,
                us,
                peers,
                reading,
                tardy,
                groups,
                inbox,
                snapshots,
                pool,
                driver,
                abstains,
                runtime,
                fenced,
                stop,
            }
        });
        if let Some(listener) = listener {
            let (inbox, mut stop) = (inner.inbox.clone(), stopped.clone());
            runtime.spawn(async move {
                tokio::select! {
                    () = serve(Arc::from(listener), inbox, std::future::pending()) => {}
                    _ = stop.wait_for(|stop| *stop) => {}
                }
            });
        }
        let seed = inner.ports.rng.next_u64();
        let spawner = inner.ports.spawner.clone();
        let driving = drive(inner.clone(), Driver::new(options.timing, seed), events, stopped.clone());
        runtime.spawn(spawner.vital("drive", Box::pin(driving)));
        runtime.spawn(spawner.vital("upkeep", Box::pin(upkeep(inner.clone(), stopped))));
        Ok(RaftNode(inner))
    }

    /// Who this node is; said to peers from now on. Its id must not change once it has one.
    pub fn set_identity(&self, us: PeerName) {
        self.0.us.send_replace(us);
    }

    /// Who this node is.
    #[must_use]
    pub fn identity(&self) -> PeerName {
        self.0.us.borrow().clone()
    }

    /// Where a node can be reached, HOST:PORT. Needed for every member but this one.
    pub fn set_peer_address(&self, node: NodeId, address: &str) {
        self.0.peers.set_address(node, address);
        self.0.reading.set_address(node, address);
    }

    /// A node is no longer one of ours.
    pub fn forget_peer(&self, node: NodeId) {
        self.0.peers.forget(node);
        self.0.reading.forget(node);
    }

    /// Calls of `kind`, which is at least [`crate::CALL_KIND_MIN`], go to `handler`.
    ///
    /// # Panics
    /// If `kind` is one of raft's own.
    pub fn register(&self, kind: u16, handler: CallHandler) {
        self.0.inbox.register(kind, handler);
    }

    /// Asks `gate` about every peer that connects.
    pub fn set_gate(&self, gate: Gate) {
        self.0.inbox.set_gate(gate);
    }

    /// Calls a member.
    ///
    /// # Errors
    /// See [`PeerError`].
    pub async fn call(
        &self,
        node: NodeId,
        kind: u16,
        body: Bytes,
        deadline: Duration,
    ) -> Result<Bytes, PeerError> {
        self.0.peers.ask(node, kind, ShardId::META, body, deadline).await
    }

    /// Calls whoever answers at `address`, member or not, and says who it was: to form a cluster or to join one.
    ///
    /// # Errors
    /// See [`PeerError`].
    pub async fn call_address(
        &self,
        address: &str,
        kind: u16,
        body: Bytes,
        deadline: Duration,
    ) -> Result<(PeerName, Bytes), PeerError> {
        let (peers, address) = (self.0.peers.clone(), address.to_owned());
        let called =
            self.0.runtime.spawn(async move { peers.call_address(&address, kind, body, deadline).await });
        called.await.unwrap_or_else(|_| Err(PeerError::NotSent("node is stopping".to_owned())))
    }

    /// Why this node must take no part any more; nothing as long as it may. Then whoever runs it makes that durable and
    /// stops: its log lacks what it had acknowledged, so what it says of itself is worth nothing.
    #[must_use]
    pub fn fenced(&self) -> watch::Receiver<Option<String>> {
        self.0.fenced.subscribe()
    }

    /// How the peers' clocks differ from ours.
    #[must_use]
    pub fn clock_samples(&self) -> BTreeMap<NodeId, ClockSample> {
        self.0.peers.clock_samples()
    }

    /// Cluster time, from the members of meta.
    #[must_use]
    pub fn cluster_time(&self) -> ClusterTime {
        let us = self.0.us.borrow().node.unwrap_or_default();
        let voters = self.status(ShardId::META).map(|status| status.voters).unwrap_or_default();
        ClusterTime::of(us, &Vec::from_iter(voters), &self.clock_samples())
    }

    /// From now on this node takes no leadership (`true`), or does again. What it leads it keeps until it is handed
    /// over: a group without a leader is worse than one with a bad one.
    pub async fn abstain(&self, abstains: bool) {
        if self.0.abstains.swap(abstains, Ordering::AcqRel) != abstains {
            self.0.driver.send(Event::Abstain(abstains)).await.ok();
        }
    }

    /// What the disk cannot do, for the log or for a shard; `None` while it does all. What failed comes first.
    #[must_use]
    pub fn disk_trouble(&self) -> Option<DiskTrouble> {
        let log = self.0.ports.log.trouble().map(|error| match error.remedy() {
            Remedy::Retry => DiskTrouble::NoRoom(error.to_string()),
            Remedy::Caller | Remedy::StopNode => DiskTrouble::Failed(error.to_string()),
        });
        let mut troubles = log.into_iter().chain(self.0.all().into_iter().filter_map(|group| {
            let shard = group.shard;
            Some(match group.troubles.get()? {
                DiskTrouble::NoRoom(reason) => DiskTrouble::NoRoom(format!("shard {shard}: {reason}")),
                DiskTrouble::Failed(reason) => DiskTrouble::Failed(format!("shard {shard}: {reason}")),
            })
        }));
        let first = troubles.next();
        match first {
            Some(DiskTrouble::NoRoom(_)) => {
                troubles.find(|trouble| matches!(trouble, DiskTrouble::Failed(_))).or(first)
            }
            first => first,
        }
    }

    /// Ends all groups for good, but still says what they were: for a node whose disk is not to be trusted.
    pub async fn stand_down(&self) {
        for group in self.0.all() {
            group.raft.shutdown().await.ok();
        }
    }

    /// How long ago each peer was heard; `None` for never. A hint, for status.
    #[must_use]
    pub fn silence(&self) -> BTreeMap<NodeId, Option<Duration>> {
        self.0.peers.silence()
    }

    /// Snapshots that this node is receiving.
    #[must_use]
    pub fn snapshot_progress(&self) -> BTreeMap<ShardId, SnapshotProgress> {
        self.0.snapshots.progress()
    }

    /// Snapshots that this node holds open for others.
    #[must_use]
    pub fn snapshots_lent(&self) -> usize {
        self.0.snapshots.lent()
    }

    /// Hosts a group with what the log and `state` have of it. A group without members waits until a leader adds
    /// this node, or until [`RaftNode::initialize`].
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn add_group(&self, shard: ShardId, state: Arc<dyn StateMachine>) -> Result<(), StartError> {
        let us = self.0.us.borrow().node.ok_or(StartError::NoId(shard))?;
        if self.0.group(shard).is_some() {
            return Err(StartError::Hosted(shard));
        }
        let applied = Arc::new(watch::Sender::new(None));
        let (tail, troubles) = (Arc::new(Tail::default()), Troubles::default());
        let failed = |reason: String| StartError::Group { shard, reason };
        let pool = self.0.pool.clone();
        let machine =
            Machine::new(shard, state.clone(), pool, applied.clone(), tail.clone(), troubles.clone());
        let machine = machine.map_err(|error| failed(error.to_string()))?;
        let store = LogStore::new(shard, self.0.ports.log.clone(), tail.clone());
        let net = GroupNet::new(shard, self.0.peers.clone(), self.0.snapshots.clone());
        let config = self.0.config.clone();
        // Its tasks are spawned where it is made.
        let made = self.0.runtime.spawn(async move { Raft::new(us.0, config, net, store, machine).await });
        let raft = made
            .await
            .map_err(|error| failed(error.to_string()))?
            .map_err(|error| failed(error.to_string()))?;
        let group = Arc::new(Group::new(shard, raft, state, applied, tail, troubles));
        self.0.groups.write().unwrap_or_else(PoisonError::into_inner).insert(shard, group.clone());
        let watching = watch_group(us, group, self.0.driver.clone());
        self.0.runtime.spawn(self.0.ports.spawner.vital("watch group", Box::pin(watching)));
        Ok(())
    }

    /// Stops hosting a group; what is stored stays.
    pub async fn remove_group(&self, shard: ShardId) {
        let group = self.0.groups.write().unwrap_or_else(PoisonError::into_inner).remove(&shard);
        if let Some(group) = group {
            group.raft.shutdown().await.ok();
        }
    }

    /// Gives a new group its first members; to be done on every first member with the same set, or on one. Does
    /// nothing if the group has members.
    ///
    /// # Errors
    /// If the group is not hosted or this node is not one of the members.
    pub async fn initialize(&self, shard: ShardId, members: &BTreeSet<NodeId>) -> Result<(), StartError> {
        let failed = |reason: String| StartError::Group { shard, reason };
        let group = self.0.group(shard).ok_or_else(|| failed("not hosted here".to_owned()))?;
        let members: BTreeMap<u64, EmptyNode> = members.iter().map(|node| (node.0, EmptyNode {})).collect();
        match group.raft.initialize(members).await {
            Ok(()) | Err(RaftError::APIError(InitializeError::NotAllowed(_))) => Ok(()),
            Err(error) => Err(failed(error.to_string())),
        }
    }

    /// The groups hosted here.
    #[must_use]
    pub fn shards(&self) -> Vec<ShardId> {
        self.0.groups.read().unwrap_or_else(PoisonError::into_inner).keys().copied().collect()
    }

    /// Role, leader and members of a group hosted here.
    #[must_use]
    pub fn status(&self, shard: ShardId) -> Option<GroupStatus> {
        self.0.group(shard).map(|group| group.status.borrow().clone())
    }

    /// The same, to wait for changes.
    #[must_use]
    pub fn watch(&self, shard: ShardId) -> Option<watch::Receiver<GroupStatus>> {
        self.0.group(shard).map(|group| group.status.subscribe())
    }

    /// How far a group hosted here has come.
    #[must_use]
    pub fn progress(&self, shard: ShardId) -> Option<GroupProgress> {
        self.0.group(shard).map(|group| group.progress())
    }

    /// Whether `index` is applied here.
    pub(crate) fn has_applied(&self, shard: ShardId, index: LogIndex) -> bool {
        self.0.group(shard).is_some_and(|group| group.applied.borrow().is_some_and(|id| id.index >= index))
    }

    /// Waits until `index` is applied here; whether that was so within `deadline`.
    pub async fn wait_applied(&self, shard: ShardId, index: LogIndex, deadline: Duration) -> bool {
        if self.has_applied(shard, index) {
            return true;
        }
        let Some(group) = self.0.group(shard) else { return false };
        let mut applied = group.applied.subscribe();
        let reached = applied.wait_for(|applied| applied.is_some_and(|id| id.index >= index));
        matches!(timeout(deadline, reached).await, Ok(Ok(_)))
    }

    /// Stops all groups, links and the server. Leaderships should have been handed over before.
    pub async fn shutdown(&self) {
        let groups = std::mem::take(&mut *self.0.groups.write().unwrap_or_else(PoisonError::into_inner));
        for group in groups.into_values() {
            group.raft.shutdown().await.ok();
        }
        self.0.peers.close();
        self.0.reading.close();
        self.0.stop.send_replace(true);
    }
}

/// A thread with a runtime for groups and links, apart from scraping and queries.
async fn own_runtime(spawner: &dyn Spawner, mut stop: watch::Receiver<bool>) -> Result<Handle, StartError> {
    let failed = |source| StartError::Io { doing: "start raft's thread", source };
    let (told, handle) = oneshot::channel();
    let run = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = match runtime {
            Ok(runtime) => runtime,
            Err(error) => return drop(told.send(Err(error))),
        };
        if told.send(Ok(runtime.handle().clone())).is_ok() {
            runtime.block_on(async { drop(stop.wait_for(|stop| *stop).await) });
        }
        runtime.shutdown_background();
    };
    spawner.thread("raft", Box::new(run)).map_err(failed)?;
    handle.await.unwrap_or_else(|_| Err(io::Error::other("thread ended"))).map_err(failed)
}

impl Inner {
    pub(crate) fn group(&self, shard: ShardId) -> Option<Arc<Group>> {
        self.groups.read().unwrap_or_else(PoisonError::into_inner).get(&shard).cloned()
    }

    fn all(&self) -> Vec<Arc<Group>> {
        self.groups.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// Works on one of raft's own requests.
    async fn answer(&self, from: PeerName, kind: u16, shard: ShardId, body: Bytes) -> Result<Bytes, String> {
        match kind {
            kind::CONFIRM => return self.answer_confirm(&body),
            kind::WILLING => return network::encode(&self.is_willing()),
            kind::FENCE => {}
            // It may have forgotten for whom it voted and what it acknowledged.
            _ if self.is_fenced() => return Err("this node is fenced".to_owned()),
            _ => {}
        }
        let from = from.node.ok_or("sender has no id")?;
        let group = self.group(shard).ok_or_else(|| format!("shard {shard} is not hosted here"))?;
        match kind {
            kind::FENCE => {
                self.check_fence(shard, LogIndex(network::decode(&body)?));
                network::encode(&())
            }
            kind::SNAPSHOT_OFFER => {
                let applied = *group.applied.borrow();
                let checkpointed =
                    group.raft.metrics().borrow_watched().snapshot.map(|id| LogIndex(id.index));
                let durable = group.tail.durable().max(checkpointed);
                let failure = group.status_now().failure;
                let receiver = Receiver { raft: &group.raft, state: &group.state, applied, durable, failure };
                self.snapshots.offered(from, shard, &body, &receiver)
            }
            kind::SNAPSHOT_OPEN => self.snapshots.open(from, shard, group.state.clone()).await,
            kind::SNAPSHOT_READ => self.snapshots.read(from, shard, &body).await,
            kind if kind::SNAPSHOT_RETIRED.contains(&kind) => Err(format!(
                "node {from} sends snapshots in the format of an earlier version: upgrade it first"
            )),
            kind => {
                let room = |entries, bytes| self.ports.log.reserve(entries, bytes);
                let (answer, noted) = network::answer(shard, &group.raft, kind, &body, room).await?;
                let event = match noted {
                    Noted::Nothing => return Ok(answer),
                    Noted::Heard => Event::Heard(shard),
                    Noted::Followed(term) => {
                        group.tail.meet(term);
                        Event::Heard(shard)
                    }
                    Noted::Granted => Event::Granted(shard),
                };
                self.driver.try_send(event).ok(); // a full queue holds many of the same kind
                Ok(answer)
            }
        }
    }
}

impl Inner {
    /// Whether this node would take a leadership that is handed to it.
    pub(crate) fn is_willing(&self) -> bool {
        !self.abstains.load(Ordering::Acquire) && !self.is_fenced()
    }

    pub(crate) fn is_fenced(&self) -> bool {
        self.fenced.borrow().is_some()
    }

    /// A leader says that this node had acknowledged everything up to `upto`; the log knows whether it still has that.
    fn check_fence(&self, shard: ShardId, upto: LogIndex) {
        let last = self.ports.log.state(shard).and_then(|state| state.last).map(|last| last.index);
        if last < Some(upto) {
            let ends = last.map_or("has no entries".to_owned(), |last| format!("ends at entry {last}"));
            let text = format!(
                "this node's log went backwards: shard {shard} {ends}, after the node had acknowledged entry {upto}. An \
                 old copy of its disk was restored, or its disk forgot what it had synced. It takes no part any more; \
                 its data is kept untouched: start with an empty --storage.tsdb.path to join again"
            );
            tracing::error!(%shard, %upto, "fencing this node: its log went backwards");
            self.fenced.send_replace(Some(text));
        }
    }
}

/// The one timer.
async fn drive(
    inner: Arc<Inner>,
    mut driver: Driver,
    mut events: mpsc::Receiver<Event>,
    mut stop: watch::Receiver<bool>,
) {
    let clock = inner.ports.clock.clone();
    let mut batch = Vec::with_capacity(64);
    let mut wake = clock.monotonic();
    loop {
        batch.clear();
        let patience = wake.saturating_sub(clock.monotonic());
        tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => return,
            count = events.recv_many(&mut batch, 64) => if count == 0 { return },
            () = sleep(patience) => batch.push(Event::Tick),
        }
        for event in &batch {
            for effect in driver.step(clock.monotonic(), *event) {
                match effect {
                    Effect::WakeAt(at) => wake = at,
                    Effect::Heartbeat(shard) => {
                        model::point!("raft.heartbeat");
                        if let Some(group) = inner.group(shard) {
                            group.raft.trigger().heartbeat().await.ok();
                        }
                    }
                    Effect::Campaign(shard) => {
                        model::point!("raft.campaign");
                        if let Some(group) = inner.group(shard) {
                            tracing::debug!(%shard, "campaigning");
                            group.raft.trigger().elect(true).await.ok();
                        }
                    }
                }
            }
        }
    }
}

/// Tells openraft of new checkpoints, purges behind them, asks for checkpoints where the log runs full, and looks for
/// room where a disk was.
async fn upkeep(inner: Arc<Inner>, mut stop: watch::Receiver<bool>) {
    for round in 0_u32.. {
        tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => return,
            () = sleep(UPKEEP_INTERVAL) => {}
        }
        inner.ports.log.look_for_room();
        let pressure: BTreeMap<ShardId, LogIndex> =
            inner.ports.log.pressure().groups.into_iter().map(|pinned| (pinned.group, pinned.upto)).collect();
        let leads = |shard| {
            let group = inner.group(shard);
            group.is_some_and(|group| group.status_now().role == GroupRole::Leader)
        };
        inner.snapshots.close_idle(leads);
        for group in inner.all() {
            inner.keep_up(&group, pressure.get(&group.shard).copied()).await;
            if round % NO_ROOM_ROUNDS == 0 && matches!(group.troubles.get(), Some(DiskTrouble::NoRoom(_))) {
                inner.checkpoint(group, "there was no room for the last one");
            }
        }
    }
}

impl Inner {
    async fn keep_up(&self, group: &Arc<Group>, pressed: Option<LogIndex>) {
        let checkpointed: Option<LogId> = group.state.checkpointed().log_id;
        let (snapshot, purged) = {
            let metrics = group.raft.metrics();
            let metrics = metrics.borrow_watched();
            let index = |id: &Option<_>| id.as_ref().map(|id| crate::engine::types::log_id(id).index);
            (index(&metrics.snapshot), index(&metrics.purged))
        };
        let upto = checkpointed.map(|id| id.index);
        if upto > snapshot {
            group.raft.trigger().snapshot().await.ok(); // openraft asks for the meta, and gets the checkpoint's
        }
        if pressed.is_some_and(|pinned| upto < Some(pinned)) {
            self.checkpoint(group.clone(), "the log runs full");
        }
        let kept = if pressed.is_some() { 0 } else { self.options.entries_kept };
        let purge = snapshot.min(upto).and_then(|index| index.0.checked_sub(kept));
        let needed = self.snapshots.needed_from(group.shard).filter(|_| pressed.is_none());
        let purge = purge.map(|purge| needed.map_or(purge, |needed| purge.min(needed.0)));
        if let Some(purge) = purge
            && purged.is_none_or(|purged| purge >= purged.0 + 64 || (pressed.is_some() && purge > purged.0))
        {
            group.raft.trigger().purge_log(purge).await.ok();
        }
    }

    /// Begins a checkpoint, if none is under way.
    fn checkpoint(&self, group: Arc<Group>, why: &'static str) {
        if group.checkpointing.swap(true, Ordering::AcqRel) {
            return;
        }
        let pool = self.pool.clone();
        self.runtime.spawn(async move {
            tracing::info!(shard = %group.shard, why, "making a checkpoint");
            let state = group.state.clone();
            match pool.run_aside(move || state.checkpoint()).await {
                Some(Err(error)) => {
                    tracing::warn!(shard = %group.shard, %error, "checkpoint failed");
                    group.troubles.note(&error);
                }
                Some(Ok(_)) => group.troubles.clear(),
                None => {}
            }
            group.checkpointing.store(false, Ordering::Release);
        });
    }
}

fn not_leader(forward: &ForwardToLeader<Types>, reason: &str) -> ProposeError {
    ProposeError::Refused { reason: reason.to_owned(), leader: forward.leader_id.map(NodeId) }
}

impl Proposer for RaftNode {
    fn propose(
        &self,
        shard: ShardId,
        term: Option<Term>,
        command: Bytes,
    ) -> BoxFuture<'_, Result<(LogIndex, Bytes), ProposeError>> {
        Box::pin(self.0.propose(shard, term, command))
    }
}

impl Inner {
    async fn propose(
        &self,
        shard: ShardId,
        term: Option<Term>,
        command: Bytes,
    ) -> Result<(LogIndex, Bytes), ProposeError> {
        let refused = |reason: String| ProposeError::Refused { reason, leader: None };
        let unknown = |reason: String| ProposeError::Unknown { reason };
        let group = self.group(shard).ok_or_else(|| refused(format!("shard {shard} is not hosted here")))?;
        if self.is_fenced() {
            return Err(refused("this node is fenced".to_owned()));
        }
        if command.len() > COMMAND_BYTES_MAX {
            return Err(refused(format!(
                "command of {} bytes, at most {COMMAND_BYTES_MAX} are taken",
                command.len()
            )));
        }
        let room = self.ports.log.reserve(1, command.len() + Command::HEAD_BYTES);
        let room = Room(Some(Arc::new(room.map_err(|error| refused(error.to_string()))?)));
        model::point!("raft.propose.begin");
        let (responder, outcome) = ProgressResponder::complete_only();
        let mut request = group.raft.write(Command(command, room)).responder(responder);
        if let Some(term) = term {
            request = request.with_leader(term.0);
        }
        request.await.map_err(|error| unknown(format!("replica stopped: {error}")))?;
        let outcome = timeout(self.options.propose_patience, outcome).await;
        match outcome {
            Ok(Ok(Ok(done))) => {
                model::point!("raft.propose.committed");
                Ok((crate::engine::types::log_id(&done.log_id).index, done.data.0))
            }
            Ok(Ok(Err(ClientWriteError::ForwardToLeader(forward)))) => {
                Err(not_leader(&forward, "not the leader, or not in this term"))
            }
            Ok(Ok(Err(error))) => Err(unknown(error.to_string())),
            Ok(Err(_)) => Err(unknown("replica stopped before the outcome was known".to_owned())),
            Err(_) => Err(unknown("no outcome in time".to_owned())),
        }
    }
}
