//! Torn tails are cut, corruption fences: for every byte.

use super::*;
use crate::log::{Position, testing, verify};
use model::{Fs, OpenOptions};

/// A log of some batches of two groups; yields where the last one begins and the whole ends.
fn some_log(fs: &MemFs) -> (u64, u64) {
    let log = open(fs);
    append(&log, A, 1, 0..3).unwrap();
    outcome(|done| log.save_vote(A, Bytes::from_static(b"vote"), done)).unwrap();
    append(&log, B, 1, 0..2).unwrap();
    outcome(|done| log.truncate_after(A, Some(id(1, 1)), done)).unwrap();
    let begin = log.stats().bytes;
    append(&log, A, 2, 2..5).unwrap();
    (begin, log.stats().bytes)
}

fn set_len(fs: &MemFs, len: u64) {
    fs.open(&first_segment(), OpenOptions { write: true, ..OpenOptions::default() })
        .unwrap()
        .set_len(len)
        .unwrap();
}

fn contents(fs: &MemFs) -> Vec<u8> {
    fs.read(&first_segment()).unwrap()
}

#[test]
fn a_last_batch_torn_at_any_byte_is_cut_off() {
    let fs = MemFs::default();
    let (begin, end) = some_log(&fs);
    for len in begin..end {
        let torn = fs.fork();
        set_len(&torn, len);
        assert!(verify(&torn, Path::new(DIR)).unwrap().is_healthy());
        let (log, recovered) = try_open(&torn).unwrap();
        assert_eq!(ids(&log, A), [id(1, 0), id(1, 1)], "cut to {len}");
        assert_eq!(recovered.torn, (len > begin).then_some(Position { segment: 1, offset: begin as u32 }));
        append(&log, A, 3, 2..3).unwrap();
        assert_eq!(ids(&open(&torn), A), [id(1, 0), id(1, 1), id(3, 2)], "cut to {len}");
    }
}

#[test]
fn a_last_batch_with_zeros_for_its_end_is_cut_off() {
    let fs = MemFs::default();
    let (begin, end) = some_log(&fs);
    for len in begin..end {
        let torn = fs.fork();
        set_len(&torn, len);
        set_len(&torn, end + 5000);
        assert_eq!(ids(&open(&torn), A), [id(1, 0), id(1, 1)], "zeros from {len}");
    }
}

#[test]
fn a_flipped_bit_in_any_synced_byte_fences_and_changes_nothing() {
    let fs = MemFs::default();
    let (begin, _) = some_log(&fs);
    for offset in 0..begin as usize {
        let damaged = fs.fork();
        damaged.flip(&first_segment(), offset, 1 << (offset % 8)).unwrap();
        let before = contents(&damaged);
        let error = try_open(&damaged).unwrap_err();
        assert!(
            matches!(error, OpenError::Corrupt { at, .. } if u64::from(at.offset) < begin),
            "{offset}: {error}"
        );
        assert!(!verify(&damaged, Path::new(DIR)).unwrap().is_healthy());
        assert_eq!(contents(&damaged), before);
    }
}

#[test]
fn closing_marks_even_the_last_batch_as_synced() {
    let fs = MemFs::default();
    let (_, end) = some_log(&fs);
    open(&fs).close();
    for offset in 0..end as usize {
        let damaged = fs.fork();
        damaged.flip(&first_segment(), offset, 0x80).unwrap();
        assert!(matches!(try_open(&damaged), Err(OpenError::Corrupt { .. })), "{offset}");
    }
}

#[test]
fn a_flipped_bit_in_the_unsynced_tail_is_cut_off() {
    let fs = MemFs::default();
    let (begin, end) = some_log(&fs);
    for offset in begin as usize..end as usize {
        let damaged = fs.fork();
        damaged.flip(&first_segment(), offset, 1).unwrap();
        assert_eq!(ids(&open(&damaged), A), [id(1, 0), id(1, 1)], "{offset}");
    }
}

#[test]
fn damage_before_a_later_segment_is_corruption() {
    let fs = MemFs::default();
    let log = open(&fs);
    append_big(&log, A, 0, 1_800_000).unwrap();
    append_big(&log, A, 1, 1_800_000).unwrap();
    fs.flip(&first_segment(), 1_700_000, 1).unwrap();
    assert!(matches!(try_open(&fs), Err(OpenError::Corrupt { at, .. }) if at.segment == 1));
    let report = verify(&fs, Path::new(DIR)).unwrap();
    assert_eq!(report.segments[0].damage.as_ref().map(|damage| damage.torn_tail), Some(false));
    assert_eq!(report.segments[1].damage, None);
}

