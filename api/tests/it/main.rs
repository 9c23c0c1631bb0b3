//! The HTTP API as its clients see it: requests against the router over ports in memory.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod cluster;
mod engine;
mod files;
mod lifecycle;
mod memory;
mod query;
mod series;
mod server;
mod status;
mod targets;
mod world;
mod write;

#[allow(dead_code)]
#[path = "../support/message.rs"]
mod message;
