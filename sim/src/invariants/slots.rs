//! O6: every slot of a target between its first and last sample is either a sample or recorded as missed, and never
//! both nor twice.
//!
//! Slots are duty time, which a wrong wall clock does not move, so this is judged in worlds with clock faults, too.

use crate::violation::Violation;
use std::collections::BTreeMap;

/// Samples of one target by timestamp, the missed slots that the cluster tells of it, as (from, to, count), and its
/// scrape interval in milliseconds.
///
/// # Errors
/// With what does not add up.
pub fn account(
    target: &str,
    samples: &BTreeMap<i64, f64>,
    missed: &[(i64, i64, u64)],
    interval: i64,
) -> Result<(), Violation> {
    // Slots stand at offset + k * interval; a scrape that begins in time bears its slot's timestamp.
    let mut rests: BTreeMap<i64, usize> = BTreeMap::new();
    samples.keys().for_each(|at| *rests.entry(at.rem_euclid(interval)).or_default() += 1);
    let Some((offset, _)) = rests.iter().max_by_key(|(_, count)| **count) else { return Ok(()) };
    let slot_of = |at: i64| (at - offset).div_euclid(interval);
    let aligned: Vec<i64> = samples.keys().filter(|at| at.rem_euclid(interval) == *offset).copied().collect();
    let (Some(first), Some(last)) = (aligned.first(), aligned.last()) else { return Ok(()) };
    let (first, last) = (slot_of(*first), slot_of(*last));
    let scraped = samples.keys().filter(|at| (first..=last).contains(&slot_of(**at))).count() as i64;
    let within = |from: &i64, to: &i64| slot_of(*from) >= first && slot_of(*to) <= last;
    let gone: i64 =
        missed.iter().filter(|(from, to, _)| within(from, to)).map(|(_, _, slots)| *slots as i64).sum();
    let slots = last - first + 1;
    if scraped + gone == slots {
        return Ok(());
    }
    let covered = |slot: &i64| {
        let within = |(from, to, _): &(i64, i64, u64)| (slot_of(*from)..=slot_of(*to)).contains(slot);
        samples.keys().any(|at| slot_of(*at) == *slot) || missed.iter().any(within)
    };
    let open: Vec<i64> =
        (first..=last).filter(|slot| !covered(slot)).map(|slot| slot * interval + offset).collect();
    let text = format!(
        "{target}: {slots} slots between its first and last sample, {scraped} of them scraped and {gone} recorded as missed; slots without either: {open:?}"
    );
    Err(Violation { invariant: "O6", text })
}

#[cfg(test)]
mod tests {
    use super::account;
    use std::collections::BTreeMap;

    fn judge(samples: &[i64], missed: &[(i64, i64, u64)]) -> bool {
        let samples: BTreeMap<i64, f64> = samples.iter().map(|at| (*at, 1.0)).collect();
        account("t", &samples, missed, 1000).is_ok()
    }

    #[test]
    fn slots_are_scraped_or_missed_and_never_both() {
        assert!(judge(&[300, 1300, 2300], &[]));
        assert!(judge(&[300, 1300, 2450, 3300], &[]), "a late scrape is its slot's");
        assert!(!judge(&[300, 1300, 3300], &[]), "a hole that nobody recorded");
        assert!(judge(&[300, 1300, 3300], &[(2300, 2300, 1)]));
        assert!(!judge(&[300, 1300, 2300], &[(1300, 1300, 1)]), "scraped and missed");
        assert!(!judge(&[300, 1300, 1500, 2300], &[]), "twice");
    }
}
