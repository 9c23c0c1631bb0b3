//! The tree of a PromQL query.
//!
//! The parser makes it, checked: types fit, selectors have a matcher that is not empty, functions exist. The
//! evaluator walks it, the printers write it. Every node knows the bytes of the text it was made of, because
//! annotations and errors cite positions.
//!
//! Invariants of a parsed tree: its height is at most [`crate::ParserOptions::depth_max`], so recursion over it
//! needs no guard; [`MatrixSelector::selector`] carries the offset and the `@` of the whole; there is no
//! [`Expr::StepInvariant`] (a planner may add it).

mod duration;
mod visit;

pub(crate) use duration::SECONDS_MAX;
pub use duration::{DurationArg, DurationError, DurationExpr, DurationOp, resolve_durations};

use crate::signature::Function;
use model::Matcher;
use std::fmt;

/// A range of bytes in the text of the query, half open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct PosRange {
    /// The first byte.
    pub start: usize,
    /// The byte after the last one.
    pub end: usize,
}

impl PosRange {
    /// The range that begins with `self` and ends with `last`.
    #[must_use]
    pub fn to(self, last: PosRange) -> PosRange {
        PosRange { start: self.start, end: last.end }
    }
}

/// What an expression evaluates to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ValueType {
    /// Nothing: the type of a missing argument.
    None,
    /// One number per step.
    Scalar,
    /// One sample per series and step.
    Vector,
    /// A window of samples per series and step.
    Matrix,
    /// A text.
    String,
}

impl ValueType {
    /// The word used in error texts.
    #[must_use]
    pub fn describe(self) -> &'static str {
        match self {
            ValueType::None => "none",
            ValueType::Scalar => "scalar",
            ValueType::Vector => "instant vector",
            ValueType::Matrix => "range vector",
            ValueType::String => "string",
        }
    }

    /// The word used by the HTTP API: `scalar`, `vector`, `matrix`, `string`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            ValueType::None => "none",
            ValueType::Scalar => "scalar",
            ValueType::Vector => "vector",
            ValueType::Matrix => "matrix",
            ValueType::String => "string",
        }
    }
}

impl fmt::Display for ValueType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An expression. The larger nodes are boxed, so that an `Expr` is small.
#[derive(Clone, Debug, PartialEq)]
pub enum Expr {
    /// `1.5`, `0x1f`, `5m`
    Number(NumberLiteral),
    /// `"text"`
    String(StringLiteral),
    /// `(expr)`
    Paren(Box<ParenExpr>),
    /// `-expr`
    Unary(Box<UnaryExpr>),
    /// `lhs op rhs`
    Binary(Box<BinaryExpr>),
    /// `sum by (x) (expr)`
    Aggregate(Box<AggregateExpr>),
    /// `rate(expr)`
    Call(Box<Call>),
    /// `metric{label="value"} offset 5m`
    Vector(Box<VectorSelector>),
    /// `metric[5m]`
    Matrix(Box<MatrixSelector>),
    /// `expr[1h:1m]`
    Subquery(Box<SubqueryExpr>),
    /// A part whose value does not depend on the step. Made by planners, never by the parser.
    StepInvariant(Box<Expr>),
}

/// A number.
#[derive(Clone, Copy, Debug)]
pub struct NumberLiteral {
    /// The value; seconds if it was written as a duration.
    pub value: f64,
    /// Whether it was written as a duration, and is printed as one.
    pub is_duration: bool,
    /// Where it stands.
    pub pos: PosRange,
}

impl PartialEq for NumberLiteral {
    fn eq(&self, other: &NumberLiteral) -> bool {
        let same = self.value == other.value || (self.value.is_nan() && other.value.is_nan());
        same && self.is_duration == other.is_duration && self.pos == other.pos
    }
}

/// A text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StringLiteral {
    /// The text, unquoted. Bytes that are not UTF-8 (`"\xff"`) are kept as private characters, see
    /// [`crate::go::text`].
    pub value: String,
    /// Where it stands, quotes included.
    pub pos: PosRange,
}

