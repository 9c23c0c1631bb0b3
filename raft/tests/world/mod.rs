//! Fakes for everything outside: a network that can be cut, a disk that can lose power, threads, clocks.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses its part")]
#![expect(clippy::disallowed_methods, clippy::unwrap_used, reason = "this is the outside of the tests")]

use bytes::Bytes;
use model::{
    Applied, BoxFuture, ClientIo, Clock, ClusterId, CommittedEntry, DatagramSocket, EntryPayload, Listener,
    LogIndex, Net, NodeId, ProposeError, Proposer, Rng, ShardId, SnapshotCheck, SnapshotPiece, SnapshotSink,
    SnapshotSource, Spawner, StateError, StateHash, StateMachine, Term, TimestampMs, WantedPart,
};
use raft::{GroupRole, MemberError, PeerName, RaftNode, RaftOptions, RaftPorts, Timing};
use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::{IpAddr, SocketAddr},
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use storage::log::{Log, LogOptions, LogPorts, testing::MemFs};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
    sync::mpsc,
};
use tokio_util::compat::TokioAsyncReadCompatExt;

#[derive(Debug)]
pub struct TestClock {
    start: Instant,
    /// What all clocks of the test have skipped.
    skipped_ms: Arc<AtomicU64>,
}

impl TestClock {
    fn elapsed(&self) -> Duration {
        self.start.elapsed() + Duration::from_millis(self.skipped_ms.load(Ordering::Relaxed))
    }
}

impl Clock for TestClock {
    fn now(&self) -> TimestampMs {
        TimestampMs(1_700_000_000_000 + self.elapsed().as_millis() as i64)
    }
    fn monotonic(&self) -> Duration {
        self.elapsed() + Duration::from_secs(1000)
    }
}

#[derive(Debug)]
pub struct TestRng(AtomicU64);

impl Rng for TestRng {
    fn next_u64(&self) -> u64 {
        self.0.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed) ^ 0x1234_5678_9abc_def1
    }
}

#[derive(Debug)]
pub struct TestSpawner;

impl Spawner for TestSpawner {
    fn spawn(&self, _name: &'static str, task: BoxFuture<'static, ()>) {
        tokio::spawn(task);
    }
    fn blocking(&self, _name: &'static str, work: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, ()> {
        Box::pin(async move { drop(tokio::task::spawn_blocking(work).await) })
    }
    fn thread(&self, name: &'static str, work: Box<dyn FnOnce() + Send>) -> io::Result<()> {
        std::thread::Builder::new().name(name.to_owned()).spawn(work).map(drop)
    }
}

type Incoming = mpsc::UnboundedSender<(Box<dyn ClientIo>, SocketAddr)>;

#[derive(Debug, Default)]
struct Wires {
    listeners: BTreeMap<SocketAddr, Incoming>,
    cut: BTreeSet<(IpAddr, IpAddr)>,
    datagrams: BTreeMap<SocketAddr, mpsc::Sender<(Vec<u8>, SocketAddr)>>,
    /// Whether connections end that do not begin as HTTP/2 does, as at a node of an older version.
    http2_only: bool,
    /// Connections that did not.
    plain: usize,
}

/// All networks of a test.
#[derive(Clone, Debug, Default)]
pub struct World(Arc<Mutex<Wires>>);

impl World {
    fn wires(&self) -> std::sync::MutexGuard<'_, Wires> {
        self.0.lock().unwrap()
    }

    fn is_cut(&self, from: IpAddr, to: IpAddr) -> bool {
        self.wires().cut.contains(&(from, to))
    }

    /// Nothing passes between a host and the others, in both directions; connections stay, silent.
    pub fn isolate(&self, node: u64, others: &[u64]) {
        let mut wires = self.wires();
        for other in others.iter().filter(|other| **other != node) {
            wires.cut.insert((host(node), host(*other)));
            wires.cut.insert((host(*other), host(node)));
        }
    }

    /// From now on, connections that do not begin as HTTP/2 does are closed at once.
    pub fn take_only_http2(&self) {
        self.wires().http2_only = true;
    }

    /// Connections that did not begin as HTTP/2 does.
    pub fn plain_connections(&self) -> usize {
        self.wires().plain
    }

    /// Whether a connection that begins so may go on.
    fn takes(&self, first: &[u8]) -> bool {
        let mut wires = self.wires();
        let is_plain = !first.starts_with(b"PRI");
        wires.plain += usize::from(is_plain);
        !(is_plain && wires.http2_only)
    }

    pub fn heal(&self) {
        self.wires().cut.clear();
    }
}

