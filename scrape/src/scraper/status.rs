//! What people see of a target.

use crate::target::Target;
use model::TimestampMs;
use std::sync::Arc;
use std::time::Duration;

/// Whether the last scrape of a target succeeded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Health {
    /// There was none yet.
    #[default]
    Unknown,
    /// It did.
    Up,
    /// It did not.
    Down,
}

impl Health {
    /// As the API writes it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Health::Unknown => "unknown",
            Health::Up => "up",
            Health::Down => "down",
        }
    }
}

/// A target and its last scrape, for `/api/v1/targets`.
#[derive(Clone, Debug)]
pub struct TargetStatus {
    /// The target.
    pub target: Arc<Target>,
    /// Whether its last scrape succeeded.
    pub health: Health,
    /// Why not; empty if it did.
    pub last_error: String,
    /// When its last scrape began.
    pub last_scrape: Option<TimestampMs>,
    /// How long it took.
    pub last_duration: Duration,
    /// The slot it was for.
    pub last_slot: Option<TimestampMs>,
    /// Samples in its body.
    pub samples_scraped: u64,
}

impl TargetStatus {
    pub(super) fn new(target: Arc<Target>) -> TargetStatus {
        TargetStatus {
            target,
            health: Health::Unknown,
            last_error: String::new(),
            last_scrape: None,
            last_duration: Duration::ZERO,
            last_slot: None,
            samples_scraped: 0,
        }
    }
}
