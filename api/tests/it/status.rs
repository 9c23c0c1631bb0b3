//! `/api/v1/status/*` and the endpoints that are empty yet.

use crate::world::World;
use api::ports::Readiness;
use axum::body::Body;
use http::Request;

async fn get(path: &str) -> String {
    World::default().get(path).await.text().to_owned()
}

#[tokio::test]
async fn config_is_yaml_in_json() {
    let expected = r#"{"status":"success","data":{"yaml":"global:\n  scrape_interval: 15s\n"}}"#;
    assert_eq!(get("/api/v1/status/config").await, expected);
}

#[tokio::test]
async fn flags_are_sorted() {
    let expected =
        r#"{"status":"success","data":{"config.file":"p.yml","web.listen-address":"0.0.0.0:9090"}}"#;
    assert_eq!(get("/api/v1/status/flags").await, expected);
}

#[tokio::test]
async fn buildinfo_has_prometheus_fields_and_ours() {
    let build = r#"{"version":"3.14.0","revision":"abc","branch":"","buildUser":"","buildDate":"","goVersion":"","vestalVersion":"0.1.0"}"#;
    assert_eq!(get("/api/v1/status/buildinfo").await, format!(r#"{{"status":"success","data":{build}}}"#));
    assert_eq!(get("/version").await, build);
}

#[tokio::test]
async fn runtimeinfo_has_prometheus_fields() {
    let expected = concat!(
        r#"{"status":"success","data":{"startTime":"2015-07-01T20:10:51.781Z","CWD":"/","hostname":"h","#,
        r#""serverTime":"2015-07-01T20:10:51.781Z","reloadConfigSuccess":true,"#,
        r#""lastConfigTime":"2015-07-01T20:10:51.781Z","corruptionCount":0,"goroutineCount":12,"GOMAXPROCS":2,"#,
        r#""GOMEMLIMIT":9223372036854775807,"GOGC":"","GODEBUG":"","storageRetention":"15d"}}"#
    );
    assert_eq!(get("/api/v1/status/runtimeinfo").await, expected);
}

#[tokio::test]
async fn tsdb_has_tables_of_at_most_limit_rows() {
    let expected = concat!(
        r#"{"status":"success","data":{"headStats":{"numSeries":508,"numLabelPairs":0,"chunkCount":0,"#,
        r#""minTime":0,"maxTime":0},"seriesCountByMetricName":[{"name":"m0","value":9}],"#,
        r#""labelValueCountByLabelName":[],"memoryInBytesByLabelName":[],"seriesCountByLabelValuePair":[]}}"#
    );
    assert_eq!(get("/api/v1/status/tsdb?limit=1").await, expected);
}

#[tokio::test]
async fn tsdb_limits_that_make_no_sense_are_refused() {
    let error = |text| format!(r#"{{"status":"error","errorType":"bad_data","error":"{text}"}}"#);
    assert_eq!(get("/api/v1/status/tsdb?limit=0").await, error("limit must be a positive number"));
    assert_eq!(get("/api/v1/status/tsdb?limit=x").await, error("limit must be a positive number"));
    assert_eq!(get("/api/v1/status/tsdb?limit=10001").await, error("limit must not exceed 10000"));
}

#[tokio::test]
async fn walreplay_counts() {
    let expected = r#"{"status":"success","data":{"min":2,"max":5,"current":40}}"#;
    assert_eq!(get("/api/v1/status/walreplay").await, expected);
}

#[tokio::test]
async fn what_is_not_there_yet_is_empty_in_shape() {
    assert_eq!(get("/api/v1/rules").await, r#"{"status":"success","data":{"groups":[]}}"#);
    assert_eq!(get("/api/v1/alerts").await, r#"{"status":"success","data":{"alerts":[]}}"#);
    let expected = r#"{"status":"success","data":{"activeAlertmanagers":[],"droppedAlertmanagers":[]}}"#;
    assert_eq!(get("/api/v1/alertmanagers").await, expected);
    let expected = r#"{"status":"error","errorType":"bad_data","error":"invalid parameter \"type\": not supported value \"x\""}"#;
    assert_eq!(get("/api/v1/rules?type=x").await, expected);
}

#[tokio::test]
async fn parameters_of_rules_are_checked_although_there_are_none() {
    let error = async |query: &str| {
        let text = get(&format!("/api/v1/rules?{query}")).await;
        text.split(r#""error":""#)
            .nth(1)
            .unwrap_or("fine")
            .replace(r#"\""#, "'")
            .trim_end_matches("\"}")
            .to_owned()
    };
    assert_eq!(error("exclude_alerts=TRUE&group_limit=5").await, "fine");
    let bool = "strconv.ParseBool: parsing 'x': invalid syntax";
    assert_eq!(
        error("exclude_alerts=x").await,
        format!("invalid parameter 'exclude_alerts': error converting exclude_alerts: {bool}")
    );
    let number = "invalid parameter 'group_limit': group_limit needs to be";
    assert_eq!(error("group_limit=0").await, format!("{number} greater than 0"));
    let invalid = "a valid number: strconv.ParseInt: parsing 'x': invalid syntax";
    assert_eq!(error("group_limit=x").await, format!("{number} {invalid}"));
    assert!(error("group_limit=3000000000").await.ends_with("value out of range"));
    let needed = "group_limit needs to be present in order to paginate over the groups";
    assert_eq!(error("group_next_token=a").await, format!("invalid parameter 'group_next_token': {needed}"));
    let unknown = "invalid group_next_token 'a'. were rule groups changed?";
    assert_eq!(
        error("group_limit=1&group_next_token=a").await,
        format!("invalid parameter 'group_next_token': {unknown}")
    );
}

#[tokio::test]
async fn the_replay_can_be_watched_while_the_node_starts() {
    let starting = || World { readiness: Readiness::Starting("reading the log".into()), ..World::default() };
    assert_eq!(starting().get("/api/v1/status/walreplay").await.status.as_u16(), 200);
    assert_eq!(starting().get("/api/v1/status/flags").await.status.as_u16(), 503);
}

#[tokio::test]
async fn the_history_of_the_configuration_is_told_newest_first() {
    let text = get("/api/v1/status/config/history?limit=1").await;
    let expected = concat!(
        r#"{"status":"success","data":[{"version":2,"hash":"c0ffee","textHash":"beef","#,
        r#""offeredAt":"2015-07-01T20:10:51.781Z","offeredBy":"node-1","yaml":"global: {}\n"}]}"#
    );
    assert_eq!(text, expected);
}

#[tokio::test]
async fn a_configuration_is_applied_or_refused_in_its_own_words() {
    let world = World::default().open();
    let apply = async |yaml: &'static str| {
        let request = Request::post("/api/v1/status/config").body(Body::from(yaml)).unwrap();
        let reply = world.ask(request).await;
        (reply.status.as_u16(), reply.text().to_owned())
    };
    assert_eq!(apply("global: {}").await, (200, r#"{"status":"success","data":{"version":3}}"#.to_owned()));
    let (status, text) = apply("bad: 1").await;
    assert_eq!(status, 400);
    assert!(text.contains("p.yml:1: bad: unknown key; remove it"), "{text}");
    let (status, text) = apply("later: 1").await;
    assert_eq!((status, text.contains("no leader")), (503, true), "it may yet be in force: {text}");
}
