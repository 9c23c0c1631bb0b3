//! What the API needs of the node, as traits. The node implements them; tests implement them in memory.
//!
//! Reading goes through [`model::Views`]; everything else the endpoints answer comes through the ports here. A port
//! returns typed content, never JSON: the shapes that clients see are made in this crate only.

use model::{
    BoxFuture, ConfigVersion, Consistency, Labels, LogIndex, NodeId, ShardId, Term, TimestampMs, Value,
};
use std::{collections::BTreeMap, ops::Range, time::Duration};

/// One series of a write: its labels and where its samples stand in [`WriteRequest::samples`].
#[derive(Clone, Debug)]
pub struct WriteSeries {
    /// The series. Sorted, without duplicates or empty values, with a metric name, within the limits.
    pub labels: Labels,
    /// Its samples, as a range of [`WriteRequest::samples`]; may be empty.
    pub samples: Range<u32>,
}

/// What one remote-write request brings, decoded and checked. Samples lie in one column for all series, so that a
/// request of many series with one sample each costs no allocation per series.
#[derive(Clone, Debug, Default)]
pub struct WriteRequest {
    /// The series in the order of the request; a label set may come more than once.
    pub series: Vec<WriteSeries>,
    /// All samples, in the order of the request; of one series not necessarily ascending.
    pub samples: Vec<(TimestampMs, Value)>,
}

impl WriteRequest {
    /// Series with their samples, in the order of the request.
    pub fn iter(&self) -> impl Iterator<Item = (&Labels, &[(TimestampMs, Value)])> {
        self.series.iter().map(|series| {
            let range = series.samples.start as usize..series.samples.end as usize;
            (&series.labels, &self.samples[range])
        })
    }
}

/// Why a sample was refused. The texts are Prometheus's where it has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
pub enum Refusal {
    /// Older than the newest of its series, and no out-of-order window is set.
    #[error("out of order sample")]
    OutOfOrder,
    /// Older than the out-of-order window, or than retention keeps.
    #[error("too old sample")]
    TooOld,
    /// Another value is stored at this timestamp already, by the same source.
    #[error("duplicate sample for timestamp")]
    Duplicate,
    /// Too far in the future.
    #[error("out of bounds")]
    TooFarInFuture,
    /// A limit (series, labels, samples) of the configuration is reached.
    #[error("limit exceeded")]
    LimitExceeded,
    /// A histogram that contradicts itself.
    #[error("invalid histogram")]
    InvalidHistogram,
}

/// The first sample of a write that was refused.
#[derive(Clone, Debug)]
pub struct Offender {
    /// Its series.
    pub labels: Labels,
    /// Its timestamp.
    pub timestamp: TimestampMs,
    /// Why it was refused.
    pub reason: Refusal,
}

/// How a write ended whose every sample has an answer: applied and on a majority of disks, or refused.
#[derive(Clone, Debug, Default)]
pub struct WriteOutcome {
    /// Samples that are stored now, those included that were stored already.
    pub accepted: u64,
    /// Refused samples by reason; empty if all were accepted.
    pub refused: BTreeMap<Refusal, u64>,
    /// The first refused one.
    pub first: Option<Offender>,
}

/// A write whose outcome is not known for every sample; the sender retries all of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// A shard has no leader, is overloaded, out of disk, or did not answer in time.
    #[error("{reason}")]
    Unavailable {
        /// Why, for the response's body.
        reason: String,
        /// What `Retry-After` tells the sender (rounded up to seconds, at least 1).
        retry_after: Duration,
    },
}

/// Takes remote writes.
pub trait WriteSink: Send + Sync {
    /// Writes to all shards concerned and waits until every sample is applied on a majority, or refused. The port
    /// bounds its own time.
    fn write(&self, request: WriteRequest) -> BoxFuture<'_, Result<WriteOutcome, WriteError>>;
}

/// State of a node as the others see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeState {
    /// Answers.
    Alive,
    /// Silent for a moment.
    Suspect,
    /// Silent for long.
    Dead,
    /// Not yet a voter everywhere.
    Joining,
    /// Taken out; listed for an hour.
    Removed,
}

