//! A remote writer with a ledger: what was acknowledged must be found, for ever.

use crate::{Client, now_ms};
use prost::Message;
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle, sleep},
    time::{Duration, Instant},
};

/// The parts of remote write 1.0 that a sender needs (`prompb/remote.proto`).
mod proto {
    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct WriteRequest {
        #[prost(message, repeated, tag = "1")]
        pub(super) timeseries: Vec<TimeSeries>,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct TimeSeries {
        #[prost(message, repeated, tag = "1")]
        pub(super) labels: Vec<Label>,
        #[prost(message, repeated, tag = "2")]
        pub(super) samples: Vec<Sample>,
        #[prost(message, repeated, tag = "4")]
        pub(super) histograms: Vec<super::WriteHistogram>,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Label {
        #[prost(string, tag = "1")]
        pub(super) name: String,
        #[prost(string, tag = "2")]
        pub(super) value: String,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Sample {
        #[prost(double, tag = "1")]
        pub(super) value: f64,
        #[prost(int64, tag = "2")]
        pub(super) timestamp: i64,
    }
}

/// A native histogram to write (`prompb/types.proto`): with `count_int` and deltas, or with `count_float` and counts.
#[derive(Clone, PartialEq, prost::Message)]
pub struct WriteHistogram {
    /// Observations, if they are integers.
    #[prost(uint64, optional, tag = "1")]
    pub count_int: Option<u64>,
    /// Observations, if they are floats.
    #[prost(double, optional, tag = "2")]
    pub count_float: Option<f64>,
    /// Sum of the observed values.
    #[prost(double, tag = "3")]
    pub sum: f64,
    /// Resolution; -53 has custom bounds.
    #[prost(sint32, tag = "4")]
    pub schema: i32,
    /// Half the width of the zero bucket.
    #[prost(double, tag = "5")]
    pub zero_threshold: f64,
    /// Observations in the zero bucket, if they are integers.
    #[prost(uint64, optional, tag = "6")]
    pub zero_count_int: Option<u64>,
    /// Observations in the zero bucket, if they are floats.
    #[prost(double, optional, tag = "7")]
    pub zero_count_float: Option<f64>,
    /// Where the negative buckets are.
    #[prost(message, repeated, tag = "8")]
    pub negative_spans: Vec<WriteSpan>,
    /// Each bucket's integer count less the one before.
    #[prost(sint64, repeated, tag = "9")]
    pub negative_deltas: Vec<i64>,
    /// Each bucket's float count.
    #[prost(double, repeated, tag = "10")]
    pub negative_counts: Vec<f64>,
    /// Where the positive buckets are.
    #[prost(message, repeated, tag = "11")]
    pub positive_spans: Vec<WriteSpan>,
    /// Each bucket's integer count less the one before.
    #[prost(sint64, repeated, tag = "12")]
    pub positive_deltas: Vec<i64>,
    /// Each bucket's float count.
    #[prost(double, repeated, tag = "13")]
    pub positive_counts: Vec<f64>,
    /// 0 unknown, 1 reset, 2 no reset, 3 gauge.
    #[prost(int32, tag = "14")]
    pub reset_hint: i32,
    /// Milliseconds.
    #[prost(int64, tag = "15")]
    pub timestamp: i64,
    /// Upper bounds, if they are custom.
    #[prost(double, repeated, tag = "16")]
    pub custom_values: Vec<f64>,
}

/// Buckets without a gap.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct WriteSpan {
    /// Buckets left out before.
    #[prost(sint32, tag = "1")]
    pub offset: i32,
    /// Buckets.
    #[prost(uint32, tag = "2")]
    pub length: u32,
}

/// A series of which some samples may be native histograms.
pub type WriteMixedSeries = (Vec<(String, String)>, Vec<(i64, f64)>, Vec<WriteHistogram>);

/// A series to write: sorted label pairs, and samples as (milliseconds, value).
pub type WriteSeries = (Vec<(String, String)>, Vec<(i64, f64)>);

/// Encodes a remote-write request.
///
/// # Panics
/// Never: a vector takes all bytes.
#[must_use]
pub fn encode_write(series: &[WriteSeries]) -> Vec<u8> {
    encode(series.iter().map(|(labels, samples)| (labels, samples, &[][..])))
}

/// Encodes a remote-write request with native histograms.
///
/// # Panics
/// Never: a vector takes all bytes.
#[must_use]
pub fn encode_mixed_write(series: &[WriteMixedSeries]) -> Vec<u8> {
    encode(series.iter().map(|(labels, samples, histograms)| (labels, samples, &histograms[..])))
}

type Parts<'s> = (&'s Vec<(String, String)>, &'s Vec<(i64, f64)>, &'s [WriteHistogram]);

fn encode<'s>(series: impl Iterator<Item = Parts<'s>>) -> Vec<u8> {
    let timeseries = series.map(|(labels, samples, histograms)| proto::TimeSeries {
        labels: labels
            .iter()
            .map(|(name, value)| proto::Label { name: name.clone(), value: value.clone() })
            .collect(),
        samples: samples
            .iter()
            .map(|(timestamp, value)| proto::Sample { value: *value, timestamp: *timestamp })
            .collect(),
        histograms: histograms.to_vec(),
    });
    let request = proto::WriteRequest { timeseries: timeseries.collect() };
    snap::raw::Encoder::new()
        .compress_vec(&request.encode_to_vec())
        .expect("a request is far below snappy's limit")
}

