//! How each kind of fault begins, and what ends it.

use crate::{
    chaos::{Chaos, Guise, Wanted},
    dice::Dice,
    faults::Fault,
    machine::{DATA_DIR, Death, Hurt, Machine},
    net::{LinkState, Wires},
    point_names::POINTS,
    points::{self, Armed},
    trace,
};
use node::outside::Order;
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
        /// One end.
        a: IpAddr,
        /// The other.
        b: IpAddr,
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
    path.starts_with(DATA_DIR) && !["queries.active", "joining", "lock", "offered.json"].contains(&name)
}

fn set_both(wires: &Wires, a: IpAddr, b: IpAddr, link: LinkState) {
    wires.set_link(a, b, link);
    wires.set_link(b, a, link);
}

impl Chaos {
    /// Begins a fault; a note for the trace if it did begin.
    pub(crate) fn inject(
        &mut self,
        fault: Fault,
        chosen: Option<(usize, Duration)>,
        dice: &Dice,
        scene: &mut Scene<'_>,
        wanted: &mut Vec<Wanted>,
    ) -> Option<String> {
        let now = scene.now;
        let count = scene.machines.len() as u64;
        let at = chosen.map_or(dice.below(count) as usize, |(at, _)| at);
        let (short, long) = (dice.millis(100, 4000), dice.millis(500, 15_000));
        let (short, long) = chosen.map_or((now + short, now + long), |(_, lasts)| (now + lasts, now + lasts));
        match fault {
            Fault::Kill | Fault::Power | Fault::PowerAll | Fault::Point | Fault::Restart | Fault::Pause => {
                self.processes(fault, at, (short, long), dice, scene)
            }
            Fault::Isolate
            | Fault::Partition
            | Fault::OneWay
            | Fault::Flap
            | Fault::Latency
            | Fault::Narrow
            | Fault::Datagrams
            | Fault::Reset => self.links(fault, at, long, dice, scene),
            Fault::SlowSync
            | Fault::Stall
            | Fault::Full
            | Fault::FullLog
            | Fault::FullStores
            | Fault::SyncError
            | Fault::ReadError
            | Fault::WriteError => self.disks(fault, at, long, dice, scene),
            Fault::Wipe | Fault::Rot | Fault::Misdirect | Fault::OldImage => {
                self.damage(fault, at, short, dice, scene, wanted)
            }
            Fault::ClockStep | Fault::ClockDrift => self.clocks(fault, at, long, dice, scene),
            Fault::Stranger => {
                let guise = match dice.below(3) {
                    0 => Guise::Elsewhere,
                    1 => Guise::Name(at),
                    _ => Guise::Address,
                };
                wanted.push(Wanted::Stranger(guise));
                // Shorter than the silence after which a name may be taken over.
                let leaves = now + dice.millis(1500, 6000);
                self.later(leaves, Undo::Stranger);
                if guise == Guise::Address {
                    scene.machines[0].die(Death::Killed);
                    self.later(leaves + dice.millis(0, 1000), Undo::Start(0));
                }
                Some(match guise {
                    Guise::Elsewhere => "of another cluster".to_owned(),
                    Guise::Name(at) => format!("as {}", scene.machines[at].name),
                    Guise::Address => format!("of another cluster, where {} was", scene.machines[0].name),
                })
            }
            Fault::Overload => {
                wanted.push(Wanted::Load(true));
                let end = now + dice.millis(2000, 6000);
                for at in 0..scene.machines.len() {
                    let pace = &scene.machines[at].pace;
                    pace.sync_ms_min.store(50, Ordering::Relaxed);
                    pace.sync_ms_max.store(dice.between(100, 600), Ordering::Relaxed);
                    self.later(end, Undo::Mend(at));
                }
                self.later(end, Undo::Load);
                Some(format!("until {end:?}"))
            }
            Fault::Configure if scene.machines[at].is_running() => {
                wanted.push(Wanted::Configure(at));
                Some(scene.machines[at].name.to_owned())
            }
            Fault::Configure => None,
        }
    }