/// One node in `/api/v1/status/cluster`.
#[derive(Clone, Debug)]
pub struct NodeStatus {
    /// Its id.
    pub id: NodeId,
    /// Its name.
    pub name: String,
    /// Its state.
    pub state: NodeState,
    /// `HOST:PORT` of its web address.
    pub web_address: String,
    /// Its version.
    pub version: String,
    /// How far its clock is ahead of cluster time, seconds; `None` if unknown.
    pub clock_offset_seconds: Option<f64>,
}

/// What a replica is in its shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplicaRole {
    /// It orders.
    Leader,
    /// It votes.
    Voter,
    /// It follows without a vote.
    Learner,
}

/// A replica in `/api/v1/status/cluster`.
#[derive(Clone, Debug)]
pub struct ReplicaStatus {
    /// The node's name.
    pub node: String,
    /// What it is.
    pub role: ReplicaRole,
    /// How far it has applied; `None` if it cannot be reached.
    pub applied_index: Option<LogIndex>,
    /// State hash at an index common to the shard's replicas; `None` if it cannot be reached.
    pub state_hash: Option<model::StateHash>,
}

/// A shard in `/api/v1/status/cluster`.
#[derive(Clone, Debug)]
pub struct ShardStatus {
    /// Its id; 0 is meta.
    pub id: ShardId,
    /// The leader's name.
    pub leader: Option<String>,
    /// The term this node knows.
    pub term: Term,
    /// The commit index this node knows.
    pub commit_index: LogIndex,
    /// The configuration version committed in the shard.
    pub config_version: ConfigVersion,
    /// Its replicas, by node id.
    pub replicas: Vec<ReplicaStatus>,
}

/// The configuration in `/api/v1/status/cluster`.
#[derive(Clone, Debug, Default)]
pub struct ConfigStatus {
    /// The version in force.
    pub version: ConfigVersion,
    /// Hash of its text, hexadecimal.
    pub hash: String,
    /// Names of nodes whose own file differs from it.
    pub nodes_with_other_files: Vec<String>,
    /// Keys that were accepted and are not supported (`--config.ignore-unsupported`).
    pub ignored: Vec<String>,
}

/// The content of `/api/v1/status/cluster`.
#[derive(Clone, Debug)]
pub struct ClusterStatus {
    /// The cluster's id; `None` before it is formed.
    pub cluster_id: Option<model::ClusterId>,
    /// Nodes by id.
    pub nodes: Vec<NodeStatus>,
    /// Shards by id.
    pub shards: Vec<ShardStatus>,
    /// The configuration.
    pub config: ConfigStatus,
    /// Whether one more node may be lost without losing data or service.
    pub may_lose_another_node: bool,
    /// Why not; empty if it may.
    pub why: String,
}

/// Slots in which a target was not scraped, for a reason of ours.
#[derive(Clone, Debug)]
pub struct Gap {
    /// The target's labels.
    pub target: Labels,
    /// The first slot missed.
    pub from: TimestampMs,
    /// The last slot missed.
    pub to: TimestampMs,
    /// How many slots.
    pub slots: u64,
    /// Why.
    pub reason: String,
}

/// Which gaps to list.
#[derive(Clone, Debug)]
pub struct GapQuery {
    /// From here, inclusive.
    pub start: TimestampMs,
    /// To here, inclusive.
    pub end: TimestampMs,
    /// At most so many.
    pub limit: usize,
    /// How fresh.
    pub consistency: Consistency,
    /// How long to wait for leaders.
    pub timeout: Duration,
}

/// The cluster.
pub trait Cluster: Send + Sync {
    /// What `/api/v1/status/cluster` says. Bounded in time: a silent node costs at most a second.
    fn status(&self) -> BoxFuture<'_, ClusterStatus>;
    /// Gaps that overlap the range, by target and time, at most `limit`.
    fn gaps(&self, query: GapQuery) -> BoxFuture<'_, Result<Vec<Gap>, model::ViewError>>;
}

/// Whether a target's last scrape succeeded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TargetHealth {
    /// Never scraped.
    #[default]
    Unknown,
    /// It succeeded.
    Up,
    /// It failed.
    Down,
}

