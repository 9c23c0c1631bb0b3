//! The twin in memory: the same store on a disk that exists only in the process, and that can lose what was not
//! flushed.
//!
//! ```text
//!  write ──▶ current maps ──flush_sync──▶ MemDisk[dir]
//!              │ (copied when a view holds them)
//!              └─▶ unflushed operations in order: crash(n) keeps the first n of them
//! ```
//!
//! Invariant: the disk's maps with all unflushed operations applied are the current maps.
//!
//! A directory is taken for as long as there is a handle or a view of its store, as RocksDB's lock has it.

use super::{
    Direction, Family, KeyRange, Kv, KvEngine, KvError, KvIter, KvRead, KvView, WriteBatch, WriteOp,
};
use bytes::Bytes;
use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, RwLock, Weak,
        atomic::{AtomicBool, Ordering},
    },
};

type Map = BTreeMap<Bytes, Bytes>;
type Keys = BTreeSet<Bytes>;

/// One map per family, and the keys in it whose block is rotten: reading them is an error, as a block's checksum
/// makes it one. Cloning counts, writing copies what somebody else still holds.
#[derive(Clone, Debug, Default)]
struct Maps([Arc<Map>; Family::ALL.len()], [Arc<Keys>; Family::ALL.len()]);

fn rotten() -> KvError {
    KvError::Corrupt("block checksum mismatch".to_owned())
}

impl Maps {
    fn family(&self, family: Family) -> &Map {
        &self.0[family.index()]
    }

    fn shared(&self, family: Family) -> (Arc<Map>, Arc<Keys>) {
        (self.0[family.index()].clone(), self.1[family.index()].clone())
    }

    /// What was written anew is sound.
    fn sound(&mut self, family: Family, key: &Bytes) {
        let keys = &mut self.1[family.index()];
        if keys.contains(key) {
            Arc::make_mut(keys).remove(key);
        }
    }

    fn apply(&mut self, op: &WriteOp) {
        match op {
            WriteOp::Put(family, key, value) => {
                self.sound(*family, key);
                Arc::make_mut(&mut self.0[family.index()]).insert(key.clone(), value.clone());
            }
            WriteOp::Delete(family, key) => {
                self.sound(*family, key);
                Arc::make_mut(&mut self.0[family.index()]).remove(key);
            }
            WriteOp::DeleteRange(family, range) => {
                if !self.1[family.index()].is_empty() {
                    Arc::make_mut(&mut self.1[family.index()]).retain(|key| !range.contains(key));
                }
                Arc::make_mut(&mut self.0[family.index()]).retain(|key, _| !range.contains(key));
            }
        }
    }
}

impl KvRead for Maps {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, KvError> {
        if self.1[family.index()].contains(key) {
            return Err(rotten());
        }
        Ok(self.family(family).get(key).cloned())
    }

    fn iter(&self, family: Family, range: &KeyRange, direction: Direction) -> Result<KvIter<'_>, KvError> {
        let (map, rotten) = self.shared(family);
        Ok(Box::new(Cursor { map, rotten, left: range.clone(), direction }))
    }
}

/// Walks a map it shares, by looking up the next key each time: no borrow, and O(log n) a step is enough here.
struct Cursor {
    map: Arc<Map>,
    rotten: Arc<Keys>,
    left: KeyRange,
    direction: Direction,
}

impl Iterator for Cursor {
    type Item = Result<(Bytes, Bytes), KvError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left.is_empty() {
            return None;
        }
        let end = self.left.end.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        let mut pairs = self.map.range::<Bytes, _>((Bound::Included(&self.left.start), end));
        let (key, value) = match self.direction {
            Direction::Ascending => pairs.next()?,
            Direction::Descending => pairs.next_back()?,
        };
        let (key, value) = (key.clone(), value.clone());
        match self.direction {
            Direction::Ascending => {
                let mut after = Vec::with_capacity(key.len() + 1);
                after.extend_from_slice(&key);
                after.push(0);
                self.left.start = Bytes::from(after);
            }
            Direction::Descending => self.left.end = Some(key.clone()),
        }
        if self.rotten.contains(&key) {
            self.left = KeyRange { start: Bytes::new(), end: Some(Bytes::new()) }; // an iterator ends with its error
            return Some(Err(rotten()));
        }
        Some(Ok((key, value)))
    }
}