    fn processes(
        &mut self,
        fault: Fault,
        at: usize,
        (short, long): (Duration, Duration),
        dice: &Dice,
        scene: &mut Scene<'_>,
    ) -> Option<String> {
        let now = scene.now;
        if fault == Fault::PowerAll {
            for (at, machine) in scene.machines.iter_mut().enumerate() {
                machine.die(Death::PowerLoss);
                self.later(now + dice.millis(100, 3000), Undo::Start(at));
            }
            return Some("all".to_owned());
        }
        let machine = &mut scene.machines[at];
        if !machine.is_running() {
            return None;
        }
        let mut note = machine.name.to_owned();
        match fault {
            Fault::Kill => {
                machine.die(Death::Killed);
                self.later(short, Undo::Start(at));
            }
            Fault::Power => {
                machine.die(Death::PowerLoss);
                self.later(long, Undo::Start(at));
            }
            Fault::Point => {
                let point = *dice.pick(POINTS);
                let death = if dice.chance(50) { Death::Killed } else { Death::PowerLoss };
                let passes = if dice.chance(60) { 0 } else { dice.below(20) };
                note = format!("{note} at {point}");
                let outside = machine.outside.clone();
                points::arm(Some(Armed { machine: at, point, passes, death, outside, seed: dice.next() }));
                self.later(now + Duration::from_secs(5), Undo::Disarm);
            }
            Fault::Pause => {
                let until = if dice.chance(15) { now + dice.millis(10_000, 180_000) } else { short };
                note = format!("{note} until {until:?}");
                machine.frozen_until = Some(until);
            }
            _ => {
                machine.order(Order::Stop);
                self.later(now + Duration::from_secs(12), Undo::Start(at));
            }
        }
        Some(note)
    }

