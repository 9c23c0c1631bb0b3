//! Rows on their way into the log.
//!
//! Invariants: rows are in the order in which they came; what they hold is counted, and [`Batch::is_over`] says when
//! it is more than may wait. What is too much is taken from the source that holds the most, so one target costs the
//! others nothing.

use model::{Row, SourceKey, Value};
use std::{
    collections::{BTreeMap, VecDeque},
    mem::size_of,
    sync::Arc,
    time::Duration,
};

/// A segment is proposed before its time when about so many samples wait.
pub(super) const BATCH_SAMPLES_MAX: usize = 100_000;
/// Rows that wait at most while entries cannot be committed; whole ones that do not become missed slots. One scrape may
/// be 4,097 of them, by its distinct timestamps.
const WAITING_ROWS_MAX: usize = 16_384;
/// And their memory, about: a target of a million series is one row.
const WAITING_BYTES_MAX: usize = 64 << 20;

/// Rows that wait to be proposed.
#[derive(Debug, Default)]
pub(super) struct Batch {
    rows: VecDeque<Row>,
    samples: usize,
    bytes: usize,
    /// When the oldest came, monotonic.
    since: Option<Duration>,
}

impl Batch {
    pub(super) fn push(&mut self, now: Duration, rows: Vec<Row>) {
        for row in rows {
            self.count(&row);
            self.rows.push_back(row);
        }
        if !self.rows.is_empty() {
            self.since.get_or_insert(now);
        }
    }

    /// Puts rows in front of all others, in their order, as if they had come at `since`.
    pub(super) fn put_back(&mut self, since: Duration, rows: impl DoubleEndedIterator<Item = Row>) {
        for row in rows.rev() {
            self.count(&row);
            self.rows.push_front(row);
            self.since = Some(since);
        }
    }

    pub(super) fn pop(&mut self) -> Option<Row> {
        let row = self.rows.pop_front()?;
        self.samples -= row.cells.len();
        self.bytes -= bytes_of(&row);
        if self.rows.is_empty() {
            self.since = None;
        }
        Some(row)
    }

    /// Takes out what is more than may wait: the oldest rows of the source that holds the most.
    pub(super) fn shed(&mut self) -> Vec<Row> {
        let mut shed = Vec::new();
        while self.is_over() {
            let by_rows = self.rows.len() > WAITING_ROWS_MAX;
            let weight = |row: &Row| if by_rows { 1 } else { bytes_of(row) };
            let mut excess =
                if by_rows { self.rows.len() - WAITING_ROWS_MAX } else { self.bytes - WAITING_BYTES_MAX };
            let mut held: BTreeMap<Arc<SourceKey>, (usize, usize)> = BTreeMap::new();
            for row in &self.rows {
                let (most, rows) = held.entry(row.source.clone()).or_default();
                *most += weight(row);
                *rows += 1;
            }
            let Some((source, (_, rows))) = held.into_iter().max_by_key(|(_, (most, _))| *most) else {
                break;
            };
            // No more than a part at once: another may hold the most then.
            let mut left = rows.div_ceil(8);
            let since = self.since.unwrap_or_default();
            let mut kept = Vec::with_capacity(self.rows.len());
            for row in std::mem::take(self).rows {
                if left > 0 && excess > 0 && row.source == source {
                    left -= 1;
                    excess = excess.saturating_sub(weight(&row));
                    shed.push(row);
                } else {
                    kept.push(row);
                }
            }
            self.push(since, kept);
        }
        shed
    }

    /// Drops what is not wanted any more.
    pub(super) fn retain(&mut self, mut wanted: impl FnMut(&Row) -> bool) {
        let since = self.since;
        let rows = std::mem::take(self).rows;
        self.push(since.unwrap_or_default(), rows.into_iter().filter(|row| wanted(row)).collect());
    }

