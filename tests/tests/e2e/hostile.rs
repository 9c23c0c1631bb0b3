//! Requests that nobody should send.

use crate::load::{PATIENCE, options};
use std::{
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};
use tests::{Cluster, WRITE_HEADERS, WriteSeries, encode_write, my_turn, now_ms, wait_until};

fn cluster() -> Cluster {
    Cluster::start(options("global: {scrape_interval: 1s}\n".to_owned(), &[]))
}

fn one(name: &str, samples: &[(i64, f64)]) -> WriteSeries {
    let labels = [("__name__", name), ("instance", "a"), ("job", "hostile")];
    (labels.map(|(n, v)| (n.to_owned(), v.to_owned())).to_vec(), samples.to_vec())
}

/// Sends a write and says what came back.
fn write(cluster: &Cluster, headers: &[(&str, &str)], body: &[u8]) -> (u16, String) {
    let answer = cluster.client(1).post("/api/v1/write", headers, body).expect("an answer");
    (answer.status, answer.body)
}

#[test]
fn bad_writes_get_a_clear_4xx_and_harm_nobody() {
    let _turn = my_turn();
    let cluster = cluster();
    let good = encode_write(&[one("kept", &[(now_ms(), 1.0)])]);
    let json = [("Content-Type", "application/json"), ("Content-Encoding", "snappy")];
    assert_eq!(write(&cluster, &json, &good).0, 415);
    let gzip = [("Content-Type", "application/x-protobuf"), ("Content-Encoding", "gzip")];
    assert_eq!(write(&cluster, &gzip, &good).0, 415);
    assert_eq!(write(&cluster, &WRITE_HEADERS, &good[..good.len() / 2]).0, 400, "truncated");
    assert_eq!(write(&cluster, &WRITE_HEADERS, b"\x05\x10hello").0, 400, "not a message");
    let bomb = [0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0, 0];
    let (status, body) = write(&cluster, &WRITE_HEADERS, &bomb);
    assert!(status == 413 || status == 400, "4 GiB from 8 bytes: {status} {body}");
    assert_eq!(write(&cluster, &WRITE_HEADERS, &good), (204, String::new()), "the node is well");
}

#[test]
fn refused_samples_are_counted_with_the_first_offender_and_the_others_are_kept() {
    let _turn = my_turn();
    let cluster = cluster();
    let now = now_ms() - 10_000;
    assert_eq!(write(&cluster, &WRITE_HEADERS, &encode_write(&[one("kept", &[(now, 1.0)])])).0, 204);
    assert_eq!(
        write(&cluster, &WRITE_HEADERS, &encode_write(&[one("kept", &[(now, 1.0)])])).0,
        204,
        "known already"
    );
    let mixed = encode_write(&[one("kept", &[(now - 5_000, 9.0)]), one("other", &[(now, 7.0)])]);
    let (status, body) = write(&cluster, &WRITE_HEADERS, &mixed);
    assert_eq!(status, 400, "{body}");
    assert!(body.contains("refused 1 of 2 samples"), "{body}");
    assert!(body.contains("out of order sample") && body.contains("kept"), "{body}");
    let found = cluster.client(2).query("other", Some(now as f64 / 1000.0)).expect("an answer");
    assert_eq!(found[0]["value"][1], "7", "the good one was kept");
}

#[test]
fn hostile_queries_and_bytes_get_an_error_and_the_node_lives() {
    let _turn = my_turn();
    let cluster = cluster();
    let node = cluster.client(1);
    let deep = format!("{}1{}", "(".repeat(100_000), ")".repeat(100_000));
    let form = [("Content-Type", "application/x-www-form-urlencoded")];
    let post = |query: &str| node.post("/api/v1/query", &form, format!("query={query}").as_bytes()).unwrap();
    for query in [deep.as_str(), "sum(", "up{a=~\"(((((((a{100}){100}){100}){100}))))\"}", "%00", "\u{7f}"] {
        let answer = post(query);
        assert!((400..500).contains(&answer.status), "{} {}", answer.status, answer.body);
        assert_eq!(answer.json()["status"], "error", "{}", answer.body);
    }
    let steps = [("query", "up"), ("start", "0"), ("end", "1000000000"), ("step", "1")];
    assert_eq!(node.get("/api/v1/query_range", &steps).unwrap().status, 400, "too many points");
    for port in [cluster.web_port(1), cluster.cluster_address(1).rsplit(':').next().unwrap().parse().unwrap()]
    {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("a connection");
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let _may_be_closed = stream.write_all(&[0xff; 65_536]);
        let closed = stream.read_to_end(&mut Vec::new());
        assert!(closed.is_ok() || closed.is_err_and(|e| e.kind() == std::io::ErrorKind::ConnectionReset));
    }
    cluster.wait_ready(PATIENCE);
    wait_until("all is well", PATIENCE, || node.query("vector(1)", None));
}
