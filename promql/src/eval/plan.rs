//! From the tree of the text to the plan that is evaluated.
//!
//! Resolved here, once per query: `start()`, `end()`, `step()`, `range()`, durations, `@`, parentheses, function
//! names; and which parts do not depend on the step ([`Kind::Invariant`]).

use super::call::Func;
use crate::annotations::Position;
use crate::ast::{
    AggregateOp, AtModifier, BinaryOp, Expr, RangeMode, UnaryOp, ValueType, VectorMatching, VectorSelector,
};
use model::Matcher;

/// A part of a plan.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) kind: Kind,
    pub(crate) value_type: ValueType,
    /// Where its text begins.
    pub(crate) at: Position,
}

/// What a part does.
#[derive(Clone, Debug)]
pub(crate) enum Kind {
    Number(f64),
    Text(String),
    Selector(Selector),
    Range(Range),
    Subquery(Box<Subquery>),
    Call(Box<Call>),
    Aggregate(Box<Aggregate>),
    Binary(Box<Binary>),
    Negate(Box<Node>),
    /// The same values. It stands where the sign stands, and what is behind it is no selector to `timestamp` or
    /// `absent`.
    Plus(Box<Node>),
    /// Evaluated at the first step only; the others repeat its value.
    Invariant(Box<Node>),
}

/// Which series, and as of when.
#[derive(Clone, Debug)]
pub(crate) struct Selector {
    pub(crate) matchers: Vec<Matcher>,
    /// A fixed time instead of the step's, milliseconds.
    pub(crate) time: Option<i64>,
    /// How far back, milliseconds, signed.
    pub(crate) offset: i64,
    pub(crate) mode: RangeMode,
    /// Whether only count and sum of histograms are asked for.
    pub(crate) stats_only: bool,
}

impl Selector {
    /// The time as of which the step at `time` looks at the data.
    #[inline]
    pub(crate) fn reference(&self, time: i64) -> i64 {
        self.time.unwrap_or(time).saturating_sub(self.offset)
    }
}

/// A selector with a window.
#[derive(Clone, Debug)]
pub(crate) struct Range {
    pub(crate) selector: Selector,
    /// Length of the window, milliseconds.
    pub(crate) length: i64,
}

/// An expression over a grid of its own.
#[derive(Clone, Debug)]
pub(crate) struct Subquery {
    pub(crate) inner: Node,
    /// Length of the window, milliseconds.
    pub(crate) length: i64,
    /// Distance of steps, milliseconds; 0 stands for the default.
    pub(crate) step: i64,
    pub(crate) time: Option<i64>,
    pub(crate) offset: i64,
}

impl Subquery {
    /// As [`Selector::reference`].
    pub(crate) fn reference(&self, time: i64) -> i64 {
        self.time.unwrap_or(time).saturating_sub(self.offset)
    }
}

/// A function call.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    /// As it is written.
    pub(crate) name: &'static str,
    pub(crate) func: Func,
    pub(crate) args: Vec<Node>,
}

/// An aggregation.
#[derive(Clone, Debug)]
pub(crate) struct Aggregate {
    pub(crate) op: AggregateOp,
    pub(crate) inner: Node,
    pub(crate) param: Option<Node>,
    /// Sorted.
    pub(crate) grouping: Vec<String>,
    pub(crate) without: bool,
    pub(crate) at: Position,
}

/// A binary operation.
#[derive(Clone, Debug)]
pub(crate) struct Binary {
    pub(crate) op: BinaryOp,
    pub(crate) left: Node,
    pub(crate) right: Node,
    pub(crate) matching: Option<VectorMatching>,
    pub(crate) return_bool: bool,
}

impl Binary {
    pub(crate) fn is_between_vectors(&self) -> bool {
        self.left.value_type == ValueType::Vector && self.right.value_type == ValueType::Vector
    }
}

/// The query's range, milliseconds; `step` is 0 for an instant query.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) start: i64,
    pub(crate) end: i64,
    pub(crate) step: i64,
}

/// A node, whether its value is the same at all steps, and whether it is worth a [`Kind::Invariant`].
struct Planned {
    node: Node,
    invariant: bool,
    wrap: bool,
}

impl Planned {
    fn wrapped(self) -> Node {
        if self.wrap { invariant(self.node) } else { self.node }
    }
}

fn invariant(node: Node) -> Node {
    let (value_type, at) = (node.value_type, node.at);
    Node { kind: Kind::Invariant(Box::new(node)), value_type, at }
}

/// Makes the plan of an expression whose durations are resolved.
pub(crate) fn plan(expr: &Expr, bounds: Bounds) -> Node {
    let mut node = bounds.plan(expr).wrapped();
    mark_stats_only(&mut node, Wanted::Buckets);
    node
}

impl Bounds {
    fn at(&self, at: Option<AtModifier>) -> Option<i64> {
        at.map(|at| match at {
            AtModifier::Time(time) => time,
            AtModifier::Start => self.start,
            AtModifier::End => self.end,
        })
    }

    fn selector(&self, selector: &VectorSelector) -> Selector {
        Selector {
            matchers: selector.matchers.clone(),
            time: self.at(selector.at),
            offset: selector.offset.ms,
            mode: selector.mode,
            stats_only: false,
        }
    }

    /// The value of a function of the query's range.
    fn constant(&self, name: &str) -> Option<f64> {
        let seconds = |ms: i64| ms as f64 / 1000.0;
        match name {
            "start" => Some(seconds(self.start)),
            "end" => Some(seconds(self.end)),
            "range" => Some(seconds(self.end - self.start)),
            "step" if self.start == self.end => Some(0.0),
            "step" => Some(seconds(self.step)),
            _ => None,
        }
    }

