//! What must hold of a cluster after whatever was done to it.

use crate::{Client, DATA_TIMEOUT, now_ms, within};
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

/// Patience with a node that has no answer for the moment: a shard may be between two leaders.
const ANSWER_PATIENCE: Duration = Duration::from_secs(90);
/// How often the past may turn out to have changed between two questions.
const CHANGES_MAX: usize = 20;

/// Asks all nodes the same about the past; the error names the first query whose answers differ in a byte.
///
/// # Errors
/// If answers differ, or one is not given.
pub fn same_bytes(nodes: &[Client], queries: &[&str], from: i64, to: i64) -> Result<(), String> {
    let (start, end) = (format!("{}", from / 1000), format!("{}", to / 1000));
    let Some((first, others)) = nodes.split_first() else { return Ok(()) };
    for query in queries {
        let range = [("query", *query), ("start", &start), ("end", &end), ("step", "1")];
        let instant = [("query", *query), ("time", &end)];
        for (path, parameters) in [("/api/v1/query_range", &range[..]), ("/api/v1/query", &instant[..])] {
            for node in others {
                same_answer(first, node, path, parameters)
                    .map_err(|error| format!("{query} at {path}: {error}"))?;
            }
        }
    }
    Ok(())
}

/// What is asked later shows all that was shown before. So the answer of `node` is one of those that `first` gives
/// before and behind it, unless the past changes: a row was still on its way.
fn same_answer(first: &Client, node: &Client, path: &str, parameters: &[(&str, &str)]) -> Result<(), String> {
    let mut before = good_answer(first, path, parameters)?;
    for _ in 0..CHANGES_MAX {
        let got = good_answer(node, path, parameters)?;
        if got == before {
            return Ok(());
        }
        let behind = good_answer(first, path, parameters)?;
        if got == behind {
            return Ok(());
        }
        if behind == before {
            return Err(format!("{} differs:\n{before}\n{got}", node.base));
        }
        before = behind;
    }
    Err("the past changes without an end".to_owned())
}

