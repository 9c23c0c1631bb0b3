//! What evaluation costs on data in memory: a day of 100 counters, one sample every 15 seconds; and two hours of 100
//! native histograms.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use model::{
    Budget, Clock, FloatHistogram, LabelQuery, Labels, QueryError, Queryable, Samples, SelectRequest, Series,
    SeriesSet, Span, TimestampMs,
};
use promql::{Engine, EngineOptions, QueryOptions};
use std::{sync::Arc, time::Duration};

const SERIES: i64 = 100;
const SAMPLES: i64 = 5760;
const INTERVAL: i64 = 15_000;
const HISTOGRAMS: i64 = 480;

#[derive(Debug)]
struct Still;

impl Clock for Still {
    fn now(&self) -> TimestampMs {
        TimestampMs(0)
    }
    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }
}

struct Memory(Vec<Series>);

/// Of 20 buckets, all but the first two of which grow with each sample, and which all fall to nothing now and then.
fn histogram(number: i64, sample: i64, custom: bool) -> FloatHistogram {
    let since_reset = sample % (97 + number);
    let counts: Vec<f64> =
        (0..20).map(|bucket| (bucket * bucket + since_reset * (bucket / 2)) as f64).collect();
    FloatHistogram {
        schema: if custom { -53 } else { 2 },
        count: counts.iter().sum(),
        sum: since_reset as f64 * 18.4,
        positive_spans: vec![Span { offset: 0, length: 12 }, Span { offset: 2, length: 8 }],
        positive_buckets: counts,
        custom_values: if custom { (0..22).map(f64::from).collect() } else { [].into() },
        ..FloatHistogram::default()
    }
}

impl Memory {
    fn histograms() -> Memory {
        let series = ["exponential", "custom"].into_iter().flat_map(|name| {
            (0..SERIES).map(move |number| {
                let labels = Labels::from_pairs([("__name__", name), ("h", &format!("{number:02}"))]);
                let samples = (0..HISTOGRAMS).map(|i| Arc::new(histogram(number, i, name == "custom")));
                let samples = Samples {
                    timestamps: (0..HISTOGRAMS).map(|i| i * INTERVAL).collect(),
                    floats: vec![0.0; HISTOGRAMS as usize],
                    histograms: (0..).zip(samples).collect(),
                    ..Samples::default()
                };
                Series { labels, samples }
            })
        });
        let mut series: Vec<Series> = series.collect();
        series.sort_by(|a, b| a.labels.cmp(&b.labels));
        Memory(series)
    }

    fn counters() -> Memory {
        let series = (0..SERIES).map(|number| {
            let labels = Labels::from_pairs([
                ("__name__", "requests_total"),
                ("instance", &format!("host-{:02}", number % 10)),
                ("path", &format!("/{number}")),
            ]);
            let timestamps = (0..SAMPLES).map(|i| i * INTERVAL + number).collect();
            let floats = (0..SAMPLES).map(|i| ((i * (number + 3)) % 1_000_003) as f64).collect();
            Series { labels, samples: Samples { timestamps, floats, ..Samples::default() } }
        });
        let mut series: Vec<Series> = series.collect();
        series.sort_by(|a, b| a.labels.cmp(&b.labels));
        Memory(series)
    }
}

impl Queryable for Memory {
    fn select<'a>(
        &'a self,
        request: &SelectRequest,
        _budget: &'a Budget,
    ) -> Result<SeriesSet<'a>, QueryError> {
        let (start, end) = (request.start.0, request.end.0);
        let named = |series: &&Series| {
            request.matchers.iter().all(|m| m.matches(series.labels.get(&m.name).unwrap_or("")))
        };
        let found: Vec<&Series> = self.0.iter().filter(named).collect();
        Ok(Box::new(found.into_iter().map(move |series| {
            let times = &series.samples.timestamps;
            let range = times.partition_point(|t| *t < start)..times.partition_point(|t| *t <= end);
            if !series.samples.histograms.is_empty() {
                return Ok(series.clone()); // what is asked for is all that there is
            }
            let samples = Samples {
                timestamps: times[range.clone()].to_vec(),
                floats: series.samples.floats[range].to_vec(),
                ..Samples::default()
            };
            Ok(Series { labels: series.labels.clone(), samples })
        })))
    }

    fn label_names(&self, _query: &LabelQuery, _budget: &Budget) -> Result<Vec<String>, QueryError> {
        Ok(Vec::new())
    }

    fn label_values(
        &self,
        _name: &str,
        _query: &LabelQuery,
        _budget: &Budget,
    ) -> Result<Vec<String>, QueryError> {
        Ok(Vec::new())
    }
}

fn kernels(criterion: &mut Criterion) {
    let counters = Memory::counters();
    let engine = Engine::new(EngineOptions::default());
    let mut group = criterion.benchmark_group("a day of 100 series");
    group.throughput(Throughput::Elements((SERIES * SAMPLES) as u64)).sample_size(10);
    let cases = [
        ("requests_total", 60),
        ("rate(requests_total[5m])", 60),
        ("rate(requests_total[1h])", 15),
        ("sum by (instance) (rate(requests_total[5m]))", 60),
        ("sum(requests_total)", 15),
        ("max_over_time(requests_total[1h])", 15),
        ("avg_over_time(requests_total[1h])", 15),
        ("quantile_over_time(0.9, requests_total[1h])", 60),
        ("topk(5, requests_total)", 60),
        ("requests_total / on (path) requests_total", 60),
        ("max_over_time(rate(requests_total[5m])[1h:1m])", 60),
    ];
    for (query, step) in cases {
        group.bench_function(format!("{query} every {step} s"), |bencher| {
            bencher.iter(|| {
                let budget = Budget::new(Arc::new(Still), Duration::from_secs(60), 1 << 32);
                let end = SAMPLES * INTERVAL;
                engine.range(&counters, query, 0, end, step * 1000, &budget, QueryOptions::default())
            });
        });
    }
    group.finish();
}

fn histograms(criterion: &mut Criterion) {
    let memory = Memory::histograms();
    let engine = Engine::new(EngineOptions::default());
    let mut group = criterion.benchmark_group("two hours of 100 native histograms");
    group.throughput(Throughput::Elements((SERIES * HISTOGRAMS) as u64)).sample_size(10);
    for name in ["exponential", "custom"] {
        for query in [
            format!("sum({name})"),
            format!("sum(rate({name}[2m]))"),
            format!("sum(rate({name}[20m]))"),
            format!("histogram_count(sum(rate({name}[20m])))"),
            format!("histogram_quantile(0.9, sum(rate({name}[5m])))"),
            format!("avg({name})"),
            format!("sum_over_time({name}[5m])"),
        ] {
            group.bench_function(format!("{query} every 30 s"), |bencher| {
                bencher.iter(|| {
                    let budget = Budget::new(Arc::new(Still), Duration::from_secs(60), 1 << 32);
                    let end = HISTOGRAMS * INTERVAL;
                    let answer =
                        engine.range(&memory, &query, 0, end, 30_000, &budget, QueryOptions::default());
                    assert!(answer.is_ok());
                    answer
                });
            });
        }
    }
    group.finish();
}

#[allow(missing_docs, reason = "the macro writes the function")]
mod group {
    use super::{criterion_group, histograms, kernels};
    criterion_group!(benches, kernels, histograms);
}
use group::benches;
criterion_main!(benches);