/// One host's network while its process lives.
#[derive(Clone, Debug)]
pub struct TestNet {
    world: World,
    host: IpAddr,
    alive: Arc<AtomicBool>,
}

#[derive(Debug)]
struct TestListener {
    incoming: tokio::sync::Mutex<mpsc::UnboundedReceiver<(Box<dyn ClientIo>, SocketAddr)>>,
    address: SocketAddr,
}

#[derive(Debug)]
struct TestDatagrams {
    world: World,
    address: SocketAddr,
    incoming: tokio::sync::Mutex<mpsc::Receiver<(Vec<u8>, SocketAddr)>>,
}

impl DatagramSocket for TestDatagrams {
    fn send_to<'a>(&'a self, data: &'a [u8], to: SocketAddr) -> BoxFuture<'a, io::Result<usize>> {
        Box::pin(async move {
            let receiver = self.world.wires().datagrams.get(&to).cloned();
            if let Some(receiver) = receiver.filter(|_| !self.world.is_cut(self.address.ip(), to.ip())) {
                receiver.try_send((data.to_vec(), self.address)).ok();
            }
            Ok(data.len())
        })
    }
    fn recv_from<'a>(&'a self, buf: &'a mut [u8]) -> BoxFuture<'a, io::Result<(usize, SocketAddr)>> {
        Box::pin(async move {
            let (data, from) =
                self.incoming.lock().await.recv().await.ok_or(io::ErrorKind::ConnectionAborted)?;
            buf[..data.len()].copy_from_slice(&data);
            Ok((data.len(), from))
        })
    }
    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }
}

/// Carries bytes one way; what is cut waits.
async fn pump(
    world: World,
    is_there: bool,
    (from, to): (IpAddr, IpAddr),
    alive: [Arc<AtomicBool>; 2],
    mut read: tokio::io::ReadHalf<DuplexStream>,
    mut write: tokio::io::WriteHalf<DuplexStream>,
) {
    let mut buf = vec![0; 64 << 10];
    let dead = || alive.iter().any(|alive| !alive.load(Ordering::Relaxed));
    let mut is_first = is_there;
    loop {
        let read = tokio::select! {
            read = read.read(&mut buf) => read,
            () = async { while !dead() { tokio::time::sleep(Duration::from_millis(10)).await } } => return,
        };
        let Ok(count @ 1..) = read else { return };
        if is_first && !world.takes(&buf[..count]) {
            return;
        }
        is_first = false;
        while world.is_cut(from, to) && !dead() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        if dead() || write.write_all(&buf[..count]).await.is_err() {
            return;
        }
    }
}

/// Alive flags by host, so that a connection ends with either process.
static ALIVE: Mutex<BTreeMap<(usize, IpAddr), Arc<AtomicBool>>> = Mutex::new(BTreeMap::new());

impl TestNet {
    pub fn new(world: &World, node: u64) -> TestNet {
        let alive = Arc::new(AtomicBool::new(true));
        ALIVE.lock().unwrap().insert((Arc::as_ptr(&world.0) as usize, host(node)), alive.clone());
        TestNet { world: world.clone(), host: host(node), alive }
    }

    fn alive_of(&self, host: IpAddr) -> Arc<AtomicBool> {
        let all = ALIVE.lock().unwrap();
        all.get(&(Arc::as_ptr(&self.world.0) as usize, host)).cloned().unwrap_or_default()
    }
}

