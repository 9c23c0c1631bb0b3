//! Integers to residuals: the greatest common divisor taken out of the differences, and the cheapest of four
//! transforms.
//!
//! ```text
//!  ┌───────┬─────────────┬ ─ ─ ─ ─ ┬─ ─ ─ ─ ─┬───────────────────┐
//!  │ flags │ first value │ divisor │  base   │ n - 1 residuals   │
//!  └───────┴─────────────┴ ─ ─ ─ ─ ┴─ ─ ─ ─ ─┴───────────────────┘
//!  flags: bits 0-1 transform, bit 2 divisor present, bits 3-7 the caller's
//! ```
//!
//! With `s[i] = (v[i] - v[0]) / divisor` the residuals are, by transform: 0 `s[i] - base`; 1 `d[i] - base`;
//! 2 `zigzag(d[i])`; 3 `zigzag(d[i] - d[i-1])` with `d[0] = base`; where `d[i] = s[i] - s[i-1]`.
//! Everything wraps, and wrapping addition undoes wrapping subtraction, so no input loses a bit; only division is
//! exact just without wrapping, so there is no divisor where the range of the values exceeds an i64.

use super::{
    DecodeError, Reader, put_signed, put_varint,
    reader::{unzigzag, zigzag},
    residuals,
};
use std::ops::Range;

const FRAME: u8 = 0;
const DELTA: u8 = 1;
const DELTA_ZIGZAG: u8 = 2;
const DELTA_OF_DELTA: u8 = 3;
const TRANSFORM: u8 = 3;
const DIVISOR: u8 = 4;
/// The bits of the flags that belong to this layer.
pub(super) const FLAGS: u8 = TRANSFORM | DIVISOR;

/// Buffers that one encoding leaves to the next.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    offsets: Vec<i64>,
    trial: Vec<u64>,
    best: Vec<u64>,
}

