//! What a snapshot of a large shard costs over RocksDB, and what apply notices of it. Values are random bits, so that
//! little data makes many bytes. Prints one line a figure.
//!
//! `SNAPSHOT_BYTES` (1.2 GB) says how much; `cargo bench -p storage --bench snapshot`

use bytes::Bytes;
use model::{
    CommittedEntry, EntryPayload, Labels, LogId, LogIndex, Row, RowKind, SeriesTable, ShardId, SnapshotCheck,
    SourceKey, StateMachine, Term, TimestampMs, Value,
};
use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use storage::{
    kv::{KvEngine, RocksEngine, RocksOptions},
    shard::{COMMAND_BYTES_MAX, DataCommand, DataShard, RowEncoder, SegmentBuilder},
};

const TARGETS: usize = 50;
const SERIES: usize = 1_000;
const STEP_MS: i64 = 60_000;
/// As openraft's network asks.
const PIECE_BYTES: usize = 1 << 20;

#[expect(clippy::disallowed_methods, reason = "it measures")]
fn now() -> std::time::Instant {
    std::time::Instant::now()
}

/// Time on a processor of this thread.
fn busy() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    Duration::from_nanos(text.split_whitespace().next().and_then(|ns| ns.parse().ok()).unwrap_or(0))
}

fn resident_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) / 1024
}

struct Feed {
    encoder: RowEncoder,
    targets: Vec<(Arc<SourceKey>, Arc<SeriesTable>)>,
    index: u64,
    random: u64,
}

impl Feed {
    fn new() -> Feed {
        let target = |number: usize| {
            let instance = format!("host-{number:03}:9100");
            let labels = Labels::from_pairs([("job", "node"), ("instance", &instance)]);
            let table = SeriesTable::new(number as u64 + 1);
            for series in 0..SERIES {
                table.push(Labels::from_pairs([
                    ("__name__", format!("metric_{series:03}").as_str()),
                    ("job", "node"),
                    ("instance", &instance),
                ]));
            }
            let url = format!("http://{instance}/metrics");
            (Arc::new(SourceKey::Scrape { job_name: "node".into(), labels, url }), Arc::new(table))
        };
        let targets = (0..TARGETS).map(target).collect();
        Feed { encoder: RowEncoder::new(), targets, index: 0, random: 7 }
    }

    /// Any number that is not NaN.
    fn value(&mut self) -> f64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        f64::from_bits(self.random & !(1 << 62))
    }

    fn entry(&mut self, command: &DataCommand) -> CommittedEntry {
        self.index += 1;
        let log_id = LogId { term: Term(1), index: LogIndex(self.index) };
        CommittedEntry { log_id, payload: EntryPayload::Command(command.encode()) }
    }

    /// One scrape of every target, ten targets an entry; how long each entry took, and all of them on a processor.
    fn step(&mut self, shard: &DataShard, step: i64) -> (Vec<Duration>, Duration) {
        let timestamp = TimestampMs(step * STEP_MS);
        let (mut spans, mut on_processor) = (Vec::new(), Duration::ZERO);
        for first in (0..TARGETS).step_by(10) {
            let mut builder = SegmentBuilder::new(timestamp, Some(Term(1)));
            for target in first..first + 10 {
                let (source, table) = self.targets[target].clone();
                let cells = (0..SERIES).map(|s| (s as u32, Value::Float(self.value()))).collect();
                let row = Row { source, kind: RowKind::Whole { slot: timestamp }, timestamp, table, cells };
                builder.push(&mut self.encoder.begin(), shard, &row, COMMAND_BYTES_MAX).expect("a row fits");
            }
            let entry = self.entry(&builder.finish());
            let (began, before) = (now(), busy());
            shard.apply(&[entry]).expect("the disk works");
            spans.push(began.elapsed());
            on_processor += busy() - before;
        }
        (spans, on_processor)
    }

    fn checkpoint(&mut self, shard: &DataShard, step: i64) {
        let entry = self.entry(&DataCommand::Checkpoint { time: TimestampMs(step * STEP_MS) });
        shard.apply(&[entry]).expect("the disk works");
        shard.checkpoint().expect("the disk works");
    }
}

