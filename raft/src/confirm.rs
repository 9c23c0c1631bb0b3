//! Read indexes in one round: members say at once, for all groups, up to where their logs reach.
//!
//! ```text
//!  asker ──shards──▶ member 1 (itself): reaches 118 ─┐
//!        ──shards──▶ member 2: reaches 120           ├─▶ 120: all that a majority had before the question
//!                    member 3: (not asked)          ─┘
//! ```
//!
//! [`crate::reach`] has the argument. Only as many are asked as make a majority with the asker, those first that lead
//! most; the others when an answer is late, or when what was heard before was not applied in time. No leader is needed
//! and no term is compared: what a leader has applied would not do, because a follower may have applied more and shown
//! it, when the leader's own disk is slow or full.
//!
//! Nothing here trusts a clock for what is true, only for whom to ask; and openraft is not asked: an answer is read from
//! what its log and its state machine were given.

use crate::{
    engine::network::{decode, encode},
    group::Group,
    node::Inner,
    peer::kind,
    reach::{Reach, reached},
    status::GroupRole,
};
use bytes::Bytes;
use futures::{StreamExt, stream::FuturesUnordered};
use model::{BoxFuture, LogIndex, NodeId, ShardId};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, PoisonError},
    time::Duration,
};
use tokio::time::sleep;

/// Groups that may be asked for in one request.
pub(crate) const SHARDS_MAX: usize = 1024;
/// Who was late is not asked first again for so long.
const TARDY: Duration = Duration::from_secs(1);

/// What a member says of a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Word {
    pub(crate) shard: u32,
    /// Nothing while its members may be changing.
    pub(crate) reach: Option<Reach>,
}

/// Which members were late, and until when they are not asked first.
#[derive(Debug, Default)]
pub(crate) struct Tardy(Mutex<BTreeMap<NodeId, Duration>>);

impl Tardy {
    fn at(&self, now: Duration) -> BTreeSet<NodeId> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, until| *until > now);
        all.keys().copied().collect()
    }

    fn note(&self, node: NodeId, now: Duration) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(node, now + TARDY);
    }
}

/// What is asked about: the groups' numbers and, of each, the voters and the leader as they are known here.
type Asked = Vec<(BTreeSet<NodeId>, Option<NodeId>)>;

/// In which order the other voters are asked, and how many of them at once: with `us`, a majority of each group.
fn order(groups: &Asked, us: Option<NodeId>, tardy: &BTreeSet<NodeId>) -> (Vec<NodeId>, usize) {
    let mut led: BTreeMap<NodeId, usize> = BTreeMap::new();
    for (voters, leader) in groups {
        for voter in voters.iter().filter(|voter| Some(**voter) != us) {
            *led.entry(*voter).or_default() += usize::from(*leader == Some(*voter));
        }
    }
    let mut order: Vec<NodeId> = led.keys().copied().collect();
    // Among equals the next one, so that not everybody asks the same.
    order.sort_by_key(|node| {
        (tardy.contains(node), usize::MAX - led[node], us.is_some_and(|us| *node < us), *node)
    });
    let enough = |asked: &[NodeId]| {
        groups.iter().all(|(voters, _)| {
            let heard = voters.iter().filter(|voter| Some(**voter) == us || asked.contains(voter));
            heard.count() * 2 > voters.len()
        })
    };
    let first = (0..=order.len()).find(|count| enough(&order[..*count])).unwrap_or(order.len());
    (order, first)
}

/// Who is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asking {
    /// As few as are enough, others only when these are late.
    Few,
    /// All at once, and whoever answers in time counts.
    All,
}

fn word(group: &Group) -> Word {
    {
        let status = group.status.borrow();
        if status.role == GroupRole::Leader {
            group.tail.meet(status.term);
        }
    }
    let applied = *group.applied.borrow();
    Word { shard: group.shard.0, reach: group.tail.told(applied) }
}

impl Inner {
    fn words(&self, shards: &[u32]) -> Vec<Word> {
        if self.is_fenced() {
            return Vec::new();
        }
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

    /// The read indexes that one round finds. It may take as long as a leader is silent between two heartbeats, and those
    /// who were asked first a small part of that.
    pub(crate) async fn confirm(&self, shards: &[ShardId], asking: Asking) -> BTreeMap<ShardId, LogIndex> {
        let patience = self.options.timing.heartbeat;
        let hedge = patience * 2 / 15;
        let numbers: Vec<u32> = shards.iter().map(|shard| shard.0).collect();
        let Ok(body) = encode(&numbers) else { return BTreeMap::new() };
        let us = self.us.borrow().node;
        let mut round = Round::new(shards);
        if let Some(us) = us
            && round.hear(us, self.words(&numbers))
            && asking == Asking::Few
        {
            return round.found; // a cluster of one
        }
        let groups = shards.iter().filter_map(|shard| self.group(*shard)).map(|group| {
            let status = group.status.borrow();
            (status.voters.clone(), status.leader)
        });
        let clock = &self.ports.clock;
        let (order, enough) = order(&groups.collect(), us, &self.tardy.at(clock.monotonic()));
        let first = if asking == Asking::All { order.len() } else { enough };
        let mut asked: FuturesUnordered<BoxFuture<'static, (NodeId, Vec<Word>)>> = FuturesUnordered::new();
        let ask = |member: NodeId| -> BoxFuture<'static, (NodeId, Vec<Word>)> {
            let answer = self.reading.ask(member, kind::CONFIRM, ShardId::META, body.clone(), patience);
            Box::pin(async move {
                // A member that says nothing confirms nothing.
                let words = answer.await.ok().and_then(|body| decode::<Vec<Word>>(&body).ok());
                (member, words.unwrap_or_default())
            })
        };
        let mut silent: BTreeSet<NodeId> = order[..first].iter().copied().collect();
        asked.extend(silent.iter().map(|member| ask(*member)));
        let mut others = &order[first..];
        let mut late = false;
        let mut hedge = std::pin::pin!(sleep(hedge));
        loop {
            tokio::select! {
                biased;
                said = asked.next() => match said {
                    Some((member, words)) => {
                        if !words.is_empty() {
                            silent.remove(&member);
                        }
                        if round.hear(member, words) && (asking == Asking::Few || late) {
                            return round.found;
                        }
                        if !asked.is_empty() {
                            continue;
                        }
                    }
                    None if others.is_empty() => return round.found,
                    None => {}
                },
                () = &mut hedge, if !late => {
                    late = true;
                    if asking == Asking::All && round.is_complete() {
                        return round.found;
                    }
                }
            }
            // Late, away, or of another mind: the others may know.
            let now = clock.monotonic();
            silent.iter().for_each(|member| self.tardy.note(*member, now));
            asked.extend(others.iter().map(|member| ask(*member)));
            others = &[];
        }
    }
}

