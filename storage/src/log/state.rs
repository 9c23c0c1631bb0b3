//! Everything about the open log that is in memory, behind one lock: groups, queue, segments.
//!
//! An operation takes effect on the groups when it is queued (`logical`), and on disk when its batch is synced
//! (`durable`). Until then it remembers what it took away, so that a failed one can be undone exactly, and so that
//! an entry counts as alive until its removal is durable.

use super::{
    GroupState, Loc, LogError, LogId, LogIndex, LogOptions, LogStats, ShardId,
    format::Summary,
    group::{Group, Removed},
    options::{BATCH_OVERHEAD, record_bytes},
    segment::Segment,
};
use bytes::Bytes;
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    io,
    sync::Arc,
    time::Duration,
};

/// Called once, when an operation is durable or has failed; on the log's thread, without a lock held.
pub type Done = Box<dyn FnOnce(io::Result<()>) + Send>;

/// What waits for the disk.
pub(super) enum Action {
    Append(Arc<Vec<(LogId, Bytes)>>),
    Vote(Bytes),
    Truncate { after: Option<LogId>, removed: Vec<Removed> },
    Purge { upto: LogId, removed: Vec<Removed> },
    Identity(Bytes),
}

pub(super) struct Op {
    pub(super) group: ShardId,
    pub(super) action: Action,
    /// Marks the places of this operation's entries until they have one; never 0.
    pub(super) ticket: u32,
    pub(super) bytes: u64,
    pub(super) done: Option<Done>,
}

impl Op {
    fn removed_mut(&mut self) -> Option<&mut Vec<Removed>> {
        match &mut self.action {
            Action::Truncate { removed, .. } | Action::Purge { removed, .. } => Some(removed),
            _ => None,
        }
    }
}

/// What the writer writes; cheap to clone from an operation.
pub(super) enum Planned {
    Append { group: ShardId, entries: Arc<Vec<(LogId, Bytes)>> },
    Vote { group: ShardId, vote: Bytes },
    Truncate { group: ShardId, after: Option<LogId> },
    Purge { group: ShardId, upto: LogId },
    Committed { group: ShardId, log_id: LogId },
    Identity(Bytes),
    Drop { oldest: u32 },
}

/// There is no room for what waits.
pub(super) struct Full {
    /// Why.
    pub(super) error: LogError,
    /// Even small operations find none.
    pub(super) spare_used: bool,
}

/// A batch's worth of work.
#[derive(Default)]
pub(super) struct Plan {
    /// Places in the queue of the operations that are in `records`, in the same order.
    pub(super) ops: Vec<usize>,
    pub(super) records: Vec<Planned>,
    pub(super) bytes: u64,
}

#[derive(Default)]
pub(super) struct State {
    pub(super) groups: BTreeMap<ShardId, Group>,
    pub(super) queue: VecDeque<Op>,
    pub(super) queued_bytes: u64,
    /// Part of `queued_bytes` that will be live entries.
    pub(super) queued_live: u64,
    pub(super) segments: BTreeMap<u32, Segment>,
    /// The oldest segment of the log; files below are about to be removed.
    pub(super) oldest: u32,
    /// Length of all segments.
    pub(super) bytes: u64,
    /// Bytes of entries that are on disk and wanted.
    pub(super) live: u64,
    /// Bytes of entries for which room is kept; those that are being appended may be counted twice for a moment.
    pub(super) reserved: u64,
    pub(super) identity: Option<Bytes>,
    pub(super) failed: Option<LogError>,
    /// The last batch found no room: what waits is held, and only small operations are written.
    pub(super) full: Option<Full>,
    /// It is time to look for room again.
    pub(super) retry: bool,
    pub(super) closing: bool,
    pub(super) closed: bool,
    /// Whether somebody runs the writer right now (inline mode).
    pub(super) writing: bool,
    /// Since when the disk has owed the writer an answer, monotonic; set by who writes, before it asks the disk.
    pub(super) waits_since: Option<Duration>,
    ticket: u32,
    cached: VecDeque<(ShardId, u64, u64)>,
    cached_bytes: u64,
    pub(super) stats: LogStats,
}

