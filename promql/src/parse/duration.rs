//! Durations in ranges, steps and offsets: numbers, and arithmetic on them.

use super::lex::token::{Kind, Token};
use super::parser::{Parsed, Parser};
use crate::ast::{DurationArg, DurationExpr, DurationOp, NumberLiteral, PosRange};

/// A duration and the height of its tree.
pub(super) struct Duration {
    pub(super) expr: DurationExpr,
    height: usize,
}

impl Duration {
    fn leaf(expr: DurationExpr) -> Duration {
        Duration { expr, height: 1 }
    }

    pub(super) fn into_arg(self) -> DurationArg {
        match self.expr {
            // To nanoseconds, then cut to milliseconds, as there.
            DurationExpr::Number(n) => DurationArg::of_ms(((n.value * 1e9).round() / 1e6) as i64),
            expr => DurationArg { ms: 0, expr: Some(Box::new(expr)) },
        }
    }
}

/// Whether a number of seconds overflows Go's `time.Duration`.
pub(super) fn is_out_of_range(seconds: f64) -> bool {
    seconds.abs() > crate::ast::SECONDS_MAX
}

/// How tightly operators bind, as between expressions.
fn precedence(kind: Kind) -> Option<(DurationOp, u8)> {
    Some(match kind {
        Kind::Add => (DurationOp::Add, 4),
        Kind::Sub => (DurationOp::Sub, 4),
        Kind::Mul => (DurationOp::Mul, 5),
        Kind::Div => (DurationOp::Div, 5),
        Kind::Mod => (DurationOp::Mod, 5),
        Kind::Pow => (DurationOp::Pow, POW),
        _ => return None,
    })
}

const POW: u8 = 6;