    fn count(&mut self, row: &Row) {
        self.samples += row.cells.len();
        self.bytes += bytes_of(row);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    pub(super) fn rows(&self) -> impl Iterator<Item = &Row> {
        self.rows.iter()
    }

    /// When the oldest came.
    pub(super) fn since(&self) -> Option<Duration> {
        self.since
    }

    /// Whether more waits than may. A single row always may: it is in memory already.
    pub(super) fn is_over(&self) -> bool {
        self.rows.len() > WAITING_ROWS_MAX || (self.bytes > WAITING_BYTES_MAX && self.rows.len() > 1)
    }

    /// When it is to be proposed: at the next multiple of `age` on the monotonic clock, so that the shards led here
    /// propose at once and share messages and syncs.
    pub(super) fn due(&self, age: Duration) -> Option<Duration> {
        let since = self.since?;
        if self.samples >= BATCH_SAMPLES_MAX {
            return Some(since);
        }
        let ticks = since.as_nanos() / age.as_nanos() + 1;
        Some(Duration::from_nanos(u64::try_from(ticks * age.as_nanos()).unwrap_or(u64::MAX)))
    }
}

/// About the memory of a row.
fn bytes_of(row: &Row) -> usize {
    let numbers = |lens: [usize; 5]| size_of::<model::FloatHistogram>() + 8 * lens.iter().sum::<usize>();
    let beside = |value: &Value| match value {
        Value::Float(_) => 0,
        Value::Histogram(h) => numbers([
            h.positive_spans.len(),
            h.negative_spans.len(),
            h.positive_deltas.len(),
            h.negative_deltas.len(),
            h.custom_values.len(),
        ]),
        Value::FloatHistogram(h) => numbers([
            h.positive_spans.len(),
            h.negative_spans.len(),
            h.positive_buckets.len(),
            h.negative_buckets.len(),
            h.custom_values.len(),
        ]),
    };
    let cells: usize = row.cells.iter().map(|(_, value)| beside(value)).sum();
    size_of::<Row>() + row.cells.len() * size_of::<(model::SlotId, Value)>() + cells
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::{RowKind, SeriesTable, SourceKey, TimestampMs};
    use std::sync::Arc;

    fn row(slot: i64, cells: u32) -> Row {
        let slot = TimestampMs(slot);
        Row {
            source: Arc::new(SourceKey::RemoteWrite { job: "a".into(), instance: String::new() }),
            kind: RowKind::Whole { slot },
            timestamp: slot,
            table: Arc::new(SeriesTable::new(1)),
            cells: (0..cells).map(|cell| (cell, Value::Float(0.0))).collect(),
        }
    }

    fn timestamps(batch: &mut Batch) -> Vec<i64> {
        std::iter::from_fn(|| batch.pop()).map(|row| row.timestamp.0).collect()
    }

    #[test]
    fn batches_of_all_shards_are_due_at_the_same_ticks() {
        let age = Duration::from_millis(500);
        let due = |since: u64| {
            let batch = Batch { since: Some(Duration::from_millis(since)), ..Batch::default() };
            batch.due(age).expect("something waits")
        };
        assert_eq!(due(10_001), Duration::from_millis(10_500));
        assert_eq!(due(10_499), Duration::from_millis(10_500));
        assert_eq!(due(10_500), Duration::from_millis(11_000));
        assert_eq!(Batch::default().due(age), None);
        let since = Some(Duration::from_millis(10_001));
        let full = Batch { since, samples: BATCH_SAMPLES_MAX, ..Batch::default() };
        assert_eq!(full.due(age), since);
    }

    #[test]
    fn what_comes_back_is_in_front_of_what_came_meanwhile() {
        let mut batch = Batch::default();
        batch.push(Duration::from_secs(2), vec![row(3, 1)]);
        batch.put_back(Duration::from_secs(1), [row(1, 1), row(2, 1)].into_iter());
        assert_eq!(batch.since(), Some(Duration::from_secs(1)));
        batch.retain(|row| row.timestamp.0 != 2);
        assert_eq!(timestamps(&mut batch), [1, 3]);
        assert_eq!((batch.samples, batch.bytes, batch.since()), (0, 0, None));
    }

    #[test]
    fn large_rows_are_too_much_long_before_there_are_many() {
        let cells = 1_000_000;
        let mut batch = Batch::default();
        batch.push(Duration::ZERO, vec![row(0, 3 * cells)]);
        assert!(!batch.is_over(), "a single one may wait");
        batch.push(Duration::ZERO, vec![row(1, 1)]);
        assert!(batch.is_over());
        assert_eq!(batch.shed().len(), 1);
        assert_eq!(timestamps(&mut batch), [1]);
    }

    fn row_of(instance: &str, timestamp: i64) -> Row {
        let source = Arc::new(SourceKey::RemoteWrite { job: "a".into(), instance: instance.into() });
        Row { source, ..row(timestamp, 1) }
    }

    /// What one target had too much was taken from all of its shard, the oldest first.
    #[test]
    fn who_holds_the_most_rows_loses_the_oldest_of_them() {
        let mut batch = Batch::default();
        let few: Vec<_> = ["x", "y", "z"].iter().map(|instance| row_of(instance, 0)).collect();
        batch.push(Duration::from_secs(1), few);
        batch.push(Duration::from_secs(2), (0..16_384).map(|i| row_of("many", i)).collect());
        assert!(batch.is_over());
        let shed = batch.shed();
        assert_eq!(shed.iter().map(|row| row.timestamp.0).collect::<Vec<_>>(), [0, 1, 2]);
        assert!(shed.iter().all(|row| row.source == row_of("many", 0).source));
        assert!(!batch.is_over());
        assert_eq!(
            (batch.rows().count(), batch.samples, batch.since()),
            (16_384, 16_384, Some(Duration::from_secs(1)))
        );
        assert!(batch.shed().is_empty());
    }

    #[test]
    fn two_that_hold_the_most_both_lose() {
        let mut batch = Batch::default();
        for instance in ["x", "y"] {
            batch.push(Duration::ZERO, (0..12_000).map(|i| row_of(instance, i)).collect());
        }
        assert_eq!(batch.shed().len(), 24_000 - 16_384);
        for instance in ["x", "y"] {
            let source = row_of(instance, 0).source;
            assert!(batch.rows().filter(|row| row.source == source).count() > 7_500, "{instance}");
        }
    }
}
