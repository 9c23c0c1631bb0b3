//! The log's specification.

mod bound;
mod corpus;
mod damage;
mod full;
mod groups;
mod power;
mod writing;

use super::{
    Done, GroupState, Log, LogError, LogOptions, LogPorts, OpenError, Recovered,
    testing::{MemFs, StepClock},
};
use bytes::Bytes;
use model::{BoxFuture, LogId, LogIndex, ShardId, Spawner, Term};
use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, mpsc},
};

const DIR: &str = "/data/log";
const A: ShardId = ShardId(1);
const B: ShardId = ShardId(2);

fn options() -> LogOptions {
    LogOptions { size: LogOptions::SIZE_MIN, cache_bytes: 1 << 20, queue_bytes: 4 << 20 }
}

fn ports(fs: &MemFs) -> LogPorts {
    LogPorts { fs: Arc::new(fs.clone()), clock: Arc::new(StepClock::default()), spawner: None }
}

fn try_open(fs: &MemFs) -> Result<(Log, Recovered), OpenError> {
    Log::open(ports(fs), Path::new(DIR), options())
}

/// A log that works inline.
fn open(fs: &MemFs) -> Log {
    try_open(fs).expect("opens").0
}

/// A log without memory of recent entries: all reads go to the segments.
fn open_uncached(fs: &MemFs) -> Log {
    let options = LogOptions { cache_bytes: 0, ..options() };
    Log::open(ports(fs), Path::new(DIR), options).expect("opens").0
}

fn first_segment() -> PathBuf {
    super::segment::path(Path::new(DIR), 1)
}

fn id(term: u64, index: u64) -> LogId {
    LogId { term: Term(term), index: LogIndex(index) }
}

fn entry(term: u64, index: u64) -> (LogId, Bytes) {
    (id(term, index), Bytes::from(format!("entry {index} of term {term}")))
}

fn ignore() -> Done {
    Box::new(|_| ())
}

/// Runs an operation of an inline log and yields what its callback got.
fn outcome(operation: impl FnOnce(Done) -> Result<(), LogError>) -> io::Result<()> {
    let (tell, told) = mpsc::channel();
    operation(Box::new(move |result| tell.send(result).unwrap()))?;
    told.try_recv().expect("an inline log calls back before it returns")
}

/// Begins an operation; its outcome may come later.
fn begin(operation: impl FnOnce(Done) -> Result<(), LogError>) -> mpsc::Receiver<io::Result<()>> {
    let (tell, told) = mpsc::channel();
    operation(Box::new(move |result| drop(tell.send(result)))).expect("it is taken");
    told
}

fn append(log: &Log, group: ShardId, term: u64, indexes: std::ops::Range<u64>) -> io::Result<()> {
    outcome(|done| log.append(group, indexes.map(|index| entry(term, index)).collect(), done))
}

/// Appends one entry of `bytes`.
fn append_big(log: &Log, group: ShardId, index: u64, bytes: usize) -> io::Result<()> {
    outcome(|done| log.append(group, vec![(id(1, index), Bytes::from(vec![index as u8; bytes]))], done))
}

fn read(log: &Log, group: ShardId) -> Vec<(LogId, Bytes)> {
    let first = log.state(group).and_then(|state| state.purged).map_or(0, |purged| purged.index.0 + 1);
    log.read(group, LogIndex(first)..LogIndex(u64::MAX), usize::MAX).expect("reads")
}

fn ids(log: &Log, group: ShardId) -> Vec<LogId> {
    read(log, group).into_iter().map(|(log_id, _)| log_id).collect()
}

/// Gives threads, as production does.
#[derive(Debug)]
struct Threads;

impl Spawner for Threads {
    fn spawn(&self, _: &'static str, _: BoxFuture<'static, ()>) {
        unreachable!("the log has no tasks")
    }

    fn blocking(&self, _: &'static str, _: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, ()> {
        unreachable!("the log has a thread")
    }

    #[expect(clippy::disallowed_methods, reason = "the log's own thread is the subject")]
    fn thread(&self, name: &'static str, work: Box<dyn FnOnce() + Send>) -> io::Result<()> {
        std::thread::Builder::new().name(name.to_owned()).spawn(work).map(drop)
    }
}

/// A log that writes on its own thread, and keeps only in memory what waits for it.
fn open_threaded(fs: &MemFs) -> Log {
    let ports = LogPorts { spawner: Some(Arc::new(Threads)), ..ports(fs) };
    Log::open(ports, Path::new(DIR), LogOptions { cache_bytes: 0, ..options() }).expect("opens").0
}
