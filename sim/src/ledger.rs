//! What the world knows of the data: what was offered, what was promised, what was shown.
//!
//! A sample is *offered* from before it is sent, *owed* from the moment at which a write was acknowledged or an answer
//! showed it. What is owed must be in every later default answer; what is shown must have been offered, with the same
//! value, once.

use crate::violation::Violation;
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

/// One series, by its timestamps in milliseconds.
#[derive(Debug, Default)]
pub struct SeriesLedger {
    /// What may be there: the value by timestamp, for written series.
    pub offered: BTreeMap<i64, f64>,
    /// What must be there.
    pub owed: BTreeMap<i64, f64>,
}

/// One target.
#[derive(Debug, Default)]
pub struct TargetLedger {
    /// Serials that it told, and when.
    pub served: BTreeMap<u64, Duration>,
    /// Serials that were seen in answers, and their timestamps.
    pub shown: BTreeMap<u64, i64>,
    /// What must be there: the serial by timestamp.
    pub owed: BTreeMap<i64, f64>,
}

/// Counters of what was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// Samples acknowledged.
    pub acknowledged: u64,
    /// Writes of unknown outcome, or refused.
    pub unacknowledged: u64,
    /// Answers to default queries.
    pub answers: u64,
    /// Queries that were not answered.
    pub unanswered: u64,
    /// Samples that were compared.
    pub compared: u64,
    /// Aggregations and functions that were judged.
    pub analysed: u64,
    /// Scrapes that targets answered.
    pub scrapes: u64,
}

/// All of it.
#[derive(Debug, Default)]
pub struct Ledger {
    /// Series of remote writers, by their label `s`.
    pub written: BTreeMap<String, SeriesLedger>,
    /// Targets by instance.
    pub targets: BTreeMap<String, TargetLedger>,
    /// What was done.
    pub work: Work,
    /// Violations that actors found.
    pub violations: Vec<Violation>,
    /// Bytes of all bodies that were written or told to a scraper, uncompressed, each counted once.
    pub offered_bytes: u64,
    /// Configuration versions that were accepted, with their text.
    pub accepted: BTreeSet<String>,
}

/// Samples of an answer: timestamps in milliseconds and values.
pub type Shown = Vec<(i64, f64)>;

impl Ledger {
    /// Notes a violation.
    pub fn violate(&mut self, invariant: &'static str, text: String) {
        if self.violations.len() < 10 {
            self.violations.push(Violation { invariant, text });
        }
    }
}
