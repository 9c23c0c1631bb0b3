//! A checkpoint, opened for a replica that lags.

use super::{Manifest, PartHead, parts};
use crate::{
    kv::{Family, Kv, KvView},
    shard::{
        checkpoint::{MetaRecord, corrupt},
        keys,
    },
};
use bytes::Bytes;
use model::{Applied, SnapshotPiece, SnapshotSource, StateError};

/// Holds a view of the store, and the manifest.
pub(crate) struct Source {
    view: KvView,
    manifest: Manifest,
}

impl Source {
    /// Opens the checkpoint that the store holds. Reads one record.
    pub(crate) fn open(kv: &dyn Kv) -> Result<Source, StateError> {
        let view = kv.snapshot();
        let bytes = view.get(Family::Meta, keys::META)?;
        let bytes = bytes.ok_or(StateError::Io("there is no checkpoint to read from".into()))?;
        let meta = MetaRecord::decode(&bytes).map_err(corrupt)?;
        let samples = |sum: u128, samples: u64| sum.saturating_mul(u128::from(samples));
        let all: u64 = meta.partitions.values().map(|partition| partition.samples).sum();
        let chunks = u128::from(kv.approximate_bytes(Family::Chunks));
        let state = kv.approximate_bytes(Family::State) + kv.approximate_bytes(Family::Series);
        let mut parts = vec![PartHead { partition: None, content: meta.hash, bytes: state }];
        parts.extend(
            meta.partitions.iter().map(|(start, partition)| PartHead {
                partition: Some(*start),
                content: partition.sum.wrapping_sub(partition.open_sum),
                bytes: u64::try_from(samples(chunks, partition.samples) / u128::from(all.max(1)))
                    .unwrap_or(u64::MAX),
            }),
        );
        Ok(Source { view, manifest: Manifest { shard: meta.shard, applied: meta.applied, parts } })
    }
}

impl SnapshotSource for Source {
    fn applied(&self) -> Applied {
        self.manifest.applied.clone()
    }

    fn manifest(&self) -> Bytes {
        self.manifest.encode().into()
    }

    fn read(&self, part: u32, from: &[u8], max: usize) -> Result<SnapshotPiece, StateError> {
        let head = self.manifest.parts.get(part as usize);
        let head = head.ok_or_else(|| StateError::Io(format!("the snapshot has no part {part}")))?;
        parts::read(&*self.view, head.partition, from, max)
    }
}
