//! What people and other clusters do to the world: machines are started and replaced, configurations offered, crowds
//! and strangers let in.

use super::{CLIENTS, NAMES, World, configuration, flags, ip, web};
use crate::{
    actors::{http, reader, writer},
    chaos::{Guise, Wanted},
    dice::Dice,
    invariants::liveness,
    ledger::Offer,
    machine::{CONFIG_FILE, Death, Hurt, Machine, put_file},
    net::SimNet,
    sometimes, trace,
};
use std::{
    net::{IpAddr, Ipv4Addr},
    path::Path,
    sync::PoisonError,
    time::Duration,
};

/// How long a node stays down after it ended by itself.
const RESTART_PAUSE: Duration = Duration::from_secs(1);
/// What a node says that lacks what it had acknowledged.
const WENT_BACKWARDS: &str = "went backwards";
/// What a node says whose disk owes it an answer.
const DISK_HUNG: &str = "the disk has not answered";
/// Where a node is that does not belong here.
const STRANGER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 9, 1));
/// Where it serves its API: our clients do not ask there.
const STRANGER_WEB: u16 = 19090;
/// How long it has to form a cluster of its own.
const FORMING_ALONE: Duration = Duration::from_millis(700);
/// Configurations with a mistake; RIGHT is one without.
const BROKEN: &[&str] = &[
    "scrape_configs: [{job: 1}]\n",
    "RIGHTrules: []\n",
    "RIGHT  - job_name: sim\n",
    "RIGHT  - job_name: other\n    scrape_interval: -1s\n",
    "RIGHT  - job_name: other\n    relabel_configs:\n      - regex: '('\n",
];
/// Writers that come with an overload, and half as many readers; the number of the first, the bytes of each batch.
const CROWD: usize = 16;
const CROWD_FIRST: usize = 100;
const BALLAST: usize = 60 << 10;

/// A node that does not belong here.
#[derive(Debug)]
pub(super) struct Stranger {
    pub(super) machine: Machine,
    guise: Guise,
    /// When it is told of our nodes, and the flags that do it.
    mixed: Option<(Duration, Vec<String>)>,
}

impl World {
    /// Does what a fault needs of the world.
    pub(super) fn grant(&mut self, wanted: Wanted) {
        match wanted {
            Wanted::Start(index) => drop(self.starting.insert(index, self.now)),
            Wanted::Wipe(index) => self.wipe(index),
            Wanted::Configure(index) => self.configure(index),
            Wanted::Stranger(guise) => self.let_in(guise),
            Wanted::StrangerLeaves => {
                if let Some(mut stranger) = self.stranger.take() {
                    stranger.machine.die(Death::Killed);
                }
            }
            Wanted::Load(true) => self.crowd(),
            Wanted::Load(false) => self.crowd.drain(..).for_each(|task| task.abort()),
        }
    }

    /// A process came to its end by itself: it is started again, as by systemd. Where the disk cannot be relied on,
    /// the operator follows what the message says and starts with an empty one.
    pub(super) fn ended(&mut self, index: usize, ended: &Result<(), String>) {
        let machine = &self.machines[index];
        trace::say(&format!("{} ended: {ended:?}", machine.name));
        self.gone(index);
        self.starting.insert(index, self.now + RESTART_PAUSE);
        let machine = &self.machines[index];
        let hung =
            ended.as_ref().is_err_and(|reason| reason.contains(DISK_HUNG)) && machine.pace.holds_up(self.now);
        sometimes::happened("a node whose disk hung ended itself", hung.into());
        let excused =
            hung || machine.is_stop_ordered() || machine.hurt.is_some() || self.ledger().excuses.disks;
        if !excused {
            let text = format!("{} ended by itself: {ended:?}", machine.name);
            self.ledger().violate("O12", text);
            return;
        }
        let Err(reason) = ended else { return };
        if machine.hurt.is_none() && reason.contains(WENT_BACKWARDS) {
            let text = format!("{} fenced itself, and its disk has lost nothing: {reason}", machine.name);
            self.ledger().violate("O5", text);
            return;
        }
        if machine.hurt.is_some_and(|hurt| !hurt.wiped) && !self.wiping.contains_key(&index) {
            let fenced = reason.contains(WENT_BACKWARDS);
            sometimes::happened("a node whose log went backwards fenced itself", fenced.into());
            sometimes::happened("a damaged node did not start", (!fenced).into());
            let patience = self.dice.millis(2000, 6000);
            self.wiping.insert(index, self.now + patience);
        }
    }

    /// Puts an empty disk into a machine and starts it.
    pub(super) fn wipe(&mut self, index: usize) {
        self.wiping.remove(&index);
        let machine = &mut self.machines[index];
        trace::say(&format!("{} gets an empty disk", machine.name));
        machine.die(Death::PowerLoss);
        machine.wipe().expect("a disk in memory takes a file");
        machine.hurt = Some(Hurt { until: self.now + Duration::from_secs(2), wiped: true });
        self.gone(index);
        let pause = self.dice.millis(100, 4000);
        self.starting.insert(index, self.now + pause);
    }

    /// A machine is no longer hurt when the cluster is whole with it, and its log holds nothing rotten that only nobody
    /// has read yet.
    pub(super) fn recovered(&mut self) {
        let now = self.now;
        let over = |machine: &Machine| machine.hurt.is_some_and(|hurt| hurt.until <= now);
        if self.machines.iter().any(over) && liveness::not_threefold(&self.machines, self.shards()).is_none()
        {
            let sound = |machine: &&mut Machine| over(machine) && machine.log_damage().is_none();
            for machine in self.machines.iter_mut().filter(sound) {
                trace::say(&format!("{} is whole again", machine.name));
                machine.hurt = None;
            }
        }
    }