/// A disk in memory: directories with stores in them. Clones are the same disk; it outlives the stores.
#[derive(Clone, Debug, Default)]
pub struct MemDisk {
    stores: Arc<Mutex<BTreeMap<PathBuf, Maps>>>,
    /// Handles that were given out.
    open: Arc<Mutex<Vec<Weak<MemKv>>>>,
    /// Who has which directory.
    taken: Arc<Mutex<BTreeMap<PathBuf, Weak<Taken>>>>,
    fault: Arc<Mutex<Option<KvError>>>,
    read_fault: Arc<Mutex<Option<KvError>>>,
}

/// A directory that somebody has: every handle and view of its store.
#[derive(Debug)]
struct Taken {
    disk: MemDisk,
    dir: PathBuf,
    retired: AtomicBool,
    /// The process that took it is gone.
    dead: AtomicBool,
}

impl Drop for Taken {
    fn drop(&mut self) {
        if self.retired.load(Ordering::Relaxed) && !self.dead.load(Ordering::Relaxed) {
            self.disk.stores().remove(&self.dir);
        }
    }
}

impl MemDisk {
    /// An empty disk.
    #[must_use]
    pub fn new() -> MemDisk {
        MemDisk::default()
    }

    /// Lets every write, flush, ingest and checkpoint fail with this error, until it is taken back with `None`.
    pub fn set_fault(&self, fault: Option<KvError>) {
        *self.fault.lock().expect("no holder panics") = fault;
    }

    /// Lets every read fail with this error, until it is taken back with `None`.
    pub fn set_read_fault(&self, fault: Option<KvError>) {
        *self.read_fault.lock().expect("no holder panics") = fault;
    }

    /// The block of one durable key rots: reading it is an error from now on, until it is written anew. `pick`
    /// chooses one of so many; says where it was, `None` if nothing is durable.
    pub fn rot(&self, pick: &dyn Fn(usize) -> usize) -> Option<String> {
        let mut stores = self.stores();
        let mut places = Vec::new();
        for (dir, maps) in stores.iter() {
            for family in Family::ALL {
                places.extend(maps.family(family).keys().map(|key| (dir.clone(), family, key.clone())));
            }
        }
        let (dir, family, key) = (!places.is_empty()).then(|| places[pick(places.len())].clone())?;
        let rot = |maps: &mut Maps| Arc::make_mut(&mut maps.1[family.index()]).insert(key.clone());
        rot(stores.get_mut(&dir)?);
        drop(stores);
        for store in self.open.lock().expect("no holder panics").iter().filter_map(Weak::upgrade) {
            if store.dir == dir {
                rot(&mut store.state.write().expect("no holder panics").current);
            }
        }
        Some(format!("{}: {family:?} {key:?}", dir.display()))
    }

    /// Opens the store in `dir` as its own type, so that a simulation can crash it.
    ///
    /// # Errors
    /// If somebody has it open.
    pub fn open_store(&self, dir: &Path) -> Result<Arc<MemKv>, KvError> {
        let taken = self.take(dir)?;
        let durable = self.stores().entry(dir.to_owned()).or_default().clone();
        let store = Arc::new(MemKv {
            disk: self.clone(),
            dir: dir.to_owned(),
            state: RwLock::new(State { current: durable, unflushed: Vec::new(), open: true }),
            taken,
        });
        let mut open = self.open.lock().expect("no holder panics");
        open.retain(|store| store.strong_count() > 0);
        open.push(Arc::downgrade(&store));
        Ok(store)
    }

    fn take(&self, dir: &Path) -> Result<Arc<Taken>, KvError> {
        self.check_free(dir)?;
        let (retired, dead) = (AtomicBool::new(false), AtomicBool::new(false));
        let taken = Arc::new(Taken { disk: self.clone(), dir: dir.to_owned(), retired, dead });
        let mut all = self.taken.lock().expect("no holder panics");
        all.retain(|_, taken| taken.strong_count() > 0);
        all.insert(dir.to_owned(), Arc::downgrade(&taken));
        Ok(taken)
    }

    fn check_free(&self, dir: &Path) -> Result<(), KvError> {
        let all = self.taken.lock().expect("no holder panics");
        match all.get(dir).filter(|taken| taken.strong_count() > 0) {
            Some(_) => Err(KvError::Io(format!("{} is open in this process", dir.display()))),
            None => Ok(()),
        }
    }

