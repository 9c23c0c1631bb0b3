//! Runs one world in this process, or many in processes of their own, and adds up what they were like.
#![expect(clippy::disallowed_methods, reason = "the budget of a batch is real time")]

use serde_json::{Value, json};
use sim::{
    faults::Fault,
    point_names::POINTS,
    scenario::Plan,
    world::{self, Report},
};
use std::{
    collections::BTreeMap,
    process::{Command, ExitCode, Stdio},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// How many seeds to run, and when to stop.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) from: u64,
    pub(crate) to: u64,
    pub(crate) jobs: usize,
    pub(crate) until_failure: bool,
    pub(crate) budget: Option<Duration>,
    pub(crate) require_coverage: bool,
}

fn as_json(report: &Report) -> Value {
    json!({
        "simulated_ms": report.simulated.as_millis() as u64,
        "faults": report.faults,
        "points": report.points,
        "deaths": report.deaths,
        "acknowledged": report.work.acknowledged,
        "unacknowledged": report.work.unacknowledged,
        "answers": report.work.answers,
        "unanswered": report.work.unanswered,
        "compared": report.work.compared,
        "scrapes": report.work.scrapes,
        "terms": report.terms,
        "hashes": report.hashes,
        "bytes": report.net.bytes,
        "net_digest": format!("{:016x}", report.net.digest),
        "trace_lines": report.trace.0,
        "trace_digest": format!("{:016x}", report.trace.1),
    })
}

/// Sums of many reports.
#[derive(Debug, Default)]
struct Sums {
    numbers: BTreeMap<String, u64>,
    faults: BTreeMap<String, u64>,
    points: BTreeMap<String, u64>,
    deaths: BTreeMap<String, u64>,
}

impl Sums {
    fn add(&mut self, report: &Value) {
        let counts = |to: &mut BTreeMap<String, u64>, from: &Value| {
            for (name, count) in from.as_object().into_iter().flatten() {
                *to.entry(name.clone()).or_default() += count.as_u64().unwrap_or(0);
            }
        };
        counts(&mut self.faults, &report["faults"]);
        counts(&mut self.points, &report["points"]);
        counts(&mut self.deaths, &report["deaths"]);
        counts(&mut self.numbers, report);
    }

    fn number(&self, name: &str) -> u64 {
        self.numbers.get(name).copied().unwrap_or(0)
    }

    fn print(&self, seeds: u64, failed: u64, real: Duration) {
        let list = |counts: &BTreeMap<String, u64>| {
            counts.iter().map(|(name, count)| format!("{name} {count}")).collect::<Vec<_>>().join(", ")
        };
        let simulated = self.number("simulated_ms") as f64 / 1000.0;
        println!("faults: {}", list(&self.faults));
        println!("plug pulled at: {}", list(&self.deaths));
        let never: Vec<_> =
            POINTS.iter().filter(|point| !self.points.contains_key(**point)).copied().collect();
        println!(
            "named points reached: {} of {}; never: {never:?}",
            POINTS.len() - never.len(),
            POINTS.len()
        );
        println!(
            "samples acknowledged {}, writes not acknowledged {}, answers {}, not answered {}, samples compared {}, \
             hashes compared {}, terms {}, scrapes {}",
            self.number("acknowledged"),
            self.number("unacknowledged"),
            self.number("answers"),
            self.number("unanswered"),
            self.number("compared"),
            self.number("hashes"),
            self.number("terms"),
            self.number("scrapes"),
        );
        println!(
            "simulated {:.2} h in {:.1} s, {:.0} x real time",
            simulated / 3600.0,
            real.as_secs_f64(),
            simulated / real.as_secs_f64().max(0.001)
        );
        println!("seeds run: {seeds}, failed: {failed}");
    }
}

/// The commit this was built from, as far as it can be told.
fn commit() -> String {
    let asked = Command::new("git").args(["rev-parse", "--short", "HEAD"]).stderr(Stdio::null()).output();
    asked.ok().and_then(|out| String::from_utf8(out.stdout).ok()).unwrap_or_default().trim().to_owned()
}

