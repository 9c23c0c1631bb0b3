//! A running node: what is wired to what, and how it starts and stops.
//!
//! ```text
//!              ┌──────────── api (HTTP) ─────────────┐
//!              ▼            ▼            ▼           ▼
//!   scrape ▶ duties      writes        views      cluster, targets, configuration, metrics
//!              └─────┬──────┘            │
//!                    ▼                   ▼
//!                  raft ───apply──▶ storage (data shards), meta
//! ```

mod calls;
mod cluster;
mod configuration;
#[cfg(test)]
mod corpus;
mod duties;
mod duty_clock;
mod fitness;
mod gossip;
mod health;
mod join;
mod lifecycle;
mod members;
mod metrics;
mod names;
mod ownership;
mod packing;
mod plan;
mod probe;
mod propose;
mod scraped;
mod targets;
mod tuning;
mod views;
mod writes;

use crate::{
    cli::features::Enabled,
    config::{self, Unsupported},
    outside::{
        Host, Order, SystemClock, SystemFs, SystemHost, SystemNet, SystemRng, TokioSpawner, WebThread,
    },
};
use anyhow::Context;
use api::{Counters, Ports, ServerOptions};
use configuration::Configuration;
use duties::Draining;
use duty_clock::DutyClock;
use health::Health;
use lifecycle::Lifecycle;
use model::{Clock, Fs, Net, NodeId, Rng, ShardId, Spawner, StateMachine, TimestampMs};
use plan::TargetPlan;
pub use probe::{Bound, Probe, ShardReport};
use raft::{MemberlistGossip, RaftNode, RaftOptions, RaftPorts, Standing, Threading, Timing, meta::Meta};
use scrape::{BodyRoom, Scraper, SecretFiles};
use scraped::ScrapeCounters;
use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    path::PathBuf,
    process::ExitCode,
    sync::{
        Arc, OnceLock, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicU64},
    },
    time::Duration,
};
use storage::{
    kv::{KvEngine, RocksEngine, RocksOptions},
    log::{Log, LogOptions, LogPorts},
    shard::DataShard,
};
use tokio::{sync::watch, time::timeout};
pub use tuning::Tuning;

/// How long leaders may take to finish their duties and hand over when a node is stopped.
const HAND_OVER_PATIENCE: Duration = Duration::from_secs(3);
/// How long open connections may take to finish.
const CONNECTIONS_PATIENCE: Duration = Duration::from_secs(5);

/// What a node is told at its start.
#[derive(Clone, Debug)]
pub struct ServeOptions {
    /// `--config.file`
    pub config_file: PathBuf,
    /// `--config.ignore-unsupported`
    pub ignore_unsupported: bool,
    /// `--storage.tsdb.path`
    pub data: PathBuf,
    /// `--storage.tsdb.retention.time`
    pub retention_time: Duration,
    /// `--storage.tsdb.retention.size`, bytes; 0 is no limit.
    pub retention_size: u64,
    /// `--storage.log.size`, bytes.
    pub log_size: u64,
    /// `--web.listen-address`
    pub web_listen_address: SocketAddr,
    /// `--web.external-url`
    pub web_external_url: Option<String>,
    /// The path of `--web.external-url`: what stands before every path; empty, or with a slash in front and none behind.
    pub web_route_prefix: String,
    /// `--web.enable-lifecycle`
    pub enable_lifecycle: bool,
    /// `--web.enable-remote-write-receiver`
    pub enable_remote_write_receiver: bool,
    /// `--query.timeout`
    pub query_timeout: Duration,
    /// `--query.max-concurrency`
    pub query_max_concurrency: usize,
    /// `--query.max-samples`
    pub query_max_samples: usize,
    /// `--query.max-bytes`
    pub query_max_bytes: u64,
    /// `--query.max-bytes-total`
    pub query_max_bytes_total: u64,
    /// `--enable-feature`
    pub(crate) enabled: Enabled,
    /// `--query.lookback-delta`
    pub query_lookback_delta: Duration,
    /// `--query.consistency-timeout`
    pub query_consistency_timeout: Duration,
    /// `--cluster.name`
    pub cluster_name: String,
    /// Whether there are cluster flags at all; without them a node is a cluster of one that listens to nobody.
    pub clustered: bool,
    /// `--cluster.initial-members`
    pub initial_members: Vec<String>,
    /// `--cluster.peer`
    pub peers: Vec<String>,
    /// `--cluster.listen-address`
    pub cluster_listen_address: SocketAddr,
    /// `--cluster.advertise-address`
    pub cluster_advertise_address: Option<String>,
    /// `--cluster.shards`
    pub shards: u32,
    /// `--cluster.heartbeat`
    pub heartbeat: Duration,
    /// `--cluster.election-timeout`
    pub election_timeout: Duration,
    /// `--node.name`
    pub node_name: String,
    /// `--node.pid-file`
    pub pid_file: Option<PathBuf>,
    /// All flags as `/api/v1/status/flags` shows them.
    pub flags: BTreeMap<String, String>,
}

