//! A query's value as JSON: `{"resultType":...,"result":...,"stats":...}`.

use crate::{
    json::{self, Object},
    points::Points,
    respond::Answer,
};
use model::{Budget, FloatHistogram, QueryError, TimestampMs};
use promql::{MatrixSeries, Point, Stats, Value, VectorSample};
use std::time::Duration;

/// When the parts of a query were done, for `stats`.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Timings {
    /// Waiting for a place among the queries.
    pub(crate) queued: Duration,
    /// Parsing, and waiting for the view.
    pub(crate) prepared: Duration,
    /// Evaluating.
    pub(crate) evaluated: Duration,
}

/// Writes a value, at most `limit` series of it; yields whether some were left out. The value is consumed series by
/// series, so that it and its text are never whole in memory together.
pub(crate) fn write(
    answer: &mut Answer,
    value: Value,
    timestamp: i64,
    limit: usize,
    budget: &Budget,
) -> Result<bool, QueryError> {
    let at = TimestampMs(timestamp);
    match value {
        Value::Scalar(number) => {
            start(answer, "scalar");
            // Unlike a sample, a scalar never has an exponent (`promql.Scalar.MarshalJSON`).
            let out = answer.data();
            out.push(b'[');
            json::timestamp(out, at);
            out.push(b',');
            json::text(out, &promql::format_float(number));
            out.push(b']');
            Ok(false)
        }
        Value::String(text) => {
            start(answer, "string");
            let out = answer.data();
            out.push(b'[');
            json::timestamp(out, at);
            out.push(b',');
            json::text(out, &text);
            out.push(b']');
            Ok(false)
        }
        Value::Vector(samples) => {
            start(answer, "vector");
            list(answer, samples, limit, budget, VectorSample::bytes, |answer, sample| {
                vector_sample(answer.data(), at, sample);
                Ok(())
            })
        }
        Value::Matrix(all) => {
            start(answer, "matrix");
            let mut points = Points::default();
            list(answer, all, limit, budget, MatrixSeries::bytes, |answer, series| {
                matrix_series(answer, budget, &mut points, series)
            })
        }
    }
}

