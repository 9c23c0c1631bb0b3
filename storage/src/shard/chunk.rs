//! Sealed windows: timestamps once, one compressed column per series, 64 series in a group.
//!
//! ```text
//! head   ┌─────────┬───────┬──────────────────────────┬───────┬───────────────────────────────────┐
//!        │ version │ rows n│ timestamps: first, deltas │ series│ series ids, ascending, as deltas │
//!        └─────────┴───────┴──────────────────────────┴───────┴───────────────────────────────────┘
//! group  ┌─────────┬───────────┬────────────────────────┬──────────┬──────────┬─ ─
//!        │ version │ packing   │ length of each column  │ column 0 │ column 1 │        packing 1: zstd from here on
//!        └─────────┴───────────┴────────────────────────┴──────────┴──────────┴─ ─
//! column ┌───────┬─────────────────────────────┬────────────┬─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ┐
//!        │ flags │ bitmap of rows with a float │ PFOR block │ count, rows, histograms
//!        └───────┴─────────────────────────────┴────────────┴─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ┘
//! ```
//!
//! flags: bit 0 the bitmap is there (else every row has a float), bit 1 there is no float at all, bit 2 histograms
//! follow.

use super::{
    blocks,
    index::SeriesId,
    wire::{Malformed, Put, Reader},
};
use bytes::Bytes;
use model::Value;
use std::sync::Arc;

const VERSION: u8 = 1;
/// Series in one group.
pub(crate) const GROUP: usize = 64;
const PACKING_NONE: u8 = 0;
const PACKING_ZSTD: u8 = 1;
const GROUP_BYTES_MAX: usize = 256 << 20;
const NO_FLOAT: u8 = 2;
const BITMAP: u8 = 1;
const HISTOGRAMS: u8 = 4;

/// What a chunk holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ChunkHead {
    pub timestamps: Vec<i64>,
    /// Ascending.
    pub series: Vec<SeriesId>,
}

impl ChunkHead {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        out.put_u64(self.timestamps.len() as u64);
        let (mut last, mut step) = (0_i64, 0_i64);
        for timestamp in &self.timestamps {
            let delta = timestamp.wrapping_sub(last);
            out.put_i64(delta.wrapping_sub(step));
            (last, step) = (*timestamp, delta);
        }
        out.put_u64(self.series.len() as u64);
        let mut before = 0;
        for id in &self.series {
            out.put_u64(u64::from(id.wrapping_sub(before)));
            before = *id;
        }
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<ChunkHead, Malformed> {
        let mut reader = Reader::new(bytes);
        if reader.byte()? != VERSION {
            return Err(Malformed("chunk head: unknown version"));
        }
        let (mut last, mut step) = (0_i64, 0_i64);
        let mut timestamps = Vec::with_capacity(reader.clone().count()?);
        for _ in 0..reader.count()? {
            step = step.wrapping_add(reader.i64()?);
            last = last.wrapping_add(step);
            timestamps.push(last);
        }
        let mut before = 0_u32;
        let mut series = Vec::with_capacity(reader.clone().count()?);
        for _ in 0..reader.count()? {
            before = before.wrapping_add(reader.u32()?);
            series.push(before);
        }
        if !timestamps.is_sorted_by(|a, b| a < b) || !series.is_sorted_by(|a, b| a < b) {
            return Err(Malformed("chunk head: out of order"));
        }
        Ok(ChunkHead { timestamps, series })
    }
}

/// The samples of one series in one chunk.
#[derive(Clone, Debug, Default)]
pub(crate) struct Column {
    /// Rows with a float, ascending.
    pub float_rows: Vec<u32>,
    pub floats: Vec<f64>,
    /// Histograms by row, ascending.
    pub histograms: Vec<(u32, Value)>,
}

impl Column {
    fn encode(&self, rows: usize, encoder: &mut blocks::Encoder, out: &mut Vec<u8>) {
        let mut flags = 0;
        if self.floats.is_empty() {
            flags |= NO_FLOAT;
        } else if self.floats.len() < rows {
            flags |= BITMAP;
        }
        if !self.histograms.is_empty() {
            flags |= HISTOGRAMS;
        }
        out.push(flags);
        if flags & BITMAP != 0 {
            let mut bitmap = vec![0_u8; rows.div_ceil(8)];
            for row in &self.float_rows {
                bitmap[*row as usize / 8] |= 1 << (row % 8);
            }
            out.extend_from_slice(&bitmap);
        }
        let mut block = Vec::new();
        if flags & NO_FLOAT == 0 {
            blocks::put_column(&self.floats, encoder, &mut block);
        }
        out.put_bytes(&block);
        if flags & HISTOGRAMS != 0 {
            out.put_u64(self.histograms.len() as u64);
            let mut next = 0;
            for (row, _) in &self.histograms {
                out.put_u64(u64::from(row - next));
                next = row + 1;
            }
            let values: Vec<Value> = self.histograms.iter().map(|(_, value)| value.clone()).collect();
            blocks::put_histograms(&values, encoder, out);
        }
    }

