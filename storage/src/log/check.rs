//! Reads a whole log and reports what is wrong with it, segment by segment; changes nothing. For `vestal check`.

use super::{
    OpenError, Position,
    format::{Kind, VERSION},
    replay::Replay,
    scan::{SegmentScan, Stop, synced_beyond},
    segment,
};
use model::{Fs, OpenOptions};
use std::path::Path;

/// Something is wrong with a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogDamage {
    /// Where reading had to stop.
    pub at: Position,
    /// What is wrong, for people.
    pub reason: String,
    /// Whether opening the log would simply cut it off: nothing acknowledged is in it.
    pub torn_tail: bool,
}

/// One segment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SegmentReport {
    /// Its number.
    pub segment: u32,
    /// Length of its file.
    pub bytes: u64,
    /// Whole batches read.
    pub batches: u64,
    /// Entries in them, copies included.
    pub entries: u64,
    /// The first damage in it.
    pub damage: Option<LogDamage>,
}

/// The whole log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogReport {
    /// The segments, in order.
    pub segments: Vec<SegmentReport>,
    /// Segments that must be there and are not.
    pub missing: Vec<u32>,
    /// What contradicts itself although every segment is whole.
    pub contradiction: Option<String>,
}

impl LogReport {
    /// Whether the log would be opened without loss.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        let segments =
            self.segments.iter().all(|segment| segment.damage.as_ref().is_none_or(|d| d.torn_tail));
        segments && self.missing.is_empty() && self.contradiction.is_none()
    }
}

/// Reads and checks everything in `dir`. The log should not be open: a batch that is being written looks torn.
///
/// # Errors
/// If files cannot be read or are of another version; damage is no error but a finding.
pub fn verify(fs: &dyn Fs, dir: &Path) -> Result<LogReport, OpenError> {
    let ids =
        segment::list(fs, dir).map_err(|source| OpenError::Io { doing: "list log directory", source })?;
    let mut report = LogReport::default();
    let mut bytes = 0;
    for id in &ids {
        let file = fs.open(&segment::path(dir, *id), OpenOptions::default());
        bytes += file.and_then(|file| file.len()).map_err(read_error)?;
    }
    let mut walk = Walk { replay: Some(Replay::new(bytes)), chain: None, oldest: 0 };
    let newest = ids.last().copied();
    for (at, id) in ids.iter().enumerate() {
        if at > 0 && ids[at - 1] + 1 != *id {
            walk.begin_again(bytes);
        }
        report.segments.push(walk.segment(fs, dir, *id, newest)?);
    }
    if let Some(first) = ids.first() {
        let wanted = walk.oldest.max(1)..=newest.unwrap_or(*first);
        // Bounded: a damaged number must not make the list endless.
        report.missing = wanted.filter(|id| !ids.contains(id)).take(1000).collect();
    }
    if let Some((group, index)) = walk.replay.as_ref().and_then(Replay::lost)
        && report.segments.iter().all(|segment| segment.damage.is_none())
        && report.missing.is_empty()
    {
        report.contradiction = Some(format!("entry {index} of shard {group} is in no segment"));
    }
    Ok(report)
}

fn read_error(source: std::io::Error) -> OpenError {
    OpenError::Io { doing: "read log segment", source }
}

struct Walk {
    /// `None` behind a damage: what follows cannot be replayed, but still be checked.
    replay: Option<Replay>,
    chain: Option<u64>,
    oldest: u32,
}

impl Walk {
    /// Segments before a gap are leftovers of dropped ones.
    fn begin_again(&mut self, bytes: u64) {
        self.replay = Some(Replay::new(bytes));
        self.chain = None;
    }

    fn segment(
        &mut self,
        fs: &dyn Fs,
        dir: &Path,
        id: u32,
        newest: Option<u32>,
    ) -> Result<SegmentReport, OpenError> {
        let file = fs.open(&segment::path(dir, id), OpenOptions::default()).map_err(read_error)?;
        let mut report =
            SegmentReport { segment: id, bytes: file.len().map_err(read_error)?, ..SegmentReport::default() };
        let stop = match self.batches(&*file, id, &mut report) {
            Ok(()) => return Ok(report),
            Err(stop) => stop,
        };
        self.replay = None;
        self.chain = None;
        let (at, reason, may_be_torn) = match stop {
            Stop::Io(source) => return Err(read_error(source)),
            Stop::Version { segment, found } => {
                return Err(OpenError::Version { segment, found, supported: VERSION });
            }
            Stop::Damage { at, reason } => (at, reason, true),
            Stop::Contradiction { at, reason } => (at, reason, false),
        };
        let torn_tail = may_be_torn
            && newest == Some(id)
            && (report.batches > 0 || id == 1 || fs.exists(&segment::path(dir, id - 1)))
            && !synced_beyond(&*file, at).map_err(read_error)?;
        report.damage = Some(LogDamage { at, reason: reason.to_owned(), torn_tail });
        Ok(report)
    }

    fn batches(&mut self, file: &dyn model::File, id: u32, report: &mut SegmentReport) -> Result<(), Stop> {
        let (mut scan, preamble) = SegmentScan::open(file, id, self.chain)?;
        self.oldest = self.oldest.max(preamble.oldest);
        if let Some(replay) = &mut self.replay {
            replay.segment(preamble.oldest);
        }
        let replay = &mut self.replay;
        while let Some(entries) = scan.next(|_, records| {
            if let Some(replay) = replay {
                replay.batch(records)?;
            }
            Ok(records.iter().filter(|record| matches!(record.head.kind, Kind::Append | Kind::Copy)).count())
        })? {
            report.batches += 1;
            report.entries += entries as u64;
        }
        if report.batches == 0 {
            return Err(Stop::Damage { at: scan.at, reason: "segment has no state of the groups" });
        }
        self.chain = Some(scan.chain);
        if let Some(replay) = &self.replay {
            self.oldest = self.oldest.max(replay.oldest);
        }
        Ok(())
    }
}
