//! Reading entries back: the newest from memory, the others from the segments, neighbours in one read.

use super::{
    Loc, Log, LogError, LogId, LogIndex, ShardId,
    format::RECORD_HEADER_BYTES,
    writer::{check_entry, lock},
};
use bytes::Bytes;
use model::File;
use std::{ops::Range, sync::Arc};

/// At most so many bytes are read at once, unless a single entry is longer.
const READ_BYTES: u64 = 1 << 20;
/// Bytes of other groups between two entries that are read along rather than skipped.
const GAP_BYTES: u64 = 16 * 1024;

enum Source {
    Cache(LogId, Bytes),
    File(Arc<dyn File>, Loc),
}

impl Log {
    /// Entries of `range`, in order and without holes, as many as there are and as fit into `max_bytes` of payload;
    /// at least one if there is any. Finds what waits for the disk, too.
    ///
    /// # Errors
    /// [`LogError::Purged`] if the first one asked for is gone; [`LogError::Corrupt`] or [`LogError::Read`] if the
    /// disk does not give back what was written.
    pub fn read(
        &self,
        group: ShardId,
        range: Range<LogIndex>,
        max_bytes: usize,
    ) -> Result<Vec<(LogId, Bytes)>, LogError> {
        let sources = self.locate(group, range.start.0..range.end.0, max_bytes)?;
        let mut entries = Vec::with_capacity(sources.len());
        let mut rest = sources.as_slice();
        while let Some((source, later)) = rest.split_first() {
            match source {
                Source::Cache(log_id, payload) => {
                    entries.push((*log_id, payload.clone()));
                    rest = later;
                }
                Source::File(file, first) => {
                    let count = neighbours(*first, rest);
                    read_run(&**file, &rest[..count], &mut entries)?;
                    rest = &rest[count..];
                }
            }
        }
        Ok(entries)
    }

    fn locate(&self, group: ShardId, range: Range<u64>, max_bytes: usize) -> Result<Vec<Source>, LogError> {
        let state = lock(&self.shared.state);
        let mut sources = Vec::new();
        let Some(entries) = state.groups.get(&group) else { return Ok(sources) };
        let first = entries.logical.first;
        if range.start < first && !range.is_empty() && entries.logical.purged.is_some() {
            return Err(LogError::Purged { group, first: LogIndex(first) });
        }
        let mut bytes = 0;
        for index in range.start.max(first)..range.end {
            let Some(loc) = entries.loc(index).filter(|_| entries.logical.contains(index)) else { break };
            bytes += loc.length as usize;
            if !sources.is_empty() && bytes > max_bytes {
                break;
            }
            match (entries.cached(index), state.segments.get(&loc.segment)) {
                (Some((log_id, payload)), _) => sources.push(Source::Cache(*log_id, payload.clone())),
                (None, Some(segment)) => sources.push(Source::File(segment.file.clone(), loc)),
                (None, None) => {
                    let reason = format!("entry {index} of shard {group} has no place");
                    return Err(LogError::Read { segment: loc.segment, reason });
                }
            }
        }
        Ok(sources)
    }
}

fn end(loc: Loc) -> u64 {
    u64::from(loc.offset) + RECORD_HEADER_BYTES as u64 + u64::from(loc.length)
}

/// How many of the sources from the first on lie close behind each other in its segment.
fn neighbours(first: Loc, sources: &[Source]) -> usize {
    let mut before = first;
    let follows = |source: &&Source| match source {
        Source::File(_, loc) => {
            let near = loc.segment == first.segment
                && u64::from(loc.offset) >= end(before)
                && u64::from(loc.offset) - end(before) <= GAP_BYTES
                && end(*loc) - u64::from(first.offset) <= READ_BYTES;
            before = *loc;
            near
        }
        Source::Cache(..) => false,
    };
    1 + sources[1..].iter().take_while(follows).count()
}

fn read_run(file: &dyn File, run: &[Source], entries: &mut Vec<(LogId, Bytes)>) -> Result<(), LogError> {
    let locs =
        run.iter().filter_map(|source| if let Source::File(_, loc) = source { Some(*loc) } else { None });
    let (Some(first), Some(last)) = (locs.clone().next(), locs.clone().last()) else { return Ok(()) };
    let mut bytes = vec![0; (end(last) - u64::from(first.offset)) as usize];
    file.read_exact_at(&mut bytes, u64::from(first.offset))
        .map_err(|error| LogError::Read { segment: first.segment, reason: error.to_string() })?;
    let bytes = Bytes::from(bytes);
    for loc in locs {
        entries.push(check_entry(&bytes, (loc.offset - first.offset) as usize, loc)?);
    }
    Ok(())
}
