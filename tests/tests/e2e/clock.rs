//! A node whose clock is a day off.

use crate::load::{Loaded, PATIENCE};
use serde_json::Value;
use std::path::PathBuf;
use tests::{Shim, debian, gaps, is_soak, my_turn, now_ms, skipped, wait_until};

/// What makes a program's wall clock lie.
fn faketime() -> Option<PathBuf> {
    debian("faketime", "usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1")
}

/// Restarts a node with a clock that is off, and waits until the one that is asked sees it and it leads nothing.
fn restart_off(loaded: &mut Loaded, victim: usize, asked: usize, library: &str, (offset, sign): (&str, f64)) {
    loaded.cluster.stop_node(victim, PATIENCE);
    let variables = [("LD_PRELOAD", library), ("FAKETIME", offset), ("FAKETIME_DONT_FAKE_MONOTONIC", "1")];
    loaded.cluster.restart_with(victim, &variables);
    wait_seen(loaded, victim, asked, sign * 86_400.0);
}

/// Waits until the node that is asked sees how far the victim's clock is off, and that it leads nothing if it is.
fn wait_seen(loaded: &Loaded, victim: usize, asked: usize, seconds: f64) {
    let name = format!("node-{victim}");
    wait_until("it is seen how far its clock is off, and what it leads follows", PATIENCE, || {
        let status = loaded.cluster.client(asked).status()?;
        let nodes = status["nodes"].as_array().cloned().unwrap_or_default();
        let node = nodes.iter().find(|n| n["name"] == name.as_str() && n["state"] != "removed");
        let offset = node.and_then(|n| n["clockOffsetSeconds"].as_f64()).unwrap_or(f64::NAN);
        let leads =
            status["shards"].as_array().is_some_and(|s| s.iter().any(|s| s["leader"] == name.as_str()));
        let seen = (offset - seconds).abs() < 60.0;
        if seen && (!leads || seconds == 0.0) { Ok(()) } else { Err(status.to_string()) }
    });
}

/// The slots that were missed, but for those of a target that was not done with the slot before.
fn missed(loaded: &Loaded, asked: usize) -> Vec<Value> {
    let node = loaded.cluster.client(asked);
    let gaps = wait_until("gaps can be read", PATIENCE, || gaps(&node, loaded.began));
    gaps.into_iter().filter(|gap| gap["reason"] != "previous scrape still running").collect()
}

#[test]
fn a_leaders_clock_that_is_set_a_day_off_and_back_costs_no_slot_and_doubles_none() {
    let _turn = my_turn();
    let mut loaded = Loaded::start(6, &[]);
    let shim = match Shim::new(&loaded.cluster.dir().join("world")) {
        Ok(shim) => shim,
        Err(why) => return skipped(&why),
    };
    let victim = loaded.cluster.busiest(1);
    let asked = 1 + victim % 3;
    loaded.cluster.stop_node(victim, PATIENCE);
    let variables =
        shim.variables().map(|(name, value)| (name, value.into_string().expect("a path is text")));
    let variables: Vec<_> = variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
    loaded.cluster.restart_with(victim, &variables);
    loaded.cluster.wait_node_ready(victim, PATIENCE);
    for day in [86_400.0, -86_400.0] {
        // What others hand over when they stop falls to it sooner or later.
        while loaded.cluster.leads(asked, victim).unwrap_or(0) == 0 {
            let other = loaded.cluster.busiest(victim);
            if other != victim {
                loaded.cluster.stop_node(other, PATIENCE);
                loaded.cluster.restart(other);
                loaded.cluster.wait_node_ready(other, PATIENCE);
            }
        }
        loaded.wait_scraped();
        let before = missed(&loaded, asked);
        shim.set_clock_offset(day as i64 * 1_000);
        wait_seen(&loaded, victim, asked, day);
        loaded.wait_scraped();
        shim.set_clock_offset(0);
        wait_seen(&loaded, victim, asked, 0.0);
        loaded.wait_scraped();
        assert_eq!(missed(&loaded, asked), before, "no slot is missed");
    }
    let _each_slot_is_there_once = loaded.verify();
}

fn a_day_off(offset: &str, sign: f64) {
    let _turn = my_turn();
    let Some(library) = faketime() else { return };
    let mut loaded = Loaded::start(6, &["--storage.tsdb.retention.time=1h"]);
    let victim = loaded.cluster.busiest(1);
    let asked = 1 + victim % 3;
    restart_off(&mut loaded, victim, asked, library.to_str().expect("a path is text"), (offset, sign));
    loaded.wait_acknowledged("writes go on");
    loaded.wait_scraped();
    // Even when only one other is left it takes nothing.
    let (killed, left) = (asked, 1 + asked % 3);
    loaded.cluster.kill(killed);
    loaded.cluster.wait_ended(killed, PATIENCE);
    loaded.wait_acknowledged("writes go on without another node");
    assert_eq!(loaded.cluster.leads(left, victim), Ok(0));
    loaded.cluster.restart(killed);
    loaded.cluster.wait_node_ready(killed, PATIENCE);
    loaded.cluster.stop_node(victim, PATIENCE);
    loaded.cluster.restart(victim);
    let _nothing_deleted = loaded.verify();
}

#[test]
fn a_node_whose_clock_is_a_day_ahead_deletes_nothing_and_leads_nothing() {
    a_day_off("+1d", 1.0);
}

#[test]
fn a_node_whose_clock_is_a_day_behind_deletes_nothing_and_leads_nothing() {
    a_day_off("-1d", -1.0);
}

/// Most slots that a target may lose to the deaths: elections, on a machine that has nothing else to do.
const LOST_MAX: u64 = 60;

#[test]
fn a_node_whose_clock_is_a_day_ahead_takes_no_slot_of_tomorrow_when_another_dies() {
    let _turn = my_turn();
    let Some(library) = faketime() else { return };
    let mut loaded = Loaded::start(6, &[]);
    let victim = loaded.cluster.busiest(1);
    let others = [1 + victim % 3, 1 + (victim + 1) % 3];
    let library = library.to_str().expect("a path is text");
    restart_off(&mut loaded, victim, others[0], library, ("+1d", 1.0));
    loaded.wait_acknowledged("writes go on");
    // Whoever dies, a part of what it led falls to the one that is off, for a moment at least.
    for dies in others {
        loaded.cluster.kill(dies);
        loaded.cluster.wait_ended(dies, PATIENCE);
        loaded.wait_acknowledged("two of three go on");
        loaded.wait_scraped();
        loaded.cluster.restart(dies);
        loaded.cluster.wait_node_ready(dies, PATIENCE);
    }
    loaded.cluster.stop_node(victim, PATIENCE);
    loaded.cluster.restart(victim);
    let began = loaded.began;
    let asked = loaded.cluster.client(others[0]);
    let tomorrow = gaps(&asked, began).expect("gaps can be read");
    let latest = tomorrow.iter().filter_map(|gap| gap["to"].as_f64()).fold(0.0, f64::max);
    assert!(latest * 1000.0 < now_ms() as f64 + 10_000.0, "a slot of tomorrow is taken: {tomorrow:?}");
    let verified = loaded.verify();
    let lost = verified.slots.iter().map(|report| report.missed).max().unwrap_or_default();
    println!("most slots that a target lost: {lost}");
    if is_soak() {
        assert!(lost <= LOST_MAX, "{:?}", verified.slots);
    }
}
