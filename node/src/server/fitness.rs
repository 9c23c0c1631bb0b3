//! Whether this node is fit to lead, and what follows if it is not.
//!
//! ```text
//!  clock more than 5 s off ─┐
//!  no room on the disk ─────┴─▶ unfit: takes no leadership, hands over what it leads   until it is fit again
//!  disk failed ───────────────▶ down: hands over, ends all groups                      until it is restarted
//! ```
//!
//! Scrapes go by [duty time](super::duty_clock), so a clock that is off is a precaution; a full disk acknowledges nothing.
//! Both end by themselves, and count for nothing while a shard has had no leader for long.
//! After a failed sync nobody knows what is on the disk but who reads it again: a restart.

use super::Node;
use model::{NodeId, ShardId};
use raft::{CLOCK_OFF_MS, DiskTrouble, GroupRole};
use std::{collections::BTreeSet, sync::Arc, time::Duration};
use tokio::time::{sleep, timeout};

/// Between two looks.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// Between two attempts to hand over.
const HAND_OVER_INTERVAL: Duration = Duration::from_secs(2);
/// Beyond this the node warns, milliseconds.
const WARN_MS: u64 = 1_000;
/// A shard without a leader for so long takes one that is not fit: one whose clock is off is better than none, and one
/// without room can still hand over what others lack.
const LEADERLESS_MAX: Duration = Duration::from_secs(30);
/// Patience with a handover.
const HAND_OVER_PATIENCE: Duration = Duration::from_secs(2);

/// Watches this node's clock and disk.
pub(super) async fn run(node: Arc<Node>) {
    let mut clock = ClockState::default();
    let mut unfit_before = None;
    let mut hand_over_next = Duration::ZERO;
    loop {
        sleep(LOOK_INTERVAL).await;
        let trouble = node.raft.disk_trouble();
        if let Some(DiskTrouble::Failed(reason)) = &trouble {
            return go_down(&node, reason).await;
        }
        clock.look(node.clock_off_ms(node.id()));
        let no_room = match trouble {
            Some(DiskTrouble::NoRoom(reason)) => Some(reason),
            _ => None,
        };
        node.health.set_trouble(no_room.clone());
        let unfit = no_room.or_else(|| clock.trouble());
        if unfit != unfit_before {
            match &unfit {
                Some(reason) => tracing::error!(reason, "this node is not fit to lead: handing over"),
                None => tracing::info!("this node is fit to lead again"),
            }
            unfit_before.clone_from(&unfit);
        }
        let abstains = unfit.is_some() && node.health.leaderless_for() < LEADERLESS_MAX;
        node.raft.abstain(abstains).await;
        let now = node.ports.clock.monotonic();
        if abstains && now >= hand_over_next && led(&node).next().is_some() {
            hand_over_next = now + HAND_OVER_INTERVAL;
            node.raft.hand_over(&off_nodes(&node), HAND_OVER_PATIENCE).await;
        }
    }
}

fn led(node: &Node) -> impl Iterator<Item = ShardId> {
    let leads =
        |shard: &ShardId| node.raft.status(*shard).is_some_and(|group| group.role == GroupRole::Leader);
    node.raft.shards().into_iter().filter(leads)
}

/// What was last known of our clock: who cannot compare it any more believes what it knew.
#[derive(Debug, Default)]
struct ClockState {
    warned: bool,
    is_off: bool,
}

impl ClockState {
    fn look(&mut self, off_ms: Option<i64>) {
        let Some(off) = off_ms else { return };
        let seconds = off as f64 / 1000.0;
        let warns = off.unsigned_abs() > WARN_MS;
        if warns && !self.warned {
            tracing::warn!(seconds, "this node's clock is off; check its time synchronisation");
        }
        self.warned = warns;
        self.is_off = off.unsigned_abs() > CLOCK_OFF_MS;
    }

    /// Why this node is not to lead because of it.
    fn trouble(&self) -> Option<String> {
        self.is_off.then(|| format!("its clock is more than {} s off", CLOCK_OFF_MS / 1000))
    }
}

/// Nodes whose clocks are too far off to lead.
pub(super) fn off_nodes(node: &Node) -> BTreeSet<NodeId> {
    let is_off = |id: &NodeId| node.clock_off_ms(*id).is_some_and(|off| off.unsigned_abs() > CLOCK_OFF_MS);
    node.raft.cluster_time().offsets_ms.into_keys().filter(is_off).collect()
}

/// Acknowledges nothing any more; others lead.
async fn go_down(node: &Node, reason: &str) {
    tracing::error!(reason, "the disk failed: this node is out of service until it is restarted");
    node.health.set_trouble(Some(format!("the disk failed, restart this node: {reason}")));
    node.health.set_down();
    node.raft.abstain(true).await;
    node.raft.hand_over(&off_nodes(node), HAND_OVER_PATIENCE).await;
    // A group whose vote could not be saved has ended already.
    let _late = timeout(HAND_OVER_PATIENCE, node.raft.stand_down()).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_off_is_unfit_until_it_is_right() {
        let mut clock = ClockState::default();
        clock.look(Some(-4_000));
        assert_eq!(clock.trouble(), None);
        clock.look(Some(-86_400_000));
        assert!(clock.trouble().is_some());
        clock.look(Some(2));
        assert_eq!(clock.trouble(), None);
    }

    #[test]
    fn who_hears_nobody_to_compare_with_believes_what_it_knew() {
        let mut clock = ClockState::default();
        clock.look(None);
        assert_eq!(clock.trouble(), None);
        clock.look(Some(9_000));
        clock.look(None);
        assert!(clock.trouble().is_some());
    }
}
