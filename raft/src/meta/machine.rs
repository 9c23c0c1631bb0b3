//! Meta as a [`StateMachine`]: the state in memory, a checkpoint as one file that is replaced whole.
//!
//! File: version byte, xxh3-128 of the body, body (postcard of log position, membership and state).

use super::{
    command::{MetaCommand, MetaResponse},
    state::{MetaState, Refusal},
};
use bytes::Bytes;
use model::{
    Applied, CommittedEntry, EntryPayload, Fs, LogId, SnapshotSink, SnapshotSource, StateError, StateHash,
    StateMachine, WantedPart,
};
use serde::{Deserialize, Serialize};
use std::{
    collections::VecDeque,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard},
};
use tokio::sync::watch;
use xxhash_rust::xxh3::xxh3_128;

const VERSION: u8 = 1;
const FILE: &str = "meta.state";
/// State hashes kept.
const HASHES_MAX: usize = 256;
/// The largest file that is read: the configuration history and room to spare.
const FILE_BYTES_MAX: u64 = 512 << 20;

#[derive(Clone, Default, Serialize, Deserialize)]
struct Stored {
    log_id: Option<LogId>,
    membership: Vec<u8>,
    state: MetaState,
}

impl Stored {
    fn applied(&self) -> Applied {
        Applied { log_id: self.log_id, membership: self.membership.clone().into() }
    }

    fn encode(&self) -> Vec<u8> {
        let body = postcard::to_stdvec(self).expect("a vector takes all bytes");
        let mut bytes = vec![VERSION];
        bytes.extend_from_slice(&xxh3_128(&body).to_be_bytes());
        bytes.extend_from_slice(&body);
        bytes
    }

    fn decode(bytes: &[u8]) -> Result<Stored, StateError> {
        let corrupt = |what: &str| StateError::Corrupt(format!("meta state: {what}"));
        let (head, body) = bytes.split_at_checked(17).ok_or_else(|| corrupt("too short"))?;
        if head[0] != VERSION {
            return Err(corrupt(&format!("format {} is not known here", head[0])));
        }
        if head[1..] != xxh3_128(body).to_be_bytes() {
            return Err(corrupt("checksum mismatch"));
        }
        postcard::from_bytes(body).map_err(|error| corrupt(&error.to_string()))
    }
}

struct Inner {
    now: Stored,
    checkpoint: Arc<Vec<u8>>,
    checkpointed: Applied,
    hashes: VecDeque<StateHash>,
}

/// The meta shard's replica on this node.
pub struct Meta {
    fs: Arc<dyn Fs>,
    path: PathBuf,
    inner: Arc<Mutex<Inner>>,
    published: watch::Sender<Arc<MetaState>>,
}

impl std::fmt::Debug for Meta {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Meta").field("path", &self.path).finish_non_exhaustive()
    }
}

fn io_error(doing: &str, path: &Path, error: &io::Error) -> StateError {
    let text = format!("{doing} {}: {error}", path.display());
    if error.kind() == io::ErrorKind::StorageFull { StateError::DiskFull(text) } else { StateError::Io(text) }
}

impl Meta {
    /// Opens the replica in `dir`, empty if there is none yet.
    ///
    /// # Errors
    /// If the file cannot be read or is damaged.
    pub fn open(fs: Arc<dyn Fs>, dir: &Path) -> Result<Meta, StateError> {
        fs.create_dir_all(dir).map_err(|error| io_error("create", dir, &error))?;
        let path = dir.join(FILE);
        let stored = if fs.exists(&path) {
            let bytes = fs.read(&path).map_err(|error| io_error("read", &path, &error))?;
            Stored::decode(&bytes)?
        } else {
            Stored::default()
        };
        let inner = Inner {
            checkpoint: Arc::new(stored.encode()),
            checkpointed: stored.applied(),
            hashes: VecDeque::new(),
            now: stored.clone(),
        };
        let published = watch::Sender::new(Arc::new(stored.state));
        Ok(Meta { fs, path, inner: Arc::new(Mutex::new(inner)), published })
    }

    /// The state as applied here, and a signal whenever it changes.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Arc<MetaState>> {
        self.published.subscribe()
    }

    /// The state as applied here.
    #[must_use]
    pub fn state(&self) -> Arc<MetaState> {
        self.published.borrow().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("no holder panics: apply is total")
    }

    fn write(&self, bytes: &[u8]) -> Result<(), StateError> {
        self.fs.replace(&self.path, bytes).map_err(|error| io_error("write", &self.path, &error))
    }
}

impl StateMachine for Meta {
    fn applied(&self) -> Applied {
        self.lock().now.applied()
    }

    fn checkpointed(&self) -> Applied {
        self.lock().checkpointed.clone()
    }

