//! The leader's side: rows as scraped or received to compact rows in a segment.
//!
//! An encoder remembers which column each slot of a series table has in the last applied layout, so a steady scrape
//! costs no hashing and no labels. It may be behind: a row against a layout that is gone is refused with
//! [`super::Refusal::UnknownLayout`], for certain, and is encoded again.
//!
//! Rows of one [`Pass`] are encoded against the layouts of its first rows. Were each encoded against the newest, the
//! older of two could be refused and the newer taken, and the older would then be out of order for good.

use super::{
    DataShard,
    command::{COMMAND_BYTES_MAX, DataCommand},
    index::{NO_COLUMN, SourceId},
    segment::{CompactRow, SegmentHead, SourceRef, bytes_of},
};
use bytes::Bytes;
use model::{Labels, Row, RowKind, Term, TimestampMs, Value};
use std::{collections::BTreeMap, sync::Arc};

/// A segment is proposed at the latest when it is this long.
pub const SEGMENT_BYTES_MAX: usize = 1 << 20;
/// Labels of series that one row introduces, in bytes: a segment for itself, so that others get their turn.
const INTRODUCED_BYTES_MAX: usize = 4 << 20;
/// What a command has besides its rows, at most.
const HEAD_BYTES_MAX: usize = 64;
/// Tables that an encoder remembers; the least recently used go first.
const TABLES_MAX: usize = 8_192;

/// What an encoder remembers of a series table.
#[derive(Debug)]
struct Cached {
    /// The pass that last asked for the source.
    pass: u64,
    /// The source and its layout; `None` if it was not applied then.
    applied: Option<(SourceId, u64)>,
    /// Column by slot; [`NO_COLUMN`] where the layout has none, or nobody has looked yet.
    columns: Vec<u32>,
    used: u64,
}

/// Turns rows into compact rows against one shard's layouts.
#[derive(Debug, Default)]
pub struct RowEncoder {
    tables: BTreeMap<u64, Cached>,
    passes: u64,
    clock: u64,
    cells: Vec<(u32, u32)>,
}

/// Rows that are encoded, proposed and, if they are refused, encoded again together.
#[derive(Debug)]
pub struct Pass<'e>(&'e mut RowEncoder);

impl RowEncoder {
    /// An encoder that knows nothing yet. One per shard led.
    #[must_use]
    pub fn new() -> RowEncoder {
        RowEncoder::default()
    }

