//! Beside a real Debian Prometheus: it writes to a node, reads from one, and scrapes the same targets.

use crate::load::{PATIENCE, every_second, options};
use crate::misbehaving::target;
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    process::Command,
    thread::sleep,
    time::Duration,
};
use tempfile::TempDir;
use tests::{
    Client, Cluster, DATA_TIMEOUT, NodeExporter, Program, Targets, debian, free_port, is_soak, my_turn,
    now_ms, samples, wait_until,
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

/// How long the values of the stepping target stay as they are: at least one scrape of each sees each step.
const STEP_MS: i64 = 2_000;
/// What the stepping target serves besides the number of the step.
const STEPPED: [&str; 3] = ["stepped_total", "wave", "blinking"];

/// What one of [`STEPPED`] is in a step; the counter begins anew at times, and one is not there in every third step.
fn stepped(name: &str, step: i64) -> Option<f64> {
    match name {
        "stepped_total" => Some((step % 9) as f64 * 3.5),
        "wave" => Some((step * 7_919 % 1_000) as f64 / 8.0 - 50.0),
        _ => (step % 3 != 0).then_some(step as f64),
    }
}

/// In every fifth step the target fails.
fn fails(step: i64) -> bool {
    step % 5 == 2
}

/// A target whose values follow from the number of the step, which it serves, too: so it can be told of which step
/// a scrape is, whenever it came.
fn stepping() -> String {
    target(|out| {
        let step = now_ms() / STEP_MS;
        if fails(step) {
            return write!(out, "HTTP/1.1 500 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        }
        let values = STEPPED.iter().filter_map(|name| Some(format!("{name} {}\n", stepped(name, step)?)));
        let body = format!("# TYPE stepped_total counter\nstep {step}\n{}", values.collect::<String>());
        let head = "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\nConnection: close";
        write!(out, "{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
    })
}

/// What an instant query finds of the stepping target's series.
fn shown(node: &Client, at: i64) -> Result<BTreeMap<String, f64>, String> {
    let found = node.query("{__name__=~\"step|stepped_total|wave|blinking\"}", Some(at as f64 / 1000.0))?;
    let pair = |series: &Value| {
        let value = series["value"][1].as_str()?.parse().ok()?;
        Some((series["metric"]["__name__"].as_str()?.to_owned(), value))
    };
    found.iter().map(|series| pair(series).ok_or_else(|| series.to_string())).collect()
}

/// Values by step, as one server has them.
type Steps = BTreeMap<i64, BTreeMap<String, f64>>;

/// What a server has of the stepping target, by step. Each scrape is looked at by its samples and by an instant query
/// at its time, which must show these and nothing else: what was not served any more is stale.
fn steps(node: &Client, from: i64, to: i64) -> Result<Steps, String> {
    let of = |name: &str| samples(node, name, from, to);
    let (up, step, duration) = (of("up")?, of("step")?, of("scrape_duration_seconds")?);
    let series: Vec<_> = STEPPED.iter().map(|name| Ok((*name, of(name)?))).collect::<Result<_, String>>()?;
    let mut steps = Steps::new();
    for (at, up) in &up {
        let shown = shown(node, *at)?;
        let Some(step) = step.get(at).map(|step| *step as i64) else {
            assert_eq!(*up, 0.0, "{}: up without a sample at {at}", node.base);
            assert_eq!(shown, BTreeMap::new(), "{}: all is stale at {at}", node.base);
            // One that was begun in a step that fails, or before it and answered in it, or was too slow.
            let slow = duration.get(at).is_none_or(|seconds| *seconds > 0.9);
            let failing = [*at, *at + 1_000].iter().any(|at| fails(at / STEP_MS));
            assert!(slow || failing, "{}: no reason to fail at {at}", node.base);
            continue;
        };
        assert_eq!(*up, 1.0, "{}: down with a sample at {at}", node.base);
        // It was answered behind its begin, which is its time, but for the alignment of two milliseconds.
        assert!(*at <= (step + 1) * STEP_MS + 2, "{}: {at} is behind step {step}", node.base);
        let mut stored = BTreeMap::from([("step".to_owned(), step as f64)]);
        stored.extend(series.iter().filter_map(|(name, of)| Some(((*name).to_owned(), *of.get(at)?))));
        assert_eq!(shown, stored, "{}: what is shown at {at} was scraped then", node.base);
        let before = steps.insert(step, stored.clone());
        assert!(before.is_none_or(|before| before == stored), "{}: step {step} is one", node.base);
    }
    Ok(steps)
}

#[test]
fn counters_gauges_up_and_staleness_are_those_of_a_real_prometheus_on_every_common_slot() {
    let _turn = my_turn();
    let dir = TempDir::new().expect("a folder");
    let config = format!(
        "global: {{scrape_interval: 1s, scrape_timeout: 1s}}\nscrape_configs:\n- job_name: steps\n  static_configs:\n  - targets: ['{}']\n",
        stepping()
    );
    let Some(prometheus) = prometheus(dir.path(), &config) else { return };
    let cluster = Cluster::start(options(config, &[]));
    wait_found(&prometheus.client, "stepped_total");
    wait_found(&cluster.client(1), "stepped_total");
    let from = now_ms();
    // The span that is looked at: time itself is the subject.
    sleep(Duration::from_secs(if is_soak() { 300 } else { 40 }));
    let to = now_ms() - 3_000;
    let theirs = steps(&prometheus.client, from, to).expect("Prometheus answers");
    for node in cluster.clients() {
        let ours = wait_until("a node answers", PATIENCE, || steps(&node, from, to));
        let common: Vec<_> = ours.keys().filter(|step| theirs.contains_key(step)).collect();
        println!("{} steps here, {} there, {} common", ours.len(), theirs.len(), common.len());
        assert!(common.len() * 10 >= theirs.len() * 9, "steps that both saw: {ours:?}\n{theirs:?}");
        for step in common {
            assert_eq!(ours[step], theirs[step], "step {step}");
            let served = STEPPED.iter().filter_map(|name| Some(((*name).to_owned(), stepped(name, *step)?)));
            let served: BTreeMap<_, _> = served.chain([("step".to_owned(), *step as f64)]).collect();
            assert_eq!(ours[step], served, "what was served in step {step}");
        }
    }
}
