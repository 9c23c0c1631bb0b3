//! Opening: reads all segments, tells a torn tail from corruption, and only then changes anything.

use super::{
    LogError, LogOptions, OpenError, Position, Recovered,
    format::VERSION,
    options::SPARE_BYTES,
    replay::Replay,
    scan::{SegmentScan, Stop, synced_beyond},
    segment::{self, Segment, Start, StartError},
    state::{Full, State},
    writer::{Writer, is_full},
};
use model::{File, Fs, OpenOptions};
use std::{collections::BTreeMap, io, path::Path, sync::Arc};

fn io_error(doing: &'static str) -> impl FnOnce(io::Error) -> OpenError {
    move |source| OpenError::Io { doing, source }
}

/// The files as they were found and judged; nothing was changed.
struct Found {
    replay: Replay,
    segments: BTreeMap<u32, Segment>,
    /// Where the log ends; the file of this segment is cut here. `None` if there is no log.
    end: Option<(Position, u64)>,
    /// Where the last whole batch begins in the segment of `end`; 0 for a segment of one batch.
    last_batch: u32,
    /// Where a torn tail was found.
    torn: Option<Position>,
    /// Files that are not part of the log: of dropped segments, or of one that was just begun.
    leftover: Vec<u32>,
}

fn open_file(fs: &dyn Fs, dir: &Path, segment: u32) -> Result<Arc<dyn File>, OpenError> {
    let options = OpenOptions { write: true, ..OpenOptions::default() };
    Ok(Arc::from(fs.open(&segment::path(dir, segment), options).map_err(io_error("open log segment"))?))
}

/// Replays one segment; yields its end and the chain there, and where its last batch begins, or where and why it
/// stopped.
fn replay_segment(
    replay: &mut Replay,
    file: &dyn File,
    id: u32,
    chain: Option<u64>,
) -> Result<((Position, u64), u32), Stop> {
    let (mut scan, preamble) = SegmentScan::open(file, id, chain)?;
    replay.segment(preamble.oldest);
    let (mut batches, mut last, mut at) = (0_u64, 0, scan.at.offset);
    while scan.next(|_, records| replay.batch(records))?.is_some() {
        last = if batches == 0 { 0 } else { at };
        at = scan.at.offset;
        batches += 1;
    }
    if batches == 0 {
        return Err(Stop::Damage { at: scan.at, reason: "segment has no state of the groups" });
    }
    Ok(((scan.at, scan.chain), last))
}

impl Found {
    fn read(fs: &dyn Fs, dir: &Path) -> Result<Found, OpenError> {
        let ids = segment::list(fs, dir).map_err(io_error("list log directory"))?;
        // Of dropped segments some files may have come back: what counts is the unbroken row up to the newest.
        let breaks = ids.windows(2).rposition(|pair| pair[0] + 1 != pair[1]).map_or(0, |at| at + 1);
        let (stray, row) = ids.split_at(breaks);
        let mut found = Found {
            replay: Replay::default(),
            segments: BTreeMap::new(),
            end: None,
            last_batch: 0,
            torn: None,
            leftover: stray.to_vec(),
        };
        let mut bytes = 0;
        for id in row {
            let file = open_file(fs, dir, *id)?;
            let len = file.len().map_err(io_error("measure log segment"))?;
            bytes += len;
            found.segments.insert(*id, Segment { file, len, live: BTreeMap::new() });
        }
        found.replay = Replay::new(bytes);
        for id in row {
            found.segment(*id, row)?;
        }
        found.check_whole(row.first().copied())?;
        Ok(found)
    }

    fn segment(&mut self, id: u32, row: &[u32]) -> Result<(), OpenError> {
        let file = self.segments[&id].file.clone();
        let before = self.end;
        match replay_segment(&mut self.replay, &*file, id, before.map(|(_, chain)| chain)) {
            Ok((end, last_batch)) => {
                (self.end, self.last_batch) = (Some(end), last_batch);
                Ok(())
            }
            Err(Stop::Io(source)) => Err(OpenError::Io { doing: "read log segment", source }),
            Err(Stop::Version { segment, found }) => {
                Err(OpenError::Version { segment, found, supported: VERSION })
            }
            Err(Stop::Contradiction { at, reason }) => {
                Err(OpenError::Corrupt { at, reason: reason.to_owned() })
            }
            Err(Stop::Damage { at, reason }) => self.judge(at, reason, row),
        }
    }

    /// Damage is a torn tail only where nothing says that it had been synced, and nothing follows.
    fn judge(&mut self, at: Position, reason: &'static str, row: &[u32]) -> Result<(), OpenError> {
        let corrupt = || Err(OpenError::Corrupt { at, reason: reason.to_owned() });
        let newest = row.last() == Some(&at.segment);
        let file = self.segments[&at.segment].file.clone();
        if !newest || synced_beyond(&*file, at).map_err(io_error("read log segment"))? {
            return corrupt();
        }
        self.torn = Some(at);
        // The replay stopped at a whole batch: its chain is that of a second walk up to there.
        match prefix(&*file, at).map_err(io_error("read log segment"))? {
            Some((end, last_batch)) => (self.end, self.last_batch) = (Some(end), last_batch),
            // The segment was being begun: the one before is the newest, if it is there.
            None if at.segment == 1 || self.end.is_some() => {
                self.segments.remove(&at.segment);
                self.leftover.push(at.segment);
            }
            None => return corrupt(),
        }
        Ok(())
    }

