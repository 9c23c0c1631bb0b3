//! A full disk: what waits is held, small operations go on, and everything is written when there is room.

use super::*;
use crate::log::SPARE_BYTES;

type Told = mpsc::Receiver<io::Result<()>>;

fn big(index: u64) -> Vec<(LogId, Bytes)> {
    vec![(id(1, index), Bytes::from(vec![index as u8; 100_000]))]
}

/// The disk has no more room, and what was reserved is used up: the entry of this index is held.
fn fill(fs: &MemFs, log: &Log, group: ShardId) -> (u64, Told) {
    fs.set_capacity(Some(0));
    let next = log.state(group).and_then(|state| state.last).map_or(0, |last| last.index.0 + 1);
    let held = (next..next + 30).find_map(|index| {
        let told = begin(|done| log.append(group, big(index), done));
        told.try_recv().is_err().then_some((index, told))
    });
    held.expect("what was reserved comes to an end")
}

fn vote(log: &Log, group: ShardId, vote: &'static [u8]) -> Told {
    begin(|done| log.save_vote(group, Bytes::from_static(vote), done))
}

fn is_done(told: &Told) -> bool {
    told.try_recv().is_ok_and(|result| result.is_ok())
}

fn is_full(log: &Log) -> bool {
    matches!(log.trouble(), Some(LogError::DiskFull(_)))
}

fn count(log: &Log, group: ShardId) -> u64 {
    ids(log, group).len() as u64
}

#[test]
fn on_a_full_disk_what_waits_is_held_until_there_is_room() {
    let fs = MemFs::default();
    let log = open(&fs);
    let (held, told) = fill(&fs, &log, A);
    assert!(is_full(&log));
    assert!(matches!(log.reserve(1, 1), Err(LogError::DiskFull(_))), "more is not to be proposed");
    assert_eq!(count(&log, A), held + 1, "what is held can be read");
    assert_eq!(count(&open(&fs.fork()), A), held, "what was written is whole");
    log.look_for_room();
    assert!(is_full(&log));
    fs.set_capacity(None);
    log.look_for_room();
    assert!(is_done(&told));
    assert_eq!((log.trouble(), log.reserve(1, 1).map(drop)), (None, Ok(())));
    assert_eq!(read(&open(&fs.fork()), A), read(&log, A));
}

#[test]
fn votes_are_saved_on_a_full_disk_and_overtake_entries() {
    let fs = MemFs::default();
    let log = open(&fs);
    let (held, told) = fill(&fs, &log, A);
    assert!(is_done(&vote(&log, A, b"mine")) && is_done(&vote(&log, B, b"theirs")));
    assert!(told.try_recv().is_err());
    let (after, recovered) = try_open(&fs.fork()).unwrap();
    assert_eq!(recovered.groups[&A].vote.as_deref(), Some(&b"mine"[..]));
    assert_eq!(recovered.groups[&B].vote.as_deref(), Some(&b"theirs"[..]));
    assert_eq!(count(&after, A), held);
}

#[test]
fn what_a_group_does_after_a_held_entry_keeps_its_order() {
    let fs = MemFs::default();
    let log = open(&fs);
    append(&log, A, 1, 0..9).unwrap();
    append(&log, B, 1, 0..9).unwrap();
    let (held, _) = fill(&fs, &log, A);
    let purged = begin(|done| log.purge(A, id(1, 3), done));
    let cut = begin(|done| log.truncate_after(A, Some(id(1, held - 1)), done));
    let again = begin(|done| log.append(A, vec![entry(2, held)], done));
    let elsewhere = begin(|done| log.purge(B, id(1, 4), done));
    assert!(is_done(&elsewhere), "nothing of its group is held");
    assert!(purged.try_recv().is_err() && cut.try_recv().is_err() && again.try_recv().is_err());
    fs.set_capacity(None);
    log.look_for_room();
    assert!(is_done(&purged) && is_done(&cut) && is_done(&again));
    let expected: Vec<LogId> = (4..held).map(|index| id(1, index)).chain([id(2, held)]).collect();
    assert_eq!(ids(&log, A), expected);
    assert_eq!((read(&open(&fs.fork()), A), log.state(A)), (read(&log, A), open(&fs.fork()).state(A)));
}

