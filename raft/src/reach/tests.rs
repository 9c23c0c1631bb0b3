use super::*;
use proptest::prelude::*;
use std::collections::BTreeSet;

fn reach(last: u64, index: u64, voters: &[&[u64]]) -> Reach {
    let voters = voters.iter().map(|voters| voters.to_vec()).collect();
    Reach { last, members: Members { index, voters } }
}

fn heard(words: &[(u64, &Reach)]) -> Option<LogIndex> {
    reached(words.iter().map(|(node, reach)| (NodeId(*node), *reach)))
}

#[test]
fn two_of_three_reach_as_far_as_the_farther() {
    let (near, far) = (reach(118, 3, &[&[1, 2, 3]]), reach(120, 3, &[&[1, 2, 3]]));
    assert_eq!(heard(&[]), None);
    assert_eq!(heard(&[(1, &far)]), None);
    assert_eq!(heard(&[(1, &near), (2, &far)]), Some(LogIndex(120)));
    assert_eq!(heard(&[(1, &far), (3, &near)]), Some(LogIndex(120)));
    assert_eq!(heard(&[(1, &far), (2, &far), (3, &near)]), Some(LogIndex(120)));
    assert_eq!(heard(&[(1, &near), (2, &far), (3, &near)]), Some(LogIndex(118)));
}

#[test]
fn who_is_no_voter_does_not_count() {
    let word = reach(120, 3, &[&[1, 2, 3]]);
    assert_eq!(heard(&[(1, &word), (4, &reach(130, 3, &[&[1, 2, 3]]))]), None);
}

#[test]
fn who_names_older_members_does_not_count() {
    let (old, new) = (reach(118, 3, &[&[1, 2, 3]]), reach(120, 9, &[&[1, 2, 4]]));
    assert_eq!(heard(&[(1, &new), (2, &old)]), None);
    assert_eq!(heard(&[(1, &new), (2, &old), (4, &new)]), Some(LogIndex(120)));
}

#[test]
fn both_majorities_are_needed_while_both_are_named() {
    let word = reach(120, 9, &[&[1, 2, 3], &[3, 4, 5]]);
    assert_eq!(heard(&[(1, &word), (2, &word), (3, &word)]), None);
    assert_eq!(heard(&[(1, &word), (3, &word), (5, &word)]), Some(LogIndex(120)));
}

fn members(index: u64) -> Option<Members> {
    Some(Members { index, voters: vec![vec![1, 2, 3]] })
}

/// A tail that has met the leader of term 1.
fn met() -> Tail {
    let tail = Tail::default();
    tail.meet(Term(1));
    tail
}

fn last(tail: &Tail, applied: u64) -> Option<u64> {
    tail.told(Some(LogId { term: Term(1), index: LogIndex(applied) })).map(|reach| reach.last)
}

#[test]
fn a_replica_is_silent_while_an_entry_about_members_is_not_applied() {
    let tail = met();
    assert_eq!(tail.told(None), None);
    tail.settle(members(0));
    tail.reach(LogIndex(7));
    assert_eq!(last(&tail, 5), Some(7));
    tail.accept_members(LogIndex(8));
    assert_eq!(last(&tail, 7), None);
    tail.reach(LogIndex(9));
    tail.settle(members(8));
    assert_eq!(last(&tail, 8), Some(9));
}

#[test]
fn a_replica_is_silent_after_its_start_until_it_has_applied_what_its_log_had() {
    let tail = met();
    tail.settle(members(0));
    tail.open(Some(LogIndex(7)));
    assert_eq!(last(&tail, 6), None);
    assert_eq!(last(&tail, 7), Some(7));
}

#[test]
fn what_was_cut_off_is_no_longer_reached() {
    let tail = met();
    tail.settle(members(0));
    tail.reach(LogIndex(9));
    tail.cut(Some(LogIndex(4)));
    assert_eq!(last(&tail, 4), Some(4));
    tail.reach(LogIndex(5));
    assert_eq!(last(&tail, 4), Some(5));
}

