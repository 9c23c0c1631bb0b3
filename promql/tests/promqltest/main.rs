//! Runs promqltest scripts, the language in which Prometheus states what PromQL does.
//!
//! `PROMQLTEST_DIR=FOLDER cargo test -p promql --test promqltest` runs every `*.test` of a folder; without the
//! variable, those of `../shared/prometheus/data/promqltest`. Each failure is printed with file, line, what was
//! expected and what came; the last line counts. Every instant evaluation is also run in range mode and with its
//! selectors pinned by `@`, as Prometheus's runner does it.

#![allow(clippy::print_stdout, reason = "it is a program that reports")]

mod histogram;
mod judge;
mod run;
mod script;
mod sequence;
mod store;

use std::{path::Path, process::ExitCode};

/// Scripts that do not pass yet. One that begins to pass must leave the list.
const NOT_YET: &[&str] = &[];

fn main() -> ExitCode {
    let default = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/prometheus/data/promqltest");
    let asked = std::env::var("PROMQLTEST_DIR").ok();
    let folder = asked.as_deref().unwrap_or(default);
    if asked.is_none() && !Path::new(folder).is_dir() {
        println!(
            "promqltest: SKIPPED, there is no folder of scripts at {folder}; name one by PROMQLTEST_DIR"
        );
        return ExitCode::SUCCESS;
    }
    let mut scripts: Vec<_> = match std::fs::read_dir(folder) {
        Ok(entries) => entries.filter_map(|entry| Some(entry.ok()?.path())).collect(),
        Err(error) => {
            println!("promqltest: cannot read {folder}: {error}");
            return ExitCode::FAILURE;
        }
    };
    scripts.retain(|path| path.extension().is_some_and(|extension| extension == "test"));
    scripts.sort();
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
        println!("promqltest: nothing to run in {folder}");
        return ExitCode::FAILURE;
    }
    if red == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
