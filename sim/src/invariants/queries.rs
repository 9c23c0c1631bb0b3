//! O10: functions and aggregations equal what a few naive lines make of the raw samples, and equal bytes come from
//! every node.
//!
//! The raw samples are asked for before and after: if both are the same, nothing was added meanwhile, and the answer in
//! between must fit them. The raw samples themselves are judged in `answers.rs`.

use crate::ledger::Shown;
use std::collections::BTreeMap;

/// Raw samples by series.
pub type Raw = BTreeMap<String, Shown>;
/// An instant vector: the value by series; an aggregate has the empty name.
pub type Vector = BTreeMap<String, f64>;

/// The window of the functions over ranges, milliseconds.
const WINDOW_MS: i64 = 20_000;

/// What is asked and judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// `sum(m)`
    Sum,
    /// `count(m)`
    Count,
    /// `max(m)`
    Max,
    /// `count_over_time(m[20s])`
    CountOverTime,
    /// `sum(sum_over_time(m[20s]))`
    SumOverTime,
    /// `increase(m[20s])`
    Increase,
    /// `rate(m[20s])`
    Rate,
}

impl Question {
    /// All of them.
    pub const ALL: &[Question] = &[
        Question::Sum,
        Question::Count,
        Question::Max,
        Question::CountOverTime,
        Question::SumOverTime,
        Question::Increase,
        Question::Rate,
    ];

    /// The query about the metric `of`.
    #[must_use]
    pub fn text(self, of: &str) -> String {
        match self {
            Question::Sum => format!("sum({of})"),
            Question::Count => format!("count({of})"),
            Question::Max => format!("max({of})"),
            Question::CountOverTime => format!("count_over_time({of}[20s])"),
            Question::SumOverTime => format!("sum(sum_over_time({of}[20s]))"),
            Question::Increase => format!("increase({of}[20s])"),
            Question::Rate => format!("rate({of}[20s])"),
        }
    }

    /// Whether it is about instants, where stale markers count, which raw samples do not show.
    #[must_use]
    pub fn is_instant(self) -> bool {
        matches!(self, Question::Sum | Question::Count | Question::Max)
    }

    /// The answer at `at` by these samples.
    #[must_use]
    pub fn naive(self, raw: &Raw, at: i64) -> Vector {
        let latest = || raw.values().filter_map(|series| latest(series, at));
        let all = |value: Option<f64>| value.map(|value| (String::new(), value)).into_iter().collect();
        let windows = windows(raw, at);
        let each = |of: &dyn Fn(&Shown) -> Option<f64>| -> Vector {
            windows.iter().filter_map(|(name, window)| Some((name.clone(), of(window)?))).collect()
        };
        match self {
            Question::Sum => all(latest().reduce(|a, b| a + b)),
            Question::Count => all(Some(latest().count() as f64).filter(|count| *count > 0.0)),
            Question::Max => all(latest().reduce(f64::max)),
            Question::CountOverTime => each(&|window| Some(window.len() as f64)),
            Question::SumOverTime => {
                all(windows.values().flatten().map(|(_, value)| *value).reduce(|a, b| a + b))
            }
            Question::Increase => each(&|window| increase(window, at)),
            Question::Rate => each(&|window| Some(increase(window, at)? / (WINDOW_MS as f64 / 1000.0))),
        }
    }
}

/// The newest value at `at`; the raw samples reach back no further than an instant looks.
fn latest(series: &Shown, at: i64) -> Option<f64> {
    series.iter().rfind(|(time, _)| *time <= at).map(|(_, value)| *value)
}

/// The samples of each series in the window that ends at `at` and is open at its beginning.
fn windows(raw: &Raw, at: i64) -> Raw {
    let within = |time: i64| time > at - WINDOW_MS && time <= at;
    let cut =
        |series: &Shown| -> Shown { series.iter().copied().filter(|(time, _)| within(*time)).collect() };
    let windows = raw.iter().map(|(name, series)| (name.clone(), cut(series)));
    windows.filter(|(_, window)| !window.is_empty()).collect()
}

