//! Apply: a committed command to the state. Total and deterministic; what is bad becomes a recorded rejection.
//!
//! ```text
//!  entry ─▶ command ─▶ row ─▶ columns ─▶ cells ─▶ open window ─▶ (full, over) seal
//!                       │ term, slot, layout: refused whole
//!                       └ future, bounds, order, duplicate, limits: counted by reason
//! ```

use super::{
    cells::{Cell, ColumnSet, NewCells, RowCells, histogram_bits},
    command::{DataCommand, DataResponse, MissedSlots, Refusal, Rejection, RowResult},
    hash,
    index::{ACTIVE, NO_COLUMN, SourceId},
    segment::{CompactRow, SegmentHead, SourceRef},
    settings::ShardSettings,
    source::Source,
    state::{State, source_mut},
    stored::{self, Decoded},
    window::{OpenRow, Window, partition_of},
    wire::Reader,
};
use bytes::Bytes;
use model::{
    CommittedEntry, DurationMs, EntryPayload, Labels, STALE_NAN, STALE_NAN_BITS, SourceKey, StateError, Term,
    TimestampMs,
};
use std::{collections::BTreeMap, sync::Arc};

/// A sample may lie this far ahead of the time its entry carries (Prometheus's scrape loop has the same limit).
pub(crate) const FUTURE_MAX: DurationMs = DurationMs(600_000);
/// Timestamps beyond this, to either side, are out of bounds: year 285 000, far from where arithmetic overflows.
const TIMESTAMP_MAX: i64 = 9_000_000_000_000_000;
/// Sources that a shard may have at once; rows of further ones are rejected. Who writes names them, so they are bounded
/// like series.
const SOURCES_MAX: usize = if cfg!(test) { 512 } else { 1 << 18 };
/// Ranges of missed slots that a source remembers.
pub(crate) const MISSED_MAX: usize = 4_096;

/// What lasts for one segment.
#[derive(Debug, Default)]
struct SegmentWork {
    /// The sources of its rows, and whether windows of them were sealed.
    sources: BTreeMap<SourceId, bool>,
    decoded: Decoded,
}

/// What is to be done when an entry counts as applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum After {
    Nothing,
    /// Make the state durable.
    Checkpoint,
}

impl State {
    /// Applies one entry.
    pub(crate) fn apply_entry(&mut self, entry: &CommittedEntry) -> Result<(Bytes, After), StateError> {
        let response = match &entry.payload {
            EntryPayload::Blank => None,
            EntryPayload::Membership(membership) => {
                self.applied.membership = membership.clone();
                None
            }
            EntryPayload::Command(bytes) => Some(self.apply_command(bytes, entry.log_id.term)?),
        };
        self.applied.log_id = Some(entry.log_id);
        self.remember_hash();
        Ok(response.map_or((Bytes::new(), After::Nothing), |(response, after)| (response.encode(), after)))
    }

    /// Answers, and says what is to be done once the entry counts as applied.
    fn apply_command(&mut self, bytes: &Bytes, term: Term) -> Result<(DataResponse, After), StateError> {
        let command = match DataCommand::decode(bytes) {
            Ok(command) => command,
            Err(cause) => {
                self.counters.refusals += 1;
                return Ok((DataResponse::Refused(Refusal::Malformed(cause.to_string())), After::Nothing));
            }
        };
        let done = match command {
            DataCommand::Segment(bytes) => return Ok((self.apply_segment(&bytes, term)?, After::Nothing)),
            DataCommand::EndSource { term: carried, source, at } => {
                fence(carried, term).map(|()| self.end_source(&source, at))
            }
            DataCommand::Missed { term: carried, source, slots } => {
                fence(carried, term).and_then(|()| self.miss(&source, slots))
            }
            DataCommand::Settings(settings) => self.set(settings),
            DataCommand::Retain { cutoff } => self.retain(cutoff),
            DataCommand::Checkpoint { time } => {
                self.close_windows(time)?;
                return Ok((DataResponse::Applied, After::Checkpoint));
            }
        };
        let response = match done {
            Ok(()) => DataResponse::Applied,
            Err(refusal) => {
                self.counters.refusals += 1;
                DataResponse::Refused(refusal)
            }
        };
        self.seal_all_due()?;
        Ok((response, After::Nothing))
    }

