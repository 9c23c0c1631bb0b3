//! Raft groups: openraft behind our own API, transport, snapshots, membership, gossip

mod confirm;
#[cfg(test)]
mod corpus;
mod duty_time;
mod engine;
mod forming;
mod gossip;
mod group;
mod identity;
mod members;
pub mod meta;
mod node;
mod peer;
mod places;
mod reach;
mod read;
mod status;
mod time;

pub use duty_time::{DutyTime, Jump};
pub use engine::driver::{Driver, Effect, Event, Instant, Role, Timing};
pub use engine::machine::DiskTrouble;
pub use engine::snapshot::SnapshotProgress;
pub use forming::{
    Forming, FormingAnswer, FormingEffect, FormingEvent, FormingOptions, FormingRequest, INITIAL_MEMBERS_MAX,
};
pub use gossip::{Gossip, GossipError, GossipMeta, GossipOptions, GossipPeer, Liveness, MemberlistGossip};
pub use identity::{IdentityError, Proposal, Standing, fence};
pub use members::MemberError;
pub use node::{COMMAND_BYTES_MAX, RaftNode, RaftOptions, RaftPorts, StartError, Threading};
pub use peer::{
    CALL_KIND_MIN, CallHandler, FRAME_BYTES_MAX, Gate, OPEN_KIND_MIN, PROTOCOL_VERSION, PeerError, PeerName,
};
pub use read::ReadIndexError;
pub use status::{GroupProgress, GroupRole, GroupStatus};
pub use time::{CLOCK_OFF_MS, ClockSample, ClusterTime};
