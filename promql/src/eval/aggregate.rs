//! Aggregations that need one pass: `sum`, `avg`, `min`, `max`, `count`, `group`, `stddev`, `stdvar`.
//!
//! Each series is sent to its group once; a group is a row of slots, one per step. Nothing is hashed per step.

use super::{
    Evaluator, Grid,
    meter::Held,
    plan::Aggregate,
    track::{Cell, Matrix, Out, Track, is_float},
};
use crate::annotations::{Operation, Position};
use crate::ast::AggregateOp;
use crate::engine::EvalError;
use crate::histogram::Sparse;
use crate::kahan::{Kahan, Mean, add_all};
use model::{CounterResetHint, HistogramView, Labels, METRIC_NAME};
use std::{collections::HashMap, sync::Arc};

/// The labels of the group that a series belongs to.
pub(crate) fn group_labels(labels: &Labels, grouping: &[String], without: bool) -> Labels {
    let listed = |name: &str| grouping.iter().any(|l| l == name);
    if without {
        labels.retain(|name| name != METRIC_NAME && !listed(name))
    } else if grouping.is_empty() {
        Labels::empty()
    } else {
        labels.retain(listed)
    }
}

/// Numbers groups in the order in which their first series come.
#[derive(Default)]
pub(crate) struct Groups {
    by_labels: HashMap<Labels, usize>,
    pub(crate) labels: Vec<Labels>,
}

impl Groups {
    pub(crate) fn index(&mut self, labels: Labels) -> usize {
        if let Some(index) = self.by_labels.get(&labels) {
            return *index;
        }
        self.by_labels.insert(labels.clone(), self.labels.len());
        self.labels.push(labels);
        self.labels.len() - 1
    }
}

/// Mean and squared distance from it (Welford).
#[derive(Clone, Copy, Default)]
struct Spread {
    count: f64,
    mean: f64,
    squares: f64,
}

impl Spread {
    fn new(first: f64) -> Spread {
        Spread { count: 1.0, mean: first, squares: if first.is_finite() { 0.0 } else { f64::NAN } }
    }

    fn add(&mut self, value: f64) {
        self.count += 1.0;
        let delta = value - self.mean;
        self.mean += delta / self.count;
        self.squares += delta * (value - self.mean);
    }
}

/// Histograms of one group at one step.
struct HistogramSlot {
    sum: Sparse<Kahan>,
    /// Only for `avg`, once the sum would overflow.
    mean: Option<Sparse<Kahan>>,
    reset: bool,
    not_reset: bool,
    mismatch: bool,
    /// A float came first: the step has no result, and Prometheus does not look at its histograms.
    behind_float: bool,
}

impl HistogramSlot {
    /// Bytes that it takes in memory.
    fn bytes(&self) -> u64 {
        let mean = self.mean.as_ref().map_or(0, Sparse::buckets);
        let buckets = (self.sum.buckets() + mean) * size_of::<(i32, Kahan)>();
        (size_of::<HistogramSlot>() + buckets) as u64
    }
}

/// Compensated sums, side by side. The empty one is -0, which leaves the first value as it is.
struct Sums {
    sum: Vec<f64>,
    lost: Vec<f64>,
}

/// What the floats of a group become.
enum Slots {
    Sum(Sums),
    Avg(Vec<Mean>),
    Plain(Vec<f64>),
    Spread(Vec<Spread>),
}

/// One group.
struct Group {
    drop_name: bool,
    slots: Slots,
    /// Samples of each step, floats or not.
    counts: Vec<u32>,
    /// Whether there was a float at the step; only kept apart from `counts` where histograms are aggregated too.
    has_float: Vec<bool>,
    histograms: Vec<Option<Box<HistogramSlot>>>,
}

impl Group {
    fn new(op: AggregateOp, steps: usize) -> Group {
        let slots = match op {
            AggregateOp::Sum => Slots::Sum(Sums { sum: vec![-0.0; steps], lost: vec![0.0; steps] }),
            AggregateOp::Avg => Slots::Avg(vec![Mean::new(0.0); steps]),
            AggregateOp::Stddev | AggregateOp::Stdvar => Slots::Spread(vec![Spread::default(); steps]),
            _ => Slots::Plain(vec![0.0; steps]),
        };
        Group {
            drop_name: false,
            slots,
            counts: vec![0; steps],
            has_float: vec![false; steps],
            histograms: Vec::new(),
        }
    }

    /// Adds a series of floats, [`super::track::ABSENT`] and [`super::track::HISTOGRAM`] left out.
    fn add_floats(&mut self, op: AggregateOp, floats: &[f64]) {
        if self.histograms.iter().flatten().any(|slot| slot.mismatch) {
            // A step that is given up takes no more floats either.
            for (step, value) in floats.iter().enumerate() {
                let given_up = self.histograms.get(step).and_then(Option::as_ref);
                if is_float(*value) && !given_up.is_some_and(|slot| slot.mismatch) {
                    self.add_run(op, step, std::slice::from_ref(value));
                }
            }
            return;
        }
        // Most series have a value at every step, or a few gaps: what lies between gaps needs no look at each value.
        let mut start = 0;
        while start < floats.len() {
            let run = floats[start..].iter().take_while(|value| is_float(**value)).count();
            self.add_run(op, start, &floats[start..start + run]);
            start += run;
            start += floats[start..].iter().take_while(|value| !is_float(**value)).count();
        }
    }

