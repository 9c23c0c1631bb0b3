//! The duties of a data shard's leader: scrape its targets and commit the outcomes, keep its settings, checkpoints
//! and retention up to date.
//!
//! ```text
//!  leader in term T ─▶ meta up to date ─▶ Scraper(T) ─outcomes─▶ Batch ─one entry at a time─▶ log of the shard
//! ```
//!
//! Invariants: everything proposed here carries the term in which the duty began, so nothing of a deposed leader
//! enters; a row whose series' labels do not fit into an entry comes in behind entries that introduce them;
//! times are duty time, which no wall clock moves; one segment of a shard is under way at a time, so a source's slots are applied in order; a segment whose
//! outcome is not known is not proposed again: its slots are recorded as missed, unless they were applied.

mod batch;
mod missed;

use super::Node;
use batch::Batch;
use bytes::Bytes;
use missed::{Missed, Range};
use model::{
    Clock, ConfigVersion, DurationMs, ProposeError, Row, RowKind, ShardId, SourceKey, Term, TimestampMs,
};
use scrape::{
    Scraper, ScraperOptions, ScraperOutput, ScraperPorts, failed_row, schedule::Assignment, target::Target,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};
use storage::shard::{
    DataCommand, DataResponse, DataShard, MissedSlots, Pushed, Refusal, RowEncoder, RowResult,
    SegmentBuilder, ShardSettings,
};
use tokio::{
    sync::{mpsc, watch},
    time::{sleep, timeout},
};

/// Outcomes are collected into one entry for this part of the shortest scrape interval, within bounds: an entry costs
/// as much as thousands of samples, and what is scraped rarely need not be there at once.
const BATCH_SHARE: u32 = 10;
const BATCH_AGE_MIN: Duration = Duration::from_millis(100);
const BATCH_AGE_MAX: Duration = Duration::from_millis(500);
/// Between looks at settings, checkpoints and retention.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(1);
/// Between two looks at retention.
const RETAIN_INTERVAL: Duration = Duration::from_secs(60);
/// Patience with one proposal that is not samples.
const COMMAND_PATIENCE: Duration = Duration::from_secs(5);
/// Pause after a refused proposal.
const PAUSE: Duration = Duration::from_millis(50);
/// Commands that are proposed together.
const COMMANDS_MAX: usize = 64;
/// Between two complaints that duties cannot begin.
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(10);

/// Tells duties to finish, and waits until they have.
#[derive(Debug)]
pub(crate) struct Draining {
    draining: watch::Sender<bool>,
    /// Duties under way.
    busy: watch::Sender<usize>,
}

impl Default for Draining {
    fn default() -> Self {
        Draining { draining: watch::Sender::new(false), busy: watch::Sender::new(0) }
    }
}

impl Draining {
    /// Whether nothing new is to be begun.
    pub(crate) fn is_draining(&self) -> bool {
        *self.draining.borrow()
    }

    /// Begins nothing more; returns when what is under way is committed.
    pub(crate) async fn drain(&self) {
        self.draining.send_replace(true);
        let mut busy = self.busy.subscribe();
        let _never_closed = busy.wait_for(|busy| *busy == 0).await.is_ok();
    }
}

/// Counts a duty as under way until it is dropped.
struct Busy<'a>(&'a watch::Sender<usize>);

impl<'a> Busy<'a> {
    fn new(busy: &'a watch::Sender<usize>) -> Busy<'a> {
        busy.send_modify(|busy| *busy += 1);
        Busy(busy)
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|busy| *busy -= 1);
    }
}

/// Does the duties of `shard` whenever this node leads it.
pub(crate) async fn run(node: Arc<Node>, shard: ShardId) {
    let (Some(mut status), Some(replica)) = (node.raft.watch(shard), node.shard(shard)) else { return };
    loop {
        let Ok(term) = status.wait_for(|status| status.ready).await.map(|status| status.term) else { return };
        if node.draining.is_draining() {
            return;
        }
        tracing::info!(%shard, %term, "leading");
        model::point!("duty.begin");
        let duties = Duties { node: node.clone(), shard, term, replica: replica.clone() };
        tokio::select! {
            () = duties.perform() => {}
            _ = status.wait_for(|now| !now.ready || now.term != term) => {}
        }
        model::point!("duty.end");
        node.set_scraper(shard, None);
        tracing::info!(%shard, %term, "no longer leading");
        if node.draining.is_draining() {
            return;
        }
    }
}

