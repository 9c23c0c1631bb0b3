//! One target's scrapes: fetch, read, put together.

use super::outcome::{Outcome, Scrape, rows};
use super::status::{Health, TargetStatus};
use super::{ScraperOptions, ScraperPorts};
use crate::exposition::BodyFormat;
use crate::fetch::{Client, ClientPorts, Reply, ScrapeError};
use crate::schedule::scrape_timestamp;
use crate::series::{Body, Ingested, MetricMetadata, SeriesCache};
use crate::target::Target;
use model::{Term, TimestampMs, run_blocking};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

/// Up to this size a body is read on the async threads, in bytes; a steady one of this size takes about 0.2 ms.
const INLINE_BODY_BYTES_MAX: u64 = 256 << 10;

/// The same for a body of a target of which nothing is known yet, which takes thirty times as long: a new leader
/// reads all its targets for the first time, and must not miss its heartbeats for it.
const INLINE_COLD_BODY_BYTES_MAX: u64 = 16 << 10;

/// A target under scrape.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) target: Arc<Target>,
    ports: ScraperPorts,
    /// Held for the length of a scrape; there is one at a time.
    client: tokio::sync::Mutex<Client>,
    memory: Mutex<Memory>,
    status: Mutex<TargetStatus>,
    /// Becomes true when nobody wants its outcome any more.
    gone: watch::Sender<bool>,
}

#[derive(Debug)]
struct Memory {
    cache: SeriesCache,
    last_timestamp: Option<TimestampMs>,
}

