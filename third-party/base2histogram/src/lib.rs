//! In the place of the crate of this name, which openraft uses for statistics that only its feature `runtime-stats`
//! lets anybody see; we do not have that feature. The original makes tables for sixteen resolutions at its first use,
//! 27 MB that stay resident, of which openraft needs 2 KB. This one counts what is recorded and forgets the values.
//!
//! It has what openraft calls and nothing else. To be removed once the original makes its tables when they are needed
//! (0.2.3 does not), or if `runtime-stats` is ever switched on.

use std::{fmt, marker::PhantomData};

/// Counts samples.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Histogram<T = ()> {
    samples: u64,
    kind: PhantomData<T>,
}

impl<T> Histogram<T> {
    /// Without samples.
    #[must_use]
    pub fn new() -> Histogram<T> {
        Histogram { samples: 0, kind: PhantomData }
    }

    /// Counts a sample, whatever its value.
    pub fn record(&mut self, _value: u64) {
        self.record_n(0, 1);
    }

    /// Counts `count` samples, whatever their value.
    pub fn record_n(&mut self, _value: u64, count: u64) {
        self.samples = self.samples.saturating_add(count);
    }

    /// How many samples were recorded.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.samples
    }

    /// The count; percentiles are 0.
    #[must_use]
    pub fn percentile_stats(&self) -> PercentileStats {
        PercentileStats { samples: self.samples, ..PercentileStats::default() }
    }
}

/// What openraft would show of a histogram.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PercentileStats {
    /// How many samples were recorded.
    pub samples: u64,
    /// Not known: 0.
    pub p0_1: u64,
    /// Not known: 0.
    pub p1: u64,
    /// Not known: 0.
    pub p5: u64,
    /// Not known: 0.
    pub p10: u64,
    /// Not known: 0.
    pub p50: u64,
    /// Not known: 0.
    pub p90: u64,
    /// Not known: 0.
    pub p99: u64,
    /// Not known: 0.
    pub p99_9: u64,
}

impl fmt::Display for PercentileStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[samples: {}]", self.samples)
    }
}

/// A chart without lines.
#[derive(Clone, Debug, Default)]
pub struct AsciiChart;

impl AsciiChart {
    /// An empty one.
    #[must_use]
    pub fn new() -> AsciiChart {
        AsciiChart
    }

    /// Leaves the chart as it is.
    #[must_use]
    pub fn add(self, _name: &str, _histogram: Histogram) -> AsciiChart {
        self
    }
}

impl fmt::Display for AsciiChart {
    fn fmt(&self, _f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Ok(())
    }
}