    fn check_whole(&self, first: Option<u32>) -> Result<(), OpenError> {
        let Some((end, _)) = self.end else { return Ok(()) };
        let oldest = self.replay.oldest;
        if oldest > end.segment {
            return Err(OpenError::SegmentMissing { segment: oldest });
        }
        if let Some(first) = first.filter(|first| *first > oldest) {
            return Err(OpenError::SegmentMissing { segment: first - 1 });
        }
        if let Some((group, index)) = self.replay.lost() {
            let reason = format!("entry {index} of shard {group} is in no segment");
            return Err(OpenError::Corrupt { at: end, reason });
        }
        Ok(())
    }
}

/// The end of the whole batches before `at`, the chain there, and where the last of them begins; `None` without a
/// single one.
fn prefix(file: &dyn File, at: Position) -> io::Result<Option<((Position, u64), u32)>> {
    let mut scan = match SegmentScan::open(file, at.segment, None) {
        Ok((scan, _)) => scan,
        Err(Stop::Io(error)) => return Err(error),
        Err(_) => return Ok(None),
    };
    let mut end = None;
    while scan.at < at {
        let before = if end.is_none() { 0 } else { scan.at.offset };
        match scan.next(|_, _| Ok(())) {
            Ok(Some(())) => end = Some(((scan.at, scan.chain), before)),
            Err(Stop::Io(error)) => return Err(error),
            Ok(None) | Err(_) => break,
        }
    }
    Ok(end)
}

/// Opens the log in `dir`, or begins one there.
pub(super) fn open(
    fs: &dyn Fs,
    dir: &Path,
    options: &LogOptions,
) -> Result<(State, Writer, Recovered), OpenError> {
    if !(LogOptions::SIZE_MIN..=LogOptions::SIZE_MAX).contains(&options.size) {
        return Err(OpenError::Options(format!(
            "storage.log.size must be {} to {} bytes, got {}",
            LogOptions::SIZE_MIN,
            LogOptions::SIZE_MAX,
            options.size
        )));
    }
    fs.create_dir_all(dir).map_err(io_error("create log directory"))?;
    if let Some(parent) = dir.parent().filter(|parent| fs.exists(parent)) {
        fs.sync_dir(parent).map_err(io_error("sync the directory above the log"))?;
    }
    let mut found = Found::read(fs, dir)?;
    tidy(fs, dir, &mut found)?;
    let mut writer = match found.end {
        Some((end, chain)) => {
            let file = found.segments[&end.segment].file.clone();
            let reserved = u64::from(end.offset) + SPARE_BYTES;
            Writer { file, end, chain, reserved, buffer: Vec::new() }
        }
        None => begin(fs, dir, &mut found)?,
    };
    let Replay { groups, identity, oldest, .. } = found.replay;
    let mut state = State::recovered(groups, found.segments, oldest);
    match writer.file.reserve(u64::from(writer.end.offset), writer.reserved) {
        // A node may start on a full disk: it holds what it should write until there is room.
        Err(error) if is_full(&error) => {
            writer.reserved = u64::from(writer.end.offset);
            state.full = Some(Full { error: LogError::DiskFull(error.to_string()), spare_used: true });
        }
        result => result.map_err(io_error("reserve room for the log"))?,
    }
    state.identity.clone_from(&identity);
    let groups = state.groups.keys().filter_map(|id| Some((*id, state.group_state(*id)?))).collect();
    Ok((state, writer, Recovered { groups, identity, torn: found.torn }))
}

/// Cuts a torn tail off, removes files that are not part of the log, and makes sure that all the rest is durable.
fn tidy(fs: &dyn Fs, dir: &Path, found: &mut Found) -> Result<(), OpenError> {
    if let Some((end, _)) = found.end
        && let Some(segment) = found.segments.get_mut(&end.segment)
    {
        if segment.len != u64::from(end.offset) {
            segment.file.set_len(u64::from(end.offset)).map_err(io_error("cut torn tail of log segment"))?;
            segment.len = u64::from(end.offset);
        }
        // What was found may never have been synced by who wrote it. If a sync of the last batch failed, the system
        // shows it without having it on disk, and takes another sync for done: only writing it again helps.
        let from = u64::from(found.last_batch);
        let mut last = vec![0; (u64::from(end.offset).saturating_sub(from)) as usize];
        segment.file.read_exact_at(&mut last, from).map_err(io_error("read end of log segment"))?;
        segment.file.write_all_at(&last, from).map_err(io_error("write end of log segment again"))?;
        segment.file.sync().map_err(io_error("sync log segment"))?;
    }
    let kept = found.segments.split_off(&found.replay.oldest);
    found.leftover.extend(std::mem::replace(&mut found.segments, kept).into_keys());
    for id in &found.leftover {
        fs.remove_file(&segment::path(dir, *id)).map_err(io_error("remove leftover log segment"))?;
    }
    fs.sync_dir(dir).map_err(io_error("sync log directory"))
}

fn begin(fs: &dyn Fs, dir: &Path, found: &mut Found) -> Result<Writer, OpenError> {
    let synced = Position { segment: 1, offset: 0 };
    let start = Start { segment: 1, oldest: 1, chain: 0, synced, groups: Vec::new(), identity: None };
    let started = start.write(fs, dir).map_err(|error| match error {
        StartError::Write(source) => OpenError::Io { doing: "write first log segment", source },
        StartError::Sync(source) => OpenError::Io { doing: "sync first log segment", source },
    })?;
    found.replay = Replay::new(0);
    found.replay.oldest = 1;
    let segment = Segment { file: started.file.clone(), len: u64::from(started.len), live: BTreeMap::new() };
    found.segments.insert(1, segment);
    let end = Position { segment: 1, offset: started.len };
    Ok(Writer {
        file: started.file,
        end,
        chain: started.chain,
        reserved: started.reserved,
        buffer: Vec::new(),
    })
}
