//! Forming a cluster.

use crate::load::PATIENCE;
use std::{thread::sleep, time::Duration};
use tests::{Cluster, ClusterOptions, is_soak, my_turn, wait_until};

/// Starts five unformed nodes, kills some of them while they form, and returns the ids of the clusters they are in.
fn form_with_crashes(round: u64) -> Vec<String> {
    let mut cluster = Cluster::launch(ClusterOptions { nodes: 5, ..ClusterOptions::default() });
    cluster.nodes().for_each(|i| {
        let file = cluster.node_dir(i).join("vestal.pid");
        let there = || if file.exists() { Ok(()) } else { Err("no pid file".to_owned()) };
        wait_until("each node starts", PATIENCE, there);
    });
    // Crashes at moments that differ from round to round; which phase they hit is chance, and that is meant.
    for (k, victim) in [1, 4, 2].into_iter().enumerate() {
        sleep(Duration::from_millis((37 * round + 211 * k as u64) % 500));
        cluster.kill(victim);
        cluster.wait_ended(victim, PATIENCE);
        cluster.restart(victim);
    }
    cluster.wait_ready(PATIENCE);
    let ids = cluster.clients().into_iter().map(|node| {
        let status = wait_until("status", PATIENCE, || node.status());
        assert_eq!(status["nodes"].as_array().map(Vec::len), Some(5), "five nodes: {status}");
        status["clusterId"].as_str().expect("a formed node knows its cluster").to_owned()
    });
    ids.collect()
}

#[test]
fn five_nodes_that_crash_while_forming_make_one_cluster() {
    let _turn = my_turn();
    for round in 0..if is_soak() { 20 } else { 1 } {
        let ids = form_with_crashes(round);
        assert!(ids.iter().all(|id| *id == ids[0]), "one cluster: {ids:?}");
    }
}
