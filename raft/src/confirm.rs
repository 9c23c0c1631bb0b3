//! Read indexes in one round: every member says at once, for all groups, in which term it voted last and how far it
//! has applied what it leads.
//!
//! ```text
//!  asker ──shards──▶ member 1: term 7, leads in term 7, applied 120    ─┐
//!        ──shards──▶ member 2: term 7                                   ├─▶ 120: a majority voted in no later term
//!        ──shards──▶ member 3: (silent)                                ─┘
//! ```
//!
//! Why 120 contains everything acknowledged before the question. An entry is acknowledged by a leader that has
//! applied it.
//!
//! - Acknowledged in term 7: by this leader, in this process (openraft's `enable_leader_restore` is off, so a process
//!   that starts again has to win a later term), which answered after that.
//! - Acknowledged in an earlier term: it stands before the first entry of term 7, and the leader has applied one.
//! - Acknowledged in a later term: its leader was elected by a majority, each member of which said its later vote to
//!   its [`VotedTerm`] before it granted it. That majority shares a member with ours, which would have said so.
//!
//! Members are those of the configuration that the leader uses, both of them during a change. Nothing here trusts a
//! clock, and openraft is not asked: an answer is read from what it published.

use crate::{
    engine::network::{decode, encode},
    group::Group,
    node::Inner,
    peer::kind,
};
use bytes::Bytes;
use futures::{StreamExt, stream::FuturesUnordered};
use model::{BoxFuture, LogIndex, NodeId, ShardId};
use openraft::{ServerState, async_runtime::WatchReceiver};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// Groups that may be asked for in one request.
pub(crate) const SHARDS_MAX: usize = 1024;
/// How long the round may take: then leaders are asked one by one, with patience.
const ROUND: Duration = Duration::from_millis(150);

/// The latest term in which a group's replica here has voted or begun to vote. Raised before the vote can become known
/// to anybody else, never lowered.
#[derive(Clone, Debug, Default)]
pub(crate) struct VotedTerm(Arc<AtomicU64>);

impl VotedTerm {
    /// A vote of this term is about to be given, or was read from the log.
    pub(crate) fn raise(&self, term: u64) {
        self.0.fetch_max(term, Ordering::SeqCst);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}

/// What a leader says of a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Lead {
    /// It leads in this term, and has applied an entry of it.
    term: u64,
    applied: u64,
    /// The voters; both configurations during a change.
    voters: Vec<Vec<u64>>,
}

/// What a member says of a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Word {
    shard: u32,
    voted: u64,
    lead: Option<Lead>,
}

fn word(group: &Group) -> Word {
    let lead = {
        let metrics = group.raft.server_metrics();
        let metrics = metrics.borrow_watched();
        let term = metrics.vote.leader_id.term;
        let applied = group.applied.borrow().filter(|id| id.term.0 == term);
        applied.filter(|_| metrics.state == ServerState::Leader).map(|applied| Lead {
            term,
            applied: applied.index.0,
            voters: metrics
                .membership_config
                .membership()
                .get_joint_config()
                .iter()
                .map(|voters| voters.iter().copied().collect())
                .collect(),
        })
    };
    // Read last: a vote given meanwhile is told.
    Word { shard: group.shard.0, voted: group.voted.get(), lead }
}

/// The index that these words confirm, if they do.
fn confirmed(words: &BTreeMap<NodeId, Word>) -> Option<LogIndex> {
    let leads = words.values().filter_map(|word| word.lead.as_ref());
    let lead = leads.max_by_key(|lead| lead.term)?;
    let holds = |voter: &u64| words.get(&NodeId(*voter)).is_some_and(|word| word.voted <= lead.term);
    let majority = |voters: &Vec<u64>| voters.iter().filter(|voter| holds(voter)).count() * 2 > voters.len();
    (!lead.voters.is_empty() && lead.voters.iter().all(majority)).then_some(LogIndex(lead.applied))
}

impl Inner {
    fn words(&self, shards: &[u32]) -> Vec<Word> {
        let groups = shards.iter().filter_map(|shard| self.group(ShardId(*shard)));
        groups.map(|group| word(&group)).collect()
    }

    pub(crate) fn answer_confirm(&self, body: &[u8]) -> Result<Bytes, String> {
        let shards: Vec<u32> = decode(body)?;
        if shards.len() > SHARDS_MAX {
            return Err(format!("more than {SHARDS_MAX} shards asked for"));
        }
        encode(&self.words(&shards))
    }

