//! The ports of one simulated process, besides its network and disk.

use crate::dice::Dice;
use model::{BoxFuture, Clock, Rng, Spawner, TimestampMs};
use node::outside::{DirectoryLock, Host, Order, ProcessFigures};
use std::{
    io,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{sync::mpsc, time::Instant};

/// Where the monotonic clock of a process begins.
const MONOTONIC_BASE: Duration = Duration::from_secs(1000);

/// A machine's clocks. The wall clock can be set and can drift; the monotonic one follows the timers.
#[derive(Debug)]
pub struct SimClock {
    /// When the process began, world time.
    began: Duration,
    /// The timers' clock at that moment.
    base: Instant,
    wall: Arc<WallClock>,
}

/// What is wrong with a machine's wall clock; outlives the process.
#[derive(Debug, Default)]
pub struct WallClock {
    /// Milliseconds that it is ahead.
    pub offset_ms: AtomicI64,
    /// Microseconds that it gains per second.
    pub drift_ppm: AtomicI64,
}

impl WallClock {
    /// What it shows at world time `world`.
    #[must_use]
    pub fn at(&self, world: Duration) -> TimestampMs {
        let world = world.as_millis() as i64;
        let drift = world * self.drift_ppm.load(Ordering::Relaxed) / 1_000_000;
        TimestampMs(crate::entropy::EPOCH_MS + world + drift + self.offset_ms.load(Ordering::Relaxed))
    }
}

impl SimClock {
    /// The clocks of a process that begins at `began`; to be made within its runtime.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "tokio's paused clock is the simulated one")]
    pub fn new(began: Duration, wall: Arc<WallClock>) -> SimClock {
        SimClock { began, base: Instant::now(), wall }
    }

    fn world(&self) -> Duration {
        self.began + self.base.elapsed()
    }
}

impl Clock for SimClock {
    fn now(&self) -> TimestampMs {
        self.wall.at(self.world())
    }

    fn monotonic(&self) -> Duration {
        MONOTONIC_BASE + self.world()
    }
}

/// The random source of a process.
#[derive(Debug)]
pub struct SimRng(Mutex<Dice>);

impl SimRng {
    /// Draws from `dice`.
    #[must_use]
    pub fn new(dice: Dice) -> SimRng {
        SimRng(Mutex::new(dice))
    }
}

impl Rng for SimRng {
    fn next_u64(&self) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).next()
    }
}

/// How slow a machine's disk is; outlives the process.
#[derive(Debug)]
pub struct DiskPace {
    /// A sync takes at least so many milliseconds.
    pub sync_ms_min: AtomicU64,
    /// And at most so many.
    pub sync_ms_max: AtomicU64,
    /// World time in milliseconds until which nothing is written.
    pub stalled_until_ms: AtomicU64,
    /// World time in milliseconds at which somebody last waited because of that.
    pub waited_ms: AtomicU64,
}

impl Default for DiskPace {
    fn default() -> Self {
        DiskPace {
            sync_ms_min: AtomicU64::new(1),
            sync_ms_max: AtomicU64::new(3),
            stalled_until_ms: AtomicU64::new(0),
            waited_ms: AtomicU64::new(0),
        }
    }
}

impl DiskPace {
    /// Whether at world time `now` somebody waits, or did a moment ago, because nothing is written.
    #[must_use]
    pub fn holds_up(&self, now: Duration) -> bool {
        let waited = self.waited_ms.load(Ordering::Relaxed);
        waited > 0 && now.as_millis() as u64 <= waited + 2 * STALL_LOOK.as_millis() as u64
    }
}

/// Between two looks whether a stalled disk works again.
const STALL_LOOK: Duration = Duration::from_millis(100);
/// Blocking work that waits for the disk.
const DISK_WORK: [&str; 2] = ["log", "checkpoint"];

/// Tasks on the process's runtime; no threads; blocking work runs inline, that of the log and checkpoints after the time
/// that the disk takes.
#[derive(Debug)]
pub struct SimSpawner {
    dice: Mutex<Dice>,
    pace: Arc<DiskPace>,
    clock: Arc<SimClock>,
}

impl SimSpawner {
    /// Spawns on the runtime it is called from.
    #[must_use]
    pub fn new(dice: Dice, pace: Arc<DiskPace>, clock: Arc<SimClock>) -> SimSpawner {
        SimSpawner { dice: Mutex::new(dice), pace, clock }
    }
}

impl Spawner for SimSpawner {
    fn spawn(&self, _: &'static str, task: BoxFuture<'static, ()>) {
        drop(tokio::spawn(task));
    }

    fn blocking(&self, name: &'static str, work: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, ()> {
        let min = self.pace.sync_ms_min.load(Ordering::Relaxed);
        let max = self.pace.sync_ms_max.load(Ordering::Relaxed).max(min);
        let takes = self.dice.lock().unwrap_or_else(PoisonError::into_inner).between(min, max);
        let (clock, pace) = (self.clock.clone(), self.pace.clone());
        Box::pin(async move {
            if DISK_WORK.contains(&name) {
                loop {
                    let now = clock.world().as_millis() as u64;
                    let stall = pace.stalled_until_ms.load(Ordering::Relaxed).saturating_sub(now);
                    if stall == 0 {
                        break;
                    }
                    pace.waited_ms.store(now, Ordering::Relaxed);
                    tokio::time::sleep(STALL_LOOK.min(Duration::from_millis(stall))).await;
                }
                tokio::time::sleep(Duration::from_millis(takes)).await;
            }
            work();
        })
    }

    fn thread(&self, _: &'static str, _: Box<dyn FnOnce() + Send>) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// The process around a simulated node.
#[derive(Debug)]
pub struct SimHost {
    name: String,
    orders: Mutex<Option<mpsc::Receiver<Order>>>,
    ended: Ended,
}

/// How a process came to its end, once it has.
pub type Ended = Arc<Mutex<Option<Result<(), String>>>>;

impl SimHost {
    /// A process on the host `name` that tells its end to `ended`, and where its orders go in.
    #[must_use]
    pub fn new(name: &str, ended: Ended) -> (SimHost, mpsc::Sender<Order>) {
        let (told, orders) = mpsc::channel(8);
        (SimHost { name: name.to_owned(), orders: Mutex::new(Some(orders)), ended }, told)
    }
}

impl Host for SimHost {
    /// A machine runs one process at a time here.
    fn lock<'a>(&'a self, _: &'a Path) -> BoxFuture<'a, anyhow::Result<DirectoryLock>> {
        Box::pin(async { Ok(DirectoryLock::new(Box::new(()))) })
    }

    fn process_id(&self) -> u32 {
        1
    }

    fn name(&self) -> io::Result<String> {
        Ok(self.name.clone())
    }

    fn working_directory(&self) -> String {
        "/".to_owned()
    }

    fn figures(&self) -> Option<ProcessFigures> {
        None
    }

    fn orders(&self) -> io::Result<mpsc::Receiver<Order>> {
        let taken = self.orders.lock().unwrap_or_else(PoisonError::into_inner).take();
        taken.ok_or_else(|| io::Error::other("orders are given out once"))
    }

    fn abort(&self, reason: &str) {
        *self.ended.lock().unwrap_or_else(PoisonError::into_inner) = Some(Err(reason.to_owned()));
    }
}
