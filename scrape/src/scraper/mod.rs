//! The scraper of one shard in one term: a loop around the schedule, and a task for each scrape.
//!
//! ```text
//!   set_targets ──▶ ┌──────────┐ ──Scrape──▶ task: GET, read ──┐
//!   timer ────────▶ │ Schedule │                               ├──▶ receiver of ScraperOutput (bounded)
//!   task ends ────▶ └──────────┘ ──Missed──────────────────────┘
//! ```
//!
//! Invariants: at most one scrape of a target at a time, and at most `concurrency_max` in all; the receiver ends when
//! the scraper has stopped and nothing is under way any more. Nothing is committed here, and nothing is tried twice.

mod job;
mod outcome;
mod status;

pub use outcome::{Outcome, ScraperOutput, failed_row};
pub use status::{Health, TargetStatus};

use crate::fetch::{BodyRoom, SecretFiles};
use crate::schedule::{Assignment, MissedReason, MissedSlots, Schedule, ScheduleEffect, ScheduleEvent};
use crate::series::MetricMetadata;
use crate::target::Target;
use futures::FutureExt;
use job::Job;
use model::{Clock, DurationMs, Fs, Net, SourceKey, Spawner, Term, TimestampMs};
use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc, watch};

/// The longest sleep: the wall clock may be set meanwhile.
const SLEEP_MAX: Duration = Duration::from_secs(1);

/// The outside, as a scraper needs it.
#[derive(Clone, Debug)]
pub struct ScraperPorts {
    /// Says when a slot is due.
    pub clock: Arc<dyn Clock>,
    /// Connects to targets.
    pub net: Arc<dyn Net>,
    /// Holds files of secrets.
    pub fs: Arc<dyn Fs>,
    /// Runs the tasks.
    pub spawner: Arc<dyn Spawner>,
    /// The node's, so that a file is read once at a time whatever scrapers want it.
    pub secrets: Arc<SecretFiles>,
    /// The node's, so that all its scrapers together hold no more.
    pub bodies: Arc<BodyRoom>,
}

/// The bounds of a scraper.
#[derive(Clone, Debug)]
pub struct ScraperOptions {
    /// Scrapes under way at once; further ones wait, and begin late.
    pub concurrency_max: usize,
    /// Bytes of an unpacked body where the configuration sets no limit.
    pub body_bytes_max: u64,
    /// Series remembered of one target.
    pub series_max: usize,
    /// Outputs that wait to be taken.
    pub outputs_max: usize,
    /// How late a slot may be begun that fell due before this scraper did; see [`Schedule::new`].
    pub takeover_grace: DurationMs,
}

impl Default for ScraperOptions {
    fn default() -> Self {
        ScraperOptions {
            concurrency_max: 256,
            body_bytes_max: 256 << 20,
            series_max: 2_000_000,
            outputs_max: 256,
            takeover_grace: DurationMs(1_000),
        }
    }
}

type Jobs = BTreeMap<Arc<SourceKey>, Arc<Job>>;

/// What a scraper is told.
#[derive(Clone, Debug)]
enum Order {
    /// Scrape these.
    Targets(Vec<Assignment>),
    /// Begin nothing more; what is under way may end.
    Drain,
    /// Give everything up.
    Stop,
}

#[derive(Debug)]
struct Shared {
    jobs: Mutex<Jobs>,
    /// Jobs whose target stays with another configuration: what is under way of them still comes out.
    replaced: Mutex<Vec<Weak<Job>>>,
    order: watch::Sender<(u64, Order)>,
}

