//! A node whose clock is a day off.

use crate::load::{Loaded, PATIENCE};
use tests::{debian, my_turn, wait_until};

fn a_day_off(offset: &str, sign: f64) {
    let _turn = my_turn();
    let library = "usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1";
    let Some(library) = debian("faketime", library) else { return };
    let library = library.to_str().expect("a path is text");
    let mut loaded = Loaded::start(6, &["--storage.tsdb.retention.time=1h"]);
    let victim = loaded.cluster.busiest(1);
    let asked = 1 + victim % 3;
    loaded.cluster.signal(victim, libc::SIGTERM);
    loaded.cluster.wait_ended(victim, PATIENCE);
    let variables = [("LD_PRELOAD", library), ("FAKETIME", offset), ("FAKETIME_DONT_FAKE_MONOTONIC", "1")];
    loaded.cluster.restart_with(victim, &variables);
    let name = format!("node-{victim}");
    wait_until("the others see how far its clock is off, and it leads nothing", PATIENCE, || {
        let status = loaded.cluster.client(asked).status()?;
        let nodes = status["nodes"].as_array().cloned().unwrap_or_default();
        let node = nodes.iter().find(|n| n["name"] == name.as_str() && n["state"] != "removed");
        let offset = node.and_then(|n| n["clockOffsetSeconds"].as_f64()).unwrap_or(0.0);
        let leads =
            status["shards"].as_array().is_some_and(|s| s.iter().any(|s| s["leader"] == name.as_str()));
        let seen = (offset * sign - 86_400.0).abs() < 60.0;
        if seen && !leads { Ok(()) } else { Err(status.to_string()) }
    });
    loaded.wait_acknowledged("writes go on");
    loaded.wait_scraped();
    loaded.cluster.signal(victim, libc::SIGTERM);
    loaded.cluster.wait_ended(victim, PATIENCE);
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
