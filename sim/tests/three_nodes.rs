//! Three whole nodes on fakes for everything outside: files, stores, sockets, threads, time and randomness.

use sim::{
    faults::Fault,
    point_names::POINTS,
    scenario::{Plan, Scripted, find},
    world,
};
use std::{collections::BTreeSet, fs, path::Path, time::Duration};

fn plan(seed: u64, seconds: u64, script: Vec<Scripted>) -> Plan {
    let scenario = find("calm").expect("there is a calm world");
    Plan {
        seed,
        scenario,
        chaos: Duration::from_secs(seconds),
        without: Vec::new(),
        script,
        planted: String::new(),
        print: false,
    }
}

/// Forms, is written to and read, scrapes targets; a node loses power with what it had not synced, the others go on,
/// it returns with its disk; at the end every node shows every acknowledged sample and the hashes are equal: the
/// world judges all of it, slot by slot.
#[test]
fn a_node_that_loses_power_comes_back_and_nothing_is_lost() {
    let seconds = Duration::from_secs;
    let power = Scripted { at: seconds(5), fault: Fault::Power, machine: 1, lasts: seconds(6) };
    let report = match world::run(&plan(3, 20, vec![power])) {
        Ok(report) => report,
        Err(broken) => panic!("{}", broken.0),
    };
    assert_eq!(report.faults.get("power"), Some(&1));
    assert!(report.work.acknowledged > 100, "{report:?}");
    assert!(report.work.answers > 5, "{report:?}");
    assert!(report.work.scrapes > 20, "{report:?}");
    assert!(report.hashes > 100, "replicas were compared: {report:?}");
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
