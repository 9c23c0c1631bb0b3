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
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

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

/// Two generations: what is read moves to the young one; when that is full, the old one goes.
#[derive(Debug, Default)]
struct Generations {
    young: BTreeMap<(ChunkName, u32), Entry>,
    old: BTreeMap<(ChunkName, u32), Entry>,
    young_bytes: usize,
}

/// The cache.
#[derive(Debug)]
pub(crate) struct ChunkCache {
    generations: Mutex<Generations>,
    bytes_max: usize,
}

impl ChunkCache {
    pub(crate) fn new(bytes_max: usize) -> ChunkCache {
        ChunkCache { generations: Mutex::default(), bytes_max }
    }

    fn lookup(&self, key: &(ChunkName, u32)) -> Option<Entry> {
        let mut generations = self.generations.lock().expect("no holder panics");
        if let Some(entry) = generations.young.get(key) {
            return Some(entry.clone());
        }
        let entry = generations.old.remove(key)?;
        self.put(&mut generations, *key, entry.clone());
        Some(entry)
    }

    fn put(&self, generations: &mut Generations, key: (ChunkName, u32), entry: Entry) {
        if generations.young_bytes > self.bytes_max / 2 {
            generations.old = std::mem::take(&mut generations.young);
            generations.young_bytes = 0;
        }
        generations.young_bytes += entry.bytes();
        generations.young.insert(key, entry);
    }

    fn insert(&self, key: (ChunkName, u32), entry: Entry) {
        self.put(&mut self.generations.lock().expect("no holder panics"), key, entry);
    }

    /// The head of a chunk.
    pub(crate) fn head(&self, kv: &dyn KvRead, chunk: &ChunkRef) -> Result<Arc<ChunkHead>, ReadError> {
        if let ChunkBody::Memory(chunk) = &chunk.body {
            return Ok(Arc::clone(&chunk.head));
        }
        let key = (chunk.name, u32::MAX);
        if let Some(Entry::Head(head)) = self.lookup(&key) {
            return Ok(head);
        }
        let bytes = kv.get(Family::Chunks, &keys::chunk_head(&chunk.name))?;
        let bytes = bytes.ok_or_else(|| missing(&chunk.name))?;
        let (_, head) = keys::read_head(&bytes).map_err(|cause| damaged(&chunk.name, cause))?;
        let head = Arc::new(head);
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
        let open = |bytes| Group::open(bytes).map(Arc::new).map_err(|cause| damaged(&chunk.name, cause));
        if let ChunkBody::Memory(body) = &chunk.body {
            return open(body.groups.get(group).ok_or_else(|| missing(&chunk.name))?);
        }
        let key = (chunk.name, group as u32);
        if let Some(Entry::Group(group)) = self.lookup(&key) {
            return Ok(group);
        }
        let bytes = kv.get(Family::Chunks, &keys::chunk_group(&chunk.name, group))?;
        let group = open(&bytes.ok_or_else(|| missing(&chunk.name))?)?;
        self.insert(key, Entry::Group(Arc::clone(&group)));
        Ok(group)
    }
}

fn missing(name: &ChunkName) -> ReadError {
    ReadError::Missing { source_id: name.source, partition: name.partition }
}

pub(crate) fn damaged(name: &ChunkName, cause: Malformed) -> ReadError {
    ReadError::Damaged { source_id: name.source, partition: name.partition, cause }
}