    fn links(
        &mut self,
        fault: Fault,
        at: usize,
        long: Duration,
        dice: &Dice,
        scene: &mut Scene<'_>,
    ) -> Option<String> {
        let (machines, wires) = (&scene.machines, scene.wires);
        let other = (at + 1 + dice.below(machines.len() as u64 - 1) as usize) % machines.len();
        let (a, b) = (machines[at].outside.ip, machines[other].outside.ip);
        let others: Vec<IpAddr> =
            machines.iter().map(|machine| machine.outside.ip).filter(|ip| *ip != a).collect();
        let (who, whom) = (machines[at].name, machines[other].name);
        let cut = LinkState { cut: true, ..LinkState::default() };
        let mut set = |a: IpAddr, b: IpAddr, link| {
            set_both(wires, a, b, link);
            self.later(long, Undo::Link(a, b));
            self.later(long, Undo::Link(b, a));
        };
        Some(match fault {
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
                self.later(long, Undo::Link(a, b));
                format!("{who} to {whom}")
            }
            Fault::Flap => {
                self.later(scene.now, Undo::Flap { a, b, left: 2 * dice.between(1, 6), cut: true });
                format!("{who} and {whom}")
            }
            Fault::Latency => {
                let delay_min = dice.millis(5, 100);
                let delay_max = delay_min + dice.millis(0, 200);
                others.iter().for_each(|other| {
                    set(a, *other, LinkState { delay_min, delay_max, ..LinkState::default() })
                });
                format!("{who}, {delay_min:?} to {delay_max:?}")
            }
            Fault::Narrow => {
                let bytes_per_ms = dice.between(20, 400);
                others
                    .iter()
                    .for_each(|other| set(a, *other, LinkState { bytes_per_ms, ..LinkState::default() }));
                format!("{who}, {bytes_per_ms} bytes per ms")
            }
            Fault::Datagrams => {
                let (loss_percent, late_percent) = (dice.between(1, 60), dice.between(5, 50));
                set(
                    a,
                    b,
                    LinkState { loss_percent, double_percent: 20, late_percent, ..LinkState::default() },
                );
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

    fn disks(
        &mut self,
        fault: Fault,
        at: usize,
        long: Duration,
        dice: &Dice,
        scene: &mut Scene<'_>,
    ) -> Option<String> {
        let now = scene.now;
        let machine = &mut scene.machines[at];
        let outside = &machine.outside;
        let no_room = || Some(KvError::DiskFull("no space left on device".to_owned()));
        let broken = || Some(KvError::Io("input/output error".to_owned()));
        let mut note = machine.name.to_owned();
        match fault {
            Fault::SlowSync => {
                machine.pace.sync_ms_min.store(dice.between(5, 50), Ordering::Relaxed);
                machine.pace.sync_ms_max.store(dice.between(50, 300), Ordering::Relaxed);
            }
            Fault::Stall => {
                let until =
                    now + if dice.chance(50) { dice.millis(200, 900) } else { dice.millis(900, 8000) };
                machine.pace.stalled_until_ms.store(until.as_millis() as u64, Ordering::Relaxed);
                return Some(format!("{note} until {until:?}"));
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
                self.later(now + dice.millis(3000, 10_000), Undo::Replace(at));
            }
            _ => self.later(long, Undo::Mend(at)),
        }
        Some(note)
    }

    fn damage(
        &mut self,
        fault: Fault,
        at: usize,
        short: Duration,
        dice: &Dice,
        scene: &mut Scene<'_>,
        wanted: &mut Vec<Wanted>,
    ) -> Option<String> {
        let now = scene.now;
        if !(scene.whole)(scene.machines) {
            return None;
        }
        let machine = &mut scene.machines[at];
        let mut note = machine.name.to_owned();
        let replaced = now + dice.millis(5000, 12_000);
        match fault {
            Fault::Wipe => {
                machine.die(Death::PowerLoss);
                machine.hurt = Some(Hurt { until: short, wiped: true });
                wanted.push(Wanted::Wipe(at));
                return Some(note);
            }
            Fault::OldImage => {
                machine.take_image();
                let restored = now + dice.millis(300, 10_000);
                machine.hurt = Some(Hurt { until: restored + Duration::from_secs(5), wiped: false });
                self.later(restored, Undo::OldImage(at));
                return Some(format!("{note} at {restored:?}"));
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
        machine.hurt = Some(Hurt { until: replaced, wiped: false });
        if dice.chance(60) {
            // A node that is started again reads what it has.
            self.later(now + dice.millis(500, 4000), Undo::Replace(at));
        }
        self.later(replaced, Undo::Wipe(at));
        Some(note)
    }

    /// One wrong clock of three is the promise: two that agree are the cluster's time.
    fn clocks(
        &mut self,
        fault: Fault,
        at: usize,
        long: Duration,
        dice: &Dice,
        scene: &mut Scene<'_>,
    ) -> Option<String> {
        let right = |machine: &Machine| {
            machine.wall.offset_ms.load(Ordering::Relaxed) == 0
                && machine.wall.drift_ppm.load(Ordering::Relaxed) == 0
        };
        if !scene.machines.iter().enumerate().all(|(other, machine)| other == at || right(machine)) {
            return None;
        }
        let machine = &scene.machines[at];
        self.later(long, Undo::Clock(at));
        if fault == Fault::ClockStep {
            let steps = [-86_400_000, -60_000, -3000, -700, 700, 3000, 60_000, 86_400_000];
            let step = *dice.pick(&steps);
            machine.wall.offset_ms.store(step, Ordering::Relaxed);
            return Some(format!("{} by {step} ms", machine.name));
        }
        let drift = *dice.pick(&[-20_000, -500, 500, 20_000]);
        machine.wall.drift_ppm.store(drift, Ordering::Relaxed);
        Some(format!("{} by {drift} ppm", machine.name))
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
            Undo::Flap { left: 0, a, b, .. } => set_both(wires, a, b, LinkState::default()),
            Undo::Flap { .. } if all => {}
            Undo::Flap { a, b, left, cut } => {
                set_both(wires, a, b, LinkState { cut, ..LinkState::default() });
                let at = scene.now + self.flap_pause();
                self.later(at, Undo::Flap { a, b, left: left - 1, cut: !cut });
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