/// A target in `/api/v1/targets`.
#[derive(Clone, Debug, Default)]
pub struct TargetStatus {
    /// Labels before relabelling, those with `__` included.
    pub discovered_labels: Labels,
    /// Labels after relabelling.
    pub labels: Labels,
    /// `job_name`.
    pub scrape_pool: String,
    /// The URL that is scraped.
    pub scrape_url: String,
    /// The same as others may reach it.
    pub global_url: String,
    /// The last scrape's error; empty if none.
    pub last_error: String,
    /// When the last scrape began; `None` before the first.
    pub last_scrape: Option<TimestampMs>,
    /// How long it took, seconds.
    pub last_scrape_duration: f64,
    /// How it ended.
    pub health: TargetHealth,
    /// As Prometheus prints a duration: `15s`.
    pub scrape_interval: String,
    /// Likewise.
    pub scrape_timeout: String,
    /// Name of the node that scrapes it; `None` while its shard has no leader.
    pub scraped_by: Option<String>,
    /// Its shard.
    pub shard: ShardId,
}

/// A target that relabelling dropped.
#[derive(Clone, Debug)]
pub struct DroppedTarget {
    /// Labels before relabelling.
    pub discovered_labels: Labels,
    /// `job_name`.
    pub scrape_pool: String,
}

/// The content of `/api/v1/targets`.
#[derive(Clone, Debug, Default)]
pub struct TargetList {
    /// Active targets, in any order: sorted here by pool, then in the order given.
    pub active: Vec<TargetStatus>,
    /// Dropped ones; may be cut, the counts are not.
    pub dropped: Vec<DroppedTarget>,
    /// Dropped targets by pool; every pool has an entry.
    pub dropped_counts: BTreeMap<String, u64>,
}

/// What a target said about one metric family.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct MetricMetadata {
    /// The metric family's name.
    pub family: String,
    /// `counter`, `gauge`, `histogram`, `gaugehistogram`, `summary`, `info`, `stateset` or `unknown`.
    pub kind: String,
    /// `# HELP`.
    pub help: String,
    /// `# UNIT`.
    pub unit: String,
}

/// The metadata of one target.
#[derive(Clone, Debug)]
pub struct TargetMetadata {
    /// The target's labels after relabelling.
    pub target: Labels,
    /// Its metric families.
    pub metrics: Vec<MetricMetadata>,
}

/// The targets of all nodes.
pub trait Targets: Send + Sync {
    /// Active and dropped targets. Bounded in time: a silent node costs at most a second.
    fn list(&self) -> BoxFuture<'_, TargetList>;
    /// Metadata of all active targets; with a `metric`, only of that family.
    fn metadata<'a>(&'a self, metric: Option<&'a str>) -> BoxFuture<'a, Vec<TargetMetadata>>;
    /// Names of the scrape pools.
    fn scrape_pools(&self) -> Vec<String>;
    /// A pool's configuration as YAML, secrets masked; `None` if there is no such pool.
    fn scrape_pool_config(&self, pool: &str) -> Option<String>;
}

/// A committed configuration.
#[derive(Clone, Debug)]
pub struct ConfigEntry {
    /// Its version.
    pub version: ConfigVersion,
    /// Hash of its text, hexadecimal.
    pub hash: String,
    /// When it was offered.
    pub offered_at: TimestampMs,
    /// Name of the node that offered it.
    pub offered_by: String,
    /// The text, secrets masked; empty if it is no longer kept.
    pub yaml: String,
}

/// The configuration.
pub trait ConfigSource: Send + Sync {
    /// The configuration in force as YAML with defaults, secrets as `<secret>`.
    fn yaml(&self) -> String;
    /// Flag names without dashes, and their values.
    fn flags(&self) -> BTreeMap<String, String>;
    /// `global.external_labels`, for federation.
    fn external_labels(&self) -> Labels;
    /// `global.evaluation_interval` in force: the step of subqueries that name none.
    fn evaluation_interval(&self) -> Duration {
        Duration::from_secs(60)
    }
    /// Offers this node's file. The error is the text for the user, `FILE:LINE: FIELD: ...`.
    fn reload(&self) -> BoxFuture<'_, Result<(), String>>;
    /// Offers a text (`vestal config apply`): checked whole, committed once. Yields the version in force; the error
    /// is the text for the user.
    fn apply(&self, yaml: String) -> BoxFuture<'_, Result<ConfigVersion, String>>;
    /// Committed versions, newest first, at most `limit`.
    fn history(&self, limit: usize) -> BoxFuture<'_, Vec<ConfigEntry>>;
}