    fn apply_segment(&mut self, bytes: &Bytes, term: Term) -> Result<DataResponse, StateError> {
        let mut reader = Reader::new(bytes);
        let head = match SegmentHead::read(&mut reader) {
            Ok(head) => head,
            Err(cause) => return Ok(DataResponse::Refused(Refusal::Malformed(cause.to_string()))),
        };
        if let Err(refusal) = fence(head.term, term) {
            self.counters.refusals += 1;
            return Ok(DataResponse::Refused(refusal));
        }
        let mut results = Vec::with_capacity(head.rows.min(1_024));
        let mut work = SegmentWork::default();
        for _ in 0..head.rows {
            let result = match CompactRow::read(&mut reader, head.time) {
                Ok(row) => self.apply_row(row, head.time, &mut work)?,
                Err(cause) => refused(Refusal::Malformed(cause.to_string())),
            };
            self.counters.refusals += u64::from(result.refused.is_some());
            self.counters.samples_rejected += result.rejected.values().map(|n| u64::from(*n)).sum::<u64>();
            results.push(result);
        }
        for (id, sealed) in work.sources {
            self.tidy(id, sealed)?;
        }
        Ok(DataResponse::Rows(results))
    }

    /// Applies one row.
    fn apply_row(
        &mut self,
        row: CompactRow,
        time: TimestampMs,
        work: &mut SegmentWork,
    ) -> Result<RowResult, StateError> {
        if let Err(refusal) = self.admit(&row) {
            return Ok(refused(refusal));
        }
        let horizon = time.plus(FUTURE_MAX);
        let rejection = if row.timestamp > horizon || row.slot.is_some_and(|slot| slot > horizon) {
            Some(Rejection::TooFarAhead)
        } else if row.timestamp < self.cutoff || row.timestamp.0.unsigned_abs() > TIMESTAMP_MAX.unsigned_abs()
        {
            Some(Rejection::OutOfBounds)
        } else {
            self.rejection_of_source(&row)
        };
        let mut result = RowResult::default();
        if let Some(rejection) = rejection {
            result.rejected.insert(rejection, row.rejectable());
            result.first_rejected = Some(format!("{} at {}", rejection.text(), row.timestamp));
            return Ok(result);
        }
        let id = match &row.source {
            SourceRef::Known { id, .. } => *id,
            SourceRef::Named(key) => self.ensure_source(key),
        };
        let (timestamp, slot) = (row.timestamp, row.slot);
        self.dirty.insert(id);
        if row.introduces {
            self.introduce(id, &row, &mut result);
            return Ok(result);
        }
        if !self.append_steady(id, &row) {
            self.append_any(id, row, &mut result, work)?;
        } else {
            result.applied = row.len() as u32;
            self.push_full(id, row);
        }
        let source = source_mut(&mut self.sources, id);
        source.newest = source.newest.max(timestamp);
        if let Some(slot) = slot {
            source.last_slot = slot;
        }
        let sealed = self.seal_due(id)?;
        *work.sources.entry(id).or_default() |= sealed;
        self.settle(id);
        Ok(result)
    }

    /// Why a row may not make its source known, if there is a reason: of a source of which nothing can be stored
    /// nothing is remembered either.
    fn rejection_of_source(&self, row: &CompactRow) -> Option<Rejection> {
        let SourceRef::Named(key) = &row.source else { return None };
        if self.by_key.contains_key(key) {
            return None;
        }
        let index = self.index.read().expect("no holder panics");
        let full = index.len() >= u64::from(self.settings.series_max) || !index.has_room();
        if self.by_key.len() >= SOURCES_MAX || full {
            return Some(Rejection::TooManySeries);
        }
        let only_bad = row.slot.is_none() && row.new_series.iter().all(is_bad);
        only_bad.then_some(Rejection::BadLabels)
    }

    /// Gives series columns before their first values come.
    fn introduce(&mut self, id: SourceId, row: &CompactRow, result: &mut RowResult) {
        for column in self.columns_for(id, &row.new_series, row.timestamp) {
            if let Err(rejection) = column {
                reject(rejection, row.timestamp, result);
            }
        }
        let source = source_mut(&mut self.sources, id);
        source.introduced = source.introduced.max(row.timestamp);
        self.settle(id);
    }

