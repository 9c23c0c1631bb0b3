//! Packing what the data shards have stored: each node for itself, whoever leads, because content does not change.

use super::Node;
use model::{ShardId, StateError};
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use storage::shard::DataShard;
use tokio::time::sleep;

/// Between two looks for something to do, and after a failure.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);
/// Packing pauses for as long as it worked, so that it takes half a processor at most.
const PAUSE_MIN: Duration = Duration::from_millis(1);

/// Packs until the node stops.
pub(crate) async fn run(node: Arc<Node>) {
    while !node.draining.is_draining() {
        for replica in node.data_shards() {
            let shard = replica.shard();
            while !node.draining.is_draining() {
                let begin = node.ports.clock.monotonic();
                let more = pack(&node, replica.clone()).await;
                let worked = node.ports.clock.monotonic().saturating_sub(begin);
                if !is_more(shard, more) {
                    break;
                }
                sleep(worked.max(PAUSE_MIN)).await;
            }
        }
        sleep(LOOK_INTERVAL).await;
    }
}

async fn pack(node: &Node, replica: Arc<DataShard>) -> Result<bool, StateError> {
    let now = node.ports.clock.now();
    let outcome = Arc::new(Mutex::new(Ok(false)));
    let result = outcome.clone();
    let work = Box::new(move || {
        let packed = replica.pack(now);
        *result.lock().unwrap_or_else(PoisonError::into_inner) = packed;
    });
    node.ports.spawner.blocking("pack", work).await;
    std::mem::replace(&mut *outcome.lock().unwrap_or_else(PoisonError::into_inner), Ok(false))
}

fn is_more(shard: ShardId, outcome: Result<bool, StateError>) -> bool {
    match outcome {
        Ok(more) => more,
        Err(error) => {
            tracing::error!(%shard, %error, "chunks could not be packed; they stay as they are");
            false
        }
    }
}
