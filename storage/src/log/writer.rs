//! The one who writes: makes room, begins segments, writes a batch, syncs it once, tells everyone who waited.
//!
//! ```text
//!  queue ──plan──▶ make room ──▶ roll? ──▶ reserve ──▶ write ──▶ fdatasync ──▶ complete ──▶ callbacks
//!    ▲             (drop, copy)               │                      │
//!    └──────────── full: what waits is held ──┘                      └ error: poisoned for good
//! ```
//!
//! Room for a batch is reserved before it is written, so a full disk is found while nothing is half done. What waits
//! is then held, not failed: a Raft group does not survive a failed write. Small operations go on from a spare that is
//! reserved behind every batch: a node that is to give up a leadership has to save a vote. Where a file system cannot
//! reserve, the write itself fails and is cut back durably before anything else happens.

use super::{
    Loc, LogError, LogId, LogIndex, LogOptions, Position, ShardId, Term,
    format::{BatchBuilder, Head, Kind, RECORD_HEADER_BYTES, Summary, decode_record},
    options::{BATCH_OVERHEAD, RESERVE_BYTES, SPARE_BYTES, record_bytes},
    segment::{self, Segment, Start, StartError},
    state::{Done, Full, Plan, Planned, State},
};
use bytes::Bytes;
use model::{Clock, File, Fs, Spawner};
use std::{
    collections::BTreeMap,
    io,
    path::PathBuf,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::Notify;

/// Live entries that are looked up at once when a segment is copied forward.
const COPY_ENTRIES: usize = 64 * 1024;

/// What the handle and the writer's thread have in common.
pub(super) struct Shared {
    pub(super) fs: Arc<dyn Fs>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) dir: PathBuf,
    pub(super) options: LogOptions,
    pub(super) state: Mutex<State>,
    /// Wakes the writer, and who waits for its end.
    pub(super) wake: Condvar,
    /// Wakes who waits for room in the queue.
    pub(super) room: Notify,
    /// Wakes the writer where it is a task.
    pub(super) task: Notify,
    /// Locked only by who writes; never while `state` is locked.
    pub(super) writer: Mutex<Writer>,
}

/// The segment that is being written.
pub(super) struct Writer {
    pub(super) file: Arc<dyn File>,
    /// The end of the last batch: durable.
    pub(super) end: Position,
    pub(super) chain: u64,
    /// Up to here the file system promised room.
    pub(super) reserved: u64,
    pub(super) buffer: Vec<u8>,
}

/// What a batch may use.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Room {
    /// What leaves the spare behind it.
    Plain,
    /// The spare, too: for what is small and must not wait.
    Spare,
}

impl Room {
    /// Bytes that stay free behind a batch.
    fn behind(self) -> u64 {
        match self {
            Room::Plain => SPARE_BYTES,
            Room::Spare => 0,
        }
    }
}

/// How a write failed.
enum Failure {
    /// The files are as before; a later write may succeed.
    Clean(LogError),
    /// What the disk holds is unknown.
    Poison(LogError),
}

pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

