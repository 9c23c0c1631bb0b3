//! What an evaluation holds: samples against the engine's limit, bytes against the query's budget.

use super::{frames::Span, track::is_present};
use crate::engine::EvalError;
use model::Budget;
use std::cell::{Cell, RefCell};

/// Counts what one query holds.
pub(crate) struct Meter<'a> {
    budget: &'a Budget,
    samples_max: u64,
    samples: Cell<u64>,
    samples_peak: Cell<u64>,
    read: Cell<u64>,
    /// Samples looked at by each step of the query; empty if nobody asks.
    read_by_step: RefCell<Vec<u64>>,
    /// How deep in subqueries the evaluation is: what they read counts where their windows are looked at.
    muted: Cell<u32>,
}

impl<'a> Meter<'a> {
    pub(crate) fn new(budget: &'a Budget, samples_max: u64) -> Meter<'a> {
        Meter {
            budget,
            samples_max,
            samples: Cell::new(0),
            samples_peak: Cell::new(0),
            read: Cell::new(0),
            read_by_step: RefCell::new(Vec::new()),
            muted: Cell::new(0),
        }
    }

    /// One for a thread that works for this query, on what this one does not see: see [`Meter::take_in`].
    pub(crate) fn apart(budget: &'a Budget, like: Likeness) -> Meter<'a> {
        let meter = Meter::new(budget, u64::MAX);
        meter.count_by_step(like.steps);
        meter.muted.set(like.muted);
        meter
    }

    /// What one that stands apart has to know.
    pub(crate) fn likeness(&self) -> Likeness {
        Likeness { steps: self.read_by_step.borrow().len(), muted: self.muted.get() }
    }

    /// The most samples held at once since the last call.
    pub(crate) fn take_peak(&self) -> u64 {
        self.samples_peak.replace(0)
    }

    /// Counts what another has counted.
    pub(crate) fn take_in(&self, read: u64, by_step: &[u64]) {
        self.read.set(self.read.get() + read);
        let mut all = self.read_by_step.borrow_mut();
        all.iter_mut().zip(by_step).for_each(|(count, more)| *count += more);
    }

    /// Asks for figures of each of so many steps.
    pub(crate) fn count_by_step(&self, steps: usize) {
        *self.read_by_step.borrow_mut() = vec![0; steps];
    }

    /// Counts samples that a step looked at.
    #[inline]
    pub(crate) fn count_read(&self, step: usize, samples: u64) {
        if self.muted.get() > 0 {
            return;
        }
        self.read.set(self.read.get() + samples);
        if let Some(count) = self.read_by_step.borrow_mut().get_mut(step) {
            *count += samples;
        }
    }

    /// Counts what the windows of all steps, `samples` together, looked at.
    pub(crate) fn count_spans(&self, spans: &[Span], samples: u64) {
        if self.muted.get() > 0 {
            return;
        }
        self.read.set(self.read.get() + samples);
        for (count, span) in self.read_by_step.borrow_mut().iter_mut().zip(spans) {
            *count += span.len() as u64;
        }
    }

    /// Counts one sample for each step that has a value.
    pub(crate) fn count_present(&self, floats: &[f64], samples: u64) {
        if self.muted.get() > 0 {
            return;
        }
        self.read.set(self.read.get() + samples);
        for (count, value) in self.read_by_step.borrow_mut().iter_mut().zip(floats) {
            *count += u64::from(is_present(*value));
        }
    }

    /// Runs what counts elsewhere.
    pub(crate) fn muted<T>(&self, run: impl FnOnce() -> T) -> T {
        self.muted.set(self.muted.get() + 1);
        let result = run();
        self.muted.set(self.muted.get() - 1);
        result
    }

    /// Runs what has steps of its own, all of which count at the first one.
    pub(crate) fn at_first_step<T>(&self, run: impl FnOnce() -> T) -> T {
        let before = self.read.get();
        let by_step = self.read_by_step.take();
        let result = run();
        let mut now = self.read_by_step.borrow_mut();
        *now = by_step;
        if let Some(first) = now.first_mut() {
            *first += self.read.get() - before;
        }
        result
    }

    /// Runs what is evaluated once for all steps: each counts its samples.
    pub(crate) fn for_all_steps<T>(&self, steps: usize, run: impl FnOnce() -> T) -> T {
        let before = self.read.get();
        let first_before = self.read_by_step.borrow().first().copied().unwrap_or(0);
        let result = run();
        let more = (self.read.get() - before).saturating_mul((steps as u64).saturating_sub(1));
        self.read.set(self.read.get().saturating_add(more));
        let mut by_step = self.read_by_step.borrow_mut();
        let each = by_step.first().copied().unwrap_or(0) - first_before;
        by_step.iter_mut().skip(1).for_each(|count| *count += each);
        result
    }

    pub(crate) fn read_by_step(&self) -> Vec<u64> {
        self.read_by_step.borrow().clone()
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

/// See [`Meter::likeness`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Likeness {
    steps: usize,
    muted: u32,
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

    /// Gives bytes back that are spent no more; at most what is held.
    pub(crate) fn give(&mut self, bytes: u64) {
        let bytes = bytes.min(self.bytes);
        self.meter.budget.give(bytes);
        self.bytes -= bytes;
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.meter.samples.set(self.meter.samples.get() - self.samples);
        self.meter.budget.give(self.bytes);
    }
}
