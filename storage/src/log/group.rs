//! One group's part of the log in memory: its pointers, where each entry stands, and its recent entries.
//!
//! ```text
//!            purged      first                          last
//!  ─ ─ ─ ─ ─ ─ ─ ┘ ┌─────┬─────┬─────┬─────┬─────┬─────┐
//!  locs            │     │     │     │     │     │     │   12 bytes each
//!                  └─────┴─────┴─────┼─────┼─────┼─────┤
//!  cache                             │     │     │     │   the newest, without a hole
//!                                    └─────┴─────┴─────┘
//! ```
//!
//! `logical` is what callers see: it contains what still waits for the disk. `durable` is what the segments say.

use super::{Loc, LogId, LogIndex, format::Summary};
use bytes::Bytes;
use std::collections::VecDeque;

/// An entry that was taken out by a truncation or purge that is not durable yet.
pub(super) type Removed = (u64, Loc);

#[derive(Debug, Default)]
pub(super) struct Group {
    pub(super) logical: Summary,
    pub(super) durable: Summary,
    /// Where the entries from `logical.first` on stand.
    pub(super) locs: VecDeque<Loc>,
    /// The newest entries; a suffix of what `locs` holds.
    pub(super) cache: VecDeque<(LogId, Bytes)>,
}

impl Summary {
    /// Index of the next entry; `None` if any may be the first.
    pub(super) fn next(&self) -> Option<u64> {
        self.last.map(|last| last.index.0.saturating_add(1))
    }

    /// Whether an entry with this index is there.
    pub(super) fn contains(&self, index: u64) -> bool {
        index >= self.first && self.last.is_some_and(|last| index <= last.index.0)
    }

    /// Whether `index` may be appended. A group that never had an entry begins at 0 or 1.
    pub(super) fn check_append(&self, index: u64) -> Result<(), String> {
        match self.next() {
            _ if index == u64::MAX => Err("append of the highest index there is".to_owned()),
            Some(next) if next == index => Ok(()),
            None if index <= 1 => Ok(()),
            Some(next) => Err(format!("append of index {index}, expected {next}")),
            None => Err(format!("append of index {index} to an empty log, expected 0 or 1")),
        }
    }

    pub(super) fn append(&mut self, log_id: LogId) {
        if self.last.is_none() {
            self.first = log_id.index.0;
        }
        self.last = Some(log_id);
    }

    /// Whether entries behind `after` may be cut off.
    pub(super) fn check_truncate(&self, after: Option<LogId>) -> Result<(), String> {
        let index = |id: Option<LogId>| id.map(|id| id.index);
        if index(after) < index(self.purged) {
            return Err(format!(
                "truncate after {:?} below the purge point {:?}",
                index(after),
                index(self.purged)
            ));
        }
        if index(after) > index(self.last) {
            return Err(format!(
                "truncate after {:?} beyond the last entry {:?}",
                index(after),
                index(self.last)
            ));
        }
        Ok(())
    }

    pub(super) fn truncate(&mut self, after: Option<LogId>) {
        self.last = after;
        if after.is_none() {
            self.first = 0;
        }
    }

    /// Does nothing for what is purged already.
    pub(super) fn purge(&mut self, upto: LogId) {
        if self.purged.is_some_and(|purged| purged.index >= upto.index) {
            return;
        }
        self.purged = Some(upto);
        self.first = self.first.max(upto.index.0.saturating_add(1));
        if self.last.is_none_or(|last| last.index <= upto.index) {
            self.last = Some(upto);
            self.first = upto.index.0.saturating_add(1);
        }
    }
}

impl Group {
    /// Number of entries there should be.
    pub(super) fn len(&self) -> usize {
        match self.logical.last {
            Some(last) if last.index.0 >= self.logical.first => {
                (last.index.0 - self.logical.first + 1) as usize
            }
            _ => 0,
        }
    }

    pub(super) fn assert_invariants(&self) {
        debug_assert_eq!(self.locs.len(), self.len(), "{:?}", self.logical);
        debug_assert!(self.cache.len() <= self.locs.len());
        debug_assert!(self.cache.back().is_none_or(|(id, _)| Some(*id) == self.logical.last));
    }

