//! Whose turn it is: clusters are heavy, so the tests of one process run one after the other.

use std::{
    env,
    sync::{Mutex, MutexGuard, PoisonError},
};

static TURN: Mutex<()> = Mutex::new(());

/// Waits until no other test of this process runs a cluster. A test that failed does not hold the others up.
pub fn my_turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether this is the long run (`scripts/soak`), where times are judged and repetitions are many.
#[must_use]
pub fn is_soak() -> bool {
    env::var_os("SOAK").is_some_and(|value| value == "1")
}

/// Says that a test did not run here, and why, so that nobody takes silence for success.
pub fn skipped(why: &str) {
    eprintln!("SKIPPED: {why}");
}
