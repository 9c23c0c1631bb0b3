//! Without a majority: no stale answer that does not say so.

use crate::load::{Loaded, PATIENCE, load, nothing_is_lost};
use std::{process::Command, time::Duration};
use tests::{Cluster, Ran, WRITE_HEADERS, encode_write, my_turn, now_ms, run, vestal_binary, wait_until};

fn status_command(cluster: &Cluster, i: usize) -> Ran {
    run(Command::new(vestal_binary()).args(["status", "--url", &cluster.url(i)]))
}

fn wait_exit_status(cluster: &Cluster, wanted: i32) -> Ran {
    wait_until(&format!("vestal status exits with {wanted}"), PATIENCE, || {
        let ran = status_command(cluster, 1);
        if ran.status == wanted { Ok(ran) } else { Err(format!("{ran:?}")) }
    })
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

    // The last answers may come from a lease that has not run out yet; they are fresh, because nobody else can write.
    let node = cluster.client(1);
    let refused = wait_until("a default query is refused", PATIENCE, || {
        let answer = node.get("/api/v1/query", &[("query", "written")])?;
        if answer.status == 503 { Ok(answer) } else { Err(format!("{answer:?}")) }
    });
    assert_eq!(refused.json()["status"], "error", "{refused:?}");
    for path in
        ["/api/v1/labels", "/api/v1/label/job/values", "/api/v1/series?match[]=up", "/api/v1/query?query=up"]
    {
        assert_eq!(node.get(path, &[]).unwrap().status, 503, "{path}");
    }
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
