//! RocksDB behind the port: one database per directory, one column family per [`Family`].
//!
//! Its write-ahead log is off, because the Raft log is the only one; `atomic_flush` makes what is on disk a prefix
//! of the batches over all families. The block cache and the memory of unflushed writes are one budget for all
//! stores of a node ([`RocksEngine`]), so the number of shards does not multiply it.
//!
//! Dropping files under a view would take data from under a query (RocksDB's `DeleteFilesInRange` ignores
//! snapshots), so a dropped range is first deleted as a range, which views do respect, and its files are dropped
//! once no view from before is left, tried with a few flushes because RocksDB passes over files that it is compacting.
//! A write into a waiting range cancels that: then compaction does it.

use super::{
    Direction, Family, KeyRange, Kv, KvEngine, KvError, KvIter, KvRead, KvView, WriteBatch, WriteOp,
};
use bytes::Bytes;
use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamily, ColumnFamilyDescriptor, CompactOptions, DB, DBCompressionType,
    DBRawIteratorWithThreadMode, FlushOptions, InfoLogger, IngestExternalFileOptions, LogLevel, Options,
    ReadOptions, Snapshot, SstFileWriter, WriteBufferManager, WriteOptions, checkpoint::Checkpoint,
};
use std::{
    collections::BTreeMap,
    fmt, fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

/// What RocksDB may use, for all stores of an engine together unless said otherwise.
#[derive(Clone, Debug)]
pub struct RocksOptions {
    /// Block cache and unflushed writes together, bytes.
    pub cache_bytes: usize,
    /// Of these, unflushed writes, bytes; beyond it the largest memory is flushed early.
    pub write_buffer_bytes: usize,
    /// Open table files per store.
    pub open_files_max: i32,
    /// Threads for flushes and compactions per store.
    pub background_jobs: i32,
}

impl Default for RocksOptions {
    fn default() -> RocksOptions {
        RocksOptions {
            cache_bytes: 64 << 20,
            write_buffer_bytes: 32 << 20,
            open_files_max: 256,
            background_jobs: 2,
        }
    }
}

/// Opens stores that share one cache.
pub struct RocksEngine {
    options: RocksOptions,
    cache: Cache,
    write_buffers: WriteBufferManager,
}

impl RocksEngine {
    /// An engine with its own cache and write buffer budget.
    #[must_use]
    pub fn new(options: RocksOptions) -> RocksEngine {
        let cache = Cache::new_lru_cache(options.cache_bytes);
        let write_buffers = WriteBufferManager::new_write_buffer_manager_with_cache(
            options.write_buffer_bytes,
            false,
            cache.clone(),
        );
        RocksEngine { options, cache, write_buffers }
    }

    /// Bytes of the cache in use, unflushed writes included.
    #[must_use]
    pub fn cache_bytes_used(&self) -> usize {
        self.cache.get_usage()
    }

    fn database_options(&self) -> Options {
        let mut options = Options::default();
        options.create_if_missing(true);
        options.create_missing_column_families(true);
        options.set_atomic_flush(true);
        options.set_paranoid_checks(true);
        options.set_write_buffer_manager(&self.write_buffers);
        options.set_max_open_files(self.options.open_files_max);
        options.set_max_background_jobs(self.options.background_jobs);
        options.set_bytes_per_sync(1 << 20);
        options.set_skip_stats_update_on_db_open(true);
        options.set_stats_dump_period_sec(0);
        options.set_stats_persist_period_sec(0);
        // In the place of a file of its own, which would begin with 80 KB of settings at every start.
        options.set_info_logger(InfoLogger::new_callback_logger(LogLevel::Warn, log_message));
        options
    }

    fn family_options(&self, family: Family) -> Options {
        let large = family == Family::Chunks;
        let mut blocks = BlockBasedOptions::default();
        blocks.set_block_cache(&self.cache);
        blocks.set_bloom_filter(10.0, false);
        blocks.set_cache_index_and_filter_blocks(true);
        blocks.set_pin_l0_filter_and_index_blocks_in_cache(true);
        blocks.set_format_version(6);
        blocks.set_block_size(if large { 16 << 10 } else { 8 << 10 });
        let mut options = Options::default();
        options.set_block_based_table_factory(&blocks);
        options.set_write_buffer_size(if large { 16 << 20 } else { 4 << 20 });
        options.set_max_write_buffer_number(3);
        options.set_target_file_size_base(32 << 20);
        options.set_compression_type(match family {
            Family::Chunks => DBCompressionType::None, // compressed already
            Family::Series => DBCompressionType::Zstd, // written once, much alike
            Family::Meta | Family::State => DBCompressionType::Lz4,
        });
        options
    }

    /// Opens the store in `dir` as its own type.
    ///
    /// # Errors
    /// As [`KvEngine::open`].
    pub fn open_store(&self, dir: &Path) -> Result<Arc<RocksKv>, KvError> {
        fs::create_dir_all(dir).map_err(|e| of_io("create store directory", dir, &e))?;
        if !self.exists(dir) {
            check_empty(dir)?;
        }
        remove_unfinished(dir)?;
        let mut families: Vec<_> = Family::ALL
            .iter()
            .map(|family| ColumnFamilyDescriptor::new(family.name(), self.family_options(*family)))
            .collect();
        // RocksDB opens all families of a database or none. The only other one there ever was stayed empty.
        if self.exists(dir) {
            let stored = DB::list_cf(&self.database_options(), dir).map_err(of_rocks)?;
            if stored.iter().any(|name| name == RETIRED_FAMILY) {
                families.push(ColumnFamilyDescriptor::new(RETIRED_FAMILY, Options::default()));
            }
        }
        let mut db = DB::open_cf_descriptors(&self.database_options(), dir, families).map_err(of_rocks)?;
        if db.cf_handle(RETIRED_FAMILY).is_some() {
            db.drop_cf(RETIRED_FAMILY).map_err(of_rocks)?;
        }
        remove_old_notes(dir)?;
        Ok(Arc::new(RocksKv {
            inner: Arc::new(Inner {
                db,
                views: Mutex::default(),
                closed: AtomicBool::new(false),
                directory: Directory { path: dir.to_owned(), retired: AtomicBool::new(false) },
            }),
            ingest_options: Family::ALL.map(|family| self.family_options(family)),
            ingests: AtomicU64::new(0),
            dir: dir.to_owned(),
        }))
    }
}

/// A family that stores of the first builds have, without a record in it.
const RETIRED_FAMILY: &str = "bundles";

/// What RocksDB has to say goes where everything else is said.
fn log_message(level: LogLevel, text: &str) {
    let text = text.trim_end();
    match level {
        LogLevel::Warn => tracing::warn!("rocksdb: {text}"),
        LogLevel::Error | LogLevel::Fatal => tracing::error!("rocksdb: {text}"),
        LogLevel::Debug | LogLevel::Info | LogLevel::Header => {}
    }
}

impl fmt::Debug for RocksEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RocksEngine").field("options", &self.options).finish_non_exhaustive()
    }
}

