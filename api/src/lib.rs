//! The Prometheus HTTP API.

pub mod ports;
