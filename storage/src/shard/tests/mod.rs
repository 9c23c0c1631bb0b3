//! The data shard as a specification: what goes in by commands, what comes out by views.

mod corpus;
mod fixture;
mod model_based;
mod replicas;
mod rows;
mod snapshots;
mod sources;