    fn apply(&self, entries: &[CommittedEntry]) -> Result<Vec<Bytes>, StateError> {
        let mut inner = self.lock();
        let mut responses = Vec::with_capacity(entries.len());
        let mut changed = false;
        for entry in entries {
            responses.push(match &entry.payload {
                EntryPayload::Blank => Bytes::new(),
                EntryPayload::Membership(membership) => {
                    inner.now.membership = membership.to_vec();
                    Bytes::new()
                }
                EntryPayload::Command(bytes) => {
                    changed = true;
                    let response = match MetaCommand::decode(bytes) {
                        Ok(command) => inner.now.state.apply(entry.log_id.index, command),
                        Err(_) => MetaResponse::Refused(Refusal::Malformed),
                    };
                    response.encode()
                }
            });
            inner.now.log_id = Some(entry.log_id);
            let state = postcard::to_stdvec(&inner.now.state).expect("a vector takes all bytes");
            inner.hashes.push_back(StateHash { index: entry.log_id.index, hash: xxh3_128(&state) });
            if inner.hashes.len() > HASHES_MAX {
                inner.hashes.pop_front();
            }
        }
        if changed {
            self.published.send_replace(Arc::new(inner.now.state.clone()));
        }
        Ok(responses)
    }

    fn checkpoint(&self) -> Result<Applied, StateError> {
        // Under the lock, so that a snapshot installed meanwhile is never overwritten by what was before it.
        let mut inner = self.lock();
        let bytes = inner.now.encode();
        model::point!("meta.checkpoint.begin");
        self.write(&bytes)?;
        model::point!("meta.checkpoint.durable");
        inner.checkpoint = Arc::new(bytes);
        inner.checkpointed = inner.now.applied();
        Ok(inner.checkpointed.clone())
    }

    fn open_snapshot(&self) -> Result<Box<dyn SnapshotSource>, StateError> {
        let inner = self.lock();
        Ok(Box::new(Source { bytes: inner.checkpoint.clone(), applied: inner.checkpointed.clone() }))
    }

    fn begin_install(&self, manifest: Bytes) -> Result<Box<dyn SnapshotSink>, StateError> {
        let manifest: Manifest = postcard::from_bytes(&manifest)
            .map_err(|error| StateError::Corrupt(format!("meta snapshot manifest: {error}")))?;
        if manifest.length > FILE_BYTES_MAX {
            return Err(StateError::Corrupt(format!(
                "meta snapshot of {} bytes is too large",
                manifest.length
            )));
        }
        let (fs, path) = (self.fs.clone(), self.path.clone());
        let published = self.published.clone();
        Ok(Box::new(Sink { fs, path, published, inner: self.inner.clone(), manifest, bytes: Vec::new() }))
    }

    fn recent_hashes(&self) -> Vec<StateHash> {
        self.lock().hashes.iter().copied().collect()
    }
}

/// One part: the checkpoint file.
#[derive(Clone, Copy, Serialize, Deserialize)]
struct Manifest {
    length: u64,
    hash: u128,
}

struct Source {
    bytes: Arc<Vec<u8>>,
    applied: Applied,
}

impl SnapshotSource for Source {
    fn applied(&self) -> Applied {
        self.applied.clone()
    }

    fn manifest(&self) -> Bytes {
        let manifest = Manifest { length: self.bytes.len() as u64, hash: xxh3_128(&self.bytes) };
        postcard::to_stdvec(&manifest).expect("a vector takes all bytes").into()
    }

    fn read(&self, part: u32, offset: u64, max: usize) -> Result<Bytes, StateError> {
        let from = usize::try_from(offset).unwrap_or(usize::MAX);
        let rest = self.bytes.get(from..).filter(|_| part == 0);
        let rest =
            rest.ok_or_else(|| StateError::Io(format!("meta snapshot has no part {part} at {offset}")))?;
        Ok(Bytes::copy_from_slice(&rest[..rest.len().min(max)]))
    }
}

struct Sink {
    fs: Arc<dyn Fs>,
    path: PathBuf,
    published: watch::Sender<Arc<MetaState>>,
    inner: Arc<Mutex<Inner>>,
    manifest: Manifest,
    bytes: Vec<u8>,
}

impl SnapshotSink for Sink {
    fn wanted(&self) -> Vec<WantedPart> {
        let from = self.bytes.len() as u64;
        let whole = WantedPart { part: 0, from, length: self.manifest.length };
        (from < self.manifest.length).then_some(whole).into_iter().collect()
    }

    fn write(&mut self, part: u32, offset: u64, data: &[u8]) -> Result<(), StateError> {
        let have = self.bytes.len() as u64;
        if part != 0 || offset != have || have + data.len() as u64 > self.manifest.length {
            return Err(StateError::Io(format!(
                "meta snapshot: bytes of part {part} at {offset} do not follow {have}"
            )));
        }
        self.bytes.extend_from_slice(data);
        Ok(())
    }

    fn commit(self: Box<Self>) -> Result<Applied, StateError> {
        if self.bytes.len() as u64 != self.manifest.length || xxh3_128(&self.bytes) != self.manifest.hash {
            return Err(StateError::Corrupt("meta snapshot: checksum mismatch".into()));
        }
        let stored = Stored::decode(&self.bytes)?;
        let mut inner = self.inner.lock().expect("no holder panics: apply is total");
        model::point!("meta.install.begin");
        self.fs.replace(&self.path, &self.bytes).map_err(|error| io_error("write", &self.path, &error))?;
        model::point!("meta.install.durable");
        inner.checkpointed = stored.applied();
        inner.checkpoint = Arc::new(self.bytes);
        inner.hashes.clear();
        self.published.send_replace(Arc::new(stored.state.clone()));
        inner.now = stored;
        Ok(inner.checkpointed.clone())
    }
}
