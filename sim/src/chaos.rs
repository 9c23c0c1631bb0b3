//! When what goes wrong, by chance: each seed enables some kinds and none of the others.
//!
//! ```text
//!  dice ──▶ next fault ──(needs calm? wait)──▶ inject ──▶ undo at its time
//! ```
//!
//! Each fault draws from dice of its own, by its number: one that is left out changes nothing of the others.

use crate::{
    dice::Dice,
    inject::{Scene, Undo, decide},
    machine::{Death, Machine},
    net::Wires,
    points::{self, Armed},
    scenario::Plan,
    trace,
};
use screenplay::{Event, Fault};
use std::{collections::BTreeMap, sync::atomic::Ordering, time::Duration};

/// Between two looks whether the world is calm.
const CALM_LOOK_MS: u128 = 100;
/// How long a fault waits for a calm world before it is given up.
const CALM_PATIENCE: Duration = Duration::from_secs(25);

/// How a stranger comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guise {
    /// The only node of another cluster, at an address of its own.
    Elsewhere,
    /// An empty node under the name of this machine.
    Name(usize),
    /// The only node of another cluster, at the address of the first machine, which is down: it has the id that is
    /// looked for there.
    Address,
}

/// Whether what it befalls has everything it acknowledged when it is over, and all the time a clock that is right.
fn spares_disks(fault: Fault) -> bool {
    matches!(fault, Fault::Kill | Fault::Point | Fault::Power | Fault::Restart | Fault::Pause)
}

/// What a node passes while its cluster forms; rarely or never afterwards.
const FORMING_POINTS: [&str; 14] = [
    "file.replace.renamed",
    "file.replace.synced",
    "file.replace.written",
    "identity.save.begin",
    "identity.save.durable",
    "join.formed",
    "join.formed",
    "join.log.claimed",
    "join.meta.hosted",
    "log.batch.synced",
    "log.open.recovered",
    "log.segment.created",
    "raft.vote.saved",
    "shards.hosted",
];

/// Arms a plug before the cluster forms, in half of the seeds of chaos and crash that enable plugs at all. As a fault
/// it has the number 0. Whether one was armed.
#[must_use]
pub fn arm_while_forming(plan: &Plan, machines: &[Machine]) -> bool {
    let dice = Dice::new(plan.seed, "fault 0");
    let scenario = ["chaos", "crash"].contains(&plan.scenario.name);
    let enabled = plan.faults().contains(&Fault::Point) && !plan.without.contains(&Fault::Point);
    if !scenario || !dice.chance(50) || !enabled || plan.skip.contains(&0) {
        return false;
    }
    let point = *dice.pick(&FORMING_POINTS);
    let machines = machines.iter().enumerate().map(|(at, machine)| (at, machine.outside.clone())).collect();
    let death = if dice.chance(50) { Death::Killed } else { Death::PowerLoss };
    let passes = dice.below(3);
    let delay = if dice.chance(30) { dice.millis(1, 20) } else { Duration::ZERO };
    trace::say(&format!("FAULT 0 point: at {point} while the cluster forms"));
    points::arm(Some(Armed { machines, point, passes, delay, death, seed: dice.next() }));
    true
}

/// What the world has to do for a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Start a machine.
    Start(usize),
    /// Put an empty disk into a machine and start it.
    Wipe(usize),
    /// Offer a configuration through this machine.
    Configure(usize),
    /// Let a stranger in.
    Stranger(Guise),
    /// The stranger leaves.
    StrangerLeaves,
    /// Many writers and readers begin, or stop.
    Load(bool),
}

/// Injects faults and ends them.
#[derive(Debug)]
pub struct Chaos {
    seed: u64,
    dice: Dice,
    enabled: Vec<Fault>,
    without: Vec<Fault>,
    skip: Vec<u64>,
    pause: (u64, u64),
    next: Duration,
    /// A fault that waits for a calm world, with its number and until when.
    waiting: Option<(u64, Fault, Duration)>,
    undo: BTreeMap<(Duration, u64), Undo>,
    undos: u64,
    chosen: u64,
    /// Faults injected, per kind.
    pub injected: BTreeMap<&'static str, u64>,
    script: Vec<Event>,
    /// When chaos began.
    begin: Duration,
    /// What went wrong, as far as a script can say it; times count from when chaos began.
    pub told: Vec<Event>,
}

impl Chaos {
    /// The faults of a plan, first at `begin`.
    #[must_use]
    pub fn new(plan: &Plan, begin: Duration) -> Chaos {
        let script = plan.script.iter().map(|event| Event { at: begin + event.at, ..*event }).collect();
        let dice = Dice::new(plan.seed, "chaos");
        let pause = *dice.pick(&[(500, 3000), (1000, 8000), (3000, 15_000)]);
        Chaos {
            seed: plan.seed,
            dice,
            enabled: plan.faults(),
            without: plan.without.clone(),
            skip: plan.skip.clone(),
            pause,
            next: begin,
            waiting: None,
            undo: BTreeMap::new(),
            undos: 0,
            chosen: 0,
            injected: BTreeMap::new(),
            script,
            begin,
            told: Vec::new(),
        }
    }

    pub(crate) fn flap_pause(&self) -> Duration {
        Dice::new(self.seed, &format!("flap {}", self.undos)).millis(50, 3000)
    }

