//! Clock offsets between nodes, and the cluster's time.
//!
//! A ping carries nothing; its answer the peer's wall clock at both ends of its work, which is one instant here.
//! The peer's clock is measured against our monotonic one, so setting our own wall clock makes no sample a lie; it is
//! wrong by at most half the round trip, and the sample with the shortest round trip of the last few counts.
//!
//! Cluster time is the median of the clocks that are heard, and known only while a majority of all agree with it:
//! of two clocks that differ nobody can say which one is wrong.

use bytes::Bytes;
use model::{NodeId, TimestampMs};
use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

/// Samples kept per peer.
const SAMPLES_MAX: usize = 8;
/// A sample that is older says nothing any more.
const SAMPLE_AGE_MAX: Duration = Duration::from_secs(30);
/// Round trips that are longer measure nothing.
const ROUND_TRIP_MAX: Duration = Duration::from_secs(2);
/// A clock this far from the cluster's is off: it does not count towards agreement, and its node does not lead.
pub const CLOCK_OFF_MS: u64 = 5_000;

/// How far a peer's clock is from ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockSample {
    /// Milliseconds that the peer's clock is ahead of ours.
    pub offset_ms: i64,
    /// How long the measurement took: the offset is wrong by at most half of it.
    pub round_trip: Duration,
    /// When it was measured, on our monotonic clock.
    pub measured_at: Duration,
}

/// A peer's wall clock against our monotonic one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reading {
    /// What the peer's clock showed when our monotonic one was at 0, ms.
    base_ms: i64,
    round_trip: Duration,
    measured_at: Duration,
}

#[derive(Debug, Default)]
pub(crate) struct Offsets(VecDeque<Reading>);

impl Offsets {
    pub(crate) fn push(&mut self, reading: Reading) {
        // A peer's clock that was set in between makes older readings lies.
        if self.0.back().is_some_and(|last| last.base_ms.abs_diff(reading.base_ms) > 1000) {
            self.0.clear();
        }
        self.0.push_back(reading);
        if self.0.len() > SAMPLES_MAX {
            self.0.pop_front();
        }
    }

    /// The best reading at `now`, against our wall clock, which shows `wall`.
    pub(crate) fn best(&self, now: Duration, wall: TimestampMs) -> Option<ClockSample> {
        let fresh = self.0.iter().filter(|reading| now.saturating_sub(reading.measured_at) <= SAMPLE_AGE_MAX);
        let Reading { base_ms, round_trip, measured_at } = *fresh.min_by_key(|reading| reading.round_trip)?;
        let theirs = base_ms.saturating_add(millis(now));
        Some(ClockSample { offset_ms: theirs.saturating_sub(wall.0), round_trip, measured_at })
    }
}

fn millis(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}

/// The answer to a ping.
pub(crate) fn pong(now: TimestampMs) -> Bytes {
    Bytes::copy_from_slice(&now.0.to_be_bytes())
}

/// What a pong says that was asked for at `sent_at`; `None` if it is malformed or took too long.
pub(crate) fn read_pong(body: &[u8], sent_at: Duration, now: Duration) -> Option<Reading> {
    let theirs = i64::from_be_bytes(body.try_into().ok()?);
    let round_trip = now.saturating_sub(sent_at);
    if round_trip > ROUND_TRIP_MAX {
        return None;
    }
    let base_ms = theirs.saturating_sub(millis(sent_at + round_trip / 2));
    Some(Reading { base_ms, round_trip, measured_at: now })
}

/// The median of the nodes' clocks, where a majority of them agree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterTime {
    /// Milliseconds that cluster time is ahead of our clock; `None` while fewer than a majority are heard, or agree.
    pub offset_ms: Option<i64>,
    /// Each heard node's clock against ours; ours with 0.
    pub offsets_ms: BTreeMap<NodeId, i64>,
}

impl ClusterTime {
    /// From our own id, the voters, and what was measured.
    #[must_use]
    pub fn of(us: NodeId, voters: &[NodeId], samples: &BTreeMap<NodeId, ClockSample>) -> ClusterTime {
        let mut offsets_ms: BTreeMap<NodeId, i64> =
            samples.iter().map(|(node, sample)| (*node, sample.offset_ms)).collect();
        offsets_ms.insert(us, 0);
        let mut heard: Vec<i64> = voters.iter().filter_map(|voter| offsets_ms.get(voter).copied()).collect();
        heard.sort_unstable();
        // Any majority that agrees has the median in its midst. Of an even number the lower one: an hour too early
        // deletes nothing.
        let median = heard.get(heard.len().saturating_sub(1) / 2).copied();
        let agrees = |median: &i64| {
            let near = heard.iter().filter(|offset| offset.abs_diff(*median) <= CLOCK_OFF_MS);
            near.count() * 2 > voters.len()
        };
        ClusterTime { offset_ms: median.filter(agrees), offsets_ms }
    }

