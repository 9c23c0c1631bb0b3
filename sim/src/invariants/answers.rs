//! O1, O2 and O3: what was acknowledged or shown is in every later default answer; what is shown was offered, with
//! that value, and once.

use crate::ledger::{Ledger, Shown};
use std::collections::BTreeMap;

/// What must be in an answer, by series.
pub type Owed = BTreeMap<String, BTreeMap<i64, f64>>;

/// What answers for `metric` owe up to `until`.
#[must_use]
pub fn owed(ledger: &Ledger, metric: &str, until: i64) -> Owed {
    let upto = |owed: &BTreeMap<i64, f64>| owed.range(..=until).map(|(at, value)| (*at, *value)).collect();
    if metric == "sim_written" {
        ledger.written.iter().map(|(name, series)| (name.clone(), upto(&series.owed))).collect()
    } else {
        ledger.targets.iter().map(|(name, target)| (name.clone(), upto(&target.owed))).collect()
    }
}

/// Compares an answer with what was owed before its question; what it shows is owed from now on.
pub fn judge(ledger: &mut Ledger, node: &str, metric: &str, owed: &Owed, shown: &BTreeMap<String, Shown>) {
    let none = Shown::new();
    for (name, owed) in owed {
        let found: BTreeMap<i64, f64> = shown.get(name).unwrap_or(&none).iter().copied().collect();
        for (at, value) in owed {
            ledger.work.compared += 1;
            match found.get(at) {
                Some(there) if there == value => {}
                Some(there) => ledger.violate("O2", format!("{node}: {metric} {name} at {at} is {there}, was {value}")),
                None => ledger.violate(
                    "O1",
                    format!(
                        "{node}: {metric} {name} lacks {value} at {at}, which was acknowledged or shown before \
                         (it has {} samples, {} are owed)",
                        found.len(),
                        owed.len()
                    ),
                ),
            }
        }
    }
    for (name, samples) in shown {
        if samples.windows(2).any(|pair| pair[0].0 >= pair[1].0) {
            ledger.violate("O2", format!("{node}: {metric} {name}: timestamps do not rise"));
        }
        for (at, value) in samples {
            let wrong = if metric == "sim_written" {
                written(ledger, name, *at, *value)
            } else {
                told(ledger, name, *at, *value)
            };
            if let Some(wrong) = wrong {
                ledger.violate("O2", format!("{node}: {metric} {name} at {at} shows {value}: {wrong}"));
            }
        }
    }
}

/// O10: who does not answer says 503; where disks fail, also that something went wrong inside.
pub fn refused(ledger: &mut Ledger, node: &str, what: &str, status: u16, body: &[u8]) {
    if status == 503 || (status == 500 && ledger.excuses.disks) {
        return;
    }
    let body = String::from_utf8_lossy(body);
    ledger.violate("O10", format!("{node} answers {status} to {what}: {body}"));
}

fn written(ledger: &mut Ledger, name: &str, at: i64, value: f64) -> Option<String> {
    let Some(series) = ledger.written.get_mut(name) else {
        return Some("nobody writes this series".to_owned());
    };
    match series.offered.get(&at) {
        None => Some("nobody wrote at this time".to_owned()),
        Some(offered) if *offered != value => Some(format!("{offered} was written")),
        Some(_) => {
            series.owed.insert(at, value);
            None
        }
    }
}

fn told(ledger: &mut Ledger, name: &str, at: i64, value: f64) -> Option<String> {
    let Some(target) = ledger.targets.get_mut(name) else {
        return Some("there is no such target".to_owned());
    };
    let serial = value as u64;
    if serial as f64 != value || !target.served.contains_key(&serial) {
        return Some("the target never told this".to_owned());
    }
    match target.shown.insert(serial, at) {
        Some(before) if before != at => Some(format!("the same scrape is at {before} too")),
        _ => {
            target.owed.insert(at, value);
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger() -> Ledger {
        let mut ledger = Ledger::default();
        let series = ledger.written.entry("a".to_owned()).or_default();
        series.offered.extend([(1, 10.0), (2, 20.0)]);
        series.owed.insert(1, 10.0);
        ledger
    }

    fn judged(shown: &[(i64, f64)]) -> Vec<&'static str> {
        let mut ledger = ledger();
        let owed = owed(&ledger, "sim_written", 100);
        judge(&mut ledger, "n", "sim_written", &owed, &BTreeMap::from([("a".to_owned(), shown.to_vec())]));
        ledger.violations.iter().map(|violation| violation.invariant).collect()
    }

    #[test]
    fn an_answer_with_all_that_is_owed_is_right() {
        assert!(judged(&[(1, 10.0)]).is_empty());
        assert!(judged(&[(1, 10.0), (2, 20.0)]).is_empty());
    }

    #[test]
    fn a_lost_an_altered_a_doubled_and_an_invented_sample_are_seen() {
        assert_eq!(judged(&[]), ["O1"]);
        assert_eq!(judged(&[(1, 11.0)]), ["O2", "O2"]);
        assert_eq!(judged(&[(1, 10.0), (1, 10.0)]), ["O2"]);
        assert_eq!(judged(&[(1, 10.0), (3, 1.0)]), ["O2"]);
    }

    #[test]
    fn what_was_shown_is_owed() {
        let mut ledger = ledger();
        let none = Owed::new();
        judge(&mut ledger, "n", "sim_written", &none, &BTreeMap::from([("a".to_owned(), vec![(2, 20.0)])]));
        assert_eq!(owed(&ledger, "sim_written", 100)["a"].len(), 2);
    }
}
