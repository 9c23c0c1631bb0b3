//! The Prometheus HTTP API.

mod decompress;
mod error;
mod form;
mod job;
mod json;
mod options;
mod output;
mod param;
pub mod ports;
mod respond;
mod state;
mod text;
mod view;
pub mod write;

pub use decompress::{Codec, DecompressError, decompress};
pub use options::Options;
pub use state::{Counters, Ports};
