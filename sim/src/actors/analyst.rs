//! An analyst: aggregations and functions at any node, each between two questions for the raw samples.

use super::{
    http::{Answer, ask},
    reader::{encoded, samples},
};
use crate::{
    invariants::{
        answers,
        queries::{Question, Raw, Vector, differ},
    },
    ledger::Ledger,
    net::SimNet,
};
use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// How far back raw samples are asked for: further than any question looks.
const RAW_SECONDS: u64 = 300;

/// Asks `node` for an instant query at `at`, milliseconds; `None` without an answer.
pub async fn query(
    net: &SimNet,
    ledger: &Mutex<Ledger>,
    node: &str,
    text: &str,
    at: i64,
    patience: Duration,
) -> Option<Vec<u8>> {
    let query = encoded(text);
    let head = format!("GET /api/v1/query?query={query}&time={}.{:03} HTTP/1.0\r\n", at / 1000, at % 1000);
    let Answer { status, body } = ask(net, node, &head, &[], patience).await.ok()?;
    if status != 200 {
        answers::refused(&mut locked(ledger), node, text, status, &body);
        return None;
    }
    Some(body)
}

fn locked(ledger: &Mutex<Ledger>) -> MutexGuard<'_, Ledger> {
    ledger.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The label that tells the series of a metric apart.
fn label_of(metric: &str) -> &'static str {
    if metric == "sim_written" { "s" } else { "instance" }
}

/// The raw samples of a metric up to `at`; `None` without an answer.
async fn raw(
    net: &SimNet,
    ledger: &Mutex<Ledger>,
    node: &str,
    metric: &str,
    at: i64,
    patience: Duration,
) -> Option<Raw> {
    let text = format!("{metric}[{RAW_SECONDS}s]");
    let body = query(net, ledger, node, &text, at, patience).await?;
    let raw = samples(&body, label_of(metric));
    if raw.is_none() {
        locked(ledger).violate("O10", format!("{node} answered {text} with something that is no matrix"));
    }
    raw
}

/// The values of an instant vector by the label `by`; `None` if it is none, or has a series twice.
fn vector(body: &[u8], by: &str) -> Option<Vector> {
    let json: serde_json::Value = serde_json::from_slice(body).ok()?;
    let series = json["data"]["result"].as_array()?;
    let values = series.iter().map(|series| {
        let name = series["metric"][by].as_str().unwrap_or_default().to_owned();
        Some((name, series["value"][1].as_str()?.parse().ok()?))
    });
    let vector = values.collect::<Option<Vector>>()?;
    (vector.len() == series.len()).then_some(vector)
}

/// Asks a question between two for the raw samples, of these nodes in turn. Whether it could be judged: all three were
/// answered, and nothing was added meanwhile.
pub async fn analyse(
    net: &SimNet,
    ledger: &Mutex<Ledger>,
    nodes: [&str; 3],
    (question, metric): (Question, &str),
    at: i64,
    patience: Duration,
) -> bool {
    let Some(before) = raw(net, ledger, nodes[0], metric, at, patience).await else { return false };
    let text = question.text(metric);
    let Some(body) = query(net, ledger, nodes[1], &text, at, patience).await else { return false };
    if raw(net, ledger, nodes[2], metric, at, patience).await.as_ref() != Some(&before) {
        return false;
    }
    let mut ledger = locked(ledger);
    let wrong = match vector(&body, label_of(metric)) {
        Some(found) => differ(&question.naive(&before, at), &found),
        None => Some("answered something that is no vector".to_owned()),
    };
    ledger.work.analysed += 1;
    if let Some(wrong) = wrong {
        ledger.violate("O10", format!("{}: {text} at {at}: {wrong}", nodes[1]));
    }
    true
}

/// The metrics that a question may be about.
#[must_use]
pub fn metrics(question: Question) -> &'static [&'static str] {
    // Raw samples do not show where a scraped series has ended.
    if question.is_instant() { &["sim_written"] } else { &["sim_written", "sim_serial"] }
}
