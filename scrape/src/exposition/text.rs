//! The text formats: Prometheus's 0.0.4 and 1.0.0, and OpenMetrics 0.0.1 and 1.0.0.
//!
//! The parser walks over the body and copies nothing: series and labels are spans of it. What is accepted and how
//! errors read is what Prometheus 3 does, which is laxer than both specifications. Exemplars are checked and passed
//! over. Invariant: after every entry the parser stands at the beginning of a line.

use super::entry::{Entry, LabelSpan, MetricKind, ParseError, unescape, unescape_help};
use super::lexer::{Lexer, State, Token};
use super::number::{format_openmetrics, parse_go, parse_value};
use super::quote::quote;
use std::borrow::Cow;

/// Which of the two grammars.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// Prometheus text.
    Prometheus,
    /// OpenMetrics text.
    OpenMetrics,
}

/// Reads a body entry by entry.
#[derive(Clone, Debug)]
pub struct TextParser<'a> {
    lexer: Lexer<'a>,
    dialect: Dialect,
    /// Where the present entry began.
    start: usize,
    /// Where the series of the present sample ends.
    series_end: usize,
    name: Option<(usize, usize)>,
    labels: Vec<LabelSpan>,
    text: (usize, usize),
    kind: MetricKind,
    /// OpenMetrics has ended properly.
    ended: bool,
}