    /// Whether the row may be applied at all.
    fn admit(&self, row: &CompactRow) -> Result<(), Refusal> {
        let source = match &row.source {
            SourceRef::Known { id, layout } => {
                let source = self.source(*id).ok_or(Refusal::UnknownSource)?;
                if source.layout != *layout {
                    return Err(Refusal::UnknownLayout { source_id: *id, layout: *layout });
                }
                if row.columns_end() as usize > source.columns.len() {
                    return Err(Refusal::Malformed("row: column beyond the layout".into()));
                }
                Some(source)
            }
            SourceRef::Named(_) if !row.runs.is_empty() => {
                return Err(Refusal::Malformed("row: columns without a layout".into()));
            }
            SourceRef::Named(key) => self.source_by_key(key),
        };
        match (row.slot, source) {
            (Some(slot), Some(source)) if slot <= source.last_slot => {
                Err(Refusal::SlotTaken { slot, last: source.last_slot })
            }
            _ => Ok(()),
        }
    }

    /// Whether the row is the common one: every column of the layout, nothing new, nothing ended, newer than all.
    fn append_steady(&self, id: SourceId, row: &CompactRow) -> bool {
        let Some(source) = self.source(id) else { return false };
        let width = source.columns.len();
        row.histograms.is_empty()
            && row.new_series.is_empty()
            && row.runs == [(0, width as u32)]
            && row.timestamp > source.newest
            && (row.slot.is_none()
                || (source.live.len() == width
                    && !row.floats.iter().any(|value| value.to_bits() == STALE_NAN_BITS)))
    }

    fn push_full(&mut self, id: SourceId, row: CompactRow) {
        let samples = row.floats.len() as u64;
        let cells = RowCells::full(row.floats);
        let source = source_mut(&mut self.sources, id);
        let sum = cells.hash(row.timestamp, &source.columns.hashes);
        let window = window_for(source, row.timestamp);
        window.rows.push(OpenRow { timestamp: row.timestamp, cells: Arc::new(cells) });
        self.count(partition_of(row.timestamp), sum, samples);
        self.counters.samples_applied += samples;
    }

    fn append_any(
        &mut self,
        id: SourceId,
        row: CompactRow,
        result: &mut RowResult,
        work: &mut SegmentWork,
    ) -> Result<(), StateError> {
        let new_columns = self.columns_for(id, &row.new_series, row.timestamp);
        let (timestamp, whole) = (row.timestamp, row.slot.is_some());
        let mut present = ColumnSet::default();
        let mut cells = gather(&row, &new_columns, &mut present, result);
        let source =
            self.source(id).map(Arc::clone).ok_or_else(|| StateError::Io("a source vanished".into()))?;
        if !row.new_series.is_empty() || !cells.histograms.is_empty() {
            drop_doubles(&mut cells, &source, timestamp, result);
        }
        let mut live = ColumnSet::default();
        if whole {
            live = present.clone();
            for (column, value) in &cells.floats {
                if value.to_bits() == STALE_NAN_BITS {
                    live.remove(*column);
                }
            }
            for (column, value) in &cells.histograms {
                if value.is_stale() {
                    live.remove(*column);
                }
            }
        }
        if timestamp <= source.newest {
            self.keep_acceptable(&source, timestamp, &mut cells, result, &mut work.decoded)?;
        }
        result.applied += cells.len() as u32;
        if whole {
            let gone = source.live.minus(&present);
            let mut markers =
                NewCells { floats: gone.iter().map(|c| (*c, STALE_NAN)).collect(), histograms: Vec::new() };
            if timestamp <= source.newest {
                // A series that has a newer sample of its own time needs no marker; what is dropped is no fault.
                let unheard = &mut RowResult::default();
                self.keep_acceptable(&source, timestamp, &mut markers, unheard, &mut work.decoded)?;
            }
            cells.floats.append(&mut markers.floats);
            cells.sort();
        }
        drop(source);
        self.store(id, timestamp, cells);
        if whole {
            let source = source_mut(&mut self.sources, id);
            if source.live != live {
                source.set_live(live);
            }
        }
        Ok(())
    }