impl Parser<'_> {
    /// The duration behind `offset`. A number or a function ends it at once, so that `foo offset 5m ^ 2` is the
    /// square of a selector; after parentheses the arithmetic goes on.
    pub(super) fn offset_duration(&mut self) -> Parsed<Duration> {
        match self.peek() {
            Kind::LeftParen => self.duration(0),
            Kind::Add | Kind::Sub => {
                let sign = self.take();
                match self.peek() {
                    Kind::LeftParen => {
                        let open = self.take();
                        debug_assert!(open.kind == Kind::LeftParen);
                        let inner = self.duration(0)?;
                        self.expect(Kind::RightParen)?;
                        let pos = inner.expr.pos();
                        let wrapped = self.wrapped(inner, pos)?;
                        self.signed(&sign, wrapped)
                    }
                    Kind::Add | Kind::Sub => {
                        let inner = self.duration(POW)?;
                        let signed = self.signed(&sign, inner)?;
                        self.duration_tail(signed, 0)
                    }
                    _ => {
                        let inner = self.duration_operand()?;
                        self.signed(&sign, inner)
                    }
                }
            }
            _ => self.duration_operand(),
        }
    }

    /// A duration whose operators all bind at least as tightly as `binding`.
    pub(super) fn duration(&mut self, binding: u8) -> Parsed<Duration> {
        self.deeper(|p| {
            let lhs = if matches!(p.peek(), Kind::Add | Kind::Sub) {
                let sign = p.take();
                let operand = p.duration(POW)?;
                p.signed(&sign, operand)?
            } else {
                p.duration_operand()?
            };
            p.duration_tail(lhs, binding)
        })
    }

    /// The operators behind a duration.
    fn duration_tail(&mut self, mut lhs: Duration, binding: u8) -> Parsed<Duration> {
        while let Some((op, level)) = precedence(self.peek()).filter(|(_, level)| *level >= binding) {
            let sign = self.take();
            let rhs = self.duration(if op == DurationOp::Pow { POW } else { level + 1 })?;
            self.check_duration_arithmetic(lhs.expr.pos());
            if let DurationExpr::Number(n) = &rhs.expr
                && n.value == 0.0
            {
                match op {
                    DurationOp::Div => self.error(sign.range(), "division by zero"),
                    DurationOp::Mod => self.error(sign.range(), "modulo by zero"),
                    _ => {}
                }
            }
            lhs = self.duration_pair(op, lhs, rhs, None)?;
        }
        Ok(lhs)
    }

    fn duration_pair(
        &mut self,
        op: DurationOp,
        lhs: Duration,
        rhs: Duration,
        pos: Option<PosRange>,
    ) -> Parsed<Duration> {
        let height = self.higher(lhs.height.max(rhs.height))?;
        let pos = pos.unwrap_or_else(|| lhs.expr.pos().to(rhs.expr.pos()));
        let (lhs, rhs) = (Box::new(lhs.expr), Box::new(rhs.expr));
        Ok(Duration { expr: DurationExpr::Binary { op, lhs, rhs, wrapped: false, pos }, height })
    }

    fn duration_operand(&mut self) -> Parsed<Duration> {
        match self.peek() {
            Kind::Number | Kind::Duration => {
                let token = self.take();
                let number = self.number(&token);
                Ok(Duration::leaf(DurationExpr::Number(self.in_range(number, token.range()))))
            }
            Kind::Step | Kind::Range => {
                let word = self.take();
                self.expect(Kind::LeftParen)?;
                let close = self.expect(Kind::RightParen)?;
                let pos = word.range().to(close.range());
                self.check_duration_arithmetic(pos);
                Ok(Duration::leaf(match word.kind {
                    Kind::Step => DurationExpr::Step { wrapped: false, pos },
                    _ => DurationExpr::Range { wrapped: false, pos },
                }))
            }
            Kind::MinOf | Kind::MaxOf => {
                let word = self.take();
                let op = if word.kind == Kind::MinOf { DurationOp::MinOf } else { DurationOp::MaxOf };
                self.expect(Kind::LeftParen)?;
                let lhs = self.duration(0)?;
                self.expect(Kind::Comma)?;
                let rhs = self.duration(0)?;
                let close = self.expect(Kind::RightParen)?;
                let pos = word.range().to(close.range());
                self.check_duration_arithmetic(pos);
                self.duration_pair(op, lhs, rhs, Some(pos))
            }
            Kind::LeftParen => {
                let open = self.take();
                let inner = self.duration(0)?;
                let close = self.expect(Kind::RightParen)?;
                self.check_duration_arithmetic(inner.expr.pos());
                self.wrapped(inner, open.range().to(close.range()))
            }
            _ => self.fail(),
        }
    }

    fn check_duration_arithmetic(&mut self, pos: PosRange) {
        if !self.options.duration_expressions {
            self.error(pos, "experimental duration expression is not enabled");
        }
    }

    /// The number, or zero and an error if it is no duration.
    fn in_range(&mut self, number: NumberLiteral, pos: PosRange) -> NumberLiteral {
        if !is_out_of_range(number.value) {
            return number;
        }
        self.error(pos, "duration out of range");
        NumberLiteral { value: 0.0, ..number }
    }

    /// Marks a duration as one in parentheses, for the printer. A number has no room for the mark: a plus holds it.
    fn wrapped(&mut self, inner: Duration, around: PosRange) -> Parsed<Duration> {
        let height = self.higher(inner.height)?;
        let expr = match inner.expr {
            DurationExpr::Number(_) => {
                DurationExpr::Unary { minus: false, expr: Box::new(inner.expr), wrapped: true, pos: around }
            }
            DurationExpr::Step { pos, .. } => DurationExpr::Step { wrapped: true, pos },
            DurationExpr::Range { pos, .. } => DurationExpr::Range { wrapped: true, pos },
            DurationExpr::Unary { minus, expr, pos, .. } => {
                DurationExpr::Unary { minus, expr, wrapped: true, pos }
            }
            DurationExpr::Binary { op, lhs, rhs, pos, .. } => {
                DurationExpr::Binary { op, lhs, rhs, wrapped: true, pos }
            }
        };
        Ok(Duration { expr, height })
    }

    /// A sign and a duration: of a number a number, a plus before anything else is nothing.
    fn signed(&mut self, sign: &Token, operand: Duration) -> Parsed<Duration> {
        let minus = sign.kind == Kind::Sub;
        let height = self.higher(operand.height)?;
        let expr = match operand.expr {
            DurationExpr::Number(mut n) => {
                n.value = if minus { -n.value } else { n.value };
                n.pos.start = sign.pos;
                DurationExpr::Number(n)
            }
            expr if !minus => expr,
            expr => {
                let pos = PosRange { start: sign.pos, end: expr.pos().end };
                DurationExpr::Unary { minus, expr: Box::new(expr), wrapped: false, pos }
            }
        };
        Ok(Duration { expr, height })
    }
}