impl<'a> TextParser<'a> {
    /// Starts at the beginning. A Prometheus body must end with a line feed; add one if in doubt, an empty line
    /// means nothing.
    #[must_use]
    pub fn new(body: &'a [u8], dialect: Dialect) -> TextParser<'a> {
        TextParser {
            lexer: Lexer::new(body),
            dialect,
            start: 0,
            series_end: 0,
            name: None,
            labels: Vec::new(),
            text: (0, 0),
            kind: MetricKind::Unknown,
            ended: false,
        }
    }

    /// Where the next entry begins.
    pub(crate) fn position(&self) -> usize {
        self.lexer.at
    }

    /// Where the present entry begins.
    pub(crate) fn begin_of_entry(&self) -> usize {
        self.start
    }

    /// Goes on at the beginning of another line.
    pub(crate) fn seek(&mut self, at: usize) {
        self.lexer.at = at;
        self.lexer.state = State::Init;
    }

    /// Says what the last `TYPE` line was, if lines were passed over by [`TextParser::seek`].
    pub(crate) fn set_kind(&mut self, kind: MetricKind) {
        self.kind = kind;
    }

    /// The next entry; `None` at the end.
    ///
    /// # Errors
    /// If the body is malformed; nothing can be read behind that.
    #[expect(
        clippy::should_implement_trait,
        reason = "an iterator could not lend the parser between its items"
    )]
    pub fn next(&mut self) -> Result<Option<Entry>, ParseError> {
        let result = match self.dialect {
            Dialect::Prometheus => self.next_prometheus(),
            Dialect::OpenMetrics => self.next_openmetrics(),
        };
        result.map_err(|message| {
            let before = &self.lexer.body[..self.start.min(self.lexer.body.len())];
            ParseError { line: 1 + before.iter().filter(|b| **b == b'\n').count(), message }
        })
    }

    /// The text of the present sample's series, as it stands in the body.
    #[must_use]
    pub fn series(&self) -> &'a [u8] {
        &self.lexer.body[self.start..self.series_end]
    }

    /// The name of the present sample or metadata.
    #[must_use]
    pub fn name(&self) -> Cow<'a, str> {
        self.name.map_or(Cow::Borrowed(""), |span| self.unescaped(span))
    }

    /// The text of the present help, unit or comment.
    #[must_use]
    pub fn text(&self) -> Cow<'a, str> {
        match (String::from_utf8_lossy(&self.lexer.body[self.text.0..self.text.1]), self.dialect) {
            (Cow::Borrowed(text), Dialect::Prometheus) => unescape_help(text),
            (Cow::Borrowed(text), Dialect::OpenMetrics) => unescape(text),
            (owned, _) => owned,
        }
    }

    /// The text of the present entry as it stands.
    #[cfg(test)]
    fn text_raw(&self) -> Cow<'a, str> {
        String::from_utf8_lossy(&self.lexer.body[self.text.0..self.text.1])
    }

    /// The labels of the present sample in their order in the body, without the metric's name; empty values and
    /// repeated names included. Bounds of buckets and quantiles are written as floats.
    pub fn labels(&self) -> impl Iterator<Item = (Cow<'a, str>, Cow<'a, str>)> {
        self.labels.iter().map(|label| {
            let name = self.unescaped(label.name);
            let value = self.unescaped(label.value);
            let value = normalize_bound(self.kind, &name, value);
            (name, value)
        })
    }

    fn unescaped(&self, (start, end): (usize, usize)) -> Cow<'a, str> {
        match String::from_utf8_lossy(&self.lexer.body[start..end]) {
            Cow::Borrowed(text) => unescape(text),
            owned @ Cow::Owned(_) => owned, // refused before: names and values are checked to be UTF-8
        }
    }

    fn token(&mut self) -> Token {
        match self.dialect {
            Dialect::Prometheus => self.lexer.next_prometheus(),
            Dialect::OpenMetrics => self.lexer.next_openmetrics(),
        }
    }

    /// "EXPECTED, got WORD (KIND) while parsing: ENTRY".
    #[cold]
    fn unexpected(&self, expected: &str, got: Token) -> String {
        let body = self.lexer.body;
        let end = body.len().min(self.lexer.at + 1);
        let word = quote(&body[self.lexer.start.min(end)..end]);
        let entry = quote(&body[self.start.min(end)..end]);
        format!("{expected}, got {word} (\"{}\") while parsing: {entry}", got.as_str())
    }

    #[cold]
    fn while_parsing(&self, what: &str) -> String {
        format!("{what} while parsing: {}", quote(&self.lexer.body[self.start..self.lexer.at]))
    }

    fn begin(&mut self) {
        self.start = self.lexer.at;
        self.name = None;
        self.labels.clear();
    }

    fn next_prometheus(&mut self) -> Result<Option<Entry>, String> {
        loop {
            self.begin();
            return match self.token() {
                Token::Eof => Ok(None),
                Token::Linebreak => continue,
                meta @ (Token::Help | Token::Type) => {
                    self.meta_name(meta)?;
                    match self.token() {
                        Token::Text => {}
                        got => {
                            return Err(format!("expected text in {}, got {}", meta.as_str(), got.as_str()));
                        }
                    }
                    self.text = (self.lexer.at.min(self.lexer.start + 1), self.lexer.at);
                    let entry = self.meta_entry(meta)?;
                    self.expect_linebreak("linebreak expected after metadata")?;
                    Ok(Some(entry))
                }
                Token::Comment => {
                    self.text = (self.lexer.start, self.lexer.at);
                    self.expect_linebreak("linebreak expected after comment")?;
                    Ok(Some(Entry::Comment))
                }
                first @ (Token::BraceOpen | Token::MetricName) => self.sample(first).map(Some),
                got => Err(self.unexpected("expected a valid start token", got)),
            };
        }
    }

    fn next_openmetrics(&mut self) -> Result<Option<Entry>, String> {
        if self.ended {
            return Ok(None);
        }
        self.begin();
        match self.token() {
            Token::EofWord if self.token() == Token::Eof => {
                self.ended = true;
                Ok(None)
            }
            Token::EofWord => Err("unexpected data after # EOF".to_owned()),
            Token::Eof => Err("data does not end with # EOF".to_owned()),
            meta @ (Token::Help | Token::Type | Token::Unit) => {
                self.meta_name(meta)?;
                if self.token() != Token::Text {
                    return Err(format!("expected text in {}", meta.as_str()));
                }
                self.text = (self.lexer.start + 1, self.lexer.at - 1);
                self.meta_entry(meta).map(Some)
            }
            first @ (Token::BraceOpen | Token::MetricName) => self.sample(first).map(Some),
            got => Err(self.unexpected("expected a valid start token", got)),
        }
    }

    fn expect_linebreak(&mut self, expected: &str) -> Result<(), String> {
        match self.token() {
            Token::Linebreak => Ok(()),
            got => Err(self.unexpected(expected, got)),
        }
    }

    fn meta_name(&mut self, meta: Token) -> Result<(), String> {
        match self.token() {
            Token::MetricName => {}
            got => return Err(self.unexpected(&format!("expected metric name after {}", meta.as_str()), got)),
        }
        let quoted = usize::from(self.lexer.body[self.lexer.start] == b'"');
        let span = (self.lexer.start + quoted, self.lexer.at - quoted);
        let name = &self.lexer.body[span.0..span.1];
        if std::str::from_utf8(name).is_err() {
            return Err(format!("invalid UTF-8 metric name: {}", quote(name)));
        }
        self.name = Some(span);
        Ok(())
    }

    fn meta_entry(&mut self, meta: Token) -> Result<Entry, String> {
        let text = &self.lexer.body[self.text.0..self.text.1];
        match meta {
            Token::Type => {
                let kind = kind_of(text, self.dialect);
                self.kind = kind.ok_or_else(|| format!("invalid metric type {}", quote(text)))?;
                Ok(Entry::Kind(self.kind))
            }
            Token::Unit => {
                let name = self.name.map_or(&[][..], |(start, end)| &self.lexer.body[start..end]);
                let fits =
                    text.is_empty() || name.strip_suffix(text).is_some_and(|rest| rest.ends_with(b"_"));
                if fits {
                    Ok(Entry::Unit)
                } else {
                    Err(format!("unit {} not a suffix of metric {}", quote(text), quote(name)))
                }
            }
            _ if std::str::from_utf8(text).is_err() => {
                Err(format!("help text {} is not a valid utf8 string", quote(text)))
            }
            _ => Ok(Entry::Help),
        }
    }

    fn sample(&mut self, first: Token) -> Result<Entry, String> {
        let mut token = first;
        self.series_end = self.lexer.at;
        if first == Token::MetricName {
            // White space before the name belongs to the entry, not to the name.
            self.name = Some((self.lexer.start, self.lexer.at));
            token = self.token();
        }
        if token == Token::BraceOpen {
            self.label_set(false)?;
            self.series_end = self.lexer.at;
            token = self.token();
        }
        if self.name.is_none() {
            return Err(self.while_parsing("metric name not set"));
        }
        let value = self.value(token, "metric")?;
        let timestamp = match self.dialect {
            Dialect::Prometheus => self.prometheus_suffix()?,
            Dialect::OpenMetrics => self.openmetrics_suffix()?,
        };
        Ok(Entry::Sample { value, timestamp })
    }

    fn value(&mut self, token: Token, after: &str) -> Result<f64, String> {
        if token != Token::Value {
            return Err(self.unexpected(&format!("expected value after {after}"), token));
        }
        self.float()
    }

    /// The last word as a number; in OpenMetrics a space leads it.
    fn float(&self) -> Result<f64, String> {
        let word = self.lexer.word();
        let digits = if self.dialect == Dialect::OpenMetrics { &word[1..] } else { word };
        parse_value(digits).map_err(|what| self.while_parsing(&what))
    }

    fn prometheus_suffix(&mut self) -> Result<Option<i64>, String> {
        match self.token() {
            Token::Linebreak => Ok(None),
            Token::Timestamp => {
                let word = std::str::from_utf8(self.lexer.word()).expect("digits are ASCII");
                let timestamp = word.parse().map_err(|_| {
                    self.while_parsing(&format!("strconv.ParseInt: parsing \"{word}\": value out of range"))
                })?;
                self.expect_linebreak("expected next entry after timestamp")?;
                Ok(Some(timestamp))
            }
            got => Err(self.unexpected("expected timestamp or new record", got)),
        }
    }

    fn openmetrics_suffix(&mut self) -> Result<Option<i64>, String> {
        let timestamp = match self.token() {
            Token::Eof => return Err("data does not end with # EOF".to_owned()),
            Token::Linebreak => return Ok(None),
            Token::Comment => return self.exemplar().map(|()| None),
            Token::Timestamp => self.seconds("invalid timestamp")?,
            got => return Err(self.unexpected("expected timestamp or # symbol", got)),
        };
        match self.token() {
            Token::Linebreak => {}
            Token::Comment => self.exemplar()?,
            got => return Err(self.unexpected("expected next entry after timestamp", got)),
        }
        Ok(Some(timestamp))
    }

    /// The last word as seconds, in milliseconds cut off as Prometheus cuts them.
    fn seconds(&self, invalid: &str) -> Result<i64, String> {
        let seconds = self.float()?;
        if seconds.is_finite() {
            Ok((seconds * 1000.0) as i64)
        } else {
            Err(format!("{invalid} {}", format_openmetrics(seconds)))
        }
    }

    fn exemplar(&mut self) -> Result<(), String> {
        self.label_set(true)?;
        let token = self.token();
        self.value(token, "exemplar labels")?;
        match self.token() {
            Token::Eof => Err("data does not end with # EOF".to_owned()),
            Token::Linebreak => Ok(()),
            Token::Timestamp => {
                self.seconds("invalid exemplar timestamp")?;
                self.expect_linebreak("expected next entry after exemplar timestamp")
            }
            got => Err(self.unexpected("expected timestamp or comment", got)),
        }
    }

    /// What stands between braces.
    fn label_set(&mut self, exemplar: bool) -> Result<(), String> {
        let mut token = self.token();
        loop {
            let quoted = match token {
                Token::BraceClose => return Ok(()),
                Token::LabelName => 0,
                Token::Quoted => 1,
                got => return Err(self.unexpected("expected label name", got)),
            };
            let name = (self.lexer.start + quoted, self.lexer.at - quoted);
            let name_text = &self.lexer.body[name.0..name.1];
            if std::str::from_utf8(name_text).is_err() {
                return Err(format!("invalid UTF-8 label name: {}", quote(name_text)));
            }
            token = self.token();
            // A quoted text with nothing assigned is the metric's name.
            if quoted == 1 && !exemplar && matches!(token, Token::Comma | Token::BraceClose) {
                if self.name.is_some() {
                    return Err(self.while_parsing("metric name already set"));
                }
                self.name = Some(name);
                if token == Token::BraceClose {
                    return Ok(());
                }
                token = self.token();
                continue;
            }
            if token != Token::Equal {
                return Err(self.unexpected("expected equal", token));
            }
            match self.token() {
                Token::LabelValue => {}
                got => return Err(self.unexpected("expected label value", got)),
            }
            let word = self.lexer.word();
            if std::str::from_utf8(word).is_err() {
                return Err(format!("invalid UTF-8 label value: {}", quote(word)));
            }
            if !exemplar {
                self.labels.push(LabelSpan { name, value: (self.lexer.start + 1, self.lexer.at - 1) });
            }
            token = self.token();
            if token == Token::Comma {
                token = self.token();
            } else if self.dialect == Dialect::OpenMetrics && token != Token::BraceClose {
                return Err(self.unexpected("expected comma or brace close", token));
            }
        }
    }
}

