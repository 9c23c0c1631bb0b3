//! Matchers to series: `=` by set operations; a regular expression is reduced to a set of literals or a prefix
//! before any value is looked at. Where few series are left, their values are looked at instead of all.
//!
//! A matcher that accepts the empty value accepts series without the label, so it works by taking away.

use super::index::{Index, LabelIndex, ValueIndex};
use model::{MatchOp, Matcher};
use roaring::RoaringBitmap;
use std::{ops::Bound, sync::Arc};

/// The union of the postings of all values for which the expression matches.
fn matching(label: &LabelIndex, matcher: &Matcher) -> RoaringBitmap {
    let mut set = RoaringBitmap::new();
    let Some(regex) = matcher.regex() else { return set };
    if let Some(texts) = regex.literal_set() {
        for value in texts.iter().filter_map(|text| label.values.get(text.as_str())) {
            value.postings.add_to(&mut set);
        }
        return set;
    }
    if matcher.value == ".+" {
        return label.all.clone();
    }
    for (_, value) in from_prefix(label, regex.prefix()).filter(|(text, _)| regex.is_match(text)) {
        value.postings.add_to(&mut set);
    }
    set
}

fn from_prefix<'a>(
    label: &'a LabelIndex,
    prefix: &'a str,
) -> impl Iterator<Item = (&'a Arc<str>, &'a ValueIndex)> {
    label
        .values
        .range::<str, _>((Bound::Included(prefix), Bound::Unbounded))
        .take_while(move |(text, _)| text.starts_with(prefix))
}

/// Whether a regular expression has to be tried on values.
fn searches(matcher: &Matcher) -> bool {
    matcher.regex().is_some_and(|regex| regex.literal_set().is_none())
}

/// Those of `set` that match.
fn tried(index: &Index, set: &RoaringBitmap, matcher: &Matcher) -> RoaringBitmap {
    let matches = |id: &u32| matcher.matches(index.value_of(*id, &matcher.name).unwrap_or(""));
    set.iter().filter(matches).collect()
}

/// Values of a label that are looked through for a regular expression in no time.
const VALUES_FEW: u64 = 256;

/// How many series can match all of `matchers`: as many as have the rarest of the values asked for. Nothing if none is
/// asked for, or if finding them means to look through many values.
pub(crate) fn series_at_most(index: &Index, matchers: &[Matcher]) -> Option<u64> {
    let equal = matchers.iter().filter(|m| m.op == MatchOp::Equal && !m.value.is_empty());
    let counts = equal.map(|m| {
        let value = index.labels.get(m.name.as_str()).and_then(|label| label.values.get(m.value.as_str()));
        value.map_or(0, |value| value.postings.len())
    });
    let rarest = counts.min()?;
    let values = |m: &Matcher| index.labels.get(m.name.as_str()).map_or(0, |label| label.values.len() as u64);
    let looks = matchers.iter().filter(|m| searches(m)).map(|m| values(m).min(rarest));
    (looks.sum::<u64>() <= VALUES_FEW).then_some(rarest)
}

/// The series that match all of `matchers`.
pub(crate) fn select_postings(index: &Index, matchers: &[Matcher]) -> RoaringBitmap {
    let mut set: Option<RoaringBitmap> = None;
    let (takes_away, narrows): (Vec<_>, Vec<_>) = matchers.iter().partition(|m| m.matches(""));
    let (equal, other): (Vec<_>, Vec<_>) = narrows.into_iter().partition(|m| m.op == MatchOp::Equal);
    for matcher in equal.into_iter().chain(other) {
        let Some(label) = index.labels.get(matcher.name.as_str()) else { return RoaringBitmap::new() };
        if let Some(before) = set.take_if(|set| searches(matcher) && set.len() <= label.values.len() as u64) {
            set = Some(tried(index, &before, matcher));
            continue;
        }
        let found = match matcher.op {
            MatchOp::Equal => {
                label.values.get(matcher.value.as_str()).map(|v| v.postings.to_set()).unwrap_or_default()
            }
            MatchOp::Regex => matching(label, matcher),
            // Both do not accept the empty value, so only series with the label come in question.
            MatchOp::NotEqual => {
                let unequal = label.values.get(matcher.value.as_str()).map(|v| v.postings.to_set());
                &label.all - &unequal.unwrap_or_default()
            }
            MatchOp::NotRegex => &label.all - &matching(label, matcher),
        };
        let narrowed = match set {
            None => found,
            Some(before) => before & found,
        };
        if narrowed.is_empty() {
            return narrowed;
        }
        set = Some(narrowed);
    }
    let mut set = set.unwrap_or_else(|| index.all.clone());
    for matcher in takes_away {
        let Some(label) = index.labels.get(matcher.name.as_str()) else { continue };
        if searches(matcher) && set.len() <= label.values.len() as u64 {
            set = tried(index, &set, matcher);
            continue;
        }
        match matcher.op {
            MatchOp::Equal => set -= &label.all,
            MatchOp::NotEqual => {
                if let Some(value) = label.values.get(matcher.value.as_str()) {
                    set -= value.postings.to_set();
                }
            }
            MatchOp::Regex if matcher.value == ".*" => {}
            MatchOp::Regex => set -= &label.all - &matching(label, matcher),
            MatchOp::NotRegex => set -= matching(label, matcher),
        }
    }
    set
}
