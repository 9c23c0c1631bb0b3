//! O7: a series is shown at an instant exactly if the last scrape of its target brought it. What a scrape no longer
//! brings, what a failed scrape did not bring, and everything of a target that is gone ends with a stale marker, over
//! any handover.
//!
//! ```text
//!  scrapes:  ─ 1 ──── 2 ──── 3 ──── (failed) ──── 5 ─────
//!  visitor:    ●──────●──────┤                    ●──────   ┤ stale marker
//!  serial:     ●──────●──────●──────┤             ●──────
//! ```

use crate::violation::Violation;
use std::collections::{BTreeMap, BTreeSet};

/// How long a sample is shown if nothing follows: the default of `--query.lookback-delta`.
const LOOKBACK_MS: i64 = 300_000;

/// What the scrapes of one target brought: the series, by the scrape's timestamp.
pub type Scrapes = BTreeMap<i64, BTreeSet<String>>;

/// The series that a scrape of a scripted target brings; of a failed one only `up`.
#[must_use]
pub fn brought(serial: Option<u64>) -> BTreeSet<String> {
    let mut series = BTreeSet::from(["up".to_owned()]);
    if let Some(serial) = serial {
        series.extend(["sim_serial".to_owned(), "sim_double".to_owned()]);
        series.extend(visitor(serial));
    }
    series
}

/// The series that comes and goes.
#[must_use]
pub fn visitor(serial: u64) -> Option<String> {
    (serial % 7 < 3).then(|| format!("sim_visitor{{turn=\"{}\"}}", serial / 7))
}

/// What a target's scrapes left: where it is up all its series stand, and as they were told; where it is not, none.
///
/// # Errors
/// With the first scrape of which a part is missing or altered.
pub fn whole(
    target: &str,
    up: &BTreeMap<i64, f64>,
    serials: &BTreeMap<i64, f64>,
    doubles: &BTreeMap<i64, f64>,
) -> Result<(), Violation> {
    let times: BTreeSet<i64> = up.keys().chain(serials.keys()).chain(doubles.keys()).copied().collect();
    for at in times {
        let found = (up.get(&at), serials.get(&at), doubles.get(&at));
        let right = match found {
            (Some(up), Some(serial), Some(double)) => *up == 1.0 && *double == 2.0 * serial,
            (Some(up), None, None) => *up == 0.0,
            _ => false,
        };
        if !right {
            let text = format!("{target} at {at}: up, sim_serial and sim_double are {found:?}");
            return Err(Violation { invariant: "O7", text });
        }
    }
    Ok(())
}

/// Compares what instants show of a target with its scrapes. Where the configuration changed a target may have ended
/// between two scrapes, so there nothing `must_show`; at the last instant a target that is no longer `configured`
/// shows nothing.
///
/// # Errors
/// With the first instant that is wrong.
pub fn judge(
    target: &str,
    scrapes: &Scrapes,
    instants: &BTreeMap<i64, BTreeSet<String>>,
    must_show: bool,
    configured: bool,
) -> Result<(), Violation> {
    let none = BTreeSet::new();
    let last = instants.keys().next_back();
    for (at, shown) in instants {
        let latest = scrapes.range(..=at).next_back().filter(|(scrape, _)| **scrape > at - LOOKBACK_MS);
        let (scrape, due) = latest.map_or((0, &none), |(scrape, series)| (*scrape, series));
        let due = if !configured && Some(at) == last { &none } else { due };
        let stays: Vec<_> = shown.difference(due).collect();
        let lacks: Vec<_> = due.difference(shown).collect();
        if !stays.is_empty() || (must_show && !lacks.is_empty()) {
            return Err(Violation {
                invariant: "O7",
                text: format!(
                    "{target} at {at}: its last scrape, at {scrape}, brought {due:?}; shown beside it: {stays:?}, not \
                     shown: {lacks:?}"
                ),
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    /// Instants with the names shown at them.
    fn judged(shown: &[(i64, &str)], must_show: bool, configured: bool) -> bool {
        let scrapes = Scrapes::from([(1000, set(&["up", "a"])), (2000, set(&["up"]))]);
        let names = |text: &str| text.split_whitespace().map(str::to_owned).collect();
        let instants = shown.iter().map(|(at, text)| (*at, names(text))).collect();
        judge("t", &scrapes, &instants, must_show, configured).is_ok()
    }

    #[test]
    fn a_series_is_shown_until_a_scrape_does_not_bring_it() {
        assert!(judged(&[(500, ""), (1000, "up a"), (1500, "up a"), (2000, "up")], true, true));
        assert!(!judged(&[(2000, "up a")], true, true), "no stale marker");
        assert!(!judged(&[(1500, "up")], true, true), "a stale marker too early");
        assert!(!judged(&[(500, "up")], true, true), "before anything was scraped");
        assert!(judged(&[(302_000, "")], true, true), "too long ago");
    }

    #[test]
    fn where_targets_come_and_go_a_series_may_end_earlier_but_not_later() {
        assert!(judged(&[(1500, ""), (2500, "up")], false, true));
        assert!(!judged(&[(2500, "up a")], false, true));
        assert!(!judged(&[(1500, "up a"), (2500, "up")], false, false), "the target is gone");
        assert!(judged(&[(1500, "up a"), (2500, "")], false, false));
    }

    #[test]
    fn a_scrape_leaves_all_of_it_or_only_that_it_failed() {
        let at = |value: Option<f64>| value.map(|value| (1000, value)).into_iter().collect();
        let judge = |up, serial, double| whole("t", &at(up), &at(serial), &at(double)).is_ok();
        assert!(judge(Some(1.0), Some(7.0), Some(14.0)));
        assert!(judge(Some(0.0), None, None));
        assert!(!judge(Some(1.0), None, None), "its samples are lost");
        assert!(!judge(Some(0.0), Some(7.0), Some(14.0)), "it did not fail");
        assert!(!judge(Some(1.0), Some(7.0), Some(7.0)), "a column stands in another's place");
        assert!(!judge(None, Some(7.0), Some(14.0)), "without up");
    }

    #[test]
    fn a_failed_scrape_brings_up_alone() {
        assert_eq!(brought(None), set(&["up"]));
        assert_eq!(brought(Some(8)), set(&["up", "sim_serial", "sim_double", "sim_visitor{turn=\"1\"}"]));
        assert_eq!(brought(Some(12)), set(&["up", "sim_serial", "sim_double"]));
    }
}
