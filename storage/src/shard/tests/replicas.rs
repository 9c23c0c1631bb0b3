//! Replicas: equal hashes, snapshots, damage.

use super::fixture::{Fixture, budget, scrape, select_from};
use crate::{
    kv::{Family, KeyRange, KvEngine, MemDisk, RocksEngine, RocksOptions, WriteBatch},
    shard::{DataCommand, DataShard, check},
};
use bytes::Bytes;
use model::{
    Matcher, Queryable, SelectRequest, ShardId, SnapshotSink, SnapshotSource, StateMachine, TimestampMs,
};
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

/// Scrapes over two partitions and a half, checkpointed.
fn in_pieces(engine: Arc<dyn KvEngine>, dir: &Path) -> Fixture {
    let mut f = Fixture::on(engine, dir);
    for i in 0..1_200 {
        f.scraped(&scrape("a"), i * 15_000, &[("x", i as f64), ("y", (i % 7) as f64)]);
    }
    f.checkpoint(5 * HOUR);
    f
}

fn packing_changes_nothing(engine: Arc<dyn KvEngine>, dir: &Path) {
    let mut f = in_pieces(engine, dir);
    let (all, hash, chunks) = (f.all(), f.shard.state_hash(), f.shard.stats(0).chunks);
    let view = f.shard.view();
    f.pack(2 * HOUR + 899_000);
    assert_eq!(f.shard.stats(0).chunks, chunks, "the first partition is not settled yet");
    f.pack(2 * HOUR + 900_000);
    let first = f.shard.stats(0).chunks;
    assert!(first < chunks, "{first} of {chunks}");
    f.pack(5 * HOUR);
    assert!(f.shard.stats(0).chunks < first);
    assert_eq!((f.all(), f.shard.state_hash()), (all.clone(), hash));
    assert_eq!(select_from(&view, ".+", i64::MIN, i64::MAX), all);
    drop(view);
    f.restart();
    assert_eq!((f.all(), f.shard.state_hash()), (all, hash));
    let (engine, dir) = (Arc::clone(&f.engine), f.dir.clone());
    drop(f);
    let report = check(&dir, &*engine).expect("it opens");
    assert!(report.is_sound(), "{report:?}");
}

#[test]
fn partitions_that_are_over_are_packed_and_nothing_changes() {
    packing_changes_nothing(Arc::new(MemDisk::new()), Path::new("/shard"));
}

#[test]
fn packing_over_rocksdb_changes_nothing_and_takes_space_back() {
    let dir = tempfile::tempdir().expect("a directory");
    let engine = Arc::new(RocksEngine::new(RocksOptions::default()));
    packing_changes_nothing(engine, &dir.path().join("shard"));
}

#[test]
fn a_partition_that_is_dropped_while_it_is_packed_stays_dropped() {
    let mut f = in_pieces(Arc::new(MemDisk::new()), Path::new("/shard"));
    let task = f.shard.write().task(0, 0).expect("a partition in pieces");
    let chunk = task.merged().expect("nothing is damaged");
    f.apply(&DataCommand::Retain { cutoff: TimestampMs(2 * HOUR) });
    let (all, hash) = (f.all(), f.shard.state_hash());
    f.shard.write().replace(&task, chunk).expect("the disk works");
    assert_eq!((f.all(), f.shard.state_hash()), (all, hash));
}

#[test]
fn a_damaged_group_is_named_and_left_as_it_is() {
    let f = in_pieces(Arc::new(MemDisk::new()), Path::new("/shard"));
    let kv = Arc::clone(&f.shard.write().kv);
    let pair = kv.iter(Family::Chunks, &KeyRange::all(), crate::kv::Direction::Ascending);
    let mut groups = pair.expect("iterates").map(|pair| pair.expect("reads"));
    let (key, value) = groups.find(|(key, _)| key[8] == 1).expect("a group");
    let mut altered = value.to_vec();
    let middle = altered.len() / 2;
    altered[middle] ^= 1;
    let mut batch = WriteBatch::new();
    batch.put(Family::Chunks, key.clone(), altered.clone());
    kv.write(&batch).expect("writes");
    let failed = f.shard.pack(TimestampMs(5 * HOUR)).expect_err("it is damaged");
    assert!(failed.to_string().contains("checksum"), "{failed}");
    assert_eq!(kv.get(Family::Chunks, &key).expect("reads"), Some(Bytes::from(altered)));
    f.pack(5 * HOUR);
    let request = SelectRequest {
        matchers: vec![Matcher::equal("__name__", "x")],
        start: TimestampMs(0),
        end: TimestampMs(HOUR),
        with_samples: true,
        limit: 0,
    };
    let (view, budget) = (f.shard.view(), budget());
    let read: Vec<_> = view.select(&request, &budget).expect("selects").collect();
    assert!(read.iter().any(|series| series.as_ref().is_err_and(|e| e.to_string().contains("checksum"))));
}
