//! Native histograms among the samples: of several resolutions, with custom bounds, with resets, gaps, stale markers,
//! changes of layout, and in series that have floats too.

use crate::{
    random::Random,
    samples::{INTERVAL, STALE, STEPS, Series, labels},
};
use tests::{WriteHistogram, WriteSpan};

/// 3.5's name of histograms with custom bounds.
const CUSTOM: i32 = -53;
const GAUGE: i32 = 3;

/// A histogram as it grows.
#[derive(Clone, Default)]
struct Growing {
    schema: i32,
    threshold: f64,
    zero: u64,
    positive_spans: Vec<(i32, u32)>,
    positive: Vec<u64>,
    negative_spans: Vec<(i32, u32)>,
    negative: Vec<u64>,
    bounds: Vec<f64>,
    sum: f64,
    hint: i32,
}

fn spans(spans: &[(i32, u32)]) -> Vec<WriteSpan> {
    spans.iter().map(|(offset, length)| WriteSpan { offset: *offset, length: *length }).collect()
}

fn deltas(counts: &[u64]) -> Vec<i64> {
    let mut before = 0;
    let mut delta = |count: &u64| {
        let now = i64::try_from(*count).expect("counts are small");
        now - std::mem::replace(&mut before, now)
    };
    counts.iter().map(&mut delta).collect()
}

impl Growing {
    /// Exponential, with zero bucket and two spans of positive buckets.
    fn exponential(schema: i32, threshold: f64) -> Growing {
        Growing {
            schema,
            threshold,
            positive_spans: vec![(-2, 4), (2, 3)],
            positive: vec![0; 7],
            ..Growing::default()
        }
    }

    /// With buckets from `first` on.
    fn from(self, first: i32) -> Growing {
        Growing { positive_spans: vec![(first, 4), (2, 3)], ..self }
    }

    fn with_negative(self) -> Growing {
        Growing { negative_spans: vec![(0, 2), (1, 1)], negative: vec![0; 3], ..self }
    }

    fn custom(bounds: &[f64]) -> Growing {
        let buckets = u32::try_from(bounds.len() + 1).expect("few bounds");
        Growing {
            schema: CUSTOM,
            bounds: bounds.to_vec(),
            positive_spans: vec![(0, buckets)],
            positive: vec![0; bounds.len() + 1],
            ..Growing::default()
        }
    }

    fn gauge(self) -> Growing {
        Growing { hint: GAUGE, ..self }
    }

    fn forget(&mut self) {
        self.zero = 0;
        self.sum = 0.0;
        self.positive.fill(0);
        self.negative.fill(0);
    }

    fn observe(&mut self, random: &mut Random) {
        if self.schema != CUSTOM {
            self.zero += random.below(3) as u64;
        }
        for (i, count) in self.positive.iter_mut().enumerate() {
            *count += random.below(6 - i.min(4)) as u64;
        }
        self.negative.iter_mut().for_each(|count| *count += random.below(3) as u64);
        self.sum += random.fraction() * 20.0;
    }

    fn count(&self) -> u64 {
        self.zero + self.positive.iter().sum::<u64>() + self.negative.iter().sum::<u64>()
    }

    fn integers(&self, timestamp: i64) -> WriteHistogram {
        WriteHistogram {
            count_int: Some(self.count()),
            sum: self.sum,
            schema: self.schema,
            zero_threshold: self.threshold,
            zero_count_int: Some(self.zero),
            negative_spans: spans(&self.negative_spans),
            negative_deltas: deltas(&self.negative),
            positive_spans: spans(&self.positive_spans),
            positive_deltas: deltas(&self.positive),
            reset_hint: self.hint,
            timestamp,
            custom_values: self.bounds.clone(),
            ..WriteHistogram::default()
        }
    }

    fn floats(&self, timestamp: i64) -> WriteHistogram {
        let floats = |counts: &[u64]| counts.iter().map(|count| *count as f64 / 4.0).collect::<Vec<_>>();
        WriteHistogram {
            count_int: None,
            count_float: Some(self.count() as f64 / 4.0),
            zero_count_int: None,
            zero_count_float: Some(self.zero as f64 / 4.0),
            negative_deltas: Vec::new(),
            negative_counts: floats(&self.negative),
            positive_deltas: Vec::new(),
            positive_counts: floats(&self.positive),
            ..self.integers(timestamp)
        }
    }
}

fn stale(timestamp: i64) -> WriteHistogram {
    WriteHistogram {
        count_int: Some(0),
        zero_count_int: Some(0),
        sum: f64::from_bits(STALE),
        timestamp,
        ..WriteHistogram::default()
    }
}

impl Series {
    /// A series of histograms; `value` may leave steps out.
    fn add_histograms(
        &mut self,
        name: &str,
        pairs: &[(&str, &str)],
        mut value: impl FnMut(i64, i64, &mut Random) -> Option<WriteHistogram>,
    ) {
        let start = self.start;
        let random = &mut self.random;
        let samples = (0..STEPS).filter_map(|step| value(step, start + step * INTERVAL, random)).collect();
        self.all.push((labels(name, pairs), Vec::new(), samples));
    }

