//! Whether this node can answer, judged from what raft sees, which is cheap, and from reads that this node asks for
//! itself: it is up to date as of a question to which it got the read indexes of all its shards, and had applied them.
//!
//! ```text
//!  look, every 0.5 s ─▶ quorum, leaders, snapshots ─┐
//!  ask, every second ─▶ up to date as of ───────────┴─▶ ready?  how old may a stale answer be?
//!                           └─▶ current.json, every minute: known after a restart, too
//! ```
//!
//! What is ready answers: a node that receives a snapshot, or was away, or does not keep up with its log is not, until
//! such a read succeeds. A short election, or a moment of load, takes no readiness away.

use super::Node;
use model::{Clock, ShardId, TimestampMs};
use raft::GroupRole;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::time::sleep;

/// The file that remembers when this node was up to date.
const REMEMBERED: &str = "current.json";
/// Between two writes of it.
const REMEMBER_INTERVAL: Duration = Duration::from_secs(60);

/// Between two looks.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// A peer that was silent for so long is not heard.
const SILENCE_MAX: Duration = Duration::from_secs(2);
/// Patience for an election before the node says that it is not ready.
const ELECTION_PATIENCE: Duration = Duration::from_secs(5);
/// Between two questions whether this node is up to date.
const ASK_INTERVAL: Duration = Duration::from_secs(1);
/// Pause after one that found it behind.
const AGAIN_PAUSE: Duration = Duration::from_millis(100);
/// How long such a question waits at most; a default query may have less time.
const ASK_PATIENCE_MAX: Duration = Duration::from_secs(2);
/// A node that was up to date so recently counts as up to date.
const CURRENT_MAX: Duration = Duration::from_secs(2);
/// Patience with a node that is not up to date: that for an election, which is in the way of reads, and the time
/// between two questions before and after it.
const BEHIND_PATIENCE: Duration = Duration::from_secs(7);

#[derive(Debug, Default)]
struct Seen {
    /// When each shard was last seen to have a leader with a majority, on the monotonic clock.
    led: BTreeMap<ShardId, Duration>,
    /// Whether a majority of meta's voters is heard.
    quorum: bool,
    /// What is wrong with this node itself.
    trouble: Option<String>,
    /// A shard whose snapshot is being received.
    receiving: Option<ShardId>,
    /// As of when this node was last known to be up to date, since the process began.
    current: Option<Duration>,
    /// Why the last question found that it is not.
    behind: Option<String>,
    /// When the process before was last known to be up to date, on the wall clock.
    current_before: Option<TimestampMs>,
}

impl Seen {
    /// For how long this node has not been known to be up to date, and why; no time if it never was since the process
    /// began, and nothing if it is up to date as far as can be told.
    fn behind(&self, now: Duration) -> Option<(Option<Duration>, String)> {
        let age = self.current.map(|at| now.saturating_sub(at));
        if self.behind.is_none() && age.is_some_and(|age| age <= CURRENT_MAX) {
            return None;
        }
        let why = self.behind.clone().unwrap_or_else(|| "not read up to date yet".to_owned());
        Some((age, why))
    }
}

/// What is remembered over a restart.
#[derive(Debug, Serialize, Deserialize)]
struct Remembered {
    version: u8,
    /// When this node was up to date, milliseconds since the epoch.
    at: i64,
}

/// What the last look saw.
#[derive(Debug)]
pub(crate) struct Health {
    clock: Arc<dyn Clock>,
    open: AtomicBool,
    /// The disk failed: until a restart.
    down: AtomicBool,
    seen: Mutex<Seen>,
}

impl Health {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Health {
        Health { clock, open: AtomicBool::new(false), down: AtomicBool::new(false), seen: Mutex::default() }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All data shards are open.
    pub(crate) fn shards_open(&self) {
        self.open.store(true, Ordering::Release);
    }

    pub(crate) fn are_shards_open(&self) -> bool {
        self.open.load(Ordering::Acquire)
    }

    /// What is wrong with this node itself, from now on.
    pub(crate) fn set_trouble(&self, trouble: Option<String>) {
        self.seen().trouble = trouble;
    }

    /// What is wrong with this node itself.
    pub(crate) fn trouble(&self) -> Option<String> {
        self.seen().trouble.clone()
    }

    /// The disk failed.
    pub(crate) fn set_down(&self) {
        self.down.store(true, Ordering::Release);
    }

    pub(crate) fn is_down(&self) -> bool {
        self.down.load(Ordering::Acquire)
    }

    /// For how long some shard has had no leader with a majority.
    pub(crate) fn leaderless_for(&self) -> Duration {
        let seen = self.seen();
        let now = self.clock.monotonic();
        seen.led.values().map(|at| now.saturating_sub(*at)).max().unwrap_or_default()
    }