/// Scrapes the targets of one shard for as long as this node leads it in one term. Stops when dropped.
#[derive(Debug)]
pub struct Scraper {
    shared: Arc<Shared>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Scraper {
    /// Starts a scraper without targets. The receiver must be read: when `outputs_max` wait, scrapes come late, and
    /// that is recorded as missed slots.
    #[must_use]
    pub fn start(
        ports: ScraperPorts,
        options: ScraperOptions,
        term: Term,
    ) -> (Scraper, mpsc::Receiver<ScraperOutput>) {
        let (outputs, receiver) = mpsc::channel(options.outputs_max.max(1));
        let order = watch::Sender::new((0, Order::Targets(Vec::new())));
        let shared = Arc::new(Shared { jobs: Mutex::default(), replaced: Mutex::default(), order });
        let (ended, ends) = mpsc::channel(options.concurrency_max.max(1));
        let run = Run {
            schedule: Schedule::new(options.takeover_grace),
            permits: Arc::new(Semaphore::new(options.concurrency_max.max(1))),
            orders: shared.order.subscribe(),
            shared: shared.clone(),
            ports: ports.clone(),
            options,
            term,
            outputs,
            ended,
        };
        let running = ports.spawner.vital("scraper", Box::pin(run.run(ends)));
        ports.spawner.spawn("scraper", running);
        (Scraper { shared }, receiver)
    }

    /// These are all targets from now on. What is said of a target's past counts only when it is new here; one that
    /// stays keeps its rhythm, its connection and its memory.
    pub fn set_targets(&self, assignments: Vec<Assignment>) {
        self.order(Order::Targets(assignments));
    }

    /// Begins nothing more; what is under way still comes out, then the receiver ends.
    pub fn drain(&self) {
        self.order(Order::Drain);
    }

    /// Gives up what is under way; the receiver ends at once.
    pub fn stop(&self) {
        self.order(Order::Stop);
    }

    fn order(&self, order: Order) {
        self.shared.order.send_modify(|(number, slot)| {
            *number += 1;
            if !matches!(slot, Order::Stop) {
                *slot = order;
            }
        });
    }

    /// The targets and their last scrapes, in order of their identity.
    #[must_use]
    pub fn status(&self) -> Vec<TargetStatus> {
        lock(&self.shared.jobs).values().map(|job| job.status()).collect()
    }

    /// Says of the scrape for a slot that it failed after all, because its outcome cannot be committed; if it is still
    /// the last one of its target.
    pub fn fail(&self, source: &SourceKey, slot: TimestampMs, error: String) {
        let job = lock(&self.shared.jobs).get(source).cloned();
        if let Some(job) = job {
            job.fail(slot, error);
        }
    }

    /// What a target says of its metrics; empty if it is not scraped here.
    #[must_use]
    pub fn metadata(&self, source: &SourceKey) -> Vec<MetricMetadata> {
        let job = lock(&self.shared.jobs).get(source).cloned();
        job.map_or_else(Vec::new, |job| job.metadata())
    }
}

impl Drop for Scraper {
    fn drop(&mut self) {
        self.stop();
    }
}

struct Run {
    schedule: Schedule,
    shared: Arc<Shared>,
    ports: ScraperPorts,
    options: ScraperOptions,
    term: Term,
    permits: Arc<Semaphore>,
    orders: watch::Receiver<(u64, Order)>,
    outputs: mpsc::Sender<ScraperOutput>,
    /// Tasks say here that they have ended.
    ended: mpsc::Sender<Arc<SourceKey>>,
}

impl Run {
    async fn run(mut self, mut ends: mpsc::Receiver<Arc<SourceKey>>) {
        loop {
            let now = self.ports.clock.now();
            let pause =
                self.schedule.wake_at().map_or(SLEEP_MAX, |at| Duration::from(at.since(now)).min(SLEEP_MAX));
            let event = tokio::select! {
                biased;
                changed = self.orders.changed() => {
                    let order = self.orders.borrow_and_update().1.clone();
                    match order {
                        Order::Targets(assignments) if changed.is_ok() => {
                            self.set_jobs(&assignments);
                            ScheduleEvent::Targets(assignments)
                        }
                        Order::Drain if changed.is_ok() => return, // tasks hold the output open until they end
                        _ => return self.give_up(),
                    }
                }
                Some(source) = ends.recv() => ScheduleEvent::Ended(source),
                () = tokio::time::sleep(pause) => ScheduleEvent::Tick,
            };
            if self.outputs.is_closed() {
                return self.give_up();
            }
            let now = self.ports.clock.now();
            for effect in self.schedule.step(now, event) {
                if !self.perform(effect).await {
                    return self.give_up();
                }
            }
        }
    }