/// An expression in parentheses.
#[derive(Clone, Debug, PartialEq)]
pub struct ParenExpr {
    /// What the parentheses hold.
    pub expr: Expr,
    /// Where it stands, parentheses included.
    pub pos: PosRange,
}

/// `+` or `-` before an expression.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum UnaryOp {
    /// `+`
    Plus,
    /// `-`
    Minus,
}

impl UnaryOp {
    /// The operator as it is written.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            UnaryOp::Plus => "+",
            UnaryOp::Minus => "-",
        }
    }
}

/// A signed expression; signs of number literals are folded into the number.
#[derive(Clone, Debug, PartialEq)]
pub struct UnaryExpr {
    /// The sign.
    pub op: UnaryOp,
    /// A scalar or an instant vector.
    pub expr: Expr,
    /// Where the sign and the expression stand.
    pub pos: PosRange,
}

/// The operator of a binary expression.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BinaryOp {
    /// `+`
    Add,
    /// `-`
    Sub,
    /// `*`
    Mul,
    /// `/`
    Div,
    /// `%`
    Mod,
    /// `^`
    Pow,
    /// `atan2`
    Atan2,
    /// `==`
    Eql,
    /// `!=`
    Neq,
    /// `<`
    Lss,
    /// `<=`
    Lte,
    /// `>`
    Gtr,
    /// `>=`
    Gte,
    /// `</`: keeps a histogram's observations below
    TrimUpper,
    /// `>/`: keeps a histogram's observations above
    TrimLower,
    /// `and`
    And,
    /// `or`
    Or,
    /// `unless`
    Unless,
}

impl BinaryOp {
    /// All of them.
    pub const ALL: [BinaryOp; 18] = [
        BinaryOp::Add,
        BinaryOp::Sub,
        BinaryOp::Mul,
        BinaryOp::Div,
        BinaryOp::Mod,
        BinaryOp::Pow,
        BinaryOp::Atan2,
        BinaryOp::Eql,
        BinaryOp::Neq,
        BinaryOp::Lss,
        BinaryOp::Lte,
        BinaryOp::Gtr,
        BinaryOp::Gte,
        BinaryOp::TrimUpper,
        BinaryOp::TrimLower,
        BinaryOp::And,
        BinaryOp::Or,
        BinaryOp::Unless,
    ];

    /// The operator as it is written.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            BinaryOp::Add => "+",
            BinaryOp::Sub => "-",
            BinaryOp::Mul => "*",
            BinaryOp::Div => "/",
            BinaryOp::Mod => "%",
            BinaryOp::Pow => "^",
            BinaryOp::Atan2 => "atan2",
            BinaryOp::Eql => "==",
            BinaryOp::Neq => "!=",
            BinaryOp::Lss => "<",
            BinaryOp::Lte => "<=",
            BinaryOp::Gtr => ">",
            BinaryOp::Gte => ">=",
            BinaryOp::TrimUpper => "</",
            BinaryOp::TrimLower => ">/",
            BinaryOp::And => "and",
            BinaryOp::Or => "or",
            BinaryOp::Unless => "unless",
        }
    }

    /// Whether it is one of `== != < <= > >=`, which filter, or yield 0 and 1 with `bool`.
    #[must_use]
    pub fn is_comparison(self) -> bool {
        use BinaryOp::{Eql, Gte, Gtr, Lss, Lte, Neq};
        matches!(self, Eql | Neq | Lss | Lte | Gtr | Gte)
    }

    /// Whether it is one of `and or unless`, which look at labels only.
    #[must_use]
    pub fn is_set(self) -> bool {
        matches!(self, BinaryOp::And | BinaryOp::Or | BinaryOp::Unless)
    }
}

impl fmt::Display for BinaryOp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Two expressions and an operator.
#[derive(Clone, Debug, PartialEq)]
pub struct BinaryExpr {
    /// The operator.
    pub op: BinaryOp,
    /// The left side, a scalar or an instant vector.
    pub lhs: Expr,
    /// The right side, a scalar or an instant vector.
    pub rhs: Expr,
    /// How series of the two sides find each other. Present exactly if both sides are vectors.
    pub matching: Option<VectorMatching>,
    /// `bool`: a comparison yields 0 or 1 instead of filtering.
    pub return_bool: bool,
}

