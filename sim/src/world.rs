//! The world: machines, actors and faults, stepped by the millisecond, watched by the invariants.
//!
//! ```text
//!  step: deliver what is due ─▶ run n1, n2 ..., the actors' host, each up to now ─▶ faults ─▶ every 50 ms: look
//!  phases: form ─▶ chaos ─▶ heal ─▶ judge
//! ```

mod judge;
mod operator;

use crate::{
    actors::{http, reader, target, writer},
    chaos::{self, Chaos},
    dice::Dice,
    entropy,
    inject::Scene,
    invariants::{bounds, config, liveness, replicas::Replicas, slots},
    ledger::{Excuses, Ledger, Offer, Work},
    machine::{CONFIG_FILE, DATA_DIR, Death, Machine, put_file},
    memory,
    net::{NetStats, SimNet, Wires},
    points,
    scenario::Plan,
    sometimes, trace,
    violation::Violation,
};
use judge::Oaths;
use model::NodeId;
use node::Tuning;
use operator::Stranger;
use screenplay::{Event, Fault, Load, NODES_MAX, Script};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use storage::log::{LogOptions, testing::DiskLosses};
use tokio::{runtime::Runtime, time::Instant};

/// One step.
const STEP: Duration = Duration::from_millis(1);
/// Between two looks at the replicas.
const LOOK_MS: u128 = 50;
/// Patience until the cluster has formed.
const FORMING: Duration = Duration::from_secs(30);
/// Patience until the world has healed.
const HEALING: Duration = Duration::from_secs(120);
/// How long the healed world is watched.
const AFTERWARDS: Duration = Duration::from_secs(5);
/// How long a healed world may be seen in the middle of something.
const STILL: Duration = Duration::from_secs(10);
/// The number of the first writer that writes to a healed world.
const LAST_WRITER: usize = 9000;
/// Between two looks whether a machine that was hurt is whole again.
const RECOVERED_LOOK_MS: u128 = 100;
/// How large a node's log may be, bytes.
const LOG_BYTES: u64 = LogOptions::SIZE_MIN;
/// Names of the nodes, of which a world has the first.
const NAMES: [&str; NODES_MAX] = ["n1", "n2", "n3", "n4", "n5", "n6", "n7"];
/// Scrape interval of all targets, milliseconds.
const INTERVAL_MS: i64 = 2000;

/// What a run was like.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Simulated time.
    pub simulated: Duration,
    /// Faults injected, per kind.
    pub faults: BTreeMap<&'static str, u64>,
    /// What actors did.
    pub work: Work,
    /// What the network carried.
    pub net: NetStats,
    /// Named points reached.
    pub points: BTreeMap<&'static str, u64>,
    /// Named points at which a plug was pulled.
    pub deaths: BTreeMap<&'static str, u64>,
    /// Paths that were taken, beside the points.
    pub sometimes: BTreeMap<&'static str, u64>,
    /// Slots that were recorded as missed, of all targets together; 0 where slots are not judged.
    pub missed: u64,
    /// Terms that had a leader, of all shards together.
    pub terms: u64,
    /// Hashes compared between nodes.
    pub hashes: u64,
    /// The most bytes that were held in memory.
    pub memory: u64,
    /// How often code asked for the planted bug that is awake.
    pub asked: u64,
    /// What went wrong when, as far as a script can say it.
    pub script: Script,
    /// The last lines of everybody, if a promise was broken.
    pub story: Vec<String>,
    /// Lines and digest of the trace.
    pub trace: (u64, u64),
}

