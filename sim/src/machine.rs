//! One simulated machine: a disk, clocks, and at times a process on it, which is a whole node on a runtime of its own.
//!
//! A process is killed by cutting its outside off (files, stores, sockets) at one instant and dropping its runtime. That
//! is between two milliseconds, when every task waits for something; at a named point the same happens in the middle of
//! synchronous code, and what runs on until the step's end runs into nothing.

use crate::{
    dice::Dice,
    net::{SimNet, Wires},
    ports::{DiskPace, Ended, SimClock, SimHost, SimRng, SimSpawner, WallClock},
    trace,
};
use anyhow::Context;
use model::{Fs, OpenOptions};
use node::{NodePorts, Probe, ServeOptions, Tuning, outside::Order};
use std::{
    cell::Cell,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, atomic::Ordering},
    time::Duration,
};
use storage::{
    kv::MemDisk,
    log::testing::{DiskLosses, MemFs, damage_in},
};
use tokio::{runtime::Runtime, sync::mpsc, time::Instant};

/// Where a node finds its configuration.
pub const CONFIG_FILE: &str = "/etc/prometheus.yml";
/// Where a node keeps its data.
pub const DATA_DIR: &str = "/data";

/// Where a node keeps its log.
#[must_use]
pub fn log_dir() -> PathBuf {
    Path::new(DATA_DIR).join("log")
}

/// How a process comes to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Death {
    /// Killed: files stay as they are, connections are reset.
    Killed,
    /// The machine loses power: what was not synced is gone or torn, and nobody is told.
    PowerLoss,
}

/// What of a machine can be reached while its process runs.
#[derive(Clone, Debug)]
pub struct Outside {
    /// Its files.
    pub fs: MemFs,
    /// Its databases.
    pub kv: MemDisk,
    /// Its network.
    pub wires: Wires,
    /// Its address.
    pub ip: IpAddr,
}

impl Outside {
    /// Takes everything away from the process at this instant.
    pub fn take_away(&self, death: Death, seed: u64) {
        let dice = Dice::new(seed, "death");
        match death {
            Death::Killed => self.fs.crash(),
            Death::PowerLoss => self.fs.power_loss(dice.next()),
        }
        // There is no log before the stores: a process that dies takes what they had in memory with it.
        self.kv.crash(&|unflushed| dice.below(unflushed as u64 + 1) as usize);
        self.wires.end(self.ip, death == Death::PowerLoss);
    }
}

/// A node that runs.
struct Process {
    runtime: Runtime,
    began: Duration,
    base: Instant,
    probe: Arc<Mutex<Option<Probe>>>,
    ended: Ended,
    orders: mpsc::Sender<Order>,
}

/// What is known of a disk that cannot be relied on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hurt {
    /// The machine counts as hurt at least until then, and until the cluster is whole.
    pub until: Duration,
    /// Whether it has had an empty disk since.
    pub wiped: bool,
}

/// One machine.
pub struct Machine {
    /// Its node's name.
    pub name: &'static str,
    /// What can be reached of it.
    pub outside: Outside,
    /// Its wall clock.
    pub wall: Arc<WallClock>,
    /// Its disk's speed.
    pub pace: Arc<DiskPace>,
    /// Stopped by SIGSTOP until then.
    pub frozen_until: Option<Duration>,
    /// Set while its disk holds something false, or lacks what it had.
    pub hurt: Option<Hurt>,
    /// What in its log was not as it was written when its node started last.
    pub damage: Option<String>,
    /// What its disk was at some time.
    image: Option<(MemFs, MemDisk)>,
    losses_before: DiskLosses,
    /// Flags of its node.
    pub flags: Vec<String>,
    /// Intervals of its node.
    pub tuning: Tuning,
    process: Option<Process>,
    /// Somebody told the process to stop.
    stop_ordered: Cell<bool>,
    /// Disks that were replaced by an empty one.
    pub disks_lost: u64,
    starts: u64,
    seed: u64,
}

