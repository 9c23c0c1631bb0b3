//! The same seed twice gives the same trace, byte for byte, debug lines included: in every scenario, from other folders
//! and in another environment. Without it no other seed would mean anything.

use sim::scenario::SCENARIOS;
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

fn command(program: &Path, scenario: &str, seed: u64, steps: u64) -> Command {
    let mut command = Command::new(program);
    command.args(["--trace", "--scenario", scenario]);
    command.args(["--steps", &steps.to_string(), "--seed", &seed.to_string()]);
    command
}

fn trace(mut command: Command) -> Vec<u8> {
    let output = command.output().expect("the simulator starts");
    assert!(output.stdout.len() > 3000, "a trace was printed: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

fn assert_equal(first: &[u8], second: &[u8], what: &str) {
    let lines = first.split(|byte| *byte == b'\n').zip(second.split(|byte| *byte == b'\n'));
    if let Some((at, (a, b))) = lines.enumerate().find(|(_, (a, b))| a != b) {
        panic!("{what}, line {at}:\n{}\n{}", String::from_utf8_lossy(a), String::from_utf8_lossy(b));
    }
    assert_eq!(first.len(), second.len(), "{what}");
}

fn program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_sim"))
}

#[test]
fn the_same_seed_gives_the_same_trace_in_every_scenario() {
    for scenario in SCENARIOS {
        for seed in [1, 2] {
            let run = || trace(command(program(), scenario.name, seed, 15_000));
            let first = run();
            assert!(first.windows(7).any(|seven| seven == b" DEBUG "), "debug lines are in it");
            assert_equal(&first, &run(), &format!("{} {seed}", scenario.name));
        }
    }
}

#[test]
fn the_trace_depends_neither_on_the_folder_nor_on_the_environment() {
    let elsewhere: PathBuf = std::env::temp_dir().join(format!("vestal-sim-{}", std::process::id()));
    fs::create_dir_all(&elsewhere).expect("a temporary folder");
    let copy = elsewhere.join("another-name");
    fs::copy(program(), &copy).expect("the program is copied");
    let here = trace(command(program(), "chaos", 3, 20_000));
    let mut there = command(&copy, "chaos", 3, 20_000);
    there.env_clear().current_dir(&elsewhere);
    there.envs([("HOME", "/nowhere"), ("TZ", "Asia/Tokyo"), ("LANG", "de_DE.UTF-8"), ("RUST_LOG", "trace")]);
    there.envs((0..50).map(|number| (format!("FILLER_{number}"), "x".repeat(number))));
    let there = trace(there);
    fs::remove_dir_all(&elsewhere).expect("the temporary folder is removed");
    assert_equal(&here, &there, "another folder and environment");
}

#[test]
fn other_seeds_give_other_traces() {
    let run = |seed| trace(command(program(), "crash", seed, 5000));
    assert_ne!(run(1), run(2));
}