/// How many series of each side may take part in one match.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Cardinality {
    /// One of each.
    #[default]
    OneToOne,
    /// Many on the left: `group_left`.
    ManyToOne,
    /// Many on the right: `group_right`.
    OneToMany,
    /// Any number: set operators.
    ManyToMany,
}

impl Cardinality {
    /// The word used in texts and in the JSON form.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Cardinality::OneToOne => "one-to-one",
            Cardinality::ManyToOne => "many-to-one",
            Cardinality::OneToMany => "one-to-many",
            Cardinality::ManyToMany => "many-to-many",
        }
    }
}

/// How series of two vectors find each other.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct VectorMatching {
    /// How many series of each side.
    pub card: Cardinality,
    /// The labels of `on (..)` or `ignoring (..)`, in the order written.
    pub labels: Vec<String>,
    /// `on`: only `labels` count. Otherwise all but `labels` count.
    pub on: bool,
    /// The labels that `group_left (..)` or `group_right (..)` copies from the "one" side.
    pub include: Vec<String>,
    /// `fill` and `fill_left`: the value that stands in for a missing series on the left.
    pub fill_lhs: Option<f64>,
    /// `fill` and `fill_right`: the value that stands in for a missing series on the right.
    pub fill_rhs: Option<f64>,
}

/// The operator of an aggregation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each is the word of the language")]
pub enum AggregateOp {
    Sum,
    Avg,
    Min,
    Max,
    Count,
    Group,
    Stddev,
    Stdvar,
    Topk,
    Bottomk,
    Quantile,
    CountValues,
    Limitk,
    LimitRatio,
}

impl AggregateOp {
    /// All of them.
    pub const ALL: [AggregateOp; 14] = [
        AggregateOp::Sum,
        AggregateOp::Avg,
        AggregateOp::Min,
        AggregateOp::Max,
        AggregateOp::Count,
        AggregateOp::Group,
        AggregateOp::Stddev,
        AggregateOp::Stdvar,
        AggregateOp::Topk,
        AggregateOp::Bottomk,
        AggregateOp::Quantile,
        AggregateOp::CountValues,
        AggregateOp::Limitk,
        AggregateOp::LimitRatio,
    ];

    /// The operator as it is written.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            AggregateOp::Sum => "sum",
            AggregateOp::Avg => "avg",
            AggregateOp::Min => "min",
            AggregateOp::Max => "max",
            AggregateOp::Count => "count",
            AggregateOp::Group => "group",
            AggregateOp::Stddev => "stddev",
            AggregateOp::Stdvar => "stdvar",
            AggregateOp::Topk => "topk",
            AggregateOp::Bottomk => "bottomk",
            AggregateOp::Quantile => "quantile",
            AggregateOp::CountValues => "count_values",
            AggregateOp::Limitk => "limitk",
            AggregateOp::LimitRatio => "limit_ratio",
        }
    }

    /// The type of the parameter before the vector, or [`ValueType::None`].
    #[must_use]
    pub fn param_type(self) -> ValueType {
        match self {
            AggregateOp::CountValues => ValueType::String,
            AggregateOp::Topk
            | AggregateOp::Bottomk
            | AggregateOp::Quantile
            | AggregateOp::Limitk
            | AggregateOp::LimitRatio => ValueType::Scalar,
            _ => ValueType::None,
        }
    }

    /// Whether it needs the flag for experimental functions.
    #[must_use]
    pub fn is_experimental(self) -> bool {
        matches!(self, AggregateOp::Limitk | AggregateOp::LimitRatio)
    }
}

impl fmt::Display for AggregateOp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An aggregation over an instant vector.
#[derive(Clone, Debug, PartialEq)]
pub struct AggregateExpr {
    /// The operator.
    pub op: AggregateOp,
    /// The vector.
    pub expr: Expr,
    /// The parameter, if the operator takes one.
    pub param: Option<Expr>,
    /// The labels of `by (..)` or `without (..)`, in the order written.
    pub grouping: Vec<String>,
    /// `without`: the labels to drop. Otherwise those to keep.
    pub without: bool,
    /// Where it stands.
    pub pos: PosRange,
}

