//! Whether this node is fit to lead, and what follows if it is not.
//!
//! ```text
//!  clock more than 5 s off ─┐
//!  no room on the disk ─────┤
//!  disk hangs, 1 s ─────────┴─▶ unfit: takes no leadership, hands over what it leads   until it is fit again
//!  disk failed ───────────────▶ down: hands over, ends all groups                      until it is restarted
//!  disk hangs, 20 s ──────────▶ the process ends                                       until it is started again
//! ```
//!
//! Whether a disk hangs says the log's sync alone: some bytes, asked for all the time. A checkpoint may rightly take
//! long, and holds up its own shard only. A node whose disk hangs goes on sending heartbeats, so nobody else notices;
//! it acknowledges through the others for a while, until what waits for the disk is more than it can hold.
//!
//! Scrapes go by [duty time](super::duty_clock), so a clock that is off is a precaution; a full disk acknowledges nothing.
//! These end by themselves, and count for nothing while a shard has had no leader for long.
//! After a failed sync nobody knows what is on the disk but who reads it again: a restart.

use super::Node;
use model::{NodeId, ShardId};
use raft::{CLOCK_OFF_MS, DiskTrouble, GroupRole};
use std::{collections::BTreeSet, sync::Arc, time::Duration};
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};

/// Between two looks.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// So much of the time between two looks counts: of a process that was stopped in between nobody knows the rest.
const LOOK_COUNTED_MAX: Duration = Duration::from_millis(750);
/// Between two attempts to hand over.
const HAND_OVER_INTERVAL: Duration = Duration::from_secs(2);
/// Beyond this the node warns, milliseconds.
const WARN_MS: u64 = 1_000;
/// A shard without a leader for so long takes one that is not fit: one whose clock is off is better than none, and one
/// without room can still hand over what others lack.
const LEADERLESS_MAX: Duration = Duration::from_secs(30);
/// A sync of the log that takes so long makes the node unfit. The look before, and the handover, come on top.
const HANG_UNFIT: Duration = Duration::from_secs(1);
/// It is fit again when no sync has taken so long for a while: a disk that hangs in turns hands nothing over in turns.
const HANG_QUIET: Duration = Duration::from_secs(10);
/// After so long the process ends. A node alone waits: nobody goes on without it.
const HANG_MAX: Duration = Duration::from_secs(20);
/// Patience with a handover.
const HAND_OVER_PATIENCE: Duration = Duration::from_secs(2);

/// Watches this node's clock and disk.
pub(super) async fn run(node: Arc<Node>) {
    let abstains = watch::Sender::new(false);
    let asked = abstains.subscribe();
    // Side by side: what is handed over takes seconds where the others are slow, too.
    tokio::select! {
        () = watch(&node, &abstains) => {}
        () = give_up(&node, asked) => {}
    }
}

async fn watch(node: &Node, abstaining: &watch::Sender<bool>) {
    let mut clock = ClockState::default();
    let mut disk = DiskState::default();
    let mut unfit_before = None;
    loop {
        sleep(LOOK_INTERVAL).await;
        let trouble = node.raft.disk_trouble();
        if let Some(DiskTrouble::Failed(reason)) = &trouble {
            return go_down(node, reason).await;
        }
        clock.look(node.clock_off_ms(node.id()));
        disk.look(node.ports.clock.monotonic(), node.log.waits_since());
        if disk.hangs_for >= HANG_MAX && node.options.clustered {
            let seconds = HANG_MAX.as_secs();
            let text = format!(
                "the disk has not answered for {seconds} s: this node ends, so that the others are rid of it; start it \
                 again when the disk works"
            );
            return node.ports.host.abort(&text);
        }
        let no_room = match trouble {
            Some(DiskTrouble::NoRoom(reason)) => Some(reason),
            _ => None,
        };
        node.health.set_trouble(no_room.clone());
        let unfit = no_room.or_else(|| clock.trouble()).or_else(|| disk.trouble());
        if unfit != unfit_before {
            match &unfit {
                Some(reason) => tracing::error!(reason, "this node is not fit to lead: handing over"),
                None => tracing::info!("this node is fit to lead again"),
            }
            unfit_before.clone_from(&unfit);
        }
        let abstains = unfit.is_some() && node.health.leaderless_for() < LEADERLESS_MAX;
        node.raft.abstain(abstains).await;
        abstaining.send_if_modified(|before| std::mem::replace(before, abstains) != abstains);
    }
}

/// Hands over what this node leads, whenever it abstains. None of it needs this node's disk.
async fn give_up(node: &Node, mut abstaining: watch::Receiver<bool>) {
    while abstaining.wait_for(|abstains| *abstains).await.is_ok() {
        if led(node).next().is_some() {
            node.raft.hand_over(&off_nodes(node), HAND_OVER_PATIENCE).await;
        }
        sleep(HAND_OVER_INTERVAL).await;
    }
}

fn led(node: &Node) -> impl Iterator<Item = ShardId> {
    let leads =
        |shard: &ShardId| node.raft.status(*shard).is_some_and(|group| group.role == GroupRole::Leader);
    node.raft.shards().into_iter().filter(leads)
}

/// What was last known of our clock: who cannot compare it any more believes what it knew.
#[derive(Debug, Default)]
struct ClockState {
    warned: bool,
    is_off: bool,
}

