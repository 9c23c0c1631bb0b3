//! Binary operators.
//!
//! Series of two vectors find each other by a signature computed once per series, not per step. Where each signature
//! has at most one series on the "one" side and results cannot collide, whole columns are combined; otherwise the
//! steps are gone through one by one, with the errors that this can have.

use super::{
    Evaluator, Grid, Sink,
    meter::Held,
    plan::{Binary, Node},
    track::{ABSENT, Cell, Matrix, Out, Track, is_float, is_present},
    without_metadata,
};
use crate::annotations::{Operation, Position};
use crate::ast::{BinaryOp, Cardinality, ValueType, VectorMatching};
use crate::engine::EvalError;
use crate::histogram::{self, Sparse};
use model::{CounterResetHint, FloatHistogram, HistogramView, Labels, METRIC_NAME};
use std::{
    cell::RefCell,
    collections::{HashMap, HashSet},
    sync::Arc,
};

/// An arithmetic operator on floats.
#[inline]
pub(crate) fn compute(op: BinaryOp, a: f64, b: f64) -> f64 {
    match op {
        BinaryOp::Add => a + b,
        BinaryOp::Sub => a - b,
        BinaryOp::Mul => a * b,
        BinaryOp::Div => a / b,
        BinaryOp::Mod => a % b,
        BinaryOp::Pow => a.powf(b),
        BinaryOp::Atan2 => a.atan2(b),
        _ => f64::NAN,
    }
}

/// A comparison of floats.
#[inline]
pub(crate) fn compare(op: BinaryOp, a: f64, b: f64) -> bool {
    match op {
        BinaryOp::Eql => a == b,
        BinaryOp::Neq => a != b,
        BinaryOp::Lss => a < b,
        BinaryOp::Lte => a <= b,
        BinaryOp::Gtr => a > b,
        BinaryOp::Gte => a >= b,
        _ => false,
    }
}

/// Whether the operator makes another metric of its operands.
fn changes_metric(op: BinaryOp) -> bool {
    use BinaryOp::{Add, Atan2, Div, Mod, Mul, Pow, Sub};
    matches!(op, Add | Sub | Mul | Div | Mod | Pow | Atan2)
}

/// What an operator makes of two values.
enum Combined {
    /// A value, and whether a filter keeps it.
    Value(Out, bool),
    /// The types do not go together, or a side is missing: no value.
    Incompatible,
}

/// What there is to say about one pair of values.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Remark {
    /// The types do not go together.
    Types(&'static str, &'static str),
    /// The schemas do not.
    Layout,
    /// The hints contradict each other.
    Collision(Operation),
    /// Custom bounds differ, and were made equal.
    Reconciled(Operation),
}

/// The remarks on an operator. Prometheus tells only the last of each step.
struct Remarks {
    steps: usize,
    last: Vec<Option<Remark>>,
}

impl Remarks {
    fn new(steps: usize) -> Remarks {
        Remarks { steps, last: Vec::new() }
    }

    fn put(&mut self, step: usize, remark: Option<Remark>) {
        if remark.is_some() {
            self.last.resize(self.steps, None);
            self.last[step] = remark;
        }
    }
}

/// An operator at its place in the text.
#[derive(Clone, Copy)]
struct Operator {
    op: BinaryOp,
    return_bool: bool,
    at: Position,
}

fn combine_histograms(
    op: BinaryOp,
    a: HistogramView<'_>,
    b: HistogramView<'_>,
) -> (Combined, Option<Remark>) {
    let mut sum = Sparse::<f64>::new(a);
    let adds = op == BinaryOp::Add;
    let operation = if adds { Operation::Addition } else { Operation::Subtraction };
    let Ok(combined) = (if adds { sum.add(b) } else { sum.subtract(b) }) else {
        return (Combined::Incompatible, Some(Remark::Layout));
    };
    // To Prometheus this is an error like the others: there is no value.
    if combined.reset_collision {
        return (Combined::Incompatible, Some(Remark::Collision(operation)));
    }
    if !adds {
        sum.hint = CounterResetHint::Gauge;
    }
    let remark = combined.bounds_reconciled.then_some(Remark::Reconciled(operation));
    (Combined::Value(Out::Histogram(Arc::new(sum.finish())), true), remark)
}

