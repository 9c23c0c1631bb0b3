//! O6: every slot of a target between its first and last sample is either a sample or recorded as missed, and never
//! both nor twice.
//!
//! Slots are duty time, which a wrong wall clock does not move, so this is judged in worlds with clock faults, too.

use crate::violation::Violation;
use std::collections::BTreeMap;

/// Samples of one target by timestamp, the missed slots that the cluster tells of it, as (from, to, count), its scrape
/// interval in milliseconds, and the offset of its slots, if it is known; else it is that of most samples.
///
/// # Errors
/// With what does not add up.
pub fn account(
    target: &str,
    samples: &BTreeMap<i64, f64>,
    missed: &[(i64, i64, u64)],
    (interval, offset): (i64, Option<i64>),
) -> Result<(), Violation> {
    // Slots stand at offset + k * interval; a scrape that begins in time bears its slot's timestamp.
    let mut rests: BTreeMap<i64, usize> = BTreeMap::new();
    samples.keys().for_each(|at| *rests.entry(at.rem_euclid(interval)).or_default() += 1);
    let usual = || rests.iter().max_by_key(|(_, count)| **count).map(|(rest, _)| *rest);
    let Some(offset) = offset.or_else(usual) else { return Ok(()) };
    let slot_of = |at: i64| (at - offset).div_euclid(interval);
    let aligned: Vec<i64> = samples.keys().filter(|at| at.rem_euclid(interval) == offset).copied().collect();
    let (Some(first), Some(last)) = (aligned.first(), aligned.last()) else { return Ok(()) };
    let (first, last) = (slot_of(*first), slot_of(*last));
    let mut told: BTreeMap<i64, (usize, usize)> = (first..=last).map(|slot| (slot, (0, 0))).collect();
    for at in samples.keys() {
        if let Some((scraped, _)) = told.get_mut(&slot_of(*at)) {
            *scraped += 1;
        }
    }
    for (from, to, count) in missed {
        let (from, to) = (slot_of(*from), slot_of(*to));
        if u64::try_from(to - from + 1) != Ok(*count) {
            let text = format!("{target}: a gap from slot {from} to {to} says that it has {count}");
            return Err(Violation { invariant: "O6", text });
        }
        told.range_mut(from..=to).for_each(|(_, (_, missed))| *missed += 1);
    }
    let wrong: Vec<String> = told
        .iter()
        .filter(|(_, (scraped, missed))| scraped + missed != 1)
        .map(|(slot, (scraped, missed))| {
            format!("{} scraped {scraped} times and recorded {missed} times", slot * interval + offset)
        })
        .collect();
    if wrong.is_empty() {
        return Ok(());
    }
    let text = format!(
        "{target}: of {} slots between its first and last sample these are not told once: {}; it has samples at {:?}",
        told.len(),
        wrong.join(", "),
        samples.keys()
    );
    Err(Violation { invariant: "O6", text })
}

#[cfg(test)]
mod tests {
    use super::account;
    use std::collections::BTreeMap;

    fn judge(samples: &[i64], missed: &[(i64, i64, u64)]) -> bool {
        let samples: BTreeMap<i64, f64> = samples.iter().map(|at| (*at, 1.0)).collect();
        account("t", &samples, missed, (1000, None)).is_ok()
    }

    #[test]
    fn slots_are_scraped_or_missed_and_never_both() {
        assert!(judge(&[300, 1300, 2300], &[]));
        assert!(judge(&[300, 1300, 2450, 3300], &[]), "a late scrape is its slot's");
        assert!(!judge(&[300, 1300, 3300], &[]), "a hole that nobody recorded");
        assert!(judge(&[300, 1300, 3300], &[(2300, 2300, 1)]));
        assert!(!judge(&[300, 1300, 2300], &[(1300, 1300, 1)]), "scraped and missed");
        assert!(!judge(&[300, 1300, 1500, 2300], &[]), "twice");
        assert!(!judge(&[300, 1300, 1500, 3300], &[]), "one twice, and another not at all");
        assert!(!judge(&[300, 1300, 3300], &[(1300, 1300, 1)]), "one of both kinds, and another of none");
        assert!(!judge(&[300, 1300, 4300], &[(2300, 3300, 1)]), "a gap that counts wrongly");
        assert!(judge(&[2300, 3300], &[(300, 1300, 2)]), "before its first sample");
    }

    #[test]
    fn most_scrapes_may_be_late() {
        let samples = [310, 1310, 2300, 3310].map(|at| (at, 1.0)).into();
        assert!(account("t", &samples, &[], (1000, Some(300))).is_ok());
        assert!(
            account("t", &samples, &[], (1000, None)).is_err(),
            "the slots are not where most samples are"
        );
    }
}
