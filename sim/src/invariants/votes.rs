//! O5, votes: a replica votes once in a term, whatever crashes; a vote that was given is on the disk; who leads has
//! the votes of a majority; an id is one disk's for ever.
//!
//! ```text
//!  node ──vote (hook)──▶ given ◀─compared─ vote on the disk, as after a power loss
//!                          └──▶ majority of the leader that is seen
//! ```

use super::logs::DiskLog;
use crate::violation::Violation;
use model::{NodeId, ShardId, Term, points::VoteGiven};
use std::collections::{BTreeMap, BTreeSet};

/// All votes that left a node, ever.
#[derive(Debug, Default)]
pub struct Votes {
    given: BTreeMap<(ShardId, Term, NodeId), NodeId>,
    /// The newest vote that left a machine since it got its disk.
    newest: BTreeMap<(&'static str, ShardId), VoteGiven>,
    /// Whose an id is: the machine, and the number of its disk.
    ids: BTreeMap<NodeId, (&'static str, u64)>,
    elected: BTreeSet<(ShardId, Term)>,
}

fn broken(text: String) -> Result<(), Violation> {
    Err(Violation { invariant: "O5", text })
}

impl Votes {
    /// A vote left a machine.
    ///
    /// # Errors
    /// If its replica had voted for another in this term.
    pub fn give(&mut self, machine: &'static str, vote: VoteGiven) -> Result<(), Violation> {
        let VoteGiven { shard, voter, term, candidate } = vote;
        let first = *self.given.entry((shard, term, voter)).or_insert(candidate);
        if first != candidate {
            return broken(format!(
                "node {voter} ({machine}) voted in term {term} of shard {shard} for {first} and for {candidate}"
            ));
        }
        let newest = self.newest.entry((machine, shard)).or_insert(vote);
        if newest.term <= term {
            *newest = vote;
        }
        Ok(())
    }

    /// What a machine's disk holds.
    ///
    /// # Errors
    /// If a vote that left it is not there.
    pub fn keep(&self, machine: &'static str, disk: &BTreeMap<ShardId, DiskLog>) -> Result<(), Violation> {
        for ((_, shard), given) in self.newest.range((machine, ShardId(0))..=(machine, ShardId(u32::MAX))) {
            let kept = disk.get(shard).and_then(|log| log.vote);
            let is_kept = kept.is_some_and(|kept| {
                let same = kept.candidate == given.candidate || kept.is_elected;
                kept.term > given.term || (kept.term == given.term && same)
            });
            if !is_kept {
                return broken(format!(
                    "{machine} voted in term {} of shard {shard} for {}, its disk says {kept:?}",
                    given.term, given.candidate
                ));
            }
        }
        Ok(())
    }

    /// A node leads, with so many voters in its group.
    ///
    /// # Errors
    /// If no majority voted for it.
    pub fn lead(
        &mut self,
        shard: ShardId,
        term: Term,
        leader: NodeId,
        voters: usize,
    ) -> Result<(), Violation> {
        if !self.elected.insert((shard, term)) {
            return Ok(());
        }
        let all = (shard, term, NodeId(0))..=(shard, term, NodeId(u64::MAX));
        let mut by: BTreeSet<NodeId> =
            self.given.range(all).filter(|(_, to)| **to == leader).map(|((_, _, voter), _)| *voter).collect();
        by.insert(leader);
        if by.len() * 2 <= voters {
            return broken(format!(
                "node {leader} leads shard {shard} in term {term} by the votes of {by:?}; it has {voters} voters"
            ));
        }
        Ok(())
    }

    /// A machine says who it is.
    ///
    /// # Errors
    /// If another machine, or the same one before it lost its disk, was that.
    pub fn name(&mut self, machine: &'static str, disk: u64, id: NodeId) -> Result<(), Violation> {
        let owner = *self.ids.entry(id).or_insert((machine, disk));
        if owner != (machine, disk) {
            return broken(format!("{machine} with its disk {disk} is node {id}, which is {owner:?}"));
        }
        Ok(())
    }

    /// A machine has lost its disk, or got an old one: what it owed is forgotten.
    pub fn lose(&mut self, machine: &'static str) {
        self.newest.retain(|(name, _), _| *name != machine);
    }
}

#[cfg(test)]
mod tests {
    use super::{super::logs::DiskVote, *};

    const SHARD: ShardId = ShardId(1);

    fn vote(voter: u64, term: u64, candidate: u64) -> VoteGiven {
        VoteGiven { shard: SHARD, voter: NodeId(voter), term: Term(term), candidate: NodeId(candidate) }
    }

    fn disk(vote: Option<(u64, u64)>) -> BTreeMap<ShardId, DiskLog> {
        let vote = vote.map(|(term, candidate)| DiskVote {
            term: Term(term),
            candidate: NodeId(candidate),
            is_elected: candidate == 9,
        });
        BTreeMap::from([(SHARD, DiskLog { vote, ..DiskLog::default() })])
    }

    #[test]
    fn two_votes_in_a_term_are_seen_and_the_same_vote_again_is_right() {
        let mut votes = Votes::default();
        assert!(votes.give("n1", vote(1, 2, 3)).is_ok());
        assert!(votes.give("n1", vote(1, 2, 3)).is_ok());
        assert!(votes.give("n1", vote(1, 3, 1)).is_ok());
        assert!(votes.give("n1", vote(1, 2, 2)).is_err());
    }

    #[test]
    fn a_vote_that_the_disk_does_not_have_is_seen() {
        let mut votes = Votes::default();
        votes.give("n1", vote(1, 2, 3)).expect("the first");
        assert!(votes.keep("n1", &disk(Some((2, 3)))).is_ok());
        assert!(votes.keep("n1", &disk(Some((4, 1)))).is_ok());
        assert!(votes.keep("n1", &disk(Some((2, 9)))).is_ok(), "another was elected");
        assert!(votes.keep("n1", &disk(Some((2, 1)))).is_err());
        assert!(votes.keep("n1", &disk(Some((1, 3)))).is_err());
        assert!(votes.keep("n1", &disk(None)).is_err());
        assert!(votes.keep("n2", &disk(None)).is_ok());
        votes.lose("n1");
        assert!(votes.keep("n1", &disk(None)).is_ok());
    }

    #[test]
    fn a_leader_without_a_majority_is_seen() {
        let mut votes = Votes::default();
        assert!(votes.lead(SHARD, Term(1), NodeId(1), 3).is_err());
        votes.give("n2", vote(2, 2, 1)).expect("the first");
        assert!(votes.lead(SHARD, Term(2), NodeId(1), 3).is_ok());
    }

    #[test]
    fn an_id_that_another_disk_had_is_seen() {
        let mut votes = Votes::default();
        assert!(votes.name("n1", 0, NodeId(1)).is_ok());
        assert!(votes.name("n1", 0, NodeId(1)).is_ok());
        assert!(votes.name("n1", 1, NodeId(1)).is_err());
        assert!(votes.name("n2", 0, NodeId(1)).is_err());
    }
}
