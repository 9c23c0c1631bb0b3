//! What is refused, with the words of Prometheus, and what is surprisingly not.

use promql::{ParserOptions, parse, parse_selector};

fn error_with(text: &str, options: &ParserOptions) -> String {
    parse(text, options).expect_err("must be refused").to_string()
}

fn error(text: &str) -> String {
    error_with(text, &ParserOptions::all_features())
}

fn printed(text: &str) -> String {
    parse(text, &ParserOptions::all_features()).expect("a valid expression").to_string()
}

#[test]
fn a_position_is_a_line_and_a_column() {
    assert_eq!(error("sum(\n  foo bar)"), "2:7: parse error: unexpected identifier \"bar\" in aggregation");
    assert_eq!(error(""), "unknown position: parse error: no expression found in input");
}

#[test]
fn the_innermost_place_says_what_it_expected() {
    let grouping = "1:9: parse error: unexpected number \"1\" in grouping opts, expected label";
    assert_eq!(error("sum by (1) (foo)"), grouping);
    let include = "1:23: parse error: unexpected <op:*> in grouping opts, expected \"(\"";
    assert_eq!(error("a + on (x) group_left * b"), include);
    assert_eq!(printed("a + on (x) group_left by"), "a + on (x) group_left () by");
    let matcher = "1:5: parse error: unexpected \"}\" in label matching, expected label matching operator";
    assert_eq!(error("a{bc}"), matcher);
    let at = "1:7: parse error: unexpected identifier \"bar\" in @, expected timestamp";
    assert_eq!(error("foo @ bar"), at);
}

#[test]
fn keywords_name_metrics_where_no_operator_can_stand() {
    assert_eq!(printed("sum + by"), "sum + by");
    assert_eq!(printed("offset offset 5m"), "offset offset 5m");
    assert_eq!(
        printed("sum by (by, on, group_left) (start{end=\"1\"})"),
        "sum by (by, on, group_left) (start{end=\"1\"})"
    );
    assert_eq!(error("on{}"), "1:1: parse error: unexpected <on>");
}

#[test]
fn an_offset_ends_with_its_number_but_not_with_its_parentheses() {
    assert_eq!(printed("foo offset -5m ^ 2"), "foo offset -5m ^ 2");
    assert_eq!(printed("foo offset (1m) * 2"), "foo offset (1m) * 2");
    assert_eq!(
        error("foo offset (1m) * bar").split(": ").nth(2),
        Some("unexpected identifier \"bar\" in offset, expected number, duration, step(), or range()")
    );
}

#[test]
fn features_have_flags() {
    let plain = ParserOptions::default();
    assert_eq!(
        error_with("limitk(1, a)", &plain),
        "1:1: parse error: limitk() is experimental and must be enabled with --enable-feature=promql-experimental-functions"
    );
    assert_eq!(error_with("info(a)", &plain), "1:1: parse error: function \"info\" is not enabled");
    assert_eq!(
        error_with("a smoothed", &plain),
        "1:1: parse error: smoothed modifier is experimental and not enabled"
    );
    assert_eq!(
        error_with("a + fill(1) b", &plain),
        "1:1: parse error: binop fill modifiers are experimental and not enabled"
    );
    let old = ParserOptions { duration_expressions: false, ..plain };
    assert_eq!(
        error_with("a[1m+1m]", &old),
        "1:3: parse error: experimental duration expression is not enabled"
    );
}

#[test]
fn a_regex_of_another_dialect_is_refused() {
    let lookahead = "1:5: parse error: error parsing regexp: invalid or unsupported Perl syntax: `(?=`";
    assert_eq!(error("foo{a=~\"(?=b)\"}"), lookahead);
}

#[test]
fn a_selector_alone_is_just_that() {
    let options = ParserOptions::default();
    let matchers = parse_selector("{a=\"\", \"b.c\"}", &options).expect("a selector");
    assert_eq!(matchers.len(), 2);
    let with_range = parse_selector("foo[5m]", &options).expect_err("a range").to_string();
    assert_eq!(with_range, "1:4: parse error: unexpected \"[\"");
}
