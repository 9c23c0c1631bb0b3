//! Scripts: text to commands.

use crate::sequence::{Item, Line, Parsed, parse_line, parse_number};
use model::Labels;
use promql::duration::parse_ms;
use regex::Regex;

/// The values of a series and its start times.
pub(crate) type Loaded = (Vec<Item>, Vec<Option<i64>>);

/// `load`
pub(crate) struct Load {
    pub(crate) step: i64,
    pub(crate) with_nhcb: bool,
    pub(crate) series: Vec<(Labels, Loaded)>,
}

/// When an expression is evaluated.
#[derive(Clone, Copy, Debug)]
pub(crate) enum When {
    Instant(i64),
    Range { start: i64, end: i64, step: i64 },
}

/// How a message is compared.
#[derive(Clone, Debug)]
pub(crate) enum Text {
    Any,
    Exactly(String),
    Matching(Regex),
}

impl Text {
    pub(crate) fn matches(&self, text: &str) -> bool {
        match self {
            Text::Any => true,
            Text::Exactly(expected) => expected == text,
            Text::Matching(regex) => regex.is_match(text),
        }
    }
}

/// `eval`
pub(crate) struct Eval {
    pub(crate) line: usize,
    pub(crate) text: String,
    pub(crate) when: When,
    pub(crate) ordered: bool,
    pub(crate) fail: Option<Text>,
    pub(crate) warn: Vec<Text>,
    pub(crate) info: Vec<Text>,
    pub(crate) no_warn: bool,
    pub(crate) no_info: bool,
    pub(crate) scalar: Option<f64>,
    pub(crate) string: Option<String>,
    pub(crate) series: Vec<Line>,
    /// `expect range vector`: start, end, step.
    pub(crate) range_vector: Option<(i64, i64, i64)>,
}

/// A command.
pub(crate) enum Command {
    Clear,
    Load(Load),
    Eval(Box<Eval>),
}

fn regex(pattern: &str) -> Regex {
    Regex::new(pattern).expect("the pattern is a literal")
}

fn compiled(pattern: &str) -> Result<Text, String> {
    Regex::new(pattern).map(Text::Matching).map_err(|error| error.to_string())
}

/// Reads a script; an error names its line.
pub(crate) fn parse(text: &str) -> Result<Vec<Command>, String> {
    let clean = |line: &str| {
        let line = line.trim_matches([' ', '\t', '\r']);
        if line.starts_with('#') { String::new() } else { line.to_owned() }
    };
    let lines: Vec<String> = text.split('\n').map(clean).collect();
    let mut commands = Vec::new();
    let mut next = 0;
    while next < lines.len() {
        if lines[next].is_empty() {
            next += 1;
            continue;
        }
        let first = next;
        let word = lines[first].split_whitespace().next().unwrap_or("").to_lowercase();
        let end = (first..lines.len()).find(|i| lines[*i].is_empty()).unwrap_or(lines.len());
        let at = |error: String| format!("line {}: {error}", first + 1);
        if word == "clear" {
            commands.push(Command::Clear);
            next += 1;
        } else if word.starts_with("load") {
            commands.push(Command::Load(parse_load(&lines[first..end]).map_err(at)?));
            next = end;
        } else if word.starts_with("eval") {
            let (eval, used) = parse_eval(&lines[first..end], first + 1).map_err(at)?;
            commands.push(Command::Eval(Box::new(eval)));
            next = first + used;
        } else {
            return Err(at(format!("unknown command {:?}", lines[first])));
        }
    }
    Ok(commands)
}

fn parse_load(lines: &[String]) -> Result<Load, String> {
    let header = regex(r"^load(?:_(with_nhcb))?\s+(.+?)$");
    let captures = header.captures(&lines[0]).ok_or_else(|| format!("bad load: {:?}", lines[0]))?;
    let step = parse_ms(&captures[2])?;
    let mut series: Vec<(Labels, Loaded)> = Vec::new();
    let mut starts: Option<(Labels, Vec<Option<i64>>)> = None;
    for line in &lines[1..] {
        match parse_line(line)? {
            Parsed::Starts(line) => starts = Some((line.labels, line.offsets)),
            Parsed::Series(line) => {
                let offsets =
                    starts.take().filter(|(labels, _)| *labels == line.labels).map(|(_, offsets)| offsets);
                let loaded = (line.items, offsets.unwrap_or_default());
                match series.iter_mut().find(|(labels, _)| *labels == line.labels) {
                    Some(old) => old.1 = loaded,
                    None => series.push((line.labels, loaded)),
                }
            }
        }
    }
    Ok(Load { step, with_nhcb: captures.get(1).is_some(), series })
}

