//! A node that the network cuts off.

use crate::load::{PATIENCE, load, nothing_is_lost};
use std::{fs, process::Command, thread::sleep, time::Duration};
use tempfile::TempDir;
use tests::{
    Client, DATA_TIMEOUT, FreshnessWatch, Hosts, Program, Writer, equal_hashes, is_soak, my_turn, now_ms,
    skipped, vestal_binary, wait_until,
};

fn serve(hosts: &Hosts, dir: &TempDir, i: usize) -> Program {
    let mut command: Command = hosts.command(i);
    command.arg(vestal_binary()).args(["serve", "--cluster.insecure", "--cluster.initial-members=h1,h2,h3"]);
    command.arg(format!("--node.name=h{i}"));
    command.arg("--web.listen-address=0.0.0.0:9090");
    command.arg(format!("--cluster.listen-address={}:9390", hosts.address(i)));
    let peers = (1..=3).filter(|j| *j != i).map(|j| format!("--cluster.peer={}:9390", hosts.address(j)));
    command.args(peers);
    command.arg(format!("--config.file={}", dir.path().join("prometheus.yml").display()));
    command.arg(format!("--storage.tsdb.path={}", dir.path().join(format!("h{i}")).display()));
    Program::start(&mut command, &dir.path().join(format!("h{i}.log")))
}

fn client(hosts: &Hosts, i: usize) -> Client {
    Client::new(format!("http://{}:9090", hosts.address(i)), DATA_TIMEOUT)
}

fn wait_ready(node: &Client) {
    wait_until("the node is ready", PATIENCE, || match node.get("/-/ready", &[])?.status {
        200 => Ok(()),
        other => Err(other.to_string()),
    });
}

/// The number of the node that leads most shards.
fn busiest(node: &Client) -> usize {
    let status = wait_until("status", PATIENCE, || node.status());
    let shards = status["shards"].as_array().cloned().unwrap_or_default();
    let leads = |i: usize| shards.iter().filter(|s| s["leader"] == format!("h{i}").as_str()).count();
    (1..=3).max_by_key(|i| leads(*i)).expect("three hosts")
}

#[test]
fn a_node_that_is_cut_off_never_answers_with_old_data_and_heals_by_itself() {
    let _turn = my_turn();
    let hosts = match Hosts::up(3) {
        Ok(hosts) => hosts,
        Err(why) => return skipped(&format!("no network namespaces here: {why}")),
    };
    let dir = TempDir::new().expect("a folder");
    fs::write(dir.path().join("prometheus.yml"), "global: {scrape_interval: 1s}\n").expect("a configuration");
    let programs: Vec<_> = (1..=3).map(|i| serve(&hosts, &dir, i)).collect();
    let nodes: Vec<_> = (1..=3).map(|i| client(&hosts, i)).collect();
    let writer = hosts.as_client(|| {
        nodes.iter().for_each(wait_ready);
        Writer::start(&nodes, load())
    });
    for _ in 0..if is_soak() { 10 } else { 1 } {
        let now = now_ms();
        wait_until("writes are acknowledged", PATIENCE, || writer.acknowledged_since(now));
        let victim = hosts.as_client(|| busiest(&nodes[0]));
        let ledger = writer.shared_ledger();
        let watch = hosts.on(victim, || FreshnessWatch::start(&nodes[victim - 1], "written", ledger));
        hosts.cut(victim);
        let now = now_ms();
        wait_until("writes go on without the one that is cut off", PATIENCE, || {
            writer.acknowledged_since(now)
        });
        // Long enough for leases to run out: the cut itself is the subject.
        sleep(Duration::from_secs(5));
        watch.wait_refused(PATIENCE);
        hosts.heal(victim);
        hosts.as_client(|| wait_ready(&nodes[victim - 1]));
        let watched = watch.stop();
        assert_eq!(
            watched.stale, [""; 0],
            "default answers without what was acknowledged before the question"
        );
    }
    let options = writer.options().clone();
    let ledger = writer.stop();
    hosts.as_client(|| {
        nodes.iter().for_each(|node| nothing_is_lost(&ledger, node, &options));
        wait_until("state hashes are equal", PATIENCE, || equal_hashes(&nodes[0]));
    });
    drop(programs);
}
