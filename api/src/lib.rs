//! The Prometheus HTTP API
