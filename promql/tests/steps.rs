//! A range query has at each step what an instant query has at that time: whatever is carried from step to step must
//! not show.

use model::{
    Budget, Clock, CounterResetHint, FloatHistogram, LabelQuery, Labels, Matcher, QueryError, Queryable,
    STALE_NAN, Samples, SelectRequest, Series, SeriesSet, Span, TimestampMs,
};
use promql::{Engine, EngineOptions, EvalError, Features, ParserOptions, Point, QueryOptions, Value};
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
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

/// Xorshift: the seed is the test.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

struct Store(Vec<Series>);

fn histogram(scale: f64, hint: CounterResetHint) -> Arc<FloatHistogram> {
    Arc::new(FloatHistogram {
        counter_reset_hint: hint,
        count: 6.0 * scale,
        sum: 9.5 * scale,
        zero_threshold: 0.001,
        zero_count: scale,
        positive_spans: vec![Span { offset: 0, length: 2 }, Span { offset: 1, length: 1 }],
        positive_buckets: vec![2.0 * scale, scale, 2.0 * scale],
        ..FloatHistogram::default()
    })
}

fn samples(dice: &mut Dice, kind: u64) -> Samples {
    let mut samples = Samples::default();
    let (mut time, mut value) = (dice.below(30_000) as i64, 0.0);
    while time < 3_600_000 {
        value = if dice.below(20) == 0 { 0.0 } else { value + dice.below(50) as f64 / 4.0 };
        let float = match dice.below(60) {
            0 => STALE_NAN,
            1 if kind == 1 => f64::NAN,
            2 if kind == 1 => f64::INFINITY,
            _ if kind == 1 => dice.below(2000) as f64 - 1000.0,
            _ => value,
        };
        if kind == 2 && dice.below(40) != 0 {
            let position = samples.timestamps.len() as u32;
            samples.histograms.push(position, histogram(1.0 + value, CounterResetHint::Unknown).view());
            samples.floats.push(0.0);
        } else {
            samples.floats.push(float);
        }
        samples.timestamps.push(time);
        time += 5_000 + dice.below(15_000) as i64 * (1 + 20 * u64::from(dice.below(25) == 0) as i64);
    }
    samples
}

impl Store {
    fn new(seed: u64) -> Store {
        let mut dice = Dice(seed);
        let mut all = BTreeMap::new();
        for (name, kind, count) in [("c_total", 0, 6), ("g", 1, 6), ("h", 2, 3), ("b_bucket", 0, 8)] {
            for number in 0..count {
                let le = ["0.1", "1", "5", "+Inf"][number % 4];
                let le = if name == "b_bucket" { le } else { "" };
                let pairs = [
                    ("__name__", name),
                    ("le", le),
                    ("x", ["a", "b"][number % 2]),
                    ("y", &number.to_string()),
                ];
                all.insert(Labels::from_pairs(pairs), samples(&mut dice, kind));
            }
        }
        Store(all.into_iter().map(|(labels, samples)| Series { labels, samples }).collect())
    }
}

fn matches(labels: &Labels, matchers: &[Matcher]) -> bool {
    matchers.iter().all(|matcher| matcher.matches(labels.get(&matcher.name).unwrap_or("")))
}

