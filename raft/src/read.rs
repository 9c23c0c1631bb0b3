//! Read indexes: up to where a node must have applied before it may answer with everything acknowledged or shown so far.
//!
//! ```text
//!  round of confirm ─▶ index in a majority's logs ─▶ applied here?  yes: that is it
//!        ▲                                              │ not within 50 ms
//!        └── the lowest of all rounds counts ◀──────────┘ until the caller's patience ends
//! ```
//!
//! Each round's index is enough, because it was in the logs after the question. As a rule the first is applied in a few
//! milliseconds. It may be in vain, too: an entry that a deposed leader left behind is never committed, and is gone from
//! the logs once the next leader has reached them. So rounds are repeated, and the lowest index is waited for.
//! Nothing here trusts a clock: who was paused or cut off finds no majority.

use crate::{RaftNode, confirm::Asking};
use futures::future::join_all;
use model::{LogIndex, ShardId};
use std::{collections::BTreeMap, time::Duration};
use tokio::time::{sleep, timeout};

/// Between two rounds when no majority answered.
const PAUSE: Duration = Duration::from_millis(15);
/// How long an entry that is in a log may take to be committed and applied here: as a rule it takes what is left of a
/// write, a few milliseconds.
const COMMIT: Duration = Duration::from_millis(50);

/// Not all read indexes were got in time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("shard {} was not read up to date in time: {}", .shard, .reason)]
pub struct ReadIndexError {
    /// The first shard without one.
    pub shard: ShardId,
    /// Why not.
    pub reason: String,
}

impl RaftNode {
    /// For each shard, an index that contains everything acknowledged or shown before the call, and is applied here.
    /// Works on any node that hosts the shards, with any majority of their voters.
    ///
    /// # Errors
    /// If one of them is not reached within `deadline`: no majority answers, or nobody leads who could commit what is in
    /// its logs.
    pub async fn read_index(
        &self,
        shards: &[ShardId],
        deadline: Duration,
    ) -> Result<BTreeMap<ShardId, LogIndex>, ReadIndexError> {
        let mut found = BTreeMap::new();
        let mut lowest: BTreeMap<ShardId, LogIndex> = BTreeMap::new();
        let search = async {
            loop {
                let missing: Vec<ShardId> =
                    shards.iter().filter(|shard| !found.contains_key(*shard)).copied().collect();
                if missing.is_empty() {
                    return;
                }
                // A member that was asked may have what a deposed leader left behind, and keep it: the others know better.
                let is_first = missing.iter().all(|shard| !lowest.contains_key(shard));
                let round = self.0.confirm(&missing, if is_first { Asking::Few } else { Asking::All }).await;
                let is_mute = round.is_empty();
                for (shard, index) in round {
                    lowest.entry(shard).and_modify(|lowest| *lowest = index.min(*lowest)).or_insert(index);
                }
                let waiting = missing.iter().filter_map(|shard| Some((*shard, *lowest.get(shard)?)));
                let waited = waiting.map(async |(shard, index)| {
                    self.wait_applied(shard, index, COMMIT).await.then_some((shard, index))
                });
                found.extend(join_all(waited).await.into_iter().flatten());
                if is_mute {
                    sleep(PAUSE).await;
                }
            }
        };
        let complete = timeout(deadline, search).await.is_ok();
        match shards.iter().find(|shard| !found.contains_key(*shard)) {
            Some(shard) if !complete => {
                model::point!("read.in-vain");
                let reason = match lowest.get(shard) {
                    Some(index) => format!(
                        "entry {} of a majority's logs is not applied here; the shard may be without a leader, or this node lags",
                        index.0
                    ),
                    None => "no majority of its replicas answered".to_owned(),
                };
                Err(ReadIndexError { shard: *shard, reason })
            }
            _ => Ok(found),
        }
    }
}