    /// The flags of a node that does not belong here.
    fn stranger_flags(&self, guise: Guise, mixed: bool) -> Vec<String> {
        let nodes = self.machines.len();
        let common = flags(0, self.plan.load);
        let ours = ["--cluster.listen", "--cluster.peer", "--cluster.initial", "--node.name", "--web.listen"];
        let mut flags: Vec<String> =
            common.into_iter().filter(|flag| !ours.iter().any(|start| flag.starts_with(start))).collect();
        let (name, members) = match guise {
            Guise::Name(index) => (NAMES[index], NAMES[..nodes].join(",")),
            Guise::Elsewhere | Guise::Address => ("x1", "x1".to_owned()),
        };
        let at = if mixed && guise == Guise::Address { ip(0) } else { STRANGER };
        flags.push(format!("--cluster.listen-address={at}:9390"));
        flags.push(format!("--web.listen-address={at}:{STRANGER_WEB}"));
        flags.push(format!("--cluster.initial-members={members}"));
        flags.push(format!("--node.name={name}"));
        let peers = (0..nodes).map(ip).filter(|peer| mixed && *peer != at);
        flags.extend(peers.map(|peer| format!("--cluster.peer={peer}:9390")));
        flags
    }

    /// A node comes that does not belong here: one with a cluster of its own, or an empty one under the name of a
    /// machine that lives.
    fn let_in(&mut self, guise: Guise) {
        self.strangers += 1;
        // Alone it forms a cluster of its own; then its peers are ours.
        let forms = !matches!(guise, Guise::Name(_));
        let flags = self.stranger_flags(guise, !forms);
        let seed = self.plan.seed ^ self.strangers;
        let mut machine = Machine::new("stranger", STRANGER, &self.wires, flags, seed);
        let config = configuration(1, 999); // nobody offered it to us
        put_file(&machine.outside.fs, Path::new(CONFIG_FILE), &config)
            .expect("a disk in memory takes a file");
        machine.start(self.now).expect("the world's own flags are right");
        let mixed = forms.then(|| (self.now + FORMING_ALONE, self.stranger_flags(guise, true)));
        self.stranger = Some(Stranger { machine, guise, mixed });
    }

    /// Whether a stranger is, or will be, at this machine's address.
    pub(super) fn is_ousted(&self, index: usize) -> bool {
        index == 0 && self.stranger.as_ref().is_some_and(|stranger| stranger.guise == Guise::Address)
    }

    /// Lets the stranger run up to now.
    pub(super) fn step_stranger(&mut self) {
        let Some(stranger) = &mut self.stranger else { return };
        if let Some((_, flags)) = stranger.mixed.take_if(|(at, _)| *at <= self.now) {
            trace::say("the stranger is told of our nodes");
            stranger.machine.die(Death::Killed);
            stranger.machine.flags = flags;
            if stranger.guise == Guise::Address {
                stranger.machine.outside.ip = ip(0);
            }
            stranger.machine.start(self.now).expect("the world's own flags are right");
        }
        if let Some(ended) = stranger.machine.step(self.now) {
            trace::say(&format!("the stranger ended: {ended:?}"));
            self.stranger = None;
        }
    }

    /// Many writers and readers begin, with hardly a pause between what they do.
    fn crowd(&mut self) {
        let _inside = self.actors.enter();
        let net = SimNet::new(&self.wires, CLIENTS);
        let nodes: Vec<String> = (0..self.machines.len()).map(web).collect();
        for number in 0..CROWD {
            let (ledger, interval) = (self.ledger.clone(), Duration::from_millis(20));
            self.crowded += 1; // no two write the same series
            let dice = |who: &str| Dice::new(self.plan.seed, &format!("crowd {who} {}", self.crowded));
            let task = writer::Task {
                writer: CROWD_FIRST + self.crowded,
                series: 1,
                ballast: BALLAST,
                interval,
                nodes: nodes.clone(),
            };
            let writes = writer::run(net.clone(), ledger.clone(), dice("writer"), task);
            self.crowd.push(self.actors.spawn(writes).abort_handle());
            if number % 2 == 0 {
                let reads = reader::run(net.clone(), ledger, dice("reader"), nodes.clone(), interval * 3);
                self.crowd.push(self.actors.spawn(reads).abort_handle());
            }
        }
    }

    /// An operator offers a configuration, which may be a broken one, through a node.
    pub(super) fn configure(&mut self, index: usize) {
        let number = self.now.as_millis() as u64;
        let targets = self.dice.between(1, self.plan.load.targets as u64) as usize;
        let broken = self.dice.chance(30);
        let right = configuration(targets, number);
        let text = if broken { self.dice.pick(BROKEN).replace("RIGHT", &right) } else { right };
        let (net, ledger, address) = (SimNet::new(&self.wires, CLIENTS), self.ledger.clone(), web(index));
        let at = self.ledger().offers.len();
        if !broken {
            self.ledger().offers.push(Offer { text: text.clone(), asked: self.now, answered: None });
        }
        self.actors.spawn(async move {
            let head = "POST /api/v1/status/config HTTP/1.0\r\n";
            let answer = http::ask(&net, &address, head, text.as_bytes(), Duration::from_secs(15)).await;
            let status = answer.as_ref().map_or(0, |answer| answer.status);
            trace::say(&format!("configuration {number} at {address}: {status}"));
            let mut ledger = ledger.lock().unwrap_or_else(PoisonError::into_inner);
            if broken && status / 100 == 2 {
                ledger.violate("O13", format!("a broken configuration was accepted by {address}: {text}"));
            } else if !broken && status != 0 {
                ledger.offers[at].answered = Some((status, trace::now()));
            }
        });
    }
}