impl std::fmt::Debug for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Machine").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Writes a file and the directories above it, durably.
pub fn put_file(fs: &MemFs, path: &Path, text: &str) -> anyhow::Result<()> {
    let dir = path.parent().unwrap_or(Path::new("/"));
    fs.create_dir_all(dir)?;
    let options = OpenOptions { write: true, create: true, truncate: true, exclusive: false };
    let file = fs.open(path, options)?;
    file.write_all_at(text.as_bytes(), 0)?;
    file.sync()?;
    fs.sync_dir(dir)?;
    Ok(())
}

impl Machine {
    /// A machine with an empty disk.
    #[must_use]
    pub fn new(name: &'static str, ip: IpAddr, wires: &Wires, flags: Vec<String>, seed: u64) -> Machine {
        let outside = Outside { fs: MemFs::default(), kv: MemDisk::new(), wires: wires.clone(), ip };
        Machine {
            name,
            outside,
            wall: Arc::default(),
            pace: Arc::default(),
            frozen_until: None,
            hurt: None,
            damage: None,
            image: None,
            losses_before: DiskLosses::default(),
            flags,
            tuning: Tuning::default(),
            process: None,
            stop_ordered: Cell::new(false),
            disks_lost: 0,
            starts: 0,
            seed,
        }
    }

    /// What is damaged in its log now, read or not.
    #[must_use]
    pub fn log_damage(&self) -> Option<String> {
        damage_in(&self.outside.fs, &log_dir())
    }

