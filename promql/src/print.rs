//! Tree to text: on one line ([`Expr`] is `Display`), over several lines ([`pretty`]), as JSON ([`ast_json`]).
//!
//! What is printed parses to the same tree again, positions aside.

mod json;
mod pretty;

pub use json::ast_json;
pub use pretty::pretty;

use crate::ast::{
    AggregateExpr, AtModifier, BinaryExpr, Cardinality, DurationArg, DurationExpr, DurationOp, Expr,
    MatrixSelector, NumberLiteral, RangeMode, SubqueryExpr, VectorMatching, VectorSelector,
};
use crate::{duration::format_ms, go};
use model::{METRIC_NAME, MatchOp, Matcher};
use std::fmt;

impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Expr::Number(e) => e.fmt(f),
            Expr::String(e) => f.write_str(&go::quote(&e.value)),
            Expr::Paren(e) => write!(f, "({})", e.expr),
            Expr::Unary(e) => write!(f, "{}{}", e.op.as_str(), e.expr),
            Expr::Binary(e) => write!(f, "{} {} {}", e.lhs, OperatorOf(e), e.rhs),
            Expr::Aggregate(e) => {
                write!(f, "{}(", HeadOf(e))?;
                if let Some(param) = &e.param {
                    write!(f, "{param}, ")?;
                }
                write!(f, "{})", e.expr)
            }
            Expr::Call(e) => {
                write!(f, "{}(", e.func.name)?;
                for (i, arg) in e.args.iter().enumerate() {
                    write!(f, "{}{arg}", if i > 0 { ", " } else { "" })?;
                }
                f.write_str(")")
            }
            Expr::Vector(e) => e.fmt(f),
            Expr::Matrix(e) => e.fmt(f),
            Expr::Subquery(e) => write!(f, "{}{}", e.expr, SuffixOf(e)),
            Expr::StepInvariant(e) => e.fmt(f),
        }
    }
}

impl fmt::Display for NumberLiteral {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_duration {
            // To nanoseconds, then cut to milliseconds.
            f.write_str(&format_ms((self.value * 1e9 / 1e6) as i64))
        } else {
            f.write_str(&crate::number::format_float(self.value))
        }
    }
}

/// An operator with its modifiers: `== bool on (x) group_left ()`.
struct OperatorOf<'a>(&'a BinaryExpr);

impl fmt::Display for OperatorOf<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let e = self.0;
        write!(f, "{}{}", e.op, if e.return_bool { " bool" } else { "" })?;
        e.matching.as_ref().map_or(Ok(()), |matching| matching.fmt(f))
    }
}

impl fmt::Display for VectorMatching {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let group = match self.card {
            Cardinality::ManyToOne => Some("left"),
            Cardinality::OneToMany => Some("right"),
            Cardinality::OneToOne | Cardinality::ManyToMany => None,
        };
        if !self.labels.is_empty() || self.on || group.is_some() {
            let word = if self.on { "on" } else { "ignoring" };
            write!(f, " {word} ({})", Names(&self.labels))?;
        }
        if let Some(group) = group {
            write!(f, " group_{group} ({})", Names(&self.include))?;
        }
        match (self.fill_lhs, self.fill_rhs) {
            (Some(l), Some(r)) if l == r => write!(f, " fill ({})", crate::number::format_float_g(l)),
            (l, r) => {
                for (word, value) in [("left", l), ("right", r)] {
                    if let Some(value) = value {
                        write!(f, " fill_{word} ({})", crate::number::format_float_g(value))?;
                    }
                }
                Ok(())
            }
        }
    }
}

/// Labels of a grouping, quoted where they must be.
struct Names<'a>(&'a [String]);

impl fmt::Display for Names<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, name) in self.0.iter().enumerate() {
            write!(f, "{}{}", if i > 0 { ", " } else { "" }, label_name(name))?;
        }
        Ok(())
    }
}

/// A label's name as it may be written: quoted unless it is of letters, digits and underscores.
fn label_name(name: &str) -> String {
    let plain = name.bytes().all(|b| b == b'_' || b.is_ascii_alphanumeric());
    if plain && !name.starts_with(|c: char| c.is_ascii_digit()) && !name.is_empty() {
        name.to_owned()
    } else {
        go::quote(name)
    }
}

