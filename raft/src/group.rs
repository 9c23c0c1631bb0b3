//! One group on this node: openraft's handle and what is watched of it.

use crate::{
    engine::{
        driver::{Event, Role},
        machine::Troubles,
        types::{Raft, log_id},
    },
    reach::Tail,
    status::{GroupProgress, GroupRole, GroupStatus},
};
use model::{LogId, LogIndex, NodeId, ShardId, StateMachine, Term};
use openraft::{Instant, ServerState, async_runtime::WatchReceiver};
use std::{
    collections::BTreeSet,
    sync::{Arc, atomic::AtomicBool},
};
use tokio::sync::{mpsc, watch};

/// A group as this node hosts it.
pub(crate) struct Group {
    pub(crate) shard: ShardId,
    pub(crate) raft: Raft,
    pub(crate) state: Arc<dyn StateMachine>,
    pub(crate) status: watch::Sender<GroupStatus>,
    pub(crate) applied: Arc<watch::Sender<Option<LogId>>>,
    /// Where its log and members are told.
    pub(crate) tail: Arc<Tail>,
    /// Whether a checkpoint for want of room is under way.
    pub(crate) checkpointing: AtomicBool,
    /// What the state machine's disk could not do.
    pub(crate) troubles: Troubles,
}

impl Group {
    pub(crate) fn new(
        shard: ShardId,
        raft: Raft,
        state: Arc<dyn StateMachine>,
        applied: Arc<watch::Sender<Option<LogId>>>,
        tail: Arc<Tail>,
        troubles: Troubles,
    ) -> Group {
        let status = watch::Sender::new(GroupStatus::default());
        let checkpointing = AtomicBool::new(false);
        let group = Group { shard, raft, state, status, applied, tail, checkpointing, troubles };
        group.status.send_replace(group.status_now());
        group
    }

    /// Role, leader and members as openraft says them now.
    pub(crate) fn status_now(&self) -> GroupStatus {
        let metrics = self.raft.server_metrics();
        let metrics = metrics.borrow_watched();
        let membership = metrics.membership_config.membership();
        let term = Term(metrics.vote.leader_id.term);
        let failure =
            self.raft.metrics().borrow_watched().running_state.as_ref().err().map(ToString::to_string);
        let role = match metrics.state {
            _ if failure.is_some() => GroupRole::Stopped,
            ServerState::Learner => GroupRole::Learner,
            ServerState::Follower => GroupRole::Follower,
            ServerState::Candidate => GroupRole::Candidate,
            ServerState::Leader => GroupRole::Leader,
            ServerState::Shutdown => GroupRole::Stopped,
        };
        let applied = self.applied.borrow().map(|id| id.term);
        GroupStatus {
            role,
            leader: metrics.current_leader.map(NodeId),
            term,
            ready: role == GroupRole::Leader && applied == Some(term),
            voters: membership.voter_ids().map(NodeId).collect(),
            learners: membership.learner_ids().map(NodeId).collect(),
            changing: membership.get_joint_config().len() > 1,
            failure,
        }
    }

    pub(crate) fn progress(&self) -> GroupProgress {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let matched = metrics.replication.iter().flatten();
        GroupProgress {
            last: metrics.last_log_index.map(LogIndex),
            committed: metrics.local_committed.as_ref().map(|id| log_id(id).index),
            applied: self.applied.borrow().map(|id| id.index),
            checkpointed: self.state.checkpointed().log_id.map(|id| id.index),
            purged: metrics.purged.as_ref().map(|id| log_id(id).index),
            matched: matched
                .map(|(node, id)| (NodeId(*node), id.as_ref().map(|id| log_id(id).index)))
                .collect(),
            quorum_age_ms: metrics.last_quorum_acked.as_ref().map(|at| at.elapsed().as_millis() as u64),
        }
    }
}

/// The driver's view of a status. Ranks differ by group, so that survivors share what a third one led.
fn driver_role(us: NodeId, shard: ShardId, status: &GroupStatus) -> Role {
    match status.role {
        GroupRole::Leader => Role::Leader,
        GroupRole::Follower | GroupRole::Candidate => rank(us, shard, &status.voters),
        GroupRole::Learner | GroupRole::Stopped => Role::Learner,
    }
}

fn rank(us: NodeId, shard: ShardId, voters: &BTreeSet<NodeId>) -> Role {
    let Some(place) = voters.iter().position(|voter| *voter == us) else { return Role::Learner };
    Role::Voter { rank: ((place as u64 + u64::from(shard.0)) % voters.len() as u64) as u32 }
}

/// Publishes the group's status and tells the driver of its role, until the group is shut down.
pub(crate) async fn watch_group(us: NodeId, group: Arc<Group>, driver: mpsc::Sender<Event>) {
    let mut metrics = group.raft.server_metrics();
    let mut applied = group.applied.subscribe();
    let mut role = None;
    loop {
        let status = group.status_now();
        let now = driver_role(us, group.shard, &status);
        if role != Some(now) {
            role = Some(now);
            if driver.send(Event::Role(group.shard, now)).await.is_err() {
                return;
            }
        }
        let (stopped, waits) =
            (status.role == GroupRole::Stopped, status.role == GroupRole::Leader && !status.ready);
        group.status.send_if_modified(|known| {
            let changed = *known != status;
            *known = status;
            changed
        });
        if stopped {
            driver.send(Event::Gone(group.shard)).await.ok();
            return;
        }
        tokio::select! {
            changed = WatchReceiver::changed(&mut metrics) => if changed.is_err() {
                // Why it stopped is in the last metrics, which come by another channel.
                group.status.send_replace(GroupStatus { role: GroupRole::Stopped, ..group.status_now() });
                driver.send(Event::Gone(group.shard)).await.ok();
                return;
            },
            _ = applied.changed(), if waits => {}
        }
    }
}
