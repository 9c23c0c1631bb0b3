//! Paths to endpoints, and what is done to every request: CORS, readiness, counting.

use crate::{
    call::{Call, Origin},
    cluster,
    error::ApiError,
    features, federate,
    form::Form,
    lifecycle,
    options::Options,
    output::Encoding,
    page, query, series,
    server::Peer,
    state::{Counters, Ports, Shared, State},
    status, targets, write,
};
use axum::{
    Router,
    extract::{Path, Request},
    middleware::{self, Next},
    response::{Redirect, Response},
    routing::{MethodFilter, MethodRouter, get, on, post},
};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use std::sync::Arc;

/// The HTTP API over these ports.
pub fn router(ports: Ports, options: Options, counters: Arc<Counters>) -> Router {
    let state = Arc::new(State::new(ports, options, counters));
    let counted = state.clone();
    let all = Router::new().nest("/api/v1", api(&state)).merge(beside(&state));
    prefixed(all, &state.options.route_prefix)
        .fallback(async || crate::text::plain(StatusCode::NOT_FOUND, "404 page not found"))
        .layer(middleware::from_fn(move |request: Request, next: Next| count(counted.clone(), request, next)))
}

/// Puts everything behind `--web.route-prefix`.
fn prefixed(all: Router, prefix: &str) -> Router {
    if prefix.is_empty() {
        return all;
    }
    let to_home = || {
        let home = prefix.to_owned();
        get(async move || Redirect::to(&home))
    };
    Router::new().route("/", to_home()).route(&format!("{prefix}/"), to_home()).nest(prefix, all)
}

/// Endpoints that answer with the envelope.
fn api(state: &Shared) -> Router {
    let config = read(state, status::config).merge(config_apply(state));
    let router = Router::new()
        .route("/query", form(state, query::instant))
        .route("/query_range", form(state, query::range))
        .route("/query_exemplars", form(state, query::exemplars))
        .route("/format_query", form(state, query::format))
        .route("/parse_query", form(state, query::parse_query))
        .route("/series", form(state, series::series))
        .route("/labels", form(state, series::names))
        .route("/label/{name}/values", label_values(state))
        .route("/targets", read(state, targets::targets))
        .route("/targets/metadata", read(state, targets::target_metadata))
        .route("/features", read(state, features::features))
        .route("/metadata", read(state, targets::metadata))
        .route("/scrape_pools", read(state, targets::scrape_pools))
        .route("/scrape_pools/config", read(state, targets::scrape_pool_config))
        .route("/rules", read(state, status::rules))
        .route("/alerts", read(state, status::alerts))
        .route("/alertmanagers", read(state, status::alertmanagers))
        .route("/status/config", config)
        .route("/status/config/history", read(state, status::config_history))
        .route("/status/flags", read(state, status::flags))
        .route("/status/buildinfo", read(state, status::buildinfo))
        .route("/status/runtimeinfo", read(state, status::runtimeinfo))
        .route("/status/tsdb", read(state, status::tsdb))
        .route("/status/walreplay", read_early(state, status::walreplay))
        .route("/status/cluster", read(state, cluster::status))
        .route("/status/gaps", read(state, cluster::gaps));
    let writing = state.clone();
    let write = post(move |request: Request| write::write(writing.clone(), request));
    let crossed = state.clone();
    router
        .route("/write", write)
        .fallback(async || crate::text::plain(StatusCode::NOT_FOUND, "404 page not found"))
        .layer(middleware::from_fn(move |request: Request, next: Next| cors(crossed.clone(), request, next)))
}

