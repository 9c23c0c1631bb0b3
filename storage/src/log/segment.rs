//! Segments as files: names, what is alive in each, and how a new one begins.

use super::{
    Position, ShardId,
    format::{BatchBuilder, Head, Kind, PREAMBLE_BYTES, Preamble, Summary},
    options::SPARE_BYTES,
};
use bytes::Bytes;
use model::{File, Fs, OpenOptions};
use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

const SUFFIX: &str = ".log";

pub(super) fn path(dir: &Path, segment: u32) -> PathBuf {
    dir.join(format!("{segment:010}{SUFFIX}"))
}

/// The segments in a directory, in order; other files are not ours.
pub(super) fn list(fs: &dyn Fs, dir: &Path) -> io::Result<Vec<u32>> {
    let number = |path: &PathBuf| path.file_name()?.to_str()?.strip_suffix(SUFFIX)?.parse::<u32>().ok();
    let mut segments: Vec<u32> = fs.list(dir)?.iter().filter_map(number).filter(|id| *id > 0).collect();
    segments.sort_unstable();
    segments.dedup();
    Ok(segments)
}

/// Entries of one group in one segment that are still wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Live {
    pub(super) entries: u64,
    pub(super) bytes: u64,
}

/// A segment of the log.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) file: Arc<dyn File>,
    pub(super) len: u64,
    /// Only groups that have live entries here.
    pub(super) live: BTreeMap<ShardId, Live>,
}

impl Segment {
    pub(super) fn add(&mut self, group: ShardId, bytes: u64) {
        let live = self.live.entry(group).or_default();
        live.entries += 1;
        live.bytes += bytes;
    }

    pub(super) fn sub(&mut self, group: ShardId, bytes: u64) {
        if let Some(live) = self.live.get_mut(&group) {
            live.entries -= 1;
            live.bytes -= bytes;
            if live.entries == 0 {
                self.live.remove(&group);
            }
        }
    }
}

/// What a new segment begins with.
#[derive(Debug)]
pub(super) struct Start {
    pub(super) segment: u32,
    pub(super) oldest: u32,
    pub(super) chain: u64,
    /// The end of the segment before.
    pub(super) synced: Position,
    pub(super) groups: Vec<(ShardId, Summary)>,
    pub(super) identity: Option<Bytes>,
}

/// A segment that was just begun, durably.
#[derive(Debug)]
pub(super) struct Started {
    pub(super) file: Arc<dyn File>,
    pub(super) len: u32,
    pub(super) chain: u64,
    /// Up to here the file system promised room: for the spare.
    pub(super) reserved: u64,
}

/// How far beginning a segment came when it failed.
#[derive(Debug)]
pub(super) enum StartError {
    /// Before any sync: the file can be removed and begun again.
    Write(io::Error),
    /// A sync failed: never again.
    Sync(io::Error),
}

impl Start {
    fn encode(&self) -> (Vec<u8>, u64) {
        let preamble = Preamble { segment: self.segment, oldest: self.oldest, chain: self.chain }.encode();
        let at = Position { segment: self.segment, offset: PREAMBLE_BYTES as u32 };
        let mut batch = Vec::new();
        let mut builder = BatchBuilder::new(&mut batch, at, self.synced, self.chain);
        for (group, summary) in &self.groups {
            builder.push(Head { kind: Kind::State, group: *group, log_id: None }, &summary.encode());
        }
        if let Some(identity) = &self.identity {
            builder.push(Head { kind: Kind::Identity, group: ShardId::default(), log_id: None }, identity);
        }
        let chain = builder.finish();
        ([&preamble[..], &batch].concat(), chain)
    }

    /// Creates the file, writes its start, and makes both durable.
    pub(super) fn write(&self, fs: &dyn Fs, dir: &Path) -> Result<Started, StartError> {
        let (bytes, chain) = self.encode();
        let options = OpenOptions { write: true, create: true, truncate: true, exclusive: false };
        let file = fs.open(&path(dir, self.segment), options).map_err(StartError::Write)?;
        model::point!("log.segment.created");
        let reserved = bytes.len() as u64 + SPARE_BYTES;
        file.reserve(0, reserved).map_err(StartError::Write)?;
        file.write_all_at(&bytes, 0).map_err(StartError::Write)?;
        model::point!("log.segment.written");
        file.sync().map_err(StartError::Sync)?;
        model::point!("log.segment.synced");
        fs.sync_dir(dir).map_err(StartError::Sync)?;
        Ok(Started { file: Arc::from(file), len: bytes.len() as u32, chain, reserved })
    }
}
