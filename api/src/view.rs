//! How fresh a read must be, as the request says it.

use crate::{
    error::ApiError,
    form::Form,
    respond::{VIEW_HEADER, parse_view},
    state::State,
};
use http::HeaderMap;
use model::{Consistency, EarlyView, OpenView};

/// Asks for a consistency where a parameter cannot be added.
const CONSISTENCY_HEADER: &str = "x-vestal-consistency";

/// `consistency=stale` or `default` as a parameter, else in the header; else a view at least as new as
/// `X-Vestal-View` names; else the default.
pub(crate) fn consistency(form: &Form, headers: &HeaderMap) -> Result<Consistency, ApiError> {
    let header = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or("\u{fffd}"));
    let word = match form.get("consistency") {
        "" => header(CONSISTENCY_HEADER).unwrap_or(""),
        word => word,
    };
    match word {
        "stale" => return Ok(Consistency::Stale),
        "" | "default" => {}
        other => {
            let reason = format!("must be \"default\" or \"stale\", got {other:?}");
            return Err(ApiError::parameter("consistency", reason));
        }
    }
    match header(VIEW_HEADER.as_str()) {
        None => Ok(Consistency::Default),
        Some(text) => match parse_view(text) {
            Some(view) => Ok(Consistency::AtLeast(view)),
            None => Err(ApiError::bad_data("invalid header \"X-Vestal-View\": must be SHARD:INDEX,...")),
        },
    }
}

/// Opens the view that a request asks for.
pub(crate) async fn open(state: &State, form: &Form, headers: &HeaderMap) -> Result<OpenView, ApiError> {
    let consistency = consistency(form, headers)?;
    Ok(state.ports.views.open(consistency, state.options.consistency_timeout).await?)
}

/// The same without waiting: see [`model::Views::open_early`].
pub(crate) async fn open_early<'s>(
    state: &'s State,
    form: &Form,
    headers: &HeaderMap,
) -> Result<EarlyView<'s>, ApiError> {
    let consistency = consistency(form, headers)?;
    Ok(state.ports.views.open_early(consistency, state.options.consistency_timeout).await?)
}
