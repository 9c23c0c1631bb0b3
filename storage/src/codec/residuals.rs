//! Streams of small unsigned numbers: patched frame of reference in mini blocks of 64.
//!
//! ```text
//!  ┌────────┬ ─ ─ ─ ─ ─ ─ ┬────────┬ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─┐
//!  │ header │ exceptions n │ packed │ n positions, n times the bits above the width │   one mini block
//!  └────────┴ ─ ─ ─ ─ ─ ─ ┴────────┴ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─┘
//!  header 0..=64: the width; with 0x80: there are exceptions (n: u8; positions: u8; high bits: LEB128)
//!  header 65: a run of mini blocks of zeros, their number minus 2 in the next byte
//! ```
//!
//! The last mini block may be short; nothing tells where the stream ends but the count, which the caller keeps.

use super::{
    DecodeError, Reader,
    pack::{LANES, pack, packed_bytes, unpack},
    put_varint,
};

const ZERO_RUN: u8 = 65;
const PATCHED: u8 = 0x80;

#[inline]
fn width_of(number: u64) -> u32 {
    64 - number.leading_zeros()
}

/// How a mini block is best packed.
#[derive(Clone, Copy)]
struct Packing {
    width: u32,
    exceptions: usize,
    /// Without the header, estimated.
    bytes: usize,
}

/// Finds the width for which packed bits and exceptions together are smallest.
fn choose(numbers: &[u64]) -> Packing {
    let all = numbers.iter().fold(0, |all, n| all | n);
    let widest = width_of(all);
    let plain = Packing { width: widest, exceptions: 0, bytes: packed_bytes(numbers.len(), widest) };
    // An exception costs two bytes at least, so a saving below that is not worth the search.
    if plain.bytes <= 2 {
        return plain;
    }
    let mut counts = [0_u8; 65];
    for &number in numbers {
        counts[width_of(number) as usize] += 1;
    }
    let mut best = plain;
    // Going down from the widest: `above` are the exceptions, and each step of seven bits adds a byte to them.
    let (mut above, mut weighted) = (0_usize, 0_usize);
    for width in (0..widest).rev() {
        above += usize::from(counts[width as usize + 1]);
        weighted += above;
        // `weighted` is the sum over exceptions of their bits above the width.
        let bytes = 1 + packed_bytes(numbers.len(), width) + above * 2 + weighted.saturating_sub(above) / 7;
        if bytes < best.bytes {
            best = Packing { width, exceptions: above, bytes };
        }
        if above * 2 > best.bytes {
            break;
        }
    }
    best
}

/// About how many bytes [`encode`] will write.
pub(super) fn estimate(numbers: &[u64]) -> usize {
    numbers.chunks(LANES).map(|block| 1 + choose(block).bytes).sum()
}

/// Appends the stream.
pub(super) fn encode(numbers: &[u64], out: &mut Vec<u8>) {
    let mut zeros = 0_usize;
    for block in numbers.chunks(LANES) {
        let packing = choose(block);
        if packing.width == 0 && packing.exceptions == 0 {
            zeros += 1;
            continue;
        }
        put_zeros(&mut zeros, out);
        if packing.exceptions == 0 {
            out.push(packing.width as u8);
            pack(block, packing.width, out);
        } else {
            put_patched(block, packing, out);
        }
    }
    put_zeros(&mut zeros, out);
}

fn put_patched(block: &[u64], packing: Packing, out: &mut Vec<u8>) {
    out.push(packing.width as u8 | PATCHED);
    out.push(packing.exceptions as u8);
    pack(block, packing.width, out);
    let above = || block.iter().enumerate().filter(|(_, number)| width_of(**number) > packing.width);
    out.extend(above().map(|(position, _)| position as u8));
    for (_, number) in above() {
        put_varint(out, number >> packing.width);
    }
}

fn put_zeros(zeros: &mut usize, out: &mut Vec<u8>) {
    while *zeros > 0 {
        if *zeros == 1 {
            out.push(0);
            *zeros = 0;
        } else {
            let run = (*zeros).min(257);
            out.extend_from_slice(&[ZERO_RUN, (run - 2) as u8]);
            *zeros -= run;
        }
    }
}

