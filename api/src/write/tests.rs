//! The decoder as a specification.

#[allow(dead_code, unreachable_pub)]
#[path = "../../tests/support/message.rs"]
mod message;

use super::*;
use message::{bytes, double, number, request, sample, series, zigzag};
use model::{CounterResetHint, Labels, NORMAL_NAN, STALE_NAN, Span, TimestampMs, Value};

const UP: &[(&str, &str)] = &[("__name__", "up"), ("job", "a")];

fn decode(message: &[u8]) -> Result<Decoded, DecodeError> {
    super::decode(message, &LabelCache::new(64, 1 << 20), &DecodeLimits::default())
}

/// What a request holds, in words.
fn said(decoded: &Decoded) -> Vec<String> {
    let sample = |(t, v): &(TimestampMs, Value)| match v {
        Value::Float(v) => format!("{t}={v}"),
        other => format!("{t}={other:?}"),
    };
    let line = |(labels, samples): (&Labels, &[(TimestampMs, Value)])| {
        format!("{labels} {}", samples.iter().map(sample).collect::<Vec<_>>().join(" "))
    };
    decoded.request.iter().map(line).collect()
}

/// One series with one histogram.
fn histogram(fill: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut content = Vec::new();
    fill(&mut content);
    let mut one = series(UP, &[]);
    bytes(&mut one, 4, &content);
    request(&[one])
}

fn span(offset: i64, length: u64) -> Vec<u8> {
    let mut out = Vec::new();
    number(&mut out, 1, zigzag(offset));
    number(&mut out, 2, length);
    out
}

fn packed(values: &[i64]) -> Vec<u8> {
    let mut out = Vec::new();
    values.iter().for_each(|value| message::varint(&mut out, zigzag(*value)));
    out
}