/// What was heard so far.
struct Round {
    shards: Vec<ShardId>,
    words: BTreeMap<ShardId, BTreeMap<NodeId, Reach>>,
    found: BTreeMap<ShardId, LogIndex>,
}

impl Round {
    fn new(shards: &[ShardId]) -> Round {
        Round { shards: shards.to_vec(), words: BTreeMap::new(), found: BTreeMap::new() }
    }

    /// Takes a member's words in; whether all is found.
    fn hear(&mut self, member: NodeId, words: Vec<Word>) -> bool {
        for Word { shard, reach } in words {
            if let Some(reach) = reach {
                self.words.entry(ShardId(shard)).or_default().insert(member, reach);
            }
        }
        for shard in &self.shards {
            if let Some(words) = self.words.get(shard)
                && let Some(index) = reached(words.iter().map(|(node, reach)| (*node, reach)))
            {
                // Each is enough, also if a later word of newer members is not.
                self.found.entry(*shard).and_modify(|found| *found = index.min(*found)).or_insert(index);
            }
        }
        self.is_complete()
    }

    fn is_complete(&self) -> bool {
        self.shards.iter().all(|shard| self.found.contains_key(shard))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reach::Members;

    fn groups(leaders: &[u64]) -> Asked {
        let voters = BTreeSet::from([1, 2, 3].map(NodeId));
        leaders.iter().map(|leader| (voters.clone(), Some(NodeId(*leader)))).collect()
    }

    #[test]
    fn of_three_the_one_that_leads_most_is_asked() {
        let asked = |us: u64, leaders: &[u64], tardy: &[u64]| {
            let tardy = tardy.iter().copied().map(NodeId).collect();
            let (order, first) = order(&groups(leaders), Some(NodeId(us)), &tardy);
            order[..first].iter().map(|node| node.0).collect::<Vec<_>>()
        };
        assert_eq!(asked(1, &[1, 2, 3, 3], &[]), [3]);
        assert_eq!(asked(2, &[2, 2, 2], &[]), [3]);
        assert_eq!(asked(3, &[1, 2], &[]), [1]);
        assert_eq!(asked(1, &[1, 2, 3, 3], &[3]), [2]);
        assert_eq!(asked(1, &[3], &[2, 3]), [3]);
    }

    #[test]
    fn who_is_no_voter_asks_a_majority_of_the_voters() {
        assert_eq!(order(&groups(&[2]), Some(NodeId(4)), &BTreeSet::new()).1, 2);
        assert_eq!(order(&groups(&[2]), None, &BTreeSet::new()).1, 2);
    }

    fn reaching(last: u64) -> Vec<Word> {
        let members = Members { index: 3, voters: vec![vec![1, 2, 3]] };
        vec![Word { shard: 1, reach: Some(Reach { last, members }) }]
    }

    #[test]
    fn the_farther_of_two_logs_of_three_counts() {
        let mut round = Round::new(&[ShardId(1)]);
        assert!(!round.hear(NodeId(1), reaching(118)));
        assert!(round.hear(NodeId(2), reaching(120)));
        assert_eq!(round.found[&ShardId(1)], LogIndex(120));
    }

    #[test]
    fn of_three_the_nearest_two_count() {
        // The third has what a deposed leader left behind, and cannot be reached by the new one.
        let mut round = Round::new(&[ShardId(1)]);
        assert!(!round.hear(NodeId(1), reaching(105)));
        assert!(round.hear(NodeId(2), reaching(110)));
        assert!(round.hear(NodeId(3), reaching(106)));
        assert_eq!(round.found[&ShardId(1)], LogIndex(106));
    }

    #[test]
    fn who_says_nothing_of_its_log_is_not_counted() {
        let mut round = Round::new(&[ShardId(1)]);
        assert!(!round.hear(NodeId(1), reaching(118)));
        assert!(!round.hear(NodeId(2), vec![Word { shard: 1, reach: None }]));
        assert!(round.hear(NodeId(3), reaching(117)));
        assert_eq!(round.found[&ShardId(1)], LogIndex(118));
    }
}
