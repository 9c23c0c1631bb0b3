//! Health, readiness, reload, quit, metrics, and what is done to every request.

use crate::world::{Reply, World};
use api::{Options, ports::Readiness};
use axum::body::Body;
use http::{Method, Request, StatusCode};
use std::{io::Read, sync::atomic::Ordering};

async fn ask(world: World, method: Method, path: &str) -> Reply {
    world.open().ask(Request::builder().method(method).uri(path).body(Body::empty()).unwrap()).await
}

fn enabled() -> World {
    World { options: Options { lifecycle_enabled: true, ..Options::default() }, ..World::default() }
}

#[tokio::test]
async fn a_running_server_is_healthy_and_ready() {
    assert_eq!(World::default().get("/-/healthy").await.text(), "Vestal is Healthy.\n");
    assert_eq!(World::default().get("/-/ready").await.text(), "Vestal is Ready.\n");
    assert_eq!(ask(World::default(), Method::HEAD, "/-/ready").await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_node_without_a_quorum_says_why_it_is_not_ready() {
    let world = World { readiness: Readiness::NotReady("no quorum".into()), ..World::default() };
    let reply = world.get("/-/ready").await;
    assert_eq!(
        (reply.status, reply.text()),
        (StatusCode::SERVICE_UNAVAILABLE, "Service Unavailable: no quorum\n")
    );
    assert_eq!(reply.header("x-prometheus-stopping"), "false");
}

#[tokio::test]
async fn a_stopping_node_says_that_it_stops() {
    let world = World { readiness: Readiness::Stopping, ..World::default() };
    let reply = world.get("/-/ready").await;
    assert_eq!((reply.status.as_u16(), reply.header("x-prometheus-stopping")), (503, "true"));
}

#[tokio::test]
async fn a_node_that_still_starts_answers_no_reads_but_is_healthy() {
    let world = World { readiness: Readiness::Starting("replaying".into()), ..World::default() }.open();
    assert_eq!(world.get("/api/v1/labels").await.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(world.get("/-/healthy").await.status, StatusCode::OK);
    assert_eq!(world.get("/metrics").await.status, StatusCode::OK);
}

#[tokio::test]
async fn reload_and_quit_need_the_flag_and_a_post() {
    assert_eq!(ask(World::default(), Method::POST, "/-/quit").await.text(), "Lifecycle API is not enabled.");
    assert_eq!(ask(World::default(), Method::PUT, "/-/reload").await.status, StatusCode::FORBIDDEN);
    let reply = ask(enabled(), Method::GET, "/-/reload").await;
    assert_eq!((reply.status.as_u16(), reply.text()), (405, "Only POST or PUT requests allowed"));
}

#[tokio::test]
async fn quit_asks_the_process_to_stop() {
    let world = enabled().open();
    let reply = world.ask(Request::post("/-/quit").body(Body::empty()).unwrap()).await;
    assert_eq!(reply.text(), "Requesting termination... Goodbye!");
    assert!(world.said.quit.load(Ordering::Relaxed));
}

#[tokio::test]
async fn a_reload_that_fails_says_why() {
    assert_eq!(ask(enabled(), Method::POST, "/-/reload").await.status, StatusCode::OK);
    let world = World { reload: Err("p.yml:3: job_name: missing; add it".into()), ..enabled() };
    let reply = ask(world, Method::POST, "/-/reload").await;
    assert_eq!(reply.status, StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(reply.text(), "failed to reload config: p.yml:3: job_name: missing; add it\n");
}

#[tokio::test]
async fn metrics_are_text_of_version_0_0_4() {
    let reply = World::default().get("/metrics").await;
    assert_eq!(reply.header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
    assert!(reply.text().contains("vestal_up 1\n"));
}

#[tokio::test]
async fn answers_are_compressed_as_asked() {
    let world = World::default().open();
    let plain = world.get("/api/v1/status/config").await;
    let packed = world.get_with("/api/v1/status/config", &[("accept-encoding", "br, gzip, deflate")]).await;
    assert_eq!(packed.header("content-encoding"), "gzip");
    assert_eq!(packed.header("content-length"), packed.body.len().to_string());
    let mut unpacked = Vec::new();
    flate2::read::GzDecoder::new(&packed.body[..]).read_to_end(&mut unpacked).unwrap();
    assert_eq!(unpacked, plain.body);
    let deflated = world.get_with("/api/v1/status/config", &[("accept-encoding", "deflate")]).await;
    let mut unpacked = Vec::new();
    flate2::read::ZlibDecoder::new(&deflated.body[..]).read_to_end(&mut unpacked).unwrap();
    assert_eq!(unpacked, plain.body);
}

#[tokio::test]
async fn other_origins_may_read() {
    let world = World::default().open();
    let reply = world.get_with("/api/v1/labels", &[("origin", "http://grafana")]).await;
    assert_eq!(reply.header("access-control-allow-origin"), "*");
    assert_eq!(reply.header("access-control-allow-methods"), "GET, POST, OPTIONS");
    assert_eq!(world.get("/api/v1/labels").await.header("access-control-allow-origin"), "");
}

#[tokio::test]
async fn only_origins_that_the_flag_names_may_read() {
    let cors_origin = model::AnchoredRegex::new("https?://(a|b)").unwrap();
    let world = World { options: Options { cors_origin, ..Options::default() }, ..World::default() }.open();
    let allowed = async |origin| {
        let reply = world.get_with("/api/v1/labels", &[("origin", origin)]).await;
        reply.header("access-control-allow-origin").to_owned()
    };
    assert_eq!(allowed("https://a").await, "https://a");
    assert_eq!(allowed("https://c").await, "");
}

#[tokio::test]
async fn preflight_requests_are_answered_everywhere() {
    let reply = ask(World::default(), Method::OPTIONS, "/api/v1/query").await;
    assert_eq!((reply.status, reply.text()), (StatusCode::NO_CONTENT, ""));
    assert_eq!(
        ask(World::default(), Method::OPTIONS, "/api/v1/nothing").await.status,
        StatusCode::NO_CONTENT
    );
}

#[tokio::test]
async fn what_does_not_exist_is_not_found_and_other_methods_are_not_allowed() {
    assert_eq!(World::default().get("/api/v1/nothing").await.status, StatusCode::NOT_FOUND);
    assert_eq!(World::default().get("/nothing").await.status, StatusCode::NOT_FOUND);
    assert_eq!(
        ask(World::default(), Method::DELETE, "/api/v1/query").await.status,
        StatusCode::METHOD_NOT_ALLOWED
    );
}

#[tokio::test]
async fn requests_are_counted_by_outcome() {
    let world = World::default().open();
    world.get("/-/healthy").await;
    world.get("/nothing").await;
    let counters = &world.counters;
    assert_eq!(counters.requests.load(Ordering::Relaxed), 2);
    assert_eq!(counters.client_errors.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn everything_can_stand_behind_a_prefix() {
    let options = Options { route_prefix: "/vestal".into(), ..Options::default() };
    let world = World { options, ..World::default() }.open();
    assert_eq!(world.get("/vestal/-/healthy").await.status, StatusCode::OK);
    assert_eq!(world.get("/vestal/api/v1/labels").await.status, StatusCode::OK);
    assert_eq!(world.get("/api/v1/labels").await.status, StatusCode::NOT_FOUND);
    assert_eq!(world.get("/").await.header("location"), "/vestal");
    assert_eq!(world.get("/vestal/").await.header("location"), "/vestal");
    assert!(world.get("/vestal").await.text().contains("href=\"/vestal/metrics\""));
}
