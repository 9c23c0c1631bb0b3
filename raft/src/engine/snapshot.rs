//! Snapshots: the leader offers, the follower pulls.
//!
//! ```text
//!  leader ──offer (vote, last log id)──▶ follower            again and again, answered with the progress
//!         ◀─open───────────────────────                      manifest of the last checkpoint
//!         ◀─read (part, offset)────────   ─▶ SnapshotSink    throttled; what is there already is not asked for
//!         ◀─done───────────────────────   ─▶ openraft installs: commit of the sink, log purged
//! ```
//!
//! A broken transfer goes on where it was: the sink keeps what it has, and the manifest says what is still wanted.

use super::{
    machine::{SnapshotData, snapshot_meta},
    network::{decode, encode},
    types::{Raft, RaftLogId, RaftVote, Types},
};
use crate::peer::{PeerError, Peers, kind};
use bytes::Bytes;
use model::{Applied, NodeId, ShardId, SnapshotSource, StateMachine};
use openraft::alias;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::sync::watch;

/// Bytes that are asked for at once.
const READ_BYTES: usize = 1 << 20;
const CALL_PATIENCE: Duration = Duration::from_secs(10);
/// Attempts at one read before the transfer rests until the next offer.
const READ_ATTEMPTS: u32 = 5;
/// Snapshots that a node holds open for others; the one opened first is closed for one more.
const OPEN_MAX: usize = 16;

/// "You need this; ask me for it."
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct SnapshotOffer {
    pub(crate) vote: RaftVote,
    pub(crate) last_log_id: Option<RaftLogId>,
}

/// How the follower gets on.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum OfferAnswer {
    /// So many bytes were received.
    Receiving(u64),
    /// It is installed, or was not needed; this is the follower's vote.
    Done(RaftVote),
    /// It did not work.
    Failed(String),
}

#[derive(Serialize, Deserialize)]
struct Opened {
    id: u64,
    log_id: Option<(u64, u64)>,
    membership: Bytes,
    manifest: Bytes,
}

#[derive(Serialize, Deserialize)]
struct Read {
    id: u64,
    part: u32,
    offset: u64,
    max: u32,
}

/// Progress of a transfer, to be seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SnapshotProgress {
    /// Bytes received so far.
    pub received_bytes: u64,
    /// Bytes that were wanted when it began.
    pub wanted_bytes: u64,
}

enum Transfer {
    Running { vote: RaftVote, received: Arc<AtomicU64>, wanted: Arc<AtomicU64> },
    Ended(OfferAnswer),
}

struct Lent {
    shard: ShardId,
    to: NodeId,
    source: Arc<dyn SnapshotSource>,
}