impl KvEngine for RocksEngine {
    fn open(&self, dir: &Path) -> Result<Arc<dyn Kv>, KvError> {
        Ok(self.open_store(dir)?)
    }

    fn exists(&self, dir: &Path) -> bool {
        dir.join("CURRENT").exists()
    }

    fn list(&self, parent: &Path) -> Result<Vec<PathBuf>, KvError> {
        let failed = |e: &io::Error| of_io("list stores", parent, e);
        let entries = match fs::read_dir(parent) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(|e| failed(&e))?,
        };
        let paths = entries.map(|entry| entry.map(|entry| entry.path()));
        let mut paths = paths.collect::<Result<Vec<_>, _>>().map_err(|e| failed(&e))?;
        paths.retain(|path| path.is_dir());
        paths.sort();
        Ok(paths)
    }

    fn remove(&self, dir: &Path) -> Result<(), KvError> {
        remove_store(dir)
    }
}

/// A store in a RocksDB database. See the module.
pub struct RocksKv {
    inner: Arc<Inner>,
    ingest_options: [Options; Family::ALL.len()],
    /// Numbers the files of ingests.
    ingests: AtomicU64,
    dir: PathBuf,
}

impl fmt::Debug for RocksKv {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RocksKv").field("dir", &self.dir).finish_non_exhaustive()
    }
}

