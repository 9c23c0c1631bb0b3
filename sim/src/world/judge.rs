//! What is judged beside the answers of single queries: what nodes owe each other (all the time), and what queries make
//! of the data (at the end).

use super::{INTERVAL_MS, LOG_BYTES, World, target_address, web};
use crate::{
    actors::analyst,
    entropy::EPOCH_MS,
    invariants::{
        bounds, liveness,
        logs::{DiskLog, Logs},
        queries::Question,
        replicas::Replicas,
        staleness::{self, Scrapes},
        votes::Votes,
    },
    machine::{DATA_DIR, Machine, log_dir},
    net::SimNet,
    points,
    violation::Violation,
};
use model::ShardId;
use node::{Bound, GroupRole};
use screenplay::Fault;
use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    time::Duration,
};
use storage::{
    log::{LogOptions, testing::durable_contents},
    shard::KEY_MANIFEST,
};

/// Between two looks at the disks: each reads all logs.
const DISKS_MS: u128 = 1000;
/// Between two instants at which series are compared with scrapes.
const INSTANTS_MS: i64 = INTERVAL_MS / 4;
/// Attempts at a question until nothing is added meanwhile.
const ATTEMPTS: usize = 20;

/// Votes and logs.
#[derive(Debug, Default)]
pub(super) struct Oaths {
    votes: Votes,
    logs: Logs,
}

impl Oaths {
    /// Takes note of the votes that left machines.
    pub(super) fn hear(&mut self, machines: &[Machine]) -> Result<(), Violation> {
        for (at, vote) in points::votes() {
            let machine = &machines[at];
            let given = self.votes.give(machine.name, vote);
            // A machine with an old disk may have forgotten what it gave.
            if machine.hurt.is_none() {
                given?;
            }
        }
        Ok(())
    }

    /// Looks at all nodes, and once a second at their disks. A disk that was damaged or replaced owes nothing of
    /// before, and is taken for one that has everything until the cluster is whole again.
    pub(super) fn look(
        &mut self,
        now: Duration,
        machines: &[Machine],
        replicas: &Replicas,
    ) -> Result<(), Violation> {
        for machine in machines {
            if machine.hurt.is_some() {
                self.votes.lose(machine.name);
                self.logs.lose(machine.name);
            }
            let Some(probe) = machine.probe() else { continue };
            if let Some(damage) = machine.damage.as_ref().filter(|_| !probe.shards().is_empty()) {
                let text = format!("{} runs on a log that is damaged: {damage}", machine.name);
                return Err(Violation { invariant: "O5", text });
            }
            let Some(us) = probe.id() else { continue };
            self.votes.name(machine.name, machine.disks_lost, us)?;
            for report in probe.shards() {
                if let Some(id) = report.applied {
                    self.logs.commit(machine.name, report.shard, id)?;
                }
                liveness::told(machine.name, &report)?;
                let status = &report.status;
                if status.role == GroupRole::Leader && !status.changing {
                    self.votes.lead(report.shard, status.term, us, status.voters.len())?;
                }
            }
        }
        if now.as_millis().is_multiple_of(DISKS_MS) { self.look_at_disks(machines, replicas) } else { Ok(()) }
    }

    fn look_at_disks(&mut self, machines: &[Machine], replicas: &Replicas) -> Result<(), Violation> {
        let mut disks = Vec::new();
        for machine in machines {
            if let Some(probe) = machine.probe() {
                let used = machine.outside.fs.bytes_in(&log_dir());
                let files = Bound { name: "bytes of the log's files".to_owned(), used, max: LOG_BYTES };
                bounds::judge(machine.name, &probe.bounds())?;
                bounds::judge(machine.name, &[files])?;
            }
            let disk = if machine.hurt.is_none() { disk(machine) } else { None };
            if let Some(disk) = &disk {
                self.votes.keep(machine.name, disk)?;
                self.logs.keep(machine.name, disk)?;
                self.logs.fenced(disk, |shard, index| replicas.hash(shard, index))?;
            }
            disks.push(disk);
        }
        self.logs.on_majority(&disks)
    }
}

