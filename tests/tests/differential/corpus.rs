//! Expressions that others wrote: Prometheus's benchmarks, rules, dashboards, and its parser's test cases, from
//! `../shared/prometheus`.

use serde_json::Value;
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};
use tests::skipped;

const SHARED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/prometheus");

/// Folders deeper than this hold no rules.
const DEPTH_MAX: usize = 6;

/// A text of the corpus; `None`, with a word, where it is missing.
fn read(name: &str) -> Option<String> {
    let text = fs::read_to_string(Path::new(SHARED).join(name));
    text.inspect_err(|error| skipped(&format!("{SHARED}/{name}: {error}"))).ok()
}

/// The queries of Prometheus's engine benchmarks, `X` once `one` and once `ten`.
pub(crate) fn benchmarks() -> Option<Vec<String>> {
    let text = read("promql-bench-queries.txt")?;
    let mut queries = Vec::new();
    let mut inside = false;
    for line in text.lines() {
        if line.starts_with("## ") {
            inside = line.starts_with("## QUERIES") || line.starts_with("## PARSER");
        } else if inside && !line.is_empty() && !line.starts_with('#') {
            let query = line.split(" # ").next().unwrap_or_default().trim();
            // Counting everything would count what each side scrapes of itself.
            let query = query.replace("{__name__!=\"\"", "{__name__=~\"[abh]_.*\"");
            let query = query.replace("native_histogram_series", "native_seconds");
            let query = query.replace("native_histogram_custom_bucket_series", "custom_seconds");
            queries.extend(["_one", "_ten"].map(|size| query.replace("_X", size)));
        }
    }
    queries.dedup();
    assert!(queries.len() > 80, "promql-bench-queries.txt has only {} queries", queries.len());
    Some(queries)
}

fn files(folder: &Path, depth: usize, found: &mut Vec<PathBuf>) {
    let mut entries: Vec<_> =
        fs::read_dir(folder).into_iter().flatten().flatten().map(|e| e.path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() && depth > 0 {
            files(&path, depth - 1, found);
        } else if path
            .extension()
            .is_some_and(|e| ["yml", "yaml", "rules", "json"].iter().any(|known| e == *known))
        {
            found.push(path);
        }
    }
}

/// The expression of a line `expr: ...` of a rule, or `"expr": "..."` of a dashboard.
fn expression(line: &str) -> Option<String> {
    let line = line.trim().trim_start_matches("- ").trim_end_matches(',');
    let value = line.strip_prefix("expr:").or_else(|| line.strip_prefix("\"expr\":"))?.trim();
    let inside = |quote| value.strip_prefix(quote).and_then(|v: &str| v.strip_suffix(quote));
    let text = match (inside('"'), inside('\'')) {
        (Some(_), _) => serde_json::from_str(value).unwrap_or_else(|_| value.to_owned()),
        (None, Some(text)) => text.replace("''", "'"),
        _ => value.to_owned(),
    };
    (!text.is_empty() && text != "|" && text != ">").then_some(text)
}

/// Every expression of rules and dashboards that stands on one line.
pub(crate) fn rules() -> Option<Vec<String>> {
    let mut paths = Vec::new();
    files(&Path::new(SHARED).join("data"), DEPTH_MAX, &mut paths);
    let texts = paths.iter().filter_map(|path| fs::read_to_string(path).ok());
    let found: BTreeSet<String> =
        texts.flat_map(|text| text.lines().filter_map(expression).collect::<Vec<_>>()).collect();
    if found.is_empty() {
        skipped(&format!("there are no rules in {SHARED}/data"));
        return None;
    }
    Some(found.into_iter().collect())
}

/// What Prometheus's parser is tested with, good and bad.
pub(crate) fn parser_cases() -> Option<Vec<String>> {
    let text = read("data/derived/promql_parse_cases.jsonl")?;
    let cases = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let cases: Vec<_> = cases.filter_map(|case| case["input"].as_str().map(str::to_owned)).collect();
    assert!(cases.len() > 300, "only {} parser cases", cases.len());
    Some(cases)
}

/// The expressions of Prometheus's test scripts; they find little here, and have every form.
pub(crate) fn scripts() -> Option<Vec<String>> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(Path::new(SHARED).join("data/promqltest")).into_iter().flatten().flatten() {
        let text = fs::read_to_string(entry.path()).unwrap_or_default();
        for line in text.lines().map(str::trim) {
            let instant = line.strip_prefix("eval instant at ").and_then(|rest| rest.split_once(' '));
            let range = line.strip_prefix("eval range from ").and_then(|rest| rest.splitn(6, ' ').nth(5));
            found.extend(instant.map(|(_, text)| text).or(range).map(|text| text.trim().to_owned()));
        }
    }
    if found.is_empty() {
        skipped(&format!("there are no scripts in {SHARED}/data/promqltest"));
        return None;
    }
    Some(found.into_iter().collect())
}
