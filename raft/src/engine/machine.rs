//! A [`StateMachine`] as openraft wants it.
//!
//! Entries are handed to the apply threads in batches, their proposers are answered from there. A snapshot is a
//! promise: its meta is the last checkpoint, its data is only opened when a replica asks for it.

use super::{
    apply::ApplyPool,
    types::{
        Answer, RaftEntry, RaftLogId, RaftMembership, SnapshotMeta, Types, decode_membership,
        encode_membership, log_id, raft_log_id,
    },
};
use crate::reach::{Members, Tail};
use futures::{Stream, StreamExt};
use model::{Applied, CommittedEntry, EntryPayload, LogId, ShardId, SnapshotSink, StateError, StateMachine};
use openraft::{
    OptionalSend, alias,
    storage::{ApplyResponder, EntryResponder, RaftSnapshotBuilder, RaftStateMachine},
};
use std::{
    fmt, io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::sync::watch;

/// Entries that are applied in one call, and their bytes.
const BATCH_ENTRIES_MAX: usize = 256;
const BATCH_BYTES_MAX: usize = 8 << 20;
/// How long apply waits for room on a full disk before it tries again.
const DISK_FULL_PATIENCE: Duration = Duration::from_secs(1);

/// A snapshot's data: nothing where it is a promise, the received parts where it is to be installed.
pub(crate) struct SnapshotData(pub(crate) Option<Box<dyn SnapshotSink>>);

impl fmt::Debug for SnapshotData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "received parts" } else { "promise" })
    }
}

/// The state machine of one group.
#[derive(Clone)]
pub(crate) struct Machine {
    shard: ShardId,
    state: Arc<dyn StateMachine>,
    pool: ApplyPool,
    applied: Arc<watch::Sender<Option<LogId>>>,
    tail: Arc<Tail>,
    troubles: Troubles,
}

/// What a disk cannot do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DiskTrouble {
    /// There is no room; all goes on when there is.
    NoRoom(String),
    /// Something failed that cannot be made good: what is on the disk is unknown until a restart reads it.
    Failed(String),
}

/// Trouble that a group's state machine had with its disk. Who finds that there was no room makes the checkpoint later.
#[derive(Clone, Debug, Default)]
pub(crate) struct Troubles(Arc<Mutex<Option<DiskTrouble>>>);

impl Troubles {
    /// Notes an error; one that cannot be made good stays.
    pub(crate) fn note(&self, error: &StateError) {
        let trouble = match error {
            StateError::DiskFull(reason) => DiskTrouble::NoRoom(reason.clone()),
            StateError::Io(reason) => DiskTrouble::Failed(reason.clone()),
            StateError::Corrupt(_) => return, // the replica alone stops
        };
        self.set(Some(trouble));
    }

    /// A checkpoint was made.
    pub(crate) fn clear(&self) {
        self.set(None);
    }

    fn set(&self, trouble: Option<DiskTrouble>) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !matches!(*known, Some(DiskTrouble::Failed(_))) {
            *known = trouble;
        }
    }

    pub(crate) fn get(&self) -> Option<DiskTrouble> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

type Responder = Option<ApplyResponder<Types>>;

fn state_error(error: StateError) -> io::Error {
    let kind = match &error {
        StateError::Corrupt(_) => io::ErrorKind::InvalidData,
        StateError::DiskFull(_) => io::ErrorKind::StorageFull,
        StateError::Io(_) => io::ErrorKind::Other,
    };
    io::Error::new(kind, error)
}

fn gone() -> io::Error {
    io::Error::other("apply thread ended")
}

fn committed(entry: RaftEntry) -> CommittedEntry {
    let id = log_id(&entry.log_id);
    let payload = match entry.payload {
        openraft::EntryPayload::Blank => EntryPayload::Blank,
        openraft::EntryPayload::Normal(command) => EntryPayload::Command(command.0),
        openraft::EntryPayload::Membership(membership) => {
            EntryPayload::Membership(encode_membership(&RaftMembership::new(Some(entry.log_id), membership)))
        }
    };
    CommittedEntry { log_id: id, payload }
}

fn bytes_of(entry: &CommittedEntry) -> usize {
    match &entry.payload {
        EntryPayload::Command(bytes) | EntryPayload::Membership(bytes) => bytes.len(),
        EntryPayload::Blank => 0,
    }
}

/// What a checkpoint is as a snapshot.
pub(crate) fn snapshot_meta(applied: &Applied) -> io::Result<SnapshotMeta> {
    Ok(SnapshotMeta {
        last_log_id: applied.log_id.map(raft_log_id),
        last_membership: decode_membership(applied.membership.clone())?,
    })
}

/// The voters of a membership that was applied.
fn members(applied: &Applied) -> io::Result<Option<Members>> {
    let stored = decode_membership(applied.membership.clone())?;
    let configs = stored.membership().get_joint_config();
    let voters = configs.iter().map(|voters| voters.iter().copied().collect()).collect();
    Ok(stored.log_id().as_ref().map(|id| Members { index: log_id(id).index.0, voters }))
}