impl ClockState {
    fn look(&mut self, off_ms: Option<i64>) {
        let Some(off) = off_ms else { return };
        let seconds = off as f64 / 1000.0;
        let warns = off.unsigned_abs() > WARN_MS;
        if warns && !self.warned {
            tracing::warn!(seconds, "this node's clock is off; check its time synchronisation");
        }
        self.warned = warns;
        self.is_off = off.unsigned_abs() > CLOCK_OFF_MS;
    }

    /// Why this node is not to lead because of it.
    fn trouble(&self) -> Option<String> {
        self.is_off.then(|| format!("its clock is more than {} s off", CLOCK_OFF_MS / 1000))
    }
}

/// What was last seen of the disk.
#[derive(Debug, Default)]
struct DiskState {
    /// Since when it owes an answer, and the time of the look that saw it last.
    owes: Option<(Duration, Duration)>,
    /// How long it has owed it, as far as this process ran: one that was stopped meanwhile has not asked either.
    hangs_for: Duration,
    /// It is unfit until then.
    unfit_until: Duration,
    now: Duration,
}

impl DiskState {
    /// `waits_since`: as [`storage::log::Log::waits_since`] says.
    fn look(&mut self, now: Duration, waits_since: Option<Duration>) {
        self.hangs_for = match (self.owes, waits_since) {
            (Some((since, seen)), Some(still)) if since == still => {
                self.hangs_for + now.saturating_sub(seen).min(LOOK_COUNTED_MAX)
            }
            _ => Duration::ZERO,
        };
        self.owes = waits_since.map(|since| (since, now));
        self.now = now;
        if self.hangs_for >= HANG_UNFIT {
            self.unfit_until = now + HANG_QUIET;
        }
    }

    /// Why this node is not to lead because of it.
    fn trouble(&self) -> Option<String> {
        let text = || format!("its disk took more than {} s to answer", HANG_UNFIT.as_secs());
        (self.now < self.unfit_until).then(text)
    }
}

/// Nodes whose clocks are too far off to lead.
pub(super) fn off_nodes(node: &Node) -> BTreeSet<NodeId> {
    let is_off = |id: &NodeId| node.clock_off_ms(*id).is_some_and(|off| off.unsigned_abs() > CLOCK_OFF_MS);
    node.raft.cluster_time().offsets_ms.into_keys().filter(is_off).collect()
}

/// Acknowledges nothing any more; others lead.
async fn go_down(node: &Node, reason: &str) {
    tracing::error!(reason, "the disk failed: this node is out of service until it is restarted");
    node.health.set_trouble(Some(format!("the disk failed, restart this node: {reason}")));
    node.health.set_down();
    node.raft.abstain(true).await;
    node.raft.hand_over(&off_nodes(node), HAND_OVER_PATIENCE).await;
    // A group whose vote could not be saved has ended already.
    let _late = timeout(HAND_OVER_PATIENCE, node.raft.stand_down()).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_off_is_unfit_until_it_is_right() {
        let mut clock = ClockState::default();
        clock.look(Some(-4_000));
        assert_eq!(clock.trouble(), None);
        clock.look(Some(-86_400_000));
        assert!(clock.trouble().is_some());
        clock.look(Some(2));
        assert_eq!(clock.trouble(), None);
    }

    const ASKED: Option<Duration> = Some(Duration::from_millis(900));

    /// Looks twice a second, up to `upto` ms.
    fn look_on(disk: &mut DiskState, from: u64, upto: u64, waits_since: Option<Duration>) {
        (from..=upto).step_by(500).for_each(|ms| disk.look(Duration::from_millis(ms), waits_since));
    }

    #[test]
    fn a_disk_that_owes_one_answer_for_a_second_is_unfit_and_hangs_on() {
        let mut disk = DiskState::default();
        look_on(&mut disk, 1000, 1500, ASKED);
        assert_eq!(disk.trouble(), None);
        look_on(&mut disk, 2000, 2000, ASKED);
        assert!(disk.trouble().is_some());
        look_on(&mut disk, 2500, 20_500, ASKED);
        assert!(disk.hangs_for < HANG_MAX);
        look_on(&mut disk, 21_000, 21_000, ASKED);
        assert_eq!(disk.hangs_for, HANG_MAX);
    }

    #[test]
    fn a_disk_that_is_slow_but_answers_does_not_hang() {
        let mut disk = DiskState::default();
        for ms in (1000..100_000).step_by(500) {
            disk.look(Duration::from_millis(ms), Some(Duration::from_millis(ms / 1000 * 1000)));
        }
        assert_eq!(disk.trouble(), None);
        assert!(disk.hangs_for < HANG_UNFIT);
    }

    #[test]
    fn a_disk_that_answers_again_is_fit_after_a_while() {
        let mut disk = DiskState::default();
        look_on(&mut disk, 1000, 3000, ASKED);
        look_on(&mut disk, 3500, 12_500, None);
        assert!(disk.trouble().is_some());
        look_on(&mut disk, 13_000, 13_000, None);
        assert_eq!(disk.trouble(), None);
    }

    #[test]
    fn a_process_that_was_stopped_while_it_waited_does_not_blame_the_disk() {
        let mut disk = DiskState::default();
        disk.look(Duration::from_secs(1), ASKED);
        disk.look(Duration::from_secs(180), ASKED);
        disk.look(Duration::from_secs(181), None);
        assert!(disk.hangs_for < HANG_UNFIT);
    }

    #[test]
    fn who_hears_nobody_to_compare_with_believes_what_it_knew() {
        let mut clock = ClockState::default();
        clock.look(None);
        assert_eq!(clock.trouble(), None);
        clock.look(Some(9_000));
        clock.look(None);
        assert!(clock.trouble().is_some());
    }
}