    /// The process that holds stores of this disk dies: each keeps a prefix of what it had not flushed, whose length
    /// `kept` chooses from how many batches there are. All handles are dead.
    pub fn crash(&self, kept: &dyn Fn(usize) -> usize) {
        let open = std::mem::take(&mut *self.open.lock().expect("no holder panics"));
        for store in open.iter().filter_map(Weak::upgrade) {
            let unflushed = store.state.read().expect("no holder panics").unflushed.len();
            store.crash(kept(unflushed));
        }
        let taken = std::mem::take(&mut *self.taken.lock().expect("no holder panics"));
        taken.values().filter_map(Weak::upgrade).for_each(|taken| taken.dead.store(true, Ordering::Relaxed));
    }

    /// Stores on the disk that have `mark` in the family of metadata, or have it not, and the bytes of all their durable
    /// keys and values together.
    #[must_use]
    pub fn used(&self, mark: &[u8], marked: bool) -> (u64, u64) {
        let stores = self.stores();
        let chosen = || stores.values().filter(|maps| maps.family(Family::Meta).contains_key(mark) == marked);
        let pairs = chosen().flat_map(|maps| &maps.0).flat_map(|family| family.iter());
        (chosen().count() as u64, pairs.map(|(key, value)| (key.len() + value.len()) as u64).sum())
    }

    /// An independent copy of what is durable.
    #[must_use]
    pub fn fork(&self) -> MemDisk {
        MemDisk { stores: Arc::new(Mutex::new(self.stores().clone())), ..MemDisk::default() }
    }

    fn stores(&self) -> MutexGuard<'_, BTreeMap<PathBuf, Maps>> {
        self.stores.lock().expect("no holder panics")
    }

    fn check_read(&self) -> Result<(), KvError> {
        self.read_fault.lock().expect("no holder panics").clone().map_or(Ok(()), Err)
    }

    fn check(&self) -> Result<(), KvError> {
        self.fault.lock().expect("no holder panics").clone().map_or(Ok(()), Err)
    }
}

impl KvEngine for MemDisk {
    fn open(&self, dir: &Path) -> Result<Arc<dyn Kv>, KvError> {
        Ok(self.open_store(dir)?)
    }

    fn exists(&self, dir: &Path) -> bool {
        self.stores().contains_key(dir)
    }

    fn list(&self, parent: &Path) -> Result<Vec<PathBuf>, KvError> {
        Ok(self.stores().keys().filter(|dir| dir.parent() == Some(parent)).cloned().collect())
    }

    fn remove(&self, dir: &Path) -> Result<(), KvError> {
        self.check()?;
        self.check_free(dir)?;
        self.stores().remove(dir);
        Ok(())
    }
}

#[derive(Debug)]
struct State {
    current: Maps,
    /// Operations since the last flush, one entry per batch; bounded by how often the owner flushes.
    unflushed: Vec<Vec<WriteOp>>,
    /// False after a crash or close.
    open: bool,
}

/// A store in memory. See the module.
#[derive(Debug)]
pub struct MemKv {
    disk: MemDisk,
    dir: PathBuf,
    state: RwLock<State>,
    taken: Arc<Taken>,
}

/// What a view holds: what the maps were, on a disk that may fail by now.
#[derive(Debug)]
struct MemView {
    maps: Maps,
    taken: Arc<Taken>,
}

impl KvRead for MemView {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, KvError> {
        self.taken.disk.check_read()?;
        self.maps.get(family, key)
    }

    fn iter(&self, family: Family, range: &KeyRange, direction: Direction) -> Result<KvIter<'_>, KvError> {
        self.taken.disk.check_read()?;
        self.maps.iter(family, range, direction)
    }
}

impl MemKv {
    /// What a power cut does: the first `kept` batches since the last flush are on disk, the rest is gone, and
    /// this handle is dead. Open the directory again to go on. Returns how many batches had not been flushed.
    pub fn crash(&self, kept: usize) -> usize {
        self.taken.dead.store(true, Ordering::Relaxed);
        self.disk.taken.lock().expect("no holder panics").remove(&self.dir);
        self.end(kept)
    }

    fn end(&self, kept: usize) -> usize {
        let mut state = self.state.write().expect("no holder panics");
        if !state.open {
            return 0;
        }
        let mut stores = self.disk.stores();
        let durable = stores.entry(self.dir.clone()).or_default();
        state.unflushed.iter().take(kept).flatten().for_each(|op| durable.apply(op));
        state.open = false;
        state.unflushed.len()
    }

