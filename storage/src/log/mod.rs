//! The shared log of a node: one append-only row of segment files for all Raft groups, with one `fdatasync` for all
//! who wait. It holds entries, votes, purge points and the node's identity, and is the only write-ahead log there is.
//!
//! ```text
//!  group 0 ─append──▶ ┌───────┐  batch ┌─────────┐ ┌─────────┐ ┌─────────┐
//!  group 1 ─vote────▶ │ queue │ ─────▶ │ 0000007 │ │ 0000008 │ │ 0000009 │◀─ written, synced
//!  group 2 ─purge───▶ └───────┘        └─────────┘ └─────────┘ └─────────┘
//!                     callbacks ◀─ synced   └ oldest: goes when nothing in it is alive, or what is was copied
//! ```
//!
//! Invariants:
//! - An operation whose callback got `Ok` survives power loss. One that got an error, or nothing, may or may not.
//! - The segments together are never longer than [`LogOptions::size`].
//! - Damage is never repaired by guessing: only what was not known to be synced is cut off (`docs/formats/log.md`).
//! - After a failed sync nothing is written any more.
//! - On a full disk nothing is given up: what waits is written when there is room, in its order.

mod check;
mod error;
mod format;
mod group;
mod options;
mod read;
mod recover;
mod replay;
mod reserved;
mod scan;
mod segment;
mod state;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
#[cfg(test)]
mod tests;
mod writer;

pub use check::{LogDamage, LogReport, SegmentReport, verify};
pub use error::{LogError, OpenError, Remedy};
pub use options::{GROUPS_MAX, IDENTITY_BYTES_MAX, LogOptions, VOTE_BYTES_MAX};
pub use reserved::Reserved;
pub use state::Done;

use bytes::Bytes;
use format::Summary;
use model::{Clock, Fs, LogId, LogIndex, ShardId, Spawner, Term};
#[cfg(test)]
use options::SPARE_BYTES;
use options::record_bytes;
use state::{Action, State};
use std::{
    collections::BTreeMap,
    fmt, io,
    path::Path,
    sync::{Arc, Condvar, Mutex, PoisonError},
    time::Duration,
};
use writer::{Shared, lock};

/// A place in the log. Ordered as the log is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Number of the segment, from 1.
    pub segment: u32,
    /// Byte in the segment's file.
    pub offset: u32,
}

/// Where an entry stands. Segment 0: nowhere yet, `offset` is then the ticket of the operation that will write it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Loc {
    segment: u32,
    offset: u32,
    /// Of the payload.
    length: u32,
}

impl Loc {
    const ABSENT: Loc = Loc { segment: 0, offset: 0, length: 0 };

    fn pending(ticket: u32, length: usize) -> Loc {
        Loc { segment: 0, offset: ticket, length: length as u32 }
    }

    fn is_pending(self) -> bool {
        self.segment == 0
    }
}

/// What the log knows of a group. Contains what still waits for the disk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupState {
    /// The vote saved last.
    pub vote: Option<Bytes>,
    /// Entries up to here are gone.
    pub purged: Option<LogId>,
    /// The last entry, or the purge point if there is none behind it.
    pub last: Option<LogId>,
    /// Known to be committed when it was last told; may lag behind.
    pub committed: Option<LogId>,
}

impl From<&Summary> for GroupState {
    fn from(summary: &Summary) -> GroupState {
        let Summary { vote, purged, committed, last, .. } = summary.clone();
        GroupState { vote, purged, last, committed }
    }
}

/// What was found when the log was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// All groups that ever wrote something.
    pub groups: BTreeMap<ShardId, GroupState>,
    /// The node's identity, if it was set.
    pub identity: Option<Bytes>,
    /// Where a torn tail was cut off; nothing acknowledged was in it.
    pub torn: Option<Position>,
}

/// The outside of a log.
#[derive(Clone, Debug)]
pub struct LogPorts {
    /// Where the segments are.
    pub fs: Arc<dyn Fs>,
    /// Measures the syncs.
    pub clock: Arc<dyn Clock>,
    /// Gives the writer its thread; one that has none (`Unsupported`) runs it as a task that blocks through
    /// [`Spawner::blocking`], where a simulator decides how long a sync takes. Without a spawner callers write
    /// themselves.
    pub spawner: Option<Arc<dyn Spawner>>,
}