/// An aggregation up to its opening parenthesis.
struct HeadOf<'a>(&'a AggregateExpr);

impl fmt::Display for HeadOf<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let e = self.0;
        f.write_str(e.op.as_str())?;
        if e.without {
            write!(f, " without ({}) ", Names(&e.grouping))
        } else if !e.grouping.is_empty() {
            write!(f, " by ({}) ", Names(&e.grouping))
        } else {
            Ok(())
        }
    }
}

/// A matcher as it is written between braces.
fn matcher(m: &Matcher) -> String {
    format!("{}{}{}", label_name(&m.name), m.op, go::quote(&m.value))
}

/// A selector without its modifiers.
struct BareOf<'a>(&'a VectorSelector);

impl fmt::Display for BareOf<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let e = self.0;
        f.write_str(&e.name)?;
        // The name is there already, unless it is an explicit matcher for no name.
        let is_name = |m: &&Matcher| {
            m.name == METRIC_NAME && m.op == MatchOp::Equal && m.value == e.name && !m.value.is_empty()
        };
        let mut texts: Vec<String> = e.matchers.iter().filter(|m| !is_name(m)).map(matcher).collect();
        texts.sort_unstable();
        if texts.is_empty() && !e.name.is_empty() {
            return Ok(());
        }
        write!(f, "{{{}}}", texts.join(","))
    }
}

impl fmt::Display for VectorSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}{}{}", BareOf(self), AtOf(self.at), ModeOf(self.mode), OffsetOf(&self.offset))
    }
}

impl fmt::Display for MatrixSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let e = &self.selector;
        write!(f, "{}[{}]", BareOf(e), self.range)?;
        write!(f, "{}{}{}", ModeOf(e.mode), AtOf(e.at), OffsetOf(&e.offset))
    }
}

/// What stands behind the expression of a subquery.
struct SuffixOf<'a>(&'a SubqueryExpr);

impl fmt::Display for SuffixOf<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let e = self.0;
        write!(f, "[{}:", e.range)?;
        if !e.step.is_absent() {
            write!(f, "{}", e.step)?;
        }
        write!(f, "]{}{}", AtOf(e.at), OffsetOf(&e.offset))
    }
}

struct ModeOf(RangeMode);

impl fmt::Display for ModeOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            RangeMode::Plain => "",
            RangeMode::Anchored => " anchored",
            RangeMode::Smoothed => " smoothed",
        })
    }
}

struct AtOf(Option<AtModifier>);

impl fmt::Display for AtOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(AtModifier::Time(ms)) => write!(f, " @ {:.3}", ms as f64 / 1000.0),
            Some(AtModifier::Start) => f.write_str(" @ start()"),
            Some(AtModifier::End) => f.write_str(" @ end()"),
            None => Ok(()),
        }
    }
}

struct OffsetOf<'a>(&'a DurationArg);

impl fmt::Display for OffsetOf<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_absent() { Ok(()) } else { write!(f, " offset {}", self.0) }
    }
}

impl fmt::Display for DurationArg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.expr {
            Some(expr) => expr.fmt(f),
            None => f.write_str(&format_ms(self.ms)),
        }
    }
}

impl fmt::Display for DurationExpr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let wrapped = self.is_wrapped();
        if wrapped {
            f.write_str("(")?;
        }
        match self {
            DurationExpr::Number(n) => n.fmt(f)?,
            DurationExpr::Step { .. } => f.write_str("step()")?,
            DurationExpr::Range { .. } => f.write_str("range()")?,
            DurationExpr::Unary { minus, expr, .. } => {
                write!(f, "{}{expr}", if *minus { "-" } else { "" })?;
            }
            DurationExpr::Binary { op: op @ (DurationOp::MinOf | DurationOp::MaxOf), lhs, rhs, .. } => {
                write!(f, "{}({lhs}, {rhs})", op.as_str())?;
            }
            DurationExpr::Binary { op, lhs, rhs, .. } => write!(f, "{lhs} {} {rhs}", op.as_str())?,
        }
        if wrapped { f.write_str(")") } else { Ok(()) }
    }
}
