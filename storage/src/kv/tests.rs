//! The same commands give the same answers on both engines, and what each promises on its own.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;
use tempfile::TempDir;

fn rocks() -> (TempDir, Arc<RocksKv>) {
    let dir = tempfile::tempdir().expect("temporary directory");
    let kv = RocksEngine::new(RocksOptions::default()).open_store(&dir.path().join("kv")).expect("open");
    (dir, kv)
}

fn put(kv: &dyn Kv, family: Family, key: &str, value: &str) {
    let mut batch = WriteBatch::new();
    batch.put(family, key.to_owned(), value.to_owned());
    kv.write(&batch).expect("write");
}

fn get(kv: &dyn KvRead, family: Family, key: &str) -> Option<String> {
    kv.get(family, key.as_bytes()).expect("get").map(|v| String::from_utf8(v.to_vec()).expect("text"))
}

fn all(kv: &dyn KvRead, range: &KeyRange, direction: Direction) -> Vec<(Family, Bytes, Bytes)> {
    Family::ALL
        .into_iter()
        .flat_map(|family| {
            let pairs = kv.iter(family, range, direction).expect("iter");
            pairs.map(move |pair| pair.map(|(key, value)| (family, key, value)))
        })
        .collect::<Result<_, _>>()
        .expect("pairs")
}

#[derive(Clone, Debug)]
enum Step {
    Write(WriteBatch),
    Drop(Family, KeyRange),
    Ingest(Family, BTreeMap<Bytes, Bytes>),
    Flush,
    View,
    Release,
}

fn key() -> impl Strategy<Value = Bytes> {
    proptest::collection::vec(prop_oneof![Just(0_u8), Just(1), Just(2), Just(255)], 1..4)
        .prop_map(Bytes::from)
}

fn range() -> impl Strategy<Value = KeyRange> {
    (key(), proptest::option::of(key())).prop_map(|(start, end)| KeyRange { start, end })
}

fn family() -> impl Strategy<Value = Family> {
    (0..Family::ALL.len()).prop_map(|i| Family::ALL[i])
}

fn step() -> impl Strategy<Value = Step> {
    let value = || proptest::collection::vec(any::<u8>(), 0..4).prop_map(Bytes::from);
    let op = prop_oneof![
        4 => (family(), key(), value()).prop_map(|(f, k, v)| WriteOp::Put(f, k, v)),
        1 => (family(), key()).prop_map(|(f, k)| WriteOp::Delete(f, k)),
        1 => (family(), range()).prop_map(|(f, r)| WriteOp::DeleteRange(f, r)),
    ];
    let batch = proptest::collection::vec(op, 0..6).prop_map(|ops| WriteBatch { ops, bytes: 0 });
    prop_oneof![
        6 => batch.prop_map(Step::Write),
        1 => (family(), range()).prop_map(|(f, r)| Step::Drop(f, r)),
        1 => (family(), proptest::collection::btree_map(key(), value(), 0..5)).prop_map(|(f, p)| Step::Ingest(f, p)),
        1 => Just(Step::Flush),
        1 => Just(Step::View),
        1 => Just(Step::Release),
    ]
}