/// The targets that a leader scrapes, by source.
type Targets = BTreeMap<Arc<SourceKey>, Arc<Target>>;

/// Who scrapes what.
struct Scraped<'a> {
    scraper: &'a Scraper,
    targets: &'a Targets,
}

/// What became of a proposed segment.
struct Settled {
    rows: Vec<Row>,
    /// The segment only introduced series of its one row, which is still to come.
    introduced: bool,
    outcome: Result<Vec<RowResult>, ProposeError>,
}

struct Duties {
    node: Arc<Node>,
    shard: ShardId,
    term: Term,
    replica: Arc<DataShard>,
}

impl Duties {
    /// Until this node no longer leads (then it is dropped), or has drained.
    async fn perform(&self) {
        self.wait_for_meta().await;
        self.wait_for_time().await;
        let busy = Busy::new(&self.node.draining.busy);
        if self.node.draining.is_draining() {
            return;
        }
        let ports = &self.node.ports;
        let scraper_ports = ScraperPorts {
            clock: self.node.duty_clock.clone(),
            net: ports.net.clone(),
            fs: ports.fs.clone(),
            spawner: ports.spawner.clone(),
            secrets: self.node.secrets.clone(),
            bodies: self.node.bodies.clone(),
        };
        let (scraper, mut outputs) = Scraper::start(scraper_ports, ScraperOptions::default(), self.term);
        let scraper = Arc::new(scraper);
        self.node.set_scraper(self.shard, Some(scraper.clone()));
        let mut plan = self.node.plan.subscribe();
        let (mut followed, mut targets) = self.take_targets(&scraper, &mut plan).await;
        let mut age = batch_age(&targets);
        let mut draining = self.node.draining.draining.subscribe();
        let mut drained = false;
        let mut batch = Batch::default();
        let mut encoder = RowEncoder::new();
        let mut missed = Missed::default();
        let mut upkeep = Upkeep::new(ports.clock.monotonic());
        let (settle, mut settled) = mpsc::channel::<Settled>(1);
        let mut under_way = false;
        loop {
            let now = ports.clock.monotonic();
            if !under_way {
                self.record_ready(&mut missed, &batch).await;
            }
            if !under_way && batch.due(age).is_some_and(|due| due <= now || drained) {
                let scraped = Scraped { scraper: &scraper, targets: &targets };
                under_way = self.propose(&mut batch, &mut missed, &scraped, &mut encoder, &settle);
            }
            if drained && !under_way && batch.is_empty() && missed.is_empty() {
                drop(busy);
                return std::future::pending().await; // the leadership is handed over now
            }
            let next = [batch.due(age).filter(|_| !under_way), Some(upkeep.next)].into_iter().flatten().min();
            let patience = next.map_or(UPKEEP_INTERVAL, |next| next.saturating_sub(now));
            tokio::select! {
                output = outputs.recv(), if !drained => match self.counted(output) {
                    Some(ScraperOutput::Outcome(outcome)) if !targets.contains_key(&outcome.source) => {}
                    Some(ScraperOutput::Outcome(outcome)) => {
                        batch.push(now, outcome.rows);
                        self.shed(&mut batch, &mut missed, &targets);
                    }
                    Some(ScraperOutput::Missed(slots)) => missed.push(missed_slots(&slots, &targets)),
                    None => drained = true,
                },
                Some(done) = settled.recv() => {
                    under_way = false;
                    let scraped = Scraped { scraper: &scraper, targets: &targets };
                    self.settle(done, &mut batch, &mut missed, &scraped).await;
                }
                changed = plan.changed() => if changed.is_ok() {
                    (followed, targets) = self.take_targets(&scraper, &mut plan).await;
                    age = batch_age(&targets);
                    // A source that has ended does not live again by a row that waited.
                    batch.retain(|row| targets.contains_key(&row.source));
                },
                () = wait_until(&mut draining), if !drained => {
                    scraper.drain();
                    // The scrapes under way still come out; the channel then ends.
                    while let Some(output) = self.counted(outputs.recv().await) {
                        match output {
                            ScraperOutput::Outcome(outcome) => batch.push(now, outcome.rows),
                            ScraperOutput::Missed(slots) => missed.push(missed_slots(&slots, &targets)),
                        }
                    }
                    drained = true;
                }
                () = sleep(patience) => {}
            }
            if ports.clock.monotonic() >= upkeep.next {
                self.keep_up(&mut upkeep, &followed, &targets).await;
            }
        }
    }

