//! Scraping in calm.

use crate::load::{Loaded, PATIENCE, every_second, options, slots};
use std::{thread::sleep, time::Duration};
use tests::{Cluster, Targets, is_soak, my_turn, now_ms, samples, wait_until};

#[test]
fn every_target_is_scraped_exactly_once_per_slot_and_all_nodes_answer_the_same_bytes() {
    let _turn = my_turn();
    let loaded = Loaded::start(20, &[]);
    // The span that is looked at: nothing is waited for, so time itself is the subject.
    sleep(Duration::from_secs(if is_soak() { 120 } else { 12 }));
    let (cluster, targets) = (&loaded.cluster, &loaded.targets);
    let (from, to) = (loaded.began, now_ms() - 3_000);
    for (i, address) in targets.addresses().iter().enumerate() {
        let stored = wait_until("scrapes are stored", PATIENCE, || {
            samples(&cluster.client(1 + i % 3), &format!("served_total{{instance=\"{address}\"}}"), from, to)
        });
        let served: Vec<_> = stored.values().map(|count| *count as u64).collect();
        let whole: Vec<_> = (served[0]..served[0] + served.len() as u64).collect();
        assert_eq!(served, whole, "what {address} served is in the data, each once, in order");
        let report = slots(&cluster.client(1), address, from, to);
        assert_eq!(report.scraped as usize, served.len(), "one sample a slot: {report:?}");
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
