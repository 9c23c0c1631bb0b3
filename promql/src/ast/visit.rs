//! Walks over a tree. The vector selector inside a matrix selector is not visited as a node of its own.

use super::{Expr, VectorSelector};

impl Expr {
    /// The direct parts, in the order of evaluation errors: of an aggregation the vector, then the parameter.
    pub fn children(&self) -> impl Iterator<Item = &Expr> {
        let (pair, rest): ([Option<&Expr>; 2], &[Expr]) = match self {
            Expr::Number(_) | Expr::String(_) | Expr::Vector(_) | Expr::Matrix(_) => ([None, None], &[]),
            Expr::Paren(e) => ([Some(&e.expr), None], &[]),
            Expr::Unary(e) => ([Some(&e.expr), None], &[]),
            Expr::Binary(e) => ([Some(&e.lhs), Some(&e.rhs)], &[]),
            Expr::Aggregate(e) => ([Some(&e.expr), e.param.as_ref()], &[]),
            Expr::Call(e) => ([None, None], &e.args),
            Expr::Subquery(e) => ([Some(&e.expr), None], &[]),
            Expr::StepInvariant(e) => ([Some(e), None], &[]),
        };
        pair.into_iter().flatten().chain(rest)
    }

    /// Calls `f` with every node, parents first.
    pub fn visit(&self, f: &mut impl FnMut(&Expr)) {
        f(self);
        for child in self.children() {
            child.visit(f);
        }
    }

    /// Calls `f` with every node, parents first, until it fails.
    ///
    /// # Errors
    /// The first error of `f`.
    pub fn try_visit_mut<E>(&mut self, f: &mut impl FnMut(&mut Expr) -> Result<(), E>) -> Result<(), E> {
        f(self)?;
        match self {
            Expr::Number(_) | Expr::String(_) | Expr::Vector(_) | Expr::Matrix(_) => Ok(()),
            Expr::Paren(e) => e.expr.try_visit_mut(f),
            Expr::Unary(e) => e.expr.try_visit_mut(f),
            Expr::Binary(e) => {
                e.lhs.try_visit_mut(f)?;
                e.rhs.try_visit_mut(f)
            }
            Expr::Aggregate(e) => {
                e.expr.try_visit_mut(f)?;
                e.param.as_mut().map_or(Ok(()), |param| param.try_visit_mut(f))
            }
            Expr::Call(e) => e.args.iter_mut().try_for_each(|arg| arg.try_visit_mut(f)),
            Expr::Subquery(e) => e.expr.try_visit_mut(f),
            Expr::StepInvariant(e) => e.try_visit_mut(f),
        }
    }

    /// Every selection of series in the tree, those with a range included.
    #[must_use]
    pub fn selectors(&self) -> Vec<&VectorSelector> {
        let mut found = Vec::new();
        self.collect_selectors(&mut found);
        found
    }

    fn collect_selectors<'a>(&'a self, found: &mut Vec<&'a VectorSelector>) {
        match self {
            Expr::Vector(v) => found.push(v),
            Expr::Matrix(m) => found.push(&m.selector),
            _ => self.children().for_each(|child| child.collect_selectors(found)),
        }
    }

    /// The expression without the parentheses and step-invariant marks around it.
    #[must_use]
    pub fn unwrapped(&self) -> &Expr {
        match self {
            Expr::Paren(e) => e.expr.unwrapped(),
            Expr::StepInvariant(e) => e.unwrapped(),
            other => other,
        }
    }
}
