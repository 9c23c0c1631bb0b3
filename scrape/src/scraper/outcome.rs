//! What a scrape yields, and how its rows are put together.

use crate::schedule::MissedSlots;
use crate::series::{Ingested, SYNTHETIC, SeriesCache, TimedSample};
use crate::target::Target;
use model::{Row, RowKind, STALE_NAN, SlotId, SourceKey, Term, TimestampMs, Value};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// The outcome of one scrape for one slot. Whoever commits it fences by `term`: it may come late.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Whose.
    pub source: Arc<SourceKey>,
    /// The term in which the scrape began.
    pub term: Term,
    /// The scheduled time.
    pub slot: TimestampMs,
    /// The timestamp of the whole row.
    pub timestamp: TimestampMs,
    /// First the whole row, then partial rows: samples with timestamps of their own, oldest first, those last that
    /// are older than another sample of their series in the same body.
    pub rows: Vec<Row>,
    /// Whether the scrape succeeded.
    pub up: bool,
    /// Why not.
    pub last_error: Option<String>,
    /// From the begin of the scrape to the end of its body.
    pub duration: Duration,
    /// Samples in the body.
    pub samples_scraped: u64,
    /// Samples after metric relabelling.
    pub samples_post_relabel: u64,
    /// Series that the last good scrape did not have.
    pub series_added: u64,
    /// Bytes of the body, unpacked; `None` if there are more than allowed.
    pub body_bytes: Option<u64>,
}

/// What comes out of a [`crate::Scraper`].
#[derive(Clone, Debug)]
pub enum ScraperOutput {
    /// A scrape has ended.
    Outcome(Box<Outcome>),
    /// Slots were passed over.
    Missed(MissedSlots),
}

/// A scrape that has ended, before it is rows.
pub(super) struct Scrape<'a> {
    pub(super) target: &'a Target,
    pub(super) slot: TimestampMs,
    pub(super) timestamp: TimestampMs,
    pub(super) duration: Duration,
    pub(super) up: bool,
    pub(super) body_bytes: Option<u64>,
}

/// Puts the rows of a scrape together; the whole row gets the synthetic series.
pub(super) fn rows(cache: &SeriesCache, scrape: &Scrape<'_>, found: &mut Ingested) -> Vec<Row> {
    let row = |kind, timestamp, cells| Row {
        source: scrape.target.source.clone(),
        kind,
        timestamp,
        table: cache.table().clone(),
        cells,
    };
    let mut whole = std::mem::take(&mut found.cells);
    let limit = scrape.target.config.limits.samples;
    let values = [
        f64::from(u8::from(scrape.up)),
        scrape.duration.as_secs_f64(),
        found.scraped as f64,
        found.added as f64,
        found.series_added as f64,
        scrape.target.timeout.0 as f64 / 1000.0,
        limit as f64,
        scrape.body_bytes.map_or(-1.0, |bytes| bytes as f64),
    ];
    whole.extend(cache.synthetic().map(|(i, slot)| (slot, Value::Float(values[i]))));
    let mut rows = vec![row(RowKind::Whole { slot: scrape.slot }, scrape.timestamp, whole)];
    for ((_, timestamp), cells) in by_time(std::mem::take(&mut found.timed)) {
        rows.push(row(RowKind::Partial, TimestampMs(timestamp), cells));
    }
    if !found.ended.is_empty() {
        let stale = found.ended.iter().map(|slot| (*slot, Value::Float(STALE_NAN)));
        rows.push(row(RowKind::Partial, scrape.timestamp, stale.collect()));
    }
    rows
}

/// The row of a scrape whose samples cannot be taken in after all: the synthetic series alone, with `up` 0, so that what
/// the target had before ends.
#[must_use]
pub fn failed_row(row: &Row) -> Row {
    let mut cells = Vec::new();
    let mut before = SYNTHETIC.len();
    for (slot, value) in row.cells.iter().rev() {
        let labels = row.table.get(*slot);
        let name = labels.as_ref().map_or("", |labels| labels.metric_name());
        // They stand last, in their order.
        let Some(at) = SYNTHETIC[..before].iter().position(|synthetic| *synthetic == name) else { break };
        let gone = matches!(SYNTHETIC[at], "up" | "scrape_series_added");
        cells.push((*slot, if gone { Value::Float(0.0) } else { value.clone() }));
        before = at;
    }
    cells.reverse();
    Row { cells, ..row.clone() }
}

/// Cells by (late, timestamp), each slot once: the first sample wins.
fn by_time(timed: Vec<TimedSample>) -> BTreeMap<(bool, i64), Vec<(SlotId, Value)>> {
    let mut rows: BTreeMap<(bool, i64), Vec<(SlotId, Value)>> = BTreeMap::new();
    for sample in timed {
        rows.entry((sample.late, sample.timestamp)).or_default().push((sample.slot, sample.value));
    }
    for cells in rows.values_mut() {
        cells.sort_by_key(|(slot, _)| *slot); // stable
        cells.dedup_by_key(|(slot, _)| *slot);
    }
    rows
}
