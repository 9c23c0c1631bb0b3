//! The command line of the simulator. Each seed is a process of its own: libraries keep state per process.

mod run;
mod shrink;
mod sums;

use clap::Parser;
use run::Batch;
use screenplay::{Fault, Load, NODES, NODES_MAX, Script};
use sim::scenario::{MIXED, Plan, SCENARIOS, Scenario, find, of_seed};
use std::{path::PathBuf, process::ExitCode, time::Duration};

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
    #[arg(long, default_value_t = 1, conflicts_with = "seed")]
    jobs: usize,
    /// How many steps of a millisecond faults go on; the scenario says it otherwise.
    #[arg(long)]
    steps: Option<u64>,
    /// The kind of world; `list` shows all, `mix` gives each seed one of them.
    #[arg(long, default_value = SCENARIOS[0].name)]
    scenario: String,
    /// A world that a script describes, with nothing left to chance but what the script leaves open.
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with_all = ["scenario", "steps", "nodes", "shards", "targets", "writers", "readers", "without", "skip", "shrink"]
    )]
    script: Option<PathBuf>,
    /// Print what went wrong in this world as a script, as far as one can say it, and nothing else.
    #[arg(long, requires = "seed", conflicts_with_all = ["trace", "shrink"])]
    print_script: bool,
    /// Kinds of faults to leave out, comma-separated.
    #[arg(long, value_delimiter = ',', value_parser = fault)]
    without: Vec<Fault>,
    /// Single faults to leave out, by their numbers in the trace, comma-separated.
    #[arg(long, value_delimiter = ',')]
    skip: Vec<u64>,
    /// Nodes; each hosts every shard.
    #[arg(long, default_value_t = NODES, value_parser = nodes)]
    nodes: usize,
    /// Data shards, if not the scenario's.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=64))]
    shards: Option<u32>,
    /// Scripted targets, if not the scenario's.
    #[arg(long)]
    targets: Option<usize>,
    /// Remote writers, if not the scenario's.
    #[arg(long)]
    writers: Option<usize>,
    /// Readers, if not the scenario's.
    #[arg(long)]
    readers: Option<usize>,
    /// Print everything that happens.
    #[arg(long)]
    trace: bool,
    /// Stop at the first seed that fails.
    #[arg(long, conflicts_with = "seed")]
    until_failure: bool,
    /// Begin no further seed after this time, as 30s, 5m or 8h.
    #[arg(long, value_parser = span, conflicts_with = "seed")]
    time_budget: Option<Duration>,
    /// Fail if the time budget ended before so many seeds had run.
    #[arg(long, default_value_t = 0, requires = "time_budget", conflicts_with = "seed")]
    at_least: u64,
    /// Look for a smaller world that fails in the same way: fewer faults, less time, less load.
    #[arg(long, requires = "seed")]
    shrink: bool,
    /// Fail if a kind of fault, a named point of the code or a path that must be taken was not reached by any seed.
    /// Meant for mix; of another scenario only its faults are demanded.
    #[arg(long, conflicts_with = "seed")]
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

fn nodes(text: &str) -> Result<usize, String> {
    let number = text.parse().ok().filter(|number| (NODES..=NODES_MAX).contains(number));
    number.ok_or_else(|| format!("give {NODES} to {NODES_MAX}"))
}

fn fault(name: &str) -> Result<Fault, String> {
    let names = || Fault::ALL.iter().map(|fault| fault.name()).collect::<Vec<_>>().join(", ");
    Fault::find(name).ok_or_else(|| format!("one of {}", names()))
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
        let usual = Plan::new(scenario, seed);
        let load = Load {
            nodes: self.nodes,
            shards: self.shards.unwrap_or(usual.load.shards),
            targets: self.targets.unwrap_or(usual.load.targets),
            writers: self.writers.unwrap_or(usual.load.writers),
            readers: self.readers.unwrap_or(usual.load.readers),
        };
        Plan {
            load,
            chaos: self.steps.map_or(usual.chaos, Duration::from_millis),
            without: self.without.clone(),
            skip: self.skip.clone(),
            planted: self.planted.clone(),
            print: self.trace,
            ..usual
        }
    }
}

/// The world that a script describes.
fn script(args: &Args, file: &std::path::Path) -> Result<Plan, String> {
    let shown = file.display();
    let text = std::fs::read_to_string(file).map_err(|error| format!("{shown}: {error}"))?;
    let script = text.parse::<Script>().map_err(|error| format!("{shown}:{error}"))?;
    let plan = Plan::scripted(script, shown.to_string(), args.seed.unwrap_or(0));
    Ok(Plan { planted: args.planted.clone(), print: args.trace, ..plan })
}

fn main() -> ExitCode {
    let args = Args::parse();
    if let Some(file) = &args.script {
        return match script(&args, file) {
            Ok(plan) => run(&args, &plan, &|seed| Plan { seed, ..plan.clone() }, false),
            Err(error) => {
                eprintln!("{error}");
                ExitCode::from(2)
            }
        };
    }
    let mixed = args.scenario == MIXED;
    let scenario = match (mixed, args.seed) {
        (true, Some(seed)) => Some(of_seed(seed)),
        (true, None) => SCENARIOS.first(),
        _ => find(&args.scenario),
    };
    let Some(scenario) = scenario else {
        let known = args.scenario == "list";
        if !known {
            eprintln!("there is no scenario {:?}; these are:", args.scenario);
        }
        for scenario in SCENARIOS {
            println!("{:<10} {}", scenario.name, scenario.about);
        }
        println!("{MIXED:<10} all of them but calm, each seed its own; more than half are chaos");
        return if known { ExitCode::SUCCESS } else { ExitCode::from(2) };
    };
    let plan = args.plan(scenario, args.seed.unwrap_or(0));
    run(&args, &plan, &|seed| args.plan(if mixed { of_seed(seed) } else { scenario }, seed), mixed)
}

/// Runs the world of `plan`, or many, each by the plan of its seed.
fn run(args: &Args, plan: &Plan, plan_of: &(dyn Fn(u64) -> Plan + Sync), mixed: bool) -> ExitCode {
    match (args.seed, args.seeds) {
        (Some(_), _) if args.shrink => shrink::run(plan),
        (Some(_), _) if args.print_script => run::script_of(plan),
        (Some(_), _) => run::one(plan, args.json),
        (None, seeds) => {
            let (from, to) = seeds.unwrap_or((0, 10));
            let batch = Batch {
                from,
                to,
                jobs: args.jobs.max(1),
                until_failure: args.until_failure,
                budget: args.time_budget,
                at_least: args.at_least,
                require_coverage: args.require_coverage,
                mixed,
            };
            run::many(plan, plan_of, &batch)
        }
    }
}
