//! Durations in selectors: a number, or arithmetic on `step()` and `range()` that only a query can resolve.

use super::{Expr, PosRange};

/// The length of a window, a step or an offset.
///
/// If `expr` is there, `ms` is meaningless until [`resolve_durations`] has run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DurationArg {
    /// Milliseconds; signed, because offsets are.
    pub ms: i64,
    /// The arithmetic that `ms` comes of, if the text is more than a number.
    pub expr: Option<Box<DurationExpr>>,
}

impl DurationArg {
    /// A plain number of milliseconds.
    #[must_use]
    pub fn of_ms(ms: i64) -> DurationArg {
        DurationArg { ms, expr: None }
    }

    /// Whether nothing was written.
    #[must_use]
    pub fn is_absent(&self) -> bool {
        self.ms == 0 && self.expr.is_none()
    }
}

/// An operator between durations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each is the arithmetic operation")]
pub enum DurationOp {
    Add,
    Sub,
    Mul,
    Div,
    Mod,
    Pow,
    MinOf,
    MaxOf,
}

impl DurationOp {
    /// The operator as it is written.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            DurationOp::Add => "+",
            DurationOp::Sub => "-",
            DurationOp::Mul => "*",
            DurationOp::Div => "/",
            DurationOp::Mod => "%",
            DurationOp::Pow => "^",
            DurationOp::MinOf => "min_of",
            DurationOp::MaxOf => "max_of",
        }
    }
}

/// Arithmetic on durations, in seconds.
#[derive(Clone, Debug, PartialEq)]
pub enum DurationExpr {
    /// A number of seconds.
    Number(super::NumberLiteral),
    /// `step()`: the query's step.
    Step {
        /// Whether it stands in parentheses of its own.
        wrapped: bool,
        /// Where it stands.
        pos: PosRange,
    },
    /// `range()`: the query's end minus its start.
    Range {
        /// Whether it stands in parentheses of its own.
        wrapped: bool,
        /// Where it stands.
        pos: PosRange,
    },
    /// A sign before a duration. A plus stands for parentheses around a plain number.
    Unary {
        /// Whether the sign is a minus.
        minus: bool,
        /// What is signed.
        expr: Box<DurationExpr>,
        /// Whether it stands in parentheses of its own.
        wrapped: bool,
        /// Where it stands.
        pos: PosRange,
    },
    /// Two durations and an operator, or `min_of(..)`, `max_of(..)`.
    Binary {
        /// The operator.
        op: DurationOp,
        /// The left side.
        lhs: Box<DurationExpr>,
        /// The right side.
        rhs: Box<DurationExpr>,
        /// Whether it stands in parentheses of its own.
        wrapped: bool,
        /// Where it stands.
        pos: PosRange,
    },
}

/// Why a duration has no value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}:{}: {reason}", pos.start, pos.end)]
pub struct DurationError {
    /// Where the duration stands.
    pub pos: PosRange,
    /// What is wrong with it.
    pub reason: &'static str,
}

/// The largest duration in seconds: 2^63 nanoseconds, the bound of Go's `time.Duration`.
pub(crate) const SECONDS_MAX: f64 = (1u64 << 63) as f64 / 1e9;

impl DurationExpr {
    /// Where the expression stands.
    #[must_use]
    pub fn pos(&self) -> PosRange {
        match self {
            DurationExpr::Number(n) => n.pos,
            DurationExpr::Step { pos, .. }
            | DurationExpr::Range { pos, .. }
            | DurationExpr::Unary { pos, .. }
            | DurationExpr::Binary { pos, .. } => *pos,
        }
    }

    /// Whether it stands in parentheses of its own.
    #[must_use]
    pub fn is_wrapped(&self) -> bool {
        match self {
            DurationExpr::Number(_) => false,
            DurationExpr::Step { wrapped, .. }
            | DurationExpr::Range { wrapped, .. }
            | DurationExpr::Unary { wrapped, .. }
            | DurationExpr::Binary { wrapped, .. } => *wrapped,
        }
    }

    /// The value in seconds, of a query with this step and range.
    ///
    /// # Errors
    /// If the expression divides by zero.
    pub fn seconds(&self, step_seconds: f64, range_seconds: f64) -> Result<f64, DurationError> {
        let error = |reason| DurationError { pos: self.pos(), reason };
        match self {
            DurationExpr::Number(n) => Ok(n.value),
            DurationExpr::Step { .. } => Ok(step_seconds),
            DurationExpr::Range { .. } => Ok(range_seconds),
            DurationExpr::Unary { minus, expr, .. } => {
                let value = expr.seconds(step_seconds, range_seconds)?;
                Ok(if *minus { -value } else { value })
            }
            DurationExpr::Binary { op, lhs, rhs, .. } => {
                let l = lhs.seconds(step_seconds, range_seconds)?;
                let r = rhs.seconds(step_seconds, range_seconds)?;
                match op {
                    DurationOp::Add => Ok(l + r),
                    DurationOp::Sub => Ok(l - r),
                    DurationOp::Mul => Ok(l * r),
                    DurationOp::Div if r == 0.0 => Err(error("division by zero")),
                    DurationOp::Div => Ok(l / r),
                    DurationOp::Mod if r == 0.0 => Err(error("modulo by zero")),
                    DurationOp::Mod => Ok(l % r),
                    DurationOp::Pow => Ok(l.powf(r)),
                    DurationOp::MinOf => Ok(if l.is_nan() || r.is_nan() { f64::NAN } else { l.min(r) }),
                    DurationOp::MaxOf => Ok(if l.is_nan() || r.is_nan() { f64::NAN } else { l.max(r) }),
                }
            }
        }
    }

    /// The value in milliseconds, within the bounds of a duration.
    fn resolve(&self, step_seconds: f64, range_seconds: f64, sign: Sign) -> Result<i64, DurationError> {
        let error = |reason| Err(DurationError { pos: self.pos(), reason });
        let seconds = self.seconds(step_seconds, range_seconds)?;
        if !seconds.is_finite() {
            return error("duration is NaN or infinite");
        }
        if seconds <= 0.0 && sign == Sign::Positive {
            return error("duration must be greater than 0");
        }
        if seconds.abs() > SECONDS_MAX {
            return error("duration is out of range");
        }
        Ok((seconds * 1000.0) as i64)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Sign {
    Any,
    Positive,
}

/// Gives every [`DurationArg`] with an expression its value, for a query with this step and range (milliseconds).
///
/// # Errors
/// If a duration has no value, is not positive where it must be, or is out of range.
pub fn resolve_durations(expr: &mut Expr, step_ms: i64, range_ms: i64) -> Result<(), DurationError> {
    let (step, range) = (step_ms as f64 / 1000.0, range_ms as f64 / 1000.0);
    let set = |arg: &mut DurationArg, sign| -> Result<(), DurationError> {
        if let Some(e) = &arg.expr {
            arg.ms = e.resolve(step, range, sign)?;
        }
        Ok(())
    };
    expr.try_visit_mut(&mut |e| match e {
        Expr::Vector(v) => set(&mut v.offset, Sign::Any),
        Expr::Matrix(m) => {
            set(&mut m.range, Sign::Positive)?;
            set(&mut m.selector.offset, Sign::Any)
        }
        Expr::Subquery(s) => {
            set(&mut s.offset, Sign::Any)?;
            set(&mut s.step, Sign::Positive)?;
            set(&mut s.range, Sign::Positive)
        }
        _ => Ok(()),
    })
}
