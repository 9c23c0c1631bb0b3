//! Reading many series of a view: what the series of a source share (which chunks and rows lie in the range, where the
//! range lies in them, the group read last) is looked up once.

use super::{
    cache::{ReadError, damaged},
    chunk::{ChunkHead, Column, GROUP, Group},
    source::{ChunkRef, Source},
    view::{Found, ViewInner, push, sort, storage_error},
    window::{OpenRow, partition_of},
};
use model::{Budget, QueryError, Samples, TimestampMs};
use std::{collections::HashMap, ops::Range, sync::Arc};

/// Heads and groups that one select holds on to, bytes; beyond that it lets go of all of them. They are the cache's
/// own as long as the cache keeps them, too.
const HELD_BYTES_MAX: usize = 32 << 20;

/// A chunk's head, and where the range lies in its rows.
struct Opened {
    head: Arc<ChunkHead>,
    range: Range<usize>,
}

/// A chunk with rows in the range.
struct Part<'a> {
    chunk: &'a ChunkRef,
    opened: Option<Opened>,
    /// The group read last.
    group: Option<(usize, Arc<Group>)>,
}

impl Part<'_> {
    fn let_go(&mut self) {
        (self.opened, self.group) = (None, None);
    }
}

/// How many rows of a chunk lie in a range, if they lie evenly.
fn rows_within(chunk: &ChunkRef, start: TimestampMs, end: TimestampMs) -> u64 {
    let (first, last) = (chunk.first.0, chunk.last.0);
    let all = i128::from(last) - i128::from(first) + 1;
    let within = i128::from(last.min(end.0)) - i128::from(first.max(start.0)) + 1;
    let rows = i128::from(chunk.rows) * within.max(0) / all.max(1) + 2;
    u64::try_from(rows).unwrap_or(0).min(u64::from(chunk.rows))
}

/// What the series of a source share.
struct Shared<'a> {
    source: &'a Source,
    parts: Vec<Part<'a>>,
    /// Rows of open windows in the range.
    rows: Vec<&'a OpenRow>,
    /// About as many samples as a series has.
    room: u64,
}

impl<'a> Shared<'a> {
    fn new(source: &'a Source, start: TimestampMs, end: TimestampMs) -> Shared<'a> {
        // By name chunks ascend by partition, and none crosses the end of its own.
        let first = source.chunks.partition_point(|c| c.name.partition < partition_of(start));
        let parts: Vec<Part<'a>> = source.chunks[first..]
            .iter()
            .take_while(|c| c.name.partition <= end.0)
            .filter(|c| c.first <= end && c.last >= start)
            .map(|chunk| Part { chunk, opened: None, group: None })
            .collect();
        let rows: Vec<&OpenRow> =
            source.windows.iter().flat_map(|window| window.between(start, end)).collect();
        let room =
            parts.iter().map(|part| rows_within(part.chunk, start, end)).sum::<u64>() + rows.len() as u64;
        Shared { source, parts, rows, room }
    }

    /// The column of a series in the layout that the view holds.
    fn column(&self, found: &Found) -> Option<u32> {
        let list = &self.source.columns.series;
        if list.get(found.column as usize) == Some(&found.series) {
            return Some(found.column);
        }
        list.iter().position(|other| *other == found.series).map(|at| at as u32)
    }
}

/// Reads series of one view in one range.
pub(crate) struct Reading<'a> {
    view: &'a ViewInner,
    start: TimestampMs,
    end: TimestampMs,
    sources: HashMap<u32, Option<Shared<'a>>>,
    column: Column,
    held: usize,
}

impl<'a> Reading<'a> {
    pub(crate) fn new(view: &'a ViewInner, start: TimestampMs, end: TimestampMs) -> Reading<'a> {
        Reading { view, start, end, sources: HashMap::new(), column: Column::default(), held: 0 }
    }

    /// Another of the same view and range.
    pub(crate) fn again(&self) -> Reading<'a> {
        Reading::new(self.view, self.start, self.end)
    }