impl Queryable for Store {
    fn select<'a>(
        &'a self,
        request: &SelectRequest,
        _budget: &'a Budget,
    ) -> Result<SeriesSet<'a>, QueryError> {
        let request = request.clone();
        let found = self.0.iter().filter(|series| matches(&series.labels, &request.matchers));
        let cut = |series: &Series| {
            let all = &series.samples;
            let first = all.timestamps.partition_point(|time| *time < request.start.0);
            let next = all.timestamps.partition_point(|time| *time <= request.end.0);
            let inside = |position: u32| (first..next).contains(&(position as usize));
            let histograms = all.histograms.iter().filter(|(position, _)| inside(*position));
            Ok(Series {
                labels: series.labels.clone(),
                samples: Samples {
                    timestamps: all.timestamps[first..next].to_vec(),
                    floats: all.floats[first..next].to_vec(),
                    histograms: histograms.map(|(p, h)| (p - first as u32, Arc::new(h.to_float()))).collect(),
                    start_timestamps: Vec::new(),
                },
            })
        };
        Ok(Box::new(found.map(cut).collect::<Vec<_>>().into_iter()))
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
    "c_total",
    "h",
    "g offset 3m",
    "c_total @ 1800",
    "rate(c_total[2m])",
    "rate(c_total[30m])",
    "increase(c_total[7m] offset 1m)",
    "delta(g[5m])",
    "irate(c_total[3m])",
    "idelta(g[3m])",
    "rate(h[10m])",
    "increase(h[3m])",
    "rate(c_total[4m] anchored)",
    "increase(c_total[4m] smoothed)",
    "g smoothed",
    "resets(c_total[20m])",
    "changes(g[9m])",
    "sum_over_time(c_total[25m])",
    "sum_over_time(g[25m])",
    "avg_over_time(c_total[40m])",
    "avg_over_time(h[6m])",
    "min_over_time(g[11m])",
    "max_over_time(g[33m])",
    "stddev_over_time(c_total[10m])",
    "quantile_over_time(0.3, g[13m])",
    "mad_over_time(c_total[13m])",
    "count_over_time(h[5m])",
    "present_over_time(g[1m])",
    "absent_over_time(g{y=\"1\"}[30s])",
    "last_over_time(h[7m])",
    "first_over_time(c_total[7m])",
    "ts_of_max_over_time(g[12m])",
    "deriv(c_total[10m])",
    "predict_linear(c_total[10m], 600)",
    "double_exponential_smoothing(c_total[10m], 0.3, 0.6)",
    "timestamp(c_total)",
    "timestamp(c_total * 2)",
    "absent(g{y=\"1\"})",
    "sum by (x) (c_total)",
    "sum(h)",
    "avg without (y) (rate(c_total[5m]))",
    "stdvar by (x) (c_total)",
    "min(g)",
    "max by (x) (g)",
    "count(h) by (x)",
    "group(g)",
    "quantile by (x) (0.7, c_total)",
    "topk by (x) (2, c_total)",
    "bottomk(3, c_total)",
    "limitk(4, c_total)",
    "limit_ratio(-0.5, c_total)",
    "count_values by (x) (\"v\", round(c_total, 50))",
    "histogram_quantile(0.6, rate(b_bucket[5m]))",
    "histogram_fraction(0.2, 4, b_bucket)",
    "histogram_quantile(0.9, h)",
    "histogram_count(rate(h[5m]))",
    "c_total + on (x, y) g",
    "c_total / ignoring (y) group_left () sum by (x) (c_total)",
    "c_total > bool 30",
    "g < 0",
    "30 < g",
    "c_total and on (y) (g > 0)",
    "g or c_total",
    "c_total unless on (y) (g > 0)",
    "c_total + on (y) fill (0) (g > 0)",
    "h * 2",
    "h / on (x, y) c_total",
    "h + h",
    "-g",
    "clamp(g, -100, 100)",
    "round(g, 7)",
    "sgn(g)",
    "day_of_week(c_total * 86400)",
    "scalar(g{y=\"2\"}) + c_total",
    "vector(time())",
    "label_replace(c_total, \"z\", \"$1-$2\", \"y\", \"(.)(.*)\")",
    "label_join(c_total, \"z\", \"/\", \"x\", \"y\")",
    "max_over_time(rate(c_total[2m])[15m:30s])",
    "avg_over_time((c_total > 10)[20m:7s] offset 2m)",
    "sum(rate(c_total[5m])) / count(c_total)",
    "time() % 100 > bool 50",
    "minute()",
];

fn engine(delayed_name_removal: bool) -> Engine {
    Engine::new(EngineOptions {
        features: Features { delayed_name_removal, ..Features::default() },
        parser: ParserOptions::all_features(),
        ..EngineOptions::default()
    })
}

fn budget() -> Budget {
    Budget::new(Arc::new(Still), Duration::from_secs(60), 1 << 30)
}

fn close(a: f64, b: f64) -> bool {
    a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= 1e-9 * a.abs().max(b.abs()).max(1e-3)
}

fn same(a: &Point, b: &Point) -> bool {
    match (a, b) {
        (Point::Float(a), Point::Float(b)) => close(*a, *b),
        (Point::Histogram(a), Point::Histogram(b)) => {
            close(a.count, b.count) && close(a.sum, b.sum) && a.positive_spans == b.positive_spans
        }
        _ => false,
    }
}

/// What each series has at a time.
type AtTime = BTreeMap<Labels, Point>;

fn instant(engine: &Engine, store: &Store, query: &str, time: i64) -> Result<AtTime, String> {
    let answer = engine.instant(store, query, time, &budget(), QueryOptions::default());
    match answer.map_err(|error| error.to_string())?.value {
        Value::Vector(samples) => Ok(samples.into_iter().map(|s| (s.labels, s.value)).collect()),
        Value::Scalar(value) => Ok(AtTime::from([(Labels::empty(), Point::Float(value))])),
        other => Err(format!("{other:?}")),
    }
}

