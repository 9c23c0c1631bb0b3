//! Replacing a member: the leader of each shard swaps the newcomer in for its former self, and when every shard has,
//! the leader of meta removes the old id.
//!
//! Per shard: learner, caught up and equal by hash, then one joint change that swaps old for new; never removal first.

use super::{
    Node,
    calls::{self, ASK_PATIENCE},
    cluster::{Likeness, NodeInfo, info_of},
};
use bytes::Bytes;
use model::{NodeId, ShardId};
use raft::{
    GroupStatus,
    meta::{MetaCommand, MetaState},
};
use std::{collections::BTreeSet, sync::Arc, time::Duration};
use tokio::time::sleep;

/// Between two steps.
const STEP_INTERVAL: Duration = Duration::from_millis(500);
/// Patience with one change of members.
const CHANGE_PATIENCE: Duration = Duration::from_secs(10);
/// A learner this close to the leader's log has caught up.
const LAG_MAX: u64 = 64;

/// Tends the members of `shard` whenever this node leads it.
pub(crate) async fn run(node: Arc<Node>, shard: ShardId) {
    loop {
        sleep(STEP_INTERVAL).await;
        if node.raft.status(shard).is_some_and(|status| status.ready) {
            step(&node, shard).await;
        }
    }
}

/// One step towards the members that meta wants.
async fn step(node: &Node, shard: ShardId) {
    let state = node.meta.state();
    let Some(status) = node.raft.status(shard) else { return };
    if status.changing {
        // Broken off between its two halves. Whoever it was for may be gone again, so it is finished as it was begun,
        // and what is to become of the members is looked at afterwards.
        match node.raft.finish_change(shard, CHANGE_PATIENCE).await {
            Ok(()) => tracing::info!(%shard, "finished a change of members that was broken off"),
            Err(error) => tracing::warn!(%shard, %error, "change of members not finished yet"),
        }
        return;
    }
    let gone = removed_learners(&state, &status);
    if !gone.is_empty() {
        match node.raft.remove_learners(shard, &gone, CHANGE_PATIENCE).await {
            Ok(()) => tracing::info!(%shard, ?gone, "removed learners that are no longer of this cluster"),
            Err(error) => tracing::warn!(%shard, ?gone, %error, "learners not removed yet"),
        }
        return;
    }
    for (id, record) in state.members() {
        let Some(replaced) = record.replaces else { continue };
        let Some(old) = former_self(&state, &status, id) else {
            if shard == ShardId::META && status.voters.contains(&id) {
                remove_when_swapped(node, id, replaced).await;
                continue;
            }
            if status.voters.contains(&id) {
                continue;
            }
            tracing::warn!(%shard, node = %id, "has no former self to replace in this shard");
            continue;
        };
        if !status.learners.contains(&id) {
            tracing::info!(%shard, node = %id, "adding a learner");
            if let Err(error) = node.raft.add_learner(shard, id, CHANGE_PATIENCE).await {
                tracing::warn!(%shard, node = %id, %error, "learner not added yet");
            }
            return;
        }
        if !caught_up(node, shard, id).await {
            return;
        }
        tracing::info!(%shard, new = %id, %old, "swapping a voter");
        let swapped = node.raft.swap_voter(shard, Some(old), id, CHANGE_PATIENCE).await;
        if let Err(error) = swapped {
            tracing::warn!(%shard, new = %id, %old, %error, "voter not swapped yet");
        }
        return;
    }
}

/// Newcomers that died on their way, and whose place another one took: nobody would swap them in any more, and each would
/// be sent entries for ever.
fn removed_learners(state: &MetaState, status: &GroupStatus) -> BTreeSet<NodeId> {
    let is_removed = |id: &&NodeId| state.nodes.get(id).is_some_and(|record| record.removed_at.is_some());
    status.learners.iter().filter(is_removed).copied().collect()
}

/// The voter that bears the newcomer's name: what it replaces, or another newcomer of that name that died on its way.
fn former_self(state: &MetaState, status: &GroupStatus, new: NodeId) -> Option<NodeId> {
    let name = |id: NodeId| state.nodes.get(&id).map(|node| node.name.as_str());
    status.voters.iter().copied().find(|id| *id != new && name(*id).is_some() && name(*id) == name(new))
}

/// Whether a learner has nearly all that is committed, and the same: as it says itself, in indexes applied and state
/// hashes. What the leader knows of a learner's log says nothing of its state.
async fn caught_up(node: &Node, shard: ShardId, learner: NodeId) -> bool {
    let Some(progress) = node.raft.progress(shard) else { return false };
    let matched = progress.matched.get(&learner).copied().flatten();
    let committed = progress.committed.unwrap_or_default();
    if matched.is_none_or(|matched| matched.0 + LAG_MAX < committed.0) {
        return false;
    }
    let answer = node.raft.call(learner, calls::NODE_INFO, Bytes::new(), ASK_PATIENCE).await;
    let Ok(Ok(theirs)) = answer.map(|answer| calls::decode::<NodeInfo>(&answer)) else { return false };
    match info_of(node).compare(&theirs, shard) {
        Likeness::Equal(upto) => upto.0 + LAG_MAX >= committed.0,
        Likeness::Unknown => false,
        Likeness::Different(at) => {
            tracing::error!(%shard, node = %learner, %at, "the newcomer's state differs and it gets no vote: run vestal check on both nodes");
            false
        }
    }
}

/// Removes the old id when no shard has it any more, as far as this node's replicas know.
async fn remove_when_swapped(node: &Node, new: NodeId, old: NodeId) {
    let state = node.meta.state();
    let swapped = node.raft.shards().into_iter().all(|shard| {
        let status = node.raft.status(shard);
        status
            .is_some_and(|status| status.voters.contains(&new) && former_self(&state, &status, new).is_none())
    });
    if !swapped {
        return;
    }
    let remove = MetaCommand::Remove { node: old, at: node.ports.clock.now() };
    match node.propose_meta(&remove, CHANGE_PATIENCE).await {
        Ok(_) => tracing::info!(node = %old, by = %new, "replaced and removed"),
        Err(error) => tracing::warn!(node = %old, %error, "not removed yet"),
    }
}
