//! Rates of native histograms are computed for all windows of a series at once, unless its samples have start times:
//! then each window is looked at alone. Start times that say nothing must not make a difference.

use model::{
    Budget, Clock, CounterResetHint, FloatHistogram, LabelQuery, Labels, QueryError, Queryable, Samples,
    SelectRequest, Series, SeriesSet, Span, TimestampMs,
};
use promql::{Engine, EngineOptions, Features, QueryOptions};
use std::{sync::Arc, time::Duration};

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

/// All samples of its series, with start times of zero or without.
struct Store(Vec<Series>);

impl Queryable for Store {
    fn select<'a>(&'a self, _: &SelectRequest, _: &'a Budget) -> Result<SeriesSet<'a>, QueryError> {
        Ok(Box::new(self.0.iter().cloned().map(Ok)))
    }
    fn label_names(&self, _: &LabelQuery, _: &Budget) -> Result<Vec<String>, QueryError> {
        Ok(Vec::new())
    }
    fn label_values(&self, _: &str, _: &LabelQuery, _: &Budget) -> Result<Vec<String>, QueryError> {
        Ok(Vec::new())
    }
}

/// Layouts that a series goes through: some finer than others, some with other bounds, one with spans that do not fit
/// its buckets.
fn layout(number: u64) -> FloatHistogram {
    let span = |offset, length| Span { offset, length };
    let plain = FloatHistogram {
        schema: 1,
        zero_threshold: 0.001,
        positive_spans: vec![span(0, 2), span(1, 2)],
        positive_buckets: vec![0.0; 4],
        negative_spans: vec![span(-2, 2)],
        negative_buckets: vec![0.0; 2],
        ..FloatHistogram::default()
    };
    let custom = |bounds: &[f64]| FloatHistogram {
        schema: -53,
        custom_values: bounds.into(),
        positive_spans: vec![span(0, 2), span(0, 1)],
        positive_buckets: vec![0.0; 3],
        ..FloatHistogram::default()
    };
    match number {
        0 => plain,
        1 => FloatHistogram { schema: 0, ..plain },
        2 => FloatHistogram { positive_spans: vec![span(0, 5)], positive_buckets: vec![0.0; 5], ..plain },
        3 => FloatHistogram { zero_threshold: 0.5, ..plain },
        4 => FloatHistogram { positive_spans: vec![span(0, 3), span(0, 3)], ..plain },
        5 => custom(&[1.0, 2.0, 5.0]),
        _ => custom(&[1.0, 5.0]),
    }
}

fn series(dice: &mut Dice, number: u64, layouts: &[u64]) -> Series {
    let mut samples = Samples::default();
    let mut now = layout(layouts[0]);
    let mut time = 0;
    // Most buckets of some series never grow.
    let busy = 1 + dice.below(4);
    while time < 1_800_000 {
        time += 10_000 + dice.below(10_000) as i64 + if dice.below(30) == 0 { 200_000 } else { 0 };
        if dice.below(15) == 0 {
            let next = layout(layouts[dice.below(layouts.len() as u64) as usize]);
            let (p, n) = (next.positive_buckets.len(), next.negative_buckets.len());
            let resized = |mut old: Vec<f64>, len: usize| {
                old.resize(len, 3.0);
                old
            };
            now = FloatHistogram {
                positive_buckets: resized(now.positive_buckets, p),
                negative_buckets: resized(now.negative_buckets, n),
                zero_count: now.zero_count,
                count: now.count,
                sum: now.sum,
                ..next
            };
        }
        let falls = dice.below(12) == 0;
        for bucket in now.positive_buckets.iter_mut().chain(&mut now.negative_buckets) {
            *bucket = match dice.below(4 * busy) {
                _ if falls && dice.below(2) == 0 => 0.0,
                more if more < 4 => *bucket + more as f64 / 3.0,
                _ => *bucket,
            };
        }
        now.zero_count = if falls { 0.0 } else { now.zero_count + dice.below(2) as f64 };
        now.count = now.zero_count + now.positive_buckets.iter().chain(&now.negative_buckets).sum::<f64>();
        now.sum += dice.below(100) as f64 / 7.0;
        now.counter_reset_hint = match dice.below(60) {
            0 => CounterResetHint::Reset,
            1 => CounterResetHint::NotReset,
            2 if number.is_multiple_of(2) => CounterResetHint::Gauge,
            _ => CounterResetHint::Unknown,
        };
        samples.histograms.push(samples.timestamps.len() as u32, now.view());
        samples.timestamps.push(time);
        samples.floats.push(0.0);
    }
    let labels = Labels::from_pairs([("__name__", "h"), ("number", &format!("{number:02}"))]);
    Series { labels, samples }
}

#[test]
fn all_windows_at_once_give_what_each_alone_gives() {
    let mut dice = Dice(0x5eed_5eed_5eed);
    let sets: [&[u64]; 6] = [&[0], &[5], &[0, 1, 2, 3], &[4], &[5, 6], &[0, 2, 5]];
    let mut given = 0;
    for number in 0..36 {
        let plain = series(&mut dice, number, sets[number as usize % sets.len()]);
        let mut with_starts = plain.clone();
        with_starts.samples.start_timestamps = vec![0; with_starts.samples.len()];
        let features = Features { use_start_timestamps: true, ..Features::default() };
        let engine = Engine::new(EngineOptions { features, ..EngineOptions::default() });
        for query in
            ["rate(h[1m])", "increase(h[5m])", "rate(h[25m])", "sum(rate(h[2m]))", "rate(h[10m:20s])"]
        {
            let answer = |series: &Series| {
                let store = Store(vec![series.clone()]);
                let budget = Budget::new(Arc::new(Still), Duration::from_secs(60), 1 << 30);
                let answer = engine
                    .range(&store, query, 0, 1_900_000, 7_000, &budget, QueryOptions::default())
                    .unwrap();
                let stats = (answer.stats.total_queryable_samples, answer.stats.peak_samples);
                (format!("{:?}", answer.value), answer.warnings, answer.infos, stats)
            };
            let (at_once, alone) = (answer(&plain), answer(&with_starts));
            given += at_once.0.matches("FloatHistogram").count();
            assert_eq!(at_once, alone, "{query} of series {number}");
        }
    }
    assert!(given > 10_000, "{given}");
}
