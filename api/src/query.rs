//! `/api/v1/query`, `/api/v1/query_range`, and what only looks at a query's text.

use crate::{
    call::{Call, Origin},
    engine_metrics::Slice,
    error::{ApiError, ErrorType},
    job, json,
    output::Encoding,
    param,
    query_log::Line,
    respond::Answer,
    result::{self, Timings},
    selector,
    state::{Counters, State},
    view,
};
use axum::response::Response;
use http::StatusCode;
use model::{Budget, EarlyView, Matcher, OpenView, TimestampMs};
use promql::{
    EvalError, Extent, QueryOptions, Stats,
    ast::{Expr, ValueType},
};
use std::{sync::Arc, time::Duration};

/// Points of one series in a range query: a week in minutes, a year in hours.
const POINTS_MAX: i128 = 11_000;

/// A query up to this weight ([`promql::weight`]) is evaluated where its request is read.
const SMALL_WEIGHT: u64 = 1 << 15;

/// The times at which a query is evaluated, milliseconds.
#[derive(Clone, Copy, Debug)]
enum Steps {
    At(i64),
    Range { start: i64, end: i64, step: i64 },
}

/// A checked request for an evaluation.
struct Query {
    text: String,
    expr: Arc<Expr>,
    steps: Steps,
    options: QueryOptions,
    /// Series shown; 0 is no limit.
    limit: usize,
    stats: bool,
    warning: Option<String>,
    timings: Timings,
    origin: Origin,
}

pub(crate) async fn instant(call: Call) -> Result<Response, ApiError> {
    let form = &call.form;
    let limit = limit(&call)?;
    let now = call.state.ports.clock.now();
    let time = param::time_or(form.get("time"), "time", now).map_err(|e| ApiError::parameter("time", e))?;
    let timeout = timeout(&call)?;
    let query = checked(&call, limit, Steps::At(time.0)).await?;
    run(call, query, timeout).await
}

pub(crate) async fn range(call: Call) -> Result<Response, ApiError> {
    let limit = limit(&call)?;
    let time = |name| param::time(call.form.get(name)).map_err(|e| ApiError::parameter(name, e));
    let (start, end) = (time("start")?, time("end")?);
    if end < start {
        return Err(ApiError::parameter("end", "end timestamp must not be before start time"));
    }
    let step = param::duration(call.form.get("step")).map_err(|e| ApiError::parameter("step", e))?;
    if step <= 0 {
        let reason = "zero or negative query resolution step widths are not accepted. Try a positive integer";
        return Err(ApiError::parameter("step", reason));
    }
    if (i128::from(end.0) - i128::from(start.0)) * 1_000_000 / i128::from(step) > POINTS_MAX {
        return Err(ApiError::bad_data(
            "exceeded maximum resolution of 11,000 points per timeseries. \
             Try decreasing the query resolution (?step=XX)",
        ));
    }
    let timeout = timeout(&call)?;
    let steps = Steps::Range { start: start.0, end: end.0, step: step / 1_000_000 };
    let query = checked(&call, limit, steps).await?;
    run(call, query, timeout).await
}

fn limit(call: &Call) -> Result<usize, ApiError> {
    param::limit(call.form.get("limit")).map_err(|e| ApiError::parameter("limit", e))
}

/// The `timeout` parameter, which can only lower the flag's.
fn timeout(call: &Call) -> Result<Duration, ApiError> {
    let longest = call.state.options.query_timeout;
    match call.form.get("timeout") {
        "" => Ok(longest),
        text => {
            let nanos = param::duration(text).map_err(|e| ApiError::parameter("timeout", e))?;
            Ok(Duration::from_nanos(u64::try_from(nanos).unwrap_or(0)).min(longest))
        }
    }
}

/// Reads what instant and range queries have in common, the text last, in Prometheus's order.
async fn checked(call: &Call, limit: usize, steps: Steps) -> Result<Query, ApiError> {
    let lookback = match call.form.get("lookback_delta") {
        "" => None,
        text => Some(
            param::duration(text)
                .map_err(|e| ApiError::bad_data(format!("error parsing lookback delta duration: {e}")))?,
        ),
    };
    let before = call.state.ports.clock.monotonic();
    let text = call.form.get("query").to_owned();
    let expr = parse(call).await?;
    let prepared = call.state.ports.clock.monotonic().saturating_sub(before);
    let value_type = expr.value_type();
    if matches!(steps, Steps::Range { .. }) && !matches!(value_type, ValueType::Vector | ValueType::Scalar) {
        let kind = value_type.describe();
        let reason =
            format!("invalid expression type {kind:?} for range query, must be Scalar or instant Vector");
        return Err(ApiError::parameter("query", reason));
    }
    let stats = call.form.get("stats");
    let warning = (!matches!(stats, "" | "true" | "all")).then(|| {
        format!(
            "value {stats:?} for parameter \"stats\" is deprecated and will be rejected in the next major release, \
             use \"true\" or \"all\""
        )
    });
    Ok(Query {
        text,
        expr,
        steps,
        options: QueryOptions {
            lookback_delta_ms: lookback.map(|nanos| nanos / 1_000_000),
            stats_by_step: stats == "all" && call.state.options.per_step_stats,
        },
        limit,
        stats: !stats.is_empty(),
        warning,
        timings: Timings { prepared, ..Timings::default() },
        origin: call.origin.clone(),
    })
}

