//! The corpus of Prometheus's own test data, which lies beside the repository and is not part of it.

use std::path::PathBuf;

/// Where a file of the corpus would be.
pub(crate) fn path(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/prometheus/data")).join(name)
}

/// A file of the corpus as bytes; `None`, and a word about it, if it is not there.
pub(crate) fn read_bytes(name: &str) -> Option<Vec<u8>> {
    let found = std::fs::read(path(name)).ok();
    if found.is_none() {
        println!("SKIPPED: {name} of the corpus is not here");
    }
    found
}

/// A file of the corpus as text.
pub(crate) fn read(name: &str) -> Option<String> {
    read_bytes(name).map(|bytes| String::from_utf8(bytes).expect("the corpus is UTF-8"))
}
