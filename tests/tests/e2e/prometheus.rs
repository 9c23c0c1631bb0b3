//! Beside a real Debian Prometheus: it writes to a node, reads from one, and scrapes the same targets.

use crate::load::{PATIENCE, every_second, options};
use serde_json::Value;
use std::{collections::BTreeSet, fs, path::Path, process::Command};
use tempfile::TempDir;
use tests::{
    Client, Cluster, DATA_TIMEOUT, NodeExporter, Program, Targets, debian, free_port, my_turn, now_ms,
    wait_until,
};

struct Prometheus {
    client: Client,
    _program: Program,
}

/// Debian's Prometheus with this configuration.
fn prometheus(dir: &Path, config: &str) -> Option<Prometheus> {
    let binary = debian("prometheus", "usr/bin/prometheus")?;
    let file = dir.join("prometheus.yml");
    fs::write(&file, config).expect("a configuration is written");
    let port = free_port();
    let mut command = Command::new(binary);
    command.arg(format!("--config.file={}", file.display()));
    command.arg(format!("--storage.tsdb.path={}", dir.join("prometheus").display()));
    command.arg(format!("--web.listen-address=127.0.0.1:{port}"));
    let program = Program::start(&mut command, &dir.join("prometheus.log"));
    let client = Client::new(format!("http://127.0.0.1:{port}"), DATA_TIMEOUT);
    wait_until("Prometheus is ready", PATIENCE, || match client.get("/-/ready", &[]) {
        Ok(answer) if answer.status == 200 => Ok(()),
        other => Err(format!("{other:?}")),
    });
    Some(Prometheus { client, _program: program })
}

fn wait_found(node: &Client, query: &str) -> Vec<Value> {
    wait_until(&format!("{query} finds something"), PATIENCE, || {
        let found = node.query(query, None)?;
        if found.is_empty() { Err("nothing".to_owned()) } else { Ok(found) }
    })
}

#[test]
fn a_real_prometheus_writes_to_one_node_and_every_node_has_it() {
    let _turn = my_turn();
    let targets = Targets::start(3);
    let dir = TempDir::new().expect("a folder");
    let cluster = Cluster::start(options("global: {scrape_interval: 1s}\n".to_owned(), &[]));
    let config = format!("{}remote_write:\n- url: {}/api/v1/write\n", every_second(&targets), cluster.url(2));
    let Some(prometheus) = prometheus(dir.path(), &config) else { return };
    for node in cluster.clients() {
        wait_until("all targets have arrived", PATIENCE, || {
            let found = node.query("count(served_total)", None)?;
            let all = found.first().is_some_and(|f| f["value"][1] == "3");
            if all { Ok(()) } else { Err(format!("{found:?}")) }
        });
    }
    // What it stored itself is, sample by sample, what it wrote here.
    let query = "served_total[5s]";
    wait_until("both hold the same samples", PATIENCE, || {
        let time = now_ms() as f64 / 1000.0 - 10.0;
        let ours = cluster.client(3).query(query, Some(time))?;
        let theirs = prometheus.client.query(query, Some(time))?;
        let sorted = |found: &[Value]| found.iter().map(Value::to_string).collect::<BTreeSet<_>>();
        let same = !theirs.is_empty() && sorted(&ours) == sorted(&theirs);
        if same { Ok(()) } else { Err(format!("ours {ours:?}\ntheirs {theirs:?}")) }
    });
    let failed = prometheus.client.query("prometheus_remote_storage_samples_failed_total > 0", None).unwrap();
    assert_eq!(failed, [] as [Value; 0], "Prometheus counts no failed sample");
}

#[test]
fn a_real_prometheus_federates_from_a_node() {
    let _turn = my_turn();
    let targets = Targets::start(2);
    let dir = TempDir::new().expect("a folder");
    let cluster = Cluster::start(options(every_second(&targets), &[]));
    wait_found(&cluster.client(1), "served_total");
    let config = format!(
        "global: {{scrape_interval: 1s}}\nscrape_configs:\n- job_name: federate\n  honor_labels: true\n  metrics_path: /federate\n  \
         params: {{'match[]': ['{{job=\"counted\"}}']}}\n  static_configs:\n  - targets: ['127.0.0.1:{}']\n",
        cluster.web_port(2)
    );
    let Some(prometheus) = prometheus(dir.path(), &config) else { return };
    wait_until("both targets' series are federated", PATIENCE, || {
        let found = prometheus.client.query("served_total{job=\"counted\"}", None)?;
        let up = prometheus.client.query("up{job=\"federate\"}", None)?;
        let good = found.len() == 2 && up.first().is_some_and(|up| up["value"][1] == "1");
        if good { Ok(()) } else { Err(format!("{found:?} {up:?}")) }
    });
}