impl Net for TestNet {
    fn connect<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Box<dyn ClientIo>>> {
        Box::pin(async move {
            let to: SocketAddr = address.parse().map_err(io::Error::other)?;
            if self.world.is_cut(self.host, to.ip()) {
                std::future::pending::<()>().await;
            }
            let listener = self.world.wires().listeners.get(&to).cloned();
            let listener = listener.ok_or(io::ErrorKind::ConnectionRefused)?;
            let alive = [self.alive.clone(), self.alive_of(to.ip())];
            let ((ours, near), (far, theirs)) = (tokio::io::duplex(256 << 10), tokio::io::duplex(256 << 10));
            let ((near_read, near_write), (far_read, far_write)) =
                (tokio::io::split(near), tokio::io::split(far));
            let (there, back) = ((self.host, to.ip()), (to.ip(), self.host));
            tokio::spawn(pump(self.world.clone(), true, there, alive.clone(), near_read, far_write));
            tokio::spawn(pump(self.world.clone(), false, back, alive, far_read, near_write));
            let accepted = (Box::new(theirs.compat()) as Box<dyn ClientIo>, SocketAddr::new(self.host, 1));
            listener.send(accepted).map_err(|_| io::ErrorKind::ConnectionRefused)?;
            Ok(Box::new(ours.compat()) as Box<dyn ClientIo>)
        })
    }

    fn listen(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Listener>>> {
        Box::pin(async move {
            let (sender, incoming) = mpsc::unbounded_channel();
            self.world.wires().listeners.insert(address, sender);
            Ok(Box::new(TestListener { incoming: incoming.into(), address }) as Box<dyn Listener>)
        })
    }

    fn bind_datagram(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn DatagramSocket>>> {
        Box::pin(async move {
            let (sender, incoming) = mpsc::channel(1024);
            self.world.wires().datagrams.insert(address, sender);
            let world = self.world.clone();
            Ok(Box::new(TestDatagrams { world, address, incoming: incoming.into() })
                as Box<dyn DatagramSocket>)
        })
    }

    fn resolve<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
        Box::pin(async move { Ok(vec![address.parse().map_err(io::Error::other)?]) })
    }
}

impl Listener for TestListener {
    fn accept(&self) -> BoxFuture<'_, io::Result<(Box<dyn ClientIo>, SocketAddr)>> {
        Box::pin(async move {
            let next = self.incoming.lock().await.recv().await;
            next.ok_or_else(|| io::ErrorKind::ConnectionAborted.into())
        })
    }
    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }
}

fn host(node: u64) -> IpAddr {
    IpAddr::from([10, 0, 0, node as u8])
}

pub fn address(node: u64) -> SocketAddr {
    SocketAddr::new(host(node), 9390)
}

// ------------------------------------------------------------------------------------------- a small state machine

#[derive(Clone, Debug, Default)]
struct Content {
    applied: Applied,
    commands: Vec<Bytes>,
}

/// A list of commands. `disk` outlives the process, the rest does not.
#[derive(Debug, Default)]
pub struct ListMachine {
    now: Mutex<Content>,
    disk: Arc<Mutex<Content>>,
    pub installed: AtomicU64,
    /// Whether a snapshot that was received waits, before it is installed.
    pub held: AtomicBool,
    /// Whether one is there.
    pub checking: AtomicBool,
    /// Whether its disk fails when something is applied.
    pub failing: AtomicBool,
    /// Whether an entry asked for a checkpoint.
    wants: AtomicBool,
    /// Whether its disk does not answer when a checkpoint is made.
    pub hanging: AtomicBool,
}

/// A command that asks for a checkpoint.
pub const CHECKPOINT: &str = "checkpoint";

impl ListMachine {
    fn open(disk: &Arc<Mutex<Content>>) -> ListMachine {
        let now = disk.lock().unwrap().clone();
        ListMachine { now: Mutex::new(now), disk: disk.clone(), ..ListMachine::default() }
    }
    pub fn commands(&self) -> Vec<Bytes> {
        self.now.lock().unwrap().commands.clone()
    }
}