    /// Why a default query cannot be answered; `None` if it can.
    pub(crate) fn not_ready(&self) -> Option<String> {
        if let Some(trouble) = self.trouble() {
            return Some(trouble);
        }
        if !self.are_shards_open() {
            return Some("this node is starting, or is not yet a member of its cluster".to_owned());
        }
        let seen = self.seen();
        if !seen.quorum {
            return Some("no quorum: fewer than a majority of the nodes are heard".to_owned());
        }
        let now = self.clock.monotonic();
        let late = seen.led.iter().find(|(_, at)| now.saturating_sub(**at) > ELECTION_PATIENCE);
        if let Some((shard, _)) = late {
            let seconds = ELECTION_PATIENCE.as_secs();
            return Some(format!("shard {shard} has had no leader for more than {seconds} s"));
        }
        let (age, why) = seen.behind(now)?;
        if let Some(shard) = seen.receiving {
            return Some(format!("this node is receiving a snapshot of shard {shard}"));
        }
        (age.is_none_or(|age| age > BEHIND_PATIENCE)).then(|| format!("this node is not up to date: {why}"))
    }

    /// A warning for stale answers; `None` if they are fresh as far as can be told. `wall` is the wall clock's time.
    pub(crate) fn staleness(&self, wall: TimestampMs) -> Option<String> {
        let seen = self.seen();
        let (age, why) = seen.behind(self.clock.monotonic())?;
        let before = seen.current_before.filter(|at| *at <= wall).map(|at| Duration::from(wall.since(at)));
        Some(match age.or(before) {
            Some(age) => format!(
                "answer may be stale: this node was last known to be up to date {:.1} s ago ({why})",
                age.as_secs_f64()
            ),
            None => {
                format!("answer may be stale: it is not known when this node was last up to date ({why})")
            }
        })
    }

