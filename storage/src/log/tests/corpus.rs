//! Segments as they were written once: they are read for ever.

use super::{A, B, DIR, options, ports};
use crate::log::{
    Log, Position,
    format::{Kind, Summary, VERSION},
    scan::SegmentScan,
    segment,
    testing::MemFs,
};
use bytes::Bytes;
use model::{
    Fs, LogId, LogIndex, OpenOptions, Term,
    corpus::{self, Format},
};
use std::path::Path;

fn id(index: u64) -> LogId {
    LogId { term: Term(3), index: LogIndex(index) }
}

/// The second segment of a log, so that it begins with the state of groups; only the first is long.
fn record() -> Vec<u8> {
    let fs = MemFs::default();
    let (log, _) = Log::open(ports(&fs), Path::new(DIR), options()).expect("opens");
    let append = |group, index, payload: Vec<u8>| {
        log.append(group, vec![(id(index), payload.into())], Box::new(|_| ())).expect("taken");
    };
    log.set_identity(Bytes::from_static(b"identity"), Box::new(|_| ())).expect("taken");
    log.save_vote(A, Bytes::from_static(b"vote"), Box::new(|_| ())).expect("taken");
    let second = segment::path(Path::new(DIR), 2);
    append(B, 0, b"in the first segment".to_vec());
    let mut last = 0;
    while !fs.exists(&second) {
        last += 1;
        append(A, last, vec![1; 1024]);
    }
    log.purge(B, id(0), Box::new(|_| ())).expect("taken");
    (last + 1..last + 5).for_each(|index| append(A, index, format!("entry {index}").into_bytes()));
    log.truncate_after(A, Some(id(last + 3)), Box::new(|_| ())).expect("taken");
    log.committed(A, id(last + 2));
    log.purge(A, id(last + 1), Box::new(|_| ())).expect("taken");
    log.save_vote(B, Bytes::from_static(b"another vote"), Box::new(|_| ())).expect("taken");
    append(B, 1, b"another group".to_vec());
    log.close();
    fs.read(&second).expect("there")
}

fn render(blob: &[u8]) -> Result<String, String> {
    let (fs, path) = (MemFs::default(), Path::new("/segment"));
    fs.create_dir_all(Path::new("/")).expect("a directory in memory");
    let create = OpenOptions { write: true, create: true, ..OpenOptions::default() };
    let file = fs.open(path, create).expect("a file in memory");
    file.write_all_at(blob, 0).expect("a file in memory");
    let (mut scan, preamble) =
        SegmentScan::open(&*file, 2, None).map_err(|stop| format!("preamble: {stop:?}"))?;
    let mut text = format!("{preamble:?}\n");
    let mut take = |at: Position, records: &[crate::log::format::Record<'_>]| {
        text += &format!("batch at {at:?}\n");
        for record in records {
            let shown = match record.head.kind {
                Kind::State => format!("{:?}", Summary::decode(record.payload).ok_or("malformed state")?),
                _ if record.payload.len() > 100 => format!("{} bytes", record.payload.len()),
                _ => String::from_utf8_lossy(record.payload).into_owned(),
            };
            text += &format!("  {:?} {shown}\n", record.head);
        }
        Ok(())
    };
    while scan.next(&mut take).map_err(|stop| format!("batch: {stop:?}"))?.is_some() {}
    Ok(text)
}

#[test]
fn recorded_segments_are_still_read() {
    let dir = corpus::dir(env!("CARGO_MANIFEST_DIR")).join("log");
    let formats = [Format { name: "segment", oldest: 1, version: VERSION, record, render }];
    let checked = corpus::check(&dir, &formats, std::env::var_os("RECORD").is_some());
    checked.unwrap_or_else(|wrong| panic!("{wrong}"));
}