fn check(engine: &Engine, store: &Store, query: &str, seed: u64) {
    check_between(engine, store, query, (120_000, 3_700_000, 61_000), seed);
}

fn check_between(
    engine: &Engine,
    store: &Store,
    query: &str,
    (start, end, step): (i64, i64, i64),
    seed: u64,
) {
    let range = engine.range(store, query, start, end, step, &budget(), QueryOptions::default());
    let range = range.unwrap_or_else(|error| panic!("{query} (seed {seed}): {error}"));
    let Value::Matrix(series) = range.value else { panic!("{query}: no matrix") };
    let mut steps: BTreeMap<i64, AtTime> = BTreeMap::new();
    for s in &series {
        let floats = s.floats.iter().map(|(time, value)| (*time, Point::Float(*value)));
        let histograms = s.histograms.iter().map(|(time, h)| (*time, Point::Histogram(Arc::clone(h))));
        for (time, point) in floats.chain(histograms) {
            steps.entry(time).or_default().insert(s.labels.clone(), point);
        }
    }
    for time in (start..=end).step_by(step as usize) {
        let expected = instant(engine, store, query, time).unwrap_or_else(|error| panic!("{query}: {error}"));
        let got = steps.remove(&time).unwrap_or_default();
        let equal = expected.len() == got.len()
            && expected.iter().zip(&got).all(|((a, x), (b, y))| a == b && same(x, y));
        assert!(equal, "{query} at {time} (seed {seed}):\n instant {expected:?}\n range   {got:?}");
    }
}

#[test]
fn a_step_of_a_range_is_an_instant() {
    for seed in [3053, 77, 424_242] {
        let store = Store::new(seed);
        QUERIES.iter().for_each(|query| check(&engine(false), &store, query, seed));
        QUERIES.iter().for_each(|query| check(&engine(true), &store, query, seed));
    }
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a thread with a stack of a given size")]
fn a_deep_tree_fits_into_a_small_stack() {
    let small = std::thread::Builder::new().stack_size(2 << 20);
    let run = || {
        let (store, engine) = (Store::new(1), engine(false));
        let calls = format!("{}g{}", "abs(".repeat(490), ")".repeat(490));
        let sums = format!("{}g{}", "sum(".repeat(490), ")".repeat(490));
        let adds = format!("g{}", " + g".repeat(490));
        [calls, sums, adds].map(|query| instant(&engine, &store, &query, 1_800_000).is_ok())
    };
    let done = small.spawn(run).expect("a thread starts").join().expect("the stack is deep enough");
    assert_eq!(done, [true, true, true]);
}

#[test]
fn a_grid_that_cannot_fit_is_refused_before_memory_is_spent() {
    let (store, engine) = (Store::new(1), engine(false));
    let error = instant(&engine, &store, "max_over_time(g[100y:1ms])", 1_800_000).unwrap_err();
    assert!(error.contains("bytes of memory"), "{error}");
}

#[test]
fn too_many_samples_are_refused_with_prometheus_text() {
    let engine = Engine::new(EngineOptions { samples_max: 10, ..EngineOptions::default() });
    let error = instant(&engine, &Store::new(1), "{__name__=~\".+\"}", 1_800_000).unwrap_err();
    assert_eq!(error, "query processing would load too many samples into memory in query execution");
}

/// Expressions of a small grammar, most of which have values in the store.
struct Grammar(Dice);

impl Grammar {
    fn pick<'t>(&mut self, texts: &[&'t str]) -> &'t str {
        texts[self.0.below(texts.len() as u64) as usize]
    }

    fn vector(&mut self, depth: u64) -> String {
        if depth == 0 || self.0.below(5) == 0 {
            let name = self.pick(&["c_total", "g", "h", "b_bucket", "c_total{x=\"a\"}", "{y=~\"0|1\"}"]);
            let modifier = self.pick(&["", "", "", " offset 2m", " @ 1500", " offset -1m", " @ end()"]);
            return format!("{name}{modifier}");
        }
        let inner = self.vector(depth - 1);
        match self.0.below(8) {
            0 => {
                let op = self.pick(&["sum", "avg", "min", "max", "count", "group", "stddev"]);
                let by = self.pick(&["", " by (x)", " without (y)", " by (x, le)", " by (__name__)"]);
                format!("{op}{by} ({inner})")
            }
            1 => {
                let op = self.pick(&["topk", "bottomk", "limitk", "quantile", "limit_ratio"]);
                let k = self.pick(&["1", "3", "0.4", "-0.3"]);
                format!("{op} by (x) ({k}, {inner})")
            }
            2 => {
                let other = self.vector(depth - 1);
                let op = self
                    .pick(&["+", "-", "*", "/", ">", "== bool", "and", "or", "unless", "^", "%", "atan2"]);
                let on = self.pick(&["", " on (x, y, le)", " ignoring (le)"]);
                format!("({inner}) {op}{on} ({other})")
            }
            3 => {
                let op = self.pick(&["+", "*", ">", "!= bool", "/", ">=", "</", ">/"]);
                let scalar = self.pick(&["2", "time()", "-7", "scalar(g{y=\"0\"})", "NaN", "0"]);
                format!("({inner}) {op} {scalar}")
            }
            4 => {
                let func = self.pick(&[
                    "abs",
                    "-",
                    "exp",
                    "sort",
                    "ceil",
                    "sgn",
                    "timestamp",
                    "absent",
                    "histogram_sum",
                ]);
                format!("{func}({inner})")
            }
            5 => {
                let func = self.pick(&[
                    "rate",
                    "increase",
                    "delta",
                    "irate",
                    "sum_over_time",
                    "avg_over_time",
                    "max_over_time",
                    "last_over_time",
                    "changes",
                    "resets",
                    "deriv",
                    "count_over_time",
                    "stdvar_over_time",
                ]);
                let window = self.pick(&["[5m:1m]", "[20m:30s]", "[3m:10s] offset 1m", "[10m:]"]);
                format!("{func}(({inner}){window})")
            }
            6 => {
                let func = self.pick(&[
                    "rate",
                    "increase",
                    "delta",
                    "idelta",
                    "sum_over_time",
                    "min_over_time",
                    "first_over_time",
                    "quantile_over_time(0.2, ",
                    "present_over_time",
                    "absent_over_time",
                ]);
                let name = self.pick(&["c_total", "g", "h", "b_bucket"]);
                let window = self.pick(&["[1m]", "[5m]", "[31m]", "[7m] offset 3m", "[5m] @ 2000"]);
                let open = if func.ends_with(' ') { "" } else { "(" };
                format!("{func}{open}{name}{window})")
            }
            _ => {
                let q = self.pick(&["0.5", "0.99", "0", "2"]);
                format!("histogram_quantile({q}, {inner})")
            }
        }
    }
}