impl ServeOptions {
    fn unsupported(&self) -> Unsupported {
        if self.ignore_unsupported { Unsupported::Ignore } else { Unsupported::Refuse }
    }

    /// Where peers are told to reach this node.
    fn advertised(&self) -> String {
        self.cluster_advertise_address.clone().unwrap_or_else(|| self.cluster_listen_address.to_string())
    }
}

/// A thread on which HTTP is served, and on which reads ask their questions.
#[derive(Clone, Debug)]
pub struct Web {
    /// Spawns tasks there.
    pub spawner: Arc<dyn Spawner>,
    /// Its runtime.
    pub runtime: tokio::runtime::Handle,
}

/// The outside, as a node needs it: production and the simulator each supply one.
#[derive(Clone, Debug)]
pub struct NodePorts {
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub rng: Arc<dyn Rng>,
    /// Files.
    pub fs: Arc<dyn Fs>,
    /// Sockets.
    pub net: Arc<dyn Net>,
    /// Tasks and threads.
    pub spawner: Arc<dyn Spawner>,
    /// Databases of data shards.
    pub kv: Arc<dyn KvEngine>,
    /// The process around it.
    pub host: Arc<dyn Host>,
    /// Whether raft gets a thread of its own.
    pub threading: Threading,
    /// Where HTTP is served; `None` is beside everything else.
    pub web: Option<Web>,
    /// Intervals that a simulator shortens.
    pub tuning: Tuning,
}

/// A node, as its parts know it.
pub(crate) struct Node {
    pub(crate) ports: NodePorts,
    pub(crate) options: ServeOptions,
    pub(crate) log: Arc<Log>,
    pub(crate) raft: RaftNode,
    pub(crate) meta: Arc<Meta>,
    pub(crate) started: TimestampMs,
    /// Where the HTTP API really listens.
    pub(crate) web_address: String,
    /// What is scraped, from the configuration in force.
    pub(crate) plan: watch::Sender<Arc<TargetPlan>>,
    pub(crate) draining: Draining,
    /// Time for duties; the wall clock of `ports` is for people.
    pub(crate) duty_clock: Arc<DutyClock>,
    pub(crate) health: Health,
    pub(crate) proposed: propose::ProposedBytes,
    /// Partial rows of scrapes that were dropped before they were proposed.
    pub(crate) scraped_rows_dropped: AtomicU64,
    /// Hints from other nodes, once they are heard.
    pub(crate) gossip: OnceLock<MemberlistGossip>,
    /// Set when the cluster says that this node's id was removed: the text for people.
    pub(crate) unwelcome: watch::Sender<Option<String>>,
    shards: RwLock<BTreeMap<ShardId, Arc<DataShard>>>,
    scrapers: RwLock<BTreeMap<ShardId, Arc<Scraper>>>,
    /// Files of secrets that scrapes are reading.
    secrets: Arc<SecretFiles>,
    /// Room for the bodies that scrapes hold.
    bodies: Arc<BodyRoom>,
    pub(crate) scrapes: ScrapeCounters,
    /// Whether files of targets here are not as the cluster has them.
    pub(crate) has_other_files: AtomicBool,
}

impl Node {
    /// This node's id; it has one before any shard runs.
    pub(crate) fn id(&self) -> NodeId {
        self.raft.identity().node.unwrap_or_default()
    }

    pub(crate) fn shard(&self, shard: ShardId) -> Option<Arc<DataShard>> {
        self.shards.read().unwrap_or_else(PoisonError::into_inner).get(&shard).cloned()
    }