    fn counters(&mut self) {
        for (i, instance) in ["a:80", "b:80", "c:80"].into_iter().enumerate() {
            for code in ["200", "500"] {
                let mut growing = match i {
                    0 => Growing::exponential(3, 0.001),
                    1 => Growing::exponential(0, 0.01),
                    _ => Growing::exponential(2, 0.001).with_negative(),
                };
                let pairs = [("instance", instance), ("job", "api"), ("code", code)];
                self.add_histograms("native_seconds", &pairs, |step, time, random| {
                    if i == 1 && step == 100 {
                        growing.forget();
                    }
                    if i == 0 && step == 180 {
                        growing = Growing::exponential(1, 0.001);
                    }
                    growing.observe(random);
                    match step {
                        120..160 if i == 2 => None,
                        200 if code == "500" => Some(stale(time)),
                        201..230 if code == "500" => None,
                        _ => Some(growing.integers(time)),
                    }
                });
            }
        }
    }

    fn gauges(&mut self) {
        for (instance, schema) in [("a:80", 1), ("b:80", 4)] {
            let pairs = [("instance", instance), ("job", "api")];
            self.add_histograms("native_gauge", &pairs, |_, time, random| {
                let mut now = Growing::exponential(schema, 0.001).gauge();
                (0..random.below(4)).for_each(|_| now.observe(random));
                Some(now.floats(time))
            });
        }
    }

    fn custom(&mut self) {
        let bounds: [&[f64]; 3] = [&[0.1, 0.5, 1.0, 5.0], &[0.1, 0.5, 1.0, 5.0], &[0.1, 1.0, 2.0]];
        for (instance, bounds) in ["a:80", "b:80", "c:80"].into_iter().zip(bounds) {
            let mut growing = Growing::custom(bounds);
            let pairs = [("instance", instance), ("job", "api")];
            self.add_histograms("custom_seconds", &pairs, |step, time, random| {
                if instance == "b:80" && step == 200 {
                    growing = Growing::custom(&[0.5, 1.0, 10.0]);
                }
                growing.observe(random);
                Some(growing.integers(time))
            });
        }
    }

    /// Floats and histograms by turns of a hundred and twenty steps, so that no request has both of one series.
    fn mixed(&mut self) {
        for (l, first) in [("1", 0), ("2", 1)] {
            let mut growing = Growing::exponential(1, 0.001);
            self.add("mixed", &[("l", l)], |step, _| (step / 120 % 2 == first).then_some(step as f64));
            let floats = self.all.pop().expect("just added").1;
            self.add_histograms("mixed", &[("l", l)], |step, time, random| {
                growing.observe(random);
                (step / 120 % 2 != first).then(|| growing.floats(time))
            });
            self.all.last_mut().expect("just added").1 = floats;
        }
        for le in ["1", "5", "+Inf", "broken"] {
            self.add("both", &[("le", le), ("l", "1")], |step, _| Some(step as f64 * le.len() as f64));
        }
        let mut growing = Growing::exponential(1, 0.001);
        self.add_histograms("both", &[("l", "1")], |_, time, random| {
            growing.observe(random);
            Some(growing.integers(time))
        });
        self.add("layouts", &[("l", "float")], |step, _| Some(step as f64));
        let layouts = [
            Growing::exponential(0, 0.0),
            Growing::exponential(-1, 0.25).from(0).with_negative(),
            Growing::custom(&[1.0, 2.0]),
        ];
        for (l, mut growing) in ["0", "-1", "custom"].into_iter().zip(layouts) {
            self.add_histograms("layouts", &[("l", l)], |_, time, random| {
                growing.observe(random);
                Some(growing.floats(time))
            });
        }
    }

    fn strange(&mut self) {
        self.add_histograms("native_odd", &[("l", "empty")], |_, time, _| {
            Some(Growing::exponential(0, 0.001).integers(time))
        });
        let mut growing = Growing::exponential(0, 0.001);
        self.add_histograms("native_odd", &[("l", "infinite")], |_, time, random| {
            growing.observe(random);
            Some(WriteHistogram { sum: f64::INFINITY, ..growing.integers(time) })
        });
        let mut growing = Growing::exponential(0, 0.001);
        self.add_histograms("native_odd", &[("l", "nan")], |_, time, random| {
            growing.observe(random);
            let counted = growing.integers(time);
            Some(WriteHistogram {
                sum: f64::NAN,
                count_int: counted.count_int.map(|count| count + 3),
                ..counted
            })
        });
        let mut growing = Growing::exponential(0, 0.001);
        self.add_histograms("native_odd", &[("l", "jumping")], |step, time, random| {
            growing.observe(random);
            // Buckets that come and go.
            growing.positive_spans = vec![(i32::try_from(step % 5).expect("small") - 2, 7)];
            Some(growing.integers(time))
        });
    }
}

/// All of them.
pub(crate) fn add(series: &mut Series) {
    series.counters();
    series.gauges();
    series.custom();
    series.mixed();
    series.strange();
}