#[test]
fn generated_queries_have_at_each_step_what_an_instant_has() {
    let store = Store::new(5);
    let mut grammar = Grammar(Dice(20_260_821));
    let (start, end, step) = (300_000, 3_400_000, 310_000);
    let (mut answered, mut refused) = (0, 0);
    for number in 0..1500 {
        let query = grammar.vector(1 + number % 4);
        let engine = engine(number % 2 == 0);
        let range = engine.range(&store, &query, start, end, step, &budget(), QueryOptions::default());
        let of_range = query.contains("end()");
        match range {
            Ok(_)
                if !of_range
                    && (start..=end)
                        .step_by(step as usize)
                        .all(|time| instant(&engine, &store, &query, time).is_ok()) =>
            {
                answered += 1;
                check_between(&engine, &store, &query, (start, end, step), 5);
            }
            Ok(_) => {}
            Err(_) => refused += 1,
        }
    }
    println!("{answered} compared, {refused} refused");
    assert!(answered > 700);
}

#[test]
fn samples_are_counted_for_each_step_that_looks_at_them() {
    let times: Vec<i64> = (0..60).map(|i| i * 60_000).collect();
    let samples = Samples { floats: vec![1.0; 60], timestamps: times, ..Samples::default() };
    let store = Store(vec![Series { labels: Labels::from_pairs([("__name__", "m")]), samples }]);
    let by_step = |query: &str| {
        let options = QueryOptions { stats_by_step: true, ..QueryOptions::default() };
        let answer = engine(false).range(&store, query, 600_000, 720_000, 60_000, &budget(), options);
        let stats = answer.expect("it has an answer").stats;
        assert_eq!(stats.total_queryable_samples, stats.by_step.iter().map(|(_, count)| count).sum::<u64>());
        stats.by_step
    };
    let of_each = |count: u64| vec![(600_000, count), (660_000, count), (720_000, count)];
    assert_eq!(by_step("m"), of_each(1));
    assert_eq!(by_step("sum_over_time(m[5m])"), of_each(5));
    assert_eq!(by_step("m @ 300"), of_each(1));
    assert_eq!(by_step("sum_over_time(m[10m:2m])"), of_each(5));
}