/// The headers of a remote write.
pub const WRITE_HEADERS: [(&str, &str); 3] = [
    ("Content-Type", "application/x-protobuf"),
    ("Content-Encoding", "snappy"),
    ("X-Prometheus-Remote-Write-Version", "0.1.0"),
];

/// What a writer sends.
#[derive(Clone, Debug)]
pub struct WriterOptions {
    /// The metric's name.
    pub metric: String,
    /// How many instances; each is a source of its own.
    pub instances: usize,
    /// Series of each instance.
    pub series: usize,
    /// Time between two batches. A batch has one sample of every series.
    pub interval: Duration,
}

/// One batch: one timestamp, one sample of every series.
#[derive(Clone, Copy, Debug)]
pub struct Batch {
    /// The samples' timestamp, milliseconds.
    pub timestamp: i64,
    /// When it was acknowledged, milliseconds since the writer began.
    pub acknowledged: Duration,
}

/// What was acknowledged, instance by instance.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    /// Acknowledged batches by instance.
    pub batches: BTreeMap<usize, Vec<Batch>>,
    /// Requests that were not acknowledged (and sent again).
    pub failures: u64,
}

/// What became of the acknowledged samples.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LedgerCheck {
    /// Acknowledged samples.
    pub acknowledged: u64,
    /// Of those, not found or found with another value.
    pub lost: u64,
}

/// Writes steadily until it is stopped: to one node after the other, each batch again until it is acknowledged.
#[derive(Debug)]
pub struct Writer {
    options: WriterOptions,
    ledger: Arc<Mutex<Ledger>>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Writer {
    /// Begins to write to `nodes`.
    #[must_use]
    pub fn start(nodes: &[Client], options: WriterOptions) -> Writer {
        let ledger = Arc::new(Mutex::new(Ledger::default()));
        let stop = Arc::new(AtomicBool::new(false));
        let began = Instant::now();
        let threads = (0..options.instances).map(|instance| {
            let (options, ledger, stop) = (options.clone(), ledger.clone(), stop.clone());
            let nodes: Vec<_> =
                nodes.iter().map(|n| Client::new(n.base.clone(), Duration::from_secs(3))).collect();
            thread::spawn(move || write(&nodes, instance, &options, &ledger, &stop, began))
        });
        let threads = threads.collect();
        Writer { options, ledger, stop, threads }
    }

    /// The ledger so far.
    ///
    /// # Panics
    /// If a writing thread panicked.
    #[must_use]
    pub fn ledger(&self) -> Ledger {
        self.ledger.lock().expect("no writer panics").clone()
    }

    /// The ledger that is being written, for those who watch.
    #[must_use]
    pub fn shared_ledger(&self) -> Arc<Mutex<Ledger>> {
        self.ledger.clone()
    }

    /// Whether every instance has had a batch acknowledged since `moment` (milliseconds): writes are accepted.
    ///
    /// # Errors
    /// If not; the text counts those that have.
    ///
    /// # Panics
    /// If a writing thread panicked.
    pub fn acknowledged_since(&self, moment: i64) -> Result<(), String> {
        let ledger = self.ledger.lock().expect("no writer panics");
        let good =
            (0..self.options.instances).filter(|i| ledger.newest(*i).is_some_and(|t| t > moment)).count();
        if good == self.options.instances {
            return Ok(());
        }
        Err(format!("{good} of {} instances, {} failures", self.options.instances, ledger.failures))
    }

    /// Stops and returns the ledger.
    ///
    /// # Panics
    /// If a writing thread panicked.
    #[must_use]
    pub fn stop(mut self) -> Ledger {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.join().expect("no writer panics");
        }
        self.ledger()
    }

    /// What it sends.
    #[must_use]
    pub fn options(&self) -> &WriterOptions {
        &self.options
    }
}

