//! Snapshots: an equal replica, transfers that break off, damage on either side, and what is left of a replaced store.

use super::fixture::{Fixture, scrape, select_from};
use crate::{
    kv::{Direction, Family, KeyRange, KvEngine, MemDisk, RocksEngine, RocksOptions, WriteBatch},
    shard::DataShard,
};
use bytes::Bytes;
use model::{ShardId, SnapshotCheck, SnapshotSink, SnapshotSource, StateError, StateMachine};
use std::{path::Path, sync::Arc};

const HOUR: i64 = 3_600_000;

/// A shard with data in several partitions.
pub(super) fn filled() -> Fixture {
    let mut f = Fixture::new();
    fill(&mut f, 0, 150);
    f.checkpoint(6 * HOUR);
    f
}

fn fill(f: &mut Fixture, from: i64, to: i64) {
    for i in from..to {
        f.scraped(&scrape("a"), i * 120_000, &[("x", i as f64), ("y", 0.5)]);
        f.scraped(&scrape("b"), i * 120_000 + 7, &[("z", -1.25 * i as f64)]);
    }
}

fn replica(engine: Arc<dyn KvEngine>, dir: &Path) -> DataShard {
    DataShard::open(ShardId(1), dir, engine).expect("opens")
}

fn twin() -> DataShard {
    replica(Arc::new(MemDisk::new()), Path::new("/replica"))
}

/// Applies all there is, and makes the checkpoint that it asks for.
fn follow(replica: &DataShard, f: &Fixture) {
    replica.apply(&f.log).expect("applies");
    assert!(replica.wants_checkpoint());
    replica.checkpoint().expect("the disk works");
    assert!(!replica.wants_checkpoint());
}

fn snapshot(f: &Fixture) -> Box<dyn SnapshotSource> {
    f.shard.open_snapshot().expect("a snapshot")
}

fn begin(replica: &DataShard, from: &dyn SnapshotSource) -> Box<dyn SnapshotSink> {
    replica.begin_install(from.manifest()).expect("begins")
}

/// Sends at most so many of the wanted parts, in small pieces; returns the bytes.
fn send(from: &dyn SnapshotSource, to: &mut dyn SnapshotSink, parts_max: usize) -> usize {
    let mut sent = 0;
    for part in to.wanted().iter().take(parts_max) {
        let mut at = Some(Bytes::new());
        while let Some(place) = at {
            let piece = from.read(part.part, &place, 700).expect("a read");
            to.write(part.part, &piece.data, piece.next.is_none()).expect("a write");
            sent += piece.data.len();
            at = piece.next;
        }
    }
    sent
}

fn check(sink: &mut dyn SnapshotSink) -> Result<SnapshotCheck, StateError> {
    loop {
        let checked = sink.check()?;
        if checked != SnapshotCheck::More {
            return Ok(checked);
        }
    }
}

/// The whole way.
fn install(from: &dyn SnapshotSource, to: &DataShard) -> usize {
    let mut sink = begin(to, from);
    let sent = send(from, &mut *sink, usize::MAX);
    assert_eq!(check(&mut *sink), Ok(SnapshotCheck::Whole));
    assert_eq!(sink.commit().expect("commits"), from.applied());
    sent
}

fn text(shard: &DataShard) -> String {
    select_from(&shard.view(), ".+", i64::MIN, i64::MAX)
}

fn is_equal(replica: &DataShard, f: &Fixture) {
    assert_eq!((text(replica), replica.state_hash()), (f.all(), f.shard.state_hash()));
    assert_eq!(replica.applied(), f.shard.applied());
}

/// Alters the last byte of some chunk of the first partition, where it is stored.
fn damage(shard: &DataShard) {
    let kv = Arc::clone(&shard.read().kv);
    let pair = kv.iter(Family::Chunks, &KeyRange::all(), Direction::Ascending).expect("iterates");
    let (key, value) = pair.map(|pair| pair.expect("reads")).find(|(key, _)| key[8] == 1).expect("a group");
    let mut altered = value.to_vec();
    *altered.last_mut().expect("not empty") ^= 1;
    let mut batch = WriteBatch::new();
    batch.put(Family::Chunks, key, altered);
    kv.write_synced(&batch).expect("writes");
}

