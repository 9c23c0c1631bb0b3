//! Who belongs to a group, and who leads it.

use crate::{
    RaftNode,
    engine::{network::decode, types::Types},
    group::Group,
    peer::kind,
    status::GroupRole,
};
use bytes::Bytes;
use model::{LogIndex, NodeId, ShardId};
use openraft::{
    errors::{ClientWriteError, RaftError},
    impls::EmptyNode,
};
use std::{collections::BTreeSet, sync::Arc, time::Duration};
use tokio::time::timeout;

/// A change of members or of leadership did not happen, or is not known to have happened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MemberError {
    /// Only the leader can do this.
    #[error("shard {shard} is not led here")]
    NotLeader {
        /// The group.
        shard: ShardId,
        /// Who leads it, as far as is known.
        leader: Option<NodeId>,
    },
    /// The request does not fit the group's members.
    #[error("{0}")]
    Invalid(String),
    /// It may have happened; look at the members.
    #[error("outcome unknown: {0}")]
    Unknown(String),
}

/// Patience with a node that is asked whether it would lead.
const WILLING_PATIENCE: Duration = Duration::from_millis(500);
/// How long a follower may take to catch up before leadership is transferred to it.
const CATCH_UP: Duration = Duration::from_secs(1);

type Written = Result<openraft::raft::ClientWriteResponse<Types>, RaftError<Types, ClientWriteError<Types>>>;

fn outcome(
    shard: ShardId,
    written: Result<Written, tokio::time::error::Elapsed>,
) -> Result<LogIndex, MemberError> {
    match written {
        Ok(Ok(done)) => Ok(crate::engine::types::log_id(&done.log_id).index),
        Ok(Err(RaftError::APIError(ClientWriteError::ForwardToLeader(forward)))) => {
            Err(MemberError::NotLeader { shard, leader: forward.leader_id.map(NodeId) })
        }
        Ok(Err(RaftError::APIError(ClientWriteError::ChangeMembershipError(error)))) => {
            Err(MemberError::Invalid(error.to_string()))
        }
        Ok(Err(error)) => Err(MemberError::Unknown(error.to_string())),
        Err(_) => Err(MemberError::Unknown("not done in time".to_owned())),
    }
}

impl RaftNode {
    fn led(&self, shard: ShardId) -> Result<Arc<Group>, MemberError> {
        let group = self.0.group(shard).ok_or(MemberError::NotLeader { shard, leader: None })?;
        let status = group.status.borrow().clone();
        match status.role {
            GroupRole::Leader => Ok(group),
            _ => Err(MemberError::NotLeader { shard, leader: status.leader }),
        }
    }

    /// Adds a node that receives entries without a vote. It must have an id that was never used before, and an
    /// address. Idempotent.
    ///
    /// # Errors
    /// See [`MemberError`].
    pub async fn add_learner(
        &self,
        shard: ShardId,
        node: NodeId,
        deadline: Duration,
    ) -> Result<LogIndex, MemberError> {
        let group = self.led(shard)?;
        model::point!("members.learner.begin");
        let added = timeout(deadline, group.raft.add_learner(node.0, EmptyNode {}, false)).await;
        model::point!("members.learner.done");
        outcome(shard, added)
    }

    /// Swaps a voter for a learner in one joint change; the old one is no member afterwards. Without `old` the
    /// learner becomes a voter more.
    ///
    /// # Errors
    /// See [`MemberError`].
    pub async fn swap_voter(
        &self,
        shard: ShardId,
        old: Option<NodeId>,
        new: NodeId,
        deadline: Duration,
    ) -> Result<LogIndex, MemberError> {
        let group = self.led(shard)?;
        let mut voters = group.status_now().voters;
        voters.insert(new);
        if let Some(old) = old {
            voters.remove(&old);
        }
        let voters: BTreeSet<u64> = voters.into_iter().map(|node| node.0).collect();
        model::point!("members.swap.begin");
        let swapped = timeout(deadline, group.raft.change_membership(voters, false)).await;
        model::point!("members.swap.done");
        outcome(shard, swapped)
    }

    /// Removes nodes that receive entries without a vote.
    ///
    /// # Errors
    /// See [`MemberError`]; `Invalid` if one of them has a vote.
    pub async fn remove_learners(
        &self,
        shard: ShardId,
        nodes: &BTreeSet<NodeId>,
        deadline: Duration,
    ) -> Result<(), MemberError> {
        let group = self.led(shard)?;
        let gone = openraft::ChangeMembers::RemoveNodes(nodes.iter().map(|node| node.0).collect());
        let removed = timeout(deadline, group.raft.change_membership(gone, false)).await;
        outcome(shard, removed).map(drop)
    }

