//! The Prometheus HTTP API.
//!
//! ```text
//!  Listener ──serve──▶ router ──▶ query, series ──▶ Views, promql
//!                        ├──────▶ write ──────────▶ WriteSink
//!                        └──────▶ status, targets ▶ ports
//! ```
//!
//! The node implements [`ports`] and calls [`router()`] and [`serve`]. Clients see Prometheus's shapes, numbers,
//! status codes and texts; these are made here and nowhere else.

mod active;
mod call;
mod cluster;
mod decompress;
mod engine_metrics;
mod error;
mod features;
mod federate;
mod form;
mod job;
mod json;
mod known;
mod lifecycle;
mod options;
mod output;
mod page;
mod param;
mod points;
pub mod ports;
mod query;
mod query_log;
mod queue;
mod respond;
mod result;
mod router;
mod selector;
mod series;
mod server;
mod state;
mod status;
mod targets;
mod text;
mod view;
pub mod write;

pub use decompress::{Codec, DecompressError, decompress};
pub use engine_metrics::EngineMetrics;
pub use options::Options;
pub use router::router;
pub use server::{ServerOptions, serve};
pub use state::{Counters, Ports};