/// A panic while a lock was held leaves nothing half done that the next scrape would not replace.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Job {
    pub(super) fn new(
        target: Arc<Target>,
        last_timestamp: Option<TimestampMs>,
        ports: &ScraperPorts,
        options: &ScraperOptions,
    ) -> Job {
        let client_ports = ClientPorts {
            clock: ports.clock.clone(),
            net: ports.net.clone(),
            fs: ports.fs.clone(),
            spawner: ports.spawner.clone(),
            secrets: ports.secrets.clone(),
            bodies: ports.bodies.clone(),
        };
        let cache = SeriesCache::new(target.clone(), options.series_max);
        Job {
            client: tokio::sync::Mutex::new(Client::new(
                target.clone(),
                client_ports,
                options.body_bytes_max,
            )),
            memory: Mutex::new(Memory { cache, last_timestamp }),
            status: Mutex::new(TargetStatus::new(target.clone())),
            gone: watch::Sender::new(false),
            ports: ports.clone(),
            target,
        }
    }

    /// Gives a scrape under way up.
    pub(super) fn give_up(&self) {
        self.gone.send_replace(true);
    }

    /// Whether nobody wants its outcomes any more.
    pub(super) fn is_given_up(&self) -> bool {
        *self.gone.borrow()
    }

    /// The timestamp of its newest row.
    pub(super) fn last_timestamp(&self) -> Option<TimestampMs> {
        lock(&self.memory).last_timestamp
    }

    pub(super) fn status(&self) -> TargetStatus {
        lock(&self.status).clone()
    }

    pub(super) fn fail(&self, slot: TimestampMs, error: String) {
        let mut status = lock(&self.status);
        if status.last_slot == Some(slot) {
            status.health = Health::Down;
            status.last_error = error;
        }
    }

    pub(super) fn metadata(&self) -> Vec<MetricMetadata> {
        lock(&self.memory).cache.metadata()
    }

    /// Scrapes for a slot; `None` if nobody wants the outcome any more, or reading the body panicked.
    pub(super) async fn scrape(self: Arc<Self>, slot: TimestampMs, term: Term) -> Option<Outcome> {
        let mut gone = self.gone.subscribe();
        let begun = self.ports.clock.now();
        let begun_monotonic = self.ports.clock.monotonic();
        let fetched = tokio::select! {
            fetched = self.fetch() => fetched,
            _ = gone.wait_for(|gone| *gone) => return None,
        };
        let duration = self.ports.clock.monotonic().saturating_sub(begun_monotonic);
        let timestamp =
            scrape_timestamp(slot, begun, self.target.interval, lock(&self.memory).last_timestamp);
        let body_bytes = match &fetched {
            Ok(reply) => Some(reply.body.len() as u64),
            Err(ScrapeError::BodyTooLarge) => None,
            Err(_) => Some(0),
        };
        let fetched = fetched.map_err(|error| error.to_string());
        let scrape = Ended { slot, term, timestamp, begun, duration, body_bytes };
        let cold = lock(&self.memory).cache.is_cold();
        if body_bytes.unwrap_or(0) <= if cold { INLINE_COLD_BODY_BYTES_MAX } else { INLINE_BODY_BYTES_MAX } {
            return Some(self.read(fetched, &scrape));
        }
        let job = self.clone();
        let work = move || job.read(fetched, &scrape);
        run_blocking(&*self.ports.spawner, "read a large body", work).await
    }

    async fn fetch(&self) -> Result<Reply, ScrapeError> {
        if let Some(error) = &self.target.forced_error {
            return Err(ScrapeError::Forced(error.clone()));
        }
        let mut client = self.client.lock().await;
        let timeout = Duration::from(self.target.timeout);
        let fetched = tokio::time::timeout(timeout, client.get()).await;
        fetched.map_err(|_| client.late()).and_then(|result| result)
    }

    fn read(&self, fetched: Result<Reply, String>, ended: &Ended) -> Outcome {
        let mut memory = lock(&self.memory);
        let memory = &mut *memory;
        memory.cache.settle();
        let fallback = self.target.config.fallback_scrape_protocol;
        let mut found = match fetched {
            Err(error) => Ingested { error: Some(error), ..memory.cache.ingest_nothing() },
            // As in Prometheus, a target may have nothing to say, and then need not say how.
            Ok(reply) if reply.body.is_empty() => {
                self.ingest(memory, reply, BodyFormat::PrometheusText, ended)
            }
            Ok(reply) => match BodyFormat::of_content_type(&reply.content_type, fallback) {
                Ok(format) => self.ingest(memory, reply, format, ended),
                Err(error) => Ingested { error: Some(error.to_string()), ..memory.cache.ingest_nothing() },
            },
        };
        let up = found.error.is_none();
        let scrape = Scrape {
            target: &self.target,
            slot: ended.slot,
            timestamp: ended.timestamp,
            duration: ended.duration,
            up,
            body_bytes: ended.body_bytes,
        };
        let rows = rows(&memory.cache, &scrape, &mut found);
        memory.last_timestamp = Some(ended.timestamp);
        let last_error = found.error.take();
        *lock(&self.status) = TargetStatus {
            target: self.target.clone(),
            health: if up { Health::Up } else { Health::Down },
            last_error: last_error.clone().unwrap_or_default(),
            last_scrape: Some(ended.begun),
            last_duration: ended.duration,
            last_slot: Some(ended.slot),
            samples_scraped: found.scraped,
        };
        if found.duplicates > 0 || found.out_of_bounds > 0 {
            tracing::warn!(
                url = %self.target.url,
                duplicates = found.duplicates,
                out_of_bounds = found.out_of_bounds,
                "samples of a scrape were dropped"
            );
        }
        Outcome {
            source: self.target.source.clone(),
            term: ended.term,
            slot: ended.slot,
            timestamp: ended.timestamp,
            rows,
            up,
            last_error,
            duration: ended.duration,
            samples_scraped: found.scraped,
            samples_post_relabel: found.added,
            series_added: found.series_added,
            body_bytes: ended.body_bytes,
        }
    }

    fn ingest(&self, memory: &mut Memory, mut reply: Reply, format: BodyFormat, ended: &Ended) -> Ingested {
        memory.cache.ingest(Body { bytes: &mut reply.body, format, timestamp: ended.timestamp })
    }
}

/// The frame of a scrape whose body is here.
#[derive(Clone, Copy)]
struct Ended {
    slot: TimestampMs,
    term: Term,
    timestamp: TimestampMs,
    begun: TimestampMs,
    duration: Duration,
    /// `None` if there are more than allowed.
    body_bytes: Option<u64>,
}
