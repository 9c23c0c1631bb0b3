//! Remote writes: series to rows of their sources, rows to segments, segments to the leaders of their shards.
//!
//! Rows are encoded on the node that received them, against the layouts that it has applied, and travel encoded.
//! A source keeps one series table across requests, so a steady writer's labels are hashed once per sample and sent
//! once per series.

use super::Node;
use api::ports::{Refusal, WriteError, WriteOutcome, WriteRequest, WriteSink};
use futures::future::join_all;
use model::{
    BoxFuture, Labels, Row, RowKind, SeriesTable, ShardId, SlotId, SourceKey, TimestampMs, shard_of,
};
use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use storage::shard::{DataResponse, Pushed, Rejection, RowEncoder, RowResult, SegmentBuilder};

/// How long a write may take before the sender is told to come back.
const PATIENCE: Duration = Duration::from_secs(5);
/// What `Retry-After` says.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// Attempts at a row whose layout changed meanwhile.
const ENCODINGS_MAX: usize = 4;
/// Series remembered over all sources; beyond it all are forgotten and met anew.
const SERIES_MAX: usize = 4_000_000;
/// Tables of this kind have identities from here on; those of scrapes lie below.
const TABLE_IDENTITY_MIN: u64 = 1 << 62;

/// Between two looks at which of them are still written.
const SWEEP_INTERVAL: Duration = Duration::from_secs(3600);

/// What is remembered of one remote-write source.
#[derive(Debug)]
struct Source {
    key: Arc<SourceKey>,
    shard: ShardId,
    table: Arc<SeriesTable>,
    slots: HashMap<Labels, SlotId>,
    /// By slot, whether it was written since the last sweep, and how many were.
    written: (Vec<bool>, usize),
}

impl Source {
    fn new(key: SourceKey, shard: ShardId, identity: u64) -> Source {
        let table = Arc::new(SeriesTable::new(identity));
        Source { key: Arc::new(key), shard, table, slots: HashMap::new(), written: (Vec::new(), 0) }
    }

    /// The slot of a series, which is written now.
    fn slot(&mut self, labels: &Labels) -> SlotId {
        let slot = match self.slots.get(labels) {
            Some(slot) => *slot,
            None => {
                let slot = self.table.push(labels.clone());
                self.slots.insert(labels.clone(), slot);
                self.written.0.push(false);
                slot
            }
        };
        let was_written = &mut self.written.0[slot as usize];
        self.written.1 += usize::from(!*was_written);
        *was_written = true;
        slot
    }
}

#[derive(Debug, Default)]
struct Sources {
    by_job: HashMap<(String, String), Source>,
    series: usize,
    /// When the last sweep was.
    swept: Duration,
}

impl Sources {
    /// Forgets sources that are no longer written, and begins the table of one anew of which most series are not: series
    /// come and go, and a table only grows.
    fn sweep(&mut self, now: Duration, mut identity: impl FnMut() -> u64) {
        if now < self.swept + SWEEP_INTERVAL {
            return;
        }
        self.swept = now;
        self.by_job.retain(|_, source| source.written.1 > 0);
        for source in self.by_job.values_mut() {
            if source.written.1 * 2 < source.slots.len() {
                source.table = Arc::new(SeriesTable::new(identity()));
                source.slots.clear();
                source.written.0.clear();
            }
            source.written.0.fill(false);
            source.written.1 = 0;
        }
        self.series = self.by_job.values().map(|source| source.slots.len()).sum();
    }
}

