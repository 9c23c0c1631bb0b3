//! A block: the values of one series in one chunk, or the timestamps of its rows. Layout: `docs/formats/block.md`.
//!
//! ```text
//!  constant │ version and kind │ class │ 0-8 bytes │
//!  decimal  │ version and kind │ flags, exponent │ integers ... │ exceptions │   value = integer / 10^exponent
//!  bits     │ version and kind │ flags           │ integers ... │ exceptions │   integer orders as the float does
//! ```
//!
//! The count of values is not in the block: who keeps it knows its rows. Division by a power of ten, not
//! multiplication by its inverse, gives back every literal of up to 15 digits. Values that no exponent fits,
//! NaNs and -0.0 (whose sign a decimal loses) are exceptions: they repeat the integer before them in the stream, and
//! are listed behind it.

use super::{
    DecodeError, Reader,
    integers::{self, FLAGS},
    put_varint, times,
    values::{decode_value, encode_values, read_values},
};
use std::ops::Range;

/// At most so many values are in a block: far more than two hours hold, so that the assertion on it cannot be
/// reached by data. A decoder reserves what its caller counts, never what the bytes say.
pub const VALUES_MAX: usize = 1 << 24;

pub(crate) const VERSION: u8 = 1;
const CONSTANT: u8 = 0;
const DECIMAL: u8 = 1;
const BITS: u8 = 2;
const EXCEPTIONS: u8 = 0x80;
const EXPONENT_SHIFT: u32 = 3;
const EXPONENT_MAX: usize = 15;

const POWERS: [f64; 16] =
    [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15];

/// Integers up to here are exact in a float.
const EXACT_MAX: f64 = 9_007_199_254_740_992.0;

pub(super) fn lead(kind: u8) -> u8 {
    VERSION << 4 | kind
}

/// Reads the leading byte and returns the kind.
pub(super) fn kind(reader: &mut Reader<'_>) -> Result<u8, DecodeError> {
    let lead = reader.u8()?;
    if lead >> 4 != VERSION {
        return Err(DecodeError::Version(lead >> 4));
    }
    Ok(lead & 15)
}

/// Encodes blocks one after another with the same buffers.
#[derive(Debug, Default)]
pub struct Encoder {
    integers: Vec<i64>,
    exceptions: Vec<(usize, f64)>,
    pub(super) scratch: integers::Scratch,
}

impl Encoder {
    /// Appends a block of 1 to [`VALUES_MAX`] values; of none, nothing.
    ///
    /// # Panics
    /// If there are more.
    pub fn encode(&mut self, values: &[f64], out: &mut Vec<u8>) {
        assert!(values.len() <= VALUES_MAX);
        let Some(&first) = values.first() else { return };
        if values.iter().all(|v| v.to_bits() == first.to_bits()) {
            out.push(lead(CONSTANT));
            encode_values(&[first], out);
            return;
        }
        let at = out.len();
        if let Some(exponent) = self.scale(values) {
            out.push(lead(DECIMAL));
            integers::encode(&self.integers, &mut self.scratch, out);
            out[at + 1] |= (exponent as u8) << EXPONENT_SHIFT;
        } else {
            self.order(values);
            out.push(lead(BITS));
            integers::encode(&self.integers, &mut self.scratch, out);
        }
        if !self.exceptions.is_empty() {
            out[at + 1] |= EXCEPTIONS;
            put_exceptions(&self.exceptions, out);
        }
    }

    /// Appends a block of 1 to [`VALUES_MAX`] timestamps; of none, nothing. Any order, but made for ascending.
    ///
    /// # Panics
    /// If there are more.
    pub fn encode_timestamps(&mut self, timestamps: &[i64], out: &mut Vec<u8>) {
        assert!(timestamps.len() <= VALUES_MAX);
        if !timestamps.is_empty() {
            times::encode(timestamps, &mut self.scratch, out);
        }
    }

    /// Appends one block with the values of several, given with their counts in order; returns how many values
    /// it has. Small blocks of a window become the large one of a two-hour chunk so.
    ///
    /// # Errors
    /// If a part is not a block of its count, or they have more than [`VALUES_MAX`] values; `out` is then as it was.
    pub fn merge<'a>(
        &mut self,
        parts: impl IntoIterator<Item = (&'a [u8], usize)>,
        out: &mut Vec<u8>,
    ) -> Result<usize, DecodeError> {
        let mut values = Vec::new();
        for (bytes, count) in parts {
            if count > VALUES_MAX - values.len() {
                return Err(DecodeError::Malformed("count"));
            }
            decode(bytes, count, &mut values)?;
        }
        self.encode(&values, out);
        Ok(values.len())
    }

