//! A planned stop: SIGTERM.

use crate::load::{Loaded, PATIENCE};
use std::time::Duration;
use tests::{is_soak, missed_slots, my_turn, now_ms, wait_until};

/// A busy machine misses slots by itself at times; a stop that costs some does so each time.
const ATTEMPTS: usize = 5;

fn missed_so_far(loaded: &Loaded) -> u64 {
    wait_until("gaps can be read", PATIENCE, || missed_slots(&loaded.cluster.client(1), loaded.began))
}

#[test]
fn a_planned_stop_of_a_leader_misses_no_slot_and_loses_nothing() {
    let _turn = my_turn();
    let mut loaded = Loaded::start(20, &[]);
    let (mut stops, mut missed) = (Vec::new(), Vec::new());
    for _ in 0..if is_soak() { 10 } else { ATTEMPTS } {
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
        missed.push(missed_so_far(&loaded) - before);
        if !is_soak() && missed.ends_with(&[0]) {
            break;
        }
    }
    let verified = loaded.verify();
    let is_good = if is_soak() { missed.iter().all(|slots| *slots == 0) } else { missed.contains(&0) };
    assert!(is_good, "slots missed over each planned stop: {missed:?}");
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
