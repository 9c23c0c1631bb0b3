//! The state hash: over content, independent of how it is packed, kept while applying.
//!
//! Every stored cell (series, timestamp, value bits) adds one 128-bit product to its partition's sum, so the sum
//! does not depend on windows, chunks or the order of arrival, and a partition that is dropped takes its sum along.
//! Source states and settings add to a second sum. It finds damage and divergence; it is no defence against somebody
//! who wants two states to collide.

use xxhash_rust::xxh3::{xxh3_64_with_seed, xxh3_128};

const VALUE_KEY: u64 = 0x9e37_79b9_7f4a_7c15;
const TIME_KEY: u64 = 0xd6e8_feb8_6659_fd93;

/// What a timestamp contributes: computed once per row.
#[inline]
pub(crate) fn time_key(timestamp: i64) -> u64 {
    let product = u128::from(timestamp as u64 ^ TIME_KEY) * u128::from(VALUE_KEY);
    (product as u64) ^ (product >> 64) as u64
}

/// The contribution of one cell.
#[inline]
pub(crate) fn cell(series_hash: u64, time_key: u64, bits: u64) -> u128 {
    u128::from(series_hash ^ time_key) * u128::from(bits ^ VALUE_KEY)
}

/// What stands for a histogram's bits: the hash of its encoded form.
pub(crate) fn blob_bits(bytes: &[u8]) -> u64 {
    xxh3_64_with_seed(bytes, VALUE_KEY)
}

/// Hash of a named record (a source's state, the settings).
pub(crate) fn record(bytes: &[u8]) -> u128 {
    xxh3_128(bytes)
}

/// Binds a partition's sum to its time.
pub(crate) fn partition(start: i64, sum: u128) -> u128 {
    if sum == 0 {
        return 0;
    }
    let mut bytes = [0; 24];
    bytes[..8].copy_from_slice(&start.to_le_bytes());
    bytes[8..].copy_from_slice(&sum.to_le_bytes());
    xxh3_128(&bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn swapped_values_of_two_series_change_the_sum() {
        let key = time_key(1_000);
        let straight = cell(1, key, 10).wrapping_add(cell(2, key, 20));
        let swapped = cell(1, key, 20).wrapping_add(cell(2, key, 10));
        assert_ne!(straight, swapped);
    }

    #[test]
    fn the_order_of_arrival_does_not_matter() {
        let (a, b) = (cell(1, time_key(5), 7), cell(2, time_key(6), 8));
        assert_eq!(a.wrapping_add(b), b.wrapping_add(a));
    }
}
