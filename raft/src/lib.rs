//! Raft groups: openraft behind our own API, transport, snapshots, membership, gossip

pub mod meta;
