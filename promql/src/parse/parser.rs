//! Tokens to tree: expressions, by operator precedence.
//!
//! Prometheus's grammar is one for yacc, with error productions. Here each of those is a place that catches a
//! [`Stop`] on its way up and says what it expected, so that the innermost one speaks, as there. The parser stops at
//! the first syntax error; errors of meaning are collected.

use super::error::ParseError;
use super::lex::Lexer;
use super::lex::token::{Kind, Token};
use super::{ParseErrors, ParserOptions};
use crate::ast::{BinaryExpr, BinaryOp, Expr, NumberLiteral, ParenExpr, PosRange, UnaryExpr, UnaryOp};

/// The end of parsing, on its way up.
pub(super) struct Stop {
    /// Whether the reason is among the errors already.
    reported: bool,
}

impl Stop {
    pub(super) fn unreported() -> Stop {
        Stop { reported: false }
    }
}

pub(super) type Parsed<T> = Result<T, Stop>;

/// An expression and the height of its tree.
pub(super) struct Tree {
    pub(super) expr: Expr,
    pub(super) height: usize,
}

impl Tree {
    pub(super) fn leaf(expr: Expr) -> Tree {
        Tree { expr, height: 1 }
    }

    /// Stands in for what has been reported as wrong.
    pub(super) fn wrong(pos: PosRange) -> Tree {
        Tree::leaf(Expr::Number(NumberLiteral { value: 0.0, is_duration: false, pos }))
    }
}

pub(super) struct Parser<'a> {
    pub(super) text: &'a str,
    pub(super) options: &'a ParserOptions,
    pub(super) lexer: Lexer<'a>,
    /// The token that was looked at and not yet taken.
    ahead: Option<Token>,
    /// The newest token read.
    newest: PosRange,
    pub(super) errors: Vec<ParseError>,
    /// How deep the recursion is.
    depth: usize,
    /// Regular expressions so far, and the large ones among them.
    regexes: usize,
    large_regexes: usize,
}

/// How tightly operators bind; `^` binds to the right.
fn precedence(op: BinaryOp) -> u8 {
    match op {
        BinaryOp::Or => 1,
        BinaryOp::And | BinaryOp::Unless => 2,
        op if op.is_comparison() => 3,
        BinaryOp::TrimUpper | BinaryOp::TrimLower => 3,
        BinaryOp::Add | BinaryOp::Sub => 4,
        BinaryOp::Pow => POW,
        _ => 5,
    }
}

/// The most errors that are collected.
const ERRORS_MAX: usize = 10;

/// The precedence of `^`, which alone binds tighter than a sign.
const POW: u8 = 6;