#[test]
fn what_was_cut_off_no_longer_keeps_a_replica_silent() {
    let tail = met();
    tail.settle(members(0));
    tail.open(Some(LogIndex(9)));
    tail.cut(Some(LogIndex(4)));
    assert_eq!(last(&tail, 3), None);
    assert_eq!(last(&tail, 4), Some(4));
    tail.accept_members(LogIndex(5));
    assert_eq!(last(&tail, 4), None);
}

#[test]
fn a_replica_is_silent_until_a_leader_was_met_and_an_entry_of_its_term_is_applied() {
    let tail = Tail::default();
    tail.settle(members(0));
    tail.reach(LogIndex(7));
    let told = |term, index| tail.told(Some(LogId { term: Term(term), index: LogIndex(index) })).is_some();
    assert!(!told(3, 7));
    tail.meet(Term(4));
    assert!(!told(3, 7));
    assert!(told(4, 8));
    tail.meet(Term(6));
    assert!(told(4, 8), "the first leader that was met counts");
}

#[test]
fn an_installed_snapshot_counts_without_having_been_in_the_log() {
    let tail = met();
    tail.settle(members(40));
    assert_eq!(last(&tail, 50), Some(50));
    assert_eq!(last(&tail, 30), Some(40));
}

// ------------------------------------------------------------------------------------- Raft, as far as it matters here

type Voters = Vec<BTreeSet<u64>>;

/// An entry: its term, and the voters that it decides on, if any.
#[derive(Clone, Debug, PartialEq)]
struct Entry {
    term: u64,
    voters: Option<Voters>,
}

#[derive(Clone, Debug, Default)]
struct Replica {
    voted: u64,
    log: Vec<Entry>,
    leads: bool,
    /// Entries known to be committed, which are applied.
    committed: usize,
    tail: Tail1,
    /// The term of the first leader met since the start.
    met: Option<u64>,
    /// Its disk was put back to an older image, and what a leader sent since is not applied yet.
    forgot: bool,
    fenced: bool,
}

impl Replica {
    /// A leader was met, and an entry of its term is applied.
    fn is_settled(&self) -> bool {
        let applied = self.log[..self.committed].last();
        self.met.is_some_and(|met| applied.is_some_and(|applied| applied.term >= met))
    }
}

/// What a [`Tail`] holds, to be cloned.
#[derive(Clone, Debug, Default)]
struct Tail1 {
    members_upto: u64,
}

#[derive(Clone, Debug)]
enum Step {
    Elect(u64, u8),
    Append(u64),
    /// The leader replaces one voter by another, or adds or removes one.
    Change(u64, u8),
    /// How many of the entries that it lacks the follower gets.
    Replicate(u64, u64, u8),
    Restart(u64),
    /// It starts with an image of its disk that lacks so many entries.
    Forget(u64, u8),
    Answer(u64),
}

const NODES: u64 = 5;

fn step() -> impl Strategy<Value = Step> {
    let node = 1..=NODES;
    prop_oneof![
        2 => (node.clone(), any::<u8>()).prop_map(|(node, by)| Step::Elect(node, by)),
        3 => node.clone().prop_map(Step::Append),
        3 => (node.clone(), any::<u8>()).prop_map(|(node, to)| Step::Change(node, to)),
        10 => (node.clone(), node.clone(), 0_u8..4).prop_map(|(from, to, count)| Step::Replicate(from, to, count)),
        1 => node.clone().prop_map(Step::Restart),
        1 => (node.clone(), 1_u8..4).prop_map(|(node, count)| Step::Forget(node, count)),
        4 => node.prop_map(Step::Answer),
    ]
}

fn is_quorum(voters: &Voters, has: impl Fn(u64) -> bool) -> bool {
    voters.iter().all(|part| part.iter().filter(|node| has(**node)).count() * 2 > part.len())
}

struct Group {
    replicas: BTreeMap<u64, Replica>,
    /// Entries that were ever committed, as far as anybody can know.
    committed: Vec<Entry>,
    /// By term and follower, how many entries it acknowledged to the leader.
    acknowledged: BTreeMap<(u64, u64), usize>,
}