/// Both sides of all transfers of a node.
pub(crate) struct Snapshots {
    peers: Peers,
    /// Bytes per second that one transfer may receive; 0 for as fast as it goes.
    rate: u64,
    transfers: Mutex<BTreeMap<ShardId, Transfer>>,
    lent: Mutex<(u64, BTreeMap<u64, Lent>)>,
    stop: watch::Receiver<bool>,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Snapshots {
    pub(crate) fn new(peers: Peers, rate: u64, stop: watch::Receiver<bool>) -> Arc<Snapshots> {
        Arc::new(Snapshots { peers, rate, transfers: Mutex::default(), lent: Mutex::default(), stop })
    }

    /// Transfers under way.
    pub(crate) fn progress(&self) -> BTreeMap<ShardId, SnapshotProgress> {
        let transfers = lock(&self.transfers);
        let running = transfers.iter().filter_map(|(shard, transfer)| match transfer {
            Transfer::Running { received, wanted, .. } => Some((
                *shard,
                SnapshotProgress {
                    received_bytes: received.load(Ordering::Relaxed),
                    wanted_bytes: wanted.load(Ordering::Relaxed),
                },
            )),
            Transfer::Ended(_) => None,
        });
        running.collect()
    }

    /// Answers an offer; begins the transfer if none is under way.
    pub(crate) fn offered(
        self: &Arc<Self>,
        from: NodeId,
        shard: ShardId,
        body: &[u8],
        raft: &Raft,
        state: &Arc<dyn StateMachine>,
    ) -> Result<Bytes, String> {
        let offer: SnapshotOffer = decode(body)?;
        let mut transfers = lock(&self.transfers);
        match transfers.get(&shard) {
            Some(Transfer::Running { vote, received, .. }) if *vote == offer.vote => {
                return encode(&OfferAnswer::Receiving(received.load(Ordering::Relaxed)));
            }
            Some(Transfer::Running { .. }) => {
                return encode(&OfferAnswer::Failed(
                    "a snapshot of another leader is being received".to_owned(),
                ));
            }
            Some(Transfer::Ended(answer)) => {
                let answer = encode(answer);
                transfers.remove(&shard);
                return answer;
            }
            None => {}
        }
        let (received, wanted) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let running =
            Transfer::Running { vote: offer.vote, received: received.clone(), wanted: wanted.clone() };
        transfers.insert(shard, running);
        let (us, raft, state, mut stop) = (self.clone(), raft.clone(), state.clone(), self.stop.clone());
        tokio::spawn(async move {
            let pulled = tokio::select! {
                pulled = us.pull(from, shard, offer.vote, &raft, &state, &received, &wanted) => pulled,
                _ = stop.wait_for(|stop| *stop) => return,
            };
            let answer = match pulled {
                Ok(vote) => OfferAnswer::Done(vote),
                Err(reason) => {
                    tracing::warn!(%shard, leader = %from, reason, "receiving a snapshot failed");
                    OfferAnswer::Failed(reason)
                }
            };
            lock(&us.transfers).insert(shard, Transfer::Ended(answer));
        });
        encode(&OfferAnswer::Receiving(0))
    }

    #[expect(clippy::too_many_arguments, reason = "one transfer's whole context, called once")]
    async fn pull(
        &self,
        leader: NodeId,
        shard: ShardId,
        vote: RaftVote,
        raft: &Raft,
        state: &Arc<dyn StateMachine>,
        received: &AtomicU64,
        wanted: &AtomicU64,
    ) -> Result<RaftVote, String> {
        let text = |error: PeerError| error.to_string();
        let opened = self
            .peers
            .ask(leader, kind::SNAPSHOT_OPEN, shard, Bytes::new(), CALL_PATIENCE)
            .await
            .map_err(text)?;
        let opened: Opened = decode(&opened)?;
        let log_id = opened
            .log_id
            .map(|(term, index)| model::LogId { term: model::Term(term), index: model::LogIndex(index) });
        let meta = snapshot_meta(&Applied { log_id, membership: opened.membership })
            .map_err(|error| error.to_string())?;
        let mut sink = state.begin_install(opened.manifest).map_err(|error| error.to_string())?;
        let parts = sink.wanted();
        wanted.store(parts.iter().map(|part| part.length.saturating_sub(part.from)).sum(), Ordering::Relaxed);
        tracing::info!(%shard, %leader, parts = parts.len(), bytes = wanted.load(Ordering::Relaxed), "receiving a snapshot");
        for part in parts {
            let mut offset = part.from;
            while offset < part.length {
                let read = Read { id: opened.id, part: part.part, offset, max: READ_BYTES as u32 };
                let bytes = self.read_part(leader, shard, &read).await?;
                if bytes.is_empty() || bytes.len() as u64 > part.length - offset {
                    return Err(format!("part {} ends at {offset}, expected {}", part.part, part.length));
                }
                sink.write(part.part, offset, &bytes).map_err(|error| error.to_string())?;
                offset += bytes.len() as u64;
                received.fetch_add(bytes.len() as u64, Ordering::Relaxed);
                if self.rate > 0 {
                    tokio::time::sleep(Duration::from_secs_f64(bytes.len() as f64 / self.rate as f64)).await;
                }
            }
        }
        let snapshot = alias::SnapshotOf::<Types, _> { meta, snapshot: SnapshotData(Some(sink)) };
        let answer = raft.install_full_snapshot(vote, snapshot).await.map_err(|error| error.to_string())?;
        Ok(answer.vote)
    }

    async fn read_part(&self, leader: NodeId, shard: ShardId, read: &Read) -> Result<Bytes, String> {
        let mut attempt = 0;
        loop {
            match self.peers.ask(leader, kind::SNAPSHOT_READ, shard, encode(read)?, CALL_PATIENCE).await {
                Ok(bytes) => return Ok(bytes),
                Err(PeerError::Refused(reason)) => return Err(reason),
                Err(error) if attempt >= READ_ATTEMPTS => return Err(error.to_string()),
                Err(_) => attempt += 1,
            }
            tokio::time::sleep(Duration::from_millis(200) * attempt).await;
        }
    }

    /// Opens the last checkpoint for a follower. What it had open before is closed.
    pub(crate) fn open(
        &self,
        to: NodeId,
        shard: ShardId,
        state: &Arc<dyn StateMachine>,
    ) -> Result<Bytes, String> {
        let source: Arc<dyn SnapshotSource> =
            state.open_snapshot().map_err(|error| error.to_string())?.into();
        let applied = source.applied();
        let mut lent = lock(&self.lent);
        lent.1.retain(|_, lent| lent.shard != shard || lent.to != to);
        if lent.1.len() >= OPEN_MAX {
            lent.1.pop_first();
        }
        lent.0 += 1;
        let id = lent.0;
        let log_id = applied.log_id.map(|id| (id.term.0, id.index.0));
        let opened = Opened { id, log_id, membership: applied.membership, manifest: source.manifest() };
        lent.1.insert(id, Lent { shard, to, source });
        encode(&opened)
    }

    /// Reads from what [`Snapshots::open`] opened.
    pub(crate) fn read(&self, shard: ShardId, body: &[u8]) -> Result<Bytes, String> {
        let read: Read = decode(body)?;
        let source = lock(&self.lent)
            .1
            .get(&read.id)
            .filter(|lent| lent.shard == shard)
            .map(|lent| lent.source.clone());
        let source = source.ok_or("the snapshot is no longer open")?;
        source
            .read(read.part, read.offset, (read.max as usize).min(READ_BYTES))
            .map_err(|error| error.to_string())
    }
}
