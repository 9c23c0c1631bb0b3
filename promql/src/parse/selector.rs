//! Selectors: a metric's name and conditions in braces.

use super::lex::token::{Kind, Token};
use super::parser::{Parsed, Parser, Stop, Tree};
use crate::ast::{DurationArg, Expr, PosRange, RangeMode, VectorSelector};
use model::{METRIC_NAME, MatchOp, Matcher};

/// What error texts call the inside of braces.
const CONTEXT: &str = "label matching";

impl Parser<'_> {
    /// A selector; its name has been taken, if it has one.
    pub(super) fn selector(&mut self, name: Option<Token>) -> Parsed<Tree> {
        self.vector_selector(name).map(|selector| Tree::leaf(Expr::Vector(Box::new(selector))))
    }

    /// `name{..}`, `name`, or `{..}`, and nothing behind it.
    pub(super) fn bare_selector(&mut self) -> Parsed<VectorSelector> {
        match self.peek() {
            Kind::LeftBrace => self.vector_selector(None),
            kind if kind.is_metric_identifier() => {
                let name = self.take();
                self.vector_selector(Some(name))
            }
            _ => self.fail(),
        }
    }

    fn vector_selector(&mut self, name: Option<Token>) -> Parsed<VectorSelector> {
        let (mut matchers, mut pos) = (Vec::new(), PosRange::default());
        if self.peek() == Kind::LeftBrace {
            (matchers, pos) = self.matchers()?;
        } else if let Some(name) = &name {
            pos = name.range();
        }
        let mut text = "";
        if let Some(name) = &name {
            text = self.text_of(name);
            pos.start = name.pos;
            matchers.push(Matcher::equal(METRIC_NAME, text));
        }
        Ok(VectorSelector {
            name: text.to_owned(),
            matchers,
            offset: DurationArg::default(),
            at: None,
            mode: RangeMode::Plain,
            bypass_empty_matcher_check: false,
            pos,
        })
    }

    fn matchers(&mut self) -> Parsed<(Vec<Matcher>, PosRange)> {
        let open = self.take();
        let mut matchers = Vec::new();
        loop {
            if let Some(close) = self.take_if(Kind::RightBrace) {
                return Ok((matchers, open.range().to(close.range())));
            }
            if let Some(matcher) = self.matcher()? {
                matchers.push(matcher);
            }
            if self.take_if(Kind::Comma).is_none() && self.peek() != Kind::RightBrace {
                return Err(self.unexpected(Stop::unreported(), CONTEXT, "\",\" or \"}\""));
            }
        }
    }

    /// One condition; `None` if it is wrong and that has been reported.
    fn matcher(&mut self) -> Parsed<Option<Matcher>> {
        let kind = self.peek();
        if !matches!(kind, Kind::Identifier | Kind::String) {
            return Err(self.unexpected(Stop::unreported(), CONTEXT, "identifier or \"}\""));
        }
        let name = self.take();
        let name_text =
            if kind == Kind::String { self.unquoted(&name) } else { self.text_of(&name).to_owned() };
        let op = match self.peek() {
            Kind::Eql => MatchOp::Equal,
            Kind::Neq => MatchOp::NotEqual,
            Kind::EqlRegex => MatchOp::Regex,
            Kind::NeqRegex => MatchOp::NotRegex,
            _ if kind == Kind::String => return Ok(Some(Matcher::equal(METRIC_NAME, name_text))),
            _ => return Err(self.unexpected(Stop::unreported(), CONTEXT, "label matching operator")),
        };
        self.take();
        let value = self.expect(Kind::String).map_err(|stop| self.unexpected(stop, CONTEXT, "string"))?;
        let value_text = self.unquoted(&value);
        if matches!(op, MatchOp::Regex | MatchOp::NotRegex) {
            self.count_regex(name.range().to(value.range()))?;
        }
        match Matcher::new(op, name_text, value_text) {
            Ok(matcher) => {
                if matcher.regex().is_some_and(model::AnchoredRegex::is_large) {
                    self.count_large_regex(name.range().to(value.range()))?;
                }
                Ok(Some(matcher))
            }
            Err(error) => {
                self.error(name.range().to(value.range()), error.to_string());
                Ok(None)
            }
        }
    }
}