/// Counters and sizes, for metrics. Counters start at 0 when the log is opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogStats {
    /// Length of all segments.
    pub bytes: u64,
    /// Part of it that is entries which are still wanted.
    pub live_bytes: u64,
    /// Number of segments.
    pub segments: u64,
    /// Entries that can be read.
    pub entries: u64,
    /// Operations that wait for the disk.
    pub queued_ops: u64,
    /// Bytes that wait for the disk.
    pub queued_bytes: u64,
    /// Bytes of recent entries in memory.
    pub cached_bytes: u64,
    /// Batches written (counter).
    pub batches: u64,
    /// Syncs of segment files (counter).
    pub fsyncs: u64,
    /// Time spent in the syncs of batches (counter).
    pub fsync_time: Duration,
    /// Bytes written (counter).
    pub written_bytes: u64,
    /// Bytes of entries that were copied out of old segments (counter).
    pub copied_bytes: u64,
}

/// A group that should be checkpointed and purged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PinnedGroup {
    /// The group.
    pub group: ShardId,
    /// Bytes of its live entries.
    pub live_bytes: u64,
    /// A purge up to here frees its part of the oldest segment.
    pub upto: LogIndex,
}

/// How near the log is to its bound.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pressure {
    /// Groups to checkpoint and purge, the one with most bytes first. Empty while there is plenty of room.
    pub groups: Vec<PinnedGroup>,
    /// Bytes of live entries.
    pub live_bytes: u64,
    /// At so many bytes of live entries, appends are refused.
    pub live_bytes_max: u64,
}

/// The open log. All methods may be called from any thread; none but [`Log::close`] waits for the disk unless the
/// log works inline.
pub struct Log {
    shared: Arc<Shared>,
    writer: WrittenBy,
}

/// Who writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum WrittenBy {
    Thread,
    Task,
    Callers,
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log")
            .field("dir", &self.shared.dir)
            .field("writer", &self.writer)
            .finish_non_exhaustive()
    }
}

impl Log {
    /// Opens the log in `dir`, or begins one there: reads and checks every segment, cuts a torn tail off.
    ///
    /// # Errors
    /// See [`OpenError`]. If the log is damaged nothing is changed on disk.
    pub fn open(ports: LogPorts, dir: &Path, options: LogOptions) -> Result<(Log, Recovered), OpenError> {
        let LogPorts { fs, clock, spawner } = ports;
        model::point!("log.open.begin");
        let (state, writer, recovered) = recover::open(&*fs, dir, &options)?;
        model::point!("log.open.recovered");
        let shared = Arc::new(Shared {
            fs,
            clock,
            dir: dir.to_owned(),
            options,
            state: Mutex::new(state),
            wake: Condvar::new(),
            room: tokio::sync::Notify::new(),
            task: tokio::sync::Notify::new(),
            writer: Mutex::new(writer),
        });
        let Some(spawner) = spawner else {
            return Ok((Log { shared, writer: WrittenBy::Callers }, recovered));
        };
        let thread = shared.clone();
        let writer = match spawner.thread("log", Box::new(move || thread.run())) {
            Ok(()) => WrittenBy::Thread,
            Err(error) if error.kind() == io::ErrorKind::Unsupported => {
                spawner.spawn("log", Box::pin(shared.clone().run_as_task(spawner.clone())));
                WrittenBy::Task
            }
            Err(source) => return Err(OpenError::Io { doing: "start the log's thread", source }),
        };
        Ok((Log { shared, writer }, recovered))
    }

    /// Appends entries behind the group's last one; they can be read at once. `done` is called when they are
    /// durable. Nothing is done for no entries but to call it behind all that was queued before.
    ///
    /// # Errors
    /// At once and without calling `done`: [`LogError::Invalid`] for a wrong index or a payload beyond
    /// [`LogOptions::entry_bytes_max`], [`LogError::Full`], [`LogError::QueueFull`], or if the log is out of service.
    pub fn append(&self, group: ShardId, entries: Vec<(LogId, Bytes)>, done: Done) -> Result<(), LogError> {
        let options = &self.shared.options;
        let bytes: u64 = entries.iter().map(|(_, payload)| record_bytes(payload.len())).sum();
        let mut state = lock(&self.shared.state);
        state.check_open()?;
        let known = state.groups.get(&group).map(|group| &group.logical);
        check_entries(known.cloned().unwrap_or_default(), &entries, options)?;
        check_room(&state, options, bytes, 0)?;
        check_groups(&state, group)?;
        let mut done = Some(done);
        let mut pieces = split(entries, options.batch_bytes()).into_iter().peekable();
        while let Some(piece) = pieces.next() {
            let ticket = state.next_ticket();
            for (log_id, payload) in &piece {
                let loc = Loc::pending(ticket, payload.len());
                state.groups.entry(group).or_default().append(*log_id, loc);
                state.cache(group, *log_id, payload.clone());
            }
            let bytes = piece.iter().map(|(_, payload)| record_bytes(payload.len())).sum();
            let done = if pieces.peek().is_none() { done.take() } else { None };
            state.push(group, Action::Append(Arc::new(piece)), bytes, ticket, done);
        }
        state.trim_cache(options.cache_bytes);
        drop(state);
        model::point!("log.append.queued");
        self.wake();
        Ok(())
    }

