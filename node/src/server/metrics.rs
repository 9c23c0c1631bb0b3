//! The node's own metrics and figures of storage. `docs/metrics.md` describes each.

use super::{Node, configuration::Configuration};
use api::{
    Counters,
    ports::{BuildInfo, Metrics, NamedCount, ReplayStatus, Tsdb, TsdbStats},
};
use model::{LogIndex, QueryError, ShardId, StateMachine, TimestampMs};
use raft::{Gossip, GroupRole};
use std::{
    collections::BTreeMap,
    fmt::{Display, Write},
    sync::{Arc, atomic::Ordering},
};
use storage::shard::{CountByName, ShardStats};

/// The Prometheus release whose API this is: clients choose features by it.
const PROMETHEUS_VERSION: &str = "3.14.0";

/// What was built.
pub(crate) fn build_info() -> BuildInfo {
    BuildInfo {
        version: PROMETHEUS_VERSION.to_owned(),
        revision: option_env!("VESTAL_REVISION").unwrap_or("unknown").to_owned(),
        branch: "main".to_owned(),
        build_user: String::new(),
        build_date: String::new(),
        compiler: concat!("rust ", env!("CARGO_PKG_RUST_VERSION")).to_owned(),
        vestal_version: env!("CARGO_PKG_VERSION").to_owned(),
    }
}

/// Figures of storage for `/api/v1/status/tsdb`.
pub(crate) struct NodeTsdb {
    node: Arc<Node>,
}

impl NodeTsdb {
    pub(crate) fn new(node: Arc<Node>) -> NodeTsdb {
        NodeTsdb { node }
    }
}

/// Adds counts of several shards; series of one name may be in all of them.
fn merged<'a>(
    stats: &'a [ShardStats],
    of: impl Fn(&'a ShardStats) -> &'a [CountByName],
    limit: usize,
) -> Vec<NamedCount> {
    let mut sums: BTreeMap<&str, u64> = BTreeMap::new();
    for count in stats.iter().flat_map(of) {
        *sums.entry(&count.name).or_default() += count.count;
    }
    let mut counts: Vec<_> =
        sums.into_iter().map(|(name, value)| NamedCount { name: name.to_owned(), value }).collect();
    counts.sort_by(|a, b| b.value.cmp(&a.value).then_with(|| a.name.cmp(&b.name)));
    counts.truncate(limit);
    counts
}

impl Tsdb for NodeTsdb {
    fn stats(&self, limit: usize) -> Result<TsdbStats, QueryError> {
        // A name may be small in each shard and large in all.
        let stats: Vec<_> =
            self.node.data_shards().iter().map(|shard| shard.stats(limit.saturating_mul(4))).collect();
        let bounds = || stats.iter().filter_map(|stats| stats.bounds);
        Ok(TsdbStats {
            series: stats.iter().map(|stats| stats.active_series).sum(),
            label_pairs: stats.iter().map(|stats| stats.label_pairs).sum(),
            chunks: stats.iter().map(|stats| i64::try_from(stats.chunks).unwrap_or(i64::MAX)).sum(),
            min_time: bounds().map(|(first, _)| first).min().unwrap_or(TimestampMs::MAX),
            max_time: bounds().map(|(_, last)| last).max().unwrap_or(TimestampMs::MIN),
            series_by_metric_name: merged(&stats, |stats| &stats.series_by_metric, limit),
            values_by_label_name: merged(&stats, |stats| &stats.values_by_label, limit),
            bytes_by_label_name: merged(&stats, |stats| &stats.bytes_by_label, limit),
            series_by_label_pair: merged(&stats, |stats| &stats.series_by_pair, limit),
        })
    }

    fn replay(&self) -> ReplayStatus {
        let progress = self.node.raft.shards().into_iter().filter_map(|shard| self.node.raft.progress(shard));
        let index = |index: Option<LogIndex>| index.unwrap_or_default().0;
        progress.fold(ReplayStatus::default(), |sum, progress| ReplayStatus {
            min: sum.min + index(progress.checkpointed),
            max: sum.max + index(progress.committed),
            current: sum.current + index(progress.applied),
        })
    }
}

/// Renders `/metrics`.
pub(crate) struct NodeMetrics {
    node: Arc<Node>,
    api: Arc<Counters>,
    configuration: Arc<Configuration>,
}

impl NodeMetrics {
    pub(crate) fn new(node: Arc<Node>, api: Arc<Counters>, configuration: Arc<Configuration>) -> NodeMetrics {
        NodeMetrics { node, api, configuration }
    }
}

