//! Plays a script with real processes: nodes in network namespaces, each with a disk and a clock that can be made
//! worse, under load; then judges them as the end-to-end tests do.
//!
//! ```text
//!  script ──events that are on at t──▶ wanted(t) ──differences──▶ machines, links     every 20 ms
//!  then nothing is wanted any more ──▶ heal ──▶ verdict
//! ```
//!
//! Needs root, because of the namespaces.

mod machine;
mod verdict;
mod wanted;

use crate::{Client, DATA_TIMEOUT, FreshnessWatch, Hosts, Targets, Writer, WriterOptions, now_ms, within};
use machine::Machine;
use screenplay::{Event, Fault, Load, Script, node_name};
use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    thread::sleep,
    time::{Duration, Instant},
};

/// Between two looks at what is wanted.
const TICK: Duration = Duration::from_millis(20);
/// Patience with the beginning, and with healing.
const PATIENCE: Duration = Duration::from_secs(120);
/// What is asked of a node before its disk is taken away must be answered by then.
const WHOLE_TIMEOUT: Duration = Duration::from_secs(2);
/// Written as fast as in the simulator, and some more series.
const SERIES: usize = 20;
const WRITE_INTERVAL: Duration = Duration::from_millis(200);
/// What remote writers write.
const METRIC: &str = "written";

/// Why a script was not played to its end.
#[derive(Debug)]
pub enum NotPlayed {
    /// This machine cannot do it; nothing was judged.
    Impossible(String),
    /// A promise was broken; all of them.
    Broken(Vec<String>),
}

/// What was played, and how much was judged.
#[derive(Clone, Debug, Default)]
pub struct Played {
    /// Events in force, by name.
    pub injected: Vec<&'static str>,
    /// Events that were left out, and why.
    pub left_out: Vec<String>,
    /// Samples that were acknowledged, and found on every node.
    pub acknowledged: u64,
    /// Default answers that were watched, all fresh, and questions that were refused.
    pub answers: (u64, u64),
    /// Scrape slots with a sample, and those recorded as missed.
    pub slots: (u64, u64),
}

/// The load and the machines under it.
struct Stage {
    hosts: Hosts,
    machines: Vec<Machine>,
    clients: Vec<Client>,
    targets: Targets,
    writer: Writer,
    watches: Vec<FreshnessWatch>,
    cut: BTreeSet<(usize, usize)>,
    began: i64,
    broken: Vec<String>,
}

/// Plays a script in the folder `dir`, where the nodes' logs stay. Every step is told to `say`.
///
/// # Errors
/// If this machine cannot do it, or a promise was broken.
///
/// # Panics
/// If the machine takes back what it gave before (namespaces, links, processes).
pub fn play(script: &Script, vestal: &Path, dir: &Path, say: &dyn Fn(&str)) -> Result<Played, NotPlayed> {
    let mut played = Played::default();
    let mut events = Vec::new();
    for event in &script.events {
        if wanted::is_real(event.fault) {
            events.push(*event);
        } else {
            played.left_out.push(format!("{event}: only the simulator can do this"));
        }
    }
    played.left_out.iter().for_each(|text| say(&format!("left out: {text}")));
    let mut stage = Stage::set(script, vestal, dir).map_err(NotPlayed::Impossible)?;
    let one = |text: String| NotPlayed::Broken(vec![text]);
    stage.begin().map_err(one)?;
    say("the cluster works; the script begins");
    stage.perform(&events, script.lasts, &mut played, say);
    say("faults are over; healing");
    let broken = std::mem::take(&mut stage.broken);
    let judged = stage.judge(&events, broken, &mut played);
    if judged.is_empty() { Ok(played) } else { Err(NotPlayed::Broken(judged)) }
}

impl Stage {
    fn set(script: &Script, vestal: &Path, dir: &Path) -> Result<Stage, String> {
        let nodes = script.load.nodes;
        let hosts = Hosts::up(nodes).map_err(|why| format!("no network namespaces here: {why}"))?;
        let targets = hosts.as_client(|| Targets::start_at(hosts.client_address(), script.load.targets));
        let config = format!(
            "global: {{scrape_interval: 1s, scrape_timeout: 1s}}\nscrape_configs:\n- job_name: play\n  static_configs:\n  - targets: {}\n",
            targets.yaml_list()
        );
        let config_file: PathBuf = dir.join("prometheus.yml");
        std::fs::write(&config_file, config).map_err(|error| error.to_string())?;
        let mut machines = Vec::new();
        for place in 0..nodes {
            let flags = flags(&hosts, place, script.load, &config_file);
            machines.push(Machine::new(&hosts, place, dir, vestal, flags)?);
        }
        machines.iter_mut().for_each(Machine::start);
        let url = |place: usize| format!("http://{}:9090", hosts.address(place + 1));
        let clients: Vec<_> = (0..nodes).map(|place| Client::new(url(place), DATA_TIMEOUT)).collect();
        let began = now_ms();
        let options = WriterOptions {
            metric: METRIC.to_owned(),
            instances: script.load.writers,
            series: SERIES,
            interval: WRITE_INTERVAL,
        };
        let (writer, watches) = hosts.as_client(|| {
            let writer = Writer::start(&clients, options);
            let watch = |reader: usize| {
                FreshnessWatch::start(&clients[reader % nodes], METRIC, writer.shared_ledger())
            };
            let watches = (0..script.load.readers).map(watch).collect();
            (writer, watches)
        });
        let cut = BTreeSet::new();
        Ok(Stage { hosts, machines, clients, targets, writer, watches, cut, began, broken: Vec::new() })
    }

