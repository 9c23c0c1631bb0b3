//! Text to tokens, one at a time.
//!
//! What a character means depends on where it stands: inside braces keywords are names, inside brackets letters are
//! units and functions of durations, in a series description a space is a token. So the lexer is a small state
//! machine, and the parser must not read further ahead than it needs: [`Lexer::last_closing`] moves when a token is
//! read, and positions of nodes depend on it, as they do in Prometheus.

mod histogram;
pub(super) mod number;
pub(super) mod string;
pub(super) mod token;

use token::{Kind, Token, keyword};

/// The next thing to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Statements,
    Braces,
    DurationExpr,
    Values,
    Histogram,
    Buckets,
    /// A number must come next, in a histogram description.
    Number,
    /// After an error, or the end.
    Done,
}

/// Where a series description's histogram stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum HistogramMode {
    None,
    Open,
    Mul,
    Add,
    Sub,
}

/// The reader of tokens.
pub(super) struct Lexer<'a> {
    pub(super) input: &'a str,
    mode: Mode,
    pos: usize,
    start: usize,
    /// The position of the newest token.
    pub(super) last_pos: usize,
    /// The end of the newest token that may close an expression.
    pub(super) last_closing: usize,
    paren_depth: i64,
    brace_open: bool,
    bracket_open: bool,
    got_colon: bool,
    got_duration: bool,
    series: bool,
    histogram: HistogramMode,
}

/// What a state yields: a token, or nothing yet.
type Step = Option<Token>;

