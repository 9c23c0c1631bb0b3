//! How each kind of fault begins, and what ends it.
//!
//! ```text
//!  dice ──decide──▶ event ──inject──▶ machines, links
//!  script ─────────▶
//! ```
//!
//! An event is what a line of a script says; what it leaves open (which bits turn over, how much room is left) the
//! fault's dice decide.

use crate::{
    chaos::{Chaos, Guise, Wanted},
    dice::Dice,
    machine::{DATA_DIR, Death, Hurt, Machine},
    net::{LinkState, Wires},
    point_names::POINTS,
    points::{self, Armed},
    trace,
};
use node::outside::Order;
use screenplay::{Event, Fault};
use std::{net::IpAddr, path::Path, sync::atomic::Ordering, time::Duration};
use storage::{kv::KvError, log::testing::FsOp};

/// The world as faults see it.
pub struct Scene<'a> {
    /// World time.
    pub now: Duration,
    /// All machines.
    pub machines: &'a mut [Machine],
    /// The network.
    pub wires: &'a Wires,
    /// Whether the cluster is whole.
    pub whole: &'a dyn Fn(&[Machine]) -> bool,
}

/// What ends a fault, or goes on with it.
#[derive(Debug)]
pub enum Undo {
    /// The machine is switched on.
    Start(usize),
    /// The link is as it was.
    Link(IpAddr, IpAddr),
    /// The disk is healthy.
    Mend(usize),
    /// The link changes between cut and whole, so many times more.
    Flap {
        /// The machines at its ends, by their places.
        ends: (usize, usize),
        /// Changes to come.
        left: u64,
        /// Whether it is cut next.
        cut: bool,
    },
    /// The plug is put away.
    Disarm,
    /// The clock is right.
    Clock(usize),
    /// The operator restarts a machine whose disk is healthy again.
    Replace(usize),
    /// The old image is put into the machine.
    OldImage(usize),
    /// The operator replaces a machine whose disk is damaged, if that was not done before.
    Wipe(usize),
    /// The stranger leaves.
    Stranger,
    /// The load is as usual.
    Load,
}

/// What of a machine's files may be damaged; what is advice only, or known to be replaced, is not.
fn matters(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    path.starts_with(DATA_DIR)
        && !["current.json", "queries.active", "joining", "lock", "offered.json"].contains(&name)
}

/// What is done to members while one is being replaced. The middle of a change lies behind its beginning.
const CHANGE_POINTS: [&str; 6] = [
    "members.swap.begin",
    "members.swap.begin",
    "members.swap.begin",
    "members.learner.begin",
    "members.learner.done",
    "members.swap.done",
];

/// While a segment of the log begins.
const SEGMENT_POINTS: [&str; 2] = ["log.segment.created", "log.segment.written"];

/// One of the named points: each part of the code has the same chance, however many points it has.
fn pick_point(dice: &Dice) -> &'static str {
    let part = |point: &'static str| point.split('.').next().unwrap_or_default();
    let mut parts: Vec<&str> = POINTS.iter().map(|point| part(point)).collect();
    parts.dedup();
    let chosen = *dice.pick(&parts);
    let points: Vec<&'static str> = POINTS.iter().copied().filter(|point| part(point) == chosen).collect();
    dice.pick::<&'static str>(&points)
}

fn set_both(wires: &Wires, a: IpAddr, b: IpAddr, link: LinkState) {
    wires.set_link(a, b, link);
    wires.set_link(b, a, link);
}

