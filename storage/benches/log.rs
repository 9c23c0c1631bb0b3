//! Append throughput of the shared log: one group that waits for each entry, and seven that wait together.

#![allow(missing_docs, clippy::disallowed_methods, clippy::unwrap_used)]

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use model::{BoxFuture, Clock, File, Fs, LogId, LogIndex, OpenOptions, ShardId, Spawner, Term, TimestampMs};
use std::{
    fs, io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::{Arc, mpsc},
    time::{Duration, Instant},
};
use storage::log::{Log, LogOptions, LogPorts};

#[derive(Debug)]
struct Disk(Instant);

#[derive(Debug)]
struct DiskFile(fs::File);

impl File for DiskFile {
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        FileExt::read_exact_at(&self.0, buf, offset)
    }
    fn write_all_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        FileExt::write_all_at(&self.0, data, offset)
    }
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }
    fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }
}

impl Fs for Disk {
    fn open(&self, path: &Path, o: OpenOptions) -> io::Result<Box<dyn File>> {
        let mut options = fs::OpenOptions::new();
        options.read(true).write(o.write).create(o.create).create_new(o.exclusive).truncate(o.truncate);
        Ok(Box::new(DiskFile(options.open(path)?)))
    }
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        fs::create_dir_all(path)
    }
    fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        fs::read_dir(path)?.map(|entry| Ok(entry?.file_name().into())).collect()
    }
    fn exists(&self, path: &Path) -> bool {
        path.exists()
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }
    fn remove_file(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }
    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir_all(path)
    }
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        fs::File::open(path)?.sync_all()
    }
    fn free_bytes(&self, _: &Path) -> io::Result<u64> {
        Ok(u64::MAX)
    }
}

impl Clock for Disk {
    fn now(&self) -> TimestampMs {
        TimestampMs(0)
    }
    fn monotonic(&self) -> Duration {
        self.0.elapsed()
    }
}

impl Spawner for Disk {
    fn spawn(&self, _: &'static str, _: BoxFuture<'static, ()>) {
        unreachable!("the log has no tasks")
    }
    fn blocking(&self, _: &'static str, _: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, ()> {
        unreachable!("the log has a thread")
    }
    fn thread(&self, _: &'static str, work: Box<dyn FnOnce() + Send>) -> io::Result<()> {
        std::thread::Builder::new().spawn(work).map(drop)
    }
}

fn append(bench: &mut Criterion) {
    let mut group = bench.benchmark_group("append");
    for (groups, bytes) in [(1, 1024), (7, 1024), (1, 256 * 1024), (7, 256 * 1024)] {
        let dir = tempfile::tempdir_in(".").unwrap();
        let disk = Arc::new(Disk(Instant::now()));
        let ports = LogPorts { fs: disk.clone(), clock: disk.clone(), spawner: Some(disk) };
        let (log, _) = Log::open(ports, dir.path(), LogOptions::default()).unwrap();
        let payload = Bytes::from(vec![1; bytes]);
        let mut index = 0;
        group.throughput(Throughput::Bytes((groups * bytes) as u64));
        group.bench_function(BenchmarkId::new(format!("{groups} groups"), bytes), |b| {
            b.iter(|| {
                let (tell, told) = mpsc::channel();
                let id = LogId { term: Term(1), index: LogIndex(index) };
                for shard in 0..groups as u32 {
                    let tell = tell.clone();
                    let done = Box::new(move |result: io::Result<()>| tell.send(result).unwrap());
                    log.append(ShardId(shard), vec![(id, payload.clone())], done).unwrap();
                    if index % 64 == 63 {
                        let upto = LogId { index: LogIndex(index - 32), ..id };
                        log.purge(ShardId(shard), upto, Box::new(|_| ())).unwrap();
                    }
                }
                (0..groups).for_each(|_| told.recv().unwrap().unwrap());
                index += 1;
            });
        });
        log.close();
        let stats = log.stats();
        println!(
            "{groups} groups x {bytes} B: {stats:?}, {:?} a sync",
            stats.fsync_time / stats.batches as u32
        );
    }
}

criterion_group!(benches, append);
criterion_main!(benches);
