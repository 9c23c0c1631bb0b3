//! Meta as a [`StateMachine`]: the state in memory, a checkpoint as one file that is replaced whole.
//!
//! File: version byte, xxh3-128 of the body, body (postcard of log position, membership and state).

use super::{
    command::{MetaCommand, MetaResponse},
    state::{MetaState, Refusal},
};
use bytes::Bytes;
use model::{
    Applied, CommittedEntry, EntryPayload, Fs, LogId, SnapshotCheck, SnapshotPiece, SnapshotSink,
    SnapshotSource, StateError, StateHash, StateMachine, WantedPart,
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

pub(crate) const VERSION: u8 = 1;
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

/// Held for moments only: raft's thread waits for it. Whoever writes the file holds `Meta::file` meanwhile.
struct Inner {
    now: Stored,
    checkpoint: Arc<Vec<u8>>,
    checkpointed: Applied,
    hashes: VecDeque<StateHash>,
}

impl Inner {
    /// Remembers the state hash as of the last entry, which is that of the entry before unless the state has `changed`:
    /// the state may be many megabytes of configurations.
    fn remember_hash(&mut self, changed: bool) {
        let Some(log_id) = self.now.log_id else { return };
        let before = self.hashes.back().filter(|_| !changed).map(|last| last.hash);
        let hash = before.unwrap_or_else(|| {
            xxh3_128(&postcard::to_stdvec(&self.now.state).expect("a vector takes all bytes"))
        });
        self.hashes.push_back(StateHash { index: log_id.index, hash });
        if self.hashes.len() > HASHES_MAX {
            self.hashes.pop_front();
        }
    }
}

fn lock(inner: &Mutex<Inner>) -> MutexGuard<'_, Inner> {
    inner.lock().expect("no holder panics: apply is total")
}

/// The meta shard's replica on this node.
pub struct Meta {
    fs: Arc<dyn Fs>,
    path: PathBuf,
    inner: Arc<Mutex<Inner>>,
    /// One writer of the file at a time, so that a snapshot is never overwritten by what was before it.
    file: Arc<Mutex<()>>,
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
        let mut inner = Inner {
            checkpoint: Arc::new(stored.encode()),
            checkpointed: stored.applied(),
            hashes: VecDeque::new(),
            now: stored.clone(),
        };
        inner.remember_hash(true);
        let published = watch::Sender::new(Arc::new(stored.state));
        Ok(Meta { fs, path, inner: Arc::new(Mutex::new(inner)), file: Arc::default(), published })
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
        lock(&self.inner)
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
            let is_command = matches!(entry.payload, EntryPayload::Command(_));
            changed |= is_command;
            responses.push(match &entry.payload {
                EntryPayload::Blank => Bytes::new(),
                EntryPayload::Membership(membership) => {
                    inner.now.membership = membership.to_vec();
                    Bytes::new()
                }
                EntryPayload::Command(bytes) => {
                    let response = match MetaCommand::decode(bytes) {
                        Ok(command) => inner.now.state.apply(entry.log_id.index, command),
                        Err(_) => MetaResponse::Refused(Refusal::Malformed),
                    };
                    response.encode()
                }
            });
            inner.now.log_id = Some(entry.log_id);
            inner.remember_hash(is_command);
        }
        if changed {
            self.published.send_replace(Arc::new(inner.now.state.clone()));
        }
        Ok(responses)
    }

    fn checkpoint(&self) -> Result<Applied, StateError> {
        let _file = self.file.lock().expect("no holder panics");
        let (bytes, applied) = {
            let inner = self.lock();
            (inner.now.encode(), inner.now.applied())
        };
        if applied.log_id.is_none() {
            // A node that is no member yet leaves nothing that only members have: it would not start again.
            return Ok(applied);
        }
        model::point!("meta.checkpoint.begin");
        self.write(&bytes)?;
        model::point!("meta.checkpoint.durable");
        let mut inner = self.lock();
        inner.checkpoint = Arc::new(bytes);
        inner.checkpointed = applied.clone();
        Ok(applied)
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
        let (inner, file) = (self.inner.clone(), self.file.clone());
        Ok(Box::new(Sink { fs, path, published, inner, file, manifest, bytes: Vec::new(), whole: false }))
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

    /// A place is an offset, eight bytes, big endian.
    fn read(&self, part: u32, from: &[u8], max: usize) -> Result<SnapshotPiece, StateError> {
        let offset = if from.is_empty() { Some(0) } else { from.try_into().ok().map(u64::from_be_bytes) };
        let rest = offset
            .and_then(|offset| usize::try_from(offset).ok())
            .and_then(|offset| self.bytes.get(offset..))
            .filter(|_| part == 0)
            .ok_or_else(|| StateError::Io(format!("meta snapshot has no such place in part {part}")))?;
        let data = Bytes::copy_from_slice(&rest[..rest.len().min(max)]);
        let end = self.bytes.len() - rest.len() + data.len();
        let next = (end < self.bytes.len()).then(|| Bytes::copy_from_slice(&(end as u64).to_be_bytes()));
        Ok(SnapshotPiece { data, next })
    }
}

