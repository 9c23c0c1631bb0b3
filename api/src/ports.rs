//! What the API needs of the node, as traits. The node implements them; tests implement them in memory.
//!
//! Reading goes through [`model::Views`]; everything else the endpoints answer comes through the ports here. A port
//! returns typed content, never JSON: the shapes that clients see are made in this crate only.

mod cluster;
mod config;
mod process;
mod targets;
mod tsdb;
mod write;

pub use cluster::{
    Cluster, ClusterStatus, ConfigStatus, Gap, GapQuery, NodeState, NodeStatus, ReplicaRole, ReplicaStatus,
    ShardStatus,
};
pub use config::{ConfigEntry, ConfigSource, OfferError, QueryLogFile};
pub use process::{BuildInfo, Lifecycle, Metrics, Readiness, RuntimeInfo};
pub use targets::{
    DroppedTarget, MetricMetadata, TargetHealth, TargetList, TargetMetadata, TargetStatus, Targets,
};
pub use tsdb::{NamedCount, ReplayStatus, Tsdb, TsdbStats};
pub use write::{Refusal, WriteError, WriteOutcome, WriteRequest, WriteSeries, WriteSink};