/// The value of a label, as it stands between quotes.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// Writes metric families in the text format.
struct Text<'a>(&'a mut String);

impl Text<'_> {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}").expect("a string takes all text");
    }

    fn sample(&mut self, name: &str, labels: &str, value: impl Display) {
        writeln!(self.0, "{name}{labels} {value}").expect("a string takes all text");
    }

    fn one(&mut self, name: &str, kind: &str, help: &str, value: impl Display) {
        self.family(name, kind, help);
        self.sample(name, "", value);
    }

    fn by_shard<V: Display>(&mut self, name: &str, kind: &str, help: &str, values: &[(ShardId, V)]) {
        self.family(name, kind, help);
        for (shard, value) in values {
            self.sample(name, &format!("{{shard=\"{shard}\"}}"), value);
        }
    }
}

impl Metrics for NodeMetrics {
    fn render(&self, out: &mut String) {
        let mut text = Text(out);
        self.process(&mut text);
        self.node(&mut text);
        self.clocks(&mut text);
        self.scrapes(&mut text);
        self.prometheus(&mut text);
        self.log(&mut text);
        self.groups(&mut text);
        self.storage(&mut text);
        self.http(&mut text);
    }
}

impl NodeMetrics {
    fn process(&self, text: &mut Text<'_>) {
        let version = env!("CARGO_PKG_VERSION");
        text.family("vestal_build_info", "gauge", "What was built.");
        text.sample("vestal_build_info", &format!("{{version=\"{version}\"}}"), 1);
        let start = self.node.started.0 as f64 / 1000.0;
        text.one("process_start_time_seconds", "gauge", "When the process started, since the epoch.", start);
        if let Some(used) = self.node.ports.host.figures() {
            text.one("process_cpu_seconds_total", "counter", "CPU time, user and system.", used.cpu_seconds);
            text.one("process_resident_memory_bytes", "gauge", "Resident memory.", used.resident_bytes);
            text.one("process_virtual_memory_bytes", "gauge", "Virtual memory.", used.virtual_bytes);
            text.one("process_open_fds", "gauge", "Open file handles.", used.open_files);
            let help = "File handles that may be open.";
            text.one("process_max_fds", "gauge", help, used.open_files_max as f64);
            let help = "Virtual memory that may be used.";
            text.one("process_virtual_memory_max_bytes", "gauge", help, used.virtual_bytes_max as f64);
        }
    }

    fn node(&self, text: &mut Text<'_>) {
        let options = &self.node.options;
        text.family("vestal_node_info", "gauge", "Which node of which cluster this is.");
        let (cluster, name) = (escaped(&options.cluster_name), escaped(&options.node_name));
        text.sample("vestal_node_info", &format!("{{cluster=\"{cluster}\",node=\"{name}\"}}"), 1);
        let ready = u8::from(self.node.health.not_ready().is_none());
        text.one("vestal_node_ready", "gauge", "Whether the node can answer a default query.", ready);
        let trouble = self.node.raft.disk_trouble();
        let no_room = u8::from(matches!(trouble, Some(raft::DiskTrouble::NoRoom(_))));
        text.one("vestal_disk_full", "gauge", "Whether this node waits for room on its disk.", no_room);
        let failed = u8::from(self.node.health.is_down());
        text.one("vestal_disk_failed", "gauge", "Whether the disk failed: until a restart.", failed);
        let restarts = self.node.gossip.get().map_or(0, Gossip::restarts);
        let help = "How often gossip had to begin anew.";
        text.one("vestal_gossip_restarts_total", "counter", help, restarts);
        let version = self.node.plan.borrow().version;
        text.one("vestal_config_version", "gauge", "The configuration version this node follows.", version);
    }

    /// How far clocks are from each other, as this node measures it.
    fn clocks(&self, text: &mut Text<'_>) {
        let time = self.node.raft.cluster_time();
        let us = self.node.id();
        let seconds = |ms: i64| ms as f64 / 1000.0;
        text.family(
            "vestal_clock_offset_seconds",
            "gauge",
            "How far a peer's clock is ahead of this node's, as measured here.",
        );
        for (id, ms) in time.offsets_ms.iter().filter(|(id, _)| **id != us) {
            let peer = escaped(&self.node.name_of(*id));
            text.sample("vestal_clock_offset_seconds", &format!("{{peer=\"{peer}\"}}"), seconds(*ms));
        }
        text.family(
            "vestal_clock_deviation_seconds",
            "gauge",
            "How far this node's clock is ahead of the cluster's time.",
        );
        if let Some(ms) = self.node.clock_off_ms(us) {
            text.sample("vestal_clock_deviation_seconds", "", seconds(ms));
        }
    }

