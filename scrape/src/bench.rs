//! A door for benches and fuzzing: bodies in, counts out, no network.

use crate::config::ScrapeConfig;
use crate::exposition::BodyFormat;
use crate::series::{Body, SeriesCache};
use crate::target::{TargetGroup, TargetSet};
use model::TimestampMs;
use std::sync::Arc;

/// The memory of one target, fed by hand.
#[derive(Debug)]
pub struct SteadyTarget {
    cache: SeriesCache,
    body: Vec<u8>,
}

impl Default for SteadyTarget {
    fn default() -> Self {
        SteadyTarget::new()
    }
}

impl SteadyTarget {
    /// A target with native histograms that was never scraped.
    #[must_use]
    pub fn new() -> SteadyTarget {
        let config = ScrapeConfig { scrape_native_histograms: true, ..ScrapeConfig::new("bench") };
        let mut set = TargetSet::build(&Arc::new(config), &[TargetGroup::of_addresses("0", ["a:1"])]);
        let target = set.active.pop().expect("one address is one target");
        SteadyTarget { cache: SeriesCache::new(target, 1_000_000), body: Vec::new() }
    }

    /// Reads a body in the text format; yields the samples of its whole row, none if it is malformed.
    pub fn scrape(&mut self, body: &[u8]) -> usize {
        self.scrape_as(body, BodyFormat::PrometheusText)
    }

    /// The same in any format.
    pub fn scrape_as(&mut self, body: &[u8], format: BodyFormat) -> usize {
        self.body.clear();
        self.body.extend_from_slice(body);
        self.cache.settle();
        let timestamp = TimestampMs(1_700_000_000_000);
        self.cache.ingest(Body { bytes: &mut self.body, format, timestamp }).cells.len()
    }
}
