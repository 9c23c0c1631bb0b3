//! Scripts that real processes play hold in the simulator too, and what happens by chance is told as one.

use screenplay::Script;
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

fn sim(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sim")).args(arguments).output().expect("the simulator starts")
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn scenarios() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/scenarios");
    let entries =
        fs::read_dir(folder).expect("there are scripts").map(|entry| entry.expect("an entry").path());
    let mut paths: Vec<PathBuf> =
        entries.filter(|path| path.extension().is_some_and(|extension| extension == "script")).collect();
    paths.sort();
    paths
}

#[test]
fn every_script_holds_in_the_simulator() {
    assert!(scenarios().len() >= 5);
    for path in scenarios() {
        let path = path.to_str().expect("UTF-8");
        let output = sim(&["--script", path, "--seed", "7"]);
        assert!(output.status.success(), "{path}: {}", text(&output));
        let events = fs::read_to_string(path).expect("a script").parse::<Script>().expect("right").events;
        let counted = text(&output);
        for event in events {
            assert!(counted.contains(&format!("{} ", event.fault.name())), "{event} happened: {counted}");
        }
    }
}

#[test]
fn a_world_of_a_script_is_told_as_that_script() {
    let short = scenarios().into_iter().find(|path| path.ends_with("short.script")).expect("it is there");
    let written = fs::read_to_string(&short).expect("a script").parse::<Script>().expect("right");
    let told = sim(&["--script", short.to_str().expect("UTF-8"), "--seed", "7", "--print-script"]);
    let told: Script = text(&told).parse().expect("a script");
    assert_eq!(told.load, written.load);
    assert_eq!(told.lasts, written.lasts);
    let kinds =
        |script: &Script| script.events.iter().map(|e| (e.fault, e.node, e.lasts)).collect::<Vec<_>>();
    assert_eq!(kinds(&told), kinds(&written));
}

#[test]
fn what_happens_by_chance_is_told_as_a_script_and_holds_as_one() {
    let told = sim(&["--scenario", "crash", "--seed", "2", "--print-script"]);
    let script: Script = text(&told).parse().expect("a script");
    assert!(!script.events.is_empty(), "{}", text(&told));
    let file = std::env::temp_dir().join(format!("vestal-sim-{}.script", std::process::id()));
    fs::write(&file, &told.stdout).expect("a file is written");
    let played = sim(&["--script", file.to_str().expect("UTF-8"), "--seed", "2"]);
    fs::remove_file(&file).expect("it is there");
    assert!(played.status.success(), "{}", text(&played));
}

#[test]
fn a_wrong_script_is_refused_with_its_line() {
    let file = std::env::temp_dir().join(format!("vestal-sim-wrong-{}.script", std::process::id()));
    fs::write(&file, "lasts 9s\nat 5s pauze node-1 for 3s\n").expect("a file is written");
    let refused = sim(&["--script", file.to_str().expect("UTF-8"), "--seed", "2"]);
    fs::remove_file(&file).expect("it is there");
    assert_eq!(refused.status.code(), Some(2));
    assert!(text(&refused).contains(":2: ") && text(&refused).contains("pauze"), "{}", text(&refused));
}
