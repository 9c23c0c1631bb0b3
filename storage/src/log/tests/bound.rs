//! The log never grows beyond its size, whatever a group does or leaves undone.

use super::*;
use model::Fs;

const BIG: usize = 400_000;

/// Appends to `group` and purges it at once, `count` times.
fn churn(log: &Log, group: ShardId, count: u64) {
    let next = log.state(group).and_then(|state| state.last).map_or(0, |last| last.index.0 + 1);
    for index in next..next + count {
        append_big(log, group, index, BIG).unwrap();
        outcome(|done| log.purge(group, id(1, index), done)).unwrap();
    }
}

#[test]
fn segments_without_live_entries_go() {
    let fs = MemFs::default();
    let log = open(&fs);
    churn(&log, A, 200);
    assert!(log.stats().segments <= 2, "{:?}", log.stats());
    assert_eq!(fs.list(Path::new(DIR)).unwrap().len() as u64, log.stats().segments);
    assert_eq!(log.stats().bytes, fs.used_and_peak().0);
}

#[test]
fn a_lagging_group_is_copied_forward_within_the_bound() {
    let fs = MemFs::default();
    let log = open(&fs);
    append(&log, B, 1, 0..100).unwrap();
    let expected = read(&log, B);
    churn(&log, A, 500);
    assert!(fs.used_and_peak().1 <= options().size);
    assert!(log.stats().copied_bytes > 0);
    assert_eq!(read(&log, B), expected);
    assert_eq!(read(&open(&fs.fork()), B), expected);
}

#[test]
fn a_lagging_group_is_reported_before_it_is_copied() {
    let log = open(&MemFs::default());
    append(&log, B, 1, 0..3).unwrap();
    assert_eq!(log.pressure().groups, []);
    churn(&log, A, 22);
    assert_eq!(log.stats().copied_bytes, 0);
    let groups = log.pressure().groups;
    assert_eq!(
        groups.iter().map(|pinned| (pinned.group, pinned.upto)).collect::<Vec<_>>(),
        [(B, LogIndex(2))]
    );
    outcome(|done| log.purge(B, id(1, 2), done)).unwrap();
    assert_eq!(log.pressure().groups, []);
    assert!(log.stats().segments <= 2);
}

#[test]
fn a_full_log_says_so_and_takes_votes_and_purges() {
    let fs = MemFs::default();
    let log = open(&fs);
    let refused = (0..).find_map(|index| append_big(&log, A, index, BIG).err()).unwrap();
    assert_eq!(refused.kind(), io::ErrorKind::StorageFull);
    assert!(refused.to_string().starts_with("log full"), "{refused}");
    assert_eq!(log.pressure().groups.len(), 1);
    (0..20_000).for_each(|_| outcome(|done| log.save_vote(B, Bytes::from(vec![7; 100]), done)).unwrap());
    assert!(fs.used_and_peak().1 <= options().size);
    let last = log.state(A).unwrap().last.unwrap();
    assert_eq!(ids(&open(&fs.fork()), A).len() as u64, last.index.0 + 1);
    outcome(|done| log.purge(A, last, done)).unwrap();
    append_big(&log, A, last.index.0 + 1, BIG).unwrap();
}

#[test]
fn two_groups_that_are_never_purged_together_fill_the_log_and_no_more() {
    let fs = MemFs::default();
    let log = open(&fs);
    (0..10).for_each(|index| append_big(&log, B, index, BIG).unwrap());
    churn(&log, A, 300);
    assert!(fs.used_and_peak().1 <= options().size, "{:?}", fs.used_and_peak());
    assert_eq!(ids(&log, B).len(), 10);
    assert_eq!(read(&open(&fs.fork()), B), read(&log, B));
}

#[test]
fn state_survives_the_segment_it_was_written_in() {
    let fs = MemFs::default();
    let log = open(&fs);
    outcome(|done| log.save_vote(B, Bytes::from_static(b"vote"), done)).unwrap();
    outcome(|done| log.purge(ShardId(9), id(3, 77), done)).unwrap();
    outcome(|done| log.set_identity(Bytes::from_static(b"me"), done)).unwrap();
    churn(&log, A, 50);
    assert!(!fs.exists(&first_segment()));
    let (again, recovered) = try_open(&fs.fork()).unwrap();
    assert_eq!(recovered.groups[&B].vote.as_deref(), Some(&b"vote"[..]));
    assert_eq!(recovered.groups[&ShardId(9)].last, Some(id(3, 77)));
    assert_eq!(again.identity().as_deref(), Some(&b"me"[..]));
}

#[test]
fn a_segment_that_comes_back_is_removed_again() {
    let fs = MemFs::default();
    let log = open(&fs);
    append(&log, B, 1, 0..10).unwrap();
    let first = fs.read(&first_segment()).unwrap();
    churn(&log, A, 100);
    let expected = read(&log, B);
    fs.replace(&first_segment(), &first).unwrap();
    let again = open(&fs);
    assert_eq!(read(&again, B), expected);
    assert!(!fs.exists(&first_segment()));
}

#[test]
fn a_reader_does_not_lose_the_segment_under_its_hands() {
    let fs = MemFs::default();
    let log = open_uncached(&fs);
    append(&log, B, 1, 0..10).unwrap();
    for _ in 0..100 {
        churn(&log, A, 1);
        assert_eq!(ids(&log, B).len(), 10);
    }
}

#[test]
fn room_that_is_kept_for_one_is_not_given_to_another_and_is_taken_by_its_entry() {
    let log = open(&MemFs::default());
    let kept: Vec<_> = (0..1000).map_while(|_| log.reserve(1, 1_000_000).ok()).collect();
    assert!(matches!(log.reserve(1, 1_000_000), Err(LogError::Full { .. })));
    let count = kept.len() as u64;
    (0..count).for_each(|index| append_big(&log, A, index, 1_000_000).unwrap());
    drop(kept);
    assert!(matches!(log.reserve(1, 1_000_000), Err(LogError::Full { .. })), "entries have it now");
    append(&log, B, 1, 0..100).unwrap(); // a little is left for those who reserved nothing
    outcome(|done| log.purge(A, id(1, count - 1), done)).unwrap();
    let again: Vec<_> = (0..1000).map_while(|_| log.reserve(1, 1_000_000).ok()).collect();
    assert_eq!(again.len() as u64, count);
}