    /// Begins a pass: from now on it sees what is applied now, of each source from its first row on.
    pub fn begin(&mut self) -> Pass<'_> {
        self.passes += 1;
        Pass(self)
    }

    /// Encodes a row against what `shard` had applied when the pass met its source.
    fn encode(&mut self, row: &Row, shard: &DataShard) -> CompactRow {
        self.clock += 1;
        let slot = match row.kind {
            RowKind::Whole { slot } => Some(slot),
            RowKind::Partial => None,
        };
        let Some((id, layout)) = self.look_up(row, shard) else {
            return named(row, slot);
        };
        let columns = &self.tables[&row.table.identity()].columns;
        let mut new_slots: Vec<(u32, u32)> = Vec::new();
        let mut cells = std::mem::take(&mut self.cells);
        cells.clear();
        for (i, (slot, _)) in (0_u32..).zip(&row.cells) {
            match columns.get(*slot as usize).copied().unwrap_or(NO_COLUMN) {
                NO_COLUMN => new_slots.push((*slot, i)),
                column => cells.push((column, i)),
            }
        }
        if !cells.is_sorted_by(|a, b| a.0 < b.0) {
            cells.sort_by_key(|(column, _)| *column);
            cells.dedup_by_key(|(column, _)| *column);
        }
        let mut compact = CompactRow {
            source: SourceRef::Known { id, layout },
            introduces: false,
            slot,
            timestamp: row.timestamp,
            runs: runs(&cells),
            new_series: Vec::with_capacity(new_slots.len()),
            histograms: Vec::new(),
            floats: Vec::with_capacity(row.cells.len()),
        };
        for (_, i) in &cells {
            push(&mut compact, &row.cells[*i as usize].1);
        }
        for (slot, i) in new_slots {
            if let Some(labels) = row.table.get(slot) {
                compact.new_series.push(labels);
                push(&mut compact, &row.cells[i as usize].1);
            }
        }
        self.cells = cells;
        compact
    }

    /// The source of a row and its layout, as this pass sees them, with the columns of the row's cells remembered;
    /// `None` if the source is not applied. Only series of this row are looked for: a table may have many more, of
    /// writers whose series come and go.
    fn look_up(&mut self, row: &Row, shard: &DataShard) -> Option<(SourceId, u64)> {
        let new = || Cached { pass: 0, applied: None, columns: Vec::new(), used: 0 };
        let cached = self.tables.entry(row.table.identity()).or_insert_with(new);
        cached.used = self.clock;
        if cached.pass != self.passes {
            cached.pass = self.passes;
            let applied = shard.layout(&row.source);
            if applied != cached.applied {
                cached.applied = applied;
                cached.columns.clear();
            }
        }
        let applied = cached.applied;
        if let Some((id, layout)) = applied {
            let columns = &mut cached.columns;
            let slots = row.cells.iter().map(|(slot, _)| *slot);
            columns.resize(
                columns.len().max(slots.clone().max().map_or(0, |slot| slot as usize + 1)),
                NO_COLUMN,
            );
            let unknown: Vec<u32> = slots.filter(|slot| columns[*slot as usize] == NO_COLUMN).collect();
            if !unknown.is_empty() {
                let labels = row.table.labels_of(&unknown);
                for (slot, column) in unknown.into_iter().zip(shard.columns_of(id, layout, &labels)) {
                    columns[slot as usize] = column;
                }
            }
        }
        if self.tables.len() > TABLES_MAX {
            self.forget();
        }
        applied
    }

    /// Forgets the half of the tables that was not used for longest.
    fn forget(&mut self) {
        let mut used: Vec<u64> = self.tables.values().map(|cached| cached.used).collect();
        used.sort_unstable();
        let middle = used[used.len() / 2];
        self.tables.retain(|_, cached| cached.used >= middle);
    }
}

fn push(compact: &mut CompactRow, value: &Value) {
    match value {
        Value::Float(value) => compact.floats.push(*value),
        histogram => {
            let position = (compact.floats.len() + compact.histograms.len()) as u32;
            compact.histograms.push((position, histogram.clone()));
        }
    }
}

/// A row whose source is not applied yet: everything with labels.
fn named(row: &Row, slot: Option<TimestampMs>) -> CompactRow {
    let mut compact = CompactRow {
        source: SourceRef::Named(Arc::clone(&row.source)),
        introduces: false,
        slot,
        timestamp: row.timestamp,
        runs: Vec::new(),
        new_series: Vec::with_capacity(row.cells.len()),
        histograms: Vec::new(),
        floats: Vec::with_capacity(row.cells.len()),
    };
    let labels = row.table.labels_from(0);
    for (slot, value) in &row.cells {
        if let Some(labels) = labels.get(*slot as usize) {
            compact.new_series.push(labels.clone());
            push(&mut compact, value);
        }
    }
    compact
}

fn runs(cells: &[(u32, u32)]) -> Vec<(u32, u32)> {
    let mut runs: Vec<(u32, u32)> = Vec::new();
    for (column, _) in cells {
        match runs.last_mut() {
            Some((first, len)) if *first + *len == *column => *len += 1,
            _ => runs.push((*column, 1)),
        }
    }
    runs
}

/// A row that does not fit into any segment.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("row of {bytes} bytes is longer than a command may be ({max}); scrape less at once")]
pub struct RowTooLong {
    /// Its length.
    pub bytes: usize,
    /// The limit.
    pub max: usize,
}

