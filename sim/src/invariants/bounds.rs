//! O11: what has a bound stays within it, at every moment that is looked at.
//!
//! Samples, labels and layouts are kept in less than was needed to tell them, and nothing lies twice on a disk: so what
//! a store holds is held against the bytes that were offered, and what a whole world takes in memory as well.

use crate::violation::Violation;
use node::Bound;
use screenplay::NODES;

/// Looks at what a node says of itself.
///
/// # Errors
/// With the first bound that is passed.
pub fn judge(machine: &str, bounds: &[Bound]) -> Result<(), Violation> {
    match bounds.iter().find(|bound| bound.used > bound.max) {
        None => Ok(()),
        Some(Bound { name, used, max }) => {
            let text = format!("{machine}: {name} has {used}, at most {max} are allowed");
            Err(Violation { invariant: "O11", text })
        }
    }
}

/// Files beside the log and the stores: checkpoints of the meta group, the node's identity, the list of queries.
const FILES_MAX: u64 = 64 << 10;
/// What a world of three takes before anything was offered: nodes, the judges, the allocator's slack.
const MEMORY_BASE: u64 = 128 << 20;
/// So many bytes may be in memory for each that was offered: three nodes have it in the log's files, in stores and on
/// the way, disks have what was synced beside what was written, and the trace and the judges have theirs.
const MEMORY_FACTOR: u64 = 24;

/// What lies on the disk of a node that hosts so many shards, in a healed world: stores; others that a snapshot was to
/// be received into, in which a later transfer goes on; bytes of keys and values in the former, and how many were
/// offered to the whole cluster; bytes of files that are neither log nor store.
#[must_use]
pub fn disk(hosted: u64, stores: u64, unfinished: u64, bytes: (u64, u64), files: u64) -> [Bound; 4] {
    let bound = |name: &str, used, max| Bound { name: name.to_owned(), used, max };
    [
        bound("stores on the disk", stores, hosted),
        bound("unfinished stores on the disk", unfinished, hosted),
        bound("bytes in the stores", bytes.0, bytes.1),
        bound("bytes of other files", files, FILES_MAX),
    ]
}

/// The most bytes that a world of so many nodes ever held in memory, after so many were offered. Each node has all of it.
#[must_use]
pub fn memory(nodes: usize, peak: u64, offered: u64) -> Bound {
    let of_three = MEMORY_BASE.saturating_add(MEMORY_FACTOR.saturating_mul(offered));
    let max = of_three.saturating_mul(nodes as u64) / NODES as u64;
    Bound { name: "memory of the whole world".to_owned(), used: peak, max }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_more_than_its_bound_is_seen() {
        let bound = |used| Bound { name: "log bytes".to_owned(), used, max: 10 };
        assert!(judge("n1", &[bound(0), bound(10)]).is_ok());
        assert!(judge("n1", &[bound(0), bound(11)]).is_err());
    }

    #[test]
    fn a_store_that_is_left_behind_and_one_that_holds_things_twice_are_seen() {
        assert!(judge("n1", &disk(6, 6, 1, (1000, 1000), FILES_MAX)).is_ok());
        assert!(judge("n1", &disk(6, 7, 0, (1000, 1000), 0)).is_err());
        assert!(judge("n1", &disk(6, 6, 7, (1000, 1000), 0)).is_err());
        assert!(judge("n1", &disk(6, 6, 0, (2000, 1000), 0)).is_err());
        assert!(judge("n1", &disk(6, 6, 0, (0, 0), FILES_MAX + 1)).is_err());
    }

    #[test]
    fn memory_is_measured_by_what_was_offered() {
        assert!(judge("world", &[memory(NODES, MEMORY_BASE, 0)]).is_ok());
        assert!(judge("world", &[memory(NODES, MEMORY_BASE + 1, 0)]).is_err());
        assert!(judge("world", &[memory(2 * NODES, 2 * MEMORY_BASE, 0)]).is_ok());
        assert!(judge("world", &[memory(NODES, MEMORY_BASE + MEMORY_FACTOR * 10, 10)]).is_ok());
    }
}