/// Does one step; views that were opened stay in `views`.
fn perform(kv: &dyn Kv, step: &Step, views: &mut Vec<KvView>) -> Result<(), KvError> {
    match step {
        Step::Write(batch) => kv.write(batch)?,
        Step::Drop(family, range) => kv.drop_range(*family, range)?,
        Step::Ingest(family, pairs) => {
            kv.ingest_sorted(*family, &mut pairs.iter().map(|(k, v)| (k.clone(), v.clone())))?;
        }
        Step::Flush => kv.flush_sync()?,
        Step::View => views.push(kv.snapshot()),
        Step::Release => drop(views.pop()),
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn both_engines_answer_the_same(steps in proptest::collection::vec(step(), 1..40), range in range()) {
        let (_dir, rocks) = rocks();
        let mem = MemDisk::new().open_store(Path::new("kv")).expect("opens");
        let (mut rocks_views, mut mem_views) = (Vec::new(), Vec::new());
        for step in &steps {
            perform(&*rocks, step, &mut rocks_views).expect("rocks");
            perform(&*mem, step, &mut mem_views).expect("mem");
            prop_assert_eq!(
                all(&*rocks, &range, Direction::Descending),
                all(&*mem, &range, Direction::Descending)
            );
        }
        for (a, b) in rocks_views.iter().zip(&mem_views) {
            prop_assert_eq!(
                all(&**a, &KeyRange::all(), Direction::Ascending),
                all(&**b, &KeyRange::all(), Direction::Ascending)
            );
        }
    }
}

#[test]
fn what_was_flushed_survives_reopening_in_rocksdb() {
    let (dir, kv) = rocks();
    put(&*kv, Family::Meta, "a", "1");
    put(&*kv, Family::Chunks, "b", "2");
    kv.flush_sync().expect("flush");
    kv.close();
    assert!(kv.write_synced(&WriteBatch::new()).is_err());
    drop(kv);
    let kv = RocksEngine::new(RocksOptions::default()).open(&dir.path().join("kv")).expect("open");
    assert_eq!(get(&*kv, Family::Meta, "a").as_deref(), Some("1"));
    assert_eq!(get(&*kv, Family::Chunks, "b").as_deref(), Some("2"));
}

#[test]
fn a_crash_of_the_twin_keeps_a_prefix_of_the_batches() {
    let disk = MemDisk::new();
    let kv = disk.open_store(Path::new("kv")).expect("opens");
    put(&*kv, Family::Meta, "a", "1");
    kv.flush_sync().expect("flush");
    put(&*kv, Family::Meta, "b", "2");
    put(&*kv, Family::Meta, "c", "3");
    assert_eq!(kv.crash(1), 2);
    assert!(kv.flush_sync().is_err());
    let kv = disk.open_store(Path::new("kv")).expect("opens");
    assert_eq!(get(&*kv, Family::Meta, "a").as_deref(), Some("1"));
    assert_eq!(get(&*kv, Family::Meta, "b").as_deref(), Some("2"));
    assert_eq!(get(&*kv, Family::Meta, "c"), None);
}

#[test]
fn stores_of_the_first_builds_open_and_lose_only_what_nobody_reads() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("kv");
    let mut options = rocksdb::Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    let first = ["meta", "state", "series", "chunks", "bundles"];
    let db = rocksdb::DB::open_cf(&options, &path, first).expect("opens");
    db.put_cf(db.cf_handle("meta").expect("it is open"), "a", "1").expect("puts");
    drop(db);
    for _ in 0..3 {
        let kv = RocksEngine::new(RocksOptions::default()).open_store(&path).expect("opens");
        assert_eq!(get(&*kv, Family::Meta, "a").as_deref(), Some("1"));
        kv.flush_sync().expect("flush");
        kv.close();
    }
    let names = std::fs::read_dir(&path).expect("lists").map(|entry| entry.expect("lists").file_name());
    let names: Vec<_> = names.map(|name| name.to_string_lossy().into_owned()).collect();
    assert_eq!(names.iter().filter(|name| name.starts_with("OPTIONS")).count(), 1, "{names:?}");
    assert!(!names.iter().any(|name| name.starts_with("LOG")), "{names:?}");
    let kv = RocksEngine::new(RocksOptions::default()).open_store(&path).expect("opens");
    kv.checkpoint_to(&dir.path().join("copy")).expect("copies");
    let copy = RocksEngine::new(RocksOptions::default()).open_store(&dir.path().join("copy"));
    assert_eq!(get(&*copy.expect("opens"), Family::Meta, "a").as_deref(), Some("1"));
}

