//! What operators stand between: literals, calls, aggregations, selectors, each with the modifiers behind it.

use super::lex::number::number_value;
use super::lex::string::unquote;
use super::lex::token::{Kind, Token};
use super::parser::{Parsed, Parser, Stop, Tree};
use crate::ast::{AggregateExpr, AggregateOp, Call, Expr, NumberLiteral, PosRange, StringLiteral};
use crate::signature::function;

/// `by (..)` or `without (..)`
#[derive(Default)]
struct Grouping {
    labels: Vec<String>,
    without: bool,
}

impl Parser<'_> {
    /// An operand and all modifiers behind it, which bind tighter than any operator.
    pub(super) fn operand(&mut self) -> Parsed<Tree> {
        let mut tree = self.primary()?;
        loop {
            tree = match self.peek() {
                Kind::Offset => self.offset(tree)?,
                Kind::At => self.at(tree)?,
                Kind::Anchored | Kind::Smoothed => self.range_mode(tree),
                Kind::LeftBracket => self.range(tree)?,
                _ => return Ok(tree),
            };
        }
    }

    fn primary(&mut self) -> Parsed<Tree> {
        match self.peek() {
            Kind::Number | Kind::Duration => {
                let token = self.take();
                Ok(Tree::leaf(Expr::Number(self.number(&token))))
            }
            Kind::String => {
                let token = self.take();
                let value = self.unquoted(&token);
                Ok(Tree::leaf(Expr::String(StringLiteral { value, pos: token.range() })))
            }
            Kind::LeftParen => self.paren(),
            Kind::LeftBrace => self.selector(None),
            kind if kind.is_metric_identifier() => self.named(),
            _ => self.fail(),
        }
    }

    /// Whether the token may begin an expression.
    pub(super) fn begins_expr(kind: Kind) -> bool {
        use Kind::{Add, Duration, LeftBrace, LeftParen, Number, String, Sub};
        matches!(kind, Number | Duration | String | LeftParen | LeftBrace | Add | Sub)
            || kind.is_metric_identifier()
    }

    /// A word: an aggregation, a call or a metric's name, as the next token tells.
    fn named(&mut self) -> Parsed<Tree> {
        let word = self.take();
        let next = self.peek();
        match word.kind {
            Kind::Aggregate(op) if matches!(next, Kind::LeftParen | Kind::By | Kind::Without) => {
                self.aggregate(op, &word).map_err(|stop| self.unexpected(stop, "aggregation", ""))
            }
            Kind::Identifier
            | Kind::Start
            | Kind::End
            | Kind::Step
            | Kind::Range
            | Kind::MaxOf
            | Kind::MinOf
                if next == Kind::LeftParen =>
            {
                self.call(&word)
            }
            _ => self.selector(Some(word)),
        }
    }

    /// The value of a number or a duration.
    pub(super) fn number(&mut self, token: &Token) -> NumberLiteral {
        let text = self.text_of(token);
        let is_duration = token.kind == Kind::Duration;
        let value = if is_duration {
            crate::duration::parse_ms(text).map(|ms| ms as f64 / 1000.0)
        } else {
            number_value(text)
        };
        let value = value.unwrap_or_else(|message| {
            self.error(token.range(), message);
            0.0
        });
        NumberLiteral { value, is_duration, pos: token.range() }
    }

    /// What a string token means.
    pub(super) fn unquoted(&mut self, token: &Token) -> String {
        unquote(self.text_of(token)).unwrap_or_else(|| {
            self.error(token.range(), "string has an escape sequence that means nothing");
            String::new()
        })
    }

    fn call(&mut self, word: &Token) -> Parsed<Tree> {
        let (args, height) = self.args()?;
        let name = self.text_of(word);
        let pos = PosRange { start: word.pos, end: self.last_closing() };
        let height = self.higher(height)?;
        // Keywords are not case sensitive, names of functions are.
        let Some(func) = function(name) else {
            self.error(word.range(), format!("unknown function with name {}", crate::go::quote(name)));
            return Ok(Tree::wrong(pos));
        };
        if func.name == "label_replace" {
            self.count_regex(word.range())?;
        }
        if func.experimental && !self.options.experimental_functions {
            self.error(word.range(), format!("function {} is not enabled", crate::go::quote(name)));
        }
        Ok(Tree { expr: Expr::Call(Box::new(Call { func, args, pos })), height })
    }

    /// `(a, b)`: the arguments, and the height of the highest.
    fn args(&mut self) -> Parsed<(Vec<Expr>, usize)> {
        self.expect(Kind::LeftParen)?;
        let (mut args, mut height) = (Vec::new(), 0);
        if self.take_if(Kind::RightParen).is_some() {
            return Ok((args, height));
        }
        loop {
            let arg = self.expr(0)?;
            height = height.max(arg.height);
            args.push(arg.expr);
            loop {
                if self.take_if(Kind::RightParen).is_some() {
                    return Ok((args, height));
                }
                let comma = self.expect(Kind::Comma)?;
                if Self::begins_expr(self.peek()) {
                    break;
                }
                self.error(comma.range(), "trailing commas not allowed in function call args");
            }
        }
    }

    fn aggregate(&mut self, op: AggregateOp, word: &Token) -> Parsed<Tree> {
        let before = self.grouping()?;
        let (args, height) = self.args()?;
        let after = if before.is_none() { self.grouping()? } else { None };
        let grouped = before.is_some() || after.is_some();
        let grouping = before.or(after).unwrap_or_default();
        let end = if grouped { self.last_closing() } else { self.previous_right_paren() };
        let pos = PosRange { start: word.pos, end };
        let height = self.higher(height)?;

        let count = args.len();
        let mut args = args.into_iter();
        let takes_param = op.param_type() != crate::ast::ValueType::None;
        let expected = if takes_param { 2 } else { 1 };
        if count == 0 {
            self.error(pos, "no arguments for aggregate expression provided");
        } else if op.is_experimental() && !self.options.experimental_functions {
            let flag = "--enable-feature=promql-experimental-functions";
            self.error(pos, format!("{op}() is experimental and must be enabled with {flag}"));
        } else if count != expected {
            let wrong = "wrong number of arguments for aggregate expression provided";
            self.error(pos, format!("{wrong}, expected {expected}, got {count}"));
        }
        let param = if takes_param { args.next() } else { None };
        let Some(expr) = args.next() else { return Ok(Tree::wrong(pos)) };
        let Grouping { labels, without } = grouping;
        let expr = AggregateExpr { op, expr, param, grouping: labels, without, pos };
        Ok(Tree { expr: Expr::Aggregate(Box::new(expr)), height })
    }

    /// The end of an aggregation, when the token behind it has been read to see whether it is `by` or `without`:
    /// if that was a parenthesis, the one before it.
    fn previous_right_paren(&mut self) -> usize {
        self.peek();
        let (closing, last, bytes) = (self.last_closing(), self.lexer.last_pos, self.text.as_bytes());
        if last == 0 || bytes.get(last) != Some(&b')') {
            return closing;
        }
        let before = (1..last).rev().find(|&i| !super::lex::is_space(bytes[i] as char));
        before.filter(|&i| bytes[i] == b')').map_or(closing, |i| i + 1)
    }

    fn grouping(&mut self) -> Parsed<Option<Grouping>> {
        let without = match self.peek() {
            Kind::By => false,
            Kind::Without => true,
            _ => return Ok(None),
        };
        self.take();
        Ok(Some(Grouping { labels: self.grouping_labels()?, without }))
    }

    /// `(a, b)`, with or without a comma at the end.
    pub(super) fn grouping_labels(&mut self) -> Parsed<Vec<String>> {
        const CONTEXT: &str = "grouping opts";
        self.expect(Kind::LeftParen).map_err(|stop| self.unexpected(stop, CONTEXT, "\"(\""))?;
        let mut labels = Vec::new();
        while self.take_if(Kind::RightParen).is_none() {
            let label = self.grouping_label().map_err(|stop| self.unexpected(stop, CONTEXT, "label"))?;
            labels.push(label);
            if self.take_if(Kind::Comma).is_none() && self.peek() != Kind::RightParen {
                return Err(self.unexpected(Stop::unreported(), CONTEXT, "\",\" or \")\""));
            }
        }
        Ok(labels)
    }

    fn grouping_label(&mut self) -> Parsed<String> {
        let kind = self.peek();
        if kind != Kind::String && !kind.is_label() {
            return self.fail();
        }
        let token = self.take();
        let label =
            if kind == Kind::String { self.unquoted(&token) } else { self.text_of(&token).to_owned() };
        if label.is_empty() {
            self.error(token.range(), "invalid label name for grouping: \"\"");
        }
        Ok(label)
    }
}
