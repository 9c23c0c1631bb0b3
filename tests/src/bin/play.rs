//! `scripts/soak --script FILE`: plays a script with real processes. Exit status 0: everything held. 1: a promise was
//! broken. 2: the script is wrong, or this machine cannot play it.

use clap::Parser;
use screenplay::Script;
use std::{fs, path::PathBuf, process::ExitCode};
use tempfile::TempDir;
use tests::{NotPlayed, play, vestal_binary};

/// Plays scripts with real processes in network namespaces, and judges what they do. Needs root.
#[derive(Debug, Parser)]
struct Args {
    /// The scripts; `docs/simulation.md` has the language.
    #[arg(required = true)]
    script: Vec<PathBuf>,
    /// The built binary.
    #[arg(long)]
    vestal: Option<PathBuf>,
}

fn main() -> anyhow::Result<ExitCode> {
    let args = Args::parse();
    let vestal = args.vestal.unwrap_or_else(vestal_binary);
    let mut broken = false;
    for path in &args.script {
        let text = fs::read_to_string(path).map_err(|error| anyhow::anyhow!("{}: {error}", path.display()));
        let script = match text.and_then(|text| {
            text.parse::<Script>().map_err(|error| anyhow::anyhow!("{}:{error}", path.display()))
        }) {
            Ok(script) => script,
            Err(error) => {
                eprintln!("{error}");
                return Ok(ExitCode::from(2));
            }
        };
        println!("{}: {} events, {:?}", path.display(), script.events.len(), script.lasts);
        let dir = TempDir::with_prefix("vestal-play-")?;
        match play(&script, &vestal.canonicalize()?, dir.path(), &|line| println!("  {line}")) {
            Ok(played) => println!(
                "  held: {} events, {} acknowledged samples on every node, {} fresh answers and {} refused, {} slots and {} recorded as missed",
                played.injected.len(),
                played.acknowledged,
                played.answers.0,
                played.answers.1,
                played.slots.0,
                played.slots.1
            ),
            Err(NotPlayed::Impossible(why)) => {
                eprintln!("SKIPPED: {why}");
                return Ok(ExitCode::from(2));
            }
            Err(NotPlayed::Broken(promises)) => {
                promises.iter().for_each(|promise| println!("  BROKEN {promise}"));
                println!("  the nodes' logs are in {}", dir.keep().display());
                broken = true;
            }
        }
    }
    Ok(if broken { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
