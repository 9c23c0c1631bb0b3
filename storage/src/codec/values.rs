//! Values of a row, for segments: stateless, a class of 4 bits and 0 to 8 bytes each. Layout:
//! `docs/formats/segment-values.md`.
//!
//! ```text
//!  ┌───────────────────────────┬─────────────────────────────┐
//!  │ classes, two in a byte,   │ payloads, one after another │
//!  │ the first in the low bits │ little endian               │
//!  └───────────────────────────┴─────────────────────────────┘
//! ```
//!
//! The count is kept by who writes it. The numbers of the classes are on disks and wires and are never reused.

use super::{DecodeError, Reader};
use model::STALE_NAN_BITS;

const ZERO: u8 = 0;
const ONE: u8 = 1;
const STALE: u8 = 2;
/// As the value before it in the row; the one before the first is 0.
const SAME: u8 = 3;
const INT8: u8 = 4;
const INT16: u8 = 5;
const INT24: u8 = 6;
const INT32: u8 = 7;
const INT48: u8 = 8;
/// An integer of two's complement below zero.
const NEGATIVE32: u8 = 9;
/// Hundredths.
const CENT24: u8 = 10;
/// Thousandths.
const MILLI32: u8 = 11;
/// Exact as an f32.
const FLOAT32: u8 = 12;
/// The upper 48 bits; the others are 0.
const HIGH48: u8 = 13;
/// Millionths.
const MICRO40: u8 = 14;
const RAW: u8 = 15;

/// Payload bytes by class.
const BYTES: [u8; 16] = [0, 0, 0, 0, 1, 2, 3, 4, 6, 4, 3, 4, 4, 6, 5, 8];

/// Class and payload of a value; `before` are the bits of the one before.
#[inline]
fn classify(value: f64, before: u64) -> (u8, u64) {
    let bits = value.to_bits();
    if bits == before {
        return if bits == 0 { (ZERO, 0) } else { (SAME, 0) };
    }
    let integer = value as i64; // saturates; 0 for NaN
    if (integer as f64).to_bits() == bits {
        return match integer {
            0 => (ZERO, 0),
            1 => (ONE, 0),
            2..0x100 => (INT8, integer as u64),
            0x100..0x1_0000 => (INT16, integer as u64),
            0x1_0000..0x100_0000 => (INT24, integer as u64),
            0x100_0000..0x1_0000_0000 => (INT32, integer as u64),
            0x1_0000_0000..0x1_0000_0000_0000 => (INT48, integer as u64),
            -0x8000_0000..0 => (NEGATIVE32, u64::from(integer as i32 as u32)),
            _ => shorten(bits),
        };
    }
    fraction(value, bits)
}

#[inline]
fn fraction(value: f64, bits: u64) -> (u8, u64) {
    if bits == STALE_NAN_BITS {
        return (STALE, 0);
    }
    // A NaN goes through as bits only: a conversion may quieten it.
    if value.is_nan() {
        return shorten(bits);
    }
    let parts = |power: f64, most: f64| {
        let integer = (value * power).round_ties_even();
        // Through the integer, as decoding goes: a negative zero must not pass.
        let fits = integer >= 0.0 && integer < most;
        fits.then_some(integer as i64).filter(|i| (*i as f64 / power).to_bits() == bits).map(|i| i as u64)
    };
    if let Some(integer) = parts(100.0, 16_777_216.0) {
        return (CENT24, integer);
    }
    let short = value as f32;
    if f64::from(short).to_bits() == bits {
        return (FLOAT32, u64::from(short.to_bits()));
    }
    if let Some(integer) = parts(1000.0, 4_294_967_296.0) {
        return (MILLI32, integer);
    }
    if let Some(integer) = parts(1e6, 1_099_511_627_776.0) {
        return (MICRO40, integer);
    }
    shorten(bits)
}

#[inline]
fn shorten(bits: u64) -> (u8, u64) {
    if bits & 0xffff == 0 { (HIGH48, bits >> 16) } else { (RAW, bits) }
}

/// Appends the values. How many they are is for the caller to keep.
pub fn encode_values(values: &[f64], out: &mut Vec<u8>) {
    let classes = out.len();
    let packed = values.len().div_ceil(2);
    // Room for the longest payloads, and for a whole word at the last of them.
    out.resize(classes + packed + values.len() * 8 + 8, 0);
    let (tags, payloads) = out[classes..].split_at_mut(packed);
    let mut at = 0;
    let mut before = 0;
    for (tag, pair) in tags.iter_mut().zip(values.chunks(2)) {
        for (half, &value) in pair.iter().enumerate() {
            let (class, payload) = classify(value, before);
            before = value.to_bits();
            *tag |= class << (half * 4);
            payloads[at..at + 8].copy_from_slice(&payload.to_le_bytes());
            at += usize::from(BYTES[usize::from(class)]);
        }
    }
    out.truncate(classes + packed + at);
}

/// Appends `count` values from the front of `bytes` to `out` and leaves the rest in `bytes`.
///
/// # Errors
/// If the bytes end too early; `out` and `bytes` are then as before.
pub fn decode_values(bytes: &mut &[u8], count: usize, out: &mut Vec<f64>) -> Result<(), DecodeError> {
    let mut reader = Reader::new(bytes);
    read_values(&mut reader, count, out)?;
    *bytes = reader.rest();
    Ok(())
}

