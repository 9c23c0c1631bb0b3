//! The records of a part, and how they travel: family, key, value, one behind the other, never cut.

use super::PartHead;
use crate::{
    kv::{Direction, Family, KeyRange, KvRead},
    shard::{
        checkpoint::corrupt,
        keys,
        wire::{Malformed, Put, Reader},
    },
};
use bytes::Bytes;
use model::{SnapshotPiece, StateError};

/// Where the records of a part lie, in the order in which they travel.
pub(super) fn ranges(partition: Option<i64>) -> Vec<(Family, KeyRange)> {
    match partition {
        Some(partition) => vec![(Family::Chunks, KeyRange::prefix(&keys::partition(partition)))],
        None => vec![
            (Family::Meta, KeyRange::prefix(keys::META)),
            (Family::State, KeyRange::all()),
            (Family::Series, KeyRange::all()),
        ],
    }
}

fn family_byte(family: Family) -> u8 {
    match family {
        Family::Meta => 1,
        Family::State => 2,
        Family::Series => 3,
        Family::Chunks => 4,
    }
}

/// The place behind a record: its family and key.
pub(super) fn place(family: Family, key: &[u8]) -> Vec<u8> {
    let mut place = vec![family_byte(family)];
    place.extend_from_slice(key);
    place
}

/// Reads about `max` bytes of a part, from the record behind `from`.
pub(super) fn read(
    kv: &dyn KvRead,
    partition: Option<i64>,
    from: &[u8],
    max: usize,
) -> Result<SnapshotPiece, StateError> {
    let mut data = Vec::new();
    let mut last = None;
    for (family, mut range) in ranges(partition) {
        if let Some((of, key)) = from.split_first() {
            if *of > family_byte(family) {
                continue;
            }
            if *of == family_byte(family) {
                let mut after = key.to_vec();
                after.push(0);
                if !range.contains(key) {
                    return Err(StateError::Io("the snapshot's part has no such place".into()));
                }
                range.start = after.into();
            }
        }
        for pair in kv.iter(family, &range, Direction::Ascending)? {
            let (key, value) = pair?;
            if data.len() >= max {
                return Ok(SnapshotPiece { data: data.into(), next: last.map(Bytes::from) });
            }
            data.push(family_byte(family));
            data.put_bytes(&key);
            data.put_bytes(&value);
            last = Some(place(family, &key));
        }
    }
    Ok(SnapshotPiece { data: data.into(), next: None })
}

/// A record of a piece.
pub(super) struct Record {
    pub(super) family: Family,
    pub(super) key: Bytes,
    pub(super) value: Bytes,
}

/// Reads the next record, which must belong to the part.
pub(super) fn next_record(reader: &mut Reader<'_>, head: &PartHead) -> Result<Record, StateError> {
    let family = reader.byte().map_err(corrupt)?;
    let (key, value) = (reader.bytes().map_err(corrupt)?, reader.bytes().map_err(corrupt)?);
    let found = ranges(head.partition)
        .into_iter()
        .find(|(of, range)| family_byte(*of) == family && range.contains(key))
        .ok_or(Malformed("piece of a snapshot: a record of another part"));
    let (family, _) = found.map_err(corrupt)?;
    Ok(Record { family, key: Bytes::copy_from_slice(key), value: Bytes::copy_from_slice(value) })
}
