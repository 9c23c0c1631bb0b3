//! Tokens, and how errors name them.

use crate::ast::{AggregateOp, BinaryOp, PosRange};

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[rustfmt::skip]
pub(in crate::parse) enum Kind {
    Eof, Error, Comment,
    Identifier, MetricIdentifier, Number, Duration, String,
    LeftParen, RightParen, LeftBrace, RightBrace, LeftBracket, RightBracket, Comma, Colon, Eql,
    // Operators.
    Add, Sub, Mul, Div, Mod, Pow, EqlC, Neq, Lss, Lte, Gtr, Gte, TrimUpper, TrimLower, EqlRegex, NeqRegex,
    And, Or, Unless, Atan2, At,
    Aggregate(AggregateOp),
    // Keywords.
    Bool, By, Without, On, Ignoring, GroupLeft, GroupRight, Fill, FillLeft, FillRight, Offset, Smoothed, Anchored,
    // Functions that may stand in durations or after @.
    Start, End, Step, Range, MaxOf, MinOf,
    // Series descriptions.
    Space, Blank, Times, OpenHistogram, CloseHistogram,
    Descriptor(Descriptor), ResetHint(model::CounterResetHint),
}

/// The keys of a histogram in a series description.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[rustfmt::skip]
pub(in crate::parse) enum Descriptor {
    Sum, Count, Schema, Offset, NegativeOffset, Buckets, NegativeBuckets, ZeroBucket, ZeroBucketWidth, CustomValues,
    CounterResetHint,
}

/// A piece of the text.
#[derive(Clone, Debug)]
pub(in crate::parse) struct Token {
    pub(in crate::parse) kind: Kind,
    pub(in crate::parse) pos: usize,
    pub(in crate::parse) end: usize,
    /// What is wrong, of [`Kind::Error`].
    pub(in crate::parse) message: Option<String>,
}

impl Token {
    pub(in crate::parse) fn range(&self) -> PosRange {
        PosRange { start: self.pos, end: self.end }
    }

    /// The token as errors name it.
    pub(in crate::parse) fn describe(&self, input: &str) -> String {
        let text = &input[self.pos..self.end];
        let quoted = || crate::go::quote(text);
        match self.kind {
            Kind::Eof => "end of input".into(),
            Kind::Error => "error".into(),
            Kind::Identifier => format!("identifier {}", quoted()),
            Kind::MetricIdentifier => format!("metric identifier {}", quoted()),
            Kind::Number => format!("number {}", quote_short(text)),
            Kind::Duration => format!("duration {}", quote_short(text)),
            Kind::String => format!("string {}", quote_short(text)),
            // By their numbers in the grammar, for want of names.
            Kind::Descriptor(key) => format!("\"<Item {}>\" {}", 57_370 + key as u32, quote_short(text)),
            Kind::Aggregate(_) => format!("<aggr:{text}>"),
            kind if kind.is_keyword() => format!("<{text}>"),
            kind if kind.is_operator() => format!("<op:{text}>"),
            _ => quote_short(text),
        }
    }
}

/// The text quoted, its first ten characters if it is longer than ten bytes.
fn quote_short(text: &str) -> String {
    if text.len() <= 10 {
        return crate::go::quote(text);
    }
    let start: String = text.chars().take(10).collect();
    format!("{}...", crate::go::quote(&start))
}

impl Kind {
    fn is_keyword(self) -> bool {
        use Kind::{Anchored, Bool, By, Fill, FillLeft, FillRight, GroupLeft, GroupRight, Ignoring};
        use Kind::{Offset, On, Smoothed, Without};
        matches!(
            self,
            Bool | By
                | Without
                | On
                | Ignoring
                | GroupLeft
                | GroupRight
                | Fill
                | FillLeft
                | FillRight
                | Offset
                | Smoothed
                | Anchored
        )
    }

    fn is_operator(self) -> bool {
        self.binary_op().is_some() || matches!(self, Kind::EqlRegex | Kind::NeqRegex | Kind::At)
    }

    /// Whether it may name a metric at the start of a selector.
    pub(in crate::parse) fn is_metric_identifier(self) -> bool {
        use Kind::{Anchored, And, By, End, Fill, FillLeft, FillRight, Identifier, MaxOf, MetricIdentifier};
        use Kind::{MinOf, Offset, Or, Range, Smoothed, Start, Step, Unless, Without};
        matches!(
            self,
            Kind::Aggregate(_)
                | By
                | Fill
                | FillLeft
                | FillRight
                | Identifier
                | And
                | Or
                | Unless
                | MetricIdentifier
                | Offset
                | Without
                | Start
                | End
                | Step
                | Range
                | Anchored
                | Smoothed
                | MaxOf
                | MinOf
        )
    }

    /// Whether it may name a label in a grouping.
    pub(in crate::parse) fn is_label(self) -> bool {
        use Kind::{Atan2, Bool, GroupLeft, GroupRight, Ignoring, On};
        match self {
            // The one word of the language that Prometheus forgot in its list.
            Kind::Without => false,
            Atan2 | Bool | GroupLeft | GroupRight | Ignoring | On => true,
            kind => kind.is_metric_identifier(),
        }
    }

    pub(in crate::parse) fn binary_op(self) -> Option<BinaryOp> {
        Some(match self {
            Kind::Add => BinaryOp::Add,
            Kind::Sub => BinaryOp::Sub,
            Kind::Mul => BinaryOp::Mul,
            Kind::Div => BinaryOp::Div,
            Kind::Mod => BinaryOp::Mod,
            Kind::Pow => BinaryOp::Pow,
            Kind::Atan2 => BinaryOp::Atan2,
            Kind::EqlC => BinaryOp::Eql,
            Kind::Neq => BinaryOp::Neq,
            Kind::Lss => BinaryOp::Lss,
            Kind::Lte => BinaryOp::Lte,
            Kind::Gtr => BinaryOp::Gtr,
            Kind::Gte => BinaryOp::Gte,
            Kind::TrimUpper => BinaryOp::TrimUpper,
            Kind::TrimLower => BinaryOp::TrimLower,
            Kind::And => BinaryOp::And,
            Kind::Or => BinaryOp::Or,
            Kind::Unless => BinaryOp::Unless,
            _ => return None,
        })
    }
}

/// The keyword that a lower-case word is, outside braces.
pub(super) fn keyword(word: &str) -> Option<Kind> {
    if let Some(op) = AggregateOp::ALL.into_iter().find(|op| op.as_str() == word) {
        return Some(Kind::Aggregate(op));
    }
    Some(match word {
        "and" => Kind::And,
        "or" => Kind::Or,
        "unless" => Kind::Unless,
        "atan2" => Kind::Atan2,
        "offset" => Kind::Offset,
        "smoothed" => Kind::Smoothed,
        "anchored" => Kind::Anchored,
        "by" => Kind::By,
        "without" => Kind::Without,
        "on" => Kind::On,
        "ignoring" => Kind::Ignoring,
        "group_left" => Kind::GroupLeft,
        "group_right" => Kind::GroupRight,
        "fill" => Kind::Fill,
        "fill_left" => Kind::FillLeft,
        "fill_right" => Kind::FillRight,
        "bool" => Kind::Bool,
        "start" => Kind::Start,
        "end" => Kind::End,
        "step" => Kind::Step,
        "range" => Kind::Range,
        "max_of" => Kind::MaxOf,
        "min_of" => Kind::MinOf,
        "inf" | "nan" => Kind::Number,
        _ => return None,
    })
}