    /// This node was up to date as of `asked`, on the monotonic clock, or was not, because of this.
    fn told(&self, asked: Duration, outcome: Result<(), String>) {
        let mut seen = self.seen();
        match outcome {
            Ok(()) => (seen.current, seen.behind) = (Some(asked), None),
            Err(why) => seen.behind = Some(why),
        }
    }
}

/// Puts down that this node was up to date at a time, beside everything else: a disk that stalls holds up no answer.
/// Nothing if the `last` time is being put down still.
fn remember(node: &Arc<Node>, at: TimestampMs, last: &Arc<AtomicBool>) {
    if last.swap(true, Ordering::Acquire) {
        return;
    }
    let (fs, spawner) = (node.ports.fs.clone(), node.ports.spawner.clone());
    let (file, last) = (node.options.data.join(REMEMBERED), last.clone());
    let bytes = serde_json::to_vec(&Remembered { version: 1, at: at.0 }).expect("numbers are JSON");
    let work = move || {
        if let Err(error) = fs.replace(&file, &bytes) {
            tracing::debug!(%error, "when this node was up to date is not remembered");
        }
        last.store(false, Ordering::Release);
    };
    let task = spawner.blocking("remember", Box::new(work));
    spawner.spawn("remember", task);
}

/// Asks from time to time whether this node is up to date, as a default query does. All shards have to be open.
pub(crate) async fn ask(node: Arc<Node>) {
    let (clock, fs) = (&node.ports.clock, &node.ports.fs);
    let file = node.options.data.join(REMEMBERED);
    let remembered = fs.read(&file).ok().and_then(|bytes| serde_json::from_slice::<Remembered>(&bytes).ok());
    let known = remembered.filter(|remembered| remembered.version == 1);
    node.health.seen().current_before = known.map(|remembered| TimestampMs(remembered.at));
    let mut remember_next = Duration::ZERO;
    let remembering = Arc::new(AtomicBool::new(false));
    let patience = node.options.query_consistency_timeout.min(ASK_PATIENCE_MAX);
    while !node.has_ended() {
        let (asked, at) = (clock.monotonic(), clock.now());
        let shards = node.raft.shards();
        let read = match shards.is_empty() {
            true => Err("this node hosts no shard any more".to_owned()),
            false => node.raft.read_index(&shards, patience).await.map_err(|error| error.to_string()),
        };
        let is_current = read.is_ok();
        node.health.told(asked, read.map(drop));
        if !is_current {
            sleep(AGAIN_PAUSE).await;
            continue;
        }
        if asked >= remember_next {
            remember_next = asked + REMEMBER_INTERVAL;
            remember(&node, at, &remembering);
        }
        sleep(ASK_INTERVAL).await;
    }
}

/// Looks from time to time.
pub(crate) async fn run(node: Arc<Node>) {
    loop {
        look(&node);
        sleep(LOOK_INTERVAL).await;
    }
}

fn look(node: &Node) {
    let us = node.id();
    let silence = node.raft.silence();
    let heard =
        |id| id == us || silence.get(&id).copied().flatten().is_some_and(|silent| silent < SILENCE_MAX);
    let now = node.ports.clock.monotonic();
    let receiving = node.raft.snapshot_progress().into_keys().next();
    let mut seen = node.health.seen();
    seen.receiving = receiving;
    for shard in node.raft.shards() {
        let Some(status) = node.raft.status(shard) else { continue };
        if shard == ShardId::META {
            let voices = status.voters.iter().filter(|id| heard(**id)).count();
            seen.quorum = voices * 2 > status.voters.len();
        }
        let age = || node.raft.progress(shard).and_then(|progress| progress.quorum_age_ms);
        let led = match (status.role, status.leader) {
            (GroupRole::Leader, _) => {
                status.voters.len() == 1 || age().is_some_and(|ms| u128::from(ms) < SILENCE_MAX.as_millis())
            }
            (_, Some(leader)) => leader != us && heard(leader),
            (_, None) => false,
        };
        if led {
            seen.led.insert(shard, now);
        } else {
            seen.led.entry(shard).or_insert(Duration::ZERO);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU64;

    /// Time as a test sets it, in seconds.
    #[derive(Debug, Default)]
    struct HandClock(AtomicU64);

    impl Clock for HandClock {
        fn now(&self) -> TimestampMs {
            TimestampMs(0)
        }
        fn monotonic(&self) -> Duration {
            Duration::from_secs(self.0.load(Ordering::Relaxed))
        }
    }

    /// A node all of whose shards are open and led, 100 s after its start.
    fn led() -> (Arc<HandClock>, Health) {
        let clock = Arc::new(HandClock::default());
        let health = Health::new(clock.clone());
        health.shards_open();
        pass(&clock, &health, 100);
        (clock, health)
    }

    /// Seconds pass in which there are leaders.
    fn pass(clock: &HandClock, health: &Health, seconds: u64) {
        clock.0.fetch_add(seconds, Ordering::Relaxed);
        let mut seen = health.seen();
        seen.quorum = true;
        seen.led.insert(ShardId(1), clock.monotonic());
    }

    fn behind() -> Result<(), String> {
        Err("shard 1 lags".to_owned())
    }

    const WALL: TimestampMs = TimestampMs(1_000_000);

    #[test]
    fn a_node_with_leaders_is_not_ready_before_it_was_up_to_date_once() {
        let (clock, health) = led();
        assert_eq!(health.not_ready().unwrap(), "this node is not up to date: not read up to date yet");
        health.told(clock.monotonic(), behind());
        assert_eq!(health.not_ready().unwrap(), "this node is not up to date: shard 1 lags");
        health.told(clock.monotonic(), Ok(()));
        assert_eq!(health.not_ready(), None);
    }

    #[test]
    fn an_election_or_a_moment_of_load_takes_no_readiness_away() {
        let (clock, health) = led();
        health.told(clock.monotonic(), Ok(()));
        pass(&clock, &health, 7);
        health.told(clock.monotonic(), behind());
        assert_eq!(health.not_ready(), None);
        pass(&clock, &health, 1);
        assert!(health.not_ready().is_some(), "it lags for longer");
        health.told(clock.monotonic(), Ok(()));
        assert_eq!(health.not_ready(), None);
    }

    #[test]
    fn a_node_that_was_away_is_not_ready_at_once() {
        let (clock, health) = led();
        health.told(clock.monotonic(), Ok(()));
        pass(&clock, &health, 3_600);
        assert!(health.not_ready().is_some());
    }

    #[test]
    fn a_node_that_receives_a_snapshot_it_needs_is_not_ready() {
        let (clock, health) = led();
        health.told(clock.monotonic(), Ok(()));
        health.seen().receiving = Some(ShardId(3));
        assert_eq!(health.not_ready(), None, "it has caught up otherwise");
        health.told(clock.monotonic(), behind());
        assert_eq!(health.not_ready().unwrap(), "this node is receiving a snapshot of shard 3");
    }

    #[test]
    fn a_stale_answer_of_a_node_that_lags_says_since_when() {
        let (clock, health) = led();
        health.told(clock.monotonic(), Ok(()));
        pass(&clock, &health, 1);
        assert_eq!(health.staleness(WALL), None);
        pass(&clock, &health, 8);
        health.told(clock.monotonic(), behind());
        assert_eq!(
            health.staleness(WALL).unwrap(),
            "answer may be stale: this node was last known to be up to date 9.0 s ago (shard 1 lags)"
        );
    }

    #[test]
    fn a_stale_answer_after_a_restart_counts_from_before_it_or_says_that_nothing_is_known() {
        let (_, health) = led();
        let warning = health.staleness(WALL).unwrap();
        assert!(warning.contains("it is not known when this node was last up to date"), "{warning}");
        health.seen().current_before = Some(TimestampMs(WALL.0 - 600_000));
        let warning = health.staleness(WALL).unwrap();
        assert!(warning.contains("up to date 600.0 s ago"), "{warning}");
        health.seen().current_before = Some(TimestampMs(WALL.0 + 1));
        let warning = health.staleness(WALL).unwrap();
        assert!(warning.contains("it is not known"), "a clock that was set back: {warning}");
    }
}