/// The body of a node's answer, once it can give one.
fn good_answer(node: &Client, path: &str, parameters: &[(&str, &str)]) -> Result<String, String> {
    let patient = Client::new(node.base.clone(), DATA_TIMEOUT);
    within("an answer", ANSWER_PATIENCE, || match patient.get(path, parameters)? {
        answer if answer.status == 503 => Err(answer.body),
        answer => Ok(answer),
    })
    .and_then(|answer| match answer.status {
        200 => Ok(answer.body),
        status => Err(format!("{status} {}", answer.body)),
    })
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

/// Why a slot is missed in which the scrape of an earlier one was under way; that one's sample may lie in it.
const OVERRUN: &str = "previous scrape still running";

/// Slots that are recorded as missed.
struct Missed {
    from: i64,
    to: i64,
    is_overrun: bool,
}

/// Sorts the samples of `up` of `instance` into slots of `interval` milliseconds, and the recorded gaps beside them,
/// until `to`. It must be scraped still: what comes behind `to` tells of which slot the last samples are.
///
/// # Errors
/// If the node does not answer, does not scrape it, or has no sample.
pub fn account_slots(
    node: &Client,
    instance: &str,
    interval: i64,
    from: i64,
    to: i64,
) -> Result<SlotReport, String> {
    let times: Vec<i64> = samples(node, &format!("up{{instance=\"{instance}\"}}"), from, to + 2 * interval)?
        .into_keys()
        .collect();
    let missed = gaps(node, from)?
        .iter()
        .filter(|gap| gap["target"]["instance"] == instance)
        .map(|gap| Missed {
            from: millis(&gap["from"]),
            to: millis(&gap["to"]),
            is_overrun: gap["reason"] == OVERRUN,
        })
        .collect::<Vec<_>>();
    report(&times, &missed, interval, scrape_offset(node, instance)?, to)
        .ok_or_else(|| format!("{instance}: no sample of `up` since {from}"))
}

/// Where in each interval a target is due, milliseconds.
fn scrape_offset(node: &Client, instance: &str) -> Result<i64, String> {
    let answer = node.get("/api/v1/targets", &[("state", "active")])?;
    let json = answer.json();
    let active = json["data"]["activeTargets"].as_array().map_or(&[][..], Vec::as_slice);
    let target = active.iter().find(|target| target["labels"]["instance"] == instance);
    let offset = target.map(|target| &target["scrapeOffset"]).filter(|offset| offset.is_number());
    offset.map(millis).ok_or_else(|| format!("where {instance} is due: {answer:?}"))
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

/// A sample lies in its slot or, if its scrape was begun at the slot's very end, in a later one: behind it in the
/// same slot is the sample of that slot itself, or that slot is missed because the scrape was under way.
fn report(times: &[i64], missed: &[Missed], interval: i64, offset: i64, to: i64) -> Option<SlotReport> {
    let slot = |time: i64| (time - offset).div_euclid(interval);
    // Each with whether it was an overrun.
    let missed: BTreeMap<i64, bool> = missed
        .iter()
        .flat_map(|gap| (slot(gap.from)..=slot(gap.to)).map(|slot| (slot, gap.is_overrun)))
        .collect();
    let before = |mut slot: i64| {
        while missed.contains_key(&slot) {
            slot -= 1;
        }
        slot
    };
    // The latest slot that each may be of, if those behind it have slots of their own.
    let mut latest = Vec::with_capacity(times.len());
    let mut next = i64::MAX;
    for time in times.iter().rev() {
        let own = slot(*time);
        let is_aligned = time.rem_euclid(interval) == offset;
        let stays = is_aligned && missed.get(&own) == Some(&false);
        latest.push(if stays { own } else { before(own.min(next - 1)) });
        next = if is_aligned && !missed.contains_key(&own) { own } else { latest[latest.len() - 1] };
    }
    latest.reverse();
    let (mut scraped, mut unexplained, mut doubled) = (BTreeSet::new(), Vec::new(), Vec::new());
    for (i, time) in times.iter().enumerate().filter(|(_, time)| **time <= to) {
        let own = slot(*time);
        let is_crowded = times.get(i + 1).is_some_and(|next| slot(*next) == own);
        let free = match scraped.last() {
            Some(last) => last + 1,
            None if is_crowded => before(own - 1),
            None => before(own),
        };
        let mine = if latest[i] >= free { latest[i] } else { own };
        if mine < free || missed.contains_key(&mine) {
            doubled.push(*time);
        } else {
            unexplained.extend((free..mine).filter(|slot| !missed.contains_key(slot)));
            scraped.insert(mine);
        }
    }
    let (first, last) = (*scraped.first()?, *scraped.last()?);
    let times = &times[..times.partition_point(|time| *time <= to)];
    let hole = times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(0);
    Some(SlotReport {
        scraped: scraped.len() as u64,
        missed: missed.range(first..=last).count() as u64,
        unexplained: unexplained.into_iter().map(|slot| slot * interval + offset).collect(),
        doubled,
        hole: Duration::from_millis(u64::try_from(hole).unwrap_or(0)),
        last: *times.last()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of a target that is due 300 ms after each second.
    fn judge(times: &[i64], missed: &[(i64, i64, bool)]) -> SlotReport {
        let missed = missed.iter().map(|&(from, to, is_overrun)| Missed { from, to, is_overrun });
        report(times, &missed.collect::<Vec<_>>(), 1_000, 300, i64::MAX).unwrap()
    }

    fn is_sound(times: &[i64], missed: &[(i64, i64, bool)]) -> bool {
        let report = judge(times, missed);
        report.unexplained.is_empty() && report.doubled.is_empty() && report.scraped == times.len() as u64
    }

    #[test]
    fn a_slot_without_sample_and_without_gap_is_unexplained() {
        let report = judge(&[1_300, 2_300, 4_300], &[]);
        assert_eq!((report.scraped, report.missed), (3, 0));
        assert_eq!(report.unexplained, [3_300]);
        assert_eq!(report.hole, Duration::from_secs(2));
    }

    #[test]
    fn a_slot_is_found_missing_where_every_sample_is_late() {
        assert_eq!(judge(&[1_312, 2_309, 4_317, 5_311], &[]).unexplained, [3_300]);
        assert_eq!(judge(&[1_312, 2_309, 2_900, 3_317, 4_311], &[]).doubled, [2_900]);
    }

    #[test]
    fn a_recorded_gap_explains_its_slots_and_none_may_be_both() {
        let whole = judge(&[1_300, 2_300, 5_301], &[(3_300, 4_300, false)]);
        assert_eq!((whole.scraped, whole.missed, whole.unexplained.len(), whole.doubled.len()), (3, 2, 0, 0));
        let both = judge(&[1_300, 2_300, 3_300, 5_300], &[(3_300, 4_300, false)]);
        assert_eq!(both.doubled, [3_300]);
        let both = judge(&[1_300, 2_300, 3_300, 5_300], &[(3_300, 4_300, true)]);
        assert_eq!(both.doubled, [3_300]);
    }

    #[test]
    fn a_gap_that_is_recorded_one_slot_off_explains_nothing() {
        let late = judge(&[1_300, 3_300, 4_300], &[(3_300, 3_300, false)]);
        assert_eq!((late.doubled, late.unexplained), (vec![3_300], vec![2_300]));
        let early = judge(&[1_300, 3_300, 4_300], &[(1_300, 1_300, false)]);
        assert_eq!(early.doubled, [1_300]);
    }

    #[test]
    fn two_samples_in_a_slot_are_found_unless_the_first_is_late_for_the_slot_before() {
        assert_eq!(judge(&[1_300, 2_300, 2_600, 3_300], &[]).doubled, [2_600]);
        assert_eq!(judge(&[300, 1_300, 2_300, 2_301, 2_600, 3_300], &[]).doubled, [2_301, 2_600]);
        assert!(is_sound(&[1_300, 2_300, 4_310, 4_800, 5_300, 6_300], &[]));
        assert!(is_sound(&[1_300, 2_300, 4_300, 4_800, 5_300, 6_300], &[]), "late to the millisecond");
        assert!(is_sound(&[1_300, 2_300, 4_302, 5_301, 5_700, 6_300], &[]), "one after the other");
    }

    #[test]
    fn what_comes_behind_the_end_tells_of_which_slot_the_last_sample_is() {
        let times = [1_300, 2_300, 4_302, 4_350, 5_300];
        let report = report(&times, &[], 1_000, 300, 4_310).unwrap();
        assert_eq!((report.scraped, report.unexplained.len(), report.last), (3, 0, 4_302));
    }

    #[test]
    fn a_scrape_that_is_begun_late_and_overruns_lies_in_a_slot_that_is_missed() {
        assert!(is_sound(&[1_300, 2_300, 4_298, 5_300], &[(4_300, 4_300, true)]));
        assert!(is_sound(&[1_300, 2_300, 4_300, 5_300], &[(4_300, 4_300, true)]));
        assert!(is_sound(&[1_300, 2_300, 5_310, 6_300], &[(4_300, 5_300, true)]));
        assert!(
            is_sound(&[1_300, 2_300, 4_302, 5_300, 6_300], &[(5_300, 5_300, true)]),
            "after another late one"
        );
    }
}