fn kind_of(text: &[u8], dialect: Dialect) -> Option<MetricKind> {
    let openmetrics = dialect == Dialect::OpenMetrics;
    Some(match text {
        b"counter" => MetricKind::Counter,
        b"gauge" => MetricKind::Gauge,
        b"histogram" => MetricKind::Histogram,
        b"summary" => MetricKind::Summary,
        b"untyped" if !openmetrics => MetricKind::Unknown,
        b"unknown" if openmetrics => MetricKind::Unknown,
        b"gaugehistogram" if openmetrics => MetricKind::GaugeHistogram,
        b"info" if openmetrics => MetricKind::Info,
        b"stateset" if openmetrics => MetricKind::StateSet,
        _ => return None,
    })
}

/// A label that holds a bound, which is written as a float.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BoundLabel {
    Le,
    Quantile,
}

impl BoundLabel {
    /// The one of a family of this kind.
    #[inline]
    pub(crate) fn of_kind(kind: MetricKind) -> Option<BoundLabel> {
        match kind {
            // Not those of a gaugehistogram: as in Prometheus, its bounds stay as they are written.
            MetricKind::Histogram => Some(BoundLabel::Le),
            MetricKind::Summary => Some(BoundLabel::Quantile),
            _ => None,
        }
    }

    /// The one of this name.
    pub(crate) fn of_name(name: &str) -> Option<BoundLabel> {
        match name {
            "le" => Some(BoundLabel::Le),
            "quantile" => Some(BoundLabel::Quantile),
            _ => None,
        }
    }
}

/// Writes the bound of a bucket or the quantile of a summary as a float, so that `1` and `1.0` are one series.
pub(crate) fn normalize_bound<'a>(kind: MetricKind, name: &str, value: Cow<'a, str>) -> Cow<'a, str> {
    let bound = BoundLabel::of_kind(kind);
    if bound.is_none() || bound != BoundLabel::of_name(name) {
        return value;
    }
    match parse_go(value.as_bytes()) {
        Ok(number) => Cow::Owned(format_openmetrics(number)),
        Err(_) => value,
    }
}

#[cfg(test)]
mod tests;
