//! Whether what was received, and what was here before, is what the leader's checkpoint says: computed again from what
//! is stored.

use super::Manifest;
use crate::{
    kv::{Kv, KvRead},
    shard::{
        CACHE_BYTES_MAX,
        cache::ChunkCache,
        source::ChunkRef,
        state::{PartitionSum, State},
        verify::{chunk_sum, window_sums},
    },
};
use model::StateError;
use std::{collections::BTreeMap, sync::Arc};

/// A check under way, with the state as it will be in force.
pub(super) struct Checking {
    state: State,
    /// The number of the part that is next, and what its chunks are.
    next: u32,
    chunks: BTreeMap<i64, Vec<ChunkRef>>,
    /// What open windows hold.
    open: BTreeMap<i64, (u128, u64)>,
}

/// What was found in a part.
pub(super) enum Found {
    Sound,
    /// This part is wrong, and why.
    Wrong(u32, String),
    /// There are no more.
    Whole,
}

/// Damage says something of the part; other errors are the disk's.
fn damage<T>(result: Result<T, StateError>) -> Result<Result<T, String>, StateError> {
    match result {
        Ok(value) => Ok(Ok(value)),
        Err(StateError::Corrupt(reason)) => Ok(Err(reason)),
        Err(error) => Err(error),
    }
}

impl Checking {
    /// Loads the state; or says what is wrong with it.
    pub(super) fn begin(
        manifest: &Manifest,
        kv: Arc<dyn Kv>,
    ) -> Result<Result<Checking, String>, StateError> {
        let cache = Arc::new(ChunkCache::new(CACHE_BYTES_MAX));
        let state = match damage(State::load(manifest.shard, kv, cache))? {
            Ok(state) => state,
            Err(reason) => return Ok(Err(reason)),
        };
        if state.applied != manifest.applied
            || Some(state.hash()) != manifest.parts.first().map(|part| part.content)
        {
            return Ok(Err("it is not of the index and hash it is announced with".to_owned()));
        }
        let mut chunks: BTreeMap<i64, Vec<ChunkRef>> = BTreeMap::new();
        for chunk in state.sources.iter().flatten().flat_map(|source| source.chunks.iter()) {
            chunks.entry(chunk.name.partition).or_default().push(chunk.clone());
        }
        let open = window_sums(&state);
        Ok(Ok(Checking { state, next: 1, chunks, open }))
    }

    /// Looks at the next part.
    pub(super) fn next(&mut self, kv: &dyn KvRead, manifest: &Manifest) -> Result<Found, StateError> {
        let part = self.next;
        let Some(head) = manifest.parts.get(part as usize) else { return Ok(Found::Whole) };
        let Some(partition) = head.partition else { return Ok(Found::Sound) };
        let (mut sum, mut samples) = (0_u128, 0_u64);
        for chunk in self.chunks.get(&partition).into_iter().flatten() {
            match damage(chunk_sum(kv, &self.state, chunk))? {
                Ok(found) => {
                    sum = sum.wrapping_add(found.0);
                    samples += found.1;
                }
                Err(reason) => return Ok(Found::Wrong(part, reason)),
            }
        }
        if sum != head.content {
            return Ok(Found::Wrong(part, "its content has another sum".to_owned()));
        }
        let open = self.open.get(&partition).copied().unwrap_or_default();
        let all = self.state.partitions.get(&partition).copied().unwrap_or_default();
        let whole =
            PartitionSum { sum: sum.wrapping_add(open.0), samples: samples + open.1, open_sum: open.0 };
        if all != whole {
            return Ok(Found::Wrong(
                0,
                format!("its open windows in partition {partition} have another sum"),
            ));
        }
        self.next += 1;
        Ok(Found::Sound)
    }

    /// Whether all of it was looked at.
    pub(super) fn is_whole(&self, manifest: &Manifest) -> bool {
        self.next as usize >= manifest.parts.len()
    }

    /// The state, if all of it was looked at.
    pub(super) fn into_whole(self, manifest: &Manifest) -> Option<State> {
        self.is_whole(manifest).then_some(self.state)
    }
}
