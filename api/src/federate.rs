//! `/federate`: the last sample of each series that matches, for another Prometheus, in the text format, or in protobuf
//! if it asks for that.
//!
//! Series come sorted by metric name; samples always carry their timestamp; external labels and an empty `instance`
//! are added where they are missing. Stale series are left out. Native histograms with exponential buckets have no
//! text form and are left out of it, those with custom buckets are rendered as classic ones.

mod format;
mod protobuf;

use crate::{
    call::Call,
    error::{ApiError, ErrorType},
    job, json,
    output::Output,
    selector,
    series::merged,
};
use axum::response::Response;
use format::{Format, is_legacy};
use http::StatusCode;
use model::{
    Budget, FloatHistogram, Histogram, Labels, METRIC_NAME, OpenView, QueryError, SelectRequest, TimestampMs,
    is_stale_nan,
};
use std::{borrow::Cow, sync::Arc, time::Duration};

struct Last {
    labels: Labels,
    timestamp: TimestampMs,
    value: f64,
    histogram: Option<Arc<FloatHistogram>>,
}

pub(crate) async fn federate(call: Call) -> Result<Response, ApiError> {
    let text_error = |status, text: String| Ok(crate::text::plain(status, &text));
    // As in Prometheus, and unlike elsewhere, a selector may be one that matches everything.
    let sets = match selector::all_sets(&call.state, &call.form.all("match[]")).await? {
        Ok(sets) => sets,
        Err(error) => return text_error(StatusCode::BAD_REQUEST, error),
    };
    let view = match crate::view::open(&call.state, &call.form, &call.headers).await {
        Ok(view) => view,
        Err(error) => return text_error(error.status(), error.text),
    };
    let state = call.state.clone();
    let now = state.ports.clock.now();
    let lookback = state.options.lookback_delta;
    let external = state.ports.config.external_labels();
    let budget = call.budget(state.options.query_timeout);
    let _guard = job::CancelOnDrop(budget.clone());
    let (encoding, format) = (call.encoding, Format::accepted(&call.headers));
    let work = move || {
        let requests = sets.into_iter().map(|matchers| request(matchers, now, lookback)).collect();
        let lasts = collect(&view, &budget, requests)?;
        let mut out = Output::new(encoding);
        if format.protobuf {
            render_protobuf(&mut out, format, &lasts, &external);
        } else {
            render_text(&mut out, format, &lasts, &external, view.warnings.is_empty());
        }
        Ok::<_, QueryError>(out.into_response(StatusCode::OK, format.content_type()))
    };
    match job::run(&state, "federate", work).await? {
        Ok(response) => Ok(response),
        Err(error) => {
            let error = ApiError::from(error);
            let status = if error.kind == ErrorType::Execution {
                StatusCode::UNPROCESSABLE_ENTITY
            } else {
                error.status()
            };
            text_error(status, error.text)
        }
    }
}

fn request(matchers: Vec<model::Matcher>, now: TimestampMs, lookback: Duration) -> SelectRequest {
    let lookback = model::DurationMs(u64::try_from(lookback.as_millis()).unwrap_or(u64::MAX));
    SelectRequest { matchers, start: now.minus(lookback), end: now, with_samples: true, limit: 0 }
}

fn collect(view: &OpenView, budget: &Budget, requests: Vec<SelectRequest>) -> Result<Vec<Last>, QueryError> {
    let mut lasts = Vec::new();
    merged(view, budget, requests, |series| {
        let samples = &series.samples;
        let Some(at) = samples.len().checked_sub(1) else { return Ok(true) };
        let histogram = samples.histograms.at(at as u32).map(|view| Arc::new(view.to_float()));
        let stale =
            is_stale_nan(samples.floats[at]) || histogram.as_ref().is_some_and(|h| is_stale_nan(h.sum));
        if !stale && !series.labels.metric_name().is_empty() {
            budget.take(std::mem::size_of::<Last>() as u64)?;
            let (timestamp, value) = (TimestampMs(samples.timestamps[at]), samples.floats[at]);
            lasts.push(Last { labels: series.labels, timestamp, value, histogram });
        }
        Ok(true)
    })?;
    // Stable, so that series of one name stay in the order of their labels.
    lasts.sort_by(|a, b| a.labels.metric_name().cmp(b.labels.metric_name()));
    Ok(lasts)
}

fn render_protobuf(out: &mut Output, format: Format, lasts: &[Last], external: &Labels) {
    let mut family = Vec::new();
    let mut of: Option<(&str, protobuf::Kind)> = None;
    for last in lasts {
        let this = (last.labels.metric_name(), protobuf::Kind::of(last));
        if of != Some(this) {
            if of.is_some() {
                protobuf::delimited(out.buf(), &mut family);
            }
            protobuf::family(&mut family, &format.name(this.0, true), this.1);
            of = Some(this);
        }
        protobuf::metric(&mut family, &with_external(format, &last.labels, external), last);
        out.roll();
    }
    if of.is_some() {
        protobuf::delimited(out.buf(), &mut family);
    }
}

