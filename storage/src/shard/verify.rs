//! `vestal check`: reads everything that a replica has stored and recomputes what its checkpoint says of it.

use super::{
    cache::ChunkCache,
    cells::histogram_bits,
    checkpoint::{MetaRecord, corrupt},
    chunk::{Chunk, Column},
    hash, keys, snapshot,
    state::State,
};
use crate::kv::{Direction, Family, KeyRange, Kv, KvEngine, KvRead};
use bytes::Bytes;
use model::{Applied, ShardId, StateError, TimestampMs};
use std::{collections::BTreeMap, path::Path, sync::Arc};

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckReport {
    /// The shard; `None` if there is no checkpoint yet.
    pub shard: Option<ShardId>,
    /// The index of the checkpoint.
    pub applied: Applied,
    /// Series in the index.
    pub series: u64,
    /// Chunks read.
    pub chunks: u64,
    /// Samples read, open windows included.
    pub samples: u64,
    /// The state hash that the checkpoint recorded.
    pub hash_recorded: u128,
    /// The state hash of what is stored.
    pub hash_computed: u128,
    /// What is damaged; empty means all is well.
    pub problems: Vec<String>,
}

impl CheckReport {
    /// Whether everything is as it was written.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.problems.is_empty() && self.hash_recorded == self.hash_computed
    }
}

/// Checks the replica in `dir`, which must not be open.
///
/// # Errors
/// If the store cannot be opened at all; damage inside is reported.
pub fn check(dir: &Path, engine: &dyn KvEngine) -> Result<CheckReport, StateError> {
    let data = snapshot::Found::in_dir(dir, engine)?.in_force;
    let kv = engine.open(&data)?;
    let report = check_store(&kv);
    kv.close();
    report
}

fn check_store(kv: &Arc<dyn Kv>) -> Result<CheckReport, StateError> {
    let mut report = CheckReport {
        shard: None,
        applied: Applied::default(),
        series: 0,
        chunks: 0,
        samples: 0,
        hash_recorded: 0,
        hash_computed: 0,
        problems: Vec::new(),
    };
    let Some(bytes) = kv.get(Family::Meta, keys::META)? else { return Ok(report) };
    let meta = match MetaRecord::decode(&bytes) {
        Ok(meta) => meta,
        Err(cause) => {
            report.problems.push(cause.to_string());
            return Ok(report);
        }
    };
    report.shard = Some(meta.shard);
    report.applied = meta.applied.clone();
    report.hash_recorded = meta.hash;
    let cache = Arc::new(ChunkCache::new(1 << 20));
    let mut state = match State::load(meta.shard, Arc::clone(kv), cache) {
        Ok(state) => state,
        Err(error) => {
            report.problems.push(error.to_string());
            return Ok(report);
        }
    };
    report.series = state.index.read().expect("no holder panics").len();
    let mut sums = window_sums(&state);
    for source in state.sources.iter().flatten() {
        for chunk in source.chunks.iter() {
            report.chunks += 1;
            match chunk_sum(&**kv, &state, chunk) {
                Ok((sum, samples)) => {
                    let entry = sums.entry(chunk.name.partition).or_default();
                    entry.0 = entry.0.wrapping_add(sum);
                    entry.1 += samples;
                }
                Err(error) => report
                    .problems
                    .push(format!("chunk of {:?}, partition {}: {error}", source.key, chunk.name.partition)),
            }
        }
    }
    for (start, recorded) in &meta.partitions {
        let (sum, samples) = sums.get(start).copied().unwrap_or_default();
        if sum != recorded.sum || samples != recorded.samples {
            report.problems.push(format!(
                "partition {start}: {samples} samples with sum {sum:032x} are stored, {} with sum {:032x} were written",
                recorded.samples, recorded.sum
            ));
        }
    }
    report.samples = sums.values().map(|(_, samples)| samples).sum();
    state.partitions_hash =
        sums.iter().fold(0, |all: u128, (start, (sum, _))| all.wrapping_add(hash::partition(*start, *sum)));
    report.hash_computed = state.hash();
    Ok(report)
}

/// Sum and number of the cells in open windows, by partition.
pub(crate) fn window_sums(state: &State) -> BTreeMap<i64, (u128, u64)> {
    let mut sums: BTreeMap<i64, (u128, u64)> = BTreeMap::new();
    for source in state.sources.iter().flatten() {
        for window in &source.windows {
            let entry = sums.entry(window.partition).or_default();
            for row in &window.rows {
                entry.0 = entry.0.wrapping_add(row.cells.hash(row.timestamp, &source.columns.hashes));
                entry.1 += row.cells.len() as u64;
            }
        }
    }
    sums
}

/// Sum and number of the cells in a stored chunk.
pub(crate) fn chunk_sum(
    kv: &dyn KvRead,
    state: &State,
    chunk: &super::source::ChunkRef,
) -> Result<(u128, u64), StateError> {
    let head = kv.get(Family::Chunks, &keys::chunk_head(&chunk.name))?;
    let head = head.ok_or(StateError::Corrupt("its head is missing".into()))?;
    let (_, head) = keys::read_head(&head).map_err(corrupt)?;
    let range = KeyRange::new(
        keys::chunk_group(&chunk.name, 0),
        keys::chunk_group(&chunk.name, usize::from(u16::MAX)),
    );
    let groups: Vec<Bytes> = kv
        .iter(Family::Chunks, &range, Direction::Ascending)?
        .map(|pair| pair.map(|(_, value)| value))
        .collect::<Result<_, _>>()?;
    let chunk = Chunk { head: Arc::new(head), groups };
    let (mut sum, mut samples) = (0_u128, 0_u64);
    let index = state.index.read().expect("no holder panics");
    let timestamps = chunk.head.timestamps.clone();
    let key = |row: u32| hash::time_key(TimestampMs(timestamps[row as usize]).0);
    super::checkpoint::for_each_column(&chunk, |series, column: &mut Column| {
        let hash = index.get(series).map_or(0, |record| record.hash);
        for (row, value) in column.float_rows.iter().zip(&column.floats) {
            sum = sum.wrapping_add(hash::cell(hash, key(*row), value.to_bits()));
        }
        for (row, value) in &column.histograms {
            sum = sum.wrapping_add(hash::cell(hash, key(*row), histogram_bits(value)));
        }
        samples += (column.floats.len() + column.histograms.len()) as u64;
        Ok(())
    })
    .map_err(corrupt)?;
    Ok((sum, samples))
}
