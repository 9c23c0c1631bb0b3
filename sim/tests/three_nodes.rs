//! Three whole nodes on fakes for everything outside: files, stores, sockets, threads, time and randomness.

use sim::{
    faults::Fault,
    point_names::POINTS,
    scenario::{Load, Plan, Scripted, find},
    world::{self, Report},
};
use std::{collections::BTreeSet, fs, path::Path, time::Duration};

fn plan(seed: u64, seconds: u64, script: Vec<Scripted>) -> Plan {
    let calm = Plan::new(find("calm").expect("there is a calm world"), seed);
    let load = Load { shards: 1, ..calm.load };
    Plan { load, chaos: Duration::from_secs(seconds), script, ..calm }
}

fn lives(plan: &Plan) -> Report {
    match world::run(plan) {
        Ok(report) => report,
        Err(broken) => panic!("{}; {}", broken.0, plan.line()),
    }
}

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Forms, is written to and read, scrapes targets; a node loses power with what it had not synced, the others go on,
/// it returns with its disk; at the end every node shows every acknowledged sample and the hashes are equal: the
/// world judges all of it, slot by slot.
#[test]
fn a_node_that_loses_power_comes_back_and_nothing_is_lost() {
    let power = Scripted { at: seconds(5), fault: Fault::Power, machine: 1, lasts: seconds(6) };
    let report = lives(&plan(3, 20, vec![power]));
    assert_eq!(report.faults.get("power"), Some(&1));
    assert!(report.work.acknowledged > 100, "{report:?}");
    assert!(report.work.answers > 5, "{report:?}");
    assert!(report.work.scrapes > 20, "{report:?}");
    assert!(report.hashes > 100, "replicas were compared: {report:?}");
}

/// A virtual machine's snapshot is restored: the node comes back without entries that it had acknowledged, and may
/// have forgotten its vote. Its leader knows better; the node fences itself, and an operator replaces it.
#[test]
fn a_node_with_an_old_disk_fences_itself_and_is_replaced() {
    let image = Scripted { at: seconds(5), fault: Fault::OldImage, machine: 1, lasts: Duration::ZERO };
    let report = lives(&plan(3, 25, vec![image]));
    assert!(report.sometimes.contains_key("a node whose log went backwards fenced itself"), "{report:?}");
    assert!(report.sometimes.contains_key("a node was replaced"), "{report:?}");
}

/// Nodes of another cluster, and a second node under a name that is taken, are turned away and change nothing.
#[test]
fn strangers_are_turned_away() {
    let stranger =
        |at| Scripted { at: seconds(at), fault: Fault::Stranger, machine: 2, lasts: Duration::ZERO };
    let report =
        lives(&plan(4, 40, vec![stranger(2), stranger(10), stranger(18), stranger(26), stranger(34)]));
    assert!(report.sometimes.contains_key("a stranger was turned away"), "{report:?}");
    assert!(!report.sometimes.contains_key("a node was replaced"), "{report:?}");
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
