//! One group's view of the node's shared log, as openraft wants it.
//!
//! An append is reported durable from the log's own thread, after its `fdatasync`; a vote is waited for. What the
//! log refuses for want of room is tried again, and the group does nothing else meanwhile, not even purge. So room is
//! kept ([`storage::log::Log::reserve`]) before an entry is proposed or accepted, and the loop here is only the last
//! resort.

use super::types::{
    RaftEntry, RaftLogId, RaftVote, Room, Types, decode_entry, decode_vote, encode_payload, encode_vote,
    log_id, raft_log_id,
};
use crate::reach::Tail;
use bytes::Bytes;
use futures::Stream;
use model::{LogId, LogIndex, ShardId};
use openraft::{
    EntryPayload, OptionalSend, RaftLogReader,
    storage::{IOFlushed, LogState, RaftLogStorage},
};
use std::{
    fmt::Debug,
    io,
    ops::{Bound, RangeBounds},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use storage::log::{Done, Log, LogError, Remedy};
use tokio::sync::oneshot;

/// Bytes that are read from the log at once.
const READ_BYTES_MAX: usize = 4 << 20;
/// How long a refused append waits before the next attempt.
const ROOM_PATIENCE: Duration = Duration::from_millis(50);

/// A group's log.
#[derive(Clone, Debug)]
pub(crate) struct LogStore {
    shard: ShardId,
    log: Arc<Log>,
    tail: Arc<Tail>,
}

impl LogStore {
    /// `tail` learns of every entry before anybody else does.
    pub(crate) fn new(shard: ShardId, log: Arc<Log>, tail: Arc<Tail>) -> LogStore {
        LogStore { shard, log, tail }
    }

    fn bounds(&self, range: &impl RangeBounds<u64>) -> (u64, u64) {
        let start = match range.start_bound() {
            Bound::Included(start) => *start,
            Bound::Excluded(start) => start.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(end) => end.saturating_add(1),
            Bound::Excluded(end) => *end,
            Bound::Unbounded => u64::MAX,
        };
        (start, end)
    }

    fn read(&self, start: u64, end: u64) -> io::Result<Vec<RaftEntry>> {
        let entries = self.log.read(self.shard, LogIndex(start)..LogIndex(end), READ_BYTES_MAX)?;
        entries.into_iter().map(|(id, payload)| decode_entry(id, payload)).collect()
    }

    /// Queues an operation, waiting for room where that helps, and waits until it is durable.
    async fn durable(&self, operation: impl Fn(Done) -> Result<(), LogError>) -> io::Result<()> {
        loop {
            let (told, wait) = oneshot::channel();
            let done: Done = Box::new(move |result| drop(told.send(result)));
            match operation(done) {
                Ok(()) => return wait.await.unwrap_or_else(|_| Err(LogError::Closed.into())),
                Err(error) => self.patience(error).await?,
            }
        }
    }

    /// Waits where waiting helps.
    async fn patience(&self, error: LogError) -> io::Result<()> {
        match &error {
            LogError::QueueFull { .. } => self.log.room().await,
            _ if error.remedy() == Remedy::Retry => {
                tracing::warn!(shard = %self.shard, %error, "waiting for room in the log");
                tokio::time::sleep(ROOM_PATIENCE).await;
            }
            _ => return Err(error.into()),
        }
        Ok(())
    }
}

impl RaftLogReader<Types> for LogStore {
    async fn entries_stream<RB>(
        &mut self,
        range: RB,
    ) -> impl Stream<Item = io::Result<RaftEntry>> + OptionalSend
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let (start, end) = self.bounds(&range);
        let log = self.clone();
        // Read as it is consumed: what is applied after a long absence need not fit into memory.
        let chunks = futures::stream::unfold((log, start), move |(log, start)| async move {
            if start >= end {
                return None;
            }
            let chunk = log.read(start, end);
            let next = match &chunk {
                Ok(entries) if entries.is_empty() => end,
                Ok(entries) => start + entries.len() as u64,
                Err(_) => end,
            };
            let items: Vec<_> = match chunk {
                Ok(entries) => entries.into_iter().map(Ok).collect(),
                Err(error) => vec![Err(error)],
            };
            Some((futures::stream::iter(items), (log, next)))
        });
        futures::StreamExt::flatten(chunks)
    }

    async fn try_get_log_entries<RB>(&mut self, range: RB) -> io::Result<Vec<RaftEntry>>
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let (mut start, end) = self.bounds(&range);
        let mut all = Vec::new();
        while start < end {
            let chunk = self.read(start, end)?;
            if chunk.is_empty() {
                break;
            }
            start += chunk.len() as u64;
            all.extend(chunk);
        }
        Ok(all)
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> io::Result<Vec<RaftEntry>> {
        self.read(start, end)
    }

    async fn read_vote(&mut self) -> io::Result<Option<RaftVote>> {
        self.log.state(self.shard).and_then(|state| state.vote).map(decode_vote).transpose()
    }
}

