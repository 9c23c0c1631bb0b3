//! Series descriptions, the language of rule unit tests: `metric{label="value"} 1+2x3 _x2 {{schema:1 buckets:[1 2]}}`.
//!
//! <https://prometheus.io/docs/prometheus/latest/configuration/unit_testing_rules/#series>. Values stay folded here
//! (start, step, count), so that a short text never becomes a long list by itself.

mod histogram;

use super::lex::token::{Kind, Token};
use super::parser::{Parsed, Parser, Stop};
use crate::ast::PosRange;
use model::{FloatHistogram, Labels, METRIC_NAME, STALE_NAN};

/// The most values that one series may have.
pub const VALUES_MAX: u64 = 1 << 20;

/// A series of a test.
#[derive(Clone, Debug)]
pub struct SeriesDescription {
    /// The labels, the name among them.
    pub labels: Labels,
    /// What the samples are, one after the other; at most [`VALUES_MAX`] in all.
    pub values: Vec<SeriesValues>,
}

/// Some samples in a row.
#[derive(Clone, Debug)]
pub enum SeriesValues {
    /// No samples: `_`, `_x3`.
    Omitted {
        /// How many.
        count: u64,
    },
    /// `1`, `1x3`, `1+2x3`, `stale`
    Floats {
        /// The first value.
        start: f64,
        /// What is added to get the next one.
        step: f64,
        /// How many.
        count: u64,
    },
    /// `{{..}}`, `{{..}}x3`, `{{..}}+{{..}}x3`
    Histograms {
        /// The first value.
        start: Box<FloatHistogram>,
        /// What is added or taken away to get the next one.
        step: Option<HistogramStep>,
        /// How many.
        count: u64,
        /// Whether a counter reset hint was written in the histogram read last, even if `unknown`.
        hint_is_set: bool,
    },
}

/// The change from one histogram to the next.
#[derive(Clone, Debug)]
pub enum HistogramStep {
    /// It is added.
    Add(Box<FloatHistogram>),
    /// It is taken away.
    Sub(Box<FloatHistogram>),
}

impl SeriesValues {
    fn count(&self) -> u64 {
        match self {
            SeriesValues::Omitted { count }
            | SeriesValues::Floats { count, .. }
            | SeriesValues::Histograms { count, .. } => *count,
        }
    }
}

/// What error texts call the labels and the values.
const LABELS: &str = "label set";
const VALUES: &str = "series values";

