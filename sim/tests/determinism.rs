//! The same seed twice, in two processes: the same trace, byte for byte.

use std::process::Command;

fn trace(seed: u64) -> Vec<u8> {
    let seed = seed.to_string();
    let mut command = Command::new(env!("CARGO_BIN_EXE_sim"));
    command.args(["--trace", "--scenario", "chaos", "--steps", "15000", "--seed", &seed]);
    let output = command.output().expect("the simulator starts");
    assert!(output.stdout.len() > 10_000, "a trace was printed: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    for seed in [1, 2, 3] {
        let (first, second) = (trace(seed), trace(seed));
        let lines = first.split(|byte| *byte == b'\n').zip(second.split(|byte| *byte == b'\n'));
        if let Some((at, (a, b))) = lines.enumerate().find(|(_, (a, b))| a != b) {
            panic!("seed {seed}, line {at}:\n{}\n{}", String::from_utf8_lossy(a), String::from_utf8_lossy(b));
        }
        assert_eq!(first.len(), second.len());
    }
}

#[test]
fn other_seeds_give_other_traces() {
    assert_ne!(trace(1), trace(2));
}
