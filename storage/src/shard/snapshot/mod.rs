//! Snapshots: the last checkpoint in parts, and taking one over.
//!
//! ```text
//!  part 0: meta record, sources, open windows, series      part n: the chunks of one partition
//!
//!  Source ──manifest: what each part must hold──▶ Sink: a new store `data-<n>`, first a copy of the one in force
//!         ◀──a part, from a key on──────────────   │ write: records go to their place as they arrive
//!         ──piece: whole records──────────────▶    │ check: what is stored adds up to the manifest
//!                                                  ▼ commit: its mark "unfinished" goes: it is in force
//! ```
//!
//! The manifest comes from the meta record alone, so it costs the same whatever the shard holds; it gives each
//! partition the sum of what its chunks hold, whatever their packing, and the state hash of the whole. The receiver
//! keeps the partitions of which its own store has the same sum, asks for the others, and computes all of it again
//! from what is stored before it is taken. A transfer that broke off, from whichever leader, goes on with the
//! partitions that are complete.

mod check;
mod parts;
mod sink;
mod source;
mod stores;

pub(crate) use sink::Sink;
pub(crate) use source::Source;
pub use stores::KEY_MANIFEST;
pub(crate) use stores::{Found, REMEDY, Stores};

use super::{
    checkpoint::{put_applied, read_applied},
    wire::{Malformed, Put, Reader},
};
use model::{Applied, ShardId};

pub(crate) const VERSION: u8 = 2;
/// The longest manifest that is read.
const MANIFEST_BYTES_MAX: usize = 16 << 20;

/// One part of a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
struct PartHead {
    /// `None` for part 0.
    partition: Option<i64>,
    /// Sum over the cells in the partition's chunks; for part 0 the state hash.
    content: u128,
    /// About how many bytes it has: for progress.
    bytes: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Manifest {
    shard: ShardId,
    applied: Applied,
    /// Part 0, then one part for each partition with chunks, ascending.
    parts: Vec<PartHead>,
}

impl Manifest {
    fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        out.put_u64(u64::from(self.shard.0));
        put_applied(&mut out, &self.applied);
        out.put_u64(self.parts.len() as u64);
        for part in &self.parts {
            out.push(u8::from(part.partition.is_some()));
            out.put_i64(part.partition.unwrap_or(0));
            out.extend_from_slice(&part.content.to_le_bytes());
            out.put_u64(part.bytes);
        }
        let sum = crc32c::crc32c(&out);
        out.extend_from_slice(&sum.to_le_bytes());
        out
    }

    fn decode(bytes: &[u8]) -> Result<Manifest, Malformed> {
        if bytes.len() > MANIFEST_BYTES_MAX {
            return Err(Malformed("snapshot manifest: too long"));
        }
        let (body, sum) = bytes.split_last_chunk::<4>().ok_or(Malformed("snapshot manifest"))?;
        if crc32c::crc32c(body) != u32::from_le_bytes(*sum) {
            return Err(Malformed("snapshot manifest: checksum"));
        }
        let mut reader = Reader::new(body);
        if reader.byte()? != VERSION {
            return Err(Malformed("snapshot manifest: unknown version"));
        }
        let shard = ShardId(reader.u32()?);
        let applied = read_applied(&mut reader)?;
        let mut parts = Vec::new();
        for _ in 0..reader.count()? {
            let is_partition = reader.byte()? == 1;
            let partition = reader.i64()?;
            parts.push(PartHead {
                partition: is_partition.then_some(partition),
                content: reader.u128()?,
                bytes: reader.u64()?,
            });
        }
        let well_formed = parts.first().is_some_and(|part| part.partition.is_none())
            && parts.is_sorted_by(|a, b| a.partition < b.partition);
        if well_formed {
            Ok(Manifest { shard, applied, parts })
        } else {
            Err(Malformed("snapshot manifest: order of parts"))
        }
    }

    /// What a partition must hold; `None` if it must not be there.
    fn content_of(&self, partition: i64) -> Option<u128> {
        let at = self.parts.binary_search_by_key(&Some(partition), |part| part.partition).ok()?;
        Some(self.parts[at].content)
    }
}