#[test]
fn a_label_that_explodes_is_refused_before_memory_is_spent() {
    let value = "v".repeat(4096);
    let labels = Labels::from_pairs([("__name__", "m"), ("a", &value)]);
    let samples = Samples { floats: vec![1.0], timestamps: vec![0], ..Samples::default() };
    let store = Store(vec![Series { labels, samples }]);
    let query = format!("label_replace(m, \"b\", \"{}\", \"a\", \"(.*)\")", "$1".repeat(400_000));
    let error = instant(&engine(false), &store, &query, 0).unwrap_err();
    assert!(error.contains("bytes of memory"), "{error}");
}

#[test]
fn labels_that_repeat_without_their_names_are_an_error_inside_an_aggregation_too() {
    let series = |name: &str| Series {
        labels: Labels::from_pairs([("__name__", name), ("a", "b")]),
        samples: Samples { floats: vec![1.0], timestamps: vec![0], ..Samples::default() },
    };
    let store = Store(vec![series("m"), series("n")]);
    let error = |query: &str| instant(&engine(false), &store, query, 0).unwrap_err();
    let repeated = "vector cannot contain metrics with the same labelset";
    assert_eq!(error("min by () (day_of_week({__name__=~\"m|n\"}))"), repeated);
    assert_eq!(error("abs(-{__name__=~\"m|n\"})"), repeated);
    assert_eq!(error("sum({__name__=~\"m|n\"} * 2)"), repeated);
    assert!(instant(&engine(false), &store, "sum(abs(m))", 0).is_ok());
    assert!(instant(&engine(false), &store, "sum({__name__=~\"m|n\"} > 0)", 0).is_ok());
}

/// A clock that advances by a millisecond with each look.
#[derive(Debug, Default)]
struct Ticking(AtomicU64);

impl Clock for Ticking {
    fn now(&self) -> TimestampMs {
        TimestampMs(0)
    }
    fn monotonic(&self) -> Duration {
        Duration::from_millis(self.0.fetch_add(1, Ordering::Relaxed))
    }
}

#[test]
fn one_series_of_many_wide_windows_keeps_its_time() {
    let budget = Budget::new(Arc::new(Ticking::default()), Duration::from_millis(8), 1 << 30);
    let query = "quantile_over_time(0.5, g{y=\"1\"}[1h])";
    let store = Store::new(1);
    let result = engine(false).range(&store, query, 0, 7_200_000, 500, &budget, QueryOptions::default());
    assert_eq!(result.unwrap_err(), EvalError::TimedOut);
}

#[test]
fn an_answer_holds_its_bytes_and_nothing_else() {
    let (engine, store, budget) = (engine(false), Store::new(1), budget());
    let answer = engine.range(&store, "c_total * 2", 0, 600_000, 1_000, &budget, QueryOptions::default());
    let Value::Matrix(series) = answer.expect("it fits").value else { panic!("a range gives a matrix") };
    let bytes: u64 = series.iter().map(promql::MatrixSeries::bytes).sum();
    assert!(bytes > 16 * 600 * 6 && budget.bytes_peak() >= bytes);
    budget.take((1 << 30) - bytes).expect("all else was given back");
    assert!(budget.take(1).is_err());
}