/// A world that runs.
struct World {
    plan: Plan,
    now: Duration,
    machines: Vec<Machine>,
    /// Machines to be started, and when.
    starting: BTreeMap<usize, Duration>,
    /// Machines into which the operator will put an empty disk, and when.
    wiping: BTreeMap<usize, Duration>,
    /// A node that does not belong here.
    stranger: Option<Stranger>,
    strangers: u64,
    /// Writers and readers of an overload, and how many there were ever.
    crowd: Vec<tokio::task::AbortHandle>,
    crowded: usize,
    /// Machines whose node was last seen within a change of members.
    changing: BTreeSet<usize>,
    /// The id that each machine's node had last.
    ids: BTreeMap<usize, NodeId>,
    wires: Wires,
    actors: Runtime,
    actors_base: Instant,
    ledger: Arc<Mutex<Ledger>>,
    replicas: Replicas,
    oaths: Oaths,
    chaos: Option<Chaos>,
    dice: Dice,
    faults: BTreeMap<&'static str, u64>,
    /// What went wrong, as far as a script can say it.
    told: Vec<Event>,
    /// Slots that were recorded as missed.
    missed: u64,
}

fn ip(index: usize) -> IpAddr {
    IpAddr::from([10, 0, 0, index as u8 + 1])
}

fn target_address(index: usize) -> SocketAddr {
    SocketAddr::new([10, 0, 1, index as u8 + 1].into(), 9100)
}

const CLIENTS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 2, 1));

fn web(index: usize) -> String {
    format!("{}:9090", ip(index))
}

/// The configuration that scrapes the first `targets` targets; `number` tells versions apart.
fn configuration(targets: usize, number: u64) -> String {
    let addresses: Vec<_> = (0..targets).map(|index| format!("'{}'", target_address(index))).collect();
    format!(
        "global:\n  scrape_interval: {INTERVAL_MS}ms\n  scrape_timeout: {}ms\n  external_labels: {{version: '{number}'}}\nscrape_configs:\n  - job_name: sim\n    static_configs:\n      - targets: [{}]\n",
        INTERVAL_MS / 2,
        addresses.join(", ")
    )
}

/// What is done rarely is done often in two thirds of the worlds.
fn tuning(seed: u64) -> Tuning {
    let dice = Dice::new(seed, "tuning");
    if dice.chance(33) {
        return Tuning::default();
    }
    Tuning {
        checkpoint_bytes: dice.between(2, 200) << 10,
        checkpoint_interval: dice.millis(1500, 15_000),
        entries_kept: *dice.pick(&[0, 1, 10, 100]),
    }
}

fn flags(index: usize, load: Load) -> Vec<String> {
    let names = &NAMES[..load.nodes];
    let cluster = |index: usize| format!("{}:9390", ip(index));
    let mut flags = vec![
        format!("--config.file={CONFIG_FILE}"),
        format!("--storage.tsdb.path={DATA_DIR}"),
        format!("--storage.log.size={LOG_BYTES}B"),
        format!("--web.listen-address={}", web(index)),
        "--web.enable-lifecycle".to_owned(),
        "--query.max-concurrency=4".to_owned(),
        "--query.max-bytes-total=256MiB".to_owned(), // not by the memory of this machine
        format!("--cluster.listen-address={}", cluster(index)),
        format!("--cluster.initial-members={}", names.join(",")),
        "--cluster.insecure".to_owned(),
        format!("--cluster.shards={}", load.shards),
        format!("--node.name={}", names[index]),
    ];
    flags.extend(
        (0..names.len())
            .filter(|other| *other != index)
            .map(|other| format!("--cluster.peer={}", cluster(other))),
    );
    flags
}

/// Runs a world on a thread of its own, so that nothing of this process's past is in it.
///
/// # Errors
/// With the promise that was broken.
///
/// # Panics
/// If the world itself is broken.
#[expect(clippy::disallowed_methods, reason = "a world's thread is real")]
pub fn run(plan: &Plan) -> Result<Report, Box<(Violation, Report)>> {
    let plan = plan.clone();
    let body = move || {
        let _held = entropy::Held::hold(plan.seed);
        trace::begin(plan.print);
        points::begin();
        sometimes::begin();
        model::points::plant(&plan.planted);
        let level = if plan.print { tracing::Level::DEBUG } else { tracing::Level::INFO };
        let subscriber = {
            use tracing_subscriber::layer::SubscriberExt;
            tracing_subscriber::registry().with(trace::LogLayer { level })
        };
        tracing::subscriber::with_default(subscriber, || {
            let mut world = World::new(plan).expect("a world in memory can be made");
            let result = world.live();
            let mut report = world.report();
            world.end();
            match result {
                Ok(()) => Ok(report),
                Err(violation) => {
                    trace::say(&format!("VIOLATION {violation}"));
                    report.story = trace::story();
                    Err(Box::new((violation, report)))
                }
            }
        })
    };
    let thread = std::thread::Builder::new().name("world".to_owned()).stack_size(32 << 20).spawn(body);
    thread.expect("a thread").join().expect("the world's own code does not panic")
}