    fn current(&self) -> Maps {
        self.state.read().expect("no holder panics").current.clone()
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> Result<T, KvError>) -> Result<T, KvError> {
        self.disk.check()?;
        let mut state = self.state.write().expect("no holder panics");
        if !state.open {
            return Err(KvError::Io("the store is closed".to_owned()));
        }
        change(&mut state)
    }
}

impl KvRead for MemKv {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, KvError> {
        self.disk.check_read()?;
        self.state.read().expect("no holder panics").current.get(family, key)
    }

    fn iter(&self, family: Family, range: &KeyRange, direction: Direction) -> Result<KvIter<'_>, KvError> {
        self.disk.check_read()?;
        let current = self.current();
        let (map, rotten) = current.shared(family);
        Ok(Box::new(Cursor { map, rotten, left: range.clone(), direction }))
    }
}

impl Kv for MemKv {
    fn write(&self, batch: &WriteBatch) -> Result<(), KvError> {
        self.change(|state| {
            batch.ops().iter().for_each(|op| state.current.apply(op));
            state.unflushed.push(batch.ops().to_vec());
            Ok(())
        })
    }

    fn flush_sync(&self) -> Result<(), KvError> {
        self.change(|state| {
            state.unflushed.clear();
            self.disk.stores().insert(self.dir.clone(), state.current.clone());
            Ok(())
        })
    }

    fn snapshot(&self) -> KvView {
        Arc::new(MemView { maps: self.current(), taken: self.taken.clone() })
    }

    fn ingest_sorted(
        &self,
        family: Family,
        pairs: &mut dyn Iterator<Item = (Bytes, Bytes)>,
    ) -> Result<(), KvError> {
        let pairs: Vec<_> = pairs.collect();
        if !pairs.is_sorted_by(|a, b| a.0 < b.0) {
            return Err(KvError::Io("ingested keys must ascend strictly".to_owned()));
        }
        self.change(|state| {
            let ops: Vec<_> = pairs.into_iter().map(|(k, v)| WriteOp::Put(family, k, v)).collect();
            let mut stores = self.disk.stores();
            let durable = stores.entry(self.dir.clone()).or_default();
            // As RocksDB does: what is in memory under the same keys goes to disk first, and with it everything.
            if state.unflushed.iter().flatten().any(|op| touches(op, &ops)) {
                state.unflushed.drain(..).flatten().for_each(|op| durable.apply(&op));
            }
            ops.iter().for_each(|op| state.current.apply(op));
            ops.iter().for_each(|op| durable.apply(op));
            Ok(())
        })
    }

    fn drop_range(&self, family: Family, range: &KeyRange) -> Result<(), KvError> {
        let mut batch = WriteBatch::new();
        batch.delete_range(family, range.clone());
        self.write(&batch)
    }

    fn compact(&self, _family: Family, _range: &KeyRange) -> Result<(), KvError> {
        self.change(|_| Ok(()))
    }

    fn checkpoint_to(&self, dir: &Path) -> Result<(), KvError> {
        self.change(|state| {
            let mut stores = self.disk.stores();
            if stores.contains_key(dir) {
                return Err(KvError::Io(format!("checkpoint to {}: it exists", dir.display())));
            }
            stores.insert(dir.to_owned(), state.current.clone());
            Ok(())
        })
    }

    fn approximate_bytes(&self, family: Family) -> u64 {
        self.current().family(family).iter().map(|(k, v)| (k.len() + v.len()) as u64).sum()
    }

    fn close(&self) {
        self.end(0);
    }

    fn retire(&self) {
        self.taken.retired.store(true, Ordering::Relaxed);
        self.close();
    }
}

/// Whether an operation in memory concerns a key between the first and the last of the ingested ones.
fn touches(op: &WriteOp, ingested: &[WriteOp]) -> bool {
    let (Some(WriteOp::Put(family, first, _)), Some(WriteOp::Put(_, last, _))) =
        (ingested.first(), ingested.last())
    else {
        return false;
    };
    match op {
        WriteOp::Put(f, key, _) | WriteOp::Delete(f, key) => f == family && key >= first && key <= last,
        WriteOp::DeleteRange(f, range) => {
            f == family && range.start <= *last && range.end.as_ref().is_none_or(|end| end > first)
        }
    }
}
