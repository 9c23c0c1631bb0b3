//! The same series from two sources.

use crate::load::{PATIENCE, every_second, options};
use std::collections::BTreeMap;
use tests::{Cluster, Targets, WRITE_HEADERS, encode_write, my_turn, now_ms, samples, wait_until};

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

/// A target that has an `instance` of its own, wherever it is.
fn named_web(address: &str) -> String {
    format!(
        "global: {{scrape_interval: 1s, scrape_timeout: 1s}}\nscrape_configs:\n- job_name: moved\n  static_configs:\n  \
         - {{targets: ['{address}'], labels: {{instance: web}}}}\n"
    )
}

#[test]
fn a_target_whose_address_changes_goes_on_as_the_same_series_without_an_interruption() {
    let _turn = my_turn();
    let targets = Targets::start(2);
    let cluster = Cluster::start(options(named_web(&targets.addresses()[0]), &[]));
    let began = now_ms();
    let wait_served = |i: usize| {
        wait_until("the target is scraped", PATIENCE, || match targets.scrapes(i).len() {
            count if count >= 6 => Ok(()),
            count => Err(count.to_string()),
        });
    };
    wait_served(0);
    cluster.write_config(&named_web(&targets.addresses()[1]));
    let reloaded = cluster.client(2).post("/-/reload", &[], b"").expect("an answer");
    assert_eq!(reloaded.status, 200, "{reloaded:?}");
    wait_served(1);
    let to = now_ms() - 2_000;
    let (of_first, of_second) = (targets.scrapes(0), targets.scrapes(1));
    for node in cluster.clients() {
        let clock = wait_until("what the second target served is stored", PATIENCE, || {
            let clock: BTreeMap<i64, f64> = samples(&node, "clock{job=\"moved\"}", began, to)?;
            let last = clock.last_key_value().map_or(0, |(at, _)| *at);
            if last >= to - 2_000 { Ok(clock) } else { Err(format!("{clock:?}")) }
        });
        // The gauge is the time of the answer, so it rises over both, and tells whose a sample is.
        let values: Vec<_> = clock.values().collect();
        assert!(values.windows(2).all(|pair| pair[0] < pair[1]), "merged by time: {clock:?}");
        assert!(clock.values().any(|at| *at as i64 <= of_first[of_first.len() - 1] + 500), "of the first");
        assert!(clock.values().any(|at| *at as i64 >= of_second[0]), "of the second: {clock:?}");
        // The stale markers of the first end nothing of the second.
        let moved = clock.iter().find(|(_, at)| **at as i64 >= of_second[0]).map_or(to, |(at, _)| *at);
        for at in (moved..=to).step_by(500) {
            for query in ["clock", "served_total", "up"] {
                let found = node.query(query, Some(at as f64 / 1000.0)).expect("an answer");
                assert_eq!(found.len(), 1, "one {query} at {at}, the target moved at {moved}: {found:?}");
            }
        }
        let count = node.query("count({__name__=\"served_total\"})", None).expect("an answer");
        assert_eq!(count[0]["value"][1], "1", "{count:?}");
        let series = node.get("/api/v1/series", &[("match[]", "served_total")]).expect("an answer").json();
        assert_eq!(series["data"].as_array().map(Vec::len), Some(1), "{series}");
    }
}
