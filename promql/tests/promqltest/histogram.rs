//! Histograms of scripts: adding them up, and comparing them. Independent of the crate under test.

use model::{CounterResetHint, FloatHistogram, Histogram, Span};
use std::collections::BTreeMap;

pub(crate) type Side = BTreeMap<i32, f64>;

pub(crate) fn side(spans: &[Span], counts: &[f64]) -> Side {
    let mut index = 0;
    let mut side = Side::new();
    let mut counts = counts.iter();
    for span in spans {
        index += span.offset;
        for _ in 0..span.length {
            if let Some(count) = counts.next() {
                side.insert(index, *count);
            }
            index += 1;
        }
    }
    side
}

pub(crate) fn spans(side: &Side) -> (Vec<Span>, Vec<f64>) {
    let mut spans: Vec<Span> = Vec::new();
    let mut next = 0;
    for index in side.keys() {
        match spans.last_mut() {
            Some(span) if *index == next => span.length += 1,
            _ => spans.push(Span { offset: index - next, length: 1 }),
        }
        next = index + 1;
    }
    (spans, side.values().copied().collect())
}

fn combine(a: &Side, b: &Side, shift: i32, sign: f64) -> Side {
    let mut sum = a.clone();
    for (index, count) in b {
        *sum.entry(((index - 1) >> shift) + 1).or_insert(0.0) += sign * count;
    }
    sum
}

/// `a` plus or minus `b`, whose resolution must not be lower.
pub(crate) fn add(a: &FloatHistogram, b: &FloatHistogram, minus: bool) -> Result<FloatHistogram, String> {
    use CounterResetHint::{Gauge, Unknown};
    if a.schema > b.schema {
        return Err(format!(
            "error combining histograms: cannot merge from schema {} to {}",
            b.schema, a.schema
        ));
    }
    let custom = |h: &FloatHistogram| h.schema == Histogram::CUSTOM_BUCKETS_SCHEMA;
    if custom(a) != custom(b) {
        return Err("error combining histograms: incompatible schemas".to_owned());
    }
    let shift = b.schema - a.schema;
    let sign = if minus { -1.0 } else { 1.0 };
    let sum = |x: &[Span], xc: &[f64], y: &[Span], yc: &[f64]| {
        spans(&combine(&side(x, xc), &side(y, yc), shift, sign))
    };
    let (positive_spans, positive_buckets) =
        sum(&a.positive_spans, &a.positive_buckets, &b.positive_spans, &b.positive_buckets);
    let (negative_spans, negative_buckets) =
        sum(&a.negative_spans, &a.negative_buckets, &b.negative_spans, &b.negative_buckets);
    let hint = match (a.counter_reset_hint, b.counter_reset_hint) {
        _ if minus => Gauge,
        (x, y) if x == y => x,
        (Gauge, _) | (_, Gauge) => Gauge,
        _ => Unknown,
    };
    Ok(FloatHistogram {
        counter_reset_hint: hint,
        zero_count: a.zero_count + sign * b.zero_count,
        count: a.count + sign * b.count,
        sum: a.sum + sign * b.sum,
        positive_spans,
        positive_buckets,
        negative_spans,
        negative_buckets,
        ..a.clone()
    })
}

/// Equality of floats as Prometheus's tests use it.
pub(crate) fn almost(a: f64, b: f64) -> bool {
    const EPSILON: f64 = 1e-6;
    if model::is_stale_nan(a) || model::is_stale_nan(b) {
        return model::is_stale_nan(a) && model::is_stale_nan(b);
    }
    if a.is_nan() && b.is_nan() || a == b {
        return true;
    }
    let (sum, difference) = (a.abs() + b.abs(), (a - b).abs());
    if a == 0.0 || b == 0.0 || sum < f64::MIN_POSITIVE {
        return difference < EPSILON * f64::MIN_POSITIVE;
    }
    difference / sum.min(f64::MAX) < EPSILON
}

fn same_side(a: &Side, b: &Side) -> bool {
    let full =
        |side: &Side| -> Side { side.iter().filter(|(_, c)| **c != 0.0).map(|(i, c)| (*i, *c)).collect() };
    let (a, b) = (full(a), full(b));
    a.len() == b.len() && a.iter().zip(&b).all(|((i, x), (j, y))| i == j && almost(*x, *y))
}

/// Equality of histograms as Prometheus's tests use it.
pub(crate) fn same(expected: &FloatHistogram, got: &FloatHistogram, with_hint: bool) -> bool {
    let custom = expected.schema == Histogram::CUSTOM_BUCKETS_SCHEMA;
    expected.schema == got.schema
        && almost(expected.count, got.count)
        && almost(expected.sum, got.sum)
        && (!custom || expected.custom_values[..] == got.custom_values[..])
        && expected.zero_threshold == got.zero_threshold
        && almost(expected.zero_count, got.zero_count)
        && same_side(
            &side(&expected.positive_spans, &expected.positive_buckets),
            &side(&got.positive_spans, &got.positive_buckets),
        )
        && same_side(
            &side(&expected.negative_spans, &expected.negative_buckets),
            &side(&got.negative_spans, &got.negative_buckets),
        )
        && (!with_hint || expected.counter_reset_hint == got.counter_reset_hint)
}

/// A histogram in the notation of scripts, more or less.
pub(crate) fn text(h: &FloatHistogram) -> String {
    format!(
        "{{{{schema:{} count:{} sum:{} z:{}@{} pos:{:?} neg:{:?} custom:{:?} {:?}}}}}",
        h.schema,
        h.count,
        h.sum,
        h.zero_count,
        h.zero_threshold,
        side(&h.positive_spans, &h.positive_buckets),
        side(&h.negative_spans, &h.negative_buckets),
        h.custom_values,
        h.counter_reset_hint
    )
}
