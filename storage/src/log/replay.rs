//! Builds the groups' state from the records of all segments, in order. No I/O.

use super::{
    Loc, LogId, LogIndex, ShardId,
    format::{Kind, RECORD_HEADER_BYTES, Record, Summary},
    group::Group,
    options::{GROUPS_MAX, IDENTITY_BYTES_MAX, VOTE_BYTES_MAX},
};
use bytes::Bytes;
use std::collections::BTreeMap;

/// What the segments read so far say.
#[derive(Debug, Default)]
pub(super) struct Replay {
    pub(super) groups: BTreeMap<ShardId, Group>,
    pub(super) identity: Option<Bytes>,
    /// The oldest segment that belongs to the log.
    pub(super) oldest: u32,
    pub(super) entries: u64,
    /// More entries than this cannot be in segments of this length: bounds memory against nonsense.
    entries_max: u64,
    segments: u32,
    batches: u32,
    states: usize,
}

impl Replay {
    /// Begins; `bytes` is the length of all segments together.
    pub(super) fn new(bytes: u64) -> Replay {
        Replay { entries_max: bytes / RECORD_HEADER_BYTES as u64, ..Replay::default() }
    }

    /// Begins with the records of the next segment.
    pub(super) fn segment(&mut self, oldest: u32) {
        self.oldest = self.oldest.max(oldest);
        self.segments += 1;
        self.batches = 0;
    }

    /// Takes a batch. An error names what contradicts what came before.
    pub(super) fn batch(&mut self, records: &[Record<'_>]) -> Result<(), &'static str> {
        for record in records {
            self.record(record)?;
        }
        let told = self.groups.values().filter(|group| group.durable != Summary::default()).count();
        if self.batches == 0 && self.states != told {
            return Err("segment does not begin with the state of all groups");
        }
        self.batches += 1;
        self.states = 0;
        Ok(())
    }

    fn record(&mut self, record: &Record<'_>) -> Result<(), &'static str> {
        match record.head.kind {
            Kind::State => return self.state(record),
            Kind::Identity if record.payload.len() <= IDENTITY_BYTES_MAX => {
                self.identity = Some(Bytes::copy_from_slice(record.payload));
                return Ok(());
            }
            Kind::Identity => return Err("identity is too long"),
            Kind::Drop => {
                let oldest = record.head.log_id.ok_or("drop without a segment")?.index.0;
                self.oldest =
                    self.oldest.max(u32::try_from(oldest).map_err(|_| "drop of an impossible segment")?);
                return Ok(());
            }
            Kind::Mark => return Ok(()),
            _ => {}
        }
        if self.groups.len() >= GROUPS_MAX && !self.groups.contains_key(&record.head.group) {
            return Err("too many groups");
        }
        let group = self.groups.entry(record.head.group).or_default();
        let log_id = record.head.log_id.ok_or("record without a log id");
        if log_id.is_ok_and(|id| id.index.0 == u64::MAX) {
            return Err("impossible index");
        }
        match record.head.kind {
            Kind::Append => {
                group.durable.check_append(log_id?.index.0).map_err(|_| "entry out of order")?;
                group.durable.append(log_id?);
                group.append(log_id?, record.loc);
                self.entries += 1;
            }
            Kind::Copy => {
                *group.loc_mut(log_id?.index.0).ok_or("copy of an entry that is not there")? = record.loc;
            }
            Kind::Vote if record.payload.len() <= VOTE_BYTES_MAX => {
                group.durable.vote = Some(Bytes::copy_from_slice(record.payload));
                group.logical.vote = group.durable.vote.clone();
            }
            Kind::Vote => return Err("vote is too long"),
            Kind::Truncate => {
                let after = record.head.log_id;
                group.durable.check_truncate(after).map_err(|_| "truncation out of order")?;
                group.durable.truncate(after);
                self.entries -= group.truncate(after).len() as u64;
            }
            Kind::Purge => {
                group.durable.purge(log_id?);
                self.entries -= group.purge(log_id?).len() as u64;
            }
            Kind::Committed => {
                group.durable.committed = Some(log_id?);
                group.logical.committed = Some(log_id?);
            }
            Kind::State | Kind::Identity | Kind::Drop | Kind::Mark => {}
        }
        Ok(())
    }

    /// The first segment read sets the groups up; each further one must agree with what was replayed.
    fn state(&mut self, record: &Record<'_>) -> Result<(), &'static str> {
        if self.batches != 0 {
            return Err("group state within a segment");
        }
        let summary = Summary::decode(record.payload).ok_or("malformed group state")?;
        self.states += 1;
        if self.segments > 1 {
            let known = self.groups.get(&record.head.group).is_some_and(|group| group.durable == summary);
            return if known { Ok(()) } else { Err("group state contradicts the records before it") };
        }
        if self.groups.len() >= GROUPS_MAX || self.groups.contains_key(&record.head.group) {
            return Err("too many groups, or one twice");
        }
        // Entries of segments that are gone were copied to later ones: their places are open until then.
        let mut group = Group { logical: summary.clone(), durable: summary, ..Group::default() };
        let entries = group.entries_claimed().ok_or("malformed group state")?;
        if self.entries.saturating_add(entries) > self.entries_max {
            return Err("group state claims more entries than the log can hold");
        }
        self.entries += entries;
        group.locs.resize(entries as usize, Loc::ABSENT);
        self.groups.insert(record.head.group, group);
        Ok(())
    }

    /// The first entry that is nowhere, or in a segment that was given up.
    pub(super) fn lost(&self) -> Option<(ShardId, LogIndex)> {
        self.groups.iter().find_map(|(id, group)| {
            let slot = group.locs.iter().position(|loc| *loc == Loc::ABSENT || loc.segment < self.oldest)?;
            Some((*id, LogIndex(group.logical.first + slot as u64)))
        })
    }
}

impl Group {
    /// Number of entries the summary speaks of; `None` if its pointers contradict each other.
    fn entries_claimed(&self) -> Option<u64> {
        let Summary { first, last, purged, .. } = &self.durable;
        if purged.is_some_and(|purged| purged.index.0 >= *first || last.is_none()) {
            return None;
        }
        match last {
            None => (*first == 0).then_some(0),
            Some(LogId { index, .. }) => (index.0.checked_add(1)?).checked_sub(*first),
        }
    }
}
