//! What evaluation costs on data in memory: a day of 100 counters, one sample every 15 seconds.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use model::{
    Budget, Clock, LabelQuery, Labels, QueryError, Queryable, Samples, SelectRequest, Series, SeriesSet,
    TimestampMs,
};
use promql::{Engine, EngineOptions, QueryOptions};
use std::{sync::Arc, time::Duration};

const SERIES: i64 = 100;
const SAMPLES: i64 = 5760;
const INTERVAL: i64 = 15_000;

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

struct Counters(Vec<Series>);

impl Counters {
    fn new() -> Counters {
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
        Counters(series)
    }
}

impl Queryable for Counters {
    fn select<'a>(
        &'a self,
        request: &SelectRequest,
        _budget: &'a Budget,
    ) -> Result<SeriesSet<'a>, QueryError> {
        let (start, end) = (request.start.0, request.end.0);
        Ok(Box::new(self.0.iter().map(move |series| {
            let times = &series.samples.timestamps;
            let range = times.partition_point(|t| *t < start)..times.partition_point(|t| *t <= end);
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
    let counters = Counters::new();
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

#[allow(missing_docs, reason = "the macro writes the function")]
mod group {
    use super::{criterion_group, kernels};
    criterion_group!(benches, kernels);
}
use group::benches;
criterion_main!(benches);
