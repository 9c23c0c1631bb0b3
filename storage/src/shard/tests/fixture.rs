//! A shard over the store in memory, fed by hand.

use crate::{
    kv::{KvEngine, MemDisk},
    shard::{
        COMMAND_BYTES_MAX, DataCommand, DataResponse, DataShard, MergedView, Pushed, RowEncoder, RowResult,
        SegmentBuilder,
    },
};
use model::{
    Budget, Clock, CommittedEntry, EntryPayload, Labels, LogId, LogIndex, MatchOp, Matcher, Queryable, Row,
    RowKind, SelectRequest, SeriesTable, ShardId, SourceKey, StateMachine, Term, TimestampMs, Value,
};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

#[derive(Debug)]
struct StoppedClock;

impl Clock for StoppedClock {
    fn now(&self) -> TimestampMs {
        TimestampMs(0)
    }
    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }
}

pub(super) fn budget() -> Budget {
    Budget::new(Arc::new(StoppedClock), Duration::from_secs(60), 1 << 30)
}

pub(super) fn scrape(instance: &str) -> Arc<SourceKey> {
    let labels = Labels::from_pairs([("instance", instance), ("job", "node")]);
    Arc::new(SourceKey::Scrape { job_name: "node".into(), labels, url: format!("http://{instance}/metrics") })
}

pub(super) fn writer(instance: &str) -> Arc<SourceKey> {
    Arc::new(SourceKey::RemoteWrite { job: "node".into(), instance: instance.into() })
}

pub(super) fn series(name: &str) -> Labels {
    Labels::from_pairs([("__name__", name), ("job", "node")])
}

/// Samples as (timestamp, value); a stale marker reads "stale".
pub(super) type Text = String;

pub(super) struct Fixture {
    pub engine: Arc<dyn KvEngine>,
    pub dir: PathBuf,
    pub shard: DataShard,
    pub index: u64,
    pub term: u64,
    pub log: Vec<CommittedEntry>,
    encoder: RowEncoder,
    tables: BTreeMap<Arc<SourceKey>, Arc<SeriesTable>>,
}

static TABLES: AtomicU64 = AtomicU64::new(1);

impl Fixture {
    pub(super) fn new() -> Fixture {
        Fixture::on(Arc::new(MemDisk::new()), Path::new("/shard"))
    }

    pub(super) fn on(engine: Arc<dyn KvEngine>, dir: &Path) -> Fixture {
        let shard = DataShard::open(ShardId(1), dir, Arc::clone(&engine)).expect("a shard opens");
        let (index, term) = (0, 1);
        let tables = BTreeMap::new();
        let encoder = RowEncoder::new();
        Fixture { engine, dir: dir.to_owned(), shard, index, term, log: Vec::new(), encoder, tables }
    }

    pub(super) fn row(&self, source: &Arc<SourceKey>, kind: RowKind, at: i64, cells: &[(&str, f64)]) -> Row {
        let values: Vec<_> = cells.iter().map(|(name, value)| (series(name), Value::Float(*value))).collect();
        self.row_of(source, kind, at, values)
    }

    pub(super) fn row_of(
        &self,
        source: &Arc<SourceKey>,
        kind: RowKind,
        at: i64,
        cells: Vec<(Labels, Value)>,
    ) -> Row {
        let table = self.tables.get(source).cloned();
        let table =
            table.unwrap_or_else(|| Arc::new(SeriesTable::new(TABLES.fetch_add(1, Ordering::Relaxed))));
        let cells = cells
            .into_iter()
            .map(|(labels, value)| {
                let known = table.labels_from(0).iter().position(|l| *l == labels);
                (known.map_or_else(|| table.push(labels), |slot| slot as u32), value)
            })
            .collect();
        Row { source: Arc::clone(source), kind, timestamp: TimestampMs(at), table, cells }
    }

    /// A segment of rows as the leader would propose it, with the newest row's time.
    pub(super) fn segment(&mut self, rows: &[Row], term: Option<u64>) -> DataCommand {
        let time = rows.iter().map(|row| row.timestamp).max().unwrap_or_default();
        self.segment_at(rows, term, time.0)
    }

    pub(super) fn segment_at(&mut self, rows: &[Row], term: Option<u64>, time: i64) -> DataCommand {
        let mut builder = SegmentBuilder::new(TimestampMs(time), term.map(Term));
        let mut pass = self.encoder.begin();
        for (i, row) in rows.iter().enumerate() {
            self.tables.insert(Arc::clone(&row.source), Arc::clone(&row.table));
            let pushed = builder.push(&mut pass, &self.shard, row, COMMAND_BYTES_MAX).expect("a row fits");
            assert_eq!(pushed, Pushed::At(i));
        }
        builder.finish()
    }

    pub(super) fn apply(&mut self, command: &DataCommand) -> DataResponse {
        self.index += 1;
        let entry = CommittedEntry {
            log_id: LogId { term: Term(self.term), index: LogIndex(self.index) },
            payload: EntryPayload::Command(command.encode()),
        };
        self.log.push(entry.clone());
        let responses = self.shard.apply(&[entry]).expect("the disk works");
        if self.shard.wants_checkpoint() {
            self.shard.checkpoint().expect("the disk works");
        }
        DataResponse::decode(&responses[0]).expect("a response")
    }

