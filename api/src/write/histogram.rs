//! Native histograms of remote write, integer and float form.
//!
//! Field numbers: `prompb/types.proto`, message Histogram. Which form it is, the field of the count says. What is
//! checked is what Prometheus's `Validate` checks: a histogram that contradicts itself breaks every query over it.

use super::wire::{Field, Reader, WireError, zigzag};
use model::{CounterResetHint, FloatHistogram, Histogram, Span, TimestampMs, Value, is_stale_nan};
use std::sync::Arc;

/// A histogram contradicts itself.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HistogramError {
    #[error("invalid histogram: schema {0} is not in -4..=52 and not -53")]
    Schema(i64),
    #[error("invalid histogram: {side} spans need {wanted} buckets, have {have}")]
    Buckets { side: &'static str, wanted: u64, have: usize },
    #[error("invalid histogram: {0} span with a negative offset behind the first")]
    SpanOffset(&'static str),
    #[error("invalid histogram: {0} bucket with a negative count")]
    NegativeCount(&'static str),
    #[error("invalid histogram: buckets hold {buckets} observations, the count is {count}")]
    Count { buckets: String, count: String },
    #[error("invalid histogram: zero threshold is negative or not a number")]
    ZeroThreshold,
    #[error(
        "invalid histogram: custom buckets with bounds that are not ascending and finite, or with what only exponential ones have"
    )]
    CustomBuckets,
    #[error("invalid histogram: more than {0} buckets or spans")]
    TooLarge(usize),
}

/// The finest resolution that is kept; what is finer, up to [`SCHEMA_MAX`], is made coarser.
const SCHEMA_KEPT_MAX: i32 = 8;
/// The finest resolution that is taken.
const SCHEMA_MAX: i32 = 52;

#[derive(Default)]
struct Side {
    spans: Vec<Span>,
    deltas: Vec<i64>,
    counts: Vec<f64>,
}

#[derive(Default)]
struct Raw {
    count_int: Option<u64>,
    count_float: Option<f64>,
    zero_int: u64,
    zero_float: f64,
    sum: f64,
    schema: i64,
    zero_threshold: f64,
    positive: Side,
    negative: Side,
    hint: CounterResetHint,
    timestamp: i64,
    custom_values: Vec<f64>,
}

/// Decodes one histogram message.
///
/// # Errors
/// Outside, if it is malformed; inside, if it contradicts itself.
pub(crate) fn decode(
    message: &[u8],
    buckets_max: usize,
) -> Result<Result<(TimestampMs, Value), HistogramError>, WireError> {
    let Some(raw) = read(message, buckets_max)? else {
        return Ok(Err(HistogramError::TooLarge(buckets_max)));
    };
    let timestamp = TimestampMs(raw.timestamp);
    Ok(checked(raw).map(|value| (timestamp, value)))
}

fn read(message: &[u8], buckets_max: usize) -> Result<Option<Raw>, WireError> {
    let mut raw = Raw::default();
    let mut reader = Reader::new(message);
    while let Some((number, field)) = reader.next()? {
        let fits = match number {
            1 => set(&mut raw.count_int, Some(field.varint(1)?)),
            2 => set(&mut raw.count_float, Some(field.double(2)?)),
            3 => set(&mut raw.sum, field.double(3)?),
            4 => set(&mut raw.schema, zigzag(field.varint(4)?)),
            5 => set(&mut raw.zero_threshold, field.double(5)?),
            6 => set(&mut raw.zero_int, field.varint(6)?),
            7 => set(&mut raw.zero_float, field.double(7)?),
            8 => push(&mut raw.negative.spans, span(field.bytes(8)?)?, buckets_max),
            9 => varints(&mut raw.negative.deltas, field, buckets_max)?,
            10 => doubles(&mut raw.negative.counts, field, 10, buckets_max)?,
            11 => push(&mut raw.positive.spans, span(field.bytes(11)?)?, buckets_max),
            12 => varints(&mut raw.positive.deltas, field, buckets_max)?,
            13 => doubles(&mut raw.positive.counts, field, 13, buckets_max)?,
            14 => set(&mut raw.hint, hint(field.varint(14)?)),
            15 => set(&mut raw.timestamp, field.varint(15)?.cast_signed()),
            16 => doubles(&mut raw.custom_values, field, 16, buckets_max)?,
            _ => true,
        };
        if !fits {
            return Ok(None);
        }
    }
    Ok(Some(raw))
}

fn set<T>(slot: &mut T, value: T) -> bool {
    *slot = value;
    true
}

fn push<T>(list: &mut Vec<T>, value: T, max: usize) -> bool {
    list.push(value);
    list.len() <= max
}

fn hint(value: u64) -> CounterResetHint {
    match value {
        1 => CounterResetHint::Reset,
        2 => CounterResetHint::NotReset,
        3 => CounterResetHint::Gauge,
        _ => CounterResetHint::Unknown,
    }
}

fn span(message: &[u8]) -> Result<Span, WireError> {
    let mut span = Span::default();
    let mut reader = Reader::new(message);
    while let Some((number, field)) = reader.next()? {
        match number {
            1 => span.offset = zigzag(field.varint(1)?) as i32,
            2 => span.length = field.varint(2)? as u32,
            _ => {}
        }
    }
    Ok(span)
}

/// A repeated sint64, packed or not.
fn varints(list: &mut Vec<i64>, field: Field<'_>, max: usize) -> Result<bool, WireError> {
    match field {
        Field::Varint(value) => list.push(zigzag(value)),
        Field::Bytes(packed) => {
            let mut reader = Reader::new(packed);
            while !reader.rest.is_empty() && list.len() <= max {
                list.push(zigzag(reader.varint()?));
            }
        }
        _ => return Err(WireError::WrongType(9)),
    }
    Ok(list.len() <= max)
}

