//! Runs one world in this process, or many in processes of their own.
#![expect(clippy::disallowed_methods, reason = "the budget of a batch is real time")]

use crate::sums::{Sums, as_json};
use screenplay::Fault;
use sim::{
    scenario::{Plan, SCENARIOS, Scenario},
    world,
};
use std::{
    io::{IsTerminal, Read},
    path::Path,
    process::{Command, ExitCode, Stdio},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc,
    },
    time::{Duration, Instant},
};

/// Real time after which a world is said to hang: a thousand times what it takes on a free core.
const HANGS: Duration = Duration::from_secs(1800);
/// Between two lines that say how a batch gets on.
const PROGRESS: Duration = Duration::from_secs(30);

/// How many seeds to run, and when to stop.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) from: u64,
    pub(crate) to: u64,
    pub(crate) jobs: usize,
    pub(crate) until_failure: bool,
    pub(crate) budget: Option<Duration>,
    pub(crate) at_least: u64,
    pub(crate) require_coverage: bool,
    /// Each seed runs a scenario of its own.
    pub(crate) mixed: bool,
}

/// The commit of the checkout this was built in as it is now, as far as it can be told.
fn commit() -> String {
    let tree = Path::new(env!("CARGO_MANIFEST_DIR"));
    let git = |arguments: &[&str]| {
        let asked = Command::new("git").arg("-C").arg(tree).args(arguments).stderr(Stdio::null()).output();
        let text =
            asked.ok().filter(|out| out.status.success()).and_then(|out| String::from_utf8(out.stdout).ok());
        text.map(|text| text.trim().to_owned())
    };
    let Some(commit) = git(&["rev-parse", "--short", "HEAD"]) else { return "unknown".to_owned() };
    let changed =
        git(&["status", "--porcelain", "--untracked-files=no"]).is_some_and(|text| !text.is_empty());
    if changed { format!("{commit} with changes") } else { commit }
}

/// Exit status of worlds that held: wrong use if they were to show a planted bug that no code asked for.
fn never_asked(plan: &Plan, asked: u64) -> ExitCode {
    if plan.planted.is_empty() || asked > 0 {
        return ExitCode::SUCCESS;
    }
    eprintln!("vestal: no code asked for the planted bug {:?}; see scripts/mutants", plan.planted);
    ExitCode::from(2)
}

/// Runs one world here.
pub(crate) fn one(plan: &Plan, as_json_only: bool) -> ExitCode {
    let begun = Instant::now();
    let (report, violation) = match world::run(plan) {
        Ok(report) => (report, None),
        Err(broken) => (broken.1, Some(broken.0)),
    };
    report.story.iter().for_each(|line| println!("{line}"));
    let json = as_json(&report, plan.scenario);
    if as_json_only {
        println!("REPORT {json}");
    } else if plan.print {
        println!("{json:#}"); // nothing of real time
    } else {
        let mut sums = Sums::default();
        sums.add(&json);
        sums.print(begun.elapsed());
        let quiet = plan
            .faults()
            .into_iter()
            .filter(|fault| !plan.without.contains(fault) && !report.faults.contains_key(fault.name()));
        let quiet: Vec<_> = quiet.map(|fault| fault.name()).collect();
        if !quiet.is_empty() {
            println!("enabled by this seed, but never happened: {}", quiet.join(", "));
        }
        println!("seeds run: 1, failed: {}", u64::from(violation.is_some()));
    }
    let Some(violation) = violation else {
        return if as_json_only { ExitCode::SUCCESS } else { never_asked(plan, report.asked) };
    };
    println!("BROKEN {violation}");
    println!(
        "at step {} ({:?} of simulated time), checkout at {}; to run it again:",
        report.simulated.as_millis(),
        report.simulated,
        commit()
    );
    println!("  {}", plan.line());
    ExitCode::FAILURE
}

/// Runs one world here and prints what went wrong in it as a script; whether it held is in a comment.
pub(crate) fn script_of(plan: &Plan) -> ExitCode {
    let (report, verdict, status) = match world::run(plan) {
        Ok(report) => (report, "everything held".to_owned(), ExitCode::SUCCESS),
        Err(broken) => (broken.1, format!("BROKEN {}", broken.0), ExitCode::FAILURE),
    };
    println!("# {}\n# simulated: {verdict}", plan.line());
    let unsaid: Vec<_> = Fault::ALL
        .iter()
        .filter(|fault| fault.form().is_none() && report.faults.contains_key(fault.name()))
        .map(|fault| fault.name())
        .collect();
    if !unsaid.is_empty() {
        println!("# of {} only what came of them is here", unsaid.join(" and "));
    }
    print!("{}", report.script);
    status
}

