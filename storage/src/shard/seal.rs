//! Sealing: when a window closes, and what becomes of it.
//!
//! A window of whole rows closes at 64 rows or when the next partition begins. Where rows are filled in pieces
//! (remote write), the newest rows stay open, because more pieces are on their way; but no more than two
//! windows. Columns that no longer get rows leave the layout, but only when the entry ends: rows further on in the
//! same segment were encoded against the layout as it is.

use super::{
    cells::{Cell, ColumnSet},
    chunk::{Chunk, ChunkHead, Column},
    index::{Index, NO_COLUMN, SourceId},
    source::{ChunkBody, ChunkName, ChunkRef, Columns, Source},
    state::{State, source_mut},
    window::{OpenRow, PARTITION_MS, ROWS_MAX, Window, partition_of},
};
use model::{DurationMs, StateError, TimestampMs};
use std::sync::Arc;

/// Rows that stay open when a window of pieces closes.
const PIECES_OPEN: usize = 8;
/// Windows for late samples that a source may have open.
const LATE_MAX: usize = 4;
/// Windows of pieces that may stay open after a later partition has begun: pieces of their newest rows may be on their
/// way. A source that is written once in two hours would else open one after the other until the next checkpoint.
const OVER_MAX: usize = 1;
/// A column without samples for this long leaves the layout of whole rows, or of pieces.
const IDLE_WHOLE: DurationMs = DurationMs(600_000);
const IDLE_PIECES: DurationMs = DurationMs(3_600_000);
/// A checkpoint closes windows whose partition is over for this long, or whose newest row is this old.
const OVER: DurationMs = DurationMs(600_000);
const QUIET: DurationMs = DurationMs(3_600_000);

impl State {
    /// Seals what the last row of a source made due; whether that was anything. The layout stays as it is.
    pub(crate) fn seal_due(&mut self, id: SourceId) -> Result<bool, StateError> {
        let mut sealed = false;
        while let Some((at, keep)) = self.source(id).and_then(|source| due(source)) {
            self.dirty.insert(id);
            self.seal(id, at, keep)?;
            self.settle(id);
            sealed = true;
        }
        Ok(sealed)
    }

    /// What is left to be done for a source when an entry ends: after windows were `sealed`, or where too few columns
    /// still get rows, the idle ones leave the layout.
    pub(crate) fn tidy(&mut self, id: SourceId, mut sealed: bool) -> Result<(), StateError> {
        loop {
            if let Some(at) = self.source(id).and_then(|source| sparse(source)) {
                self.dirty.insert(id);
                self.seal(id, at, 0)?;
                sealed = true;
            }
            if !sealed {
                return Ok(());
            }
            self.drop_idle(id);
            self.settle(id);
            sealed = false;
        }
    }

    /// All that is due, for all sources; commands without rows may make windows due too.
    pub(crate) fn seal_all_due(&mut self) -> Result<(), StateError> {
        for id in 0..self.sources.len() as u32 {
            let sealed = self.seal_due(id)?;
            self.tidy(id, sealed)?;
        }
        Ok(())
    }

    /// Closes what a checkpoint names: windows that are over or quiet.
    pub(crate) fn close_windows(&mut self, time: TimestampMs) -> Result<(), StateError> {
        for id in 0..self.sources.len() as u32 {
            let over = |window: &Window| {
                let end = TimestampMs(window.partition.saturating_add(PARTITION_MS));
                let last = window.rows.last().map_or(TimestampMs::MIN, |row| row.timestamp);
                end.plus(OVER) <= time || last.plus(QUIET) <= time || window.late
            };
            let mut sealed = false;
            while let Some(at) = self.source(id).and_then(|s| s.windows.iter().position(|w| over(w))) {
                self.dirty.insert(id);
                self.seal(id, at, 0)?;
                sealed = true;
            }
            if sealed {
                self.drop_idle(id);
                self.settle(id);
            }
        }
        Ok(())
    }

