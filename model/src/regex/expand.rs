//! Templates with groups in them, as Go's `Regexp.Expand` reads them: `$1`, `${1}`, `$name`, `$$`.

use regex::Captures;

/// Appends `template` to `out` with its groups filled in. Unknown groups are empty, a name is as long as it can be,
/// and a `$` that begins nothing is itself.
pub(super) fn expand(template: &str, captures: &Captures<'_>, names: &[String], out: &mut String) {
    let mut rest = template;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some((name, after)) = group_name(rest) {
            out.push_str(group(name, captures, names));
            rest = after;
        } else {
            out.push('$');
        }
    }
    out.push_str(rest);
}

/// The name after a `$`, in braces or not, and what follows it.
fn group_name(text: &str) -> Option<(&str, &str)> {
    let (braces, text) = text.strip_prefix('{').map_or((false, text), |rest| (true, rest));
    let end = text.find(|c: char| c != '_' && !c.is_alphanumeric()).unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    if name.is_empty() {
        return None;
    }
    Some((name, if braces { rest.strip_prefix('}')? } else { rest }))
}

fn group<'t>(name: &str, captures: &Captures<'t>, names: &[String]) -> &'t str {
    let is_number = name.bytes().all(|b| b.is_ascii_digit()) && (name.len() == 1 || !name.starts_with('0'));
    let text = |index: usize| captures.get(index).map(|group| group.as_str());
    if is_number && name.len() <= 9 {
        return name.parse().ok().and_then(text).unwrap_or("");
    }
    names.iter().enumerate().filter(|(_, n)| *n == name).find_map(|(i, _)| text(i + 1)).unwrap_or("")
}
