//! What the scrapes of this node came to, since its start; for `/metrics`.

use scrape::Outcome;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counters; they only ever rise.
#[derive(Debug, Default)]
pub(crate) struct ScrapeCounters {
    scrapes: AtomicU64,
    failures: AtomicU64,
    body_too_large: AtomicU64,
}

/// The counters at one time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Scrapes {
    /// Scrapes that ended, whatever their outcome.
    pub(crate) scrapes: u64,
    /// Those of them that failed: the target's `up` is 0.
    pub(crate) failures: u64,
    /// Those of them that failed because the body had more bytes than allowed.
    pub(crate) body_too_large: u64,
}

impl ScrapeCounters {
    pub(crate) fn count(&self, outcome: &Outcome) {
        self.scrapes.fetch_add(1, Ordering::Relaxed);
        self.failures.fetch_add(u64::from(!outcome.up), Ordering::Relaxed);
        self.body_too_large.fetch_add(u64::from(outcome.body_bytes.is_none()), Ordering::Relaxed);
    }

    pub(crate) fn so_far(&self) -> Scrapes {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Scrapes {
            scrapes: load(&self.scrapes),
            failures: load(&self.failures),
            body_too_large: load(&self.body_too_large),
        }
    }
}
