//! Series descriptions: sequences of values, and histograms between double braces.

use super::token::{Descriptor, Kind, keyword};
use super::{HistogramMode, Lexer, Mode, Step, is_alpha, is_digit, is_space, quote_char};
use model::CounterResetHint;

impl Lexer<'_> {
    pub(super) fn values(&mut self) -> Step {
        if self.histogram != HistogramMode::None {
            self.mode = Mode::Histogram;
            return None;
        }
        let Some(c) = self.bump() else {
            self.mode = Mode::Statements;
            return None;
        };
        match c {
            '{' if self.accept("{") => {
                self.histogram = HistogramMode::Open;
                self.mode = Mode::Histogram;
                self.some(Kind::OpenHistogram)
            }
            c if is_space(c) => self.space(),
            '+' => self.some(Kind::Add),
            '-' => self.some(Kind::Sub),
            'x' => self.some(Kind::Times),
            '_' => self.some(Kind::Blank),
            c if is_digit(c) || (c == '.' && self.peek().is_some_and(is_digit)) => {
                self.pos = self.start;
                self.number()
            }
            c if is_alpha(c) => {
                self.pos = self.start;
                self.keyword_or_identifier()
            }
            other => {
                self.error(format!("unexpected character in series sequence: {}", quote_char(Some(other))))
            }
        }
    }

    /// One token for a run of spaces, the first of which has been read.
    fn space(&mut self) -> Step {
        let token = self.emit(Kind::Space);
        self.skip_spaces();
        Some(token)
    }

    pub(super) fn histogram(&mut self) -> Step {
        let combined = match self.histogram {
            HistogramMode::Mul => Some(Kind::Times),
            HistogramMode::Add => Some(Kind::Add),
            HistogramMode::Sub => Some(Kind::Sub),
            HistogramMode::None | HistogramMode::Open => None,
        };
        if let Some(kind) = combined {
            self.histogram = HistogramMode::None;
            self.bump();
            self.mode = Mode::Values;
            return self.some(kind);
        }
        if self.bracket_open {
            self.mode = Mode::Buckets;
            return None;
        }
        let c = self.bump();
        match c {
            Some(c) if is_space(c) => self.space(),
            // A letter, so an `x` after a number is never a repetition in here, whatever the grammar says.
            Some(c) if is_alpha(c) => {
                self.pos = self.start;
                self.descriptor()
            }
            Some(':') => self.some(Kind::Colon),
            Some('-') => self.some(Kind::Sub),
            Some(c) if is_digit(c) => {
                self.pos = self.start;
                self.number()
            }
            Some('[') => {
                self.bracket_open = true;
                self.got_colon = false;
                self.got_duration = false;
                self.mode = Mode::Buckets;
                self.some(Kind::LeftBracket)
            }
            Some('}') if self.accept("}") => {
                self.histogram = match self.peek() {
                    Some('x') => HistogramMode::Mul,
                    Some('+') => HistogramMode::Add,
                    Some('-') => HistogramMode::Sub,
                    _ => HistogramMode::None,
                };
                self.mode =
                    if self.histogram == HistogramMode::None { Mode::Values } else { Mode::Histogram };
                self.some(Kind::CloseHistogram)
            }
            other => {
                self.error(format!("histogram description incomplete unexpected: {}", quote_char(other)))
            }
        }
    }

    fn descriptor(&mut self) -> Step {
        while self.peek().is_some_and(is_alpha) {
            self.pos += 1;
        }
        let word = &self.input[self.start..self.pos];
        let lower = word.to_ascii_lowercase();
        if let Some(descriptor) = descriptor(&lower) {
            if self.is(":") {
                return self.some(Kind::Descriptor(descriptor));
            }
            return self.error("missing `:` for histogram descriptor".into());
        }
        if keyword(&lower) == Some(Kind::Number) {
            return self.some(Kind::Number);
        }
        if let Some(hint) = reset_hint(&lower) {
            return self.some(Kind::ResetHint(hint));
        }
        let text = crate::go::quote(word);
        self.error(format!("bad histogram descriptor found: {text}"))
    }

    pub(super) fn buckets(&mut self) -> Step {
        match self.bump() {
            Some(c) if is_space(c) => self.space(),
            Some('-') => {
                self.mode = Mode::Number;
                self.some(Kind::Sub)
            }
            Some(c) if is_digit(c) => {
                self.pos = self.start;
                self.number()
            }
            Some(']') => {
                self.bracket_open = false;
                self.mode = Mode::Histogram;
                self.some(Kind::RightBracket)
            }
            Some(c) if is_alpha(c) => {
                let word = self.input[self.start..self.pos].to_ascii_lowercase();
                if keyword(&word) == Some(Kind::Number) { self.some(Kind::Number) } else { None }
            }
            other => self.error(format!("invalid character in buckets description: {}", quote_char(other))),
        }
    }
}

fn descriptor(word: &str) -> Option<Descriptor> {
    Some(match word {
        "sum" => Descriptor::Sum,
        "count" => Descriptor::Count,
        "schema" => Descriptor::Schema,
        "offset" => Descriptor::Offset,
        "n_offset" => Descriptor::NegativeOffset,
        "buckets" => Descriptor::Buckets,
        "n_buckets" => Descriptor::NegativeBuckets,
        "z_bucket" => Descriptor::ZeroBucket,
        "z_bucket_w" => Descriptor::ZeroBucketWidth,
        "custom_values" => Descriptor::CustomValues,
        "counter_reset_hint" => Descriptor::CounterResetHint,
        _ => return None,
    })
}

fn reset_hint(word: &str) -> Option<CounterResetHint> {
    Some(match word {
        "unknown" => CounterResetHint::Unknown,
        "reset" => CounterResetHint::Reset,
        "not_reset" => CounterResetHint::NotReset,
        "gauge" => CounterResetHint::Gauge,
        _ => return None,
    })
}