    /// Saves a group's vote.
    ///
    /// # Errors
    /// At once and without calling `done`, as [`Log::append`]; never [`LogError::Full`].
    pub fn save_vote(&self, group: ShardId, vote: Bytes, done: Done) -> Result<(), LogError> {
        if vote.len() > VOTE_BYTES_MAX {
            return Err(LogError::Invalid(format!(
                "vote must be at most {VOTE_BYTES_MAX} bytes, got {}",
                vote.len()
            )));
        }
        let bytes = record_bytes(vote.len());
        self.change(group, bytes, done, |state| {
            state.groups.entry(group).or_default().logical.vote = Some(vote.clone());
            Ok(Action::Vote(vote))
        })
    }

    /// Removes the entries behind `after`; all of them for `None`.
    ///
    /// # Errors
    /// At once and without calling `done`, as [`Log::append`]; never [`LogError::Full`].
    pub fn truncate_after(&self, group: ShardId, after: Option<LogId>, done: Done) -> Result<(), LogError> {
        self.change(group, record_bytes(0), done, |state| {
            let entries = state.groups.entry(group).or_default();
            entries.logical.check_truncate(after).map_err(LogError::Invalid)?;
            let removed = entries.truncate(after);
            entries.assert_invariants();
            Ok(Action::Truncate { after, removed })
        })
    }

    /// Removes the entries up to `upto`, which may lie beyond the last one: then the log goes on behind it.
    ///
    /// # Errors
    /// At once and without calling `done`, as [`Log::append`]; never [`LogError::Full`].
    pub fn purge(&self, group: ShardId, upto: LogId, done: Done) -> Result<(), LogError> {
        if upto.index.0 == u64::MAX {
            return Err(LogError::Invalid("purge up to the highest index there is".to_owned()));
        }
        self.change(group, record_bytes(0), done, |state| {
            let entries = state.groups.entry(group).or_default();
            let removed = entries.purge(upto);
            entries.assert_invariants();
            Ok(Action::Purge { upto, removed })
        })
    }

    /// Notes how far the group is committed: a hint, written with whatever is written next.
    pub fn committed(&self, group: ShardId, log_id: LogId) {
        let mut state = lock(&self.shared.state);
        if log_id.index.0 < u64::MAX
            && let Some(group) = state.groups.get_mut(&group)
        {
            group.logical.committed = Some(log_id);
        }
    }

    /// Saves the node's identity, replacing what was there.
    ///
    /// # Errors
    /// At once and without calling `done`, as [`Log::append`]; never [`LogError::Full`].
    pub fn set_identity(&self, identity: Bytes, done: Done) -> Result<(), LogError> {
        if identity.len() > IDENTITY_BYTES_MAX {
            let len = identity.len();
            return Err(LogError::Invalid(format!(
                "identity must be at most {IDENTITY_BYTES_MAX} bytes, got {len}"
            )));
        }
        let mut state = lock(&self.shared.state);
        state.check_open()?;
        check_queue(&state, 2 * self.shared.options.queue_bytes)?;
        let bytes = record_bytes(identity.len());
        state.push(ShardId::META, Action::Identity(identity), bytes, 0, Some(done));
        drop(state);
        self.wake();
        Ok(())
    }

    /// The node's identity, as far as it is durable.
    #[must_use]
    pub fn identity(&self) -> Option<Bytes> {
        lock(&self.shared.state).identity.clone()
    }