    /// Seals the `at`th window of a source but for its newest `keep` rows.
    fn seal(&mut self, id: SourceId, at: usize, keep: usize) -> Result<(), StateError> {
        model::point!("shard.seal");
        let source = source_mut(&mut self.sources, id);
        let mut window = source.windows.remove(at);
        let open = {
            let window = Arc::make_mut(&mut window);
            window.rows.split_off(window.rows.len().saturating_sub(keep))
        };
        if let Some(last) = window.rows.last() {
            debug_assert!(open.first().is_none_or(|row| row.timestamp > last.timestamp));
        }
        if !open.is_empty() {
            let Window { partition, late, .. } = *window;
            source.windows.insert(at, Arc::new(Window { partition, late, rows: open }));
        }
        if let Some(bounds) = window.bounds() {
            let used = note_last(source, &window.rows);
            let chunk = chunk_of(source, &window.rows, &used)
                .map_err(|cause| StateError::Corrupt(cause.to_string()))?;
            let name =
                ChunkName { partition: window.partition, source: id, sequence: source.sequence, level: 0 };
            source.sequence += 1;
            push_chunk(source, chunk_ref(name, bounds, chunk));
            self.counters.windows_sealed += 1;
        }
        Ok(())
    }

    /// Takes columns out of the layout that get no rows any more.
    fn drop_idle(&mut self, id: SourceId) {
        let source = source_mut(&mut self.sources, id);
        let gone = idle(source);
        if !gone.is_empty() {
            let mut index = self.index.write().expect("no holder panics");
            self.changed_series.extend(drop_columns(source, &mut index, &gone));
        }
    }
}

/// The next window that is to be sealed, and how many rows of it stay open.
fn due(source: &Source) -> Option<(usize, usize)> {
    let whole = source.is_whole();
    let keep = if whole { 0 } else { PIECES_OPEN };
    let newest = partition_of(source.newest);
    let newest_rows = source.windows.last().map_or(0, |window| window.rows.len());
    let late = source.windows.iter().filter(|window| window.late).count();
    let is_over = |window: &Window| !window.late && window.partition < newest;
    let over = source.windows.iter().filter(|window| is_over(window)).count();
    for (at, window) in source.windows.iter().enumerate() {
        if window.rows.len() >= ROWS_MAX {
            return Some((at, keep));
        }
        if is_over(window) && (newest_rows >= keep.max(1) || over > OVER_MAX) {
            return Some((at, 0));
        }
        if window.late && late > LATE_MAX {
            return Some((at, 0));
        }
    }
    None
}

/// The window that is to be sealed before its time, because most columns that its rows could have are silent. Columns
/// that no whole row has had are none of them: a row that does not have them says nothing.
fn sparse(source: &Source) -> Option<usize> {
    let window = source.windows.last().filter(|window| source.is_whole() && window.rows.len() >= 4)?;
    let width = source.columns.len() - source.partial.len();
    if source.live.len() * 4 >= width * 3 {
        return None;
    }
    let cells: usize = window.rows.iter().map(|row| row.cells.len()).sum();
    (cells * 4 < window.rows.len() * width * 3).then_some(source.windows.len() - 1)
}

/// Notes each column's last timestamp; returns the columns that have a cell.
fn note_last(source: &mut Source, rows: &[OpenRow]) -> ColumnSet {
    let columns = Arc::make_mut(&mut source.columns);
    let mut used = ColumnSet::default();
    let mut count = 0;
    for row in rows.iter().rev() {
        if count == columns.len() {
            break;
        }
        let floats = row.cells.floats().map(|(column, _)| column);
        for column in floats.chain(row.cells.histograms().iter().map(|(column, _)| *column)) {
            if !used.contains(column) {
                used.insert(column);
                count += 1;
                let last = &mut columns.sealed_last[column as usize];
                *last = (*last).max(row.timestamp.0);
            }
        }
    }
    used
}

/// The rows as a chunk, columns in order of their series.
pub(crate) fn chunk_of(
    source: &Source,
    rows: &[OpenRow],
    used: &ColumnSet,
) -> Result<Chunk, super::wire::Malformed> {
    let mut order: Vec<(u32, u32)> =
        used.iter().map(|column| (source.columns.series[column as usize], column)).collect();
    order.sort_unstable();
    let head = ChunkHead {
        timestamps: rows.iter().map(|row| row.timestamp.0).collect(),
        series: order.iter().map(|(series, _)| *series).collect(),
    };
    Chunk::build(head, false, |at, column: &mut Column| {
        column.float_rows.clear();
        column.floats.clear();
        column.histograms.clear();
        for (i, row) in (0_u32..).zip(rows) {
            match row.cells.get(order[at].1) {
                Some(Cell::Float(value)) => {
                    column.float_rows.push(i);
                    column.floats.push(value);
                }
                Some(Cell::Histogram(value)) => column.histograms.push((i, value.clone())),
                None => {}
            }
        }
        Ok(())
    })
}

