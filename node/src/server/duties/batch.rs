//! Rows on their way into the log.
//!
//! Invariants: rows are in the order in which they came; what they hold is counted, and [`Batch::is_over`] says when
//! it is more than may wait.

use model::{Row, Value};
use std::{collections::VecDeque, mem::size_of, time::Duration};

/// A segment is proposed before its time when about so many samples wait.
pub(super) const BATCH_SAMPLES_MAX: usize = 100_000;
/// Rows that wait at most while entries cannot be committed; the oldest become missed slots.
const WAITING_ROWS_MAX: usize = 4_096;
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
        let mut batch = Batch::default();
        batch.push(Duration::ZERO, (0..4_097).map(|slot| row(slot, 1)).collect());
        assert!(batch.is_over());
    }
}
