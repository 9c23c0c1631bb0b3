//! The queries of Prometheus's engine benchmarks, from `../shared/prometheus/promql-bench-queries.txt`.

use std::fs;
use tests::skipped;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/prometheus/promql-bench-queries.txt");

/// What needs a feature flag, or native histograms, which this test does not write.
const WITHOUT: [&str; 6] =
    ["smoothed", "limitk", "limit_ratio", "double_exponential_smoothing", "native_histogram", "info("];

/// The queries on floats, `X` once `one` and once `ten`; `None`, with a word, where the file is missing.
pub(crate) fn queries() -> Option<Vec<String>> {
    let Ok(text) = fs::read_to_string(FILE) else {
        skipped(&format!("{FILE} is missing"));
        return None;
    };
    let mut queries = Vec::new();
    let mut inside = false;
    for line in text.lines() {
        if line.starts_with("## ") {
            inside = line.starts_with("## QUERIES");
        } else if inside && !line.is_empty() && !WITHOUT.iter().any(|word| line.contains(word)) {
            let query = line.split(" # ").next().unwrap_or_default().trim();
            // Counting everything would count what each side scrapes of itself.
            let query = query.replace("{__name__!=\"\"", "{__name__=~\"[abh]_.*\"");
            queries.extend(["_one", "_ten"].map(|size| query.replace("_X", size)));
        }
    }
    queries.dedup();
    assert!(queries.len() > 40, "{FILE} has only {} queries", queries.len());
    Some(queries)
}
