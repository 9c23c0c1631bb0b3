//! Queries that were read lately: a dashboard asks the same ones again and again.
//!
//! Two generations: what is found moves to the young one; when that is full, the old one goes. What may be large in
//! memory is not kept, so there is no need to count bytes: texts up to a kilobyte, few regular expressions.

use model::MatchOp;
use promql::ast::Expr;
use std::{
    collections::HashMap,
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Bytes of a text that is kept.
const TEXT_BYTES_MAX: usize = 1024;
/// Queries of one generation.
const QUERIES_MAX: usize = 128;
/// Regular expressions of one generation: each may hold on to a megabyte.
const REGEXES_MAX: usize = 32;

#[derive(Default)]
struct Generations {
    young: HashMap<String, Query>,
    young_regexes: usize,
    old: HashMap<String, Query>,
}

/// A parsed query, and how many regular expressions it has.
#[derive(Clone)]
struct Query {
    expr: Arc<Expr>,
    regexes: usize,
}

/// See the module.
#[derive(Default)]
pub(crate) struct Known(Mutex<Generations>);

/// How many regular expressions a query has; `None` if it is not to be kept.
fn regexes(text: &str, expr: &Expr) -> Option<usize> {
    let selectors = expr.selectors();
    let matchers = selectors.iter().flat_map(|selector| &selector.matchers);
    let mut count = 0;
    for regex in matchers.filter(|m| matches!(m.op, MatchOp::Regex | MatchOp::NotRegex)).map(|m| m.regex()) {
        count += 1;
        if regex.is_some_and(model::AnchoredRegex::is_large) {
            return None;
        }
    }
    (text.len() <= TEXT_BYTES_MAX && count <= REGEXES_MAX).then_some(count)
}

impl Known {
    fn generations(&self) -> MutexGuard<'_, Generations> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn get(&self, text: &str) -> Option<Arc<Expr>> {
        let mut all = self.generations();
        if let Some(query) = all.young.get(text) {
            return Some(query.expr.clone());
        }
        let (text, query) = all.old.remove_entry(text)?;
        all.put(text, query.clone());
        Some(query.expr)
    }

    pub(crate) fn put(&self, text: &str, expr: &Arc<Expr>) {
        if let Some(regexes) = regexes(text, expr) {
            self.generations().put(text.to_owned(), Query { expr: expr.clone(), regexes });
        }
    }
}

impl Generations {
    fn put(&mut self, text: String, query: Query) {
        if self.young.len() >= QUERIES_MAX || self.young_regexes + query.regexes > REGEXES_MAX {
            self.old = mem::take(&mut self.young);
            self.young_regexes = 0;
        }
        self.young_regexes += query.regexes;
        self.young.insert(text, query);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Arc<Expr> {
        Arc::new(promql::parse(text, &promql::ParserOptions::default()).expect("a query"))
    }

    fn put(known: &Known, text: &str) {
        known.put(text, &parsed(text));
    }

    #[test]
    fn what_is_asked_again_stays_and_what_is_not_goes() {
        let known = Known::default();
        put(&known, "asked_again");
        put(&known, "asked_once");
        for i in 0..3 * QUERIES_MAX {
            put(&known, &format!("other_{i}"));
            assert_eq!(known.get("asked_again"), Some(parsed("asked_again")));
        }
        assert_eq!(known.get("asked_once"), None);
    }

    #[test]
    fn what_may_be_large_is_not_kept() {
        let known = Known::default();
        let long = format!("up{{a=\"{}\"}}", "x".repeat(TEXT_BYTES_MAX));
        let many = vec!["up{a=~\"x.*\"}"; REGEXES_MAX + 1].join("+");
        let large = r#"up{a=~"(\\pL{50}){2}"}"#;
        for text in [&*long, &many, large] {
            put(&known, text);
            assert_eq!(known.get(text), None, "{text}");
        }
    }

    #[test]
    fn a_generation_has_few_regular_expressions() {
        let known = Known::default();
        let text = |i: usize| format!("up{{a=~\"x{i}.*\"}}");
        (0..=2 * REGEXES_MAX).for_each(|i| put(&known, &text(i)));
        assert_eq!(known.get(&text(0)), None);
        assert_eq!(known.get(&text(2 * REGEXES_MAX)), Some(parsed(&text(2 * REGEXES_MAX))));
    }
}
