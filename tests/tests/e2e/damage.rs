//! A stored value that was altered behind the node's back.

use crate::load::{Loaded, PATIENCE};
use std::{
    fs,
    path::{Path, PathBuf},
};
use tests::{my_turn, wait_until};

fn files(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("a folder can be read").flatten() {
        let path = entry.path();
        if path.is_dir() { files(&path, found) } else { found.push(path) }
    }
}

/// Turns one bit over at the last place where `needle` is stored below `dir`.
fn alter(dir: &Path, needle: &[u8]) -> Option<PathBuf> {
    let mut found = Vec::new();
    files(dir, &mut found);
    found.sort();
    for path in found {
        let mut bytes = fs::read(&path).expect("a file can be read");
        // The first half of the file: what stands at its end could be taken for a torn tail.
        let at = bytes[..bytes.len() / 2].windows(needle.len()).rposition(|window| window == needle);
        if let Some(at) = at {
            bytes[at + needle.len() - 1] ^= 1;
            fs::write(&path, bytes).expect("a file can be written");
            return Some(path);
        }
    }
    None
}

#[test]
fn check_passes_what_is_sound_and_finds_one_altered_bit_in_the_log() {
    let _turn = my_turn();
    let loaded = Loaded::start(2, &[]);
    loaded.wait_scraped();
    let Loaded { mut cluster, writer, .. } = loaded;
    let ledger = writer.stop();
    assert!(!ledger.batches.is_empty());
    cluster.wait_status(1, true, PATIENCE);
    cluster.stop();
    let data = cluster.node_dir(2).join("data");
    let sound = cluster.vestal(&["check", data.to_str().unwrap()]);
    assert_eq!(sound.status, 0, "{sound:?}");
    let altered = alter(&data.join("log"), b"served_total").expect("the log holds the name of a series");
    let damaged = cluster.vestal(&["check", data.to_str().unwrap()]);
    assert_ne!(damaged.status, 0, "{damaged:?}");
    let text = format!("{}{}", damaged.out, damaged.err);
    assert!(
        text.contains("log: ") && text.contains("DAMAGED"),
        "it says that {} is: {text}",
        altered.display()
    );
}

#[test]
fn check_finds_an_altered_byte_in_each_table_file() {
    let _turn = my_turn();
    let loaded = Loaded::start(2, &[]);
    let Loaded { mut cluster, writer, .. } = loaded;
    let _ledger = writer.stop();
    cluster.stop();
    let data = cluster.node_dir(1).join("data");
    let mut tables = Vec::new();
    files(&data, &mut tables);
    tables.retain(|path| path.extension().is_some_and(|extension| extension == "sst"));
    assert!(!tables.is_empty(), "a node that was stopped cleanly has checkpointed what it holds");
    for table in tables.iter().take(3) {
        let sound = fs::read(table).expect("a file can be read");
        let mut bytes = sound.clone();
        // The first block of a table file is always data.
        bytes[8] ^= 0x10;
        fs::write(table, &bytes).expect("a file can be written");
        let ran = cluster.vestal(&["check", data.to_str().unwrap()]);
        assert_ne!(ran.status, 0, "{}: {ran:?}", table.display());
        fs::write(table, &sound).expect("a file can be written");
    }
    let healed = cluster.vestal(&["check", data.to_str().unwrap()]);
    assert_eq!(healed.status, 0, "{healed:?}");
}

#[test]
fn a_node_whose_log_is_gone_does_not_start_and_goes_on_when_it_is_back() {
    let _turn = my_turn();
    let mut loaded = Loaded::start(2, &[]);
    loaded.cluster.wait_status(1, true, PATIENCE);
    loaded.cluster.kill(2);
    loaded.cluster.wait_ended(2, PATIENCE);
    let data = loaded.cluster.node_dir(2).join("data");
    let (log, away) = (data.join("log"), data.join("log.away"));
    fs::rename(&log, &away).expect("a folder can be renamed");
    loaded.cluster.restart(2);
    wait_until("it says why", PATIENCE, || {
        let said = loaded.cluster.log(2);
        if said.contains("log is empty, but node 2 has stored data") { Ok(()) } else { Err(said) }
    });
    loaded.cluster.wait_ended(2, PATIENCE);
    fs::remove_dir_all(&log).expect("a folder can be removed");
    fs::rename(&away, &log).expect("a folder can be renamed");
    loaded.cluster.restart(2);
    loaded.cluster.wait_status(1, true, PATIENCE);
    let _verified = loaded.verify();
}