    /// Scales to integers; `None` if too few of the values are decimals.
    fn scale(&mut self, values: &[f64]) -> Option<usize> {
        let allowed = values.len() / 8 + 1;
        let exponent = common_exponent(values, allowed)?;
        self.integers.clear();
        self.exceptions.clear();
        let power = POWERS[exponent];
        let mut before = 0;
        let mut odd = 0;
        let mut leading = 0;
        for (position, &value) in values.iter().enumerate() {
            if let Some(integer) = scaled(value, power) {
                if leading == position {
                    // The exceptions in front repeat the first integer there is.
                    self.integers.fill(integer);
                }
                before = integer;
            } else {
                leading += usize::from(leading == position);
                odd += usize::from(!value.is_nan());
                self.exceptions.push((position, value));
            }
            self.integers.push(before);
        }
        (odd <= allowed).then_some(exponent)
    }

    /// Maps to integers that order as the floats do; NaNs are exceptions.
    fn order(&mut self, values: &[f64]) {
        self.integers.clear();
        self.exceptions.clear();
        let mut before = values.iter().find(|v| !v.is_nan()).map_or(0, |v| ordered(*v));
        for (position, &value) in values.iter().enumerate() {
            if value.is_nan() {
                self.exceptions.push((position, value));
            } else {
                before = ordered(value);
            }
            self.integers.push(before);
        }
    }
}

/// The integer of which `value` is `power`s part, if that gives back each bit.
#[inline]
fn scaled(value: f64, power: f64) -> Option<i64> {
    let integer = (value * power).round_ties_even();
    // False for NaN too.
    if integer.abs() <= EXACT_MAX {
        let integer = integer as i64;
        if (integer as f64 / power).to_bits() == value.to_bits() {
            return Some(integer);
        }
    }
    None
}

/// The smallest exponent that fits all but `allowed` of the values that are not NaN.
fn common_exponent(values: &[f64], allowed: usize) -> Option<usize> {
    let mut exponent = 0;
    let mut odd = 0;
    for &value in values {
        if scaled(value, POWERS[exponent]).is_some() || value.is_nan() {
            continue;
        }
        // At the largest scale that leaves room for rounding every shorter one would be seen as well: one try
        // tells a float of full mantissa from a decimal.
        let magnitude = (value.to_bits() >> 52 & 0x7ff) as i64 - 1022;
        let most = ((50 - magnitude) * 1233 / 4096).clamp(0, EXPONENT_MAX as i64) as usize;
        let found = if most > exponent && scaled(value, POWERS[most]).is_some() {
            (exponent + 1..=most).find(|e| scaled(value, POWERS[*e]).is_some())
        } else {
            None
        };
        match found {
            Some(found) => exponent = found,
            None => odd += 1,
        }
        if odd > allowed {
            return None;
        }
    }
    Some(exponent)
}

/// A float's bits as an integer that orders as the float does.
#[inline]
fn ordered(value: f64) -> i64 {
    let bits = value.to_bits() as i64;
    bits ^ ((bits >> 63) as u64 >> 1) as i64
}

/// The inverse of [`ordered`], which is its own.
#[inline]
fn unordered(integer: i64) -> f64 {
    f64::from_bits((integer ^ ((integer >> 63) as u64 >> 1) as i64) as u64)
}

fn put_exceptions(exceptions: &[(usize, f64)], out: &mut Vec<u8>) {
    put_varint(out, exceptions.len() as u64);
    let mut next = 0;
    for (position, _) in exceptions {
        put_varint(out, (position - next) as u64);
        next = position + 1;
    }
    let values: Vec<f64> = exceptions.iter().map(|(_, value)| *value).collect();
    encode_values(&values, out);
}

fn read_exceptions(reader: &mut Reader<'_>, values: &mut [f64]) -> Result<(), DecodeError> {
    let count = reader.bounded(values.len(), "exceptions")?;
    let mut positions = Vec::with_capacity(count);
    let mut next = 0_usize;
    for _ in 0..count {
        let position = next + reader.bounded(values.len(), "exception position")?;
        if position >= values.len() {
            return Err(DecodeError::Malformed("exception position"));
        }
        positions.push(position);
        next = position + 1;
    }
    let mut raw = Vec::with_capacity(count);
    read_values(reader, count, &mut raw)?;
    for (position, value) in positions.into_iter().zip(raw) {
        values[position] = value;
    }
    Ok(())
}

