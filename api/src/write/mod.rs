//! `POST /api/v1/write`: remote write 1.0.
//!
//! ```text
//! body ─limit─▶ snappy ─limit─▶ decode ─▶ WriteRequest ─▶ WriteSink ─▶ 204 | 400 with counts | 503 with Retry-After
//! ```
//!
//! A stated difference to Prometheus: of a request with refused samples the good ones are kept, and the answer is a
//! 400 that counts the others, also for series whose labels are invalid (Prometheus drops those silently).

mod decode;
mod histogram;
mod labels;
mod wire;

#[cfg(test)]
mod tests;

pub use decode::{DecodeError, DecodeLimits, Decoded, decode};
pub use labels::{LabelCache, LabelError, LabelLimits};

use crate::{
    decompress::{Codec, DecompressError, decompress, snappy_length},
    error::{ApiError, ErrorType},
    form::read_body,
    job,
    ports::{WriteError, WriteOutcome},
    state::{Counters, Shared, State, declared_length},
    text::plain,
};
use axum::{body::Body, response::Response};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, StatusCode, header};
use std::{fmt::Write, time::Duration};
use tokio::sync::OwnedSemaphorePermit;

const MESSAGE: &str = "prometheus.WriteRequest";

/// Above this, decompressing and decoding leave the async threads.
const INLINE_BYTES_MAX: usize = 64 << 10;

/// A write that was not taken.
struct Failure {
    status: StatusCode,
    text: String,
    /// Seconds.
    retry_after: Option<u64>,
}

impl Failure {
    fn new(status: StatusCode, text: impl Into<String>) -> Failure {
        Failure { status, text: text.into(), retry_after: None }
    }

