//! Words of the two text formats.
//!
//! Where a word begins and ends decides how errors read, so both lexers follow the states of Prometheus's
//! (`model/textparse/*.l`): a word that fails ends where no rule can go on, and an error shows one byte more.

/// What a word is. Names are those that error messages show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Token {
    Invalid,
    Eof,
    Linebreak,
    Whitespace,
    Help,
    Type,
    Unit,
    EofWord,
    Text,
    Comment,
    MetricName,
    Quoted,
    BraceOpen,
    BraceClose,
    LabelName,
    LabelValue,
    Comma,
    Equal,
    Timestamp,
    Value,
}

impl Token {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Token::Invalid => "INVALID",
            Token::Eof => "EOF",
            Token::Linebreak => "LINEBREAK",
            Token::Whitespace => "WHITESPACE",
            Token::Help => "HELP",
            Token::Type => "TYPE",
            Token::Unit => "UNIT",
            Token::EofWord => "EOFWORD",
            Token::Text => "TEXT",
            Token::Comment => "COMMENT",
            Token::MetricName => "MNAME",
            Token::Quoted => "QSTRING",
            Token::BraceOpen => "BOPEN",
            Token::BraceClose => "BCLOSE",
            Token::LabelName => "LNAME",
            Token::LabelValue => "LVALUE",
            Token::Comma => "COMMA",
            Token::Equal => "EQUAL",
            Token::Timestamp => "TIMESTAMP",
            Token::Value => "VALUE",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Init,
    Comment,
    MetaName,
    MetaText,
    Labels,
    LabelValue,
    Value,
    Timestamp,
    Exemplar,
    ExemplarValue,
    ExemplarTimestamp,
}

/// A place in a body and what may stand there.
#[derive(Clone, Debug)]
pub(crate) struct Lexer<'a> {
    pub(crate) body: &'a [u8],
    /// Where the last word began.
    pub(crate) start: usize,
    /// Where it ended, which is where the next one begins.
    pub(crate) at: usize,
    pub(crate) state: State,
}

fn is_label_start(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_'
}

fn is_metric_start(byte: u8) -> bool {
    is_label_start(byte) || byte == b':'
}

impl<'a> Lexer<'a> {
    pub(crate) fn new(body: &'a [u8]) -> Lexer<'a> {
        Lexer { body, start: 0, at: 0, state: State::Init }
    }

    /// The last word.
    pub(crate) fn word(&self) -> &'a [u8] {
        &self.body[self.start..self.at]
    }

    pub(crate) fn peek(&self) -> Option<u8> {
        self.body.get(self.at).copied()
    }

    fn take_while(&mut self, accept: impl Fn(u8) -> bool) {
        while self.peek().is_some_and(&accept) {
            self.at += 1;
        }
    }

    /// Ends a word of one byte.
    fn one(&mut self, token: Token, state: State) -> Token {
        self.at += 1;
        self.state = state;
        token
    }

    /// Ends a name.
    fn name(&mut self, token: Token, state: State, start: impl Fn(u8) -> bool) -> Token {
        self.take_while(|b| start(b) || b.is_ascii_digit());
        self.state = state;
        token
    }

    /// A text in quotes; a backslash takes the byte behind it along, if that is not a line feed.
    fn quoted(&mut self, token: Token, state: State, across_lines: bool) -> Token {
        self.at += 1;
        loop {
            match self.peek() {
                None => return Token::Invalid,
                Some(b'\n') if !across_lines => return Token::Invalid,
                Some(b'"') => return self.one(token, state),
                Some(b'\\') => {
                    self.at += 1;
                    if matches!(self.peek(), None | Some(b'\n')) {
                        return Token::Invalid;
                    }
                    self.at += 1;
                }
                Some(_) => self.at += 1,
            }
        }
    }

    /// A keyword and what must stand behind it; `None`, and nothing moved, if it is not there.
    fn keyword(&mut self, word: &[u8], behind: impl Fn(u8) -> bool) -> bool {
        let found = self.body[self.at..].starts_with(word)
            && self.body.get(self.at + word.len()).copied().is_some_and(behind);
        if found {
            self.at += word.len() + 1;
        }
        found
    }

    /// The next word of the text format, white space skipped.
    pub(crate) fn next_prometheus(&mut self) -> Token {
        loop {
            match self.lex_prometheus() {
                Token::Whitespace => {}
                token => return token,
            }
        }
    }