impl Machine {
    /// Wraps `state`; `applied` is told of every batch, `tail` of every change of members, and before, `troubles` of what
    /// its disk could not do.
    pub(crate) fn new(
        shard: ShardId,
        state: Arc<dyn StateMachine>,
        pool: ApplyPool,
        applied: Arc<watch::Sender<Option<LogId>>>,
        tail: Arc<Tail>,
        troubles: Troubles,
    ) -> io::Result<Machine> {
        let now = state.applied();
        tail.settle(members(&now)?);
        applied.send_replace(now.log_id);
        Ok(Machine { shard, state, pool, applied, tail, troubles })
    }

    /// Tells what was applied; what of it is about members comes first.
    fn tell(&self, done: Option<LogId>, entries: &[CommittedEntry]) -> io::Result<()> {
        if entries.iter().any(|entry| matches!(entry.payload, EntryPayload::Membership(_))) {
            self.tail.settle(members(&self.state.applied())?);
        }
        self.applied.send_replace(done);
        Ok(())
    }

    /// Applies a batch. On a full disk it waits and goes on behind what was applied: the replica falls behind, the
    /// cluster does not.
    async fn apply_batch(&self, entries: Vec<CommittedEntry>, responders: Vec<Responder>) -> io::Result<()> {
        model::point!("raft.apply.begin");
        let mut entries = entries;
        let mut responders = responders;
        loop {
            let state = self.state.clone();
            let (back, result) = self
                .pool
                .run(move || {
                    let result = state.apply(&entries);
                    (entries, result)
                })
                .await
                .ok_or_else(gone)?;
            entries = back;
            match result {
                Ok(answers) => {
                    model::point!("raft.apply.applied");
                    self.tell(entries.last().map(|entry| entry.log_id), &entries)?;
                    for (responder, answer) in responders.into_iter().zip(answers) {
                        if let Some(responder) = responder {
                            responder.send(Answer(answer));
                        }
                    }
                    return self.checkpoint_if_wanted().await;
                }
                Err(error @ StateError::DiskFull(_)) => {
                    tracing::warn!(shard = %self.shard, %error, "disk full, a checkpoint waits for room");
                    self.troubles.note(&error);
                    let done = self.state.applied().log_id;
                    self.tell(done, &entries)?; // who waits for these must not wait for the next entry
                    let done = done.map(|id| id.index);
                    let rest = entries
                        .iter()
                        .position(|entry| Some(entry.log_id.index) > done)
                        .unwrap_or(entries.len());
                    entries.drain(..rest);
                    responders.drain(..rest); // their outcome is unknown to the proposers
                    if entries.is_empty() {
                        return self.checkpoint_if_wanted().await;
                    }
                    tokio::time::sleep(DISK_FULL_PATIENCE).await;
                }
                Err(error) => {
                    tracing::error!(shard = %self.shard, %error, "replica stops: apply failed");
                    self.troubles.note(&error);
                    return Err(state_error(error));
                }
            }
        }
    }
}

impl Machine {
    /// Makes the checkpoint that an entry asked for. What was applied is answered before; what comes next waits, in this
    /// group alone. One that finds no room is made later.
    async fn checkpoint_if_wanted(&self) -> io::Result<()> {
        if !self.state.wants_checkpoint() {
            return Ok(());
        }
        let state = self.state.clone();
        match self.pool.run_aside(move || state.checkpoint()).await.ok_or_else(gone)? {
            Ok(_) => {
                self.troubles.clear();
                Ok(())
            }
            Err(error @ StateError::DiskFull(_)) => {
                tracing::warn!(shard = %self.shard, %error, "disk full, a checkpoint waits for room");
                self.troubles.note(&error);
                Ok(())
            }
            Err(error) => {
                tracing::error!(shard = %self.shard, %error, "replica stops: checkpoint failed");
                self.troubles.note(&error);
                Err(state_error(error))
            }
        }
    }
}

/// Answers with the last checkpoint.
pub(crate) struct Promise(Arc<dyn StateMachine>);

impl Promise {
    fn snapshot(&self) -> io::Result<alias::SnapshotOf<Types, SnapshotData>> {
        let meta = snapshot_meta(&self.0.checkpointed())?;
        Ok(alias::SnapshotOf::<Types, _> { meta, snapshot: SnapshotData(None) })
    }
}

impl RaftSnapshotBuilder<Types> for Promise {
    type SnapshotData = SnapshotData;

    async fn build_snapshot(&mut self) -> io::Result<alias::SnapshotOf<Types, SnapshotData>> {
        self.snapshot()
    }
}

impl RaftStateMachine<Types> for Machine {
    type SnapshotData = SnapshotData;
    type SnapshotBuilder = Promise;

    async fn applied_state(&mut self) -> io::Result<(Option<RaftLogId>, RaftMembership)> {
        let applied = self.state.applied();
        Ok((applied.log_id.map(raft_log_id), decode_membership(applied.membership)?))
    }