    /// Waits until everything works.
    fn begin(&self) -> Result<(), String> {
        self.hosts.as_client(|| verdict::whole(&self.clients, PATIENCE))?;
        let now = now_ms();
        within("writes begin", PATIENCE, || self.writer.acknowledged_since(now))?;
        within("every target is scraped", PATIENCE, || {
            let unseen = (0..self.targets.len()).filter(|i| self.targets.scrapes(*i).len() < 2).count();
            if unseen == 0 { Ok(()) } else { Err(format!("{unseen} are not")) }
        })
    }

    /// Lets everything go wrong that is in the script, until its end.
    fn perform(&mut self, events: &[Event], lasts: Duration, played: &mut Played, say: &dyn Fn(&str)) {
        let began = Instant::now();
        let mut to_come: Vec<Event> = events.to_vec();
        let mut on: Vec<Event> = Vec::new();
        loop {
            let at = began.elapsed();
            for event in to_come.extract_if(.., |event| event.at <= at).collect::<Vec<_>>() {
                if event.fault.costs_a_disk() && !self.may_lose_a_disk(event.node) {
                    let text = format!("{event}: another copy was missing then");
                    say(&format!("left out: {text}"));
                    played.left_out.push(text);
                    continue;
                }
                say(&format!("{:>7.3}s {event}", at.as_secs_f64()));
                played.injected.push(event.fault.name());
                match event.fault {
                    Fault::Restart => self.machines[event.node].restart(),
                    Fault::Wipe => self.machines[event.node].wipe(),
                    _ => on.push(event),
                }
            }
            on.retain(|event| at < event.ends());
            if at >= lasts {
                break;
            }
            self.enforce(&on, at);
            sleep(TICK);
        }
        self.enforce(&[], lasts);
        while !self.machines.iter().all(Machine::is_running) {
            sleep(TICK);
            self.enforce(&[], lasts);
        }
    }

    /// Makes machines and links what the events that are on want them to be.
    fn enforce(&mut self, on: &[Event], at: Duration) {
        let cut = wanted::cut(on, self.machines.len());
        for (from, to) in self.cut.symmetric_difference(&cut) {
            self.hosts.set_heard(from + 1, to + 1, !cut.contains(&(*from, *to)));
        }
        self.cut = cut;
        for (place, machine) in self.machines.iter_mut().enumerate() {
            if let Err(broken) = machine.enforce(&wanted::of(place, on)) {
                self.broken.push(format!("at {:.3}s: {broken}", at.as_secs_f64()));
            }
        }
    }

    /// Whether a node's disk may be taken away: a promise that was given for one lost copy is not judged by two.
    fn may_lose_a_disk(&self, victim: usize) -> bool {
        let client = Client::new(self.clients[(victim + 1) % self.clients.len()].base.clone(), WHOLE_TIMEOUT);
        let status = self.hosts.as_client(|| client.status());
        status.is_ok_and(|status| status["mayLoseAnotherNode"] == serde_json::Value::Bool(true))
    }
}

fn flags(hosts: &Hosts, place: usize, load: Load, config_file: &Path) -> Vec<String> {
    let address = |place: usize| format!("{}:9390", hosts.address(place + 1));
    let names: Vec<_> = (0..load.nodes).map(node_name).collect();
    let mut flags = vec![
        "serve".to_owned(),
        "--cluster.insecure".to_owned(),
        "--storage.log.size=16MiB".to_owned(),
        "--web.listen-address=0.0.0.0:9090".to_owned(),
        format!("--cluster.initial-members={}", names.join(",")),
        format!("--cluster.shards={}", load.shards),
        format!("--cluster.listen-address={}", address(place)),
        format!("--config.file={}", config_file.display()),
        format!("--node.name={}", node_name(place)),
    ];
    let others = (0..load.nodes).filter(|other| *other != place);
    flags.extend(others.map(|other| format!("--cluster.peer={}", address(other))));
    flags
}