impl State {
    pub(super) fn recovered(
        groups: BTreeMap<ShardId, Group>,
        segments: BTreeMap<u32, Segment>,
        oldest: u32,
    ) -> State {
        let mut state = State { groups, segments, oldest, ..State::default() };
        state.bytes = state.segments.values().map(|segment| segment.len).sum();
        for (id, group) in &state.groups {
            for loc in &group.locs {
                let bytes = record_bytes(loc.length as usize);
                if let Some(segment) = state.segments.get_mut(&loc.segment) {
                    segment.add(*id, bytes);
                    state.live += bytes;
                }
            }
        }
        state
    }

    pub(super) fn group_state(&self, group: ShardId) -> Option<GroupState> {
        self.groups.get(&group).map(|group| GroupState::from(&group.logical))
    }

    /// The highest segment below which nothing is alive; the newest at most.
    pub(super) fn droppable(&self) -> Option<u32> {
        let newest = *self.segments.keys().next_back()?;
        let oldest =
            self.segments.iter().find(|(_, segment)| !segment.live.is_empty()).map_or(newest, |(id, _)| *id);
        (oldest > self.oldest).then_some(oldest)
    }

    /// Whether only small operations are to be written.
    pub(super) fn is_held(&self) -> bool {
        self.full.is_some() && !self.retry
    }

    pub(super) fn has_work(&self) -> bool {
        if self.failed.is_some() {
            return !self.queue.is_empty();
        }
        match &self.full {
            Some(full) if !self.retry => {
                !full.spare_used && (self.droppable().is_some() || self.small_ops().next().is_some())
            }
            Some(_) => true,
            None => !self.queue.is_empty() || self.droppable().is_some(),
        }
    }

    /// Operations that may be written although entries before them wait. A vote has nothing to do with entries; other
    /// operations keep their order within their group.
    fn small_ops(&self) -> impl Iterator<Item = usize> {
        let mut waiting = BTreeSet::new();
        let mut is_small = move |op: &Op| match &op.action {
            Action::Vote(_) | Action::Identity(_) => true,
            Action::Truncate { .. } | Action::Purge { .. } => !waiting.contains(&op.group),
            Action::Append(_) => {
                waiting.insert(op.group);
                false
            }
        };
        self.queue.iter().enumerate().filter(move |(_, op)| is_small(op)).map(|(at, _)| at)
    }

    /// Queues an operation whose effect on the group is in place already.
    pub(super) fn push(
        &mut self,
        group: ShardId,
        action: Action,
        bytes: u64,
        ticket: u32,
        done: Option<Done>,
    ) {
        self.queued_bytes += bytes;
        if matches!(action, Action::Append(_)) {
            self.queued_live += bytes;
        }
        self.queue.push_back(Op { group, action, ticket, bytes, done });
    }

    pub(super) fn next_ticket(&mut self) -> u32 {
        self.ticket = self.ticket.checked_add(1).unwrap_or(1);
        self.ticket
    }

    pub(super) fn check_open(&self) -> Result<(), LogError> {
        match &self.failed {
            Some(error) => Err(error.clone()),
            None if self.closing => Err(LogError::Closed),
            None => Ok(()),
        }
    }

    /// Keeps an entry in memory; older ones go when there are too many bytes.
    pub(super) fn cache(&mut self, group: ShardId, log_id: LogId, payload: Bytes) {
        let cost = payload.len() as u64 + 96;
        if let Some(entries) = self.groups.get_mut(&group) {
            entries.cache.push_back((log_id, payload));
        }
        self.cached.push_back((group, log_id.index.0, cost));
        self.cached_bytes += cost;
    }

    /// Lets the oldest cached entries go until they fit; those without a place on disk stay.
    pub(super) fn trim_cache(&mut self, max: u64) {
        while self.cached_bytes > max {
            let Some((group, index, cost)) = self.cached.front().copied() else { break };
            if let Some(group) = self.groups.get_mut(&group)
                && group.cache.front().is_some_and(|(id, _)| id.index.0 == index)
            {
                if group.loc(index).is_some_and(Loc::is_pending) {
                    break;
                }
                group.cache.pop_front();
            }
            self.cached.pop_front();
            self.cached_bytes -= cost;
        }
    }