    /// What is known of a group; `None` if it never wrote anything.
    #[must_use]
    pub fn state(&self, group: ShardId) -> Option<GroupState> {
        lock(&self.shared.state).group_state(group)
    }

    /// Keeps room for entries with so many bytes of payload together, until what is returned is dropped: to be held
    /// from before entries are proposed or accepted until they are appended, because a Raft group does not survive a
    /// refused append. A little is left for entries that nobody keeps room for, as those about members are.
    ///
    /// # Errors
    /// As [`Log::append`].
    pub fn reserve(&self, entries: usize, bytes: usize) -> Result<Reserved, LogError> {
        let bytes = record_bytes(0) * entries as u64 + bytes as u64;
        let mut state = lock(&self.shared.state);
        state.check_open()?;
        if let Some(full) = &state.full {
            return Err(full.error.clone());
        }
        let others = state.reserved + LogOptions::UNRESERVED_BYTES;
        check_room(&state, &self.shared.options, bytes, others)?;
        state.reserved += bytes;
        Ok(Reserved::new(self.shared.clone(), bytes))
    }

    /// Why nothing is acknowledged: [`LogError::DiskFull`] or [`LogError::Full`] until there is room,
    /// [`LogError::Poisoned`] for good. `None` while the log works.
    #[must_use]
    pub fn trouble(&self) -> Option<LogError> {
        let state = lock(&self.shared.state);
        state.failed.clone().or_else(|| state.full.as_ref().map(|full| full.error.clone()))
    }

    /// Since when the disk has owed the log an answer, on the monotonic clock; `None` while nothing is being written. What
    /// takes several syncs counts from the last one: a disk that is slow moves on, one that hangs does not.
    #[must_use]
    pub fn waits_since(&self) -> Option<Duration> {
        lock(&self.shared.state).waits_since
    }

    /// Looks for room, if there was none; to be called from time to time.
    pub fn look_for_room(&self) {
        let full = {
            let mut state = lock(&self.shared.state);
            let full = state.full.is_some() && state.check_open().is_ok();
            state.retry |= full;
            full
        };
        if full {
            self.wake();
        }
    }

    /// Waits until the queue takes appends again, or the log is out of service.
    pub async fn room(&self) {
        loop {
            let notified = self.shared.room.notified();
            tokio::pin!(notified);
            notified.as_mut().enable();
            {
                let state = lock(&self.shared.state);
                if state.check_open().is_err() || state.queued_bytes < self.shared.options.queue_bytes / 2 {
                    return;
                }
            }
            notified.await;
        }
    }

    /// Which groups should be checkpointed and purged, so that the log keeps within its bound cheaply.
    #[must_use]
    pub fn pressure(&self) -> Pressure {
        let options = &self.shared.options;
        let state = lock(&self.shared.state);
        let mut pressure = Pressure {
            groups: Vec::new(),
            live_bytes: state.live + state.queued_live,
            live_bytes_max: options.live_bytes_max(),
        };
        let mut live: BTreeMap<ShardId, u64> = BTreeMap::new();
        for segment in state.segments.values() {
            for (group, part) in &segment.live {
                *live.entry(*group).or_default() += part.bytes;
            }
        }
        // Who pins the oldest segment when two thirds are used; and, when half of what may live does, the heaviest.
        let full = state.bytes > options.bytes_max() / 3 * 2;
        let heavy = pressure.live_bytes > options.live_bytes_max() / 2;
        let oldest = state.segments.get(&state.oldest);
        let share = pressure.live_bytes / (live.len() as u64).max(1);
        for (group, live_bytes) in live {
            let pins = full && oldest.is_some_and(|segment| segment.live.contains_key(&group));
            if pins || (heavy && live_bytes >= share) {
                let segment = if pins { Some(state.oldest) } else { None };
                let upto = state.last_index_in(group, segment);
                pressure.groups.extend(upto.map(|upto| PinnedGroup { group, live_bytes, upto }));
            }
        }
        pressure.groups.sort_by_key(|pinned| std::cmp::Reverse(pinned.live_bytes));
        pressure
    }

    /// Counters and sizes.
    #[must_use]
    pub fn stats(&self) -> LogStats {
        lock(&self.shared.state).stats()
    }