#[test]
fn a_view_keeps_what_is_dropped_and_the_files_go_when_it_ends() {
    let (_dir, kv) = rocks();
    for i in 0..2000 {
        put(&*kv, Family::Chunks, &format!("p1/{i:05}"), &"x".repeat(1000));
    }
    kv.flush_sync().expect("flush");
    kv.compact(Family::Chunks, &KeyRange::all()).expect("compacts");
    let before = kv.approximate_bytes(Family::Chunks);
    let view = kv.snapshot();
    kv.drop_range(Family::Chunks, &KeyRange::prefix(b"p1/")).expect("drop");
    assert_eq!(get(&*kv, Family::Chunks, "p1/00007"), None);
    assert_eq!(get(&*view, Family::Chunks, "p1/00007").map(|v| v.len()), Some(1000));
    drop(view);
    // The end of the view lets RocksDB rewrite the file, which then is passed over until that is done.
    kv.flush_sync().expect("flush");
    kv.settle();
    kv.flush_sync().expect("flush");
    assert!(kv.approximate_bytes(Family::Chunks) < before / 10);
}

#[test]
fn a_write_into_a_dropped_range_keeps_what_it_wrote() {
    let (_dir, kv) = rocks();
    put(&*kv, Family::Chunks, "p1/a", "old");
    kv.flush_sync().expect("flush");
    let view = kv.snapshot();
    kv.drop_range(Family::Chunks, &KeyRange::prefix(b"p1/")).expect("drop");
    let pair = (Bytes::from("p1/b"), Bytes::from("new"));
    kv.ingest_sorted(Family::Chunks, &mut [pair].into_iter()).expect("ingest");
    drop(view);
    kv.flush_sync().expect("flush");
    assert_eq!(get(&*kv, Family::Chunks, "p1/b").as_deref(), Some("new"));
    assert_eq!(get(&*kv, Family::Chunks, "p1/a"), None);
}

#[test]
fn a_key_at_the_end_of_a_dropped_range_stays() {
    let (_dir, kv) = rocks();
    let pairs = ["p1/a", "p2"].map(|key| (Bytes::from(key), Bytes::from("v")));
    kv.ingest_sorted(Family::Chunks, &mut pairs.into_iter()).expect("ingest");
    kv.drop_range(Family::Chunks, &KeyRange::new("p1", "p2")).expect("drop");
    assert_eq!(get(&*kv, Family::Chunks, "p1/a"), None);
    assert_eq!(get(&*kv, Family::Chunks, "p2").as_deref(), Some("v"));
}

/// Checkpoint, change, open the checkpoint: it is what it was.
fn check_checkpoint(engine: &dyn KvEngine, base: &Path) {
    let kv = engine.open(&base.join("kv")).expect("open");
    put(&*kv, Family::State, "a", "1");
    kv.checkpoint_to(&base.join("copy")).expect("checkpoint");
    put(&*kv, Family::State, "a", "2");
    assert!(kv.checkpoint_to(&base.join("copy")).is_err());
    assert_eq!(engine.list(base).expect("lists"), ["copy", "kv"].map(|name| base.join(name)));
    let copy = engine.open(&base.join("copy")).expect("open");
    assert_eq!(get(&*copy, Family::State, "a").as_deref(), Some("1"));
    drop(copy);
    engine.remove(&base.join("copy")).expect("remove");
    assert!(!engine.exists(&base.join("copy")));
}

/// A directory is taken while somebody reads from it, and goes with the last who does.
fn check_taken(engine: &dyn KvEngine, base: &Path) {
    let dir = base.join("kv");
    let kv = engine.open(&dir).expect("opens");
    put(&*kv, Family::State, "a", "1");
    kv.flush_sync().expect("flushes");
    assert!(engine.open(&dir).is_err(), "opened twice");
    let view = kv.snapshot();
    kv.retire();
    drop(kv);
    assert!(engine.open(&dir).is_err(), "opened beside a view");
    assert_eq!(get(&*view, Family::State, "a").as_deref(), Some("1"));
    assert!(engine.exists(&dir));
    drop(view);
    assert!(!engine.exists(&dir));
    assert_eq!(engine.list(base), Ok(Vec::new()));
}

#[test]
fn a_retired_store_goes_with_its_last_view_and_is_taken_until_then() {
    let dir = tempfile::tempdir().expect("temporary directory");
    check_taken(&RocksEngine::new(RocksOptions::default()), dir.path());
    check_taken(&MemDisk::new(), Path::new("/sim"));
}

