//! Every arrow between our crates. A crate may use what stands in its row, nothing else.

use std::fs;

const ARROWS: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("promql", &["model"]),
    ("scrape", &["model"]),
    ("storage", &["model"]),
    ("raft", &["model", "storage"]),
    ("rules", &["model", "promql"]),
    ("api", &["model", "promql"]),
    ("node", &["model", "promql", "scrape", "storage", "raft", "rules", "api"]),
    ("screenplay", &[]),
    ("sim", &["model", "storage", "node", "screenplay"]),
    ("tests", &["screenplay"]),
];

#[test]
fn only_the_drawn_arrows_exist() {
    for (name, allowed) in ARROWS {
        let path = format!("{}/../{name}/Cargo.toml", env!("CARGO_MANIFEST_DIR"));
        let Ok(text) = fs::read_to_string(&path) else { continue }; // a crate is created when it has content
        let manifest: toml::Table = text.parse().expect("a manifest is TOML");
        let used = manifest.get("dependencies").and_then(|d| d.as_table());
        for dep in used.into_iter().flat_map(|d| d.keys()) {
            let ours = ARROWS.iter().any(|(krate, _)| krate == dep);
            assert!(!ours || allowed.contains(&dep.as_str()), "{name} must not depend on {dep}");
        }
    }
}
