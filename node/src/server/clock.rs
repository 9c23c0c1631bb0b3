//! A clock that is off: a node that differs by more than a second from cluster time warns; one that differs by more
//! than five gives its leaderships up. Its scrapes go by [duty time](super::duty_clock), so this is a precaution.

use super::Node;
use model::NodeId;
use raft::CLOCK_OFF_MS;
use std::{collections::BTreeSet, sync::Arc, time::Duration};
use tokio::time::sleep;

/// Between two looks.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);
/// Beyond this the node warns, milliseconds.
const WARN_MS: u64 = 1_000;
/// Patience with a handover.
const HAND_OVER_PATIENCE: Duration = Duration::from_secs(2);

/// Watches this node's clock against the cluster's.
pub(super) async fn run(node: Arc<Node>) {
    let mut warned = false;
    loop {
        sleep(LOOK_INTERVAL).await;
        let Some(off) = node.clock_off_ms(node.id()) else { continue };
        let seconds = off as f64 / 1000.0;
        if off.unsigned_abs() <= WARN_MS {
            warned = false;
            continue;
        }
        if !warned {
            warned = true;
            tracing::warn!(seconds, "this node's clock is off; check its time synchronisation");
        }
        if off.unsigned_abs() > CLOCK_OFF_MS {
            let led: Vec<_> = node
                .raft
                .shards()
                .into_iter()
                .filter(|s| node.raft.status(*s).is_some_and(|g| g.ready))
                .collect();
            if !led.is_empty() {
                tracing::error!(seconds, shards = ?led, "this node's clock is too far off to lead: handing over");
                node.raft.hand_over(&off_nodes(&node), HAND_OVER_PATIENCE).await;
            }
        }
    }
}

/// Nodes whose clocks are too far off to lead.
pub(super) fn off_nodes(node: &Node) -> BTreeSet<NodeId> {
    let is_off = |id: &NodeId| node.clock_off_ms(*id).is_some_and(|off| off.unsigned_abs() > CLOCK_OFF_MS);
    node.raft.cluster_time().offsets_ms.into_keys().filter(is_off).collect()
}
