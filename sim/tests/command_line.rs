//! What the command line refuses, and what its exit status says.

use std::process::{Command, Output};

fn sim(arguments: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sim"));
    command.args(arguments.split_whitespace()).output().expect("sim runs")
}

#[test]
fn what_is_for_many_seeds_is_refused_with_one() {
    for flags in [
        "--jobs 2",
        "--until-failure",
        "--time-budget 1m",
        "--time-budget 1m --at-least 3",
        "--require-coverage",
    ] {
        let output = sim(&format!("--scenario calm --steps 1 --seed 1 {flags}"));
        assert_eq!(output.status.code(), Some(2), "{flags}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("cannot be used with"), "{flags}");
    }
}

#[test]
fn a_planted_bug_that_no_code_asks_for_is_wrong_use() {
    for seeds in ["--seed 1", "--seeds 1..2"] {
        let output = sim(&format!("--scenario calm --steps 1 {seeds} --planted no-such-bug"));
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{seeds}: {error}");
        assert!(error.contains("no code asked for the planted bug \"no-such-bug\""), "{error}");
    }
}
