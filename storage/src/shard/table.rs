//! A hash table of ids: eight bytes a series instead of a map's thirty, because the hashes stand elsewhere already.

const EMPTY: u32 = u32::MAX;

/// Open addressing with linear probing; at most three quarters full. Iteration is not offered: order would leak.
#[derive(Clone, Debug, Default)]
pub(crate) struct HashSlots {
    slots: Vec<u32>,
    used: usize,
}

impl HashSlots {
    /// The id under `hash` that `is_it` accepts.
    pub(crate) fn find(&self, hash: u64, is_it: impl Fn(u32) -> bool) -> Option<u32> {
        let mask = self.slots.len().checked_sub(1)?;
        let mut at = hash as usize & mask;
        while self.slots[at] != EMPTY {
            if is_it(self.slots[at]) {
                return Some(self.slots[at]);
            }
            at = (at + 1) & mask;
        }
        None
    }

    /// Adds an id; `hash_of` gives the hash of those that are in already.
    pub(crate) fn insert(&mut self, hash: u64, id: u32, hash_of: impl Fn(u32) -> u64) {
        if (self.used + 1) * 4 > self.slots.len() * 3 {
            let old = std::mem::take(&mut self.slots);
            self.slots = vec![EMPTY; (old.len() * 2).max(16)];
            for id in old.into_iter().filter(|id| *id != EMPTY) {
                self.place(hash_of(id), id);
            }
        }
        self.place(hash, id);
        self.used += 1;
    }

    fn place(&mut self, hash: u64, id: u32) {
        let mask = self.slots.len() - 1;
        let mut at = hash as usize & mask;
        while self.slots[at] != EMPTY {
            at = (at + 1) & mask;
        }
        self.slots[at] = id;
    }

    /// Bytes held.
    pub(crate) fn bytes(&self) -> usize {
        self.slots.capacity() * 4
    }
}