/// Takes remote writes.
pub(crate) struct Writes {
    node: Arc<Node>,
    sources: Mutex<Sources>,
    encoders: Mutex<BTreeMap<ShardId, Arc<Mutex<RowEncoder>>>>,
    identities: AtomicU64,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Writes {
    pub(crate) fn new(node: Arc<Node>) -> Writes {
        Writes {
            node,
            sources: Mutex::default(),
            encoders: Mutex::default(),
            identities: AtomicU64::new(TABLE_IDENTITY_MIN),
        }
    }

    /// The request as rows by shard; the rows of one source and timestamp are one.
    fn rows(&self, request: &WriteRequest, shards: u32) -> BTreeMap<ShardId, Vec<Row>> {
        let mut sources = lock(&self.sources);
        let identity = || self.identities.fetch_add(1, Ordering::Relaxed);
        sources.sweep(self.node.ports.clock.monotonic(), identity);
        if sources.series > SERIES_MAX {
            *sources = Sources::default();
        }
        let mut rows: BTreeMap<(ShardId, Arc<SourceKey>), BTreeMap<TimestampMs, Row>> = BTreeMap::new();
        for (labels, samples) in request.iter() {
            let key = (labels.get("job").unwrap_or(""), labels.get("instance").unwrap_or(""));
            let key = (key.0.to_owned(), key.1.to_owned());
            let source = sources.by_job.entry(key).or_insert_with_key(|(job, instance)| {
                let key = SourceKey::RemoteWrite { job: job.clone(), instance: instance.clone() };
                Source::new(key, shard_of(job, instance, shards), identity())
            });
            let before = source.slots.len();
            let slot = source.slot(labels);
            let added = source.slots.len() - before;
            let (key, table) = (source.key.clone(), source.table.clone());
            let by_time = rows.entry((source.shard, key.clone())).or_default();
            for (timestamp, value) in samples {
                let row = by_time.entry(*timestamp).or_insert_with(|| Row {
                    source: key.clone(),
                    kind: RowKind::Partial,
                    timestamp: *timestamp,
                    table: table.clone(),
                    cells: Vec::new(),
                });
                row.cells.push((slot, value.clone()));
            }
            sources.series += added;
        }
        let mut by_shard: BTreeMap<ShardId, Vec<Row>> = BTreeMap::new();
        for ((shard, _), by_time) in rows {
            by_shard.entry(shard).or_default().extend(by_time.into_values().flat_map(split_doubles));
        }
        by_shard
    }

    fn encoder(&self, shard: ShardId) -> Arc<Mutex<RowEncoder>> {
        lock(&self.encoders).entry(shard).or_default().clone()
    }

    /// Writes the rows of one shard; a result for each, in order.
    async fn write_shard(&self, shard: ShardId, mut rows: Vec<Row>) -> Result<Vec<RowResult>, String> {
        let replica =
            self.node.shard(shard).ok_or_else(|| format!("shard {shard} is not open on this node yet"))?;
        let bytes_max = self.node.command_bytes_max();
        let mut done = Vec::with_capacity(rows.len());
        for _ in 0..ENCODINGS_MAX {
            let mut segments: Vec<(SegmentBuilder, Vec<Row>)> = Vec::new();
            {
                let encoder = self.encoder(shard);
                let mut encoder = lock(&encoder);
                let mut pass = encoder.begin();
                let new = || (SegmentBuilder::new(self.node.cluster_now(), None), Vec::new());
                for row in rows.drain(..) {
                    loop {
                        if segments.is_empty() {
                            segments.push(new());
                        }
                        let (segment, held) = segments.last_mut().expect("one was just pushed");
                        match segment.push(&mut pass, &replica, &row, bytes_max) {
                            Ok(Pushed::At(_)) => held.push(row),
                            Ok(Pushed::Full) => {
                                segments.push(new());
                                continue;
                            }
                            Err(_) => done.push(too_large(&row)),
                        }
                        break;
                    }
                }
            }
            // One after the other: a later segment that overtook would make the earlier one's samples out of order.
            for (segment, held) in segments.into_iter().filter(|(_, held)| !held.is_empty()) {
                let command = segment.finish().encode();
                model::point!("write.propose");
                let answer = self.node.propose_anywhere(shard, command, true, PATIENCE).await;
                model::point!("write.outcome");
                let answer = answer.map_err(|error| error.to_string())?;
                let results = match DataResponse::decode(&answer).map_err(|error| error.to_string())? {
                    DataResponse::Rows(results) if results.len() == held.len() => results,
                    other => return Err(format!("shard {shard} answered {other:?} to a segment")),
                };
                for (row, result) in held.into_iter().zip(results) {
                    match result.refused {
                        None => done.push(result),
                        // Encoded against a layout that changed on the way: certainly not applied.
                        Some(_) => rows.push(row),
                    }
                }
            }
            if rows.is_empty() {
                return Ok(done);
            }
        }
        Err(format!("the layouts of shard {shard} change faster than rows can be encoded"))
    }

    async fn write_all(&self, request: WriteRequest) -> Result<WriteOutcome, WriteError> {
        let unavailable = |reason: String| WriteError::Unavailable { reason, retry_after: RETRY_AFTER };
        if !self.node.health.are_shards_open() {
            return Err(unavailable(
                "this node is starting, or is not yet a member of its cluster".to_owned(),
            ));
        }
        let shards = self.node.meta.state().shards;
        let by_shard = self.rows(&request, shards);
        drop(request);
        let written = join_all(by_shard.into_iter().map(|(shard, rows)| self.write_shard(shard, rows))).await;
        let mut outcome = WriteOutcome::default();
        for results in written {
            for result in results.map_err(unavailable)? {
                outcome.accepted += u64::from(result.applied);
                for (rejection, count) in result.rejected {
                    *outcome.refused.entry(refusal(rejection)).or_default() += u64::from(count);
                }
                if outcome.first.is_none() {
                    outcome.first = result.first_rejected;
                }
            }
        }
        Ok(outcome)
    }
}

/// A request may say one series twice at one timestamp; a row has each slot once, so what is said again goes into
/// rows of its own, behind.
fn split_doubles(mut row: Row) -> Vec<Row> {
    row.cells.sort_by_key(|(slot, _)| *slot); // stable
    if row.cells.windows(2).all(|pair| pair[0].0 < pair[1].0) {
        return vec![row];
    }
    let mut rows: Vec<Row> = Vec::new();
    for (slot, value) in std::mem::take(&mut row.cells) {
        match rows.iter_mut().find(|r| r.cells.last().is_none_or(|(last, _)| *last < slot)) {
            Some(free) => free.cells.push((slot, value)),
            None => rows.push(Row { cells: vec![(slot, value)], ..row.clone() }),
        }
    }
    rows
}

/// The result of a row that fits into no entry of the log: for good, so the sender is told.
fn too_large(row: &Row) -> RowResult {
    let count = u32::try_from(row.cells.len()).unwrap_or(u32::MAX);
    let first = format!(
        "{} samples of one source and timestamp are too many for one entry; send less at once",
        count
    );
    RowResult {
        rejected: BTreeMap::from([(Rejection::TooManySeries, count)]),
        first_rejected: Some(first),
        ..RowResult::default()
    }
}

fn refusal(rejection: Rejection) -> Refusal {
    match rejection {
        Rejection::OutOfOrder => Refusal::OutOfOrder,
        Rejection::TooOld | Rejection::OutOfBounds => Refusal::TooOld,
        Rejection::Duplicate => Refusal::Duplicate,
        Rejection::TooFarAhead => Refusal::TooFarInFuture,
        Rejection::TooManySeries | Rejection::BadLabels => Refusal::LimitExceeded,
    }
}

impl WriteSink for Writes {
    fn write(&self, request: WriteRequest) -> BoxFuture<'_, Result<WriteOutcome, WriteError>> {
        Box::pin(self.write_all(request))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::Value;