/// Collects rows into one segment. A scrape is never split: a row that does not fit is returned for the next
/// segment, a row longer than a segment gets one of its own, up to 16 MiB.
#[derive(Debug)]
pub struct SegmentBuilder {
    time: TimestampMs,
    term: Option<Term>,
    rows: usize,
    samples: usize,
    body: Vec<u8>,
}

/// What became of a row that was pushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pushed {
    /// It is in; its result will be the one at this position.
    At(usize),
    /// The segment is full: propose it and push the row into a new one.
    Full,
}

impl SegmentBuilder {
    /// An empty segment. `time` is the proposer's clock, by which samples too far ahead are rejected; with a `term`
    /// the segment is refused in any other (every segment with a duty's outcome needs it).
    #[must_use]
    pub fn new(time: TimestampMs, term: Option<Term>) -> SegmentBuilder {
        SegmentBuilder { time, term, rows: 0, samples: 0, body: Vec::new() }
    }

    /// Adds a row to a command that may have `bytes_max` bytes ([`COMMAND_BYTES_MAX`] where that is less).
    ///
    /// # Errors
    /// If the row alone is longer; the segment is as it was.
    pub fn push(
        &mut self,
        pass: &mut Pass<'_>,
        shard: &DataShard,
        row: &Row,
        bytes_max: usize,
    ) -> Result<Pushed, RowTooLong> {
        let bytes_max = bytes_max.min(COMMAND_BYTES_MAX).saturating_sub(HEAD_BYTES_MAX);
        let before = self.body.len();
        let compact = pass.0.encode(row, shard);
        let labels = compact.labels_bytes();
        if labels > bytes_max {
            return Err(RowTooLong { bytes: labels, max: bytes_max });
        }
        compact.put(self.time, &mut self.body);
        let added = self.body.len() - before;
        if added > bytes_max {
            self.body.truncate(before);
            return Err(RowTooLong { bytes: added, max: bytes_max });
        }
        if self.rows > 0 && self.body.len() > SEGMENT_BYTES_MAX.min(bytes_max) {
            self.body.truncate(before);
            return Ok(Pushed::Full);
        }
        self.rows += 1;
        self.samples += compact.len();
        Ok(Pushed::At(self.rows - 1))
    }

    /// Adds a row that gives columns to series of `row` that have none, as many as one command should carry: what is to
    /// be done first where `row` itself is too long. When that is applied, `row` is so much shorter. Returns how many;
    /// with 0 the segment is as it was, and no introduction makes the row shorter.
    pub fn introduce(
        &mut self,
        pass: &mut Pass<'_>,
        shard: &DataShard,
        row: &Row,
        bytes_max: usize,
    ) -> usize {
        let mut compact = pass.0.encode(row, shard);
        let mut left = INTRODUCED_BYTES_MAX.min(bytes_max.saturating_sub(HEAD_BYTES_MAX) / 2);
        let fits = |labels: &Labels| match left.checked_sub(bytes_of(labels)) {
            Some(rest) => {
                left = rest;
                true
            }
            None => false,
        };
        let new_series: Vec<Labels> =
            std::mem::take(&mut compact.new_series).into_iter().take_while(fits).collect();
        let count = new_series.len();
        if count > 0 {
            let compact = CompactRow {
                introduces: true,
                slot: None,
                runs: Vec::new(),
                new_series,
                histograms: Vec::new(),
                floats: Vec::new(),
                ..compact
            };
            compact.put(self.time, &mut self.body);
            self.rows += 1;
        }
        count
    }

    /// Number of rows.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of samples.
    #[must_use]
    pub fn samples(&self) -> usize {
        self.samples
    }

    /// Bytes so far.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.body.len()
    }

    /// The command.
    #[must_use]
    pub fn finish(self) -> DataCommand {
        let mut out = Vec::with_capacity(self.body.len() + 40);
        SegmentHead { term: self.term, time: self.time, rows: self.rows }.put(&mut out);
        out.extend_from_slice(&self.body);
        DataCommand::Segment(Bytes::from(out))
    }
}