    /// What has a bound: name, how much there is, bound.
    #[must_use]
    pub fn bounds(&self) -> [(&'static str, u64, u64); 3] {
        let (stats, options) = (self.stats(), &self.shared.options);
        [
            ("log bytes", stats.bytes, options.size),
            // Small operations may use twice the queue: they are what makes room.
            ("log bytes that wait for the disk", stats.queued_bytes, 2 * options.queue_bytes),
            // What has no place on the disk yet stays, beside what is kept for readers.
            ("log bytes in memory", stats.cached_bytes, options.cache_bytes + 2 * options.queue_bytes),
        ]
    }

    /// Writes what waits, marks the end, and ends the writer; appends are refused from now on. Waits for it.
    pub fn close(&self) {
        let mut state = lock(&self.shared.state);
        let first = !std::mem::replace(&mut state.closing, true);
        self.shared.wake.notify_all();
        if self.writer != WrittenBy::Thread {
            drop(state);
            if first {
                self.shared.run_inline();
                self.shared.finish();
            }
        } else {
            while !state.closed {
                state = self.shared.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            drop(state);
        }
        self.shared.room.notify_waiters();
    }

    fn change(
        &self,
        group: ShardId,
        bytes: u64,
        done: Done,
        action: impl FnOnce(&mut State) -> Result<Action, LogError>,
    ) -> Result<(), LogError> {
        let mut state = lock(&self.shared.state);
        state.check_open()?;
        check_queue(&state, 2 * self.shared.options.queue_bytes)?;
        check_groups(&state, group)?;
        let action = action(&mut state)?;
        state.push(group, action, bytes, 0, Some(done));
        drop(state);
        self.wake();
        Ok(())
    }

    fn wake(&self) {
        match self.writer {
            WrittenBy::Callers => self.shared.run_inline(),
            WrittenBy::Thread => self.shared.wake.notify_all(),
            WrittenBy::Task => self.shared.task.notify_one(),
        }
    }
}

impl Drop for Log {
    /// Lets the writer end by itself after what waits; does not wait for it.
    fn drop(&mut self) {
        lock(&self.shared.state).closing = true;
        self.shared.wake.notify_all();
        self.shared.task.notify_one();
        self.shared.room.notify_waiters();
    }
}

fn check_entries(mut at: Summary, entries: &[(LogId, Bytes)], options: &LogOptions) -> Result<(), LogError> {
    for (log_id, payload) in entries {
        at.check_append(log_id.index.0).map_err(LogError::Invalid)?;
        if payload.len() as u64 > options.entry_bytes_max() {
            return Err(LogError::Invalid(format!(
                "entry {} has {} bytes, at most {} fit: raise --storage.log.size",
                log_id.index,
                payload.len(),
                options.entry_bytes_max()
            )));
        }
        at.append(*log_id);
    }
    Ok(())
}

/// Whether `bytes` more fit, beside `others` that are to come.
fn check_room(state: &State, options: &LogOptions, bytes: u64, others: u64) -> Result<(), LogError> {
    let live = state.live + state.queued_live;
    if live + others + bytes > options.live_bytes_max() {
        return Err(LogError::Full { live, wanted: bytes, max: options.live_bytes_max() });
    }
    if state.queued_bytes > 0 && state.queued_bytes + bytes > options.queue_bytes {
        return Err(LogError::QueueFull { queued: state.queued_bytes });
    }
    Ok(())
}

/// Small operations may use twice the queue: they are what makes room.
fn check_queue(state: &State, max: u64) -> Result<(), LogError> {
    if state.queued_bytes > max {
        return Err(LogError::QueueFull { queued: state.queued_bytes });
    }
    Ok(())
}

fn check_groups(state: &State, group: ShardId) -> Result<(), LogError> {
    if state.groups.len() >= GROUPS_MAX && !state.groups.contains_key(&group) {
        return Err(LogError::Invalid(format!("at most {GROUPS_MAX} shards fit into a log")));
    }
    Ok(())
}

/// Cuts entries into pieces that fit into a batch each; at least one piece.
fn split(entries: Vec<(LogId, Bytes)>, max: u64) -> Vec<Vec<(LogId, Bytes)>> {
    let mut pieces = vec![Vec::new()];
    let mut bytes = 0;
    for entry in entries {
        let len = record_bytes(entry.1.len());
        if bytes > 0 && bytes + len > max {
            pieces.push(Vec::new());
            bytes = 0;
        }
        bytes += len;
        if let Some(piece) = pieces.last_mut() {
            piece.push(entry);
        }
    }
    pieces
}
