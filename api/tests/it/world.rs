//! A whole API over ports in memory, and how a test asks it.

use crate::{
    files::Files,
    memory::{Inline, Memory, MemoryViews, NOW, Stopped},
};
use api::{
    Counters, Options, Ports,
    ports::{
        BuildInfo, Cluster, ClusterStatus, ConfigEntry, ConfigSource, ConfigStatus, Gap, GapQuery, Lifecycle,
        Metrics, NodeState, NodeStatus, OfferError, QueryLogFile, Readiness, ReplayStatus, ReplicaRole,
        ReplicaStatus, RuntimeInfo, ShardStatus, TargetList, TargetMetadata, Targets, Tsdb, TsdbStats,
        WriteError, WriteOutcome, WriteRequest, WriteSink,
    },
};
use axum::{Router, body::Body};
use http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt;
use model::{
    BoxFuture, ClusterId, ConfigVersion, Labels, LogIndex, NodeId, QueryError, ShardId, StateHash, Term,
    ViewError,
};
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};
use tower::ServiceExt;

/// What the ports say; tests change it before they ask.
pub(crate) struct World {
    pub(crate) memory: Memory,
    pub(crate) quorum: bool,
    pub(crate) behind: Option<Memory>,
    pub(crate) options: Options,
    pub(crate) readiness: Readiness,
    pub(crate) targets: TargetList,
    pub(crate) metadata: Vec<TargetMetadata>,
    pub(crate) gaps: Vec<Gap>,
    pub(crate) external_labels: Labels,
    pub(crate) files: Files,
    pub(crate) query_log: Option<QueryLogFile>,
    pub(crate) written: Result<WriteOutcome, WriteError>,
    pub(crate) reload: Result<(), String>,
}

impl Default for World {
    fn default() -> World {
        World {
            memory: Memory::default(),
            quorum: true,
            behind: None,
            options: Options::default(),
            readiness: Readiness::Ready,
            targets: TargetList::default(),
            metadata: Vec::new(),
            gaps: Vec::new(),
            external_labels: Labels::empty(),
            files: Files::default(),
            query_log: None,
            written: Ok(WriteOutcome::default()),
            reload: Ok(()),
        }
    }
}

/// The ports that a world becomes, with what they were told.
pub(crate) struct Said {
    targets: TargetList,
    metadata: Vec<TargetMetadata>,
    gaps: Vec<Gap>,
    external_labels: Labels,
    pub(crate) query_log: Mutex<Option<QueryLogFile>>,
    readiness: Readiness,
    outcome: Result<WriteOutcome, WriteError>,
    reload: Result<(), String>,
    /// The writes that came, one line for each series.
    pub(crate) writes: Mutex<Vec<String>>,
    pub(crate) quit: AtomicBool,
}

/// An API to ask.
pub(crate) struct Asked {
    pub(crate) router: Router,
    pub(crate) said: Arc<Said>,
    pub(crate) views: Arc<MemoryViews>,
    pub(crate) counters: Arc<Counters>,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

impl World {
    pub(crate) fn with(labels: &[(&str, &str)], samples: &[(i64, f64)]) -> World {
        World { memory: Memory::default().with(labels, samples), ..World::default() }
    }

    pub(crate) fn and(mut self, labels: &[(&str, &str)], samples: &[(i64, f64)]) -> World {
        self.memory = self.memory.with(labels, samples);
        self
    }

    pub(crate) fn open(self) -> Asked {
        let said = Arc::new(Said {
            targets: self.targets,
            metadata: self.metadata,
            gaps: self.gaps,
            external_labels: self.external_labels,
            query_log: Mutex::new(self.query_log),
            readiness: self.readiness,
            outcome: self.written,
            reload: self.reload,
            writes: Mutex::default(),
            quit: AtomicBool::new(false),
        });
        let views = Arc::new(MemoryViews {
            memory: Arc::new(self.memory),
            quorum: self.quorum,
            behind: self.behind.map(Arc::new),
            asked: Mutex::default(),
        });
        let build = BuildInfo {
            version: "3.14.0".into(),
            revision: "abc".into(),
            vestal_version: "0.1.0".into(),
            ..BuildInfo::default()
        };
        let ports = Ports {
            views: views.clone(),
            write: said.clone(),
            cluster: said.clone(),
            targets: said.clone(),
            config: said.clone(),
            lifecycle: said.clone(),
            tsdb: said.clone(),
            metrics: said.clone(),
            clock: Arc::<Stopped>::default(),
            fs: Arc::new(self.files),
            spawner: Arc::new(Inline),
            build,
        };
        let counters = Arc::<Counters>::default();
        Asked { router: api::router(ports, self.options, counters.clone()), said, views, counters }
    }

    /// Opens and asks once.
    pub(crate) async fn get(self, path: &str) -> Reply {
        self.open().get(path).await
    }
}

impl Asked {
    pub(crate) async fn ask(&self, request: Request<Body>) -> Reply {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes().to_vec();
        Reply { status: parts.status, headers: parts.headers, body }
    }

    pub(crate) async fn get(&self, path: &str) -> Reply {
        self.ask(Request::get(path).body(Body::empty()).unwrap()).await
    }