    async fn apply<S>(&mut self, mut stream: S) -> io::Result<()>
    where
        S: Stream<Item = io::Result<EntryResponder<Types>>> + Unpin + OptionalSend,
    {
        let (mut entries, mut responders, mut bytes) = (Vec::new(), Vec::new(), 0);
        while let Some(item) = stream.next().await {
            let (entry, responder) = item?;
            let entry = committed(entry);
            bytes += bytes_of(&entry);
            entries.push(entry);
            responders.push(responder);
            if entries.len() >= BATCH_ENTRIES_MAX || bytes >= BATCH_BYTES_MAX {
                self.apply_batch(std::mem::take(&mut entries), std::mem::take(&mut responders)).await?;
                bytes = 0;
            }
        }
        if entries.is_empty() {
            return Ok(());
        }
        self.apply_batch(entries, responders).await
    }

    async fn get_snapshot_builder(&mut self) -> Promise {
        Promise(self.state.clone())
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, snapshot: SnapshotData) -> io::Result<()> {
        let Some(mut sink) = snapshot.0 else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "snapshot without parts"));
        };
        model::point!("raft.install.begin");
        let installed = loop {
            let commit = move || {
                let result = sink.commit();
                (sink, result)
            };
            let (back, result) = self.pool.run_aside(commit).await.ok_or_else(gone)?;
            sink = back;
            match result {
                Err(StateError::DiskFull(reason)) => {
                    tracing::warn!(shard = %self.shard, reason, "disk full, a snapshot waits for room");
                    tokio::time::sleep(DISK_FULL_PATIENCE).await;
                }
                result => break result.map_err(state_error)?,
            }
        };
        if installed.log_id.map(raft_log_id) != meta.last_log_id {
            let text =
                format!("snapshot ends at {:?}, announced was {:?}", installed.log_id, meta.last_log_id);
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        model::point!("raft.install.done");
        self.tail.settle(members(&installed)?);
        self.applied.send_replace(installed.log_id);
        tracing::info!(shard = %self.shard, upto = ?installed.log_id, "snapshot installed");
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<alias::SnapshotOf<Types, SnapshotData>>> {
        if self.state.checkpointed().log_id.is_none() {
            return Ok(None);
        }
        Promise(self.state.clone()).snapshot().map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use model::{BoxFuture, LogIndex, SnapshotSource, Spawner, StateHash, Term};
    use std::sync::Mutex;

    #[derive(Debug)]
    struct Unused;

    impl Spawner for Unused {
        fn spawn(&self, _: &'static str, _: BoxFuture<'static, ()>) {
            unreachable!("nothing is spawned")
        }
        fn blocking(&self, _: &'static str, _: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, ()> {
            unreachable!("nothing waits for the disk")
        }
        fn thread(&self, _: &'static str, _: Box<dyn FnOnce() + Send>) -> io::Result<()> {
            unreachable!("it works inline")
        }
    }

    /// Applies everything, then finds the disk full: as a shard does whose last entry asks for a checkpoint.
    #[derive(Default)]
    struct FullAfterwards(Mutex<Applied>);

    impl StateMachine for FullAfterwards {
        fn applied(&self) -> Applied {
            self.0.lock().expect("no holder panics").clone()
        }
        fn checkpointed(&self) -> Applied {
            Applied::default()
        }
        fn apply(&self, entries: &[CommittedEntry]) -> Result<Vec<Bytes>, StateError> {
            self.0.lock().expect("no holder panics").log_id = entries.last().map(|entry| entry.log_id);
            Err(StateError::DiskFull("no space left on device".to_owned()))
        }
        fn checkpoint(&self) -> Result<Applied, StateError> {
            Ok(self.applied())
        }
        fn open_snapshot(&self) -> Result<Box<dyn SnapshotSource>, StateError> {
            Err(StateError::Io("none".to_owned()))
        }
        fn begin_install(&self, _: Bytes) -> Result<Box<dyn SnapshotSink>, StateError> {
            Err(StateError::Io("none".to_owned()))
        }
        fn recent_hashes(&self) -> Vec<StateHash> {
            Vec::new()
        }
    }

    /// Found by simulation: a read index waited for an entry that was applied before the disk was found full, until
    /// the next entry came.
    #[tokio::test]
    async fn what_was_applied_before_the_disk_was_full_is_told() {
        let applied = Arc::new(watch::Sender::new(None));
        let state = Arc::new(FullAfterwards::default());
        let tail = Arc::default();
        let pool = ApplyPool::inline(Arc::new(Unused));
        let machine = Machine::new(ShardId(1), state, pool, applied.clone(), tail, Troubles::default());
        let machine = machine.expect("no members are well formed");
        let log_id = LogId { term: Term(1), index: LogIndex(7) };
        let entry = CommittedEntry { log_id, payload: EntryPayload::Blank };
        machine.apply_batch(vec![entry], vec![None]).await.expect("a full disk stops no replica");
        assert_eq!(*applied.borrow(), Some(log_id));
    }
}