    /// Cluster time when our clock shows `now`.
    #[must_use]
    pub fn at(&self, now: TimestampMs) -> Option<TimestampMs> {
        self.offset_ms.map(|offset| TimestampMs(now.0.saturating_add(offset)))
    }

    /// How far a node's clock is from cluster time, ms; `None` while either is not known.
    #[must_use]
    pub fn deviation_ms(&self, node: NodeId) -> Option<i64> {
        Some(self.offsets_ms.get(&node)?.saturating_sub(self.offset_ms?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(offset_ms: i64, round_trip_ms: u64, at_ms: u64) -> ClockSample {
        let (round_trip, measured_at) = (Duration::from_millis(round_trip_ms), Duration::from_millis(at_ms));
        ClockSample { offset_ms, round_trip, measured_at }
    }

    fn cluster(offsets: &[(u64, i64)]) -> ClusterTime {
        let samples = offsets.iter().map(|(node, offset)| (NodeId(*node), sample(*offset, 1, 0))).collect();
        ClusterTime::of(NodeId(1), &[NodeId(1), NodeId(2), NodeId(3)], &samples)
    }

    #[test]
    fn one_wrong_clock_moves_nothing() {
        assert_eq!(cluster(&[(2, 3), (3, 86_400_000)]).offset_ms, Some(3));
        assert_eq!(cluster(&[(2, -3), (3, -86_400_000)]).offset_ms, Some(-3));
    }

    #[test]
    fn our_own_wrong_clock_is_noticed() {
        let time = cluster(&[(2, -5000), (3, -5002)]);
        assert_eq!((time.offset_ms, time.deviation_ms(NodeId(1))), (Some(-5000), Some(5000)));
    }

    #[test]
    fn without_a_majority_there_is_no_cluster_time() {
        assert_eq!(cluster(&[]).at(TimestampMs(5)), None);
        assert_eq!(cluster(&[(2, 10)]).at(TimestampMs(5)), Some(TimestampMs(5)));
    }

    #[test]
    fn of_two_clocks_that_differ_nobody_says_which_is_right() {
        for offset in [-86_400_000, 86_400_000] {
            let time = cluster(&[(2, offset)]);
            assert_eq!((time.offset_ms, time.deviation_ms(NodeId(1))), (None, None));
        }
        assert_eq!(cluster(&[(2, 60_000), (3, -60_000)]).offset_ms, None, "three opinions");
    }

    fn reading(base_ms: i64, round_trip_ms: u64, at_ms: u64) -> Reading {
        let (round_trip, measured_at) = (Duration::from_millis(round_trip_ms), Duration::from_millis(at_ms));
        Reading { base_ms, round_trip, measured_at }
    }

    /// The offset against a wall clock that shows what the monotonic one does, plus `ahead`.
    fn best(offsets: &Offsets, now_ms: u64, ahead: i64) -> Option<i64> {
        let wall = TimestampMs(now_ms as i64 + ahead);
        offsets.best(Duration::from_millis(now_ms), wall).map(|sample| sample.offset_ms)
    }

    #[test]
    fn the_shortest_round_trip_counts_while_it_is_fresh() {
        let mut offsets = Offsets::default();
        [reading(5, 40, 0), reading(7, 2, 10), reading(9, 30, 20)].into_iter().for_each(|r| offsets.push(r));
        assert_eq!(best(&offsets, 30, 0), Some(7));
        assert_eq!(best(&offsets, 31_000, 0), None);
    }

    #[test]
    fn a_peers_clock_that_was_set_makes_older_readings_void() {
        let mut offsets = Offsets::default();
        [reading(5, 1, 0), reading(3_600_005, 50, 10)].into_iter().for_each(|r| offsets.push(r));
        assert_eq!(best(&offsets, 30, 0), Some(3_600_005));
    }

    #[test]
    fn our_own_clock_that_was_set_is_seen_at_once() {
        let mut offsets = Offsets::default();
        offsets.push(reading(5, 1, 0));
        assert_eq!(best(&offsets, 30, 0), Some(5));
        assert_eq!(best(&offsets, 30, 86_400_000), Some(5 - 86_400_000));
    }

    #[test]
    fn a_pong_is_read_at_the_middle_of_the_round_trip() {
        let read =
            read_pong(&pong(TimestampMs(1500)), Duration::from_millis(1000), Duration::from_millis(1040));
        assert_eq!(read, Some(reading(480, 40, 1040)));
        assert_eq!(read_pong(b"short", Duration::ZERO, Duration::ZERO), None);
    }
}