/// Reads the query. One that may take long does so on a thread and in a place of the queue, as evaluations do.
async fn parse(call: &Call) -> Result<Arc<Expr>, ApiError> {
    read(call).await?.map_err(|error| ApiError::parameter("query", error))
}

async fn read(call: &Call) -> Result<Result<Arc<Expr>, EvalError>, ApiError> {
    let (state, text) = (&call.state, call.form.get("query"));
    if let Some(known) = state.known.get(text) {
        return Ok(Ok(known));
    }
    let expr = read_anew(state, text).await?.map(Arc::new);
    if let Ok(expr) = &expr {
        state.known.put(text, expr);
    }
    Ok(expr)
}

async fn read_anew(state: &State, text: &str) -> Result<Result<Expr, EvalError>, ApiError> {
    let engine = state.engine();
    if selector::is_light(text) {
        return Ok(engine.parse(text));
    }
    let place = state.queue.enter(state.options.query_timeout).await.ok_or_else(no_place)?;
    let text = text.to_owned();
    let work = move || {
        let parsed = engine.parse(&text);
        drop(place);
        parsed
    };
    selector::read(state, false, work).await
}

fn no_place() -> ApiError {
    ApiError::new(ErrorType::Timeout, "query timed out in query queue")
}

/// Waits for a place and a view, evaluates on a thread, writes the answer there too. A small query is evaluated here and
/// now, on what this node shows while the others are asked, and once more if that was not enough.
async fn run(call: Call, mut query: Query, timeout: Duration) -> Result<Response, ApiError> {
    let state = call.state.clone();
    let budget = call.budget(timeout);
    let _guard = job::CancelOnDrop(budget.clone());
    let (engine, clock) = (&state.counters.engine, &state.ports.clock);
    let before = clock.monotonic();
    let place = state.queue.enter(timeout).await;
    let entered = clock.monotonic();
    query.timings.queued = entered.saturating_sub(before);
    engine.observe(Slice::QueueTime, entered, query.timings.queued);
    let place = place.ok_or_else(no_place)?;
    let EarlyView { view, verdict } = view::open_early(&state, &call.form, &call.headers).await?;
    if is_small(&state, &query, &view) {
        query.timings.prepared += clock.monotonic().saturating_sub(entered);
        let early = job::here(|| evaluate(&state, &query, &view, &budget, call.encoding))?;
        let outcome = match verdict.await? {
            None => early,
            Some(view) => {
                drop(early);
                let left = timeout.saturating_sub(clock.monotonic().saturating_sub(before));
                job::here(|| evaluate(&state, &query, &view, &call.budget(left), call.encoding))?
            }
        };
        account(&state, &query, &outcome);
        return outcome.response;
    }
    let view = verdict.await?.unwrap_or(view);
    query.timings.prepared += clock.monotonic().saturating_sub(entered);
    let (working, encoding) = (state.clone(), call.encoding);
    let work = move || {
        let outcome = evaluate(&working, &query, &view, &budget, encoding);
        account(&working, &query, &outcome);
        drop(view);
        drop(place);
        outcome.response
    };
    job::run(&state, "query", work).await?
}

/// Whether a query takes about as long as handing it to another thread: a millisecond at the very most.
fn is_small(state: &State, query: &Query, view: &OpenView) -> bool {
    let (steps, span) = match query.steps {
        Steps::At(_) => (1, 0),
        Steps::Range { start, end, step } => {
            (end.abs_diff(start) / step.max(1).unsigned_abs() + 1, end.abs_diff(start))
        }
    };
    let lookback = state.options.lookback_delta;
    let lookback = query.options.lookback_delta_ms.map_or(milliseconds(lookback), |ms| ms.unsigned_abs());
    let extent = Extent { steps, span_ms: span, lookback_ms: lookback };
    let series_at_most = |matchers: &[Matcher]| view.queryable.series_at_most(matchers);
    promql::weight(&series_at_most, &query.expr, extent).is_some_and(|weight| weight <= SMALL_WEIGHT)
}

