//! Forming a cluster.

use crate::load::PATIENCE;
use std::fs;
use tests::{Cluster, ClusterOptions, is_soak, my_turn, wait_until};

/// How far a node has come in forming, by its file `identity` (`docs/formats/forming.md`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Unformed,
    Promised,
    Member,
}

const PHASES: [Phase; 3] = [Phase::Unformed, Phase::Promised, Phase::Member];
/// Where the kind stands in the file, behind its name and version.
const KIND_AT: usize = 9;

fn phase(cluster: &Cluster, i: usize) -> Phase {
    let identity = fs::read(cluster.node_dir(i).join("data").join("identity")).unwrap_or_default();
    match identity.get(KIND_AT) {
        None => Phase::Unformed,
        Some(1) => Phase::Promised,
        Some(2) => Phase::Member,
        Some(kind) => panic!("node-{i} is of kind {kind}"),
    }
}

/// Starts five unformed nodes, kills some of them while they form, and returns the ids of the clusters they are in.
/// Each is killed as soon as it is seen in a phase, of which every round has another order: the first name, which
/// proposes, and two others.
fn form_with_crashes(round: usize) -> Vec<String> {
    let mut cluster = Cluster::launch(ClusterOptions { nodes: 5, ..ClusterOptions::default() });
    for (k, victim) in [1, 4, 2].into_iter().enumerate() {
        let wanted = PHASES[(round + k) % PHASES.len()];
        wait_until(&format!("node-{victim} has started, and is {wanted:?}"), PATIENCE, || {
            let started = cluster.node_dir(victim).join("vestal.pid").exists();
            let now = phase(&cluster, victim);
            if started && now >= wanted { Ok(()) } else { Err(format!("started: {started}, {now:?}")) }
        });
        cluster.kill(victim);
        cluster.wait_ended(victim, PATIENCE);
        println!("node-{victim} died {:?}", phase(&cluster, victim));
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
    for round in 0..if is_soak() { 20 } else { PHASES.len() } {
        let ids = form_with_crashes(round);
        assert!(ids.iter().all(|id| *id == ids[0]), "one cluster: {ids:?}");
    }
}