impl<'a> Lexer<'a> {
    pub(super) fn new(input: &'a str, series: bool) -> Lexer<'a> {
        Lexer {
            input,
            mode: Mode::Statements,
            pos: 0,
            start: 0,
            last_pos: 0,
            last_closing: 0,
            paren_depth: 0,
            brace_open: false,
            bracket_open: false,
            got_colon: false,
            got_duration: false,
            series,
            histogram: HistogramMode::None,
        }
    }

    /// The next token; comments are skipped. After the end or an error: the end, again and again.
    pub(super) fn next_token(&mut self) -> Token {
        let token = loop {
            let step = match self.mode {
                Mode::Statements => self.statements(),
                Mode::Braces => self.braces(),
                Mode::DurationExpr => self.duration_expr(),
                Mode::Values => self.values(),
                Mode::Histogram => self.histogram(),
                Mode::Buckets => self.buckets(),
                Mode::Number => {
                    self.mode = Mode::Statements;
                    self.number()
                }
                Mode::Done => Some(self.emit(Kind::Eof)),
            };
            if let Some(token) = step.filter(|token| token.kind != Kind::Comment) {
                break token;
            }
        };
        self.last_pos = token.pos;
        use Kind::{Duration, Number, RightBrace, RightBracket, RightParen};
        if matches!(token.kind, RightBrace | RightParen | RightBracket | Duration | Number) {
            self.last_closing = token.end;
        }
        token
    }

    fn peek(&self) -> Option<char> {
        self.input[self.pos..].chars().next()
    }

    fn bump(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.pos += c.len_utf8();
        Some(c)
    }

    fn accept(&mut self, valid: &str) -> bool {
        let found = self.is(valid);
        if found {
            self.pos += 1;
        }
        found
    }

    fn is(&self, valid: &str) -> bool {
        self.peek().is_some_and(|c| valid.contains(c))
    }

    fn emit(&mut self, kind: Kind) -> Token {
        let token = Token { kind, pos: self.start, end: self.pos, message: None };
        self.start = self.pos;
        token
    }

    fn some(&mut self, kind: Kind) -> Step {
        Some(self.emit(kind))
    }

    fn error(&mut self, message: String) -> Step {
        self.mode = Mode::Done;
        Some(Token { kind: Kind::Error, pos: self.start, end: self.input.len(), message: Some(message) })
    }

    fn skip_spaces(&mut self) {
        while self.peek().is_some_and(is_space) {
            self.pos += 1;
        }
        self.start = self.pos;
    }

    fn statements(&mut self) -> Step {
        if self.histogram != HistogramMode::None {
            self.mode = Mode::Histogram;
            return None;
        }
        if self.brace_open {
            self.mode = Mode::Braces;
            return None;
        }
        let Some(c) = self.bump() else {
            if self.paren_depth != 0 {
                return self.error("unclosed left parenthesis".into());
            }
            if self.bracket_open {
                return self.error("unclosed left bracket".into());
            }
            self.mode = Mode::Done;
            return self.some(Kind::Eof);
        };
        match c {
            '#' => self.comment(),
            ',' => self.some(Kind::Comma),
            c if is_space(c) => {
                self.skip_spaces();
                None
            }
            '*' => self.some(Kind::Mul),
            '/' => self.some(Kind::Div),
            '%' => self.some(Kind::Mod),
            '+' => self.some(Kind::Add),
            '-' => self.some(Kind::Sub),
            '^' => self.some(Kind::Pow),
            '@' => self.some(Kind::At),
            '=' if self.accept("=") => self.some(Kind::EqlC),
            '=' if self.is("~") => self.error("unexpected character after '=': '~'".into()),
            '=' => self.some(Kind::Eql),
            '!' => match self.bump() {
                Some('=') => self.some(Kind::Neq),
                other => self.error(format!("unexpected character after '!': {}", quote_char(other))),
            },
            '<' if self.accept("=") => self.some(Kind::Lte),
            '<' if self.accept("/") => self.some(Kind::TrimUpper),
            '<' => self.some(Kind::Lss),
            '>' if self.accept("=") => self.some(Kind::Gte),
            '>' if self.accept("/") => self.some(Kind::TrimLower),
            '>' => self.some(Kind::Gtr),
            c if is_digit(c) || (c == '.' && self.peek().is_some_and(is_digit)) => {
                self.pos = self.start;
                self.number_or_duration()
            }
            '"' | '\'' => self.string(c),
            '`' => self.raw_string(),
            c if is_alpha(c) || c == ':' => self.word(c),
            '(' => {
                self.paren_depth += 1;
                self.some(Kind::LeftParen)
            }
            ')' => self.right_paren(),
            '{' => {
                self.brace_open = true;
                self.mode = Mode::Braces;
                self.some(Kind::LeftBrace)
            }
            '[' => self.left_bracket(),
            ']' if !self.bracket_open => self.error("unexpected right bracket ']'".into()),
            ']' => {
                self.bracket_open = false;
                self.some(Kind::RightBracket)
            }
            other => self.error(format!("unexpected character: {}", quote_char(Some(other)))),
        }
    }

    /// A word outside braces. Inside brackets only the functions of durations are words.
    fn word(&mut self, first: char) -> Step {
        if !self.bracket_open {
            self.pos = self.start;
            return self.keyword_or_identifier();
        }
        if first == ':' {
            if self.got_colon {
                return self.error("unexpected colon ':'".into());
            }
            self.got_colon = true;
            return self.some(Kind::Colon);
        }
        if is_duration_keyword_start(first)
            && let Some(token) = self.duration_keyword()
        {
            return Some(token);
        }
        self.error(format!("unexpected character: {}, expected ':'", quote_char(Some(first))))
    }

    /// A closing parenthesis. One too many is reported by the token after it.
    fn right_paren(&mut self) -> Step {
        self.paren_depth -= 1;
        if self.paren_depth < 0 {
            self.start = self.pos;
            return self.error("unexpected right parenthesis ')'".into());
        }
        self.some(Kind::RightParen)
    }

    fn left_bracket(&mut self) -> Step {
        if self.bracket_open {
            return self.error("unexpected left bracket '['".into());
        }
        self.got_colon = false;
        let token = self.emit(Kind::LeftBracket);
        self.skip_spaces();
        self.bracket_open = true;
        self.mode = Mode::DurationExpr;
        Some(token)
    }

    fn comment(&mut self) -> Step {
        while self.peek().is_some_and(|c| c != '\n' && c != '\r') {
            self.bump();
        }
        self.some(Kind::Comment)
    }

    fn braces(&mut self) -> Step {
        let Some(c) = self.bump() else {
            return self.error("unexpected end of input inside braces".into());
        };
        match c {
            '#' => self.comment(),
            c if is_space(c) => {
                self.skip_spaces();
                None
            }
            c if is_alpha(c) => {
                while self.peek().is_some_and(is_alphanumeric) {
                    self.pos += 1;
                }
                self.some(Kind::Identifier)
            }
            ',' => self.some(Kind::Comma),
            '"' | '\'' => self.string(c),
            '`' => self.raw_string(),
            '=' if self.accept("~") => self.some(Kind::EqlRegex),
            '=' => self.some(Kind::Eql),
            '!' => match self.bump() {
                Some('~') => self.some(Kind::NeqRegex),
                Some('=') => self.some(Kind::Neq),
                other => {
                    self.error(format!("unexpected character after '!' inside braces: {}", quote_char(other)))
                }
            },
            '{' => self.error("unexpected left brace '{'".into()),
            '}' => {
                self.brace_open = false;
                self.mode = if self.series { Mode::Values } else { Mode::Statements };
                self.some(Kind::RightBrace)
            }
            other => self.error(format!("unexpected character inside braces: {}", quote_char(Some(other)))),
        }
    }

    /// What follows an opening bracket, up to the first number.
    fn duration_expr(&mut self) -> Step {
        let Some(c) = self.bump() else {
            return self.error("unexpected end of input in duration expression".into());
        };
        match c {
            ']' => {
                self.bracket_open = false;
                self.got_colon = false;
                self.mode = Mode::Statements;
                self.some(Kind::RightBracket)
            }
            ':' => {
                self.start = self.pos;
                if !self.got_duration {
                    return self.error("unexpected colon before duration in duration expression".into());
                }
                if self.got_colon {
                    return self.error("unexpected repeated colon in duration expression".into());
                }
                self.start -= 1;
                self.got_colon = true;
                self.some(Kind::Colon)
            }
            '(' => {
                self.paren_depth += 1;
                self.some(Kind::LeftParen)
            }
            ')' => self.right_paren(),
            c if is_space(c) => {
                self.skip_spaces();
                None
            }
            '+' => self.some(Kind::Add),
            '-' => self.some(Kind::Sub),
            '*' => self.some(Kind::Mul),
            '/' => self.some(Kind::Div),
            '%' => self.some(Kind::Mod),
            '^' => self.some(Kind::Pow),
            ',' => self.some(Kind::Comma),
            c if is_duration_keyword_start(c) => match self.duration_keyword() {
                Some(token) => Some(token),
                None => self
                    .error(format!("unexpected character in duration expression: {}", quote_char(Some(c)))),
            },
            c if is_digit(c) || (c == '.' && self.peek().is_some_and(is_digit)) => {
                self.pos = self.start;
                self.got_duration = true;
                self.mode = Mode::Statements;
                self.number_or_duration()
            }
            other => self
                .error(format!("unexpected character in duration expression: {}", quote_char(Some(other)))),
        }
    }

    /// `step`, `range`, `min_of`, `max_of`; the first letter has been read.
    fn duration_keyword(&mut self) -> Option<Token> {
        while self.peek().is_some_and(is_alpha) {
            self.pos += 1;
        }
        let kind = match self.input[self.start..self.pos].to_ascii_lowercase().as_str() {
            "step" => Kind::Step,
            "range" => Kind::Range,
            "max_of" => Kind::MaxOf,
            "min_of" => Kind::MinOf,
            _ => return None,
        };
        Some(self.emit(kind))
    }

    fn keyword_or_identifier(&mut self) -> Step {
        while self.peek().is_some_and(|c| is_alphanumeric(c) || c == ':') {
            self.pos += 1;
        }
        let word = &self.input[self.start..self.pos];
        let kind = match keyword(&word.to_ascii_lowercase()) {
            // A name unless a parenthesis follows, so that no older query breaks.
            Some(Kind::Fill | Kind::FillLeft | Kind::FillRight) if !self.left_paren_follows() => {
                Kind::Identifier
            }
            Some(kind) => kind,
            None if word.contains(':') => Kind::MetricIdentifier,
            None => Kind::Identifier,
        };
        let next = self.peek();
        self.mode = if self.series && next != Some('{') { Mode::Values } else { Mode::Statements };
        self.some(kind)
    }

    fn left_paren_follows(&self) -> bool {
        self.input[self.pos..].trim_start_matches(is_space).starts_with('(')
    }
}

fn is_duration_keyword_start(c: char) -> bool {
    matches!(c.to_ascii_lowercase(), 's' | 'r' | 'm')
}

pub(super) fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r')
}

fn is_digit(c: char) -> bool {
    c.is_ascii_digit()
}

fn is_alpha(c: char) -> bool {
    c == '_' || c.is_ascii_alphabetic()
}

fn is_alphanumeric(c: char) -> bool {
    is_alpha(c) || is_digit(c)
}

/// A character as Go's `%q` prints it; the end of the text is -1 there, which prints as the replacement character.
fn quote_char(c: Option<char>) -> String {
    crate::go::quote_char(c.unwrap_or(char::REPLACEMENT_CHARACTER))
}
