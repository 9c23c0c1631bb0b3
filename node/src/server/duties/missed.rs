//! Slots that nobody scraped, on their way into the log.
//!
//! Slots of a source are taken in order, so a range waits for the rows before it, and rows wait for the ranges
//! before them. Invariants: the ranges of a source rise by their first slot; neighbours that could be one range are
//! one, and there are at most [`RANGES_MAX`] of a source, so a log that takes nothing for hours costs no more memory
//! than one that takes nothing for a minute.

use model::{Row, RowKind, SourceKey, TimestampMs};
use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};
use storage::shard::MissedSlots;

/// Ranges of one source that wait; beyond it the newest two become one, whatever their reasons.
const RANGES_MAX: usize = 16;

/// Missed slots that are not recorded yet.
#[derive(Debug, Default)]
pub(super) struct Missed(BTreeMap<Arc<SourceKey>, VecDeque<MissedSlots>>);

/// A range of a source.
pub(super) type Range = (Arc<SourceKey>, MissedSlots);

impl Missed {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes a range in, in its place.
    pub(super) fn push(&mut self, (source, slots): Range) {
        let ranges = self.0.entry(source).or_default();
        let at = ranges.partition_point(|range| range.from <= slots.from);
        ranges.insert(at, slots);
        join(ranges, at);
        if at > 0 {
            join(ranges, at - 1);
        }
        if ranges.len() > RANGES_MAX
            && let (Some(last), Some(before)) = (ranges.pop_back(), ranges.back_mut())
        {
            before.to = before.to.max(last.to);
        }
    }

    pub(super) fn extend(&mut self, ranges: impl IntoIterator<Item = Range>) {
        ranges.into_iter().for_each(|range| self.push(range));
    }

    /// Takes out what may be recorded now: the first range of each source, unless a waiting row precedes it. One at a
    /// time: a later one that was recorded although the earlier one was not would take its slots.
    pub(super) fn take_ready<'a>(&mut self, rows: impl Iterator<Item = &'a Row>) -> Vec<Range> {
        let mut first: BTreeMap<&SourceKey, TimestampMs> = BTreeMap::new();
        for row in rows {
            if let RowKind::Whole { slot } = row.kind {
                first.entry(&*row.source).and_modify(|first| *first = slot.min(*first)).or_insert(slot);
            }
        }
        let mut ready = Vec::new();
        for (source, ranges) in &mut self.0 {
            let waiting = first.get(&&**source);
            let range = ranges.pop_front_if(|range| waiting.is_none_or(|slot| range.from <= *slot));
            ready.extend(range.map(|range| (source.clone(), range)));
        }
        self.0.retain(|_, ranges| !ranges.is_empty());
        ready
    }

    /// Whether a row has to wait until an earlier slot of its source is recorded.
    pub(super) fn holds(&self, row: &Row) -> bool {
        let RowKind::Whole { slot } = row.kind else { return false };
        let first = self.0.get(&row.source).and_then(VecDeque::front);
        first.is_some_and(|range| range.from < slot)
    }
}

/// Makes the range at `at` and the one behind it one, if they go on from each other.
fn join(ranges: &mut VecDeque<MissedSlots>, at: usize) {
    let (Some(one), Some(next)) = (ranges.get(at), ranges.get(at + 1)) else { return };
    if one.reason == next.reason && one.interval == next.interval && one.to.plus(one.interval) == next.from {
        let to = next.to;
        ranges.remove(at + 1);
        ranges[at].to = to;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::{DurationMs, SeriesTable};

    fn source(name: &str) -> Arc<SourceKey> {
        Arc::new(SourceKey::RemoteWrite { job: name.to_owned(), instance: String::new() })
    }

    /// Slots every ten milliseconds.
    fn range(from: i64, to: i64, reason: &str) -> Range {
        let (from, to) = (TimestampMs(from), TimestampMs(to));
        (source("a"), MissedSlots { from, to, interval: DurationMs(10), reason: reason.to_owned() })
    }

    fn row(slot: i64) -> Row {
        let slot = TimestampMs(slot);
        let table = Arc::new(SeriesTable::new(1));
        Row { source: source("a"), kind: RowKind::Whole { slot }, timestamp: slot, table, cells: Vec::new() }
    }

    /// All that becomes ready one after the other.
    fn ready(missed: &mut Missed, rows: &[Row]) -> Vec<(i64, i64)> {
        let next = || missed.take_ready(rows.iter()).pop();
        std::iter::from_fn(next).map(|(_, slots)| (slots.from.0, slots.to.0)).collect()
    }

    #[test]
    fn slots_that_follow_each_other_are_one_range() {
        let mut missed = Missed::default();
        [10, 30, 20, 60].into_iter().for_each(|slot| missed.push(range(slot, slot, "lost")));
        missed.push(range(40, 40, "other"));
        assert_eq!(ready(&mut missed, &[]), [(10, 30), (40, 40), (60, 60)]);
        assert!(missed.is_empty());
    }

    #[test]
    fn a_range_waits_for_the_rows_before_it_and_rows_for_the_ranges_before_them() {
        let mut missed = Missed::default();
        missed.push(range(10, 20, "lost"));
        missed.push(range(50, 50, "lost"));
        assert_eq!((missed.holds(&row(10)), missed.holds(&row(30))), (false, true));
        assert_eq!(ready(&mut missed, &[row(40), row(30)]), [(10, 20)]);
        assert_eq!((missed.holds(&row(30)), missed.holds(&row(60))), (false, true));
        assert_eq!(ready(&mut missed, &[row(60)]), [(50, 50)]);
    }

    #[test]
    fn a_log_that_takes_nothing_for_hours_costs_little_memory() {
        let mut missed = Missed::default();
        for slot in 0..100_000 {
            let reason = if slot % 2 == 0 { "lost" } else { "other" };
            missed.push(range(slot * 10, slot * 10, reason));
        }
        let ready = ready(&mut missed, &[]);
        assert_eq!(ready.len(), RANGES_MAX);
        assert_eq!((ready.first(), ready.last().map(|(_, to)| *to)), (Some(&(0, 0)), Some(999_990)));
    }
}
