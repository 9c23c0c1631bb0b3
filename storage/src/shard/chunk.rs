//! Sealed windows: timestamps once, one compressed column per series, 64 series in a group.
//!
//! ```text
//! head   ┌─────────┬────────┬────────────────────┬────────┬─────────────────────────┬────────┐
//!        │ version │ rows n │ block of timestamps│ runs n │ gap, length of each run │ CRC32C │   runs of series ids
//!        └─────────┴────────┴────────────────────┴────────┴─────────────────────────┴────────┘
//! group  ┌─────────┬───────────┬────────────────────────┬──────────┬──────────┬─ ─┬────────┐
//!        │ version │ packing   │ length of each column  │ column 0 │ column 1 │   │ CRC32C │   packing 1: zstd between
//!        └─────────┴───────────┴────────────────────────┴──────────┴──────────┴─ ─┴────────┘   packing and checksum
//! column ┌───────┬─────────────────────────────┬────────────┬─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ┐
//!        │ flags │ bitmap of rows with a float │ PFOR block │ count, rows, histograms
//!        └───────┴─────────────────────────────┴────────────┴─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ┘
//! ```
//!
//! flags: bit 0 the bitmap is there (else every row has a float), bit 1 there is no float at all, bit 2 histograms
//! follow.
//!
//! Version 1, which is still read, had no checksums, and a head had each timestamp and series id as a difference.

use super::{
    blocks,
    index::SeriesId,
    wire::{Malformed, Put, Reader},
};
use crate::codec::histograms::Within;
use bytes::Bytes;
use model::{Samples, Value};
use std::{ops::Range, sync::Arc};

pub(crate) const VERSION: u8 = 2;
/// Without checksums; heads spelled out.
const VERSION_PLAIN: u8 = 1;
/// Rows of a chunk at most: a merged one has no more ([`super::merge`]), a window far fewer.
pub(crate) const ROWS_MAX: usize = 1 << 16;
/// Series of a chunk at most: the keys of groups count no further.
pub(crate) const SERIES_MAX: usize = GROUP << 16;
/// zstd's level for groups that are merged: once per sample, so thoroughly.
const SQUEEZE_LEVEL: i32 = 6;
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
    /// The position of a series. Ids ascend, so it is nowhere behind its distance from the first, and mostly there.
    pub(crate) fn position(&self, series: SeriesId) -> Option<usize> {
        let guess = series.checked_sub(*self.series.first()?)? as usize;
        if self.series.get(guess) == Some(&series) {
            return Some(guess);
        }
        self.series[..guess.min(self.series.len())].binary_search(&series).ok()
    }

    /// Appends the head with its checksum, which covers all of `out`.
    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        out.push(VERSION);
        out.put_u64(self.timestamps.len() as u64);
        let mut block = Vec::with_capacity(32);
        blocks::put_timestamps(&self.timestamps, &mut block);
        out.put_bytes(&block);
        let mut runs: Vec<(u32, u32)> = Vec::new();
        for id in &self.series {
            match runs.last_mut() {
                Some((first, len)) if *first + *len == *id => *len += 1,
                _ => runs.push((*id, 1)),
            }
        }
        out.put_u64(runs.len() as u64);
        let mut next = 0;
        for (first, len) in runs {
            out.put_u64(u64::from(first - next));
            out.put_u64(u64::from(len));
            next = first + len;
        }
        put_checksum(out);
    }

    /// The head alone, as the state of an open window has it.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(64);
        self.put(&mut out);
        out
    }

    /// Reads a head that `before` bytes of its record precede; the checksum covers them, too.
    pub(crate) fn decode(record: &[u8], before: usize) -> Result<ChunkHead, Malformed> {
        let version = record.get(before).ok_or(Malformed("chunk head: it ends early"))?;
        let head = match *version {
            VERSION => {
                let checked = checked(record, "chunk head: checksum")?;
                let body = checked.get(before + 1..).ok_or(Malformed("chunk head: it ends early"))?;
                ChunkHead::read(&mut Reader::new(body))?
            }
            VERSION_PLAIN => ChunkHead::read_plain(&mut Reader::new(&record[before + 1..]))?,
            _ => return Err(Malformed("chunk head: unknown version")),
        };
        if !head.timestamps.is_sorted_by(|a, b| a < b) || !head.series.is_sorted_by(|a, b| a < b) {
            return Err(Malformed("chunk head: out of order"));
        }
        Ok(head)
    }

    fn read(reader: &mut Reader<'_>) -> Result<ChunkHead, Malformed> {
        let rows = usize::try_from(reader.u64()?).unwrap_or(usize::MAX);
        if rows > ROWS_MAX {
            return Err(Malformed("chunk head: too many rows"));
        }
        let mut timestamps = Vec::with_capacity(rows);
        blocks::read_timestamps(reader.bytes()?, rows, &mut timestamps)?;
        let mut series = Vec::new();
        let mut next = 0_u32;
        for _ in 0..reader.count()? {
            let first = next.checked_add(reader.u32()?).ok_or(Malformed("chunk head: series id"))?;
            let len = reader.u32()?;
            next = first.checked_add(len).ok_or(Malformed("chunk head: series id"))?;
            if series.len() + len as usize > SERIES_MAX {
                return Err(Malformed("chunk head: too many series"));
            }
            series.extend(first..next);
        }
        Ok(ChunkHead { timestamps, series })
    }

    fn read_plain(reader: &mut Reader<'_>) -> Result<ChunkHead, Malformed> {
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
        Ok(ChunkHead { timestamps, series })
    }
}

