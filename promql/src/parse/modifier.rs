//! What stands behind an operand: `[range]`, `[range:step]`, `offset`, `@`, `anchored`, `smoothed`.

use super::duration::{Duration, is_out_of_range};
use super::lex::token::Kind;
use super::parser::{Parsed, Parser, Stop, Tree};
use crate::ast::{
    AtModifier, DurationArg, DurationExpr, Expr, MatrixSelector, PosRange, RangeMode, SubqueryExpr,
};

/// The parts of a selector or subquery that modifiers set.
struct Modified<'a> {
    offset: &'a mut DurationArg,
    at: &'a mut Option<AtModifier>,
    end: &'a mut usize,
}

fn modified(expr: &mut Expr) -> Option<Modified<'_>> {
    Some(match expr {
        Expr::Vector(e) => Modified { offset: &mut e.offset, at: &mut e.at, end: &mut e.pos.end },
        Expr::Matrix(e) => {
            Modified { offset: &mut e.selector.offset, at: &mut e.selector.at, end: &mut e.pos.end }
        }
        Expr::Subquery(e) => Modified { offset: &mut e.offset, at: &mut e.at, end: &mut e.pos.end },
        _ => return None,
    })
}

/// What the error texts say a modifier must follow.
const PRECEDED: &str =
    "must be preceded by an instant vector selector or range vector selector or a subquery";