impl Group {
    fn new(voters: BTreeSet<u64>) -> Group {
        let first = Entry { term: 0, voters: Some(vec![voters.clone()]) };
        let mut group = Group {
            replicas: BTreeMap::new(),
            committed: vec![first.clone()],
            acknowledged: BTreeMap::new(),
        };
        for node in 1..=NODES {
            let mut replica = Replica::default();
            if voters.contains(&node) {
                replica = Replica { log: vec![first.clone()], committed: 1, ..replica };
            }
            group.replicas.insert(node, replica);
        }
        group
    }

    fn voters(log: &[Entry]) -> Option<(usize, &Voters)> {
        log.iter().enumerate().rev().find_map(|(at, entry)| Some((at, entry.voters.as_ref()?)))
    }

    fn elect(&mut self, node: u64, by: u8) {
        let candidate = self.replicas[&node].clone();
        let Some((_, voters)) = Group::voters(&candidate.log) else { return };
        let term = candidate.voted + 1;
        let end = |log: &[Entry]| (log.last().map(|entry| entry.term), log.len());
        let grants = |other: &u64| {
            let replica = &self.replicas[other];
            // Who forgot votes as before: that is what the promise leaves out, so it waits here.
            let remembers = !replica.forgot && !replica.fenced;
            let reached = *other == node || by >> other & 1 == 1 && replica.voted < term;
            remembers && reached && end(&replica.log) <= end(&candidate.log)
        };
        let electors: BTreeSet<u64> = (1..=NODES).filter(grants).collect();
        let elected = voters.iter().any(|part| part.contains(&node))
            && is_quorum(voters, |node| electors.contains(&node));
        for elector in electors {
            let replica = self.replicas.get_mut(&elector).expect("a node");
            (replica.voted, replica.leads) = (term, false);
        }
        if elected {
            let replica = self.replicas.get_mut(&node).expect("a node");
            replica.leads = true;
            replica.met.get_or_insert(term);
            replica.log.push(Entry { term, voters: None });
            self.commit(node);
        }
    }

    fn append(&mut self, node: u64, voters: Option<Voters>) {
        let replica = self.replicas.get_mut(&node).expect("a node");
        if replica.leads {
            if voters.is_some() {
                replica.tail.members_upto = replica.log.len() as u64 + 1;
            }
            replica.log.push(Entry { term: replica.voted, voters });
            self.commit(node);
        }
    }

    /// As openraft does it: the leader has committed an entry of its term, and the last change.
    fn change(&mut self, node: u64, to: u8) {
        let replica = &self.replicas[&node];
        let Some((at, voters)) = Group::voters(&replica.log) else { return };
        let own = replica.log[..replica.committed].last().is_some_and(|entry| entry.term == replica.voted);
        if !replica.leads || at >= replica.committed || !own {
            return;
        }
        let wanted: BTreeSet<u64> = (1..=NODES).filter(|node| to >> node & 1 == 1).collect();
        let last = voters.last().expect("never empty").clone();
        if wanted.is_empty() {
            return;
        }
        // Any two majorities of equal sets share a member; others are bridged.
        let next = if voters.contains(&wanted) { vec![wanted] } else { vec![last, wanted] };
        self.append(node, Some(next));
    }

    fn replicate(&mut self, from: u64, to: u64, count: u8) {
        let leader = self.replicas[&from].clone();
        let follower = self.replicas.get_mut(&to).expect("a node");
        if !leader.leads || from == to || follower.voted > leader.voted || follower.fenced {
            return;
        }
        (follower.voted, follower.leads) = (leader.voted, false);
        let known = self.acknowledged.entry((leader.voted, to)).or_default();
        if follower.log.len() < *known {
            follower.fenced = true;
            return;
        }
        let same = follower.log.iter().zip(&leader.log).take_while(|(a, b)| a == b).count();
        let upto = (same + count as usize).min(leader.log.len());
        if upto > same {
            follower.log.truncate(same);
            for entry in &leader.log[same..upto] {
                follower.log.push(entry.clone());
                if entry.voters.is_some() {
                    follower.tail.members_upto = follower.tail.members_upto.max(follower.log.len() as u64);
                }
            }
        }
        follower.committed = follower.committed.max(leader.committed.min(upto.max(same)));
        follower.met.get_or_insert(leader.voted);
        follower.forgot &= !follower.is_settled();
        *known = upto.max(same).max(*known);
        self.commit(from);
    }

