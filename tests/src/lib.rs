//! A harness for real clusters: starts the built binary, breaks it, asks it, and keeps the ledger of what it
//! promised. Used by the end-to-end tests and by the drill.

mod bodies;
mod checks;
mod client;
mod cluster;
mod hosts;
mod meter;
mod play;
mod program;
mod shim;
mod targets;
mod turn;
mod wait;
mod watch;
mod writer;

pub use bodies::{Bodies, value_at};
pub use checks::{SlotReport, account_slots, equal_hashes, gaps, missed_slots, same_bytes, samples};
pub use client::{Answer, Client, DATA_TIMEOUT};
pub use cluster::{Cluster, ClusterOptions, vestal_binary};
pub use hosts::Hosts;
pub use meter::{cpu_seconds, disk_bytes, resident_bytes, written_bytes};
pub use play::{NotPlayed, Played, play};
pub use program::{NodeExporter, Program, Ran, debian, free_port, run};
pub use shim::Shim;
pub use targets::Targets;
pub use turn::{is_soak, my_turn, skipped};
pub use wait::{now_ms, wait_until, within};
pub use watch::{FreshnessWatch, Watched};
pub use writer::{
    Batch, Ledger, LedgerCheck, WRITE_HEADERS, WriteHistogram, WriteMixedSeries, WriteSeries, WriteSpan,
    Writer, WriterOptions, encode_mixed_write, encode_write,
};
