//! Whether this node can answer, judged from what raft sees: cheap, and asked all the time.

use super::Node;
use model::{Clock, ShardId};
use raft::GroupRole;
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::time::sleep;

/// Between two looks.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// A peer that was silent for so long is not heard.
const SILENCE_MAX: Duration = Duration::from_secs(2);
/// Patience for an election before the node says that it is not ready.
const ELECTION_PATIENCE: Duration = Duration::from_secs(5);

#[derive(Debug, Default)]
struct Seen {
    /// When each shard was last seen to have a leader with a majority, on the monotonic clock.
    led: BTreeMap<ShardId, Duration>,
    /// Whether a majority of meta's voters is heard.
    quorum: bool,
    /// What is wrong with this node itself.
    trouble: Option<String>,
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
        late.map(|(shard, _)| {
            format!("shard {shard} has had no leader for more than {} s", ELECTION_PATIENCE.as_secs())
        })
    }

    /// A warning for stale answers; `None` if they are fresh as far as can be told.
    pub(crate) fn staleness(&self) -> Option<String> {
        let seen = self.seen();
        let now = self.clock.monotonic();
        let (shard, at) = seen.led.iter().min_by_key(|(_, at)| **at)?;
        let age = now.saturating_sub(*at);
        (age > LOOK_INTERVAL * 2).then(|| {
            format!(
                "answer may be stale: shard {shard} has had no leader with a majority for {:.1} s",
                age.as_secs_f64()
            )
        })
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
    let mut seen = node.health.seen();
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