    /// What one series has in the range; its bytes are taken from the budget.
    pub(crate) fn read(&mut self, found: &Found, budget: &Budget) -> Result<Samples, QueryError> {
        if self.held > HELD_BYTES_MAX {
            self.sources.values_mut().flatten().flat_map(|shared| &mut shared.parts).for_each(Part::let_go);
            self.held = 0;
        }
        let Reading { view, start, end, sources, column, held } = self;
        let view: &'a ViewInner = view;
        let shared = sources.entry(found.source).or_insert_with(|| {
            let source = view.sources.get(found.source as usize).and_then(Option::as_deref);
            source.map(|source| Shared::new(source, *start, *end))
        });
        let Some(shared) = shared else { return Ok(Samples::default()) };
        let taken = shared.room * 16;
        budget.take(taken)?;
        let room = usize::try_from(shared.room).unwrap_or(0);
        let mut samples = Samples {
            timestamps: Vec::with_capacity(room),
            floats: Vec::with_capacity(room),
            ..Samples::default()
        };
        let scratch = Scratch { column, held };
        let result = fill(view, shared, found, (*start, *end), scratch, &mut samples);
        let needed = samples.bytes();
        if needed > taken {
            if let Err(error) = budget.take(needed - taken) {
                budget.give(taken);
                return Err(error);
            }
        } else {
            budget.give(taken - needed);
        }
        match result {
            Ok(()) => Ok(samples),
            Err(error) => {
                budget.give(needed);
                Err(storage_error(error))
            }
        }
    }
}

/// Buffers that are used again.
struct Scratch<'s> {
    column: &'s mut Column,
    held: &'s mut usize,
}

fn fill(
    view: &ViewInner,
    shared: &mut Shared<'_>,
    found: &Found,
    (start, end): (TimestampMs, TimestampMs),
    Scratch { column, held }: Scratch<'_>,
    samples: &mut Samples,
) -> Result<(), ReadError> {
    let mut ascends = true;
    for part in &mut shared.parts {
        let chunk = part.chunk;
        let opened = match &mut part.opened {
            Some(opened) => opened,
            none => {
                let head = view.cache.head(&*view.kv, chunk)?;
                *held += head.timestamps.len() * 8 + head.series.len() * 4;
                let first = head.timestamps.partition_point(|t| *t < start.0);
                let last = head.timestamps.partition_point(|t| *t <= end.0);
                none.insert(Opened { head, range: first..last })
            }
        };
        let Some(at) = opened.head.position(found.series) else { continue };
        let group = match &mut part.group {
            Some((number, group)) if *number == at / GROUP => group,
            other => {
                let group = view.cache.group(&*view.kv, chunk, at / GROUP)?;
                *held += group.bytes();
                &mut other.insert((at / GROUP, group)).1
            }
        };
        let before = samples.timestamps.len();
        let (timestamps, range) = (&opened.head.timestamps, opened.range.clone());
        let is_full = group.full_column(at % GROUP, timestamps.len(), range.clone(), &mut samples.floats);
        if is_full.map_err(|cause| damaged(&chunk.name, cause))? {
            samples.timestamps.extend_from_slice(&timestamps[range]);
        } else {
            let read = group.append(at % GROUP, timestamps, range, column, samples);
            read.map_err(|cause| damaged(&chunk.name, cause))?;
        }
        ascends &= joins(&samples.timestamps, before);
    }
    if !shared.rows.is_empty()
        && let Some(at) = shared.column(found)
    {
        for row in &shared.rows {
            if let Some(cell) = row.cells.get(at) {
                let before = samples.timestamps.len();
                push(samples, row.timestamp.0, &cell);
                ascends &= joins(&samples.timestamps, before);
            }
        }
    }
    if !ascends {
        sort(samples);
    }
    Ok(())
}

/// Whether what was appended, itself ascending, begins later than what was there ended.
fn joins(timestamps: &[i64], before: usize) -> bool {
    before == 0 || timestamps.get(before).is_none_or(|first| timestamps[before - 1] < *first)
}
