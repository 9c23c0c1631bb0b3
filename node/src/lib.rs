//! A node: configuration, wiring, supervision and the command line of the binary `vestal`.
//!
//! It connects those who decide and decides nothing itself. As a library it is what a simulator runs.

pub mod cli;
pub mod config;
mod logging;
pub mod outside;
mod server;

pub use raft::{GroupRole, GroupStatus, Threading};
pub use server::{Bound, NodePorts, Probe, ServeOptions, ShardReport, Tuning, Web, serve};
