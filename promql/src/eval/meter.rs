//! What an evaluation holds: samples against the engine's limit, bytes against the query's budget.

use crate::engine::EvalError;
use model::Budget;
use std::cell::Cell;

/// Counts what one query holds.
pub(crate) struct Meter<'a> {
    budget: &'a Budget,
    samples_max: u64,
    samples: Cell<u64>,
    samples_peak: Cell<u64>,
    read: Cell<u64>,
}

impl<'a> Meter<'a> {
    pub(crate) fn new(budget: &'a Budget, samples_max: u64) -> Meter<'a> {
        let zero = || Cell::new(0);
        Meter { budget, samples_max, samples: zero(), samples_peak: zero(), read: zero() }
    }

    /// Counts samples that were read from storage, over all steps.
    pub(crate) fn count_read(&self, samples: u64) {
        self.read.set(self.read.get().saturating_add(samples));
    }

    pub(crate) fn read(&self) -> u64 {
        self.read.get()
    }

    pub(crate) fn samples_peak(&self) -> u64 {
        self.samples_peak.get()
    }

    /// Fails if so many samples more would be too many.
    pub(crate) fn would_hold(&self, samples: u64) -> Result<(), EvalError> {
        let now = self.samples.get().saturating_add(samples);
        if now > self.samples_max {
            return Err(EvalError::TooManySamples);
        }
        self.samples_peak.set(self.samples_peak.get().max(now));
        Ok(())
    }
}

/// A share of the limits; given back when dropped.
pub(crate) struct Held<'a> {
    meter: &'a Meter<'a>,
    samples: u64,
    bytes: u64,
}

impl<'a> Held<'a> {
    pub(crate) fn new(meter: &'a Meter<'a>) -> Held<'a> {
        Held { meter, samples: 0, bytes: 0 }
    }

    /// Takes samples.
    pub(crate) fn hold(&mut self, samples: u64) -> Result<(), EvalError> {
        self.meter.would_hold(samples)?;
        self.meter.samples.set(self.meter.samples.get() + samples);
        self.samples += samples;
        Ok(())
    }

    /// Takes bytes, before they are spent.
    pub(crate) fn take(&mut self, bytes: u64) -> Result<(), EvalError> {
        self.meter.budget.take(bytes)?;
        self.bytes += bytes;
        Ok(())
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.meter.samples.set(self.meter.samples.get() - self.samples);
        self.meter.budget.give(self.bytes);
    }
}
