//! Series descriptions, as Prometheus's own tests have them.

use crate::corpus;
use model::{CounterResetHint, FloatHistogram, is_stale_nan};
use promql::{SeriesValues, parse_metric, parse_series};
use serde_json::{Value, json};

/// The first error, or nothing.
fn error(text: &str) -> String {
    parse_series(text).map_or_else(|errors| errors.to_string(), |_| String::new())
}

fn values(text: &str) -> Vec<SeriesValues> {
    parse_series(text).expect("a valid series").values
}

#[test]
fn repetitions_stay_folded() {
    assert!(matches!(values("m 1+2x3")[..], [SeriesValues::Floats { start: 1.0, step: 2.0, count: 4 }]));
    assert!(matches!(values("m 1-2x3")[..], [SeriesValues::Floats { start: 1.0, step: -2.0, count: 4 }]));
    assert!(matches!(values("m -1x3 4")[0], SeriesValues::Floats { start: -1.0, step: 0.0, count: 4 }));
    assert!(matches!(
        values("m _x3 _  ")[..],
        [SeriesValues::Omitted { count: 3 }, SeriesValues::Omitted { count: 1 }]
    ));
}

#[test]
fn stale_is_the_marker() {
    assert!(matches!(values("m stale")[..], [SeriesValues::Floats { start, .. }] if is_stale_nan(start)));
    let unknown =
        "1:3: parse error: unexpected identifier \"fresh\" in series values, expected number or \"stale\"";
    assert_eq!(error("m fresh"), unknown);
}

#[test]
fn a_short_text_is_never_a_long_list() {
    assert_eq!(error("m 1x99999999"), "1:1: parse error: series has more than 1048576 values");
    assert!(error("m 1x99999999999999999999999").contains("value out of range"));
    assert!(error("m 1x1.5").contains("strconv.ParseUint: parsing \"1.5\": invalid syntax"));
}

#[test]
fn a_metric_is_its_labels() {
    let labels = parse_metric("sum{on=\"1\", \"a.b\"='2',}").expect("valid");
    assert_eq!(labels.iter().collect::<Vec<_>>(), [("__name__", "sum"), ("a.b", "2"), ("on", "1")]);
    assert!(parse_metric("a b").is_err());
}

#[test]
fn every_series_of_the_corpus_reads_as_in_prometheus() {
    let Some(cases) = corpus::lines("series_desc_cases.jsonl") else { return };
    for case in &cases {
        let input = case["input"].as_str().unwrap_or("");
        if let Some(expected) = case["expectError"].as_str() {
            assert!(error(input).ends_with(expected), "{input}: {}", error(input));
            continue;
        }
        let series = parse_series(input).unwrap_or_else(|e| panic!("{input}: {e}"));
        let labels: Value = series.labels.iter().map(|(n, v)| (n.to_owned(), json!(v))).collect();
        let expected = &case["expectedLabels"];
        assert_eq!(labels, if expected.get("call").is_some() { json!({}) } else { expected.clone() });
        let got: Vec<Value> = series.values.iter().flat_map(floats).collect();
        let expected: Vec<Value> =
            case["expectedValues"].as_array().into_iter().flatten().map(|v| v["Value"].clone()).collect();
        assert_eq!(corpus::compact(got.into()), corpus::compact(expected.into()), "{input}");
    }
    println!("{} series", cases.len());
    assert_eq!(cases.len(), 6);
}

fn floats(values: &SeriesValues) -> Vec<Value> {
    match values {
        SeriesValues::Floats { start, step, count } => {
            (0..*count).map(|i| json!(start + step * i as f64)).collect()
        }
        other => panic!("{other:?} is not a float"),
    }
}

#[test]
fn every_histogram_series_of_the_corpus_reads_as_in_prometheus() {
    let Some(cases) = corpus::lines("histogram_series_desc_cases.jsonl") else { return };
    for case in &cases {
        let input = case["input"].as_str().expect("an input");
        if let Some(expected) = case["expectedError"].as_str() {
            assert_eq!(error(input), expected, "{input}");
            continue;
        }
        let expected = case["expected"].as_array().expect("values");
        let mut at = 0;
        for item in values(input) {
            let SeriesValues::Histograms { start, count, .. } = item else { panic!("{input}: no histogram") };
            assert_eq!(corpus::compact(json_of(&start)), recorded(&expected[at]), "{input}");
            at += usize::try_from(count).expect("a few");
        }
        assert_eq!(at, expected.len(), "{input}");
    }
    println!("{} histogram series", cases.len());
    assert_eq!(cases.len(), 25);
}

fn recorded(value: &Value) -> Value {
    if value.is_array() { json!({}) } else { corpus::resolved(value) }
}

fn json_of(h: &FloatHistogram) -> Value {
    let hint = match h.counter_reset_hint {
        CounterResetHint::Unknown => "",
        CounterResetHint::Reset => "histogram.CounterReset",
        CounterResetHint::NotReset => "histogram.NotCounterReset",
        CounterResetHint::Gauge => "histogram.GaugeType",
    };
    let spans = |spans: &[model::Span]| -> Value {
        spans.iter().map(|s| json!({ "Offset": s.offset, "Length": s.length })).collect()
    };
    json!({
        "Schema": h.schema, "Sum": h.sum, "Count": h.count, "ZeroCount": h.zero_count,
        "ZeroThreshold": h.zero_threshold, "PositiveBuckets": h.positive_buckets,
        "PositiveSpans": spans(&h.positive_spans), "NegativeBuckets": h.negative_buckets,
        "NegativeSpans": spans(&h.negative_spans), "CustomValues": h.custom_values.to_vec(),
        "CounterResetHint": hint,
    })
}
