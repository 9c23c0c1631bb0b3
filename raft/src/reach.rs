//! Read indexes without a leader: a majority says up to where its logs reach, the farthest contains everything
//! acknowledged before the question.
//!
//! ```text
//!  asker, member 1: reaches 118, members as of entry 3 ─┐
//!        ──shards──▶ member 2: reaches 120, as of 3     ├─▶ 120, once it is applied here
//!                    member 3: not asked               ─┘
//! ```
//!
//! Why 120. Let `e` be an entry that was committed before the question: acknowledged, or seen in an answer. It was on
//! the disks of a majority `Q` then, and whoever has a committed entry in its log never loses it: every later leader
//! has it, too. So it is enough that those who answer share a member with `Q`. They are a majority of the members `K`
//! that all of them name, each says so only if `K` is applied and its log has no later word about members, applied or
//! not, and the words are said after the question. Let `N` be the last members that were committed before the
//! question. openraft changes members only when the last change is committed, and so that each majority before shares
//! a member with each one after.
//!
//! - `K` is older than `N`: the members that follow `K` were committed by a majority that shares a member with ours;
//!   it had a later word about members in its log before the question, and would not have named `K`.
//! - `K` is `N`, and `e` stands before it in the log: whoever has `N` has `e`, and says no less than where `N` stands.
//! - `K` is `N`, and `e` stands behind it: its leader counted a majority of `N`, or of members not yet committed that
//!   follow `N`. Both share a member with ours.
//! - `K` is later than `N`: it was committed after the question, so after `e`, and `e` stands before it.
//!
//! So any majority's farthest is enough, and where more answered, the lowest of those counts.
//!
//! A disk that is put back to an older image forgets. The leader notices at the next word that it sends
//! ([`crate::engine::witness`]) and fences the node; so a replica says nothing before a leader was heard in this process
//! and an entry of that leader's term is applied. A later leader did not know the old disk, but the first entry of its
//! term stands behind all that was committed before.
//!
//! What may be too far is harmless but for the waiting: an entry of a deposed leader is never committed, so who waits
//! asks again ([`crate::read`]). Nothing here trusts a clock or a term.

use model::{LogId, LogIndex, NodeId, Term};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

/// The voters, and where in the log they were decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Members {
    pub(crate) index: u64,
    /// Both configurations during a change.
    pub(crate) voters: Vec<Vec<u64>>,
}

/// What a replica says of its log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Reach {
    /// At least every entry that it ever acknowledged and that may be committed.
    pub(crate) last: u64,
    pub(crate) members: Members,
}

/// What a replica's log and state machine tell of themselves, before anybody else learns of it. Positions are one more
/// than an index, 0 before the first entry.
#[derive(Debug, Default)]
pub(crate) struct Tail {
    /// Behind the last durable entry.
    durable: AtomicU64,
    /// Behind the last entry that may be about members; what is too high keeps the replica silent.
    members_upto: AtomicU64,
    /// One more than the term of the first leader that was met in this process; 0 before.
    met: AtomicU64,
    /// The members as of what is applied.
    members: Mutex<Option<Members>>,
}

fn behind(index: Option<LogIndex>) -> u64 {
    index.map_or(0, |index| index.0 + 1)
}

impl Tail {
    /// The log was opened with these entries, any of which may be about members.
    pub(crate) fn open(&self, last: Option<LogIndex>) {
        self.durable.fetch_max(behind(last), Ordering::SeqCst);
        self.members_upto.fetch_max(behind(last), Ordering::SeqCst);
    }

    /// An entry about members is about to be put into the log.
    pub(crate) fn accept_members(&self, at: LogIndex) {
        self.members_upto.fetch_max(behind(Some(at)), Ordering::SeqCst);
    }

    /// Entries are on disk, and nobody was told yet.
    pub(crate) fn reach(&self, last: LogIndex) {
        self.durable.fetch_max(behind(Some(last)), Ordering::SeqCst);
    }

    /// The last entry that is on disk.
    pub(crate) fn durable(&self) -> Option<LogIndex> {
        self.durable.load(Ordering::SeqCst).checked_sub(1).map(LogIndex)
    }

    /// Entries behind this one were cut off, and every append before was told.
    pub(crate) fn cut(&self, last: Option<LogIndex>) {
        self.durable.fetch_min(behind(last), Ordering::SeqCst);
        // What was cut was never committed, and the next entry about members comes after this.
        self.members_upto.fetch_min(behind(last), Ordering::SeqCst);
    }

    /// The leader of this term, or this node as that leader, found nothing missing in the log.
    pub(crate) fn meet(&self, term: Term) {
        self.met.compare_exchange(0, term.0 + 1, Ordering::SeqCst, Ordering::SeqCst).ok();
    }

    /// These are the members as of what is applied; to be called before that is told as applied.
    pub(crate) fn settle(&self, members: Option<Members>) {
        *self.members.lock().unwrap_or_else(PoisonError::into_inner) = members;
    }

    /// What may be said now; nothing while the members may be changing, and before a leader was met. `applied` is what
    /// was told as applied, read before this is called.
    pub(crate) fn told(&self, applied: Option<LogId>) -> Option<Reach> {
        let applied = applied?;
        let met = self.met.load(Ordering::SeqCst);
        if met == 0 || applied.term.0 + 1 < met {
            return None;
        }
        let members = self.members.lock().unwrap_or_else(PoisonError::into_inner).clone()?;
        let durable = self.durable.load(Ordering::SeqCst);
        // Read last. If all that may be about members was applied before they were read, they are the last in the log.
        if self.members_upto.load(Ordering::SeqCst) > behind(Some(applied.index)) {
            return None;
        }
        // An installed snapshot is applied without having been in the log, and may bring members with it.
        let last = durable.saturating_sub(1).max(applied.index.0).max(members.index);
        Some(Reach { last, members })
    }
}

/// The index up to which these words reach together, if they are enough.
pub(crate) fn reached<'w>(words: impl Iterator<Item = (NodeId, &'w Reach)>) -> Option<LogIndex> {
    let words: BTreeMap<NodeId, &Reach> = words.collect();
    let newest = words.values().max_by_key(|reach| reach.members.index)?;
    let named = &newest.members;
    let agrees = |voter: &u64| words.get(&NodeId(*voter)).filter(|reach| reach.members.index == named.index);
    // The nearest majority's farthest; nothing without a majority.
    let nearest = |voters: &Vec<u64>| {
        let mut lasts: Vec<u64> = voters.iter().filter_map(agrees).map(|reach| reach.last).collect();
        lasts.sort_unstable();
        lasts.get(voters.len() / 2).copied()
    };
    let of_each: Option<Vec<u64>> = named.voters.iter().map(nearest).collect();
    of_each?.into_iter().max().map(LogIndex)
}

#[cfg(test)]
mod tests;
