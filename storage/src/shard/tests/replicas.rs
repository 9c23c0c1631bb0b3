//! Replicas: equal hashes, snapshots, damage.

use super::fixture::{Fixture, scrape, select_from};
use crate::{
    kv::{Family, KeyRange, KvEngine, MemDisk, RocksEngine, RocksOptions, WriteBatch},
    shard::{DataShard, check},
};
use bytes::Bytes;
use model::{ShardId, SnapshotSink, SnapshotSource, StateMachine};
use std::{path::Path, sync::Arc};

const HOUR: i64 = 3_600_000;

/// A shard with data in several partitions.
fn filled() -> Fixture {
    let mut f = Fixture::new();
    fill(&mut f, 0, 150);
    f
}

fn fill(f: &mut Fixture, from: i64, to: i64) {
    for i in from..to {
        f.scraped(&scrape("a"), i * 120_000, &[("x", i as f64), ("y", 0.5)]);
        f.scraped(&scrape("b"), i * 120_000 + 7, &[("z", -1.25 * i as f64)]);
    }
}

/// Sends what is wanted in small pieces; returns the bytes.
fn transfer(from: &dyn SnapshotSource, to: &mut dyn SnapshotSink, pieces_max: usize) -> u64 {
    let (mut sent, mut pieces) = (0, 0);
    for part in to.wanted() {
        let mut at = part.from;
        while at < part.length && pieces < pieces_max {
            let bytes = from.read(part.part, at, 700).expect("a read");
            to.write(part.part, at, &bytes).expect("a write");
            at += bytes.len() as u64;
            sent += bytes.len() as u64;
            pieces += 1;
        }
    }
    sent
}

fn text(shard: &DataShard) -> String {
    select_from(&shard.view(), ".+", i64::MIN, i64::MAX)
}

fn install_whole(engine: Arc<dyn KvEngine>, dir: &Path) {
    let mut f = filled();
    f.checkpoint(6 * HOUR);
    let source = f.shard.open_snapshot().expect("a snapshot");
    let replica = DataShard::open(ShardId(1), dir, Arc::clone(&engine)).expect("opens");
    let mut sink = replica.begin_install(source.manifest()).expect("begins");
    transfer(&*source, &mut *sink, usize::MAX);
    assert_eq!(text(&replica), "");
    assert_eq!(sink.commit().expect("commits"), f.shard.checkpointed());
    assert_eq!(text(&replica), f.all());
    assert_eq!(replica.recent_hashes().last(), f.shard.recent_hashes().last());
    drop(replica);
    let again = DataShard::open(ShardId(1), dir, Arc::clone(&engine)).expect("opens");
    assert_eq!((text(&again), again.state_hash()), (f.all(), f.shard.state_hash()));
    let next = f.log.len();
    fill(&mut f, 150, 160);
    again.apply(&f.log[next..]).expect("applies");
    assert_eq!((text(&again), again.state_hash()), (f.all(), f.shard.state_hash()));
}

#[test]
fn a_snapshot_makes_an_equal_replica_which_goes_on_from_there() {
    install_whole(Arc::new(MemDisk::new()), Path::new("/replica"));
}

#[test]
fn the_same_over_rocksdb() {
    let dir = tempfile::tempdir().expect("a directory");
    install_whole(Arc::new(RocksEngine::new(RocksOptions::default())), &dir.path().join("replica"));
}

#[test]
fn a_lagging_replica_receives_only_partitions_that_differ() {
    let mut f = filled();
    f.checkpoint(6 * HOUR);
    let lagging =
        DataShard::open(ShardId(1), Path::new("/lagging"), Arc::new(MemDisk::new())).expect("opens");
    lagging.apply(&f.log).expect("applies");
    fill(&mut f, 150, 170);
    f.checkpoint(7 * HOUR);
    let source = f.shard.open_snapshot().expect("a snapshot");
    let fresh = DataShard::open(ShardId(1), Path::new("/fresh"), Arc::new(MemDisk::new())).expect("opens");
    let all = fresh.begin_install(source.manifest()).expect("begins").wanted();
    let mut sink = lagging.begin_install(source.manifest()).expect("begins");
    assert!(sink.wanted().len() < all.len(), "{:?} of {all:?}", sink.wanted());
    let view = lagging.view();
    let before = select_from(&view, ".+", i64::MIN, i64::MAX);
    transfer(&*source, &mut *sink, usize::MAX);
    sink.commit().expect("commits");
    assert_eq!((text(&lagging), lagging.state_hash()), (f.all(), f.shard.state_hash()));
    assert_eq!(select_from(&view, ".+", i64::MIN, i64::MAX), before);
}