    /// Whether a process runs.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.process.is_some()
    }

    /// A look into the node; `None` while there is none.
    #[must_use]
    pub fn probe(&self) -> Option<Probe> {
        let process = self.process.as_ref()?;
        process.probe.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Starts a node at world time `now`.
    ///
    /// # Errors
    /// If its flags are wrong.
    #[expect(clippy::disallowed_methods, reason = "tokio's paused clock is the simulated one")]
    pub fn start(&mut self, now: Duration) -> anyhow::Result<()> {
        self.starts += 1;
        self.frozen_until = None;
        self.stop_ordered.set(false);
        // What a process that died at a named point still opened in that millisecond.
        self.outside.kv.crash(&|_| 0);
        self.damage = self.log_damage();
        let options = ServeOptions::from_flags(&self.flags).context("the world's flags")?;
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()?;
        let dice = |purpose: &str| Dice::new(self.seed, &format!("{} {} {purpose}", self.name, self.starts));
        let Outside { fs, kv, wires, ip } = self.outside.clone();
        wires.begin(ip);
        let base = runtime.block_on(async { Instant::now() });
        let clock = runtime.block_on(async { Arc::new(SimClock::new(now, self.wall.clone())) });
        let ended = Ended::default();
        let (host, orders) = SimHost::new(self.name, ended.clone());
        let ports = NodePorts {
            clock: clock.clone(),
            rng: Arc::new(SimRng::new(dice("rng"))),
            fs: Arc::new(fs),
            net: Arc::new(SimNet::new(&wires, ip)),
            spawner: Arc::new(SimSpawner::new(dice("disk"), self.pace.clone(), clock)),
            kv: Arc::new(kv),
            host: Arc::new(host),
            threading: node::Threading::Inline,
            web: None,
            tuning: self.tuning,
        };
        let probe = Arc::new(Mutex::new(None));
        let (born, end) = (probe.clone(), ended.clone());
        runtime.spawn(async move {
            let tell = move |probe| *born.lock().unwrap_or_else(PoisonError::into_inner) = Some(probe);
            let result = node::serve(ports, options, tell).await;
            let result = result.map(drop).map_err(|error| format!("{error:#}"));
            *end.lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
        });
        self.process = Some(Process { runtime, began: now, base, probe, ended, orders });
        Ok(())
    }

    /// Lets the process run up to world time `to`. Yields how it ended, if it did.
    #[expect(clippy::disallowed_methods, reason = "tokio's paused clock is the simulated one")]
    pub fn step(&mut self, to: Duration) -> Option<Result<(), String>> {
        if self.frozen_until.is_some_and(|until| to < until) {
            return None;
        }
        let was_frozen = self.frozen_until.take().is_some();
        let process = self.process.as_ref()?;
        let before = trace::speak_as(self.name);
        model::points::set_wall_clock(self.wall.at(to));
        let target = process.base + (to - process.began);
        process.runtime.block_on(async {
            if was_frozen {
                // As after SIGCONT: everything that fell due is due at once.
                tokio::time::advance(target.saturating_duration_since(Instant::now())).await;
            }
            tokio::time::sleep_until(target).await;
        });
        let ended = process.ended.lock().unwrap_or_else(PoisonError::into_inner).take();
        trace::speak_as(before);
        if ended.is_some() {
            self.outside.take_away(Death::Killed, self.seed ^ self.starts);
            self.bury();
        }
        ended
    }

    /// Ends the process at this instant.
    pub fn die(&mut self, death: Death) {
        if self.process.is_some() {
            self.outside.take_away(death, self.seed ^ self.starts);
            self.bury();
        }
    }

    /// Drops a process whose outside was taken away.
    pub fn bury(&mut self) {
        let before = trace::speak_as(self.name);
        drop(self.process.take());
        trace::speak_as(before);
        self.frozen_until = None;
    }

    /// Gives the process an order.
    pub fn order(&self, order: Order) {
        if let Some(process) = &self.process {
            self.stop_ordered.set(self.stop_ordered.get() || matches!(order, Order::Stop));
            let _dying_anyway = process.orders.try_send(order);
        }
    }

    /// Whether somebody told the process to stop that runs, or ran last.
    #[must_use]
    pub fn is_stop_ordered(&self) -> bool {
        self.stop_ordered.get()
    }

    /// What power losses took from the disks it had.
    #[must_use]
    pub fn losses(&self) -> DiskLosses {
        let (before, now) = (self.losses_before, self.outside.fs.losses());
        DiskLosses {
            lost: before.lost + now.lost,
            torn: before.torn + now.torn,
            names: before.names + now.names,
        }
    }

    /// Puts an empty disk in, with the configuration file that was there.
    ///
    /// # Errors
    /// Of the disk in memory.
    pub fn wipe(&mut self) -> anyhow::Result<()> {
        let config = self.outside.fs.read(Path::new(CONFIG_FILE)).ok();
        self.losses_before = self.losses();
        self.disks_lost += 1;
        self.outside.fs = MemFs::default();
        self.outside.kv = MemDisk::new();
        if let Some(config) = config {
            put_file(&self.outside.fs, Path::new(CONFIG_FILE), &String::from_utf8_lossy(&config))?;
        }
        Ok(())
    }

    /// Keeps what the disk is now, as a snapshot of a virtual machine does.
    pub fn take_image(&mut self) {
        self.image = Some((self.outside.fs.fork(), self.outside.kv.fork()));
    }

    /// Puts the image into the machine; its process must be dead.
    pub fn restore_image(&mut self) {
        if let Some((fs, kv)) = self.image.take() {
            self.losses_before = self.losses();
            (self.outside.fs, self.outside.kv) = (fs, kv);
        }
    }

    /// The disk is healthy again.
    pub fn mend_disk(&self) {
        self.outside.fs.set_capacity(None);
        self.outside.fs.fail_syncs(0);
        self.outside.fs.fail_calls(&[], 0);
        self.outside.kv.set_fault(None);
        self.outside.kv.set_read_fault(None);
        let fresh = DiskPace::default();
        let copy = |to: &std::sync::atomic::AtomicU64, from: &std::sync::atomic::AtomicU64| {
            to.store(from.load(Ordering::Relaxed), Ordering::Relaxed);
        };
        copy(&self.pace.sync_ms_min, &fresh.sync_ms_min);
        copy(&self.pace.sync_ms_max, &fresh.sync_ms_max);
        copy(&self.pace.stalled_until_ms, &fresh.stalled_until_ms);
    }
}
