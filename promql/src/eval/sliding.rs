//! Functions of windows over a whole column of floats, at a cost of what enters and leaves each window, not of what is
//! inside.

use super::{
    frames::{Frames, Span},
    rate::RateKind,
    track::ABSENT,
};
use crate::kahan::Kahan;
use std::collections::VecDeque;

/// Positions at which `differs(before, now)`, ascending.
pub(crate) fn positions(values: &[f64], differs: impl Fn(f64, f64) -> bool) -> Vec<u32> {
    const CHUNK: usize = 64;
    let mut found = Vec::new();
    for start in (1..values.len()).step_by(CHUNK) {
        let end = (start + CHUNK).min(values.len());
        let (before, now) = (&values[start - 1..end - 1], &values[start..end]);
        // Most chunks have none: whether one has some is seen without a branch for each.
        if before.iter().zip(now).fold(false, |any, (a, b)| any | differs(*a, *b)) {
            let pairs = before.iter().zip(now).enumerate();
            found.extend(pairs.filter(|(_, (a, b))| differs(**a, **b)).map(|(i, _)| (start + i) as u32));
        }
    }
    found
}

/// Of ascending positions, those that lie in a window behind its first sample.
pub(super) struct Inside<'p> {
    positions: &'p [u32],
    first: usize,
    next: usize,
}

impl<'p> Inside<'p> {
    pub(super) fn new(positions: &'p [u32]) -> Inside<'p> {
        Inside { positions, first: 0, next: 0 }
    }

    #[inline]
    pub(super) fn at(&mut self, span: Span) -> &'p [u32] {
        let positions = self.positions;
        while self.next < positions.len() && positions[self.next] < span.next {
            self.next += 1;
        }
        while self.first < self.next && positions[self.first] <= span.first {
            self.first += 1;
        }
        &positions[self.first..self.next]
    }
}

/// How many of the positions each window holds, its first sample left out.
pub(crate) fn counts(positions: &[u32], frames: &Frames, out: &mut [f64]) {
    let mut inside = Inside::new(positions);
    for (span, out) in frames.spans.iter().zip(out) {
        let count = inside.at(*span).len();
        if !span.is_empty() {
            *out = count as f64;
        }
    }
}

/// `rate` and its sisters.
pub(crate) fn rates(kind: RateKind, values: &[f64], frames: &Frames, out: &mut [f64]) {
    let resets = if kind.is_counter() { positions(values, |before, now| now < before) } else { Vec::new() };
    let mut inside = Inside::new(&resets);
    for ((span, reach), out) in frames.spans.iter().zip(&frames.reach_of).zip(out) {
        if span.len() < 2 {
            continue;
        }
        let (first, last) = (values[span.first as usize], values[span.next as usize - 1]);
        let mut increase = last - first;
        if !resets.is_empty() {
            for position in inside.at(*span) {
                increase += values[*position as usize - 1];
            }
        }
        *out = increase * frames.reaches[*reach as usize].factor(kind, first, increase);
    }
}

/// The largest or smallest value of each window, NaN only if there is nothing else.
pub(crate) fn extremes(values: &[f64], frames: &Frames, largest: bool, out: &mut [f64]) {
    // Positions of values that are better than all later ones, best first.
    let mut queue: VecDeque<u32> = VecDeque::new();
    let mut next = 0_u32;
    for (span, out) in frames.spans.iter().zip(out) {
        next = next.max(span.first);
        while queue.front().is_some_and(|position| *position < span.first) {
            queue.pop_front();
        }
        while next < span.next {
            let value = values[next as usize];
            if !value.is_nan() {
                while queue.back().is_some_and(|position| {
                    let kept = values[*position as usize];
                    if largest { kept < value } else { kept > value }
                }) {
                    queue.pop_back();
                }
                queue.push_back(next);
            }
            next += 1;
        }
        if !span.is_empty() {
            *out = queue.front().map_or(f64::NAN, |position| values[*position as usize]);
        }
    }
}

/// So many values as are in memory cannot overflow if none is larger.
const SUMMAND_MAX: f64 = 1e290;