struct Inner {
    db: DB,
    views: Mutex<Views>,
    closed: AtomicBool,
    /// Dropped behind `db`: fields drop in order of declaration.
    directory: Directory,
}

/// Where a store lies, for as long as somebody holds it.
struct Directory {
    path: PathBuf,
    retired: AtomicBool,
}

impl Drop for Directory {
    fn drop(&mut self) {
        if self.retired.load(Ordering::Acquire)
            && let Err(error) = remove_store(&self.path)
        {
            // It is tried again when the replica is opened next.
            tracing::warn!(path = %self.path.display(), %error, "a store that is no longer needed was not removed");
        }
    }
}

fn remove_store(dir: &Path) -> Result<(), KvError> {
    match fs::remove_dir_all(dir) {
        Ok(()) => sync_parent(dir),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(of_io("remove store", dir, &e)),
    }
}

/// The views that are open, and the drops that wait for them.
#[derive(Default)]
struct Views {
    /// The number of the next view or drop.
    next: u64,
    open: BTreeMap<u64, ()>,
    waiting: Vec<WaitingDrop>,
}

/// A dropped range whose files may still be there.
struct WaitingDrop {
    /// Views with a lower number may need the files.
    number: u64,
    family: Family,
    range: KeyRange,
    /// How often to try yet: RocksDB passes over files that it is compacting just then.
    tries: u8,
}

impl Views {
    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }
}

/// At most so many drops wait; beyond that compaction does their work.
const WAITING_DROPS_MAX: usize = 64;
/// How often the files of one drop are tried, once per flush.
const DROP_TRIES: u8 = 4;

impl Inner {
    fn family(&self, family: Family) -> &ColumnFamily {
        self.db.cf_handle(family.name()).expect("open makes every family")
    }

    fn views(&self) -> MutexGuard<'_, Views> {
        self.views.lock().expect("no holder panics")
    }

    fn check_open(&self) -> Result<(), KvError> {
        if self.closed.load(Ordering::Acquire) {
            return Err(KvError::Io("the store is closed".to_owned()));
        }
        Ok(())
    }

    fn iter<'a>(
        &'a self,
        family: Family,
        range: &KeyRange,
        direction: Direction,
        mut options: ReadOptions,
    ) -> KvIter<'a> {
        if range.is_empty() {
            return Box::new(std::iter::empty());
        }
        options.set_iterate_lower_bound(range.start.to_vec());
        if let Some(end) = &range.end {
            options.set_iterate_upper_bound(end.to_vec());
        }
        let mut raw = self.db.raw_iterator_cf_opt(self.family(family), options);
        match direction {
            Direction::Ascending => raw.seek_to_first(),
            Direction::Descending => raw.seek_to_last(),
        }
        Box::new(Cursor { raw, direction, done: false })
    }

    /// Waiting drops lose what is written into them now.
    fn cancel_drops(&self, touched: impl Fn(Family, &KeyRange) -> bool) {
        self.views().waiting.retain(|drop| !touched(drop.family, &drop.range));
    }

    /// Drops the files of ranges that no open view can see any more.
    fn drop_files(&self) -> Result<(), KvError> {
        let mut views = self.views();
        let oldest = views.open.keys().next().copied().unwrap_or(u64::MAX);
        let mut result = Ok(());
        let db = &self.db;
        views.waiting.retain_mut(|drop| {
            if oldest < drop.number {
                return true;
            }
            let range = &drop.range;
            let end = range.end.as_ref().map_or_else(|| vec![0xff; 64], |end| last_before(end));
            if let Err(e) = db.delete_file_in_range_cf(self.family(drop.family), &range.start[..], &end[..]) {
                result = Err(of_rocks(e));
            }
            drop.tries -= 1;
            drop.tries > 0
        });
        result
    }
}

/// An inclusive end for an exclusive one: RocksDB drops a file whose last key equals the end it is given.
fn last_before(end: &[u8]) -> Vec<u8> {
    let mut last = end.to_vec();
    match last.pop() {
        None | Some(0) => {}
        Some(byte) => {
            last.push(byte - 1);
            last.extend_from_slice(&[0xff; 64]);
        }
    }
    last
}

