//! A data shard that applies arbitrary committed bytes: apply is total, and two replicas that apply the same have
//! the same state. What is decoded is written back as it was read.
//!
//! Input: lengths of two bytes (little endian), each followed by so many bytes of a command.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use model::{CommittedEntry, EntryPayload, LogId, LogIndex, ShardId, StateMachine, Term};
use std::{path::Path, sync::Arc};
use storage::{
    kv::MemDisk,
    shard::{DataCommand, DataResponse, DataShard},
};

const COMMANDS_MAX: usize = 16;

fn commands(mut data: &[u8]) -> Vec<Bytes> {
    let mut found = Vec::new();
    while let [low, high, rest @ ..] = data {
        let length = usize::from(u16::from_le_bytes([*low, *high])).min(rest.len());
        found.push(Bytes::copy_from_slice(&rest[..length]));
        data = &rest[length..];
        if found.len() == COMMANDS_MAX {
            break;
        }
    }
    found
}

fn replica() -> DataShard {
    DataShard::open(ShardId(1), Path::new("/shard"), Arc::new(MemDisk::new())).expect("an empty store opens")
}

fuzz_target!(|data: &[u8]| {
    let (one, other) = (replica(), replica());
    for (index, command) in (1..).zip(commands(data)) {
        if let Ok(decoded) = DataCommand::decode(&command) {
            let again = DataCommand::decode(&decoded.encode()).expect("what was encoded can be decoded");
            // Compared as bytes: a NaN in a setting is not equal to itself.
            assert_eq!(again.encode(), decoded.encode());
        }
        let _no_panic = DataResponse::decode(&command);
        let log_id = LogId { term: Term(1), index: LogIndex(index) };
        let entry = [CommittedEntry { log_id, payload: EntryPayload::Command(command) }];
        let (a, b) = (one.apply(&entry), other.apply(&entry));
        assert_eq!(a, b, "two replicas answer alike");
        assert!(a.is_ok(), "bad content stops no replica: {a:?}");
    }
    assert_eq!(one.state_hash(), other.state_hash());
    one.checkpoint().expect("a disk in memory does not fail");
    assert_eq!(one.state_hash(), other.state_hash(), "a checkpoint changes no content");
});
