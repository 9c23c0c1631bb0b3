//! A GET that is under way while its leader is deposed, and leads again before it is answered.

use crate::load::{PATIENCE, options};
use serde_json::Value;
use std::collections::BTreeSet;
use tests::{Client, Cluster, Targets, equal_hashes, gaps, my_turn, now_ms, samples, wait_until};

/// Long enough for a few elections while a GET waits for its answer.
const INTERVAL_MS: i64 = 20_000;

fn config(targets: &Targets) -> String {
    format!(
        "global: {{scrape_interval: 20s, scrape_timeout: 20s}}\nscrape_configs:\n- job_name: held\n  \
         static_configs:\n  - targets: {}\n",
        targets.yaml_list()
    )
}

/// The targets (by number) that node `i` scrapes, each with its shard, asked of node `asked`.
fn scraped_by(
    cluster: &Cluster,
    targets: &Targets,
    asked: usize,
    i: usize,
) -> Result<Vec<(usize, u64)>, String> {
    let answer = cluster.client(asked).get("/api/v1/targets", &[])?.json();
    let active = answer["data"]["activeTargets"].as_array().cloned().unwrap_or_default();
    let found = active.iter().filter(|target| target["scrapedBy"] == format!("node-{i}").as_str());
    let number = |target: &Value| {
        let instance = target["labels"]["instance"].as_str()?;
        targets.addresses().iter().position(|address| address == instance)
    };
    Ok(found.filter_map(|target| Some((number(target)?, target["shard"].as_u64()?))).collect())
}

/// When the slots of a target have an outcome, in order, scraped or missed; and the last sample. Slots are far apart,
/// so a sample that came late is no other slot's.
fn outcomes(node: &Client, instance: &str, from: i64) -> Result<(Vec<i64>, i64), String> {
    let scraped = samples(node, &format!("up{{instance=\"{instance}\"}}"), from, now_ms())?;
    let last = *scraped.keys().next_back().ok_or("no sample yet")?;
    let first = *scraped.keys().next().ok_or("no sample yet")?;
    let millis = |seconds: &Value| (seconds.as_f64().unwrap_or(f64::NAN) * 1000.0).round() as i64;
    let missed = gaps(node, from)?;
    let missed = missed.iter().filter(|gap| gap["target"]["instance"] == instance).flat_map(|gap| {
        (millis(&gap["from"])..=millis(&gap["to"]))
            .step_by(usize::try_from(INTERVAL_MS).expect("a small number"))
    });
    let mut all: Vec<i64> =
        scraped.into_keys().chain(missed).filter(|at| (first..=last).contains(at)).collect();
    all.sort_unstable();
    Ok((all, last))
}

/// The terms of the shards that node `i` leads, asked of node `asked`.
fn led_by(cluster: &Cluster, asked: usize, i: usize) -> Result<Vec<(u64, u64)>, String> {
    let status = cluster.client(asked).status()?;
    let shards = status["shards"].as_array().cloned().unwrap_or_default();
    let led = shards.iter().filter(|shard| shard["leader"] == format!("node-{i}").as_str());
    Ok(led.filter_map(|shard| Some((shard["id"].as_u64()?, shard["term"].as_u64()?))).collect())
}

/// Stops a node's process until its shards have other leaders, and lets it go on.
fn depose(cluster: &Cluster, i: usize, asked: usize) {
    cluster.signal(i, libc::SIGSTOP);
    wait_until("its shards have other leaders", PATIENCE, || {
        let status = cluster.client(asked).status()?;
        let shards = status["shards"].as_array().cloned().unwrap_or_default();
        let other =
            |shard: &Value| !shard["leader"].is_null() && shard["leader"] != format!("node-{i}").as_str();
        if shards.iter().all(other) { Ok(()) } else { Err(status.to_string()) }
    });
    cluster.signal(i, libc::SIGCONT);
}

#[test]
fn a_slot_whose_leader_lost_and_regained_its_shard_during_the_get_is_there_once() {
    let _turn = my_turn();
    let targets = Targets::start(24);
    let began = now_ms();
    let cluster = Cluster::start(options(config(&targets), &[]));
    let leader = cluster.busiest(1);
    let others: Vec<usize> = cluster.nodes().filter(|i| *i != leader).collect();
    let mine = wait_until("the targets are shared out", PATIENCE, || {
        let mine = scraped_by(&cluster, &targets, leader, leader)?;
        let all = (0..targets.len()).all(|i| !targets.scrapes(i).is_empty());
        if all && mine.len() >= 2 { Ok(mine) } else { Err(format!("{mine:?}")) }
    });
    let before = led_by(&cluster, leader, leader).expect("terms");
    targets.hold_next(&mine.iter().map(|(target, _)| *target).collect::<Vec<_>>());
    wait_until("a GET of each of two targets is under way", PATIENCE, || {
        if targets.held().len() >= 2 { Ok(()) } else { Err(format!("{:?}", targets.held())) }
    });
    let held = targets.held();
    targets.hold_next(&[]);
    depose(&cluster, leader, others[0]);
    // Whoever led in between is deposed in turn, until one of those shards is led as before, in a later term.
    let mut turns = others.iter().cycle();
    let regained = wait_until("a shard is led again by who led it", PATIENCE, || {
        let other = *turns.next().expect("it is endless");
        depose(&cluster, other, leader);
        let led = led_by(&cluster, leader, leader)?;
        let again = |(shard, term): &&(u64, u64)| before.iter().any(|(s, t)| s == shard && t < term);
        let again: BTreeSet<u64> = led.iter().filter(again).map(|(shard, _)| *shard).collect();
        let regained = mine.iter().filter(|(target, shard)| held.contains(target) && again.contains(shard));
        let regained: Vec<usize> = regained.map(|(target, _)| *target).collect();
        if regained.is_empty() { Err(format!("{led:?}, before {before:?}")) } else { Ok(regained) }
    });
    targets.release();

    let released = now_ms();
    let node = cluster.client(leader);
    for target in held {
        let instance = &targets.addresses()[target];
        let outcomes = wait_until("it is scraped for two more slots", PATIENCE, || {
            let (outcomes, last) = outcomes(&node, instance, began)?;
            if last > released + INTERVAL_MS { Ok(outcomes) } else { Err(format!("{outcomes:?}")) }
        });
        // Each slot has one outcome, a sample or a record that it was missed: none twice, none without.
        let apart = |pair: &[i64]| (INTERVAL_MS / 2..INTERVAL_MS * 3 / 2).contains(&(pair[1] - pair[0]));
        let again = regained.contains(&target);
        assert!(outcomes.windows(2).all(apart), "{instance}, regained {again}: {outcomes:?}");
        // What the target served tells the GETs apart: none is there twice.
        let served = samples(&node, &format!("served_total{{instance=\"{instance}\"}}"), began, now_ms());
        let served: Vec<u64> = served.expect("samples").into_values().map(|value| value as u64).collect();
        assert!(served.windows(2).all(|pair| pair[0] < pair[1]), "{instance}: {served:?}");
    }
    wait_until("state hashes are equal", PATIENCE, || equal_hashes(&node));
}
