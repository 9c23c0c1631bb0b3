//! Scalars: one number per step, or one for all steps.

use super::{
    Evaluator, Grid,
    binary::{compare, compute},
    call::Func,
    plan::{Kind, Node},
};
use crate::engine::EvalError;
use crate::number;

/// A scalar over a grid.
#[derive(Clone, Debug)]
pub(crate) enum Column {
    /// The same at all steps.
    Constant(f64),
    /// One for each step.
    Steps(Vec<f64>),
}

impl Column {
    #[inline]
    pub(crate) fn get(&self, step: usize) -> f64 {
        match self {
            Column::Constant(value) => *value,
            Column::Steps(values) => values[step],
        }
    }

    pub(crate) fn into_steps(self, steps: usize) -> Vec<f64> {
        match self {
            Column::Constant(value) => vec![value; steps],
            Column::Steps(values) => values,
        }
    }

    fn map(self, change: impl Fn(f64) -> f64) -> Column {
        match self {
            Column::Constant(value) => Column::Constant(change(value)),
            Column::Steps(values) => Column::Steps(values.into_iter().map(change).collect()),
        }
    }

    fn zip(self, other: Column, combine: impl Fn(f64, f64) -> f64) -> Column {
        match (self, other) {
            (Column::Constant(a), other) => other.map(|b| combine(a, b)),
            (this, Column::Constant(b)) => this.map(|a| combine(a, b)),
            (Column::Steps(a), Column::Steps(b)) => {
                Column::Steps(a.into_iter().zip(b).map(|(a, b)| combine(a, b)).collect())
            }
        }
    }
}

impl Evaluator<'_> {
    /// The value of a scalar expression.
    pub(crate) fn scalar(&self, node: &Node, grid: &Grid) -> Result<Column, EvalError> {
        Ok(match &node.kind {
            Kind::Number(value) => Column::Constant(*value),
            Kind::Negate(inner) => self.scalar(inner, grid)?.map(|value| -value),
            Kind::Plus(inner) => self.scalar(inner, grid)?,
            Kind::Invariant(inner) => {
                let first = Grid::instant(grid.start);
                let column = self.meter.for_all_steps(grid.steps, || self.scalar(inner, &first))?;
                Column::Constant(column.get(0))
            }
            Kind::Binary(binary) => {
                let (left, right) = (self.scalar(&binary.left, grid)?, self.scalar(&binary.right, grid)?);
                let op = binary.op;
                if op.is_comparison() {
                    left.zip(right, |a, b| f64::from(u8::from(compare(op, a, b))))
                } else {
                    left.zip(right, |a, b| compute(op, a, b))
                }
            }
            Kind::Call(call) => {
                let arg = |index: usize| self.scalar(&call.args[index], grid);
                match call.func {
                    Func::Time => {
                        Column::Steps((0..grid.steps).map(|step| grid.time(step) as f64 / 1000.0).collect())
                    }
                    Func::Pi => Column::Constant(std::f64::consts::PI),
                    Func::MaxOf => arg(0)?.zip(arg(1)?, number::max),
                    Func::MinOf => arg(0)?.zip(arg(1)?, number::min),
                    Func::Scalar => Column::Steps(self.only_floats(&call.args[0], grid)?),
                    _ => Column::Constant(f64::NAN),
                }
            }
            _ => Column::Constant(f64::NAN),
        })
    }
}