    /// Finishes a change of members that was broken off between its two halves: the newer voters remain. Does nothing
    /// if there is none.
    ///
    /// # Errors
    /// See [`MemberError`].
    pub async fn finish_change(&self, shard: ShardId, deadline: Duration) -> Result<(), MemberError> {
        let group = self.led(shard)?;
        if !group.status_now().changing {
            return Ok(());
        }
        // No further voter: what openraft writes then is the newer half alone.
        let none = openraft::ChangeMembers::AddVoterIds(BTreeSet::new());
        let finished = timeout(deadline, group.raft.change_membership(none, false)).await;
        model::point!("members.change.finished");
        outcome(shard, finished).map(drop)
    }

    /// Hands the leadership of a group to a voter, which first gets whatever it lacks. On success the other leads.
    /// If the other does not take it, the group is without a leader until the campaign that ends every silence:
    /// nobody leads twice, and nobody waits for ever.
    ///
    /// # Errors
    /// See [`MemberError`]; `Unknown` if nobody leads when the deadline passes.
    pub async fn transfer_leader(
        &self,
        shard: ShardId,
        to: NodeId,
        deadline: Duration,
    ) -> Result<(), MemberError> {
        let group = self.led(shard)?;
        let mut status = group.status.subscribe();
        let term = status.borrow().term;
        if !status.borrow().voters.contains(&to) {
            return Err(MemberError::Invalid(format!("node {to} has no vote in shard {shard}")));
        }
        if self.0.us.borrow().node == Some(to) {
            return Ok(());
        }
        // openraft proposes nothing any more once it was asked to transfer, whatever becomes of it: ask before.
        if !self.is_willing(to).await {
            return Err(MemberError::Invalid(format!("node {to} is not fit to lead, or does not answer")));
        }
        self.caught_up(&group, to).await?;
        model::point!("members.transfer.begin");
        group
            .raft
            .trigger()
            .transfer_leader(to.0)
            .await
            .map_err(|error| MemberError::Unknown(error.to_string()))?;
        let moved = status
            .wait_for(|status| status.leader.is_some() && (status.leader == Some(to) || status.term > term));
        match timeout(deadline, moved).await {
            Ok(Ok(status)) if status.leader == Some(to) => Ok(()),
            Ok(Ok(status)) => Err(MemberError::Unknown(format!("node {:?} leads now", status.leader))),
            _ => Err(MemberError::Unknown("no new leader in time".to_owned())),
        }
    }

    async fn is_willing(&self, node: NodeId) -> bool {
        let asked = self.0.peers.ask(node, kind::WILLING, ShardId::META, Bytes::new(), WILLING_PATIENCE);
        asked.await.is_ok_and(|answer| decode(&answer).unwrap_or(false))
    }

    /// Waits until a follower has nearly everything, so that the pause is short.
    async fn caught_up(&self, group: &Group, to: NodeId) -> Result<(), MemberError> {
        let near = async {
            loop {
                let progress = group.progress();
                let matched = progress.matched.get(&to).copied().flatten();
                if matched >= progress.committed {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let patience = timeout(CATCH_UP, near).await;
        patience.map_err(|_| MemberError::Invalid(format!("node {to} lags behind in shard {}", group.shard)))
    }

    /// Hands over whatever this node leads, each to the voter that has most and that leads least, all at once; to none
    /// of `unfit`, nor to one that does not say that it would lead. Yields the shards that are still led here.
    pub async fn hand_over(&self, unfit: &BTreeSet<NodeId>, deadline: Duration) -> Vec<ShardId> {
        let us = self.0.us.borrow().node;
        let led = self.shards().into_iter().filter(|shard| self.led(*shard).is_ok());
        let voters: BTreeSet<NodeId> =
            led.filter_map(|shard| self.status(shard)).flat_map(|status| status.voters).collect();
        let others = voters.into_iter().filter(|voter| Some(*voter) != us && !unfit.contains(voter));
        let asked = others.map(async |node| self.is_willing(node).await.then_some(node));
        let willing: BTreeSet<NodeId> =
            futures::future::join_all(asked).await.into_iter().flatten().collect();
        let mut given: std::collections::BTreeMap<NodeId, usize> = std::collections::BTreeMap::new();
        let mut moves = Vec::new();
        for shard in self.shards() {
            let (Ok(group), Some(status)) = (self.led(shard), self.status(shard)) else { continue };
            let matched = group.progress().matched;
            let others = status.voters.iter().filter(|voter| willing.contains(voter));
            let best = others.max_by_key(|voter| {
                let load = given.get(voter).copied().unwrap_or(0);
                // A lag of an entry or two is made up while the transfer is prepared.
                (matched.get(voter).copied().flatten().map(|index| index.0 / 64), std::cmp::Reverse(load))
            });
            if let Some(to) = best.copied() {
                *given.entry(to).or_default() += 1;
                moves.push(self.transfer_leader(shard, to, deadline));
            }
        }
        futures::future::join_all(moves).await;
        self.shards().into_iter().filter(|shard| self.led(*shard).is_ok()).collect()
    }
}