#[test]
fn series_come_in_the_order_of_the_request() {
    let other = [("__name__", "down")];
    let message = request(&[series(UP, &[(1, 2.0), (2, 3.5)]), series(&other, &[(-5, -0.0)])]);
    let decoded = decode(&message).unwrap();
    assert_eq!(said(&decoded), [r#"{__name__="up", job="a"} 1=2 2=3.5"#, r#"{__name__="down"} -5=-0"#]);
    assert_eq!(decoded.invalid, 0);
}

#[test]
fn a_stale_marker_keeps_its_bits() {
    let decoded = decode(&request(&[series(UP, &[(1, STALE_NAN)])])).unwrap();
    assert!(decoded.request.samples[0].1.is_stale());
}

#[test]
fn nothing_is_no_error() {
    assert!(decode(&[]).unwrap().request.series.is_empty());
    assert!(decode(&request(&[series(UP, &[])])).unwrap().request.series.is_empty());
}

#[test]
fn metadata_exemplars_and_unknown_fields_are_skipped() {
    let mut one = series(UP, &[(1, 2.0)]);
    bytes(&mut one, 3, b"\x11\0\0\0\0\0\0\0\0");
    number(&mut one, 99, 7);
    let mut message = request(&[one]);
    bytes(&mut message, 3, b"metadata");
    double(&mut message, 77, 1.0);
    assert_eq!(said(&decode(&message).unwrap()), [r#"{__name__="up", job="a"} 1=2"#]);
}

#[test]
fn labels_behind_samples_are_labels_too() {
    let mut one = series(&UP[..1], &[(1, 2.0)]);
    bytes(&mut one, 1, &message::label("job", "a"));
    assert_eq!(said(&decode(&request(&[one])).unwrap()), [r#"{__name__="up", job="a"} 1=2"#]);
}

#[test]
fn a_series_with_bad_labels_is_left_out_and_counted() {
    let nameless = [("job", "a")];
    let message = request(&[series(&nameless, &[(1, 1.0), (2, 2.0)]), series(UP, &[(1, 2.0)])]);
    let decoded = decode(&message).unwrap();
    assert_eq!(said(&decoded), [r#"{__name__="up", job="a"} 1=2"#]);
    assert_eq!((decoded.invalid, decoded.first_invalid.as_deref()), (2, Some("series has no metric name")));
}

#[test]
fn a_truncated_message_fails_at_every_length() {
    let message = request(&[series(UP, &[(1, 2.0)])]);
    (1..message.len()).for_each(|length| assert!(decode(&message[..length]).is_err(), "{length}"));
}

#[test]
fn a_known_field_of_another_type_fails() {
    let mut message = Vec::new();
    number(&mut message, 1, 5);
    assert_eq!(decode(&message).unwrap_err(), DecodeError::Malformed("a field has the wrong wire type"));
}

#[test]
fn more_samples_than_allowed_fail() {
    let message = request(&[series(UP, &[(1, 1.0), (2, 2.0), (3, 3.0)])]);
    let limits = DecodeLimits { samples_max: 2, ..DecodeLimits::default() };
    let refused = super::decode(&message, &LabelCache::new(64, 1 << 20), &limits);
    assert_eq!(refused.unwrap_err(), DecodeError::TooManySamples(2));
}

#[test]
fn histograms_weigh_what_they_take() {
    let mut one = series(UP, &[]);
    (0..1000).for_each(|_| bytes(&mut one, 4, &[]));
    let limits = DecodeLimits { samples_max: 7999, ..DecodeLimits::default() };
    let refused = super::decode(&request(&[one]), &LabelCache::new(64, 1 << 20), &limits);
    assert_eq!(refused.unwrap_err(), DecodeError::TooManySamples(7999));
}

#[test]
fn an_integer_histogram_is_kept_as_it_is() {
    let message = histogram(|h| {
        number(h, 1, 9);
        double(h, 3, 4.5);
        number(h, 4, zigzag(2));
        double(h, 5, 0.001);
        number(h, 6, 2);
        bytes(h, 8, &span(-1, 1));
        bytes(h, 9, &packed(&[1]));
        bytes(h, 11, &span(0, 2));
        number(h, 12, zigzag(2)); // not packed: legal as well
        number(h, 12, zigzag(2));
        number(h, 14, 3);
        number(h, 15, 1234);
    });
    let decoded = decode(&message).unwrap();
    let (timestamp, Value::Histogram(h)) = &decoded.request.samples[0] else { panic!("{decoded:?}") };
    assert_eq!(*timestamp, TimestampMs(1234));
    assert_eq!((h.count, h.zero_count, h.schema, h.sum), (9, 2, 2, 4.5));
    assert_eq!(h.positive_spans, [Span { offset: 0, length: 2 }]);
    assert_eq!(h.negative_spans, [Span { offset: -1, length: 1 }]);
    assert_eq!((&h.positive_deltas[..], &h.negative_deltas[..]), (&[2, 2][..], &[1][..]));
    assert_eq!(h.counter_reset_hint, CounterResetHint::Gauge);
}

#[test]
fn a_histogram_of_a_resolution_that_is_too_fine_is_made_coarser() {
    let message = histogram(|h| {
        number(h, 1, 10);
        number(h, 4, zigzag(10));
        bytes(h, 11, &span(1, 4)); // all four fall in one bucket of schema 8
        bytes(h, 12, &packed(&[1, 1, 1, 1]));
    });
    let decoded = decode(&message).unwrap();
    let Value::Histogram(h) = &decoded.request.samples[0].1 else { panic!("{decoded:?}") };
    assert_eq!((h.schema, h.count, &h.positive_deltas[..]), (8, 10, &[10][..]));
    assert_eq!(h.positive_spans, [Span { offset: 1, length: 1 }]);
}

#[test]
fn every_nan_but_the_stale_marker_is_the_ordinary_one() {
    let odd = [0x7ff0_0000_0000_0003, 0xfff8_0000_0000_0000, STALE_NAN.to_bits(), NORMAL_NAN.to_bits()];
    let samples: Vec<_> = odd.iter().map(|bits| (1, f64::from_bits(*bits))).collect();
    let decoded = decode(&request(&[series(UP, &samples)])).unwrap();
    let bits = decoded.request.samples.iter().map(|(_, value)| match value {
        Value::Float(value) => value.to_bits(),
        other => panic!("{other:?}"),
    });
    let normal = NORMAL_NAN.to_bits();
    assert_eq!(bits.collect::<Vec<_>>(), [normal, normal, STALE_NAN.to_bits(), normal]);
}

#[test]
fn a_float_histogram_is_told_by_its_count() {
    let message = histogram(|h| {
        double(h, 2, 3.5);
        double(h, 7, 0.5);
        bytes(h, 11, &span(0, 1));
        double(h, 13, 3.0);
    });
    let decoded = decode(&message).unwrap();
    let Value::FloatHistogram(h) = &decoded.request.samples[0].1 else { panic!("{decoded:?}") };
    assert_eq!((h.count, h.zero_count, &h.positive_buckets[..]), (3.5, 0.5, &[3.0][..]));
}

#[test]
fn a_stale_histogram_needs_no_buckets() {
    let message = histogram(|h| {
        number(h, 1, 0);
        double(h, 3, STALE_NAN);
    });
    assert!(decode(&message).unwrap().request.samples[0].1.is_stale());
}

#[test]
fn a_histogram_that_contradicts_itself_is_left_out_and_counted() {
    let refused = |fill: &dyn Fn(&mut Vec<u8>)| {
        let decoded = decode(&histogram(fill)).unwrap();
        assert_eq!((decoded.request.series.len(), decoded.invalid), (0, 1));
        decoded.first_invalid.unwrap()
    };
    let text = refused(&|h| number(h, 4, zigzag(53)));
    assert!(text.ends_with("schema 53 is not in -4..=52 and not -53"), "{text}");
    let text = refused(&|h| bytes(h, 11, &span(0, 4_000_000_000)));
    assert!(text.ends_with("positive spans need 4000000000 buckets, have 0"), "{text}");
    let text = refused(&|h| number(h, 1, 3));
    assert!(text.ends_with("buckets hold 0 observations, the count is 3"), "{text}");
    let text = refused(&|h| {
        bytes(h, 11, &span(0, 1));
        bytes(h, 12, &packed(&[-1]));
    });
    assert!(text.ends_with("positive bucket with a negative count"), "{text}");
}

#[test]
fn the_good_histograms_of_a_series_are_kept_beside_the_bad() {
    let mut one = series(UP, &[(1, 2.0)]);
    let mut bad = Vec::new();
    number(&mut bad, 4, zigzag(99));
    bytes(&mut one, 4, &bad);
    let decoded = decode(&request(&[one])).unwrap();
    assert_eq!(said(&decoded), [r#"{__name__="up", job="a"} 1=2"#]);
    assert_eq!(decoded.invalid, 1);
}

proptest::proptest! {
    #[test]
    fn no_bytes_are_too_strange(message in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..400)) {
        let _ = decode(&message);
    }

    #[test]
    fn no_damage_to_a_good_message_is_too_strange(at in 0..200_usize, bit in 0..8_u8, more: u8) {
        let mut h = Vec::new();
        number(&mut h, 1, 9);
        bytes(&mut h, 11, &span(0, 2));
        bytes(&mut h, 12, &packed(&[4, 1]));
        let mut one = series(UP, &[(1, 2.0), (2, 3.0)]);
        bytes(&mut one, 4, &h);
        bytes(&mut one, 2, &sample(3, 4.0));
        let mut message = request(&[one.clone(), one]);
        let at = at % message.len();
        message[at] ^= 1 << bit;
        message.insert(at, more);
        let _ = decode(&message);
    }
}

/// A sender gives up on a 4xx: what was lost on its way must be sent again.
#[test]
fn a_body_that_did_not_arrive_is_no_fault_of_what_it_says() {
    let lost = ApiError::bad_data("request body broke off").with_status(StatusCode::REQUEST_TIMEOUT);
    assert_eq!(Failure::from(lost).status, StatusCode::SERVICE_UNAVAILABLE);
    let large = ApiError::bad_data("too large").with_status(StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(Failure::from(large).status, StatusCode::PAYLOAD_TOO_LARGE);
}
