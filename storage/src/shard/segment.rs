//! The compact row and the segment, as bytes. `docs/formats/segment.md` draws them.
//!
//! A steady row is a source id, a layout, one run of columns and the values; labels come only with series that the
//! layout does not have. Everything is checked before anything of a row is applied.

use super::{
    blocks,
    command::{COMMAND_VERSION, KIND_SEGMENT, is_read, read_term},
    index::SourceId,
    wire::{Malformed, Put, Reader},
};
use model::{Labels, SourceKey, Term, TimestampMs, Value};
use std::sync::Arc;

const WHOLE: u8 = 1;
const NAMED: u8 = 2;
const HISTOGRAMS: u8 = 4;
const INTRODUCES: u8 = 8;

/// What leads a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHead {
    /// The term in which its duties began; refused as a whole in any other.
    pub term: Option<Term>,
    /// The proposer's time, by which the future is limited.
    pub time: TimestampMs,
    pub rows: usize,
}

impl SegmentHead {
    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[COMMAND_VERSION, KIND_SEGMENT]);
        out.put_u64(self.term.map_or(0, |term| term.0.saturating_add(1)));
        out.put_i64(self.time.0);
        out.put_u64(self.rows as u64);
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<SegmentHead, Malformed> {
        if !is_read(reader.byte()?) || reader.byte()? != KIND_SEGMENT {
            return Err(Malformed("segment: unknown version or kind"));
        }
        Ok(SegmentHead { term: read_term(reader)?, time: TimestampMs(reader.i64()?), rows: reader.count()? })
    }
}

/// Whose row it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SourceRef {
    /// Applied already: its id, and the layout that the runs mean.
    Known { id: SourceId, layout: u64 },
    /// Not seen yet by who encoded: all series come with labels.
    Named(Arc<SourceKey>),
}

/// A row as it travels.
#[derive(Clone, Debug)]
pub(crate) struct CompactRow {
    pub source: SourceRef,
    /// It has no cells; its new series get columns, so that a row with their values needs no labels.
    pub introduces: bool,
    /// The slot of a whole row; a partial row has none.
    pub slot: Option<TimestampMs>,
    pub timestamp: TimestampMs,
    /// Columns of the layout that have a cell: (first, number), ascending, apart from each other.
    pub runs: Vec<(u32, u32)>,
    /// Series without a column, whose cells follow those of the runs, if the row has any.
    pub new_series: Vec<Labels>,
    /// Cells that are no floats, by position among all cells, ascending.
    pub histograms: Vec<(u32, Value)>,
    /// The floats of all other cells, in order.
    pub floats: Vec<f64>,
}

impl CompactRow {
    pub(crate) fn put(&self, time: TimestampMs, out: &mut Vec<u8>) {
        let mut body = Vec::with_capacity(64 + self.floats.len() * 4);
        let whole = if self.slot.is_some() { WHOLE } else { 0 };
        let named = if matches!(self.source, SourceRef::Named(_)) { NAMED } else { 0 };
        let histograms = if self.histograms.is_empty() { 0 } else { HISTOGRAMS };
        let introduces = if self.introduces { INTRODUCES } else { 0 };
        body.push(whole | named | histograms | introduces);
        match &self.source {
            SourceRef::Known { id, layout } => {
                body.put_u64(u64::from(*id));
                body.put_u64(*layout);
            }
            SourceRef::Named(key) => body.put_key(key),
        }
        body.put_i64(self.timestamp.0.wrapping_sub(time.0));
        if let Some(slot) = self.slot {
            body.put_i64(slot.0.wrapping_sub(self.timestamp.0));
        }
        body.put_u64(self.runs.len() as u64);
        let mut end = 0;
        for (first, len) in &self.runs {
            body.put_u64(u64::from(first - end));
            body.put_u64(u64::from(*len));
            end = first + len;
        }
        body.put_u64(self.new_series.len() as u64);
        for labels in &self.new_series {
            body.put_bytes(labels.as_bytes());
        }
        if !self.histograms.is_empty() {
            body.put_u64(self.histograms.len() as u64);
            let mut bytes = Vec::new();
            for (position, value) in &self.histograms {
                body.put_u64(u64::from(*position));
                bytes.clear();
                blocks::put_histogram(value, &mut bytes);
                body.put_bytes(&bytes);
            }
        }
        blocks::put_values(&self.floats, &mut body);
        out.put_bytes(&body);
    }

