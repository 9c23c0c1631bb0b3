//! Targets: what is scraped, by whom, and what it said about its metrics.

use model::{BoxFuture, DurationMs, Labels, ShardId, TimestampMs};
use std::collections::BTreeMap;

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
    /// Where in each interval it is due: its slots are this long after the multiples of its interval since the epoch.
    pub scrape_offset: DurationMs,
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