fn combine(op: BinaryOp, left: Cell<'_>, right: Cell<'_>) -> (Combined, Option<Remark>) {
    let value = |out, keep| (Combined::Value(out, keep), None);
    let (left, right) = match (left, right) {
        (Cell::Float(a), Cell::Float(b)) => {
            if changes_metric(op) {
                return value(Out::Float(compute(op, a, b)), true);
            }
            if op.is_comparison() {
                return value(Out::Float(a), compare(op, a, b));
            }
            ("float", "float")
        }
        (Cell::Float(a), Cell::Histogram(b)) => {
            if op == BinaryOp::Mul {
                return value(compact(&histogram::multiplied(b.view(), a)), true);
            }
            ("float", "histogram")
        }
        (Cell::Histogram(a), Cell::Float(b)) => {
            match op {
                BinaryOp::Mul => return value(compact(&histogram::multiplied(a.view(), b)), true),
                BinaryOp::Div => return value(compact(&histogram::divided(a.view(), b)), true),
                BinaryOp::TrimUpper | BinaryOp::TrimLower => {
                    let trimmed = histogram::trim(a.view(), b, op == BinaryOp::TrimUpper);
                    return value(Out::Histogram(Arc::new(trimmed)), true);
                }
                _ => {}
            }
            ("histogram", "float")
        }
        (Cell::Histogram(a), Cell::Histogram(b)) => {
            match op {
                BinaryOp::Add | BinaryOp::Sub => return combine_histograms(op, a.view(), b.view()),
                BinaryOp::Eql | BinaryOp::Neq => {
                    let keep = histogram::same(a.view(), b.view()) == (op == BinaryOp::Eql);
                    return value(Out::Histogram(a.to_shared()), keep);
                }
                _ => {}
            }
            ("histogram", "histogram")
        }
        (Cell::Absent, _) | (_, Cell::Absent) => return (Combined::Incompatible, None),
    };
    (Combined::Incompatible, Some(Remark::Types(left, right)))
}

impl<'a> Evaluator<'a> {
    fn tell(&self, operator: Operator, remarks: &Remarks) {
        let (op, at) = (operator.op.as_str(), operator.at);
        let mut before = None;
        for remark in remarks.last.iter().flatten() {
            if before.replace(*remark) == Some(*remark) {
                continue;
            }
            self.note(|notes| match remark {
                Remark::Types(left, right) => notes.incompatible_types(left, op, right, at),
                Remark::Layout => notes.incompatible_layout(op, at),
                Remark::Collision(operation) => notes.reset_collision(*operation, at),
                Remark::Reconciled(operation) => notes.bounds_reconciled(*operation, at),
            });
        }
    }

    /// A vector and a scalar.
    pub(crate) fn stream_scalar_binary(
        &self,
        node: &Node,
        binary: &Binary,
        grid: &Grid,
        sink: Sink<'_>,
    ) -> Result<(), EvalError> {
        let operator = Operator { op: binary.op, return_bool: binary.return_bool, at: node.at };
        let swapped = binary.left.value_type == ValueType::Scalar;
        let (vector, scalar) =
            if swapped { (&binary.right, &binary.left) } else { (&binary.left, &binary.right) };
        let scalar = self.scalar(scalar, grid)?;
        let op = operator.op;
        let drops = changes_metric(op) || operator.return_bool;
        let mut remarks = Remarks::new(grid.steps);
        self.stream(vector, grid, &mut |mut track| {
            if track.histograms.is_empty() && (changes_metric(op) || op.is_comparison()) {
                for (step, value) in track.floats.iter_mut().enumerate() {
                    if !is_float(*value) {
                        continue;
                    }
                    let other = scalar.get(step);
                    let (a, b) = if swapped { (other, *value) } else { (*value, other) };
                    *value = if changes_metric(op) {
                        compute(op, a, b)
                    } else if operator.return_bool {
                        f64::from(u8::from(compare(op, a, b)))
                    } else if compare(op, a, b) {
                        *value
                    } else {
                        ABSENT
                    };
                }
            } else {
                for step in 0..grid.steps {
                    let (out, remark) =
                        combine_with_scalar(operator, track.get(step), scalar.get(step), swapped);
                    remarks.put(step, remark);
                    track.set(step, out);
                }
            }
            if !track.has_points() {
                return Ok(());
            }
            if drops {
                self.drop_name(&mut track);
            }
            sink(track)
        })?;
        self.tell(operator, &remarks);
        Ok(())
    }

