//! Scraping in calm.

use crate::load::{Loaded, PATIENCE, every_second, options, slots};
use std::{thread::sleep, time::Duration};
use tests::{Cluster, Targets, is_soak, my_turn, now_ms, samples, wait_until};

/// How many elections the data shards have had.
fn elections(cluster: &Cluster) -> u64 {
    let status = cluster.wait_status(1, false, PATIENCE);
    let shards = status["shards"].as_array().cloned().unwrap_or_default();
    shards.iter().filter_map(|shard| shard["term"].as_u64()).sum()
}

#[test]
fn every_target_is_scraped_exactly_once_per_slot_and_all_nodes_answer_the_same_bytes() {
    let _turn = my_turn();
    let loaded = Loaded::start(20, &[]);
    let (cluster, targets) = (&loaded.cluster, &loaded.targets);
    let elections_before = elections(cluster);
    let from = now_ms();
    // The span that is looked at: nothing is waited for, so time itself is the subject.
    sleep(Duration::from_secs(if is_soak() { 120 } else { 12 }));
    let to = now_ms() - 3_000;
    for (i, address) in targets.addresses().iter().enumerate() {
        let report = slots(&cluster.client(1), address, from, to);
        let (stored, failed) = wait_until("what was served is stored", PATIENCE, || {
            let node = cluster.client(1 + i % 3);
            let of = |name: &str| samples(&node, &format!("{name}{{instance=\"{address}\"}}"), from, to);
            let (stored, up) = (of("served_total")?, of("up")?);
            let good: Vec<_> = up.iter().filter(|(_, up)| **up == 1.0).map(|(at, _)| *at).collect();
            let same = !stored.is_empty() && stored.keys().eq(&good) && up.len() as u64 == report.scraped;
            let failed = up.len() - good.len();
            if same { Ok((stored, failed)) } else { Err(format!("{stored:?}\n{up:?}\n{report:?}")) }
        });
        let served: Vec<_> = stored.values().map(|count| *count as u64).collect();
        assert!(
            served.windows(2).all(|pair| pair[0] < pair[1]),
            "what {address} served is in the data once, in order: {served:?}"
        );
        // Where nothing failed and nobody was elected, each GET is in the data. A target also counts what it answered
        // too late, and what a leader asked for that was deposed before it had told.
        let absent = served[served.len() - 1] - served[0] + 1 - served.len() as u64;
        let explained = failed as u64 + report.missed + (elections(cluster) - elections_before);
        assert!(
            absent <= explained,
            "{absent} of what {address} served is not in the data: {served:?}, {report:?}"
        );
    }
    let verified = loaded.verify();
    println!("longest hole {:?}", verified.hole());
}

#[test]
fn each_target_is_scraped_by_the_leader_of_its_shard() {
    let _turn = my_turn();
    let targets = Targets::start(6);
    let cluster = Cluster::start(options(every_second(&targets), &[]));
    wait_until("every target is up and has its scraper", PATIENCE, || {
        let status = cluster.client(1).status()?;
        let answer = cluster.client(2).get("/api/v1/targets", &[("state", "active")])?;
        let json = answer.json();
        let active = json["data"]["activeTargets"].as_array().cloned().unwrap_or_default();
        let shards = status["shards"].as_array().cloned().unwrap_or_default();
        let leader = |id: u64| shards.iter().find(|s| s["id"] == id).map(|s| s["leader"].clone());
        let good = |t: &serde_json::Value| {
            t["health"] == "up" && t["shard"].as_u64().and_then(leader).as_ref() == Some(&t["scrapedBy"])
        };
        if active.len() == 6 && active.iter().all(good) { Ok(()) } else { Err(answer.body) }
    });
}