fn bytes_below(dir: &Path) -> u64 {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| {
            let meta = entry.metadata().ok()?;
            Some(if meta.is_dir() { bytes_below(&entry.path()) } else { meta.len() })
        })
        .sum()
}

fn tell(what: &str, mut spans: Vec<Duration>, on_processor: Duration) {
    spans.sort();
    let at = |share: f64| spans[((spans.len() - 1) as f64 * share) as usize];
    println!(
        "{what}: {} entries of 10,000 samples, on a processor {:.2} ms each; took p50 {:.1?}, p99 {:.1?}, longest {:.1?}",
        spans.len(),
        on_processor.as_secs_f64() * 1e3 / spans.len() as f64,
        at(0.5),
        at(0.99),
        at(1.0)
    );
}

fn main() {
    let wanted = std::env::var("SNAPSHOT_BYTES")
        .ok()
        .and_then(|bytes| bytes.parse().ok())
        .unwrap_or(1_200_000_000_u64);
    let dir = tempfile::tempdir().expect("a directory");
    let engine: Arc<dyn KvEngine> = Arc::new(RocksEngine::new(RocksOptions::default()));
    let from = dir.path().join("from");
    let shard = DataShard::open(ShardId(1), &from, engine.clone()).expect("opens");
    let mut feed = Feed::new();
    let mut step = 0;
    while bytes_below(&from) < wanted {
        for _ in 0..100 {
            step += 1;
            feed.step(&shard, step);
        }
        feed.checkpoint(&shard, step);
    }
    println!(
        "shard: {} MB in {} steps, {} samples",
        bytes_below(&from) / 1_000_000,
        step,
        shard.stats(0).samples
    );

    let mut spans = Vec::new();
    for _ in 0..20 {
        let began = now();
        drop(shard.open_snapshot().expect("opens"));
        spans.push(began.elapsed());
    }
    spans.sort();
    println!("open: median {:.2?}, longest {:.2?}", spans[10], spans[19]);

    let (mut alone, mut alone_busy) = (Vec::new(), Duration::ZERO);
    for _ in 0..100 {
        step += 1;
        let (spans, on_processor) = feed.step(&shard, step);
        alone.extend(spans);
        alone_busy += on_processor;
    }
    tell("apply alone", alone, alone_busy);

    let memory = resident_mib();
    let done = AtomicBool::new(false);
    let to = dir.path().join("to");
    let replica = DataShard::open(ShardId(1), &to, engine).expect("opens");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let source = shard.open_snapshot().expect("opens");
            let mut sink = replica.begin_install(source.manifest()).expect("begins");
            let began = now();
            let mut sent = 0;
            for part in sink.wanted() {
                let mut at = Some(Bytes::new());
                while let Some(place) = at {
                    let piece = source.read(part.part, &place, PIECE_BYTES).expect("reads");
                    sink.write(part.part, &piece.data, piece.next.is_none()).expect("writes");
                    sent += piece.data.len();
                    at = piece.next;
                }
            }
            println!("read and received: {} MB in {:.1?}", sent / 1_000_000, began.elapsed());
            let began = now();
            while sink.check().expect("sound") != SnapshotCheck::Whole {}
            println!("checked in {:.1?}", began.elapsed());
            let began = now();
            let upto = sink.commit().expect("commits");
            println!("committed in {:.1?}, up to {:?}", began.elapsed(), upto.log_id);
            assert_eq!(upto, source.applied());
            done.store(true, Ordering::Relaxed);
        });
        let (mut beside, mut beside_busy) = (Vec::new(), Duration::ZERO);
        while !done.load(Ordering::Relaxed) {
            step += 1;
            let (spans, on_processor) = feed.step(&shard, step);
            beside.extend(spans);
            beside_busy += on_processor;
            // As much a second as a busy node applies, not as much as goes: memory is not what is measured.
            #[expect(clippy::disallowed_methods, reason = "a bench outside of any world paces itself")]
            std::thread::sleep(Duration::from_millis(50));
        }
        tell("apply beside it", beside, beside_busy);
    });
    println!("resident: {memory} MiB before, {} MiB after", resident_mib());
}