    /// Two vectors.
    pub(crate) fn vector_binary(
        &self,
        node: &Node,
        binary: &Binary,
        grid: &Grid,
    ) -> Result<Matrix<'a>, EvalError> {
        let default = VectorMatching::default();
        let matching = binary.matching.as_ref().unwrap_or(&default);
        let left = self.vector(&binary.left, grid)?;
        let right = self.vector(&binary.right, grid)?;
        if binary.op.is_set() {
            return self.set_operation(binary.op, matching, left, right, grid);
        }
        let operator = Operator { op: binary.op, return_bool: binary.return_bool, at: node.at };
        let (many, one) = if matching.card == Cardinality::OneToMany { (right, left) } else { (left, right) };
        let signatures = Signatures::new(matching, &many.tracks, &one.tracks);
        let remarks = RefCell::new(Remarks::new(grid.steps));
        let join =
            Join { evaluator: self, operator, matching, many: &many, one: &one, signatures, grid, remarks };
        let result = match join.by_columns()? {
            Some(result) => result,
            None => join.by_steps()?,
        };
        self.tell(operator, &join.remarks.borrow());
        self.unique(result, grid)
    }

    fn set_operation(
        &self,
        op: BinaryOp,
        matching: &VectorMatching,
        left: Matrix<'a>,
        right: Matrix<'a>,
        grid: &Grid,
    ) -> Result<Matrix<'a>, EvalError> {
        let signatures = Signatures::new(matching, &left.tracks, &right.tracks);
        let mut held = Held::new(self.meter);
        let mut presence = |tracks: &[Track], of: &[usize]| -> Result<Vec<Vec<bool>>, EvalError> {
            let mut present: Vec<Vec<bool>> = vec![Vec::new(); signatures.count];
            for (track, signature) in tracks.iter().zip(of) {
                self.check()?;
                let mask = &mut present[*signature];
                if mask.is_empty() {
                    held.take(grid.steps as u64)?;
                }
                mask.resize(grid.steps, false);
                mask.iter_mut().zip(&track.floats).for_each(|(p, value)| *p |= is_present(*value));
            }
            Ok(present)
        };
        let filter = |track: &mut Track, mask: &[bool], keep: bool| {
            for (step, value) in track.floats.iter_mut().enumerate() {
                if mask.get(step).copied().unwrap_or(false) != keep {
                    *value = ABSENT;
                }
            }
        };
        let mut result = Matrix::new(self.meter);
        if op == BinaryOp::Or {
            let present = presence(&left.tracks, &signatures.many)?;
            for track in left.tracks {
                result.push_if_any(track)?;
            }
            for (mut track, signature) in right.tracks.into_iter().zip(&signatures.one) {
                self.check()?;
                filter(&mut track, &present[*signature], false);
                result.push_if_any(track)?;
            }
            return self.unique(result, grid);
        }
        let present = presence(&right.tracks, &signatures.one)?;
        for (mut track, signature) in left.tracks.into_iter().zip(&signatures.many) {
            self.check()?;
            filter(&mut track, &present[*signature], op == BinaryOp::And);
            result.push_if_any(track)?;
        }
        Ok(result)
    }
}

fn combine_with_scalar(
    operator: Operator,
    cell: Cell<'_>,
    scalar: f64,
    swapped: bool,
) -> (Out, Option<Remark>) {
    if matches!(cell, Cell::Absent) {
        return (Out::Absent, None);
    }
    let scalar = Cell::Float(scalar);
    let (left, right) = if swapped { (scalar, cell) } else { (cell, scalar) };
    let (combined, remark) = combine(operator.op, left, right);
    let out = match combined {
        Combined::Incompatible => Out::Absent,
        Combined::Value(_, keep) if operator.return_bool => Out::Float(f64::from(u8::from(keep))),
        Combined::Value(_, false) => Out::Absent,
        Combined::Value(_, true) if operator.op.is_comparison() => cell.into(),
        Combined::Value(out, true) => out,
    };
    (out, remark)
}

