//! Evaluation: a plan over a grid of steps, series by series.
//!
//! Every selected series is decoded once and turned into a [`Track`], one cell per step, before the next is touched;
//! aggregations take tracks as they come and keep only their groups. The order of floating-point additions is the
//! order of series in storage, so equal views give equal bytes.

pub(crate) mod aggregate;
pub(crate) mod binary;
pub(crate) mod call;
pub(crate) mod classic;
pub(crate) mod dates;
pub(crate) mod explain;
pub(crate) mod extended;
pub(crate) mod floats;
pub(crate) mod frames;
mod heap;
mod histogram_rates;
pub(crate) mod info;
pub(crate) mod labelling;
pub(crate) mod lists;
pub(crate) mod meter;
pub(crate) mod order;
pub(crate) mod pick;
pub(crate) mod plan;
pub(crate) mod rate;
pub(crate) mod scalar;
pub(crate) mod select;
pub(crate) mod series;
pub(crate) mod sliding;
pub(crate) mod track;
pub(crate) mod window;
pub(crate) mod window_func;

use crate::annotations::Annotations;
use crate::ast::ValueType;
use crate::engine::EvalError;
use crate::engine::Features;
use meter::Meter;
use model::{Budget, Labels, METRIC_NAME, MatchOp, Queryable};
use plan::{Kind, Node};
use std::{
    cell::RefCell,
    collections::{HashMap, HashSet},
};
use track::{Matrix, Track};

/// The steps of an evaluation: `start`, `start + interval`, ..., `steps` of them, up to `until` at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Grid {
    /// First step, milliseconds.
    pub(crate) start: i64,
    /// Distance of steps, milliseconds, positive.
    pub(crate) interval: i64,
    /// Number of steps.
    pub(crate) steps: usize,
    /// The end that was asked for, milliseconds. There need not be a step.
    until: i64,
}

impl Grid {
    /// The single step at `time`.
    pub(crate) fn instant(time: i64) -> Grid {
        Grid { start: time, interval: 1, steps: 1, until: time }
    }

    /// The steps from `start` to `end`, none if `end` lies before.
    pub(crate) fn range(start: i64, end: i64, interval: i64) -> Grid {
        let interval = interval.max(1);
        let span = end.checked_sub(start).unwrap_or(i64::MAX);
        let steps = if span < 0 { 0 } else { (span / interval) as usize + 1 };
        Grid { start, interval, steps, until: end }
    }

    /// Time of a step.
    #[inline]
    pub(crate) fn time(&self, step: usize) -> i64 {
        self.start.saturating_add((step as i64).saturating_mul(self.interval))
    }

    /// Time of the last step.
    pub(crate) fn end(&self) -> i64 {
        self.time(self.steps.saturating_sub(1))
    }

    /// Whether it is one point in time, as in an instant query. A range with room for one step only is none: to
    /// Prometheus it is a range query like any other.
    pub(crate) fn is_instant(&self) -> bool {
        self.start == self.until
    }
}

/// Takes tracks one by one.
pub(crate) type Sink<'s> = &'s mut dyn FnMut(Track) -> Result<(), EvalError>;

/// What one query evaluates with.
pub(crate) struct Evaluator<'a> {
    pub(crate) queryable: &'a dyn Queryable,
    pub(crate) budget: &'a Budget,
    pub(crate) meter: &'a Meter<'a>,
    pub(crate) features: Features,
    /// Milliseconds.
    pub(crate) lookback: i64,
    /// Milliseconds.
    pub(crate) subquery_interval: i64,
    pub(crate) notes: RefCell<Annotations>,
}

/// Labels without those that a changed value no longer deserves: name, type and unit.
pub(crate) fn without_metadata(labels: &Labels) -> Labels {
    let is_metadata = |name: &str| matches!(name, model::METRIC_NAME | "__type__" | "__unit__");
    if labels.iter().any(|(name, _)| is_metadata(name)) {
        labels.retain(|name| !is_metadata(name))
    } else {
        labels.clone()
    }
}

impl<'a> Evaluator<'a> {
    /// Adds annotations.
    pub(crate) fn note(&self, add: impl FnOnce(&mut Annotations)) {
        add(&mut self.notes.borrow_mut());
    }

