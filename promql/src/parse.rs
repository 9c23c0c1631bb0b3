//! Text to tree.

mod check;
mod duration;
mod error;
mod lex;
mod matching;
mod modifier;
mod operand;
mod parser;
mod selector;
mod series;

pub use error::{ParseError, ParseErrors, Place, line_column};
pub use series::{HistogramStep, SeriesDescription, SeriesValues, VALUES_MAX};

use crate::ast::{Expr, PosRange};
use lex::token::Kind;
use model::{Labels, Matcher};
use parser::{Parser, Tree};

/// What the parser accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParserOptions {
    /// `promql-experimental-functions`: functions and aggregations marked experimental.
    pub experimental_functions: bool,
    /// Arithmetic in ranges, steps and offsets. Stable since Prometheus 3.14.
    pub duration_expressions: bool,
    /// `promql-extended-range-selectors`: `anchored` and `smoothed`.
    pub extended_range_selectors: bool,
    /// `promql-binop-fill-modifiers`: `fill`, `fill_left`, `fill_right`.
    pub fill_modifiers: bool,
    /// The longest accepted text, in bytes.
    pub text_bytes_max: usize,
    /// The highest accepted tree, in nodes from the root to the deepest leaf.
    pub depth_max: usize,
    /// The most regular expressions in one text: `=~`, `!~` and `label_replace`. Each is compiled, which takes
    /// 0.15 ms for a short one, so that a text of the longest kind would otherwise take seconds.
    pub regexes_max: usize,
    /// The most of them with a large program ([`model::AnchoredRegex::is_large`]): each may take 10 MiB and 50 ms.
    pub large_regexes_max: usize,
}

impl Default for ParserOptions {
    fn default() -> ParserOptions {
        ParserOptions {
            experimental_functions: false,
            duration_expressions: true,
            extended_range_selectors: false,
            fill_modifiers: false,
            text_bytes_max: 1 << 20,
            depth_max: 500,
            regexes_max: 1000,
            large_regexes_max: 16,
        }
    }
}

impl ParserOptions {
    /// Every feature flag on.
    #[must_use]
    pub fn all_features() -> ParserOptions {
        ParserOptions {
            experimental_functions: true,
            duration_expressions: true,
            extended_range_selectors: true,
            fill_modifiers: true,
            ..ParserOptions::default()
        }
    }
}

/// Parses and checks an expression. Never panics, and its time and memory are linear in the text.
///
/// # Errors
/// If the text is no valid expression, is longer than [`ParserOptions::text_bytes_max`], its tree higher than
/// [`ParserOptions::depth_max`], or has more regular expressions than [`ParserOptions::regexes_max`].
pub fn parse(text: &str, options: &ParserOptions) -> Result<Expr, ParseErrors> {
    Parser::new(text, options, false).whole(|p| {
        if p.peek() == Kind::Eof {
            p.error(PosRange::default(), "no expression found in input");
            return Ok(Tree::wrong(PosRange::default()).expr);
        }
        let mut expr = p.expr(0)?.expr;
        // Meaning is looked at only if the whole text has a form.
        if p.errors.is_empty() && p.peek() == Kind::Eof {
            p.check(&mut expr);
        }
        Ok(expr)
    })
}

/// Parses a selector without modifiers, like the `match[]` of the HTTP API, into its conditions. Whether one of them
/// excludes the empty value is not checked.
///
/// # Errors
/// If the text is not exactly one selector.
pub fn parse_selector(text: &str, options: &ParserOptions) -> Result<Vec<Matcher>, ParseErrors> {
    Parser::new(text, options, false).whole(|p| p.bare_selector().map(|selector| selector.matchers))
}

/// Parses a series of a rule unit test: labels and values.
///
/// # Errors
/// If the text is not such a series, or it has more than [`VALUES_MAX`] values.
pub fn parse_series(text: &str) -> Result<SeriesDescription, ParseErrors> {
    Parser::new(text, &ParserOptions::all_features(), true).whole(Parser::series_description)
}

/// Parses the labels of a series: `name{label="value"}`.
///
/// # Errors
/// If the text is anything else.
pub fn parse_metric(text: &str) -> Result<Labels, ParseErrors> {
    Parser::new(text, &ParserOptions::all_features(), false).whole(Parser::metric)
}
