//! The command line of the simulator. Each seed is a process of its own: libraries keep state per process.

mod run;
mod shrink;

use clap::Parser;
use run::Batch;
use sim::{
    faults::Fault,
    scenario::{Plan, SCENARIOS, Scenario, find},
};
use std::{process::ExitCode, time::Duration};

/// Runs whole nodes in a simulated world, driven by one seed, and judges what they do.
#[derive(Debug, Parser)]
#[command(name = "sim", max_term_width = 110)]
struct Args {
    /// One world.
    #[arg(long, conflicts_with = "seeds")]
    seed: Option<u64>,
    /// Many worlds, A..B; B is not among them.
    #[arg(long, value_name = "A..B", value_parser = range)]
    seeds: Option<(u64, u64)>,
    /// How many run at once.
    #[arg(long, default_value_t = 1)]
    jobs: usize,
    /// How many steps of a millisecond faults go on; the scenario says it otherwise.
    #[arg(long)]
    steps: Option<u64>,
    /// The kind of world; `list` shows all.
    #[arg(long, default_value = SCENARIOS[0].name)]
    scenario: String,
    /// Faults to leave out, comma-separated.
    #[arg(long, value_delimiter = ',', value_parser = fault)]
    without: Vec<Fault>,
    /// Print everything that happens.
    #[arg(long)]
    trace: bool,
    /// Stop at the first seed that fails.
    #[arg(long)]
    until_failure: bool,
    /// Begin no further seed after this time, as 30s, 5m or 8h.
    #[arg(long, value_parser = span)]
    time_budget: Option<Duration>,
    /// Look for a smaller world that fails in the same way.
    #[arg(long, requires = "seed")]
    shrink: bool,
    /// Fail if a named point of the code or a kind of fault was not reached by any seed.
    #[arg(long)]
    require_coverage: bool,
    /// Wake a planted bug; see `scripts/mutants`.
    #[arg(long, default_value = "")]
    planted: String,
    /// Print the report as JSON: for the process that started this one.
    #[arg(long, hide = true)]
    json: bool,
}

fn range(text: &str) -> Result<(u64, u64), String> {
    let (from, to) = text.split_once("..").ok_or("give A..B")?;
    let number = |text: &str| text.parse::<u64>().map_err(|error| error.to_string());
    let (from, to) = (number(from)?, number(to)?);
    if from < to { Ok((from, to)) } else { Err("A must be less than B".to_owned()) }
}

fn fault(name: &str) -> Result<Fault, String> {
    let names = || Fault::ALL.iter().map(|fault| fault.name()).collect::<Vec<_>>().join(", ");
    Fault::ALL.iter().find(|fault| fault.name() == name).copied().ok_or_else(|| format!("one of {}", names()))
}

fn span(text: &str) -> Result<Duration, String> {
    let (number, unit) = text.split_at(text.len().saturating_sub(1));
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return Err("give 30s, 5m or 8h".to_owned()),
    };
    number.parse::<u64>().map(|n| Duration::from_secs(n * seconds)).map_err(|error| error.to_string())
}

impl Args {
    fn plan(&self, scenario: &'static Scenario, seed: u64) -> Plan {
        let chaos = self.steps.map_or(Duration::from_secs(scenario.seconds), Duration::from_millis);
        let (without, planted) = (self.without.clone(), self.planted.clone());
        Plan { seed, scenario, chaos, without, script: Vec::new(), planted, print: self.trace }
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    let Some(scenario) = find(&args.scenario) else {
        for scenario in SCENARIOS {
            println!("{:<10} {}", scenario.name, scenario.about);
        }
        return if args.scenario == "list" { ExitCode::SUCCESS } else { ExitCode::from(2) };
    };
    match (args.seed, args.seeds) {
        (Some(seed), _) if args.shrink => shrink::run(&args.plan(scenario, seed)),
        (Some(seed), _) => run::one(&args.plan(scenario, seed), args.json),
        (None, seeds) => {
            let (from, to) = seeds.unwrap_or((0, 10));
            let batch = Batch {
                from,
                to,
                jobs: args.jobs.max(1),
                until_failure: args.until_failure,
                budget: args.time_budget,
                require_coverage: args.require_coverage,
            };
            run::many(&args.plan(scenario, 0), &batch)
        }
    }
}