/// A repeated double, packed or not.
fn doubles(list: &mut Vec<f64>, field: Field<'_>, number: u32, max: usize) -> Result<bool, WireError> {
    match field {
        Field::Fixed64(bits) => list.push(f64::from_bits(bits)),
        Field::Bytes(packed) => {
            let mut reader = Reader::new(packed);
            while !reader.rest.is_empty() && list.len() <= max {
                list.push(f64::from_bits(reader.fixed64()?));
            }
        }
        _ => return Err(WireError::WrongType(number)),
    }
    Ok(list.len() <= max)
}

fn checked(raw: Raw) -> Result<Value, HistogramError> {
    let schema = i32::try_from(raw.schema).map_err(|_| HistogramError::Schema(raw.schema))?;
    let custom = schema == Histogram::CUSTOM_BUCKETS_SCHEMA;
    if !custom && !(-4..=SCHEMA_MAX).contains(&schema) {
        return Err(HistogramError::Schema(raw.schema));
    }
    if raw.zero_threshold.is_nan() || raw.zero_threshold < 0.0 {
        return Err(HistogramError::ZeroThreshold);
    }
    if custom {
        check_custom(&raw)?
    } else if !raw.custom_values.is_empty() {
        return Err(HistogramError::CustomBuckets);
    }
    if let Some(count) = raw.count_float { float(raw, schema, count) } else { integer(raw, schema) }
}

fn check_custom(raw: &Raw) -> Result<(), HistogramError> {
    let ascending =
        raw.custom_values.is_sorted_by(|a, b| a < b) && raw.custom_values.iter().all(|v| v.is_finite());
    let no_zero = raw.zero_int == 0 && raw.zero_float == 0.0 && raw.zero_threshold == 0.0;
    let buckets: i64 = raw.positive.spans.iter().map(|s| i64::from(s.offset) + i64::from(s.length)).sum();
    let inside = buckets <= raw.custom_values.len() as i64 + 1
        && raw.positive.spans.first().is_none_or(|span| span.offset >= 0);
    if ascending && no_zero && inside && raw.negative.spans.is_empty() {
        Ok(())
    } else {
        Err(HistogramError::CustomBuckets)
    }
}

fn check_spans(side: &'static str, spans: &[Span], have: usize) -> Result<(), HistogramError> {
    if spans.iter().skip(1).any(|span| span.offset < 0) {
        return Err(HistogramError::SpanOffset(side));
    }
    let wanted: u64 = spans.iter().map(|span| u64::from(span.length)).sum();
    if wanted == have as u64 { Ok(()) } else { Err(HistogramError::Buckets { side, wanted, have }) }
}

fn integer(raw: Raw, schema: i32) -> Result<Value, HistogramError> {
    let mut buckets = u128::from(raw.zero_int);
    for (name, side) in [("positive", &raw.positive), ("negative", &raw.negative)] {
        check_spans(name, &side.spans, side.deltas.len())?;
        let mut count = 0_i64;
        for delta in &side.deltas {
            count =
                count.checked_add(*delta).filter(|c| *c >= 0).ok_or(HistogramError::NegativeCount(name))?;
            buckets += count as u128;
        }
    }
    let count = raw.count_int.unwrap_or(0);
    // Observations of NaN are counted and fall in no bucket; they make the sum NaN.
    let fits = if raw.sum.is_nan() { buckets <= u128::from(count) } else { buckets == u128::from(count) };
    if !fits && !is_stale_nan(raw.sum) {
        return Err(HistogramError::Count { buckets: buckets.to_string(), count: count.to_string() });
    }
    let mut histogram = Histogram {
        counter_reset_hint: raw.hint,
        schema,
        zero_threshold: raw.zero_threshold,
        zero_count: raw.zero_int,
        count,
        sum: raw.sum,
        positive_spans: raw.positive.spans,
        negative_spans: raw.negative.spans,
        positive_deltas: raw.positive.deltas,
        negative_deltas: raw.negative.deltas,
        custom_values: raw.custom_values.into(),
    };
    histogram.reduce_to(SCHEMA_KEPT_MAX);
    Ok(Value::Histogram(Arc::new(histogram)))
}

fn float(raw: Raw, schema: i32, count: f64) -> Result<Value, HistogramError> {
    if raw.zero_float < 0.0 || count < 0.0 {
        return Err(HistogramError::NegativeCount("zero"));
    }
    for (name, side) in [("positive", &raw.positive), ("negative", &raw.negative)] {
        check_spans(name, &side.spans, side.counts.len())?;
        if side.counts.iter().any(|count| *count < 0.0) {
            return Err(HistogramError::NegativeCount(name));
        }
    }
    // The count of a float histogram is not compared: rates of histograms do not add up to the last bit.
    let mut histogram = FloatHistogram {
        counter_reset_hint: raw.hint,
        schema,
        zero_threshold: raw.zero_threshold,
        zero_count: raw.zero_float,
        count,
        sum: raw.sum,
        positive_spans: raw.positive.spans,
        negative_spans: raw.negative.spans,
        positive_buckets: raw.positive.counts,
        negative_buckets: raw.negative.counts,
        custom_values: raw.custom_values.into(),
    };
    histogram.reduce_to(SCHEMA_KEPT_MAX);
    Ok(Value::FloatHistogram(Arc::new(histogram)))
}