    fn scrapes(&self, text: &mut Text<'_>) {
        let scrapes = self.node.scrapes.so_far();
        let help = "Scrapes that ended on this node.";
        text.one("vestal_scrape_scrapes_total", "counter", help, scrapes.scrapes);
        let help = "Scrapes on this node that failed.";
        text.one("vestal_scrape_failures_total", "counter", help, scrapes.failures);
        let (held, max) = (self.node.bodies.held_bytes(), self.node.bodies.bytes());
        let help = "Room that bodies of scrapes hold, but for one that is alone.";
        text.one("vestal_scrape_bodies_bytes", "gauge", help, held);
        let help = "Room for bodies of scrapes, but for one that is alone.";
        text.one("vestal_scrape_bodies_max_bytes", "gauge", help, max);
    }

    /// What dashboards and alerts for Prometheus ask for, under its names.
    fn prometheus(&self, text: &mut Text<'_>) {
        let built = build_info();
        let labels = format!(
            "{{version=\"{}\",revision=\"{}\",branch=\"{}\"}}",
            built.version,
            escaped(&built.revision),
            built.branch
        );
        text.family("prometheus_build_info", "gauge", "The release of Prometheus whose API this is.");
        text.sample("prometheus_build_info", &labels, 1);
        let ready = u8::from(self.node.health.not_ready().is_none());
        text.one("prometheus_ready", "gauge", "Whether the node can answer a default query.", ready);
        let (_, good) = self.configuration.last_reload();
        let help = "Whether the last reload of the configuration on this node succeeded.";
        text.one("prometheus_config_last_reload_successful", "gauge", help, u8::from(good));
        let at = self.configuration.last_good_reload().unwrap_or(self.node.started).0 as f64 / 1000.0;
        let help = "When the last reload of the configuration on this node succeeded.";
        text.one("prometheus_config_last_reload_success_timestamp_seconds", "gauge", help, at);
        let plan = self.node.plan.borrow().clone();
        let mut targets: BTreeMap<&str, usize> = BTreeMap::new();
        for (shard, _) in self.node.scrapers() {
            for target in plan.targets(shard) {
                *targets.entry(&target.config.job_name).or_default() += 1;
            }
        }
        let help = "Targets that this node scrapes.";
        text.family("prometheus_target_scrape_pool_targets", "gauge", help);
        for (job, count) in targets {
            let labels = format!("{{scrape_job=\"{}\"}}", escaped(job));
            text.sample("prometheus_target_scrape_pool_targets", &labels, count);
        }
        let too_large = self.node.scrapes.so_far().body_too_large;
        let help = "Scrapes on this node whose body was larger than allowed.";
        text.one("prometheus_target_scrapes_exceeded_body_size_limit_total", "counter", help, too_large);
        let shards = self.node.data_shards();
        let series: u64 = shards.iter().map(|shard| shard.active_series()).sum();
        text.one("prometheus_tsdb_head_series", "gauge", "Series that get samples.", series);
        let appended: u64 = shards.iter().map(|shard| shard.counters().samples_applied).sum();
        let help = "Samples applied by this node.";
        text.one("prometheus_tsdb_head_samples_appended_total", "counter", help, appended);
    }

    fn log(&self, text: &mut Text<'_>) {
        let stats = self.node.log.stats();
        text.one("vestal_log_size_bytes", "gauge", "Bytes of the replicated log on disk.", stats.bytes);
        text.one("vestal_log_segments", "gauge", "Segment files of the log.", stats.segments);
        text.one("vestal_log_fsyncs_total", "counter", "Syncs of the log.", stats.fsyncs);
    }

