//! Timestamps: integers as they come, or on a grid.
//!
//! ```text
//!  integers │ version and kind │ integers ... │
//!  grid     │ version and kind │ first │ step │ base │ n - 1 slots missed before each │ n - 1 residuals - base │
//! ```
//!
//! A scrape is late by some milliseconds but the next one is not later for it: differences carry that jitter twice,
//! the distance to the grid once. A missed scrape is a slot missed, not a residual that stays for the whole block.

use super::{
    DecodeError, Reader, block, integers, put_signed, put_varint,
    reader::{unzigzag, zigzag},
    residuals,
};

const INTEGERS: u8 = 3;
const GRID: u8 = 4;

pub(super) fn encode(timestamps: &[i64], scratch: &mut integers::Scratch, out: &mut Vec<u8>) {
    let start = out.len();
    out.push(block::lead(INTEGERS));
    integers::encode(timestamps, scratch, out);
    // A line needs no grid.
    if out.len() - start > 24
        && let Some(grid) = Grid::fit(timestamps)
    {
        let mut other = Vec::with_capacity(out.len() - start);
        grid.put(timestamps, &mut other);
        if other.len() < out.len() - start {
            out.truncate(start);
            out.append(&mut other);
        }
    }
}

/// Slots of equal length from the first timestamp on.
struct Grid {
    first: i64,
    step: i64,
}

impl Grid {
    /// A grid whose step is the middle difference, rounded as people choose intervals.
    fn fit(timestamps: &[i64]) -> Option<Grid> {
        let (first, last) = (*timestamps.first()?, *timestamps.last()?);
        // So much room that no product below overflows.
        let small = |t: &i64| t.unsigned_abs() < 1 << 60;
        if last <= first || !timestamps.iter().all(small) {
            return None;
        }
        let mut deltas: Vec<i64> = timestamps.windows(2).map(|pair| pair[1] - pair[0]).collect();
        let middle = deltas.len() / 2;
        let (_, &mut median, _) = deltas.select_nth_unstable(middle);
        if median <= 0 {
            return None;
        }
        let near = |unit: i64| {
            let rounded = (median + unit / 2) / unit * unit;
            (rounded > 0 && (rounded - median).abs() * 50 <= median).then_some(rounded)
        };
        let step = near(1000).or_else(|| near(100)).or_else(|| near(10)).unwrap_or(median);
        Some(Grid { first, step })
    }

    fn slot(&self, timestamp: i64) -> i64 {
        (timestamp - self.first + self.step / 2).div_euclid(self.step)
    }

    fn residual(&self, timestamp: i64) -> i64 {
        timestamp - self.first - self.slot(timestamp) * self.step
    }

    fn put(&self, timestamps: &[i64], out: &mut Vec<u8>) {
        let base = timestamps[1..].iter().map(|t| self.residual(*t)).min().unwrap_or(0);
        out.push(block::lead(GRID));
        put_signed(out, self.first);
        put_varint(out, self.step as u64);
        put_signed(out, base);
        let slots = timestamps.windows(2).map(|pair| zigzag(self.slot(pair[1]) - self.slot(pair[0]) - 1));
        residuals::encode(&slots.collect::<Vec<_>>(), out);
        let rest = timestamps[1..].iter().map(|t| (self.residual(*t) - base) as u64);
        residuals::encode(&rest.collect::<Vec<_>>(), out);
    }
}

pub(super) fn read(reader: &mut Reader<'_>, count: usize, out: &mut Vec<i64>) -> Result<(), DecodeError> {
    if count == 0 {
        return Ok(());
    }
    if count > block::VALUES_MAX {
        return Err(DecodeError::Malformed("count"));
    }
    let kind = block::kind(reader)?;
    out.reserve(count);
    match kind {
        INTEGERS => {
            let flags = reader.u8()?;
            if flags & !integers::FLAGS != 0 {
                return Err(DecodeError::Malformed("timestamp flags"));
            }
            integers::decode(reader, flags, count, |piece| out.extend_from_slice(piece))
        }
        GRID => read_grid(reader, count, out),
        _ => Err(DecodeError::Malformed("timestamp block kind")),
    }
}

fn read_grid(reader: &mut Reader<'_>, count: usize, out: &mut Vec<i64>) -> Result<(), DecodeError> {
    let first = reader.signed()?;
    let step = reader.varint()? as i64;
    let base = reader.signed()?;
    out.push(first);
    let start = out.len();
    let mut slot_time = first.wrapping_add(base);
    residuals::decode(reader, count - 1, |piece| {
        out.extend(piece.iter().map(|missed| {
            let slots = unzigzag(*missed).wrapping_add(1);
            slot_time = slot_time.wrapping_add(slots.wrapping_mul(step));
            slot_time
        }));
    })?;
    let mut at = start;
    residuals::decode(reader, count - 1, |piece| {
        for (timestamp, residual) in out[at..].iter_mut().zip(&*piece) {
            *timestamp = timestamp.wrapping_add(*residual as i64);
        }
        at += piece.len();
    })
}
