//! Storage: the shared log, rows, chunks, index; RocksDB behind a port with a twin in memory

pub mod codec;
pub mod kv;

pub mod log;

pub mod shard;
