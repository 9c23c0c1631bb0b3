//! A world for the log in tests: a file system that forgets what was not synced, a clock, and an entry for fuzzing.

mod contents;
mod damage;
mod fuzz;
mod mem_fs;

pub use contents::{GroupContents, damage_in, durable_contents};
pub use damage::Damage;
pub use fuzz::{fuzz_recover, fuzz_splice};
pub use mem_fs::{DiskLosses, FsCall, FsOp, MemFs};

use model::{Clock, TimestampMs};
use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// A clock that advances by a millisecond whenever it is looked at.
#[derive(Debug, Default)]
pub struct StepClock(AtomicU64);

impl Clock for StepClock {
    fn now(&self) -> TimestampMs {
        TimestampMs(self.0.fetch_add(1, Ordering::Relaxed) as i64)
    }

    fn monotonic(&self) -> Duration {
        Duration::from_millis(self.0.fetch_add(1, Ordering::Relaxed))
    }
}
