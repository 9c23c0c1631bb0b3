//! Commands on their way to the shard's leader, wherever it is.

use super::{Node, calls};
use bytes::Bytes;
use model::{NodeId, ProposeError, Proposer, ShardId};
use raft::meta::{MetaCommand, MetaResponse};
use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};
use tokio::time::{sleep, timeout};

/// Between two attempts while there is no leader.
const PAUSE: Duration = Duration::from_millis(20);

/// Bytes of commands that this node proposed as a leader since the shard's last checkpoint.
#[derive(Debug, Default)]
pub(crate) struct ProposedBytes(Mutex<BTreeMap<ShardId, u64>>);

impl ProposedBytes {
    fn add(&self, shard: ShardId, bytes: usize) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(shard).or_default() += bytes as u64;
    }

    /// How many there are.
    pub(crate) fn since_checkpoint(&self, shard: ShardId) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&shard).copied().unwrap_or(0)
    }

    /// A checkpoint was made of the first `bytes`.
    pub(crate) fn take_off(&self, shard: ShardId, bytes: u64) {
        let mut proposed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        proposed.entry(shard).and_modify(|since| *since = since.saturating_sub(bytes));
    }
}

/// A command found no leader in time, or its outcome is not known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("shard {shard}: {reason}")]
pub(crate) struct NotAcknowledged {
    shard: ShardId,
    reason: String,
}

impl Node {
    /// Proposes on this node, which must lead the shard; counts the bytes towards the next checkpoint.
    pub(crate) async fn propose_here(
        &self,
        shard: ShardId,
        term: Option<model::Term>,
        command: Bytes,
    ) -> Result<Bytes, ProposeError> {
        self.proposed.add(shard, command.len());
        self.raft.propose(shard, term, command).await.map(|(_, response)| response)
    }

    /// Gets a command to the leader and waits for apply's response. Tries again while it is certain that the command
    /// was not taken; with `idempotent` also when that is not known.
    pub(crate) async fn propose_anywhere(
        &self,
        shard: ShardId,
        command: Bytes,
        idempotent: bool,
        patience: Duration,
    ) -> Result<Bytes, NotAcknowledged> {
        let clock = &self.ports.clock;
        let deadline = clock.monotonic() + patience;
        loop {
            let left = deadline.saturating_sub(clock.monotonic());
            if self.has_ended() {
                // Whoever waits here would wait in vain, and another node can serve him.
                return Err(NotAcknowledged { shard, reason: "this node is stopping".to_owned() });
            }
            let leader = self.raft.status(shard).and_then(|status| status.leader);
            let outcome = match leader {
                None => Err(ProposeError::Refused { reason: "no leader is known".to_owned(), leader: None }),
                Some(leader) if leader == self.id() => {
                    let proposed = timeout(left, self.propose_here(shard, None, command.clone())).await;
                    let late = |_| ProposeError::Unknown { reason: "no outcome in time".to_owned() };
                    proposed.map_err(late).and_then(|outcome| outcome)
                }
                Some(leader) => self.propose_there(leader, shard, &command, left).await,
            };
            let reason = match outcome {
                Ok(response) => return Ok(response),
                Err(ProposeError::Unknown { reason }) if !idempotent => {
                    return Err(NotAcknowledged { shard, reason });
                }
                Err(ProposeError::Unknown { reason } | ProposeError::Refused { reason, .. }) => reason,
            };
            if clock.monotonic() + PAUSE >= deadline {
                return Err(NotAcknowledged { shard, reason });
            }
            sleep(PAUSE).await;
        }
    }

    async fn propose_there(
        &self,
        leader: NodeId,
        shard: ShardId,
        command: &Bytes,
        patience: Duration,
    ) -> Result<Bytes, ProposeError> {
        let body = calls::encode_propose(shard, command);
        match self.raft.call(leader, calls::PROPOSE, body, patience).await {
            Ok(answer) => calls::decode_proposed(&answer),
            Err(error) if error.is_certain() => {
                Err(ProposeError::Refused { reason: error.to_string(), leader: None })
            }
            Err(error) => Err(ProposeError::Unknown { reason: error.to_string() }),
        }
    }

    /// Proposes to meta; its commands may all be said twice.
    pub(crate) async fn propose_meta(
        &self,
        command: &MetaCommand,
        patience: Duration,
    ) -> Result<MetaResponse, NotAcknowledged> {
        let answer = self.propose_anywhere(ShardId::META, command.encode(), true, patience).await?;
        MetaResponse::decode(&answer)
            .map_err(|error| NotAcknowledged { shard: ShardId::META, reason: error.to_string() })
    }
}
