//! How an API call fails: Prometheus's error types and their status codes.

use crate::{json, output::Output};
use axum::response::Response;
use http::{HeaderValue, StatusCode, header};
use model::{QueryError, ViewError};

/// `errorType` in the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ErrorType {
    Timeout,
    Canceled,
    Execution,
    BadData,
    Internal,
    Unavailable,
}

impl ErrorType {
    fn name(self) -> &'static str {
        match self {
            ErrorType::Timeout => "timeout",
            ErrorType::Canceled => "canceled",
            ErrorType::Execution => "execution",
            ErrorType::BadData => "bad_data",
            ErrorType::Internal => "internal",
            ErrorType::Unavailable => "unavailable",
        }
    }

    fn status(self) -> StatusCode {
        match self {
            ErrorType::Timeout | ErrorType::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            // nginx's "client closed request", which Prometheus uses
            ErrorType::Canceled => StatusCode::from_u16(499).expect("a number between 100 and 999"),
            ErrorType::Execution => StatusCode::UNPROCESSABLE_ENTITY,
            ErrorType::BadData => StatusCode::BAD_REQUEST,
            ErrorType::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

/// A failed call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ApiError {
    pub(crate) kind: ErrorType,
    pub(crate) text: String,
    status: StatusCode,
}

impl ApiError {
    pub(crate) fn new(kind: ErrorType, text: impl Into<String>) -> ApiError {
        ApiError { kind, text: text.into(), status: kind.status() }
    }

    pub(crate) fn bad_data(text: impl Into<String>) -> ApiError {
        ApiError::new(ErrorType::BadData, text)
    }

    /// Prometheus's text for a parameter that cannot be used.
    pub(crate) fn parameter(name: &str, reason: impl std::fmt::Display) -> ApiError {
        ApiError::bad_data(format!("invalid parameter {name:?}: {reason}"))
    }

    pub(crate) fn with_status(mut self, status: StatusCode) -> ApiError {
        self.status = status;
        self
    }

    pub(crate) fn status(&self) -> StatusCode {
        self.status
    }

    /// The answer.
    pub(crate) fn into_response(self) -> Response {
        let mut out = Output::plain();
        let buf = out.buf();
        buf.extend_from_slice(br#"{"status":"error","errorType":"#);
        json::text(buf, self.kind.name());
        buf.extend_from_slice(br#","error":"#);
        json::text(buf, &self.text);
        buf.push(b'}');
        let mut response = out.into_response(self.status, "application/json");
        if self.kind == ErrorType::Unavailable {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

impl From<ViewError> for ApiError {
    fn from(error: ViewError) -> Self {
        ApiError::new(ErrorType::Unavailable, error.to_string())
    }
}

impl From<QueryError> for ApiError {
    fn from(error: QueryError) -> Self {
        let kind = match error {
            QueryError::TimedOut => ErrorType::Timeout,
            QueryError::Canceled => ErrorType::Canceled,
            QueryError::TooManyBytes { .. } => ErrorType::Execution,
            QueryError::TooManyBytesTogether { .. } => ErrorType::Unavailable,
            QueryError::Storage(_) => ErrorType::Internal,
        };
        ApiError::new(kind, error.to_string())
    }
}