#[test]
fn tables_without_their_list_are_not_taken_for_an_empty_store() {
    let (dir, kv) = rocks();
    put(&*kv, Family::State, "a", "1");
    kv.flush_sync().expect("flushes");
    drop(kv);
    let path = dir.path().join("kv");
    std::fs::remove_file(path.join("CURRENT")).expect("removes");
    let opened = RocksEngine::new(RocksOptions::default()).open_store(&path);
    assert!(matches!(opened, Err(KvError::Corrupt(_))), "{opened:?}");
}

#[test]
fn a_checkpoint_is_a_store_of_its_own() {
    let dir = tempfile::tempdir().expect("temporary directory");
    check_checkpoint(&RocksEngine::new(RocksOptions::default()), dir.path());
    check_checkpoint(&MemDisk::new(), Path::new("/sim"));
}

#[test]
fn keys_that_do_not_ascend_are_refused_by_both() {
    let (_dir, rocks) = rocks();
    let mem = MemDisk::new().open_store(Path::new("kv")).expect("opens");
    let pairs = || ["b", "a"].map(|key| (Bytes::from(key), Bytes::from("v"))).into_iter();
    assert!(rocks.ingest_sorted(Family::Chunks, &mut pairs()).is_err());
    assert!(mem.ingest_sorted(Family::Chunks, &mut pairs()).is_err());
    assert_eq!(get(&*rocks, Family::Chunks, "b"), None);
    assert_eq!(get(&*mem, Family::Chunks, "b"), None);
}

#[test]
fn a_fault_of_the_twins_disk_fails_writes_until_it_is_gone() {
    let disk = MemDisk::new();
    let kv = disk.open_store(Path::new("kv")).expect("opens");
    disk.set_fault(Some(KvError::DiskFull("full".to_owned())));
    assert_eq!(kv.flush_sync(), Err(KvError::DiskFull("full".to_owned())));
    disk.set_fault(None);
    assert_eq!(kv.flush_sync(), Ok(()));
}

/// A rotten block is an error to whoever reads it, in the store and in views of it, over crashes, until it is written
/// anew: a block's checksum never lets altered bytes through.
#[test]
fn a_rotten_block_is_an_error_until_it_is_written_anew() {
    let disk = MemDisk::new();
    let kv = disk.open_store(Path::new("/s")).expect("open");
    put(&*kv, Family::Chunks, "a", "1");
    put(&*kv, Family::Chunks, "b", "2");
    kv.flush_sync().expect("flush");
    assert!(disk.rot(&|count| count - 1).is_some());
    let corrupt = |kv: &dyn KvRead| {
        let one = kv.get(Family::Chunks, b"b");
        let all: Vec<_> =
            kv.iter(Family::Chunks, &KeyRange::all(), Direction::Ascending).expect("iter").collect();
        matches!(one, Err(KvError::Corrupt(_)))
            && all.len() == 2
            && matches!(all[1], Err(KvError::Corrupt(_)))
    };
    assert!(corrupt(&*kv) && corrupt(&*kv.snapshot()));
    assert_eq!(get(&*kv, Family::Chunks, "a").as_deref(), Some("1"));
    kv.crash(0);
    let kv = disk.open_store(Path::new("/s")).expect("open");
    assert!(corrupt(&*kv));
    put(&*kv, Family::Chunks, "b", "3");
    assert_eq!(get(&*kv, Family::Chunks, "b").as_deref(), Some("3"));
}

#[test]
fn a_disk_that_cannot_be_read_fails_every_read_until_it_is_healthy() {
    let disk = MemDisk::new();
    let kv = disk.open_store(Path::new("/s")).expect("open");
    put(&*kv, Family::Chunks, "a", "1");
    let view = kv.snapshot();
    disk.set_read_fault(Some(KvError::Io("input/output error".to_owned())));
    assert!(kv.get(Family::Chunks, b"a").is_err() && view.get(Family::Chunks, b"a").is_err());
    disk.set_read_fault(None);
    assert_eq!(get(&*view, Family::Chunks, "a").as_deref(), Some("1"));
}
