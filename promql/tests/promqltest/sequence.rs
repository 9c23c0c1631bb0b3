//! Series lines of scripts: labels, then a sequence of values.

use crate::histogram::add;
use model::{CounterResetHint, FloatHistogram, Labels, STALE_NAN, Span};
use promql::{ParserOptions, parse_float, parse_selector};
use std::sync::Arc;

/// One position of a sequence.
#[derive(Clone, Debug)]
pub(crate) enum Item {
    Omitted,
    Float(f64),
    /// With whether a counter reset hint was written.
    Histogram(Arc<FloatHistogram>, bool),
}

/// A series line.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub(crate) labels: Labels,
    pub(crate) items: Vec<Item>,
}

/// Start times relative to each sample, milliseconds; `None` where unknown.
pub(crate) struct StartLine {
    pub(crate) labels: Labels,
    pub(crate) offsets: Vec<Option<i64>>,
}

/// A line of either kind.
pub(crate) enum Parsed {
    Series(Line),
    Starts(StartLine),
}

/// The length of the series description at the start of a line.
fn description_len(line: &str) -> Result<usize, String> {
    let mut quote = None;
    let mut escaped = false;
    let mut depth = 0;
    for (index, c) in line.char_indices() {
        if let Some(open) = quote {
            if escaped {
                escaped = false;
            } else if c == '\\' && open != '`' {
                escaped = true;
            } else if c == open {
                quote = None;
            }
            continue;
        }
        match c {
            '"' | '\'' | '`' => quote = Some(c),
            '{' => depth += 1,
            '}' => {
                depth -= 1;
                if depth == 0 {
                    return Ok(index + 1);
                }
            }
            c if depth == 0 && c.is_whitespace() => {
                // A blank may stand before the braces.
                let rest = line[index..].trim_start();
                if rest.starts_with('{') && !rest.starts_with("{{") {
                    continue;
                }
                return Ok(index);
            }
            '@' if depth == 0 => return Ok(index),
            _ => {}
        }
    }
    Ok(line.len())
}

fn labels_of(text: &str) -> Result<Labels, String> {
    if text.trim() == "{}" {
        return Ok(Labels::empty());
    }
    let matchers = parse_selector(text.trim(), &ParserOptions::all_features())
        .map_err(|error| format!("series {text:?}: {error}"))?;
    Ok(Labels::from_pairs(matchers.iter().map(|m| (m.name.as_str(), m.value.as_str()))))
}

/// Reads a series line.
pub(crate) fn parse_line(line: &str) -> Result<Parsed, String> {
    let (description, rest) = line.split_at(description_len(line)?);
    let labels = labels_of(description)?;
    if let Some(starts) = rest.strip_prefix("@st") {
        return Ok(Parsed::Starts(StartLine { labels, offsets: parse_starts(starts)? }));
    }
    Ok(Parsed::Series(Line { labels, items: parse_items(rest)? }))
}

/// `x` and a number at the start of a text.
fn times(text: &str) -> Result<(Option<usize>, &str), String> {
    let Some(rest) = text.strip_prefix('x') else { return Ok((None, text)) };
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let count = rest[..end].parse().map_err(|_| format!("bad repetition {text:?}"))?;
    Ok((Some(count), &rest[end..]))
}

/// The length of the number at the start of an item. There is no hexadecimal here: `0x3` is four zeros.
fn number_len(text: &str) -> usize {
    let bytes = text.as_bytes();
    let mut end = usize::from(matches!(bytes.first(), Some(b'+' | b'-')));
    let word = text[end..].to_ascii_lowercase();
    if word.starts_with("inf") || word.starts_with("nan") {
        return end + 3;
    }
    while end < bytes.len() {
        match bytes[end] {
            b'0'..=b'9' | b'.' | b'_' => end += 1,
            b'e' | b'E' => end += 1 + usize::from(matches!(bytes.get(end + 1), Some(b'+' | b'-'))),
            _ => break,
        }
    }
    end
}

/// Reads a number as Go does: an integer of any base that its prefix names, else a float.
pub(crate) fn parse_number(text: &str) -> Result<f64, String> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(rest) => (-1.0, rest),
        None => (1.0, text.strip_prefix('+').unwrap_or(text)),
    };
    let lower = digits.to_ascii_lowercase().replace('_', "");
    let bases = [("0x", 16), ("0o", 8), ("0b", 2), ("0", 8)];
    for (prefix, base) in bases {
        if let Some(value) = lower.strip_prefix(prefix).and_then(|rest| i64::from_str_radix(rest, base).ok())
        {
            return Ok(sign * value as f64);
        }
    }
    parse_float(&text.replace('_', "")).ok_or_else(|| format!("bad number {text:?}"))
}

fn parse_items(text: &str) -> Result<Vec<Item>, String> {
    let mut items = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        rest = if let Some(after) = rest.strip_prefix('_') {
            let (count, after) = times(after)?;
            items.extend((0..count.unwrap_or(1)).map(|_| Item::Omitted));
            after
        } else if rest.starts_with("{{") {
            histogram_item(rest, &mut items)?
        } else if let Some(after) = rest.strip_prefix("stale") {
            let (count, after) = times(after)?;
            items.extend((0..=count.unwrap_or(0)).map(|_| Item::Float(STALE_NAN)));
            after
        } else {
            float_item(rest, &mut items)?
        };
        if !rest.is_empty() && !rest.starts_with(char::is_whitespace) {
            return Err(format!("unexpected {rest:?}"));
        }
        rest = rest.trim_start();
    }
    Ok(items)
}