impl RaftLogStorage<Types> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> io::Result<LogState<Types>> {
        let state = self.log.state(self.shard).unwrap_or_default();
        self.tail.open(state.last.map(|last| last.index));
        Ok(LogState {
            last_purged_log_id: state.purged.map(raft_log_id),
            last_log_id: state.last.map(raft_log_id),
        })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &RaftVote) -> io::Result<()> {
        let vote = encode_vote(vote);
        model::point!("raft.vote.begin");
        let saved = self.durable(|done| self.log.save_vote(self.shard, vote.clone(), done)).await;
        model::point!("raft.vote.saved");
        saved
    }

    async fn save_committed(&mut self, committed: Option<RaftLogId>) -> io::Result<()> {
        if let Some(committed) = committed {
            self.log.committed(self.shard, log_id(&committed));
        }
        Ok(())
    }

    async fn read_committed(&mut self) -> io::Result<Option<RaftLogId>> {
        // The hint may have reached the disk before the entry did: never say more than is here.
        let state = self.log.state(self.shard).unwrap_or_default();
        Ok(state
            .committed
            .filter(|committed| Some(committed.index) <= state.last.map(|last| last.index))
            .map(raft_log_id))
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Types>) -> io::Result<()>
    where
        I: IntoIterator<Item = RaftEntry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let tail = &self.tail;
        let mut kept: Vec<Room> = Vec::new();
        let encoded = |entry: RaftEntry| {
            let id = log_id(&entry.log_id);
            match &entry.payload {
                EntryPayload::Membership(_) => tail.accept_members(id.index),
                EntryPayload::Normal(command) => kept.push(command.1.clone()),
                EntryPayload::Blank => {}
            }
            (id, encode_payload(&entry.payload))
        };
        let entries: Vec<(LogId, Bytes)> = entries.into_iter().map(encoded).collect();
        let last = entries.last().map(|(id, _)| id.index);
        model::point!("raft.append.begin");
        // Handed on by whoever gets to it: the log if it takes the append, else the next attempt.
        let callback = Arc::new(Mutex::new(Some(callback)));
        loop {
            let (slot, tail) = (callback.clone(), self.tail.clone());
            let done: Done = Box::new(move |result| {
                if let (Ok(()), Some(last)) = (&result, last) {
                    tail.reach(last);
                }
                if let Some(callback) = slot.lock().unwrap_or_else(PoisonError::into_inner).take() {
                    model::point!("raft.append.durable");
                    callback.io_completed(result);
                }
            });
            match self.log.append(self.shard, entries.clone(), done) {
                Ok(()) => {
                    drop(kept); // it is taken
                    return Ok(());
                }
                Err(error) => self.patience(error).await?,
            }
        }
    }

    async fn truncate_after(&mut self, last: Option<RaftLogId>) -> io::Result<()> {
        let last = last.as_ref().map(log_id);
        model::point!("raft.truncate.begin");
        let cut = self.durable(|done| self.log.truncate_after(self.shard, last, done)).await;
        model::point!("raft.truncate.done");
        self.tail.cut(last.map(|last| last.index));
        cut
    }

    async fn purge(&mut self, upto: RaftLogId) -> io::Result<()> {
        let upto = log_id(&upto);
        model::point!("raft.purge.begin");
        loop {
            // Nobody waits for a purge: one that is lost in a crash is done again.
            match self.log.purge(self.shard, upto, Box::new(|_| {})) {
                Ok(()) => return Ok(()),
                Err(error) => self.patience(error).await?,
            }
        }
    }
}
