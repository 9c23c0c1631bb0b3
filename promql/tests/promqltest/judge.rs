//! Whether an answer is what a script expects.

use crate::histogram::{almost, same, text};
use crate::script::{Eval, Text, When};
use crate::sequence::{Item, Line};
use model::Labels;
use promql::{Answer, MatrixSeries, Point, Value, VectorSample};

/// An annotation without details and ` (line:column)`, which scripts of releases up to 3.14.0 leave out.
fn without_position(text: &str) -> &str {
    let text = text.strip_suffix(')').and_then(|text| text.rsplit_once(" (")).map_or(text, |(text, _)| text);
    let text = text
        .strip_suffix(" occurrences)")
        .and_then(|text| text.rsplit_once(" ("))
        .map_or(text, |(text, _)| text);
    text.split_once(", from buckets ").map_or(text, |(text, _)| text)
}

fn check_kind(kind: &str, expected: &[Text], none: bool, got: &[String]) -> Result<(), String> {
    if none && !got.is_empty() {
        return Err(format!("expected no {kind}, got {got:?}"));
    }
    if expected.is_empty() {
        return Ok(());
    }
    let matches = |text: &Text, got: &str| text.matches(got) || text.matches(without_position(got));
    for text in expected {
        if !got.iter().any(|g| matches(text, g)) {
            return Err(format!("expected {kind} {text:?}, got {got:?}"));
        }
    }
    match got.iter().find(|g| !expected.iter().any(|text| matches(text, g))) {
        Some(unexpected) => Err(format!("unexpected {kind} {unexpected:?}, expected {expected:?}")),
        None => Ok(()),
    }
}

/// Compares warnings and infos.
pub(crate) fn annotations(eval: &Eval, answer: &Answer) -> Result<(), String> {
    check_kind("warn", &eval.warn, eval.no_warn, &answer.warnings)?;
    check_kind("info", &eval.info, eval.no_info, &answer.infos)
}

fn expected<'e>(eval: &'e Eval, labels: &Labels) -> Option<(usize, &'e Line)> {
    // A later line of the same labels counts.
    eval.series.iter().enumerate().rfind(|(_, line)| line.labels == *labels)
}

fn compare(labels: &Labels, item: &Item, value: &Point) -> Result<(), String> {
    match (item, value) {
        (Item::Float(a), Point::Float(b)) if almost(*a, *b) => Ok(()),
        (Item::Float(a), Point::Float(b)) => Err(format!("{labels}: expected {a}, got {b}")),
        (Item::Histogram(a, hint), Point::Histogram(b)) if same(a, b, *hint) => Ok(()),
        (Item::Histogram(a, _), Point::Histogram(b)) => {
            Err(format!("{labels}: expected {}, got {}", text(a), text(b)))
        }
        (Item::Float(a), Point::Histogram(b)) => Err(format!("{labels}: expected {a}, got {}", text(b))),
        (Item::Histogram(a, _), Point::Float(b)) => Err(format!("{labels}: expected {}, got {b}", text(a))),
        (Item::Omitted, _) => Err(format!("{labels}: expected nothing, got {value:?}")),
    }
}

fn vector(eval: &Eval, samples: &[VectorSample]) -> Result<(), String> {
    if let Some(scalar) = eval.scalar {
        return Err(format!("expected scalar {scalar}, got a vector of {}", samples.len()));
    }
    for (position, sample) in samples.iter().enumerate() {
        let Some((index, line)) = expected(eval, &sample.labels) else {
            return Err(format!("unexpected {} with {:?}", sample.labels, sample.value));
        };
        if eval.ordered && index != position {
            return Err(format!(
                "{} is at position {}, expected at {}",
                sample.labels,
                position + 1,
                index + 1
            ));
        }
        compare(&sample.labels, line.items.first().unwrap_or(&Item::Omitted), &sample.value)?;
    }
    match eval.series.iter().find(|line| !samples.iter().any(|sample| sample.labels == line.labels)) {
        Some(missing) => Err(format!("expected {} not found; got {samples:?}", missing.labels)),
        None => Ok(()),
    }
}