    /// Counts what comes out of a scraper.
    fn counted(&self, output: Option<ScraperOutput>) -> Option<ScraperOutput> {
        if let Some(ScraperOutput::Outcome(outcome)) = &output {
            self.node.scrapes.count(outcome);
        }
        output
    }

    /// A leader that takes up duties first reads meta up to date, so that it does not scrape by old targets.
    async fn wait_for_meta(&self) {
        loop {
            let read = self.node.raft.read_index(&[ShardId::META], COMMAND_PATIENCE).await;
            match read.map(|indexes| indexes.get(&ShardId::META).copied()) {
                Ok(Some(index))
                    if self.node.raft.wait_applied(ShardId::META, index, COMMAND_PATIENCE).await =>
                {
                    break;
                }
                Ok(_) => {}
                Err(error) => tracing::warn!(shard = %self.shard, %error, "duties wait for meta"),
            }
        }
        // The plan follows meta within an instant; it must not be older than what was just read.
        let version = self.node.meta.state().config_version();
        let mut plan = self.node.plan.subscribe();
        let _never_closed = plan.wait_for(|plan| plan.version >= version).await.is_ok();
    }

    /// Waits until this node knows the time: a leader with a wrong clock would take slots for ever that have not
    /// come yet.
    async fn wait_for_time(&self) {
        while timeout(COMPLAINT_INTERVAL, self.node.duty_clock.wait_known()).await.is_err() {
            tracing::error!(
                shard = %self.shard,
                "duties wait for the time: no majority of the nodes' clocks agrees, and no node that is heard knows \
                 better; check their time synchronisation"
            );
        }
    }

    /// Gives the scraper its targets, ends sources whose target is gone, and puts the configuration's settings into
    /// the shard. Yields the plan that it follows, and its targets by source.
    async fn take_targets(
        &self,
        scraper: &Scraper,
        plan: &mut watch::Receiver<Arc<super::TargetPlan>>,
    ) -> (Arc<super::TargetPlan>, Targets) {
        let plan = plan.borrow_and_update().clone();
        let targets: Targets =
            plan.targets(self.shard).iter().map(|target| (target.source.clone(), target.clone())).collect();
        // A slot that an earlier leader began late bears a later time than its own, and the next one must come after it.
        // What a target says of times to come does not count.
        let now = self.node.duty_clock.now();
        let assignments = targets.values().map(|target| Assignment {
            target: target.clone(),
            last_slot: self.replica.last_slot(&target.source),
            last_timestamp: self.replica.newest(&target.source).filter(|newest| *newest <= now),
        });
        scraper.set_targets(assignments.collect());
        self.put_settings(&plan).await;
        self.end_sources(&plan, &targets).await;
        (plan, targets)
    }

    async fn put_settings(&self, plan: &super::TargetPlan) {
        if !plan.is_usable {
            return; // what this node cannot read it must not translate
        }
        let settings = settings(&self.node, plan);
        let in_force = self.replica.settings();
        if in_force == settings || in_force.version > settings.version {
            return;
        }
        self.command(DataCommand::Settings(settings)).await;
    }

    /// Ends the sources whose target is gone. One whose first row was still under way, or whose end found no room in
    /// the log, is ended at the next look.
    async fn end_sources(&self, plan: &super::TargetPlan, targets: &Targets) {
        if !plan.is_usable || plan.version == ConfigVersion(0) {
            return;
        }
        let at = self.node.duty_clock.now();
        let end = |source| DataCommand::EndSource { term: Some(self.term), source, at };
        let commands: Vec<_> = gone(self.replica.live_sources(), targets).map(end).collect();
        // One first: where there is no room, or no majority, the others would fare no better.
        let (first, others) = commands.split_at(commands.len().min(1));
        for some in std::iter::once(first).chain(others.chunks(COMMANDS_MAX)) {
            let ended = some.iter().map(|command| self.command(command.clone()));
            if futures::future::join_all(ended).await.contains(&false) {
                return;
            }
        }
    }