/// Runs one world here.
pub(crate) fn one(plan: &Plan, as_json_only: bool) -> ExitCode {
    let begun = Instant::now();
    let (report, violation) = match world::run(plan) {
        Ok(report) => (report, None),
        Err(broken) => (broken.1, Some(broken.0)),
    };
    let json = as_json(&report);
    if as_json_only {
        println!("REPORT {json}");
    } else if plan.print {
        println!("{json:#}"); // nothing of real time
    } else {
        let mut sums = Sums::default();
        sums.add(&json);
        sums.print(1, u64::from(violation.is_some()), begun.elapsed());
    }
    let Some(violation) = violation else { return ExitCode::SUCCESS };
    println!("BROKEN {violation}");
    println!("at {:?} of simulated time, commit {}; to run it again:", report.simulated, commit());
    println!("  {}", plan.line());
    ExitCode::FAILURE
}

/// Runs a world in a process of its own: whether it held, and what it said.
pub(crate) fn apart(plan: &Plan) -> (bool, String) {
    let mut command = Command::new(std::env::current_exe().expect("this program has a path"));
    command.args(["--json", "--scenario", plan.scenario.name, "--seed", &plan.seed.to_string()]);
    command.args(["--steps", &plan.chaos.as_millis().to_string()]);
    command.args(["--planted", &plan.planted]);
    if !plan.without.is_empty() {
        let names: Vec<_> = plan.without.iter().map(|fault| fault.name()).collect();
        command.args(["--without", &names.join(",")]);
    }
    match command.stderr(Stdio::piped()).output() {
        Ok(output) => {
            let text = [output.stdout, output.stderr].concat();
            (output.status.success(), String::from_utf8_lossy(&text).into_owned())
        }
        Err(error) => (false, format!("BROKEN the world's process does not start: {error}")),
    }
}

/// Runs many worlds.
pub(crate) fn many(plan: &Plan, batch: &Batch) -> ExitCode {
    let begun = Instant::now();
    let (next, run, failed) = (AtomicU64::new(batch.from), AtomicU64::new(0), AtomicU64::new(0));
    let stop = AtomicBool::new(false);
    let sums = Mutex::new(Sums::default());
    let work = || {
        while !stop.load(Ordering::Relaxed) && batch.budget.is_none_or(|budget| begun.elapsed() < budget) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= batch.to {
                return;
            }
            let (held, text) = apart(&Plan { seed, ..plan.clone() });
            run.fetch_add(1, Ordering::Relaxed);
            let mut sums = sums.lock().unwrap_or_else(PoisonError::into_inner);
            let report = text.lines().find_map(|line| line.strip_prefix("REPORT "));
            if let Some(report) = report.and_then(|line| serde_json::from_str(line).ok()) {
                sums.add(&report);
            }
            if !held {
                failed.fetch_add(1, Ordering::Relaxed);
                println!("seed {seed} failed");
                text.lines()
                    .filter(|line| !line.starts_with("REPORT "))
                    .for_each(|line| println!("  {line}"));
                stop.fetch_or(batch.until_failure, Ordering::Relaxed);
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..batch.jobs {
            scope.spawn(work);
        }
    });
    let sums = sums.into_inner().unwrap_or_else(PoisonError::into_inner);
    let (run, failed) = (run.into_inner(), failed.into_inner());
    sums.print(run, failed, begun.elapsed());
    let uncovered = batch.require_coverage && {
        let points = POINTS.iter().filter(|point| !sums.points.contains_key(**point));
        let wanted = plan.scenario.faults.iter().copied().map(Fault::name);
        let faults = wanted.filter(|fault| !sums.faults.contains_key(*fault));
        let missing: Vec<_> = points.copied().chain(faults).collect();
        if !missing.is_empty() {
            println!("NOT VALID: never reached: {}", missing.join(", "));
        }
        !missing.is_empty()
    };
    if failed > 0 || uncovered { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