/// Reads one value.
pub(super) fn decode_value(reader: &mut Reader<'_>) -> Result<f64, DecodeError> {
    let class = reader.u8()? & 15;
    let len = usize::from(BYTES[usize::from(class)]);
    let mut word = [0; 8];
    word[..len].copy_from_slice(reader.bytes(len)?);
    Ok(value_of(class, u64::from_le_bytes(word), 0.0))
}

#[inline]
fn value_of(class: u8, payload: u64, before: f64) -> f64 {
    match class {
        ZERO => 0.0,
        ONE => 1.0,
        STALE => f64::from_bits(STALE_NAN_BITS),
        SAME => before,
        INT8..=INT48 => payload as i64 as f64,
        NEGATIVE32 => f64::from(payload as u32 as i32),
        CENT24 => payload as i64 as f64 / 100.0,
        MILLI32 => payload as i64 as f64 / 1000.0,
        FLOAT32 => f64::from(f32::from_bits(payload as u32)),
        HIGH48 => f64::from_bits(payload << 16),
        MICRO40 => payload as i64 as f64 / 1e6,
        _ => f64::from_bits(payload),
    }
}

/// Reads values that something may follow.
pub(super) fn read_values(
    reader: &mut Reader<'_>,
    count: usize,
    out: &mut Vec<f64>,
) -> Result<(), DecodeError> {
    const MASKS: [u64; 9] = [
        0,
        0xff,
        0xffff,
        0xff_ffff,
        0xffff_ffff,
        0xff_ffff_ffff,
        0xffff_ffff_ffff,
        0xff_ffff_ffff_ffff,
        u64::MAX,
    ];
    let tags = reader.bytes(count.div_ceil(2))?;
    let lengths = tags
        .iter()
        .map(|tag| usize::from(BYTES[usize::from(tag & 15)]) + usize::from(BYTES[usize::from(tag >> 4)]));
    let mut total: usize = lengths.sum();
    if count % 2 == 1 {
        // The half that is not used must not count.
        total -= tags.last().map_or(0, |tag| usize::from(BYTES[usize::from(tag >> 4)]));
    }
    // What follows the payloads may be read over, but not beyond the end.
    let slack = reader.rest();
    let payloads = reader.bytes(total)?;
    out.reserve(count);
    let mut at = 0;
    let mut before = 0.0;
    for i in 0..count {
        let class = tags[i / 2] >> (i % 2 * 4) & 15;
        let len = usize::from(BYTES[usize::from(class)]);
        let payload = match slack[at..].first_chunk::<8>() {
            Some(word) => u64::from_le_bytes(*word) & MASKS[len],
            None => {
                let mut word = [0; 8];
                word[..len].copy_from_slice(&payloads[at..at + len]);
                u64::from_le_bytes(word)
            }
        };
        at += len;
        before = value_of(class, payload, before);
        out.push(before);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(values: &[f64]) -> usize {
        let mut bytes = vec![9];
        encode_values(values, &mut bytes);
        let encoded = bytes.len() - 1;
        bytes.extend_from_slice(b"tail");
        let mut rest = &bytes[1..];
        let mut back = Vec::new();
        decode_values(&mut rest, values.len(), &mut back).expect("decode");
        assert_eq!(rest, b"tail");
        assert!(
            back.iter().map(|v| v.to_bits()).eq(values.iter().map(|v| v.to_bits())),
            "{back:?} {values:?}"
        );
        encoded
    }

    fn value() -> impl Strategy<Value = f64> {
        prop_oneof![
            any::<u64>().prop_map(f64::from_bits),
            any::<f32>().prop_map(f64::from),
            (any::<i64>(), 0_u32..64).prop_map(|(i, s)| (i >> s) as f64),
            (any::<i64>(), 20_u32..60, 0_usize..9)
                .prop_map(|(i, s, e)| (i >> s) as f64 / [1., 10., 100., 1e3, 1e4, 1e5, 1e6, 1e7, 1e8][e]),
            proptest::sample::select(vec![
                0.0,
                -0.0,
                1.0,
                -1.0,
                f64::INFINITY,
                f64::NEG_INFINITY,
                f64::NAN,
                model::STALE_NAN,
                f64::from_bits(0x7ff0_0000_0000_0001),
                f64::MIN_POSITIVE,
                f64::MAX
            ]),
        ]
    }

    proptest! {
        #[test]
        fn every_row_comes_back(values in proptest::collection::vec(value(), 0..50)) {
            check(&values);
        }

        #[test]
        fn arbitrary_bytes_do_no_harm(bytes in proptest::collection::vec(any::<u8>(), 0..100), count in 0_usize..100) {
            let mut out = Vec::new();
            let result = decode_values(&mut &bytes[..], count, &mut out);
            prop_assert!(result.is_err() == out.is_empty() || count == 0);
        }
    }

    #[test]
    fn small_values_are_small() {
        assert_eq!(check(&[0.0, 1.0, model::STALE_NAN, model::STALE_NAN]), 2);
        assert_eq!(check(&[255.0, 65_535.0]), 1 + 1 + 2);
        assert_eq!(check(&[1234.56, 1234.567, 0.123_457]), 2 + 3 + 4 + 5);
    }

    #[test]
    fn a_row_that_is_cut_is_refused_wherever_it_is_cut() {
        let mut bytes = Vec::new();
        encode_values(&[1.0, 1e300, 0.1, -5.0, 77.0], &mut bytes);
        let cut = |len: usize| decode_values(&mut &bytes[..len], 5, &mut Vec::new());
        assert!((0..bytes.len()).all(|len| cut(len).is_err()));
    }
}
