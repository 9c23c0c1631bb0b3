//! How much work a query can be at the most, told from its tree and from how many series its selectors can match.
//!
//! An estimate in samples that errs to the high side, made in a microsecond: who evaluates a query decides by it where.
//! A query whose work can be out of proportion to what it reads has no weight: one with subqueries, texts that grow,
//! regular expressions on values, or a selector of which nobody knows how many series it matches.

use crate::ast::{AggregateOp, Expr, VectorSelector};
use model::Matcher;

/// What finding a series, and handing it through an expression, is reckoned with, in samples.
const SERIES_WEIGHT: u64 = 64;
/// How dense samples are reckoned to be, milliseconds.
const INTERVAL_MS: u64 = 5_000;
/// Functions whose work is not in proportion to what they read.
const UNBOUNDED: [&str; 4] = ["info", "label_join", "label_replace", "sort_by_label"];

/// The times at which a query is evaluated.
#[derive(Clone, Copy, Debug)]
pub struct Extent {
    /// How many.
    pub steps: u64,
    /// From the first to the last, milliseconds.
    pub span_ms: u64,
    /// How far back a selector without a range looks, milliseconds.
    pub lookback_ms: u64,
}

/// What evaluating `expr` costs at the most, in about the time that a sample takes; `None` if that cannot be told.
/// `series_at_most` says how many series a selector matches at the most, if that is known
/// ([`model::Queryable::series_at_most`]).
#[must_use]
pub fn weight(
    series_at_most: &dyn Fn(&[Matcher]) -> Option<u64>,
    expr: &Expr,
    extent: Extent,
) -> Option<u64> {
    let of_selector = |selector: &VectorSelector, range_ms: u64| {
        let series = series_at_most(&selector.matchers)?;
        let samples = extent.span_ms.saturating_add(range_ms) / INTERVAL_MS;
        Some(series.saturating_mul(SERIES_WEIGHT.saturating_add(extent.steps).saturating_add(samples)))
    };
    let own = match expr {
        Expr::Number(_) | Expr::String(_) | Expr::Paren(_) | Expr::StepInvariant(_) => 1,
        Expr::Unary(_) | Expr::Binary(_) => extent.steps,
        Expr::Aggregate(e) if e.op == AggregateOp::CountValues => return None,
        Expr::Aggregate(_) => extent.steps,
        Expr::Call(e) if UNBOUNDED.iter().any(|name| e.func.name.starts_with(name)) => return None,
        Expr::Call(_) => extent.steps,
        Expr::Vector(selector) => of_selector(selector, extent.lookback_ms)?,
        Expr::Matrix(e) if e.range.expr.is_none() => {
            of_selector(&e.selector, u64::try_from(e.range.ms).unwrap_or(0).max(extent.lookback_ms))?
        }
        Expr::Matrix(_) | Expr::Subquery(_) => return None,
    };
    expr.children()
        .try_fold(own, |sum, child| Some(sum.saturating_add(weight(series_at_most, child, extent)?)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ParserOptions, parse};

    const NOW: Extent = Extent { steps: 1, span_ms: 0, lookback_ms: 300_000 };

    /// With ten series of each name but `unknown`.
    fn check(text: &str, extent: Extent, expected: Option<u64>) {
        let ten = |matchers: &[Matcher]| (matchers[0].value != "unknown").then_some(10);
        let expr = parse(text, &ParserOptions::all_features()).expect("a query");
        assert_eq!(weight(&ten, &expr, extent), expected, "{text}");
    }

    #[test]
    fn a_selector_weighs_its_series_steps_and_samples() {
        check("up", NOW, Some(10 * (64 + 1 + 60)));
        check("up[1h]", NOW, Some(10 * (64 + 1 + 720)));
        check("up", Extent { steps: 241, span_ms: 3_600_000, ..NOW }, Some(10 * (64 + 241 + 780)));
    }

    #[test]
    fn parts_add_up() {
        check("sum(up) / -up + 1", NOW, Some(2 * 1250 + 5));
    }

    #[test]
    fn what_is_not_in_proportion_to_what_it_reads_has_no_weight() {
        check("unknown", NOW, None);
        check("max_over_time(up[1h:1m])", NOW, None);
        check("label_join(up, \"a\", \"b\")", NOW, None);
        check("count_values(\"a\", up)", NOW, None);
        check("rate(up[1m * 2])", NOW, None);
        check("1 + sum(label_replace(up, \"a\", \"b\", \"c\", \"d\"))", NOW, None);
    }

    #[test]
    fn the_weight_of_a_huge_query_is_huge() {
        let all = |_: &[Matcher]| Some(u64::MAX);
        let expr = parse("rate(up[100y]) + up", &ParserOptions::all_features()).expect("a query");
        let extent = Extent { steps: u64::MAX, span_ms: u64::MAX, lookback_ms: u64::MAX };
        assert_eq!(weight(&all, &expr, extent), Some(u64::MAX));
    }
}
