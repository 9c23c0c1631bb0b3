//! The protobuf exposition format (`io.prometheus.client.MetricFamily`, delimited): families of one metric name each,
//! with native histograms.

use super::{Last, Pair};
use model::{FloatHistogram, Histogram, Span};

/// `MetricType`
const UNTYPED: u64 = 3;
const HISTOGRAM: u64 = 4;
const GAUGE_HISTOGRAM: u64 = 5;

/// Wire types of protobuf.
const VARINT: u64 = 0;
const FIXED64: u64 = 1;
const BYTES: u64 = 2;

/// What makes samples of one name need a family of their own.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Kind(u64);

impl Kind {
    pub(super) fn of(last: &Last) -> Kind {
        Kind(match &last.histogram {
            None => UNTYPED,
            Some(h) if h.counter_reset_hint == model::CounterResetHint::Gauge => GAUGE_HISTOGRAM,
            Some(_) => HISTOGRAM,
        })
    }
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn number(out: &mut Vec<u8>, field: u64, value: u64) {
    varint(out, field << 3 | VARINT);
    varint(out, value);
}

/// Zigzag: `sint32`.
fn signed(out: &mut Vec<u8>, field: u64, value: i32) {
    let value = i64::from(value);
    number(out, field, ((value << 1) ^ (value >> 63)).cast_unsigned());
}

fn double(out: &mut Vec<u8>, field: u64, value: f64) {
    varint(out, field << 3 | FIXED64);
    out.extend_from_slice(&value.to_bits().to_le_bytes());
}

fn bytes(out: &mut Vec<u8>, field: u64, value: &[u8]) {
    varint(out, field << 3 | BYTES);
    varint(out, value.len() as u64);
    out.extend_from_slice(value);
}

/// Starts a family.
pub(super) fn family(out: &mut Vec<u8>, name: &str, kind: Kind) {
    bytes(out, 1, name.as_bytes());
    number(out, 3, kind.0);
}

/// Ends a family: it stands behind its length.
pub(super) fn delimited(out: &mut Vec<u8>, family: &mut Vec<u8>) {
    varint(out, family.len() as u64);
    out.append(family);
}

/// Adds a metric to a family.
pub(super) fn metric(out: &mut Vec<u8>, pairs: &[Pair<'_>], last: &Last) {
    let mut metric = Vec::new();
    for (name, value) in pairs {
        let mut pair = Vec::new();
        bytes(&mut pair, 1, name.as_bytes());
        bytes(&mut pair, 2, value.as_bytes());
        bytes(&mut metric, 1, &pair);
    }
    let mut value = Vec::new();
    match &last.histogram {
        None => {
            double(&mut value, 1, last.value);
            bytes(&mut metric, 5, &value);
        }
        Some(h) if h.schema == Histogram::CUSTOM_BUCKETS_SCHEMA => {
            classic(&mut value, h);
            bytes(&mut metric, 7, &value);
        }
        Some(h) => {
            native(&mut value, h);
            bytes(&mut metric, 7, &value);
        }
    }
    number(&mut metric, 6, last.timestamp.0.cast_unsigned());
    bytes(out, 4, &metric);
}

fn spans(out: &mut Vec<u8>, field: u64, spans: &[Span]) {
    for span in spans {
        let mut encoded = Vec::new();
        signed(&mut encoded, 1, span.offset);
        number(&mut encoded, 2, u64::from(span.length));
        bytes(out, field, &encoded);
    }
}

/// A histogram with exponential buckets.
fn native(out: &mut Vec<u8>, h: &FloatHistogram) {
    double(out, 2, h.sum);
    double(out, 4, h.count);
    signed(out, 5, h.schema);
    double(out, 6, h.zero_threshold);
    double(out, 8, h.zero_count);
    spans(out, 9, &h.negative_spans);
    h.negative_buckets.iter().for_each(|count| double(out, 11, *count));
    spans(out, 12, &h.positive_spans);
    h.positive_buckets.iter().for_each(|count| double(out, 14, *count));
}

/// A histogram with custom buckets, as a classic one; the bucket without bound is left to the count.
fn classic(out: &mut Vec<u8>, h: &FloatHistogram) {
    double(out, 2, h.sum);
    double(out, 4, h.count);
    for (bound, cumulative) in super::cumulative(h) {
        let mut bucket = Vec::new();
        double(&mut bucket, 2, bound);
        double(&mut bucket, 4, cumulative);
        bytes(out, 3, &bucket);
    }
}