    /// Where entry `index` stands.
    pub(super) fn loc_mut(&mut self, index: u64) -> Option<&mut Loc> {
        let slot = index.checked_sub(self.logical.first)?;
        self.locs.get_mut(usize::try_from(slot).ok()?)
    }

    /// Where entry `index` stands.
    pub(super) fn loc(&self, index: u64) -> Option<Loc> {
        let slot = index.checked_sub(self.logical.first)?;
        self.locs.get(usize::try_from(slot).ok()?).copied()
    }

    pub(super) fn append(&mut self, log_id: LogId, loc: Loc) {
        self.logical.append(log_id);
        self.locs.push_back(loc);
    }

    /// Cuts off the entries behind `after`; yields them, the last one first.
    pub(super) fn truncate(&mut self, after: Option<LogId>) -> Vec<Removed> {
        let mut removed = Vec::new();
        while let Some(last) =
            self.logical.last.filter(|last| after.is_none_or(|after| last.index > after.index))
        {
            let Some(loc) = self.locs.pop_back() else { break };
            removed.push((last.index.0, loc));
            self.cache.pop_back();
            // Only the index of an intermediate `last` matters; the final one is set below.
            match last.index.0.checked_sub(1) {
                Some(index) => self.logical.last = Some(LogId { index: LogIndex(index), ..last }),
                None => break,
            }
        }
        self.logical.truncate(after);
        removed
    }

    /// Removes the entries up to `upto`; yields them, the first one first.
    pub(super) fn purge(&mut self, upto: LogId) -> Vec<Removed> {
        let mut removed = Vec::new();
        let mut index = self.logical.first;
        while index <= upto.index.0 {
            let Some(loc) = self.locs.pop_front() else { break };
            removed.push((index, loc));
            index += 1;
        }
        while self.cache.front().is_some_and(|(id, _)| id.index <= upto.index) {
            self.cache.pop_front();
        }
        self.logical.purge(upto);
        removed
    }

    /// The payload of entry `index`, if it is in memory.
    pub(super) fn cached(&self, index: u64) -> Option<&(LogId, Bytes)> {
        let first = self.cache.front()?.0.index.0;
        self.cache.get(usize::try_from(index.checked_sub(first)?).ok()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::Term;

    fn id(index: u64) -> LogId {
        LogId { term: Term(1), index: LogIndex(index) }
    }

    fn group(indexes: std::ops::Range<u64>) -> Group {
        let mut group = Group::default();
        for index in indexes {
            group.append(id(index), Loc { segment: 1, offset: index as u32, length: 0 });
        }
        group
    }

    fn check(group: &Group, first: u64, last: Option<u64>) {
        group.assert_invariants();
        assert_eq!((group.logical.first, group.logical.last), (first, last.map(id)));
    }

    #[test]
    fn a_truncation_takes_the_tail() {
        let mut group = group(0..5);
        assert_eq!(group.truncate(Some(id(2))).iter().map(|(i, _)| *i).collect::<Vec<_>>(), [4, 3]);
        check(&group, 0, Some(2));
        group.truncate(None);
        check(&group, 0, None);
    }

    #[test]
    fn a_purge_takes_the_front_and_may_go_beyond_the_end() {
        let mut group = group(1..6);
        assert_eq!(group.purge(id(2)).len(), 2);
        check(&group, 3, Some(5));
        assert_eq!(group.purge(id(100)).len(), 3);
        check(&group, 101, Some(100));
        assert_eq!(group.logical.check_append(101), Ok(()));
    }

    #[test]
    fn a_truncation_stays_between_purge_point_and_end() {
        let mut group = group(0..5);
        group.purge(id(2));
        assert!(group.logical.check_truncate(Some(id(1))).is_err());
        assert!(group.logical.check_truncate(Some(id(5))).is_err());
        assert!(group.logical.check_truncate(None).is_err());
        assert_eq!(group.logical.check_truncate(Some(id(2))), Ok(()));
    }
}