fn milliseconds(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// What came of an evaluation.
struct Outcome {
    response: Result<Response, ApiError>,
    /// Of an evaluation that failed: nothing.
    stats: Stats,
    /// The engine's words, of one that failed.
    error: Option<String>,
    timings: Timings,
}

fn evaluate(
    state: &State,
    query: &Query,
    view: &OpenView,
    budget: &Arc<Budget>,
    encoding: Encoding,
) -> Outcome {
    let (engine, clock) = (state.engine(), &state.ports.clock);
    let _written_down = state.queue.write_down(&query.text, clock.now().0 / 1000);
    let before = clock.monotonic();
    let queryable = &*view.queryable;
    let (text, expr) = (&query.text, &query.expr);
    let evaluated = match query.steps {
        Steps::At(time) => engine.instant_expr(queryable, text, expr, time, budget, query.options),
        Steps::Range { start, end, step } => {
            engine.range_expr(queryable, text, expr, start, end, step, budget, query.options)
        }
    };
    let timings = Timings { evaluated: clock.monotonic().saturating_sub(before), ..query.timings };
    match evaluated {
        Ok(evaluated) => {
            let stats = evaluated.stats.clone();
            let response = respond(query, view, budget, evaluated, &timings, encoding);
            Outcome { response, stats, error: None, timings }
        }
        Err(error) => {
            let text = Some(error.to_string());
            Outcome { response: Err(failure(error)), stats: Stats::default(), error: text, timings }
        }
    }
}

/// Writes the answer.
fn respond(
    query: &Query,
    view: &OpenView,
    budget: &Arc<Budget>,
    evaluated: promql::Answer,
    timings: &Timings,
    encoding: Encoding,
) -> Result<Response, ApiError> {
    let mut answer = Answer::new(encoding);
    answer.hold(budget.clone());
    answer.view(&view.indexes);
    answer.warn(view.warnings.iter().cloned());
    let cut = result::write(&mut answer, evaluated.value, evaluated.timestamp, query.limit, budget)?;
    if cut {
        answer.warn(["results truncated due to limit".to_owned()]);
    }
    answer.warn(query.warning.clone());
    answer.warn(evaluated.warnings);
    answer.inform(evaluated.infos);
    result::finish(&mut answer, query.stats.then_some((&evaluated.stats, timings)));
    Ok(answer.finish())
}

/// Counts and logs a query that was evaluated, with or without success.
fn account(state: &State, query: &Query, outcome: &Outcome) {
    let (counters, timings, stats) = (&state.counters, &outcome.timings, &outcome.stats);
    let now = state.ports.clock.monotonic();
    Counters::add(&counters.queries, 1);
    let micros = u64::try_from(timings.evaluated.as_micros()).unwrap_or(u64::MAX);
    Counters::add(&counters.query_micros, micros);
    counters.engine.observe(Slice::PrepareTime, now, timings.prepared);
    counters.engine.observe(Slice::InnerEval, now, timings.evaluated);
    counters.engine.observe(Slice::ResultSort, now, Duration::ZERO); // sorted as it is evaluated
    counters.engine.samples(stats.total_queryable_samples);
    state.query_log.follow(state.ports.config.query_log(), &counters.engine);
    if !state.query_log.is_open() {
        return;
    }
    let (start, end, step) = match query.steps {
        Steps::At(time) => (time, time, 0),
        Steps::Range { start, end, step } => (start, end, step),
    };
    let client = query.origin.client.map(|client| client.to_string()).unwrap_or_default();
    let line = Line {
        at: state.ports.clock.now(),
        query: &query.text,
        start,
        end,
        step,
        error: outcome.error.as_deref(),
        stats,
        timings,
        client: &client,
        method: query.origin.method.as_str(),
        path: &format!("/api/v1{}", query.origin.path),
    };
    state.query_log.write(&line, &counters.engine);
}

fn failure(error: EvalError) -> ApiError {
    let kind = match &error {
        EvalError::Parse(_) | EvalError::BadQuery(_) => return ApiError::parameter("query", error),
        EvalError::TimedOut => ErrorType::Timeout,
        EvalError::Canceled => ErrorType::Canceled,
        EvalError::Query(error) => return error.clone().into(),
        _ => ErrorType::Execution,
    };
    ApiError::new(kind, error.to_string())
}

/// There are no exemplars; a query without selectors is answered by a 204, as Prometheus does.
pub(crate) async fn exemplars(call: Call) -> Result<Response, ApiError> {
    let time = |name: &str, default| {
        param::time_or(call.form.get(name), name, default).map_err(|e| ApiError::parameter(name, e))
    };
    let (start, end): (TimestampMs, TimestampMs) =
        (time("start", param::TIME_MIN)?, time("end", param::TIME_MAX)?);
    if end < start {
        return Err(ApiError::bad_data("end timestamp must not be before start timestamp"));
    }
    let expr = read(&call).await?.map_err(|error| ApiError::bad_data(error.to_string()))?;
    if expr.selectors().is_empty() {
        return Ok(crate::text::plain(StatusCode::NO_CONTENT, ""));
    }
    let mut answer = Answer::new(call.encoding);
    answer.data().extend_from_slice(b"[]");
    Ok(answer.finish())
}

pub(crate) async fn format(call: Call) -> Result<Response, ApiError> {
    let text = promql::pretty(&*parse(&call).await?);
    let mut answer = Answer::new(call.encoding);
    json::text(answer.data(), &text);
    Ok(answer.finish())
}

pub(crate) async fn parse_query(call: Call) -> Result<Response, ApiError> {
    let tree = promql::ast_json(&*parse(&call).await?);
    let mut answer = Answer::new(call.encoding);
    answer.data().extend_from_slice(tree.as_bytes());
    Ok(answer.finish())
}