    fn lex_prometheus(&mut self) -> Token {
        let Some(byte) = self.peek() else {
            return Token::Eof;
        };
        let blank = |b: u8| b == b' ' || b == b'\t';
        self.start = self.at;
        // A help text begins with its white space, so the rule for texts comes before the one for white space,
        // and is the longer match.
        if self.state == State::MetaText && byte != b'\n' {
            self.take_while(|b| b != b'\n');
            self.state = State::Init;
            return Token::Text;
        }
        if blank(byte) {
            self.take_while(blank);
            return Token::Whitespace;
        }
        match (self.state, byte) {
            (State::Init | State::Timestamp, b'\n') => self.one(Token::Linebreak, State::Init),
            (State::MetaText, _) => {
                self.state = State::Init;
                Token::Text
            }
            (State::Init, b'#') => self.prometheus_comment(blank),
            (State::Init, b'{') => self.one(Token::BraceOpen, State::Labels),
            (State::Init, b) if is_metric_start(b) => {
                self.name(Token::MetricName, State::Value, is_metric_start)
            }
            (State::MetaName, b'"') => self.quoted(Token::MetricName, State::MetaText, true),
            (State::MetaName, b) if is_metric_start(b) => {
                self.name(Token::MetricName, State::MetaText, is_metric_start)
            }
            (State::Value, b'{') => self.one(Token::BraceOpen, State::Labels),
            (State::Value, b) if b != b'\n' => {
                self.take_while(|b| !matches!(b, b'{' | b' ' | b'\t' | b'\n'));
                self.state = State::Timestamp;
                Token::Value
            }
            (State::Labels, b'}') => self.one(Token::BraceClose, State::Value),
            (State::Labels, b'=') => self.one(Token::Equal, State::LabelValue),
            (State::Labels, b',') => self.one(Token::Comma, State::Labels),
            (State::Labels, b'"') => self.quoted(Token::Quoted, State::Labels, true),
            (State::Labels, b) if is_label_start(b) => {
                self.name(Token::LabelName, State::Labels, is_label_start)
            }
            (State::LabelValue, b'"') => self.quoted(Token::LabelValue, State::Labels, true),
            (State::Timestamp, b) if b.is_ascii_digit() => {
                self.take_while(|b| b.is_ascii_digit());
                Token::Timestamp
            }
            _ => Token::Invalid,
        }
    }

    fn prometheus_comment(&mut self, blank: impl Fn(u8) -> bool + Copy) -> Token {
        self.at += 1;
        if self.peek().is_some_and(blank) {
            self.take_while(blank);
            for (word, token) in [(&b"HELP"[..], Token::Help), (b"TYPE", Token::Type)] {
                if self.keyword(word, blank) {
                    self.take_while(blank);
                    self.state = State::MetaName;
                    return token;
                }
            }
        }
        self.take_while(|b| b != b'\n');
        self.state = State::Init;
        Token::Comment
    }

    /// The next word of OpenMetrics, where every space counts.
    pub(crate) fn next_openmetrics(&mut self) -> Token {
        let Some(byte) = self.peek() else {
            return Token::Eof;
        };
        self.start = self.at;
        match (self.state, byte) {
            (State::Init, b'#') => self.openmetrics_comment(),
            (State::Init, b'{') => self.one(Token::BraceOpen, State::Labels),
            (State::Init, b) if is_metric_start(b) => {
                self.name(Token::MetricName, State::Value, is_metric_start)
            }
            (State::MetaName, b'"') => self.quoted(Token::MetricName, State::MetaText, true),
            (State::MetaName, b) if is_metric_start(b) => {
                self.name(Token::MetricName, State::MetaText, is_metric_start)
            }
            (State::MetaText, b' ') => {
                self.take_while(|b| b != b'\n');
                if self.peek().is_none() {
                    return Token::Invalid;
                }
                self.one(Token::Text, State::Init)
            }
            (State::Value, b'{') => self.one(Token::BraceOpen, State::Labels),
            (State::Value, b' ') => self.number(Token::Value, State::Timestamp),
            (State::Labels, b'}') => self.one(Token::BraceClose, State::Value),
            (State::Labels, b'=') => self.one(Token::Equal, State::LabelValue),
            (State::Labels | State::Exemplar, b',') => self.one(Token::Comma, self.state),
            (State::Labels, b'"') => self.quoted(Token::Quoted, State::Labels, true),
            (State::Labels | State::Exemplar, b) if is_label_start(b) => {
                self.name(Token::LabelName, self.state, is_label_start)
            }
            (State::LabelValue, b'"') => self.quoted(Token::LabelValue, State::Labels, false),
            (State::Timestamp | State::ExemplarTimestamp, b'\n') => self.one(Token::Linebreak, State::Init),
            (State::Timestamp, b' ') if self.body[self.at..].starts_with(b" # {") => {
                self.at += 4;
                self.state = State::Exemplar;
                Token::Comment
            }
            (State::Timestamp | State::ExemplarTimestamp, b' ') => self.number(Token::Timestamp, self.state),
            (State::Exemplar, b'}') => self.one(Token::BraceClose, State::ExemplarValue),
            (State::Exemplar, b'=') => self.one(Token::Equal, State::ExemplarValue),
            (State::Exemplar, b'"') => self.quoted(Token::Quoted, State::Exemplar, false),
            (State::ExemplarValue, b'"') => self.quoted(Token::LabelValue, State::Exemplar, false),
            (State::ExemplarValue, b' ') => self.number(Token::Value, State::ExemplarTimestamp),
            _ => Token::Invalid,
        }
    }

    /// A space and what follows up to the next white space, at least one byte.
    fn number(&mut self, token: Token, state: State) -> Token {
        self.at += 1;
        let from = self.at;
        self.take_while(|b| b != b' ' && b != b'\n');
        if self.at == from {
            return Token::Invalid;
        }
        self.state = state;
        token
    }

    fn openmetrics_comment(&mut self) -> Token {
        self.at += 1;
        if self.peek() != Some(b' ') {
            return Token::Invalid;
        }
        self.at += 1;
        self.state = State::Comment;
        for (word, token) in [(&b"HELP"[..], Token::Help), (b"TYPE", Token::Type), (b"UNIT", Token::Unit)] {
            if self.keyword(word, |b| b == b' ') {
                self.state = State::MetaName;
                return token;
            }
        }
        if self.body[self.at..].starts_with(b"EOF") {
            self.at += 3;
            if self.peek() == Some(b'\n') {
                self.at += 1;
            }
            self.state = State::Init;
            return Token::EofWord;
        }
        Token::Invalid
    }
}