/// What chance makes of a kind of fault: whom it befalls, by how much, for how long. `None` if it may not happen now.
pub(crate) fn decide(fault: Fault, dice: &Dice, scene: &Scene<'_>) -> Option<Event> {
    let count = scene.machines.len() as u64;
    let node = dice.below(count) as usize;
    let other = (node + 1 + dice.below(count - 1) as usize) % scene.machines.len();
    let (short, long) = (dice.millis(100, 4000), dice.millis(500, 15_000));
    let (by, lasts) = match fault {
        Fault::Kill => (0, short),
        Fault::PowerAll => (0, dice.millis(100, 3000)),
        Fault::Pause if dice.chance(15) => (0, dice.millis(10_000, 180_000)),
        Fault::Pause => (0, short),
        Fault::Latency => (dice.between(5, 300), long),
        Fault::Narrow => (dice.between(20, 400), long),
        Fault::Datagrams => (dice.between(1, 60), long),
        Fault::SlowSync => (dice.between(50, 300), long),
        // Longer than a node waits for its disk.
        Fault::Stall if dice.chance(12) => (0, dice.millis(22_000, 40_000)),
        Fault::Stall if dice.chance(50) => (0, dice.millis(200, 900)),
        Fault::Stall => (0, dice.millis(900, 8000)),
        Fault::SyncError | Fault::ReadError | Fault::WriteError => (0, dice.millis(3000, 10_000)),
        Fault::Rot | Fault::Misdirect => (0, dice.millis(5000, 12_000)),
        Fault::OldImage => (0, dice.millis(300, 10_000)),
        // Shorter than the silence after which a name may be taken over.
        Fault::Stranger => (0, dice.millis(1500, 6000)),
        // In half of the cases longer than a node waits for room before it refuses a write.
        Fault::Overload => (0, dice.millis(2000, 12_000)),
        Fault::Restart | Fault::Wipe | Fault::Reset | Fault::Configure | Fault::Point | Fault::Flap => {
            (0, Duration::ZERO)
        }
        Fault::Power
        | Fault::Isolate
        | Fault::Partition
        | Fault::OneWay
        | Fault::Full
        | Fault::FullLog
        | Fault::FullStores
        | Fault::ClockStep
        | Fault::ClockDrift => (0, long),
    };
    let by = match fault {
        Fault::ClockStep => *dice.pick(&[-86_400_000, -60_000, -3000, -700, 700, 3000, 60_000, 86_400_000]),
        Fault::ClockDrift => *dice.pick(&[-20_000, -500, 500, 20_000]),
        _ => i64::try_from(by).unwrap_or_default(),
    };
    // One wrong clock of three is the promise: two that agree are the cluster's time.
    let is_clock = matches!(fault, Fault::ClockStep | Fault::ClockDrift);
    let right = |machine: &Machine| {
        machine.wall.offset_ms.load(Ordering::Relaxed) == 0
            && machine.wall.drift_ppm.load(Ordering::Relaxed) == 0
    };
    let may =
        !is_clock || scene.machines.iter().enumerate().all(|(at, machine)| at == node || right(machine));
    may.then_some(Event { at: scene.now, fault, node, other, by, lasts })
}

impl Chaos {
    /// Begins a fault; a note for the trace if it did begin.
    pub(crate) fn inject(
        &mut self,
        event: &Event,
        dice: &Dice,
        scene: &mut Scene<'_>,
        wanted: &mut Vec<Wanted>,
    ) -> Option<String> {
        let (at, now) = (event.node, scene.now);
        let end = now + event.lasts;
        let note = match event.fault {
            Fault::Kill | Fault::Power | Fault::PowerAll | Fault::Point | Fault::Restart | Fault::Pause => {
                self.processes(event, dice, scene)
            }
            Fault::Isolate
            | Fault::Partition
            | Fault::OneWay
            | Fault::Flap
            | Fault::Latency
            | Fault::Narrow
            | Fault::Datagrams
            | Fault::Reset => self.links(event, dice, scene),
            Fault::SlowSync
            | Fault::Stall
            | Fault::Full
            | Fault::FullLog
            | Fault::FullStores
            | Fault::SyncError
            | Fault::ReadError
            | Fault::WriteError => self.disks(event, dice, scene),
            Fault::Wipe | Fault::Rot | Fault::Misdirect | Fault::OldImage => {
                self.damage(event, dice, scene, wanted)
            }
            Fault::ClockStep | Fault::ClockDrift => Some(self.clocks(event, scene)),
            Fault::Stranger => {
                let guise = match dice.below(3) {
                    0 => Guise::Elsewhere,
                    1 => Guise::Name(at),
                    _ => Guise::Address,
                };
                wanted.push(Wanted::Stranger(guise));
                self.later(end, Undo::Stranger);
                if guise == Guise::Address {
                    scene.machines[0].die(Death::Killed);
                    self.later(end + dice.millis(0, 1000), Undo::Start(0));
                }
                Some(match guise {
                    Guise::Elsewhere => "of another cluster".to_owned(),
                    Guise::Name(at) => format!("as {}", scene.machines[at].name),
                    Guise::Address => format!("of another cluster, where {} was", scene.machines[0].name),
                })
            }
            Fault::Overload => {
                wanted.push(Wanted::Load(true));
                for at in 0..scene.machines.len() {
                    let pace = &scene.machines[at].pace;
                    pace.sync_ms_min.store(50, Ordering::Relaxed);
                    pace.sync_ms_max.store(dice.between(100, 600), Ordering::Relaxed);
                    self.later(end, Undo::Mend(at));
                }
                self.later(end, Undo::Load);
                if dice.chance(40) {
                    // Segments of the log begin only now, and their names are not durable at once.
                    let machines = vec![(at, scene.machines[at].outside.clone())];
                    let (point, delay, seed) = (*dice.pick(&SEGMENT_POINTS), Duration::ZERO, dice.next());
                    let death = Death::PowerLoss;
                    points::arm(Some(Armed { machines, point, passes: 0, delay, death, seed }));
                    self.later(end, Undo::Disarm);
                }
                Some(format!("until {end:?}"))
            }
            Fault::Configure if scene.machines[at].is_running() => {
                wanted.push(Wanted::Configure(at));
                Some(scene.machines[at].name.to_owned())
            }
            Fault::Configure => None,
        };
        if note.is_some() && event.fault != Fault::PowerAll {
            self.tell(Event { at: now, ..*event }); // which told of each machine
        }
        note
    }

