//! Which rows of a chunk a column has a value in: one bit a row, lowest first.
//!
//! ```text
//!  0 │                               every row
//!  1 │ words of 8 bytes, the last cut  bits as they are
//!  2 │ n │ n lengths                 runs, beginning with one of rows that are present
//! ```
//!
//! The shortest form is written.

use super::{DecodeError, Reader, put_varint};

const ALL: u8 = 0;
const BITS: u8 = 1;
const RUNS: u8 = 2;

/// Words that hold `rows` bits.
#[must_use]
pub fn words(rows: usize) -> usize {
    rows.div_ceil(64)
}

/// Whether row `row` is present.
///
/// # Panics
/// If `bits` has no such row.
#[inline]
#[must_use]
pub fn is_present(bits: &[u64], row: usize) -> bool {
    bits[row / 64] >> (row % 64) & 1 == 1
}

/// Number of rows present among the first `rows`.
#[must_use]
pub fn count(bits: &[u64], rows: usize) -> usize {
    masked(bits, rows).map(|word| word.count_ones() as usize).sum()
}

/// The words, with the bits behind the last row cleared.
fn masked(bits: &[u64], rows: usize) -> impl Iterator<Item = u64> + '_ {
    bits.iter().take(words(rows)).enumerate().map(move |(i, word)| {
        let left = rows - i * 64;
        if left >= 64 { *word } else { word & ((1 << left) - 1) }
    })
}

/// Lengths of the runs of equal bits, the first of ones (it may be empty).
fn runs(bits: &[u64], rows: usize) -> Vec<usize> {
    let mut runs = Vec::new();
    let (mut at, mut value) = (0, true);
    while at < rows {
        let start = at;
        while at < rows && is_present(bits, at) == value {
            at += 1;
        }
        runs.push(at - start);
        value = !value;
    }
    runs
}

/// Appends the presence of `rows` rows.
///
/// # Panics
/// If `bits` holds fewer.
pub fn encode(bits: &[u64], rows: usize, out: &mut Vec<u8>) {
    if count(bits, rows) == rows {
        out.push(ALL);
        return;
    }
    let runs = runs(bits, rows);
    let start = out.len();
    out.push(RUNS);
    put_varint(out, runs.len() as u64);
    runs.iter().for_each(|run| put_varint(out, *run as u64));
    if out.len() - start > 1 + rows.div_ceil(8) {
        out.truncate(start);
        out.push(BITS);
        out.extend(masked(bits, rows).flat_map(u64::to_le_bytes));
        out.truncate(start + 1 + rows.div_ceil(8));
    }
}

/// Reads the presence of `rows` rows into `bits`, which it replaces; returns how many are present.
pub(crate) fn read(reader: &mut Reader<'_>, rows: usize, bits: &mut Vec<u64>) -> Result<usize, DecodeError> {
    bits.clear();
    match reader.u8()? {
        ALL => bits.resize(words(rows), u64::MAX),
        BITS => {
            for chunk in reader.bytes(rows.div_ceil(8))?.chunks(8) {
                let mut word = [0; 8];
                word[..chunk.len()].copy_from_slice(chunk);
                bits.push(u64::from_le_bytes(word));
            }
        }
        RUNS => {
            bits.resize(words(rows), 0);
            let runs = reader.bounded(rows + 1, "presence runs")?;
            let mut at = 0;
            for run in 0..runs {
                let end = at + reader.bounded(rows - at, "presence run")?;
                if run % 2 == 0 {
                    (at..end).for_each(|row| bits[row / 64] |= 1 << (row % 64));
                }
                at = end;
            }
            if at != rows {
                return Err(DecodeError::Malformed("presence runs"));
            }
        }
        _ => return Err(DecodeError::Malformed("presence form")),
    }
    Ok(count(bits, rows))
}

/// Reads the presence of `rows` rows; `bits` is replaced.
///
/// # Errors
/// If the bytes are not what [`encode`] writes for so many rows.
pub fn decode(bytes: &[u8], rows: usize, bits: &mut Vec<u64>) -> Result<usize, DecodeError> {
    let mut reader = Reader::new(bytes);
    let present = read(&mut reader, rows, bits)?;
    reader.end()?;
    Ok(present)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(bits: &[u64], rows: usize) -> usize {
        let mut bytes = Vec::new();
        encode(bits, rows, &mut bytes);
        let mut back = Vec::new();
        assert_eq!(decode(&bytes, rows, &mut back), Ok(count(bits, rows)));
        assert!((0..rows).all(|row| is_present(&back, row) == is_present(bits, row)));
        bytes.len()
    }

    proptest! {
        #[test]
        fn every_presence_comes_back(bits in proptest::collection::vec(any::<u64>(), 4), rows in 0_usize..=256, thin in 0..3) {
            let bits: Vec<u64> = bits.iter().map(|b| match thin { 0 => *b, 1 => b & (b >> 7) & (b << 9), _ => u64::MAX << (b % 64) }).collect();
            check(&bits, rows);
        }

        #[test]
        fn arbitrary_bytes_do_no_harm(bytes in proptest::collection::vec(any::<u8>(), 0..40), rows in 0_usize..300) {
            let _ = decode(&bytes, rows, &mut Vec::new());
        }
    }

    #[test]
    fn the_usual_cases_are_short() {
        assert_eq!(check(&[u64::MAX; 8], 480), 1);
        assert_eq!(check(&[u64::MAX, 0], 128), 4);
        assert_eq!(check(&[0x5555_5555_5555_5555; 2], 128), 17);
    }
}
