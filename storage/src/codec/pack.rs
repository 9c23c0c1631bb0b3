//! Bit packing of up to 64 numbers of one width, lowest bits first, without gaps.
//!
//! The width is a constant of each unpacking function, so that all shifts are, and the compiler unrolls and
//! vectorises what it can.

/// Numbers in a mini block.
pub(super) const LANES: usize = 64;

/// Bytes that `count` numbers of `width` bits take.
pub(super) fn packed_bytes(count: usize, width: u32) -> usize {
    (count * width as usize).div_ceil(8)
}

/// Appends the low `width` bits of each number.
pub(super) fn pack(numbers: &[u64], width: u32, out: &mut Vec<u8>) {
    debug_assert!(numbers.len() <= LANES && width <= 64);
    if width == 0 {
        return;
    }
    let mask = u64::MAX >> (64 - width);
    let mut buffer = [0_u8; LANES * 8 + 8];
    let mut at = 0;
    let (mut held, mut bits) = (0_u64, 0_u32);
    for &number in numbers {
        let number = number & mask;
        held |= number << bits;
        bits += width;
        if bits >= 64 {
            buffer[at..at + 8].copy_from_slice(&held.to_le_bytes());
            at += 8;
            bits -= 64;
            // What did not fit; nothing if it ended with the word.
            held = if bits == 0 { 0 } else { number >> (width - bits) };
        }
    }
    buffer[at..at + 8].copy_from_slice(&held.to_le_bytes());
    out.extend_from_slice(&buffer[..packed_bytes(numbers.len(), width)]);
}

#[inline]
fn unpack_width<const W: usize>(bytes: &[u8], out: &mut [u64; LANES]) {
    // 64 numbers of W bits are W words exactly.
    let mut words = [0_u64; LANES + 1];
    for (word, chunk) in words[..W].iter_mut().zip(bytes.chunks_exact(8)) {
        *word = u64::from_le_bytes(chunk.try_into().expect("chunks of 8"));
    }
    let mask = if W == 64 { u64::MAX } else { (1_u64 << (W % 64)) - 1 };
    for (i, number) in out.iter_mut().enumerate() {
        let (word, shift) = (i * W / 64, (i * W % 64) as u32);
        let mut value = words[word] >> shift;
        if shift as usize + W > 64 {
            value |= words[word + 1] << (64 - shift);
        }
        *number = value & mask;
    }
}

macro_rules! widths {
    ($($w:literal)*) => {
        /// Reads 64 numbers from 8 x `width` bytes, 1 to 64 bits wide.
        fn unpack_words(bytes: &[u8], width: u32, out: &mut [u64; LANES]) {
            match width {
                $($w => unpack_width::<$w>(bytes, out),)*
                _ => out.fill(0),
            }
        }
    };
}
widths!(1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31 32 33 34 35 36 37 38 39
        40 41 42 43 44 45 46 47 48 49 50 51 52 53 54 55 56 57 58 59 60 61 62 63 64);

/// Reads numbers from exactly `packed_bytes(count, width)` bytes; those beyond `count` are arbitrary.
#[inline]
pub(super) fn unpack(bytes: &[u8], width: u32, out: &mut [u64; LANES]) {
    let whole = width as usize * 8;
    if bytes.len() >= whole {
        unpack_words(&bytes[..whole], width, out);
    } else {
        let mut padded = [0_u8; LANES * 8];
        padded[..bytes.len()].copy_from_slice(bytes);
        unpack_words(&padded[..whole], width, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_packed_is_unpacked(numbers in proptest::collection::vec(any::<u64>(), 1..=64), width in 0_u32..=64) {
            let numbers: Vec<u64> =
                numbers.iter().map(|n| if width == 0 { 0 } else { n >> (64 - width) }).collect();
            let mut bytes = Vec::new();
            pack(&numbers, width, &mut bytes);
            prop_assert_eq!(bytes.len(), packed_bytes(numbers.len(), width));
            let mut out = [7; LANES];
            unpack(&bytes, width, &mut out);
            prop_assert_eq!(&out[..numbers.len()], &numbers[..]);
        }
    }
}
