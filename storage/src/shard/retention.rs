//! Retention: whole partitions before the cutoff go, with everything that only they explain.
//!
//! The leader turns retention by time and by size into cutoffs ([`DataShard::retention_cutoff`]); apply only follows the
//! command. The store itself drops the partitions with the next checkpoint.
//!
//! The size is that of all samples on a node: its shards lose the same partitions, the oldest first, however unequal
//! they are. The partition that is being written is never dropped: a cutoff behind it would refuse what comes next.

use super::{
    DataShard,
    command::Refusal,
    hash,
    index::NO_COLUMN,
    seal::drop_columns,
    source::Source,
    state::{State, source_mut},
    window::{PARTITION_MS, partition_of},
};
use model::TimestampMs;
use roaring::RoaringBitmap;
use std::{
    borrow::Borrow,
    collections::BTreeMap,
    sync::{Arc, RwLock},
};

impl State {
    /// Drops partitions that end at or before `cutoff`.
    pub(crate) fn retain(&mut self, cutoff: TimestampMs) -> Result<(), Refusal> {
        let first = partition_of(cutoff);
        if first <= self.cutoff.0 {
            return Err(Refusal::OldCutoff(self.cutoff));
        }
        self.cutoff = TimestampMs(first);
        self.drop_before = Some(first);
        while let Some(entry) = self.partitions.first_entry().filter(|entry| *entry.key() < first) {
            let (start, sum) = entry.remove_entry();
            self.partitions_hash = self.partitions_hash.wrapping_sub(hash::partition(start, sum.sum));
        }
        self.packing.retain(first);
        for id in 0..self.sources.len() as u32 {
            let Some(source) = self.source(id) else { continue };
            if needs_retention(source, first) {
                self.dirty.insert(id);
                let source = source_mut(&mut self.sources, id);
                Arc::make_mut(&mut source.chunks).retain(|chunk| chunk.name.partition >= first);
                source.windows.retain(|window| window.partition >= first);
                Arc::make_mut(&mut source.missed).retain(|slots| slots.to.0 >= first);
            }
            let source = source_mut(&mut self.sources, id);
            let silent = source.windows.is_empty() && source.chunks.is_empty() && source.heard().0 < first;
            if silent {
                let all: Vec<u32> = (0..source.columns.len() as u32).collect();
                source.live.clear();
                source.live_hash = 0;
                let mut index = self.index.write().expect("no holder panics");
                self.changed_series.extend(drop_columns(source, &mut index, &all));
            }
            if silent && source.missed.is_empty() && source.last_slot.0 < first {
                self.sources_hash = self.sources_hash.wrapping_sub(source.contribution);
                let key = Arc::clone(&source.key);
                self.by_key.remove(&key);
                Arc::make_mut(&mut self.sources)[id as usize] = None;
            } else {
                self.settle(id);
            }
        }
        self.remove_series(first);
        Ok(())
    }

    /// Removes series that left their layout before the cutoff.
    fn remove_series(&mut self, first: i64) {
        let index = self.index.read().expect("no holder panics");
        let gone: RoaringBitmap = index
            .iter()
            .filter(|(_, record)| record.column == NO_COLUMN && record.last < first)
            .map(|(id, _)| id)
            .collect();
        if gone.is_empty() {
            return;
        }
        let kept = index.without(&gone);
        drop(index);
        self.index = Arc::new(RwLock::new(kept));
        self.counters.series_removed += gone.len();
        for id in gone {
            self.changed_series.remove(&id);
            self.removed_series.push(id);
        }
    }

    /// Adds what the partitions take to `sizes`, in bytes; one that is all open takes nothing yet.
    fn add_sizes(&self, sizes: &mut BTreeMap<i64, u64>) {
        for partition in self.partitions.keys() {
            sizes.entry(*partition).or_default();
        }
        for chunk in self.sources.iter().flatten().flat_map(|source| source.chunks.iter()) {
            *sizes.entry(chunk.name.partition).or_default() += chunk.bytes;
        }
    }
}

impl DataShard {
    /// The cutoff that retention by time and by size asks for at `time`, if it is later than the one in force: what
    /// the leader proposes as `Retain`. `node` are all data shards of this node, this one included: they share the
    /// size.
    #[must_use]
    pub fn retention_cutoff(
        &self,
        time: TimestampMs,
        node: &[impl Borrow<DataShard>],
    ) -> Option<TimestampMs> {
        let (settings, in_force) = {
            let state = self.read();
            (state.settings.clone(), state.cutoff)
        };
        let by_time = (settings.retention_time.0 > 0).then(|| time.minus(settings.retention_time));
        let by_size = match settings.retention_bytes {
            0 => None,
            bytes_max => {
                let mut sizes = BTreeMap::new();
                node.iter().for_each(|shard| shard.borrow().read().add_sizes(&mut sizes));
                size_cutoff(&sizes, bytes_max, time)
            }
        };
        let cutoff = by_time.max(by_size)?;
        (partition_of(cutoff) > in_force.0).then_some(cutoff)
    }
}

/// The cutoff that keeps at most `bytes_max` of partitions with these sizes; `None` if all fit. Neither the newest
/// partition nor the one of `time` is before it, whatever they take.
fn size_cutoff(sizes: &BTreeMap<i64, u64>, bytes_max: u64, time: TimestampMs) -> Option<TimestampMs> {
    let newest = *sizes.keys().next_back()?;
    let mut left = bytes_max;
    for (partition, bytes) in sizes.iter().rev() {
        match left.checked_sub(*bytes) {
            Some(rest) => left = rest,
            None => {
                let cutoff = partition.saturating_add(PARTITION_MS).min(newest).min(partition_of(time));
                return Some(TimestampMs(cutoff));
            }
        }
    }
    None
}

fn needs_retention(source: &Source, first: i64) -> bool {
    source.chunks.first().is_some_and(|chunk| chunk.name.partition < first)
        || source.windows.iter().any(|window| window.partition < first)
        || source.missed.iter().any(|slots| slots.to.0 < first)
}
