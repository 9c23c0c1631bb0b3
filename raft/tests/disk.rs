//! A disk that is full, and one whose syncs fail: what becomes of the groups of the node.

mod world;

use model::ProposeError;
use raft::{DiskTrouble, GroupRole};
use std::{collections::BTreeSet, time::Duration};
use world::{A, B, CHECKPOINT, Cluster, PATIENCE};

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

/// Found by simulation: each of many proposals found room before any of them was in the log. What then found none was
/// tried again for ever, inside the group, which could neither purge nor vote any more: the disk had room, and the node
/// had lost this shard until it was restarted.
#[tokio::test(flavor = "multi_thread")]
async fn more_at_once_than_the_log_holds_is_refused_and_stops_no_group() {
    let cluster = Cluster::start().await;
    let leader = cluster.leader(A).await;
    let texts: Vec<_> = (0..300).map(large).collect();
    let outcomes = futures::future::join_all(texts.iter().map(|text| cluster.propose(leader, A, text))).await;
    let refused = |outcome: &Result<_, ProposeError>| matches!(outcome, Err(ProposeError::Refused { .. }));
    assert!(outcomes.iter().all(|outcome| outcome.is_ok() || refused(outcome)), "{outcomes:?}");
    let taken = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
    assert!((20..150).contains(&taken), "{taken}: some, but not more than the log holds");
    let again = async {
        while cluster.propose(cluster.leader(A).await, A, &large(300)).await.is_err() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let purged = tokio::time::timeout(PATIENCE, again).await;
    assert!(purged.is_ok(), "it is purged, and there is room again");
    cluster.commit(B, "b").await;
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

/// Found by simulation: the group was shown as stopped, and nobody said why.
#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_cannot_apply_stops_and_says_why() {
    let cluster = Cluster::start().await;
    let leader = cluster.leader(A).await;
    let follower = (1..=3).find(|node| *node != leader).expect("three nodes");
    world::fail_apply(&cluster.nodes[&follower], A);
    cluster.commit(A, "a").await;
    let status = |cluster: &Cluster| cluster.nodes[&follower].raft.status(A).expect("hosted");
    let stops = |cluster: &Cluster| status(cluster).role == GroupRole::Stopped;
    cluster.eventually("the replica stops", stops).await;
    let failure = status(&cluster).failure;
    assert!(failure.as_ref().is_some_and(|text| text.contains("input/output error")), "{failure:?}");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_that_takes_long_holds_up_its_own_group_only_and_no_answer() {
    let cluster = Cluster::start().await;
    cluster.nodes.values().for_each(|node| world::hang_checkpoints(node, A, true));
    cluster.commit(A, CHECKPOINT).await;
    cluster.commit(B, "b").await;
    cluster.same_everywhere(B, &["b".to_owned()]).await;
    cluster.nodes.values().for_each(|node| world::hang_checkpoints(node, A, false));
    cluster.commit(A, "after").await;
    cluster.same_everywhere(A, &[CHECKPOINT.to_owned(), "after".to_owned()]).await;
    cluster.stop().await;
}
