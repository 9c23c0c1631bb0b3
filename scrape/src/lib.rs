//! Scraping: targets, schedule, relabelling, exposition formats, discovery; yields rows.
//!
//! ```text
//!  config + groups ──▶ targets ──▶ schedule ──slot──▶ GET ──body──▶ exposition ──▶ series cache ──▶ Outcome (rows)
//! ```
//!
//! Deliberately absent: reading YAML of `prometheus.yml`, watching files, and committing anything; that is `node`'s.

pub mod bench;
pub mod config;
pub mod exposition;
mod fetch;
mod names;
pub mod relabel;
pub mod schedule;
mod scraper;
mod series;
pub mod target;
mod yaml;

#[cfg(test)]
mod corpus;
#[cfg(test)]
mod testing;

pub use config::ScrapeConfig;
pub use fetch::{BODY_ROOM_BYTES, BodyRoom, ScrapeError, SecretFiles};
pub use schedule::{Assignment, MissedReason, MissedSlots};
pub use scraper::{
    Health, Outcome, Scraper, ScraperOptions, ScraperOutput, ScraperPorts, TargetStatus, failed_row,
};
pub use series::{MetricMetadata, schema_of_bucket_factor};
pub use target::{Target, TargetGroup, TargetSet};
pub use yaml::yaml_options;

/// How many dropped targets of one configuration are remembered at most.
pub const DROPPED_TARGETS_MAX: usize = 10_000;