    fn into_response(self, state: &State) -> Response {
        let mut response = plain(self.status, &self.text);
        if let Some(seconds) = self.retry_after {
            Counters::add(&state.counters.writes_unavailable, 1);
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

impl From<WriteError> for Failure {
    fn from(error: WriteError) -> Failure {
        let WriteError::Unavailable { reason, retry_after } = error;
        let seconds = retry_after.as_secs() + u64::from(retry_after.subsec_nanos() > 0);
        let retry_after = Some(seconds.max(1));
        Failure { status: StatusCode::SERVICE_UNAVAILABLE, text: reason, retry_after }
    }
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Failure {
        // A sender gives up on what is not a 5xx; an accident of ours, or a body that was lost on its way, is not its
        // fault.
        let not_its_fault =
            error.kind == ErrorType::Internal || error.status() == StatusCode::REQUEST_TIMEOUT;
        Failure::new(if not_its_fault { StatusCode::SERVICE_UNAVAILABLE } else { error.status() }, error.text)
    }
}

impl From<DecompressError> for Failure {
    fn from(error: DecompressError) -> Failure {
        let status = match error {
            DecompressError::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            DecompressError::Malformed { .. } => StatusCode::BAD_REQUEST,
        };
        Failure::new(status, error.to_string())
    }
}

impl From<DecodeError> for Failure {
    fn from(error: DecodeError) -> Failure {
        let status = match error {
            DecodeError::Malformed(_) => StatusCode::BAD_REQUEST,
            DecodeError::TooManySamples(_) => StatusCode::PAYLOAD_TOO_LARGE,
        };
        Failure::new(status, error.to_string())
    }
}

pub(crate) async fn write(state: Shared, request: Request<Body>) -> Response {
    if !state.options.remote_write_enabled {
        let text = "remote write receiver needs to be enabled with --web.enable-remote-write-receiver";
        return plain(StatusCode::NOT_FOUND, text);
    }
    answer(&state, request).await.unwrap_or_else(|failure| failure.into_response(&state))
}

async fn answer(state: &State, request: Request<Body>) -> Result<Response, Failure> {
    check_type(request.headers()).map_err(|text| Failure::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, text))?;
    let _body_room = room_for_body(state, request.headers())?;
    let options = &state.options;
    let body = read_body(request.into_body(), options.write_body_bytes_max, options.body_timeout).await?;
    let _message_room = room_for_message(state, &body)?;
    let decoded = if body.len() <= INLINE_BYTES_MAX {
        unpack(&body, &state.label_cache, options.write_message_bytes_max, &options.write)?
    } else {
        let (cache, limits) = (state.label_cache.clone(), options.write);
        let message_max = options.write_message_bytes_max;
        let work = move || unpack(&body, &cache, message_max, &limits);
        job::run(state, "decode_write", work).await??
    };
    let outcome = if decoded.request.series.is_empty() {
        WriteOutcome::default()
    } else {
        state.ports.write.write(decoded.request).await?
    };
    let refused = outcome.refused.values().sum::<u64>() + decoded.invalid;
    Counters::add(&state.counters.samples_written, outcome.accepted);
    Counters::add(&state.counters.samples_refused, refused);
    if refused == 0 {
        return Ok(plain(StatusCode::NO_CONTENT, ""));
    }
    let text = refusal_text(&outcome, decoded.invalid, decoded.first_invalid);
    Err(Failure::new(StatusCode::BAD_REQUEST, text))
}

/// As in Prometheus, headers that are missing are taken to be right.
fn check_type(headers: &HeaderMap) -> Result<(), String> {
    let text = |name| headers.get(name).map_or(Some(""), |value: &HeaderValue| value.to_str().ok());
    let kind = text(header::CONTENT_TYPE).ok_or("content type is not readable text")?;
    let mut parts = kind.split(';').map(str::trim);
    let media = parts.next().unwrap_or("");
    if !media.is_empty() && !media.eq_ignore_ascii_case("application/x-protobuf") {
        return Err(format!(
            "expected application/x-protobuf as the first (media) part, got {kind} content-type"
        ));
    }
    for part in parts {
        if let Some(proto) = part.strip_prefix("proto=")
            && proto != MESSAGE
        {
            return Err(format!(
                "{proto} protobuf message is not accepted by this server; only accepts {MESSAGE}"
            ));
        }
    }
    let encoding = text(header::CONTENT_ENCODING).ok_or("content encoding is not readable text")?;
    if encoding.is_empty() || encoding == "snappy" {
        return Ok(());
    }
    Err(format!(
        "{encoding} encoding (compression) is not accepted by this server; only snappy is acceptable"
    ))
}

/// Claims memory for the body before it is read.
fn room_for_body(state: &State, headers: &HeaderMap) -> Result<OwnedSemaphorePermit, Failure> {
    let bytes_max = state.options.write_body_bytes_max;
    let bytes = declared_length(headers).unwrap_or(bytes_max);
    if bytes > bytes_max {
        let text = format!("request body is larger than {bytes_max} bytes");
        return Err(Failure::new(StatusCode::PAYLOAD_TOO_LARGE, text));
    }
    state.claim(bytes).ok_or_else(full)
}

/// Bytes of what is made of a message, for each of its bytes: itself, its samples, and their way to the shards.
const MESSAGE_GROWTH: usize = 3;

/// Claims memory for what the body unpacks to.
fn room_for_message(state: &State, body: &[u8]) -> Result<OwnedSemaphorePermit, Failure> {
    let length = snappy_length(body).unwrap_or(0).min(state.options.write_message_bytes_max);
    state.claim(length * MESSAGE_GROWTH).ok_or_else(full)
}

/// A server that is full says so at once.
fn full() -> Failure {
    let reason = "too many bytes of requests in flight".to_owned();
    WriteError::Unavailable { reason, retry_after: Duration::from_secs(1) }.into()
}

fn unpack(
    body: &Bytes,
    cache: &LabelCache,
    message_max: usize,
    limits: &DecodeLimits,
) -> Result<Decoded, Failure> {
    let message = decompress(Codec::SnappyBlock, body, message_max)?;
    Ok(decode(&message, cache, limits)?)
}

/// `refused 3 of 10 samples: 2 out of order sample, 1 invalid; first: ...`
fn refusal_text(outcome: &WriteOutcome, invalid: u64, first_invalid: Option<String>) -> String {
    let refused = outcome.refused.values().sum::<u64>() + invalid;
    let mut text = format!("refused {refused} of {} samples:", refused + outcome.accepted);
    let invalid = (invalid > 0).then(|| ("invalid series or histogram".to_owned(), invalid));
    let reasons = outcome.refused.iter().map(|(reason, count)| (reason.to_string(), *count)).chain(invalid);
    for (i, (reason, count)) in reasons.enumerate() {
        let comma = if i > 0 { "," } else { "" };
        write!(text, "{comma} {count} {reason}").expect("a String takes all text");
    }
    if let Some(first) = &outcome.first {
        write!(text, "; first: {first}").expect("a String takes all text");
    } else if let Some(first) = first_invalid {
        write!(text, "; first: {first}").expect("a String takes all text");
    }
    text
}