    /// Adds a float to each step from `start` on.
    fn add_run(&mut self, op: AggregateOp, start: usize, run: &[f64]) {
        let steps = start..start + run.len();
        let has_float = &mut self.has_float[steps.clone()];
        match &mut self.slots {
            Slots::Sum(sums) => add_all(&mut sums.sum[steps.clone()], &mut sums.lost[steps.clone()], run),
            Slots::Avg(means) => {
                for ((mean, had), value) in means[steps.clone()].iter_mut().zip(&*has_float).zip(run) {
                    if *had { mean.add(*value) } else { *mean = Mean::new(*value) }
                }
            }
            Slots::Spread(spreads) => {
                for ((spread, had), value) in spreads[steps.clone()].iter_mut().zip(&*has_float).zip(run) {
                    if *had { spread.add(*value) } else { *spread = Spread::new(*value) }
                }
            }
            Slots::Plain(values) => {
                let slots = values[steps.clone()].iter_mut().zip(&*has_float).zip(run);
                match op {
                    AggregateOp::Max => slots.for_each(|((now, had), value)| {
                        let replaces = !had || *now < *value || now.is_nan();
                        *now = if replaces { *value } else { *now };
                    }),
                    AggregateOp::Min => slots.for_each(|((now, had), value)| {
                        let replaces = !had || *now > *value || now.is_nan();
                        *now = if replaces { *value } else { *now };
                    }),
                    _ => {}
                }
            }
        }
        has_float.fill(true);
        self.counts[steps].iter_mut().for_each(|count| *count += 1);
    }
}