/// A function call.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// What is called.
    pub func: &'static Function,
    /// With what, types and count checked.
    pub args: Vec<Expr>,
    /// Where it stands, closing parenthesis included.
    pub pos: PosRange,
}

/// `@ t`, `@ start()`, `@ end()`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AtModifier {
    /// A time, milliseconds since the epoch.
    Time(i64),
    /// The start of the query's range.
    Start,
    /// The end of the query's range.
    End,
}

/// `anchored` and `smoothed`: how the edges of a range are found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum RangeMode {
    /// Samples inside the window only.
    #[default]
    Plain,
    /// The last sample before the window's start counts at the start.
    Anchored,
    /// Values at the edges are interpolated.
    Smoothed,
}

/// A selection of series.
#[derive(Clone, Debug, PartialEq)]
pub struct VectorSelector {
    /// The name written before the braces, or empty. `matchers` has it too, as its last one.
    pub name: String,
    /// All conditions.
    pub matchers: Vec<Matcher>,
    /// `offset`, as written; signed milliseconds, zero if absent.
    pub offset: DurationArg,
    /// `@`
    pub at: Option<AtModifier>,
    /// `anchored`, `smoothed`
    pub mode: RangeMode,
    /// Whether it may have no condition that excludes the empty value: the second argument of `info`.
    pub bypass_empty_matcher_check: bool,
    /// Where it stands, `offset` and `@` included (of a range's selector: not, they belong to the range).
    pub pos: PosRange,
}

/// A selection of series with a range.
#[derive(Clone, Debug, PartialEq)]
pub struct MatrixSelector {
    /// The series; carries offset and `@`.
    pub selector: VectorSelector,
    /// The length of the window.
    pub range: DurationArg,
    /// Where it stands, `offset` and `@` included.
    pub pos: PosRange,
}

/// An expression evaluated over a grid of its own.
#[derive(Clone, Debug, PartialEq)]
pub struct SubqueryExpr {
    /// What is evaluated.
    pub expr: Expr,
    /// The length of the window.
    pub range: DurationArg,
    /// The distance of the grid; zero stands for the default evaluation interval.
    pub step: DurationArg,
    /// `offset`
    pub offset: DurationArg,
    /// `@`
    pub at: Option<AtModifier>,
    /// Where it stands, `offset` and `@` included.
    pub pos: PosRange,
}

impl Expr {
    /// What the expression evaluates to.
    #[must_use]
    pub fn value_type(&self) -> ValueType {
        match self {
            Expr::Number(_) => ValueType::Scalar,
            Expr::String(_) => ValueType::String,
            Expr::Paren(e) => e.expr.value_type(),
            Expr::Unary(e) => e.expr.value_type(),
            Expr::Binary(e) => e.value_type(),
            Expr::Aggregate(_) | Expr::Vector(_) => ValueType::Vector,
            Expr::Call(e) => e.func.return_type,
            Expr::Matrix(_) | Expr::Subquery(_) => ValueType::Matrix,
            Expr::StepInvariant(e) => e.value_type(),
        }
    }

    /// Where the expression stands in the text.
    #[must_use]
    pub fn pos(&self) -> PosRange {
        match self {
            Expr::Number(e) => e.pos,
            Expr::String(e) => e.pos,
            Expr::Paren(e) => e.pos,
            Expr::Unary(e) => e.pos,
            Expr::Binary(e) => e.lhs.pos().to(e.rhs.pos()),
            Expr::Aggregate(e) => e.pos,
            Expr::Call(e) => e.pos,
            Expr::Vector(e) => e.pos,
            Expr::Matrix(e) => e.pos,
            Expr::Subquery(e) => e.pos,
            Expr::StepInvariant(e) => e.pos(),
        }
    }
}

impl BinaryExpr {
    /// Scalar if both sides are, else vector.
    #[must_use]
    pub fn value_type(&self) -> ValueType {
        if self.lhs.value_type() == ValueType::Scalar && self.rhs.value_type() == ValueType::Scalar {
            ValueType::Scalar
        } else {
            ValueType::Vector
        }
    }
}
