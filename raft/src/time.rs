//! Clock offsets between nodes, and the cluster's time.
//!
//! A ping carries nothing; its answer the peer's wall clock at both ends of its work, which is one instant here.
//! With the wall clock at sending and receiving the offset is what NTP computes, wrong by at most half the round
//! trip; the sample with the shortest round trip of the last few is the one that counts.

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

#[derive(Debug, Default)]
pub(crate) struct Offsets(VecDeque<ClockSample>);

impl Offsets {
    pub(crate) fn push(&mut self, sample: ClockSample) {
        // A wall clock that was set in between makes older samples lies.
        if self.0.back().is_some_and(|last| last.offset_ms.abs_diff(sample.offset_ms) > 1000) {
            self.0.clear();
        }
        self.0.push_back(sample);
        if self.0.len() > SAMPLES_MAX {
            self.0.pop_front();
        }
    }

    pub(crate) fn best(&self, now: Duration) -> Option<ClockSample> {
        let fresh = self.0.iter().filter(|sample| now.saturating_sub(sample.measured_at) <= SAMPLE_AGE_MAX);
        fresh.min_by_key(|sample| sample.round_trip).copied()
    }
}

/// The answer to a ping.
pub(crate) fn pong(now: TimestampMs) -> Bytes {
    Bytes::copy_from_slice(&now.0.to_be_bytes())
}

/// What a pong says; `None` if it is malformed or took too long.
pub(crate) fn read_pong(
    body: &[u8],
    sent: i64,
    received: i64,
    sent_at: Duration,
    now: Duration,
) -> Option<ClockSample> {
    let theirs = i64::from_be_bytes(body.try_into().ok()?);
    let round_trip = now.saturating_sub(sent_at);
    if round_trip > ROUND_TRIP_MAX {
        return None;
    }
    let offset = (i128::from(theirs) * 2 - i128::from(sent) - i128::from(received)) / 2;
    Some(ClockSample { offset_ms: i64::try_from(offset).ok()?, round_trip, measured_at: now })
}

/// The median of the nodes' clocks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterTime {
    /// Milliseconds that cluster time is ahead of our clock; `None` while fewer than a majority are heard.
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
        let majority = heard.len() * 2 > voters.len();
        // Of an even number the lower one: an hour too early deletes nothing.
        let median = heard.get(heard.len().saturating_sub(1) / 2).copied();
        ClusterTime { offset_ms: median.filter(|_| majority), offsets_ms }
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
    fn the_shortest_round_trip_counts_while_it_is_fresh() {
        let mut offsets = Offsets::default();
        [sample(5, 40, 0), sample(7, 2, 10), sample(9, 30, 20)]
            .into_iter()
            .for_each(|sample| offsets.push(sample));
        assert_eq!(offsets.best(Duration::from_millis(30)), Some(sample(7, 2, 10)));
        assert_eq!(offsets.best(Duration::from_secs(31)), None);
    }

    #[test]
    fn a_clock_that_was_set_makes_older_samples_void() {
        let mut offsets = Offsets::default();
        [sample(5, 1, 0), sample(3_600_005, 50, 10)].into_iter().for_each(|sample| offsets.push(sample));
        assert_eq!(offsets.best(Duration::from_millis(30)), Some(sample(3_600_005, 50, 10)));
    }

    #[test]
    fn a_pong_gives_the_offset_to_the_middle_of_the_round_trip() {
        let read = read_pong(&pong(TimestampMs(1500)), 1000, 1040, Duration::ZERO, Duration::from_millis(40));
        assert_eq!(read.map(|sample| sample.offset_ms), Some(480));
        assert_eq!(read_pong(b"short", 0, 0, Duration::ZERO, Duration::ZERO), None);
    }
}
