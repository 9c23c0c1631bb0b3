//! What surrounds an evaluation: features, limits, the queue, metrics, logs, statistics.

use crate::{
    files::Files,
    memory::{NEVER, NOW},
    world::{Asked, World},
};
use api::{Options, ports::QueryLogFile};
use serde_json::{Value, json};
use std::{path::Path, sync::Arc};

/// Ten series with ten samples each around [`NOW`].
fn world() -> World {
    let samples: Vec<(i64, f64)> = (0..10).map(|i| (NOW.0 - 90_000 + i * 10_000, i as f64)).collect();
    let series = (0..10).map(|i| i.to_string());
    series.fold(World::default(), |world, i| world.and(&[("__name__", "m"), ("i", &i)], &samples))
}

fn with(options: Options) -> World {
    World { options, ..world() }
}

async fn query(asked: &Asked, text: &str) -> Value {
    let text: String = form_urlencoded::byte_serialize(text.as_bytes()).collect();
    let reply = asked.get(&format!("/api/v1/query?query={text}")).await;
    let mut value: Value = serde_json::from_str(reply.text()).unwrap();
    value["code"] = reply.status.as_u16().into();
    value
}

async fn metric(asked: &Asked, name: &str) -> f64 {
    let page = asked.get("/metrics").await;
    let line = page.text().lines().find_map(|line| line.strip_prefix(&format!("{name} ")));
    line.unwrap_or_else(|| panic!("no {name} in {}", page.text())).parse().unwrap()
}

#[tokio::test]
async fn what_is_experimental_is_refused_in_prometheus_words_without_its_flag() {
    let asked = world().open();
    let refused = async |text: &str, reason: &str| {
        let answer = query(&asked, text).await;
        let expected = format!("invalid parameter \"query\": {reason}");
        assert_eq!((&answer["code"], &answer["error"]), (&json!(400), &json!(expected)), "{text}");
    };
    refused("mad_over_time(m[1m])", "1:1: parse error: function \"mad_over_time\" is not enabled").await;
    let limitk =
        "limitk() is experimental and must be enabled with --enable-feature=promql-experimental-functions";
    refused("limitk(1, m)", &format!("1:1: parse error: {limitk}")).await;
    refused("rate(m[1m] anchored)", "1:6: parse error: anchored modifier is experimental and not enabled")
        .await;
    refused("m + fill(0) m", "1:1: parse error: binop fill modifiers are experimental and not enabled").await;
}

#[tokio::test]
async fn what_is_experimental_is_answered_with_its_flag() {
    let parser = promql::ParserOptions::all_features();
    let asked = with(Options { parser, ..Options::default() }).open();
    for text in ["mad_over_time(m[1m])", "limitk(1, m)", "rate(m[1m] anchored)", "m + fill(0) m"] {
        assert_eq!(query(&asked, text).await["status"], "success", "{text}");
    }
}

/// Prometheus's own list, where it lies beside the checkout.
fn golden() -> Option<Value> {
    let path = Path::new("../../shared/prometheus/data/cmd-prometheus/features.json");
    let text = std::fs::read_to_string(path).ok();
    if text.is_none() {
        println!("SKIPPED: {} is not there", path.display());
    }
    text.map(|text| serde_json::from_str(&text).unwrap())
}

#[tokio::test]
async fn features_of_the_language_are_listed_as_prometheus_lists_them() {
    let reply = world().get("/api/v1/features").await;
    let ours: Value = serde_json::from_str(reply.text()).unwrap();
    assert_eq!(ours["data"]["promql_functions"]["rate"], true);
    let Some(golden) = golden() else { return };
    for category in ["promql", "promql_functions", "promql_operators"] {
        assert_eq!(ours["data"][category], golden[category], "{category}");
    }
}