fn compact(histogram: &FloatHistogram) -> Out {
    Out::Histogram(Arc::new(histogram::compacted(histogram.view())))
}

/// A series by its number, or none: a fill value.
type Side = Option<usize>;

/// The number of each series' signature: series with equal numbers match.
struct Signatures {
    many: Vec<usize>,
    one: Vec<usize>,
    count: usize,
    /// Labels of results, made once for each pair that has met.
    results: RefCell<HashMap<(Side, Side), Labels>>,
}

/// The labels that decide a match.
fn match_labels(labels: &Labels, matching: &VectorMatching) -> Labels {
    if matching.on {
        labels.retain(|name| matching.labels.iter().any(|l| l == name))
    } else {
        labels.retain(|name| name != METRIC_NAME && !matching.labels.iter().any(|l| l == name))
    }
}

impl Signatures {
    fn new(matching: &VectorMatching, many: &[Track], one: &[Track]) -> Signatures {
        let mut numbers: HashMap<Labels, usize> = HashMap::with_capacity(many.len().max(one.len()));
        let mut number = |track: &Track| {
            let next = numbers.len();
            *numbers.entry(match_labels(&track.labels, matching)).or_insert(next)
        };
        let many: Vec<usize> = many.iter().map(&mut number).collect();
        let one: Vec<usize> = one.iter().map(&mut number).collect();
        let count = numbers.len();
        Signatures { many, one, count, results: RefCell::default() }
    }
}

/// Two vectors to be combined. The "one" side is the right one unless the operation has `group_right`.
struct Join<'j, 'a> {
    evaluator: &'j Evaluator<'a>,
    operator: Operator,
    matching: &'j VectorMatching,
    many: &'j Matrix<'a>,
    one: &'j Matrix<'a>,
    signatures: Signatures,
    grid: &'j Grid,
    remarks: RefCell<Remarks>,
}

