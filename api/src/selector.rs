//! Selectors as parameters: `match[]` and `match_target`.

use model::Matcher;
use promql::ParserOptions;

/// Reads one selector, without offset and `@`.
///
/// # Errors
/// Prometheus's text: `1:5: parse error: ...`.
pub(crate) fn one(text: &str) -> Result<Vec<Matcher>, String> {
    promql::parse_selector(text, &ParserOptions::default()).map_err(|errors| errors.to_string())
}

/// Reads all values of `match[]`.
///
/// # Errors
/// As for [`one`], or if a selector would match series without any label.
pub(crate) fn sets(texts: &[&str]) -> Result<Vec<Vec<Matcher>>, String> {
    let sets: Vec<Vec<Matcher>> = texts.iter().map(|text| one(text)).collect::<Result<_, _>>()?;
    if sets.iter().any(|set| set.iter().all(|matcher| matcher.matches(""))) {
        return Err("match[] must contain at least one non-empty matcher".into());
    }
    Ok(sets)
}
