//! Text to script. Every line is checked whole; what is wrong is said with its line and a remedy.

use crate::{
    fault::{Amount, Fault, Lasting, Whom},
    script::{Event, Load, NODES, NODES_MAX, Script, node_name},
    span,
};
use std::time::Duration;

/// The longest text.
const BYTES_MAX: usize = 1 << 20;
/// The most events.
const EVENTS_MAX: usize = 10_000;
/// How long a node is down if nothing is said.
const DOWN: Duration = Duration::from_secs(2);
/// From the end of the last fault to the end of a script that does not say when it ends.
const QUIET: Duration = Duration::from_secs(5);

/// What is wrong with a script: show it as `FILE:` followed by this.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{line}: {what}")]
pub struct ScriptError {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong; remedy.
    pub what: String,
}

/// The words of one line that were not read yet.
type Words<'t> = std::iter::Peekable<std::str::SplitWhitespace<'t>>;

fn time(text: Option<&str>, after: &str) -> Result<Duration, String> {
    let text = text.ok_or_else(|| format!("`{after}` without a time; give one, as 5s, 250ms or 1.5m"))?;
    let millis = span::parse(text).ok_or_else(|| format!("{text:?} is no time; give 5s, 250ms or 1.5m"))?;
    Ok(Duration::from_millis(millis))
}

/// The place of one of `nodes` nodes.
fn node(text: Option<&str>, nodes: usize, fault: Fault) -> Result<usize, String> {
    let text = text.ok_or_else(|| format!("a node is missing; write `{}`", fault.usage()))?;
    (0..nodes)
        .find(|place| node_name(*place) == text)
        .ok_or_else(|| format!("{text:?} is no node; there are {} to {}", node_name(0), node_name(nodes - 1)))
}

