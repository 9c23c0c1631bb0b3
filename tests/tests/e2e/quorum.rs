//! Without a majority: no stale answer that does not say so.

use crate::load::{Loaded, PATIENCE, load, nothing_is_lost};
use std::{process::Command, time::Duration};
use tests::{
    Client, Cluster, Ran, WRITE_HEADERS, encode_write, my_turn, now_ms, run, vestal_binary, wait_until,
};

fn status_command(cluster: &Cluster, i: usize) -> Ran {
    run(Command::new(vestal_binary()).args(["status", "--url", &cluster.url(i)]))
}

fn wait_exit_status(cluster: &Cluster, wanted: i32) -> Ran {
    wait_until(&format!("vestal status exits with {wanted}"), PATIENCE, || {
        let ran = status_command(cluster, 1);
        if ran.status == wanted { Ok(ran) } else { Err(format!("{ran:?}")) }
    })
}

/// Asks once: nothing is waited for.
fn default_reads_are_refused(node: &Client) {
    for path in [
        "/api/v1/query?query=written",
        "/api/v1/query_range?query=written&start=0&end=60&step=60",
        "/api/v1/labels",
        "/api/v1/label/job/values",
        "/api/v1/series?match[]=up",
        "/federate?match[]=up",
    ] {
        let answer = node.get(path, &[]).expect("an answer");
        assert_eq!(answer.status, 503, "{path}: {answer:?}");
    }
}

#[test]
fn a_node_that_starts_without_a_quorum_refuses_default_reads_from_its_first_answer_on() {
    let _turn = my_turn();
    let mut loaded = Loaded::start(2, &[]);
    let nodes: Vec<_> = loaded.cluster.nodes().collect();
    nodes.iter().for_each(|i| loaded.cluster.kill(*i));
    nodes.iter().for_each(|i| loaded.cluster.wait_ended(*i, PATIENCE));
    loaded.cluster.restart(1);
    let node = loaded.cluster.client(1);
    let first = wait_until("it answers", PATIENCE, || node.get("/api/v1/query?query=written", &[]));
    assert_eq!(first.status, 503, "{first:?}");
    wait_until("all its shards are open", PATIENCE, || {
        default_reads_are_refused(&node);
        let stale = node.get("/api/v1/query?query=written&consistency=stale", &[])?;
        let found = stale.json()["data"]["result"].as_array().is_some_and(|found| !found.is_empty());
        if found { Ok(()) } else { Err(format!("{stale:?}")) }
    });
    default_reads_are_refused(&node);
    assert_eq!(node.get("/-/ready", &[]).expect("an answer").status, 503, "it is not ready");
    loaded.cluster.restart(2);
    loaded.cluster.restart(3);
    loaded.cluster.wait_ready(PATIENCE);
    let _verified = loaded.verify();
}

#[test]
fn without_a_quorum_default_reads_and_writes_are_refused_and_stale_ones_warn() {
    let _turn = my_turn();
    let mut loaded = Loaded::start(2, &[]);
    let yes = wait_exit_status(&loaded.cluster, 0);
    assert!(yes.out.contains("May I lose another node now? Yes"), "{yes:?}");
    loaded.cluster.kill(3);
    let no = wait_exit_status(&loaded.cluster, 1);
    assert!(no.out.contains("node-3"), "{no:?}");
    loaded.wait_acknowledged("two of three go on");
    let Loaded { ref mut cluster, .. } = loaded;
    cluster.kill(2);
    cluster.wait_ended(2, PATIENCE);

    // From the first question on: no answer comes from a lease.
    let node = cluster.client(1);
    default_reads_are_refused(&node);
    let stale = node.get("/api/v1/query", &[("query", "written"), ("consistency", "stale")]).unwrap();
    assert_eq!(stale.status, 200, "{stale:?}");
    assert!(!stale.json()["data"]["result"].as_array().unwrap().is_empty(), "{stale:?}");
    assert!(!stale.json()["warnings"].as_array().unwrap().is_empty(), "it says how old it may be: {stale:?}");
    let patient = tests::Client::new(cluster.url(1), Duration::from_secs(30));
    let labels = [("__name__", "lonely"), ("job", "x")].map(|(n, v)| (n.to_owned(), v.to_owned())).to_vec();
    let write =
        patient.post("/api/v1/write", &WRITE_HEADERS, &encode_write(&[(labels, vec![(now_ms(), 1.0)])]));
    assert_eq!(write.unwrap().status, 503, "a write is not acknowledged");
    assert_eq!(node.get("/-/healthy", &[]).unwrap().status, 200, "it lives");
    wait_until("it is not ready", PATIENCE, || match node.get("/-/ready", &[])?.status {
        503 => Ok(()),
        other => Err(other.to_string()),
    });
    wait_exit_status(cluster, 3);

    cluster.restart(2);
    cluster.restart(3);
    cluster.wait_ready(PATIENCE);
    cluster.wait_status(1, true, PATIENCE);
    loaded.wait_acknowledged("writes go on");
    let ledger = loaded.writer.stop();
    loaded.cluster.clients().iter().for_each(|node| nothing_is_lost(&ledger, node, &load()));
}