fn put_checksum(out: &mut Vec<u8>) {
    let sum = crc32c::crc32c(out);
    out.extend_from_slice(&sum.to_le_bytes());
}

/// The record without its checksum, which must be right.
fn checked<'a>(record: &'a [u8], wrong: &'static str) -> Result<&'a [u8], Malformed> {
    let (body, sum) = record.split_last_chunk::<4>().ok_or(Malformed(wrong))?;
    if crc32c::crc32c(body) == u32::from_le_bytes(*sum) { Ok(body) } else { Err(Malformed(wrong)) }
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
        let (at, values) = self.decode_floats(bytes, rows)?;
        if !at.is_empty() {
            let values = blocks::read_histograms(values, at.len())?;
            self.histograms.extend(at.into_iter().zip(values));
        }
        Ok(())
    }

    /// Reads what a column has but for its histograms; yields the rows of those, and where they stand.
    fn decode_floats<'b>(&mut self, bytes: &'b [u8], rows: usize) -> Result<(Vec<u32>, &'b [u8]), Malformed> {
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
        let mut at = Vec::new();
        if flags & HISTOGRAMS != 0 {
            let mut next = 0_u32;
            for _ in 0..reader.count()? {
                let row = next.checked_add(reader.u32()?).filter(|row| (*row as usize) < rows);
                let row = row.ok_or(Malformed("chunk column: a histogram out of place"))?;
                at.push(row);
                next = row + 1;
            }
        }
        Ok((at, reader.rest()))
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
        let end = match bytes.first() {
            Some(&VERSION) => checked(bytes, "chunk group: checksum")?.len(),
            Some(&VERSION_PLAIN) => bytes.len(),
            _ => return Err(Malformed("chunk group: unknown version")),
        };
        let (&[_, packing], packed) =
            bytes[..end].split_first_chunk::<2>().ok_or(Malformed("chunk group: it ends early"))?;
        let body = match packing {
            PACKING_NONE => bytes.slice(2..end),
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

    fn bytes_of(&self, i: usize) -> Result<&[u8], Malformed> {
        let (Some(from), Some(to)) = (self.ends.get(i), self.ends.get(i + 1)) else {
            return Err(Malformed("chunk group: no such column"));
        };
        Ok(&self.body[*from as usize..*to as usize])
    }

    /// Reads the `i`th column of the group.
    pub(crate) fn column(&self, i: usize, rows: usize, into: &mut Column) -> Result<(), Malformed> {
        into.decode(self.bytes_of(i)?, rows)
    }

    /// Appends what the `i`th column, whatever it holds, has in the rows `within`; `scratch` is used up.
    pub(crate) fn append(
        &self,
        i: usize,
        timestamps: &[i64],
        within: Range<usize>,
        scratch: &mut Column,
        samples: &mut Samples,
    ) -> Result<(), Malformed> {
        let (rows, values) = scratch.decode_floats(self.bytes_of(i)?, timestamps.len())?;
        let inside = |all: &[u32]| {
            let below = |end: usize| all.partition_point(|row| (*row as usize) < end);
            below(within.start)..below(within.end)
        };
        let (floats, histograms) = (inside(&scratch.float_rows), inside(&rows));
        if rows.is_empty() {
            samples.floats.extend_from_slice(&scratch.floats[floats.clone()]);
            let times = scratch.float_rows[floats].iter().map(|row| timestamps[*row as usize]);
            samples.timestamps.extend(times);
            return Ok(());
        }
        let mut positions = Vec::with_capacity(histograms.len());
        let mut rest = floats.peekable();
        let push_float = |samples: &mut Samples, at: usize| {
            samples.timestamps.push(timestamps[scratch.float_rows[at] as usize]);
            samples.floats.push(scratch.floats[at]);
        };
        for row in &rows[histograms.clone()] {
            while let Some(at) = rest.next_if(|at| scratch.float_rows[*at] < *row) {
                push_float(samples, at);
            }
            positions.push(samples.timestamps.len() as u32);
            samples.timestamps.push(timestamps[*row as usize]);
            samples.floats.push(0.0);
        }
        rest.for_each(|at| push_float(samples, at));
        let mut others = Vec::new();
        let histograms_of = &mut samples.histograms;
        let mut out = Within { positions: &positions, histograms: histograms_of, floats: &mut others };
        blocks::read_histograms_within(values, rows.len(), histograms.start, &mut out)?;
        for (position, value) in others {
            samples.floats[position as usize] = value;
        }
        Ok(())
    }

    /// Appends the values of the `i`th column in the rows `within`, if it has a float in each row and nothing else, as
    /// most have.
    pub(crate) fn full_column(
        &self,
        i: usize,
        rows: usize,
        within: Range<usize>,
        into: &mut Vec<f64>,
    ) -> Result<bool, Malformed> {
        let mut reader = Reader::new(self.bytes_of(i)?);
        if reader.byte()? != 0 {
            return Ok(false);
        }
        if within.len() == rows {
            blocks::read_column(reader.bytes()?, rows, into)?;
        } else {
            blocks::read_rows(reader.bytes()?, rows, within, into)?;
        }
        Ok(true)
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
        if head.series.len() > SERIES_MAX {
            return Err(Malformed("chunk: too many series"));
        }
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
    if squeeze && let Ok(squeezed) = zstd::bulk::compress(body, SQUEEZE_LEVEL) {
        let mut out = vec![VERSION, PACKING_ZSTD];
        out.put_u64(body.len() as u64);
        if out.len() + squeezed.len() < body.len() {
            out.extend_from_slice(&squeezed);
            put_checksum(&mut out);
            return out.into();
        }
    }
    let mut out = Vec::with_capacity(body.len() + 6);
    out.extend_from_slice(&[VERSION, PACKING_NONE]);
    out.extend_from_slice(body);
    put_checksum(&mut out);
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
                series: (0..columns.len() as u32).map(|i| i + i / 5 + 7).collect(),
            };
            prop_assert_eq!(&ChunkHead::decode(&head.encode(), 0).unwrap(), &head);
            for series in 0..300 {
                prop_assert_eq!(head.position(series), head.series.binary_search(&series).ok());
            }
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
        fn an_altered_byte_is_noticed(values in prop::collection::vec(any::<f64>(), 1..40), at: usize, bit in 0_u8..8, squeeze: bool) {
            let rows = 0..values.len() as i64;
            let head = ChunkHead { timestamps: rows.map(|i| i * 15_000).collect(), series: vec![3, 4, 9] };
            let chunk = Chunk::build(head, squeeze, |_, column| {
                *column = Column { float_rows: (0..values.len() as u32).collect(), floats: values.clone(), ..Column::default() };
                Ok(())
            }).unwrap();
            for mut record in [chunk.head.encode(), chunk.groups[0].to_vec()] {
                let at = at % record.len();
                record[at] ^= 1_u8 << bit;
                // The version byte alone may turn into another version.
                prop_assert!(at == 0 || ChunkHead::decode(&record, 0).is_err());
                prop_assert!(at == 0 || Group::open(&Bytes::from(record)).is_err());
            }
        }

        #[test]
        fn no_bytes_make_reading_panic(bytes: Vec<u8>) {
            let _ = ChunkHead::decode(&bytes, 0);
            if let Ok(group) = Group::open(&Bytes::from(bytes)) {
                let _ = group.column(0, 5, &mut Column::default());
            }
        }
    }

    #[test]
    fn the_first_version_is_still_read() {
        // Rows 1000, 16000, 31007 and series 7, 9: differences of differences, and differences.
        let mut head = vec![VERSION_PLAIN, 3];
        [1_000, 14_000, 7].iter().for_each(|step| head.put_i64(*step));
        head.extend_from_slice(&[2, 7, 2]);
        let head = ChunkHead::decode(&head, 0).expect("a head");
        assert_eq!(head, ChunkHead { timestamps: vec![1_000, 16_000, 31_007], series: vec![7, 9] });
        let chunk = Chunk::build(head, true, |i, column| {
            *column =
                Column { float_rows: vec![0, 1, 2], floats: vec![i as f64, 2.5, 1e9], ..Column::default() };
            Ok(())
        });
        let mut group = chunk.expect("builds").groups.remove(0).to_vec();
        group[0] = VERSION_PLAIN;
        group.truncate(group.len() - 4);
        let mut floats = Vec::new();
        let open = Group::open(&Bytes::from(group)).expect("a group");
        assert!(open.full_column(1, 3, 0..3, &mut floats).expect("a column"));
        assert_eq!(floats, [1.0, 2.5, 1e9]);
    }
}
