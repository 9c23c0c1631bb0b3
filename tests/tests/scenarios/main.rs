//! The scripts of `tests/scenarios`, played with real processes in network namespaces. `scripts/test` plays the short one,
//! `scripts/soak` all of them.

use std::{collections::BTreeSet, fs, path::PathBuf};
use tempfile::TempDir;
use tests::{NotPlayed, is_soak, my_turn, play, skipped, vestal_binary};

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("scenarios")
}

fn check_played(name: &str) {
    let _turn = my_turn();
    let text = fs::read_to_string(folder().join(name)).expect("the script is there");
    let script = text.parse().unwrap_or_else(|error| panic!("{name}:{error}"));
    let dir = TempDir::with_prefix("vestal-play-").expect("a folder");
    match play(&script, &vestal_binary(), dir.path(), &|line| println!("{line}")) {
        Ok(played) => {
            // A wipe is left out where the machine was too slow to repair what was before it.
            let never = played.left_out.iter().find(|text| !text.contains("wipe"));
            assert_eq!(never, None, "everything in these scripts is for real");
        }
        Err(NotPlayed::Impossible(why)) => skipped(&why),
        Err(NotPlayed::Broken(promises)) => {
            panic!("{name}: {promises:#?}\nthe nodes' logs are in {}", dir.keep().display())
        }
    }
}

fn check_played_in_the_long_run(name: &str) {
    if is_soak() { check_played(name) } else { skipped("only scripts/soak plays this") }
}

#[test]
fn every_promise_holds_through_a_little_of_everything() {
    check_played("short.script");
}

#[test]
fn every_promise_holds_while_links_fail_and_processes_hang() {
    check_played_in_the_long_run("network.script");
}

#[test]
fn every_promise_holds_while_disks_are_slow_full_broken_and_gone() {
    check_played_in_the_long_run("disk.script");
}

#[test]
fn every_promise_holds_while_clocks_jump_and_drift() {
    check_played_in_the_long_run("clock.script");
}

#[test]
fn every_promise_holds_while_nodes_die_one_by_one_and_all_at_once() {
    check_played_in_the_long_run("crash.script");
}

#[test]
fn every_script_of_the_folder_is_played() {
    let there = fs::read_dir(folder()).expect("the folder is there").flatten();
    let there: BTreeSet<_> = there.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    let played = ["short", "network", "disk", "clock", "crash"].map(|name| format!("{name}.script"));
    assert_eq!(there, BTreeSet::from(played));
}