/// Whether the node can answer a default query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// It can.
    Ready,
    /// It cannot, and why; reads are tried nevertheless and find out for themselves.
    NotReady(String),
    /// It is reading its own disk: nothing can be read from it, stale reads included.
    Starting(String),
    /// It stops.
    Stopping,
}

/// The process's life.
pub trait Lifecycle: Send + Sync {
    /// Asks the process to stop gracefully; returns at once.
    fn quit(&self);
    /// Whether it is ready, with 5 s of patience for an election and none for a lost quorum.
    fn readiness(&self) -> Readiness;
    /// What `/api/v1/status/runtimeinfo` says.
    fn runtime(&self) -> RuntimeInfo;
}

/// The content of `/api/v1/status/runtimeinfo`. Fields of Go's runtime have their nearest meaning here.
#[derive(Clone, Debug, Default)]
pub struct RuntimeInfo {
    /// When the process started.
    pub start_time: TimestampMs,
    /// The working directory.
    pub cwd: String,
    /// The host's name.
    pub hostname: String,
    /// Whether the last reload succeeded.
    pub reload_config_success: bool,
    /// When the configuration in force was taken up.
    pub last_config_time: TimestampMs,
    /// Damages found since the start.
    pub corruption_count: i64,
    /// Tasks alive.
    pub tasks: u64,
    /// Worker threads.
    pub threads: u64,
    /// The memory limit in bytes; `i64::MAX` without.
    pub memory_limit: i64,
    /// Retention as Prometheus prints it: `15d` or `15d or 10GiB`.
    pub storage_retention: String,
}

/// The content of `/api/v1/status/buildinfo` and `/version`.
#[derive(Clone, Debug, Default)]
pub struct BuildInfo {
    /// The version that clients choose features by: the Prometheus release whose API this is.
    pub version: String,
    /// Git revision.
    pub revision: String,
    /// Git branch.
    pub branch: String,
    /// Who built it.
    pub build_user: String,
    /// When.
    pub build_date: String,
    /// The compiler, in `goVersion`.
    pub compiler: String,
    /// Vestal's own version, an extra field `vestalVersion`.
    pub vestal_version: String,
}

/// A name and a number, in cardinality tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedCount {
    /// The name.
    pub name: String,
    /// The number.
    pub value: u64,
}

/// The content of `/api/v1/status/tsdb`. Series that several sources have count once.
#[derive(Clone, Debug, Default)]
pub struct TsdbStats {
    /// Series with samples in memory.
    pub series: u64,
    /// Distinct label pairs.
    pub label_pairs: u64,
    /// Chunks and open windows.
    pub chunks: i64,
    /// The earliest timestamp.
    pub min_time: TimestampMs,
    /// The latest timestamp.
    pub max_time: TimestampMs,
    /// Series by metric name, most first.
    pub series_by_metric_name: Vec<NamedCount>,
    /// Values by label name, most first.
    pub values_by_label_name: Vec<NamedCount>,
    /// Bytes of values by label name, most first.
    pub bytes_by_label_name: Vec<NamedCount>,
    /// Series by `name=value`, most first.
    pub series_by_label_pair: Vec<NamedCount>,
}

/// Log replay at the start, in whatever unit the log counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReplayStatus {
    /// The first.
    pub min: u64,
    /// The last.
    pub max: u64,
    /// Where it is; equal to `max` when done.
    pub current: u64,
}

/// Figures of storage.
pub trait Tsdb: Send + Sync {
    /// Cardinality, each table with at most `limit` rows. May block; called through the spawner.
    ///
    /// # Errors
    /// If storage fails.
    fn stats(&self, limit: usize) -> Result<TsdbStats, model::QueryError>;
    /// How far replay has come.
    fn replay(&self) -> ReplayStatus;
}

/// The node's own metrics.
pub trait Metrics: Send + Sync {
    /// Appends all metrics in the text format 0.0.4.
    fn render(&self, out: &mut String);
}