    pub(super) fn apply_rows(&mut self, rows: &[Row]) -> Vec<RowResult> {
        let command = self.segment(rows, None);
        match self.apply(&command) {
            DataResponse::Rows(rows) => rows,
            other => panic!("{other:?}"),
        }
    }

    /// Introduces the series of a row until it fits into `bytes_max`; how many segments that took.
    pub(super) fn introduce(&mut self, row: &Row, bytes_max: usize) -> usize {
        self.tables.insert(Arc::clone(&row.source), Arc::clone(&row.table));
        for segments in 0.. {
            let mut builder = SegmentBuilder::new(row.timestamp, None);
            let mut pass = self.encoder.begin();
            if builder.push(&mut pass, &self.shard, row, bytes_max).is_ok() {
                return segments;
            }
            let introduced = builder.introduce(&mut pass, &self.shard, row, bytes_max);
            assert!(introduced > 0, "the values alone are too long");
            let command = builder.finish();
            assert!(command.encode().len() < bytes_max);
            assert_eq!(self.apply(&command), DataResponse::Rows(vec![RowResult::default()]));
        }
        unreachable!("numbers do not end")
    }

    /// A segment that introduces as many of a row's series as it takes.
    pub(super) fn introduction(&mut self, row: &Row) -> DataCommand {
        self.tables.insert(Arc::clone(&row.source), Arc::clone(&row.table));
        let mut builder = SegmentBuilder::new(row.timestamp, None);
        builder.introduce(&mut self.encoder.begin(), &self.shard, row, COMMAND_BYTES_MAX);
        builder.finish()
    }

    /// Introduces what one segment takes of a row's series.
    pub(super) fn introduce_once(&mut self, row: &Row) -> RowResult {
        let introduction = self.introduction(row);
        match self.apply(&introduction) {
            DataResponse::Rows(mut rows) => rows.remove(0),
            other => panic!("{other:?}"),
        }
    }

    /// Applies a whole row whose slot is its timestamp.
    pub(super) fn scraped(&mut self, source: &Arc<SourceKey>, at: i64, cells: &[(&str, f64)]) -> RowResult {
        let row = self.row(source, RowKind::Whole { slot: TimestampMs(at) }, at, cells);
        self.apply_rows(&[row]).remove(0)
    }

    /// Applies a partial row.
    pub(super) fn written(&mut self, source: &Arc<SourceKey>, at: i64, cells: &[(&str, f64)]) -> RowResult {
        let row = self.row(source, RowKind::Partial, at, cells);
        self.apply_rows(&[row]).remove(0)
    }

    pub(super) fn checkpoint(&mut self, time: i64) {
        assert_eq!(self.apply(&DataCommand::Checkpoint { time: TimestampMs(time) }), DataResponse::Applied);
    }

    /// Packs all there is to pack at a time.
    pub(super) fn pack(&self, time: i64) {
        while self.shard.pack(TimestampMs(time)).expect("nothing is damaged") {}
    }

    /// Closes the shard and opens it again, as after a crash: what was not checkpointed is replayed.
    pub(super) fn restart(&mut self) {
        let placeholder =
            DataShard::open(ShardId(1), Path::new("/nowhere"), Arc::new(MemDisk::new())).expect("opens");
        drop(std::mem::replace(&mut self.shard, placeholder));
        self.shard =
            DataShard::open(ShardId(1), &self.dir, Arc::clone(&self.engine)).expect("it opens again");
        let from = self.shard.checkpointed().log_id;
        let behind: Vec<_> = self.log.iter().filter(|entry| Some(entry.log_id) > from).cloned().collect();
        self.shard.apply(&behind).expect("the disk works");
        self.encoder = RowEncoder::new();
    }

    pub(super) fn select(&self, name: &str) -> Text {
        self.select_in(name, i64::MIN, i64::MAX)
    }

    pub(super) fn select_in(&self, name: &str, start: i64, end: i64) -> Text {
        select_from(&MergedView::new(vec![self.shard.view()]), name, start, end)
    }

    /// Everything there is.
    pub(super) fn all(&self) -> Text {
        select_from(&self.shard.view(), ".+", i64::MIN, i64::MAX)
    }
}

/// Series whose name matches, as text.
pub(super) fn select_from(view: &dyn Queryable, name: &str, start: i64, end: i64) -> Text {
    let request = SelectRequest {
        matchers: vec![Matcher::new(MatchOp::Regex, "__name__", name).expect("a matcher")],
        start: TimestampMs(start),
        end: TimestampMs(end),
        with_samples: true,
        limit: 0,
    };
    let budget = budget();
    let mut lines = Vec::new();
    for series in view.select(&request, &budget).expect("a select begins") {
        let series = series.expect("a series");
        let samples = &series.samples;
        assert!(samples.timestamps.is_sorted_by(|a, b| a < b), "{samples:?}");
        let mut line = series.labels.metric_name().to_owned();
        for (i, (timestamp, value)) in samples.timestamps.iter().zip(&samples.floats).enumerate() {
            let histogram = samples.histograms.at(i as u32);
            line += &match histogram {
                Some(histogram) => format!(" {timestamp}=H{}", histogram.count),
                None if model::is_stale_nan(*value) => format!(" {timestamp}=stale"),
                None => format!(" {timestamp}={value}"),
            };
        }
        lines.push(line);
    }
    budget.take(1 << 30).expect("everything was given back");
    lines.join("\n")
}
