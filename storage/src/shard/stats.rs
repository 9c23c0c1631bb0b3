//! Figures about a shard: for `/api/v1/status/tsdb`, `/api/v1/status/gaps` and metrics.

use super::{DataShard, apply::MISSED_MAX, command::MissedSlots, state::ShardCounters, window::ROWS_MAX};
use model::{SourceKey, TimestampMs};
use std::sync::Arc;

/// A name with a number, as in the tables of `/api/v1/status/tsdb`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CountByName {
    /// A metric name, a label name, or `name=value`.
    pub name: String,
    /// Series, values or bytes.
    pub count: u64,
}

/// What a shard holds at present.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShardStats {
    /// Sources.
    pub sources: u64,
    /// Series in a layout: they get samples.
    pub active_series: u64,
    /// Series in the index.
    pub series: u64,
    /// Distinct label pairs.
    pub label_pairs: u64,
    /// Chunks, sealed, in memory or stored.
    pub chunks: u64,
    /// Their bytes.
    pub chunk_bytes: u64,
    /// Rows in open windows.
    pub open_rows: u64,
    /// Bytes of open windows.
    pub open_bytes: u64,
    /// Bytes of the index, about.
    pub index_bytes: u64,
    /// Samples stored.
    pub samples: u64,
    /// Earliest and newest timestamp, if there is any.
    pub bounds: Option<(TimestampMs, TimestampMs)>,
    /// Metric names with most series.
    pub series_by_metric: Vec<CountByName>,
    /// Label names with most values.
    pub values_by_label: Vec<CountByName>,
    /// Label names whose values take most bytes.
    pub bytes_by_label: Vec<CountByName>,
    /// Label pairs with most series.
    pub series_by_pair: Vec<CountByName>,
    /// Counters since the start of the process.
    pub counters: ShardCounters,
}

/// Slots that were missed, with whose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The target.
    pub source: Arc<SourceKey>,
    /// The slots, cut to the range that was asked for.
    pub slots: MissedSlots,
}

fn top(mut counts: Vec<CountByName>, limit: usize) -> Vec<CountByName> {
    counts.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.name.cmp(&b.name)));
    counts.truncate(limit);
    counts
}

impl DataShard {
    /// What has a bound in memory beside the cache: name, most of any source, bound.
    #[must_use]
    pub fn bounds(&self) -> [(&'static str, u64, u64); 2] {
        let view = self.view();
        let sources = || view.inner.sources.iter().flatten();
        let rows = sources().flat_map(|source| &source.windows).map(|window| window.rows.len()).max();
        let missed = sources().map(|source| source.missed.len()).max();
        let count = |count: Option<usize>| count.unwrap_or(0) as u64;
        [
            ("rows of an open window", count(rows), ROWS_MAX as u64),
            ("ranges of missed slots of a source", count(missed), MISSED_MAX as u64),
        ]
    }

    /// Figures; the tables have at most `limit` rows each. Walks index and sources: not for hot paths.
    #[must_use]
    pub fn stats(&self, limit: usize) -> ShardStats {
        let view = self.view();
        let mut stats = ShardStats::default();
        for source in view.inner.sources.iter().flatten() {
            stats.sources += 1;
            stats.active_series += source.columns.len() as u64;
            stats.chunks += source.chunks.len() as u64;
            stats.chunk_bytes += source.chunks.iter().map(|chunk| chunk.bytes).sum::<u64>();
            stats.open_rows += source.open_rows() as u64;
            stats.open_bytes += source.windows.iter().map(|window| window.bytes() as u64).sum::<u64>();
            let chunks = source.chunks.iter().map(|chunk| (chunk.first, chunk.last));
            let windows = source.windows.iter().filter_map(|window| window.bounds());
            for (first, last) in chunks.chain(windows) {
                let (low, high) = stats.bounds.unwrap_or((first, last));
                stats.bounds = Some((low.min(first), high.max(last)));
            }
        }
        {
            let state = self.read();
            stats.samples = state.partitions.values().map(|partition| partition.samples).sum();
            stats.counters = state.counters;
        }
        let index = view.inner.index.read().expect("no holder panics");
        stats.series = index.len();
        stats.label_pairs = index.pair_count() as u64;
        stats.index_bytes = index.bytes() as u64;
        let (mut values, mut bytes, mut pairs) = (Vec::new(), Vec::new(), Vec::new());
        for (name, label) in &index.labels {
            let count = |count| CountByName { name: name.to_string(), count };
            values.push(count(label.values.len() as u64));
            bytes.push(count(label.values.keys().map(|value| value.len() as u64).sum()));
            for (value, entry) in &label.values {
                pairs.push(CountByName { name: format!("{name}={value}"), count: entry.postings.len() });
            }
            pairs = if pairs.len() > 4 * limit + 1_024 { top(pairs, limit) } else { pairs };
        }
        if let Some(metrics) = index.labels.get(model::METRIC_NAME) {
            let metrics = metrics.values.iter();
            let counts = metrics.map(|(n, v)| CountByName { name: n.to_string(), count: v.postings.len() });
            stats.series_by_metric = top(counts.collect(), limit);
        }
        stats.values_by_label = top(values, limit);
        stats.bytes_by_label = top(bytes, limit);
        stats.series_by_pair = top(pairs, limit);
        stats
    }

    /// Series in a layout, cheaply.
    #[must_use]
    pub fn active_series(&self) -> u64 {
        self.read().sources.iter().flatten().map(|source| source.columns.len() as u64).sum()
    }

    /// The counters alone, cheaply.
    #[must_use]
    pub fn counters(&self) -> ShardCounters {
        self.read().counters
    }

    /// Slots between `start` and `end`, both inclusive, that were missed, by source.
    #[must_use]
    pub fn gaps(&self, start: TimestampMs, end: TimestampMs) -> Vec<Gap> {
        let view = self.view();
        let mut gaps = Vec::new();
        for source in view.inner.sources.iter().flatten() {
            for slots in source.missed.iter().filter(|slots| slots.from <= end && slots.to >= start) {
                if let Some(slots) = cut(slots, start, end) {
                    gaps.push(Gap { source: Arc::clone(&source.key), slots });
                }
            }
        }
        gaps
    }
}

/// The part of a range of slots that lies between two instants.
fn cut(slots: &MissedSlots, start: TimestampMs, end: TimestampMs) -> Option<MissedSlots> {
    let interval = slots.interval.0.max(1);
    let mut cut = slots.clone();
    if cut.from < start {
        let steps = start.since(cut.from).0.div_ceil(interval);
        cut.from = cut.from.plus(model::DurationMs(steps * interval));
    }
    if cut.to > end {
        let steps = cut.to.since(end).0.div_ceil(interval);
        cut.to = cut.to.minus(model::DurationMs(steps * interval));
    }
    (cut.from <= cut.to).then_some(cut)
}