    #[test]
    fn series_that_nobody_writes_any_more_are_forgotten() {
        let mut sources = Sources::default();
        let labels = |i: usize| Labels::from_pairs([("__name__", format!("s{i}"))]);
        let mut identities = 0..;
        for name in ["busy", "churning", "gone"] {
            let key = SourceKey::RemoteWrite { job: name.into(), instance: String::new() };
            let mut source = Source::new(key, ShardId(1), identities.next().unwrap());
            (0..10).for_each(|i| assert_eq!(source.slot(&labels(i)), i as SlotId));
            sources.by_job.insert((name.to_owned(), String::new()), source);
        }
        let mut at = |sources: &mut Sources, hours: u64| {
            sources.sweep(Duration::from_secs(hours * 3600), || identities.next().unwrap());
        };
        at(&mut sources, 1);
        assert_eq!(sources.series, 30, "all were written");
        let of = |name: &str| (name.to_owned(), String::new());
        for i in 0..5 {
            let _slot = sources.by_job.get_mut(&of("busy")).unwrap().slot(&labels(i));
        }
        for i in 0..4 {
            let _slot = sources.by_job.get_mut(&of("churning")).unwrap().slot(&labels(i));
        }
        at(&mut sources, 2);
        assert_eq!(sources.series, 10);
        let churning = sources.by_job.get_mut(&of("churning")).unwrap();
        assert_eq!((churning.table.identity(), churning.table.len()), (3, 0), "another table");
        assert_eq!(churning.slot(&labels(7)), 0);
        assert_eq!(sources.by_job[&of("busy")].table.identity(), 0, "a table of which half is in use stays");
        assert!(!sources.by_job.contains_key(&of("gone")));
    }

    #[test]
    fn a_series_said_twice_at_one_timestamp_becomes_two_rows() {
        let row = Row {
            source: Arc::new(SourceKey::RemoteWrite { job: "j".into(), instance: "i".into() }),
            kind: RowKind::Partial,
            timestamp: TimestampMs(1),
            table: Arc::new(SeriesTable::new(1)),
            cells: vec![(1, Value::Float(1.0)), (0, Value::Float(2.0)), (1, Value::Float(3.0))],
        };
        let slots: Vec<Vec<SlotId>> =
            split_doubles(row).iter().map(|row| row.cells.iter().map(|(slot, _)| *slot).collect()).collect();
        assert_eq!(slots, [vec![0, 1], vec![1]]);
    }
}
