//! What must hold of a cluster after whatever was done to it.

use crate::{Client, DATA_TIMEOUT, now_ms};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

/// Slots in which we did not scrape, according to the cluster, since `from` (milliseconds).
///
/// # Errors
/// If the node does not answer.
pub fn missed_slots(node: &Client, from: i64) -> Result<u64, String> {
    Ok(gaps(node, from)?.iter().filter_map(|gap| gap["slots"].as_u64()).sum())
}

/// `/api/v1/status/gaps` since `from` (milliseconds).
///
/// # Errors
/// If the node does not answer.
pub fn gaps(node: &Client, from: i64) -> Result<Vec<Value>, String> {
    let (start, end) = (format!("{}", from / 1000), format!("{}", now_ms() / 1000 + 1));
    let answer = node.get("/api/v1/status/gaps", &[("start", &start), ("end", &end)])?;
    let mut json = answer.json();
    match json["data"].take() {
        Value::Array(gaps) if answer.status == 200 => Ok(gaps),
        _ => Err(format!("gaps: {answer:?}")),
    }
}

/// Asks all nodes the same about the past; the error names the first query whose answers differ in a byte.
///
/// # Errors
/// If answers differ, or one is not given.
pub fn same_bytes(nodes: &[Client], queries: &[&str], from: i64, to: i64) -> Result<(), String> {
    let (start, end) = (format!("{}", from / 1000), format!("{}", to / 1000));
    for query in queries {
        let range = [("query", *query), ("start", &start), ("end", &end), ("step", "1")];
        let instant = [("query", *query), ("time", &end)];
        for (path, parameters) in [("/api/v1/query_range", &range[..]), ("/api/v1/query", &instant[..])] {
            let mut first: Option<String> = None;
            for node in nodes {
                let patient = Client::new(node.base.clone(), DATA_TIMEOUT);
                let answer = patient.get(path, parameters)?;
                if answer.status != 200 {
                    return Err(format!("{query}: {} {}", answer.status, answer.body));
                }
                let expected = first.get_or_insert_with(|| answer.body.clone());
                if *expected != answer.body {
                    return Err(format!(
                        "{query} at {path}: {} differs:\n{expected}\n{}",
                        node.base, answer.body
                    ));
                }
            }
        }
    }
    Ok(())
}

/// Whether the replicas of every shard have equal state hashes at a common index; the error says where not.
///
/// # Errors
/// If one differs or is missing.
pub fn equal_hashes(node: &Client) -> Result<(), String> {
    let status = node.status()?;
    let shards = status["shards"].as_array().ok_or("status without shards")?;
    for shard in shards {
        let replicas = shard["replicas"].as_array().map_or(&[][..], Vec::as_slice);
        let first = replicas.first().map_or(&Value::Null, |replica| &replica["stateHash"]);
        if first.is_null() || replicas.iter().any(|replica| replica["stateHash"] != *first) {
            return Err(format!("state hashes of a shard: {shard}"));
        }
    }
    if shards.is_empty() { Err("no shards".to_owned()) } else { Ok(()) }
}

/// What became of one target's slots between its first and its last sample.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SlotReport {
    /// Slots with a sample.
    pub scraped: u64,
    /// Slots that the cluster says it missed.
    pub missed: u64,
    /// Slots that have neither; must be empty.
    pub unexplained: Vec<i64>,
    /// Slots with more than one sample; must be empty.
    pub doubled: Vec<i64>,
    /// The longest time between two samples.
    pub hole: Duration,
    /// Timestamp of the last sample, milliseconds.
    pub last: i64,
}

/// How late a sample may be that still counts as its slot's punctual one: Prometheus's alignment is 2 ms.
const EARLY_MS: i64 = 5;

/// Sorts the samples of `up` of `instance` into slots of `interval` milliseconds, and the recorded gaps beside them.
///
/// # Errors
/// If the node does not answer, or has no sample.
pub fn account_slots(
    node: &Client,
    instance: &str,
    interval: i64,
    from: i64,
    to: i64,
) -> Result<SlotReport, String> {
    let times: Vec<i64> =
        samples(node, &format!("up{{instance=\"{instance}\"}}"), from, to)?.into_keys().collect();
    let gaps = gaps(node, from)?;
    let gaps: Vec<(i64, i64)> = gaps
        .iter()
        .filter(|gap| gap["target"]["instance"] == instance)
        .map(|gap| (millis(&gap["from"]), millis(&gap["to"])))
        .collect();
    report(&times, &gaps, interval).ok_or_else(|| format!("{instance}: no sample of `up` since {from}"))
}

