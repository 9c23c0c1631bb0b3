//! `POST /api/v1/write`.

use crate::{
    message::{request, series, snappy},
    world::{Reply, World},
};
use api::{
    Options,
    ports::{Refusal, WriteError, WriteOutcome},
};
use axum::body::Body;
use http::{Request, StatusCode};
use std::time::Duration;

const UP: &[(&str, &str)] = &[("__name__", "up"), ("job", "a")];

fn good() -> Vec<u8> {
    snappy(&request(&[series(UP, &[(1, 2.0), (2, 3.0)])]))
}

fn post(body: Vec<u8>) -> Request<Body> {
    let request = Request::post("/api/v1/write");
    let request =
        request.header("content-type", "application/x-protobuf").header("content-encoding", "snappy");
    request.header("content-length", body.len()).body(Body::from(body)).unwrap()
}

async fn write(world: World, body: Vec<u8>) -> Reply {
    world.open().ask(post(body)).await
}

#[tokio::test]
async fn a_write_that_is_stored_whole_is_answered_by_204() {
    let world = World::default().open();
    let reply = world.ask(post(good())).await;
    assert_eq!((reply.status, reply.text()), (StatusCode::NO_CONTENT, ""));
    assert_eq!(*world.said.writes.lock().unwrap(), [r#"{__name__="up", job="a"} 2"#]);
}

#[tokio::test]
async fn headers_that_are_missing_are_taken_to_be_right() {
    let world = World::default().open();
    let reply = world.ask(Request::post("/api/v1/write").body(Body::from(good())).unwrap()).await;
    assert_eq!(reply.status, StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn another_type_or_encoding_is_answered_by_415() {
    let world = World::default().open();
    let ask = async |kind: &str, encoding: &str| {
        let request = Request::post("/api/v1/write").header("content-type", kind);
        let reply =
            world.ask(request.header("content-encoding", encoding).body(Body::from(good())).unwrap()).await;
        (reply.status.as_u16(), reply.text().to_owned())
    };
    assert_eq!(ask("application/json", "snappy").await.0, 415);
    let text = "gzip encoding (compression) is not accepted by this server; only snappy is acceptable\n";
    assert_eq!(ask("application/x-protobuf", "gzip").await, (415, text.to_owned()));
    let text = "io.prometheus.write.v2.Request protobuf message is not accepted by this server; \
                only accepts prometheus.WriteRequest\n";
    let v2 = "application/x-protobuf;proto=io.prometheus.write.v2.Request";
    assert_eq!(ask(v2, "snappy").await, (415, text.to_owned()));
    let v1 = "application/x-protobuf; proto=prometheus.WriteRequest";
    assert_eq!(ask(v1, "snappy").await.0, 204);
    assert_eq!(world.said.writes.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn malformed_bodies_are_answered_by_400_and_nothing_is_written() {
    let world = World::default().open();
    let status = async |body: Vec<u8>| world.ask(post(body)).await.status.as_u16();
    let message = request(&[series(UP, &[(1, 2.0)])]);
    assert_eq!(status(b"not snappy".to_vec()).await, 400);
    assert_eq!(status(Vec::new()).await, 400);
    assert_eq!(status(message.clone()).await, 400); // not compressed
    assert_eq!(status(snappy(&message[..message.len() - 1])).await, 400);
    assert!(world.said.writes.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_body_that_is_too_large_is_answered_by_413_packed_or_not() {
    let small = || World {
        options: Options { write_body_bytes_max: 1000, write_message_bytes_max: 2000, ..Options::default() },
        ..World::default()
    };
    assert_eq!(write(small(), snappy(&vec![0; 5000])).await.status, 413);
    assert_eq!(write(small(), vec![0; 1001]).await.status, 413);
    let undeclared = Request::post("/api/v1/write").body(Body::from(vec![0; 1001])).unwrap();
    assert_eq!(small().open().ask(undeclared).await.status, 413);
}

#[tokio::test]
async fn labels_out_of_order_are_sorted_as_prometheus_sorts_them() {
    let world = World::default().open();
    let body = snappy(&request(&[series(&[("job", "a"), ("__name__", "up")], &[(1, 2.0)])]));
    assert_eq!(world.ask(post(body)).await.status, StatusCode::NO_CONTENT);
    assert_eq!(*world.said.writes.lock().unwrap(), [r#"{__name__="up", job="a"} 1"#]);
}

#[tokio::test]
async fn refused_samples_are_answered_by_400_with_counts_and_the_first() {
    let written = WriteOutcome {
        accepted: 7,
        refused: [(Refusal::OutOfOrder, 2), (Refusal::Duplicate, 1)].into(),
        first: Some(
            "duplicate sample for timestamp, series {__name__=\"up\", job=\"a\"}, timestamp 1".to_owned(),
        ),
    };
    let reply = write(World { written: Ok(written), ..World::default() }, good()).await;
    assert_eq!(reply.status, StatusCode::BAD_REQUEST);
    assert_eq!(
        reply.text(),
        "refused 3 of 10 samples: 2 out of order sample, 1 duplicate sample for timestamp; \
         first: duplicate sample for timestamp, series {__name__=\"up\", job=\"a\"}, timestamp 1\n"
    );
}

#[tokio::test]
async fn a_series_with_bad_labels_does_not_keep_the_others_out() {
    let world = World::default().open();
    let body = snappy(&request(&[series(&[("job", "a")], &[(1, 2.0)]), series(UP, &[(1, 2.0)])]));
    let reply = world.ask(post(body)).await;
    assert_eq!(reply.status, StatusCode::BAD_REQUEST);
    let text = "refused 1 of 1 samples: 1 invalid series or histogram; first: series has no metric name\n";
    assert_eq!(reply.text(), text);
    assert_eq!(*world.said.writes.lock().unwrap(), [r#"{__name__="up", job="a"} 1"#]);
}

#[tokio::test]
async fn a_shard_without_a_leader_is_answered_by_503_with_retry_after() {
    let retry_after = Duration::from_millis(1500);
    let written = Err(WriteError::Unavailable { reason: "shard 1 has no leader".into(), retry_after });
    let reply = write(World { written, ..World::default() }, good()).await;
    assert_eq!((reply.status, reply.header("retry-after")), (StatusCode::SERVICE_UNAVAILABLE, "2"));
    assert_eq!(reply.text(), "shard 1 has no leader\n");
}

#[tokio::test]
async fn a_server_that_is_full_tells_writers_to_come_back() {
    let world = || {
        let options = Options { body_bytes_in_flight_max: 4096, ..Options::default() };
        World { options, ..World::default() }
    };
    let reply = write(world(), vec![0; 5000]).await;
    assert_eq!((reply.status, reply.header("retry-after")), (StatusCode::SERVICE_UNAVAILABLE, "1"));
    let reply = write(world(), snappy(&vec![0; 5000])).await; // small as sent, not when unpacked
    assert_eq!((reply.status, reply.header("retry-after")), (StatusCode::SERVICE_UNAVAILABLE, "1"));
}

#[tokio::test]
async fn the_receiver_can_be_off() {
    let options = Options { remote_write_enabled: false, ..Options::default() };
    let reply = write(World { options, ..World::default() }, good()).await;
    assert_eq!(reply.status, StatusCode::NOT_FOUND);
    let text = "remote write receiver needs to be enabled with --web.enable-remote-write-receiver\n";
    assert_eq!(reply.text(), text);
}
