//! `/api/v1/status/*` as Prometheus has it, and the endpoints that are empty until there are rules and alerts.

use crate::{
    call::Call,
    error::{ApiError, ErrorType},
    form::read_body,
    job,
    json::{self, Object},
    param,
    ports::{BuildInfo, NamedCount, OfferError},
    respond::Answer,
    selector,
};
use axum::{body::Body, response::Response};
use http::{Request, StatusCode};
use std::sync::Arc;

/// An answer whose data is one object.
fn object(call: &Call, fill: impl FnOnce(&mut Object<'_>)) -> Response {
    let mut answer = Answer::new(call.encoding);
    let mut object = Object::new(answer.data());
    fill(&mut object);
    object.end();
    answer.finish()
}

pub(crate) async fn config(call: Call) -> Result<Response, ApiError> {
    let yaml = call.state.ports.config.yaml();
    Ok(object(&call, |o| _ = o.text("yaml", &yaml)))
}

/// `GET /api/v1/status/config/history?limit`: committed versions, newest first (`vestal config history`).
pub(crate) async fn config_history(call: Call) -> Result<Response, ApiError> {
    let limit = param::limit(call.form.get("limit")).map_err(|e| ApiError::parameter("limit", e))?;
    let limit = if limit == 0 { 100 } else { limit.min(1000) };
    let history = call.state.ports.config.history(limit).await;
    let mut answer = Answer::new(call.encoding);
    json::array(answer.data(), &history, |out, entry| {
        let mut object = Object::new(out);
        object
            .integer("version", entry.version.0)
            .text("hash", &entry.hash)
            .text("textHash", &entry.text_hash)
            .text("offeredAt", &param::format_time(entry.offered_at))
            .text("offeredBy", &entry.offered_by)
            .text("yaml", &entry.yaml);
        object.end();
    });
    Ok(answer.finish())
}

/// `POST /api/v1/status/config` with the YAML as body (`vestal config apply`).
pub(crate) async fn config_apply(
    state: crate::state::Shared,
    request: Request<Body>,
) -> Result<Response, ApiError> {
    if !state.options.config_apply_enabled {
        let text = "applying a configuration is not enabled; see --web.enable-lifecycle";
        return Err(ApiError::new(ErrorType::Unavailable, text).with_status(StatusCode::FORBIDDEN));
    }
    let body =
        read_body(request.into_body(), state.options.config_bytes_max, state.options.body_timeout).await?;
    let yaml =
        String::from_utf8(body.into()).map_err(|_| ApiError::bad_data("configuration is not valid UTF-8"))?;
    let version = state.ports.config.apply(yaml).await.map_err(|error| match error {
        OfferError::Rejected(text) => ApiError::bad_data(text),
        OfferError::Unavailable(text) => ApiError::new(ErrorType::Unavailable, text),
    })?;
    let mut answer = Answer::new(crate::output::Encoding::Plain);
    let mut object = Object::new(answer.data());
    object.integer("version", version.0);
    object.end();
    Ok(answer.finish())
}

pub(crate) async fn flags(call: Call) -> Result<Response, ApiError> {
    let flags = call.state.ports.config.flags();
    Ok(object(&call, |o| {
        for (name, value) in &flags {
            o.text(name, value);
        }
    }))
}

pub(crate) fn build_fields(o: &mut Object<'_>, build: &BuildInfo) {
    o.text("version", &build.version)
        .text("revision", &build.revision)
        .text("branch", &build.branch)
        .text("buildUser", &build.build_user)
        .text("buildDate", &build.build_date)
        .text("goVersion", &build.compiler)
        .text("vestalVersion", &build.vestal_version);
}

pub(crate) async fn buildinfo(call: Call) -> Result<Response, ApiError> {
    Ok(object(&call, |o| build_fields(o, &call.state.ports.build)))
}

pub(crate) async fn runtimeinfo(call: Call) -> Result<Response, ApiError> {
    let info = call.state.ports.lifecycle.runtime();
    let now = call.state.ports.clock.now();
    Ok(object(&call, |o| {
        o.text("startTime", &param::format_time(info.start_time))
            .text("CWD", &info.cwd)
            .text("hostname", &info.hostname)
            .text("serverTime", &param::format_time(now))
            .bool("reloadConfigSuccess", info.reload_config_success)
            .text("lastConfigTime", &param::format_time(info.last_config_time))
            .integer("corruptionCount", info.corruption_count)
            .integer("goroutineCount", info.tasks)
            .integer("GOMAXPROCS", info.threads)
            .integer("GOMEMLIMIT", info.memory_limit)
            .text("GOGC", "")
            .text("GODEBUG", "")
            .text("storageRetention", &info.storage_retention);
    }))
}

const TSDB_LIMIT_MAX: usize = 10_000;

pub(crate) async fn tsdb(call: Call) -> Result<Response, ApiError> {
    let limit = match call.form.get("limit") {
        "" => 10,
        text => match param::whole(text).map(usize::try_from) {
            Ok(Ok(limit)) if limit > TSDB_LIMIT_MAX => {
                return Err(ApiError::bad_data(format!("limit must not exceed {TSDB_LIMIT_MAX}")));
            }
            Ok(Ok(limit)) if limit > 0 => limit,
            _ => return Err(ApiError::bad_data("limit must be a positive number")),
        },
    };
    let tsdb = Arc::clone(&call.state.ports.tsdb);
    let stats = job::run(&call.state, "tsdb_stats", move || tsdb.stats(limit)).await?;
    let stats = stats.map_err(|e| ApiError::new(ErrorType::Internal, e.to_string()))?;
    Ok(object(&call, |o| {
        let mut head = Object::new(o.key("headStats"));
        head.integer("numSeries", stats.series)
            .integer("numLabelPairs", stats.label_pairs)
            .integer("chunkCount", stats.chunks)
            .integer("minTime", stats.min_time.0)
            .integer("maxTime", stats.max_time.0);
        head.end();
        counts(o, "seriesCountByMetricName", &stats.series_by_metric_name);
        counts(o, "labelValueCountByLabelName", &stats.values_by_label_name);
        counts(o, "memoryInBytesByLabelName", &stats.bytes_by_label_name);
        counts(o, "seriesCountByLabelValuePair", &stats.series_by_label_pair);
    }))
}

fn counts(object: &mut Object<'_>, name: &str, list: &[NamedCount]) {
    json::array(object.key(name), list, |out, item| {
        let mut object = Object::new(out);
        object.text("name", &item.name).integer("value", item.value);
        object.end();
    });
}

pub(crate) async fn walreplay(call: Call) -> Result<Response, ApiError> {
    let replay = call.state.ports.tsdb.replay();
    Ok(object(&call, |o| {
        o.integer("min", replay.min).integer("max", replay.max).integer("current", replay.current);
    }))
}

pub(crate) async fn rules(call: Call) -> Result<Response, ApiError> {
    selector::sets(&call.state, &call.form.all("match[]")).await?.map_err(ApiError::bad_data)?;
    let kind = call.form.get_url("type").to_lowercase();
    if !matches!(kind.as_str(), "" | "alert" | "record") {
        return Err(ApiError::parameter("type", format!("not supported value {kind:?}")));
    }
    let exclude = call.form.get_url("exclude_alerts").to_lowercase();
    if !matches!(exclude.as_str(), "" | "1" | "t" | "true" | "0" | "f" | "false") {
        let what = format!("strconv.ParseBool: parsing {exclude:?}: invalid syntax");
        return Err(ApiError::parameter(
            "exclude_alerts",
            format!("error converting exclude_alerts: {what}"),
        ));
    }
    check_page(call.form.get_url("group_limit"), call.form.get_url("group_next_token"))?;
    Ok(object(&call, |o| o.key("groups").extend(b"[]")))
}

/// Checks which page of the groups is asked for. There are none, so a token, which names a group, is never right.
fn check_page(limit: &str, token: &str) -> Result<(), ApiError> {
    if limit.is_empty() {
        let what = "group_limit needs to be present in order to paginate over the groups";
        return if token.is_empty() { Ok(()) } else { Err(ApiError::parameter("group_next_token", what)) };
    }
    let refuse = |what: String| Err(ApiError::parameter("group_limit", what));
    match param::whole(limit).map(i32::try_from) {
        Err(error) => {
            let error = error.replace("Atoi", "ParseInt");
            refuse(format!("group_limit needs to be a valid number: {error}"))
        }
        Ok(Err(_)) => {
            let error = format!("strconv.ParseInt: parsing {limit:?}: value out of range");
            refuse(format!("group_limit needs to be a valid number: {error}"))
        }
        Ok(Ok(number)) if number <= 0 => refuse("group_limit needs to be greater than 0".to_owned()),
        Ok(Ok(_)) if token.is_empty() => Ok(()),
        Ok(Ok(_)) => {
            let what = format!("invalid group_next_token '{token}'. were rule groups changed?");
            Err(ApiError::parameter("group_next_token", what))
        }
    }
}

pub(crate) async fn alerts(call: Call) -> Result<Response, ApiError> {
    Ok(object(&call, |o| o.key("alerts").extend(b"[]")))
}

pub(crate) async fn alertmanagers(call: Call) -> Result<Response, ApiError> {
    Ok(object(&call, |o| {
        o.key("activeAlertmanagers").extend(b"[]");
        o.key("droppedAlertmanagers").extend(b"[]");
    }))
}
