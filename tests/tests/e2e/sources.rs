//! The same series from two sources.

use crate::load::{PATIENCE, every_second, options};
use tests::{Cluster, Targets, WRITE_HEADERS, encode_write, my_turn, now_ms, wait_until};

#[test]
fn a_series_that_is_scraped_and_written_is_one_series_in_every_answer() {
    let _turn = my_turn();
    let targets = Targets::start(1);
    let cluster = Cluster::start(options(every_second(&targets), &[]));
    let address = targets.addresses()[0].clone();
    wait_until("the target is scraped", PATIENCE, || {
        let found = cluster.client(1).query("served_total", None)?;
        if found.len() == 1 { Ok(()) } else { Err(format!("{found:?}")) }
    });
    let labels = [("__name__", "served_total"), ("instance", address.as_str()), ("job", "counted")];
    let labels: Vec<_> = labels.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    let at = now_ms();
    let body = encode_write(&[(labels, vec![(at, 12_345.0)])]);
    let answer = cluster.client(2).post("/api/v1/write", &WRITE_HEADERS, &body).expect("an answer");
    assert_eq!(answer.status, 204, "{answer:?}");
    for node in cluster.clients() {
        let instant = node.query("served_total", Some(at as f64 / 1000.0)).expect("an answer");
        assert_eq!(instant.len(), 1, "one series: {instant:?}");
        assert_eq!(instant[0]["value"][1], "12345", "the newest sample, whoever it came from");
        let raw = node.query("served_total[1m]", Some(at as f64 / 1000.0)).expect("an answer");
        assert_eq!(raw.len(), 1, "one series: {raw:?}");
        let times: Vec<_> =
            raw[0]["values"].as_array().unwrap().iter().map(|pair| pair[0].as_f64().unwrap()).collect();
        assert!(times.windows(2).all(|pair| pair[0] < pair[1]), "merged by time: {times:?}");
        assert_eq!(node.query("count({__name__=\"served_total\"})", None).unwrap()[0]["value"][1], "1");
        let series = node.get("/api/v1/series", &[("match[]", "served_total")]).expect("an answer").json();
        assert_eq!(series["data"].as_array().map(Vec::len), Some(1), "{series}");
    }
}

#[test]
fn federated_series_that_are_scraped_too_are_counted_once() {
    let _turn = my_turn();
    let targets = Targets::start(1);
    let config = format!(
        "{}- job_name: federate\n  honor_labels: true\n  metrics_path: /federate\n  params: {{'match[]': ['clock']}}\n  \
         static_configs:\n  - targets: ['127.0.0.1:{{PORT2}}']\n",
        every_second(&targets)
    );
    let cluster = Cluster::start(options(config, &[]));
    wait_until("the federation target has been scraped", PATIENCE, || {
        let found = cluster.client(1).query("scrape_samples_scraped{job=\"federate\"} > 0", None)?;
        if found.is_empty() { Err("not yet".to_owned()) } else { Ok(()) }
    });
    for node in cluster.clients() {
        let found = node.query("clock", None).expect("an answer");
        assert_eq!(found.len(), 1, "one series from two sources: {found:?}");
    }
}
