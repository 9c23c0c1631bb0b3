//! Answers that are plain text.

use axum::{body::Body, response::Response};
use http::{HeaderValue, StatusCode, header};

/// As Go's `http.Error`: the text and a line end; nothing at all for a 204.
pub(crate) fn plain(status: StatusCode, text: &str) -> Response {
    if status == StatusCode::NO_CONTENT {
        return exact(status, None, Body::empty());
    }
    exact(status, Some("text/plain; charset=utf-8"), Body::from(format!("{text}\n")))
}

/// Exactly this body.
pub(crate) fn exact(status: StatusCode, content_type: Option<&'static str>, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    if let Some(content_type) = content_type {
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    }
    response
}