    /// Proposes what is due of the batch as one segment; whether anything was. A row waits while an earlier slot of
    /// its source is still to be recorded as missed, because slots are taken in order.
    fn propose(
        &self,
        batch: &mut Batch,
        missed: &mut Missed,
        scraped: &Scraped<'_>,
        encoder: &mut RowEncoder,
        settle: &mpsc::Sender<Settled>,
    ) -> bool {
        model::point!("duty.outcome.begin");
        let mut segment = SegmentBuilder::new(self.node.duty_clock.now(), Some(self.term));
        let bytes_max = self.node.command_bytes_max();
        let since = batch.since().unwrap_or_default();
        let mut rows: Vec<Row> = Vec::new();
        let mut held: Vec<Row> = Vec::new();
        let mut introduced = false;
        let mut pass = encoder.begin();
        while let Some(row) = batch.pop() {
            if missed.holds(&row) {
                held.push(row);
                continue;
            }
            match segment.push(&mut pass, &self.replica, &row, bytes_max) {
                Ok(Pushed::At(_)) => rows.push(row),
                Ok(Pushed::Full) => {
                    held.push(row);
                    break;
                }
                // By itself, in the next segment.
                Err(_) if !rows.is_empty() => {
                    held.push(row);
                    break;
                }
                Err(_) if segment.introduce(&mut pass, &self.replica, &row, bytes_max) > 0 => {
                    rows.push(row);
                    introduced = true;
                    break;
                }
                Err(error) => {
                    let failed = self.fail(&row, &error.to_string(), scraped, missed);
                    batch.put_back(since, failed.into_iter());
                }
            }
        }
        batch.put_back(since, held.into_iter());
        if rows.is_empty() {
            return false;
        }
        let command = segment.finish().encode();
        let (node, shard, term, settle) = (self.node.clone(), self.shard, self.term, settle.clone());
        self.node.spawn("propose", async move {
            let outcome =
                node.propose_here(shard, Some(term), command).await.and_then(|answer| results(&answer));
            let _gone_with_its_duty = settle.send(Settled { rows, introduced, outcome }).await;
        });
        true
    }

    /// Looks at what became of a segment. What was certainly not applied comes back to the front of the batch.
    async fn settle(&self, settled: Settled, batch: &mut Batch, missed: &mut Missed, scraped: &Scraped<'_>) {
        model::point!("duty.outcome.settled");
        let now = self.node.ports.clock.monotonic();
        let mut again = Vec::new();
        match settled.outcome {
            Ok(results) => {
                for (row, result) in settled.rows.into_iter().zip(results) {
                    match result.refused {
                        Some(Refusal::UnknownLayout { .. } | Refusal::UnknownSource) => again.push(row),
                        Some(refusal) => {
                            tracing::debug!(shard = %self.shard, source = ?row.source, %refusal, "row refused");
                        }
                        None if !settled.introduced => {}
                        None if result.rejected.is_empty() => again.push(row),
                        None => {
                            let error = result.first_rejected.unwrap_or_default();
                            again.extend(self.fail(&row, &error, scraped, missed));
                        }
                    }
                }
            }
            Err(ProposeError::Refused { reason, .. }) => {
                tracing::warn!(shard = %self.shard, reason, "segment refused; it is proposed again");
                again = settled.rows;
                sleep(PAUSE).await;
            }
            Err(ProposeError::Unknown { reason }) => {
                tracing::warn!(shard = %self.shard, reason, "outcome of a segment unknown");
                let lost =
                    settled.rows.iter().filter_map(|row| lost_slot(row, scraped.targets, "outcome unknown"));
                missed.extend(lost);
            }
        }
        batch.put_back(now.saturating_sub(BATCH_AGE_MAX), again.into_iter());
        self.shed(batch, missed, scraped.targets);
    }

    /// The scrape of a row that fits into no entry fails after all; yields the row that says so, where it is not a
    /// piece.
    fn fail(&self, row: &Row, error: &str, scraped: &Scraped<'_>, missed: &mut Missed) -> Option<Row> {
        tracing::warn!(shard = %self.shard, source = ?row.source, error, "scrape left out");
        let RowKind::Whole { slot } = row.kind else {
            self.node.scraped_rows_dropped.fetch_add(1, Ordering::Relaxed);
            return None;
        };
        scraped.scraper.fail(&row.source, slot, error.to_owned());
        let failed = failed_row(row);
        if failed.cells.len() < row.cells.len() {
            return Some(failed);
        }
        missed.extend(lost_slot(row, scraped.targets, "scrape too large for an entry of the log"));
        None
    }