fn install_whole(engine: Arc<dyn KvEngine>, dir: &Path) {
    let mut f = filled();
    let replica = replica(engine.clone(), dir);
    install(&*snapshot(&f), &replica);
    is_equal(&replica, &f);
    assert_eq!(replica.recent_hashes().last(), f.shard.recent_hashes().last());
    drop(replica);
    let again = DataShard::open(ShardId(1), dir, engine).expect("opens");
    is_equal(&again, &f);
    let next = f.log.len();
    fill(&mut f, 150, 160);
    again.apply(&f.log[next..]).expect("applies");
    is_equal(&again, &f);
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

/// A replica is installed again and again while somebody reads what it was: each view keeps its content, and each
/// store goes with the last who reads from it.
fn install_often(engine: Arc<dyn KvEngine>, dir: &Path) {
    let mut f = filled();
    let replica = replica(engine.clone(), dir);
    let mut views = Vec::new();
    for round in 1..4 {
        install(&*snapshot(&f), &replica);
        is_equal(&replica, &f);
        views.push((replica.view(), f.all()));
        fill(&mut f, 150 * round, 150 * round + 20);
        f.checkpoint((6 + round) * HOUR);
    }
    for (view, before) in &views {
        assert_eq!(select_from(view, ".+", i64::MIN, i64::MAX), *before);
    }
    assert_eq!(engine.list(dir).expect("lists").len(), 3);
    drop(views);
    assert_eq!(engine.list(dir).expect("lists"), [dir.join("data-3")]);
    drop(replica);
    assert_eq!(DataShard::open(ShardId(1), dir, engine).map(|_| ()), Ok(()));
}

#[test]
fn a_replica_is_replaced_under_its_readers_as_often_as_need_be() {
    install_often(Arc::new(MemDisk::new()), Path::new("/replica"));
}

#[test]
fn a_replica_is_replaced_under_its_readers_over_rocksdb() {
    let dir = tempfile::tempdir().expect("a directory");
    install_often(Arc::new(RocksEngine::new(RocksOptions::default())), &dir.path().join("replica"));
}

#[test]
fn a_lagging_replica_receives_only_partitions_that_differ() {
    let mut f = filled();
    let lagging = twin();
    follow(&lagging, &f);
    fill(&mut f, 150, 170);
    f.checkpoint(7 * HOUR);
    let source = snapshot(&f);
    let all = begin(&twin(), &*source).wanted();
    let mut sink = begin(&lagging, &*source);
    assert!(sink.wanted().len() < all.len(), "{:?} of {all:?}", sink.wanted());
    let (view, before) = (lagging.view(), text(&lagging));
    send(&*source, &mut *sink, usize::MAX);
    assert_eq!(check(&mut *sink), Ok(SnapshotCheck::Whole));
    sink.commit().expect("commits");
    is_equal(&lagging, &f);
    assert_eq!(select_from(&view, ".+", i64::MIN, i64::MAX), before);
}

#[test]
fn a_transfer_that_broke_off_goes_on_behind_the_parts_that_are_whole() {
    let f = filled();
    let dir = tempfile::tempdir().expect("a directory");
    let engine = Arc::new(RocksEngine::new(RocksOptions::default())); // keeps what a store had when it is closed
    let (source, replica) = (snapshot(&f), replica(engine, &dir.path().join("replica")));
    let mut sink = begin(&replica, &*source);
    let total = sink.wanted().len();
    let first = send(&*source, &mut *sink, 2);
    let piece = source.read(2, &[], 10).expect("a read");
    sink.write(2, &piece.data, false).expect("half of the next part");
    drop(sink);
    let again = snapshot(&f);
    let mut sink = begin(&replica, &*again);
    assert_eq!(sink.wanted().len(), total - 2);
    let second = send(&*again, &mut *sink, usize::MAX);
    assert_eq!(check(&mut *sink), Ok(SnapshotCheck::Whole));
    sink.commit().expect("commits");
    is_equal(&replica, &f);
    assert_eq!(first + second, install(&*again, &twin()));
}

#[test]
fn a_transfer_goes_on_with_a_later_checkpoint_whatever_its_packing() {
    let mut f = filled();
    let (engine, dir) = (Arc::new(MemDisk::new()), Path::new("/replica"));
    let lagging = replica(engine.clone(), dir);
    let source = snapshot(&f);
    let mut sink = begin(&lagging, &*source);
    send(&*source, &mut *sink, usize::MAX);
    engine.crash(&|unflushed| unflushed);
    drop((sink, lagging));
    fill(&mut f, 150, 170);
    f.checkpoint(7 * HOUR);
    f.pack(7 * HOUR);
    let later = snapshot(&f);
    let lagging = replica(engine, dir);
    let mut sink = begin(&lagging, &*later);
    let all = begin(&twin(), &*later).wanted();
    assert!(sink.wanted().len() < all.len(), "{:?} of {all:?}", sink.wanted());
    assert_eq!(sink.wanted()[0].part, 0, "the state is another");
    send(&*later, &mut *sink, usize::MAX);
    assert_eq!(check(&mut *sink), Ok(SnapshotCheck::Whole));
    sink.commit().expect("commits");
    is_equal(&lagging, &f);
}

#[test]
fn what_a_crash_leaves_of_a_transfer_never_is_in_force() {
    let f = filled();
    let (engine, dir) = (Arc::new(MemDisk::new()), Path::new("/replica"));
    let lagging = replica(engine.clone(), dir);
    let source = snapshot(&f);
    let mut sink = begin(&lagging, &*source);
    send(&*source, &mut *sink, usize::MAX);
    assert_eq!(check(&mut *sink), Ok(SnapshotCheck::Whole));
    engine.crash(&|unflushed| unflushed);
    let again = replica(engine.clone(), dir);
    assert_eq!((text(&again).as_str(), again.applied().log_id), ("", None));
    engine.crash(&|unflushed| unflushed);
    engine.remove(&dir.join("data-0")).expect("removes");
    let refused = DataShard::open(ShardId(1), dir, engine).map(|_| ());
    assert!(
        matches!(&refused, Err(StateError::Corrupt(reason)) if reason.contains("unfinished")),
        "{refused:?}"
    );
}

#[test]
fn a_part_that_arrives_altered_is_refused_and_received_again() {
    let f = filled();
    let (source, replica) = (snapshot(&f), twin());
    let mut sink = begin(&replica, &*source);
    for part in sink.wanted() {
        let mut bytes = source.read(part.part, &[], usize::MAX).expect("a read").data.to_vec();
        if part.part == 1 {
            *bytes.last_mut().expect("a record") ^= 1;
        }
        sink.write(part.part, &bytes, true).expect("a write");
    }
    assert!(check(&mut *sink).is_err());
    assert!(sink.commit().is_err(), "it was not whole");
    drop(sink);
    assert_eq!(text(&replica), "");
    let mut sink = begin(&replica, &*source);
    assert_eq!(sink.wanted().iter().map(|part| part.part).collect::<Vec<_>>(), [1]);
    send(&*source, &mut *sink, usize::MAX);
    assert_eq!(check(&mut *sink), Ok(SnapshotCheck::Whole));
    sink.commit().expect("commits");
    is_equal(&replica, &f);
}

#[test]
fn a_damaged_partition_of_the_receiver_is_received_instead_of_kept() {
    let mut f = filled();
    let lagging = twin();
    follow(&lagging, &f);
    damage(&lagging);
    fill(&mut f, 150, 160);
    f.checkpoint(7 * HOUR);
    let source = snapshot(&f);
    let mut sink = begin(&lagging, &*source);
    send(&*source, &mut *sink, usize::MAX);
    assert_eq!(check(&mut *sink), Ok(SnapshotCheck::Wanted));
    assert_eq!(sink.wanted().len(), 1);
    send(&*source, &mut *sink, usize::MAX);
    assert_eq!(check(&mut *sink), Ok(SnapshotCheck::Whole));
    sink.commit().expect("commits");
    is_equal(&lagging, &f);
}

#[test]
fn a_damaged_partition_of_the_leader_does_not_spread() {
    let f = filled();
    damage(&f.shard);
    let (source, replica) = (snapshot(&f), twin());
    let mut sink = begin(&replica, &*source);
    send(&*source, &mut *sink, usize::MAX);
    let refused = check(&mut *sink).expect_err("it is damaged").to_string();
    assert!(refused.contains("partition 0") && refused.contains("vestal check"), "{refused}");
    assert_eq!(text(&replica), "");
}

#[test]
fn records_of_another_part_and_nonsense_are_refused() {
    let f = filled();
    let (source, replica) = (snapshot(&f), twin());
    assert!(replica.begin_install(Bytes::from_static(b"nonsense")).is_err());
    let mut sink = begin(&replica, &*source);
    let piece = source.read(1, &[], usize::MAX).expect("a read");
    assert!(sink.write(2, &piece.data, true).is_err(), "of another part");
    assert!(sink.write(1, &piece.data[..piece.data.len() - 1], true).is_err(), "cut");
    assert!(sink.write(99, &[], true).is_err(), "no such part");
    assert_eq!(sink.wanted().len(), begin_count(&*source));
}

fn begin_count(source: &dyn SnapshotSource) -> usize {
    begin(&twin(), source).wanted().len()
}

#[test]
fn what_raft_asks_does_not_wait_for_a_state_that_is_busy() {
    let mut f = filled();
    f.scraped(&scrape("a"), 7 * HOUR, &[("x", 1.0)]);
    let busy = f.shard.write().expect("sound");
    assert_eq!(f.shard.applied().log_id.map(|id| id.index.0), Some(f.index));
    assert_eq!(f.shard.checkpointed().log_id.map(|id| id.index.0), Some(f.index - 1));
    assert_eq!(f.shard.recent_hashes().last().map(|hash| hash.index.0), Some(f.index));
    assert_eq!(f.shard.config_version(), busy.settings.version);
}

#[test]
fn a_state_that_a_panic_left_is_neither_changed_nor_made_durable() {
    let mut f = filled();
    f.scraped(&scrape("a"), 7 * HOUR, &[("x", 1.0)]);
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let mut state = f.shard.write().expect("sound");
        state.applied.log_id = None;
        panic!("a bug in apply");
    }));
    assert!(panicked.is_err());
    let durable = f.shard.checkpointed();
    assert!(f.shard.checkpoint().is_err());
    assert!(f.shard.apply(&f.log[..1]).is_err());
    assert_eq!(f.shard.checkpointed(), durable);
}
