//! What the world knows of the data: what was offered, what was promised, what was shown.
//!
//! A sample is *offered* from before it is sent, *owed* from the moment at which a write was acknowledged or an answer
//! showed it. What is owed must be in every later default answer; what is shown must have been offered, with the same
//! value, once.

use crate::violation::Violation;
use std::{collections::BTreeMap, time::Duration};

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

/// What somebody offered as configuration.
#[derive(Clone, Debug)]
pub struct Offer {
    /// The text.
    pub text: String,
    /// When it was sent.
    pub asked: Duration,
    /// The status of its answer, and when that came; without one nobody knows.
    pub answered: Option<(u16, Duration)>,
}

/// What may go wrong in this world, as far as it excuses an answer.
#[derive(Clone, Copy, Debug, Default)]
pub struct Excuses {
    /// Disks fail.
    pub disks: bool,
    /// Clocks are wrong.
    pub clocks: bool,
}

/// All of it.
#[derive(Debug, Default)]
pub struct Ledger {
    /// What excuses an answer here.
    pub excuses: Excuses,
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
    /// Configurations that were offered, but for broken ones.
    pub offers: Vec<Offer>,
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