/// What a machine's disk would hold of its log if the power failed now; `None` if it cannot be read, which its node
/// will say when it starts.
fn disk(machine: &Machine) -> Option<BTreeMap<ShardId, DiskLog>> {
    let options = LogOptions { size: LOG_BYTES, ..LogOptions::default() };
    let contents = durable_contents(&machine.outside.fs, &log_dir(), &options).ok()?;
    Some(contents.iter().map(|(shard, contents)| (*shard, DiskLog::new(*shard, contents))).collect())
}

fn millis(value: &serde_json::Value) -> Option<i64> {
    value.as_f64().map(|seconds| (seconds * 1000.0).round() as i64)
}

fn series(answer: &serde_json::Value) -> impl Iterator<Item = &serde_json::Value> {
    answer["data"]["result"].as_array().into_iter().flatten()
}

/// Timestamps and values of a series.
fn values(series: &serde_json::Value) -> impl Iterator<Item = (i64, f64)> {
    let pairs = series["values"].as_array().into_iter().flatten();
    pairs.filter_map(|pair| Some((millis(&pair[0])?, pair[1].as_str()?.parse().ok()?)))
}

impl World {
    fn now_ms(&self) -> i64 {
        EPOCH_MS + self.now.as_millis() as i64
    }

    /// O7: what instants show is what scrapes brought.
    pub(super) fn judge_staleness(&mut self, net: &SimNet) -> Result<(), Violation> {
        let node = self.dice.below(self.machines.len() as u64) as usize;
        // What is scraped while the questions are asked must not lie between them.
        let end = self.now_ms() - 2 * INTERVAL_MS;
        let time = |at: i64| format!("{}.{:03}", at / 1000, at % 1000);
        let mut raw = Vec::new();
        for metric in ["up", "sim_serial", "sim_double"] {
            let path = format!("/api/v1/query?query={metric}%5B1h%5D&time={}", time(end));
            raw.push(self.get(net, node, &path)?);
        }
        let start = series(&raw[0]).flat_map(values).map(|(at, _)| at).min().unwrap_or(end).max(EPOCH_MS);
        let mut shown: BTreeMap<String, BTreeMap<i64, BTreeSet<String>>> = BTreeMap::new();
        for metric in ["up", "sim_serial", "sim_double", "sim_visitor"] {
            let range = format!("start={}&end={}&step={}", time(start - 1000), time(end), time(INSTANTS_MS));
            let answer = self.get(net, node, &format!("/api/v1/query_range?query={metric}&{range}"))?;
            for series in series(&answer) {
                let labels = &series["metric"];
                let name = match labels["turn"].as_str() {
                    Some(turn) => format!("{metric}{{turn=\"{turn}\"}}"),
                    None => metric.to_owned(),
                };
                let target =
                    shown.entry(labels["instance"].as_str().unwrap_or_default().to_owned()).or_default();
                for (at, _) in values(series) {
                    target.entry(at).or_default().insert(name.clone());
                }
            }
        }
        let config = self.get(net, node, "/api/v1/status/config")?;
        let config = config["data"]["yaml"].as_str().unwrap_or_default().to_owned();
        let steady = !self.faults.contains_key(Fault::Configure.name());
        for index in 0..self.plan.load.targets {
            let target = target_address(index).to_string();
            let of = |answer: &serde_json::Value| -> BTreeMap<i64, f64> {
                let ours = series(answer).filter(|series| series["metric"]["instance"] == target.as_str());
                ours.flat_map(values).collect()
            };
            let (up, serials, doubles) = (of(&raw[0]), of(&raw[1]), of(&raw[2]));
            staleness::whole(&target, &up, &serials, &doubles)?;
            let scrapes: Scrapes = up
                .keys()
                .map(|at| (*at, staleness::brought(serials.get(at).map(|serial| *serial as u64))))
                .collect();
            let instants = (start - 1000..=end).step_by(INSTANTS_MS as usize);
            let shown = shown.remove(&target).unwrap_or_default();
            let shown = instants.map(|at| (at, shown.get(&at).cloned().unwrap_or_default())).collect();
            let configured = config.contains(&format!("'{target}'"));
            staleness::judge(&target, &scrapes, &shown, steady, configured)?;
        }
        Ok(())
    }