impl<'a> Parser<'a> {
    pub(super) fn new(text: &'a str, options: &'a ParserOptions, series: bool) -> Parser<'a> {
        Parser {
            text,
            options,
            lexer: Lexer::new(text, series),
            ahead: None,
            newest: PosRange::default(),
            errors: Vec::new(),
            depth: 0,
            regexes: 0,
            large_regexes: 0,
        }
    }

    /// Runs `rule` over the whole text.
    pub(super) fn whole<T>(mut self, rule: impl FnOnce(&mut Self) -> Parsed<T>) -> Result<T, ParseErrors> {
        if self.text.len() > self.options.text_bytes_max {
            let max = self.options.text_bytes_max;
            let message = format!("text is {} bytes long, the limit is {max}", self.text.len());
            self.error(PosRange::default(), message);
            return Err(ParseErrors(self.errors));
        }
        let result = match rule(&mut self) {
            Ok(result) if self.peek() == Kind::Eof => Ok(result),
            Ok(_) => Err(Stop { reported: false }),
            Err(stop) => Err(stop),
        };
        match result.map_err(|stop| self.unexpected(stop, "", "")) {
            Ok(result) if self.errors.is_empty() => Ok(result),
            _ => Err(ParseErrors(self.errors)),
        }
    }

    // Tokens.

    /// The kind of the next token.
    pub(super) fn peek(&mut self) -> Kind {
        self.peek_token().kind
    }

    fn peek_token(&mut self) -> &Token {
        if self.ahead.is_none() {
            let token = self.lexer.next_token();
            self.newest = token.range();
            if let Some(message) = &token.message {
                self.errors.push(ParseError::new(self.text, token.range(), message.clone()));
            }
            self.ahead = Some(token);
        }
        self.ahead.as_ref().expect("filled above")
    }

    /// Takes the next token.
    pub(super) fn take(&mut self) -> Token {
        self.peek();
        self.ahead.take().expect("filled by peek")
    }

    /// Takes the next token if it is of this kind.
    pub(super) fn take_if(&mut self, kind: Kind) -> Option<Token> {
        if self.peek() == kind { Some(self.take()) } else { None }
    }

    /// Takes the next token, which must be of this kind.
    pub(super) fn expect(&mut self, kind: Kind) -> Parsed<Token> {
        self.take_if(kind).ok_or(Stop { reported: false })
    }

    /// The text of a token.
    pub(super) fn text_of(&self, token: &Token) -> &'a str {
        &self.text[token.pos..token.end]
    }

    /// The end of the newest token that may close an expression.
    pub(super) fn last_closing(&self) -> usize {
        self.lexer.last_closing
    }

    /// Where the newest token stands.
    pub(super) fn newest(&self) -> PosRange {
        self.newest
    }

    // Errors.

    pub(super) fn error(&mut self, pos: PosRange, message: impl Into<String>) {
        // Each costs a look at the text, and nobody reads more.
        if self.errors.len() < ERRORS_MAX {
            self.errors.push(ParseError::new(self.text, pos, message));
        }
    }

    /// Counts a regular expression; parsing ends with the first that is too many, before it is compiled.
    pub(super) fn count_regex(&mut self, pos: PosRange) -> Parsed<()> {
        self.regexes += 1;
        let max = self.options.regexes_max;
        if self.regexes <= max {
            return Ok(());
        }
        let message = format!(
            "more than {max} regular expressions in one query: join them with \"|\" or split the query"
        );
        self.error(pos, message);
        Err(Stop { reported: true })
    }

    /// Counts a large one that was compiled; parsing ends with the first that is too many.
    pub(super) fn count_large_regex(&mut self, pos: PosRange) -> Parsed<()> {
        self.large_regexes += 1;
        let max = self.options.large_regexes_max;
        if self.large_regexes <= max {
            return Ok(());
        }
        let message = format!(
            "more than {max} large regular expressions in one query: simplify them or split the query"
        );
        self.error(pos, message);
        Err(Stop { reported: true })
    }

    /// The next token fits nowhere.
    pub(super) fn fail<T>(&self) -> Parsed<T> {
        Err(Stop { reported: false })
    }

    /// Reports the next token as unexpected, unless somebody has.
    pub(super) fn unexpected(&mut self, stop: Stop, context: &str, expected: &str) -> Stop {
        if stop.reported || self.peek() == Kind::Error {
            return Stop { reported: true };
        }
        let text = self.text;
        let token = self.peek_token();
        let (pos, mut message) = (token.range(), format!("unexpected {}", token.describe(text)));
        if !context.is_empty() {
            message.push_str(" in ");
            message.push_str(context);
        }
        if !expected.is_empty() {
            message.push_str(", expected ");
            message.push_str(expected);
        }
        self.error(pos, message);
        Stop { reported: true }
    }

    /// Runs `rule` one level deeper, if that is allowed.
    pub(super) fn deeper<T>(&mut self, rule: impl FnOnce(&mut Self) -> Parsed<T>) -> Parsed<T> {
        if self.depth >= self.options.depth_max {
            return self.too_deep();
        }
        self.depth += 1;
        let result = rule(self);
        self.depth -= 1;
        result
    }

    /// A height of one more, if that is allowed.
    pub(super) fn higher(&mut self, height: usize) -> Parsed<usize> {
        if height >= self.options.depth_max {
            return self.too_deep();
        }
        Ok(height + 1)
    }

    fn too_deep<T>(&mut self) -> Parsed<T> {
        let message = format!("expression is nested more than {} levels deep", self.options.depth_max);
        self.error(self.newest, message);
        Err(Stop { reported: true })
    }

    // Expressions.

    /// An expression whose operators all bind at least as tightly as `binding`.
    pub(super) fn expr(&mut self, binding: u8) -> Parsed<Tree> {
        self.deeper(|p| {
            let mut lhs = match p.peek() {
                Kind::Add => p.unary(UnaryOp::Plus)?,
                Kind::Sub => p.unary(UnaryOp::Minus)?,
                _ => p.operand()?,
            };
            while let Some(op) = p.peek().binary_op().filter(|op| precedence(*op) >= binding) {
                lhs = p.binary(op, lhs)?;
            }
            Ok(lhs)
        })
    }

    fn unary(&mut self, op: UnaryOp) -> Parsed<Tree> {
        let sign = self.take();
        let operand = self.expr(POW)?;
        let height = self.higher(operand.height)?;
        Ok(match operand.expr {
            Expr::Number(mut number) => {
                if op == UnaryOp::Minus {
                    number.value = -number.value;
                }
                number.pos.start = sign.pos;
                Tree::leaf(Expr::Number(number))
            }
            expr => {
                let pos = PosRange { start: sign.pos, end: expr.pos().end };
                Tree { expr: Expr::Unary(Box::new(UnaryExpr { op, expr, pos })), height }
            }
        })
    }

    fn binary(&mut self, op: BinaryOp, lhs: Tree) -> Parsed<Tree> {
        self.take();
        let modifier = self.binary_modifier()?;
        let rhs = self.expr(if op == BinaryOp::Pow { POW } else { precedence(op) + 1 })?;
        let height = self.higher(lhs.height.max(rhs.height))?;
        let has_fill = modifier.matching.fill_lhs.is_some() || modifier.matching.fill_rhs.is_some();
        let expr = Expr::Binary(Box::new(BinaryExpr {
            op,
            lhs: lhs.expr,
            rhs: rhs.expr,
            matching: Some(modifier.matching),
            return_bool: modifier.return_bool,
        }));
        if has_fill && !self.options.fill_modifiers {
            self.error(expr.pos(), "binop fill modifiers are experimental and not enabled");
        }
        Ok(Tree { expr, height })
    }

    pub(super) fn paren(&mut self) -> Parsed<Tree> {
        let open = self.take();
        let inner = self.expr(0)?;
        let close = self.expect(Kind::RightParen)?;
        let pos = open.range().to(close.range());
        let height = self.higher(inner.height)?;
        Ok(Tree { expr: Expr::Paren(Box::new(ParenExpr { expr: inner.expr, pos })), height })
    }
}
