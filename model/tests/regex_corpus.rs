//! Prometheus's own patterns and values, and patterns made at random: shortcuts and program agree.

use model::AnchoredRegex;
use proptest::prelude::*;
use serde_json::Value;
use std::{fs, path::Path};

fn text(value: &Value) -> Option<String> {
    match value.as_str() {
        Some(text) => Some(text.to_owned()),
        None => {
            let args = value.get("args")?;
            Some(args[0].as_str()?.repeat(usize::try_from(args[1].as_u64()?).ok()?))
        }
    }
}

#[test]
fn every_pattern_of_the_corpus_matches_as_in_prometheus() {
    let path =
        concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/prometheus/data/derived/label_regex_corpus.json");
    let Ok(json) = fs::read_to_string(Path::new(path)) else {
        println!("SKIPPED: {path} is not there");
        return;
    };
    let corpus: Value = serde_json::from_str(&json).expect("JSON");
    let texts = |key: &str| -> Vec<String> {
        corpus[key].as_array().expect("a list").iter().filter_map(text).collect()
    };
    let (patterns, values) = (texts("regexes"), texts("values"));
    let mut compared = 0;
    for pattern in &patterns {
        let ours = AnchoredRegex::new(pattern).expect("Go accepts it");
        // None of these patterns means anything else to the crate behind.
        let plain = regex::Regex::new(&format!("^(?s:{pattern})$")).expect("Rust accepts it");
        for value in &values {
            assert_eq!(ours.is_match(value), plain.is_match(value), "{pattern:?} on {value:?}");
            compared += 1;
        }
    }
    println!("{} patterns, {} values, {compared} comparisons", patterns.len(), values.len());
    // Four of the values are not UTF-8, which a label's value always is.
    assert_eq!((patterns.len(), values.len()), (70, 69));
}

proptest! {
    #[test]
    fn no_pattern_makes_the_translator_panic(pattern in "[a-c0-9()\\[\\]{}|*+?.^$\\\\,:<>PpLQEbBdws&~-]{0,24}|\\PC{0,12}") {
        // Whatever Go accepts of this size, the crate behind accepts in translation.
        if let Err(error) = AnchoredRegex::new(&pattern) {
            prop_assert!(!error.to_string().contains("too large"), "{}", error);
        }
    }

    #[test]
    fn listed_texts_and_prefixes_agree_with_the_program(
        pattern in "(a|b|ab|c?|[ab]|\\(|\\)|\\||x){1,8}", value in "[abcx]{0,6}",
    ) {
        if let (Ok(ours), Ok(plain)) =
            (AnchoredRegex::new(&pattern), regex::Regex::new(&format!("^(?s:{pattern})$")))
        {
            prop_assert_eq!(ours.is_match(&value), plain.is_match(&value));
            if let Some(listed) = ours.literal_set() {
                prop_assert!(listed.iter().all(|text| plain.is_match(text)));
            }
            if plain.is_match(&value) {
                prop_assert!(value.starts_with(ours.prefix()));
            }
        }
    }

    #[test]
    fn a_quoted_text_matches_itself_and_nothing_else(text in "\\PC{1,20}", other in "\\PC{1,20}") {
        prop_assume!(!text.contains("\\E"));
        let regex = AnchoredRegex::new(&format!("\\Q{text}\\E")).expect("Go accepts it");
        prop_assert!(regex.is_match(&text));
        prop_assert_eq!(regex.is_match(&other), text == other);
    }
}
