//! A planned stop: SIGTERM.

use crate::load::{Loaded, PATIENCE};
use std::time::Duration;
use tests::{is_soak, missed_slots, my_turn, now_ms};

#[test]
fn a_planned_stop_of_a_leader_misses_no_slot_and_loses_nothing() {
    let _turn = my_turn();
    let mut loaded = Loaded::start(20, &[]);
    let mut stops = Vec::new();
    for _ in 0..if is_soak() { 10 } else { 1 } {
        loaded.cluster.wait_status(1, true, PATIENCE);
        let victim = loaded.cluster.busiest(1);
        stops.push(now_ms());
        loaded.cluster.signal(victim, libc::SIGTERM);
        loaded.cluster.wait_ended(victim, PATIENCE);
        loaded.wait_acknowledged("writes go on without the node that was stopped");
        loaded.wait_scraped();
        loaded.cluster.restart(victim);
        loaded.cluster.wait_node_ready(victim, PATIENCE);
    }
    let missed = missed_slots(&loaded.cluster.client(1), loaded.began).expect("gaps can be read");
    let verified = loaded.verify();
    assert_eq!(missed, 0, "slots missed over planned stops");
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
