//! What a data shard costs: apply, memory, select, checkpoint. Prints one line a figure; the memory of the process is
//! read from `/proc`, times are those of the thread on a processor, so figures are of one shard over the store in memory, without RocksDB's own.
//!
//! `cargo bench -p storage --bench shard`

use model::{
    Budget, Clock, CommittedEntry, EntryPayload, Labels, LogId, LogIndex, Matcher, Queryable, Row, RowKind,
    SelectRequest, SeriesTable, ShardId, SourceKey, StateMachine, Term, TimestampMs, Value,
};
use std::{path::Path, sync::Arc, time::Duration};
use storage::{
    kv::MemDisk,
    shard::{COMMAND_BYTES_MAX, DataCommand, DataResponse, DataShard, RowEncoder, SegmentBuilder},
};

const TARGETS: usize = 100;
const SERIES: usize = 1_000;
const STEP_MS: i64 = 15_000;

#[derive(Debug)]
struct ProcessClock;

impl Clock for ProcessClock {
    fn now(&self) -> TimestampMs {
        TimestampMs(0)
    }
    /// Time on a processor: figures hold on a busy machine, too.
    fn monotonic(&self) -> Duration {
        let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
        let nanos = text.split_whitespace().next().and_then(|ns| ns.parse().ok()).unwrap_or(0);
        Duration::from_nanos(nanos)
    }
}

/// For budgets, which look at it with every series: a look at [`ProcessClock`] costs more than to read one.
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

fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) * 1024
}

fn value(series: usize, step: i64) -> f64 {
    let (s, t) = (series as f64, step as f64);
    match series % 5 {
        0 => t * 10.0 + s,
        1 => ((s * 7.3 + t * 0.37) * 100.0).round() / 100.0,
        2 => ((t * 0.1).sin() * 1e9).round(),
        3 => s,
        _ => ((series as i64 * 31 + step * 17) % 97) as f64,
    }
}

struct Target {
    source: Arc<SourceKey>,
    table: Arc<SeriesTable>,
}

fn targets() -> Vec<Target> {
    (0..TARGETS)
        .map(|target| {
            let instance = format!("host-{target:03}:9100");
            let labels = Labels::from_pairs([("job", "node"), ("instance", &instance)]);
            let url = format!("http://{instance}/metrics");
            let table = SeriesTable::new(target as u64 + 1);
            for series in 0..SERIES {
                let name = format!("metric_{:03}", series / 10);
                let label = format!("value-{}", series % 10);
                table.push(Labels::from_pairs([
                    ("__name__", name.as_str()),
                    ("job", "node"),
                    ("instance", &instance),
                    ("device", &label),
                    ("region", "eu-west-1"),
                    ("cluster", "production"),
                ]));
            }
            let source = SourceKey::Scrape { job_name: "node".into(), labels, url };
            Target { source: Arc::new(source), table: Arc::new(table) }
        })
        .collect()
}

struct Feed {
    shard: DataShard,
    encoder: RowEncoder,
    targets: Vec<Target>,
    index: u64,
    encode: Duration,
    apply: Duration,
    bytes: usize,
}

impl Feed {
    fn entry(&mut self, command: &DataCommand) -> CommittedEntry {
        self.index += 1;
        let log_id = LogId { term: Term(1), index: LogIndex(self.index) };
        CommittedEntry { log_id, payload: EntryPayload::Command(command.encode()) }
    }

    /// One scrape of every target, ten targets a segment.
    fn step(&mut self, step: i64) {
        let timestamp = TimestampMs(step * STEP_MS);
        for first in (0..TARGETS).step_by(10) {
            let rows: Vec<Row> = self.targets[first..first + 10]
                .iter()
                .map(|target| Row {
                    source: Arc::clone(&target.source),
                    kind: RowKind::Whole { slot: timestamp },
                    timestamp,
                    table: Arc::clone(&target.table),
                    cells: (0..SERIES).map(|s| (s as u32, Value::Float(value(s, step)))).collect(),
                })
                .collect();
            let before = ProcessClock.monotonic();
            let mut builder = SegmentBuilder::new(timestamp, Some(Term(1)));
            let mut pass = self.encoder.begin();
            for row in &rows {
                builder.push(&mut pass, &self.shard, row, COMMAND_BYTES_MAX).expect("a row fits");
            }
            let command = builder.finish();
            self.encode += ProcessClock.monotonic() - before;
            let entry = self.entry(&command);
            if let EntryPayload::Command(bytes) = &entry.payload {
                self.bytes += bytes.len();
            }
            let before = ProcessClock.monotonic();
            let responses = self.shard.apply(&[entry]).expect("memory takes it");
            self.apply += ProcessClock.monotonic() - before;
            let response = DataResponse::decode(&responses[0]).expect("a response");
            assert!(matches!(response, DataResponse::Rows(rows) if rows.iter().all(|r| r.applied == 1_000)));
        }
    }
}