impl Parser<'_> {
    pub(super) fn series_description(&mut self) -> Parsed<SeriesDescription> {
        let labels = self.metric()?;
        let values = self.series_values().map_err(|stop| self.unexpected(stop, VALUES, ""))?;
        Ok(SeriesDescription { labels, values })
    }

    /// `name{label="value"}`, each part of which may be missing.
    pub(super) fn metric(&mut self) -> Parsed<Labels> {
        let name = if self.peek().is_metric_identifier() { Some(self.take()) } else { None };
        let mut pairs = Vec::new();
        if self.take_if(Kind::LeftBrace).is_some() {
            while self.take_if(Kind::RightBrace).is_none() {
                pairs.push(self.label()?);
                if self.take_if(Kind::Comma).is_none() && self.peek() != Kind::RightBrace {
                    return Err(self.unexpected(Stop::unreported(), LABELS, "\",\" or \"}\""));
                }
            }
        }
        if let Some(name) = name {
            pairs.push((METRIC_NAME.to_owned(), self.text_of(&name).to_owned()));
        }
        Ok(Labels::from_pairs(pairs))
    }

    fn label(&mut self) -> Parsed<(String, String)> {
        let kind = self.peek();
        if !matches!(kind, Kind::Identifier | Kind::String) {
            return Err(self.unexpected(Stop::unreported(), LABELS, "identifier or \"}\""));
        }
        let token = self.take();
        let name = if kind == Kind::String { self.unquoted(&token) } else { self.text_of(&token).to_owned() };
        if self.take_if(Kind::Eql).is_none() {
            if kind == Kind::String {
                return Ok((METRIC_NAME.to_owned(), name));
            }
            return Err(self.unexpected(Stop::unreported(), LABELS, "\"=\""));
        }
        let value = self.expect(Kind::String).map_err(|stop| self.unexpected(stop, LABELS, "string"))?;
        Ok((name, self.unquoted(&value)))
    }

    fn series_values(&mut self) -> Parsed<Vec<SeriesValues>> {
        let (mut values, mut count) = (Vec::new(), 0u64);
        while self.peek() != Kind::Eof {
            self.expect(Kind::Space)?;
            let item = match self.peek() {
                Kind::Space | Kind::Eof => continue,
                Kind::Blank => self.blanks()?,
                Kind::OpenHistogram => self.histograms()?,
                _ => self.floats()?,
            };
            count = count.saturating_add(item.count());
            if count > VALUES_MAX {
                self.error(PosRange::default(), format!("series has more than {VALUES_MAX} values"));
                return Ok(Vec::new());
            }
            values.push(item);
        }
        Ok(values)
    }

    fn blanks(&mut self) -> Parsed<SeriesValues> {
        self.take();
        let count = if self.take_if(Kind::Times).is_some() { self.unsigned()? } else { 1 };
        Ok(SeriesValues::Omitted { count })
    }

    fn floats(&mut self) -> Parsed<SeriesValues> {
        let start = match self.peek() {
            Kind::Identifier => {
                let token = self.take();
                if self.text_of(&token) != "stale" {
                    let what = token.describe(self.text);
                    self.error(
                        token.range(),
                        format!("unexpected {what} in {VALUES}, expected number or \"stale\""),
                    );
                }
                STALE_NAN
            }
            _ => self.signed_or_unsigned()?,
        };
        let step = match self.peek() {
            Kind::Add | Kind::Sub => self.signed_or_unsigned()?,
            Kind::Times => 0.0,
            _ => return Ok(SeriesValues::Floats { start, step: 0.0, count: 1 }),
        };
        self.expect(Kind::Times)?;
        // One more for the time zero.
        Ok(SeriesValues::Floats { start, step, count: self.unsigned()?.saturating_add(1) })
    }

    fn histograms(&mut self) -> Parsed<SeriesValues> {
        let (start, mut hint_is_set) = self.histogram()?;
        let step = match self.peek() {
            Kind::Add | Kind::Sub => {
                let is_sum = self.take().kind == Kind::Add;
                let (step, set) = self.histogram()?;
                hint_is_set = set;
                Some((is_sum, step))
            }
            _ => None,
        };
        let count = match (self.take_if(Kind::Times), &step) {
            (Some(_), _) => self.unsigned()?.saturating_add(1),
            (None, Some(_)) => return self.fail(),
            (None, None) => 1,
        };
        if let Some((_, step)) = &step
            && start.schema > step.schema
            && count > 1
        {
            let (from, to) = (step.schema, start.schema);
            let why = format!("error combining histograms: cannot merge from schema {from} to {to}");
            self.error(self.newest(), why);
        }
        let step =
            step.map(
                |(is_sum, h)| {
                    if is_sum { HistogramStep::Add(Box::new(h)) } else { HistogramStep::Sub(Box::new(h)) }
                },
            );
        Ok(SeriesValues::Histograms { start: Box::new(start), step, count, hint_is_set })
    }

    /// A number with or without a sign.
    fn signed_or_unsigned(&mut self) -> Parsed<f64> {
        let sign = if matches!(self.peek(), Kind::Add | Kind::Sub) { Some(self.take()) } else { None };
        let value = self.unsigned_number()?;
        Ok(if sign.is_some_and(|sign| sign.kind == Kind::Sub) { -value } else { value })
    }

    fn unsigned_number(&mut self) -> Parsed<f64> {
        if !matches!(self.peek(), Kind::Number | Kind::Duration) {
            return self.fail();
        }
        let token = self.take();
        Ok(self.number(&token).value)
    }

    /// Digits.
    fn unsigned(&mut self) -> Parsed<u64> {
        let token = self.expect(Kind::Number)?;
        Ok(self.unsigned_value(&token))
    }

    fn unsigned_value(&mut self, token: &Token) -> u64 {
        let text = self.text_of(token);
        let digits = text.bytes().all(|b| b.is_ascii_digit());
        match text.parse() {
            Ok(value) if digits => value,
            _ => {
                let why = if digits { "value out of range" } else { "invalid syntax" };
                let quoted = crate::go::quote(text);
                let message = format!(
                    "invalid repetition in series values: strconv.ParseUint: parsing {quoted}: {why}"
                );
                self.error(token.range(), message);
                0
            }
        }
    }
}