struct Cursor<'a> {
    raw: DBRawIteratorWithThreadMode<'a, DB>,
    direction: Direction,
    done: bool,
}

impl Iterator for Cursor<'_> {
    type Item = Result<(Bytes, Bytes), KvError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let Some((key, value)) = self.raw.item() else {
            self.done = true;
            return self.raw.status().err().map(|e| Err(of_rocks(e)));
        };
        let pair = (Bytes::copy_from_slice(key), Bytes::copy_from_slice(value));
        match self.direction {
            Direction::Ascending => self.raw.next(),
            Direction::Descending => self.raw.prev(),
        }
        Some(Ok(pair))
    }
}

/// A view: a RocksDB snapshot together with the database it belongs to.
struct View {
    /// Released before `inner` is: fields drop in order of declaration.
    snapshot: Option<Snapshot<'static>>,
    number: u64,
    inner: Arc<Inner>,
}

impl fmt::Debug for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("View").field("number", &self.number).finish_non_exhaustive()
    }
}

impl View {
    #[expect(unsafe_code, reason = "a snapshot borrows its database, which the same struct keeps alive")]
    fn open(inner: &Arc<Inner>) -> View {
        let mut views = inner.views();
        let number = views.number();
        views.open.insert(number, ());
        let snapshot = inner.db.snapshot();
        drop(views);
        // SAFETY: the database lies in `inner`, an Arc that the view holds for longer than the snapshot, so it
        // neither moves nor ends before it; the lifetime never leaves this struct.
        let snapshot = unsafe { std::mem::transmute::<Snapshot<'_>, Snapshot<'static>>(snapshot) };
        View { snapshot: Some(snapshot), number, inner: inner.clone() }
    }

    fn read_options(&self) -> ReadOptions {
        let mut options = ReadOptions::default();
        if let Some(snapshot) = &self.snapshot {
            options.set_snapshot(snapshot);
        }
        options
    }
}

impl Drop for View {
    fn drop(&mut self) {
        self.snapshot = None;
        self.inner.views().open.remove(&self.number);
    }
}

impl KvRead for View {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, KvError> {
        let value = self
            .inner
            .db
            .get_pinned_cf_opt(self.inner.family(family), key, &self.read_options())
            .map_err(of_rocks)?;
        Ok(value.map(|value| Bytes::copy_from_slice(&value)))
    }

    fn iter(&self, family: Family, range: &KeyRange, direction: Direction) -> Result<KvIter<'_>, KvError> {
        Ok(self.inner.iter(family, range, direction, self.read_options()))
    }
}

impl KvRead for RocksKv {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, KvError> {
        let value = self.inner.db.get_pinned_cf(self.inner.family(family), key).map_err(of_rocks)?;
        Ok(value.map(|value| Bytes::copy_from_slice(&value)))
    }

    fn iter(&self, family: Family, range: &KeyRange, direction: Direction) -> Result<KvIter<'_>, KvError> {
        Ok(self.inner.iter(family, range, direction, ReadOptions::default()))
    }
}

impl Kv for RocksKv {
    fn write(&self, batch: &WriteBatch) -> Result<(), KvError> {
        self.inner.check_open()?;
        let mut rocks = rocksdb::WriteBatch::default();
        for op in batch.ops() {
            match op {
                WriteOp::Put(family, key, value) => rocks.put_cf(self.inner.family(*family), key, value),
                WriteOp::Delete(family, key) => rocks.delete_cf(self.inner.family(*family), key),
                WriteOp::DeleteRange(_, range) if range.is_empty() => {}
                WriteOp::DeleteRange(family, range) => {
                    // RocksDB has no range without an end: the last key there is takes its place.
                    let end = match &range.end {
                        Some(end) => end.to_vec(),
                        None => self.after_last(*family, batch.ops())?,
                    };
                    if end[..] > range.start[..] {
                        rocks.delete_range_cf(self.inner.family(*family), &range.start[..], &end[..]);
                    }
                }
            }
        }
        if !self.inner.views().waiting.is_empty() {
            self.inner.cancel_drops(|family, range| {
                batch
                    .ops()
                    .iter()
                    .any(|op| matches!(op, WriteOp::Put(f, key, _) if *f == family && range.contains(key)))
            });
        }
        let mut options = WriteOptions::default();
        options.disable_wal(true);
        self.inner.db.write_opt(rocks, &options).map_err(of_rocks)
    }

