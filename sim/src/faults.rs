//! Everything that goes wrong, by chance: each seed enables some kinds and none of the others.

use crate::{
    dice::Dice,
    machine::{Death, Machine},
    net::{LinkState, Wires},
    points::{self, Armed},
    scenario::Scripted,
    trace,
};
use node::outside::Order;
use std::{collections::BTreeMap, net::IpAddr, sync::atomic::Ordering, time::Duration};
use storage::kv::KvError;

macro_rules! faults {
    ($($(#[$doc:meta])* $kind:ident = $name:literal,)*) => {
        /// A kind of fault.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Fault { $($(#[$doc])* $kind,)* }

        impl Fault {
            /// All kinds.
            pub const ALL: &[Fault] = &[$(Fault::$kind,)*];

            /// Its name on the command line and in counters.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Fault::$kind => $name,)* }
            }
        }
    };
}

faults! {
    /// A process is killed at an await.
    Kill = "kill",
    /// A process is killed, or its machine loses power, at a named point of the code.
    Point = "point",
    /// A machine loses power: unsynced data is gone or torn.
    Power = "power",
    /// All machines lose power at once.
    PowerAll = "power-all",
    /// A process is stopped as by SIGTERM, and started again.
    Restart = "restart",
    /// A process is stopped as by SIGSTOP, and goes on.
    Pause = "pause",
    /// One machine and the others do not hear each other.
    Isolate = "isolate",
    /// Two machines do not hear each other.
    Partition = "partition",
    /// One machine does not hear another, which hears it.
    OneWay = "one-way",
    /// A link that is cut and whole in turns.
    Flap = "flap",
    /// Links are slow.
    Latency = "latency",
    /// Datagrams are lost and doubled.
    Datagrams = "datagrams",
    /// A connection breaks.
    Reset = "reset",
    /// Syncs take long.
    SlowSync = "slow-sync",
    /// A disk does not answer for seconds.
    Stall = "stall",
    /// A disk is full, log and stores.
    Full = "full",
    /// A sync of the log fails; the machine is restarted later.
    SyncError = "sync-error",
    /// A wall clock jumps.
    ClockStep = "clock-step",
    /// A wall clock drifts.
    ClockDrift = "clock-drift",
    /// A machine comes back with an empty disk.
    Wipe = "wipe",
    /// An operator offers another configuration, or a broken one.
    Configure = "configure",
}

/// What ends a fault.
#[derive(Debug)]
enum Undo {
    Start(usize),
    Link(IpAddr, IpAddr),
    Mend(usize),
    Flap { a: IpAddr, b: IpAddr, left: u64, cut: bool },
    Disarm,
    Clock(usize),
    Replace(usize),
}

/// What the world has to do for a fault.
#[derive(Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Nothing.
    Nothing,
    /// Start a machine.
    Start(usize),
    /// Offer a configuration through this machine.
    Configure(usize),
}

/// Injects faults and ends them.
#[derive(Debug)]
pub struct Chaos {
    dice: Dice,
    enabled: Vec<Fault>,
    pause: (u64, u64),
    next: Duration,
    undo: BTreeMap<(Duration, u64), Undo>,
    number: u64,
    /// Faults injected, per kind.
    pub injected: BTreeMap<&'static str, u64>,
    script: Vec<Scripted>,
    /// Points to choose from.
    points: &'static [&'static str],
}

