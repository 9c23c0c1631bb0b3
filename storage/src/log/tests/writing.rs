//! The writer: one sync for all, and what happens when the disk fails.

use super::*;
use crate::log::testing::FsOp;

/// A log whose syncs wait until they are allowed.
fn held(fs: &MemFs) -> (Log, mpsc::Receiver<()>, mpsc::Sender<()>) {
    let log = open_threaded(fs);
    let (begun, begins) = mpsc::channel();
    let (go, gone) = mpsc::channel();
    let (begun, gone) = (Mutex::new(begun), Mutex::new(gone));
    fs.set_hook(move |call| {
        if call.op == FsOp::Sync {
            let _ = begun.lock().unwrap().send(());
            let _ = gone.lock().unwrap().recv();
        }
        Ok(())
    });
    (log, begins, go)
}

#[test]
fn all_who_wait_share_one_sync() {
    let fs = MemFs::default();
    let (log, begins, go) = held(&fs);
    let (tell, told) = mpsc::channel();
    let append = |group, index| {
        let tell = tell.clone();
        log.append(
            ShardId(group),
            vec![entry(1, index)],
            Box::new(move |r| tell.send((group, r.is_ok())).unwrap()),
        )
    };
    append(0, 0).unwrap();
    begins.recv().unwrap(); // the first is being synced; meanwhile
    let before = fs.syncs();
    (0..50).for_each(|group| append(group, u64::from(group == 0)).unwrap());
    go.send(()).unwrap();
    go.send(()).unwrap();
    let all: Vec<_> = (0..51).map(|_| told.recv().unwrap()).collect();
    assert!(all.iter().all(|(_, ok)| *ok));
    assert_eq!(fs.syncs() - before, 2);
    drop(go);
}

#[test]
fn what_waits_for_the_disk_can_be_read_and_is_not_acknowledged() {
    let (log, begins, go) = held(&MemFs::default());
    let (tell, told) = mpsc::channel();
    log.append(A, vec![entry(1, 0)], Box::new(move |result| tell.send(result).unwrap())).unwrap();
    begins.recv().unwrap();
    assert_eq!(ids(&log, A), [id(1, 0)]);
    assert!(told.try_recv().is_err());
    go.send(()).unwrap();
    told.recv().unwrap().unwrap();
    drop(go);
}

#[test]
fn a_disk_that_owes_an_answer_is_known_from_the_moment_it_was_asked() {
    let (log, begins, go) = held(&MemFs::default());
    assert_eq!(log.waits_since(), None);
    log.append(A, vec![entry(1, 0)], ignore()).unwrap();
    begins.recv().unwrap();
    let since = log.waits_since();
    assert!(since.is_some());
    log.append(A, vec![entry(1, 1)], ignore()).unwrap();
    assert_eq!(log.waits_since(), since, "what is queued behind it changes nothing");
    go.send(()).unwrap();
    begins.recv().unwrap();
    assert!(log.waits_since() > since, "the next batch counts for itself");
    drop(go);
    log.close();
    assert_eq!(log.waits_since(), None);
}

#[test]
fn a_tail_that_is_truncated_while_it_is_written_stays_truncated() {
    let fs = MemFs::default();
    let (log, begins, go) = held(&fs);
    log.append(A, (0..4).map(|index| entry(1, index)).collect(), ignore()).unwrap();
    begins.recv().unwrap();
    log.truncate_after(A, Some(id(1, 0)), ignore()).unwrap();
    log.append(A, vec![entry(2, 1)], ignore()).unwrap();
    log.purge(A, id(1, 0), ignore()).unwrap();
    drop(go);
    log.close();
    assert_eq!(ids(&log, A), [id(2, 1)]);
    assert_eq!(log.stats().live_bytes, 32 + entry(2, 1).1.len() as u64);
    assert_eq!(ids(&open(&fs.fork()), A), [id(2, 1)]);
}

#[test]
fn the_queue_is_bounded_and_tells_when_there_is_room() {
    let (log, begins, go) = held(&MemFs::default());
    let big = |index| vec![(id(1, index), Bytes::from(vec![0; 1_500_000]))];
    log.append(A, big(0), ignore()).unwrap();
    begins.recv().unwrap();
    log.append(A, big(1), ignore()).unwrap();
    assert_eq!(log.append(A, big(2), ignore()).unwrap_err(), LogError::QueueFull { queued: 2 * 1_500_032 });
    drop(go);
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(log.room());
    log.append(A, big(2), ignore()).unwrap();
    log.close();
}

#[test]
fn a_failed_sync_poisons_the_log_for_good() {
    let fs = MemFs::default();
    let log = open(&fs);
    append(&log, A, 1, 0..1).unwrap();
    fs.fail_syncs(1);
    assert!(append(&log, A, 1, 1..2).is_err());
    let syncs = fs.syncs();
    let poisoned = LogError::Poisoned("sync log segment: input/output error".to_owned());
    assert_eq!(log.append(A, vec![entry(1, 1)], ignore()), Err(poisoned.clone()));
    assert_eq!(log.save_vote(A, Bytes::new(), ignore()), Err(poisoned.clone()));
    assert_eq!(log.reserve(1, 0).map(drop), Err(poisoned));
    log.close();
    assert_eq!(fs.syncs(), syncs);
}

#[test]
fn everyone_who_waits_learns_of_the_failed_sync() {
    let fs = MemFs::default();
    let (log, begins, go) = held(&fs);
    let (tell, told) = mpsc::channel();
    let wait = || {
        let tell = tell.clone();
        Box::new(move |result: io::Result<()>| tell.send(result.is_err()).unwrap())
    };
    log.append(A, vec![entry(1, 0)], wait()).unwrap();
    begins.recv().unwrap();
    log.append(A, vec![entry(1, 1)], wait()).unwrap();
    log.save_vote(B, Bytes::new(), wait()).unwrap();
    fs.fail_syncs(1);
    drop(go);
    assert_eq!([told.recv(), told.recv(), told.recv()], [Ok(true); 3]);
    log.close();
}

#[test]
fn a_callback_may_append() {
    let fs = MemFs::default();
    let log = Arc::new(open(&fs));
    let (inner, (tell, told)) = (log.clone(), mpsc::channel());
    let next: Done = Box::new(move |_| tell.send(()).unwrap());
    log.append(A, vec![entry(1, 0)], Box::new(move |_| inner.append(A, vec![entry(1, 1)], next).unwrap()))
        .unwrap();
    told.try_recv().unwrap();
    assert_eq!(ids(&log, A), [id(1, 0), id(1, 1)]);
}

#[test]
fn a_closed_log_refuses() {
    let log = open_threaded(&MemFs::default());
    log.close();
    log.close();
    assert_eq!(log.append(A, vec![entry(1, 0)], ignore()), Err(LogError::Closed));
}
