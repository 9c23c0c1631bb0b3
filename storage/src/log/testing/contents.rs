//! What a log would hold if the power failed now: for simulators that judge what nodes promise.

use super::MemFs;
use crate::log::{
    GroupState, LogOptions, OpenError, recover,
    scan::{SegmentScan, Stop, synced_beyond},
    segment,
    writer::read_entry,
};
use bytes::Bytes;
use model::{Fs, LogId, OpenOptions, ShardId};
use std::{collections::BTreeMap, path::Path};

/// One group's part of a log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupContents {
    /// Its vote and pointers.
    pub state: GroupState,
    /// Its entries, in order.
    pub entries: Vec<(LogId, Bytes)>,
}

/// What is found in `dir` after a power loss that takes all that was not synced. Changes nothing; empty if there is no
/// log.
///
/// # Errors
/// As for a node that opens it.
pub fn durable_contents(
    fs: &MemFs,
    dir: &Path,
    options: &LogOptions,
) -> Result<BTreeMap<ShardId, GroupContents>, OpenError> {
    let fs = fs.fork_durable();
    if !segment::list(&fs, dir).is_ok_and(|segments| !segments.is_empty()) {
        return Ok(BTreeMap::new());
    }
    let (state, _, recovered) = recover::open(&fs, dir, options)?;
    let mut contents = BTreeMap::new();
    for (shard, group) in &state.groups {
        let locs = group.locs.iter().filter_map(|loc| Some((state.segments.get(&loc.segment)?, *loc)));
        let entries = locs.map(|(segment, loc)| read_entry(&*segment.file, loc));
        let entries = entries
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| OpenError::Io { doing: "read what was recovered", source: error.into() })?;
        let state = recovered.groups.get(shard).cloned().unwrap_or_default();
        contents.insert(*shard, GroupContents { state, entries });
    }
    Ok(contents)
}

/// What in `dir`, as its files are now, is not what was written and cannot be a torn tail: a node must not start on it.
/// Judged without the code that opens logs, which has to find the same.
#[must_use]
pub fn damage_in(fs: &MemFs, dir: &Path) -> Option<String> {
    let fs = fs.fork(); // reads that fail are not damage
    let ids = segment::list(&fs, dir).ok()?;
    let breaks = ids.windows(2).rposition(|pair| pair[0] + 1 != pair[1]).map_or(0, |at| at + 1);
    let mut chain = None;
    for id in &ids[breaks..] {
        let options = OpenOptions { write: true, ..OpenOptions::default() };
        let file = fs.open(&segment::path(dir, *id), options).ok()?;
        let end = SegmentScan::open(&*file, *id, chain).and_then(|(mut scan, _)| {
            while scan.next(|_, _| Ok(()))?.is_some() {}
            Ok(scan.chain)
        });
        match end {
            Ok(end) => chain = Some(end),
            Err(Stop::Damage { at, reason }) => {
                let torn = ids.last() == Some(id) && !synced_beyond(&*file, at).ok()?;
                return (!torn).then(|| format!("{reason} at {at:?}"));
            }
            Err(stop) => return Some(format!("{stop:?}")),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::{Log, LogPorts, testing::StepClock};
    use model::{LogIndex, Term};
    use std::sync::Arc;

    #[test]
    fn what_was_acknowledged_is_seen_and_what_was_not_synced_is_not() {
        let (fs, dir, options) = (MemFs::default(), Path::new("/log"), LogOptions::default());
        assert_eq!(durable_contents(&fs, dir, &options).expect("nothing there"), BTreeMap::new());
        let ports =
            LogPorts { fs: Arc::new(fs.clone()), clock: Arc::new(StepClock::default()), spawner: None };
        let (log, _) = Log::open(ports, dir, options).expect("opens");
        let entry = |index| (LogId { term: Term(1), index: LogIndex(index) }, Bytes::from_static(b"x"));
        log.append(ShardId(2), vec![entry(0), entry(1)], Box::new(|_| ())).expect("appended");
        log.save_vote(ShardId(2), Bytes::from_static(b"vote"), Box::new(|_| ())).expect("saved");
        let file = fs.open(&segment::path(dir, 1), OpenOptions { write: true, ..OpenOptions::default() });
        let file = file.expect("opens");
        let len = file.len().expect("measured");
        file.write_all_at(b"not synced", len).expect("written");
        let found = durable_contents(&fs, dir, &options).expect("read");
        assert_eq!(found[&ShardId(2)].entries, [entry(0), entry(1)]);
        assert_eq!(found[&ShardId(2)].state.vote, Some(Bytes::from_static(b"vote")));
        assert_eq!(file.len().expect("measured"), len + 10, "nothing was changed");
    }

    #[test]
    fn damage_in_the_middle_is_seen_and_a_torn_tail_is_none() {
        let (fs, dir, options) = (MemFs::default(), Path::new("/log"), LogOptions::default());
        let ports =
            LogPorts { fs: Arc::new(fs.clone()), clock: Arc::new(StepClock::default()), spawner: None };
        let (log, _) = Log::open(ports, dir, options).expect("opens");
        let file = fs.open(&segment::path(dir, 1), OpenOptions { write: true, ..OpenOptions::default() });
        let file = file.expect("opens");
        let mut append = |index| {
            let entry = (LogId { term: Term(1), index: LogIndex(index) }, Bytes::from_static(b"payload"));
            let before = file.len().expect("measured");
            log.append(ShardId(2), vec![entry], Box::new(|_| ())).expect("appended");
            before
        };
        let [first, _, third] = [0, 1, 2].map(&mut append);
        file.write_all_at(b"torn", third + 1).expect("written");
        assert_eq!(damage_in(&fs, dir), None, "nothing says that the last batch was synced");
        file.write_all_at(b"rotten", first + 1).expect("written");
        assert!(damage_in(&fs, dir).is_some(), "a batch behind it says that this was");
    }
}
