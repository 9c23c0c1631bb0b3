//! Keys of a shard's records in the key-value store. Numbers are big endian with the sign bit flipped, so byte order
//! is time order; in a chunk's key the partition leads, so retention drops ranges of files.
//!
//! ```text
//! chunks   partition 8 | 0 head, 1 group | source 4 | sequence 8 | level 1 | group 2 (groups only)
//! state    's' source 4  ·  'o' source 4 partition 8 late 1 (an open window, in the form of a chunk)
//! series   series id 4
//! meta     "state"
//! ```

use super::{
    chunk::ChunkHead,
    source::ChunkName,
    wire::{Malformed, Put, Reader},
};

/// The one record of the family `meta`.
pub(crate) const META: &[u8] = b"state";

fn time(value: i64) -> [u8; 8] {
    (value as u64 ^ 1 << 63).to_be_bytes()
}

pub(crate) fn read_time(bytes: &[u8]) -> Option<i64> {
    Some((u64::from_be_bytes(bytes.get(..8)?.try_into().ok()?) ^ 1 << 63) as i64)
}

fn chunk(name: &ChunkName, kind: u8) -> Vec<u8> {
    let mut key = Vec::with_capacity(24);
    key.extend_from_slice(&time(name.partition));
    key.push(kind);
    key.extend_from_slice(&name.source.to_be_bytes());
    key.extend_from_slice(&name.sequence.to_be_bytes());
    key.push(name.level);
    key
}

pub(crate) fn chunk_head(name: &ChunkName) -> Vec<u8> {
    chunk(name, 0)
}

pub(crate) fn chunk_group(name: &ChunkName, group: usize) -> Vec<u8> {
    let mut key = chunk(name, 1);
    key.extend_from_slice(&(group as u16).to_be_bytes());
    key
}

/// All chunks of a partition.
pub(crate) fn partition(partition: i64) -> [u8; 8] {
    time(partition)
}

/// All heads of a partition.
pub(crate) fn partition_heads(partition: i64) -> [u8; 9] {
    let mut key = [0; 9];
    key[..8].copy_from_slice(&time(partition));
    key
}

pub(crate) fn read_chunk_name(key: &[u8]) -> Option<ChunkName> {
    Some(ChunkName {
        partition: read_time(key)?,
        source: u32::from_be_bytes(key.get(9..13)?.try_into().ok()?),
        sequence: u64::from_be_bytes(key.get(13..21)?.try_into().ok()?),
        level: *key.get(21)?,
    })
}

/// The stored head: bytes of the whole chunk, then the head, whose checksum covers both.
pub(crate) fn put_head(bytes: u64, head: &ChunkHead) -> Vec<u8> {
    let mut out = Vec::with_capacity(64);
    out.put_u64(bytes);
    head.put(&mut out);
    out
}

pub(crate) fn read_head(bytes: &[u8]) -> Result<(u64, ChunkHead), Malformed> {
    let mut reader = Reader::new(bytes);
    let size = reader.u64()?;
    Ok((size, ChunkHead::decode(bytes, bytes.len() - reader.len())?))
}

pub(crate) fn source(id: u32) -> Vec<u8> {
    let mut key = vec![b's'];
    key.extend_from_slice(&id.to_be_bytes());
    key
}

pub(crate) fn open_window(source: u32, partition: i64, late: bool, group: u16) -> Vec<u8> {
    let mut key = vec![b'o'];
    key.extend_from_slice(&source.to_be_bytes());
    key.extend_from_slice(&time(partition));
    key.push(u8::from(late));
    key.extend_from_slice(&group.to_be_bytes());
    key
}

pub(crate) fn read_u32(bytes: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(..4)?.try_into().ok()?))
}

pub(crate) fn series(id: u32) -> [u8; 4] {
    id.to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_sort_as_times_do_and_names_come_back() {
        let name = |partition| ChunkName { partition, source: 3, sequence: 9, level: 1 };
        assert!(chunk_head(&name(-7_200_000)) < chunk_head(&name(0)));
        assert!(chunk_group(&name(0), 1) < chunk_group(&name(0), 2));
        assert_eq!(read_chunk_name(&chunk_group(&name(-7), 5)), Some(name(-7)));
    }
}