    /// Keeps the batch within its bound: what is too much becomes missed slots.
    fn shed(&self, batch: &mut Batch, missed: &mut Missed, targets: &Targets) {
        for row in batch.shed() {
            let lost = lost_slot(&row, targets, "entries could not be committed");
            if lost.is_none() {
                self.node.scraped_rows_dropped.fetch_add(1, Ordering::Relaxed);
            }
            missed.extend(lost);
        }
    }

    /// Records what may be recorded, until nothing is left that may or something is refused.
    async fn record_ready(&self, missed: &mut Missed, batch: &Batch) {
        loop {
            let ready = missed.take_ready(batch.rows());
            if ready.is_empty() {
                return;
            }
            let left = self.record_missed(ready).await;
            if !left.is_empty() {
                return missed.extend(left);
            }
        }
    }

    /// Records missed slots; yields those of which no record is certain. A leader may be refused for a moment and
    /// lead on: a hole that nobody recorded would stay one.
    async fn record_missed(&self, missed: Vec<Range>) -> Vec<Range> {
        model::point!("duty.missed.begin");
        let mut left = Vec::new();
        // One first: where there is no room, or no majority, the others would fare no better.
        let (first, others) = missed.split_at(missed.len().min(1));
        for some in std::iter::once(first).chain(others.chunks(COMMANDS_MAX)) {
            if !left.is_empty() {
                left.extend_from_slice(some);
                continue;
            }
            let commands = some.iter().map(|(source, slots)| {
                let (source, slots) = (source.clone(), slots.clone());
                self.command(DataCommand::Missed { term: Some(self.term), source, slots })
            });
            let answered = futures::future::join_all(commands).await;
            left.extend(
                some.iter().zip(answered).filter(|(_, answered)| !answered).map(|(slots, _)| slots.clone()),
            );
        }
        if !left.is_empty() {
            sleep(PAUSE).await;
        }
        left
    }

    /// Proposes one command in this term and reads the answer; logs what went wrong. Whether there was an answer: if
    /// not, it is tried again at the next occasion where that matters (settings, ends, cutoffs, missed slots).
    async fn command(&self, command: DataCommand) -> bool {
        let proposal = self.node.propose_here(self.shard, Some(self.term), command.encode());
        let outcome = timeout(COMMAND_PATIENCE, proposal).await;
        match outcome {
            Ok(Ok(answer)) => match DataResponse::decode(&answer) {
                Ok(DataResponse::Refused(refusal)) => {
                    tracing::debug!(shard = %self.shard, %refusal, "command refused");
                }
                Ok(_) => {}
                Err(error) => tracing::error!(shard = %self.shard, %error, "answer of apply"),
            },
            Ok(Err(error)) => {
                tracing::warn!(shard = %self.shard, %error, "command not committed");
                return false;
            }
            Err(_) => {
                tracing::warn!(shard = %self.shard, "command not committed in time");
                return false;
            }
        }
        true
    }

    /// Settings, ends of sources, checkpoints, retention.
    async fn keep_up(&self, upkeep: &mut Upkeep, plan: &super::TargetPlan, targets: &Targets) {
        let now = self.node.ports.clock.monotonic();
        upkeep.next = now + UPKEEP_INTERVAL;
        self.put_settings(plan).await;
        self.end_sources(plan, targets).await;
        let shards = u64::from(self.node.meta.state().shards) + 1;
        let tuning = self.node.ports.tuning;
        let bytes_max = tuning.checkpoint_bytes.min(self.node.options.log_size / (4 * shards));
        let bytes = self.node.proposed.since_checkpoint(self.shard);
        let applied = self.node.raft.progress(self.shard);
        let anything = applied.is_some_and(|progress| progress.applied > progress.checkpointed);
        let old = now.saturating_sub(upkeep.checkpointed) >= tuning.checkpoint_interval && anything;
        if bytes >= bytes_max || old {
            model::point!("duty.checkpoint");
            if self.command(DataCommand::Checkpoint { time: self.node.duty_clock.now() }).await {
                upkeep.checkpointed = now;
                self.node.proposed.take_off(self.shard, bytes);
            }
        }
        if now.saturating_sub(upkeep.retained) >= RETAIN_INTERVAL {
            upkeep.retained = now;
            if plan.is_usable
                && let Some(time) = self.retention_time()
                && let Some(cutoff) = self.replica.retention_cutoff(time, &self.node.data_shards())
            {
                self.command(DataCommand::Retain { cutoff }).await;
            }
        }
    }

