//! What a log would hold if the power failed now: for simulators that judge what nodes promise.

use super::MemFs;
use crate::log::{GroupState, LogOptions, OpenError, recover, segment, writer::read_entry};
use bytes::Bytes;
use model::{LogId, ShardId};
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::{Log, LogPorts, testing::StepClock};
    use model::{Fs, LogIndex, Term};
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
        let file = fs.open(&segment::path(dir, 1), model::OpenOptions { write: true, ..Default::default() });
        let file = file.expect("opens");
        let len = file.len().expect("measured");
        file.write_all_at(b"not synced", len).expect("written");
        let found = durable_contents(&fs, dir, &options).expect("read");
        assert_eq!(found[&ShardId(2)].entries, [entry(0), entry(1)]);
        assert_eq!(found[&ShardId(2)].state.vote, Some(Bytes::from_static(b"vote")));
        assert_eq!(file.len().expect("measured"), len + 10, "nothing was changed");
    }
}
