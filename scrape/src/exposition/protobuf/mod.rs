//! The protobuf format: metric families, each behind its length.
//!
//! A family becomes metadata and samples as if it had been written as text, except that a histogram may be native.

mod messages;
mod native;

use super::entry::{MetricKind, ParseError};
use super::number::format_openmetrics;
use super::quote::quote;
use messages::{Histogram, Metric, MetricFamily, Summary};
use model::{NORMAL_NAN, Value};
use prost::Message;

/// A value with the labels it came with.
#[derive(Clone, Debug)]
pub struct ProtobufSample {
    /// The metric's name.
    pub name: String,
    /// The other labels as they came.
    pub labels: Vec<(String, String)>,
    /// The value.
    pub value: Value,
    /// Its own timestamp in milliseconds, if it has one.
    pub timestamp: Option<i64>,
}

/// A metric family.
#[derive(Clone, Debug)]
pub struct ProtobufEntry {
    /// Its name.
    pub name: String,
    /// Its help text.
    pub help: String,
    /// Its unit.
    pub unit: String,
    /// Its kind.
    pub kind: MetricKind,
    /// Its samples.
    pub samples: Vec<ProtobufSample>,
}

/// Reads a body family by family.
#[derive(Clone, Debug)]
pub struct ProtobufParser<'a> {
    rest: &'a [u8],
    /// Native histograms are kept as such.
    native: bool,
    /// Classic buckets are kept beside native ones.
    classic_too: bool,
}

impl<'a> ProtobufParser<'a> {
    /// Starts at the beginning.
    #[must_use]
    pub fn new(body: &'a [u8], native: bool, classic_too: bool) -> ProtobufParser<'a> {
        ProtobufParser { rest: body, native, classic_too }
    }

    /// The next family; `None` at the end. Families without metrics are passed over.
    ///
    /// # Errors
    /// If the body is malformed; nothing can be read behind that.
    #[expect(clippy::should_implement_trait, reason = "errors end the iteration, as with the text parser")]
    pub fn next(&mut self) -> Result<Option<ProtobufEntry>, ParseError> {
        self.family().map_err(|message| ParseError { line: 0, message })
    }

    fn family(&mut self) -> Result<Option<ProtobufEntry>, String> {
        while !self.rest.is_empty() {
            let length = prost::decode_length_delimiter(&mut self.rest).map_err(|e| e.to_string())?;
            let Some((message, rest)) = self.rest.split_at_checked(length) else {
                return Err(format!(
                    "protobufparse: insufficient length of buffer, expected at least {length} bytes, got {} bytes",
                    self.rest.len()
                ));
            };
            self.rest = rest;
            let family = MetricFamily::decode(message).map_err(|e| e.to_string())?;
            if !family.metric.is_empty() {
                return self.entry(family).map(Some);
            }
        }
        Ok(None)
    }

    fn entry(&self, family: MetricFamily) -> Result<ProtobufEntry, String> {
        let name = family.name;
        if name.is_empty() {
            return Err("invalid metric name: ".to_owned());
        }
        let kind = match family.kind {
            0 => MetricKind::Counter,
            1 => MetricKind::Gauge,
            2 => MetricKind::Summary,
            3 => MetricKind::Unknown,
            4 => MetricKind::Histogram,
            5 => MetricKind::GaugeHistogram,
            other => {
                return Err(format!("unknown metric type for metric {}: {other}", quote(name.as_bytes())));
            }
        };
        check_unit(&name, &family.unit, kind)?;
        let mut samples = Vec::with_capacity(family.metric.len());
        for metric in family.metric {
            self.metric(&name, kind, metric, &mut samples)?;
        }
        Ok(ProtobufEntry { name, help: family.help, unit: family.unit, kind, samples })
    }

    fn metric(
        &self,
        name: &str,
        kind: MetricKind,
        metric: Metric,
        samples: &mut Vec<ProtobufSample>,
    ) -> Result<(), String> {
        let timestamp = (metric.timestamp_ms != 0).then_some(metric.timestamp_ms);
        let labels: Vec<(String, String)> =
            metric.label.into_iter().map(|pair| (pair.name, pair.value)).collect();
        let mut push = |suffix: &str, bound: Option<(&str, f64)>, value: Value| {
            let mut labels = labels.clone();
            labels.extend(bound.map(|(name, bound)| (name.to_owned(), format_openmetrics(bound))));
            samples.push(ProtobufSample { name: format!("{name}{suffix}"), labels, value, timestamp });
        };
        let single = match kind {
            MetricKind::Counter => metric.counter,
            MetricKind::Gauge => metric.gauge,
            MetricKind::Unknown => metric.untyped,
            MetricKind::Summary => {
                summary(&metric.summary.unwrap_or_default(), &mut push);
                return Ok(());
            }
            _ => {
                let histogram = metric.histogram.unwrap_or_default();
                let native = self.native && native::is_native(&histogram);
                if native {
                    let gauge = kind == MetricKind::GaugeHistogram;
                    push("", None, native::native(&histogram, gauge)?);
                }
                if !native || (self.classic_too && !histogram.bucket.is_empty()) {
                    classic(&histogram, &mut push);
                }
                return Ok(());
            }
        };
        push("", None, float(single.unwrap_or_default().value));
        Ok(())
    }
}

/// A value as a sample has it: every NaN is the ordinary one.
fn float(value: f64) -> Value {
    Value::Float(if value.is_nan() { NORMAL_NAN } else { value })
}

fn summary(summary: &Summary, push: &mut impl FnMut(&str, Option<(&str, f64)>, Value)) {
    push("_count", None, float(summary.sample_count as f64));
    push("_sum", None, float(summary.sample_sum));
    for quantile in &summary.quantile {
        push("", Some(("quantile", quantile.quantile)), float(quantile.value));
    }
}

fn classic(histogram: &Histogram, push: &mut impl FnMut(&str, Option<(&str, f64)>, Value)) {
    let either = |real: f64, whole: u64| float(if real > 0.0 { real } else { whole as f64 });
    let count = either(histogram.sample_count_float, histogram.sample_count);
    push("_count", None, count.clone());
    push("_sum", None, float(histogram.sample_sum));
    for bucket in &histogram.bucket {
        let value = either(bucket.cumulative_count_float, bucket.cumulative_count);
        push("_bucket", Some(("le", bucket.upper_bound)), value);
    }
    if histogram.bucket.last().is_none_or(|last| last.upper_bound != f64::INFINITY) {
        push("_bucket", Some(("le", f64::INFINITY)), count);
    }
}

fn check_unit(name: &str, unit: &str, kind: MetricKind) -> Result<(), String> {
    let counter = kind == MetricKind::Counter && name.ends_with("_total");
    let base = if counter { name.trim_end_matches("_total") } else { name };
    if unit.is_empty() || base.strip_suffix(unit).is_some_and(|rest| rest.ends_with('_')) {
        return Ok(());
    }
    let what = if counter { "counter" } else { "metric" };
    Err(format!("unit {} not a suffix of {what} {}", quote(unit.as_bytes()), quote(name.as_bytes())))
}

#[cfg(test)]
mod tests;