fn gcd(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// The greatest common divisor of all differences to the first, 1 if there is none or it may not be used.
fn divisor(values: &[i64]) -> u64 {
    let (min, max) = values.iter().fold((i64::MAX, i64::MIN), |(a, b), v| (a.min(*v), b.max(*v)));
    if max.checked_sub(min).is_none() {
        return 1;
    }
    let mut common = 0_u64;
    for value in values {
        let offset = (value - values[0]).unsigned_abs();
        if common != 0 && offset.is_multiple_of(common) {
            continue;
        }
        common = gcd(common, offset);
        if common == 1 {
            return 1;
        }
    }
    common.max(1)
}

struct Best {
    transform: u8,
    base: i64,
    cost: usize,
}

/// Appends at least one value. The caller may set its own bits in the first byte appended.
pub(super) fn encode(values: &[i64], scratch: &mut Scratch, out: &mut Vec<u8>) {
    let first = values[0];
    let divisor = divisor(values);
    let Scratch { offsets, trial, best } = scratch;
    offsets.clear();
    if divisor == 1 {
        offsets.extend(values.iter().map(|v| v.wrapping_sub(first)));
    } else {
        let divisor = divisor as i64; // a difference of two i64 that did not overflow
        offsets.extend(values.iter().map(|v| (v - first) / divisor));
    }
    let found = cheapest(offsets, trial, best);
    out.push(found.transform | if divisor > 1 { DIVISOR } else { 0 });
    put_signed(out, first);
    if divisor > 1 {
        put_varint(out, divisor);
    }
    if found.transform != DELTA_ZIGZAG {
        put_signed(out, found.base);
    }
    residuals::encode(best, out);
}

/// Tries the transforms and leaves the residuals of the cheapest in `best`.
fn cheapest(offsets: &[i64], trial: &mut Vec<u64>, best: &mut Vec<u64>) -> Best {
    let deltas = || offsets.windows(2).map(|pair| pair[1].wrapping_sub(pair[0]));
    let mut least = i64::MAX;
    let (mut low, mut high) = (0, 0);
    for (delta, offset) in deltas().zip(&offsets[1..]) {
        least = least.min(delta);
        low = low.min(*offset);
        high = high.max(*offset);
    }
    best.clear();
    best.extend(deltas().map(|d| d.wrapping_sub(least) as u64));
    let mut found = Best { transform: DELTA, base: least, cost: residuals::estimate(best) };
    let mut consider = |transform: u8, base: i64, trial: &mut Vec<u64>| {
        let cost = residuals::estimate(trial);
        if cost < found.cost {
            found = Best { transform, base, cost };
            std::mem::swap(trial, best);
        }
        found.cost
    };
    let mut cost = usize::MAX;
    if least < 0 {
        trial.clear();
        trial.extend(deltas().map(zigzag));
        cost = consider(DELTA_ZIGZAG, 0, trial);
        // Where values rise only, a frame cannot be narrower than the differences.
        trial.clear();
        trial.extend(offsets[1..].iter().map(|s| s.wrapping_sub(low) as u64));
        cost = cost.min(consider(FRAME, low, trial));
    }
    if cost > offsets.len().div_ceil(64) && offsets.len() > 3 {
        let start = offsets[1].wrapping_sub(offsets[0]);
        let mut before = start;
        trial.clear();
        trial.extend(deltas().map(|delta| {
            let change = delta.wrapping_sub(before);
            before = delta;
            zigzag(change)
        }));
        consider(DELTA_OF_DELTA, start, trial);
    }
    if offsets.len() == 1 {
        found = Best { transform: DELTA_ZIGZAG, base: 0, cost: 0 };
    }
    found
}

/// Reads `count` values, at least one, behind the flags byte, and hands them over in pieces of at most 64.
#[inline]
pub(super) fn decode(
    reader: &mut Reader<'_>,
    flags: u8,
    count: usize,
    take: impl FnMut(&[i64]),
) -> Result<(), DecodeError> {
    decode_within(reader, flags, count, 0..count, take)
}

/// Hands over the values at the positions `within` only. What comes before is added up but not spelled out; behind
/// the piece with the last of them the reader stops.
#[inline]
pub(super) fn decode_within(
    reader: &mut Reader<'_>,
    flags: u8,
    count: usize,
    within: Range<usize>,
    mut take: impl FnMut(&[i64]),
) -> Result<(), DecodeError> {
    let first = reader.signed()?;
    let divisor = if flags & DIVISOR == 0 { 1 } else { reader.varint()? as i64 };
    let transform = flags & TRANSFORM;
    let base = if transform == DELTA_ZIGZAG { 0 } else { reader.signed()? };
    if within.start == 0 && within.end > 0 {
        take(&[first]);
    }
    let mut values = [0_i64; 64];
    let step = base.wrapping_mul(divisor);
    let mut last = first;
    let mut slope = base;
    let mut next = 1;
    residuals::decode_until(reader, count - 1, within.end.saturating_sub(1), |piece| {
        let at = next;
        next += piece.len();
        if next <= within.start {
            let sum = |of: fn(u64) -> i64| piece.iter().fold(0_i64, |sum, r| sum.wrapping_add(of(*r)));
            last = last.wrapping_add(match transform {
                FRAME => 0,
                DELTA => step
                    .wrapping_mul(piece.len() as i64)
                    .wrapping_add(sum(|r| r as i64).wrapping_mul(divisor)),
                DELTA_ZIGZAG => sum(unzigzag).wrapping_mul(divisor),
                _ => {
                    let slopes = piece.iter().fold(0_i64, |sum, r| {
                        slope = slope.wrapping_add(unzigzag(*r));
                        sum.wrapping_add(slope)
                    });
                    slopes.wrapping_mul(divisor)
                }
            });
            return;
        }
        let values = &mut values[..piece.len()];
        match transform {
            FRAME => {
                let bottom = first.wrapping_add(step);
                for (value, r) in values.iter_mut().zip(&*piece) {
                    *value = bottom.wrapping_add((*r as i64).wrapping_mul(divisor));
                }
            }
            DELTA => {
                for (value, r) in values.iter_mut().zip(&*piece) {
                    last = last.wrapping_add(step).wrapping_add((*r as i64).wrapping_mul(divisor));
                    *value = last;
                }
            }
            DELTA_ZIGZAG => {
                for (value, r) in values.iter_mut().zip(&*piece) {
                    last = last.wrapping_add(unzigzag(*r).wrapping_mul(divisor));
                    *value = last;
                }
            }
            _ => {
                for (value, r) in values.iter_mut().zip(&*piece) {
                    slope = slope.wrapping_add(unzigzag(*r));
                    last = last.wrapping_add(slope.wrapping_mul(divisor));
                    *value = last;
                }
            }
        }
        take(&values[within.start.saturating_sub(at)..within.end.min(next) - at]);
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(values: &[i64]) -> Vec<u8> {
        let mut bytes = Vec::new();
        encode(values, &mut Scratch::default(), &mut bytes);
        let mut reader = Reader::new(&bytes);
        let flags = reader.u8().expect("flags");
        let mut back = Vec::new();
        decode(&mut reader, flags, values.len(), |piece| back.extend_from_slice(piece)).expect("decode");
        reader.end().expect("end");
        assert_eq!(back, values);
        bytes
    }

    proptest! {
        #[test]
        fn all_integers_come_back(values in proptest::collection::vec(any::<i64>(), 1..200)) {
            check(&values);
        }

        #[test]
        fn multiples_come_back(start in any::<i64>(), by in 1_i64..1_000_000, steps in proptest::collection::vec(-1000_i64..1000, 1..200)) {
            let mut value = start;
            check(&steps.iter().map(|s| { value = value.wrapping_add(s * by); value }).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_range_wider_than_an_i64_has_no_divisor_and_comes_back() {
        check(&[i64::MIN, i64::MAX, 0, i64::MIN, 2]);
        check(&[i64::MIN, i64::MAX]);
        check(&[i64::MAX - 1, i64::MIN, i64::MAX - 1]);
    }

    #[test]
    fn a_line_costs_its_head_only() {
        let bytes = check(&(0..480).map(|i| 1_000_000 + i * 7500).collect::<Vec<i64>>());
        assert!(bytes.len() <= 10, "{} bytes", bytes.len());
    }
}
