//! What is printed, and that it parses to the same tree again.

use crate::corpus;
use promql::{ParserOptions, ast_json, parse, pretty};
use proptest::prelude::*;

fn printed(text: &str) -> String {
    parse(text, &ParserOptions::all_features()).expect("a valid expression").to_string()
}

fn check(text: &str, expected: &str) {
    assert_eq!(printed(text), expected);
    assert_eq!(printed(expected), expected);
}

/// Found by fuzzing; Prometheus makes nanoseconds of the seconds and cuts, so what it prints may be a millisecond less.
#[test]
fn a_duration_for_a_number_is_printed_as_prometheus_cuts_it() {
    check("33335882ms", "9h15m35s881ms");
    check("1500ms", "1s500ms");
}

#[test]
fn modifiers_have_a_place_of_their_own() {
    check("foo offset 5m @ 10", "foo @ 10.000 offset 5m");
    check("foo[5m] offset -1h @ end()", "foo[5m] @ end() offset -1h");
    check("rate(foo[1h:] @ start())[30m:1m]", "rate(foo[1h:] @ start())[30m:1m]");
    check("foo[5m] anchored @ 1", "foo[5m] anchored @ 1.000");
}

#[test]
fn groupings_are_spelled_out() {
    check("sum(foo) by (a, \"b.c\",)", "sum by (a, \"b.c\") (foo)");
    check("sum by () (foo)", "sum(foo)");
    check("sum without () (foo)", "sum without () (foo)");
    check("topk(5, foo)", "topk(5, foo)");
}

#[test]
fn matching_is_spelled_out() {
    check("a + on() group_left b", "a + on () group_left () b");
    check("a > bool ignoring(x) b", "a > bool ignoring (x) b");
    check("a + ignoring() b", "a + b");
    check("a + fill_right(1e30) fill_left(-2) b", "a + fill_left (-2) fill_right (1e+30) b");
    check("a + fill(NaN) b", "a + fill_left (NaN) fill_right (NaN) b");
}

#[test]
fn numbers_are_printed_without_exponents() {
    check("1e21", "1000000000000000000000");
    check("0x10 + 1_000", "16 + 1000");
    check("-Inf", "-Inf");
    check("90m", "1h30m");
}

#[test]
fn matchers_are_sorted_and_quoted() {
    check("{z='1', a=~\"x\\\"\", __name__=\"foo\"}", "{__name__=\"foo\",a=~\"x\\\"\",z=\"1\"}");
    check("{\"foo.bar\", \"with space\"!=\"\"}", "{\"with space\"!=\"\",__name__=\"foo.bar\"}");
}

#[test]
fn durations_keep_their_arithmetic() {
    check("foo[step() * (5m + 1)]", "foo[step() * (5m + 1)]");
    check("foo offset -(2m)", "foo offset -(2m)");
    check("foo[min_of(1m, range()):step()]", "foo[min_of(1m, range()):step()]");
}

#[test]
fn what_fits_stays_on_one_line() {
    let short = parse("sum(foo) by (bar)", &ParserOptions::default()).expect("valid");
    assert_eq!(pretty(&short), "sum by (bar) (foo)");
}

#[test]
fn what_is_long_is_split_into_its_parts() {
    let name = "a".repeat(60);
    let text = format!("sum by (x) (rate({name}[5m])) / on (x) (max({name}))");
    let long = parse(&text, &ParserOptions::default()).expect("valid");
    let expected = format!("  sum by (x) (rate({name}[5m]))\n/ on (x)\n  (max({name}))");
    assert_eq!(pretty(&long), expected);
}

#[test]
fn the_json_form_names_every_part() {
    let expr = parse("sum(rate(a{b!='\"'}[5m])) > bool 1", &ParserOptions::default()).expect("valid");
    let json: serde_json::Value = serde_json::from_str(&ast_json(&expr)).expect("JSON");
    assert_eq!(json["type"], "binaryExpr");
    assert_eq!(json["matching"], serde_json::Value::Null);
    let selector = &json["lhs"]["expr"]["args"][0];
    assert_eq!(selector["range"], 300_000);
    assert_eq!(selector["matchers"][0], serde_json::json!({ "name": "b", "type": "!=", "value": "\"" }));
}

#[test]
fn every_good_expression_of_the_corpus_survives_printing() {
    let Some(cases) = corpus::lines("promql_parse_cases.jsonl") else { return };
    let options = ParserOptions::all_features();
    let good: Vec<_> =
        cases.iter().filter_map(|c| parse(&corpus::text(&c["input"]), &options).ok()).collect();
    println!("{} expressions printed and parsed again", good.len());
    for expr in &good {
        let line = expr.to_string();
        assert_eq!(printed(&line), line);
        assert_eq!(printed(&pretty(expr)), line);
        serde_json::from_str::<serde_json::Value>(&ast_json(expr)).expect("JSON");
    }
    assert_eq!(good.len(), 208);
}

/// Expressions of many shapes, valid or not.
fn expression() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("1".to_owned()),
        Just("5m".to_owned()),
        Just("-.5e3".to_owned()),
        Just("foo".to_owned()),
        Just("sum{on=~\"a|b\"}".to_owned()),
        Just("{\"a.b\"}[5m:step()]".to_owned()),
        Just("foo[1m + 2] offset -(3)".to_owned()),
        Just("\"text\\n\"".to_owned()),
    ];
    leaf.prop_recursive(6, 40, 3, |inner| {
        prop_oneof![
            inner.clone().prop_map(|e| format!("({e})")),
            inner.clone().prop_map(|e| format!("-{e}")),
            inner.clone().prop_map(|e| format!("{e} offset 5m @ 3")),
            inner.clone().prop_map(|e| format!("sum without (a,) ({e})")),
            inner.clone().prop_map(|e| format!("rate({e}[5m:1m])")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("clamp_max({a}, {b})")),
            (inner.clone(), "[-+*/^%]|and|or|> bool|<= on \\(x\\)", inner)
                .prop_map(|(a, op, b)| format!("{a} {op} {b}")),
        ]
    })
}

proptest! {
    #[test]
    fn printing_is_the_inverse_of_parsing(text in expression()) {
        if let Ok(expr) = parse(&text, &ParserOptions::all_features()) {
            let line = expr.to_string();
            prop_assert_eq!(printed(&line), line);
        }
    }

    #[test]
    fn no_text_makes_the_parser_panic(text in "[a-z0-9_:{}()\\[\\]\"'`\\\\,=!~<>@#.+ -]{0,60}|\\PC{0,40}") {
        let _ = parse(&text, &ParserOptions::all_features());
    }
}

#[test]
fn texts_are_escaped_as_go_escapes_them() {
    let json = |text: &str| ast_json(&parse(text, &ParserOptions::default()).expect("valid"));
    assert!(json("1 >= bool 2").contains(r#""op":"\u003e=""#), "{}", json("1 >= bool 2"));
    assert_eq!(
        json(r#""\n\t<&\xff\u2028\a""#),
        r#"{"type":"stringLiteral","val":"\n\t\u003c\u0026\ufffd\u2028\u0007"}"#
    );
}
