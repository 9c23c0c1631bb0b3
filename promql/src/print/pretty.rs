//! Tree to lines: what is longer than a line is split into its parts, each indented by its depth.

use super::{HeadOf, OperatorOf, SuffixOf};
use crate::ast::Expr;
use std::fmt::{self, Write};

/// The longest part that stays on one line, in bytes.
const LINE_BYTES_MAX: usize = 100;

/// The expression over as many lines as it needs, as Prometheus formats it.
#[must_use]
pub fn pretty(expr: &Expr) -> String {
    let mut out = String::new();
    put(&mut out, expr, 0).expect("a string takes everything");
    out
}

/// Writes `expr`, the first line indented by `level`.
fn put(out: &mut String, expr: &Expr, level: usize) -> fmt::Result {
    match expr {
        Expr::StepInvariant(e) => return put(out, e, level),
        Expr::Unary(e) => {
            write!(out, "{}{}", Indent(level), e.op.as_str())?;
            let mut child = String::new();
            put(&mut child, &e.expr, level)?;
            return out.write_str(child.trim());
        }
        // Its inner expression indents itself; on one line it is not indented at all.
        Expr::Subquery(e) if fits(expr) => return write!(out, "{}{}", e.expr, SuffixOf(e)),
        Expr::Subquery(e) => {
            put(out, &e.expr, level)?;
            return write!(out, "{}", SuffixOf(e));
        }
        Expr::Binary(e) if !fits(expr) => {
            put(out, &e.lhs, level + 1)?;
            write!(out, "\n{}{}\n", Indent(level), OperatorOf(e))?;
            return put(out, &e.rhs, level + 1);
        }
        _ => {}
    }
    write!(out, "{}", Indent(level))?;
    match expr {
        Expr::Aggregate(e) if !fits(expr) => {
            writeln!(out, "{}(", HeadOf(e))?;
            if let Some(param) = &e.param {
                put(out, param, level + 1)?;
                out.write_str(",\n")?;
            }
            put(out, &e.expr, level + 1)?;
            write!(out, "\n{})", Indent(level))
        }
        Expr::Call(e) if !fits(expr) => {
            writeln!(out, "{}(", e.func.name)?;
            for (i, arg) in e.args.iter().enumerate() {
                out.write_str(if i > 0 { ",\n" } else { "" })?;
                put(out, arg, level + 1)?;
            }
            write!(out, "\n{})", Indent(level))
        }
        Expr::Paren(e) if !fits(expr) => {
            out.write_str("(\n")?;
            put(out, &e.expr, level + 1)?;
            write!(out, "\n{})", Indent(level))
        }
        other => write!(out, "{other}"),
    }
}

struct Indent(usize);

impl fmt::Display for Indent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (0..self.0).try_for_each(|_| f.write_str("  "))
    }
}

/// Whether the expression fits on one line. Looks at no more than a line of it.
fn fits(expr: &Expr) -> bool {
    struct Room(usize);
    impl Write for Room {
        fn write_str(&mut self, s: &str) -> fmt::Result {
            self.0 = self.0.checked_sub(s.len()).ok_or(fmt::Error)?;
            Ok(())
        }
    }
    write!(Room(LINE_BYTES_MAX), "{expr}").is_ok()
}
