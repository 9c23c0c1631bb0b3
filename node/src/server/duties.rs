//! The duties of a data shard's leader: scrape its targets and commit the outcomes, keep its settings, checkpoints
//! and retention up to date.
//!
//! ```text
//!  leader in term T ─▶ meta up to date ─▶ Scraper(T) ─outcomes─▶ Batch ─one entry at a time─▶ log of the shard
//! ```
//!
//! Invariants: everything proposed here carries the term in which the duty began, so nothing of a deposed leader
//! enters; one segment of a shard is under way at a time, so a source's slots are applied in order; a segment whose
//! outcome is not known is not proposed again: its slots are recorded as missed, unless they were applied.

use super::Node;
use bytes::Bytes;
use model::{ConfigVersion, DurationMs, ProposeError, Row, RowKind, ShardId, SourceKey, Term, TimestampMs};
use scrape::{Scraper, ScraperOptions, ScraperOutput, ScraperPorts, schedule::Assignment, target::Target};
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};
use storage::shard::{
    DataCommand, DataResponse, DataShard, MissedSlots, Pushed, Refusal, RowEncoder, SegmentBuilder,
    ShardSettings,
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
/// A segment is proposed before its time when about so many samples wait.
const BATCH_SAMPLES_MAX: usize = 100_000;
/// Rows that wait at most while entries cannot be committed; the oldest become missed slots.
const WAITING_ROWS_MAX: usize = 4_096;
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

/// Slots to be recorded as missed.
type Missed = Vec<(Arc<SourceKey>, MissedSlots)>;

/// Whether a row's slot comes before missed slots of its source.
fn is_before(row: &Row, slots: &MissedSlots) -> bool {
    matches!(row.kind, RowKind::Whole { slot } if slot < slots.from)
}

/// Whether a row's slot comes after the first of missed slots of its source.
fn is_behind(row: &Row, slots: &MissedSlots) -> bool {
    matches!(row.kind, RowKind::Whole { slot } if slot > slots.from)
}

/// Rows on their way into the log.
#[derive(Debug, Default)]
struct Batch {
    rows: VecDeque<Row>,
    samples: usize,
    /// When the oldest came, monotonic.
    since: Option<Duration>,
}

impl Batch {
    fn push(&mut self, now: Duration, rows: Vec<Row>) {
        self.samples += rows.iter().map(|row| row.cells.len()).sum::<usize>();
        self.since.get_or_insert(now);
        self.rows.extend(rows);
    }

    /// When it is to be proposed: at the next multiple of `age` on the monotonic clock, so that the shards led here
    /// propose at once and share messages and syncs.
    fn due(&self, age: Duration) -> Option<Duration> {
        let since = self.since?;
        if self.samples >= BATCH_SAMPLES_MAX {
            return Some(since);
        }
        let ticks = since.as_nanos() / age.as_nanos() + 1;
        Some(Duration::from_nanos(u64::try_from(ticks * age.as_nanos()).unwrap_or(u64::MAX)))
    }
}

/// What became of a proposed segment.
struct Settled {
    rows: Vec<Row>,
    outcome: Result<Vec<Option<Refusal>>, ProposeError>,
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
        let busy = Busy::new(&self.node.draining.busy);
        self.wait_for_meta().await;
        let ports = &self.node.ports;
        let scraper_ports = ScraperPorts {
            clock: ports.clock.clone(),
            net: ports.net.clone(),
            fs: ports.fs.clone(),
            spawner: ports.spawner.clone(),
        };
        let (scraper, mut outputs) = Scraper::start(scraper_ports, ScraperOptions::default(), self.term);
        let scraper = Arc::new(scraper);
        self.node.set_scraper(self.shard, Some(scraper.clone()));
        let mut plan = self.node.plan.subscribe();
        let mut targets = self.take_targets(&scraper, &mut plan).await;
        let mut age = batch_age(&targets);
        let mut draining = self.node.draining.draining.subscribe();
        let mut drained = false;
        let mut batch = Batch::default();
        let mut encoder = RowEncoder::new();
        let mut missed = Missed::new();
        let mut upkeep = Upkeep::new(ports.clock.monotonic());
        let (settle, mut settled) = mpsc::channel::<Settled>(1);
        let mut under_way = false;
        loop {
            let now = ports.clock.monotonic();
            if !under_way && !missed.is_empty() {
                // Only those that no waiting row of their source precedes; the others come after it.
                let waits = |(source, slots): &(Arc<SourceKey>, MissedSlots)| {
                    batch.rows.iter().any(|row| row.source == *source && is_before(row, slots))
                };
                let (later, ready) = std::mem::take(&mut missed).into_iter().partition(waits);
                missed = later;
                missed.extend(self.record_missed(ready).await);
            }
            if !under_way && batch.due(age).is_some_and(|due| due <= now || drained) {
                under_way = self.propose(&mut batch, &mut missed, &mut encoder, &settle);
            }
            if drained && !under_way && batch.rows.is_empty() && missed.is_empty() {
                drop(busy);
                return std::future::pending().await; // the leadership is handed over now
            }
            let next = [batch.due(age).filter(|_| !under_way), Some(upkeep.next)].into_iter().flatten().min();
            let patience = next.map_or(UPKEEP_INTERVAL, |next| next.saturating_sub(now));
            tokio::select! {
                output = outputs.recv(), if !drained => match output {
                    Some(ScraperOutput::Outcome(outcome)) if !targets.contains_key(&outcome.source) => {}
                    Some(ScraperOutput::Outcome(outcome)) => {
                        batch.push(now, outcome.rows);
                        self.shed(&mut batch, &mut missed);
                    }
                    Some(ScraperOutput::Missed(slots)) => missed.push(self.missed_slots(&slots, &targets)),
                    None => drained = true,
                },
                Some(done) = settled.recv() => {
                    under_way = false;
                    self.settle(done, &mut batch, &mut missed).await;
                }
                changed = plan.changed() => if changed.is_ok() {
                    targets = self.take_targets(&scraper, &mut plan).await;
                    age = batch_age(&targets);
                    // A source that has ended does not live again by a row that waited.
                    batch.rows.retain(|row| targets.contains_key(&row.source));
                },
                () = wait_until(&mut draining), if !drained => {
                    scraper.drain();
                    // The scrapes under way still come out; the channel then ends.
                    while let Some(output) = outputs.recv().await {
                        match output {
                            ScraperOutput::Outcome(outcome) => batch.push(now, outcome.rows),
                            ScraperOutput::Missed(slots) => missed.push(self.missed_slots(&slots, &targets)),
                        }
                    }
                    drained = true;
                }
                () = sleep(patience) => {}
            }
            if ports.clock.monotonic() >= upkeep.next {
                self.keep_up(&mut upkeep).await;
            }
        }
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

    /// Gives the scraper its targets, ends sources whose target is gone, and puts the configuration's settings into
    /// the shard. Yields the targets by source.
    async fn take_targets(
        &self,
        scraper: &Scraper,
        plan: &mut watch::Receiver<Arc<super::TargetPlan>>,
    ) -> BTreeMap<Arc<SourceKey>, Arc<Target>> {
        let plan = plan.borrow_and_update().clone();
        let targets: BTreeMap<_, _> =
            plan.targets(self.shard).iter().map(|target| (target.source.clone(), target.clone())).collect();
        let assignments = targets.values().map(|target| Assignment {
            target: target.clone(),
            last_slot: self.replica.last_slot(&target.source),
            last_timestamp: None,
        });
        scraper.set_targets(assignments.collect());
        self.put_settings(&plan).await;
        if plan.is_usable && plan.version > ConfigVersion(0) {
            self.end_sources(&targets).await;
        }
        targets
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

    async fn end_sources(&self, targets: &BTreeMap<Arc<SourceKey>, Arc<Target>>) {
        let gone =
            self.replica.live_sources().into_iter().filter(|source| {
                matches!(**source, SourceKey::Scrape { .. }) && !targets.contains_key(source)
            });
        let at = self.node.ports.clock.now();
        let commands = gone
            .map(|source| DataCommand::EndSource { term: Some(self.term), source, at })
            .collect::<Vec<_>>();
        self.commands(commands).await;
    }

    /// Proposes what is due of the batch as one segment; whether anything was. A row waits while an earlier slot of
    /// its source is still to be recorded as missed, because slots are taken in order.
    fn propose(
        &self,
        batch: &mut Batch,
        missed: &mut Missed,
        encoder: &mut RowEncoder,
        settle: &mpsc::Sender<Settled>,
    ) -> bool {
        model::point!("duty.outcome.begin");
        let mut segment = SegmentBuilder::new(self.node.ports.clock.now(), Some(self.term));
        let bytes_max = self.node.command_bytes_max();
        let mut rows: Vec<Row> = Vec::new();
        let mut held = VecDeque::new();
        while let Some(row) = batch.rows.pop_front() {
            if missed.iter().any(|(source, slots)| *source == row.source && is_behind(&row, slots)) {
                held.push_back(row);
                continue;
            }
            match segment.push(encoder, &self.replica, &row, bytes_max) {
                Ok(Pushed::At(_)) => {
                    batch.samples -= row.cells.len().min(batch.samples);
                    rows.push(row);
                }
                Ok(Pushed::Full) => {
                    batch.rows.push_front(row);
                    break;
                }
                Err(error) => {
                    batch.samples -= row.cells.len().min(batch.samples);
                    tracing::warn!(shard = %self.shard, source = ?row.source, %error, "scrape left out");
                    missed.extend(self.lost_slot(&row, "scrape too large for an entry of the log"));
                }
            }
        }
        for row in held.into_iter().rev() {
            batch.rows.push_front(row);
        }
        if batch.rows.is_empty() {
            batch.since = None;
        }
        if rows.is_empty() {
            return false;
        }
        let command = segment.finish().encode();
        let (node, shard, term, settle) = (self.node.clone(), self.shard, self.term, settle.clone());
        self.node.spawn("propose", async move {
            let outcome =
                node.propose_here(shard, Some(term), command).await.and_then(|answer| results(&answer));
            let _gone_with_its_duty = settle.send(Settled { rows, outcome }).await;
        });
        true
    }

    /// Looks at what became of a segment. What was certainly not applied comes back to the front of the batch.
    async fn settle(&self, settled: Settled, batch: &mut Batch, missed: &mut Missed) {
        model::point!("duty.outcome.settled");
        let now = self.node.ports.clock.monotonic();
        let mut again = Vec::new();
        match settled.outcome {
            Ok(refusals) => {
                for (row, refusal) in settled.rows.into_iter().zip(refusals) {
                    match refusal {
                        Some(Refusal::UnknownLayout { .. } | Refusal::UnknownSource) => again.push(row),
                        Some(refusal) => {
                            tracing::debug!(shard = %self.shard, source = ?row.source, %refusal, "row refused");
                        }
                        None => {}
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
                let lost = settled.rows.iter().filter_map(|row| self.lost_slot(row, "outcome unknown"));
                missed.extend(lost);
            }
        }
        if !again.is_empty() {
            batch.samples += again.iter().map(|row| row.cells.len()).sum::<usize>();
            batch.since = Some(now.saturating_sub(BATCH_AGE_MAX));
            for row in again.into_iter().rev() {
                batch.rows.push_front(row);
            }
        }
        self.shed(batch, missed);
    }

    /// Keeps the batch within its bound: the oldest rows become missed slots.
    fn shed(&self, batch: &mut Batch, missed: &mut Missed) {
        while batch.rows.len() > WAITING_ROWS_MAX {
            if let Some(row) = batch.rows.pop_front() {
                batch.samples -= row.cells.len().min(batch.samples);
                missed.extend(self.lost_slot(&row, "entries could not be committed"));
            }
        }
    }

    /// The slot of a whole row that will not be applied.
    fn lost_slot(&self, row: &Row, reason: &str) -> Option<(Arc<SourceKey>, MissedSlots)> {
        let RowKind::Whole { slot } = row.kind else { return None };
        // One slot: whatever the interval, it counts once.
        let interval = DurationMs(1);
        Some((row.source.clone(), MissedSlots { from: slot, to: slot, interval, reason: reason.to_owned() }))
    }

    fn missed_slots(
        &self,
        slots: &scrape::schedule::MissedSlots,
        targets: &BTreeMap<Arc<SourceKey>, Arc<Target>>,
    ) -> (Arc<SourceKey>, MissedSlots) {
        let interval = targets.get(&slots.source).map_or(DurationMs(1), |target| target.interval);
        let reason = slots.reason.as_str().to_owned();
        (slots.source.clone(), MissedSlots { from: slots.from, to: slots.to, interval, reason })
    }

    /// Records missed slots; yields those of which no record is certain. A leader may be refused for a moment and
    /// lead on: a hole that nobody recorded would stay one.
    async fn record_missed(&self, missed: Missed) -> Missed {
        model::point!("duty.missed.begin");
        let mut left = Missed::new();
        for some in missed.chunks(COMMANDS_MAX) {
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

    /// Proposes commands side by side, in bounded numbers: their entries share round trips and syncs.
    async fn commands(&self, commands: Vec<DataCommand>) {
        for some in commands.chunks(COMMANDS_MAX) {
            futures::future::join_all(some.iter().map(|command| self.command(command.clone()))).await;
        }
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

    /// Settings, checkpoints, retention.
    async fn keep_up(&self, upkeep: &mut Upkeep) {
        let now = self.node.ports.clock.monotonic();
        upkeep.next = now + UPKEEP_INTERVAL;
        let plan = self.node.plan.borrow().clone();
        self.put_settings(&plan).await;
        let shards = u64::from(self.node.meta.state().shards) + 1;
        let tuning = self.node.ports.tuning;
        let bytes_max = tuning.checkpoint_bytes.min(self.node.options.log_size / (4 * shards));
        let bytes = self.node.proposed.since_checkpoint(self.shard);
        let applied = self.node.raft.progress(self.shard);
        let anything = applied.is_some_and(|progress| progress.applied > progress.checkpointed);
        let old = now.saturating_sub(upkeep.checkpointed) >= tuning.checkpoint_interval && anything;
        if bytes >= bytes_max || old {
            upkeep.checkpointed = now;
            self.node.proposed.reset(self.shard);
            model::point!("duty.checkpoint");
            self.command(DataCommand::Checkpoint { time: self.node.ports.clock.now() }).await;
        }
        if now.saturating_sub(upkeep.retained) >= RETAIN_INTERVAL {
            upkeep.retained = now;
            if plan.is_usable
                && let Some(cutoff) =
                    self.retention_time().and_then(|time| self.replica.retention_cutoff(time))
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

/// How long outcomes wait for others at most.
fn batch_age(targets: &BTreeMap<Arc<SourceKey>, Arc<Target>>) -> Duration {
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

/// The refusal of each row, if it was refused.
fn results(answer: &Bytes) -> Result<Vec<Option<Refusal>>, ProposeError> {
    let unknown = |reason: String| ProposeError::Unknown { reason };
    match DataResponse::decode(answer).map_err(|error| unknown(error.to_string()))? {
        DataResponse::Rows(rows) => Ok(rows.into_iter().map(|row| row.refused).collect()),
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
        retention_bytes: size / u64::from(node.meta.state().shards.max(1)),
        ..ShardSettings::default()
    }
}

/// Jobs whose targets have sources in some shard: for the targets page.
pub(crate) fn jobs(plan: &super::TargetPlan) -> BTreeSet<String> {
    let configs = plan.config.iter().flat_map(|config| &config.scrape_configs);
    configs.map(|scrape| scrape.job_name.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_of_all_shards_are_due_at_the_same_ticks() {
        let age = Duration::from_millis(500);
        let due = |since: u64| {
            let batch = Batch { since: Some(Duration::from_millis(since)), ..Batch::default() };
            batch.due(age).expect("something waits")
        };
        assert_eq!(due(10_001), Duration::from_millis(10_500));
        assert_eq!(due(10_499), Duration::from_millis(10_500));
        assert_eq!(due(10_500), Duration::from_millis(11_000));
        assert_eq!(Batch::default().due(age), None);
        let since = Some(Duration::from_millis(10_001));
        let full = Batch { since, samples: BATCH_SAMPLES_MAX, ..Batch::default() };
        assert_eq!(full.due(age), since);
    }
}