fn sorted(series: &[MatrixSeries]) -> Result<(), String> {
    match series.windows(2).find(|pair| pair[0].labels > pair[1].labels) {
        Some(pair) => Err(format!("{} comes before {}", pair[0].labels, pair[1].labels)),
        None => Ok(()),
    }
}

fn matrix(eval: &Eval, series: &[MatrixSeries]) -> Result<(), String> {
    if eval.ordered {
        return Err("an order is expected of a range".to_owned());
    }
    if let Some(scalar) = eval.scalar {
        return Err(format!("expected scalar {scalar}, got a matrix"));
    }
    sorted(series)?;
    let (start, step) = match (eval.range_vector, eval.when) {
        (Some((start, _, step)), _) | (None, When::Range { start, step, .. }) => (start, step),
        (None, When::Instant(time)) => (time, 1),
    };
    for got in series {
        let Some((_, line)) = expected(eval, &got.labels) else {
            return Err(format!("unexpected {} with {:?}", got.labels, got.floats));
        };
        let floats = got.floats.iter().map(|(time, value)| (*time, Point::Float(*value)));
        let histograms = got.histograms.iter().map(|(time, h)| (*time, Point::Histogram(h.clone())));
        let mut points: Vec<(i64, Point)> = floats.chain(histograms).collect();
        points.sort_by_key(|(time, _)| *time);
        let wanted: Vec<(i64, &Item)> =
            line.items.iter().enumerate().map(|(i, item)| (start + i as i64 * step, item)).collect();
        let wanted: Vec<_> = wanted.into_iter().filter(|(_, item)| !matches!(item, Item::Omitted)).collect();
        let summary = || {
            points
                .iter()
                .map(|(t, p)| match p {
                    Point::Float(v) => format!("{v}@{t}"),
                    Point::Histogram(h) => format!("{}@{t}", text(h)),
                })
                .collect::<Vec<_>>()
                .join(" ")
        };
        if wanted.len() != points.len() {
            return Err(format!(
                "{}: expected {} points, got {}: {}",
                got.labels,
                wanted.len(),
                points.len(),
                summary()
            ));
        }
        for ((time, item), (got_time, value)) in wanted.iter().zip(&points) {
            if time != got_time {
                return Err(format!(
                    "{}: expected a point at {time}, got one at {got_time}: {}",
                    got.labels,
                    summary()
                ));
            }
            compare(&got.labels, item, value)
                .map_err(|error| format!("{error} at {time}; got {}", summary()))?;
        }
    }
    match eval.series.iter().find(|line| !series.iter().any(|got| got.labels == line.labels)) {
        Some(missing) => Err(format!("expected {} not found", missing.labels)),
        None => Ok(()),
    }
}

/// Compares a value.
pub(crate) fn value(eval: &Eval, value: &Value) -> Result<(), String> {
    match value {
        Value::Scalar(got) => match eval.scalar {
            Some(expected) if almost(expected, *got) => Ok(()),
            expected => Err(format!("expected {expected:?}, got scalar {got}")),
        },
        Value::String(got) => match &eval.string {
            Some(expected) if expected == got => Ok(()),
            expected => Err(format!("expected {expected:?}, got string {got:?}")),
        },
        Value::Vector(samples) => vector(eval, samples),
        Value::Matrix(series) => matrix(eval, series),
    }
}

/// Compares what a range query has at one of its steps.
pub(crate) fn value_at(eval: &Eval, series: &[MatrixSeries], time: i64, scalar: bool) -> Result<(), String> {
    sorted(series)?;
    let at = |s: &MatrixSeries| {
        let float = s.floats.iter().find(|(t, _)| *t == time).map(|(_, v)| Point::Float(*v));
        float.or_else(|| {
            s.histograms.iter().find(|(t, _)| *t == time).map(|(_, h)| Point::Histogram(h.clone()))
        })
    };
    let samples: Vec<VectorSample> = series
        .iter()
        .filter_map(|s| Some(VectorSample { labels: s.labels.clone(), value: at(s)? }))
        .collect();
    match (scalar, samples.first()) {
        (true, Some(VectorSample { value: Point::Float(got), .. })) => value(eval, &Value::Scalar(*got)),
        (true, _) => Err("expected a scalar, got nothing".to_owned()),
        (false, _) => vector(eval, &samples),
    }
}
