//! Snapshots between nodes: for whom they count, what they keep, and who lets go.

mod world;

use model::{NodeId, ShardId};
use raft::{GroupRole, RaftOptions};
use std::time::Duration;
use world::{A, Cluster, PATIENCE};

/// A cluster in which one node lags behind the log of the others, its number and the leader's; what it receives waits.
async fn lagging() -> (Cluster, u64, u64) {
    let options = RaftOptions { entries_kept: 0, ..world::calm() };
    let mut cluster = Cluster::with(options, &[A]).await;
    let leader = cluster.leader(A).await;
    let lagging = leader % 3 + 1;
    cluster.kill(lagging).await;
    commit(&cluster, 0, 200).await;
    purged(&cluster, 150).await;
    cluster.held.insert(lagging);
    cluster.boot(lagging).await;
    cluster
        .eventually("the snapshot was received", |cluster| world::checking(&cluster.nodes[&lagging], A))
        .await;
    (cluster, leader, lagging)
}

async fn commit(cluster: &Cluster, from: usize, to: usize) {
    for i in from..to {
        cluster.commit(A, &format!("a{i}")).await;
    }
}

fn all(count: usize) -> Vec<String> {
    (0..count).map(|i| format!("a{i}")).collect()
}

/// Makes checkpoints and waits until the logs begin behind an index.
async fn purged(cluster: &Cluster, index: u64) {
    cluster.nodes.values().for_each(|node| world::checkpoint(node, A));
    let is_purged = |cluster: &Cluster| {
        let purged = |node: &world::TestNode| node.raft.progress(A).expect("hosted").purged;
        cluster.nodes.values().all(|node| purged(node).is_some_and(|purged| purged.0 > index))
    };
    cluster.eventually("the logs are purged", is_purged).await;
}

/// Without the check of what is applied, the later leader takes the end of the other's transfer for its own, and
/// counts on a log that is not there.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_received_for_one_leader_does_not_count_for_the_next() {
    let (cluster, old, lagging) = lagging().await;
    let next = 6 - old - lagging;
    cluster.world.isolate(old, &[1, 2, 3]);
    cluster.eventually("another leads", |cluster| cluster.role(next, A) == GroupRole::Leader).await;
    let term = cluster.nodes[&next].raft.status(A).expect("hosted").term;
    cluster
        .eventually("the lagging one follows it", |cluster| {
            let status = cluster.nodes[&lagging].raft.status(A).expect("hosted");
            (status.term, status.leader) == (term, Some(NodeId(next)))
        })
        .await;
    world::hold(&cluster.nodes[&lagging], A, false);
    // Only with the lagging one is there a majority.
    cluster.commit_among(A, &[next], "a200").await;
    cluster.world.heal();
    cluster.same_everywhere(A, &all(201)).await;
    assert_eq!(world::installed(&cluster.nodes[&lagging], A), 1);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_receives_for_long_finds_the_log_behind_the_snapshot() {
    let (cluster, leader, lagging) = lagging().await;
    commit(&cluster, 200, 600).await;
    for node in [leader, 6 - leader - lagging] {
        world::checkpoint(&cluster.nodes[&node], A);
    }
    tokio::time::sleep(Duration::from_secs(2)).await; // the time is its subject: the log would be purged meanwhile
    let purged = cluster.nodes[&leader].raft.progress(A).expect("hosted").purged;
    assert!(purged.is_some_and(|purged| purged.0 < 300), "{purged:?}");
    world::hold(&cluster.nodes[&lagging], A, false);
    cluster.same_everywhere(A, &all(600)).await;
    assert_eq!(world::installed(&cluster.nodes[&lagging], A), 1, "one snapshot is enough");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_is_closed_when_it_was_received() {
    let (cluster, leader, lagging) = lagging().await;
    assert_eq!(cluster.nodes[&leader].raft.snapshots_lent(), 1);
    assert_eq!(
        cluster.nodes[&lagging].raft.snapshot_progress().keys().copied().collect::<Vec<ShardId>>(),
        [A]
    );
    world::hold(&cluster.nodes[&lagging], A, false);
    cluster.eventually("it is closed", |cluster| cluster.nodes[&leader].raft.snapshots_lent() == 0).await;
    cluster
        .eventually("the transfer is over", |cluster| {
            cluster.nodes[&lagging].raft.snapshot_progress().is_empty()
        })
        .await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_members_is_finished_without_the_node_it_was_for() {
    let mut cluster = Cluster::start().await;
    commit(&cluster, 0, 10).await;
    let leader = cluster.leader(A).await;
    let old = leader % 3 + 1;
    cluster.kill(old).await;
    cluster.boot(4).await;
    let raft = cluster.nodes[&leader].raft.clone();
    raft.add_learner(A, NodeId(4), PATIENCE).await.expect("learner");
    cluster.eventually("the newcomer caught up", |cluster| cluster.commands(4, A).len() == 10).await;
    // Given up between the two halves, as by a leader that dies: without the third node the first is not committed.
    let third = 6 - leader - old;
    cluster.kill(third).await;
    let is_changing = |cluster: &Cluster| cluster.nodes[&leader].raft.status(A).expect("hosted").changing;
    tokio::select! {
        biased;
        () = cluster.eventually("half of the change is in the log", is_changing) => {}
        done = raft.swap_voter(A, Some(NodeId(old)), NodeId(4), PATIENCE) => panic!("not possible: {done:?}"),
    }
    cluster.boot(third).await;
    cluster.kill(4).await;
    // Refused until the first half is committed, which needs no dead one.
    let finish = async {
        while raft.finish_change(A, PATIENCE).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, finish).await.expect("finished in time");
    let status = raft.status(A).expect("hosted");
    assert!(!status.changing);
    assert!(status.voters.contains(&NodeId(4)) && !status.voters.contains(&NodeId(old)), "{status:?}");
    commit(&cluster, 10, 11).await;
    cluster.stop().await;
}