/// Answers with the number of commands so far.
pub struct Listed(Arc<ListMachine>);

impl StateMachine for Listed {
    fn applied(&self) -> Applied {
        self.0.now.lock().unwrap().applied.clone()
    }
    fn checkpointed(&self) -> Applied {
        self.0.disk.lock().unwrap().applied.clone()
    }
    fn apply(&self, entries: &[CommittedEntry]) -> Result<Vec<Bytes>, StateError> {
        if self.0.failing.load(Ordering::Relaxed) {
            return Err(StateError::Io("input/output error".to_owned()));
        }
        let mut now = self.0.now.lock().unwrap();
        let mut answers = Vec::new();
        for entry in entries {
            assert!(
                now.applied.log_id.is_none_or(|last| last.index.0 + 1 == entry.log_id.index.0),
                "exactly once, in order"
            );
            now.applied.log_id = Some(entry.log_id);
            match &entry.payload {
                EntryPayload::Command(command) => {
                    self.0.wants.fetch_or(&command[..] == CHECKPOINT.as_bytes(), Ordering::Relaxed);
                    now.commands.push(command.clone());
                }
                EntryPayload::Membership(membership) => now.applied.membership = membership.clone(),
                EntryPayload::Blank => {}
            }
            answers.push(Bytes::copy_from_slice(&(now.commands.len() as u64).to_be_bytes()));
        }
        Ok(answers)
    }
    fn wants_checkpoint(&self) -> bool {
        self.0.wants.load(Ordering::Relaxed)
    }
    fn checkpoint(&self) -> Result<Applied, StateError> {
        self.0.wants.store(false, Ordering::Relaxed);
        while self.0.hanging.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(2));
        }
        let now = self.0.now.lock().unwrap().clone();
        *self.0.disk.lock().unwrap() = now.clone();
        Ok(now.applied)
    }
    fn open_snapshot(&self) -> Result<Box<dyn SnapshotSource>, StateError> {
        Ok(Box::new(ListSnapshot(self.0.disk.lock().unwrap().clone())))
    }
    fn begin_install(&self, manifest: Bytes) -> Result<Box<dyn SnapshotSink>, StateError> {
        let text =
            String::from_utf8(manifest.to_vec()).map_err(|error| StateError::Corrupt(error.to_string()))?;
        let mut numbers = text.split(' ').map(|number| number.parse::<u64>().expect("number"));
        let (term, index) = (numbers.next().expect("term"), numbers.next().expect("index"));
        let membership_length = numbers.next().expect("membership length") as usize;
        let lengths: Vec<u64> = numbers.collect();
        let log_id = Some(model::LogId { term: Term(term), index: LogIndex(index) });
        let parts = lengths.iter().map(|_| (Vec::new(), false)).collect();
        Ok(Box::new(ListSink { machine: self.0.clone(), log_id, lengths, parts, membership_length }))
    }
    fn recent_hashes(&self) -> Vec<StateHash> {
        Vec::new()
    }
}

/// Part 0 is the membership, the others are the commands.
struct ListSnapshot(Content);

impl SnapshotSource for ListSnapshot {
    fn applied(&self) -> Applied {
        self.0.applied.clone()
    }
    fn manifest(&self) -> Bytes {
        let id = self.0.applied.log_id.unwrap();
        let membership = &self.0.applied.membership;
        let mut text = format!("{} {} {} {}", id.term, id.index, membership.len(), membership.len());
        self.0.commands.iter().for_each(|command| text += &format!(" {}", command.len()));
        text.into()
    }
    fn read(&self, part: u32, from: &[u8], max: usize) -> Result<SnapshotPiece, StateError> {
        let part = match part {
            0 => &self.0.applied.membership,
            part => {
                self.0.commands.get(part as usize - 1).ok_or(StateError::Io("no such part".to_owned()))?
            }
        };
        let offset =
            if from.is_empty() { 0 } else { u64::from_be_bytes(from.try_into().expect("eight")) as usize };
        let end = part.len().min(offset + max);
        let next = (end < part.len()).then(|| Bytes::copy_from_slice(&(end as u64).to_be_bytes()));
        Ok(SnapshotPiece { data: part.slice(offset..end), next })
    }
}