fn series_of(options: &WriterOptions, instance: usize) -> Vec<Vec<(String, String)>> {
    let labels = |series: usize| {
        [
            ("__name__", options.metric.clone()),
            ("instance", format!("i{instance:03}")),
            ("job", "ledger".to_owned()),
            ("series", format!("s{series:05}")),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .to_vec()
    };
    (0..options.series).map(labels).collect()
}

/// The value of a sample tells which it is.
fn value(instance: usize, series: usize, timestamp: i64) -> f64 {
    (timestamp % 1_000_000_000) as f64 + instance as f64 * 1e-3 + series as f64 * 1e-6
}

fn write(
    nodes: &[Client],
    instance: usize,
    options: &WriterOptions,
    ledger: &Mutex<Ledger>,
    stop: &AtomicBool,
    began: Instant,
) {
    let labels = series_of(options, instance);
    let mut target = instance;
    let mut next = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        let timestamp = now_ms();
        let series: Vec<_> = labels
            .iter()
            .enumerate()
            .map(|(s, l)| (l.clone(), vec![(timestamp, value(instance, s, timestamp))]))
            .collect();
        let body = encode_write(&series);
        loop {
            let answer = nodes[target % nodes.len()].post("/api/v1/write", &WRITE_HEADERS, &body);
            let done = matches!(&answer, Ok(answer) if answer.status == 204);
            let mut ledger = ledger.lock().expect("no writer panics");
            if done {
                let batch = Batch { timestamp, acknowledged: began.elapsed() };
                ledger.batches.entry(instance).or_default().push(batch);
                break;
            }
            ledger.failures += 1;
            drop(ledger);
            if stop.load(Ordering::Relaxed) {
                return;
            }
            target += 1;
            sleep(Duration::from_millis(20));
        }
        next += options.interval;
        let now = Instant::now();
        if next > now { sleep(next - now) } else { next = now }
    }
}

impl Ledger {
    /// Timestamp of the newest acknowledged batch of an instance.
    #[must_use]
    pub fn newest(&self, instance: usize) -> Option<i64> {
        self.batches.get(&instance)?.last().map(|batch| batch.timestamp)
    }

    /// The longest time without an acknowledgement, for each instance, that overlaps with a time (milliseconds).
    #[must_use]
    pub fn pauses_at(&self, moment: i64, within: Duration) -> Vec<Duration> {
        let until = moment + i64::try_from(within.as_millis()).unwrap_or(i64::MAX);
        let pause = |batches: &Vec<Batch>| {
            let pairs = batches.windows(2).filter(|w| w[1].timestamp > moment && w[0].timestamp < until);
            pairs.map(|w| w[1].acknowledged - w[0].acknowledged).max().unwrap_or_default()
        };
        self.batches.values().map(pause).collect()
    }

    /// The longest time between two acknowledgements of one instance.
    #[must_use]
    pub fn longest_pause(&self) -> Duration {
        let pauses =
            self.batches.values().flat_map(|b| b.windows(2).map(|w| w[1].acknowledged - w[0].acknowledged));
        pauses.max().unwrap_or_default()
    }

    /// Looks every acknowledged sample up on one node.
    ///
    /// # Errors
    /// If the node does not answer.
    pub fn check(&self, node: &Client, options: &WriterOptions) -> Result<LedgerCheck, String> {
        let mut check = LedgerCheck::default();
        for (instance, batches) in &self.batches {
            let (Some(first), Some(last)) = (batches.first(), batches.last()) else { continue };
            let range = (last.timestamp - first.timestamp) / 1000 + 2;
            let query = format!("{}{{instance=\"i{instance:03}\"}}[{range}s]", options.metric);
            let found = node.query(&query, Some(last.timestamp as f64 / 1000.0))?;
            let mut samples = BTreeMap::new();
            for series in &found {
                let name = series["metric"]["series"].as_str().unwrap_or_default();
                for pair in series["values"].as_array().into_iter().flatten() {
                    let timestamp = (pair[0].as_f64().unwrap_or(0.0) * 1000.0).round() as i64;
                    let value: f64 = pair[1].as_str().and_then(|v| v.parse().ok()).unwrap_or(f64::NAN);
                    samples.insert((name.to_owned(), timestamp), value);
                }
            }
            for batch in batches {
                for series in 0..options.series {
                    let key = (format!("s{series:05}"), batch.timestamp);
                    let want = value(*instance, series, batch.timestamp);
                    check.acknowledged += 1;
                    check.lost +=
                        u64::from(samples.get(&key).is_none_or(|got| got.to_bits() != want.to_bits()));
                }
            }
        }
        Ok(check)
    }
}
