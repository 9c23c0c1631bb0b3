//! What can be known of an expression without running it: the texts it matches if they are few, the text that every
//! match begins with.

use regex_syntax::hir::{Class, Hir, HirKind, Look};

/// The most texts that are listed.
const SET_MAX: usize = 1000;
/// The most bytes of all listed texts.
const SET_BYTES_MAX: usize = 1 << 16;

/// All texts that the expression matches as a whole, sorted, if they can be listed.
pub(super) fn literal_set(hir: &Hir) -> Option<Vec<String>> {
    let mut texts = list(without_edges(hir).as_slice())?;
    texts.sort_unstable();
    texts.dedup();
    texts.into_iter().map(|bytes| String::from_utf8(bytes).ok()).collect()
}

/// The text that everything matched begins with.
pub(super) fn prefix(hir: &Hir) -> String {
    let mut found = Vec::new();
    put_prefix(hir, &mut found);
    // A character may be cut where alternatives part.
    let valid = std::str::from_utf8(&found).map_or_else(|e| e.valid_up_to(), str::len);
    found.truncate(valid);
    String::from_utf8(found).unwrap_or_default()
}

/// The parts in a row, without the anchors at both ends, which say nothing about a whole text.
fn without_edges(hir: &Hir) -> Vec<Hir> {
    let mut parts = match hir.kind() {
        HirKind::Concat(parts) => parts.clone(),
        _ => vec![hir.clone()],
    };
    while parts.first().is_some_and(|part| matches!(part.kind(), HirKind::Look(Look::Start))) {
        parts.remove(0);
    }
    while parts.last().is_some_and(|part| matches!(part.kind(), HirKind::Look(Look::End))) {
        parts.pop();
    }
    parts
}

fn list(parts: &[Hir]) -> Option<Vec<Vec<u8>>> {
    let mut texts = vec![Vec::new()];
    for part in parts {
        let ends = alternatives(part)?;
        let bytes: usize = texts.iter().map(Vec::len).sum::<usize>().saturating_mul(ends.len())
            + ends.iter().map(Vec::len).sum::<usize>().saturating_mul(texts.len());
        if texts.len().saturating_mul(ends.len()) > SET_MAX || bytes > SET_BYTES_MAX {
            return None;
        }
        texts = texts.iter().flat_map(|text| ends.iter().map(|end| [&text[..], end].concat())).collect();
    }
    Some(texts)
}

fn alternatives(hir: &Hir) -> Option<Vec<Vec<u8>>> {
    match hir.kind() {
        HirKind::Empty => Some(vec![Vec::new()]),
        HirKind::Literal(literal) => Some(vec![literal.0.to_vec()]),
        HirKind::Capture(capture) => alternatives(&capture.sub),
        HirKind::Concat(parts) => list(parts),
        HirKind::Class(Class::Unicode(class)) => {
            let count: u64 = class.iter().map(|r| u64::from(r.end() as u32 - r.start() as u32) + 1).sum();
            if count > 64 {
                return None;
            }
            let chars = class.iter().flat_map(|range| range.start()..=range.end());
            Some(chars.map(|c| c.to_string().into_bytes()).collect())
        }
        HirKind::Alternation(parts) => {
            let mut texts = Vec::new();
            for part in parts {
                texts.extend(alternatives(part)?);
                if texts.len() > SET_MAX {
                    return None;
                }
            }
            Some(texts)
        }
        HirKind::Repetition(r) if r.min == 0 && r.max == Some(1) => {
            let mut texts = alternatives(&r.sub)?;
            texts.push(Vec::new());
            Some(texts)
        }
        _ => None,
    }
}

/// Appends what `hir` begins with for certain. Returns whether it is nothing more than that.
fn put_prefix(hir: &Hir, found: &mut Vec<u8>) -> bool {
    match hir.kind() {
        HirKind::Empty | HirKind::Look(Look::Start) => true,
        HirKind::Literal(literal) => {
            found.extend_from_slice(&literal.0);
            true
        }
        HirKind::Capture(capture) => put_prefix(&capture.sub, found),
        HirKind::Concat(parts) => parts.iter().all(|part| put_prefix(part, found)),
        HirKind::Alternation(parts) => {
            let starts = parts.iter().map(|part| {
                let mut start = Vec::new();
                put_prefix(part, &mut start);
                start
            });
            let common =
                starts.reduce(|a, b| a.into_iter().zip(b).take_while(|(a, b)| a == b).map(|p| p.0).collect());
            found.extend(common.unwrap_or_default());
            false
        }
        HirKind::Repetition(r) if r.min > 0 => {
            put_prefix(&r.sub, found);
            false
        }
        _ => false,
    }
}