#[test]
fn a_purge_on_a_full_disk_makes_the_room_that_was_missing() {
    let fs = MemFs::default();
    let log = open(&fs);
    (0..9).for_each(|index| append_big(&log, B, index, 400_000).unwrap());
    let used = fs.used_and_peak().0;
    let (_, told) = fill(&fs, &log, A);
    assert!(is_done(&begin(|done| log.purge(B, id(1, 8), done))));
    assert!(log.stats().segments <= 2, "segments without live entries are gone");
    fs.set_capacity(Some(used + (2 << 20)));
    log.look_for_room();
    assert!(is_done(&told));
}

#[test]
fn votes_wait_too_when_the_spare_is_used_up() {
    let fs = MemFs::default();
    let log = open(&fs);
    let _held = fill(&fs, &log, A);
    let told: Vec<Told> = (0..500).map(|_| vote(&log, A, &[7; 100])).collect();
    let saved = told.iter().take_while(|told| is_done(told)).count();
    assert!((150..400).contains(&saved), "{saved}");
    assert!(fs.used_and_peak().0 <= open(&fs.fork()).stats().bytes + SPARE_BYTES);
    fs.set_capacity(None);
    log.look_for_room();
    assert!(told[saved..].iter().all(is_done));
}

#[test]
fn a_full_disk_at_the_start_of_a_segment_heals_too() {
    let fs = MemFs::default();
    let log = open(&fs);
    append_big(&log, A, 0, 1_800_000).unwrap();
    fs.set_capacity(Some(0));
    let told = begin(|done| log.append(A, vec![(id(1, 1), Bytes::from(vec![1; 1_800_000]))], done));
    assert_eq!((told.try_recv().is_err(), log.stats().segments), (true, 1));
    assert!(is_done(&vote(&log, A, b"mine")), "the spare is behind the last batch");
    fs.set_capacity(None);
    log.look_for_room();
    assert_eq!((is_done(&told), log.stats().segments), (true, 2));
    assert_eq!(ids(&open(&fs.fork()), A), [id(1, 0), id(1, 1)]);
}

/// What such a write left is cut off before anything else happens.
#[test]
fn a_write_that_fails_in_the_middle_is_cut_back_and_held() {
    let fs = MemFs::default();
    fs.reserve_nothing();
    let log = open(&fs);
    append(&log, A, 1, 0..3).unwrap();
    let before = fs.used_and_peak().0;
    fs.set_capacity(Some(before + 100));
    let told = begin(|done| log.append(A, big(3), done));
    assert_eq!((told.try_recv().is_err(), fs.used_and_peak().0), (true, before));
    assert_eq!(try_open(&fs.fork()).unwrap().1.torn, None);
    fs.set_capacity(None);
    log.look_for_room();
    assert!(is_done(&told));
    assert_eq!(count(&open(&fs.fork()), A), 4);
}

#[test]
fn a_log_that_is_opened_on_a_full_disk_waits_for_room() {
    let fs = MemFs::default();
    let log = open(&fs);
    append(&log, A, 1, 0..3).unwrap();
    drop(log);
    fs.power_loss(1); // what was reserved is gone
    fs.set_capacity(Some(0));
    let log = open(&fs);
    assert!(is_full(&log));
    let told = begin(|done| log.append(A, vec![entry(1, 3)], done));
    let voted = vote(&log, A, b"mine");
    assert!(told.try_recv().is_err() && voted.try_recv().is_err());
    fs.set_capacity(None);
    log.look_for_room();
    assert!(is_done(&told) && is_done(&voted));
}

#[test]
fn closing_gives_up_what_is_held() {
    let fs = MemFs::default();
    let log = open_threaded(&fs);
    let told = begin(|done| log.append(A, vec![entry(1, 0)], done));
    told.recv().unwrap().unwrap();
    fs.set_capacity(Some(0));
    let told: Vec<Told> = (1..40).map(|index| begin(|done| log.append(A, big(index), done))).collect();
    while !is_full(&log) {
        std::thread::yield_now();
    }
    log.close();
    let written = told.iter().take_while(|told| is_done(told)).count() as u64;
    assert!(written < 39);
    assert_eq!(count(&open(&fs.fork()), A), 1 + written);
}