/// An endpoint that is called with GET.
fn read<F>(state: &Shared, f: impl Fn(Call) -> F + Clone + Send + Sync + 'static) -> MethodRouter
where
    F: Future<Output = Result<Response, ApiError>> + Send + 'static,
{
    endpoint(state, MethodFilter::GET, f)
}

/// An endpoint that answers while the node still starts.
fn read_early<F>(state: &Shared, f: impl Fn(Call) -> F + Clone + Send + Sync + 'static) -> MethodRouter
where
    F: Future<Output = Result<Response, ApiError>> + Send + 'static,
{
    let state = state.clone();
    get(move |request: Request| answer_always(state.clone(), request, f.clone()))
}

/// An endpoint that also takes its parameters as the form of a POST.
fn form<F>(state: &Shared, f: impl Fn(Call) -> F + Clone + Send + Sync + 'static) -> MethodRouter
where
    F: Future<Output = Result<Response, ApiError>> + Send + 'static,
{
    endpoint(state, MethodFilter::GET.or(MethodFilter::POST), f)
}

fn endpoint<F>(
    state: &Shared,
    methods: MethodFilter,
    f: impl Fn(Call) -> F + Clone + Send + Sync + 'static,
) -> MethodRouter
where
    F: Future<Output = Result<Response, ApiError>> + Send + 'static,
{
    let state = state.clone();
    on(methods, move |request: Request| answer(state.clone(), request, f.clone()))
}

fn label_values(state: &Shared) -> MethodRouter {
    let state = state.clone();
    get(move |Path(name): Path<String>, request: Request| {
        answer(state.clone(), request, move |call| series::values(call, name))
    })
}

fn config_apply(state: &Shared) -> MethodRouter {
    let state = state.clone();
    post(async move |request: Request| {
        status::config_apply(state.clone(), request).await.unwrap_or_else(ApiError::into_response)
    })
}

async fn answer<F>(state: Shared, request: Request, f: impl FnOnce(Call) -> F) -> Response
where
    F: Future<Output = Result<Response, ApiError>>,
{
    if let Some(refused) = lifecycle::refusal_while_starting(&state) {
        return refused;
    }
    answer_always(state, request, f).await
}

async fn answer_always<F>(state: Shared, request: Request, f: impl FnOnce(Call) -> F) -> Response
where
    F: Future<Output = Result<Response, ApiError>>,
{
    let encoding = Encoding::accepted(request.headers());
    let (parts, body) = request.into_parts();
    let form = match Form::of(&parts, body, &state).await {
        Ok(form) => form,
        Err(error) => return error.into_response(),
    };
    let client = parts.extensions.get::<Peer>().map(|peer| peer.0.ip());
    let origin = Origin { client, method: parts.method, path: parts.uri.path().to_owned() };
    let call = Call { state, form, headers: parts.headers, encoding, origin };
    let mut response = f(call).await.unwrap_or_else(ApiError::into_response);
    response.headers_mut().append(header::VARY, HeaderValue::from_static("Accept-Encoding"));
    response
}

/// Everything that is not below `/api/v1`.
fn beside(state: &Shared) -> Router {
    let (s1, s2, s3, s4) = (state.clone(), state.clone(), state.clone(), state.clone());
    let (s5, s6, s7) = (state.clone(), state.clone(), state.clone());
    let changing = MethodFilter::GET.or(MethodFilter::POST).or(MethodFilter::PUT);
    Router::new()
        .route("/", get(move || page::page(s1.clone())))
        .route("/federate", read(state, federate::federate))
        .route("/version", get(async move || lifecycle::version(&s2)))
        .route("/metrics", get(async move |headers: HeaderMap| lifecycle::metrics(&s3, &headers)))
        .route("/-/healthy", get(async || lifecycle::healthy()))
        .route("/-/ready", get(async move || lifecycle::ready(&s4)))
        .route("/-/reload", on(changing, move |method: Method| lifecycle::reload(s5.clone(), method)))
        .route("/-/quit", on(changing, async move |method: Method| lifecycle::quit(&s6, &method)))
        .route("/graph", get(move || page::page(s7.clone())))
}

/// Lets web pages of other origins read, as `--web.cors.origin` says.
async fn cors(state: Shared, request: Request, next: Next) -> Response {
    let origin = request.headers().get(header::ORIGIN).cloned();
    let mut response = if request.method() == Method::OPTIONS {
        crate::text::plain(StatusCode::NO_CONTENT, "")
    } else {
        next.run(request).await
    };
    let headers = response.headers_mut();
    headers.append(header::VARY, HeaderValue::from_static("Origin"));
    if let Some(origin) = origin {
        let mut set = |name, value| headers.insert(name, HeaderValue::from_static(value));
        set(header::ACCESS_CONTROL_ALLOW_HEADERS, "Accept, Authorization, Content-Type, Origin");
        set(header::ACCESS_CONTROL_ALLOW_METHODS, "GET, POST, OPTIONS");
        set(header::ACCESS_CONTROL_EXPOSE_HEADERS, "Date");
        let allowed = &state.options.cors_origin;
        if allowed.source() == ".*" {
            set(header::ACCESS_CONTROL_ALLOW_ORIGIN, "*");
        } else if origin.to_str().is_ok_and(|text| allowed.is_match(text)) {
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        }
    }
    response
}

async fn count(state: Shared, request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    let counters = &state.counters;
    Counters::add(&counters.requests, 1);
    if response.status().is_client_error() {
        Counters::add(&counters.client_errors, 1);
    } else if response.status().is_server_error() {
        Counters::add(&counters.server_errors, 1);
    }
    response
}