impl Chaos {
    /// Faults of the kinds `enabled`, first at `begin`.
    #[must_use]
    pub fn new(
        seed: u64,
        enabled: Vec<Fault>,
        script: &[Scripted],
        begin: Duration,
        points: &'static [&'static str],
    ) -> Chaos {
        let script =
            script.iter().map(|scripted| Scripted { at: begin + scripted.at, ..*scripted }).collect();
        let dice = Dice::new(seed, "chaos");
        let pause = *dice.pick(&[(500, 3000), (1000, 8000), (3000, 15_000)]);
        let undo = BTreeMap::new();
        Chaos {
            dice,
            enabled,
            pause,
            next: begin,
            undo,
            number: 0,
            injected: BTreeMap::new(),
            script,
            points,
        }
    }

    fn later(&mut self, at: Duration, undo: Undo) {
        self.number += 1;
        self.undo.insert((at, self.number), undo);
    }

    /// What is due now. `whole` says whether the cluster may lose a disk.
    pub fn step(
        &mut self,
        now: Duration,
        machines: &mut [Machine],
        wires: &Wires,
        whole: &dyn Fn(&[Machine]) -> bool,
    ) -> Vec<Wanted> {
        let mut wanted = self.end(now, machines, wires, false);
        if now >= self.next && !self.enabled.is_empty() {
            let fault = *self.dice.pick(&self.enabled);
            self.next = now + self.dice.millis(self.pause.0, self.pause.1);
            wanted.push(self.inject(fault, None, now, machines, wires, whole));
        }
        let due = |scripted: &Scripted| scripted.at <= now;
        for scripted in self.script.extract_if(.., |scripted| due(scripted)).collect::<Vec<_>>() {
            let chosen = Some((scripted.machine, scripted.lasts));
            wanted.push(self.inject(scripted.fault, chosen, now, machines, wires, whole));
        }
        wanted
    }

    /// Ends all faults, whether they are over or not.
    pub fn end_all(&mut self, now: Duration, machines: &mut [Machine], wires: &Wires) {
        self.enabled.clear();
        let started = self.end(now, machines, wires, true);
        drop(started); // the world starts whoever is down
        wires.heal();
        points::arm(None);
        for machine in machines {
            machine.mend_disk();
            machine.frozen_until = None;
            machine.wall.offset_ms.store(0, Ordering::Relaxed);
            machine.wall.drift_ppm.store(0, Ordering::Relaxed);
        }
    }

    fn end(&mut self, now: Duration, machines: &mut [Machine], wires: &Wires, all: bool) -> Vec<Wanted> {
        let mut wanted = Vec::new();
        while let Some(entry) = self.undo.first_entry()
            && (all || entry.key().0 <= now)
        {
            match entry.remove() {
                Undo::Start(at) => wanted.push(Wanted::Start(at)),
                Undo::Link(from, to) => wires.set_link(from, to, LinkState::default()),
                Undo::Mend(at) => {
                    trace::say(&format!("{}'s disk is healthy", machines[at].name));
                    machines[at].mend_disk();
                }
                Undo::Flap { left: 0, a, b, .. } => set_both(wires, a, b, LinkState::default()),
                Undo::Flap { .. } if all => {}
                Undo::Flap { a, b, left, cut } => {
                    set_both(wires, a, b, LinkState { cut, ..LinkState::default() });
                    let at = now + self.dice.millis(50, 3000);
                    self.later(at, Undo::Flap { a, b, left: left - 1, cut: !cut });
                }
                Undo::Disarm => points::arm(None),
                Undo::Clock(at) => {
                    machines[at].wall.offset_ms.store(0, Ordering::Relaxed);
                    machines[at].wall.drift_ppm.store(0, Ordering::Relaxed);
                }
                Undo::Replace(at) => {
                    machines[at].die(Death::Killed);
                    machines[at].mend_disk();
                    wanted.push(Wanted::Start(at));
                }
            }
        }
        wanted
    }

    fn inject(
        &mut self,
        fault: Fault,
        chosen: Option<(usize, Duration)>,
        now: Duration,
        machines: &mut [Machine],
        wires: &Wires,
        whole: &dyn Fn(&[Machine]) -> bool,
    ) -> Wanted {
        let at = self.dice.below(machines.len() as u64) as usize;
        let at = chosen.map_or(at, |(at, _)| at);
        let other = (at + 1 + self.dice.below(machines.len() as u64 - 1) as usize) % machines.len();
        let (a, b) = (machines[at].outside.ip, machines[other].outside.ip);
        let (short, long) = (self.dice.millis(100, 4000), self.dice.millis(500, 15_000));
        let (short, long) = chosen.map_or((now + short, now + long), |(_, lasts)| (now + lasts, now + lasts));
        let running = machines[at].is_running();
        let who = machines[at].name;
        let mut wanted = Wanted::Nothing;
        let mut note = who.to_owned();
        match fault {
            Fault::Kill if running => {
                machines[at].die(Death::Killed);
                self.later(short, Undo::Start(at));
            }
            Fault::Power if running => {
                machines[at].die(Death::PowerLoss);
                self.later(long, Undo::Start(at));
            }
            Fault::PowerAll => {
                note = "all".to_owned();
                for (at, machine) in machines.iter_mut().enumerate() {
                    machine.die(Death::PowerLoss);
                    let back = now + self.dice.millis(100, 3000);
                    self.later(back, Undo::Start(at));
                }
            }
            Fault::Point if running && !self.points.is_empty() => {
                let point = *self.dice.pick(self.points);
                let death = if self.dice.chance(50) { Death::Killed } else { Death::PowerLoss };
                let passes = if self.dice.chance(60) { 0 } else { self.dice.below(20) };
                note = format!("{who} at {point}");
                let outside = machines[at].outside.clone();
                points::arm(Some(Armed {
                    machine: at,
                    point,
                    passes,
                    death,
                    outside,
                    seed: self.dice.next(),
                }));
                self.later(now + Duration::from_secs(5), Undo::Disarm);
            }
            Fault::Restart if running => {
                machines[at].order(Order::Stop);
                self.later(now + Duration::from_secs(12), Undo::Start(at));
            }
            Fault::Pause if running => {
                let long_pause = self.dice.chance(15);
                let until = if long_pause { now + self.dice.millis(10_000, 60_000) } else { short };
                note = format!("{who} until {until:?}");
                machines[at].frozen_until = Some(until);
            }
            Fault::Isolate => {
                for machine in machines.iter().filter(|machine| machine.outside.ip != a) {
                    set_both(wires, a, machine.outside.ip, LinkState { cut: true, ..LinkState::default() });
                    self.later(long, Undo::Link(a, machine.outside.ip));
                    self.later(long, Undo::Link(machine.outside.ip, a));
                }
            }
            Fault::Partition => {
                note = format!("{who} and {}", machines[other].name);
                set_both(wires, a, b, LinkState { cut: true, ..LinkState::default() });
                self.later(long, Undo::Link(a, b));
                self.later(long, Undo::Link(b, a));
            }
            Fault::OneWay => {
                note = format!("{who} to {}", machines[other].name);
                wires.set_link(a, b, LinkState { cut: true, ..LinkState::default() });
                self.later(long, Undo::Link(a, b));
            }
            Fault::Flap => {
                note = format!("{who} and {}", machines[other].name);
                self.later(now, Undo::Flap { a, b, left: 2 * self.dice.between(1, 6), cut: true });
            }
            Fault::Latency => {
                let min = self.dice.millis(5, 100);
                let link = LinkState {
                    delay_min: min,
                    delay_max: min + self.dice.millis(0, 200),
                    ..LinkState::default()
                };
                for machine in machines.iter().filter(|machine| machine.outside.ip != a) {
                    set_both(wires, a, machine.outside.ip, link);
                    self.later(long, Undo::Link(a, machine.outside.ip));
                    self.later(long, Undo::Link(machine.outside.ip, a));
                }
            }
            Fault::Datagrams => {
                let link = LinkState {
                    loss_percent: self.dice.between(1, 60),
                    double_percent: 20,
                    ..LinkState::default()
                };
                set_both(wires, a, b, link);
                self.later(long, Undo::Link(a, b));
                self.later(long, Undo::Link(b, a));
            }
            Fault::Reset => {
                let all: Vec<IpAddr> = machines.iter().map(|machine| machine.outside.ip).collect();
                if !wires.reset_one(&all) {
                    return wanted;
                }
                note = "one connection".to_owned();
            }
            Fault::SlowSync => {
                let pace = &machines[at].pace;
                pace.sync_ms_min.store(self.dice.between(5, 50), Ordering::Relaxed);
                pace.sync_ms_max.store(self.dice.between(50, 300), Ordering::Relaxed);
                self.later(long, Undo::Mend(at));
            }
            Fault::Stall => {
                let until = now + self.dice.millis(200, 8000);
                machines[at].pace.stalled_until_ms.store(until.as_millis() as u64, Ordering::Relaxed);
            }
            Fault::Full => {
                let (used, _) = machines[at].outside.fs.used_and_peak();
                machines[at].outside.fs.set_capacity(Some(used + self.dice.below(64 << 10)));
                machines[at]
                    .outside
                    .kv
                    .set_fault(Some(KvError::DiskFull("no space left on device".to_owned())));
                self.later(long, Undo::Mend(at));
            }
            Fault::SyncError if running => {
                machines[at].outside.fs.fail_syncs(1);
                self.later(now + self.dice.millis(3000, 10_000), Undo::Replace(at));
            }
            // One wrong clock of three is the promise: two that agree are the cluster's time.
            Fault::ClockStep if others_are_right(machines, at) => {
                let steps = [-86_400_000, -60_000, -3000, -700, 700, 3000, 60_000, 86_400_000];
                let step = *self.dice.pick(&steps);
                note = format!("{who} by {step} ms");
                machines[at].wall.offset_ms.store(step, Ordering::Relaxed);
                self.later(long, Undo::Clock(at));
            }
            Fault::ClockDrift if others_are_right(machines, at) => {
                let drift = *self.dice.pick(&[-20_000, -500, 500, 20_000]);
                machines[at].wall.drift_ppm.store(drift, Ordering::Relaxed);
                self.later(long, Undo::Clock(at));
            }
            Fault::Wipe if whole(machines) => {
                machines[at].die(Death::PowerLoss);
                if let Err(error) = machines[at].wipe() {
                    trace::say(&format!("{who} cannot be wiped: {error}"));
                }
                self.later(short, Undo::Start(at));
                // A disk is lost for good: nothing else may go wrong until there are three copies again.
                self.next = now + Duration::from_secs(25);
            }
            Fault::Configure if running => wanted = Wanted::Configure(at),
            _ => return wanted,
        }
        trace::say(&format!("FAULT {}: {note}", fault.name()));
        *self.injected.entry(fault.name()).or_default() += 1;
        wanted
    }
}

/// Whether all wall clocks but perhaps one show the world's time.
fn others_are_right(machines: &[Machine], but: usize) -> bool {
    let is_right = |machine: &Machine| {
        machine.wall.offset_ms.load(Ordering::Relaxed) == 0
            && machine.wall.drift_ppm.load(Ordering::Relaxed) == 0
    };
    machines.iter().enumerate().all(|(at, machine)| at == but || is_right(machine))
}

fn set_both(wires: &Wires, a: IpAddr, b: IpAddr, link: LinkState) {
    wires.set_link(a, b, link);
    wires.set_link(b, a, link);
}
