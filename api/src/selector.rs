//! Selectors as parameters: `match[]` and `match_target`.

use crate::{error::ApiError, job, state::State};
use model::{MatchOp, Matcher};
use promql::ParserOptions;

/// Texts up to here are read at once, unless they have regular expressions.
const LIGHT_BYTES: usize = 4096;

/// Whether a text is read in microseconds. Regular expressions are not: each is compiled.
pub(crate) fn is_light(text: &str) -> bool {
    text.len() <= LIGHT_BYTES && !["=~", "!~", "label_replace"].iter().any(|sign| text.contains(sign))
}

/// Runs what reads a text: at once, or on a thread that may block if the text is not light.
pub(crate) async fn read<T: Send + 'static>(
    state: &State,
    light: bool,
    read: impl FnOnce() -> T + Send + 'static,
) -> Result<T, ApiError> {
    if light { Ok(read()) } else { job::run(state, "parse", read).await }
}

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
pub(crate) async fn sets(
    state: &State,
    texts: &[&str],
) -> Result<Result<Vec<Vec<Matcher>>, String>, ApiError> {
    let sets = all_sets(state, texts).await?;
    Ok(sets.and_then(|sets| {
        if sets.iter().any(|set| set.iter().all(|matcher| matcher.matches(""))) {
            return Err("match[] must contain at least one non-empty matcher".into());
        }
        Ok(sets)
    }))
}

/// Reads all values of `match[]`, those that match everything included.
///
/// # Errors
/// As for [`one`].
pub(crate) async fn all_sets(
    state: &State,
    texts: &[&str],
) -> Result<Result<Vec<Vec<Matcher>>, String>, ApiError> {
    let light = texts.len() <= 100 && texts.iter().all(|text| is_light(text));
    let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
    read(state, light, move || read_sets(&texts)).await
}

/// All of them share the limits of one query on regular expressions.
fn read_sets(texts: &[String]) -> Result<Vec<Vec<Matcher>>, String> {
    let mut options = ParserOptions::default();
    let mut sets: Vec<Vec<Matcher>> = Vec::with_capacity(texts.len());
    for text in texts {
        let set = promql::parse_selector(text, &options).map_err(|errors| errors.to_string())?;
        let regexes = || set.iter().filter(|m| matches!(m.op, MatchOp::Regex | MatchOp::NotRegex));
        let large = regexes().filter(|m| m.regex().is_some_and(model::AnchoredRegex::is_large));
        options.regexes_max -= regexes().count();
        options.large_regexes_max -= large.count();
        sets.push(set);
    }
    Ok(sets)
}