    fn plan(&self, expr: &Expr) -> Planned {
        let value_type = expr.value_type();
        // Prometheus evaluates a subquery into a selector of its own making, which stands nowhere in the text.
        let at = if matches!(expr, Expr::Subquery(_)) { 0 } else { expr.pos().start };
        let (kind, is_invariant, wrap) = match expr {
            Expr::Number(number) => (Kind::Number(number.value), true, false),
            Expr::String(text) => (Kind::Text(text.value.clone()), true, false),
            Expr::Paren(paren) => return self.plan(&paren.expr),
            Expr::StepInvariant(inner) => return self.plan(inner),
            Expr::Unary(unary) => {
                let inner = self.plan(&unary.expr);
                let node = Box::new(inner.node);
                let kind = if unary.op == UnaryOp::Plus { Kind::Plus(node) } else { Kind::Negate(node) };
                (kind, inner.invariant, inner.wrap)
            }
            Expr::Vector(vector) => {
                let fixed = vector.at.is_some();
                (Kind::Selector(self.selector(vector)), fixed, fixed)
            }
            Expr::Matrix(matrix) => {
                let selector = self.selector(&matrix.selector);
                let fixed = selector.time.is_some();
                (Kind::Range(Range { selector, length: matrix.range.ms }), fixed, false)
            }
            Expr::Subquery(subquery) => {
                let inner = self.plan(&subquery.expr);
                let time = self.at(subquery.at);
                let subquery = Subquery {
                    // A plain number is as good as wrapped: it is constant anyway.
                    inner: if inner.invariant { invariant(inner.node) } else { inner.node },
                    length: subquery.range.ms,
                    step: subquery.step.ms,
                    time,
                    offset: subquery.offset.ms,
                };
                (Kind::Subquery(Box::new(subquery)), time.is_some(), false)
            }
            Expr::Aggregate(aggregate) => {
                let inner = self.plan(&aggregate.expr);
                let param = aggregate.param.as_ref().map(|param| self.plan(param));
                let mut grouping = aggregate.grouping.clone();
                grouping.sort();
                grouping.dedup();
                let (is_invariant, wrap) = (inner.invariant, inner.wrap);
                let aggregate = Aggregate {
                    op: aggregate.op,
                    inner: inner.node,
                    param: param.map(|param| param.node),
                    grouping,
                    without: aggregate.without,
                    at,
                };
                (Kind::Aggregate(Box::new(aggregate)), is_invariant, wrap)
            }
            Expr::Binary(binary) => {
                let (left, right) = (self.plan(&binary.lhs), self.plan(&binary.rhs));
                let both = left.invariant && right.invariant;
                let (left, right) =
                    if both { (left.node, right.node) } else { (left.wrapped(), right.wrapped()) };
                let binary = Binary {
                    op: binary.op,
                    left,
                    right,
                    matching: binary.matching.clone(),
                    return_bool: binary.return_bool,
                };
                (Kind::Binary(Box::new(binary)), both, both)
            }
            Expr::Call(call) => {
                if let Some(value) = self.constant(call.func.name) {
                    (Kind::Number(value), true, false)
                } else {
                    let func = Func::by_name(call.func.name);
                    let args: Vec<Planned> = call.args.iter().map(|arg| self.plan(arg)).collect();
                    let all = args.iter().all(|arg| arg.invariant);
                    let of_selectors = args.iter().all(|arg| matches!(arg.node.kind, Kind::Selector(_)));
                    let fixed = all
                        && (!func.depends_on_time()
                            || (matches!(func, Func::Timestamp) && of_selectors && !args.is_empty()));
                    let unwrapped = |arg: Planned| if fixed { arg.node } else { arg.wrapped() };
                    let args = args.into_iter().map(unwrapped).collect();
                    (Kind::Call(Box::new(Call { name: call.func.name, func, args })), fixed, fixed)
                }
            }
        };
        Planned { node: Node { kind, value_type, at }, invariant: is_invariant, wrap }
    }
}

/// What of a histogram is looked at further up.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Buckets,
    Stats,
}

/// Marks the selectors of whose histograms only count and sum are asked for.
fn mark_stats_only(node: &mut Node, wanted: Wanted) {
    match &mut node.kind {
        Kind::Number(_) | Kind::Text(_) => {}
        Kind::Selector(selector) => selector.stats_only = wanted == Wanted::Stats,
        Kind::Range(range) => range.selector.stats_only = wanted == Wanted::Stats,
        Kind::Subquery(subquery) => mark_stats_only(&mut subquery.inner, Wanted::Buckets),
        Kind::Negate(inner) | Kind::Plus(inner) | Kind::Invariant(inner) => mark_stats_only(inner, wanted),
        Kind::Aggregate(aggregate) => {
            mark_stats_only(&mut aggregate.inner, wanted);
            if let Some(param) = &mut aggregate.param {
                mark_stats_only(param, wanted);
            }
        }
        Kind::Binary(binary) => {
            let trims = matches!(binary.op, BinaryOp::TrimLower | BinaryOp::TrimUpper);
            let wanted = if trims { Wanted::Buckets } else { wanted };
            mark_stats_only(&mut binary.left, wanted);
            mark_stats_only(&mut binary.right, wanted);
        }
        Kind::Call(call) => {
            let wanted = match call.func {
                _ if call.func.wants_stats() => Wanted::Stats,
                Func::HistogramQuantile | Func::HistogramQuantiles | Func::HistogramFraction => {
                    Wanted::Buckets
                }
                _ => wanted,
            };
            call.args.iter_mut().for_each(|arg| mark_stats_only(arg, wanted));
        }
    }
}
