use super::messages::{Bucket, BucketSpan, LabelPair, Quantile, Single};
use super::*;

fn body(families: &[MetricFamily]) -> Vec<u8> {
    families.iter().flat_map(Message::encode_length_delimited_to_vec).collect()
}

fn family(kind: i32, metric: Metric) -> MetricFamily {
    MetricFamily { name: "m".into(), help: "helps".into(), kind, metric: vec![metric], unit: String::new() }
}

fn read(body: &[u8], native: bool, classic_too: bool) -> Vec<String> {
    let mut parser = ProtobufParser::new(body, native, classic_too);
    let mut found = Vec::new();
    while let Some(entry) = parser.next().expect("a good body") {
        found.extend(entry.samples.iter().map(show));
    }
    found
}

fn show(sample: &ProtobufSample) -> String {
    let labels: Vec<String> = sample.labels.iter().map(|(n, v)| format!("{n}={v}")).collect();
    let value = match &sample.value {
        Value::Float(value) => value.to_string(),
        Value::Histogram(histogram) => format!("histogram of {}", histogram.count),
        Value::FloatHistogram(histogram) => format!("float histogram of {}", histogram.count),
    };
    format!("{}{{{}}} {value} {:?}", sample.name, labels.join(","), sample.timestamp)
}

fn histogram() -> Histogram {
    Histogram {
        sample_count: 3,
        sample_sum: 2.5,
        bucket: vec![Bucket { cumulative_count: 1, upper_bound: 1.0, cumulative_count_float: 0.0 }],
        zero_threshold: 0.5,
        positive_span: vec![BucketSpan { offset: 1, length: 1 }],
        positive_delta: vec![3],
        ..Histogram::default()
    }
}

fn metric(histogram: Histogram) -> Metric {
    Metric { histogram: Some(histogram), ..Metric::default() }
}

#[test]
fn a_counter_has_its_labels_and_timestamp() {
    let metric = Metric {
        label: vec![LabelPair { name: "a".into(), value: "b".into() }],
        counter: Some(Single { value: 4.0 }),
        timestamp_ms: 1_234,
        ..Metric::default()
    };
    assert_eq!(read(&body(&[family(0, metric)]), true, false), ["m{a=b} 4 Some(1234)"]);
}

#[test]
fn a_summary_is_count_sum_and_quantiles() {
    let summary =
        Summary { sample_count: 2, sample_sum: 3.0, quantile: vec![Quantile { quantile: 1.0, value: 7.0 }] };
    let metric = Metric { summary: Some(summary), ..Metric::default() };
    let expected = ["m_count{} 2 None", "m_sum{} 3 None", "m{quantile=1.0} 7 None"];
    assert_eq!(read(&body(&[family(2, metric)]), true, false), expected);
}

#[test]
fn a_histogram_is_native_classic_or_both_as_asked_for() {
    let body = body(&[family(4, metric(histogram()))]);
    let classic =
        ["m_count{} 3 None", "m_sum{} 2.5 None", "m_bucket{le=1.0} 1 None", "m_bucket{le=+Inf} 3 None"];
    assert_eq!(read(&body, false, false), classic);
    assert_eq!(read(&body, true, false), ["m{} histogram of 3 None"]);
    assert_eq!(read(&body, true, true)[1..], classic);
}

#[test]
fn a_histogram_with_more_buckets_than_storage_can_encode_is_refused() {
    let buckets = 16_385;
    let huge = Histogram {
        positive_span: vec![BucketSpan { offset: 0, length: buckets }],
        positive_delta: vec![0; buckets as usize],
        ..histogram()
    };
    let body = body(&[family(4, metric(huge))]);
    let error = ProtobufParser::new(&body, true, false).next().unwrap_err();
    assert!(error.to_string().contains("16385 buckets or spans, at most 16384 are taken"), "{error}");
}

#[test]
fn a_truncated_body_is_refused() {
    let body = body(&[family(4, metric(histogram()))]);
    let mut parser = ProtobufParser::new(&body[..body.len() - 1], true, false);
    assert!(parser.next().unwrap_err().to_string().contains("insufficient length of buffer"));
}

#[test]
fn a_unit_is_the_end_of_the_name() {
    let mut family = family(1, Metric::default());
    family.unit = "seconds".into();
    let body = body(&[family]);
    let error = ProtobufParser::new(&body, true, false).next().unwrap_err();
    assert_eq!(error.to_string(), "unit \"seconds\" not a suffix of metric \"m\"");
}

#[test]
fn the_corpus_of_a_real_exporter_is_read_whole() {
    let Some(body) = crate::corpus::read_bytes("textparse/common/protobuf") else { return };
    let count = read(&body, true, true).len();
    println!("{count} protobuf samples read");
    assert!(count > 100, "{count}");
}