    /// The read indexes that one round confirms.
    pub(crate) async fn confirm(&self, shards: &[ShardId]) -> BTreeMap<ShardId, LogIndex> {
        let us = self.us.borrow().node;
        let mut members: BTreeSet<NodeId> = BTreeSet::new();
        for group in shards.iter().filter_map(|shard| self.group(*shard)) {
            members.extend(group.status.borrow().voters.iter().filter(|voter| Some(**voter) != us));
        }
        let numbers: Vec<u32> = shards.iter().map(|shard| shard.0).collect();
        let mut found = BTreeMap::new();
        let Ok(body) = encode(&numbers) else { return found };
        let mut asked: FuturesUnordered<BoxFuture<'static, (NodeId, Vec<Word>)>> = FuturesUnordered::new();
        for member in members {
            let answer = self.peers.ask(member, kind::CONFIRM, ShardId::META, body.clone(), ROUND);
            asked.push(Box::pin(async move {
                // A member that says nothing confirms nothing.
                let words = answer.await.ok().and_then(|body| decode::<Vec<Word>>(&body).ok());
                (member, words.unwrap_or_default())
            }));
        }
        let mut by_shard: BTreeMap<ShardId, BTreeMap<NodeId, Word>> = BTreeMap::new();
        let mut said = us.map(|us| (us, self.words(&numbers)));
        loop {
            if let Some((member, words)) = said.take() {
                for word in words {
                    by_shard.entry(ShardId(word.shard)).or_default().insert(member, word);
                }
            }
            for shard in
                shards.iter().filter(|shard| !found.contains_key(*shard)).copied().collect::<Vec<_>>()
            {
                if let Some(index) = by_shard.get(&shard).and_then(confirmed) {
                    found.insert(shard, index);
                }
            }
            if shards.iter().all(|shard| found.contains_key(shard)) {
                return found;
            }
            said = asked.next().await;
            if said.is_none() {
                return found;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn silent(voted: u64) -> Word {
        Word { shard: 1, voted, lead: None }
    }

    fn leading(term: u64, applied: u64, voters: &[&[u64]]) -> Word {
        let voters = voters.iter().map(|voters| voters.to_vec()).collect();
        Word { shard: 1, voted: term, lead: Some(Lead { term, applied, voters }) }
    }

    fn heard(words: &[(u64, Word)]) -> Option<LogIndex> {
        confirmed(&words.iter().map(|(node, word)| (NodeId(*node), word.clone())).collect())
    }

    #[test]
    fn a_leader_and_one_other_of_three_confirm() {
        let lead = leading(7, 120, &[&[1, 2, 3]]);
        assert_eq!(heard(&[(1, lead.clone())]), None);
        assert_eq!(heard(&[(1, lead.clone()), (2, silent(7))]), Some(LogIndex(120)));
        assert_eq!(heard(&[(1, lead), (3, silent(4))]), Some(LogIndex(120)));
    }

    #[test]
    fn a_majority_without_a_leader_confirms_nothing() {
        assert_eq!(heard(&[(1, silent(7)), (2, silent(7)), (3, silent(7))]), None);
    }

    #[test]
    fn one_who_voted_later_does_not_confirm() {
        let old = leading(7, 120, &[&[1, 2, 3]]);
        assert_eq!(heard(&[(1, old.clone()), (2, silent(8))]), None);
        assert_eq!(heard(&[(1, old.clone()), (2, silent(8)), (3, silent(8))]), None);
        // One vote given in vain: no majority can have been behind it while these two held still.
        assert_eq!(heard(&[(1, old), (2, silent(8)), (3, silent(7))]), Some(LogIndex(120)));
    }

    #[test]
    fn a_leader_that_has_voted_for_another_does_not_count_for_itself() {
        let old = Word { voted: 8, ..leading(7, 120, &[&[1, 2, 3]]) };
        assert_eq!(heard(&[(1, old), (2, silent(7))]), None);
    }

    #[test]
    fn of_two_leaders_the_later_one_counts() {
        let (old, new) = (leading(7, 120, &[&[1, 2, 3]]), leading(8, 90, &[&[1, 2, 3]]));
        assert_eq!(heard(&[(1, old.clone()), (2, new.clone())]), Some(LogIndex(90)));
        assert_eq!(heard(&[(1, old), (2, new), (3, silent(9))]), Some(LogIndex(90)));
    }

    #[test]
    fn during_a_change_both_majorities_are_needed() {
        let lead = leading(7, 120, &[&[1, 2, 3], &[3, 4, 5]]);
        let old = [(1, lead), (2, silent(7)), (3, silent(7))];
        assert_eq!(heard(&old), None);
        assert_eq!(heard(&[&old[..], &[(4, silent(6))]].concat()), Some(LogIndex(120)));
        assert_eq!(heard(&[&old[..], &[(6, silent(6))]].concat()), None);
    }

    proptest! {
        /// Raft's own argument, played through: whoever could have been elected in a later term before the words were
        /// said is seen.
        #[test]
        fn a_later_leader_is_never_overlooked(
            voters in 1_u64..8,
            elected_by: u8,
            heard_of: u8,
        ) {
            let all: Vec<u64> = (1..=voters).collect();
            let elected: Vec<u64> = all.iter().copied().filter(|node| elected_by >> node & 1 == 1).collect();
            prop_assume!(elected.len() as u64 * 2 > voters);
            let words: Vec<(u64, Word)> = all
                .iter()
                .filter(|node| heard_of >> **node & 1 == 1)
                .map(|node| {
                    let voted = if elected.contains(node) { 8 } else { 7 };
                    let word = if *node == 1 { leading(7, 120, &[&all]) } else { silent(7) };
                    (*node, Word { voted, ..word })
                })
                .collect();
            prop_assert_eq!(heard(&words), None);
        }
    }
}
