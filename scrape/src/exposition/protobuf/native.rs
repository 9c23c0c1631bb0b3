//! Native histograms: from a message to `model`'s form, checked and compacted.

use super::messages::{BucketSpan, Histogram as Message};
use model::{CounterResetHint, FloatHistogram, Histogram, Span, Value};
use std::sync::Arc;

/// Buckets and spans of one histogram at the most, as for remote write: what storage can encode is bounded, and a
/// target must not be able to stop its shard's duties.
const BUCKETS_MAX: usize = 16_384;

/// The finest resolution that is kept; what is finer, up to [`SCHEMA_MAX`], is made coarser.
const SCHEMA_KEPT_MAX: i32 = 8;
/// The finest resolution that is taken.
const SCHEMA_MAX: i32 = 52;

/// Whether the message holds a native histogram.
pub(super) fn is_native(message: &Message) -> bool {
    message.zero_threshold > 0.0
        || message.zero_count > 0
        || !message.positive_span.is_empty()
        || !message.negative_span.is_empty()
}

/// The histogram; float form if one of its float counts is set.
///
/// # Errors
/// If spans and counts do not fit together, in Prometheus's words.
pub(super) fn native(message: &Message, gauge: bool) -> Result<Value, String> {
    if !(-4..=SCHEMA_MAX).contains(&message.schema) {
        return Err(format!(
            "histogram has an invalid schema, which must be between -4 and 8 for exponential buckets, or -53 for \
             custom buckets, got schema {}",
            message.schema
        ));
    }
    let sizes = [
        message.positive_span.len(),
        message.negative_span.len(),
        message.positive_delta.len().max(message.positive_count.len()),
        message.negative_delta.len().max(message.negative_count.len()),
    ];
    if let Some(size) = sizes.into_iter().find(|size| *size > BUCKETS_MAX) {
        return Err(format!("histogram has {size} buckets or spans, at most {BUCKETS_MAX} are taken"));
    }
    let hint = if gauge { CounterResetHint::Gauge } else { CounterResetHint::Unknown };
    if message.sample_count_float > 0.0 || message.zero_count_float > 0.0 {
        float_form(message, hint)
    } else {
        integer_form(message, hint)
    }
}

fn integer_form(message: &Message, hint: CounterResetHint) -> Result<Value, String> {
    let positive = absolute(&message.positive_delta).map_err(|e| side("positive", &e))?;
    let negative = absolute(&message.negative_delta).map_err(|e| side("negative", &e))?;
    let positive = buckets(&message.positive_span, &positive).map_err(|e| side("positive", &e))?;
    let negative = buckets(&message.negative_span, &negative).map_err(|e| side("negative", &e))?;
    let in_buckets = positive.iter().chain(&negative).map(|(_, count)| *count as u128).sum::<u128>()
        + u128::from(message.zero_count);
    let count = u128::from(message.sample_count);
    let found = format!("{in_buckets} observations found in buckets, but the Count field is {count}");
    if message.sample_sum.is_nan() && in_buckets > count {
        return Err(format!(
            "{found}: histogram's observation count should be at least the number of observations found in the buckets"
        ));
    }
    if !message.sample_sum.is_nan() && in_buckets != count {
        return Err(format!(
            "{found}: histogram's observation count should equal the number of observations found in the buckets \
             (in absence of NaN)"
        ));
    }
    let mut histogram = Histogram {
        counter_reset_hint: hint,
        schema: message.schema,
        zero_threshold: message.zero_threshold,
        zero_count: message.zero_count,
        count: message.sample_count,
        sum: message.sample_sum,
        positive_spans: spans(&positive),
        negative_spans: spans(&negative),
        positive_deltas: deltas(&positive),
        negative_deltas: deltas(&negative),
        custom_values: Arc::from([]),
    };
    histogram.reduce_to(SCHEMA_KEPT_MAX);
    Ok(Value::Histogram(Arc::new(histogram)))
}

fn float_form(message: &Message, hint: CounterResetHint) -> Result<Value, String> {
    let check = |counts: &[f64]| match counts.iter().position(|count| *count < 0.0) {
        Some(at) => Err(negative_bucket(at, &counts[at])),
        None => Ok(()),
    };
    check(&message.positive_count).map_err(|e| side("positive", &e))?;
    check(&message.negative_count).map_err(|e| side("negative", &e))?;
    if message.zero_count_float < 0.0 || message.sample_count_float < 0.0 {
        return Err("zero bucket or total has a negative observation count".to_owned());
    }
    let positive =
        buckets(&message.positive_span, &message.positive_count).map_err(|e| side("positive", &e))?;
    let negative =
        buckets(&message.negative_span, &message.negative_count).map_err(|e| side("negative", &e))?;
    let mut histogram = FloatHistogram {
        counter_reset_hint: hint,
        schema: message.schema,
        zero_threshold: message.zero_threshold,
        zero_count: message.zero_count_float,
        count: message.sample_count_float,
        sum: message.sample_sum,
        positive_spans: spans(&positive),
        negative_spans: spans(&negative),
        positive_buckets: positive.into_iter().map(|(_, count)| count).collect(),
        negative_buckets: negative.into_iter().map(|(_, count)| count).collect(),
        custom_values: Arc::from([]),
    };
    histogram.reduce_to(SCHEMA_KEPT_MAX);
    Ok(Value::FloatHistogram(Arc::new(histogram)))
}

fn side(which: &str, error: &str) -> String {
    format!("{which} side: {error}")
}

fn negative_bucket(at: usize, count: &dyn std::fmt::Display) -> String {
    format!(
        "bucket number {} has observation count of {count}: histogram has a bucket whose observation count is negative",
        at + 1
    )
}