    pub(crate) fn data_shards(&self) -> Vec<Arc<DataShard>> {
        self.shards.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    pub(crate) fn scrapers(&self) -> Vec<(ShardId, Arc<Scraper>)> {
        let scrapers = self.scrapers.read().unwrap_or_else(PoisonError::into_inner);
        scrapers.iter().map(|(shard, scraper)| (*shard, scraper.clone())).collect()
    }

    pub(crate) fn set_scraper(&self, shard: ShardId, scraper: Option<Arc<Scraper>>) {
        let mut scrapers = self.scrapers.write().unwrap_or_else(PoisonError::into_inner);
        match scraper {
            Some(scraper) => drop(scrapers.insert(shard, scraper)),
            None => drop(scrapers.remove(&shard)),
        }
    }

    /// Bytes that one command may have: what raft takes and the log has room for.
    pub(crate) fn command_bytes_max(&self) -> usize {
        let log = LogOptions { size: self.options.log_size, ..LogOptions::default() }.entry_bytes_max();
        raft::COMMAND_BYTES_MAX.min(usize::try_from(log).unwrap_or(usize::MAX)) - 64
    }

    /// The host's name as others reach it: that of `--web.external-url`, else the host's own.
    pub(crate) fn host_name(&self) -> String {
        let external =
            self.options.web_external_url.as_deref().and_then(|url| url.parse::<hyper::Uri>().ok());
        let named = external.and_then(|url| url.host().map(str::to_owned));
        named.or_else(|| self.ports.host.name().ok()).unwrap_or_default()
    }

    /// The name of a node, for people.
    pub(crate) fn name_of(&self, id: NodeId) -> String {
        self.meta.state().nodes.get(&id).map_or_else(|| format!("node {id}"), |node| node.name.clone())
    }

    /// Opens the data shards and starts their groups and duties. Members of the first hour give the groups their
    /// members; who joined later waits to be added.
    async fn start_shards(self: &Arc<Node>) -> anyhow::Result<()> {
        let mut meta = self.meta.watch();
        let state = meta.wait_for(|state| state.cluster_id.is_some()).await.context("meta stopped")?.clone();
        let first: BTreeSet<NodeId> =
            state.nodes.iter().filter(|(_, node)| node.nonce == 0).map(|(id, _)| *id).collect();
        for shard in (1..=state.shards).map(ShardId) {
            let dir = self.options.data.join(format!("shard-{shard}"));
            let kv = self.ports.kv.clone();
            let opened =
                DataShard::open(shard, &dir, kv).with_context(|| format!("open {}", dir.display()))?;
            let opened = Arc::new(opened);
            self.raft.add_group(shard, opened.clone()).await?;
            model::point!("shards.hosted");
            if first.contains(&self.id()) {
                self.raft.initialize(shard, &first).await?;
            }
            self.shards.write().unwrap_or_else(PoisonError::into_inner).insert(shard, opened);
            self.spawn("duties", duties::run(self.clone(), shard));
            self.spawn("members", members::run(self.clone(), shard));
        }
        self.spawn("members", members::run(self.clone(), ShardId::META));
        self.spawn("packing", packing::run(self.clone()));
        self.health.shards_open();
        self.spawn("currency", health::ask(self.clone()));
        Ok(())
    }

    /// Starts a task that this node cannot do without.
    fn spawn(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let spawner = &self.ports.spawner;
        spawner.spawn(name, spawner.vital(name, Box::pin(task)));
    }

    /// Whether this node hosts nothing any more, because it is stopping.
    pub(crate) fn has_ended(&self) -> bool {
        self.draining.is_draining() && self.raft.shards().is_empty()
    }

    /// Finishes duties, hands leaderships over, checkpoints and closes.
    async fn stop(self: &Arc<Node>) {
        model::point!("stop.begin");
        let _late = timeout(HAND_OVER_PATIENCE, self.draining.drain()).await;
        model::point!("stop.drained");
        let mut kept = self.raft.hand_over(&fitness::off_nodes(self), HAND_OVER_PATIENCE).await;
        if !kept.is_empty() {
            // A follower may have lagged, or been too busy to say that it would lead.
            kept = self.raft.hand_over(&fitness::off_nodes(self), HAND_OVER_PATIENCE).await;
        }
        if !kept.is_empty() && self.options.clustered {
            tracing::warn!(shards = ?kept, "leaderships could not be handed over");
        }
        model::point!("stop.handed-over");
        // A group that waits for room on a full disk does not end by itself: the log gives up what it holds.
        if timeout(HAND_OVER_PATIENCE, self.raft.shutdown()).await.is_err() {
            tracing::warn!("a shard did not stop in time; what waited for the disk is given up");
        }
        let mut machines: Vec<Arc<dyn StateMachine>> = vec![self.meta.clone()];
        machines.extend(self.data_shards().into_iter().map(|shard| shard as Arc<dyn StateMachine>));
        let work = move || {
            for machine in machines {
                if let Err(error) = machine.checkpoint() {
                    tracing::warn!(%error, "last checkpoint failed; the log has what it lacks");
                }
            }
        };
        self.ports.spawner.blocking("checkpoint", Box::new(work)).await;
        model::point!("stop.checkpointed");
        self.log.close();
        model::point!("stop.closed");
    }
}

/// Runs a node until it is told to stop.
pub(crate) fn run(options: ServeOptions) -> anyhow::Result<ExitCode> {
    prepare_process();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().thread_name("vestal").build()?;
    let spawner = TokioSpawner::new(runtime.handle().clone());
    let web = WebThread::start()?;
    let ports = NodePorts {
        clock: Arc::new(SystemClock::default()),
        rng: Arc::new(SystemRng),
        fs: Arc::new(SystemFs),
        net: Arc::new(SystemNet),
        spawner: Arc::new(spawner.clone()),
        kv: Arc::new(RocksEngine::new(RocksOptions::default())),
        host: Arc::new(SystemHost),
        threading: Threading::Own,
        web: Some(Web { spawner: web.spawner(&spawner), runtime: web.runtime() }),
        tuning: Tuning::default(),
    };
    let result = runtime.block_on(serve(ports, options, |_| {}));
    let stopping = Duration::from_secs(2);
    spawner.settle(stopping);
    runtime.shutdown_timeout(stopping);
    result
}

/// Limits of the process: as many files as allowed, few memory arenas (each would keep what it once had).
fn prepare_process() {
    // SAFETY: plain system calls with structs of our own.
    #[expect(unsafe_code, reason = "the standard library does not set process limits")]
    unsafe {
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        if libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) == 0 {
            limit.rlim_cur = limit.rlim_max;
            libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit);
        }
        #[cfg(target_env = "gnu")]
        libc::mallopt(libc::M_ARENA_MAX, 2);
    }
}