    /// Reads a column into `self`, whose buffers are used again.
    fn decode(&mut self, bytes: &[u8], rows: usize) -> Result<(), Malformed> {
        self.float_rows.clear();
        self.floats.clear();
        self.histograms.clear();
        let mut reader = Reader::new(bytes);
        let flags = reader.byte()?;
        if flags & BITMAP != 0 {
            let bitmap = reader.take(rows.div_ceil(8))?;
            self.float_rows
                .extend((0..rows as u32).filter(|row| bitmap[*row as usize / 8] >> (row % 8) & 1 == 1));
        } else if flags & NO_FLOAT == 0 {
            self.float_rows.extend(0..rows as u32);
        }
        let block = reader.bytes()?;
        if flags & NO_FLOAT == 0 {
            blocks::read_column(block, self.float_rows.len(), &mut self.floats)?;
        }
        if flags & HISTOGRAMS != 0 {
            let mut at = Vec::new();
            let mut next = 0_u32;
            for _ in 0..reader.count()? {
                let row = next.checked_add(reader.u32()?).filter(|row| (*row as usize) < rows);
                let row = row.ok_or(Malformed("chunk column: a histogram out of place"))?;
                at.push(row);
                next = row + 1;
            }
            let values = blocks::read_histograms(reader.rest(), at.len())?;
            self.histograms.extend(at.into_iter().zip(values));
        }
        Ok(())
    }
}

/// A group as it is read: unpacked, with the place of each column.
#[derive(Clone, Debug)]
pub(crate) struct Group {
    body: Bytes,
    ends: Vec<u32>,
}

impl Group {
    pub(crate) fn open(bytes: &Bytes) -> Result<Group, Malformed> {
        let (&[version, packing], packed) =
            bytes.split_first_chunk::<2>().ok_or(Malformed("chunk group: it ends early"))?;
        if version != VERSION {
            return Err(Malformed("chunk group: unknown version"));
        }
        let body = match packing {
            PACKING_NONE => bytes.slice(2..),
            PACKING_ZSTD => {
                let mut reader = Reader::new(packed);
                let len = usize::try_from(reader.u64()?).unwrap_or(usize::MAX);
                if len > GROUP_BYTES_MAX {
                    return Err(Malformed("chunk group: too long"));
                }
                let body = zstd::bulk::decompress(reader.rest(), len);
                Bytes::from(body.map_err(|_| Malformed("chunk group: zstd"))?)
            }
            _ => return Err(Malformed("chunk group: unknown packing")),
        };
        let mut reader = Reader::new(&body);
        let count = reader.count()?;
        let mut lengths = Vec::with_capacity(count.min(GROUP));
        for _ in 0..count {
            lengths.push(reader.u32()?);
        }
        let mut at = (body.len() - reader.len()) as u32;
        let mut ends = Vec::with_capacity(count + 1);
        ends.push(at);
        for length in lengths {
            at = at.checked_add(length).ok_or(Malformed("chunk group: too long"))?;
            ends.push(at);
        }
        if at as usize != body.len() {
            return Err(Malformed("chunk group: lengths do not add up"));
        }
        Ok(Group { body, ends })
    }

    /// Reads the `i`th column of the group.
    pub(crate) fn column(&self, i: usize, rows: usize, into: &mut Column) -> Result<(), Malformed> {
        let (Some(from), Some(to)) = (self.ends.get(i), self.ends.get(i + 1)) else {
            return Err(Malformed("chunk group: no such column"));
        };
        into.decode(&self.body[*from as usize..*to as usize], rows)
    }

    /// Bytes held.
    pub(crate) fn bytes(&self) -> usize {
        self.body.len() + self.ends.len() * 4 + 64
    }
}

