//! SIGKILL.

use crate::load::{Loaded, PATIENCE};
use std::time::Duration;
use tests::{is_soak, my_turn, now_ms, wait_until};

#[test]
fn killing_the_busiest_node_again_and_again_loses_nothing() {
    let _turn = my_turn();
    let rounds = if is_soak() { 20 } else { 5 };
    let mut loaded = Loaded::start(20, &[]);
    let mut kills = Vec::new();
    for _ in 0..rounds {
        loaded.cluster.wait_status(1, true, PATIENCE);
        let victim = loaded.cluster.busiest(1);
        kills.push(now_ms());
        loaded.cluster.kill(victim);
        loaded.wait_acknowledged("writes go on without the victim");
        loaded.wait_scraped();
        loaded.cluster.restart(victim);
        loaded.cluster.wait_node_ready(victim, PATIENCE);
    }
    let verified = loaded.verify();
    let window = Duration::from_secs(5);
    let mut pauses: Vec<_> =
        kills.iter().filter_map(|at| verified.ledger.pauses_at(*at, window).into_iter().max()).collect();
    pauses.sort_unstable();
    let p95 = pauses[(pauses.len() * 95).div_ceil(100) - 1];
    println!(
        "seconds without an acknowledgement after a kill, worst writer of each: {pauses:.2?}, p95 {p95:.2?}"
    );
    println!("longest hole of a target at 1 s: {:?}", verified.hole());
    if is_soak() {
        assert!(
            p95 <= Duration::from_secs(2),
            "acknowledged again within 2 s at the 95th percentile: {pauses:?}"
        );
        assert!(verified.hole() <= Duration::from_secs(4), "no hole longer than interval + 3 s");
    }
}

#[test]
fn killing_all_three_at_once_loses_nothing() {
    let _turn = my_turn();
    let mut loaded = Loaded::start(6, &[]);
    for _ in 0..if is_soak() { 5 } else { 1 } {
        let nodes: Vec<_> = loaded.cluster.nodes().collect();
        nodes.iter().for_each(|i| loaded.cluster.kill(*i));
        nodes.iter().for_each(|i| loaded.cluster.wait_ended(*i, PATIENCE));
        nodes.iter().for_each(|i| loaded.cluster.restart(*i));
        loaded.cluster.wait_ready(PATIENCE);
        loaded.wait_acknowledged("writes go on after all were killed");
    }
    let _verified = loaded.verify();
}

#[test]
fn may_lose_another_node_turns_false_when_one_dies_and_true_when_it_is_back() {
    let _turn = my_turn();
    let mut loaded = Loaded::start(1, &[]);
    loaded.cluster.wait_status(1, true, PATIENCE);
    loaded.cluster.kill(3);
    // Five seconds are promised; the verdict on time is the long run's.
    let patience = if is_soak() { Duration::from_secs(5) } else { PATIENCE };
    let why = wait_until("status admits the loss", patience, || {
        let status = loaded.cluster.client(1).status()?;
        let admits = status["mayLoseAnotherNode"] == serde_json::Value::Bool(false);
        if admits { Ok(status["why"].to_string()) } else { Err(status.to_string()) }
    });
    assert!(why.contains("node-3"), "the reason names the node: {why}");
    loaded.cluster.restart(3);
    loaded.cluster.wait_status(1, true, PATIENCE);
    let _verified = loaded.verify();
}
