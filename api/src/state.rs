//! What every handler holds: the ports, the options, and the few things requests share.

use crate::{
    engine_metrics::EngineMetrics,
    known::Known,
    options::Options,
    ports::{BuildInfo, Cluster, ConfigSource, Lifecycle, Metrics, Targets, Tsdb, WriteSink},
    query_log::QueryLog,
    queue::Queue,
    write::LabelCache,
};
use http::{HeaderMap, header};
use model::{Clock, Fs, MemoryPool, Spawner, Views};
use promql::{Engine, EngineOptions};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Everything the API reads from and writes to.
#[derive(Clone)]
pub struct Ports {
    /// Opens views of the data.
    pub views: Arc<dyn Views>,
    /// Takes writes.
    pub write: Arc<dyn WriteSink>,
    /// The cluster.
    pub cluster: Arc<dyn Cluster>,
    /// The targets.
    pub targets: Arc<dyn Targets>,
    /// The configuration.
    pub config: Arc<dyn ConfigSource>,
    /// The process's life.
    pub lifecycle: Arc<dyn Lifecycle>,
    /// Figures of storage.
    pub tsdb: Arc<dyn Tsdb>,
    /// The node's own metrics.
    pub metrics: Arc<dyn Metrics>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Files: the log of queries, and which of them run.
    pub fs: Arc<dyn Fs>,
    /// Threads for queries and for decoding large writes.
    pub spawner: Arc<dyn Spawner>,
    /// What was built.
    pub build: BuildInfo,
}

/// Counters of the API, for the node's `/metrics`. Only ever rise, unless said otherwise.
#[derive(Debug, Default)]
pub struct Counters {
    /// Requests answered.
    pub requests: AtomicU64,
    /// Of them, with status 4xx.
    pub client_errors: AtomicU64,
    /// Of them, with status 5xx.
    pub server_errors: AtomicU64,
    /// Queries evaluated, instant and range.
    pub queries: AtomicU64,
    /// Microseconds spent evaluating them.
    pub query_micros: AtomicU64,
    /// The engine, under Prometheus's names.
    pub engine: EngineMetrics,
    /// Samples taken by remote write.
    pub samples_written: AtomicU64,
    /// Samples refused by remote write, for whatever reason.
    pub samples_refused: AtomicU64,
    /// Writes that were told to come back.
    pub writes_unavailable: AtomicU64,
}

impl Counters {
    pub(crate) fn add(counter: &AtomicU64, number: u64) {
        counter.fetch_add(number, Ordering::Relaxed);
    }
}

pub(crate) struct State {
    pub(crate) ports: Ports,
    pub(crate) options: Options,
    pub(crate) counters: Arc<Counters>,
    /// But for the step of subqueries, which the configuration gives: see [`State::engine`].
    engine: EngineOptions,
    /// Places for queries.
    pub(crate) queue: Arc<Queue>,
    pub(crate) query_log: QueryLog,
    /// What was parsed lately; flags decide what parses, so it holds for as long as the process.
    pub(crate) known: Known,
    /// What queries may hold together.
    pub(crate) memory: Arc<MemoryPool>,
    /// One permit per KiB of request bodies in memory.
    bodies: Arc<Semaphore>,
    pub(crate) label_cache: Arc<LabelCache>,
}

pub(crate) type Shared = Arc<State>;

/// Text the label cache may hold per series it has room for.
const CACHE_BYTES_PER_SERIES: usize = 512;

impl State {
    pub(crate) fn new(ports: Ports, options: Options, counters: Arc<Counters>) -> State {
        let series = options.write_cache_series;
        State {
            queue: Arc::new(Queue::new(&*ports.fs, &options, counters.clone())),
            query_log: QueryLog::new(ports.fs.clone()),
            known: Known::default(),
            memory: Arc::new(MemoryPool::new(options.query_bytes_total_max)),
            bodies: Arc::new(Semaphore::new(kib(options.body_bytes_in_flight_max) as usize)),
            label_cache: Arc::new(LabelCache::new(series, series.saturating_mul(CACHE_BYTES_PER_SERIES))),
            engine: engine_options(&options),
            ports,
            options,
            counters,
        }
    }

    /// Claims memory for request bodies and what is made of them; `None` if the server is full.
    pub(crate) fn claim(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        self.bodies.clone().try_acquire_many_owned(kib(bytes)).ok()
    }

    /// The engine as flags and configuration have it now.
    pub(crate) fn engine(&self) -> Engine {
        let step = self.ports.config.evaluation_interval();
        Engine::new(EngineOptions { subquery_interval_ms: milliseconds(step), ..self.engine.clone() })
    }
}

/// Annotations that the engine renders; the envelope shows ten of each kind and counts the others.
const ANNOTATIONS_MAX: usize = 1000;

fn milliseconds(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}

fn engine_options(options: &Options) -> EngineOptions {
    EngineOptions {
        lookback_delta_ms: milliseconds(options.lookback_delta),
        samples_max: options.query_samples_max,
        features: options.features,
        parser: options.parser,
        annotations_max: ANNOTATIONS_MAX,
        ..EngineOptions::default()
    }
}

/// Bytes in KiB, rounded up, at least one.
fn kib(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(1024).max(1)).unwrap_or(u32::MAX >> 4)
}

/// The length that a request's head declares for its body.
pub(crate) fn declared_length(headers: &HeaderMap) -> Option<usize> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}
