//! Three whole nodes on fakes for everything outside: files, stores, sockets, threads, time and randomness.

use screenplay::{Load, Script};
use sim::{
    point_names::POINTS,
    scenario::{Plan, find},
    world::{self, Report},
};
use std::{collections::BTreeSet, fs, path::Path, time::Duration};

fn plan(seed: u64, seconds: u64, script: &str) -> Plan {
    let calm = Plan::new(find("calm").expect("there is a calm world"), seed);
    let load = Load { shards: 1, ..calm.load };
    let Script { load: Load { nodes, .. }, events: script, .. } = script.parse().expect("a right script");
    Plan { load: Load { nodes, ..load }, chaos: Duration::from_secs(seconds), script, ..calm }
}

fn lives(plan: &Plan) -> Report {
    match world::run(plan) {
        Ok(report) => report,
        Err(broken) => panic!("{}\n{}; {}", broken.1.story.join("\n"), broken.0, plan.line()),
    }
}

/// Forms, is written to and read, scrapes targets; a node loses power with what it had not synced, the others go on,
/// it returns with its disk; at the end every node shows every acknowledged sample and the hashes are equal: the
/// world judges all of it, slot by slot.
#[test]
fn a_node_that_loses_power_comes_back_and_nothing_is_lost() {
    let report = lives(&plan(3, 20, "at 5s power node-2 for 6s"));
    assert_eq!(report.faults.get("power"), Some(&1));
    assert!(report.work.acknowledged > 100, "{report:?}");
    assert!(report.work.answers > 5, "{report:?}");
    assert!(report.work.scrapes > 20, "{report:?}");
    assert!(report.hashes > 100, "replicas were compared: {report:?}");
}

/// Five nodes go on without two of them: each shard finds a leader among the others, which take what is written.
#[test]
fn five_nodes_survive_two() {
    let usual = plan(1, 40, "nodes 5\nat 2s kill node-2 for 38s\nat 2s power node-5 for 38s");
    let report = lives(&usual);
    assert_eq!((report.faults.get("kill"), report.faults.get("power")), (Some(&1), Some(&1)), "{report:?}");
    assert!(report.work.acknowledged > 200, "{report:?}");
    assert!(report.terms > 2, "leaders died with them: {report:?}");
}

/// Found by reading: a disk that hangs neither fails nor is full, and heartbeats need none, so its node kept what it
/// led: a checkpoint stopped apply, and every scrape was missed until somebody killed it. Whoever leads is among the
/// three. It hands over within two seconds, and ends after twenty, as often as it is started meanwhile.
#[test]
fn a_node_whose_disk_hangs_hands_over_and_ends_and_no_slot_is_missed_for_longer_than_an_election() {
    for node in 1..=3 {
        let usual = plan(7, 75, &format!("at 5s stall node-{node} for 60s"));
        let report = lives(&usual);
        assert_eq!(report.faults.get("stall"), Some(&1), "{report:?}");
        assert!(report.sometimes.contains_key("a node whose disk hung ended itself"), "{report:?}");
        let once_a_target = usual.load.targets as u64;
        assert!(report.missed <= once_a_target, "{} slots were missed: {report:?}", report.missed);
        assert!(report.work.acknowledged > 200, "{report:?}");
    }
}

/// A virtual machine's snapshot is restored: the node comes back without entries that it had acknowledged, and may
/// have forgotten its vote. Its leader knows better; the node fences itself, and an operator replaces it.
#[test]
fn a_node_with_an_old_disk_fences_itself_and_is_replaced() {
    let report = lives(&plan(3, 25, "at 5s old-image node-2 for 5s"));
    assert!(report.sometimes.contains_key("a node whose log went backwards fenced itself"), "{report:?}");
    assert!(report.sometimes.contains_key("a node was replaced"), "{report:?}");
}

/// Found by chance (wipe, seed 23): a node that was stopped in order while the cluster had not taken it yet left
/// something that only members have, and did not start again.
#[test]
fn a_newcomer_that_is_stopped_before_the_cluster_has_taken_it_starts_again() {
    let report = lives(&plan(3, 30, "at 5s wipe node-2\nat 10s restart node-2"));
    assert_eq!(report.faults.get("restart"), Some(&1), "it ran: {report:?}");
    assert!(report.sometimes.contains_key("a node was replaced"), "{report:?}");
}

/// Nodes of another cluster, and a second node under a name that is taken, are turned away and change nothing.
#[test]
fn strangers_are_turned_away() {
    let visits = [2, 10, 18, 26, 34].map(|at| format!("at {at}s stranger node-3 for 4s")).join("\n");
    let report = lives(&plan(4, 40, &visits));
    assert!(report.sometimes.contains_key("a stranger was turned away"), "{report:?}");
    assert!(!report.sometimes.contains_key("a node was replaced"), "{report:?}");
}

/// Found by chance (chaos, seed 100083): after a power loss of all, nodes that had been up for a second took a machine
/// that was not up again yet for silent for long enough, and gave its name to a newcomer.
#[test]
fn nodes_that_have_just_started_give_nobody_the_name_of_one_that_they_have_not_heard_yet() {
    let script = "at 3s power node-1 for 600ms\nat 3s power node-2 for 5s\nat 3s power node-3 for 600ms\n\
                  at 3.5s stranger node-2 for 5s";
    for seed in 0..6 {
        lives(&plan(seed, 12, script));
    }
}

fn points_in(dir: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(dir).expect("sources are there") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            points_in(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).expect("UTF-8");
            let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
            for line in code {
                if let Some((_, rest)) = line.split_once("point!(\"") {
                    found.extend(rest.split('"').next().map(str::to_owned));
                }
            }
        }
    }
}

#[test]
fn the_list_of_points_is_that_of_the_sources() {
    let mut found = BTreeSet::new();
    for krate in ["model", "storage", "raft", "node"] {
        points_in(&Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(krate).join("src"), &mut found);
    }
    let listed: BTreeSet<String> = POINTS.iter().map(|point| (*point).to_owned()).collect();
    assert_eq!(found, listed);
    assert!(listed.len() >= 40);
}
