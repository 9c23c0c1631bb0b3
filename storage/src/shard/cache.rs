//! Heads and groups of stored chunks that were read lately. Bounded in bytes; a chunk's name never means other
//! content, so nothing has to be invalidated.

use super::{
    chunk::{ChunkHead, Group},
    keys,
    source::{ChunkBody, ChunkName, ChunkRef},
    wire::Malformed,
};
use crate::kv::{Family, KvError, KvRead};
use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hash, Hasher},
    sync::{Arc, Mutex, MutexGuard},
};

/// Parts of the cache, each with a lock of its own: queries read side by side.
const SHELVES: usize = 16;

/// A chunk could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The store failed.
    #[error(transparent)]
    Kv(#[from] KvError),
    /// What the store holds is not a chunk.
    #[error("chunk of source {source_id} in partition {partition} is damaged: {cause}")]
    Damaged {
        /// The source.
        source_id: u32,
        /// The start of the partition, milliseconds.
        partition: i64,
        /// What is wrong.
        cause: Malformed,
    },
    /// A chunk that should be there is not.
    #[error("chunk of source {source_id} in partition {partition} is missing")]
    Missing {
        /// The source.
        source_id: u32,
        /// The start of the partition, milliseconds.
        partition: i64,
    },
}

#[derive(Clone, Debug)]
enum Entry {
    Head(Arc<ChunkHead>),
    Group(Arc<Group>),
}

impl Entry {
    fn bytes(&self) -> usize {
        match self {
            Entry::Head(head) => head.timestamps.len() * 8 + head.series.len() * 4 + 128,
            Entry::Group(group) => group.bytes() + 128,
        }
    }
}

/// A chunk and one of its groups; the head goes as [`HEAD`].
type Key = (ChunkName, u32);
const HEAD: u32 = u32::MAX;

/// Hashes keys, which are numbers that nobody outside chooses: a multiplication each.
#[derive(Debug, Default)]
struct Mixer(u64);

impl Hasher for Mixer {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }
    fn write_u8(&mut self, number: u8) {
        self.write_u64(u64::from(number));
    }
    fn write_u32(&mut self, number: u32) {
        self.write_u64(u64::from(number));
    }
    fn write_u64(&mut self, number: u64) {
        self.0 = (self.0.rotate_left(23) ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 ^= self.0 >> 32;
    }
    fn write_i64(&mut self, number: i64) {
        self.write_u64(number as u64);
    }
}

fn hash_of(key: &Key) -> u64 {
    let mut mixer = Mixer::default();
    key.hash(&mut mixer);
    mixer.finish()
}

type Entries = HashMap<Key, Entry, BuildHasherDefault<Mixer>>;

/// Two generations: what is read moves to the young one; when that is full, the old one goes.
#[derive(Debug, Default)]
struct Shelf {
    young: Entries,
    old: Entries,
    young_bytes: usize,
}

impl Shelf {
    fn get(&mut self, key: &Key, bytes_max: usize) -> Option<Entry> {
        if let Some(entry) = self.young.get(key) {
            return Some(entry.clone());
        }
        let entry = self.old.remove(key)?;
        self.put(*key, entry.clone(), bytes_max);
        Some(entry)
    }

    fn put(&mut self, key: Key, entry: Entry, bytes_max: usize) {
        if self.young_bytes > bytes_max / 2 {
            self.old = std::mem::take(&mut self.young);
            self.young_bytes = 0;
        }
        self.young_bytes += entry.bytes();
        self.young.insert(key, entry);
    }
}

/// The cache.
#[derive(Debug)]
pub(crate) struct ChunkCache {
    shelves: [Mutex<Shelf>; SHELVES],
    shelf_bytes_max: usize,
}

impl ChunkCache {
    pub(crate) fn new(bytes_max: usize) -> ChunkCache {
        ChunkCache { shelves: Default::default(), shelf_bytes_max: bytes_max / SHELVES }
    }

    fn shelf(&self, key: &Key) -> MutexGuard<'_, Shelf> {
        // The map takes the low bits.
        let at = (hash_of(key) >> 48) as usize % SHELVES;
        self.shelves[at].lock().expect("no holder panics")
    }

    fn lookup(&self, key: &Key) -> Option<Entry> {
        self.shelf(key).get(key, self.shelf_bytes_max)
    }

    fn insert(&self, key: Key, entry: Entry) {
        self.shelf(&key).put(key, entry, self.shelf_bytes_max);
    }

    /// The head of a chunk.
    pub(crate) fn head(&self, kv: &dyn KvRead, chunk: &ChunkRef) -> Result<Arc<ChunkHead>, ReadError> {
        if let ChunkBody::Memory(chunk) = &chunk.body {
            return Ok(Arc::clone(&chunk.head));
        }
        let key = (chunk.name, HEAD);
        if let Some(Entry::Head(head)) = self.lookup(&key) {
            return Ok(head);
        }
        let head = Arc::new(read_head(kv, chunk)?);
        self.insert(key, Entry::Head(Arc::clone(&head)));
        Ok(head)
    }

    /// A group of a chunk.
    pub(crate) fn group(
        &self,
        kv: &dyn KvRead,
        chunk: &ChunkRef,
        group: usize,
    ) -> Result<Arc<Group>, ReadError> {
        let key = (chunk.name, group as u32);
        if let Some(Entry::Group(group)) = self.lookup(&key) {
            return Ok(group);
        }
        let group = Arc::new(read_group(kv, chunk, group)?);
        self.insert(key, Entry::Group(Arc::clone(&group)));
        Ok(group)
    }
}

/// Reads the head of a stored chunk.
pub(crate) fn read_head(kv: &dyn KvRead, chunk: &ChunkRef) -> Result<ChunkHead, ReadError> {
    let bytes = kv.get(Family::Chunks, &keys::chunk_head(&chunk.name))?;
    let bytes = bytes.ok_or_else(|| missing(&chunk.name))?;
    let (_, head) = keys::read_head(&bytes).map_err(|cause| damaged(&chunk.name, cause))?;
    Ok(head)
}

/// Unpacks a group of a chunk.
pub(crate) fn read_group(kv: &dyn KvRead, chunk: &ChunkRef, group: usize) -> Result<Group, ReadError> {
    let bytes = match &chunk.body {
        ChunkBody::Memory(body) => body.groups.get(group).cloned(),
        ChunkBody::Stored => kv.get(Family::Chunks, &keys::chunk_group(&chunk.name, group))?,
    };
    let bytes = bytes.ok_or_else(|| missing(&chunk.name))?;
    Group::open(&bytes).map_err(|cause| damaged(&chunk.name, cause))
}

fn missing(name: &ChunkName) -> ReadError {
    ReadError::Missing { source_id: name.source, partition: name.partition }
}

pub(crate) fn damaged(name: &ChunkName, cause: Malformed) -> ReadError {
    ReadError::Damaged { source_id: name.source, partition: name.partition, cause }
}
