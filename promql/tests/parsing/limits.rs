//! What the parser refuses for its size. Run on a thread with the stack of a worker.
#![expect(clippy::disallowed_methods, reason = "a thread with a stack of a given size")]

use promql::{ParserOptions, parse};

fn first_error(text: &str) -> String {
    let text = text.to_owned();
    let run =
        move || parse(&text, &ParserOptions::all_features()).expect_err("too much").0[0].message.clone();
    std::thread::Builder::new().stack_size(1 << 20).spawn(run).expect("a thread").join().expect("no overflow")
}

const DEEP: &str = "expression is nested more than 500 levels deep";

#[test]
fn parentheses_nest_to_a_limit() {
    assert_eq!(first_error(&"(".repeat(100_000)), DEEP);
}

#[test]
fn signs_and_powers_nest_to_a_limit() {
    assert_eq!(first_error(&"-".repeat(100_000)), DEEP);
    assert_eq!(first_error(&"2^".repeat(100_000)), DEEP);
}

#[test]
fn chains_of_operators_are_trees_too() {
    assert_eq!(first_error(&"a+".repeat(100_000)), DEEP);
    assert_eq!(first_error(&format!("a{}", "[5m:]".repeat(100_000))), DEEP);
}

#[test]
fn calls_nest_to_a_limit() {
    assert_eq!(first_error(&"abs(".repeat(100_000)), DEEP);
    assert_eq!(first_error(&"sum by (x) (".repeat(50_000)), DEEP);
}

#[test]
fn durations_nest_to_a_limit() {
    assert_eq!(first_error(&format!("a[{}", "(".repeat(100_000))), DEEP);
    assert_eq!(first_error(&format!("a[{}", "1+".repeat(100_000))), DEEP);
}

#[test]
fn a_tree_of_the_highest_allowed_kind_is_walked_without_trouble() {
    let text = format!("{}1{}", "(".repeat(498), ")".repeat(498));
    let run = move || parse(&text, &ParserOptions::default()).expect("within the limits").to_string().len();
    let len = std::thread::Builder::new().stack_size(1 << 20).spawn(run).expect("a thread").join();
    assert_eq!(len.expect("no overflow"), 997);
}

#[test]
fn long_texts_are_refused() {
    let text = " ".repeat((1 << 20) + 1);
    assert_eq!(first_error(&text), "text is 1048577 bytes long, the limit is 1048576");
}

#[test]
fn regular_expressions_are_counted_before_they_are_compiled() {
    let many = "more than 1000 regular expressions in one query: join them with \"|\" or split the query";
    assert_eq!(first_error(&format!("a{{{}}}", "b=~\"c.*d\",".repeat(50_000))), many);
    assert_eq!(first_error(&format!("a{{{}}}", "b!~\"c.*d\",".repeat(1001))), many);
    // Balanced, so that depth is no limit.
    let wide =
        (0..10).fold("label_replace(a,\"b\",\"\",\"c\",\".*\")".to_owned(), |t, _| format!("({t})+({t})"));
    assert_eq!(first_error(&wide), many);
    assert!(parse(&format!("a{{{}}}", "b=~\"c.*d\",".repeat(1000)), &ParserOptions::default()).is_ok());
}

#[test]
fn errors_are_collected_to_a_limit() {
    let text = format!("abs({})", "f,,".repeat(100_000));
    assert_eq!(parse(&text, &ParserOptions::default()).expect_err("commas").0.len(), 10);
}
