//! A disk that is full, and one whose syncs fail: what becomes of the groups of the node.

mod world;

use model::ProposeError;
use raft::{DiskTrouble, GroupRole};
use std::collections::BTreeSet;
use world::{A, B, Cluster, PATIENCE};

/// A command that is large enough for a few of them to use up what the log has reserved.
fn large(i: usize) -> String {
    format!("{i}-{}", "x".repeat(100_000))
}

fn is_full(cluster: &Cluster, node: u64) -> bool {
    matches!(cluster.nodes[&node].raft.disk_trouble(), Some(DiskTrouble::NoRoom(_)))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_on_a_full_disk_falls_behind_and_catches_up_without_a_restart() {
    let cluster = Cluster::start().await;
    let leader = cluster.leader(A).await;
    let follower = (1..=3).find(|node| *node != leader).expect("three nodes");
    cluster.fs(follower).set_capacity(Some(0));
    let texts: Vec<_> = (0..8).map(large).collect();
    for text in &texts {
        cluster.commit(A, text).await;
    }
    cluster.eventually("the follower finds its disk full", |cluster| is_full(cluster, follower)).await;
    assert_eq!(cluster.role(follower, A), GroupRole::Follower);
    cluster.fs(follower).set_capacity(None);
    cluster.same_everywhere(A, &texts).await;
    cluster
        .eventually("the trouble is over", |cluster| cluster.nodes[&follower].raft.disk_trouble().is_none())
        .await;
    cluster.commit(B, "b").await;
    cluster.same_everywhere(B, &["b".to_owned()]).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_on_a_full_disk_gives_its_groups_up_and_follows_until_there_is_room() {
    let cluster = Cluster::start().await;
    let leader = cluster.leader(A).await;
    let others: Vec<u64> = (1..=3).filter(|node| *node != leader).collect();
    cluster.fs(leader).set_capacity(Some(0));
    let mut texts = Vec::new();
    let refused = loop {
        let text = large(texts.len());
        match cluster.propose(leader, A, &text).await {
            Ok(_) => texts.push(text), // the others are a majority
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, ProposeError::Refused { .. }), "{refused:?}");
    assert!(is_full(&cluster, leader));
    let raft = &cluster.nodes[&leader].raft;
    raft.abstain(true).await;
    cluster.hand_over(leader, &BTreeSet::new()).await;
    let next = cluster.leader_among(A, &others).await;
    texts.push("after".to_owned());
    cluster.commit_among(A, &others, "after").await;
    let follows = |cluster: &Cluster| {
        let status = cluster.nodes[&leader].raft.status(A).expect("hosted");
        status.role == GroupRole::Follower && status.leader.is_some_and(|node| node.0 == next)
    };
    cluster.eventually("its vote was saved: it follows", follows).await;
    cluster.fs(leader).set_capacity(None);
    cluster.same_everywhere(A, &texts).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_abstains_leads_nothing_even_if_asked_to() {
    let mut cluster = Cluster::start_electing().await;
    let leader = cluster.leader(A).await;
    let others: Vec<u64> = (1..=3).filter(|node| *node != leader).collect();
    cluster.nodes[&others[0]].raft.abstain(true).await;
    let moved = cluster.nodes[&leader].raft.transfer_leader(A, model::NodeId(others[0]), PATIENCE).await;
    assert!(moved.is_err());
    let next = cluster.leader_among(A, &[leader, others[1]]).await;
    cluster.kill(next).await;
    let left = (1..=3).find(|node| *node != next && *node != others[0]).expect("one is left");
    assert_eq!(cluster.leader_among(A, &[left]).await, left);
    cluster.nodes[&others[0]].raft.abstain(false).await;
    cluster.kill(left).await;
    cluster.boot(next).await;
    cluster.leader_among(A, &[others[0], next]).await;
    cluster.stop().await;
}

/// openraft proposes nothing any more once it was asked to transfer: a node that refuses must be asked before.
#[tokio::test(flavor = "multi_thread")]
async fn a_leader_whom_nobody_fit_can_follow_keeps_leading() {
    let cluster = Cluster::start().await;
    let leader = cluster.leader(A).await;
    for node in 1..=3 {
        cluster.nodes[&node].raft.abstain(true).await;
    }
    let kept = cluster.nodes[&leader].raft.hand_over(&BTreeSet::new(), PATIENCE).await;
    assert!(kept.contains(&A));
    cluster.propose(leader, A, "goes on").await.expect("it still leads");
    let term = cluster.nodes[&leader].raft.status(A).map(|status| status.term);
    let others: Vec<u64> = (1..=3).filter(|node| *node != leader).collect();
    cluster.nodes[&others[1]].raft.abstain(false).await;
    cluster.hand_over(leader, &BTreeSet::new()).await;
    assert_eq!(cluster.leader_among(A, &others).await, others[1], "the only one that is fit");
    assert!(cluster.nodes[&others[1]].raft.status(A).map(|status| status.term) > term);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_syncs_fail_stands_down_and_the_others_lead() {
    let mut cluster = Cluster::start_electing().await;
    let leader = cluster.leader(A).await;
    cluster.commit(A, "before").await;
    cluster.fs(leader).fail_syncs(u64::MAX);
    let outcome = cluster.propose(leader, A, "lost or not").await;
    let is_acknowledged = outcome.is_ok(); // by the others
    cluster
        .eventually("the failure is known", |cluster| {
            matches!(cluster.nodes[&leader].raft.disk_trouble(), Some(DiskTrouble::Failed(_)))
        })
        .await;
    cluster.nodes[&leader].raft.stand_down().await;
    cluster
        .eventually("its groups have ended", |cluster| cluster.role(leader, B) == GroupRole::Stopped)
        .await;
    let others: Vec<u64> = (1..=3).filter(|node| *node != leader).collect();
    for shard in [A, B] {
        cluster.commit_among(shard, &others, "after").await;
    }
    // Whoever is ready to lead has applied everything that was acknowledged before.
    let kept = cluster.commands(cluster.leader_among(A, &others).await, A);
    assert!(kept.contains(&"before".to_owned()));
    assert!(!is_acknowledged || kept.contains(&"lost or not".to_owned()));
    cluster.kill(leader).await;
    cluster.fs(leader).fail_syncs(0);
    cluster.boot(leader).await;
    cluster.same_everywhere(B, &["after".to_owned()]).await;
    cluster.stop().await;
}