/// A chunk in memory, encoded.
#[derive(Clone, Debug)]
pub(crate) struct Chunk {
    pub head: Arc<ChunkHead>,
    pub groups: Vec<Bytes>,
}

impl Chunk {
    /// Encodes columns, which `column` yields by position; `squeeze` adds zstd where it saves something.
    pub(crate) fn build(
        head: ChunkHead,
        squeeze: bool,
        mut column: impl FnMut(usize, &mut Column) -> Result<(), Malformed>,
    ) -> Result<Chunk, Malformed> {
        let rows = head.timestamps.len();
        let mut scratch = Column::default();
        let mut encoder = blocks::Encoder::default();
        let mut groups = Vec::with_capacity(head.series.len().div_ceil(GROUP));
        for first in (0..head.series.len()).step_by(GROUP) {
            let last = (first + GROUP).min(head.series.len());
            let mut columns = Vec::with_capacity(4_096);
            let mut body = Vec::with_capacity(8_192);
            body.put_u64((last - first) as u64);
            for position in first..last {
                let before = columns.len();
                column(position, &mut scratch)?;
                scratch.encode(rows, &mut encoder, &mut columns);
                body.put_u64((columns.len() - before) as u64);
            }
            body.extend_from_slice(&columns);
            groups.push(pack(&body, squeeze));
        }
        Ok(Chunk { head: Arc::new(head), groups })
    }

    /// Bytes held.
    pub(crate) fn bytes(&self) -> usize {
        self.groups.iter().map(Bytes::len).sum::<usize>()
            + self.head.timestamps.len() * 8
            + self.head.series.len() * 4
    }
}

fn pack(body: &[u8], squeeze: bool) -> Bytes {
    if squeeze && let Ok(squeezed) = zstd::bulk::compress(body, 3) {
        let mut out = vec![VERSION, PACKING_ZSTD];
        out.put_u64(body.len() as u64);
        if out.len() + squeezed.len() < body.len() {
            out.extend_from_slice(&squeezed);
            return out.into();
        }
    }
    let mut out = Vec::with_capacity(body.len() + 2);
    out.extend_from_slice(&[VERSION, PACKING_NONE]);
    out.extend_from_slice(body);
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::Histogram;
    use proptest::prelude::*;

    fn histogram(count: u64) -> Value {
        Value::Histogram(Arc::new(Histogram { count, sum: 2.5, ..Histogram::default() }))
    }

    proptest! {
        #[test]
        fn a_chunk_gives_back_what_went_in(
            columns in prop::collection::vec(prop::collection::vec(prop::option::of(any::<u64>()), 10), 1..130),
            squeeze: bool,
        ) {
            let head = ChunkHead {
                timestamps: (0..10).map(|i| i * 15_000 + i % 3).collect(),
                series: (0..columns.len() as u32).map(|i| i * 2 + 7).collect(),
            };
            prop_assert_eq!(&ChunkHead::decode(&head.encode()).unwrap(), &head);
            let chunk = Chunk::build(head, squeeze, |i, column| {
                *column = Column::default();
                for (row, bits) in columns[i].iter().enumerate() {
                    if let Some(bits) = bits {
                        column.float_rows.push(row as u32);
                        column.floats.push(f64::from_bits(*bits));
                    } else if i % 5 == 0 {
                        column.histograms.push((row as u32, histogram(row as u64)));
                    }
                }
                Ok(())
            }).unwrap();
            let mut column = Column::default();
            for (i, expected) in columns.iter().enumerate() {
                Group::open(&chunk.groups[i / GROUP]).unwrap().column(i % GROUP, 10, &mut column).unwrap();
                let got: Vec<_> =
                    column.float_rows.iter().zip(&column.floats).map(|(r, v)| (*r, v.to_bits())).collect();
                let wanted: Vec<_> =
                    (0..).zip(expected).filter_map(|(r, bits)| bits.map(|bits| (r, bits))).collect();
                prop_assert_eq!(got, wanted);
                let histograms = if i % 5 == 0 { expected.iter().filter(|b| b.is_none()).count() } else { 0 };
                prop_assert_eq!(column.histograms.len(), histograms);
            }
        }

        #[test]
        fn no_bytes_make_reading_panic(bytes: Vec<u8>) {
            let _ = ChunkHead::decode(&bytes);
            if let Ok(group) = Group::open(&Bytes::from(bytes)) {
                let _ = group.column(0, 5, &mut Column::default());
            }
        }
    }
}
