//! Every recorded blob is read by somebody: a directory that no test looks at would prove nothing.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// Directories of `docs/formats/corpus`, and the tests that read all that is in them.
const READERS: &[(&str, &str)] = &[
    ("node", "node/src/server/corpus.rs"),
    ("raft", "raft/src/corpus.rs"),
    ("storage/log", "storage/src/log/tests/corpus.rs"),
    ("storage/shard", "storage/src/shard/tests/corpus.rs"),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The directories below `dir` that have files, by their path from `top`.
fn with_files(top: &Path, dir: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(dir).expect("the corpus is there") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            with_files(top, &path, found);
        } else if path != top.join("README.md") {
            let from_top = dir.strip_prefix(top).expect("it is below");
            found.insert(from_top.to_str().expect("UTF-8").to_owned());
        }
    }
}

#[test]
fn every_directory_of_the_corpus_is_read_by_a_test() {
    let corpus = root().join("docs/formats/corpus");
    let mut found = BTreeSet::new();
    with_files(&corpus, &corpus, &mut found);
    let read: BTreeSet<String> = READERS.iter().map(|(dir, _)| (*dir).to_owned()).collect();
    assert_eq!(found, read);
    for (dir, reader) in READERS {
        let text = fs::read_to_string(root().join(reader)).expect("the reader is there");
        assert!(text.contains("corpus::check("), "{reader} does not read {dir}");
    }
}
