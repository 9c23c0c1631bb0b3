//! The same bytes with one thread and with many: values, annotations, statistics and errors.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests are the outside")]

use model::{
    BoxFuture, Budget, Clock, LabelQuery, Labels, QueryError, Queryable, Samples, SelectRequest, Series,
    SeriesSet, Spawner, TimestampMs, Work,
};
use promql::{Engine, EngineOptions, QueryOptions};
use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

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

/// Starts a thread for each piece, and counts the pieces.
#[derive(Debug)]
struct Threads {
    width: usize,
    pieces: AtomicUsize,
}

impl Spawner for Threads {
    fn spawn(&self, _name: &'static str, _task: BoxFuture<'static, ()>) {}
    fn blocking(&self, _name: &'static str, work: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, ()> {
        work();
        Box::pin(async {})
    }
    fn thread(&self, _name: &'static str, _work: Box<dyn FnOnce() + Send>) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
    fn width(&self) -> usize {
        self.width
    }
    fn side_by_side<'w>(&self, work: Vec<Work<'w>>) {
        self.pieces.fetch_add(work.len(), Ordering::Relaxed);
        std::thread::scope(|scope| work.into_iter().for_each(|work| drop(scope.spawn(work))));
    }
}

const STEP: i64 = 15_000;

struct Data {
    series: Vec<Series>,
    threads: Threads,
}

impl Data {
    /// Counters that are reset now and then and gauges without order, so that no two orders of adding are alike.
    fn new(width: usize) -> Data {
        let mut state = 7_u64;
        let mut random = move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        let mut series: Vec<Series> = (0..900)
            .map(|number| {
                let name = if number % 3 == 0 { "gauge" } else { "count_total" };
                let labels = Labels::from_pairs([
                    ("__name__", name.to_owned()),
                    ("le", (number % 7).to_string()),
                    ("n", number.to_string()),
                ]);
                let mut value = 0.0;
                let floats: Vec<f64> = (0..300)
                    .map(|_| {
                        let draw = random() as f64 / u64::MAX as f64;
                        value = if number % 3 == 0 {
                            draw * 1e9
                        } else if draw < 0.01 {
                            0.0
                        } else {
                            value + draw
                        };
                        value
                    })
                    .collect();
                let timestamps = (0..300).map(|i| i * STEP + number % 4).collect();
                Series { labels, samples: Samples { timestamps, floats, ..Samples::default() } }
            })
            .collect();
        series.sort_by(|a, b| a.labels.cmp(&b.labels));
        Data { series, threads: Threads { width, pieces: AtomicUsize::new(0) } }
    }

    fn matching(&self, request: &SelectRequest) -> Vec<Series> {
        let matches = |series: &&Series| {
            request.matchers.iter().all(|m| m.matches(series.labels.get(&m.name).unwrap_or("")))
        };
        self.series
            .iter()
            .filter(matches)
            .map(|series| {
                let times = &series.samples.timestamps;
                let range = times.partition_point(|t| *t < request.start.0)
                    ..times.partition_point(|t| *t <= request.end.0);
                let samples = Samples {
                    timestamps: times[range.clone()].to_vec(),
                    floats: series.samples.floats[range].to_vec(),
                    ..Samples::default()
                };
                Series { labels: series.labels.clone(), samples }
            })
            .collect()
    }
}

impl Queryable for Data {
    fn select<'a>(
        &'a self,
        request: &SelectRequest,
        _budget: &'a Budget,
    ) -> Result<SeriesSet<'a>, QueryError> {
        Ok(Box::new(self.matching(request).into_iter().map(Ok)))
    }

    fn select_lists<'a>(
        &'a self,
        request: &SelectRequest,
        _budget: &'a Budget,
        length: usize,
    ) -> Result<Vec<SeriesSet<'a>>, QueryError> {
        let mut all = self.matching(request).into_iter();
        let mut lists: Vec<SeriesSet<'a>> = Vec::new();
        while all.len() > 0 {
            let list: Vec<Series> = all.by_ref().take(length).collect();
            lists.push(Box::new(list.into_iter().map(Ok)));
        }
        Ok(lists)
    }

    fn workers(&self) -> Option<&dyn Spawner> {
        Some(&self.threads)
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

const QUERIES: &[&str] = &[
    "gauge",
    "sum(gauge)",
    "sum by (le) (rate(count_total[5m]))",
    "avg without (n) (gauge)",
    "stddev by (le) (gauge)",
    "quantile(0.7, gauge)",
    "topk(3, rate(count_total[10m]))",
    "histogram_quantile(0.9, sum by (le) (rate(count_total[5m])))",
    "max_over_time(sum(rate(count_total[5m]))[10m:1m])",
    "sum by (le) (count_total) / on (le) group_left sum by (le) (gauge)",
    "sum({n=~\".+\"})",
    "rate({n=~\".+\"}[5m])", // two metrics without their names: an error
    "sum(rate(gauge[5m]))",  // an info for each series
    "sum(quantile_over_time(2, gauge[5m]))", // warnings
    "double_exponential_smoothing(gauge[5m], 2, 0.5)", // an error of the first series
];

fn answers(width: usize, samples_max: u64) -> (Vec<String>, usize) {
    let data = Data::new(width);
    let mut options = EngineOptions { samples_max, ..EngineOptions::default() };
    options.parser.experimental_functions = true;
    let engine = Engine::new(options);
    let query = QueryOptions { stats_by_step: true, ..QueryOptions::default() };
    let texts = QUERIES.iter().map(|text| {
        let budget = Budget::new(Arc::new(Still), Duration::from_secs(60), 1 << 32);
        let answer = engine.range(&data, text, 0, 299 * STEP, 60_000, &budget, query);
        match answer {
            // Bytes differ: tracks wait for their turn.
            Ok(mut answer) => {
                answer.stats.peak_bytes = 0;
                format!("{answer:?}")
            }
            Err(error) => format!("{error:?}"),
        }
    });
    (texts.collect(), data.threads.pieces.load(Ordering::Relaxed))
}

#[test]
fn threads_do_not_change_a_byte() {
    let (alone, pieces) = answers(1, 50_000_000);
    assert_eq!(pieces, 0);
    for width in [2, 3, 16] {
        let (many, pieces) = answers(width, 50_000_000);
        assert!(pieces > 100, "nothing was done side by side: {pieces} pieces");
        for ((query, one), other) in QUERIES.iter().zip(&alone).zip(&many) {
            assert!(one == other, "{query} with {width} threads:\n{one:.2000}\n{other:.2000}");
        }
    }
}

#[test]
fn limits_end_the_same_queries() {
    let ends =
        |answers: Vec<String>| -> Vec<bool> { answers.iter().map(|text| text == "TooManySamples").collect() };
    for samples_max in [50, 1_000, 20_000] {
        let alone = ends(answers(1, samples_max).0);
        assert_eq!(ends(answers(4, samples_max).0), alone, "{samples_max}");
        assert!(alone.contains(&true));
    }
}
