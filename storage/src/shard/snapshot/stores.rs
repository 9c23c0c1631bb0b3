//! The stores of a replica: `data-<n>`, with numbers that only rise.
//!
//! ```text
//!  data-0 in force ──install──▶ data-1 in force, data-0 goes when its last view does
//!                               data-2: marked unfinished, a snapshot is being received
//! ```
//!
//! One store is in force. A store that holds a manifest is unfinished; taking the manifest out, in one synced write,
//! is what puts it in force. What a crash leaves beside the store in force is removed at the next start, but for the
//! unfinished one, in which the transfer goes on.

use super::Manifest;
use crate::{
    kv::{Family, KvEngine},
    shard::{
        checkpoint::{MetaRecord, corrupt},
        keys,
    },
};
use model::{LogId, StateError};
use std::{
    cmp::Reverse,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// In the family of metadata: marks a store as unfinished, while a snapshot is received into it.
pub const KEY_MANIFEST: &[u8] = b"snapshot/manifest";
/// Where the first builds received snapshots.
const RETIRED_NAME: &str = "side";

/// The directories of a replica.
#[derive(Debug)]
pub(crate) struct Stores {
    pub(super) dir: PathBuf,
    pub(super) engine: Arc<dyn KvEngine>,
    numbers: Mutex<Numbers>,
}

#[derive(Debug)]
pub(super) struct Numbers {
    /// The next new store's.
    next: u64,
    /// The unfinished store, if there is one.
    pub(super) unfinished: Option<PathBuf>,
}

/// What was found in a directory.
#[derive(Debug)]
pub(crate) struct Found {
    /// The store in force; it may have to be made.
    pub(crate) in_force: PathBuf,
    unfinished: Option<PathBuf>,
    /// To be removed.
    rest: Vec<PathBuf>,
    next: u64,
}

fn number_of(path: &Path) -> Option<u64> {
    path.file_name()?.to_str()?.strip_prefix("data-")?.parse().ok()
}

fn path_of(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("data-{number}"))
}

/// How far a store is: the index of its checkpoint, and whether it is unfinished.
fn look(engine: &dyn KvEngine, path: &Path) -> Result<(Option<LogId>, bool), StateError> {
    let kv = engine.open(path)?;
    let far = match kv.get(Family::Meta, KEY_MANIFEST)? {
        // One that cannot be read is of no use, and as old as can be.
        Some(bytes) => (Manifest::decode(&bytes).ok().and_then(|manifest| manifest.applied.log_id), true),
        None => {
            let meta = kv.get(Family::Meta, keys::META)?;
            let meta = meta.map(|bytes| MetaRecord::decode(&bytes).map_err(corrupt)).transpose()?;
            (meta.and_then(|meta| meta.applied.log_id), false)
        }
    };
    kv.close();
    Ok(far)
}

impl Found {
    /// Looks which store is in force. Changes nothing.
    pub(crate) fn in_dir(dir: &Path, engine: &dyn KvEngine) -> Result<Found, StateError> {
        let all = engine.list(dir)?;
        let stores: Vec<(u64, &PathBuf)> = all
            .iter()
            .filter_map(|path| Some((number_of(path)?, path)))
            .filter(|(_, path)| engine.exists(path))
            .collect();
        let next = all.iter().filter_map(|path| number_of(path)).max().map_or(1, |number| number + 1);
        let mut finished: Vec<(Option<LogId>, Reverse<u64>)> = Vec::new();
        let mut unfinished: Vec<(Option<LogId>, u64)> = Vec::new();
        match stores[..] {
            [] => {}
            [(number, _)] => finished.push((None, Reverse(number))), // opened by who asks, and looked at there
            _ => {
                for (number, path) in &stores {
                    match look(engine, path)? {
                        (upto, false) => finished.push((upto, Reverse(*number))),
                        (upto, true) => unfinished.push((upto, *number)),
                    }
                }
            }
        }
        let Some((upto, Reverse(number))) = finished.iter().max() else {
            if !unfinished.is_empty() {
                let text = format!("{} holds only an unfinished snapshot; {REMEDY}", dir.display());
                return Err(StateError::Corrupt(text));
            }
            // A directory without a store is one that was never finished.
            let in_force = all.iter().find(|path| number_of(path).is_some()).cloned();
            let in_force = in_force.unwrap_or_else(|| path_of(dir, 0));
            return Ok(Found { in_force, unfinished: None, rest: Vec::new(), next });
        };
        let in_force = path_of(dir, *number);
        let unfinished =
            unfinished.iter().filter(|(of, _)| of > upto).max().map(|(_, number)| path_of(dir, *number));
        let of_ours = |path: &&PathBuf| {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            name.starts_with("data-") || name == RETIRED_NAME
        };
        let kept = |path: &&PathBuf| **path == in_force || Some(*path) == unfinished.as_ref();
        let rest = all.iter().filter(of_ours).filter(|path| !kept(path)).cloned().collect();
        Ok(Found { in_force, unfinished, rest, next })
    }
}

/// What to do when there is nothing to go on with.
pub(crate) const REMEDY: &str =
    "restore the store it was copied from, or empty the whole data directory and let the node join anew";

impl Stores {
    /// Settles what a crash may have left; yields the store in force, too.
    pub(crate) fn settle(dir: &Path, engine: Arc<dyn KvEngine>) -> Result<(Stores, PathBuf), StateError> {
        let found = Found::in_dir(dir, &*engine)?;
        for path in &found.rest {
            engine.remove(path)?;
        }
        let numbers = Mutex::new(Numbers { next: found.next, unfinished: found.unfinished });
        Ok((Stores { dir: dir.to_owned(), engine, numbers }, found.in_force))
    }

    pub(super) fn numbers(&self) -> MutexGuard<'_, Numbers> {
        self.numbers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Numbers {
    /// A directory that this process never used.
    pub(super) fn new_path(&mut self, dir: &Path) -> PathBuf {
        let path = path_of(dir, self.next);
        self.next += 1;
        path
    }
}
