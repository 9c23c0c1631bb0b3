//! The same answers, byte for byte: from every node, on one core and on several, before the samples are sealed in
//! files and after, and behind a restart.

use crate::{
    corpus,
    peer::{self, FEATURES, ask},
    samples,
};
use std::{fmt::Display, fs, process, thread, time::Duration};
use tests::{Client, Cluster, ClusterOptions, my_turn, skipped};

/// For a node to start, replaying its log if need be.
const PATIENCE: Duration = Duration::from_secs(90);

/// Sums and the like over many series, whose last digits would tell in which order they were added up.
const WIDE: [&str; 8] = [
    "sum({__name__=~\".+\"})",
    "avg by (job) ({__name__=~\"node_.*|http_.*\"})",
    "stddev(rate({__name__=~\"node_.*|http_.*\"}[5m]))",
    "sum by (instance) (rate(native_seconds[7m]))",
    "histogram_quantile(0.9, sum(rate(native_seconds[5m])))",
    "topk(5, {__name__=~\"h_ten|tied\"})",
    "quantile by (l) (0.3, {__name__=~\"[ab]_ten|h_ten\"})",
    "sum_over_time(sum(rate(node_cpu_seconds_total[1m]))[20m:15s])",
];

/// The cores that a process may use: `0-3,8`.
fn allowed_cores(pid: impl Display) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the process runs");
    let cores = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    cores.expect("Linux tells").trim().to_owned()
}

/// All answers of a node, in order.
fn answers(node: &Client, queries: &[String], start: i64) -> Vec<String> {
    let each = queries.iter().flat_map(|query| peer::times(start).map(|times| ask(node, query, times).body));
    each.collect()
}

fn check(when: &str, nodes: &[Client], queries: &[String], start: i64, expected: &[String]) {
    for node in nodes {
        let got = answers(node, queries, start);
        for (i, (expected, got)) in expected.iter().zip(&got).enumerate() {
            assert!(expected == got, "{when}, {}: {}\n{expected}\n{got}", node.base, queries[i / 2]);
        }
    }
}

#[test]
fn every_node_answers_with_the_same_bytes_at_any_time_and_on_any_number_of_cores() {
    let _turn = my_turn();
    let mut queries: Vec<String> = WIDE.map(str::to_owned).to_vec();
    queries.extend(corpus::benchmarks().unwrap_or_default());
    let flags = [
        ClusterOptions::default().flags,
        vec![format!("--enable-feature={FEATURES},promql-extended-range-selectors")],
    ];
    let config = "global: {}\n".to_owned();
    let mut cluster =
        Cluster::start(ClusterOptions { config, flags: flags.concat(), ..ClusterOptions::default() });
    let start = peer::start();
    samples::bodies(start).iter().for_each(|body| peer::write(&cluster.client(1), body));
    let expected = answers(&cluster.client(1), &queries, start);
    let filled = expected.iter().filter(|body| body.contains("\"value")).count();
    assert!(
        filled * 2 > expected.len(),
        "only {filled} of {} answers have something in them",
        expected.len()
    );
    check("as written", &cluster.clients(), &queries, start, &expected);

    let script = cluster.node_dir(2).join("start");
    let text = fs::read_to_string(&script).expect("a node has a start script");
    let core = allowed_cores(process::id()).split([',', '-']).next().expect("there is one").to_owned();
    fs::write(&script, text.replacen("exec ", &format!("exec taskset -c {core} "), 1))
        .expect("the script is changed");
    cluster.kill(2);
    cluster.wait_ended(2, PATIENCE);
    cluster.restart(2);
    cluster.wait_node_ready(2, PATIENCE);
    assert_eq!(allowed_cores(cluster.pid(2)), core, "node 2 has one core");
    if thread::available_parallelism().is_ok_and(|cores| cores.get() == 1) {
        skipped("several cores: there is only one");
    }
    check("with node 2 killed and on one core", &cluster.clients(), &queries, start, &expected);

    // A stop seals what is open.
    cluster.stop();
    cluster.start_dev();
    cluster.wait_ready(PATIENCE);
    check("sealed and started again", &cluster.clients(), &queries, start, &expected);
    eprintln!("same: {} answers of each of 3 nodes, 3 times", expected.len());
}