    pub(crate) async fn get_with(&self, path: &str, headers: &[(&str, &str)]) -> Reply {
        let mut request = Request::get(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.ask(request.body(Body::empty()).unwrap()).await
    }

    pub(crate) async fn post_form(&self, path: &str, form: &str) -> Reply {
        let request = Request::post(path).header("content-type", "application/x-www-form-urlencoded");
        self.ask(request.body(Body::from(form.to_owned())).unwrap()).await
    }
}

impl WriteSink for Said {
    fn write(&self, request: WriteRequest) -> BoxFuture<'_, Result<WriteOutcome, WriteError>> {
        let line = |(labels, samples): (&Labels, &[_])| format!("{labels} {}", samples.len());
        self.writes.lock().unwrap().extend(request.iter().map(line));
        let outcome = self.outcome.clone();
        Box::pin(async move { outcome })
    }
}

impl Cluster for Said {
    fn status(&self) -> BoxFuture<'_, ClusterStatus> {
        let node = |id, state, clock_offset_seconds| NodeStatus {
            id: NodeId(id),
            name: format!("node-{id}"),
            state,
            web_address: format!("10.0.0.{id}:9090"),
            version: "0.1.0".into(),
            clock_offset_seconds,
        };
        let replica = |node: &str, role, reachable: bool| ReplicaStatus {
            node: node.into(),
            role,
            applied_index: reachable.then_some(LogIndex(41)),
            state_hash: reachable.then_some(StateHash { index: LogIndex(40), hash: 0xabc }),
        };
        let leader = replica("node-1", ReplicaRole::Leader, true);
        let shard = |id, leader: Option<&str>, replicas| ShardStatus {
            id: ShardId(id),
            leader: leader.map(str::to_owned),
            term: Term(3),
            commit_index: LogIndex(41),
            config_version: ConfigVersion(2),
            replicas,
        };
        let status = ClusterStatus {
            cluster_id: Some(ClusterId(0x1f)),
            nodes: vec![node(1, NodeState::Alive, Some(0.0015)), node(2, NodeState::Dead, None)],
            shards: vec![
                shard(0, None, vec![]),
                shard(1, Some("node-1"), vec![leader, replica("node-2", ReplicaRole::Voter, false)]),
            ],
            config: ConfigStatus {
                version: ConfigVersion(2),
                hash: "c0ffee".into(),
                ..ConfigStatus::default()
            },
            may_lose_another_node: false,
            why: "node-2 is dead".into(),
        };
        Box::pin(async move { status })
    }

    fn gaps(&self, query: GapQuery) -> BoxFuture<'_, Result<Vec<Gap>, ViewError>> {
        let fits = |gap: &&Gap| gap.to >= query.start && gap.from <= query.end;
        let gaps = self.gaps.iter().filter(fits).take(query.limit).cloned().collect();
        Box::pin(async move { Ok(gaps) })
    }
}

impl Targets for Said {
    fn list(&self) -> BoxFuture<'_, TargetList> {
        Box::pin(async { self.targets.clone() })
    }
    fn metadata<'a>(&'a self, _metric: Option<&'a str>) -> BoxFuture<'a, Vec<TargetMetadata>> {
        Box::pin(async { self.metadata.clone() })
    }
    fn scrape_pools(&self) -> Vec<String> {
        vec!["node".into(), "blackbox".into()]
    }
    fn scrape_pool_config(&self, pool: &str) -> Option<String> {
        (pool == "node").then(|| "job_name: node\n".to_owned())
    }
}

impl ConfigSource for Said {
    fn yaml(&self) -> String {
        "global:\n  scrape_interval: 15s\n".into()
    }
    fn flags(&self) -> BTreeMap<String, String> {
        [("web.listen-address", "0.0.0.0:9090"), ("config.file", "p.yml")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into()
    }
    fn external_labels(&self) -> Labels {
        self.external_labels.clone()
    }
    fn query_log(&self) -> Option<QueryLogFile> {
        self.query_log.lock().unwrap().clone()
    }
    fn reload(&self) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(async { self.reload.clone() })
    }
    fn apply(&self, yaml: String) -> BoxFuture<'_, Result<ConfigVersion, OfferError>> {
        let bad = yaml
            .contains("bad")
            .then(|| OfferError::Rejected("p.yml:1: bad: unknown key; remove it".to_owned()))
            .or_else(|| yaml.contains("later").then(|| OfferError::Unavailable("no leader".to_owned())));
        Box::pin(async move { bad.map_or(Ok(ConfigVersion(3)), Err) })
    }
    fn history(&self, limit: usize) -> BoxFuture<'_, Vec<ConfigEntry>> {
        let entry = |version| ConfigEntry {
            version: ConfigVersion(version),
            hash: "c0ffee".into(),
            text_hash: "beef".into(),
            offered_at: NOW,
            offered_by: "node-1".into(),
            yaml: "global: {}\n".into(),
        };
        Box::pin(async move { [2, 1].map(entry).into_iter().take(limit).collect() })
    }
}

impl Lifecycle for Said {
    fn quit(&self) {
        self.quit.store(true, Ordering::Relaxed);
    }
    fn readiness(&self) -> Readiness {
        self.readiness.clone()
    }
    fn runtime(&self) -> RuntimeInfo {
        RuntimeInfo {
            start_time: NOW,
            cwd: "/".into(),
            hostname: "h".into(),
            reload_config_success: true,
            last_config_time: NOW,
            tasks: 12,
            threads: 2,
            memory_limit: i64::MAX,
            storage_retention: "15d".into(),
            ..RuntimeInfo::default()
        }
    }
}

impl Tsdb for Said {
    fn stats(&self, limit: usize) -> Result<TsdbStats, QueryError> {
        let rows =
            (0..limit.min(2)).map(|i| api::ports::NamedCount { name: format!("m{i}"), value: 9 }).collect();
        Ok(TsdbStats { series: 508, series_by_metric_name: rows, ..TsdbStats::default() })
    }
    fn replay(&self) -> ReplayStatus {
        ReplayStatus { min: 2, max: 5, current: 40 }
    }
}

impl Metrics for Said {
    fn render(&self, out: &mut String) {
        out.push_str("# TYPE vestal_up gauge\nvestal_up 1\n");
    }
}