impl World {
    #[expect(clippy::disallowed_methods, reason = "tokio's paused clock is the simulated one")]
    fn new(plan: Plan) -> anyhow::Result<World> {
        let wires = Wires::new(Dice::new(plan.seed, "net"));
        let mut machines = Vec::new();
        for (index, name) in NAMES[..plan.load.nodes].iter().enumerate() {
            let flags = flags(index, plan.load);
            let mut machine = Machine::new(name, ip(index), &wires, flags, plan.seed);
            machine.tuning = tuning(plan.seed);
            put_file(&machine.outside.fs, Path::new(CONFIG_FILE), &configuration(plan.load.targets, 0))?;
            machines.push(machine);
        }
        let actors =
            tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()?;
        let actors_base = actors.block_on(async { Instant::now() });
        let dice = Dice::new(plan.seed, "world");
        Ok(World {
            plan,
            now: Duration::ZERO,
            machines,
            starting: BTreeMap::new(),
            wiping: BTreeMap::new(),
            stranger: None,
            strangers: 0,
            crowd: Vec::new(),
            crowded: 0,
            changing: BTreeSet::new(),
            ids: BTreeMap::new(),
            wires,
            actors,
            actors_base,
            ledger: Arc::default(),
            replicas: Replicas::default(),
            oaths: Oaths::default(),
            chaos: None,
            dice,
            faults: BTreeMap::new(),
            told: Vec::new(),
            missed: 0,
        })
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn shards(&self) -> usize {
        self.plan.load.shards as usize + 1
    }

    /// All phases.
    fn live(&mut self) -> Result<(), Violation> {
        for index in 0..self.machines.len() {
            self.starting.insert(index, self.dice.millis(1, 500));
        }
        let excuses = self.excuses();
        {
            let mut ledger = self.ledger();
            ledger.excuses = excuses;
            let text = configuration(self.plan.load.targets, 0);
            ledger.offers.push(Offer { text, asked: Duration::ZERO, answered: Some((200, Duration::ZERO)) });
        }
        self.begin_actors();
        let shards = self.shards();
        let armed = chaos::arm_while_forming(&self.plan, &self.machines);
        self.until(FORMING, "the cluster does not form", |world| {
            liveness::not_whole(&world.machines, shards)
        })?;
        points::arm(None);
        let formed = liveness::terms(&self.machines);
        trace::say(&format!("PHASE chaos: {:?}", self.plan.faults()));
        let begin = self.now + Duration::from_millis(500);
        let mut chaos = Chaos::new(&self.plan, begin);
        if armed {
            *chaos.injected.entry(Fault::Point.name()).or_default() += 1;
        }
        self.chaos = Some(chaos);
        self.advance(self.plan.chaos)?;
        trace::say("PHASE heal");
        if let Some(mut chaos) = self.chaos.take() {
            let whole = |_: &[Machine]| false;
            let wanted = chaos.end_all(&mut Scene::new(self.now, &mut self.machines, &self.wires, &whole));
            (self.faults, self.told) = (chaos.injected, chaos.told);
            wanted.into_iter().for_each(|wanted| self.grant(wanted));
        }
        self.heal()?;
        if self.faults.is_empty() && liveness::terms(&self.machines) != formed {
            let text = "leaders were elected although nothing went wrong".to_owned();
            return Err(Violation { invariant: "O9", text });
        }
        trace::say("PHASE judge");
        self.judge()?;
        // What was asked meanwhile has changed nothing.
        let shards = self.shards();
        self.until(STILL, "the world is no longer whole", |world| {
            liveness::not_whole(&world.machines, shards)
        })
    }

    /// What may go wrong here, whether or not it does.
    fn excuses(&self) -> Excuses {
        use Fault::{
            ClockDrift, ClockStep, Full, FullLog, FullStores, Misdirect, OldImage, ReadError, Rot, SyncError,
            WriteError,
        };
        let faults = self.plan.faults();
        let any = |of: &[Fault]| of.iter().any(|fault| faults.contains(fault));
        Excuses {
            disks: any(&[
                Full, FullLog, FullStores, Misdirect, OldImage, ReadError, Rot, SyncError, WriteError,
            ]),
            clocks: any(&[ClockDrift, ClockStep]),
        }
    }

    fn begin_actors(&mut self) {
        let seed = self.plan.seed;
        let (scenario, load) = (self.plan.scenario, self.plan.load);
        let manners = {
            let dice = Dice::new(seed, "manners");
            let some = |most| if dice.chance(30) { dice.below(most) } else { 0 };
            if scenario.faults.is_empty() {
                target::Manners::default()
            } else {
                target::Manners {
                    slow_percent: some(20),
                    failing_percent: some(20),
                    breaking_percent: some(20),
                }
            }
        };
        let _inside = self.actors.enter();
        for index in 0..load.targets {
            let address = target_address(index);
            self.wires.begin(address.ip());
            let net = SimNet::new(&self.wires, address.ip());
            let dice = Dice::new(seed, &format!("target {index}"));
            self.actors.spawn(target::run(net, address, self.ledger.clone(), dice, manners));
        }
        self.wires.begin(CLIENTS);
        let net = SimNet::new(&self.wires, CLIENTS);
        let nodes: Vec<String> = (0..load.nodes).map(web).collect();
        for writer in 0..load.writers {
            let dice = Dice::new(seed, &format!("writer {writer}"));
            let task = writer::Task {
                writer,
                series: 3,
                ballast: 0,
                interval: dice.millis(100, 600),
                nodes: nodes.clone(),
            };
            self.actors.spawn(writer::run(net.clone(), self.ledger.clone(), dice, task));
        }
        for number in 0..load.readers {
            let dice = Dice::new(seed, &format!("reader {number}"));
            let pause = dice.millis(200, 1500);
            self.actors.spawn(reader::run(net.clone(), self.ledger.clone(), dice, nodes.clone(), pause));
        }
    }

    /// Runs for a time.
    fn advance(&mut self, time: Duration) -> Result<(), Violation> {
        let until = self.now + time;
        while self.now < until {
            self.step()?;
        }
        Ok(())
    }

    /// Runs until nothing is wrong any more.
    fn until(
        &mut self,
        patience: Duration,
        what: &str,
        wrong: impl Fn(&World) -> Option<String>,
    ) -> Result<(), Violation> {
        let end = self.now + patience;
        loop {
            let Some(reason) = wrong(self) else { return Ok(()) };
            if self.now >= end {
                return Err(Violation {
                    invariant: "O9",
                    text: format!("{what} within {patience:?}: {reason}"),
                });
            }
            self.advance(Duration::from_millis(100))?;
        }
    }

    fn step(&mut self) -> Result<(), Violation> {
        self.now += STEP;
        let now = self.now;
        entropy::set_elapsed(now);
        trace::set_now(now);
        self.wires.advance(now);
        while let Some(index) = self.starting.first_entry_due(now) {
            self.start(index);
        }
        while let Some(index) = self.wiping.first_entry_due(now) {
            self.wiping.remove(&index);
            sometimes::happened("the operator wiped a machine", 1);
            self.wipe(index);
        }
        for index in 0..self.machines.len() {
            points::running(Some(index));
            let ended = self.machines[index].step(now);
            points::running(None);
            if let Some((dead, death)) = points::fired() {
                self.machines[dead].bury();
                self.gone(dead);
                let pause = self.dice.millis(100, 4000);
                self.starting.insert(dead, now + pause);
                if let Some(chaos) = &mut self.chaos {
                    chaos.tell_death(now, dead, death, pause);
                }
            } else if let Some(ended) = ended {
                self.ended(index, &ended);
            }
        }
        self.oaths.hear(&self.machines)?;
        self.step_stranger();
        let before = trace::speak_as("actors");
        let target = self.actors_base + now;
        self.actors.block_on(async { tokio::time::sleep_until(target).await });
        trace::speak_as(before);
        self.disturb()?;
        if now.as_millis().is_multiple_of(LOOK_MS) {
            self.look()?;
        }
        Ok(())
    }

    /// Faults.
    fn disturb(&mut self) -> Result<(), Violation> {
        if self.now.as_millis().is_multiple_of(RECOVERED_LOOK_MS) {
            self.recovered();
        }
        let Some(mut chaos) = self.chaos.take() else { return Ok(()) };
        let shards = self.shards();
        let whole = |machines: &[Machine]| liveness::not_threefold(machines, shards).is_none();
        let before: Vec<bool> = self.machines.iter().map(Machine::is_running).collect();
        let wanted = chaos.step(&mut Scene::new(self.now, &mut self.machines, &self.wires, &whole));
        self.chaos = Some(chaos);
        for (index, was_running) in before.into_iter().enumerate() {
            if was_running && !self.machines[index].is_running() {
                self.gone(index);
            }
        }
        wanted.into_iter().for_each(|wanted| self.grant(wanted));
        Ok(())
    }

    /// A machine's process is no more.
    fn gone(&mut self, index: usize) {
        self.replicas.forget(self.machines[index].name);
        let changing = self.changing.remove(&index);
        sometimes::happened("a change of members was interrupted by a crash", changing.into());
    }

    fn start(&mut self, index: usize) {
        self.starting.remove(&index);
        if self.machines[index].is_running() {
            return;
        }
        if self.is_ousted(index) {
            self.starting.insert(index, self.now + Duration::from_millis(100));
            return;
        }
        trace::say(&format!("{} starts", self.machines[index].name));
        self.gone(index);
        let now = self.now;
        self.machines[index].start(now).expect("the world's own flags are right");
    }

    /// The invariants that are judged all the time.
    fn look(&mut self) -> Result<(), Violation> {
        for (index, machine) in self.machines.iter().enumerate() {
            if let Some(probe) = machine.probe() {
                if let Some(id) = probe.id()
                    && self.ids.insert(index, id).is_some_and(|before| before != id)
                {
                    sometimes::happened("a node was replaced", 1);
                }
                let shards = probe.shards();
                if shards.iter().any(|report| report.status.changing) {
                    self.changing.insert(index);
                } else {
                    self.changing.remove(&index);
                }
                self.replicas.look(machine.name, probe.id(), &shards)?;
            }
        }
        self.oaths.look(self.now, &self.machines, &self.replicas)?;
        if let Some(panic) = trace::panics().first() {
            return Err(Violation { invariant: "O12", text: panic.clone() });
        }
        let (offered, violation) = {
            let ledger = self.ledger();
            (ledger.offered_bytes, ledger.violations.first().cloned())
        };
        bounds::judge("the world", &[bounds::memory(self.machines.len(), memory::peak(), offered)])?;
        violation.map_or(Ok(()), Err)
    }

    fn heal(&mut self) -> Result<(), Violation> {
        for index in 0..self.machines.len() {
            if !self.machines[index].is_running() {
                self.starting.entry(index).or_insert(self.now);
            }
        }
        let shards = self.shards();
        let result = self
            .until(HEALING, "the world does not heal", |world| liveness::not_whole(&world.machines, shards));
        result?;
        self.until(HEALING, "gossip does not heal", |world| liveness::not_heard(&world.machines))?;
        let (before, backlog) = (liveness::terms(&self.machines), liveness::applied(&self.machines));
        self.advance(AFTERWARDS)?;
        let caught_up = |world: &World| liveness::behind(&world.machines, &backlog);
        self.until(STILL, "what was there at first is not everywhere", caught_up)?;
        if liveness::terms(&self.machines) != before {
            // One more election may follow the last fault; a healed world does not go on electing.
            let then = liveness::terms(&self.machines);
            self.advance(2 * AFTERWARDS)?;
            if liveness::terms(&self.machines) != then {
                return Err(Violation {
                    invariant: "O9",
                    text: "leaders go on changing without a fault".to_owned(),
                });
            }
        }
        Ok(())
    }

    /// Runs an actor's future to its end.
    fn wait<T: Send + 'static>(
        &mut self,
        future: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, Violation> {
        let task = self.actors.spawn(future);
        while !task.is_finished() {
            self.step()?;
        }
        let target = self.actors_base + self.now;
        let result = self.actors.block_on(async move {
            let result = task.await;
            tokio::time::sleep_until(target).await;
            result
        });
        Ok(result.expect("actors do not panic"))
    }

    /// What must hold at the end: every node shows everything.
    fn judge(&mut self) -> Result<(), Violation> {
        let net = SimNet::new(&self.wires, CLIENTS);
        for index in 0..self.machines.len() {
            let mut acknowledged = false;
            for _attempt in 0..5 {
                let (net, ledger, address) = (net.clone(), self.ledger.clone(), web(index));
                acknowledged = self.wait(async move {
                    writer::write_once(&net, &ledger, &address, LAST_WRITER + index).await
                })?;
                if acknowledged {
                    break;
                }
            }
            if !acknowledged {
                let text = format!("{} takes no write in a healed world", self.machines[index].name);
                return Err(Violation { invariant: "O9", text });
            }
        }
        for index in 0..self.machines.len() {
            for metric in ["sim_written", "sim_serial"] {
                let (net, ledger, address) = (net.clone(), self.ledger.clone(), web(index));
                let mut answered = false;
                for _attempt in 0..5 {
                    let (net, ledger, address) = (net.clone(), ledger.clone(), address.clone());
                    let patience = Duration::from_secs(5);
                    answered = self
                        .wait(async move { reader::read(&net, &ledger, &address, metric, patience).await })?;
                    if answered {
                        break;
                    }
                }
                if !answered {
                    let text =
                        format!("{} does not answer {metric} in a healed world", self.machines[index].name);
                    return Err(Violation { invariant: "O9", text });
                }
            }
        }
        self.judge_config(&net)?;
        if !self.faults.contains_key(Fault::Configure.name()) {
            self.judge_slots(&net)?;
        }
        self.judge_staleness(&net)?;
        self.judge_queries(&net)?;
        self.judge_disks()?;
        self.look()
    }

    fn get(&mut self, net: &SimNet, index: usize, path: &str) -> Result<serde_json::Value, Violation> {
        let (net, address) = (net.clone(), web(index));
        let head = format!("GET {path} HTTP/1.0\r\n");
        for _attempt in 0..5 {
            let (net, address, head) = (net.clone(), address.clone(), head.clone());
            let answer = self
                .wait(async move { http::ask(&net, &address, &head, &[], Duration::from_secs(5)).await })?;
            if let Ok(answer) = answer
                && answer.status == 200
                && let Ok(json) = serde_json::from_slice(&answer.body)
            {
                return Ok(json);
            }
        }
        let text = format!("{} does not answer {path} in a healed world", self.machines[index].name);
        Err(Violation { invariant: "O9", text })
    }

    fn judge_config(&mut self, net: &SimNet) -> Result<(), Violation> {
        let mut in_force = Vec::new();
        for (index, name) in NAMES[..self.machines.len()].iter().enumerate() {
            let json = self.get(net, index, "/api/v1/status/config")?;
            in_force.push((*name, json["data"]["yaml"].as_str().unwrap_or_default().to_owned()));
        }
        // What is in force is shown without comments and secrets: so is what was offered.
        let mut offers = self.ledger().offers.clone();
        offers.iter_mut().for_each(|offer| offer.text = node::config::mask_secrets(&offer.text));
        let wrong = config::differ(&in_force, &offers);
        wrong.map_or(Ok(()), |text| Err(Violation { invariant: "O13", text }))
    }

    fn judge_slots(&mut self, net: &SimNet) -> Result<(), Violation> {
        let until = entropy::EPOCH_MS + self.now.as_millis() as i64;
        let path = format!("/api/v1/query?query=up%5B1h%5D&time={}.{:03}", until / 1000, until % 1000);
        let up = self.get(net, 0, &path)?;
        let gaps = self.get(net, 0, "/api/v1/status/gaps")?;
        let active = self.get(net, 0, "/api/v1/targets?state=active")?;
        let millis =
            |value: &serde_json::Value| value.as_f64().map(|seconds| (seconds * 1000.0).round() as i64);
        for index in 0..self.plan.load.targets {
            let name = target_address(index).to_string();
            let samples: BTreeMap<i64, f64> = up["data"]["result"]
                .as_array()
                .into_iter()
                .flatten()
                .filter(|series| series["metric"]["instance"] == name.as_str())
                .flat_map(|series| series["values"].as_array().into_iter().flatten())
                .filter_map(|pair| Some((millis(&pair[0])?, 1.0)))
                .collect();
            let missed: Vec<(i64, i64, u64)> = gaps["data"]
                .as_array()
                .into_iter()
                .flatten()
                .filter(|gap| gap["target"]["instance"] == name.as_str())
                .filter_map(|gap| Some((millis(&gap["from"])?, millis(&gap["to"])?, gap["slots"].as_u64()?)))
                .collect();
            self.missed += missed.iter().map(|(_, _, slots)| slots).sum::<u64>();
            if samples.len() < 2 {
                return Err(Violation {
                    invariant: "O6",
                    text: format!("{name} was scraped {} times", samples.len()),
                });
            }
            // One that the last configuration leaves out has an offset that nobody tells any more.
            let mut targets = active["data"]["activeTargets"].as_array().into_iter().flatten();
            let offset = targets
                .find(|target| target["labels"]["instance"] == name.as_str())
                .and_then(|target| millis(&target["scrapeOffset"]));
            slots::account(&name, &samples, &missed, (INTERVAL_MS, offset))?;
            let last = samples.keys().next_back().copied().unwrap_or_default();
            if last < until - 5 * INTERVAL_MS {
                let text = format!("{name} is not scraped any more: last at {last}, now {until}");
                return Err(Violation { invariant: "O6", text });
            }
        }
        Ok(())
    }

    fn report(&self) -> Report {
        for machine in &self.machines {
            let DiskLosses { lost, torn, names } = machine.losses();
            sometimes::happened("a write was lost with the power", lost);
            sometimes::happened("a write was torn", torn);
            sometimes::happened("a name was lost with the power", names);
        }
        let (points, deaths) = points::counts();
        let (faults, told) = match &self.chaos {
            Some(chaos) => (chaos.injected.clone(), chaos.told.clone()),
            None => (self.faults.clone(), self.told.clone()),
        };
        Report {
            simulated: self.now,
            faults,
            work: self.ledger().work,
            net: self.wires.stats(),
            points,
            deaths,
            sometimes: sometimes::counts(),
            script: Script { load: self.plan.load, lasts: self.plan.chaos, events: told },
            story: Vec::new(),
            missed: self.missed,
            terms: self.replicas.terms().values().sum(),
            hashes: self.replicas.compared,
            memory: memory::peak(),
            asked: model::points::asked(),
            trace: trace::digest(),
        }
    }

    fn end(mut self) {
        if let Some(mut stranger) = self.stranger.take() {
            stranger.machine.die(Death::Killed);
        }
        for machine in &mut self.machines {
            machine.die(Death::Killed);
        }
    }
}

/// The first entry that is due.
trait Due {
    fn first_entry_due(&self, now: Duration) -> Option<usize>;
}

impl Due for BTreeMap<usize, Duration> {
    fn first_entry_due(&self, now: Duration) -> Option<usize> {
        self.iter().find(|(_, at)| **at <= now).map(|(index, _)| *index)
    }
}