struct Sink {
    fs: Arc<dyn Fs>,
    path: PathBuf,
    published: watch::Sender<Arc<MetaState>>,
    inner: Arc<Mutex<Inner>>,
    file: Arc<Mutex<()>>,
    manifest: Manifest,
    bytes: Vec<u8>,
    /// The last piece was there.
    whole: bool,
}

impl Sink {
    fn checked(&self) -> Result<Stored, StateError> {
        if self.bytes.len() as u64 != self.manifest.length || xxh3_128(&self.bytes) != self.manifest.hash {
            return Err(StateError::Corrupt("meta snapshot: checksum mismatch".into()));
        }
        Stored::decode(&self.bytes)
    }
}

impl SnapshotSink for Sink {
    fn wanted(&self) -> Vec<WantedPart> {
        let all = WantedPart { part: 0, bytes: self.manifest.length };
        (!self.whole).then_some(all).into_iter().collect()
    }

    fn write(&mut self, part: u32, data: &[u8], last: bool) -> Result<(), StateError> {
        let room = self.manifest.length.saturating_sub(self.bytes.len() as u64);
        if part != 0 || self.whole || data.len() as u64 > room {
            let text = format!("meta snapshot: {} bytes of part {part} do not belong here", data.len());
            return Err(StateError::Io(text));
        }
        self.bytes.extend_from_slice(data);
        self.whole = last;
        Ok(())
    }

    fn check(&mut self) -> Result<SnapshotCheck, StateError> {
        self.checked().map(|_| SnapshotCheck::Whole)
    }

    fn commit(&mut self) -> Result<Applied, StateError> {
        let stored = self.checked()?;
        let Sink { fs, path, published, inner, file, bytes, .. } = self;
        let _file = file.lock().expect("no holder panics");
        model::point!("meta.install.begin");
        fs.replace(path, bytes).map_err(|error| io_error("write", path, &error))?;
        model::point!("meta.install.durable");
        let mut inner = lock(inner);
        inner.checkpointed = stored.applied();
        inner.checkpoint = Arc::new(std::mem::take(bytes));
        inner.hashes.clear();
        published.send_replace(Arc::new(stored.state.clone()));
        inner.now = stored;
        inner.remember_hash(true);
        Ok(inner.checkpointed.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::LogId;
    use storage::log::testing::MemFs;

    /// Found by simulation: a node that was stopped before the cluster had taken it did not start again, because it had
    /// something that only a member has.
    #[test]
    fn who_has_applied_nothing_writes_nothing() {
        let (fs, dir) = (Arc::new(MemFs::default()), Path::new("meta"));
        let meta = Meta::open(fs.clone(), dir).expect("opens");
        meta.checkpoint().expect("nothing to write");
        assert!(!fs.exists(&dir.join(FILE)));
        meta.apply(&[CommittedEntry { log_id: LogId::default(), payload: EntryPayload::Blank }])
            .expect("applied");
        meta.checkpoint().expect("written");
        assert!(fs.exists(&dir.join(FILE)));
    }
}
