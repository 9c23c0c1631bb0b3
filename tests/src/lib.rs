//! A harness for real clusters: starts the built binary, breaks it, asks it, and keeps the ledger of what it
//! promised. Used by the end-to-end tests and by the drill.

mod client;
mod cluster;
mod targets;
mod wait;
mod writer;

pub use client::{Answer, Client, DATA_TIMEOUT};
pub use cluster::{Cluster, ClusterOptions, vestal_binary};
pub use targets::Targets;
pub use wait::{now_ms, wait_until};
pub use writer::{Batch, Ledger, LedgerCheck, WriteSeries, Writer, WriterOptions, encode_write};