    /// Stores accepted cells, ascending by column.
    pub(crate) fn store(&mut self, id: SourceId, timestamp: TimestampMs, cells: NewCells) {
        if cells.len() == 0 {
            return;
        }
        let samples = cells.len() as u64;
        let source = source_mut(&mut self.sources, id);
        let sum = hash_of(&cells, timestamp, source);
        if timestamp < source.heard() {
            let mut index = self.index.write().expect("no holder panics");
            let columns =
                cells.floats.iter().map(|(c, _)| *c).chain(cells.histograms.iter().map(|(c, _)| *c));
            for series in columns.map(|column| source.columns.series[column as usize]) {
                if let Some(record) = index.get_mut(series)
                    && timestamp.0 < record.first
                {
                    record.first = timestamp.0;
                    self.changed_series.insert(series);
                }
            }
        }
        let width = source.columns.len();
        window_for(source, timestamp).store(timestamp, cells, width);
        self.count(partition_of(timestamp), sum, samples);
        self.counters.samples_applied += samples;
    }

    /// Gives each new series a column; what may not have one gets a reason.
    fn columns_for(
        &mut self,
        id: SourceId,
        new_series: &[Labels],
        timestamp: TimestampMs,
    ) -> Vec<Result<u32, Rejection>> {
        if new_series.is_empty() {
            return Vec::new();
        }
        let source = source_mut(&mut self.sources, id);
        let mut index = self.index.write().expect("no holder panics");
        let mut columns = Vec::with_capacity(new_series.len());
        for labels in new_series {
            if is_bad(labels) {
                columns.push(Err(Rejection::BadLabels));
                continue;
            }
            let hash = source.series_hash(labels);
            let known = index.find(id, hash, labels);
            if let Some(record) = known.and_then(|series| index.get(series))
                && record.column != NO_COLUMN
            {
                columns.push(Ok(record.column));
                continue;
            }
            let column = source.columns.len() as u32;
            if column >= self.settings.source_series_max
                || (known.is_none()
                    && (index.len() >= u64::from(self.settings.series_max) || !index.has_room()))
            {
                columns.push(Err(Rejection::TooManySeries));
                continue;
            }
            let (series, last) = match known {
                Some(series) => {
                    let record = index.get_mut(series).expect("it was just found");
                    let last = std::mem::replace(&mut record.last, ACTIVE);
                    record.column = column;
                    self.changed_series.insert(series);
                    (series, last)
                }
                None => {
                    self.counters.series_added += 1;
                    (index.add(id, hash, labels, column, timestamp.0, ACTIVE), i64::MIN)
                }
            };
            let layout = Arc::make_mut(&mut source.columns);
            layout.series.push(series);
            layout.hashes.push(hash);
            layout.sealed_last.push(last);
            // Until a whole row has it.
            source.partial.insert(column);
            source.partial_hash = source.partial_hash.wrapping_add(hash);
            columns.push(Ok(column));
        }
        columns
    }

    /// Drops cells that may not be stored, or are stored already.
    fn keep_acceptable(
        &self,
        source: &Source,
        timestamp: TimestampMs,
        cells: &mut NewCells,
        result: &mut RowResult,
        decoded: &mut Decoded,
    ) -> Result<(), StateError> {
        let window = self.settings.out_of_order_window;
        let mut judge = |column: u32, bits: u64| -> Result<bool, StateError> {
            let verdict = match stored::position(source, column, timestamp) {
                stored::Position::Newest => return Ok(true),
                stored::Position::Stored(there) => Some(there),
                stored::Position::Older { maybe_sealed } if maybe_sealed => decoded
                    .sealed_bits(source, column, timestamp, &*self.kv, &self.cache)
                    .map_err(stored::to_state_error)?,
                stored::Position::Older { .. } => None,
            };
            let rejection = match verdict {
                Some(there) if there == bits => {
                    result.applied += 1;
                    return Ok(false);
                }
                Some(_) => Rejection::Duplicate,
                None if window.0 > 0 && timestamp >= source.newest.minus(window) => return Ok(true),
                None if window.0 > 0 => Rejection::TooOld,
                None => Rejection::OutOfOrder,
            };
            *result.rejected.entry(rejection).or_default() += 1;
            if result.first_rejected.is_none() {
                result.first_rejected = Some(self.offender(rejection, source, column, timestamp));
            }
            Ok(false)
        };
        let mut floats = Vec::with_capacity(cells.floats.len());
        for (column, value) in cells.floats.drain(..) {
            if judge(column, value.to_bits())? {
                floats.push((column, value));
            }
        }
        cells.floats = floats;
        let mut histograms = Vec::with_capacity(cells.histograms.len());
        for (column, value) in cells.histograms.drain(..) {
            if judge(column, histogram_bits(&value))? {
                histograms.push((column, value));
            }
        }
        cells.histograms = histograms;
        Ok(())
    }

