//! Requests that nobody should send.

use crate::load::{PATIENCE, options};
use std::{
    io::{Read, Write},
    net::{TcpStream, UdpSocket},
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
        assert_closed(sent(port, &[0xff; 65_536]));
    }
    cluster.wait_ready(PATIENCE);
    wait_until("all is well", PATIENCE, || node.query("vector(1)", None));
}

/// A connection on which bytes were sent.
fn sent(port: u16, bytes: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("a connection");
    stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a connection has timeouts");
    let _may_be_closed = stream.write_all(bytes);
    stream
}

/// Waits until the other end has closed the connection.
fn assert_closed(mut stream: TcpStream) {
    let closed = stream.read_to_end(&mut Vec::new());
    let is_reset = |error: &std::io::Error| error.kind() == std::io::ErrorKind::ConnectionReset;
    assert!(closed.as_ref().is_ok() || closed.as_ref().is_err_and(is_reset), "{closed:?}");
}

#[test]
fn strangers_at_the_cluster_ports_are_closed_and_the_peers_go_on() {
    let _turn = my_turn();
    let cluster = cluster();
    let port: u16 = cluster.cluster_address(1).rsplit(':').next().unwrap().parse().unwrap();
    let gossip = port + 1;
    // Good beginnings of HTTP/2, then headers on stream 0, and data longer than any frame may be.
    let begun = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".as_slice(), &[0, 0, 0, 4, 0, 0, 0, 0, 0]].concat();
    for bad in [[0, 0, 1, 1, 4, 0, 0, 0, 0, 0xff], [0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1, 0]] {
        assert_closed(sent(port, &[begun.as_slice(), &bad].concat()));
    }
    assert_closed(sent(gossip, &[0xff; 65_536]));
    let datagrams = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    for length in [0, 1, 2, 3, 7, 64, 1_400, 60_000] {
        for byte in [0, 1, 0x7f, 0xff] {
            let _may_be_refused = datagrams.send_to(&vec![byte; length], ("127.0.0.1", gossip));
        }
    }
    // Silent ones, some in the middle of a good beginning, more than there are places.
    let silent: Vec<TcpStream> =
        (0..300).map(|i| sent(port, if i % 2 == 0 { &[] } else { &begun })).collect();
    let silent_gossip: Vec<TcpStream> = (0..100).map(|_| sent(gossip, &[])).collect();
    cluster.wait_ready(PATIENCE);
    silent.into_iter().chain(silent_gossip).for_each(assert_closed);
    cluster.wait_status(1, true, PATIENCE);
}