/// Runs a world in a process of its own: whether it held, and what it said.
pub(crate) fn apart(plan: &Plan) -> (bool, String) {
    let mut command = Command::new(std::env::current_exe().expect("this program has a path"));
    let trace = plan.print.then_some("--trace");
    command.arg("--json").args(plan.arguments()).args(trace).stdout(Stdio::piped()).stderr(Stdio::piped());
    let started = command.spawn();
    let mut child = match started {
        Ok(child) => child,
        Err(error) => return (false, format!("BROKEN the world's process does not start: {error}")),
    };
    let (told, ended) = mpsc::channel();
    let pipes: [Option<Box<dyn Read + Send>>; 2] = [
        child.stdout.take().map(|pipe| Box::new(pipe) as _),
        child.stderr.take().map(|pipe| Box::new(pipe) as _),
    ];
    let readers = pipes.into_iter().flatten().map(|mut pipe| {
        let told = told.clone();
        std::thread::spawn(move || {
            let mut text = Vec::new();
            let _broken_pipe = pipe.read_to_end(&mut text);
            drop(told); // the other end of this pipe is closed
            text
        })
    });
    let readers: Vec<_> = readers.collect();
    drop(told);
    let hangs = ended.recv_timeout(HANGS) == Err::<(), _>(mpsc::RecvTimeoutError::Timeout);
    if hangs {
        let _ended_just_now = child.kill();
    }
    let text: Vec<u8> = readers.into_iter().flat_map(|reader| reader.join().unwrap_or_default()).collect();
    let mut text = String::from_utf8_lossy(&text).into_owned();
    let status = child.wait();
    if hangs {
        text +=
            &format!("BROKEN the world hangs: no end within {HANGS:?} of real time; to run it again:\n  ");
        text += &plan.line();
    } else if let Ok(status) = status
        && !status.success()
        && status.code() != Some(1)
    {
        text +=
            &format!("BROKEN the world's process ended with {status}; to run it again:\n  {}", plan.line());
    }
    (!hangs && status.is_ok_and(|status| status.success()), text)
}

/// Runs many worlds, that of each seed by its plan; `usual` is one of them.
pub(crate) fn many(usual: &Plan, plan_of: &(dyn Fn(u64) -> Plan + Sync), batch: &Batch) -> ExitCode {
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
            let (held, text) = apart(&plan_of(seed));
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
    let (ended, watch) = mpsc::channel::<()>();
    std::thread::scope(|scope| {
        if std::io::stderr().is_terminal() {
            scope.spawn(|| {
                let watch = watch;
                while watch.recv_timeout(PROGRESS) == Err(mpsc::RecvTimeoutError::Timeout) {
                    let (run, failed) = (run.load(Ordering::Relaxed), failed.load(Ordering::Relaxed));
                    eprintln!(
                        "{run} of {} seeds, {failed} failed, {:?}",
                        batch.to - batch.from,
                        begun.elapsed()
                    );
                }
            });
        }
        let workers: Vec<_> = (0..batch.jobs).map(|_| scope.spawn(work)).collect();
        workers.into_iter().for_each(|worker| worker.join().expect("no worker panics"));
        drop(ended);
    });
    let sums = sums.into_inner().unwrap_or_else(PoisonError::into_inner);
    let (run, failed) = (run.into_inner(), failed.into_inner());
    sums.print(begun.elapsed());
    let scenarios: Vec<&Scenario> =
        if batch.mixed { SCENARIOS.iter().collect() } else { vec![usual.scenario] };
    let mut missing = sums.missing(&scenarios, batch.mixed);
    missing.retain(|name| !usual.without.iter().any(|fault| *name == format!("fault {}", fault.name())));
    let what = missing.join(", ");
    match (missing.is_empty(), batch.require_coverage) {
        (true, _) => println!("coverage: complete"),
        (false, true) => println!("NOT VALID: never happened in this batch: {what}"),
        (false, false) => {
            println!("coverage: never happened in this batch, so it proves nothing about: {what}")
        }
    }
    let too_few = run < batch.at_least && failed == 0;
    if too_few {
        println!("NOT VALID: {run} seeds ran within the time budget, at least {} are needed", batch.at_least);
    }
    println!("seeds run: {run}, failed: {failed}");
    let valid = !too_few && (missing.is_empty() || !batch.require_coverage);
    if failed > 0 || !valid { ExitCode::FAILURE } else { never_asked(usual, sums.asked()) }
}
