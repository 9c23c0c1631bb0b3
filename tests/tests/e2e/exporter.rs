//! A real node_exporter, the queries of dashboards, and promtool.

use crate::load::{PATIENCE, options};
use std::{path::Path, process::Command};
use tempfile::TempDir;
use tests::{Cluster, NodeExporter, debian, my_turn, now_ms, run, same_bytes, wait_until};

/// What node_exporter's dashboards ask, by kind.
const DASHBOARD: &[&str] = &[
    "sum by (mode) (irate(node_cpu_seconds_total{mode!=\"idle\"}[10s]))",
    "100 - avg by (instance) (rate(node_cpu_seconds_total{mode=\"idle\"}[10s])) * 100",
    "increase(node_context_switches_total[10s])",
    "deriv(node_memory_MemAvailable_bytes[10s])",
    "max by (device) (node_filesystem_size_bytes{fstype!~\"tmpfs|overlay\"}) or max(node_load1)",
    "avg_over_time(node_load1[10s])",
    "1 - node_memory_MemAvailable_bytes / node_memory_MemTotal_bytes",
    "topk(3, rate(node_network_receive_bytes_total[10s]))",
];

fn scraping(exporter: &NodeExporter) -> Cluster {
    let config = format!(
        "global: {{scrape_interval: 1s}}\nscrape_configs:\n- job_name: node\n  static_configs:\n  - targets: ['127.0.0.1:{}']\n",
        exporter.port
    );
    let cluster = Cluster::start(options(config, &[]));
    wait_until("node_exporter has been scraped for a moment", PATIENCE, || {
        let found = cluster.client(1).query("count_over_time(node_load1[1m]) > 8", None)?;
        if found.is_empty() { Err("not yet".to_owned()) } else { Ok(()) }
    });
    cluster
}

#[test]
fn a_real_node_exporter_is_scraped_and_dashboards_are_answered_alike_on_every_node() {
    let _turn = my_turn();
    let dir = TempDir::new().expect("a folder");
    let Some(exporter) = NodeExporter::start(dir.path()) else { return };
    let cluster = scraping(&exporter);
    let (from, to) = (now_ms() - 8_000, now_ms() - 3_000);
    for query in DASHBOARD {
        wait_until(&format!("{query} has an answer"), PATIENCE, || {
            let answer = cluster.client(2).query(query, Some(to as f64 / 1000.0))?;
            if answer.is_empty() { Err("nothing".to_owned()) } else { Ok(()) }
        });
    }
    same_bytes(&cluster.clients(), DASHBOARD, from, to).expect("the same answer from every node");
    wait_until("its metadata is known", PATIENCE, || {
        let metadata = cluster.client(3).get("/api/v1/metadata", &[("metric", "node_load1")])?.json();
        let gauge = metadata["data"]["node_load1"][0]["type"] == "gauge";
        if gauge { Ok(()) } else { Err(metadata.to_string()) }
    });
}

fn promtool(binary: &Path, arguments: &[&str]) -> String {
    wait_until(&format!("promtool {arguments:?}"), PATIENCE, || {
        let ran = run(Command::new(binary).args(arguments));
        if ran.status == 0 { Ok(ran.out) } else { Err(format!("{ran:?}")) }
    })
}

#[test]
fn promtool_reads_instant_and_range_queries_series_and_labels() {
    let _turn = my_turn();
    let Some(binary) = debian("prometheus", "usr/bin/promtool") else { return };
    let dir = TempDir::new().expect("a folder");
    let Some(exporter) = NodeExporter::start(dir.path()) else { return };
    let cluster = scraping(&exporter);
    let (start, end) = (format!("{}", now_ms() / 1000 - 8), format!("{}", now_ms() / 1000 - 2));
    for i in cluster.nodes() {
        let url = cluster.url(i);
        let instant = promtool(&binary, &["query", "instant", &url, "node_load1"]);
        assert!(instant.contains("node_load1{") && instant.contains("=>"), "{instant}");
        let (s, e) = (format!("--start={start}"), format!("--end={end}"));
        let range = promtool(&binary, &["query", "range", &s, &e, "--step=1s", &url, "up"]);
        assert!(range.contains("up{") && range.contains(" @["), "{range}");
        let series = promtool(&binary, &["query", "series", "--match=up", &url]);
        assert!(series.contains("job=\"node\""), "{series}");
        let labels = promtool(&binary, &["query", "labels", &url, "job"]);
        assert_eq!(labels.trim(), "node");
    }
}