fn float_item<'t>(text: &'t str, items: &mut Vec<Item>) -> Result<&'t str, String> {
    let (first, rest) = text.split_at(number_len(text));
    let mut value = parse_number(first)?;
    let (step, rest) = if rest.starts_with(['+', '-']) {
        let (step, rest) = rest.split_at(number_len(rest));
        (Some(parse_number(step)?), rest)
    } else {
        (None, rest)
    };
    let (count, rest) = times(rest)?;
    items.push(Item::Float(value));
    for _ in 0..count.unwrap_or(0) {
        value += step.unwrap_or(0.0);
        items.push(Item::Float(value));
    }
    Ok(rest)
}

fn histogram_item<'t>(text: &'t str, items: &mut Vec<Item>) -> Result<&'t str, String> {
    let (first, first_hint, rest) = parse_histogram(text)?;
    let (step, rest) = match rest.chars().next() {
        Some(sign @ ('+' | '-')) => {
            let (step, hint, rest) = parse_histogram(&rest[1..])?;
            (Some((step, hint, sign == '-')), rest)
        }
        _ => (None, rest),
    };
    let (count, rest) = times(rest)?;
    let hint_given = step.as_ref().map_or(first_hint, |(_, hint, _)| *hint);
    let mut value = first;
    items.push(Item::Histogram(Arc::new(value.clone()), hint_given));
    for _ in 0..count.unwrap_or(0) {
        if let Some((step, _, minus)) = &step {
            value = add(&value, step, *minus)?;
        }
        items.push(Item::Histogram(Arc::new(value.clone()), hint_given));
    }
    Ok(rest)
}

fn numbers(text: &str) -> Result<Vec<f64>, String> {
    text.split_whitespace().map(parse_number).collect()
}

/// `{{...}}`: the histogram, whether a hint was written, and what follows.
fn parse_histogram(text: &str) -> Result<(FloatHistogram, bool, &str), String> {
    let inner = text.strip_prefix("{{").ok_or_else(|| format!("histogram expected at {text:?}"))?;
    let end = inner.find("}}").ok_or_else(|| format!("histogram without end: {text:?}"))?;
    let (mut body, after) = (inner[..end].trim(), &inner[end + 2..]);
    let mut h = FloatHistogram::default();
    let (mut offset, mut negative_offset, mut hint_given) = (0, 0, false);
    let mut seen = Vec::new();
    while !body.is_empty() {
        let (key, rest) = body.split_once(':').ok_or_else(|| format!("key expected at {body:?}"))?;
        let key = key.trim();
        if seen.contains(&key) {
            return Err(format!("duplicate key {key:?} in histogram"));
        }
        seen.push(key);
        let rest = rest.trim_start();
        let (value, rest) = if let Some(list) = rest.strip_prefix('[') {
            list.split_once(']').ok_or_else(|| format!("list without end: {rest:?}"))?
        } else {
            rest.split_once(char::is_whitespace).unwrap_or((rest, ""))
        };
        let integer = || value.parse::<i32>().map_err(|_| format!("bad integer {value:?}"));
        match key {
            "schema" => h.schema = integer()?,
            "sum" => h.sum = parse_number(value)?,
            "count" => h.count = parse_number(value)?,
            "z_bucket" => h.zero_count = parse_number(value)?,
            "z_bucket_w" => h.zero_threshold = parse_number(value)?,
            "custom_values" => h.custom_values = numbers(value)?.into(),
            "buckets" => h.positive_buckets = numbers(value)?,
            "n_buckets" => h.negative_buckets = numbers(value)?,
            "offset" => offset = integer()?,
            "n_offset" => negative_offset = integer()?,
            "counter_reset_hint" => {
                hint_given = true;
                h.counter_reset_hint = match value {
                    "unknown" => CounterResetHint::Unknown,
                    "reset" => CounterResetHint::Reset,
                    "not_reset" => CounterResetHint::NotReset,
                    "gauge" => CounterResetHint::Gauge,
                    _ => return Err(format!("bad hint {value:?}")),
                };
            }
            _ => return Err(format!("unknown key {key:?} in histogram")),
        }
        body = rest.trim_start();
    }
    let span = |offset: i32, counts: &[f64]| {
        if counts.is_empty() { Vec::new() } else { vec![Span { offset, length: counts.len() as u32 }] }
    };
    h.positive_spans = span(offset, &h.positive_buckets);
    h.negative_spans = span(negative_offset, &h.negative_buckets);
    Ok((h, hint_given, after))
}

fn parse_starts(text: &str) -> Result<Vec<Option<i64>>, String> {
    let mut offsets = Vec::new();
    for item in text.split_whitespace() {
        if let Some(after) = item.strip_prefix('_') {
            let (count, _) = times(after)?;
            offsets.extend((0..count.unwrap_or(1)).map(|_| None));
            continue;
        }
        let (first, rest) = start_offset(item)?;
        let (step, rest) = if rest.starts_with(['+', '-']) { start_offset(rest)? } else { (0, rest) };
        let (count, rest) = times(rest)?;
        if !rest.is_empty() {
            return Err(format!("unexpected {rest:?} in start times"));
        }
        offsets.extend((0..=count.unwrap_or(0)).map(|i| Some(first + step * i as i64)));
    }
    Ok(offsets)
}

fn start_offset(text: &str) -> Result<(i64, &str), String> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let end = digits.find(['+', '-', 'x']).unwrap_or(digits.len());
    Ok((sign * promql::duration::parse_ms(&digits[..end])?, &digits[end..]))
}
