//! PromQL: arbitrary text is an error or a tree, and a tree's text is the same tree again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use promql::{ParserOptions, parse, parse_selector, pretty};

fuzz_target!(|text: &str| {
    let options = ParserOptions::all_features();
    let _no_panic = parse_selector(text, &options);
    let Ok(expr) = parse(text, &options) else { return };
    let printed = expr.to_string();
    // A tree near the limits may print longer than it was.
    let options = ParserOptions { text_bytes_max: usize::MAX, depth_max: 2 * options.depth_max, ..options };
    let again = parse(&printed, &options).unwrap_or_else(|error| panic!("{printed:?} is not PromQL: {error:?}"));
    assert_eq!(again.to_string(), printed, "printing settles");
    let long = pretty(&expr);
    let again = parse(&long, &options).unwrap_or_else(|error| panic!("{long:?} is not PromQL: {error:?}"));
    assert_eq!(again.to_string(), printed);
});