#[test]
fn a_transfer_goes_on_where_it_broke_off() {
    let mut f = filled();
    f.checkpoint(6 * HOUR);
    let source = f.shard.open_snapshot().expect("a snapshot");
    let replica = DataShard::open(ShardId(1), Path::new("/r"), Arc::new(MemDisk::new())).expect("opens");
    let mut sink = replica.begin_install(source.manifest()).expect("begins");
    let total: u64 = sink.wanted().iter().map(|part| part.length).sum();
    let first = transfer(&*source, &mut *sink, 3);
    drop(sink);
    let mut sink = replica.begin_install(source.manifest()).expect("begins again");
    assert_eq!(first + transfer(&*source, &mut *sink, usize::MAX), total);
    sink.commit().expect("commits");
    assert_eq!(text(&replica), f.all());
}

#[test]
fn a_broken_part_is_refused_and_the_old_state_stays() {
    let mut f = filled();
    f.checkpoint(6 * HOUR);
    let source = f.shard.open_snapshot().expect("a snapshot");
    let replica = DataShard::open(ShardId(1), Path::new("/r"), Arc::new(MemDisk::new())).expect("opens");
    let mut sink = replica.begin_install(source.manifest()).expect("begins");
    for part in sink.wanted() {
        let mut bytes = source.read(part.part, 0, usize::MAX).expect("a read").to_vec();
        bytes[part.length as usize / 2] ^= 1;
        sink.write(part.part, 0, &bytes).expect("a write");
    }
    assert!(sink.commit().is_err());
    assert_eq!(text(&replica), "");
    assert!(replica.begin_install(Bytes::from_static(b"nonsense")).is_err());
}

#[test]
fn one_altered_value_is_found() {
    let mut f = filled();
    f.checkpoint(6 * HOUR);
    let (engine, dir) = (Arc::clone(&f.engine), f.dir.clone());
    drop(f);
    assert!(check(&dir, &*engine).expect("it opens").is_sound());
    let kv = engine.open(&dir.join("data-0")).expect("opens");
    let pair = kv.iter(Family::Chunks, &KeyRange::all(), crate::kv::Direction::Descending);
    let (key, value) = pair.expect("iterates").next().expect("a group").expect("reads");
    let mut altered = value.to_vec();
    *altered.last_mut().expect("not empty") ^= 1;
    let mut batch = WriteBatch::new();
    batch.put(Family::Chunks, key, altered);
    kv.write_synced(&batch).expect("writes");
    drop(kv);
    let report = check(&dir, &*engine).expect("it opens");
    assert!(!report.problems.is_empty(), "{report:?}");
    assert!(!report.is_sound());
}

#[test]
fn partitions_that_are_over_are_merged_and_nothing_changes() {
    let mut f = Fixture::new();
    for i in 0..600 {
        f.scraped(&scrape("a"), i * 15_000, &[("x", i as f64), ("y", (i % 7) as f64)]);
    }
    f.checkpoint(2 * HOUR);
    let (all, chunks) = (f.all(), f.shard.stats(0).chunks);
    f.checkpoint(4 * HOUR);
    f.checkpoint(5 * HOUR);
    assert!(f.shard.stats(0).chunks < chunks && f.shard.counters().chunks_merged > 0);
    assert_eq!(f.all(), all);
    let after = f.shard.state_hash();
    f.restart();
    assert_eq!(f.all(), all);
    assert_eq!(f.shard.state_hash(), after);
}
