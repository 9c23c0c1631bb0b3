//! The planted bugs of `sim/mutants`: that they can be planted in the tree as it is.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn patches() -> Vec<PathBuf> {
    let entries = fs::read_dir(root().join("sim/mutants")).expect("the patches are there");
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    paths
}

/// `scripts/mutants` plants all of them in one copy. Whoever changes code that one of them changes makes it anew.
#[test]
fn all_planted_bugs_apply_together() {
    let mut command = Command::new("git");
    command.current_dir(root()).args(["apply", "--check"]).args(patches().iter().map(|path| {
        let name = path.file_name().expect("a patch has a name");
        Path::new("sim/mutants").join(name)
    }));
    let output = match command.output() {
        Ok(output) => output,
        Err(error) => {
            println!("SKIPPED: git does not run: {error}");
            return;
        }
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// A patch whose bug nothing wakes would count as found by none, for ever.
#[test]
fn each_planted_bug_is_woken_by_its_name_and_stands_in_the_table() {
    let table = fs::read_to_string(root().join("docs/testing.md")).expect("docs are there");
    for path in patches() {
        let name = path.file_stem().and_then(|stem| stem.to_str()).expect("UTF-8").to_owned();
        let patch = fs::read_to_string(&path).expect("UTF-8");
        assert!(patch.contains(&format!("points::planted(\"{name}\")")), "{name} wakes by another name");
        assert!(table.contains(&format!("\n| {name} |")), "{name} is not in docs/testing.md");
    }
    assert!(patches().len() >= 20);
}
