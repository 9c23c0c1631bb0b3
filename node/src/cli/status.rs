//! `vestal status`: may I lose another node now?

use super::http;
use clap::{Args, ValueEnum};
use hyper::Method;
use serde_json::Value;
use std::{fmt::Write as _, process::ExitCode};

const EXIT_MAY_NOT_LOSE: u8 = 1;
const EXIT_NO_QUORUM: u8 = 3;

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Output {
    Table,
    Json,
}

#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// Any node's web address.
    #[arg(long, default_value = "http://127.0.0.1:9090")]
    url: String,
    /// Form of the answer.
    #[arg(short, long, default_value = "table")]
    output: Output,
}

pub(crate) fn run(args: &StatusArgs) -> anyhow::Result<ExitCode> {
    let url = format!("{}/api/v1/status/cluster", args.url.trim_end_matches('/'));
    let status = http::api_data(Method::GET, &url, String::new())?;
    match args.output {
        Output::Json => println!("{}", serde_json::to_string_pretty(&status)?),
        Output::Table => print!("{}", table(&status)),
    }
    Ok(ExitCode::from(exit_status(&status)))
}

/// Whether a shard cannot have a leader: too few of its voters can be reached. Without one for a moment, between two
/// leaders, it has a quorum all the same.
fn has_no_quorum(shard: &Value) -> bool {
    let voters = list(&shard["replicas"]).iter().filter(|replica| replica["role"] != "learner");
    let (reached, all) = voters.fold((0, 0), |(reached, all), voter| {
        (reached + usize::from(!voter["appliedIndex"].is_null()), all + 1)
    });
    shard["leader"].is_null() && reached * 2 <= all
}

/// 0: one more node may be lost. 1: not. 3: some shard has no quorum.
fn exit_status(status: &Value) -> u8 {
    if list(&status["shards"]).iter().any(has_no_quorum) || list(&status["shards"]).is_empty() {
        EXIT_NO_QUORUM
    } else if status["mayLoseAnotherNode"] == Value::Bool(true) {
        0
    } else {
        EXIT_MAY_NOT_LOSE
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "-".to_owned(),
        other => other.to_string(),
    }
}

fn table(status: &Value) -> String {
    let mut out = String::new();
    let mut line = |text: String| writeln!(out, "{text}").expect("a string takes all text");
    line(format!(
        "cluster {}  configuration {}",
        text(&status["clusterId"]),
        text(&status["config"]["version"])
    ));
    line(format!(
        "\n{:<4} {:<20} {:<8} {:<24} {:<10} {}",
        "ID", "NODE", "STATE", "WEB", "VERSION", "CLOCK OFFSET"
    ));
    for node in list(&status["nodes"]) {
        let offset = node["clockOffsetSeconds"].as_f64().map_or("-".to_owned(), |s| format!("{s:+.3} s"));
        line(format!(
            "{:<4} {:<20} {:<8} {:<24} {:<10} {offset}",
            text(&node["id"]),
            text(&node["name"]),
            text(&node["state"]),
            text(&node["webAddress"]),
            text(&node["version"]),
        ));
    }
    line(format!(
        "\n{:<6} {:<20} {:>6} {:>10} {:>7}  {}",
        "SHARD", "LEADER", "TERM", "COMMITTED", "CONFIG", "LAG"
    ));
    for shard in list(&status["shards"]) {
        let committed = shard["commitIndex"].as_u64().unwrap_or(0);
        let lag = list(&shard["replicas"]).iter().map(|replica| {
            let name = text(&replica["node"]);
            replica["appliedIndex"].as_u64().map_or(format!("{name}: unreachable"), |applied| {
                format!("{name}: {}", committed.saturating_sub(applied))
            })
        });
        line(format!(
            "{:<6} {:<20} {:>6} {committed:>10} {:>7}  {}",
            text(&shard["id"]),
            text(&shard["leader"]),
            text(&shard["term"]),
            text(&shard["configVersion"]),
            lag.collect::<Vec<_>>().join(", "),
        ));
    }
    let config = &status["config"];
    for (what, names) in [
        ("configuration files that differ from what is in force, on", &config["nodesWithOtherFiles"]),
        (
            "keys of the configuration that are ignored, because they are not supported yet",
            &config["ignored"],
        ),
    ] {
        if !list(names).is_empty() {
            line(format!("\n{what}: {}", list(names).iter().map(text).collect::<Vec<_>>().join(", ")));
        }
    }
    let verdict = match exit_status(status) {
        0 => "May I lose another node now? Yes.".to_owned(),
        EXIT_NO_QUORUM => {
            format!("May I lose another node now? No: there is no quorum. {}.", text(&status["why"]))
        }
        _ => format!("May I lose another node now? No: {}.", text(&status["why"])),
    };
    line(format!("\n{verdict}"));
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn status(leader: Value, may: bool) -> Value {
        let replicas = json!([{"node": "a", "role": "leader", "appliedIndex": 9, "stateHash": null},
                              {"node": "b", "role": "voter", "appliedIndex": null, "stateHash": null}]);
        let shards = json!([{"id": 0, "leader": leader, "term": 1, "commitIndex": 10, "configVersion": 1,
                             "replicas": replicas}]);
        json!({"clusterId": "c", "nodes": [], "shards": shards, "config": {"version": 1}, "mayLoseAnotherNode": may,
               "why": "node b is dead"})
    }

    #[test]
    fn the_exit_status_answers_the_question() {
        assert_eq!(exit_status(&status(json!("a"), true)), 0);
        assert_eq!(exit_status(&status(json!("a"), false)), EXIT_MAY_NOT_LOSE);
        assert_eq!(exit_status(&status(Value::Null, false)), EXIT_NO_QUORUM);
    }

    #[test]
    fn a_shard_between_two_leaders_has_a_quorum() {
        let mut electing = status(Value::Null, false);
        electing["shards"][0]["replicas"][1]["appliedIndex"] = json!(9);
        assert_eq!(exit_status(&electing), EXIT_MAY_NOT_LOSE);
    }

    #[test]
    fn the_table_names_the_nodes_whose_files_differ_and_the_keys_that_are_ignored() {
        let mut differing = status(json!("a"), true);
        assert!(!table(&differing).contains("files that differ"));
        differing["config"]["nodesWithOtherFiles"] = json!(["a", "b"]);
        differing["config"]["ignored"] = json!(["rule_files"]);
        let table = table(&differing);
        assert!(table.contains("in force, on: a, b\n") && table.contains("yet: rule_files\n"), "{table}");
    }

    #[test]
    fn the_table_shows_lag_and_unreachable_replicas_and_says_why_not() {
        let table = table(&status(json!("a"), false));
        assert!(table.contains("a: 1, b: unreachable"), "{table}");
        assert!(table.ends_with("May I lose another node now? No: node b is dead.\n"), "{table}");
    }
}
