//! Texts of answers without that in which versions are known to differ.

use crate::answer::{Difference, Part};
use serde_json::Value;
use std::collections::BTreeSet;

/// In order, so that what stands in another order is the same.
pub(crate) fn letters(text: &str) -> Vec<char> {
    let mut letters: Vec<_> = text.chars().collect();
    letters.sort_unstable();
    letters
}

/// Without quotes and the breaking of lines, which follows from their length.
pub(crate) fn unquoted(text: &str) -> String {
    text.replace("\\\"", "").replace("\\n", "").replace(' ', "")
}

/// Without parentheses and the unit of seconds.
pub(crate) fn unbracketed(text: &str) -> String {
    text.replace(['(', ')', 's', '+'], "")
}

/// Without what stands like `1:46:`.
pub(crate) fn without_places(text: &str) -> String {
    let is_place = |word: &str| word.ends_with(':') && word.contains(|c: char| c.is_ascii_digit());
    text.split(' ').filter(|word| !is_place(word)).collect()
}

/// A tree without what 3.5 does not show.
pub(crate) fn pruned(text: &str) -> Value {
    fn prune(value: &mut Value) {
        match value {
            Value::Object(fields) => {
                for new in ["anchored", "smoothed", "fillValues", "offsetExpr", "rangeExpr", "stepExpr"] {
                    fields.remove(new);
                }
                fields.values_mut().for_each(prune);
            }
            Value::Array(values) => values.iter_mut().for_each(prune),
            _ => {}
        }
    }
    let mut value = serde_json::from_str(text).unwrap_or(Value::Null);
    prune(&mut value);
    value
}

/// Whether the notes of both answers are the same after `change`; what it empties is left out.
pub(crate) fn same_notes(difference: &Difference, change: fn(&str) -> String) -> bool {
    let key = match difference.part {
        Part::Warnings => "warnings",
        Part::Infos => "infos",
        _ => return false,
    };
    let notes = |body: &str| {
        let json: Value = serde_json::from_str(body).unwrap_or(Value::Null);
        let notes = json[key].as_array().cloned().unwrap_or_default();
        let notes = notes.iter().map(|note| change(note.as_str().unwrap_or_default()));
        notes.filter(|note| !note.is_empty()).collect::<BTreeSet<_>>()
    };
    notes(&difference.theirs) == notes(&difference.ours)
}

/// Without the name of the metric.
pub(crate) fn without_name(note: &str) -> String {
    let Some((text, position)) = note.rsplit_once(" (") else { return note.to_owned() };
    format!("{} ({position}", text.split(" for metric name").next().unwrap_or_default())
}

/// Without the name of the metric and ` (1:46)`.
pub(crate) fn without_place(note: &str) -> String {
    let text = note.rsplit_once(" (").map_or(note, |(text, _)| text);
    text.split(" for metric name").next().unwrap_or_default().to_owned()
}

/// Without these and the number that is wrong.
pub(crate) fn without_number(note: &str) -> String {
    without_place(note).split(", got ").next().unwrap_or_default().to_owned()
}

/// Without these and what was mended in a classic histogram.
pub(crate) fn without_detail(note: &str) -> String {
    let note = note.split(", from buckets ").next().unwrap_or_default();
    if note.contains("monotonicity") {
        return note.split("#histogram_quantile)").next().unwrap_or_default().to_owned();
    }
    without_place(note)
}