pub(crate) fn chunk_ref(
    name: ChunkName,
    (first, last): (TimestampMs, TimestampMs),
    chunk: Chunk,
) -> ChunkRef {
    ChunkRef {
        name,
        first,
        last,
        rows: chunk.head.timestamps.len() as u32,
        groups: chunk.groups.len() as u32,
        bytes: chunk.bytes() as u64,
        body: ChunkBody::Memory(Arc::new(chunk)),
    }
}

/// Adds a chunk in its place.
pub(crate) fn push_chunk(source: &mut Source, chunk: ChunkRef) {
    let chunks = Arc::make_mut(&mut source.chunks);
    let at = chunks.partition_point(|other| other.name < chunk.name);
    chunks.insert(at, chunk);
}

/// The columns that get no rows any more. One that a whole row had goes at once where many go with it; one that was
/// only in partial rows, or is introduced and waits for its first value, has more time.
fn idle(source: &Source) -> Vec<u32> {
    let width = source.columns.len();
    let mut open = source.live.clone();
    for row in source.windows.iter().flat_map(|window| &window.rows) {
        for (column, _) in row.cells.floats() {
            open.insert(column);
        }
        for (column, _) in row.cells.histograms() {
            open.insert(*column);
        }
    }
    let mut all = ColumnSet::default();
    all.insert_range(0..width as u32);
    let silent = all.minus(&open);
    let ended = silent.iter().filter(|column| !source.partial.contains(**column)).count();
    let ended_idle = if ended * 4 >= width - source.partial.len() { DurationMs(0) } else { IDLE_WHOLE };
    let is_idle = |column: &u32| {
        let last = source.columns.sealed_last[*column as usize];
        if source.partial.contains(*column) {
            last.max(source.introduced.0) <= source.newest.minus(IDLE_PIECES).0
        } else {
            let idle = if source.is_whole() { ended_idle } else { IDLE_PIECES };
            last <= source.newest.minus(idle).0
        }
    };
    silent.into_iter().filter(is_idle).collect()
}

/// Takes columns out of the layout; none of them may have a cell in an open row.
pub(crate) fn drop_columns(source: &mut Source, index: &mut Index, gone: &[u32]) -> Vec<u32> {
    let mut leaving = ColumnSet::default();
    gone.iter().for_each(|column| leaving.insert(*column));
    let mut changed = Vec::with_capacity(gone.len());
    let mut to = vec![NO_COLUMN; source.columns.len()];
    let mut columns = Columns::default();
    for (column, to) in to.iter_mut().enumerate() {
        let (series, last) = (source.columns.series[column], source.columns.sealed_last[column]);
        let record = index.get_mut(series);
        if leaving.contains(column as u32) {
            if let Some(record) = record {
                record.column = NO_COLUMN;
                record.last = last;
                changed.push(series);
            }
            continue;
        }
        *to = columns.len() as u32;
        if let Some(record) = record {
            record.column = columns.len() as u32;
        }
        columns.series.push(series);
        columns.hashes.push(source.columns.hashes[column]);
        columns.sealed_last.push(last);
    }
    let moved = |columns: &ColumnSet| {
        let mut there = ColumnSet::default();
        let staying = columns.iter().map(|column| to[column as usize]).filter(|column| *column != NO_COLUMN);
        staying.for_each(|column| there.insert(column));
        there
    };
    let (live, partial) = (moved(&source.live), moved(&source.partial));
    source.columns = Arc::new(columns);
    source.set_partial(partial);
    source.set_live(live);
    let width = source.columns.len();
    for window in &mut source.windows {
        for row in &mut Arc::make_mut(window).rows {
            row.cells = Arc::new(row.cells.remap(&to, width));
        }
    }
    source.layout += 1;
    changed
}