fn absolute(deltas: &[i64]) -> Result<Vec<i64>, String> {
    let mut count = 0_i64;
    let running = deltas.iter().enumerate().map(|(at, delta)| {
        count = count.checked_add(*delta).ok_or("bucket counts overflow")?;
        if count < 0 { Err(negative_bucket(at, &count)) } else { Ok(count) }
    });
    running.collect()
}

/// Pairs of bucket index and count, without the empty ones.
fn buckets<C: Copy + PartialEq + Default>(
    spans: &[BucketSpan],
    counts: &[C],
) -> Result<Vec<(i64, C)>, String> {
    let needed: u64 = spans.iter().map(|span| u64::from(span.length)).sum();
    if needed != counts.len() as u64 {
        return Err(format!(
            "spans need {needed} buckets, have {} buckets: histogram spans specify different number of buckets than \
             provided",
            counts.len()
        ));
    }
    let mut found = Vec::with_capacity(counts.len());
    let mut index = 0_i64;
    let mut counts = counts.iter();
    for (number, span) in spans.iter().enumerate() {
        if number > 0 && span.offset < 0 {
            return Err(format!(
                "span number {} with offset {}: histogram has a span whose offset is negative",
                number + 1,
                span.offset
            ));
        }
        index += i64::from(span.offset);
        for count in counts.by_ref().take(span.length as usize) {
            if *count != C::default() {
                found.push((index, *count));
            }
            index += 1;
        }
    }
    // Gaps become offsets of 32 bits again.
    let fits = |(a, _): &(i64, C), (b, _): &(i64, C)| i32::try_from(b - a).is_ok();
    let ends = found.first().is_none_or(|(first, _)| i32::try_from(*first).is_ok());
    if ends && found.windows(2).all(|pair| fits(&pair[0], &pair[1])) {
        Ok(found)
    } else {
        Err("bucket index out of range".to_owned())
    }
}

fn spans<C>(buckets: &[(i64, C)]) -> Vec<Span> {
    let mut spans: Vec<Span> = Vec::new();
    let mut next = 0;
    for (at, (index, _)) in buckets.iter().enumerate() {
        match spans.last_mut() {
            Some(last) if at > 0 && *index == next => last.length += 1,
            _ => {
                let gap = if at == 0 { *index } else { index - next };
                spans.push(Span { offset: i32::try_from(gap).expect("checked to fit"), length: 1 });
            }
        }
        next = index + 1;
    }
    spans
}

fn deltas(buckets: &[(i64, i64)]) -> Vec<i64> {
    let before = std::iter::once(0).chain(buckets.iter().map(|(_, count)| *count));
    buckets.iter().zip(before).map(|((_, count), before)| count - before).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message() -> Message {
        Message {
            sample_count: 7,
            sample_sum: 4.5,
            schema: 3,
            zero_threshold: 0.001,
            zero_count: 1,
            positive_span: vec![BucketSpan { offset: -2, length: 2 }, BucketSpan { offset: 1, length: 2 }],
            positive_delta: vec![2, -2, 1, 2], // 2 0 | 1 3
            ..Message::default()
        }
    }

    #[test]
    fn empty_buckets_are_taken_out_and_counts_stay() {
        let Ok(Value::Histogram(histogram)) = native(&message(), false) else { panic!("no histogram") };
        let spans = [Span { offset: -2, length: 1 }, Span { offset: 2, length: 2 }];
        assert_eq!(histogram.positive_spans, spans);
        assert_eq!(histogram.positive_deltas, [2, -1, 2]);
        assert_eq!(histogram.counter_reset_hint, CounterResetHint::Unknown);
    }

    #[test]
    fn a_float_histogram_is_known_by_its_float_count() {
        let message = Message {
            sample_count_float: 3.5,
            positive_count: vec![1.5, 2.0],
            positive_span: vec![BucketSpan { offset: 0, length: 2 }],
            ..Message::default()
        };
        let Ok(Value::FloatHistogram(histogram)) = native(&message, true) else { panic!("no histogram") };
        assert_eq!(histogram.positive_buckets, [1.5, 2.0]);
        assert_eq!(histogram.counter_reset_hint, CounterResetHint::Gauge);
    }

    #[test]
    fn a_resolution_that_is_too_fine_is_made_coarser() {
        let message = Message { schema: 9, ..message() };
        let Ok(Value::Histogram(histogram)) = native(&message, false) else { panic!("no histogram") };
        // Buckets -2, 1 and 2 of schema 9 hold 2, 1 and 3; those of schema 8 are -1 and 1.
        assert_eq!((histogram.schema, histogram.count), (8, 7));
        assert_eq!(histogram.positive_spans, [Span { offset: -1, length: 1 }, Span { offset: 1, length: 1 }]);
        assert_eq!(histogram.positive_deltas, [2, 2]);
    }

    #[test]
    fn what_does_not_fit_together_is_refused() {
        let error = |change: fn(&mut Message)| {
            let mut message = message();
            change(&mut message);
            native(&message, false).unwrap_err()
        };
        assert!(error(|m| m.positive_delta.truncate(3)).contains("need 4 buckets, have 3 buckets"));
        assert!(error(|m| m.sample_count = 8).starts_with("7 observations found in buckets, but the Count"));
        assert!(error(|m| m.positive_delta[0] = -1).contains("bucket number 1 has observation count of -1"));
        assert!(error(|m| m.positive_span[1].offset = -1).contains("span number 2 with offset -1"));
        assert!(error(|m| m.schema = 53).contains("got schema 53"));
        assert!(error(|m| m.schema = -5).contains("got schema -5"));
        assert!(error(|m| m.positive_span[0].length = u32::MAX).contains("different number"));
    }
}