/// The text of the configuration file, checked; `None` if there is no file.
fn read_config(options: &ServeOptions, fs: &dyn Fs) -> anyhow::Result<Option<String>> {
    let path = &options.config_file;
    let text = match fs.read(path) {
        Ok(bytes) => String::from_utf8(bytes).with_context(|| format!("{}: not UTF-8", path.display()))?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            tracing::warn!(file = %path.display(), "no configuration file; what the cluster has committed is in force");
            return Ok(None);
        }
        Err(error) => return Err(error).with_context(|| format!("read {}", path.display())),
    };
    config::parse(&path.display().to_string(), &text, options.unsupported())?;
    Ok(Some(text))
}

/// Runs a node on `ports` until it is told to stop; `born` gets a look into it as soon as there is one.
///
/// # Errors
/// If it cannot start, or has to stop because it would do harm; the text is for people.
pub async fn serve(
    ports: NodePorts,
    options: ServeOptions,
    born: impl FnOnce(Probe) + Send,
) -> anyhow::Result<ExitCode> {
    // A configuration that is wrong is said at once, whatever the cluster has.
    let config_text = read_config(&options, &*ports.fs)?;
    ports.fs.create_dir_all(&options.data).with_context(|| format!("create {}", options.data.display()))?;
    let _lock = ports.host.lock(&options.data).await?;
    if let Some(path) = &options.pid_file {
        ports.fs.replace(path, format!("{}\n", ports.host.process_id()).as_bytes())?;
    }
    let listener = ports.net.listen(options.web_listen_address).await;
    let listener = listener
        .with_context(|| format!("--web.listen-address: listen on {}", options.web_listen_address))?;
    let web_address = web_address(&options, listener.local_addr()?);

    // Who we are comes before anything is opened: a directory without identity but with data is not touched.
    let standing = join::standing(&options, &*ports.fs)?;
    let log_ports =
        LogPorts { fs: ports.fs.clone(), clock: ports.clock.clone(), spawner: Some(ports.spawner.clone()) };
    let log_options = LogOptions { size: options.log_size, ..LogOptions::default() };
    let log_dir = options.data.join("log");
    let (log, recovered) = Log::open(log_ports, &log_dir, log_options).context("open the log")?;
    ownership::check(&standing, &log_dir, &recovered, ownership::is_stored(&*ports.fs, &options.data))?;
    if let Some(torn) = recovered.torn {
        tracing::warn!(
            ?torn,
            "the log ended in a write that was not finished; it was not acknowledged, and is cut"
        );
    }
    let log = Arc::new(log);
    let meta = Arc::new(Meta::open(ports.fs.clone(), &options.data.join("meta")).context("open meta")?);
    let raft = start_raft(&ports, &options, &standing, &log).await?;
    let node = Arc::new(Node {
        started: ports.clock.now(),
        plan: watch::Sender::new(Arc::new(TargetPlan::default())),
        draining: Draining::default(),
        duty_clock: Arc::new(DutyClock::new(ports.clock.clone())),
        health: Health::new(ports.clock.clone()),
        proposed: propose::ProposedBytes::default(),
        scraped_rows_dropped: AtomicU64::new(0),
        gossip: OnceLock::new(),
        unwelcome: watch::Sender::new(None),
        shards: RwLock::default(),
        scrapers: RwLock::default(),
        secrets: Arc::default(),
        bodies: Arc::default(),
        scrapes: ScrapeCounters::default(),
        has_other_files: AtomicBool::new(false),
        ports,
        options,
        log,
        raft,
        meta,
        web_address,
    });
    let configuration = Arc::new(Configuration::new(node.clone()));
    calls::register(&node);
    let (quit, mut quitting) = watch::channel(false);
    let lifecycle = Arc::new(Lifecycle::new(node.clone(), configuration.clone(), quit));
    let counters = Arc::new(Counters::default());
    let router = api::router(
        Ports {
            views: Arc::new(views::NodeViews::new(node.clone())),
            write: Arc::new(writes::Writes::new(node.clone())),
            cluster: Arc::new(cluster::NodeCluster::new(node.clone())),
            targets: Arc::new(targets::NodeTargets::new(node.clone())),
            config: configuration.clone(),
            lifecycle: lifecycle.clone(),
            tsdb: Arc::new(metrics::NodeTsdb::new(node.clone())),
            metrics: Arc::new(metrics::NodeMetrics::new(
                node.clone(),
                counters.clone(),
                configuration.clone(),
            )),
            clock: node.ports.clock.clone(),
            fs: node.ports.fs.clone(),
            spawner: node.ports.spawner.clone(),
            build: metrics::build_info(),
        },
        api_options(&node.options),
        counters,
    );
    let (stop_web, mut web_stopped) = watch::channel(false);
    let stopped = async move { drop(web_stopped.wait_for(|stop| *stop).await) };
    let web_spawner = node.ports.web.as_ref().map_or(&node.ports.spawner, |web| &web.spawner).clone();
    let web = api::serve(
        listener,
        router,
        web_spawner.clone(),
        ServerOptions { drain_timeout: CONNECTIONS_PATIENCE, ..ServerOptions::default() },
        Box::pin(stopped),
    );
    let (web_ended, wait_web) = tokio::sync::oneshot::channel();
    let serving = async move {
        web.await;
        let _nobody_waits_any_more = web_ended.send(());
    };
    web_spawner.spawn("web", web_spawner.vital("web", Box::pin(serving)));
    tracing::info!(address = %node.web_address, "listening for HTTP");

    born(Probe::new(node.clone()));
    let mut orders = node.ports.host.orders()?;
    let starting = start(node.clone(), standing, configuration.clone(), config_text);
    tokio::pin!(starting);
    let mut started = false;
    let mut unwelcome = node.unwelcome.subscribe();
    let result = loop {
        tokio::select! {
            done = &mut starting, if !started => match done {
                Ok(()) => started = true,
                Err(error) => break Err(error),
            },
            _ = quitting.wait_for(|quit| *quit) => break Ok(()),
            text = unwelcome.wait_for(Option::is_some) => {
                let text = text.ok().and_then(|text| text.clone()).unwrap_or_default();
                break Err(anyhow::Error::msg(text));
            }
            order = orders.recv() => {
                if order != Some(Order::Reload) {
                    break Ok(());
                }
                let configuration = configuration.clone();
                let reload = async move {
                    if let Err(error) = api::ports::ConfigSource::reload(&*configuration).await {
                        tracing::error!(%error, "reload refused; the configuration in force stays");
                    }
                };
                node.ports.spawner.spawn("reload", Box::pin(reload));
            }
        }
    };
    lifecycle.stopping();
    tracing::info!("stopping");
    node.stop().await;
    stop_web.send_replace(true);
    let _late = timeout(CONNECTIONS_PATIENCE, wait_web).await;
    if let Some(path) = &node.options.pid_file {
        let _gone_already = node.ports.fs.remove_file(path);
    }
    result.map(|()| ExitCode::SUCCESS)
}