    fn processes(&mut self, event: &Event, dice: &Dice, scene: &mut Scene<'_>) -> Option<String> {
        let (at, now, end) = (event.node, scene.now, scene.now + event.lasts);
        if event.fault == Fault::PowerAll {
            // Which of them comes first makes a difference.
            let most = event.lasts.as_millis() as u64;
            for (node, machine) in scene.machines.iter_mut().enumerate() {
                machine.die(Death::PowerLoss);
                let lasts = dice.millis(most.min(100), most);
                self.later(now + lasts, Undo::Start(node));
                self.tell(Event { at: now, fault: Fault::Power, node, other: node, by: 0, lasts });
            }
            return Some(format!("all until {end:?}"));
        }
        let replacing = scene.machines.iter().any(|machine| machine.hurt.is_some());
        let all: Vec<_> =
            scene.machines.iter().enumerate().map(|(at, machine)| (at, machine.outside.clone())).collect();
        let machine = &mut scene.machines[at];
        if !machine.is_running() {
            return None;
        }
        let mut note = machine.name.to_owned();
        match event.fault {
            Fault::Kill => {
                machine.die(Death::Killed);
                self.later(end, Undo::Start(at));
            }
            Fault::Power => {
                machine.die(Death::PowerLoss);
                self.later(end, Undo::Start(at));
            }
            Fault::Point => {
                let changes = replacing && dice.chance(80);
                let point = if changes { *dice.pick(&CHANGE_POINTS) } else { pick_point(dice) };
                let death = if dice.chance(50) { Death::Killed } else { Death::PowerLoss };
                let passes = if changes || dice.chance(60) { 0 } else { dice.below(20) };
                let late = dice.chance(if changes { 80 } else { 30 });
                let delay = if late { dice.millis(1, 20) } else { Duration::ZERO };
                note = format!("{note} at {point}");
                // Who changes members is known when it does.
                let machines = if changes { all } else { vec![(at, machine.outside.clone())] };
                let seed = dice.next();
                points::arm(Some(Armed { machines, point, passes, delay, death, seed }));
                let patience = Duration::from_secs(if changes { 20 } else { 5 });
                self.later(now + patience, Undo::Disarm);
                if !changes {
                    self.lead_to(point, at, dice, scene);
                }
            }
            Fault::Pause => {
                note = format!("{note} until {end:?}");
                machine.frozen_until = Some(end);
            }
            _ => {
                machine.order(Order::Stop);
                self.later(now + Duration::from_secs(12), Undo::Start(at));
            }
        }
        Some(note)
    }

    /// What only a node passes that starts or stops is passed soon.
    fn lead_to(&mut self, point: &str, at: usize, dice: &Dice, scene: &mut Scene<'_>) {
        let (now, machine) = (scene.now, &mut scene.machines[at]);
        let lasts = dice.millis(100, 1000);
        if point.starts_with("stop.") {
            machine.order(Order::Stop);
            self.later(now + Duration::from_secs(12), Undo::Start(at));
            self.tell(Event {
                at: now,
                fault: Fault::Restart,
                node: at,
                other: at,
                by: 0,
                lasts: Duration::ZERO,
            });
        } else if point.starts_with("log.open.") || point == "shards.hosted" {
            machine.die(Death::Killed);
            self.later(now + lasts, Undo::Start(at));
            self.tell(Event { at: now, fault: Fault::Kill, node: at, other: at, by: 0, lasts });
        }
    }

