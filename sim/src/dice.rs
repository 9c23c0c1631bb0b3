//! Randomness of the world: everything that is left to chance comes from one seed.

use std::{cell::Cell, time::Duration};

/// SplitMix64: good enough bits from a seed, the same on every machine.
#[derive(Debug)]
pub struct Dice(Cell<u64>);

impl Dice {
    /// A stream of its own for `purpose`: more use of one does not change what another yields.
    #[must_use]
    pub fn new(seed: u64, purpose: &str) -> Dice {
        Dice(Cell::new(xxhash_rust::xxh3::xxh3_64_with_seed(purpose.as_bytes(), seed)))
    }

    /// 64 bits.
    pub fn next(&self) -> u64 {
        let state = self.0.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.0.set(state);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number in `0..bound`; 0 for 0.
    pub fn below(&self, bound: u64) -> u64 {
        if bound == 0 { 0 } else { self.next() % bound }
    }

    /// A number in `from..=to`.
    pub fn between(&self, from: u64, to: u64) -> u64 {
        from + self.below(to - from + 1)
    }

    /// Milliseconds in `from..=to`.
    pub fn millis(&self, from: u64, to: u64) -> Duration {
        Duration::from_millis(self.between(from, to))
    }

    /// True in `percent` of a hundred.
    pub fn chance(&self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// One of several; `items` must not be empty.
    pub fn pick<'a, T>(&self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len() as u64) as usize]
    }
}