struct ListSink {
    machine: Arc<ListMachine>,
    log_id: Option<model::LogId>,
    lengths: Vec<u64>,
    /// Each with whether it is whole.
    parts: Vec<(Vec<u8>, bool)>,
    membership_length: usize,
}

impl SnapshotSink for ListSink {
    fn wanted(&self) -> Vec<WantedPart> {
        let parts = (0_u32..).zip(&self.parts).zip(&self.lengths).filter(|((_, (_, whole)), _)| !whole);
        parts.map(|((part, _), length)| WantedPart { part, bytes: *length }).collect()
    }
    fn write(&mut self, part: u32, data: &[u8], last: bool) -> Result<(), StateError> {
        let (bytes, whole) = &mut self.parts[part as usize];
        assert!(!*whole);
        bytes.extend_from_slice(data);
        *whole = last;
        Ok(())
    }
    fn check(&mut self) -> Result<SnapshotCheck, StateError> {
        assert!(self.parts.iter().zip(&self.lengths).all(|((part, _), length)| part.len() as u64 == *length));
        self.machine.checking.store(true, Ordering::Relaxed);
        while self.machine.held.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(2));
        }
        self.machine.checking.store(false, Ordering::Relaxed);
        Ok(SnapshotCheck::Whole)
    }
    fn commit(&mut self) -> Result<Applied, StateError> {
        assert_eq!(self.parts[0].0.len(), self.membership_length);
        let mut parts = std::mem::take(&mut self.parts).into_iter().map(|(part, _)| Bytes::from(part));
        let applied = Applied { log_id: self.log_id, membership: parts.next().expect("membership") };
        let content = Content { applied: applied.clone(), commands: parts.collect() };
        *self.machine.disk.lock().unwrap() = content.clone();
        *self.machine.now.lock().unwrap() = content;
        self.machine.installed.fetch_add(1, Ordering::Relaxed);
        Ok(applied)
    }
}

// ------------------------------------------------------------------------------------------------------- a cluster

pub const A: ShardId = ShardId(1);
pub const B: ShardId = ShardId(2);

/// Patience with anything that a cluster does at once: a test machine may be slow and shared.
pub const PATIENCE: Duration = Duration::from_secs(60);

fn options(lease: Duration) -> RaftOptions {
    let timing = Timing::of(Duration::from_millis(150), lease);
    // One thread that applies: who holds it up holds up everybody.
    RaftOptions { timing, propose_patience: PATIENCE, apply_threads: 1, ..RaftOptions::default() }
}

/// For tests in which whoever leads first leads to the end, or hands over: leases are so long that no pause of the
/// machine makes an election.
pub fn calm() -> RaftOptions {
    options(Duration::from_secs(6))
}

/// For tests in which leaders die or are cut off. A busy machine may make further elections at any time, which these
/// tests must bear.
pub fn electing() -> RaftOptions {
    options(Duration::from_millis(1500))
}

/// What survives of a node.
#[derive(Clone, Default)]
struct Disk {
    fs: MemFs,
    machines: BTreeMap<ShardId, Arc<Mutex<Content>>>,
}

pub struct TestNode {
    pub raft: RaftNode,
    pub machines: BTreeMap<ShardId, Arc<ListMachine>>,
    pub log: Arc<Log>,
    alive: Arc<AtomicBool>,
}

/// Three nodes, two groups.
pub struct Cluster {
    pub world: World,
    pub nodes: BTreeMap<u64, TestNode>,
    pub shards: Vec<ShardId>,
    disks: BTreeMap<u64, Disk>,
    start: Instant,
    skipped_ms: Arc<AtomicU64>,
    pub options: RaftOptions,
    /// Nodes at which snapshots that are received wait, from their start on; see [`hold`].
    pub held: BTreeSet<u64>,
}