    fn groups(&self, text: &mut Text<'_>) {
        let shards = self.node.raft.shards();
        let status: Vec<_> =
            shards.iter().filter_map(|s| self.node.raft.status(*s).map(|status| (*s, status))).collect();
        let progress: Vec<_> =
            shards.iter().filter_map(|s| self.node.raft.progress(*s).map(|p| (*s, p))).collect();
        let index = |index: Option<LogIndex>| index.unwrap_or_default().0;
        let leads: Vec<_> =
            status.iter().map(|(s, status)| (*s, u8::from(status.role == GroupRole::Leader))).collect();
        text.by_shard("vestal_raft_leader", "gauge", "Whether this node leads the shard.", &leads);
        let terms: Vec<_> = status.iter().map(|(s, status)| (*s, status.term)).collect();
        text.by_shard("vestal_raft_term", "gauge", "The term known here.", &terms);
        let committed: Vec<_> = progress.iter().map(|(s, p)| (*s, index(p.committed))).collect();
        text.by_shard(
            "vestal_raft_commit_index",
            "gauge",
            "The last entry known to be committed.",
            &committed,
        );
        let applied: Vec<_> = progress.iter().map(|(s, p)| (*s, index(p.applied))).collect();
        text.by_shard("vestal_raft_applied_index", "gauge", "The last entry applied here.", &applied);
        let checkpointed: Vec<_> = progress.iter().map(|(s, p)| (*s, index(p.checkpointed))).collect();
        text.by_shard("vestal_raft_checkpoint_index", "gauge", "The last checkpoint here.", &checkpointed);
        let transfers = self.node.raft.snapshot_progress();
        let received: Vec<_> = transfers.iter().map(|(s, progress)| (*s, progress.received_bytes)).collect();
        let help = "What is here of the snapshot being received.";
        text.by_shard("vestal_raft_snapshot_received_bytes", "gauge", help, &received);
        let wanted: Vec<_> = transfers.iter().map(|(s, progress)| (*s, progress.wanted_bytes)).collect();
        let help = "About how much of the snapshot being received was wanted.";
        text.by_shard("vestal_raft_snapshot_wanted_bytes", "gauge", help, &wanted);
    }

    fn storage(&self, text: &mut Text<'_>) {
        let counters: Vec<_> =
            self.node.data_shards().iter().map(|shard| (shard.shard(), shard.counters())).collect();
        let mut family = |name: &str, help: &str, of: &dyn Fn(&storage::shard::ShardCounters) -> u64| {
            let values: Vec<_> = counters.iter().map(|(shard, counters)| (*shard, of(counters))).collect();
            text.by_shard(name, "counter", help, &values);
        };
        family("vestal_storage_samples_applied_total", "Samples applied since the start.", &|c| {
            c.samples_applied
        });
        family("vestal_storage_samples_rejected_total", "Samples refused by apply.", &|c| c.samples_rejected);
        family("vestal_storage_refusals_total", "Rows and commands refused whole by apply.", &|c| c.refusals);
        family("vestal_storage_slots_missed_total", "Slots recorded as missed.", &|c| c.slots_missed);
        family("vestal_storage_windows_sealed_total", "Open windows sealed.", &|c| c.windows_sealed);
        family("vestal_storage_series_added_total", "Series added to the index.", &|c| c.series_added);
        family("vestal_storage_series_removed_total", "Series removed from the index.", &|c| {
            c.series_removed
        });
        family("vestal_storage_checkpoints_total", "Checkpoints written.", &|c| c.checkpoints);
        text.one(
            "vestal_scrape_rows_dropped_total",
            "counter",
            "Partial rows of scrapes dropped before they were proposed.",
            self.node.scraped_rows_dropped.load(Ordering::Relaxed),
        );
        let checkpointed: Vec<_> = self
            .node
            .data_shards()
            .iter()
            .map(|shard| (shard.shard(), shard.checkpointed().log_id.map_or(0, |id| id.index.0)))
            .collect();
        text.by_shard(
            "vestal_storage_checkpoint_index",
            "gauge",
            "The entry up to which a shard is durable.",
            &checkpointed,
        );
    }

    fn http(&self, text: &mut Text<'_>) {
        let load = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        let api = &self.api;
        text.one("vestal_api_requests_total", "counter", "HTTP requests answered.", load(&api.requests));
        text.family("vestal_api_errors_total", "counter", "HTTP requests answered with an error.");
        text.sample("vestal_api_errors_total", "{class=\"4xx\"}", load(&api.client_errors));
        text.sample("vestal_api_errors_total", "{class=\"5xx\"}", load(&api.server_errors));
        text.one("vestal_api_queries_total", "counter", "Queries evaluated.", load(&api.queries));
        let seconds = load(&api.query_micros) as f64 / 1e6;
        text.one("vestal_api_query_seconds_total", "counter", "Time spent evaluating queries.", seconds);
        text.one(
            "vestal_api_samples_written_total",
            "counter",
            "Samples taken by remote write.",
            load(&api.samples_written),
        );
        text.one(
            "vestal_api_samples_refused_total",
            "counter",
            "Samples refused by remote write.",
            load(&api.samples_refused),
        );
        text.one(
            "vestal_api_writes_unavailable_total",
            "counter",
            "Remote writes told to come back.",
            load(&api.writes_unavailable),
        );
    }
}