    /// Chooses what the next batch holds.
    pub(super) fn plan(&self, options: &LogOptions, only_small: bool) -> Plan {
        let mut plan = Plan { bytes: BATCH_OVERHEAD, ..Plan::default() };
        let small: Option<Vec<usize>> = only_small.then(|| self.small_ops().collect());
        let chosen = |at: &usize| small.as_ref().is_none_or(|small| small.binary_search(at).is_ok());
        for (at, op) in self.queue.iter().enumerate().filter(|(at, _)| chosen(at)) {
            if !plan.ops.is_empty() && plan.bytes + op.bytes > options.batch_bytes() {
                break;
            }
            plan.ops.push(at);
            plan.bytes += op.bytes;
            plan.records.push(match &op.action {
                Action::Append(entries) => Planned::Append { group: op.group, entries: entries.clone() },
                Action::Vote(vote) => Planned::Vote { group: op.group, vote: vote.clone() },
                Action::Truncate { after, .. } => Planned::Truncate { group: op.group, after: *after },
                Action::Purge { upto, .. } => Planned::Purge { group: op.group, upto: *upto },
                Action::Identity(identity) => Planned::Identity(identity.clone()),
            });
        }
        // Committed indexes are hints: they travel with whatever is written anyway.
        for (id, group) in &self.groups {
            if let Some(log_id) = group
                .logical
                .committed
                .filter(|_| !only_small && group.logical.committed != group.durable.committed)
            {
                plan.bytes += record_bytes(0);
                plan.records.push(Planned::Committed { group: *id, log_id });
            }
        }
        if let Some(oldest) = self.droppable() {
            plan.bytes += record_bytes(0);
            plan.records.push(Planned::Drop { oldest });
        }
        plan
    }

    /// Where an entry's place is kept: in its group, or with the operation that removes it.
    fn place_mut(&mut self, group: ShardId, index: u64, loc: Loc) -> Option<&mut Loc> {
        let here = self.groups.get_mut(&group)?.loc_mut(index).filter(|place| **place == loc);
        if here.is_some() {
            return here;
        }
        let ops = self.queue.iter_mut().filter(|op| op.group == group);
        ops.filter_map(Op::removed_mut)
            .flatten()
            .find(|(removed, place)| *removed == index && *place == loc)
            .map(|(_, place)| place)
    }

    /// An entry now stands at `to`. Without a trace of it nothing happens.
    pub(super) fn place(&mut self, group: ShardId, index: u64, from: Loc, to: Loc) {
        let Some(place) = self.place_mut(group, index, from) else { return };
        *place = to;
        self.unaccount(group, from);
        let bytes = record_bytes(to.length as usize);
        if let Some(segment) = self.segments.get_mut(&to.segment) {
            segment.add(group, bytes);
            self.live += bytes;
        }
    }

    fn unaccount(&mut self, group: ShardId, loc: Loc) {
        let bytes = record_bytes(loc.length as usize);
        if let Some(segment) = self.segments.get_mut(&loc.segment) {
            segment.sub(group, bytes);
            self.live -= bytes;
        }
    }

    /// The plan is on disk and synced; `locs` are the places of all its entries, in order. Yields whom to tell.
    pub(super) fn complete(&mut self, plan: &Plan, locs: &[Loc]) -> Vec<Done> {
        let mut locs = locs.iter();
        let mut dones = Vec::new();
        // As each is taken out, those behind it move up by one.
        let mut ops = plan.ops.iter().enumerate().map(|(taken, at)| at - taken);
        for record in &plan.records {
            match record {
                Planned::Committed { group, log_id } => {
                    if let Some(group) = self.groups.get_mut(group) {
                        group.durable.committed = Some(*log_id);
                    }
                }
                Planned::Drop { oldest } => self.oldest = self.oldest.max(*oldest),
                _ => {
                    let Some(mut op) = ops.next().and_then(|at| self.queue.remove(at)) else { continue };
                    self.queued_bytes -= op.bytes;
                    self.complete_op(&op, &mut locs);
                    dones.extend(op.done.take());
                }
            }
        }
        dones
    }