/// Prometheus 3 writes whole numbers in `le` and `quantile` as floats, so do we; Debian's Prometheus 2 does not yet.
fn as_floats(mut labels: Value) -> String {
    for name in ["le", "quantile"] {
        let whole =
            labels[name].as_str().filter(|text| text.parse::<i64>().is_ok()).map(|text| format!("{text}.0"));
        if let Some(text) = whole {
            labels[name] = Value::String(text);
        }
    }
    labels.to_string()
}

/// The label sets of all series of the last minutes.
fn series(node: &Client) -> Result<BTreeSet<String>, String> {
    let start = format!("{}", now_ms() / 1000 - 300);
    let answer = node.get("/api/v1/series", &[("match[]", "{job=\"node\"}"), ("start", &start)])?;
    let json = answer.json();
    let list = json["data"].as_array().ok_or(format!("{answer:?}"))?;
    Ok(list.iter().cloned().map(as_floats).collect())
}

#[test]
fn a_real_prometheus_that_scrapes_the_same_target_has_the_same_series_values_and_staleness() {
    let _turn = my_turn();
    let dir = TempDir::new().expect("a folder");
    let Some(exporter) = NodeExporter::start(dir.path()) else { return };
    let config = format!(
        "global: {{scrape_interval: 1s}}\nscrape_configs:\n- job_name: node\n  static_configs:\n  - targets: ['127.0.0.1:{}']\n",
        exporter.port
    );
    let Some(prometheus) = prometheus(dir.path(), &config) else { return };
    let cluster = Cluster::start(options(config, &[]));
    let ours = cluster.client(1);
    wait_found(&ours, "node_load1");
    wait_until("both have the same series", PATIENCE, || {
        let (a, b) = (series(&ours)?, series(&prometheus.client)?);
        let differing: Vec<_> = a.symmetric_difference(&b).take(5).cloned().collect();
        if differing.is_empty() && a.len() > 100 {
            Ok(())
        } else {
            Err(format!("{} {}: {differing:?}", a.len(), b.len()))
        }
    });
    for query in ["node_uname_info", "node_memory_MemTotal_bytes", "node_boot_time_seconds", "up"] {
        wait_until(&format!("both have the same {query}"), PATIENCE, || {
            let time = Some(now_ms() as f64 / 1000.0 - 2.0);
            let (a, b) = (ours.query(query, time)?, prometheus.client.query(query, time)?);
            if a == b && !a.is_empty() { Ok(()) } else { Err(format!("{a:?}\n{b:?}")) }
        });
    }
    // Counters: both saw the same counter at most one interval apart, so one may not be two intervals ahead.
    for node in [&ours, &prometheus.client] {
        wait_found(node, "count_over_time(node_load1[20s]) >= 15");
    }
    let rate = "sum(rate(node_cpu_seconds_total[20s]))";
    let number = |node: &Client| -> Result<f64, String> {
        let found = node.query(rate, None)?;
        let value = found.first().and_then(|series| series["value"][1].as_str()?.parse().ok());
        value.ok_or_else(|| format!("{found:?}"))
    };
    wait_until("the same counters advance alike", PATIENCE, || {
        let (a, b) = (number(&ours)?, number(&prometheus.client)?);
        if (a - b).abs() <= 0.25 * b.max(1.0) { Ok(()) } else { Err(format!("{a} and {b}")) }
    });
    drop(exporter);
    for node in [&ours, &prometheus.client] {
        wait_until("the target is down and its series are stale", PATIENCE, || {
            let (up, load) = (node.query("up", None)?, node.query("node_load1", None)?);
            let down = up.first().is_some_and(|up| up["value"][1] == "0");
            if down && load.is_empty() { Ok(()) } else { Err(format!("{up:?} {load:?}")) }
        });
    }
}