    fn links(&mut self, event: &Event, dice: &Dice, scene: &mut Scene<'_>) -> Option<String> {
        let (machines, wires) = (&scene.machines, scene.wires);
        let (at, other, end) = (event.node, event.other, scene.now + event.lasts);
        let by = event.by.unsigned_abs();
        let (a, b) = (machines[at].outside.ip, machines[other].outside.ip);
        let others: Vec<IpAddr> =
            machines.iter().map(|machine| machine.outside.ip).filter(|ip| *ip != a).collect();
        let (who, whom) = (machines[at].name, machines[other].name);
        let cut = LinkState { cut: true, ..LinkState::default() };
        let mut set = |a: IpAddr, b: IpAddr, link| {
            set_both(wires, a, b, link);
            self.later(end, Undo::Link(a, b));
            self.later(end, Undo::Link(b, a));
        };
        Some(match event.fault {
            Fault::Isolate => {
                others.iter().for_each(|other| set(a, *other, cut));
                who.to_owned()
            }
            Fault::Partition => {
                set(a, b, cut);
                format!("{who} and {whom}")
            }
            Fault::OneWay => {
                wires.set_link(a, b, cut);
                self.later(end, Undo::Link(a, b));
                format!("{who} to {whom}")
            }
            Fault::Flap => {
                let left = 2 * dice.between(1, 6);
                self.later(scene.now, Undo::Flap { ends: (at, other), left, cut: true });
                format!("{who} and {whom}")
            }
            Fault::Latency => {
                let delay_max = Duration::from_millis(by);
                let delay_min = delay_max / 2;
                others.iter().for_each(|other| {
                    set(a, *other, LinkState { delay_min, delay_max, ..LinkState::default() })
                });
                format!("{who}, {delay_min:?} to {delay_max:?}")
            }
            Fault::Narrow => {
                let bytes_per_ms = by;
                others
                    .iter()
                    .for_each(|other| set(a, *other, LinkState { bytes_per_ms, ..LinkState::default() }));
                format!("{who}, {bytes_per_ms} bytes per ms")
            }
            Fault::Datagrams => {
                let late_percent = dice.between(5, 50);
                let link =
                    LinkState { loss_percent: by, double_percent: 20, late_percent, ..LinkState::default() };
                set(a, b, link);
                format!("{who} and {whom}")
            }
            _ => {
                let all: Vec<IpAddr> = machines.iter().map(|machine| machine.outside.ip).collect();
                if !wires.reset_one(&all) {
                    return None;
                }
                "one connection".to_owned()
            }
        })
    }

    fn disks(&mut self, event: &Event, dice: &Dice, scene: &mut Scene<'_>) -> Option<String> {
        let (fault, at, end) = (event.fault, event.node, scene.now + event.lasts);
        let machine = &mut scene.machines[at];
        let outside = &machine.outside;
        let no_room = || Some(KvError::DiskFull("no space left on device".to_owned()));
        let broken = || Some(KvError::Io("input/output error".to_owned()));
        let mut note = machine.name.to_owned();
        match fault {
            Fault::SlowSync => {
                let most = event.by.unsigned_abs();
                machine.pace.sync_ms_min.store(most / 6, Ordering::Relaxed);
                machine.pace.sync_ms_max.store(most, Ordering::Relaxed);
            }
            Fault::Stall => {
                machine.pace.stalled_until_ms.store(end.as_millis() as u64, Ordering::Relaxed);
                return Some(format!("{note} until {end:?}"));
            }
            Fault::Full | Fault::FullLog | Fault::FullStores => {
                if fault != Fault::FullStores {
                    let (used, _) = outside.fs.used_and_peak();
                    outside.fs.set_capacity(Some(used + dice.below(64 << 10)));
                }
                if fault != Fault::FullLog {
                    outside.kv.set_fault(no_room());
                }
            }
            _ if !machine.is_running() => return None,
            Fault::SyncError => outside.fs.fail_syncs(1),
            Fault::ReadError => {
                let nth = dice.between(1, 8);
                outside.fs.fail_calls(&[FsOp::Read], nth);
                if dice.chance(70) {
                    outside.kv.set_read_fault(broken());
                }
                note = format!("{note}, each {nth}. of the files");
            }
            _ => {
                let nth = dice.between(1, 8);
                outside.fs.fail_calls(&[FsOp::Write, FsOp::SetLen, FsOp::Rename], nth);
                if dice.chance(70) {
                    outside.kv.set_fault(broken());
                }
                note = format!("{note}, each {nth}. of the files");
            }
        }
        match fault {
            // What such an error has stopped goes on only in a new process.
            Fault::SyncError | Fault::ReadError | Fault::WriteError => {
                self.later(end, Undo::Replace(at));
            }
            _ => self.later(end, Undo::Mend(at)),
        }
        Some(note)
    }

