//! Nodes that come back with nothing, and nodes that claim to be another.

use crate::load::{Loaded, PATIENCE, options};
use std::{process::Command, time::Duration};
use tests::{Cluster, Program, free_port, my_turn, vestal_binary, wait_until};

#[test]
fn a_node_that_returns_with_an_empty_disk_is_made_whole_again_under_writes() {
    let _turn = my_turn();
    let mut loaded = Loaded::start(6, &[]);
    loaded.cluster.wait_status(1, true, PATIENCE);
    loaded.cluster.wipe(2);
    loaded.cluster.restart(2);
    let patience = Duration::from_secs(180);
    loaded.cluster.wait_node_ready(2, patience);
    let status = loaded.cluster.wait_status(2, true, patience);
    let nodes = status["nodes"].as_array().expect("status lists nodes").clone();
    let of_node_2: Vec<_> = nodes.iter().filter(|n| n["name"] == "node-2").collect();
    let alive: Vec<_> = of_node_2.iter().filter(|n| n["state"] == "alive").collect();
    assert_eq!(alive.len(), 1, "one living node of that name: {nodes:?}");
    let removed = of_node_2.iter().find(|n| n["state"] == "removed").expect("its former self stays listed");
    assert!(alive[0]["id"].as_u64() > removed["id"].as_u64(), "ids are never reused: {nodes:?}");
    let voters = |shard: &serde_json::Value| {
        let replicas = shard["replicas"].as_array().cloned().unwrap_or_default();
        replicas.iter().filter(|r| r["role"] != "learner").count()
    };
    assert!(
        status["shards"].as_array().unwrap().iter().all(|s| voters(s) == 3),
        "three voters everywhere: {status}"
    );
    let _verified = loaded.verify();
}

#[test]
fn a_second_node_under_a_living_ones_name_is_refused() {
    let _turn = my_turn();
    let cluster = Cluster::start(options("global: {scrape_interval: 1s}\n".to_owned(), &[]));
    let before = cluster.wait_status(1, true, PATIENCE)["nodes"].clone();
    let (web, peer) = (free_port(), format!("127.0.0.1:{}", free_port()));
    let data = cluster.dir().join("impostor");
    let mut command = Command::new(vestal_binary());
    command.args(["serve", "--node.name=node-2", "--cluster.initial-members=node-1,node-2,node-3"]);
    command.arg(format!("--cluster.peer={}", cluster.cluster_address(1)));
    command.arg(format!("--cluster.peer={}", cluster.cluster_address(3)));
    command.arg(format!("--cluster.listen-address={peer}"));
    command.arg(format!("--web.listen-address=127.0.0.1:{web}"));
    command.arg(format!("--config.file={}", cluster.config_file().display()));
    command.arg(format!("--storage.tsdb.path={}", data.display()));
    let impostor = Program::start(&mut command, &cluster.dir().join("impostor.log"));
    wait_until("the impostor's log names both addresses", PATIENCE, || {
        let log = impostor.log();
        let both = log.contains(&peer) && log.contains(&cluster.cluster_address(2));
        if both && log.contains("node-2") { Ok(()) } else { Err(log) }
    });
    let ready =
        tests::Client::new(format!("http://127.0.0.1:{web}"), Duration::from_secs(2)).get("/-/ready", &[]);
    assert!(ready.map_or(true, |answer| answer.status != 200), "it serves nobody");
    let after = cluster.wait_status(1, true, PATIENCE)["nodes"].clone();
    let ids = |nodes: &serde_json::Value| -> Vec<u64> {
        nodes.as_array().unwrap().iter().filter_map(|n| n["id"].as_u64()).collect()
    };
    assert_eq!(ids(&before), ids(&after), "the cluster is who it was");
}