/// As Prometheus defines it: the difference, stretched towards the window's ends as far as the samples' distance lets
/// one believe, and not below zero. In seconds, as there: in milliseconds a gap of just 1.1 distances is rounded to the
/// other side.
fn increase(window: &Shown, at: i64) -> Option<f64> {
    let ([(first, from), ..], [.., (last, _)]) = (&window[..], &window[..]) else { return None };
    if window.len() < 2 {
        return None;
    }
    let steps =
        window.windows(2).map(|pair| if pair[1].1 < pair[0].1 { pair[1].1 } else { pair[1].1 - pair[0].1 });
    let increase: f64 = steps.sum();
    let seconds = |ms: i64| ms as f64 / 1000.0;
    let sampled = seconds(last - first);
    let distance = sampled / (window.len() - 1) as f64;
    let limited = |gap: f64| if gap >= 1.1 * distance { distance / 2.0 } else { gap };
    let mut before = limited(seconds(first - (at - WINDOW_MS)));
    if increase > 0.0 && *from >= 0.0 {
        before = before.min(sampled * from / increase);
    }
    let after = limited(seconds(at - last));
    Some(increase * (sampled + before + after) / sampled)
}

/// How two answers differ, if they do by more than rounding.
#[must_use]
pub fn differ(expected: &Vector, found: &Vector) -> Option<String> {
    let near = |a: f64, b: f64| (a - b).abs() <= 1e-9 * a.abs().max(b.abs()).max(1.0);
    let same = expected.len() == found.len()
        && expected.iter().zip(found).all(|((a, x), (b, y))| a == b && near(*x, *y));
    (!same).then(|| format!("answered {found:?}, the samples make {expected:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw() -> Raw {
        let a = (0..10).map(|i| (2000 * i, 10.0 * i as f64)).collect();
        let b = vec![(17_000, 5.0), (30_000, 7.0)];
        Raw::from([("a".to_owned(), a), ("b".to_owned(), b)])
    }

    fn one(value: f64) -> Vector {
        Vector::from([(String::new(), value)])
    }

    #[test]
    fn aggregations_take_the_latest_sample_of_each_series() {
        assert_eq!(Question::Sum.naive(&raw(), 18_500), one(95.0));
        assert_eq!(Question::Count.naive(&raw(), 16_999), one(1.0));
        assert_eq!(Question::Max.naive(&raw(), 40_000), one(90.0));
        assert_eq!(Question::Sum.naive(&raw(), -1), Vector::new());
    }

    #[test]
    fn ranges_are_open_at_their_beginning() {
        let counts = Question::CountOverTime.naive(&raw(), 20_000);
        assert_eq!(counts, Vector::from([("a".to_owned(), 9.0), ("b".to_owned(), 1.0)]));
    }

    #[test]
    fn an_increase_is_stretched_to_the_windows_ends_and_needs_two_samples() {
        // From 2 s to 18 s it grows by 80; both ends are 2 s away, which is one distance.
        assert_eq!(Question::Increase.naive(&raw(), 20_000), Vector::from([("a".to_owned(), 100.0)]));
        assert_eq!(Question::Rate.naive(&raw(), 20_000), Vector::from([("a".to_owned(), 5.0)]));
    }

    #[test]
    fn a_gap_of_just_more_than_a_distance_is_decided_in_seconds() {
        // Before the first sample lie 1.1 s, which is 1.1 distances: half a distance counts.
        let series: Shown = (0..19).map(|i| (1100 + 1000 * i, 10.0 + i as f64)).collect();
        assert_eq!(increase(&series, 20_000), Some(18.0 + 0.5 + 0.9));
    }

    #[test]
    fn a_wrong_value_and_a_missing_and_a_foreign_series_are_seen() {
        let expected = Vector::from([("a".to_owned(), 1.0)]);
        assert_eq!(differ(&expected, &Vector::from([("a".to_owned(), 1.0 + 1e-12)])), None);
        assert!(differ(&expected, &Vector::from([("a".to_owned(), 1.1)])).is_some());
        assert!(differ(&expected, &Vector::new()).is_some());
        assert!(differ(&expected, &Vector::from([("b".to_owned(), 1.0)])).is_some());
    }
}