impl<'a> Join<'_, 'a> {
    fn swapped(&self) -> bool {
        self.matching.card == Cardinality::OneToMany
    }

    /// The fill value of a missing series on the "one" side, and on the other.
    fn fills(&self) -> (Option<f64>, Option<f64>) {
        // For `group_right` Prometheus exchanges the sides but not the fill values.
        (self.matching.fill_rhs, self.matching.fill_lhs)
    }

    /// The labels of the result of a pair. A fill value has those that decide the match.
    fn result_labels(&self, many: Side, one: Side) -> Labels {
        let make = || {
            let many = many.map(|index| &self.many.tracks[index].labels);
            let one = one.map(|index| &self.one.tracks[index].labels);
            match (many, one) {
                (Some(many), Some(one)) => self.joined_labels(many, one),
                (Some(many), None) => self.joined_labels(many, &match_labels(many, self.matching)),
                (None, Some(one)) => self.joined_labels(&match_labels(one, self.matching), one),
                (None, None) => Labels::empty(),
            }
        };
        self.signatures.results.borrow_mut().entry((many, one)).or_insert_with(make).clone()
    }

    fn joined_labels(&self, many: &Labels, one: &Labels) -> Labels {
        let matching = self.matching;
        let drops = changes_metric(self.operator.op)
            || (self.operator.return_bool && !self.evaluator.features.delayed_name_removal);
        let mut labels = if drops { without_metadata(many) } else { many.clone() };
        if matching.card == Cardinality::OneToOne {
            let listed = |name: &str| matching.labels.iter().any(|l| l == name);
            labels = labels.retain(|name| listed(name) == matching.on);
        }
        if !matching.include.is_empty() {
            let mut builder = labels.to_builder();
            for name in &matching.include {
                builder.set(name, one.get(name).unwrap_or(""));
            }
            labels = builder.build();
        }
        labels
    }

    fn combine(&self, step: usize, many: Cell<'_>, one: Cell<'_>) -> Option<(Out, bool)> {
        let (left, right) = if self.swapped() { (one, many) } else { (many, one) };
        let (combined, remark) = combine(self.operator.op, left, right);
        self.remarks.borrow_mut().put(step, remark);
        match combined {
            Combined::Incompatible => None,
            Combined::Value(_, keep) if self.operator.return_bool => {
                Some((Out::Float(f64::from(u8::from(keep))), true))
            }
            Combined::Value(out, keep) => Some((out, keep)),
        }
    }

    /// Combines whole columns; `None` if series could get into each other's way.
    fn by_columns(&self) -> Result<Option<Matrix<'a>>, EvalError> {
        if self.fills() != (None, None) {
            return Ok(None);
        }
        let mut partner: Vec<Option<usize>> = vec![None; self.signatures.count];
        for (index, signature) in self.signatures.one.iter().enumerate() {
            if partner[*signature].replace(index).is_some() {
                return Ok(None);
            }
        }
        let one_to_one = self.matching.card == Cardinality::OneToOne;
        let mut taken: HashSet<usize> = HashSet::new();
        let mut results: HashSet<(usize, Labels)> = HashSet::new();
        let mut pairs = Vec::with_capacity(self.many.tracks.len());
        for (index, signature) in self.signatures.many.iter().enumerate() {
            let Some(one) = partner[*signature] else { continue };
            let (a, b) = (&self.many.tracks[index], &self.one.tracks[one]);
            let labels = self.joined_labels(&a.labels, &b.labels);
            let alone = if one_to_one {
                taken.insert(*signature)
            } else {
                results.insert((*signature, labels.clone()))
            };
            if !alone {
                return Ok(None);
            }
            pairs.push((a, b, labels));
        }
        let mut result = Matrix::new(self.evaluator.meter);
        for (many, one, labels) in pairs {
            self.evaluator.check()?;
            result.push_if_any(self.column(many, one, labels))?;
        }
        Ok(Some(result))
    }

    fn column(&self, many: &Track, one: &Track, labels: Labels) -> Track {
        let op = self.operator.op;
        let mut track = Track::empty(labels, self.grid.steps);
        track.drop_name = self.operator.return_bool;
        if many.histograms.is_empty() && one.histograms.is_empty() && !is_trim(op) {
            let (left, right) = if self.swapped() { (one, many) } else { (many, one) };
            for ((out, a), b) in track.floats.iter_mut().zip(&left.floats).zip(&right.floats) {
                if !is_float(*a) || !is_float(*b) {
                    continue;
                }
                if changes_metric(op) {
                    *out = compute(op, *a, *b);
                } else if self.operator.return_bool {
                    *out = f64::from(u8::from(compare(op, *a, *b)));
                } else if compare(op, *a, *b) {
                    *out = *a;
                }
            }
            return track;
        }
        for step in 0..self.grid.steps {
            if let Some((out, true)) = self.combine(step, many.get(step), one.get(step)) {
                track.set(step, out);
            }
        }
        track
    }

    /// Goes through the steps one by one.
    fn by_steps(&self) -> Result<Matrix<'a>, EvalError> {
        let held = Held::new(self.evaluator.meter);
        let mut outputs =
            Outputs { by_labels: HashMap::new(), tracks: Vec::new(), instant_repeats: false, held };
        // What a step looks up, by signature.
        let lookup = size_of::<Option<usize>>() + size_of::<HashSet<Labels>>();
        outputs.held.take((self.signatures.count * lookup) as u64)?;
        outputs.instant_repeats = self.grid.is_instant() && self.evaluator.features.delayed_name_removal;
        for step in 0..self.grid.steps {
            self.evaluator.check()?;
            self.step(step, &mut outputs)?;
        }
        let mut result = Matrix::new(self.evaluator.meter);
        for track in outputs.tracks {
            outputs.held.give(output_bytes(self.grid.steps));
            result.push_if_any(track)?;
        }
        Ok(result)
    }

    fn step(&self, step: usize, outputs: &mut Outputs<'_>) -> Result<(), EvalError> {
        let present = |matrix: &Matrix<'_>| -> Vec<usize> {
            let has = |index: &usize| is_present(matrix.tracks[*index].floats[step]);
            (0..matrix.tracks.len()).filter(has).collect()
        };
        let (many, one) = (present(self.many), present(self.one));
        let (fill_one, fill_many) = self.fills();
        if (many.is_empty() && one.is_empty())
            || ((many.is_empty() || one.is_empty()) && fill_one.is_none() && fill_many.is_none())
        {
            return Ok(());
        }
        let mut partner: Vec<Option<usize>> = vec![None; self.signatures.count];
        for index in &one {
            if let Some(before) = partner[self.signatures.one[*index]].replace(*index) {
                return Err(self.duplicate(*index, before));
            }
        }
        let mut matched: Vec<HashSet<Labels>> = vec![HashSet::new(); self.signatures.count];
        for index in &many {
            let signature = self.signatures.many[*index];
            let track = &self.many.tracks[*index];
            match (partner[signature], fill_one) {
                (Some(other), _) => {
                    let sides =
                        [(Some(*index), track.get(step)), (Some(other), self.one.tracks[other].get(step))];
                    self.pair(step, sides, &mut matched[signature], outputs)?;
                }
                (None, Some(fill)) => {
                    let sides = [(Some(*index), track.get(step)), (None, Cell::Float(fill))];
                    self.pair(step, sides, &mut matched[signature], outputs)?;
                }
                (None, None) => {}
            }
        }
        if let Some(fill) = fill_many {
            for index in &one {
                let signature = self.signatures.one[*index];
                if matched[signature].is_empty() {
                    let track = &self.one.tracks[*index];
                    let sides = [(None, Cell::Float(fill)), (Some(*index), track.get(step))];
                    self.pair(step, sides, &mut matched[signature], outputs)?;
                }
            }
        }
        Ok(())
    }

    /// Combines one pair of values; `sides` has the "many" side first.
    fn pair(
        &self,
        step: usize,
        sides: [(Side, Cell<'_>); 2],
        matched: &mut HashSet<Labels>,
        outputs: &mut Outputs<'_>,
    ) -> Result<(), EvalError> {
        let Some((out, keep)) = self.combine(step, sides[0].1, sides[1].1) else { return Ok(()) };
        let labels = self.result_labels(sides[0].0, sides[1].0);
        if self.matching.card == Cardinality::OneToOne {
            if !matched.is_empty() {
                return Err(EvalError::execution(
                    "multiple matches for labels: many-to-one matching must be explicit (group_left/group_right)",
                ));
            }
            matched.insert(labels.clone());
        } else if !matched.insert(labels.clone()) {
            return Err(EvalError::execution(
                "multiple matches for labels: grouping labels must ensure unique matches",
            ));
        }
        if keep {
            outputs.put(labels, self.operator.return_bool, step, self.grid.steps, out)?;
        }
        Ok(())
    }

    fn duplicate(&self, index: usize, before: usize) -> EvalError {
        let labels = |index: usize| &self.one.tracks[index].labels;
        let (mut first, mut second) = (labels(index).to_string(), labels(before).to_string());
        if first > second {
            std::mem::swap(&mut first, &mut second);
        }
        let group = match_labels(labels(index), self.matching);
        let side = if self.swapped() { "left" } else { "right" };
        EvalError::execution(format!(
            "found duplicate series for the match group {group} on the {side} hand-side of the operation: \
             [{first}, {second}];many-to-many matching not allowed: matching labels must be unique on one side"
        ))
    }
}

fn is_trim(op: BinaryOp) -> bool {
    matches!(op, BinaryOp::TrimLower | BinaryOp::TrimUpper)
}

/// Bytes of a result without histograms.
fn output_bytes(steps: usize) -> u64 {
    steps as u64 * 8 + 128
}

/// Results by their labels.
struct Outputs<'a> {
    by_labels: HashMap<Labels, usize>,
    tracks: Vec<Track>,
    instant_repeats: bool,
    /// They count before they are filled.
    held: Held<'a>,
}

impl Outputs<'_> {
    fn put(
        &mut self,
        labels: Labels,
        drop_name: bool,
        step: usize,
        steps: usize,
        out: Out,
    ) -> Result<(), EvalError> {
        let index = match self.by_labels.get(&labels) {
            Some(index) if !self.instant_repeats => *index,
            _ => {
                self.held.take(output_bytes(steps))?;
                let mut track = Track::empty(labels.clone(), steps);
                track.drop_name = drop_name;
                self.by_labels.insert(labels, self.tracks.len());
                self.tracks.push(track);
                self.tracks.len() - 1
            }
        };
        let track = &mut self.tracks[index];
        if is_present(track.floats[step]) {
            return Err(EvalError::same_labels());
        }
        track.set(step, out);
        Ok(())
    }
}
