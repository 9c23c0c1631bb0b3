//! What must hold, one file each. `docs/simulation.md` says which is where, and which are not judged yet.

pub mod answers;
pub mod config;
pub mod liveness;
pub mod replicas;
pub mod slots;