    pub(crate) fn later(&mut self, at: Duration, undo: Undo) {
        self.undos += 1;
        self.undo.insert((at, self.undos), undo);
    }

    /// What is due now.
    pub fn step(&mut self, scene: &mut Scene<'_>) -> Vec<Wanted> {
        let mut wanted = self.end(scene, false);
        self.choose(scene, &mut wanted);
        let now = scene.now;
        let due: Vec<Event> = self.script.extract_if(.., |event| event.at <= now).collect();
        for event in due {
            self.chosen += 1;
            let dice = self.dice_of(self.chosen);
            self.begin(self.chosen, event, &dice, scene, &mut wanted);
        }
        wanted
    }

    /// Randomness of one fault alone.
    fn dice_of(&self, number: u64) -> Dice {
        Dice::new(self.seed, &format!("fault {number}"))
    }

    /// Remembers what can be said in a script.
    pub(crate) fn tell(&mut self, event: Event) {
        if event.fault.form().is_some() {
            self.told.push(Event { at: event.at.saturating_sub(self.begin), ..event });
        }
    }

    /// A plug was pulled at a named point, and the machine is down for `pause`.
    pub(crate) fn tell_death(&mut self, at: Duration, node: usize, death: Death, pause: Duration) {
        let fault = match death {
            Death::Killed => Fault::Kill,
            Death::PowerLoss => Fault::Power,
        };
        self.tell(Event { at, fault, node, other: node, by: 0, lasts: pause });
    }

    fn choose(&mut self, scene: &mut Scene<'_>, wanted: &mut Vec<Wanted>) {
        let now = scene.now;
        let hurt = || scene.machines.iter().filter_map(|machine| machine.hurt);
        if hurt().any(|hurt| !hurt.wiped) {
            return;
        }
        if let Some((number, fault, until)) = self.waiting {
            let calm = || self.undo.is_empty() && hurt().next().is_none() && (scene.whole)(scene.machines);
            if now.as_millis().is_multiple_of(CALM_LOOK_MS) && calm() {
                self.waiting = None;
                self.by_chance(number, fault, scene, wanted);
            } else if now >= until {
                self.waiting = None;
            }
            return;
        }
        if now < self.next || self.enabled.is_empty() {
            return;
        }
        let fault = *self.dice.pick(&self.enabled);
        self.next = now + self.dice.millis(self.pause.0, self.pause.1);
        self.chosen += 1;
        if self.without.contains(&fault) || self.skip.contains(&self.chosen) {
            return;
        }
        // While a machine with an empty disk is being filled, the others may go down, but not lose anything either.
        if hurt().next().is_some() && !spares_disks(fault) {
            return;
        }
        if fault.needs_calm() {
            self.waiting = Some((self.chosen, fault, now + CALM_PATIENCE));
        } else {
            self.by_chance(self.chosen, fault, scene, wanted);
        }
    }

    fn by_chance(&mut self, number: u64, fault: Fault, scene: &mut Scene<'_>, wanted: &mut Vec<Wanted>) {
        let dice = self.dice_of(number);
        if let Some(event) = decide(fault, &dice, scene) {
            self.begin(number, event, &dice, scene, wanted);
        }
    }

    fn begin(
        &mut self,
        number: u64,
        event: Event,
        dice: &Dice,
        scene: &mut Scene<'_>,
        wanted: &mut Vec<Wanted>,
    ) {
        let name = event.fault.name();
        if let Some(note) = self.inject(&event, dice, scene, wanted) {
            trace::say(&format!("FAULT {number} {name}: {note}"));
            *self.injected.entry(name).or_default() += 1;
        } else {
            trace::say(&format!("left out: {number} {name}"));
        }
    }

    /// Ends all faults, whether they are over or not.
    pub fn end_all(&mut self, scene: &mut Scene<'_>) -> Vec<Wanted> {
        self.enabled.clear();
        self.waiting = None;
        let wanted = self.end(scene, true);
        scene.wires.heal();
        points::arm(None);
        for machine in scene.machines.iter_mut() {
            machine.mend_disk();
            machine.frozen_until = None;
            machine.wall.offset_ms.store(0, Ordering::Relaxed);
            machine.wall.drift_ppm.store(0, Ordering::Relaxed);
        }
        wanted
    }

    fn end(&mut self, scene: &mut Scene<'_>, all: bool) -> Vec<Wanted> {
        let mut wanted = Vec::new();
        while let Some(entry) = self.undo.first_entry()
            && (all || entry.key().0 <= scene.now)
        {
            let undo = entry.remove();
            self.undo(undo, all, scene, &mut wanted);
        }
        wanted
    }
}

/// Machines and wires, for faults that begin and end.
impl std::fmt::Debug for Scene<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scene").field("now", &self.now).finish_non_exhaustive()
    }
}

impl<'a> Scene<'a> {
    /// At `now`; `whole` says whether the cluster may lose a disk.
    pub fn new(
        now: Duration,
        machines: &'a mut [Machine],
        wires: &'a Wires,
        whole: &'a dyn Fn(&[Machine]) -> bool,
    ) -> Scene<'a> {
        Scene { now, machines, wires, whole }
    }
}
