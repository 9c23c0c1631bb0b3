//! `vestal check`: reads everything stored and says what is damaged. The node must not be running.

use crate::outside::SystemFs;
use anyhow::Context;
use clap::Args;
use model::{Fs, StateMachine};
use raft::meta::Meta;
use std::{
    fs::{File, TryLockError},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};
use storage::{
    kv::{RocksEngine, RocksOptions},
    log,
};

#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// A node's data directory (`--storage.tsdb.path`).
    dir: PathBuf,
}

pub(crate) fn run(args: &CheckArgs) -> anyhow::Result<ExitCode> {
    let dir = &args.dir;
    anyhow::ensure!(dir.join("log").is_dir(), "{}: not a data directory: it has no log", dir.display());
    let _held_until_the_end = lock(dir)?;
    let fs: Arc<dyn Fs> = Arc::new(SystemFs);
    let mut damaged = false;

    let report = log::verify(&*fs, &dir.join("log")).context("log")?;
    for segment in &report.segments {
        if let Some(damage) = &segment.damage {
            println!("log: {segment:?}: {damage:?}");
        }
    }
    damaged |= !report.is_healthy();
    println!("log: {} segments, {}", report.segments.len(), verdict(report.is_healthy()));

    match Meta::open(fs, &dir.join("meta")) {
        Ok(meta) => println!(
            "meta: configuration version {}, {:?}, good",
            meta.state().config_version(),
            meta.applied().log_id
        ),
        Err(error) => {
            damaged = true;
            println!("meta: {error}");
        }
    }
    let engine = RocksEngine::new(RocksOptions::default());
    let mut shards: Vec<_> = std::fs::read_dir(dir)?
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("shard-")))
        .collect();
    shards.sort();
    for shard in shards {
        let name = shard.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        match storage::shard::check(&shard, &engine) {
            Ok(report) => {
                damaged |= !report.is_sound();
                for problem in &report.problems {
                    println!("{name}: {problem}");
                }
                if report.hash_recorded != report.hash_computed {
                    let (recorded, computed) = (report.hash_recorded, report.hash_computed);
                    println!(
                        "{name}: state hash {recorded:032x} was recorded, what is stored has {computed:032x}"
                    );
                }
                let index = report.applied.log_id.map_or(0, |id| id.index.0);
                let (series, chunks, samples) = (report.series, report.chunks, report.samples);
                let verdict = verdict(report.is_sound());
                println!(
                    "{name}: index {index}, {series} series, {chunks} chunks, {samples} samples, {verdict}"
                );
            }
            Err(error) => {
                damaged = true;
                println!("{name}: {error}");
            }
        }
    }
    Ok(ExitCode::from(u8::from(damaged)))
}

/// Keeps nodes away from the directory: what one writes meanwhile would look like damage.
fn lock(dir: &Path) -> anyhow::Result<Option<File>> {
    let Ok(file) = File::open(dir.join("lock")) else { return Ok(None) }; // no node has ever been here
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => anyhow::bail!("{}: a node runs on it; stop it first", dir.display()),
        _ => Ok(Some(file)),
    }
}

fn verdict(healthy: bool) -> &'static str {
    if healthy { "good" } else { "DAMAGED" }
}