fn render_text(out: &mut Output, format: Format, lasts: &[Last], external: &Labels, fresh: bool) {
    if !fresh {
        out.buf()
            .extend_from_slice(b"# stale: this node could not confirm that the samples are the newest\n");
    }
    let mut family = (String::new(), "");
    for last in lasts {
        let kind = match &last.histogram {
            None => "untyped",
            Some(histogram) if histogram.schema == Histogram::CUSTOM_BUCKETS_SCHEMA => "histogram",
            Some(_) => continue,
        };
        let name = &*format.name(last.labels.metric_name(), true);
        if family.0 != name || family.1 != kind {
            family = (name.to_owned(), kind);
            let buf = out.buf();
            buf.extend_from_slice(b"# TYPE ");
            metric_name(buf, name);
            buf.push(b' ');
            buf.extend_from_slice(kind.as_bytes());
            buf.push(b'\n');
        }
        let pairs = with_external(format, &last.labels, external);
        match &last.histogram {
            None => line(out.buf(), name, "", &pairs, None, last.value, last.timestamp),
            Some(histogram) => classic(out.buf(), name, &pairs, histogram, last.timestamp),
        }
        out.roll();
    }
}

/// A series's labels without its name, then the external ones it lacks, `instance=""` included.
fn with_external<'a>(format: Format, labels: &'a Labels, external: &'a Labels) -> Vec<Pair<'a>> {
    let own = labels.iter().filter(|(name, _)| *name != METRIC_NAME);
    let mut added: Vec<(&str, &str)> = external.iter().collect();
    if external.get("instance").is_none() {
        added.push(("instance", ""));
        added.sort_unstable();
    }
    let added = added.into_iter().filter(|(name, _)| labels.get(name).is_none());
    own.chain(added).map(|(name, value)| (format.name(name, false), value)).collect()
}

/// Name and value of a label.
type Pair<'a> = (Cow<'a, str>, &'a str);

fn metric_name(out: &mut Vec<u8>, name: &str) {
    if is_legacy(name, true) { out.extend_from_slice(name.as_bytes()) } else { quoted(out, name) }
}

/// A value of the text format: backslash, quote and line feed are escaped, nothing else.
fn quoted(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    for byte in text.bytes() {
        match byte {
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'"' => out.extend_from_slice(b"\\\""),
            b'\n' => out.extend_from_slice(b"\\n"),
            _ => out.push(byte),
        }
    }
    out.push(b'"');
}

fn line(
    out: &mut Vec<u8>,
    name: &str,
    suffix: &str,
    pairs: &[Pair<'_>],
    le: Option<f64>,
    value: f64,
    timestamp: TimestampMs,
) {
    let whole = [name, suffix].concat();
    let outside = is_legacy(&whole, true);
    if outside {
        out.extend_from_slice(whole.as_bytes());
    }
    let mut comma: &[u8] = b"{";
    if !outside {
        out.push(b'{');
        quoted(out, &whole);
        comma = b",";
    }
    for (name, value) in pairs {
        out.extend_from_slice(comma);
        comma = b",";
        if is_legacy(name, false) {
            out.extend_from_slice(name.as_bytes())
        } else {
            quoted(out, name)
        }
        out.push(b'=');
        quoted(out, value);
    }
    if let Some(le) = le {
        out.extend_from_slice(comma);
        comma = b",";
        out.extend_from_slice(b"le=");
        json::value(out, le);
    }
    out.extend_from_slice(if comma == b"," { b"} " } else { b" " });
    json::bare(out, value);
    out.push(b' ');
    json::integer(out, timestamp.0);
    out.push(b'\n');
}

/// A histogram with custom buckets in classic form.
fn classic(
    out: &mut Vec<u8>,
    name: &str,
    pairs: &[Pair<'_>],
    histogram: &FloatHistogram,
    timestamp: TimestampMs,
) {
    for (bound, cumulative) in cumulative(histogram) {
        line(out, name, "_bucket", pairs, Some(bound), cumulative, timestamp);
    }
    line(out, name, "_bucket", pairs, Some(f64::INFINITY), histogram.count, timestamp);
    line(out, name, "_sum", pairs, None, histogram.sum, timestamp);
    line(out, name, "_count", pairs, None, histogram.count, timestamp);
}

/// Bounds and cumulative counts of custom buckets, but for the one without bound.
fn cumulative(histogram: &FloatHistogram) -> impl Iterator<Item = (f64, f64)> {
    let mut counts = vec![0.0; histogram.custom_values.len() + 1];
    let mut at = 0_i64;
    let mut buckets = histogram.positive_buckets.iter();
    for span in &histogram.positive_spans {
        at += i64::from(span.offset);
        for count in buckets.by_ref().take(span.length as usize) {
            if let Some(slot) = usize::try_from(at).ok().and_then(|at| counts.get_mut(at)) {
                *slot = *count;
            }
            at += 1;
        }
    }
    let mut below = 0.0;
    let counts = counts.into_iter().map(move |count| {
        below += count;
        below
    });
    histogram.custom_values.iter().copied().zip(counts)
}
