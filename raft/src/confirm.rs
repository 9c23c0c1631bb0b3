//! Read indexes in one round: members say at once, for all groups, in which term they voted last, how far they have
//! applied what they lead, and up to where their logs reach.
//!
//! ```text
//!  asker ──shards──▶ member 1: term 7, leads in term 7, applied 120    ─┐
//!        ──shards──▶ member 2: term 7                                   ├─▶ 120: a majority voted in no later term
//!                    member 3: (not asked)                             ─┘
//! ```
//!
//! Only as many are asked as make a majority with the asker, those first that lead most. Where the leader of a group
//! is not among them, [`crate::reach`] tells what their logs say together. The others are asked when an answer is late.
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
//! clock for what is true, only for whom to ask; and openraft is not asked: an answer is read from what it published.

use crate::{
    engine::network::{decode, encode},
    group::Group,
    node::Inner,
    peer::kind,
    reach::{Reach, reached},
};
use bytes::Bytes;
use futures::{StreamExt, stream::FuturesUnordered};
use model::{BoxFuture, LogIndex, NodeId, ShardId};
use openraft::{ServerState, async_runtime::WatchReceiver};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::time::sleep;

/// Groups that may be asked for in one request.
pub(crate) const SHARDS_MAX: usize = 1024;
/// How long the round may take: then leaders are asked one by one, with patience.
const ROUND: Duration = Duration::from_millis(150);
/// How long those who were asked first may take, before the others are asked, too.
const HEDGE: Duration = Duration::from_millis(20);
/// Who was late is not asked first again for so long.
const TARDY: Duration = Duration::from_secs(1);

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
    reach: Option<Reach>,
}

/// An index that contains everything acknowledged before the question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReadIndex {
    /// Applied by a leader.
    Applied(LogIndex),
    /// In the log of a member; it may never be committed.
    Logged(LogIndex),
}

/// Whose words are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whom {
    /// A majority, and what it says of its logs is enough.
    Majority,
    /// Everybody, and leaders have to be among them.
    Leaders,
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
    let applied = group.applied.borrow().map(|id| id.index);
    Word { shard: group.shard.0, voted: group.voted.get(), lead, reach: group.tail.told(applied) }
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

    /// The read indexes that one round finds.
    pub(crate) async fn confirm(&self, shards: &[ShardId], whom: Whom) -> BTreeMap<ShardId, ReadIndex> {
        let numbers: Vec<u32> = shards.iter().map(|shard| shard.0).collect();
        let Ok(body) = encode(&numbers) else { return BTreeMap::new() };
        let us = self.us.borrow().node;
        let mut round = Round::new(shards, whom);
        if let Some(us) = us
            && round.hear(us, self.words(&numbers))
        {
            return round.found; // a cluster of one
        }
        let groups = shards.iter().filter_map(|shard| self.group(*shard)).map(|group| {
            let status = group.status.borrow();
            (status.voters.clone(), status.leader)
        });
        let clock = &self.ports.clock;
        let (order, first) = order(&groups.collect(), us, &self.tardy.at(clock.monotonic()));
        let first = if whom == Whom::Leaders { order.len() } else { first };
        let mut asked: FuturesUnordered<BoxFuture<'static, (NodeId, Vec<Word>)>> = FuturesUnordered::new();
        let ask = |member: NodeId| -> BoxFuture<'static, (NodeId, Vec<Word>)> {
            let answer = self.reading.ask(member, kind::CONFIRM, ShardId::META, body.clone(), ROUND);
            Box::pin(async move {
                // A member that says nothing confirms nothing.
                let words = answer.await.ok().and_then(|body| decode::<Vec<Word>>(&body).ok());
                (member, words.unwrap_or_default())
            })
        };
        let mut silent: BTreeSet<NodeId> = order[..first].iter().copied().collect();
        asked.extend(silent.iter().map(|member| ask(*member)));
        let mut others = &order[first..];
        let mut hedge = std::pin::pin!(sleep(HEDGE));
        loop {
            tokio::select! {
                biased;
                said = asked.next() => match said {
                    Some((member, words)) => {
                        if !words.is_empty() {
                            silent.remove(&member);
                        }
                        if round.hear(member, words) {
                            return round.found;
                        }
                        if !asked.is_empty() {
                            continue;
                        }
                    }
                    None if others.is_empty() => return round.found,
                    None => {}
                },
                () = &mut hedge, if !others.is_empty() => {}
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
    whom: Whom,
    words: BTreeMap<ShardId, BTreeMap<NodeId, Word>>,
    found: BTreeMap<ShardId, ReadIndex>,
}

impl Round {
    fn new(shards: &[ShardId], whom: Whom) -> Round {
        Round { shards: shards.to_vec(), whom, words: BTreeMap::new(), found: BTreeMap::new() }
    }

    /// Takes a member's words in; whether all is found.
    fn hear(&mut self, member: NodeId, words: Vec<Word>) -> bool {
        for word in words {
            self.words.entry(ShardId(word.shard)).or_default().insert(member, word);
        }
        for shard in &self.shards {
            if !self.found.contains_key(shard)
                && let Some(index) = self.words.get(shard).and_then(|words| self.read_index(words))
            {
                self.found.insert(*shard, index);
            }
        }
        self.shards.iter().all(|shard| self.found.contains_key(shard))
    }

    fn read_index(&self, words: &BTreeMap<NodeId, Word>) -> Option<ReadIndex> {
        // What a leader has applied will be applied here; what is in a log is farther, and may be in vain.
        let logged = || reached(words.iter().filter_map(|(node, word)| Some((*node, word.reach.as_ref()?))));
        confirmed(words).map(ReadIndex::Applied).or_else(|| match self.whom {
            Whom::Majority => logged().map(ReadIndex::Logged),
            Whom::Leaders => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reach::Members;
    use proptest::prelude::*;

    fn silent(voted: u64) -> Word {
        Word { shard: 1, voted, lead: None, reach: None }
    }

    fn leading(term: u64, applied: u64, voters: &[&[u64]]) -> Word {
        let voters = voters.iter().map(|voters| voters.to_vec()).collect();
        Word { shard: 1, voted: term, lead: Some(Lead { term, applied, voters }), reach: None }
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

    #[test]
    fn the_leader_counts_before_the_logs() {
        let logged = Reach { last: 130, members: Members { index: 3, voters: vec![vec![1, 2, 3]] } };
        let mut round = Round::new(&[ShardId(1)], Whom::Majority);
        let lead = Word { reach: Some(logged.clone()), ..leading(7, 120, &[&[1, 2, 3]]) };
        assert!(!round.hear(NodeId(1), vec![lead]));
        assert!(round.hear(NodeId(2), vec![Word { reach: Some(logged), ..silent(7) }]));
        assert_eq!(round.found[&ShardId(1)], ReadIndex::Applied(LogIndex(120)));
    }

    #[test]
    fn without_a_leader_the_logs_count_unless_leaders_were_asked_for() {
        let logged = Reach { last: 130, members: Members { index: 3, voters: vec![vec![1, 2, 3]] } };
        let word = || vec![Word { reach: Some(logged.clone()), ..silent(7) }];
        for (whom, found) in [(Whom::Majority, true), (Whom::Leaders, false)] {
            let mut round = Round::new(&[ShardId(1)], whom);
            assert!(!round.hear(NodeId(1), word()));
            assert_eq!(round.hear(NodeId(2), word()), found);
        }
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
