//! What the members of a group have acknowledged to us as their leader: whoever has less later has lost it.
//!
//! ```text
//!  Success(up to 120) ──▶ witness: 120 in this term
//!  Conflict at 90     ──▶ 90 is not behind 120: the member's log went backwards
//! ```
//!
//! Within a term a member's log only grows: what its leader knows to be durable there is never taken back. Where it is
//! gone, an old copy of a disk was restored, or a disk forgot what it had synced; such a member may also have
//! forgotten whom it voted for. So its answer is kept from openraft, which would take it for a bug, and the member is
//! told to fence itself. A later leader does not know, and need not: it was elected without that log, and has
//! everything that was committed.

use super::types::RaftVote;
use model::LogIndex;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

/// For one group, by member: the vote under which it answered, and how far its log was known to go.
#[derive(Clone, Debug, Default)]
pub(crate) struct Witness(Arc<Mutex<BTreeMap<u64, (RaftVote, LogIndex)>>>);

impl Witness {
    /// The member has everything up to `index`, durably, and said so to the leader with this vote.
    pub(crate) fn acknowledged(&self, member: u64, vote: &RaftVote, index: LogIndex) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = known.entry(member).or_insert((*vote, index));
        if entry.0 != *vote {
            *entry = (*vote, index);
        }
        entry.1 = entry.1.max(index);
    }

    /// The member's log does not have the entry at `index`: how far it went before, if that is behind it.
    pub(crate) fn lost(&self, member: u64, vote: &RaftVote, index: LogIndex) -> Option<LogIndex> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(&member).filter(|(under, upto)| under == vote && index <= *upto).map(|(_, upto)| *upto)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use openraft::vote::leader_id_std;

    fn vote(term: u64) -> RaftVote {
        RaftVote { leader_id: leader_id_std::LeaderId { term, voted_for: 1 }, committed: true }
    }

    #[test]
    fn a_member_that_lacks_what_it_acknowledged_has_lost_it() {
        let witness = Witness::default();
        witness.acknowledged(2, &vote(5), LogIndex(100));
        witness.acknowledged(2, &vote(5), LogIndex(90));
        assert_eq!(witness.lost(2, &vote(5), LogIndex(100)), Some(LogIndex(100)));
        assert_eq!(witness.lost(2, &vote(5), LogIndex(101)), None, "it never had that");
        assert_eq!(witness.lost(3, &vote(5), LogIndex(1)), None, "another member");
    }

    #[test]
    fn what_was_acknowledged_in_an_earlier_term_may_be_gone() {
        let witness = Witness::default();
        witness.acknowledged(2, &vote(5), LogIndex(100));
        assert_eq!(witness.lost(2, &vote(7), LogIndex(90)), None);
        witness.acknowledged(2, &vote(7), LogIndex(80));
        assert_eq!(witness.lost(2, &vote(7), LogIndex(90)), None);
        assert_eq!(witness.lost(2, &vote(7), LogIndex(80)), Some(LogIndex(80)));
    }
}