/// The compensated sum or the average of each window. A window whose sum is infinite stays [`ABSENT`]: it has to be
/// looked at as a whole.
///
/// A window is an older part, of which the sums from each sample to its end are known, and a newer one, of which the
/// sum is: nothing is ever taken away, so a huge value that has left leaves no trace. The older part is summed up from
/// its end: where a sum of some of the values may overflow, which depends on the order, each window is left out.
pub(crate) fn sums(values: &[f64], frames: &Frames, averages: bool, out: &mut [f64]) {
    if values.iter().any(|value| value.is_finite() && value.abs() > SUMMAND_MAX) {
        return;
    }
    let mut tails: Vec<Kahan> = Vec::new();
    let (mut tails_first, mut middle, mut next) = (0_u32, 0_u32, 0_u32);
    let mut newer = Kahan::default();
    for (span, out) in frames.spans.iter().zip(out) {
        if span.is_empty() {
            continue;
        }
        if span.first >= middle {
            // The older part is used up: the whole window becomes it.
            tails.clear();
            let mut tail = Kahan::default();
            tails.extend(values[span.range()].iter().rev().map(|value| {
                tail.add(*value);
                tail
            }));
            tails.reverse();
            (tails_first, middle, next) = (span.first, span.next, span.next);
            newer = Kahan::default();
        }
        while next < span.next {
            newer.add(values[next as usize]);
            next += 1;
        }
        let mut sum = tails[(span.first - tails_first) as usize];
        sum.add(newer.sum);
        if sum.sum.is_infinite() {
            continue; // an infinite value, or too large a sum for an average
        }
        sum.lost += newer.lost;
        let count = span.len() as f64;
        let value = if averages { sum.sum / count + sum.lost / count } else { sum.total() };
        debug_assert!(value.to_bits() != ABSENT.to_bits(), "arithmetic makes no marks");
        *out = value;
    }
}

/// Whether windows are long and overlap much: else adding up each is as fast, and to the last bit what Prometheus
/// does.
pub(crate) fn is_worth_sliding(times: &[i64], length: i64, interval: i64) -> bool {
    let (Some(first), Some(last)) = (times.first(), times.last()) else { return false };
    let distance = (last - first) / (times.len() as i64);
    length / distance.max(1) > 16 && length / 4 > interval
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::frames::{FrameCache, Layout};
    use proptest::prelude::*;

    /// Runs a kernel over windows of `length` samples at every sample.
    fn over(values: &[f64], length: usize, kernel: impl Fn(&Frames, &mut [f64])) -> Vec<f64> {
        let times: Vec<i64> = (1..=values.len() as i64).collect();
        let mut cache = FrameCache::default();
        let layout = Layout { length: length as i64, rate: None };
        let frames = cache.get(&times, layout, times.len(), &|step| times[step]);
        let mut out = vec![ABSENT; times.len()];
        kernel(frames, &mut out);
        out
    }

    fn sums_of(values: &[f64], length: usize) -> Vec<f64> {
        over(values, length, |frames, out| sums(values, frames, false, out))
    }

    #[test]
    fn sliding_sums_are_the_sums_of_the_windows() {
        assert_eq!(sums_of(&[1.0, 2.0, 3.0, 4.0, 5.0], 3), [1.0, 3.0, 6.0, 9.0, 12.0]);
    }

    #[test]
    fn a_huge_value_that_has_left_leaves_no_trace() {
        assert_eq!(sums_of(&[1e100, 1.0, -1e100, 1.0, 2.0, 3.0], 3)[2..], [1.0, -1e100, 3.0 - 1e100, 6.0]);
    }

    #[test]
    fn sums_that_overflow_in_one_order_only_are_left_out() {
        assert!(sums_of(&[1e308, 1e308, -1e308], 3).iter().all(|sum| sum.to_bits() == ABSENT.to_bits()));
    }

    proptest! {
        #[test]
        fn kernels_give_what_each_window_alone_gives(
            values in proptest::collection::vec(prop_oneof![(-3_i32..3).prop_map(f64::from), Just(f64::NAN)], 1..200),
            length in 1_usize..40,
        ) {
            let window = |at: usize| &values[(at + 1).saturating_sub(length)..=at];
            let falls = positions(&values, |before, now| now < before);
            let counted = over(&values, length, |frames, out| counts(&falls, frames, out));
            let best = over(&values, length, |frames, out| extremes(&values, frames, true, out));
            for at in 0..values.len() {
                let fallen = window(at).windows(2).filter(|pair| pair[1] < pair[0]).count();
                prop_assert_eq!(counted[at], fallen as f64);
                let largest = window(at).iter().copied().filter(|v| !v.is_nan()).fold(f64::NAN, f64::max);
                prop_assert!(best[at] == largest || (best[at].is_nan() && largest.is_nan()));
            }
        }
    }
}