    fn offender(&self, rejection: Rejection, source: &Source, column: u32, timestamp: TimestampMs) -> String {
        let index = self.index.read().expect("no holder panics");
        let record = index.get(source.columns.series[column as usize]);
        let labels = record.map(|record| index.labels_of(record)).unwrap_or_default();
        format!("{}: {labels} at {timestamp}", rejection.text())
    }

    fn end_source(&mut self, key: &SourceKey, at: TimestampMs) {
        let Some(source) = self.source_by_key(key).map(Arc::clone) else { return };
        let floats: Vec<_> = source.live.iter().map(|column| (column, STALE_NAN)).collect();
        if floats.is_empty() {
            return;
        }
        let (id, newest) = (source.id, source.newest);
        drop(source);
        let sane = at > newest && at.0 <= TIMESTAMP_MAX;
        let at = if sane { at } else { newest.plus(DurationMs(1)) };
        self.store(id, at, NewCells { floats, histograms: Vec::new() });
        let source = self.source_mut(id);
        source.newest = at;
        source.set_live(ColumnSet::default());
        self.settle(id);
    }

    fn miss(&mut self, key: &Arc<SourceKey>, mut slots: MissedSlots) -> Result<(), Refusal> {
        let last = self.source_by_key(key).map_or(TimestampMs::MIN, |source| source.last_slot);
        let interval = slots.interval.0.max(1);
        if slots.from <= last {
            let behind = last.since(slots.from).0 / interval + 1;
            slots.from = slots.from.plus(DurationMs(behind.saturating_mul(interval)));
        }
        if slots.to < slots.from {
            return Err(Refusal::SlotTaken { slot: slots.to, last });
        }
        if !self.by_key.contains_key(key) && self.by_key.len() >= SOURCES_MAX {
            return Err(Refusal::UnknownSource);
        }
        self.counters.slots_missed += slots.count();
        let id = self.ensure_source(key);
        let source = self.source_mut(id);
        source.last_slot = slots.to;
        let missed = Arc::make_mut(&mut source.missed);
        match missed.last_mut() {
            Some(before)
                if before.reason == slots.reason
                    && before.interval == slots.interval
                    && before.to.plus(slots.interval) == slots.from =>
            {
                before.to = slots.to;
            }
            _ => missed.push(slots),
        }
        if missed.len() > MISSED_MAX {
            missed.remove(0);
        }
        self.settle(id);
        Ok(())
    }

    fn set(&mut self, settings: ShardSettings) -> Result<(), Refusal> {
        // The same version with other content is a leader with other flags: what it says now holds.
        if settings.version < self.settings.version || settings == self.settings {
            return Err(Refusal::OldSettings(self.settings.version));
        }
        self.settings = settings;
        Ok(())
    }
}

/// Counts a sample, or a series, that is not taken.
fn reject(rejection: Rejection, timestamp: TimestampMs, result: &mut RowResult) {
    *result.rejected.entry(rejection).or_default() += 1;
    if result.first_rejected.is_none() {
        result.first_rejected = Some(format!("{} at {timestamp}", rejection.text()));
    }
}

/// Whether no series may have these labels.
fn is_bad(labels: &Labels) -> bool {
    labels.is_empty() || labels.len() > 255
}

fn refused(refusal: Refusal) -> RowResult {
    RowResult { refused: Some(refusal), ..RowResult::default() }
}