#[test]
fn a_missing_segment_is_named() {
    let fs = MemFs::default();
    let log = open(&fs);
    (0..4).for_each(|index| append_big(&log, A, index, 1_800_000).unwrap());
    for missing in [1, 2, 3] {
        let fs = fs.fork();
        fs.remove_file(&crate::log::segment::path(Path::new(DIR), missing)).unwrap();
        assert!(matches!(try_open(&fs), Err(OpenError::SegmentMissing { segment }) if segment == missing));
        assert_eq!(verify(&fs, Path::new(DIR)).unwrap().missing, [missing]);
        assert_eq!(fs.list(Path::new(DIR)).unwrap().len(), 3);
    }
}

#[test]
fn a_segment_whose_beginning_is_torn_at_any_byte_is_begun_again() {
    let fs = MemFs::default();
    let log = open(&fs);
    outcome(|done| log.save_vote(B, Bytes::from_static(b"vote"), done)).unwrap();
    append_big(&log, A, 0, 1_800_000).unwrap();
    let before = fs.fork();
    append_big(&log, A, 1, 1_800_000).unwrap();
    let second = crate::log::segment::path(Path::new(DIR), 2);
    let start = fs.read(&second).unwrap().len() - 1_800_000 - 32 - 40;
    let start = fs.read(&second).unwrap()[..start].to_vec();
    for len in 0..start.len() {
        let fs = before.fork();
        fs.replace(&second, &start[..len]).unwrap();
        let log = open(&fs);
        assert_eq!(ids(&log, A), [id(1, 0)], "{len}");
        append_big(&log, A, 1, 1_800_000).unwrap();
        assert_eq!(ids(&open(&fs), A), [id(1, 0), id(1, 1)], "{len}");
    }
}

#[test]
fn a_flipped_byte_is_noticed_when_an_entry_is_read() {
    let fs = MemFs::default();
    let log = open_uncached(&fs);
    append(&log, A, 1, 0..1).unwrap();
    let end = fs.read(&first_segment()).unwrap().len();
    let begin = end - 32 - entry(1, 0).1.len();
    for offset in begin..end {
        fs.flip(&first_segment(), offset, 4).unwrap();
        let error = log.read(A, LogIndex(0)..LogIndex(1), 100).unwrap_err();
        assert!(
            matches!(error, LogError::Corrupt { at, .. } if at.offset as usize == begin),
            "{offset}: {error}"
        );
        fs.flip(&first_segment(), offset, 4).unwrap();
    }
    assert_eq!(ids(&log, A), [id(1, 0)]);
}

#[test]
fn a_batch_that_was_swapped_for_an_older_one_breaks_the_chain() {
    let (fs, other) = (MemFs::default(), MemFs::default());
    for (fs, term) in [(&fs, 1), (&other, 2)] {
        let log = open(fs);
        append(&log, A, term, 0..1).unwrap();
        append(&log, A, 5, 1..2).unwrap();
    }
    // The first batch of one log under the second of the other: same lengths, same places, checksums right.
    let first = 40 + 40..40 + 40 + 40 + 32 + entry(1, 0).1.len();
    let bytes = contents(&other)[first.clone()].to_vec();
    let file = fs.open(&first_segment(), OpenOptions { write: true, ..OpenOptions::default() }).unwrap();
    file.write_all_at(&bytes, first.start as u64).unwrap();
    assert!(matches!(try_open(&fs), Err(OpenError::Corrupt { reason, .. }) if reason == "hash chain broken"));
}

#[test]
fn another_format_version_is_refused_without_a_change() {
    let fs = MemFs::default();
    some_log(&fs);
    let mut bytes = contents(&fs);
    bytes[8] = 9;
    let place = [1, 0, 0, 0, 0, 0, 0, 0];
    let crc = crc32c::crc32c_append(crc32c::crc32c(&place), &bytes[..36]);
    bytes[36..40].copy_from_slice(&crc.to_le_bytes());
    fs.replace(&first_segment(), &bytes).unwrap();
    assert!(matches!(try_open(&fs), Err(OpenError::Version { segment: 1, found: 9, supported: 1 })));
    assert_eq!(contents(&fs), bytes);
}

#[test]
fn verify_counts_what_is_there() {
    let fs = MemFs::default();
    some_log(&fs);
    let report = verify(&fs, Path::new(DIR)).unwrap();
    assert_eq!((report.segments[0].batches, report.segments[0].entries), (6, 8));
    assert!(report.is_healthy());
}

proptest::proptest! {
    #[test]
    fn any_bytes_may_stand_where_the_log_should_be(data: Vec<u8>) {
        testing::fuzz_recover(&data);
    }

    #[test]
    fn any_bytes_may_stand_within_a_log(data in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
        testing::fuzz_splice(&data);
    }
}