    pub(crate) fn read(reader: &mut Reader<'_>, time: TimestampMs) -> Result<CompactRow, Malformed> {
        let mut reader = Reader::new(reader.bytes()?);
        let flags = reader.byte()?;
        if flags & !(WHOLE | NAMED | HISTOGRAMS | INTRODUCES) != 0 {
            return Err(Malformed("row: unknown flags"));
        }
        let introduces = flags & INTRODUCES != 0;
        if introduces && flags & (WHOLE | HISTOGRAMS) != 0 {
            return Err(Malformed("row: it introduces series and has cells"));
        }
        let source = if flags & NAMED != 0 {
            SourceRef::Named(Arc::new(reader.key()?))
        } else {
            SourceRef::Known { id: reader.u32()?, layout: reader.u64()? }
        };
        let timestamp = TimestampMs(time.0.wrapping_add(reader.i64()?));
        let slot = if flags & WHOLE != 0 {
            Some(TimestampMs(timestamp.0.wrapping_add(reader.i64()?)))
        } else {
            None
        };
        let run_count = reader.count()?;
        let mut runs = Vec::with_capacity(run_count.min(1_024));
        let (mut end, mut cells) = (0_u32, 0_usize);
        for _ in 0..run_count {
            let first = end.checked_add(reader.u32()?).ok_or(Malformed("row: run out of range"))?;
            let len = reader.u32()?;
            end = first.checked_add(len).ok_or(Malformed("row: run out of range"))?;
            cells += len as usize;
            runs.push((first, len));
        }
        let new_count = reader.count()?;
        let mut new_series = Vec::with_capacity(new_count.min(1_024));
        for _ in 0..new_count {
            new_series.push(reader.labels()?);
        }
        if introduces && cells > 0 {
            return Err(Malformed("row: it introduces series and has cells"));
        }
        cells += if introduces { 0 } else { new_count };
        let mut histograms: Vec<(u32, Value)> = Vec::new();
        if flags & HISTOGRAMS != 0 {
            for _ in 0..reader.count()? {
                let position = reader.u32()?;
                let value = blocks::read_histogram(reader.bytes()?)?;
                if position as usize >= cells || histograms.last().is_some_and(|(p, _)| *p >= position) {
                    return Err(Malformed("row: a histogram out of place"));
                }
                histograms.push((position, value));
            }
        }
        let count = cells - histograms.len();
        if count / 2 > reader.len() {
            return Err(Malformed("row: more cells than bytes"));
        }
        let mut floats = Vec::with_capacity(count);
        blocks::read_values(&mut reader, count, &mut floats)?;
        if !reader.is_empty() {
            return Err(Malformed("row: bytes after its end"));
        }
        Ok(CompactRow { source, introduces, slot, timestamp, runs, new_series, histograms, floats })
    }

    /// Bytes of the labels that travel with it.
    pub(crate) fn labels_bytes(&self) -> usize {
        self.new_series.iter().map(bytes_of).sum()
    }

    /// What is counted as rejected if all of the row is: its cells, or the series that it introduces.
    pub(crate) fn rejectable(&self) -> u32 {
        if self.introduces { self.new_series.len() as u32 } else { self.len() as u32 }
    }

    /// Number of cells.
    pub(crate) fn len(&self) -> usize {
        self.floats.len() + self.histograms.len()
    }

    /// The first column that no run touches.
    pub(crate) fn columns_end(&self) -> u32 {
        self.runs.last().map_or(0, |(first, len)| first + len)
    }
}

/// Bytes that a label set takes on the way, at most.
pub(crate) fn bytes_of(labels: &Labels) -> usize {
    labels.as_bytes().len() + 4
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_row_round_trips() {
        let row = CompactRow {
            source: SourceRef::Known { id: 7, layout: 3 },
            introduces: false,
            slot: Some(TimestampMs(9_000)),
            timestamp: TimestampMs(9_007),
            runs: vec![(0, 2), (5, 1)],
            new_series: vec![Labels::from_pairs([("__name__", "up")])],
            histograms: vec![(1, Value::Histogram(Arc::default()))],
            floats: vec![1.0, -0.0, model::STALE_NAN],
        };
        let mut bytes = Vec::new();
        row.put(TimestampMs(10_000), &mut bytes);
        let back = CompactRow::read(&mut Reader::new(&bytes), TimestampMs(10_000)).expect("a row");
        let bits = |row: &CompactRow| row.floats.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        assert_eq!((&back.source, back.slot, back.timestamp), (&row.source, row.slot, row.timestamp));
        assert_eq!((&back.runs, &back.new_series, bits(&back)), (&row.runs, &row.new_series, bits(&row)));
        assert_eq!(back.histograms.len(), 1);
    }

    proptest! {
        #[test]
        fn no_bytes_make_reading_panic(mut bytes: Vec<u8>, flags in 0_u8..16) {
            bytes.insert(0, flags);
            let mut framed = Vec::new();
            framed.put_bytes(&bytes);
            let _ = CompactRow::read(&mut Reader::new(&framed), TimestampMs(0));
        }
    }
}
