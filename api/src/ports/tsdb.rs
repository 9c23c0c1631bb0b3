//! Figures of storage.

use model::TimestampMs;

/// A name and a number, in cardinality tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedCount {
    /// The name.
    pub name: String,
    /// The number.
    pub value: u64,
}

/// The content of `/api/v1/status/tsdb`. Series that several sources have count once.
#[derive(Clone, Debug, Default)]
pub struct TsdbStats {
    /// Series with samples in memory.
    pub series: u64,
    /// Distinct label pairs.
    pub label_pairs: u64,
    /// Chunks and open windows.
    pub chunks: i64,
    /// The earliest timestamp.
    pub min_time: TimestampMs,
    /// The latest timestamp.
    pub max_time: TimestampMs,
    /// Series by metric name, most first.
    pub series_by_metric_name: Vec<NamedCount>,
    /// Values by label name, most first.
    pub values_by_label_name: Vec<NamedCount>,
    /// Bytes of values by label name, most first.
    pub bytes_by_label_name: Vec<NamedCount>,
    /// Series by `name=value`, most first.
    pub series_by_label_pair: Vec<NamedCount>,
}

/// Log replay at the start, in whatever unit the log counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReplayStatus {
    /// The first.
    pub min: u64,
    /// The last.
    pub max: u64,
    /// Where it is; equal to `max` when done.
    pub current: u64,
}

/// Figures of storage.
pub trait Tsdb: Send + Sync {
    /// Cardinality, each table with at most `limit` rows. May block; called through the spawner.
    ///
    /// # Errors
    /// If storage fails.
    fn stats(&self, limit: usize) -> Result<TsdbStats, model::QueryError>;
    /// How far replay has come.
    fn replay(&self) -> ReplayStatus;
}
