//! Looks for a smaller world that breaks the same promise: fewer kinds of faults, less time, fewer faults, less load.

use crate::run::apart;
use screenplay::{Fault, Load};
use sim::scenario::Plan;
use std::{collections::BTreeSet, process::ExitCode, time::Duration};

/// Runs that one search may take.
const RUNS_MAX: usize = 400;

/// The invariant that a run broke.
fn broken(text: &str) -> Option<String> {
    let line = text.lines().find_map(|line| line.strip_prefix("BROKEN "))?;
    Some(line.split(':').next().unwrap_or_default().to_owned())
}

/// The numbers of the faults that happened, as the trace tells them; the story at its end tells the last ones again.
fn numbers(trace: &str) -> BTreeSet<u64> {
    let told = trace.lines().filter_map(|line| line.split_once(" FAULT ")?.1.split(' ').next()?.parse().ok());
    told.collect()
}

/// A search: the smallest plan so far, and what it must break.
struct Search {
    least: Plan,
    invariant: String,
    runs: usize,
}

impl Search {
    /// Takes `smaller` if it still fails in the same way.
    fn attempt(&mut self, smaller: Plan, what: &str) -> bool {
        if self.runs >= RUNS_MAX {
            return false;
        }
        self.runs += 1;
        let fails = broken(&apart(&smaller).1).as_deref() == Some(&self.invariant);
        if fails {
            println!("{what}: still");
            self.least = smaller;
        }
        fails
    }

    fn kinds(&mut self) {
        for fault in self.least.faults() {
            if !self.least.without.contains(&fault) {
                let without = [self.least.without.as_slice(), &[fault]].concat();
                self.attempt(Plan { without, ..self.least.clone() }, &format!("without {}", fault.name()));
            }
        }
    }

    fn time(&mut self) {
        let mut cut = self.least.chaos / 2;
        while cut >= Duration::from_millis(250) {
            let chaos = self.least.chaos.saturating_sub(cut);
            if !self.attempt(Plan { chaos, ..self.least.clone() }, &format!("{chaos:?} of faults")) {
                cut /= 2;
            }
        }
    }

    fn singles(&mut self) {
        let traced = Plan { print: true, ..self.least.clone() };
        for number in numbers(&apart(&traced).1) {
            let skip = [self.least.skip.as_slice(), &[number]].concat();
            self.attempt(Plan { skip, ..self.least.clone() }, &format!("without fault {number}"));
        }
    }

    fn load(&mut self) {
        let less: [(&str, Less); 4] = [
            ("readers", |load| reduce(&mut load.readers, 0)),
            ("writers", |load| reduce(&mut load.writers, 0)),
            ("targets", |load| reduce(&mut load.targets, 1)),
            ("shards", |load| {
                let less = load.shards > 1;
                load.shards = (load.shards / 2).max(1);
                less
            }),
        ];
        for (what, reduce) in less {
            loop {
                let mut load = self.least.load;
                if !reduce(&mut load)
                    || !self.attempt(Plan { load, ..self.least.clone() }, &format!("fewer {what}"))
                {
                    break;
                }
            }
        }
    }
}

/// Makes a load smaller; whether that was possible.
type Less = fn(&mut Load) -> bool;

/// Halves a number down to `least`; whether it was more.
fn reduce(number: &mut usize, least: usize) -> bool {
    let more = *number > least;
    *number = (*number / 2).max(least);
    more
}

/// Shrinks a failing plan and prints the line that runs what is left.
pub(crate) fn run(plan: &Plan) -> ExitCode {
    let (held, text) = apart(plan);
    let Some(invariant) = broken(&text).filter(|_| !held) else {
        println!("seed {} does not fail", plan.seed);
        return ExitCode::SUCCESS;
    };
    println!("seed {} breaks {invariant}", plan.seed);
    let mut search = Search { least: plan.clone(), invariant, runs: 0 };
    search.kinds();
    search.time();
    search.singles();
    search.load();
    let left: Vec<&str> = search
        .least
        .faults()
        .into_iter()
        .filter(|f| !search.least.without.contains(f))
        .map(Fault::name)
        .collect();
    let (_, text) = apart(&search.least);
    text.lines().filter(|line| !line.starts_with("REPORT ")).for_each(|line| println!("{line}"));
    println!("smallest found in {} runs, with faults of the kinds {}:", search.runs, left.join(", "));
    println!("  {}", search.least.line());
    ExitCode::FAILURE
}

#[cfg(test)]
mod tests {
    use super::{broken, numbers, reduce};
    use std::collections::BTreeSet;

    #[test]
    fn the_broken_promise_and_the_faults_are_read_from_what_a_world_says() {
        let text = "      1.000 world    FAULT 3 kill: n1\n      2.000 world    FAULT 12 rot: n2\nBROKEN O1: lost: 1";
        assert_eq!(broken(text).as_deref(), Some("O1"));
        assert_eq!(numbers(text), BTreeSet::from([3, 12]));
    }

    #[test]
    fn numbers_are_halved_down_to_the_least() {
        let mut number = 5;
        assert!(reduce(&mut number, 1) && reduce(&mut number, 1) && !reduce(&mut number, 1));
        assert_eq!(number, 1);
    }
}