    fn complete_op<'a>(&mut self, op: &Op, locs: &mut impl Iterator<Item = &'a Loc>) {
        match &op.action {
            Action::Append(entries) => {
                self.queued_live -= op.bytes;
                for ((log_id, payload), loc) in entries.iter().zip(locs) {
                    let pending = Loc::pending(op.ticket, payload.len());
                    self.place(op.group, log_id.index.0, pending, *loc);
                    if let Some(group) = self.groups.get_mut(&op.group) {
                        group.durable.append(*log_id);
                    }
                }
            }
            Action::Vote(vote) => self.durable(op.group, |durable| durable.vote = Some(vote.clone())),
            Action::Truncate { after, removed } => {
                self.durable(op.group, |durable| durable.truncate(*after));
                removed.iter().for_each(|(_, loc)| self.unaccount(op.group, *loc));
            }
            Action::Purge { upto, removed } => {
                self.durable(op.group, |durable| durable.purge(*upto));
                removed.iter().for_each(|(_, loc)| self.unaccount(op.group, *loc));
            }
            Action::Identity(identity) => self.identity = Some(identity.clone()),
        }
    }

    fn durable(&mut self, group: ShardId, change: impl FnOnce(&mut Summary)) {
        if let Some(group) = self.groups.get_mut(&group) {
            change(&mut group.durable);
        }
    }

    /// Nothing that waits will be written: takes all of it back, the last first. Yields whom to tell.
    pub(super) fn undo(&mut self) -> Vec<Done> {
        let mut dones = Vec::new();
        while let Some(mut op) = self.queue.pop_back() {
            self.queued_bytes -= op.bytes;
            dones.extend(op.done.take());
            let Some(group) = self.groups.get_mut(&op.group) else { continue };
            match op.action {
                Action::Append(entries) => {
                    self.queued_live -= op.bytes;
                    group.locs.truncate(group.locs.len().saturating_sub(entries.len()));
                }
                Action::Truncate { removed, .. } => {
                    group.locs.extend(removed.into_iter().rev().map(|(_, loc)| loc));
                }
                Action::Purge { removed, .. } => {
                    removed.into_iter().rev().for_each(|(_, loc)| group.locs.push_front(loc));
                }
                Action::Vote(_) | Action::Identity(_) => {}
            }
            group.logical = group.durable.clone();
            group.cache.clear();
        }
        self.groups.values().for_each(Group::assert_invariants);
        dones.reverse();
        dones
    }

    /// Live entries of a segment, at most `max` of them.
    pub(super) fn live_in(&self, segment: u32, max: usize) -> Vec<(ShardId, u64, Loc)> {
        let mut found = Vec::new();
        let Some(live) = self.segments.get(&segment).map(|segment| &segment.live) else { return found };
        for (id, live) in live {
            let Some(group) = self.groups.get(id) else { continue };
            let there =
                group.locs.iter().enumerate().map(|(slot, loc)| (group.logical.first + slot as u64, *loc));
            let removed = self.queue.iter().filter(|op| op.group == *id).flat_map(|op| match &op.action {
                Action::Truncate { removed, .. } | Action::Purge { removed, .. } => removed.as_slice(),
                _ => &[],
            });
            let all = there.chain(removed.copied()).filter(|(_, loc)| loc.segment == segment);
            let wanted = (live.entries as usize).min(max - found.len());
            found.extend(all.take(wanted).map(|(index, loc)| (*id, index, loc)));
        }
        found
    }

    /// Segments that are no longer part of the log, but still have a file.
    pub(super) fn dropped(&self) -> Vec<u32> {
        self.segments.range(..self.oldest).map(|(id, _)| *id).collect()
    }

    /// A dropped segment's file is gone.
    pub(super) fn forget(&mut self, segment: u32) {
        if let Some(segment) = self.segments.remove(&segment) {
            self.bytes -= segment.len;
        }
    }

    /// The highest index that a group has, in one segment or in all.
    pub(super) fn last_index_in(&self, group: ShardId, segment: Option<u32>) -> Option<LogIndex> {
        let group = self.groups.get(&group)?;
        let slot = group.locs.iter().rposition(|loc| segment.is_none_or(|segment| loc.segment == segment))?;
        Some(LogIndex(group.logical.first + slot as u64))
    }

    pub(super) fn stats(&self) -> LogStats {
        LogStats {
            bytes: self.bytes,
            live_bytes: self.live,
            segments: self.segments.len() as u64,
            queued_ops: self.queue.len() as u64,
            queued_bytes: self.queued_bytes,
            cached_bytes: self.cached_bytes,
            entries: self.groups.values().map(|group| group.locs.len() as u64).sum(),
            ..self.stats.clone()
        }
    }
}