    /// O11: what lies on the disks of a healed world.
    pub(super) fn judge_disks(&self) -> Result<(), Violation> {
        let offered = self.ledger().offered_bytes;
        for machine in &self.machines {
            let kv = &machine.outside.kv;
            let ((stores, stored), (unfinished, _)) =
                (kv.used(KEY_MANIFEST, false), kv.used(KEY_MANIFEST, true));
            let fs = &machine.outside.fs;
            let files = fs.bytes_below(Path::new(DATA_DIR)) - fs.bytes_in(&log_dir());
            let hosted = self.plan.load.shards.into();
            let disk = bounds::disk(hosted, stores, unfinished, (stored, offered), files);
            bounds::judge(machine.name, &disk)?;
        }
        Ok(())
    }

    /// O10: every question at every node, and the same bytes from all of them.
    pub(super) fn judge_queries(&mut self, net: &SimNet) -> Result<(), Violation> {
        let nodes: Vec<String> = (0..self.machines.len()).map(web).collect();
        for (at, node) in nodes.iter().enumerate() {
            for question in Question::ALL {
                for metric in analyst::metrics(*question) {
                    let other = nodes[(at + 1) % nodes.len()].clone();
                    self.analyse(net, [other.clone(), node.clone(), other], (*question, *metric))?;
                }
            }
        }
        for text in
            ["sum by (s) (sim_written / 7)", "sim_serial", "topk(2, sim_written)", "{job=\"sim\"}[10s]"]
        {
            self.same_bytes(net, &nodes, text)?;
        }
        Ok(())
    }

    fn analyse(
        &mut self,
        net: &SimNet,
        nodes: [String; 3],
        about: (Question, &'static str),
    ) -> Result<(), Violation> {
        for _attempt in 0..ATTEMPTS {
            let (net, ledger, nodes) = (net.clone(), self.ledger.clone(), nodes.clone());
            let at = self.now_ms() - 1000;
            let judged = self.wait(async move {
                let nodes = [&nodes[0], &nodes[1], &nodes[2]].map(String::as_str);
                analyst::analyse(&net, &ledger, nodes, about, at, Duration::from_secs(5)).await
            })?;
            if judged {
                return Ok(());
            }
        }
        let (question, metric) = about;
        let text = format!("{} at {} is not answered in a healed world", question.text(metric), nodes[1]);
        Err(Violation { invariant: "O9", text })
    }

    /// All nodes answer the same bytes, unless something was added meanwhile.
    fn same_bytes(&mut self, net: &SimNet, nodes: &[String], text: &'static str) -> Result<(), Violation> {
        let mut answered = false;
        for _attempt in 0..ATTEMPTS {
            let (net, nodes, at) = (net.clone(), nodes.to_vec(), self.now_ms() - 1000);
            let ledger = self.ledger.clone();
            let answers: Vec<Option<Vec<u8>>> = self.wait(async move {
                let mut answers = Vec::new();
                for node in nodes.iter().chain(nodes.first()) {
                    answers.push(analyst::query(&net, &ledger, node, text, at, Duration::from_secs(5)).await);
                }
                answers
            })?;
            if answers.iter().any(Option::is_none) {
                continue;
            }
            answered = true;
            if answers.first() != answers.last() {
                continue; // something was added meanwhile, if that is not so each time
            }
            let Some(other) = answers.iter().position(|answer| *answer != answers[0]) else { return Ok(()) };
            let show = |answer: &Option<Vec<u8>>| {
                String::from_utf8_lossy(answer.as_deref().unwrap_or_default()).into_owned()
            };
            return Err(Violation {
                invariant: "O10",
                text: format!(
                    "{text}: {} answers {}, {} answers {}",
                    web(0),
                    show(&answers[0]),
                    web(other),
                    show(&answers[other])
                ),
            });
        }
        let (invariant, what) = match answered {
            true => ("O10", "gives other bytes each time"),
            false => ("O9", "is not answered in a healed world"),
        };
        Err(Violation { invariant, text: format!("{text} {what}") })
    }
}