    fn flush_sync(&self) -> Result<(), KvError> {
        self.inner.check_open()?;
        let mut options = FlushOptions::default();
        options.set_wait(true);
        let families = Family::ALL.map(|family| self.inner.family(family));
        let families: Vec<_> = families.iter().collect();
        self.inner.db.flush_cfs_opt(&families, &options).map_err(of_rocks)?;
        self.inner.drop_files()
    }

    fn snapshot(&self) -> KvView {
        Arc::new(View::open(&self.inner))
    }

    fn ingest_sorted(
        &self,
        family: Family,
        pairs: &mut dyn Iterator<Item = (Bytes, Bytes)>,
    ) -> Result<(), KvError> {
        self.inner.check_open()?;
        let Some((first, value)) = pairs.next() else {
            return Ok(());
        };
        let path = self.dir.join(format!("{INGEST_PREFIX}{}", self.ingests.fetch_add(1, Ordering::Relaxed)));
        let mut writer = SstFileWriter::create(&self.ingest_options[family.index()]);
        writer.open(&path).map_err(of_rocks)?;
        let mut last = first.clone();
        let mut written = writer.put(&first, &value);
        for (key, value) in pairs {
            written = written.and_then(|()| writer.put(&key, &value));
            last = key;
        }
        if let Err(e) = written.and_then(|()| writer.finish()) {
            // The error says more than one about the leftover would.
            let _ = fs::remove_file(&path);
            return Err(of_rocks(e));
        }
        self.inner.cancel_drops(|f, range| {
            f == family && range.start <= last && range.end.as_ref().is_none_or(|end| *end > first)
        });
        let mut options = IngestExternalFileOptions::default();
        options.set_move_files(true);
        self.inner
            .db
            .ingest_external_file_cf_opts(self.inner.family(family), &options, vec![&path])
            .map_err(of_rocks)
    }

    fn drop_range(&self, family: Family, range: &KeyRange) -> Result<(), KvError> {
        let mut batch = WriteBatch::new();
        batch.delete_range(family, range.clone());
        self.write(&batch)?;
        {
            let mut views = self.inner.views();
            let number = views.number();
            if views.waiting.len() < WAITING_DROPS_MAX && !range.is_empty() {
                views.waiting.push(WaitingDrop { number, family, range: range.clone(), tries: DROP_TRIES });
            }
        }
        self.inner.drop_files()
    }

    fn compact(&self, family: Family, range: &KeyRange) -> Result<(), KvError> {
        self.inner.check_open()?;
        let mut options = CompactOptions::default();
        // It may wait for others, they need not wait for it.
        options.set_exclusive_manual_compaction(false);
        let start = Some(&range.start[..]).filter(|start| !start.is_empty());
        self.inner.db.compact_range_cf_opt(self.inner.family(family), start, range.end.as_deref(), &options);
        Ok(())
    }

    fn checkpoint_to(&self, dir: &Path) -> Result<(), KvError> {
        self.inner.check_open()?;
        let checkpoint = Checkpoint::new(&self.inner.db).map_err(of_rocks)?;
        checkpoint.create_checkpoint(dir).map_err(of_rocks)?;
        sync_parent(dir)
    }

    fn approximate_bytes(&self, family: Family) -> u64 {
        let cf = self.inner.family(family);
        let property = |name: &str| self.inner.db.property_int_value_cf(cf, name).ok().flatten().unwrap_or(0);
        property("rocksdb.live-sst-files-size") + property("rocksdb.cur-size-all-mem-tables")
    }

    fn close(&self) {
        if !self.inner.closed.swap(true, Ordering::AcqRel) {
            self.inner.db.cancel_all_background_work(true);
        }
    }