    /// The time that retention goes by: the older of cluster time and our own clock, so that one wrong clock deletes
    /// nothing; none while fewer than a majority of clocks are heard.
    fn retention_time(&self) -> Option<TimestampMs> {
        let now = self.node.ports.clock.now();
        if !self.node.options.clustered {
            return Some(now);
        }
        self.node.raft.cluster_time().at(now).map(|cluster| cluster.min(now))
    }
}

/// The scraped sources among `live` that have no target any more.
fn gone(live: Vec<Arc<SourceKey>>, targets: &Targets) -> impl Iterator<Item = Arc<SourceKey>> {
    let is_gone = |source: &Arc<SourceKey>| {
        matches!(**source, SourceKey::Scrape { .. }) && !targets.contains_key(source)
    };
    live.into_iter().filter(is_gone)
}

/// The slot of a whole row that will not be applied.
fn lost_slot(row: &Row, targets: &Targets, reason: &str) -> Option<Range> {
    let RowKind::Whole { slot } = row.kind else { return None };
    let interval = targets.get(&row.source).map_or(DurationMs(1), |target| target.interval);
    Some((row.source.clone(), MissedSlots { from: slot, to: slot, interval, reason: reason.to_owned() }))
}

/// Slots that the schedule passed over.
fn missed_slots(slots: &scrape::schedule::MissedSlots, targets: &Targets) -> Range {
    // A target that is gone has no interval any more, but the range knows how many slots it is.
    let span = slots.to.since(slots.from).0;
    let interval = match targets.get(&slots.source) {
        Some(target) => target.interval,
        None => DurationMs(span.checked_div(slots.slots.saturating_sub(1)).unwrap_or(1).max(1)),
    };
    let reason = slots.reason.as_str().to_owned();
    (slots.source.clone(), MissedSlots { from: slots.from, to: slots.to, interval, reason })
}

/// How long outcomes wait for others at most.
fn batch_age(targets: &Targets) -> Duration {
    let shortest = targets.values().map(|target| target.interval.0).min().unwrap_or(0);
    (Duration::from_millis(shortest) / BATCH_SHARE).clamp(BATCH_AGE_MIN, BATCH_AGE_MAX)
}

/// Waits until the node drains; its guard does not outlive the wait.
async fn wait_until(draining: &mut watch::Receiver<bool>) {
    let _never_closed = draining.wait_for(|draining| *draining).await.is_ok();
}

/// When what was last done.
struct Upkeep {
    next: Duration,
    checkpointed: Duration,
    retained: Duration,
}

impl Upkeep {
    fn new(now: Duration) -> Upkeep {
        Upkeep { next: now + UPKEEP_INTERVAL, checkpointed: now, retained: now }
    }
}

/// What became of each row.
fn results(answer: &Bytes) -> Result<Vec<RowResult>, ProposeError> {
    let unknown = |reason: String| ProposeError::Unknown { reason };
    match DataResponse::decode(answer).map_err(|error| unknown(error.to_string()))? {
        DataResponse::Rows(rows) => Ok(rows),
        DataResponse::Refused(refusal) => Err(unknown(refusal.to_string())),
        DataResponse::Applied => Err(unknown("apply answered a segment without rows".to_owned())),
    }
}

/// What apply needs of the configuration in force.
fn settings(node: &Node, plan: &super::TargetPlan) -> ShardSettings {
    let config = plan.config.as_ref();
    let flag_time = DurationMs(u64::try_from(node.options.retention_time.as_millis()).unwrap_or(u64::MAX));
    let size = config.and_then(|config| config.retention_size).unwrap_or(node.options.retention_size);
    ShardSettings {
        version: plan.version,
        out_of_order_window: config.map_or(DurationMs(0), |config| config.out_of_order_time_window),
        retention_time: config.and_then(|config| config.retention_time).unwrap_or(flag_time),
        retention_bytes: size,
        ..ShardSettings::default()
    }
}

/// Jobs whose targets have sources in some shard: for the targets page.
pub(crate) fn jobs(plan: &super::TargetPlan) -> BTreeSet<String> {
    let configs = plan.config.iter().flat_map(|config| &config.scrape_configs);
    configs.map(|scrape| scrape.job_name.clone()).collect()
}