/// Where others find the HTTP API: the address it listens on, or where that is every address, the host that peers are
/// told.
fn web_address(options: &ServeOptions, listening: SocketAddr) -> String {
    let advertised = options.advertised();
    match advertised.rsplit_once(':') {
        Some((host, _)) if listening.ip().is_unspecified() && options.clustered => {
            format!("{host}:{}", listening.port())
        }
        _ => listening.to_string(),
    }
}

/// Becomes a member, starts shards and duties, and offers the configuration.
async fn start(
    node: Arc<Node>,
    standing: Standing,
    configuration: Arc<Configuration>,
    config_text: Option<String>,
) -> anyhow::Result<()> {
    join::become_member(&node, standing).await?;
    tracing::info!(node = %node.id(), name = node.options.node_name, "member of the cluster");
    node.spawn("duty clock", duty_clock::run(node.clone()));
    node.spawn("plan", plan::run(node.clone()));
    if node.options.clustered {
        node.spawn("gossip", gossip::run(node.clone()));
    }
    node.spawn("fitness", fitness::run(node.clone()));
    node.spawn("announce", join::announce(node.clone()));
    node.spawn("health", health::run(node.clone()));
    node.start_shards().await?;
    configuration.offer_at_start(config_text).await;
    node.spawn("watch files", configuration.watch_files());
    tracing::info!("ready to serve");
    Ok(())
}