    /// Fails if not even one series of so many steps fits into memory.
    pub(crate) fn check_grid(&self, grid: &Grid) -> Result<(), EvalError> {
        let bytes = (grid.steps as u64).saturating_mul(16);
        self.budget.take(bytes)?;
        self.budget.give(bytes);
        Ok(())
    }

    /// Fails if the query was cancelled or its time is over.
    pub(crate) fn check(&self) -> Result<(), EvalError> {
        self.budget.check().map_err(EvalError::from)
    }

    /// Marks a track's value as changed: its name goes now, or at the end.
    pub(crate) fn drop_name(&self, track: &mut Track) {
        if !self.features.delayed_name_removal {
            track.labels = without_metadata(&track.labels);
        }
        track.drop_name = true;
    }

    /// All series of a vector expression.
    pub(crate) fn vector(&self, node: &Node, grid: &Grid) -> Result<Matrix<'a>, EvalError> {
        match &node.kind {
            Kind::Binary(binary) if binary.is_between_vectors() => self.vector_binary(node, binary, grid),
            Kind::Aggregate(aggregate) => self.aggregate(aggregate, grid),
            Kind::Plus(inner) => self.vector(inner, grid),
            Kind::Call(call) => match self.whole_call(node, call, grid)? {
                Some(matrix) => Ok(matrix),
                None => self.collect(node, grid),
            },
            Kind::Invariant(inner) => {
                let first = Grid::instant(grid.start);
                let mut matrix = self.meter.for_all_steps(grid.steps, || self.vector(inner, &first))?;
                for track in &mut matrix.tracks {
                    matrix.held.hold(track.points() * (grid.steps as u64).saturating_sub(1))?;
                    track.spread(grid.steps);
                }
                Ok(matrix)
            }
            _ => self.collect(node, grid),
        }
    }

    fn collect(&self, node: &Node, grid: &Grid) -> Result<Matrix<'a>, EvalError> {
        let mut matrix = Matrix::new(self.meter);
        self.stream_parts(node, grid, &mut |track| matrix.push(track))?;
        if self.features.delayed_name_removal || !drops_name(node) || !has_duplicates(&matrix.tracks) {
            return Ok(matrix);
        }
        if matches!(node.kind, Kind::Negate(_)) {
            self.merged(matrix, grid)
        } else {
            self.unique(matrix, grid)
        }
    }

    /// Hands the series of a vector expression to `sink`, in order.
    pub(crate) fn stream(&self, node: &Node, grid: &Grid, sink: Sink<'_>) -> Result<(), EvalError> {
        if grid.steps == 0 {
            return Ok(());
        }
        // Whether labels repeat is known only when all series are there.
        if !self.features.delayed_name_removal && streams_without_name(node) && may_repeat(node) {
            return self.collect(node, grid)?.tracks.into_iter().try_for_each(sink);
        }
        self.stream_parts(node, grid, sink)
    }

    /// The same, without a look at repeated labels.
    fn stream_parts(&self, node: &Node, grid: &Grid, sink: Sink<'_>) -> Result<(), EvalError> {
        match &node.kind {
            Kind::Selector(selector) => self.stream_selector(node, selector, grid, sink),
            Kind::Plus(inner) => self.stream(inner, grid, sink),
            Kind::Negate(inner) => self.stream(inner, grid, &mut |mut track| {
                self.drop_name(&mut track);
                track.map(|value| -value);
                track.map_histograms(|h| Some(crate::histogram::multiplied(h, -1.0)));
                sink(track)
            }),
            Kind::Binary(binary) if !binary.is_between_vectors() => {
                self.stream_scalar_binary(node, binary, grid, sink)
            }
            Kind::Call(call) if call.streams() => self.stream_call(call, grid, sink),
            _ => {
                let matrix = self.vector(node, grid)?;
                matrix.tracks.into_iter().try_for_each(sink)
            }
        }
    }

    /// The tracks of equal labels joined; an error where two of them have a value at one step.
    pub(crate) fn merged(&self, matrix: Matrix<'a>, grid: &Grid) -> Result<Matrix<'a>, EvalError> {
        let Matrix { tracks, held } = matrix;
        let mut by_labels: HashMap<Labels, usize> = HashMap::with_capacity(tracks.len());
        let mut joined: Vec<Track> = Vec::with_capacity(tracks.len());
        for track in tracks {
            match by_labels.get(&track.labels) {
                Some(index) => {
                    joined[*index].join(track, grid.steps).map_err(|()| EvalError::same_labels())?
                }
                None => {
                    by_labels.insert(track.labels.clone(), joined.len());
                    joined.push(track);
                }
            }
        }
        Ok(Matrix { tracks: joined, held })
    }

    /// What an operation makes of outputs with equal labels: in a range query they are joined, and two values at
    /// one step are an error; in an instant query they are an error unless names are dropped at the end.
    pub(crate) fn unique(&self, matrix: Matrix<'a>, grid: &Grid) -> Result<Matrix<'a>, EvalError> {
        if grid.is_instant() && self.features.delayed_name_removal {
            return Ok(matrix);
        }
        self.merged(matrix, grid)
    }

    /// The end of evaluation with delayed name removal.
    pub(crate) fn clean_up(&self, mut matrix: Matrix<'a>, grid: &Grid) -> Result<Matrix<'a>, EvalError> {
        if !self.features.delayed_name_removal {
            return Ok(matrix);
        }
        for track in matrix.tracks.iter_mut().filter(|track| track.drop_name) {
            track.labels = without_metadata(&track.labels);
        }
        self.merged(matrix, grid)
    }
}

/// Whether an expression may give several series equal labels by taking their names.
fn drops_name(node: &Node) -> bool {
    match &node.kind {
        Kind::Negate(_) | Kind::Call(_) => true,
        Kind::Binary(binary) => !binary.op.is_comparison() || binary.return_bool,
        _ => false,
    }
}

/// Whether an expression takes the names from series that it hands on one by one. Windows look for repeated labels
/// themselves.
fn streams_without_name(node: &Node) -> bool {
    let streams = match &node.kind {
        Kind::Negate(_) => true,
        Kind::Binary(binary) => !binary.is_between_vectors(),
        Kind::Call(call) => {
            call.streams() && !matches!(call.func, call::Func::Window(_) | call::Func::Vector)
        }
        _ => false,
    };
    streams && drops_name(node)
}

/// Whether labels may repeat when the names are taken: not where all series have one name.
fn may_repeat(node: &Node) -> bool {
    let named = |selector: &plan::Selector| {
        selector.matchers.iter().any(|m| m.name == METRIC_NAME && m.op == MatchOp::Equal)
    };
    match &node.kind {
        Kind::Selector(selector) => !named(selector),
        Kind::Negate(inner) | Kind::Plus(inner) | Kind::Invariant(inner) => may_repeat(inner),
        Kind::Binary(binary) if !binary.is_between_vectors() => [&binary.left, &binary.right]
            .into_iter()
            .any(|side| side.value_type == ValueType::Vector && may_repeat(side)),
        Kind::Call(call) => match (call.func, call.args.first().map(|arg| &arg.kind)) {
            (_, None) | (call::Func::Vector, _) => false,
            (call::Func::Window(_), Some(Kind::Range(range))) => !named(&range.selector),
            (func, Some(_)) if !matches!(func, call::Func::Window(_)) && call.streams() => {
                may_repeat(&call.args[0])
            }
            _ => true,
        },
        _ => true,
    }
}

fn has_duplicates(tracks: &[Track]) -> bool {
    let mut seen = HashSet::with_capacity(tracks.len());
    !tracks.iter().all(|track| seen.insert(&track.labels))
}

/// Sees whether label sets repeat.
#[derive(Default)]
pub(crate) struct Unique {
    seen: HashSet<Labels>,
    duplicate: bool,
}

impl Unique {
    pub(crate) fn see(&mut self, track: &Track) {
        if !self.duplicate && !self.seen.insert(track.labels.clone()) {
            self.duplicate = true;
        }
    }

    pub(crate) fn has_duplicate(&self) -> bool {
        self.duplicate
    }
}
