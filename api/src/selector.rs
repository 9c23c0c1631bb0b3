//! Selectors as parameters: `match[]` and `match_target`.

use model::Matcher;
use promql::{ParserOptions, ast::Expr};

/// The conditions of one selector.
pub(crate) type Matchers = Vec<Matcher>;

/// Reads one selector, without offset and `@`.
///
/// # Errors
/// Prometheus's text: `1:5: parse error: ...`.
pub(crate) fn one(text: &str) -> Result<Matchers, String> {
    let options = ParserOptions::default();
    match promql::parse(text, &options).map_err(|errors| errors.to_string())? {
        Expr::Vector(selector) if selector.at.is_none() && selector.offset == Default::default() => {
            Ok(selector.matchers)
        }
        _ => Err("1:1: parse error: expected a series selector".into()),
    }
}

/// Reads all values of `match[]`.
///
/// # Errors
/// As for [`one`], or if a selector would match series without any label.
pub(crate) fn sets(texts: &[&str]) -> Result<Vec<Matchers>, String> {
    let sets: Vec<Matchers> = texts.iter().map(|text| one(text)).collect::<Result<_, _>>()?;
    if sets.iter().any(|set| set.iter().all(|matcher| matcher.matches(""))) {
        return Err("match[] must contain at least one non-empty matcher".into());
    }
    Ok(sets)
}
