//! A reader: default queries at any node, whose answers must have all that is owed and nothing that was not offered;
//! at times it asks as an analyst does.

use super::{
    analyst::{analyse, metrics},
    http::{Answer, ask},
};
use crate::{
    dice::Dice,
    entropy::EPOCH_MS,
    invariants::{answers, queries::Question},
    ledger::{Ledger, Shown},
    net::SimNet,
    sometimes, trace,
};
use std::{
    collections::BTreeMap,
    fmt::Write,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// How far back a question reaches.
pub const REACH: Duration = Duration::from_secs(3600);

/// Percent-encodes a query.
pub(super) fn encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |mut out, byte| {
        write!(out, "%{byte:02X}").expect("a string takes all");
        out
    })
}

/// The samples of an answer by the label `by`; `None` if it is no such answer.
pub(super) fn samples(body: &[u8], by: &str) -> Option<BTreeMap<String, Shown>> {
    let json: serde_json::Value = serde_json::from_slice(body).ok()?;
    let mut found: BTreeMap<String, Shown> = BTreeMap::new();
    for series in json["data"]["result"].as_array()? {
        let name = series["metric"][by].as_str()?.to_owned();
        for pair in series["values"].as_array()? {
            let at = (pair[0].as_f64()? * 1000.0).round() as i64;
            found.entry(name.clone()).or_default().push((at, pair[1].as_str()?.parse().ok()?));
        }
    }
    Some(found)
}

/// Asks `node` for everything of `metric` and judges the answer. Whether there was one.
pub async fn read(
    net: &SimNet,
    ledger: &Arc<Mutex<Ledger>>,
    node: &str,
    metric: &str,
    patience: Duration,
) -> bool {
    let ledger = || ledger.lock().unwrap_or_else(PoisonError::into_inner);
    let until = EPOCH_MS + trace::now().as_millis() as i64;
    // What is owed before the question is asked must be in the answer.
    let owed = answers::owed(&ledger(), metric, until);
    let query = encoded(&format!("{metric}[{}s]", REACH.as_secs()));
    let head =
        format!("GET /api/v1/query?query={query}&time={}.{:03} HTTP/1.0\r\n", until / 1000, until % 1000);
    let answer = ask(net, node, &head, &[], patience).await;
    let by = if metric == "sim_written" { "s" } else { "instance" };
    let shown = match answer {
        Ok(answer) if answer.status == 200 => samples(&answer.body, by),
        other => {
            let mut ledger = ledger();
            ledger.work.unanswered += 1;
            if let Ok(Answer { status, body }) = other {
                let partly = String::from_utf8_lossy(&body).contains("was not read up to date in time");
                sometimes::happened("a shard had no leader in time for a query", partly.into());
                answers::refused(&mut ledger, node, metric, status, &body);
            }
            return false;
        }
    };
    let mut ledger = ledger();
    ledger.work.answers += 1;
    match shown {
        Some(shown) => answers::judge(&mut ledger, node, metric, &owed, &shown),
        None => ledger.violate("O10", format!("{node} answered {metric} with something that is no answer")),
    }
    true
}

/// Reads for ever.
pub async fn run(net: SimNet, ledger: Arc<Mutex<Ledger>>, dice: Dice, nodes: Vec<String>, pause: Duration) {
    loop {
        tokio::time::sleep(pause + dice.millis(0, pause.as_millis() as u64)).await;
        if dice.chance(25) {
            let question = *dice.pick(Question::ALL);
            let about = (question, *dice.pick(metrics(question)));
            let nodes = [dice.pick(&nodes), dice.pick(&nodes), dice.pick(&nodes)].map(String::as_str);
            let at = EPOCH_MS + trace::now().as_millis() as i64 - dice.between(0, 6000) as i64;
            let _answered = analyse(&net, &ledger, nodes, about, at, Duration::from_secs(5)).await;
            continue;
        }
        let metric = if dice.chance(50) { "sim_written" } else { "sim_serial" };
        let node: &String = dice.pick(&nodes);
        read(&net, &ledger, node, metric, Duration::from_secs(5)).await;
    }
}
