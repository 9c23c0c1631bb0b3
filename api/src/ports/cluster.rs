//! The cluster: what `/api/v1/status/cluster` and `/api/v1/status/gaps` say.

use model::{BoxFuture, ConfigVersion, Consistency, Labels, LogIndex, NodeId, ShardId, Term, TimestampMs};
use std::time::Duration;

/// State of a node as the others see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeState {
    /// Answers.
    Alive,
    /// Silent for a moment.
    Suspect,
    /// Silent for long.
    Dead,
    /// Not yet a voter everywhere.
    Joining,
    /// Taken out; listed for an hour.
    Removed,
}

/// One node in `/api/v1/status/cluster`.
#[derive(Clone, Debug)]
pub struct NodeStatus {
    /// Its id.
    pub id: NodeId,
    /// Its name.
    pub name: String,
    /// Its state.
    pub state: NodeState,
    /// `HOST:PORT` of its web address.
    pub web_address: String,
    /// Its version.
    pub version: String,
    /// How far its clock is ahead of cluster time, seconds; `None` if unknown.
    pub clock_offset_seconds: Option<f64>,
}

/// What a replica is in its shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplicaRole {
    /// It orders.
    Leader,
    /// It votes.
    Voter,
    /// It follows without a vote.
    Learner,
}

/// A replica in `/api/v1/status/cluster`.
#[derive(Clone, Debug)]
pub struct ReplicaStatus {
    /// The node's name.
    pub node: String,
    /// What it is.
    pub role: ReplicaRole,
    /// How far it has applied; `None` if it cannot be reached.
    pub applied_index: Option<LogIndex>,
    /// State hash at an index common to the shard's replicas; `None` if it cannot be reached.
    pub state_hash: Option<model::StateHash>,
}

/// A shard in `/api/v1/status/cluster`.
#[derive(Clone, Debug)]
pub struct ShardStatus {
    /// Its id; 0 is meta.
    pub id: ShardId,
    /// The leader's name.
    pub leader: Option<String>,
    /// The term this node knows.
    pub term: Term,
    /// The commit index this node knows.
    pub commit_index: LogIndex,
    /// The configuration version committed in the shard.
    pub config_version: ConfigVersion,
    /// Its replicas, by node id.
    pub replicas: Vec<ReplicaStatus>,
}

/// The configuration in `/api/v1/status/cluster`.
#[derive(Clone, Debug, Default)]
pub struct ConfigStatus {
    /// The version in force.
    pub version: ConfigVersion,
    /// Hash of its text, hexadecimal.
    pub hash: String,
    /// Names of nodes whose own file differs from it.
    pub nodes_with_other_files: Vec<String>,
    /// Keys that were accepted and are not supported (`--config.ignore-unsupported`).
    pub ignored: Vec<String>,
}

/// The content of `/api/v1/status/cluster`.
#[derive(Clone, Debug)]
pub struct ClusterStatus {
    /// The cluster's id; `None` before it is formed.
    pub cluster_id: Option<model::ClusterId>,
    /// Nodes by id.
    pub nodes: Vec<NodeStatus>,
    /// Shards by id.
    pub shards: Vec<ShardStatus>,
    /// The configuration.
    pub config: ConfigStatus,
    /// Whether one more node may be lost without losing data or service.
    pub may_lose_another_node: bool,
    /// Why not; empty if it may.
    pub why: String,
}

/// Slots in which a target was not scraped, for a reason of ours.
#[derive(Clone, Debug)]
pub struct Gap {
    /// The target's labels.
    pub target: Labels,
    /// The first slot missed.
    pub from: TimestampMs,
    /// The last slot missed.
    pub to: TimestampMs,
    /// How many slots.
    pub slots: u64,
    /// Why.
    pub reason: String,
}

/// Which gaps to list.
#[derive(Clone, Debug)]
pub struct GapQuery {
    /// From here, inclusive.
    pub start: TimestampMs,
    /// To here, inclusive.
    pub end: TimestampMs,
    /// At most so many.
    pub limit: usize,
    /// How fresh.
    pub consistency: Consistency,
    /// How long to wait for leaders.
    pub timeout: Duration,
}

/// The cluster.
pub trait Cluster: Send + Sync {
    /// What `/api/v1/status/cluster` says. Bounded in time: a silent node costs at most a second.
    fn status(&self) -> BoxFuture<'_, ClusterStatus>;
    /// Gaps that overlap the range, by target and time, at most `limit`.
    fn gaps(&self, query: GapQuery) -> BoxFuture<'_, Result<Vec<Gap>, model::ViewError>>;
}