fn amount(text: Option<&str>, unit: Amount, fault: Fault) -> Result<i64, String> {
    let text = text.ok_or_else(|| format!("an amount is missing; write `{}`", fault.usage()))?;
    let wrong = || format!("{text:?} is no amount here; write `{}`", fault.usage());
    let (negative, size) = match (text.strip_prefix('-'), unit) {
        (Some(size), Amount::Shift | Amount::Ppm) => (true, size),
        _ => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let suffixed = |suffix: &str, most: u64| {
        let number = size.strip_suffix(suffix)?.parse::<u64>().ok()?;
        (number <= most).then_some(number)
    };
    let size = match unit {
        Amount::Nothing => None,
        Amount::Span | Amount::Shift => span::parse(size),
        Amount::Ppm => suffixed("ppm", 500_000),
        Amount::Percent => suffixed("%", 100),
        Amount::Rate => suffixed("kB/s", 1_000_000).filter(|rate| *rate > 0),
    };
    let size = i64::try_from(size.ok_or_else(wrong)?).map_err(|_| wrong())?;
    Ok(if negative { -size } else { size })
}

/// The rest of a line after `at`, in a world of so many nodes.
fn event(words: &mut Words<'_>, nodes: usize) -> Result<Event, String> {
    let at = time(words.next(), "at")?;
    let name = words.next().ok_or("a fault is missing; write `at TIME FAULT ...`")?;
    let known = || {
        let scripted = Fault::ALL.iter().filter(|fault| fault.form().is_some());
        scripted.map(|fault| fault.name()).collect::<Vec<_>>().join(", ")
    };
    let fault = Fault::find(name).ok_or_else(|| format!("unknown fault {name:?}; one of {}", known()))?;
    let form = fault.form().ok_or_else(|| format!("{}; one of {}", fault.usage(), known()))?;
    let node_here = match form.whom {
        Whom::Nobody => 0,
        Whom::One | Whom::Two | Whom::Way => node(words.next(), nodes, fault)?,
    };
    if form.whom == Whom::Way && words.next() != Some("->") {
        return Err(format!("no arrow; write `{}`", fault.usage()));
    }
    let other = match form.whom {
        Whom::Nobody | Whom::One => node_here,
        Whom::Two | Whom::Way => node(words.next(), nodes, fault)?,
    };
    if other == node_here && matches!(form.whom, Whom::Two | Whom::Way) {
        return Err("both nodes are the same; name two".to_owned());
    }
    let by = match (form.amount, words.next_if_eq(&"by")) {
        (Amount::Nothing, None) => 0,
        (Amount::Nothing, Some(_)) | (_, None) => return Err(format!("write `{}`", fault.usage())),
        (unit, Some(_)) => amount(words.next(), unit, fault)?,
    };
    let lasts = match (form.lasting, words.next_if_eq(&"for")) {
        (Lasting::Instant, None) => Duration::ZERO,
        (Lasting::Down, None) => DOWN,
        (Lasting::Instant, Some(_)) | (Lasting::Given, None) => {
            return Err(format!("write `{}`", fault.usage()));
        }
        (_, Some(_)) => time(words.next(), "for")?,
    };
    if lasts.is_zero() && form.lasting != Lasting::Instant {
        return Err("for no time at all; give at least 1ms".to_owned());
    }
    Ok(Event { at, fault, node: node_here, other, by, lasts })
}

/// A number of something, in bounds.
fn count(text: Option<&str>, what: &str, least: usize, most: usize) -> Result<usize, String> {
    let number = text.and_then(|text| text.parse::<usize>().ok());
    let fits = number.filter(|number| (least..=most).contains(number));
    fits.ok_or_else(|| format!("`{what}` needs a number from {least} to {most}"))
}

/// What a line said.
enum Line {
    Nothing,
    Event(Event),
    Lasts(Duration),
    Load(&'static str),
}

fn line(text: &str, load: &mut Load) -> Result<Line, String> {
    let text = text.split('#').next().unwrap_or_default();
    let mut words = text.split_whitespace().peekable();
    let Some(first) = words.next() else { return Ok(Line::Nothing) };
    let said = match first {
        "at" => Line::Event(event(&mut words, load.nodes)?),
        "lasts" => Line::Lasts(time(words.next(), "lasts")?),
        "nodes" => {
            load.nodes = count(words.next(), first, NODES, NODES_MAX)?;
            Line::Load("nodes")
        }
        "shards" => {
            load.shards = u32::try_from(count(words.next(), first, 1, 64)?).unwrap_or(u32::MAX);
            Line::Load("shards")
        }
        "targets" => {
            load.targets = count(words.next(), first, 1, 100)?;
            Line::Load("targets")
        }
        "writers" => {
            load.writers = count(words.next(), first, 0, 50)?;
            Line::Load("writers")
        }
        "readers" => {
            load.readers = count(words.next(), first, 0, 20)?;
            Line::Load("readers")
        }
        other => {
            return Err(format!(
                "unknown word {other:?}; a line begins with at, lasts, nodes, shards, targets, writers or readers"
            ));
        }
    };
    match words.next() {
        Some(word) => {
            Err(format!("{word:?} is one word too many; leave it out, or put it in a line of its own"))
        }
        None => Ok(said),
    }
}

impl std::str::FromStr for Script {
    type Err = ScriptError;

    fn from_str(text: &str) -> Result<Script, ScriptError> {
        let mut script = Script::default();
        let mut said: Vec<&str> = Vec::new();
        let fail = |line: usize, what: String| Err(ScriptError { line, what });
        if text.len() > BYTES_MAX {
            return fail(1, format!("longer than {BYTES_MAX} bytes; play it in parts"));
        }
        let mut lasts = None;
        for (number, text) in (1..).zip(text.lines()) {
            let what = match line(text, &mut script.load) {
                Err(what) => return fail(number, what),
                Ok(Line::Nothing) => continue,
                Ok(Line::Event(event)) => {
                    script.events.push(event);
                    if script.events.len() > EVENTS_MAX {
                        return fail(number, format!("more than {EVENTS_MAX} events; play it in parts"));
                    }
                    continue;
                }
                Ok(Line::Lasts(time)) => {
                    lasts = Some((number, time));
                    "lasts"
                }
                Ok(Line::Load("nodes")) if !script.events.is_empty() => {
                    return fail(number, "`nodes` behind an event; write it before all of them".to_owned());
                }
                Ok(Line::Load(what)) => what,
            };
            if said.contains(&what) {
                return fail(number, format!("`{what}` a second time; leave one out"));
            }
            said.push(what);
        }
        script.events.sort_by_key(|event| event.at);
        script.lasts = match (lasts, script.events.last()) {
            (Some((number, lasts)), Some(last)) if last.at >= lasts => {
                return fail(number, format!("it ends before `{last}` begins; let it last longer"));
            }
            (Some((_, lasts)), _) => lasts,
            (None, _) => script.events.iter().map(Event::ends).max().unwrap_or_default() + QUIET,
        };
        Ok(script)
    }
}

#[cfg(test)]
mod tests;
