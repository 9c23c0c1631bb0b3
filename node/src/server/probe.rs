//! A look into a running node, for who runs it as a library: what the API does not show.

use super::Node;
use model::{LogId, LogIndex, NodeId, ShardId, StateHash, StateMachine};
use raft::{Gossip, GroupStatus, Liveness};
use std::{
    collections::BTreeSet,
    fmt,
    sync::{Arc, Weak},
};

/// One shard at one node.
#[derive(Clone, Debug)]
pub struct ShardReport {
    /// Which.
    pub shard: ShardId,
    /// Role, term, leader and members.
    pub status: GroupStatus,
    /// The last applied entry.
    pub applied: Option<LogId>,
    /// Up to where who waits for entries to be applied was told.
    pub told: Option<LogIndex>,
    /// State hashes at recent indexes.
    pub hashes: Vec<StateHash>,
}

/// Something of a node that has a bound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bound {
    /// What, for people.
    pub name: String,
    /// How much there is.
    pub used: u64,
    /// How much there may be.
    pub max: u64,
}

/// Looks into a node without keeping it alive.
#[derive(Clone)]
pub struct Probe(Weak<Node>);

impl fmt::Debug for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Probe").field(&self.id()).finish()
    }
}

impl Probe {
    pub(super) fn new(node: Arc<Node>) -> Probe {
        Probe(Arc::downgrade(&node))
    }

    /// The node's id; `None` if it is gone or has none yet.
    #[must_use]
    pub fn id(&self) -> Option<NodeId> {
        self.0.upgrade()?.raft.identity().node
    }

    /// Why the node does not answer default queries; `None` if it does or is gone.
    #[must_use]
    pub fn not_ready(&self) -> Option<String> {
        self.0.upgrade()?.health.not_ready()
    }

    /// The names of the other nodes that are heard by gossip, and how often gossip had to begin anew.
    #[must_use]
    pub fn gossip(&self) -> (BTreeSet<String>, u64) {
        let Some(node) = self.0.upgrade() else { return Default::default() };
        let Some(gossip) = node.gossip.get() else { return Default::default() };
        let peers = gossip.peers();
        let peers = peers.borrow();
        let alive = peers.iter().filter(|peer| peer.liveness == Liveness::Alive);
        (alive.map(|peer| peer.meta.name.clone()).collect(), gossip.restarts())
    }

    /// What has a bound, and how near to it it is. Walks all open windows: not for hot paths.
    #[must_use]
    pub fn bounds(&self) -> Vec<Bound> {
        let Some(node) = self.0.upgrade() else { return Vec::new() };
        let mut bounds = Vec::new();
        for (name, used, max) in node.log.bounds() {
            bounds.push(Bound { name: name.to_owned(), used, max });
        }
        for shard in node.data_shards() {
            for (name, used, max) in shard.bounds() {
                bounds.push(Bound { name: format!("shard {}: {name}", shard.shard()), used, max });
            }
        }
        bounds
    }

    /// The shards that it hosts.
    #[must_use]
    pub fn shards(&self) -> Vec<ShardReport> {
        let Some(node) = self.0.upgrade() else { return Vec::new() };
        let hosted = node.raft.shards().into_iter();
        hosted
            .filter_map(|shard| {
                let machine: Arc<dyn StateMachine> = match shard {
                    ShardId::META => node.meta.clone(),
                    shard => node.shard(shard)?,
                };
                let status = node.raft.status(shard)?;
                let (applied, hashes) = (machine.applied().log_id, machine.recent_hashes());
                let told = node.raft.progress(shard)?.applied;
                Some(ShardReport { shard, status, applied, told, hashes })
            })
            .collect()
    }
}
