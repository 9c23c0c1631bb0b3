//! What a group can do with its part of the log, and that it is the same after opening again.

use super::*;

/// What the log says now and what it says when it is opened again.
fn check(log: &Log, fs: &MemFs, group: ShardId, expected: &[LogId]) {
    assert_eq!(ids(log, group), expected);
    let again = open(&fs.fork());
    assert_eq!(again.state(group), log.state(group));
    assert_eq!(read(&again, group), read(log, group));
}

#[test]
fn entries_come_back() {
    let fs = MemFs::default();
    let log = open(&fs);
    append(&log, A, 1, 0..3).unwrap();
    append(&log, B, 4, 1..2).unwrap();
    check(&log, &fs, A, &[id(1, 0), id(1, 1), id(1, 2)]);
    check(&log, &fs, B, &[id(4, 1)]);
}

#[test]
fn votes_committed_and_identity_come_back() {
    let fs = MemFs::default();
    let log = open(&fs);
    outcome(|done| log.save_vote(A, Bytes::from_static(b"for me"), done)).unwrap();
    append(&log, A, 1, 0..2).unwrap();
    log.committed(A, id(1, 1));
    outcome(|done| log.set_identity(Bytes::from_static(b"node 3"), done)).unwrap();
    let (_, recovered) = try_open(&fs.fork()).unwrap();
    let vote = Some(Bytes::from_static(b"for me"));
    let state = GroupState { vote, purged: None, last: Some(id(1, 1)), committed: Some(id(1, 1)) };
    assert_eq!(recovered.groups, [(A, state)].into());
    assert_eq!(recovered.identity.as_deref(), Some(&b"node 3"[..]));
}

#[test]
fn a_truncated_tail_can_be_written_anew() {
    let fs = MemFs::default();
    let log = open(&fs);
    append(&log, A, 1, 0..5).unwrap();
    outcome(|done| log.truncate_after(A, Some(id(1, 1)), done)).unwrap();
    append(&log, A, 2, 2..4).unwrap();
    check(&log, &fs, A, &[id(1, 0), id(1, 1), id(2, 2), id(2, 3)]);
}

#[test]
fn a_truncation_may_take_all() {
    let fs = MemFs::default();
    let log = open(&fs);
    append(&log, A, 1, 1..5).unwrap();
    outcome(|done| log.truncate_after(A, None, done)).unwrap();
    append(&log, A, 2, 0..1).unwrap();
    check(&log, &fs, A, &[id(2, 0)]);
}

#[test]
fn purged_entries_are_gone() {
    let fs = MemFs::default();
    let log = open(&fs);
    append(&log, A, 1, 0..5).unwrap();
    outcome(|done| log.purge(A, id(1, 2), done)).unwrap();
    check(&log, &fs, A, &[id(1, 3), id(1, 4)]);
    let purged = LogError::Purged { group: A, first: LogIndex(3) };
    assert_eq!(log.read(A, LogIndex(2)..LogIndex(5), 1000), Err(purged));
}

#[test]
fn a_purge_beyond_the_end_continues_behind_it() {
    let fs = MemFs::default();
    let log = open(&fs);
    append(&log, A, 1, 0..5).unwrap();
    outcome(|done| log.purge(A, id(7, 100), done)).unwrap();
    assert_eq!(log.state(A).unwrap().last, Some(id(7, 100)));
    append(&log, A, 7, 101..102).unwrap();
    check(&log, &fs, A, &[id(7, 101)]);
}

#[test]
fn a_read_gives_at_least_one_entry_and_stops_at_its_limit() {
    let log = open_uncached(&MemFs::default());
    append(&log, A, 1, 0..9).unwrap();
    let count = |max| log.read(A, LogIndex(2)..LogIndex(8), max).unwrap().len();
    assert_eq!((count(0), count(40), count(1000)), (1, 2, 6));
}

#[test]
fn a_hole_in_the_indexes_is_refused() {
    let log = open(&MemFs::default());
    append(&log, A, 1, 0..2).unwrap();
    let error = log.append(A, vec![entry(1, 3)], ignore()).unwrap_err();
    assert_eq!(error, LogError::Invalid("append of index 3, expected 2".to_owned()));
    assert_eq!(append(&log, B, 1, 5..6).unwrap_err().kind(), io::ErrorKind::InvalidInput);
}

#[test]
fn what_is_in_memory_is_bounded_and_the_rest_is_on_disk() {
    let log = open(&MemFs::default());
    (0..40).for_each(|index| append_big(&log, A, index, 100_000).unwrap());
    assert!(log.stats().cached_bytes <= options().cache_bytes);
    let payloads = read(&log, A);
    assert_eq!(payloads.len(), 40);
    assert!(
        payloads.iter().all(|(log_id, payload)| payload.iter().all(|byte| *byte == log_id.index.0 as u8))
    );
}
