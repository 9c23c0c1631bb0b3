//! A clock that is off: a node that differs by more than a second from cluster time warns; one that differs by more
//! than five gives its leaderships up, because its scrapes would carry wrong timestamps.

use super::Node;
use std::{sync::Arc, time::Duration};
use tokio::time::sleep;

/// Between two looks.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);
/// Beyond this the node warns, milliseconds.
const WARN_MS: u64 = 1_000;
/// Beyond this it does not lead, milliseconds.
const LEAD_MS_MAX: u64 = 5_000;
/// Patience with a handover.
const HAND_OVER_PATIENCE: Duration = Duration::from_secs(2);

/// Watches this node's clock against the cluster's.
pub(super) async fn run(node: Arc<Node>) {
    let mut warned = false;
    loop {
        sleep(LOOK_INTERVAL).await;
        let Some(off) = node.raft.cluster_time().deviation_ms(node.id()) else { continue };
        let seconds = off as f64 / 1000.0;
        if off.unsigned_abs() <= WARN_MS {
            warned = false;
            continue;
        }
        if !warned {
            warned = true;
            tracing::warn!(seconds, "this node's clock is off; check its time synchronisation");
        }
        if off.unsigned_abs() > LEAD_MS_MAX {
            let led: Vec<_> = node
                .raft
                .shards()
                .into_iter()
                .filter(|s| node.raft.status(*s).is_some_and(|g| g.ready))
                .collect();
            if !led.is_empty() {
                tracing::error!(seconds, shards = ?led, "this node's clock is too far off to lead: handing over");
                node.raft.hand_over(HAND_OVER_PATIENCE).await;
            }
        }
    }
}