    /// What the leader finds on a majority of the voters that it goes by.
    fn commit(&mut self, node: u64) {
        let leader = &self.replicas[&node];
        let Some((_, voters)) = Group::voters(&leader.log) else { return };
        let acknowledged = |other| self.acknowledged.get(&(leader.voted, other)).copied().unwrap_or_default();
        let holds = |at: usize| is_quorum(voters, |other| other == node || acknowledged(other) > at);
        let own = |at: &usize| leader.log[*at].term == leader.voted && holds(*at);
        let Some(upto) = (leader.committed..leader.log.len()).rev().find(own) else { return };
        let entries = leader.log[..=upto].to_vec();
        let shared = self.committed.len().min(entries.len());
        assert_eq!(self.committed[..shared], entries[..shared], "the model is not Raft");
        if entries.len() > self.committed.len() {
            self.committed = entries;
        }
        self.replicas.get_mut(&node).expect("a node").committed = upto + 1;
    }

    fn restart(&mut self, node: u64) {
        let replica = self.replicas.get_mut(&node).expect("a node");
        replica.leads = false;
        replica.tail.members_upto = replica.log.len() as u64;
        replica.committed = replica.committed.min(1); // a checkpoint of long ago
        replica.met = None;
    }

    fn forget(&mut self, node: u64, count: u8) {
        let replica = self.replicas.get_mut(&node).expect("a node");
        let kept = replica.log.len().saturating_sub(count as usize);
        if kept > 0 {
            replica.log.truncate(kept);
            replica.forgot = true;
            self.restart(node);
        }
    }

    fn answer(&self, node: u64) -> Option<Reach> {
        let replica = &self.replicas[&node];
        if replica.fenced {
            return None;
        }
        let tail = Tail::default();
        replica.met.into_iter().for_each(|met| tail.meet(Term(met)));
        tail.members_upto.store(replica.tail.members_upto, Ordering::SeqCst);
        if !replica.log.is_empty() {
            tail.reach(LogIndex(replica.log.len() as u64 - 1));
        }
        let applied = &replica.log[..replica.committed];
        tail.settle(Group::voters(applied).map(|(at, voters)| Members {
            index: at as u64,
            voters: voters.iter().map(|part| part.iter().copied().collect()).collect(),
        }));
        let applied = applied.last().zip(applied.len().checked_sub(1));
        tail.told(applied.map(|(entry, at)| LogId { term: Term(entry.term), index: LogIndex(at as u64) }))
    }

    fn take(&mut self, step: &Step) {
        match *step {
            Step::Elect(node, by) => self.elect(node, by),
            Step::Append(node) => self.append(node, None),
            Step::Change(node, to) => self.change(node, to),
            Step::Replicate(from, to, count) => self.replicate(from, to, count),
            Step::Restart(node) => self.restart(node),
            Step::Forget(node, count) => self.forget(node, count),
            Step::Answer(_) => {}
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, ..ProptestConfig::default() })]

    /// Whatever elections, changes of members, cut logs, restarts and old disks come before and between the words: what
    /// was committed before the question is within reach.
    #[test]
    fn what_was_committed_before_the_question_is_reached(
        first in 1_u8..8,
        before in proptest::collection::vec(step(), 0..60),
        after in proptest::collection::vec(step(), 0..40),
    ) {
        let voters: BTreeSet<u64> = (1..=3).filter(|node| first >> (node - 1) & 1 == 1).collect();
        let mut group = Group::new(voters);
        before.iter().for_each(|step| group.take(step));
        let committed = group.committed.len() as u64;
        let mut words = BTreeMap::new();
        for step in &after {
            if let Step::Answer(node) = step
                && let Some(word) = group.answer(*node)
            {
                words.entry(NodeId(*node)).or_insert(word);
            }
            group.take(step);
            if let Some(index) = reached(words.iter().map(|(node, word)| (*node, word))) {
                prop_assert!(index.0 + 1 >= committed, "{index} of {committed}: {words:?}");
            }
        }
    }
}