fn fence(carried: Option<Term>, entry: Term) -> Result<(), Refusal> {
    match carried {
        Some(carried) if carried != entry => Err(Refusal::OtherTerm { carried, entry }),
        _ => Ok(()),
    }
}

/// The open window for a timestamp, made if there is none.
fn window_for(source: &mut Source, timestamp: TimestampMs) -> &mut Window {
    let partition = partition_of(timestamp);
    let at = source.windows.partition_point(|window| window.partition < partition);
    if source.windows.get(at).is_none_or(|window| window.partition != partition) {
        let late = source.newest != TimestampMs::MIN && partition < partition_of(source.newest);
        source.windows.insert(at, Arc::new(Window { partition, late, rows: Vec::new() }));
    }
    Arc::make_mut(&mut source.windows[at])
}

/// The row's cells by column. `present` gets the columns that the row has, whatever becomes of the samples.
fn gather(
    row: &CompactRow,
    new_columns: &[Result<u32, Rejection>],
    present: &mut ColumnSet,
    result: &mut RowResult,
) -> NewCells {
    let mut cells = NewCells { floats: Vec::with_capacity(row.floats.len()), histograms: Vec::new() };
    for (first, len) in &row.runs {
        present.insert_range(*first..first + len);
    }
    let known = row.runs.iter().flat_map(|(first, len)| *first..first + len).map(Ok);
    let mut floats = row.floats.iter();
    let mut histograms = row.histograms.iter().peekable();
    for (position, column) in (0_u32..).zip(known.chain(new_columns.iter().copied())) {
        let histogram = histograms.next_if(|(at, _)| *at == position).map(|(_, value)| value);
        let float = if histogram.is_none() { floats.next() } else { None };
        match column {
            Ok(column) => {
                present.insert(column);
                match (float, histogram) {
                    (Some(value), _) => cells.floats.push((column, *value)),
                    (None, Some(value)) => cells.histograms.push((column, value.clone())),
                    (None, None) => {}
                }
            }
            Err(rejection) => reject(rejection, row.timestamp, result),
        }
    }
    cells.sort();
    cells
}

/// A column may come twice if an encoder sent a series with labels that had a column already.
fn drop_doubles(cells: &mut NewCells, source: &Source, timestamp: TimestampMs, result: &mut RowResult) {
    let mut doubles = 0;
    let mut same = 0;
    let mut keep = |before: Option<u64>, bits: u64| match before {
        None => true,
        Some(there) => {
            if there == bits {
                same += 1;
            } else {
                doubles += 1;
            }
            false
        }
    };
    let mut last: Option<(u32, u64)> = None;
    cells.floats.retain(|(column, value)| {
        let before = last.filter(|(c, _)| c == column).map(|(_, bits)| bits);
        let kept = keep(before, value.to_bits());
        if kept {
            last = Some((*column, value.to_bits()));
        }
        kept
    });
    let mut last: Option<(u32, u64)> = None;
    let floats = &cells.floats;
    cells.histograms.retain(|(column, value)| {
        let bits = histogram_bits(value);
        let float = floats.binary_search_by_key(column, |(c, _)| *c).ok().map(|at| floats[at].1.to_bits());
        let before = last.filter(|(c, _)| c == column).map(|(_, bits)| bits).or(float);
        let kept = keep(before, bits);
        if kept {
            last = Some((*column, bits));
        }
        kept
    });
    result.applied += same;
    if doubles > 0 {
        *result.rejected.entry(Rejection::Duplicate).or_default() += doubles;
        if result.first_rejected.is_none() {
            let text = Rejection::Duplicate.text();
            result.first_rejected = Some(format!("{text} {timestamp} in one row of {:?}", source.key));
        }
    }
}

fn hash_of(cells: &NewCells, timestamp: TimestampMs, source: &Source) -> u128 {
    let key = hash::time_key(timestamp.0);
    let hashes = &source.columns.hashes;
    let floats = cells.floats.iter().map(|(column, value)| (*column, Cell::Float(*value)));
    let histograms = cells.histograms.iter().map(|(column, value)| (*column, Cell::Histogram(value)));
    floats.chain(histograms).fold(0_u128, |sum, (column, cell)| {
        sum.wrapping_add(hash::cell(hashes[column as usize], key, cell.bits()))
    })
}
