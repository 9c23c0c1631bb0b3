//! Parameters of a request: the URL's and, of a form POST, the body's, merged as Go's `Request.Form` merges them.

use crate::{
    error::{ApiError, ErrorType},
    state::{State, declared_length},
};
use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode, header, request::Parts};
use http_body_util::{BodyExt, Limited};
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;

/// The parameters. Those of the body stand before those of the URL, so that the first of a name wins.
#[derive(Debug, Default)]
pub(crate) struct Form {
    pairs: Vec<(String, String)>,
    from_body: usize,
    /// The memory of the body, claimed for as long as the parameters live.
    _room: Option<OwnedSemaphorePermit>,
}

/// Parameters of one request; more are a sign of an attack.
const PAIRS_MAX: usize = 10_000;

impl Form {
    /// Of the URL and the body of a POST. `PATCH` and `PUT` do not occur.
    pub(crate) async fn of(parts: &Parts, body: Body, state: &State) -> Result<Form, ApiError> {
        let mut form = Form::default();
        if parts.method == Method::POST && is_form(&parts.headers) {
            let options = &state.options;
            let length = declared_length(&parts.headers).unwrap_or(options.form_bytes_max);
            let room = state.claim(length.min(options.form_bytes_max));
            let full = || ApiError::new(ErrorType::Unavailable, "too many bytes of requests in flight");
            form._room = Some(room.ok_or_else(full)?);
            let bytes = read_body(body, options.form_bytes_max, options.body_timeout).await?;
            form.add(&bytes)?;
            form.from_body = form.pairs.len();
        }
        form.add(parts.uri.query().unwrap_or("").as_bytes())?;
        Ok(form)
    }

    fn add(&mut self, encoded: &[u8]) -> Result<(), ApiError> {
        for (name, value) in form_urlencoded::parse(encoded) {
            if self.pairs.len() >= PAIRS_MAX {
                return Err(ApiError::bad_data(format!("more than {PAIRS_MAX} parameters")));
            }
            self.pairs.push((name.into_owned(), value.into_owned()));
        }
        Ok(())
    }

    /// The value of a parameter, the body's before the URL's; empty if it is not given.
    pub(crate) fn get(&self, name: &str) -> &str {
        self.pairs.iter().find(|(n, _)| n == name).map_or("", |(_, value)| value)
    }

    /// The URL's value, for the endpoints that read only the URL.
    pub(crate) fn get_url(&self, name: &str) -> &str {
        let mut url = self.pairs.iter().skip(self.from_body);
        url.find(|(n, _)| n == name).map_or("", |(_, value)| value)
    }

    /// All values of a parameter.
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        self.pairs.iter().filter(|(n, _)| n == name).map(|(_, value)| value.as_str()).collect()
    }
}

fn is_form(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or("");
    let kind = kind.split(';').next().unwrap_or("").trim();
    kind.eq_ignore_ascii_case("application/x-www-form-urlencoded")
}

/// Reads a body of at most `bytes_max` bytes within `timeout`.
pub(crate) async fn read_body(body: Body, bytes_max: usize, timeout: Duration) -> Result<Bytes, ApiError> {
    match tokio::time::timeout(timeout, Limited::new(body, bytes_max).collect()).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => {
            let text = format!("request body is larger than {bytes_max} bytes");
            Err(ApiError::bad_data(text).with_status(StatusCode::PAYLOAD_TOO_LARGE))
        }
        Ok(Err(_)) => {
            Err(ApiError::bad_data("request body broke off").with_status(StatusCode::REQUEST_TIMEOUT))
        }
        Err(_) => {
            let text = format!("request body did not arrive within {} s", timeout.as_secs());
            Err(ApiError::bad_data(text).with_status(StatusCode::REQUEST_TIMEOUT))
        }
    }
}
