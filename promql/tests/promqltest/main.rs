//! Runs promqltest scripts, the language in which Prometheus states what PromQL does.
//!
//! `PROMQLTEST_DIR=FOLDER cargo test -p promql --test promqltest` runs every `*.test` of a folder; without the
//! variable, those of `../shared/prometheus/data/promqltest` and our own in `scripts`. Each failure is printed with file, line, what was
//! expected and what came; the last line counts. Every instant evaluation is also run in range mode and with its
//! selectors pinned by `@`, as Prometheus's runner does it.

#![allow(clippy::print_stdout, reason = "it is a program that reports")]

mod histogram;
mod judge;
mod run;
mod script;
mod sequence;
mod store;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

/// Scripts that do not pass yet. One that begins to pass must leave the list.
const NOT_YET: &[&str] = &[];

/// Prometheus's own scripts.
const CORPUS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/prometheus/data/promqltest");
/// What was found wrong once, and what no other script asks.
const OURS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/promqltest/scripts");

fn scripts_in(folder: &str) -> std::io::Result<Vec<PathBuf>> {
    let mut scripts: Vec<_> =
        std::fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>()?;
    scripts.retain(|path| path.extension().is_some_and(|extension| extension == "test"));
    scripts.sort();
    Ok(scripts)
}

fn main() -> ExitCode {
    let asked = std::env::var("PROMQLTEST_DIR").ok();
    let mut folders = asked.as_deref().map_or_else(|| vec![CORPUS, OURS], |folder| vec![folder]);
    if asked.is_none() && !Path::new(CORPUS).is_dir() {
        println!(
            "promqltest: SKIPPED Prometheus's scripts, there is no folder {CORPUS}; name one by PROMQLTEST_DIR"
        );
        folders.retain(|folder| *folder != CORPUS);
    }
    let mut scripts = Vec::new();
    for folder in &folders {
        match scripts_in(folder) {
            Ok(found) => scripts.extend(found),
            Err(error) => {
                println!("promqltest: cannot read {folder}: {error}");
                return ExitCode::FAILURE;
            }
        }
    }
    let only = std::env::var("PROMQLTEST_ONLY").unwrap_or_default();
    scripts.retain(|path| path.to_string_lossy().contains(&only));
    let mut total = run::Counts::default();
    let mut red = 0;
    for path in &scripts {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let counts = run::run_file(path);
        println!("{name}: {} evals, {} passed, {} failed", counts.evals, counts.passed, counts.failed);
        let expected_red = NOT_YET.contains(&name.as_str());
        if counts.failed > 0 && !expected_red {
            red += 1;
        }
        if counts.failed == 0 && expected_red {
            println!("{name} passes now: take it off the list of scripts that do not pass yet");
            red += 1;
        }
        total.add(&counts);
    }
    println!(
        "promqltest: {} files, {} evals, {} passed, {} failed, {} scripts known not to pass yet",
        scripts.len(),
        total.evals,
        total.passed,
        total.failed,
        NOT_YET.len()
    );
    if total.evals == 0 {
        println!("promqltest: nothing to run in {folders:?}");
        return ExitCode::FAILURE;
    }
    if red == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
