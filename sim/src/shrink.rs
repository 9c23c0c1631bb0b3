//! Looks for a smaller world that breaks the same promise: fewer kinds of faults, less time.

use crate::run::apart;
use sim::{faults::Fault, scenario::Plan};
use std::{process::ExitCode, time::Duration};

/// The invariant that a run broke.
fn broken(text: &str) -> Option<String> {
    let line = text.lines().find_map(|line| line.strip_prefix("BROKEN "))?;
    Some(line.split(':').next().unwrap_or_default().to_owned())
}

/// Shrinks a failing plan and prints the line that runs what is left.
pub(crate) fn run(plan: &Plan) -> ExitCode {
    let (held, text) = apart(plan);
    let Some(invariant) = broken(&text).filter(|_| !held) else {
        println!("seed {} does not fail", plan.seed);
        return ExitCode::SUCCESS;
    };
    println!("seed {} breaks {invariant}", plan.seed);
    let fails = |plan: &Plan| broken(&apart(plan).1).as_deref() == Some(&invariant);
    let mut least = plan.clone();
    for fault in Fault::ALL.iter().filter(|fault| plan.faults().contains(fault)) {
        let mut smaller = least.clone();
        smaller.without.push(*fault);
        if fails(&smaller) {
            println!("without {}: still", fault.name());
            least = smaller;
        }
    }
    let mut cut = least.chaos / 2;
    while cut >= Duration::from_millis(250) {
        let smaller = Plan { chaos: least.chaos.saturating_sub(cut), ..least.clone() };
        if fails(&smaller) {
            println!("{:?} of faults: still", smaller.chaos);
            least = smaller;
        } else {
            cut /= 2;
        }
    }
    println!("{}", apart(&least).1);
    println!("smallest found:\n  {}", least.line());
    ExitCode::FAILURE
}