impl Cluster {
    /// Starts and initialises a cluster whose leaders stay, and waits for them.
    pub async fn start() -> Cluster {
        Cluster::with(calm(), &[A, B]).await
    }

    /// The same where leaders change.
    pub async fn start_electing() -> Cluster {
        Cluster::with(electing(), &[A, B]).await
    }

    pub async fn with(options: RaftOptions, shards: &[ShardId]) -> Cluster {
        if std::env::var_os("RUST_LOG").is_some() {
            tracing_subscriber::fmt()
                .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
                .try_init()
                .ok();
        }
        let mut cluster = Cluster {
            world: World::default(),
            nodes: BTreeMap::new(),
            shards: shards.to_vec(),
            disks: BTreeMap::new(),
            start: Instant::now(),
            skipped_ms: Arc::default(),
            options,
            held: BTreeSet::new(),
        };
        for node in 1..=3 {
            cluster.boot(node).await;
        }
        for node in 1..=3 {
            for shard in shards {
                cluster.nodes[&node].raft.initialize(*shard, &(1..=3).map(NodeId).collect()).await.unwrap();
            }
        }
        // A new group listens for a lease before somebody campaigns. There is nobody to be heard.
        let lease = options.timing.lease + Duration::from_millis(10);
        cluster.skipped_ms.fetch_add(lease.as_millis() as u64, Ordering::Relaxed);
        for shard in shards {
            cluster.leader(*shard).await;
        }
        cluster
    }

    /// Starts a node's process with what its disk has.
    pub async fn boot(&mut self, node: u64) {
        let disk = self.disks.entry(node).or_default();
        for shard in &self.shards {
            disk.machines.entry(*shard).or_default();
        }
        let clock = Arc::new(TestClock { start: self.start, skipped_ms: self.skipped_ms.clone() });
        let spawner: Arc<dyn Spawner> = Arc::new(TestSpawner);
        let fs = Arc::new(disk.fs.clone());
        let ports = LogPorts { fs, clock: clock.clone(), spawner: Some(spawner.clone()) };
        let options = LogOptions { size: LogOptions::SIZE_MIN, ..LogOptions::default() };
        let (log, _) = Log::open(ports, Path::new("log"), options).expect("log opens");
        let log = Arc::new(log);
        let net = TestNet::new(&self.world, node);
        let alive = net.alive.clone();
        let rng = Arc::new(TestRng(AtomicU64::new(node * 77)));
        let ports = RaftPorts { clock, rng, spawner, net: Arc::new(net), log: log.clone() };
        let us = PeerName {
            cluster: Some(ClusterId(42)),
            node: Some(NodeId(node)),
            name: format!("node-{node}"),
            address: address(node).to_string(),
        };
        let raft = RaftNode::start(ports, self.options, us, Some(address(node))).await.expect("raft starts");
        for other in 1..=5 {
            raft.set_peer_address(NodeId(other), &address(other).to_string());
        }
        let mut machines = BTreeMap::new();
        for shard in &self.shards {
            let machine = Arc::new(ListMachine::open(&disk.machines[shard]));
            machine.held.store(self.held.contains(&node), Ordering::Relaxed);
            raft.add_group(*shard, Arc::new(Listed(machine.clone()))).await.expect("group starts");
            machines.insert(*shard, machine);
        }
        self.nodes.insert(node, TestNode { raft, machines, log, alive });
    }

    /// Power fails at a node: what was not synced is gone.
    pub async fn kill(&mut self, node: u64) {
        let Some(dead) = self.nodes.remove(&node) else { return };
        dead.alive.store(false, Ordering::Relaxed);
        self.world.wires().listeners.remove(&address(node));
        self.disks[&node].fs.power_loss(node);
        // The process itself ends when nobody hears it any more.
        tokio::spawn(async move { dead.raft.shutdown().await });
    }

    /// A node's file system, to break it.
    pub fn fs(&self, node: u64) -> MemFs {
        self.disks[&node].fs.clone()
    }