#[tokio::test]
async fn a_query_that_needs_too_many_bytes_is_told_how_many_and_what_to_do() {
    let asked = with(Options { query_bytes_max: 1000, ..Options::default() }).open();
    let answer = query(&asked, "m[5m]").await;
    assert_eq!((&answer["code"], &answer["errorType"]), (&json!(422), &json!("execution")));
    let error = answer["error"].as_str().unwrap();
    assert!(error.starts_with("query needs more than 1000 bytes of memory: "), "{error}");
    assert!(error.ends_with("; narrow it or raise --query.max-bytes"), "{error}");
}

#[tokio::test]
async fn queries_that_need_too_many_bytes_together_are_told_to_come_back() {
    let asked = with(Options { query_bytes_total_max: 1000, ..Options::default() }).open();
    let answer = query(&asked, "m[5m]").await;
    assert_eq!((&answer["code"], &answer["errorType"]), (&json!(503), &json!("unavailable")));
    let error = answer["error"].as_str().unwrap();
    assert!(error.ends_with("; try again, narrow the query or raise --query.max-bytes-total"), "{error}");
}

#[tokio::test]
async fn the_memory_of_ended_queries_is_free_again() {
    let asked = with(Options { query_bytes_total_max: 20_000, ..Options::default() }).open();
    for _ in 0..100 {
        assert_eq!(query(&asked, "sum_over_time(m[5m])").await["code"], 200);
        assert_eq!(query(&asked, "m[5m]").await["code"], 200);
    }
}