    /// Performs an effect; false if nobody listens any more.
    async fn perform(&self, effect: ScheduleEffect) -> bool {
        match effect {
            ScheduleEffect::Scrape { target, slot } => {
                let job = lock(&self.shared.jobs).get(&target.source).cloned();
                if let Some(job) = job {
                    self.begin(job, slot);
                }
                true
            }
            ScheduleEffect::Missed(missed) => self.outputs.send(ScraperOutput::Missed(missed)).await.is_ok(),
            ScheduleEffect::Forget(_) => true, // its job was given up when it left the list
        }
    }

    fn begin(&self, job: Arc<Job>, slot: TimestampMs) {
        let (outputs, ended, permits, term) =
            (self.outputs.clone(), self.ended.clone(), self.permits.clone(), self.term);
        let task = async move {
            let source = job.target.source.clone();
            let permit = permits.acquire_owned().await;
            // What a target says must not end the process: the next leader would scrape it, too.
            let scraping = AssertUnwindSafe(job.clone().scrape(slot, term)).catch_unwind();
            let outcome = scraping.await.unwrap_or(None);
            drop(permit);
            let output = match outcome {
                Some(outcome) => Some(ScraperOutput::Outcome(Box::new(outcome))),
                None if job.is_given_up() => None,
                None => Some(ScraperOutput::Missed(MissedSlots {
                    source: source.clone(),
                    from: slot,
                    to: slot,
                    slots: 1,
                    reason: MissedReason::Panic,
                })),
            };
            if let Some(output) = output {
                let _ = outputs.send(output).await;
            }
            let _ = ended.send(source).await;
        };
        self.ports.spawner.spawn("scrape", Box::pin(task));
    }

    /// Makes jobs of new and changed targets, and gives up those that left. The slot that is under way as a target
    /// changes is scraped by the configuration before: it has begun, and another scrape of it would come late.
    fn set_jobs(&self, assignments: &[Assignment]) {
        let mut jobs = lock(&self.shared.jobs);
        let mut replaced = lock(&self.shared.replaced);
        let mut old = std::mem::take(&mut *jobs);
        for Assignment { target, last_timestamp, .. } in assignments {
            let before = old.remove(&target.source);
            let job = match before {
                Some(job) if same_target(&job.target, target) => job,
                before => {
                    let last = before.as_ref().and_then(|job| job.last_timestamp()).max(*last_timestamp);
                    replaced.extend(before.iter().map(Arc::downgrade));
                    Arc::new(Job::new(target.clone(), last, &self.ports, &self.options))
                }
            };
            jobs.insert(target.source.clone(), job);
        }
        old.values().for_each(|job| job.give_up());
        replaced.retain(|job| {
            job.upgrade().is_some_and(|job| match jobs.contains_key(&job.target.source) {
                true => true,
                false => {
                    job.give_up();
                    false
                }
            })
        });
    }

    fn give_up(&self) {
        let jobs = std::mem::take(&mut *lock(&self.shared.jobs));
        jobs.values().for_each(|job| job.give_up());
        lock(&self.shared.replaced).drain(..).filter_map(|job| job.upgrade()).for_each(|job| job.give_up());
    }
}

/// Whether a job can go on as it is.
fn same_target(a: &Target, b: &Target) -> bool {
    a.interval == b.interval
        && a.timeout == b.timeout
        && a.native_histograms == b.native_histograms
        && a.classic_histograms == b.classic_histograms
        && a.forced_error == b.forced_error
        && (Arc::ptr_eq(&a.config, &b.config) || a.config.scrapes_like(&b.config))
}

#[cfg(test)]
mod tests;
