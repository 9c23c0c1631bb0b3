//! Entry points for fuzzing: whatever is on the disk, opening the log neither panics nor hangs.

use super::{MemFs, StepClock};
use crate::log::{Log, LogOptions, LogPorts, segment, verify};
use bytes::Bytes;
use model::{Fs, LogId, LogIndex, OpenOptions, ShardId, Term};
use std::{io, path::Path, sync::Arc};

const DIR: &str = "/log";

fn ports(fs: &MemFs) -> LogPorts {
    LogPorts { fs: Arc::new(fs.clone()), clock: Arc::new(StepClock::default()), spawner: None }
}

fn options() -> LogOptions {
    LogOptions { size: LogOptions::SIZE_MIN, ..LogOptions::default() }
}

/// Opens the log, reads all of it, appends to it, and opens it again.
fn use_log(fs: &MemFs) {
    let dir = Path::new(DIR);
    let healthy = verify(fs, dir).is_ok_and(|report| report.is_healthy());
    let Ok((log, recovered)) = Log::open(ports(fs), dir, options()) else { return };
    assert!(healthy, "verify complains about what opens");
    for (group, state) in &recovered.groups {
        let first = state.purged.map_or(0, |purged| purged.index.0 + 1);
        let read = log.read(*group, LogIndex(first)..LogIndex(u64::MAX), 1 << 20);
        assert!(read.is_ok(), "what was recovered can be read: {read:?}");
        let next = state.last.map_or(0, |last| last.index.0 + 1);
        let entry = (LogId { term: Term(u64::MAX), index: LogIndex(next) }, Bytes::from_static(b"x"));
        drop(log.append(*group, vec![entry], Box::new(|_| ())));
    }
    drop(log);
    let again = Log::open(ports(fs), dir, options());
    assert!(again.is_ok(), "what was opened once opens again: {again:?}");
}

fn write(fs: &MemFs, segment: u32, data: &[u8], offset: u64) -> io::Result<()> {
    fs.create_dir_all(Path::new(DIR))?;
    let create = OpenOptions { write: true, create: true, ..OpenOptions::default() };
    fs.open(&segment::path(Path::new(DIR), segment), create)?.write_all_at(data, offset)
}

/// Takes `data` for the log's first segment.
///
/// # Panics
/// If the log breaks a promise.
pub fn fuzz_recover(data: &[u8]) {
    let fs = MemFs::default();
    write(&fs, 1, data, 0).expect("a file system without limits");
    use_log(&fs);
}

/// Writes `data` over a log with a few batches; its first two bytes say where.
///
/// # Panics
/// If the log breaks a promise.
pub fn fuzz_splice(data: &[u8]) {
    let [low, high, data @ ..] = data else { return };
    let fs = MemFs::default();
    if let Ok((log, _)) = Log::open(ports(&fs), Path::new(DIR), options()) {
        for index in 0..8 {
            let entry = (LogId { term: Term(1), index: LogIndex(index) }, Bytes::from(vec![index as u8; 20]));
            drop(log.append(ShardId(index as u32 % 2), vec![entry], Box::new(|_| ())));
        }
        drop(log.save_vote(ShardId(1), Bytes::from_static(b"vote"), Box::new(|_| ())));
    }
    write(&fs, 1, data, u64::from(u16::from_le_bytes([*low, *high])) % 1024)
        .expect("a file system without limits");
    use_log(&fs);
}