fn start(answer: &mut Answer, kind: &str) {
    let out = answer.data();
    out.extend_from_slice(br#"{"resultType":""#);
    out.extend_from_slice(kind.as_bytes());
    out.extend_from_slice(br#"","result":"#);
}

/// Closes what [`write`] opened.
pub(crate) fn finish(answer: &mut Answer, stats: Option<(&Stats, &Timings)>) {
    let out = answer.data();
    if let Some((stats, timings)) = stats {
        out.extend_from_slice(br#","stats":"#);
        write_stats(out, stats, timings);
    }
    out.push(b'}');
}

fn list<T>(
    answer: &mut Answer,
    items: Vec<T>,
    limit: usize,
    budget: &Budget,
    size: impl Fn(&T) -> u64,
    mut write: impl FnMut(&mut Answer, &T) -> Result<(), QueryError>,
) -> Result<bool, QueryError> {
    let shown = if limit == 0 { items.len() } else { items.len().min(limit) };
    let cut = shown < items.len();
    answer.data().push(b'[');
    for (i, item) in items.into_iter().take(shown).enumerate() {
        if i > 0 {
            answer.data().push(b',');
        }
        write(answer, &item)?;
        budget.give(size(&item));
        drop(item);
        hand_on(answer, budget)?;
    }
    answer.data().push(b']');
    Ok(cut)
}

/// Hands on what was written, if it is enough for a piece, and takes its bytes.
fn hand_on(answer: &mut Answer, budget: &Budget) -> Result<(), QueryError> {
    match answer.roll() as u64 {
        0 => Ok(()),
        bytes => {
            budget.check()?;
            budget.take(bytes)
        }
    }
}

/// Points between two looks at whether there is enough for a piece: a few kilobytes.
const POINTS_AT_ONCE: usize = 128;

/// A list of points, handed on piece by piece: one series may be megabytes. `write` separates those it is given.
fn pieces<P>(
    answer: &mut Answer,
    budget: &Budget,
    points: &[P],
    mut write: impl FnMut(&mut Vec<u8>, &[P]),
) -> Result<(), QueryError> {
    answer.data().push(b'[');
    for (i, some) in points.chunks(POINTS_AT_ONCE).enumerate() {
        hand_on(answer, budget)?;
        let out = answer.data();
        if i > 0 {
            out.push(b',');
        }
        write(out, some);
    }
    answer.data().push(b']');
    Ok(())
}

fn vector_sample(out: &mut Vec<u8>, at: TimestampMs, sample: &VectorSample) {
    out.extend_from_slice(br#"{"metric":"#);
    json::labels(out, &sample.labels);
    match &sample.value {
        Point::Float(value) => {
            out.extend_from_slice(br#","value":"#);
            float_point(out, at, *value);
        }
        Point::Histogram(value) => {
            out.extend_from_slice(br#","histogram":"#);
            histogram_point(out, at, value);
        }
    }
    out.push(b'}');
}

fn matrix_series(
    answer: &mut Answer,
    budget: &Budget,
    points: &mut Points,
    series: &MatrixSeries,
) -> Result<(), QueryError> {
    answer.data().extend_from_slice(br#"{"metric":"#);
    json::labels(answer.data(), &series.labels);
    if !series.floats.is_empty() {
        answer.data().extend_from_slice(br#","values":"#);
        pieces(answer, budget, &series.floats, |out, some| points.write(out, some))?;
    }
    if !series.histograms.is_empty() {
        answer.data().extend_from_slice(br#","histograms":"#);
        pieces(answer, budget, &series.histograms, |out, some| {
            for (i, (at, value)) in some.iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                histogram_point(out, TimestampMs(*at), value);
            }
        })?;
    }
    answer.data().push(b'}');
    Ok(())
}

#[inline]
fn float_point(out: &mut Vec<u8>, at: TimestampMs, value: f64) {
    out.push(b'[');
    json::timestamp(out, at);
    out.push(b',');
    json::value(out, value);
    out.push(b']');
}

fn histogram_point(out: &mut Vec<u8>, at: TimestampMs, value: &FloatHistogram) {
    out.push(b'[');
    json::timestamp(out, at);
    out.push(b',');
    histogram(out, value);
    out.push(b']');
}

/// `{"count":"..","sum":"..","buckets":[[rule,"lower","upper","count"],..]}` with the buckets that are not empty. The
/// rule says which bounds belong to the bucket: 0 the upper, 1 the lower, 2 none, 3 both.
fn histogram(out: &mut Vec<u8>, histogram: &FloatHistogram) {
    out.extend_from_slice(br#"{"count":"#);
    json::value(out, histogram.count);
    out.extend_from_slice(br#","sum":"#);
    json::value(out, histogram.sum);
    let buckets = promql::buckets(histogram.view());
    let mut filled = buckets.iter().filter(|bucket| bucket.count != 0.0).peekable();
    if filled.peek().is_some() {
        out.extend_from_slice(br#","buckets":"#);
        json::array(out, filled, |out, bucket| {
            let rule = match (bucket.lower_inclusive, bucket.upper_inclusive) {
                (false, true) => b'0',
                (true, false) => b'1',
                (false, false) => b'2',
                (true, true) => b'3',
            };
            out.extend([b'[', rule]);
            for number in [bucket.lower, bucket.upper, bucket.count] {
                out.push(b',');
                json::value(out, number);
            }
            out.push(b']');
        });
    }
    out.push(b'}');
}

/// `{"timings":{...},"samples":{...}}`, by step only if that was counted.
pub(crate) fn write_stats(out: &mut Vec<u8>, stats: &Stats, timings: &Timings) {
    let Timings { queued, prepared, evaluated } = *timings;
    let seconds = |span: Duration| span.as_secs_f64();
    let mut object = Object::new(out);
    let mut times = Object::new(object.key("timings"));
    times
        .number("evalTotalTime", seconds(prepared + evaluated))
        .number("resultSortTime", 0.0) // sorted as it is evaluated
        .number("queryPreparationTime", seconds(prepared))
        .number("innerEvalTime", seconds(evaluated))
        .number("execQueueTime", seconds(queued))
        .number("execTotalTime", seconds(queued + prepared + evaluated));
    times.end();
    let mut samples = Object::new(object.key("samples"));
    by_step(&mut samples, "totalQueryableSamplesPerStep", &stats.by_step);
    samples.integer("totalQueryableSamples", stats.total_queryable_samples);
    samples.integer("peakSamples", stats.peak_samples);
    samples.end();
    object.end();
}

fn by_step(object: &mut Object<'_>, name: &str, counts: &[(i64, u64)]) {
    if !counts.is_empty() {
        json::array(object.key(name), counts, |out, (at, count)| {
            out.push(b'[');
            json::timestamp(out, TimestampMs(*at));
            out.push(b',');
            json::integer(out, *count);
            out.push(b']');
        });
    }
}