/// Appends a block of values with buffers of its own; see [`Encoder::encode`].
pub fn encode(values: &[f64], out: &mut Vec<u8>) {
    Encoder::default().encode(values, out);
}

/// Appends a block of timestamps with buffers of its own; see [`Encoder::encode_timestamps`].
pub fn encode_timestamps(timestamps: &[i64], out: &mut Vec<u8>) {
    Encoder::default().encode_timestamps(timestamps, out);
}

/// Appends the `count` values of a block to `out`.
///
/// # Errors
/// If the bytes are not a block of `count` values; `out` is then as long as before.
pub fn decode(bytes: &[u8], count: usize, out: &mut Vec<f64>) -> Result<(), DecodeError> {
    let mut reader = Reader::new(bytes);
    read(&mut reader, count, out)?;
    let end = reader.end();
    if end.is_err() {
        out.truncate(out.len() - count);
    }
    end
}

/// Appends of the `count` values of a block those at the positions `within`, as far as there are such. What stands
/// behind them is not looked at.
///
/// # Errors
/// If the bytes are not a block of `count` values, as far as they are looked at; `out` is then as long as before.
pub fn decode_within(
    bytes: &[u8],
    count: usize,
    within: Range<usize>,
    out: &mut Vec<f64>,
) -> Result<(), DecodeError> {
    let start = out.len();
    let within = within.start.min(count)..within.end.min(count);
    let result = read_block(&mut Reader::new(bytes), count, within, out);
    if result.is_err() {
        out.truncate(start);
    }
    result
}

/// Appends the `count` timestamps of a block to `out`.
///
/// # Errors
/// If the bytes are not a block of `count` timestamps; `out` is then as long as before.
pub fn decode_timestamps(bytes: &[u8], count: usize, out: &mut Vec<i64>) -> Result<(), DecodeError> {
    let start = out.len();
    let mut reader = Reader::new(bytes);
    let result = times::read(&mut reader, count, out).and_then(|()| reader.end());
    if result.is_err() {
        out.truncate(start);
    }
    result
}

/// Reads a block of values that others follow.
pub(super) fn read(reader: &mut Reader<'_>, count: usize, out: &mut Vec<f64>) -> Result<(), DecodeError> {
    let start = out.len();
    let result = read_block(reader, count, 0..count, out);
    if result.is_err() {
        out.truncate(start);
    }
    result
}

fn read_block(
    reader: &mut Reader<'_>,
    count: usize,
    within: Range<usize>,
    out: &mut Vec<f64>,
) -> Result<(), DecodeError> {
    if count == 0 || within.is_empty() {
        return Ok(());
    }
    if count > VALUES_MAX {
        return Err(DecodeError::Malformed("count"));
    }
    let kind = kind(reader)?;
    let start = out.len();
    if kind == CONSTANT {
        let value = decode_value(reader)?;
        out.resize(start + within.len(), value);
        return Ok(());
    }
    let flags = reader.u8()?;
    let exponent = usize::from(flags >> EXPONENT_SHIFT) & EXPONENT_MAX;
    let excepted = flags & EXCEPTIONS != 0;
    // Exceptions stand behind all integers.
    let wanted = if excepted { 0..count } else { within.clone() };
    out.reserve(wanted.len());
    match kind {
        DECIMAL if exponent == 0 => integers::decode_within(reader, flags & FLAGS, count, wanted, |piece| {
            out.extend(piece.iter().map(|i| *i as f64));
        })?,
        DECIMAL => {
            let power = POWERS[exponent];
            integers::decode_within(reader, flags & FLAGS, count, wanted, |piece| {
                out.extend(piece.iter().map(|i| *i as f64 / power));
            })?;
        }
        BITS => integers::decode_within(reader, flags & FLAGS, count, wanted, |piece| {
            out.extend(piece.iter().map(|i| unordered(*i)));
        })?,
        _ => return Err(DecodeError::Malformed("block kind")),
    }
    if excepted {
        read_exceptions(reader, &mut out[start..])?;
        out.copy_within(start + within.start..start + within.end, start);
        out.truncate(start + within.len());
    }
    Ok(())
}

#[cfg(test)]
#[path = "block_tests.rs"]
mod tests;