impl Parser<'_> {
    pub(super) fn offset(&mut self, mut tree: Tree) -> Parsed<Tree> {
        self.take();
        let offset = self
            .offset_duration()
            .map_err(|stop| self.unexpected(stop, "offset", "number, duration, step(), or range()"))?;
        let (pos, end) = (tree.expr.pos(), self.last_closing());
        let Some(target) = modified(&mut tree.expr) else {
            self.error(pos, format!("offset modifier {PRECEDED}"));
            return Ok(tree);
        };
        *target.end = end;
        if target.offset.is_absent() {
            *target.offset = offset.into_arg();
        } else {
            self.error(pos, "offset may not be set multiple times");
        }
        Ok(tree)
    }

    pub(super) fn at(&mut self, tree: Tree) -> Parsed<Tree> {
        self.take();
        match self.peek() {
            Kind::Start | Kind::End => self.at_boundary(tree),
            _ => self.at_time(tree),
        }
        .map_err(|stop| self.unexpected(stop, "@", "timestamp"))
    }

    fn at_boundary(&mut self, tree: Tree) -> Parsed<Tree> {
        let at = if self.take().kind == Kind::Start { AtModifier::Start } else { AtModifier::End };
        self.expect(Kind::LeftParen)?;
        self.expect(Kind::RightParen)?;
        Ok(self.set_at(tree, at))
    }

    fn at_time(&mut self, tree: Tree) -> Parsed<Tree> {
        let negative = self.peek() == Kind::Sub;
        if matches!(self.peek(), Kind::Add | Kind::Sub) {
            self.take();
        }
        if !matches!(self.peek(), Kind::Number | Kind::Duration) {
            return self.fail();
        }
        let token = self.take();
        let number = self.number(&token).value;
        let seconds = if negative { -number } else { number };
        if !seconds.is_finite() || seconds.abs() >= i64::MAX as f64 {
            let message = format!("timestamp out of bounds for @ modifier: {}", crate::go::fixed(seconds));
            self.error(tree.expr.pos(), message);
        }
        // Beyond the bounds of milliseconds the nearest of them stands in.
        Ok(self.set_at(tree, AtModifier::Time((seconds * 1000.0).round() as i64)))
    }

    fn set_at(&mut self, mut tree: Tree, at: AtModifier) -> Tree {
        let (pos, end) = (tree.expr.pos(), self.last_closing());
        match modified(&mut tree.expr) {
            None => self.error(pos, format!("@ modifier {PRECEDED}")),
            Some(target) if target.at.is_some() => {
                self.error(pos, "@ <timestamp> may not be set multiple times");
            }
            Some(target) => {
                *target.at = Some(at);
                *target.end = end;
            }
        }
        tree
    }

    pub(super) fn range_mode(&mut self, mut tree: Tree) -> Tree {
        let (word, mode) = match self.take().kind {
            Kind::Anchored => ("anchored", RangeMode::Anchored),
            _ => ("smoothed", RangeMode::Smoothed),
        };
        let pos = tree.expr.pos();
        if !self.options.extended_range_selectors {
            self.error(pos, format!("{word} modifier is experimental and not enabled"));
            return tree;
        }
        let target = match &mut tree.expr {
            Expr::Vector(e) => &mut e.mode,
            Expr::Matrix(e) => &mut e.selector.mode,
            Expr::Subquery(_) => {
                self.error(pos, format!("{word} modifier is not supported for subqueries"));
                return tree;
            }
            _ => {
                self.error(pos, format!("{word} modifier not implemented"));
                return tree;
            }
        };
        let before = std::mem::replace(target, mode);
        if before != RangeMode::Plain && before != mode {
            self.error(pos, "anchored and smoothed modifiers cannot be used together");
        }
        tree
    }

    /// `[range]` or `[range:step]`
    pub(super) fn range(&mut self, tree: Tree) -> Parsed<Tree> {
        let open = self.take();
        let range = self.positive_duration().map_err(|stop| {
            self.unexpected(stop, "subquery or range selector", "number, duration, step(), or range()")
        })?;
        match self.peek() {
            Kind::RightBracket => {
                let close = self.take();
                self.matrix(tree, range, open.range().to(close.range()))
            }
            Kind::Colon => {
                self.take();
                self.subquery(tree, range)
            }
            _ => Err(self.unexpected(Stop::unreported(), "subquery or range", "\":\" or \"]\"")),
        }
    }

    fn matrix(&mut self, tree: Tree, range: Duration, brackets: PosRange) -> Parsed<Tree> {
        let wrong = match &tree.expr {
            Expr::Vector(v) if !v.offset.is_absent() => "no offset modifiers allowed before range",
            Expr::Vector(v) if v.at.is_some() => "no @ modifiers allowed before range",
            Expr::Vector(_) => "",
            _ => "ranges only allowed for vector selectors",
        };
        if !wrong.is_empty() {
            self.error(brackets, wrong);
        }
        let Expr::Vector(selector) = tree.expr else { return Ok(tree) };
        let pos = PosRange { start: selector.pos.start, end: self.last_closing() };
        let range = range.into_arg();
        Ok(Tree {
            expr: Expr::Matrix(Box::new(MatrixSelector { selector: *selector, range, pos })),
            height: self.higher(tree.height)?,
        })
    }

    fn subquery(&mut self, tree: Tree, range: Duration) -> Parsed<Tree> {
        const CONTEXT: &str = "subquery selector";
        let mut step = DurationArg::default();
        if self.peek() != Kind::RightBracket {
            let expected = "number, duration, step(), range(), or \"]\"";
            let duration =
                self.positive_duration().map_err(|stop| self.unexpected(stop, CONTEXT, expected))?;
            step = duration.into_arg();
        }
        let close =
            self.expect(Kind::RightBracket).map_err(|stop| self.unexpected(stop, CONTEXT, "\"]\""))?;
        let pos = PosRange { start: tree.expr.pos().start, end: close.end };
        let subquery = SubqueryExpr {
            expr: tree.expr,
            range: range.into_arg(),
            step,
            offset: DurationArg::default(),
            at: None,
            pos,
        };
        Ok(Tree { expr: Expr::Subquery(Box::new(subquery)), height: self.higher(tree.height)? })
    }

    fn positive_duration(&mut self) -> Parsed<Duration> {
        let duration = self.duration(0)?;
        if let DurationExpr::Number(n) = &duration.expr
            && n.value <= 0.0
        {
            debug_assert!(!is_out_of_range(n.value));
            self.error(n.pos, "duration must be greater than 0");
        }
        Ok(duration)
    }
}