    /// The node's disk is replaced by an empty one.
    pub fn wipe(&mut self, node: u64) {
        self.disks.remove(&node);
    }

    /// The node that leads a shard and is ready to; waits for it.
    pub async fn leader(&self, shard: ShardId) -> u64 {
        self.leader_among(shard, &Vec::from_iter(self.nodes.keys().copied())).await
    }

    pub async fn leader_among(&self, shard: ShardId, nodes: &[u64]) -> u64 {
        let search = async {
            loop {
                let ready =
                    |node: &&u64| self.nodes[node].raft.status(shard).is_some_and(|status| status.ready);
                if let Some(node) = nodes.iter().find(ready) {
                    return *node;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, search).await.expect("a leader in time")
    }

    pub async fn propose(
        &self,
        node: u64,
        shard: ShardId,
        text: &str,
    ) -> Result<(LogIndex, Bytes), ProposeError> {
        self.nodes[&node].raft.propose(shard, None, Bytes::copy_from_slice(text.as_bytes())).await
    }

    /// Commits a command once, wherever the leader is. No other command of the test has this text.
    pub async fn commit(&self, shard: ShardId, text: &str) -> LogIndex {
        self.commit_among(shard, &Vec::from_iter(self.nodes.keys().copied()), text).await
    }

    /// The same through one of these nodes.
    pub async fn commit_among(&self, shard: ShardId, nodes: &[u64], text: &str) -> LogIndex {
        loop {
            let leader = self.leader_among(shard, nodes).await;
            let raft = &self.nodes[&leader].raft;
            let term = raft.status(shard).expect("hosted").term;
            match raft.propose(shard, Some(term), Bytes::copy_from_slice(text.as_bytes())).await {
                Ok((index, _)) => return index,
                Err(ProposeError::Refused { .. }) => tokio::time::sleep(Duration::from_millis(10)).await,
                Err(ProposeError::Unknown { .. }) => {
                    if let Some(index) = self.fate(shard, nodes, term, text).await {
                        return index;
                    }
                }
            }
        }
    }

    /// What became of a command whose outcome is unknown: a leader of a later term has all of the term's commands that
    /// are or will ever be committed. Yields an index that contains it, if it is one of them.
    async fn fate(&self, shard: ShardId, nodes: &[u64], term: Term, text: &str) -> Option<LogIndex> {
        let search = async {
            loop {
                for node in nodes {
                    let TestNode { raft, machines, .. } = &self.nodes[node];
                    if raft.status(shard).is_some_and(|status| status.ready && status.term > term) {
                        let now = machines[&shard].now.lock().unwrap();
                        let is_there = now.commands.iter().any(|command| *command == text.as_bytes());
                        return now.applied.log_id.filter(|_| is_there).map(|id| id.index);
                    }
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, search).await.expect("a leader of a later term in time")
    }

    /// Waits until all voters have what is committed in the shards that a node leads, so that it can hand them over.
    pub async fn caught_up(&self, leader: u64) {
        let has_all = |cluster: &Cluster, shard: &ShardId| {
            let raft = &cluster.nodes[&leader].raft;
            let (status, progress) =
                (raft.status(*shard).expect("hosted"), raft.progress(*shard).expect("hosted"));
            let matched =
                |voter: &NodeId| progress.matched.get(voter).copied().flatten() >= progress.committed;
            let mut others = status.voters.iter().filter(|voter| voter.0 != leader);
            status.role != GroupRole::Leader || others.all(matched)
        };
        self.eventually("the voters have caught up", |cluster| {
            cluster.shards.iter().all(|shard| has_all(cluster, shard))
        })
        .await;
    }

    /// Hands over whatever a node leads. A voter that lags, or that does not say in time that it would lead, is asked
    /// again.
    pub async fn hand_over(&self, node: u64, unfit: &BTreeSet<NodeId>) {
        let try_it = async {
            loop {
                self.caught_up(node).await;
                if self.nodes[&node].raft.hand_over(unfit, PATIENCE).await.is_empty() {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, try_it).await.expect("handed over in time");
    }

    /// Hands the leadership of a shard to another node, likewise.
    pub async fn transfer(&self, shard: ShardId, from: u64, to: u64) {
        let try_it = async {
            loop {
                self.caught_up(from).await;
                match self.nodes[&from].raft.transfer_leader(shard, NodeId(to), PATIENCE).await {
                    Err(MemberError::Invalid(_)) => tokio::time::sleep(Duration::from_millis(20)).await,
                    outcome => return assert_eq!(outcome, Ok(())),
                }
            }
        };
        tokio::time::timeout(PATIENCE, try_it).await.expect("transferred in time");
    }

    pub fn commands(&self, node: u64, shard: ShardId) -> Vec<String> {
        let commands = self.nodes[&node].machines[&shard].commands();
        commands.iter().map(|command| String::from_utf8_lossy(command).into_owned()).collect()
    }

    /// Waits until a condition holds.
    pub async fn eventually(&self, what: &str, condition: impl Fn(&Cluster) -> bool) {
        let wait = async {
            while !condition(self) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, wait)
            .await
            .unwrap_or_else(|_| panic!("not within {PATIENCE:?}: {what}"));
    }

    pub async fn same_everywhere(&self, shard: ShardId, expected: &[String]) {
        let nodes = Vec::from_iter(self.nodes.keys().copied());
        self.eventually("all nodes have the same commands", |cluster| {
            nodes.iter().all(|node| cluster.commands(*node, shard) == expected)
        })
        .await;
    }

    pub fn role(&self, node: u64, shard: ShardId) -> GroupRole {
        self.nodes[&node].raft.status(shard).expect("hosted").role
    }

    pub async fn stop(self) {
        for node in self.nodes.into_values() {
            node.raft.shutdown().await;
        }
    }
}

/// Makes a checkpoint at a node.
pub fn checkpoint(node: &TestNode, shard: ShardId) {
    Listed(node.machines[&shard].clone()).checkpoint().expect("in memory");
}

/// Lets received snapshots wait at a node, or go on.
pub fn hold(node: &TestNode, shard: ShardId, held: bool) {
    node.machines[&shard].held.store(held, Ordering::Relaxed);
}

/// From now on the disk of a shard's state fails at a node.
pub fn fail_apply(node: &TestNode, shard: ShardId) {
    node.machines[&shard].failing.store(true, Ordering::Relaxed);
}

/// Whether a snapshot was received and is not installed yet.
pub fn checking(node: &TestNode, shard: ShardId) -> bool {
    node.machines[&shard].checking.load(Ordering::Relaxed)
}

/// Snapshots that a node installed.
pub fn installed(node: &TestNode, shard: ShardId) -> u64 {
    node.machines[&shard].installed.load(Ordering::Relaxed)
}

/// A node without a cluster, an id or groups.
pub async fn unformed(world: &World, node: u64) -> RaftNode {
    let clock = Arc::new(TestClock { start: Instant::now(), skipped_ms: Arc::default() });
    let spawner: Arc<dyn Spawner> = Arc::new(TestSpawner);
    let ports =
        LogPorts { fs: Arc::new(MemFs::default()), clock: clock.clone(), spawner: Some(spawner.clone()) };
    let (log, _) = Log::open(ports, Path::new("log"), LogOptions::default()).expect("log opens");
    let net = Arc::new(TestNet::new(world, node));
    let rng = Arc::new(TestRng(AtomicU64::new(node * 77)));
    let ports = RaftPorts { clock, rng, spawner, net, log: Arc::new(log) };
    let us = PeerName {
        cluster: None,
        node: None,
        name: format!("node-{node}"),
        address: address(node).to_string(),
    };
    RaftNode::start(ports, RaftOptions::default(), us, Some(address(node))).await.expect("raft starts")
}

/// From now on the disk does not answer when a checkpoint of the group is made on this node, or does again.
pub fn hang_checkpoints(node: &TestNode, shard: ShardId, hanging: bool) {
    node.machines[&shard].hanging.store(hanging, Ordering::Relaxed);
}