fn per(span: Duration, samples: f64) -> String {
    let ns = span.as_nanos() as f64 / samples;
    format!("{ns:.2} ns/sample, {:.1} M samples/s", 1_000.0 / ns)
}

fn main() {
    let before = resident();
    let targets = targets();
    let tables = resident();
    let shard = DataShard::open(ShardId(1), Path::new("/shard"), Arc::new(MemDisk::new())).expect("opens");
    let encoder = RowEncoder::new();
    let zero = Duration::ZERO;
    let mut feed = Feed { shard, encoder, targets, index: 0, encode: zero, apply: zero, bytes: 0 };
    feed.step(1);
    println!("first scrape of 100 k series: apply {} ms", feed.apply.as_millis());
    (feed.encode, feed.apply, feed.bytes) = (zero, zero, 0);
    (2..=32).for_each(|step| feed.step(step));
    let samples = (31 * TARGETS * SERIES) as f64;
    println!("encode: {}; {:.2} B/sample", per(feed.encode, samples), feed.bytes as f64 / samples);
    println!("apply without a seal: {}", per(feed.apply, samples));
    let series = (TARGETS * SERIES) as u64;
    let stats = feed.shard.stats(0);
    println!(
        "memory at 32 open rows: {} B/series resident (tables of the producer {} B more), index {} B, rows {} B",
        (resident() - tables) / series,
        (tables - before) / series,
        stats.index_bytes / series,
        stats.open_bytes / series
    );
    (feed.encode, feed.apply) = (zero, zero);
    (33..=480).for_each(|step| feed.step(step));
    let samples = (448 * TARGETS * SERIES) as f64;
    println!("apply with seals: {}", per(feed.apply, samples));
    let stats = feed.shard.stats(0);
    println!(
        "sealed in windows of 64: {:.3} B/sample; resident {} B/series",
        stats.chunk_bytes as f64 / stats.samples as f64,
        (resident() - tables) / series
    );
    let checkpoint = |feed: &mut Feed, time: i64| {
        let entry = feed.entry(&DataCommand::Checkpoint { time: TimestampMs(time) });
        let before = ProcessClock.monotonic();
        feed.shard.apply(&[entry]).expect("memory takes it");
        feed.shard.checkpoint().expect("memory takes it");
        ProcessClock.monotonic() - before
    };
    println!("checkpoint of 48 M samples: {} ms", checkpoint(&mut feed, 480 * STEP_MS).as_millis());
    (481..=600).for_each(|step| feed.step(step));
    checkpoint(&mut feed, 8_400_000);
    let before = ProcessClock.monotonic();
    while feed.shard.pack(TimestampMs(8_400_000)).expect("memory takes it") {}
    let packing = ProcessClock.monotonic() - before;
    let stats = feed.shard.stats(0);
    println!(
        "packed to two hours: {:.3} B/sample; {} ms for all",
        stats.chunk_bytes as f64 / stats.samples as f64,
        packing.as_millis()
    );
    let view = feed.shard.view();
    let budget = Budget::new(Arc::new(StoppedClock), Duration::from_secs(600), 8 << 30);
    for (what, rounds, matchers) in [
        ("one metric (1000 series), first", 1, vec![Matcher::equal("__name__", "metric_007")]),
        ("one metric (1000 series), again", 200, vec![Matcher::equal("__name__", "metric_007")]),
        (
            "one series, again",
            20_000,
            vec![
                Matcher::equal("__name__", "metric_007"),
                Matcher::equal("instance", "host-050:9100"),
                Matcher::equal("device", "value-3"),
            ],
        ),
    ] {
        let (start, end) = (TimestampMs(0), TimestampMs::MAX);
        let request = SelectRequest { matchers, start, end, with_samples: true, limit: 0 };
        let before = ProcessClock.monotonic();
        let mut samples = 0;
        for _ in 0..rounds {
            for series in view.select(&request, &budget).expect("selects") {
                let series = series.expect("a series");
                samples += series.samples.len();
            }
        }
        let span = ProcessClock.monotonic() - before;
        println!("select {what}: {} us, {}", (span / rounds).as_micros(), per(span, samples as f64));
    }
}