fn millis(seconds: &Value) -> i64 {
    (seconds.as_f64().unwrap_or(f64::NAN) * 1000.0).round() as i64
}

/// All samples of one series by timestamp.
///
/// # Errors
/// If the node does not answer, or more than one series matches.
pub fn samples(node: &Client, selector: &str, from: i64, to: i64) -> Result<BTreeMap<i64, f64>, String> {
    let range = (to - from).max(1);
    let found = node.query(&format!("{selector}[{range}ms]"), Some(to as f64 / 1000.0))?;
    if found.len() > 1 {
        return Err(format!("{selector}: {} series", found.len()));
    }
    let pairs = found.first().and_then(|series| series["values"].as_array()).map_or(&[][..], Vec::as_slice);
    let value = |pair: &Value| pair[1].as_str().and_then(|text| text.parse().ok()).unwrap_or(f64::NAN);
    Ok(pairs.iter().map(|pair| (millis(&pair[0]), value(pair))).collect())
}

fn report(times: &[i64], gaps: &[(i64, i64)], interval: i64) -> Option<SlotReport> {
    // The target's offset within the interval is where most of its samples are: punctual ones are aligned.
    let mut phases = BTreeMap::<i64, u64>::new();
    times.iter().for_each(|time| *phases.entry(time.rem_euclid(interval)).or_default() += 1);
    let phase = phases.into_iter().max_by_key(|(_, count)| *count)?.0;
    let slot = |time: i64| (time - phase + EARLY_MS).div_euclid(interval);
    let missed: BTreeSet<i64> = gaps.iter().flat_map(|(from, to)| slot(*from)..=slot(*to)).collect();
    let mut scraped = BTreeSet::new();
    let mut doubled = Vec::new();
    for (i, time) in times.iter().enumerate() {
        let mut mine = slot(*time);
        // One that was begun at the very end of its slot carries a timestamp in the next one.
        let next_is_there = times.get(i + 1).is_some_and(|next| slot(*next) == mine);
        if next_is_there && !scraped.contains(&(mine - 1)) && !missed.contains(&(mine - 1)) {
            mine -= 1;
        }
        if !scraped.insert(mine) || missed.contains(&mine) {
            doubled.push(*time);
        }
    }
    let (first, last) = (*scraped.first()?, *scraped.last()?);
    let missed: BTreeSet<i64> = missed.range(first..=last).copied().collect();
    let unexplained = (first..=last).filter(|slot| !scraped.contains(slot) && !missed.contains(slot));
    let hole = times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(0);
    Some(SlotReport {
        scraped: scraped.len() as u64,
        missed: missed.len() as u64,
        unexplained: unexplained.map(|slot| slot * interval + phase).collect(),
        doubled,
        hole: Duration::from_millis(u64::try_from(hole).unwrap_or(0)),
        last: *times.last()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_without_sample_and_without_gap_is_unexplained() {
        let report = report(&[1_300, 2_300, 4_300], &[], 1_000).unwrap();
        assert_eq!((report.scraped, report.missed), (3, 0));
        assert_eq!(report.unexplained, [3_300]);
        assert_eq!(report.hole, Duration::from_secs(2));
    }

    #[test]
    fn a_recorded_gap_explains_its_slots_and_none_may_be_both() {
        let whole = report(&[1_300, 2_300, 5_301], &[(3_300, 4_300)], 1_000).unwrap();
        assert_eq!((whole.scraped, whole.missed, whole.unexplained.len(), whole.doubled.len()), (3, 2, 0, 0));
        let both = report(&[1_300, 2_300, 3_300, 5_300], &[(3_300, 4_300)], 1_000).unwrap();
        assert_eq!(both.doubled, [3_300]);
    }

    #[test]
    fn two_samples_in_a_slot_are_found_unless_the_first_is_late_for_the_slot_before() {
        let twice = report(&[1_300, 2_300, 2_600, 3_300], &[], 1_000).unwrap();
        assert_eq!(twice.doubled, [2_600]);
        let late = report(&[1_300, 2_300, 4_310, 4_800, 5_300, 6_300], &[], 1_000).unwrap();
        assert_eq!((late.doubled.len(), late.unexplained.len()), (0, 0));
    }
}