async fn start_raft(
    ports: &NodePorts,
    options: &ServeOptions,
    standing: &Standing,
    log: &Arc<Log>,
) -> anyhow::Result<RaftNode> {
    let raft_ports = RaftPorts {
        clock: ports.clock.clone(),
        rng: ports.rng.clone(),
        spawner: ports.spawner.clone(),
        net: ports.net.clone(),
        log: log.clone(),
    };
    let raft_options = RaftOptions {
        timing: Timing::of(options.heartbeat, options.election_timeout),
        threading: ports.threading,
        entries_kept: ports.tuning.entries_kept,
        ..RaftOptions::default()
    };
    let us = join::peer_name(options, standing);
    let listen = options.clustered.then_some(options.cluster_listen_address);
    let starting = RaftNode::start(raft_ports, raft_options, us, listen);
    let started = match &ports.web {
        // Who starts it is who asks for read indexes.
        Some(web) => web.runtime.spawn(starting).await.context("start raft")?,
        None => starting.await,
    };
    started.context("--cluster.listen-address")
}

fn api_options(options: &ServeOptions) -> api::Options {
    api::Options {
        query_timeout: options.query_timeout,
        query_concurrency_max: options.query_max_concurrency,
        query_samples_max: options.query_max_samples as u64,
        query_bytes_max: options.query_max_bytes,
        query_bytes_total_max: options.query_max_bytes_total,
        active_queries: Some(options.data.join("queries.active")),
        features: options.enabled.engine,
        parser: options.enabled.parser,
        per_step_stats: options.enabled.per_step_stats,
        lookback_delta: options.query_lookback_delta,
        consistency_timeout: options.query_consistency_timeout,
        lifecycle_enabled: options.enable_lifecycle,
        // Whoever may change what is scraped, and with which files of secrets, may do anything.
        config_apply_enabled: options.enable_lifecycle,
        remote_write_enabled: options.enable_remote_write_receiver,
        route_prefix: options.web_route_prefix.clone(),
        config_bytes_max: raft::meta::CONFIG_BYTES_MAX,
        ..api::Options::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_api_stands_behind_the_path_of_the_external_url() {
        let flags = ["--web.external-url=http://a.example/vestal/".to_owned()];
        let options = ServeOptions::from_flags(&flags).expect("a URL");
        assert_eq!(api_options(&options).route_prefix, "/vestal");
    }

    #[test]
    fn the_api_takes_as_large_a_configuration_as_the_cluster_keeps() {
        let options = ServeOptions::from_flags(&[]).expect("no flag is needed");
        assert_eq!(api_options(&options).config_bytes_max, raft::meta::CONFIG_BYTES_MAX);
    }
}
