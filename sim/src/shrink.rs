//! Looks for a smaller world that breaks the same promise: fewer kinds of faults, less time, fewer faults, less load.

use crate::run::apart;
use screenplay::{Fault, Load};
use sim::scenario::Plan;
use std::{collections::BTreeSet, process::ExitCode, time::Duration};

/// Runs that one search may take.
const RUNS_MAX: usize = 400;

/// The promise that a run broke, and in which words: numbers, and words that are hardly more (`n1`, `31ms`,
/// addresses, hashes), are left out, because they differ from world to world.
fn broken(text: &str) -> Option<String> {
    let line = text.lines().find_map(|line| line.strip_prefix("BROKEN "))?;
    let (invariant, text) = line.split_once(':').unwrap_or((line, ""));
    let hash = |word: &str| word.chars().all(|c| c.is_ascii_hexdigit());
    let words = text.split_whitespace().filter_map(|word| {
        if !word.contains(|c: char| c.is_ascii_digit()) {
            return Some(word.to_owned());
        }
        let left: String = word.chars().filter(|c| !c.is_ascii_digit()).collect();
        (!hash(word) && left.chars().filter(|c| c.is_alphabetic()).count() > 2).then_some(left)
    });
    Some(format!("{invariant}: {}", words.collect::<Vec<_>>().join(" ")))
}

/// The numbers of the faults that happened, as the trace tells them; the story at its end tells the last ones again.
fn numbers(trace: &str) -> BTreeSet<u64> {
    let told = trace.lines().filter_map(|line| line.split_once(" FAULT ")?.1.split(' ').next()?.parse().ok());
    told.collect()
}

/// A search: the smallest plan so far, and what it must break.
struct Search {
    least: Plan,
    broken: String,
    runs: usize,
}

impl Search {
    /// Takes `smaller` if it still fails in the same way.
    fn attempt(&mut self, smaller: Plan, what: &str) -> bool {
        if self.runs >= RUNS_MAX {
            return false;
        }
        self.runs += 1;
        let fails = broken(&apart(&smaller).1).as_deref() == Some(&self.broken);
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
    let Some(broken) = broken(&text).filter(|_| !held) else {
        println!("seed {} does not fail", plan.seed);
        return ExitCode::SUCCESS;
    };
    println!("seed {} breaks {broken}", plan.seed);
    let mut search = Search { least: plan.clone(), broken, runs: 0 };
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
        assert_eq!(broken(text).as_deref(), Some("O1: lost:"));
        assert_eq!(numbers(text), BTreeSet::from([3, 12]));
    }

    #[test]
    fn two_violations_of_one_promise_are_told_apart_by_their_words() {
        let not_told = "BROKEN O9: n2 has applied Some(LogIndex(7)) of shard 2 and told Some(LogIndex(6))";
        let elsewhere = "BROKEN O9: n1 has applied Some(LogIndex(12)) of shard 0 and told Some(LogIndex(9))";
        let forming = "BROKEN O9: the cluster does not form within 30s: n1 does not run";
        assert_eq!(broken(not_told), broken(elsewhere));
        assert_ne!(broken(not_told), broken(forming));
        assert_eq!(broken("BROKEN O4: n1 3af9e0c1 at 10.0.0.1:9390").as_deref(), Some("O4: at"));
    }

    #[test]
    fn numbers_are_halved_down_to_the_least() {
        let mut number = 5;
        assert!(reduce(&mut number, 1) && reduce(&mut number, 1) && !reduce(&mut number, 1));
        assert_eq!(number, 1);
    }
}