fn parse_eval(lines: &[String], line: usize) -> Result<(Eval, usize), String> {
    let instant = regex(r"^eval(?:_(fail|warn|ordered|info))?\s+instant\s+(?:at\s+(.+?))?\s+(.+)$");
    let range =
        regex(r"^eval(?:_(fail|warn|info))?\s+range\s+from\s+(.+)\s+to\s+(.+)\s+step\s+(.+?)\s+(.+)$");
    let header = &lines[0];
    let (modifier, when, text) = if let Some(c) = instant.captures(header) {
        let time = c.get(2).map_or(Ok(0), |time| parse_ms(time.as_str()))?;
        (c.get(1).map(|m| m.as_str().to_owned()), When::Instant(time), c[3].to_owned())
    } else if let Some(c) = range.captures(header) {
        let when = When::Range { start: parse_ms(&c[2])?, end: parse_ms(&c[3])?, step: parse_ms(&c[4])? };
        (c.get(1).map(|m| m.as_str().to_owned()), when, c[5].to_owned())
    } else {
        return Err(format!("bad eval: {header:?}"));
    };
    let mut eval = Eval {
        line,
        text,
        when,
        ordered: modifier.as_deref() == Some("ordered"),
        fail: (modifier.as_deref() == Some("fail")).then_some(Text::Any),
        warn: if modifier.as_deref() == Some("warn") { vec![Text::Any] } else { Vec::new() },
        info: if modifier.as_deref() == Some("info") { vec![Text::Any] } else { Vec::new() },
        no_warn: false,
        no_info: false,
        scalar: None,
        string: None,
        series: Vec::new(),
        range_vector: None,
    };
    let mut used = lines.len();
    for (index, line) in lines.iter().enumerate().skip(1) {
        if parse_expectation(&mut eval, line).map_err(|error| format!("{error} (at {line:?})"))? {
            used = index + 1;
            break;
        }
    }
    check(&eval)?;
    Ok((eval, used))
}

/// Expectations that exclude each other.
fn check(eval: &Eval) -> Result<(), String> {
    let instant = matches!(eval.when, When::Instant(_));
    if !eval.warn.is_empty() && eval.no_warn {
        return Err("warn and no_warn are both expected".to_owned());
    }
    if !eval.info.is_empty() && eval.no_info {
        return Err("info and no_info are both expected".to_owned());
    }
    if eval.range_vector.is_some() && !instant {
        return Err("a range vector is expected of a range query".to_owned());
    }
    if instant && eval.range_vector.is_none() && eval.series.iter().any(|line| line.items.len() > 1) {
        return Err("several values are expected of an instant query".to_owned());
    }
    Ok(())
}

fn fail(eval: &mut Eval, text: Text) -> Result<(), String> {
    if eval.fail.as_ref().is_some_and(|old| !matches!(old, Text::Any)) {
        return Err("failure is expected twice".to_owned());
    }
    eval.fail = Some(text);
    Ok(())
}

/// Reads one line of an eval block; says whether the block ends here.
fn parse_expectation(eval: &mut Eval, line: &str) -> Result<bool, String> {
    let old = [("expected_fail_message", "msg"), ("expected_fail_regexp", "regex")];
    if let Some((text, kind)) = old.iter().find_map(|(word, kind)| Some((line.strip_prefix(word)?, kind))) {
        if eval.fail.is_none() {
            return Err("a message is expected of an evaluation that is not expected to fail".to_owned());
        }
        let text = text.trim();
        eval.fail = Some(if *kind == "msg" { Text::Exactly(text.to_owned()) } else { compiled(text)? });
        return Ok(true);
    }
    let vector = regex(r"^expect\s+range\s+vector\s+from\s+(.+)\s+to\s+(.+)\s+step\s+(.+)$");
    if let Some(c) = vector.captures(line) {
        eval.range_vector = Some((parse_ms(&c[1])?, parse_ms(&c[2])?, parse_ms(&c[3])?));
        if matches!(eval.when, When::Instant(_)) {
            eval.when = When::Instant(parse_ms(&c[2])?);
        }
        return Ok(false);
    }
    if let Some(c) = regex(r"^expect\s+string\s+(.+)$").captures(line) {
        eval.string = Some(unquote(&c[1])?);
        return Ok(false);
    }
    if line.split(' ').next() == Some("expect") {
        let expectation =
            regex(r"^expect\s+(ordered|fail|warn|no_warn|info|no_info)(?:\s+(regex|msg):(.+))?$");
        let c = expectation.captures(line).ok_or_else(|| format!("bad expectation {line:?}"))?;
        let text = match c.get(2).map(|kind| kind.as_str()) {
            None => Text::Any,
            Some("msg") => Text::Exactly(c[3].trim().to_owned()),
            Some(_) => compiled(c[3].trim())?,
        };
        match &c[1] {
            "ordered" => eval.ordered = true,
            "fail" => fail(eval, text)?,
            "warn" => eval.warn.push(text),
            "info" => eval.info.push(text),
            "no_warn" => eval.no_warn = true,
            _ => eval.no_info = true,
        }
        return Ok(false);
    }
    if let Ok(value) = parse_number(line) {
        eval.scalar = Some(value);
        return Ok(true);
    }
    match parse_line(line)? {
        Parsed::Series(line) => eval.series.push(line),
        Parsed::Starts(_) => return Err("start times cannot be expected".to_owned()),
    }
    Ok(false)
}

/// The text of a quoted string, by way of the language itself.
fn unquote(text: &str) -> Result<String, String> {
    use promql::ast::Expr;
    match promql::parse(text, &promql::ParserOptions::all_features()) {
        Ok(Expr::String(literal)) => Ok(literal.value),
        _ => Err(format!("bad string {text}")),
    }
}
