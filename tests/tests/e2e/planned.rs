//! A planned stop: SIGTERM.

use crate::load::{Loaded, PATIENCE};
use serde_json::Value;
use std::time::Duration;
use tests::{gaps, is_soak, my_turn, now_ms, wait_until};

/// The slots that were missed, but for those of a target that was not done with the slot before.
fn missed_so_far(loaded: &Loaded) -> Vec<Value> {
    let gaps = wait_until("gaps can be read", PATIENCE, || gaps(&loaded.cluster.client(1), loaded.began));
    gaps.into_iter().filter(|gap| gap["reason"] != "previous scrape still running").collect()
}

#[test]
fn a_planned_stop_of_a_leader_misses_no_slot_and_loses_nothing() {
    let _turn = my_turn();
    let mut loaded = Loaded::start(20, &[]);
    let mut stops = Vec::new();
    for _ in 0..if is_soak() { 10 } else { 3 } {
        loaded.cluster.wait_status(1, true, PATIENCE);
        let victim = loaded.cluster.busiest(1);
        let before = missed_so_far(&loaded);
        stops.push(now_ms());
        loaded.cluster.stop_node(victim, PATIENCE);
        loaded.wait_acknowledged("writes go on without the node that was stopped");
        loaded.wait_scraped();
        loaded.cluster.restart(victim);
        loaded.cluster.wait_node_ready(victim, PATIENCE);
        loaded.wait_scraped();
        assert_eq!(missed_so_far(&loaded), before, "no slot is missed over a planned stop");
    }
    let verified = loaded.verify();
    let pauses = stops.iter().flat_map(|at| verified.ledger.pauses_at(*at, Duration::from_secs(5)));
    let pause = pauses.max().unwrap_or_default();
    println!("longest time between two acknowledgements around a planned stop: {pause:?}");
    if is_soak() {
        let interval = Duration::from_millis(100);
        assert!(
            pause < Duration::from_millis(500) + interval,
            "writes pause for less than 500 ms: {pause:?}"
        );
    }
}
