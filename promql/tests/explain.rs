//! The plan as text: what is folded, what is done once, and what could be evaluated where the data is.
#![allow(clippy::unwrap_used, reason = "tests")]

use promql::{Engine, EngineOptions};

fn plan(query: &str) -> String {
    Engine::new(EngineOptions::default()).explain(query, 0, 3_600_000, 60_000).unwrap()
}

#[track_caller]
fn check(query: &str, expected: &[&str]) {
    assert_eq!(plan(query).lines().collect::<Vec<_>>(), expected, "{query}");
}

#[test]
fn functions_of_single_series_can_leave() {
    check(
        "abs(rate(a{b=\"c\"}[5m])) * 8",
        &[
            "* (binary)  << where the data is, per series",
            "  abs",
            "    rate",
            "      {b=\"c\",__name__=\"a\"}[5m]",
            "  8",
        ],
    );
}

#[test]
fn sums_stay_and_take_series_in_order() {
    check(
        "sum by (b) (rate(a[5m]))",
        &["sum by (b)", "  rate  << where the data is, per series", "    {__name__=\"a\"}[5m]"],
    );
}

#[test]
fn counts_and_extremes_can_be_combined() {
    for op in ["count", "group", "min", "max"] {
        check(
            &format!("{op} without (b) (a)"),
            &[&format!("{op} without (b)  << where the data is, in parts"), "  {__name__=\"a\"}"],
        );
    }
    check("topk(3, a)", &["topk  << where the data is, in parts", "  3", "  {__name__=\"a\"}"]);
    check("absent(a)", &["absent  << where the data is, in parts", "  {__name__=\"a\"}"]);
}

#[test]
fn nothing_leaves_that_needs_several_series_or_a_value_of_other_data() {
    check(
        "max(a) / max(a + b)",
        &[
            "/ (binary)",
            "  max  << where the data is, in parts",
            "    {__name__=\"a\"}",
            "  max",
            "    + (binary)",
            "      {__name__=\"a\"}  << where the data is, per series",
            "      {__name__=\"b\"}  << where the data is, per series",
        ],
    );
    check(
        "topk(scalar(b), a)",
        &[
            "topk",
            "  scalar",
            "    {__name__=\"b\"}  << where the data is, per series",
            "  {__name__=\"a\"}  << where the data is, per series",
        ],
    );
    check(
        "histogram_quantile(0.9, sum by (le) (a))",
        &[
            "histogram_quantile",
            "  0.9",
            "  sum by (le)",
            "    {__name__=\"a\"}  << where the data is, per series",
        ],
    );
}

#[test]
fn what_does_not_depend_on_the_step_is_done_once_and_times_are_folded() {
    check(
        "a - max(a @ end() offset 5m)",
        &[
            "- (binary)",
            "  {__name__=\"a\"}  << where the data is, per series",
            "  once for all steps  << where the data is, in parts",
            "    max",
            "      {__name__=\"a\"} @ 3600 offset 5m",
        ],
    );
}

#[test]
fn a_subquery_of_single_series_can_leave_with_its_function() {
    check(
        "max_over_time(rate(a[5m])[1h:1m])",
        &[
            "max_over_time  << where the data is, per series",
            "  subquery [1h:1m]",
            "    rate",
            "      {__name__=\"a\"}[5m]",
        ],
    );
    check(
        "max_over_time(sum(a)[1h:1m])",
        &[
            "max_over_time",
            "  subquery [1h:1m]",
            "    sum",
            "      {__name__=\"a\"}  << where the data is, per series",
        ],
    );
}
