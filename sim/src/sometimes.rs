//! Paths that some world of a batch must have taken: counted beside the named points, and demanded with them.

use std::{cell::RefCell, collections::BTreeMap};

/// What must have happened at least once in a batch over all scenarios.
pub const SOMETIMES: &[&str] = &[
    "a change of members was interrupted by a crash",
    "a damaged node did not start",
    "a name was lost with the power",
    "a node was replaced",
    "a node whose disk hung ended itself",
    "a node whose log went backwards fenced itself",
    "a shard had no leader in time for a query",
    "a stranger was turned away",
    "a write was lost with the power",
    "a write was refused under overload",
    "a write was torn",
    "the operator wiped a machine",
];

/// What a node's log line says, and what has happened then.
pub(crate) const SAID: &[(&str, &str)] = &[("peer refused", "a stranger was turned away")];

thread_local!(static COUNTS: RefCell<BTreeMap<&'static str, u64>> = RefCell::default());

/// Forgets what happened on this thread.
pub fn begin() {
    COUNTS.take();
}

/// It happened so often.
///
/// # Panics
/// If nobody demands it.
pub fn happened(what: &'static str, times: u64) {
    if times > 0 {
        assert!(SOMETIMES.contains(&what), "not in the list: {what}");
        COUNTS.with_borrow_mut(|counts| *counts.entry(what).or_default() += times);
    }
}

/// What happened, and how often.
#[must_use]
pub fn counts() -> BTreeMap<&'static str, u64> {
    COUNTS.with_borrow(Clone::clone)
}