    fn retire(&self) {
        self.inner.directory.retired.store(true, Ordering::Release);
        self.close();
    }
}

impl RocksKv {
    /// Waits until no compaction runs.
    #[cfg(test)]
    pub(crate) fn settle(&self) {
        self.inner.db.wait_for_compact(&rocksdb::WaitForCompactOptions::default()).expect("compaction");
    }

    /// A key behind all keys that are there or that `ops` puts.
    fn after_last(&self, family: Family, ops: &[WriteOp]) -> Result<Vec<u8>, KvError> {
        let stored = self.iter(family, &KeyRange::all(), Direction::Descending)?.next().transpose()?;
        let put = ops.iter().filter_map(|op| match op {
            WriteOp::Put(f, key, _) if *f == family => Some(key),
            _ => None,
        });
        let last = put.chain(stored.as_ref().map(|(key, _)| key)).max();
        let mut after = last.map_or_else(Vec::new, |key| key.to_vec());
        after.push(0);
        Ok(after)
    }
}

/// Begins the name of a file that is to be ingested.
const INGEST_PREFIX: &str = "ingest-";

/// RocksDB makes a new database over one that has lost its file `CURRENT`, and removes what the old one had.
fn check_empty(dir: &Path) -> Result<(), KvError> {
    let failed = |e: io::Error| of_io("look into store directory", dir, &e);
    for entry in fs::read_dir(dir).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        if name.to_string_lossy().ends_with(".sst") && !name.to_string_lossy().starts_with(INGEST_PREFIX) {
            let text = format!(
                "{} holds tables but no file CURRENT: restore it, or move the directory away",
                dir.display()
            );
            return Err(KvError::Corrupt(text));
        }
    }
    Ok(())
}

/// Removes what an interrupted ingest left.
fn remove_unfinished(dir: &Path) -> Result<(), KvError> {
    let failed = |e: io::Error| of_io("clean store directory", dir, &e);
    for entry in fs::read_dir(dir).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if entry.file_name().to_string_lossy().starts_with(INGEST_PREFIX) {
            fs::remove_file(entry.path()).map_err(failed)?;
        }
    }
    Ok(())
}

/// Removes what RocksDB writes down for people and never reads: logs of the first builds, and its settings at every
/// start (32 KB) but for the last, which goes into copies. In a small store they were half of all bytes.
fn remove_old_notes(dir: &Path) -> Result<(), KvError> {
    let failed = |e: io::Error| of_io("clean store directory", dir, &e);
    let names = fs::read_dir(dir).map_err(failed)?.map(|entry| entry.map(|entry| entry.file_name()));
    let names = names.collect::<Result<Vec<_>, _>>().map_err(failed)?;
    let names: Vec<_> = names.iter().filter_map(|name| name.to_str()).collect();
    let number = |name: &str| name.strip_prefix("OPTIONS-").and_then(|number| number.parse::<u64>().ok());
    let last = names.iter().filter_map(|name| number(name)).max();
    for name in names {
        let old_settings = number(name).is_some_and(|number| Some(number) < last);
        if old_settings || name == "LOG" || name.starts_with("LOG.old.") {
            match fs::remove_file(dir.join(name)) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(failed(e)),
                _ => {} // RocksDB tidies up, too
            }
        }
    }
    Ok(())
}

fn sync_parent(path: &Path) -> Result<(), KvError> {
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::File::open(parent).and_then(|dir| dir.sync_all()).map_err(|e| of_io("sync directory", parent, &e))
}

fn of_io(doing: &str, path: &Path, error: &io::Error) -> KvError {
    let text = format!("{doing} {}: {error}", path.display());
    if error.kind() == io::ErrorKind::StorageFull { KvError::DiskFull(text) } else { KvError::Io(text) }
}

fn of_rocks(error: rocksdb::Error) -> KvError {
    let kind = error.kind();
    let text = error.into_string();
    if text.contains("No space left on device") || text.contains("No space") {
        return KvError::DiskFull(text);
    }
    match kind {
        rocksdb::ErrorKind::Corruption => KvError::Corrupt(text),
        _ => KvError::Io(text),
    }
}
