//! What is wrong with a text, and where.

use crate::ast::PosRange;
use std::fmt;

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseError {
    /// The bytes it is about.
    pub pos: PosRange,
    /// What is wrong.
    pub message: String,
    /// Line and column of `pos.start`, or why there are none.
    pub place: Place,
}

/// Where an error is, as people count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Line and column, counted from 1, the column in bytes.
    LineColumn(usize, usize),
    /// The text is empty.
    Unknown,
    /// The position lies outside the text.
    Invalid,
}

/// Everything that is wrong, in order of discovery; not empty. Displayed as its first: `1:5: parse error: ...`.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct ParseErrors(pub Vec<ParseError>);

impl ParseError {
    /// Makes an error about `pos` of `text`.
    #[must_use]
    pub fn new(text: &str, pos: PosRange, message: impl Into<String>) -> ParseError {
        ParseError { pos, message: message.into(), place: Place::of(text, pos.start) }
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: parse error: {}", self.place, self.message)
    }
}

impl Place {
    fn of(text: &str, byte: usize) -> Place {
        if text.is_empty() {
            return Place::Unknown;
        }
        line_column(text, byte).map_or(Place::Invalid, |(line, column)| Place::LineColumn(line, column))
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::LineColumn(line, column) => write!(f, "{line}:{column}"),
            Place::Unknown => f.write_str("unknown position"),
            Place::Invalid => f.write_str("invalid position"),
        }
    }
}

impl fmt::Display for ParseErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.first().map_or(Ok(()), |first| first.fmt(f))
    }
}

impl std::error::Error for ParseError {}
impl std::error::Error for ParseErrors {}

/// Line and column of a byte of the text, counted from 1, the column in bytes; `None` beyond the end.
#[must_use]
pub fn line_column(text: &str, byte: usize) -> Option<(usize, usize)> {
    let before = text.as_bytes().get(..byte)?;
    let line = before.iter().filter(|&&b| b == b'\n').count() + 1;
    let column = before.iter().rev().take_while(|&&b| b != b'\n').count() + 1;
    Some((line, column))
}
