//! Three nodes in one process, on fakes for everything outside.

mod world;

use bytes::Bytes;
use model::{NodeId, ProposeError, Proposer, Term};
use raft::{GroupRole, Timing};
use std::{collections::BTreeSet, time::Duration};
use world::{A, B, Cluster, PATIENCE};

fn names(prefix: &str, range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|i| format!("{prefix}{i}")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_committed_is_applied_everywhere() {
    let cluster = Cluster::start().await;
    for name in names("a", 0..20) {
        cluster.commit(A, &name).await;
    }
    cluster.commit(B, "b").await;
    cluster.same_everywhere(A, &names("a", 0..20)).await;
    cluster.same_everywhere(B, &["b".to_owned()]).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_leader_is_replaced_and_comes_back() {
    let mut cluster = Cluster::start_electing().await;
    cluster.commit(A, "a0").await;
    let leader = cluster.leader(A).await;
    cluster.kill(leader).await;
    cluster.commit(A, "a1").await;
    cluster.boot(leader).await;
    cluster.commit(A, "a2").await;
    cluster.same_everywhere(A, &names("a", 0..3)).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_acknowledged_survives_power_loss_of_all_nodes() {
    let mut cluster = Cluster::start_electing().await;
    for name in names("a", 0..50) {
        cluster.commit(A, &name).await;
    }
    for node in 1..=3 {
        cluster.kill(node).await;
    }
    for node in 1..=3 {
        cluster.boot(node).await;
    }
    cluster.commit(A, "a50").await;
    cluster.same_everywhere(A, &names("a", 0..51)).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proposal_of_another_term_is_refused() {
    let cluster = Cluster::start().await;
    let leader = cluster.leader(A).await;
    let raft = &cluster.nodes[&leader].raft;
    let term = raft.status(A).expect("hosted").term;
    assert!(raft.propose(A, Some(term), Bytes::from_static(b"now")).await.is_ok());
    let late = raft.propose(A, Some(Term(term.0 - 1)), Bytes::from_static(b"late")).await;
    assert!(matches!(late, Err(ProposeError::Refused { .. })), "{late:?}");
    let early = raft.propose(A, Some(Term(term.0 + 1)), Bytes::from_static(b"early")).await;
    assert!(matches!(early, Err(ProposeError::Refused { .. })), "{early:?}");
    cluster.same_everywhere(A, &["now".to_owned()]).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_refuses_and_names_the_leader() {
    let cluster = Cluster::start().await;
    let leader = cluster.leader(A).await;
    let follower = leader % 3 + 1;
    cluster
        .eventually("the follower knows the leader", |cluster| {
            cluster.nodes[&follower].raft.status(A).expect("hosted").leader == Some(NodeId(leader))
        })
        .await;
    let refused = cluster.propose(follower, A, "x").await;
    assert!(
        matches!(refused, Err(ProposeError::Refused { leader: Some(id), .. }) if id == NodeId(leader)),
        "{refused:?}"
    );
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_index_on_any_node_contains_what_was_acknowledged() {
    let cluster = Cluster::start().await;
    for name in names("a", 0..10) {
        let index = cluster.commit(A, &name).await;
        for node in 1..=3 {
            let raft = &cluster.nodes[&node].raft;
            let read = raft.read_index(&[A, B], PATIENCE).await.expect("leaders");
            assert!(read[&A] >= index);
            assert!(raft.wait_applied(A, read[&A], PATIENCE).await);
            assert!(cluster.commands(node, A).contains(&name));
        }
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_ask_over_plain_connections() {
    let cluster = Cluster::start().await;
    let index = cluster.commit(A, "a").await;
    let read = cluster.nodes[&1].raft.read_index(&[A], PATIENCE).await.expect("a majority");
    assert!(read[&A] >= index);
    assert!(cluster.world.plain_connections() > 0);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_know_no_plain_connections_are_asked_all_the_same() {
    let mut cluster = Cluster::start().await;
    cluster.world.take_only_http2();
    cluster.kill(1).await;
    cluster.boot(1).await;
    let index = cluster.commit(A, "a").await;
    let read = cluster.nodes[&1].raft.read_index(&[A], PATIENCE).await.expect("a majority");
    assert!(read[&A] >= index);
    assert!(cluster.world.plain_connections() > 0);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_off_leader_gives_no_read_index_and_acknowledges_nothing() {
    let cluster = Cluster::start_electing().await;
    cluster.commit(A, "a0").await;
    let old = cluster.leader(A).await;
    cluster.world.isolate(old, &[1, 2, 3]);
    let raft = cluster.nodes[&old].raft.clone();
    let read = tokio::spawn(async move { raft.read_index(&[A], Duration::from_millis(1500)).await });
    let raft = cluster.nodes[&old].raft.clone();
    let lost = tokio::spawn(async move { raft.propose(A, None, Bytes::from_static(b"lost")).await });
    let others: Vec<u64> = (1..=3).filter(|node| *node != old).collect();
    cluster.commit_among(A, &others, "a1").await;
    assert!(read.await.expect("no panic").is_err(), "a cut off leader answered a read");
    cluster.world.heal();
    assert!(lost.await.expect("no panic").is_err(), "a cut off leader acknowledged");
    cluster.same_everywhere(A, &names("a", 0..2)).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_majority_of_logs_gives_a_read_index_while_nobody_leads() {
    // A lease so long that nobody else leads before the reads are over.
    let timing = Timing::of(Duration::from_millis(500), Duration::from_secs(45));
    let options = raft::RaftOptions { timing, ..world::calm() };
    let cluster = Cluster::with(options, &[A]).await;
    let mut index = cluster.commit(A, "a0").await;
    for name in names("a", 1..10) {
        index = cluster.commit(A, &name).await;
    }
    cluster.same_everywhere(A, &names("a", 0..10)).await;
    let leader = cluster.leader(A).await;
    cluster.world.isolate(leader, &[1, 2, 3]);
    for follower in (1..=3).filter(|node| *node != leader) {
        let raft = &cluster.nodes[&follower].raft;
        let read = raft.read_index(&[A], Duration::from_secs(20)).await.expect("two of three logs");
        assert_eq!(read[&A], index);
        assert_eq!(cluster.nodes[&follower].raft.status(A).expect("hosted").role, GroupRole::Follower);
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_that_a_deposed_leader_left_behind_holds_up_no_read() {
    let mut cluster = Cluster::start_electing().await;
    cluster.commit(A, "a0").await;
    let old = cluster.leader(A).await;
    let others: Vec<u64> = (1..=3).filter(|node| *node != old).collect();
    cluster.world.isolate(old, &[1, 2, 3]);
    let raft = cluster.nodes[&old].raft.clone();
    let last = raft.progress(A).expect("hosted").last;
    let lost = tokio::spawn(async move { raft.propose(A, None, Bytes::from_static(b"lost")).await });
    cluster
        .eventually("the entry is in its log", |cluster| {
            cluster.nodes[&old].raft.progress(A).expect("hosted").last > last
        })
        .await;
    let index = cluster.commit_among(A, &others, "a1").await;
    let new = cluster.leader_among(A, &others).await;
    let follower = others.into_iter().find(|node| *node != new).expect("two others");
    cluster.kill(new).await;
    cluster.world.heal();
    for node in [follower, old] {
        let raft = &cluster.nodes[&node].raft;
        let read = raft.read_index(&[A], PATIENCE).await.expect("a leader is elected");
        assert!(read[&A] >= index);
        assert!(raft.wait_applied(A, read[&A], PATIENCE).await);
        assert!(cluster.commands(node, A).contains(&"a1".to_owned()));
    }
    drop(lost);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn leadership_moves_where_it_is_wanted_without_losing_a_commit() {
    let cluster = Cluster::start().await;
    cluster.commit(A, "a0").await;
    for (i, step) in [1, 2, 1, 2].into_iter().enumerate() {
        let leader = cluster.leader(A).await;
        cluster.transfer(A, leader, (leader - 1 + step) % 3 + 1).await;
        cluster.commit(A, &format!("a{}", i + 1)).await;
    }
    cluster.same_everywhere(A, &names("a", 0..5)).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopping_node_hands_over_everything_it_leads() {
    let cluster = Cluster::start().await;
    let leader = cluster.leader(A).await;
    cluster.hand_over(leader, &BTreeSet::new()).await;
    assert_ne!(cluster.leader(A).await, leader);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_handed_over_to_a_node_that_is_not_fit() {
    let cluster = Cluster::start().await;
    let (leader, fit) = (cluster.leader(A).await, cluster.leader(A).await % 3 + 1);
    let others: BTreeSet<NodeId> = (1..=3).map(NodeId).collect();
    let kept = cluster.nodes[&leader].raft.hand_over(&others, PATIENCE).await;
    assert!(kept.contains(&A), "{kept:?}");
    let unfit: BTreeSet<NodeId> = others.into_iter().filter(|node| *node != NodeId(fit)).collect();
    cluster.hand_over(leader, &unfit).await;
    assert_eq!(cluster.leader(A).await, fit);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transfer_to_a_dead_node_ends_with_a_leader() {
    let mut cluster = Cluster::start_electing().await;
    let leader = cluster.leader(A).await;
    let dead = leader % 3 + 1;
    cluster.kill(dead).await;
    let moved = cluster.nodes[&leader].raft.transfer_leader(A, NodeId(dead), PATIENCE).await;
    println!("transfer to a dead node: {moved:?}");
    cluster.commit(A, "a0").await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_lags_behind_the_log_gets_a_snapshot() {
    let options = raft::RaftOptions { entries_kept: 0, ..world::calm() };
    let mut cluster = Cluster::with(options, &[A]).await;
    let leader = cluster.leader(A).await;
    let lagging = leader % 3 + 1;
    cluster.kill(lagging).await;
    for name in names("a", 0..300) {
        cluster.commit(A, &name).await;
    }
    for node in cluster.nodes.values() {
        world::checkpoint(node, A);
    }
    cluster
        .eventually("the log is purged", |cluster| {
            cluster
                .nodes
                .values()
                .all(|node| node.raft.progress(A).expect("hosted").purged.is_some_and(|index| index.0 > 250))
        })
        .await;
    cluster.boot(lagging).await;
    cluster.commit(A, "a300").await;
    cluster.same_everywhere(A, &names("a", 0..301)).await;
    assert_eq!(world::installed(&cluster.nodes[&lagging], A), 1);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wiped_node_returns_under_a_new_id_in_place_of_the_old_one() {
    let mut cluster = Cluster::start().await;
    for name in names("a", 0..30) {
        cluster.commit(A, &name).await;
    }
    let leader = cluster.leader(A).await;
    let old = leader % 3 + 1;
    cluster.kill(old).await;
    cluster.boot(4).await;
    let raft = cluster.nodes[&leader].raft.clone();
    raft.add_learner(A, NodeId(4), PATIENCE).await.expect("learner");
    cluster.eventually("the newcomer caught up", |cluster| cluster.commands(4, A).len() == 30).await;
    raft.swap_voter(A, Some(NodeId(old)), NodeId(4), PATIENCE).await.expect("swapped");
    let status = raft.status(A).expect("hosted");
    assert!(status.voters.contains(&NodeId(4)) && !status.voters.contains(&NodeId(old)), "{status:?}");
    let third = 6 - leader - old;
    cluster.kill(third).await;
    cluster.commit(A, "a30").await;
    cluster.same_everywhere(A, &names("a", 0..31)).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clocks_are_compared_over_the_links() {
    let cluster = Cluster::start().await;
    cluster
        .eventually("both peers are measured, and agree", |cluster| {
            let samples = cluster.nodes[&1].raft.clock_samples();
            samples.len() == 2 && samples.values().all(|sample| sample.offset_ms.abs() < 100)
        })
        .await;
    cluster.stop().await;
}
