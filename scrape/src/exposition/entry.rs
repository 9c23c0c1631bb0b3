//! What a parser finds, one entry after another.

use std::fmt;

/// What kind of metric a family is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum MetricKind {
    /// `unknown`, in the text format `untyped`.
    #[default]
    Unknown,
    /// `counter`
    Counter,
    /// `gauge`
    Gauge,
    /// `histogram`
    Histogram,
    /// `gaugehistogram`
    GaugeHistogram,
    /// `summary`
    Summary,
    /// `info`
    Info,
    /// `stateset`
    StateSet,
}

impl MetricKind {
    /// As the API writes it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            MetricKind::Unknown => "unknown",
            MetricKind::Counter => "counter",
            MetricKind::Gauge => "gauge",
            MetricKind::Histogram => "histogram",
            MetricKind::GaugeHistogram => "gaugehistogram",
            MetricKind::Summary => "summary",
            MetricKind::Info => "info",
            MetricKind::StateSet => "stateset",
        }
    }
}

/// A body is not what its format says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseError {
    /// The line, counted from 1; 0 for a format without lines.
    pub line: usize,
    /// What is wrong, in Prometheus's words.
    pub message: String,
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line == 0 {
            f.write_str(&self.message)
        } else {
            write!(f, "line {}: {}", self.line, self.message)
        }
    }
}

impl std::error::Error for ParseError {}

/// One entry of a text body.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Entry {
    /// A sample; its series is asked for with the parser's `series` and `labels`.
    Sample {
        /// The value; every NaN is the ordinary one.
        value: f64,
        /// Its own timestamp in milliseconds, if it has one.
        timestamp: Option<i64>,
    },
    /// What kind the family is of whose name `name` yields.
    Kind(MetricKind),
    /// A help text.
    Help,
    /// A unit.
    Unit,
    /// A comment without meaning.
    Comment,
}

/// A name and a value of a label, where they stand in the body, without their quotes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LabelSpan {
    pub(crate) name: (usize, usize),
    pub(crate) value: (usize, usize),
}

/// Resolves the escapes `\\`, `\"` and `\n`; any other backslash stands for itself.
pub(crate) fn unescape(text: &str) -> std::borrow::Cow<'_, str> {
    unescape_with(text, true)
}

/// The same for help texts of the text format, where a quote needs no escape.
pub(crate) fn unescape_help(text: &str) -> std::borrow::Cow<'_, str> {
    unescape_with(text, false)
}

fn unescape_with(text: &str, quotes: bool) -> std::borrow::Cow<'_, str> {
    if !text.contains('\\') {
        return text.into();
    }
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        plain.push_str(&rest[..at]);
        let (resolved, used) = match rest.as_bytes().get(at + 1) {
            Some(b'\\') => ('\\', 2),
            Some(b'n') => ('\n', 2),
            Some(b'"') if quotes => ('"', 2),
            _ => ('\\', 1),
        };
        plain.push(resolved);
        rest = &rest[at + used..];
    }
    plain.push_str(rest);
    plain.into()
}
