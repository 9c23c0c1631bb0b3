//! `vestal dev`: a second start continues the first.

use crate::load::{Loaded, PATIENCE, load, nothing_is_lost};
use tests::my_turn;

#[test]
fn a_second_start_continues_the_cluster_and_a_stop_ends_nodes_started_by_hand_too() {
    let _turn = my_turn();
    let mut loaded = Loaded::start(2, &[]);
    let id = loaded.cluster.wait_status(1, true, PATIENCE)["clusterId"].clone();
    assert!(id.is_string(), "a cluster has an id: {id}");
    loaded.cluster.kill(2);
    loaded.cluster.wait_ended(2, PATIENCE);
    loaded.cluster.restart(2);
    loaded.cluster.wait_node_ready(2, PATIENCE);
    let Loaded { mut cluster, targets, writer, .. } = loaded;
    let ledger = writer.stop();
    let pids: Vec<_> = cluster.nodes().map(|i| cluster.pid(i)).collect();
    cluster.stop();
    for pid in pids {
        assert!(!std::path::Path::new(&format!("/proc/{pid}/cmdline")).exists(), "process {pid} has ended");
    }
    cluster.start_dev();
    cluster.wait_ready(PATIENCE);
    assert_eq!(cluster.wait_status(3, true, PATIENCE)["clusterId"], id, "the same cluster");
    for node in cluster.clients() {
        nothing_is_lost(&ledger, &node, &load());
    }
    drop(targets);
}
