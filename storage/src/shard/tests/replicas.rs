//! Replicas: packing and damage. Snapshots stand in `snapshots.rs`.

use super::fixture::{Fixture, budget, scrape, select_from};
use crate::{
    kv::{Family, KeyRange, KvEngine, MemDisk, RocksEngine, RocksOptions, WriteBatch},
    shard::{DataCommand, check},
};
use bytes::Bytes;
use model::{Matcher, Queryable, SelectRequest, TimestampMs};
use std::{path::Path, sync::Arc};

const HOUR: i64 = 3_600_000;

#[test]
fn one_altered_value_is_found() {
    let f = super::snapshots::filled();
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
    let task = f.shard.write().expect("sound").task(0, 0).expect("a partition in pieces");
    let chunk = task.merged().expect("nothing is damaged").expect("fits into one");
    f.apply(&DataCommand::Retain { cutoff: TimestampMs(2 * HOUR) });
    let (all, hash) = (f.all(), f.shard.state_hash());
    f.shard.write().expect("sound").replace(&task, chunk).expect("the disk works");
    assert_eq!((f.all(), f.shard.state_hash()), (all, hash));
}

/// Parts whose series come and go have few in common: each may be far below what a chunk may have, and all together above.
#[test]
fn what_is_too_much_for_one_chunk_stays_in_parts() {
    let f = in_pieces(Arc::new(MemDisk::new()), Path::new("/shard"));
    let task = f.shard.write().expect("sound").task(0, 0).expect("a partition in pieces");
    let merged =
        |series_max, cells_max| task.merged_within(series_max, cells_max).expect("nothing is damaged");
    let head = merged(usize::MAX, u64::MAX).expect("no limit").head;
    let (series, cells) = (head.series.len(), (head.series.len() * head.timestamps.len()) as u64);
    assert!(merged(series, cells).is_some());
    assert!(merged(series - 1, cells).is_none());
    assert!(merged(series, cells - 1).is_none());
}

#[test]
fn a_damaged_group_is_named_and_left_as_it_is() {
    let f = in_pieces(Arc::new(MemDisk::new()), Path::new("/shard"));
    let kv = Arc::clone(&f.shard.write().expect("sound").kv);
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
