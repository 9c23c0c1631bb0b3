//! What must hold, one file each. `docs/simulation.md` says which is where, and which are not judged yet.

pub mod answers;
pub mod bounds;
pub mod config;
pub mod liveness;
pub mod logs;
pub mod queries;
pub mod replicas;
pub mod slots;
pub mod staleness;
pub mod votes;
