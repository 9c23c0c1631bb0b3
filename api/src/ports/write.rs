//! Writing: what remote write hands on, and how it ends.

use model::{BoxFuture, Labels, TimestampMs, Value};
use std::{collections::BTreeMap, ops::Range, time::Duration};

/// One series of a write: its labels and where its samples stand in [`WriteRequest::samples`].
#[derive(Clone, Debug)]
pub struct WriteSeries {
    /// The series. Sorted, without duplicates or empty values, with a metric name, within the limits.
    pub labels: Labels,
    /// Its samples, as a range of [`WriteRequest::samples`]; may be empty.
    pub samples: Range<u32>,
}

/// What one remote-write request brings, decoded and checked. Samples lie in one column for all series, so that a
/// request of many series with one sample each costs no allocation per series.
#[derive(Clone, Debug, Default)]
pub struct WriteRequest {
    /// The series in the order of the request; a label set may come more than once.
    pub series: Vec<WriteSeries>,
    /// All samples, in the order of the request; of one series not necessarily ascending.
    pub samples: Vec<(TimestampMs, Value)>,
}

impl WriteRequest {
    /// Series with their samples, in the order of the request.
    pub fn iter(&self) -> impl Iterator<Item = (&Labels, &[(TimestampMs, Value)])> {
        self.series.iter().map(|series| {
            let range = series.samples.start as usize..series.samples.end as usize;
            (&series.labels, &self.samples[range])
        })
    }
}

/// Why a sample was refused. The texts are Prometheus's where it has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
pub enum Refusal {
    /// Older than the newest of its series, and no out-of-order window is set.
    #[error("out of order sample")]
    OutOfOrder,
    /// Older than the out-of-order window, or than retention keeps.
    #[error("too old sample")]
    TooOld,
    /// Another value is stored at this timestamp already, by the same source.
    #[error("duplicate sample for timestamp")]
    Duplicate,
    /// Too far in the future.
    #[error("out of bounds")]
    TooFarInFuture,
    /// A limit (series, labels, samples) of the configuration is reached.
    #[error("limit exceeded")]
    LimitExceeded,
    /// A histogram that contradicts itself.
    #[error("invalid histogram")]
    InvalidHistogram,
}

/// How a write ended whose every sample has an answer: applied and on a majority of disks, or refused.
#[derive(Clone, Debug, Default)]
pub struct WriteOutcome {
    /// Samples that are stored now, those included that were stored already.
    pub accepted: u64,
    /// Refused samples by reason; empty if all were accepted.
    pub refused: BTreeMap<Refusal, u64>,
    /// The first refused one in words: reason, series, timestamp.
    pub first: Option<String>,
}

/// A write whose outcome is not known for every sample; the sender retries all of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// A shard has no leader, is overloaded, out of disk, or did not answer in time.
    #[error("{reason}")]
    Unavailable {
        /// Why, for the response's body.
        reason: String,
        /// What `Retry-After` tells the sender (rounded up to seconds, at least 1).
        retry_after: Duration,
    },
}

/// Takes remote writes.
pub trait WriteSink: Send + Sync {
    /// Writes to all shards concerned and waits until every sample is applied on a majority, or refused. The port
    /// bounds its own time.
    fn write(&self, request: WriteRequest) -> BoxFuture<'_, Result<WriteOutcome, WriteError>>;
}
