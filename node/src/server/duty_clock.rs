//! The clock by which this node does its duties: [`DutyTime`], fed with what the nodes' clocks show.
//!
//! ```text
//!  cluster time ─┐
//!                ├─▶ DutyTime ─▶ slots, timestamps, segments, ends of sources
//!  a peer's word ┘   (the latter only while nothing is known)
//! ```

use super::{Node, calls};
use bytes::Bytes;
use futures::{StreamExt, stream::FuturesUnordered};
use model::{Clock, DurationMs, NodeId, ShardId, TimestampMs};
use raft::{DutyTime, Jump};
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{sync::watch, time::sleep};

/// Between two looks.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// The same while duty time is not known: somebody may be waiting.
const LOOK_INTERVAL_UNKNOWN: Duration = Duration::from_millis(100);

/// Shows duty time. While it is not known it shows the wall clock, and nobody may do a duty.
#[derive(Debug)]
pub(crate) struct DutyClock {
    clock: Arc<dyn Clock>,
    time: Mutex<DutyTime>,
    known: watch::Sender<bool>,
}

impl DutyClock {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> DutyClock {
        DutyClock { clock, time: Mutex::default(), known: watch::Sender::new(false) }
    }

    fn time(&self) -> MutexGuard<'_, DutyTime> {
        self.time.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Duty time, if it is known.
    pub(crate) fn known(&self) -> Option<TimestampMs> {
        self.time().at(self.clock.monotonic())
    }

    /// Waits until duty time is known.
    pub(crate) async fn wait_known(&self) {
        let mut known = self.known.subscribe();
        let _never_closed = known.wait_for(|known| *known).await.is_ok();
    }

    fn look(&self, cluster: Option<TimestampMs>) {
        let jump = self.time().step(self.clock.monotonic(), cluster);
        self.tell(jump);
    }

    fn learn(&self, time: TimestampMs) {
        let jump = self.time().learn(self.clock.monotonic(), time);
        self.tell(jump);
    }

    fn tell(&self, jump: Option<Jump>) {
        match jump {
            None => {}
            Some(Jump::Known) => {
                self.known.send_replace(true);
            }
            Some(Jump::Forward(ms)) => tracing::error!(
                seconds = ms as f64 / 1000.0,
                "the clocks of most nodes were set forward: slots in between are recorded as missed"
            ),
            Some(Jump::Back(ms)) => tracing::error!(
                seconds = ms as f64 / 1000.0,
                "the clocks of most nodes were set back: nothing is scraped until they have caught up"
            ),
        }
    }
}

impl Clock for DutyClock {
    fn now(&self) -> TimestampMs {
        self.known().unwrap_or_else(|| self.clock.now())
    }

    fn monotonic(&self) -> Duration {
        self.clock.monotonic()
    }
}

impl Node {
    /// The time that the cluster agrees on, or, while it does not, what this node last knew of it; its own clock's
    /// only if it never knew any.
    pub(crate) fn cluster_now(&self) -> TimestampMs {
        let cluster = self.raft.cluster_time().at(self.ports.clock.now());
        cluster.unwrap_or_else(|| self.duty_clock.now())
    }

    /// How far the wall clock of a node that is heard is from the cluster's time, ms, or, while its clocks do not
    /// agree, from the last that this node knew of it.
    pub(crate) fn clock_off_ms(&self, id: NodeId) -> Option<i64> {
        let time = self.raft.cluster_time();
        time.deviation_ms(id).or_else(|| {
            let ahead = time.offsets_ms.get(&id)?;
            Some(self.ports.clock.now().0.saturating_add(*ahead).saturating_sub(self.duty_clock.known()?.0))
        })
    }
}

/// Feeds the duty clock.
pub(super) async fn run(node: Arc<Node>) {
    let known = node.duty_clock.known.subscribe();
    loop {
        node.duty_clock.look(node.raft.cluster_time().at(node.ports.clock.now()));
        if !*known.borrow() {
            ask_others(&node).await;
        }
        sleep(if *known.borrow() { LOOK_INTERVAL } else { LOOK_INTERVAL_UNKNOWN }).await;
    }
}

/// Asks the others for duty time: whoever knew it before a node was lost still does.
async fn ask_others(node: &Node) {
    let us = node.id();
    let voters = node.raft.status(ShardId::META).map(|status| status.voters).unwrap_or_default();
    let clock = &node.ports.clock;
    let asked = voters.into_iter().filter(|id| *id != us).map(|id| async move {
        let began = clock.monotonic();
        let answer = node.raft.call(id, calls::CLOCK, Bytes::new(), calls::ASK_PATIENCE).await.ok()?;
        let half = DurationMs(clock.monotonic().saturating_sub(began).as_millis() as u64 / 2);
        Some(TimestampMs(calls::decode::<Option<i64>>(&answer).ok()??).plus(half))
    });
    // The first that knows is the nearest one; its word is of now, and would be old if others were waited for.
    let mut answers: FuturesUnordered<_> = asked.collect();
    while let Some(answer) = answers.next().await {
        if let Some(time) = answer {
            return node.duty_clock.learn(time);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Default)]
    struct Fixed(Mutex<(i64, Duration)>);

    impl Clock for Fixed {
        fn now(&self) -> TimestampMs {
            TimestampMs(self.0.lock().expect("no holder panics").0)
        }

        fn monotonic(&self) -> Duration {
            self.0.lock().expect("no holder panics").1
        }
    }

    fn at(wall: i64, seconds: u64) -> (Arc<Fixed>, DutyClock) {
        let fixed = Arc::new(Fixed(Mutex::new((wall, Duration::from_secs(seconds)))));
        (fixed.clone(), DutyClock::new(fixed))
    }

    #[test]
    fn setting_the_wall_clock_does_not_move_the_duty_clock() {
        let (fixed, duty) = at(1_000_000, 1);
        duty.look(Some(TimestampMs(1_000_000)));
        *fixed.0.lock().expect("no holder panics") = (86_400_000, Duration::from_secs(3));
        assert_eq!(duty.now(), TimestampMs(1_002_000));
    }

    #[test]
    fn the_word_of_another_makes_duty_time_known() {
        let (_, duty) = at(5, 1);
        assert_eq!((duty.known(), duty.now()), (None, TimestampMs(5)));
        duty.learn(TimestampMs(77));
        assert_eq!((duty.known(), *duty.known.borrow()), (Some(TimestampMs(77)), true));
    }
}