impl<'a> Evaluator<'a> {
    /// Any aggregation.
    pub(crate) fn aggregate(&self, aggregate: &Aggregate, grid: &Grid) -> Result<Matrix<'a>, EvalError> {
        match aggregate.op {
            AggregateOp::CountValues => self.count_values(aggregate, grid),
            AggregateOp::Quantile => self.quantile_aggregate(aggregate, grid),
            AggregateOp::Topk | AggregateOp::Bottomk | AggregateOp::Limitk | AggregateOp::LimitRatio => {
                self.pick(aggregate, grid)
            }
            _ => self.fold(aggregate, grid),
        }
    }

    fn fold(&self, aggregate: &Aggregate, grid: &Grid) -> Result<Matrix<'a>, EvalError> {
        let op = aggregate.op;
        let at = aggregate.inner.at;
        let mut numbers = Groups::default();
        let mut groups: Vec<Group> = Vec::new();
        // What came in counts as held until the groups are done, as if it had been kept.
        let mut input = Matrix::new(self.meter);
        let mut output = Matrix::new(self.meter);
        self.stream(&aggregate.inner, grid, &mut |track| {
            input.held.hold(track.points())?;
            let labels = group_labels(&track.labels, &aggregate.grouping, aggregate.without);
            let index = numbers.index(labels);
            if index == groups.len() {
                output.held.take(grid.steps as u64 * 40 + 256)?;
                groups.push(Group::new(op, grid.steps));
            }
            let group = &mut groups[index];
            group.drop_name |= track.drop_name;
            if track.histograms.is_empty() {
                group.add_floats(op, &track.floats);
            } else {
                self.add_mixed(op, at, group, &track, &mut output.held)?;
            }
            Ok(())
        })?;
        for (labels, group) in numbers.labels.into_iter().zip(groups) {
            let mut track = self.finish(op, at, labels, &group, grid.steps);
            track.drop_name = group.drop_name;
            output.push_if_any(track)?;
        }
        drop(input);
        Ok(output)
    }

    /// A series with histograms in it.
    fn add_mixed(
        &self,
        op: AggregateOp,
        at: Position,
        group: &mut Group,
        track: &Track,
        held: &mut Held<'_>,
    ) -> Result<(), EvalError> {
        match op {
            AggregateOp::Sum | AggregateOp::Avg => {
                group.add_floats(op, &track.floats);
                if group.histograms.is_empty() {
                    held.take(track.floats.len() as u64 * 8)?;
                }
                group.histograms.resize_with(track.floats.len(), || None);
                for step in 0..track.floats.len() {
                    if let Cell::Histogram(histogram) = track.get(step) {
                        let count = group.counts[step];
                        let slot = &mut group.histograms[step];
                        if slot.as_ref().is_some_and(|slot| slot.mismatch) {
                            continue;
                        }
                        group.counts[step] += 1;
                        let name = track.labels.metric_name();
                        let before = slot.as_ref().map_or(0, |slot| slot.bytes());
                        self.add_histogram(op, at, slot, histogram.view(), f64::from(count + 1), name);
                        let now = slot.as_ref().map_or(0, |slot| slot.bytes());
                        held.take(now.saturating_sub(before))?;
                    }
                }
            }
            AggregateOp::Count | AggregateOp::Group => {
                for step in 0..track.floats.len() {
                    if !matches!(track.get(step), Cell::Absent) {
                        group.counts[step] += 1;
                        group.has_float[step] = true;
                    }
                }
            }
            _ => {
                group.add_floats(op, &track.floats);
                let has_histogram =
                    (0..track.floats.len()).any(|s| matches!(track.get(s), Cell::Histogram(_)));
                if has_histogram {
                    self.note(|notes| notes.ignored_in_aggregation(op.as_str(), at));
                }
            }
        }
        Ok(())
    }

    fn add_histogram(
        &self,
        op: AggregateOp,
        at: Position,
        slot: &mut Option<Box<HistogramSlot>>,
        histogram: HistogramView<'_>,
        count: f64,
        name: &str,
    ) {
        let (reset, not_reset) = match histogram.counter_reset_hint {
            CounterResetHint::Reset => (true, false),
            CounterResetHint::NotReset => (false, true),
            _ => (false, false),
        };
        let Some(slot) = slot else {
            let sum = Sparse::new(histogram);
            let (mean, mismatch, behind_float) = (None, false, count > 1.0);
            *slot = Some(Box::new(HistogramSlot { sum, mean, reset, not_reset, mismatch, behind_float }));
            return;
        };
        if slot.behind_float {
            return;
        }
        slot.reset |= reset;
        slot.not_reset |= not_reset;
        let combined = if op == AggregateOp::Avg {
            average_in(&mut slot.sum, &mut slot.mean, histogram, count)
        } else {
            slot.sum.add(histogram).map(|combined| combined.bounds_reconciled)
        };
        match combined {
            Ok(true) => self.note(|notes| notes.bounds_reconciled(Operation::Aggregation, at)),
            Ok(false) => {}
            Err(_) => {
                slot.mismatch = true;
                self.note(|notes| notes.mixed_exponential_custom(name, at));
            }
        }
    }

    fn finish(&self, op: AggregateOp, at: Position, labels: Labels, group: &Group, steps: usize) -> Track {
        let mut track = Track::empty(labels, steps);
        for step in 0..steps {
            if group.counts[step] == 0 {
                continue;
            }
            if let Some(Some(slot)) = group.histograms.get(step) {
                if group.has_float[step] {
                    self.note(|notes| notes.mixed_floats_histograms_in_aggregation(at));
                    continue;
                }
                if slot.mismatch {
                    continue;
                }
                if slot.reset && slot.not_reset {
                    self.note(|notes| notes.reset_collision(Operation::Aggregation, at));
                }
                let count = f64::from(group.counts[step]);
                let total = match (&slot.mean, op) {
                    (Some(mean), _) => mean.finish(),
                    (None, AggregateOp::Avg) => {
                        let mut sum = slot.sum.clone();
                        sum.map(|amount| amount / count);
                        sum.finish()
                    }
                    (None, _) => slot.sum.finish(),
                };
                track.set(step, Out::Histogram(Arc::new(total)));
                continue;
            }
            let count = f64::from(group.counts[step]);
            track.floats[step] = match (&group.slots, op) {
                (Slots::Sum(sums), _) => sums.sum[step] + sums.lost[step],
                (Slots::Avg(means), _) => means[step].total(),
                (Slots::Spread(spreads), AggregateOp::Stdvar) => spreads[step].squares / count,
                (Slots::Spread(spreads), _) => (spreads[step].squares / count).sqrt(),
                (Slots::Plain(_), AggregateOp::Count) => count,
                (Slots::Plain(_), AggregateOp::Group) => 1.0,
                (Slots::Plain(values), _) => values[step],
            };
        }
        track
    }
}

/// Takes one more histogram into an average of `count`, this one included. While it can, it sums up; what would
/// overflow becomes an incremental mean. Says whether bounds were reconciled.
pub(crate) fn average_in(
    sum: &mut Sparse<Kahan>,
    mean: &mut Option<Sparse<Kahan>>,
    histogram: HistogramView<'_>,
    count: f64,
) -> Result<bool, crate::histogram::Mismatch> {
    if mean.is_none() {
        let mut next = sum.clone();
        let combined = next.add(histogram)?;
        if !next.has_overflow() {
            *sum = next;
            return Ok(combined.bounds_reconciled);
        }
        let mut start = sum.clone();
        start.map(|amount| amount / (count - 1.0));
        *mean = Some(start);
    }
    let Some(mean) = mean else { return Ok(false) };
    let keep = (count - 1.0) / count;
    mean.map(|amount| amount * keep);
    Ok(mean.add(crate::histogram::divided(histogram, count).view())?.bounds_reconciled)
}
