//! Read indexes: up to where a node must have applied before it may answer with everything acknowledged so far.
//!
//! One round of [`crate::confirm`] gets them all as a rule. Where it does not, or says an index that is not committed
//! soon, a second one asks for leaders. Where that does not either (a leader is being elected, or reaches a majority
//! that this node does not reach), each leader is asked once for all its groups and confirms its leadership with a
//! round of heartbeats, until the caller's patience ends. Nothing here trusts a clock: a leader that was paused or cut
//! off finds no majority.

use crate::{
    RaftNode,
    confirm::{ReadIndex, SHARDS_MAX, Whom},
    engine::network::{decode, encode},
    node::Inner,
    peer::kind,
};
use bytes::Bytes;
use futures::future::join_all;
use model::{LogIndex, NodeId, ShardId};
use openraft::ReadPolicy;
use std::{collections::BTreeMap, time::Duration};
use tokio::time::{sleep, timeout};

/// Between two attempts, while leaders are being elected.
const PAUSE: Duration = Duration::from_millis(15);
/// How long an entry that is in a log may take to be committed and applied here: as a rule it takes what is left of a
/// write, a few milliseconds. One that a deposed leader left behind may never be.
const COMMIT: Duration = Duration::from_millis(50);
/// How long one attempt at one leader may take.
const ATTEMPT: Duration = Duration::from_millis(1000);

/// Not all read indexes were got in time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no leader of shard {} confirmed its leadership in time{}", .shard, .reason)]
pub struct ReadIndexError {
    /// The first shard without one.
    pub shard: ShardId,
    /// What was seen last, with a leading colon, or nothing.
    pub reason: String,
}

/// By shard, the index or why there is none.
type Answers = Vec<(u32, Result<u64, String>)>;

impl Inner {
    /// The read indexes of groups led here.
    async fn led_indexes(&self, shards: Vec<ShardId>) -> Answers {
        let ask = |shard: ShardId| async move {
            let Some(group) = self.group(shard) else { return (shard.0, Err("not hosted here".to_owned())) };
            let index = group.raft.get_read_log_id(ReadPolicy::ReadIndex).await;
            (shard.0, index.map(|(id, _)| id.index()).map_err(|error| error.to_string()))
        };
        join_all(shards.into_iter().map(ask)).await
    }

    pub(crate) async fn answer_read_index(&self, body: &[u8]) -> Result<Bytes, String> {
        let shards: Vec<u32> = decode(body)?;
        if shards.len() > SHARDS_MAX {
            return Err(format!("more than {SHARDS_MAX} shards asked for"));
        }
        encode(&self.led_indexes(shards.into_iter().map(ShardId).collect()).await)
    }

    /// Asks one leader for its shards.
    async fn ask_leader(&self, leader: NodeId, shards: Vec<ShardId>) -> Answers {
        if self.us.borrow().node == Some(leader) {
            let asked = shards.clone();
            return timeout(ATTEMPT, self.led_indexes(shards)).await.unwrap_or_else(|_| {
                asked.into_iter().map(|shard| (shard.0, Err("no majority answered".to_owned()))).collect()
            });
        }
        let body: Vec<u32> = shards.iter().map(|shard| shard.0).collect();
        let asked = async {
            let body = encode(&body)?;
            let asked = self.peers.ask(leader, kind::READ_INDEX, ShardId::META, body, ATTEMPT);
            decode::<Answers>(&asked.await.map_err(|error| error.to_string())?)
        };
        match asked.await {
            Ok(answers) => answers,
            Err(reason) => shards.into_iter().map(|shard| (shard.0, Err(reason.clone()))).collect(),
        }
    }
}

impl RaftNode {
    /// What a majority says, as far as it is applied somewhere, or soon here.
    async fn first_round(&self, shards: &[ShardId]) -> BTreeMap<ShardId, LogIndex> {
        let round = self.0.confirm(shards, Whom::Majority).await;
        let mut found = BTreeMap::new();
        let mut logged = Vec::new();
        for (shard, index) in round {
            match index {
                ReadIndex::Logged(index) if !self.has_applied(shard, index) => logged.push((shard, index)),
                ReadIndex::Applied(index) | ReadIndex::Logged(index) => _ = found.insert(shard, index),
            }
        }
        let waited = logged.into_iter().map(async |(shard, index)| {
            self.wait_applied(shard, index, COMMIT).await.then_some((shard, index))
        });
        found.extend(join_all(waited).await.into_iter().flatten());
        found
    }

    /// For each shard, an index that contains everything acknowledged before the call. Works on any node that hosts
    /// the shards.
    ///
    /// # Errors
    /// If one of them has no leader with a majority within `deadline`.
    pub async fn read_index(
        &self,
        shards: &[ShardId],
        deadline: Duration,
    ) -> Result<BTreeMap<ShardId, LogIndex>, ReadIndexError> {
        let mut found = BTreeMap::new();
        let mut reasons: BTreeMap<ShardId, String> = BTreeMap::new();
        let search = async {
            found = self.first_round(shards).await;
            let missing: Vec<ShardId> =
                shards.iter().filter(|shard| !found.contains_key(*shard)).copied().collect();
            if !missing.is_empty() {
                for (shard, index) in self.0.confirm(&missing, Whom::Leaders).await {
                    let (ReadIndex::Applied(index) | ReadIndex::Logged(index)) = index;
                    found.insert(shard, index);
                }
            }
            while !shards.iter().all(|shard| found.contains_key(shard)) {
                model::point!("read.leaders-asked");
                let mut by_leader: BTreeMap<NodeId, Vec<ShardId>> = BTreeMap::new();
                for shard in shards.iter().filter(|shard| !found.contains_key(*shard)) {
                    match self.status(*shard).and_then(|status| status.leader) {
                        Some(leader) => by_leader.entry(leader).or_default().push(*shard),
                        None => drop(reasons.insert(*shard, ": no leader is known".to_owned())),
                    }
                }
                let asked = by_leader.into_iter().map(|(leader, shards)| self.0.ask_leader(leader, shards));
                for (shard, answer) in join_all(asked).await.into_iter().flatten() {
                    match answer {
                        Ok(index) => drop(found.insert(ShardId(shard), LogIndex(index))),
                        Err(reason) => drop(reasons.insert(ShardId(shard), format!(": {reason}"))),
                    }
                }
                if shards.iter().any(|shard| !found.contains_key(shard)) {
                    sleep(PAUSE).await;
                }
            }
        };
        let complete = timeout(deadline, search).await.is_ok();
        let missing = shards.iter().find(|shard| !found.contains_key(*shard));
        match missing {
            Some(shard) if !complete => {
                Err(ReadIndexError { shard: *shard, reason: reasons.remove(shard).unwrap_or_default() })
            }
            _ => Ok(found),
        }
    }
}
