//! `/-/healthy`, `/-/ready`, `/-/reload`, `/-/quit`, `/version`, `/metrics`.

use crate::{
    json::Object,
    output::{Encoding, Output},
    ports::Readiness,
    state::{Shared, State},
    status::build_fields,
    text::exact,
};
use axum::{body::Body, response::Response};
use http::{HeaderMap, HeaderValue, Method, StatusCode};

const PLAIN: Option<&str> = Some("text/plain; charset=utf-8");

/// Whether the server stops, in the words of Prometheus's readiness.
const STOPPING_HEADER: &str = "x-prometheus-stopping";

pub(crate) fn healthy() -> Response {
    exact(StatusCode::OK, PLAIN, Body::from("Vestal is Healthy.\n"))
}

pub(crate) fn ready(state: &State) -> Response {
    match state.ports.lifecycle.readiness() {
        Readiness::Ready => exact(StatusCode::OK, PLAIN, Body::from("Vestal is Ready.\n")),
        Readiness::NotReady(why) | Readiness::Starting(why) => not_ready(&why, "false"),
        Readiness::Stopping => not_ready("stopping", "true"),
    }
}

fn not_ready(why: &str, stopping: &'static str) -> Response {
    let text = format!("Service Unavailable: {why}\n");
    let mut response = exact(StatusCode::SERVICE_UNAVAILABLE, PLAIN, Body::from(text));
    response.headers_mut().insert(STOPPING_HEADER, HeaderValue::from_static(stopping));
    response
}

/// The answer to reads of a node that still reads its own disk; `None` when it may be asked.
pub(crate) fn refusal_while_starting(state: &State) -> Option<Response> {
    match state.ports.lifecycle.readiness() {
        Readiness::Starting(why) => Some(not_ready(&why, "false")),
        _ => None,
    }
}

/// Refuses what is not allowed; `None` when it is.
fn refusal(state: &State, method: &Method) -> Option<Response> {
    if method == Method::GET || method == Method::HEAD {
        let body = Body::from("Only POST or PUT requests allowed");
        return Some(exact(StatusCode::METHOD_NOT_ALLOWED, PLAIN, body));
    }
    if state.options.lifecycle_enabled {
        return None;
    }
    Some(exact(StatusCode::FORBIDDEN, PLAIN, Body::from("Lifecycle API is not enabled.")))
}

pub(crate) async fn reload(state: Shared, method: Method) -> Response {
    if let Some(refused) = refusal(&state, &method) {
        return refused;
    }
    match state.ports.config.reload().await {
        Ok(()) => exact(StatusCode::OK, None, Body::empty()),
        Err(why) => {
            let text = format!("failed to reload config: {why}");
            crate::text::plain(StatusCode::INTERNAL_SERVER_ERROR, &text)
        }
    }
}

pub(crate) fn quit(state: &State, method: &Method) -> Response {
    if let Some(refused) = refusal(state, method) {
        return refused;
    }
    state.ports.lifecycle.quit();
    exact(StatusCode::OK, PLAIN, Body::from("Requesting termination... Goodbye!"))
}

pub(crate) fn version(state: &State) -> Response {
    let mut out = Output::plain();
    let mut object = Object::new(out.buf());
    build_fields(&mut object, &state.ports.build);
    object.end();
    out.into_response(StatusCode::OK, "application/json")
}

pub(crate) fn metrics(state: &State, headers: &HeaderMap) -> Response {
    let mut text = String::new();
    state.ports.metrics.render(&mut text);
    state.query_log.follow(state.ports.config.query_log(), &state.counters.engine);
    state.counters.engine.render(&mut text, state.ports.clock.monotonic());
    let mut out = Output::new(Encoding::accepted(headers));
    out.buf().extend_from_slice(text.as_bytes());
    out.into_response(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8")
}