#[tokio::test]
async fn a_query_without_a_place_waits_for_as_long_as_it_may() {
    let asked = Arc::new(with(Options { query_concurrency_max: 1, ..Options::default() }).open());
    let holding = asked.clone();
    let holder = tokio::spawn(async move {
        holding.get_with("/api/v1/query?query=m", &[("x-vestal-view", NEVER)]).await;
    });
    while metric(&asked, "prometheus_engine_queries").await == 0.0 {
        tokio::task::yield_now().await;
    }
    let reply = asked.get("/api/v1/query?query=m&timeout=50ms").await;
    assert_eq!(reply.status, 503);
    assert!(reply.text().contains(r#""errorType":"timeout","error":"query timed out in query queue""#));
    assert_eq!(metric(&asked, "prometheus_engine_queries").await, 1.0);
    holder.abort();
    assert!(holder.await.unwrap_err().is_cancelled());
    assert_eq!(metric(&asked, "prometheus_engine_queries").await, 0.0, "a client that went has no place");
    assert_eq!(query(&asked, "m").await["code"], 200);
}

#[tokio::test]
async fn the_engine_is_measured_under_prometheus_names() {
    let asked = with(Options { query_concurrency_max: 7, ..Options::default() }).open();
    query(&asked, "sum_over_time(m[1m])").await;
    assert_eq!(metric(&asked, "prometheus_engine_queries_concurrent_max").await, 7.0);
    assert_eq!(metric(&asked, "prometheus_engine_query_log_enabled").await, 0.0);
    assert_eq!(metric(&asked, "prometheus_engine_query_samples_total").await, 60.0);
    for slice in ["inner_eval", "prepare_time", "queue_time", "result_sort"] {
        let name = format!("prometheus_engine_query_duration_seconds_count{{slice=\"{slice}\"}}");
        assert_eq!(metric(&asked, &name).await, 1.0, "{slice}");
    }
}

#[tokio::test]
async fn queries_left_over_by_a_crash_make_room_for_new_ones() {
    let left = "[{\"query\":\"up\",\"timestamp_sec\":1}\0\0,";
    let files = Files::default().with("queries.active", left);
    let options = Options {
        active_queries: Some("queries.active".into()),
        query_concurrency_max: 2,
        ..Options::default()
    };
    let asked = World { files: files.clone(), ..with(options) }.open();
    assert_eq!(query(&asked, "m").await["code"], 200);
    let text = files.text("queries.active");
    assert_eq!((text.len(), text.trim_end_matches('\0')), (2001, "["));
}

fn log_world(files: &Files) -> World {
    let query_log = Some(QueryLogFile { path: "query.log".into(), reloads: 0 });
    World { files: files.clone(), query_log, ..world() }
}

fn lines(files: &Files, path: &str) -> Vec<Value> {
    files.text(path).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test]
async fn queries_are_logged_in_prometheus_shape() {
    let files = Files::default();
    let asked = log_world(&files).open();
    query(&asked, "sum(m) # <all>").await;
    asked
        .get("/api/v1/query_range?query=sum_over_time(m[1m])&start=1435781400&end=1435781430.5&step=15")
        .await;
    query(&asked, "m * on () group_left () m").await;
    query(&asked, "not PromQL").await;
    let logged = lines(&files, "query.log");
    assert_eq!(logged.len(), 3, "what cannot be read is not logged");
    assert_eq!(metric(&asked, "prometheus_engine_query_log_enabled").await, 1.0);
    assert_eq!((&logged[0]["msg"], &logged[0]["level"]), (&json!("promql query logged"), &json!("INFO")));
    let at = "2015-07-01T20:10:51.781Z";
    assert_eq!(logged[0]["time"], at);
    assert_eq!(logged[0]["params"], json!({"query": "sum(m) # <all>", "start": at, "end": at, "step": 0}));
    assert_eq!(logged[0]["httpRequest"], json!({"clientIP": "", "method": "GET", "path": "/api/v1/query"}));
    let range = json!({"query": "sum_over_time(m[1m])", "start": "2015-07-01T20:10:00.000Z",
                       "end": "2015-07-01T20:10:30.500Z", "step": 15});
    assert_eq!(logged[1]["params"], range);
    assert!(logged[1]["stats"]["timings"]["execTotalTime"].is_number());
    assert!(logged[1]["stats"]["samples"]["totalQueryableSamples"].as_u64() > Some(0));
    assert!(logged[2]["error"].as_str().unwrap().contains("many"), "{}", logged[2]);
}

#[tokio::test]
async fn a_reload_opens_the_query_log_again() {
    let files = Files::default();
    let asked = log_world(&files).open();
    query(&asked, "1").await;
    files.rotate("query.log", "query.log.1");
    query(&asked, "2").await;
    asked.said.query_log.lock().unwrap().as_mut().unwrap().reloads += 1;
    query(&asked, "3").await;
    let texts =
        |path| lines(&files, path).iter().map(|line| line["params"]["query"].clone()).collect::<Vec<_>>();
    assert_eq!((texts("query.log.1"), texts("query.log")), (vec![json!("1"), json!("2")], vec![json!("3")]));
    *asked.said.query_log.lock().unwrap() = None;
    query(&asked, "4").await;
    assert_eq!(lines(&files, "query.log").len(), 1, "switched off");
    assert_eq!(metric(&asked, "prometheus_engine_query_log_enabled").await, 0.0);
}

async fn statistics(world: World, parameters: &str) -> Value {
    let reply = world.get(&format!("/api/v1/query_range?{parameters}")).await;
    let value: Value = serde_json::from_str(reply.text()).unwrap();
    value["data"]["stats"].clone()
}

#[tokio::test]
async fn statistics_by_step_need_their_flag_and_all() {
    let grid = "query=sum_over_time(m[20s])&start=1435781421.781&end=1435781451.781&step=15";
    let enabled = || with(Options { per_step_stats: true, ..Options::default() });
    let stats = statistics(enabled(), &format!("{grid}&stats=all")).await;
    let by_step = json!([[1435781421.781, 20], [1435781436.781, 20], [1435781451.781, 20]]);
    assert_eq!(stats["samples"]["totalQueryableSamplesPerStep"], by_step);
    assert_eq!(stats["samples"]["totalQueryableSamples"], 60);
    let parts = stats["timings"].as_object().unwrap();
    assert_eq!(parts.len(), 6);
    let stats = statistics(enabled(), &format!("{grid}&stats=true")).await;
    assert_eq!(stats["samples"].get("totalQueryableSamplesPerStep"), None);
    let stats = statistics(world(), &format!("{grid}&stats=all")).await;
    assert_eq!(stats["samples"].get("totalQueryableSamplesPerStep"), None);
}