    fn damage(
        &mut self,
        event: &Event,
        dice: &Dice,
        scene: &mut Scene<'_>,
        wanted: &mut Vec<Wanted>,
    ) -> Option<String> {
        let (at, now, end) = (event.node, scene.now, scene.now + event.lasts);
        if !(scene.whole)(scene.machines) {
            return None;
        }
        let machine = &mut scene.machines[at];
        let mut note = machine.name.to_owned();
        match event.fault {
            Fault::Wipe => {
                machine.die(Death::PowerLoss);
                machine.hurt = Some(Hurt { until: end, wiped: true });
                wanted.push(Wanted::Wipe(at));
                return Some(note);
            }
            Fault::OldImage => {
                machine.take_image();
                machine.hurt = Some(Hurt { until: end + Duration::from_secs(5), wiped: false });
                self.later(end, Undo::OldImage(at));
                return Some(format!("{note} at {end:?}"));
            }
            Fault::Rot if dice.chance(50) => {
                let place = machine.outside.kv.rot(&|count| dice.below(count as u64) as usize)?;
                note = format!("{note} {place}");
            }
            Fault::Rot => {
                for _ in 0..dice.between(1, 4) {
                    let damage = machine.outside.fs.rot(dice.next(), &matters)?;
                    note += &format!(" {}:{}", damage.path.display(), damage.offset);
                }
            }
            _ => {
                let damage = machine.outside.fs.misdirect(dice.next(), &matters)?;
                note += &format!(" {}:{}", damage.path.display(), damage.offset);
            }
        }
        machine.hurt = Some(Hurt { until: end, wiped: false });
        if dice.chance(60) {
            // A node that is started again reads what it has.
            self.later(now + dice.millis(500, 4000), Undo::Replace(at));
        }
        self.later(end, Undo::Wipe(at));
        Some(note)
    }

    fn clocks(&mut self, event: &Event, scene: &Scene<'_>) -> String {
        let machine = &scene.machines[event.node];
        self.later(scene.now + event.lasts, Undo::Clock(event.node));
        if event.fault == Fault::ClockStep {
            machine.wall.offset_ms.store(event.by, Ordering::Relaxed);
            return format!("{} by {} ms", machine.name, event.by);
        }
        machine.wall.drift_ppm.store(event.by, Ordering::Relaxed);
        format!("{} by {} ppm", machine.name, event.by)
    }

    pub(crate) fn undo(&mut self, undo: Undo, all: bool, scene: &mut Scene<'_>, wanted: &mut Vec<Wanted>) {
        let wires = scene.wires;
        match undo {
            Undo::Start(at) => wanted.push(Wanted::Start(at)),
            Undo::Link(from, to) => wires.set_link(from, to, LinkState::default()),
            Undo::Mend(at) => {
                trace::say(&format!("{}'s disk is healthy", scene.machines[at].name));
                scene.machines[at].mend_disk();
            }
            Undo::Flap { .. } if all => {}
            Undo::Flap { ends, left, cut } => {
                let [a, b] = [ends.0, ends.1].map(|at| scene.machines[at].outside.ip);
                let cut = cut && left > 0;
                set_both(wires, a, b, LinkState { cut, ..LinkState::default() });
                if left == 0 {
                    return;
                }
                let pause = self.flap_pause();
                self.later(scene.now + pause, Undo::Flap { ends, left: left - 1, cut: !cut });
                if cut {
                    let (at, fault, (node, other)) = (scene.now, Fault::Partition, ends);
                    self.tell(Event { at, fault, node, other, by: 0, lasts: pause });
                }
            }
            Undo::Disarm => points::arm(None),
            Undo::Clock(at) => {
                scene.machines[at].wall.offset_ms.store(0, Ordering::Relaxed);
                scene.machines[at].wall.drift_ppm.store(0, Ordering::Relaxed);
            }
            Undo::Replace(at) => {
                scene.machines[at].die(Death::Killed);
                scene.machines[at].mend_disk();
                wanted.push(Wanted::Start(at));
            }
            Undo::OldImage(at) => {
                let machine = &mut scene.machines[at];
                trace::say(&format!("{} gets its old disk back", machine.name));
                machine.die(Death::PowerLoss);
                machine.restore_image();
                wanted.push(Wanted::Start(at));
            }
            Undo::Wipe(at) if scene.machines[at].hurt.is_some_and(|hurt| !hurt.wiped) => {
                scene.machines[at].die(Death::Killed);
                wanted.push(Wanted::Wipe(at));
            }
            Undo::Wipe(_) => {}
            Undo::Stranger => wanted.push(Wanted::StrangerLeaves),
            Undo::Load => wanted.push(Wanted::Load(false)),
        }
    }
}