fn poison(doing: &str, error: &io::Error) -> Failure {
    Failure::Poison(LogError::Poisoned(format!("{doing}: {error}")))
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// The writer's thread.
    pub(super) fn run(&self) {
        loop {
            let mut state = lock(&self.state);
            while !state.has_work() && !state.closing {
                state = self.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            if !state.has_work() {
                break;
            }
            drop(state);
            self.step();
        }
        self.finish();
    }

    /// The writer as a task: each batch is a piece of blocking work.
    pub(super) async fn run_as_task(self: Arc<Self>, spawner: Arc<dyn Spawner>) {
        loop {
            let (has_work, closing, closed) = {
                let state = lock(&self.state);
                (state.has_work(), state.closing, state.closed)
            };
            match (has_work, closing || closed) {
                (true, _) => {
                    self.waits(); // from here on: the disk's time passes before the work
                    let this = self.clone();
                    let work = move || {
                        if lock(&this.state).has_work() {
                            this.step(); // else somebody closed the log meanwhile, and wrote what waited
                        }
                    };
                    spawner.blocking("log", Box::new(work)).await;
                    lock(&self.state).waits_since = None;
                }
                (false, true) if !closed => self.finish(),
                (false, true) => return,
                (false, false) => self.task.notified().await,
            }
        }
    }

    /// Works until nothing is left, unless somebody is at it already: then they will do it.
    pub(super) fn run_inline(&self) {
        {
            let mut state = lock(&self.state);
            if state.writing {
                return;
            }
            state.writing = true;
        }
        loop {
            let mut state = lock(&self.state);
            if !state.has_work() {
                state.writing = false;
                return;
            }
            drop(state);
            self.step();
        }
    }

    /// Marks all that was written as synced, for whoever reads it next.
    pub(super) fn finish(&self) {
        let mut writer = lock(&self.writer);
        let (held, usable) = {
            let mut state = lock(&self.state);
            (state.undo(), state.failed.is_none() && state.full.is_none())
        };
        let fits =
            u64::from(writer.end.offset) + BATCH_OVERHEAD + record_bytes(0) <= self.options.segment_bytes();
        if usable && fits {
            let mark = |batch: &mut BatchBuilder<'_>| {
                batch.push(Head { kind: Kind::Mark, group: ShardId::default(), log_id: None }, &[]);
            };
            if let Err(Failure::Clean(error) | Failure::Poison(error)) =
                self.write(&mut writer, 0, Room::Spare, mark)
            {
                tracing::warn!(%error, "log was closed without its end being marked");
            }
        }
        lock(&self.state).closed = true;
        self.wake.notify_all();
        drop(writer);
        tell(held, &Err(LogError::Closed)); // what a full disk held back until the end
    }

    /// Writes one batch; while the disk is full, one of small operations, unless it is time to look for room.
    fn step(&self) {
        self.waits();
        let mut writer = lock(&self.writer);
        let (plan, room) = {
            let mut state = lock(&self.state);
            let room = if state.is_held() { Room::Spare } else { Room::Plain };
            state.retry = false;
            (state.plan(&self.options, room == Room::Spare), room)
        };
        let written = self.write_plan(&mut writer, &plan, room);
        let (dones, result) = {
            let mut state = lock(&self.state);
            match written {
                Ok(locs) => {
                    if room == Room::Plain && state.full.take().is_some() {
                        tracing::info!(held = state.queue.len(), "there is room for the log again");
                    }
                    let dones = state.complete(&plan, &locs);
                    state.trim_cache(self.options.cache_bytes);
                    (dones, Ok(()))
                }
                Err(Failure::Clean(error)) => {
                    if state.full.is_none() {
                        tracing::error!(%error, "no room for the log: nothing is acknowledged until there is");
                    }
                    state.full = Some(Full { error, spare_used: room == Room::Spare });
                    (Vec::new(), Ok(()))
                }
                Err(Failure::Poison(error)) => {
                    tracing::error!(%error, "log is out of service");
                    state.failed = Some(error.clone());
                    (state.undo(), Err(error))
                }
            }
        };
        if result.is_ok() {
            self.remove_dropped();
        }
        lock(&self.state).waits_since = None;
        drop(writer);
        model::point!("log.batch.telling");
        tell(dones, &result);
        model::point!("log.batch.told");
        self.room.notify_waiters();
    }

    /// Notes that the disk is asked for something.
    fn waits(&self) {
        lock(&self.state).waits_since.get_or_insert_with(|| self.clock.monotonic());
    }

    /// Writes a plan; one without records only finds out whether there is room.
    fn write_plan(&self, writer: &mut Writer, plan: &Plan, room: Room) -> Result<Vec<Loc>, Failure> {
        self.make_room(writer, plan.bytes, room)?;
        if plan.records.is_empty() {
            self.prepare(writer, plan.bytes, room)?;
            return Ok(Vec::new());
        }
        let mut locs = Vec::new();
        self.write(writer, plan.bytes, room, |batch| locs = encode(batch, plan))?;
        Ok(locs)
    }

    /// Makes sure that a batch of at most `bytes` finds its place: in a new segment if it does not fit into this one.
    fn prepare(&self, writer: &mut Writer, bytes: u64, room: Room) -> Result<(), Failure> {
        if u64::from(writer.end.offset) + bytes + room.behind() > self.options.segment_bytes() {
            self.roll(writer)?;
        }
        let wanted = u64::from(writer.end.offset) + bytes + room.behind();
        if wanted <= writer.reserved {
            return Ok(());
        }
        // In steps, because each costs a system call; what makes room takes no more than it needs.
        let more = if room == Room::Plain { RESERVE_BYTES } else { 0 };
        let upto = (wanted + more).min(self.options.segment_bytes()).max(wanted);
        match writer.file.reserve(u64::from(writer.end.offset), upto) {
            Ok(()) => {
                writer.reserved = upto;
                Ok(())
            }
            Err(error) if is_full(&error) => Err(Failure::Clean(LogError::DiskFull(error.to_string()))),
            Err(error) => Err(poison("reserve room for the log", &error)),
        }
    }

    /// Writes and syncs one batch of at most `bytes`.
    fn write(
        &self,
        writer: &mut Writer,
        bytes: u64,
        room: Room,
        fill: impl FnOnce(&mut BatchBuilder<'_>),
    ) -> Result<(), Failure> {
        self.prepare(writer, bytes, room)?;
        let Writer { file, end, chain, reserved, buffer } = writer;
        let mut batch = BatchBuilder::new(buffer, *end, *end, *chain);
        fill(&mut batch);
        let chain_after = batch.finish();
        model::point!("log.batch.encoded");
        if let Err(error) = file.write_all_at(buffer, u64::from(end.offset)) {
            if !is_full(&error) {
                return Err(poison("write log segment", &error));
            }
            // The cut must be durable before anything else happens, else the rest could be taken for corruption.
            file.set_len(u64::from(end.offset)).map_err(|error| poison("cut log segment back", &error))?;
            file.sync().map_err(|error| poison("sync log segment", &error))?;
            *reserved = u64::from(end.offset);
            return Err(Failure::Clean(LogError::DiskFull(error.to_string())));
        }
        model::point!("log.batch.written");
        let begun = self.clock.monotonic();
        file.sync().map_err(|error| poison("sync log segment", &error))?;
        let now = self.clock.monotonic();
        let took = now.saturating_sub(begun);
        model::point!("log.batch.synced");
        *chain = chain_after;
        end.offset += buffer.len() as u32;
        let mut state = lock(&self.state);
        state.waits_since = state.waits_since.map(|_| now); // what else there is to do counts from here
        let len = buffer.len() as u64;
        state.bytes += len;
        if let Some(segment) = state.segments.get_mut(&end.segment) {
            segment.len += len;
        }
        state.stats.batches += 1;
        state.stats.fsyncs += 1;
        state.stats.fsync_time += took;
        state.stats.written_bytes += len;
        buffer.shrink_to(2 * self.options.batch_bytes() as usize);
        Ok(())
    }

    /// Begins the next segment with the state of all groups.
    fn roll(&self, writer: &mut Writer) -> Result<(), Failure> {
        let start = {
            let state = lock(&self.state);
            let Some(segment) = writer.end.segment.checked_add(1) else {
                return Err(Failure::Poison(LogError::Poisoned("segment numbers are used up".to_owned())));
            };
            let told = state.groups.iter().filter(|(_, group)| group.durable != Summary::default());
            Start {
                segment,
                oldest: state.oldest,
                chain: writer.chain,
                synced: writer.end,
                groups: told.map(|(id, group)| (*id, group.durable.clone())).collect(),
                identity: state.identity.clone(),
            }
        };
        model::point!("log.roll.begin");
        let started = start.write(&*self.fs, &self.dir).map_err(|error| match error {
            StartError::Write(error) if is_full(&error) => self.give_up(start.segment, &error),
            StartError::Write(error) => poison("write log segment", &error),
            StartError::Sync(error) => poison("sync log segment", &error),
        })?;
        model::point!("log.roll.started");
        // What was reserved behind its end is given back.
        if let Err(error) = writer.file.set_len(u64::from(writer.end.offset)) {
            tracing::warn!(%error, "room behind a log segment could not be given back");
        }
        writer.file = started.file.clone();
        writer.end = Position { segment: start.segment, offset: started.len };
        writer.chain = started.chain;
        writer.reserved = started.reserved;
        let len = u64::from(started.len);
        let now = self.clock.monotonic();
        let mut state = lock(&self.state);
        state.waits_since = state.waits_since.map(|_| now);
        state.segments.insert(start.segment, Segment { file: started.file, len, live: BTreeMap::new() });
        state.bytes += len;
        state.stats.fsyncs += 1;
        state.stats.written_bytes += len;
        Ok(())
    }

    /// There is no room for a new segment: removes what there is of it.
    fn give_up(&self, segment: u32, error: &io::Error) -> Failure {
        let path = segment::path(&self.dir, segment);
        let removed = if self.fs.exists(&path) { self.fs.remove_file(&path) } else { Ok(()) };
        match removed.and_then(|()| self.fs.sync_dir(&self.dir)) {
            Ok(()) => Failure::Clean(LogError::DiskFull(error.to_string())),
            Err(error) => poison("remove unfinished log segment", &error),
        }
    }

    /// Drops old segments until a batch of `bytes` keeps the log within its bound; what lives in them is copied, if
    /// there is more room than the spare.
    fn make_room(&self, writer: &mut Writer, bytes: u64, room: Room) -> Result<(), Failure> {
        let bytes = bytes + LogOptions::START_BYTES_MAX;
        let rounds = lock(&self.state).segments.len();
        for _ in 0..rounds {
            let (fits, live, oldest, droppable) = {
                let state = lock(&self.state);
                (state.bytes + bytes <= self.options.bytes_max(), state.live, state.oldest, state.droppable())
            };
            if fits || (droppable.is_none() && oldest == writer.end.segment) {
                break;
            }
            // More than that is alive only after the size was reduced: copying would free next to nothing.
            if droppable.is_none() && live <= self.options.bytes_max() {
                if room == Room::Spare {
                    break;
                }
                self.copy_forward(writer, oldest)?;
            }
            self.drop_dead(writer)?;
        }
        let state = lock(&self.state);
        if state.bytes + bytes <= self.options.size {
            return Ok(());
        }
        Err(Failure::Clean(LogError::Full {
            live: state.live,
            wanted: bytes,
            max: self.options.live_bytes_max(),
        }))
    }

    /// Says durably that segments without live entries are gone, then removes them.
    fn drop_dead(&self, writer: &mut Writer) -> Result<(), Failure> {
        let Some(oldest) = lock(&self.state).droppable() else { return Ok(()) };
        let bytes = BATCH_OVERHEAD + record_bytes(0);
        self.write(writer, bytes, Room::Spare, |batch| push_drop(batch, oldest))?; // it makes room
        model::point!("log.drop.said");
        {
            let mut state = lock(&self.state);
            state.oldest = state.oldest.max(oldest);
        }
        self.remove_dropped();
        Ok(())
    }

    fn remove_dropped(&self) {
        let dropped = lock(&self.state).dropped();
        for segment in &dropped {
            match self.fs.remove_file(&segment::path(&self.dir, *segment)) {
                Ok(()) => lock(&self.state).forget(*segment),
                // It counts for the bound until a later attempt succeeds.
                Err(error) => tracing::warn!(segment, %error, "log segment could not be removed"),
            }
        }
        if !dropped.is_empty() {
            model::point!("log.drop.removed");
        }
        // If this is lost, the files come back and are removed when the log is opened.
        if !dropped.is_empty()
            && let Err(error) = self.fs.sync_dir(&self.dir)
        {
            tracing::warn!(%error, "log directory could not be synced after removing segments");
        }
    }

    /// Writes the live entries of segment `from` again, at the end.
    fn copy_forward(&self, writer: &mut Writer, from: u32) -> Result<(), Failure> {
        loop {
            let (entries, file) = {
                let state = lock(&self.state);
                let file = state.segments.get(&from).map(|segment| segment.file.clone());
                (state.live_in(from, COPY_ENTRIES), file)
            };
            let Some(file) = file.filter(|_| !entries.is_empty()) else { return Ok(()) };
            let mut rest = entries.as_slice();
            while !rest.is_empty() {
                let mut bytes = BATCH_OVERHEAD;
                let fits = rest.iter().take_while(|(_, _, loc)| {
                    let first = bytes == BATCH_OVERHEAD;
                    bytes += record_bytes(loc.length as usize);
                    first || bytes <= self.options.batch_bytes()
                });
                let (now, later) = rest.split_at(fits.count());
                self.copy_batch(writer, &*file, now)?;
                rest = later;
            }
        }
    }

    fn copy_batch(
        &self,
        writer: &mut Writer,
        file: &dyn File,
        entries: &[(ShardId, u64, Loc)],
    ) -> Result<(), Failure> {
        let mut copies = Vec::with_capacity(entries.len());
        for (_, _, loc) in entries {
            let entry = read_entry(file, *loc).map_err(|error| match error {
                LogError::Read { reason, .. } => Failure::Poison(LogError::Poisoned(reason)),
                error => Failure::Poison(error),
            })?;
            copies.push(entry);
        }
        let bytes: u64 = entries.iter().map(|(_, _, loc)| record_bytes(loc.length as usize)).sum();
        let mut locs = Vec::with_capacity(entries.len());
        self.write(writer, BATCH_OVERHEAD + bytes, Room::Plain, |batch| {
            for ((group, _, _), (log_id, payload)) in entries.iter().zip(&copies) {
                locs.push(
                    batch.push(Head { kind: Kind::Copy, group: *group, log_id: Some(*log_id) }, payload),
                );
            }
        })?;
        model::point!("log.copy.written");
        let mut state = lock(&self.state);
        for ((group, index, old), new) in entries.iter().zip(&locs) {
            state.place(*group, *index, *old, *new);
        }
        state.stats.copied_bytes += bytes;
        Ok(())
    }
}

fn tell(dones: Vec<Done>, result: &Result<(), LogError>) {
    for done in dones {
        done(result.clone().map_err(io::Error::from));
    }
}

fn push_drop(batch: &mut BatchBuilder<'_>, oldest: u32) {
    let log_id = LogId { term: Term(0), index: LogIndex(u64::from(oldest)) };
    batch.push(Head { kind: Kind::Drop, group: ShardId::default(), log_id: Some(log_id) }, &[]);
}

/// Puts a plan's records into a batch; yields the places of the entries.
fn encode(batch: &mut BatchBuilder<'_>, plan: &Plan) -> Vec<Loc> {
    let mut locs = Vec::new();
    for record in &plan.records {
        let mut put = |kind, group: &ShardId, log_id, payload: &[u8]| {
            batch.push(Head { kind, group: *group, log_id }, payload)
        };
        match record {
            Planned::Append { group, entries } => {
                for (log_id, payload) in entries.iter() {
                    locs.push(put(Kind::Append, group, Some(*log_id), payload));
                }
            }
            Planned::Vote { group, vote } => drop(put(Kind::Vote, group, Some(LogId::default()), vote)),
            Planned::Truncate { group, after } => drop(put(Kind::Truncate, group, *after, &[])),
            Planned::Purge { group, upto } => drop(put(Kind::Purge, group, Some(*upto), &[])),
            Planned::Committed { group, log_id } => drop(put(Kind::Committed, group, Some(*log_id), &[])),
            Planned::Identity(identity) => drop(put(Kind::Identity, &ShardId::default(), None, identity)),
            Planned::Drop { oldest } => push_drop(batch, *oldest),
        }
    }
    locs
}

/// Reads an entry from its segment and checks it.
pub(super) fn read_entry(file: &dyn File, loc: Loc) -> Result<(LogId, Bytes), LogError> {
    let mut bytes = vec![0; RECORD_HEADER_BYTES + loc.length as usize];
    file.read_exact_at(&mut bytes, u64::from(loc.offset))
        .map_err(|error| LogError::Read { segment: loc.segment, reason: error.to_string() })?;
    check_entry(&Bytes::from(bytes), 0, loc)
}

/// Takes the entry at `start` out of bytes that were read.
pub(super) fn check_entry(bytes: &Bytes, start: usize, loc: Loc) -> Result<(LogId, Bytes), LogError> {
    let at = Position { segment: loc.segment, offset: loc.offset };
    let corrupt = |reason: &str| LogError::Corrupt { at, reason: reason.to_owned() };
    let end = start + RECORD_HEADER_BYTES + loc.length as usize;
    let record = decode_record(&bytes[start..end], at).map_err(corrupt)?;
    match record.head {
        Head { kind: Kind::Append | Kind::Copy, log_id: Some(log_id), .. } if record.loc == loc => {
            Ok((log_id, bytes.slice(start + RECORD_HEADER_BYTES..end)))
        }
        _ => Err(corrupt("another record than the index says")),
    }
}