#[test]
fn functions_of_a_histogram_keep_type_and_unit_unless_names_go_at_the_end() {
    let pairs = [("__name__", "h"), ("__type__", "histogram"), ("__unit__", "seconds"), ("x", "1")];
    let samples = Samples {
        timestamps: vec![0],
        floats: vec![0.0],
        histograms: [(0, histogram(1.0, CounterResetHint::Unknown))].into_iter().collect(),
        start_timestamps: Vec::new(),
    };
    let store = Store(vec![Series { labels: Labels::from_pairs(pairs), samples }]);
    let labels = |delayed, query: &str| {
        let all = instant(&engine(delayed), &store, query, 0).expect("it has an answer");
        all.into_keys().next().expect("one series").to_string()
    };
    for function in ["count", "sum", "avg", "stddev", "stdvar"] {
        let query = format!("histogram_{function}(h)");
        assert_eq!(labels(false, &query), r#"{__type__="histogram", __unit__="seconds", x="1"}"#);
        assert_eq!(labels(true, &query), r#"{x="1"}"#);
    }
    assert_eq!(labels(false, "histogram_quantile(0.5, h)"), r#"{x="1"}"#);
}

/// So many series of `labels(i)`, with the same sample each.
fn alike(count: usize, histograms: bool, labels: impl Fn(usize) -> Labels) -> Vec<Series> {
    let sample = histograms.then(|| (0, histogram(1.0, CounterResetHint::Unknown)));
    let samples = Samples {
        timestamps: vec![0],
        floats: vec![1.0],
        histograms: sample.into_iter().collect(),
        start_timestamps: Vec::new(),
    };
    (0..count).map(|i| Series { labels: labels(i), samples: samples.clone() }).collect()
}

#[test]
fn what_is_kept_for_each_step_beside_the_series_is_refused_before_memory_is_spent() {
    let metric = |name, label, i: usize| {
        Labels::from_pairs([("__name__", name), ("instance", "a"), ("job", "b"), (label, &i.to_string())])
    };
    let mut all: Vec<Series> = alike(200, false, |i| metric("m_info", "n", i));
    all.extend(alike(200, true, |i| metric("h", "g", i)));
    all.extend(alike(200, false, |i| metric("i", "g", i)));
    all.extend(alike(1, false, |i| metric("one", "n", i)));
    all.sort_by(|a, b| a.labels.cmp(&b.labels));
    let store = Store(all);
    let error = |query: &str, mebibytes: u64| {
        let budget = Budget::new(Arc::new(Still), Duration::from_secs(60), mebibytes << 20);
        let asked = engine(false).range(&store, query, 0, 299_000, 100, &budget, QueryOptions::default());
        budget.take(mebibytes << 20).expect("all is given back");
        asked.expect_err(query).to_string()
    };
    // 200 info series of 2,991 steps at 16 bytes are 9 MiB.
    let refused = error("info(one, {__name__=\"m_info\"})", 4);
    assert!(refused.contains("bytes of memory"), "{refused}");
    // 200 sums of 2,991 histograms are more than 100 MiB, even if floats make them void in the end.
    let refused = error("sum by (g) ({__name__=~\"h|i\"})", 64);
    assert!(refused.contains("bytes of memory"), "{refused}");
}

#[test]
fn a_matrix_counts_what_was_read_for_it() {
    let times: Vec<i64> = (0..60).map(|i| i * 60_000).collect();
    let floats = Samples { floats: vec![1.0; 60], timestamps: times.clone(), ..Samples::default() };
    let of_histogram = |i| (i, histogram(1.0, CounterResetHint::Unknown));
    let histograms = Samples { histograms: (0..60).map(of_histogram).collect(), ..floats.clone() };
    let named = |name| Labels::from_pairs([("__name__", name)]);
    let store = Store(vec![
        Series { labels: named("h"), samples: histograms },
        Series { labels: named("m"), samples: floats },
    ]);
    let count = |query: &str| {
        let options = QueryOptions { stats_by_step: true, ..QueryOptions::default() };
        let stats = engine(false).instant(&store, query, 600_000, &budget(), options).expect(query).stats;
        assert_eq!(stats.by_step, [(600_000, stats.total_queryable_samples)]);
        stats.total_queryable_samples
    };
    assert_eq!(count("m[5m]"), 5);
    assert_eq!(count("h"), 13, "a histogram counts as many as floats have its size");
    assert_eq!(count("h[5m]"), 5 * 13);
    assert_eq!(count("m[5m:1m]"), 5);
    assert_eq!(count("sum_over_time(m[3m])[5m:1m]"), 15, "not the five of the result");
    assert_eq!(count("m smoothed"), 0, "as in Prometheus");
}

#[test]
fn one_large_group_keeps_its_time() {
    let series = |i: usize| Labels::from_pairs([("__name__", "m"), ("i", &i.to_string())]);
    let store = Store(alike(1_000, false, series));
    let ends = |query: &str, time: u64| {
        // Selecting the series takes a look, and so a millisecond, each.
        let budget = Budget::new(Arc::new(Ticking::default()), Duration::from_millis(time), 1 << 30);
        let asked = engine(false).range(&store, query, 0, 299_000, 100, &budget, QueryOptions::default());
        assert_eq!(asked.map(|_| ()), Err(EvalError::TimedOut), "{query}");
    };
    ends("quantile(0.5, m)", 1_010);
    ends("topk(5, m)", 1_010);
    ends("limitk(5, m)", 1_010);
    ends("m and m", 2_010);
    ends("m unless on (i) m", 2_010);
}