/// Reads `count` numbers and hands them over in pieces of at most 64, which the receiver may overwrite.
#[inline]
pub(super) fn decode(
    reader: &mut Reader<'_>,
    count: usize,
    take: impl FnMut(&mut [u64]),
) -> Result<(), DecodeError> {
    decode_until(reader, count, count, take)
}

/// The same for the pieces with the first `until` of the numbers; the reader is left behind the last of these.
#[inline]
pub(super) fn decode_until(
    reader: &mut Reader<'_>,
    count: usize,
    until: usize,
    mut take: impl FnMut(&mut [u64]),
) -> Result<(), DecodeError> {
    let mut buffer = [0_u64; LANES];
    let mut left = count;
    let beyond = count.saturating_sub(until);
    let mut zero_blocks = 0_usize;
    while left > beyond {
        let len = left.min(LANES);
        left -= len;
        if zero_blocks > 0 {
            zero_blocks -= 1;
            buffer.fill(0);
            take(&mut buffer[..len]);
            continue;
        }
        match reader.u8()? {
            0 => buffer.fill(0),
            ZERO_RUN => {
                zero_blocks = usize::from(reader.u8()?) + 1;
                buffer.fill(0);
            }
            header => block(reader, header, len, &mut buffer)?,
        }
        take(&mut buffer[..len]);
    }
    if zero_blocks > 0 && left == 0 { Err(DecodeError::Malformed("zero run")) } else { Ok(()) }
}

fn block(
    reader: &mut Reader<'_>,
    header: u8,
    len: usize,
    buffer: &mut [u64; LANES],
) -> Result<(), DecodeError> {
    let width = u32::from(header & !PATCHED);
    if width > 64 {
        return Err(DecodeError::Malformed("width"));
    }
    let exceptions = if header & PATCHED == 0 { 0 } else { usize::from(reader.u8()?) };
    let packed = reader.bytes(packed_bytes(len, width))?;
    unpack(packed, width, buffer);
    if exceptions > 0 {
        if exceptions > len || width == 64 {
            return Err(DecodeError::Malformed("exceptions"));
        }
        for &position in reader.bytes(exceptions)? {
            let high = reader.varint()?;
            let number = buffer[..len].get_mut(usize::from(position));
            *number.ok_or(DecodeError::Malformed("position"))? |= high << width;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(numbers: &[u64]) -> usize {
        let mut bytes = Vec::new();
        encode(numbers, &mut bytes);
        let mut back = Vec::new();
        let mut reader = Reader::new(&bytes);
        decode(&mut reader, numbers.len(), |piece| back.extend_from_slice(piece)).expect("decode");
        reader.end().expect("end");
        assert_eq!(back, numbers);
        bytes.len()
    }

    proptest! {
        #[test]
        fn every_stream_comes_back(numbers in proptest::collection::vec((any::<u64>(), 0_u32..64), 0..300)) {
            check(&numbers.iter().map(|(n, shift)| n >> shift).collect::<Vec<_>>());
        }

        #[test]
        fn sparse_streams_come_back(len in 1_usize..40_000, spots in proptest::collection::vec((any::<usize>(), any::<u64>()), 0..8)) {
            let mut numbers = vec![0; len];
            for (at, number) in spots {
                numbers[at % len] = number;
            }
            check(&numbers);
        }

        #[test]
        fn arbitrary_bytes_do_no_harm(bytes in proptest::collection::vec(any::<u8>(), 0..100), count in 0_usize..1000) {
            let mut got = 0;
            let result = decode(&mut Reader::new(&bytes), count, |piece| got += piece.len());
            prop_assert!(got <= count);
            prop_assert!(result.is_err() || got == count);
        }
    }

    #[test]
    fn zeros_cost_nothing_and_a_lone_outlier_little() {
        assert_eq!(check(&[0; 64 * 200]), 2);
        let mut numbers = [1; 64];
        numbers[20] = 100_000;
        assert_eq!(check(&numbers), 1 + 1 + 8 + 1 + 3);
    }
}
