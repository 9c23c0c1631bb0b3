//! The evaluator on small data: any text that is PromQL ends with an answer or an error, within its memory, and so does
//! the same tree printed and read again, with the same answer.
//!
//! Input: which grid (one byte), text.
#![no_main]

use libfuzzer_sys::fuzz_target;
use model::{
    Budget, Clock, CounterResetHint, FloatHistogram, LabelQuery, Labels, Matcher, QueryError, Queryable,
    STALE_NAN, Samples, SelectRequest, Series, SeriesSet, Span, TimestampMs,
};
use promql::{
    Answer, Engine, EngineOptions, EvalError, Features, MatrixSeries, ParserOptions, QueryOptions, Value, VectorSample,
    pretty,
};
use std::{
    sync::{
        Arc, LazyLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// Every look at it takes a microsecond: what would run for ever meets its deadline, at the same place each time.
#[derive(Debug, Default)]
struct Counted(AtomicU64);

impl Clock for Counted {
    fn now(&self) -> TimestampMs {
        TimestampMs(0)
    }
    fn monotonic(&self) -> Duration {
        Duration::from_micros(self.0.fetch_add(1, Ordering::Relaxed))
    }
}

struct Store(Vec<Series>);

fn histogram(scale: f64, custom: bool) -> Arc<FloatHistogram> {
    let plain = FloatHistogram {
        counter_reset_hint: CounterResetHint::Unknown,
        count: 6.0 * scale,
        sum: 9.5 * scale,
        zero_threshold: 0.001,
        zero_count: scale,
        positive_spans: vec![Span { offset: 0, length: 2 }, Span { offset: 1, length: 1 }],
        positive_buckets: vec![2.0 * scale, scale, 2.0 * scale],
        ..FloatHistogram::default()
    };
    Arc::new(if custom {
        FloatHistogram {
            schema: -53,
            zero_threshold: 0.0,
            zero_count: 0.0,
            custom_values: [0.1, 1.0, 5.0].into(),
            ..plain
        }
    } else {
        plain
    })
}

/// A sample every 15 s for an hour, with a reset, stale markers, NaN and infinities; histograms in two of six.
fn samples(number: usize) -> Samples {
    let mut samples = Samples::default();
    for i in 0..240_u32 {
        let float = match i % 60 {
            7 => STALE_NAN,
            13 if number == 1 => f64::NAN,
            17 if number == 1 => f64::INFINITY,
            19 if number == 2 => f64::MAX,
            _ => f64::from(i % 100) * (number as f64 - 1.5),
        };
        samples.timestamps.push(i64::from(i) * 15_000 + number as i64);
        if number >= 4 && i % 50 != 0 {
            samples.histograms.push(i, histogram(f64::from(i + 1), number == 5).view());
            samples.floats.push(0.0);
        } else {
            samples.floats.push(float);
        }
    }
    samples
}

static STORE: LazyLock<Store> = LazyLock::new(|| {
    let mut all: Vec<Series> = Vec::new();
    for name in ["a", "b_bucket", "h"] {
        for number in 0..6 {
            let le = if name == "b_bucket" { ["0.1", "1", "5", "+Inf", "nan", "x"][number] } else { "" };
            let pairs =
                [("__name__", name), ("le", le), ("x", ["a", "b"][number % 2]), ("y", &number.to_string())];
            all.push(Series { labels: Labels::from_pairs(pairs), samples: samples(number) });
        }
    }
    all.sort_by(|a, b| a.labels.cmp(&b.labels));
    Store(all)
});

fn matches(labels: &Labels, matchers: &[Matcher]) -> bool {
    matchers.iter().all(|matcher| matcher.matches(labels.get(&matcher.name).unwrap_or("")))
}

impl Queryable for Store {
    fn select<'a>(&'a self, request: &SelectRequest, _: &'a Budget) -> Result<SeriesSet<'a>, QueryError> {
        let request = request.clone();
        let found = self.0.iter().filter(|series| matches(&series.labels, &request.matchers));
        let cut = |series: &Series| {
            let all = &series.samples;
            let first = all.timestamps.partition_point(|time| *time < request.start.0);
            let next = all.timestamps.partition_point(|time| *time <= request.end.0).max(first);
            let inside = |position: u32| (first..next).contains(&(position as usize));
            let histograms = all.histograms.iter().filter(|(position, _)| inside(*position));
            let samples = Samples {
                timestamps: all.timestamps[first..next].to_vec(),
                floats: all.floats[first..next].to_vec(),
                histograms: histograms.map(|(p, h)| (p - first as u32, Arc::new(h.to_float()))).collect(),
                start_timestamps: Vec::new(),
            };
            Ok(Series { labels: series.labels.clone(), samples })
        };
        Ok(Box::new(found.map(cut).collect::<Vec<_>>().into_iter()))
    }

    fn label_names(&self, _: &LabelQuery, _: &Budget) -> Result<Vec<String>, QueryError> {
        Ok(Vec::new())
    }

    fn label_values(&self, _: &str, _: &LabelQuery, _: &Budget) -> Result<Vec<String>, QueryError> {
        Ok(Vec::new())
    }
}

const BYTES_MAX: u64 = 256 << 20;

fn answer(engine: &Engine, text: &str, grid: u8) -> Result<Answer, EvalError> {
    let budget = Budget::new(Arc::new(Counted::default()), Duration::from_millis(100), BYTES_MAX);
    let step = [1, 15_000, 61_000, 3_600_000][usize::from(grid / 2 % 4)];
    let options = QueryOptions { stats_by_step: grid & 8 != 0, ..QueryOptions::default() };
    let result = if grid % 2 == 0 {
        engine.instant(&*STORE, text, 1_800_000, &budget, options)
    } else {
        engine.range(&*STORE, text, 1_200_000, 1_200_000 + 19 * step, step, &budget, options)
    };
    assert!(budget.bytes_peak() <= BYTES_MAX);
    if let Ok(answer) = &result {
        budget.give(bytes(&answer.value));
        budget.take(BYTES_MAX).expect("only the answer holds bytes");
    }
    result
}

/// What a value holds of its budget.
fn bytes(value: &Value) -> u64 {
    match value {
        Value::Vector(samples) => samples.iter().map(VectorSample::bytes).sum(),
        Value::Matrix(series) => series.iter().map(MatrixSeries::bytes).sum(),
        _ => 0,
    }
}

/// What an answer shows, but for annotations, which name places in the text.
fn shown(result: &Result<Answer, EvalError>) -> String {
    match result {
        Ok(answer) => format!("{:?} {:?}", answer.value, answer.stats.total_queryable_samples),
        // The text may name a place, too, and time may end earlier.
        Err(_) => "error".to_owned(),
    }
}

fuzz_target!(|data: (u8, &str)| {
    let (grid, text) = data;
    let engine = Engine::new(EngineOptions {
        samples_max: 1_000_000,
        features: Features { delayed_name_removal: grid & 16 != 0, ..Features::default() },
        parser: ParserOptions::all_features(),
        ..EngineOptions::default()
    });
    let Ok(expr) = engine.parse(text) else { return };
    let first = answer(&engine, text, grid);
    // A text near the limits may print longer than it was; and Prometheus prints the duration `-0s` without its sign, and
    // some durations with milliseconds one shorter (33335.882 s in nanoseconds lie just below, and are cut).
    let printed = pretty(&expr);
    if text.len() < 1000 && !printed.contains("0s") && !printed.contains("ms") {
        let again = answer(&engine, &printed, grid);
        assert_eq!(shown(&first), shown(&again), "{text:?} and what it prints as");
    }
});
