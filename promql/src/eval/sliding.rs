//! What is carried from window to window of a series of floats, so that a step costs what enters and leaves, not what
//! is inside.

use super::{
    rate::{RateKind, float_rate},
    series::Slice,
    track::ABSENT,
    window::Window,
    window_func::WindowFunc,
};
use crate::kahan::Kahan;
use std::collections::VecDeque;

/// The ends of a window in a column: `first..next`.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Ends {
    pub(crate) first: usize,
    pub(crate) next: usize,
}

impl Ends {
    /// Moves on to `(start, end]`.
    #[inline]
    pub(crate) fn advance(&mut self, times: &[i64], start: i64, end: i64) {
        while self.next < times.len() && times[self.next] <= end {
            self.next += 1;
        }
        while self.first < self.next && times[self.first] <= start {
            self.first += 1;
        }
    }

    pub(crate) fn range(&self) -> std::ops::Range<usize> {
        self.first..self.next
    }

    pub(crate) fn len(&self) -> usize {
        self.next - self.first
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.first == self.next
    }
}

/// State between windows. Positions are those in the series, not in the window.
pub(crate) enum Sliding {
    /// Nothing: every window is looked at as a whole.
    None,
    /// Positions at which a counter fell below the one before; of these, those behind the window's first sample.
    Resets { positions: Vec<u32>, first: usize, next: usize, kind: RateKind },
    /// Positions of samples that are better than all later ones, best first.
    Extremes { queue: VecDeque<u32>, next: usize, largest: bool },
    /// Sums of the window's older part, from each of its samples to its end; and the sum of the newer part.
    Sums { tails: Vec<Kahan>, tails_first: usize, middle: usize, newer: Kahan, next: usize, averages: bool },
}

impl Sliding {
    /// The state before the first window of `length`, windows being `interval` apart (both milliseconds).
    pub(crate) fn new(func: WindowFunc, floats: &Slice<'_, f64>, length: i64, interval: i64) -> Sliding {
        match func {
            WindowFunc::Rate(kind) if floats.starts.is_empty() => {
                let positions = if kind == RateKind::Delta {
                    Vec::new()
                } else {
                    let pairs = floats.values.windows(2).enumerate();
                    pairs.filter(|(_, pair)| pair[1] < pair[0]).map(|(index, _)| index as u32 + 1).collect()
                };
                Sliding::Resets { positions, first: 0, next: 0, kind }
            }
            WindowFunc::Max | WindowFunc::Min => {
                Sliding::Extremes { queue: VecDeque::new(), next: 0, largest: func == WindowFunc::Max }
            }
            WindowFunc::Sum | WindowFunc::Avg if is_worth_sliding(floats, length, interval) => {
                Sliding::Sums {
                    tails: Vec::new(),
                    tails_first: 0,
                    middle: 0,
                    newer: Kahan::default(),
                    next: 0,
                    averages: func == WindowFunc::Avg,
                }
            }
            _ => Sliding::None,
        }
    }

    /// The value of a window that is not empty, [`ABSENT`] if it has none; `None` if it has to be looked at as a
    /// whole.
    #[inline]
    pub(crate) fn value(&mut self, ends: &Ends, window: &Window<'_>) -> Option<f64> {
        let values = window.floats.values;
        match self {
            Sliding::None => None,
            Sliding::Resets { positions, first, next, kind } => {
                while *next < positions.len() && (positions[*next] as usize) < ends.next {
                    *next += 1;
                }
                while *first < *next && positions[*first] as usize <= ends.first {
                    *first += 1;
                }
                let resets = positions[*first..*next].iter().map(|position| *position as usize - ends.first);
                Some(float_rate(*kind, window, resets).unwrap_or(ABSENT))
            }
            Sliding::Extremes { queue, next, largest } => {
                *next = (*next).max(ends.first);
                while queue.front().is_some_and(|position| (*position as usize) < ends.first) {
                    queue.pop_front();
                }
                while *next < ends.next {
                    let value = values[*next - ends.first];
                    if !value.is_nan() {
                        while queue.back().is_some_and(|position| {
                            let kept = values[*position as usize - ends.first];
                            if *largest { kept < value } else { kept > value }
                        }) {
                            queue.pop_back();
                        }
                        queue.push_back(*next as u32);
                    }
                    *next += 1;
                }
                Some(queue.front().map_or(f64::NAN, |position| values[*position as usize - ends.first]))
            }
            Sliding::Sums { tails, tails_first, middle, newer, next, averages } => {
                if ends.first >= *middle {
                    // The older part is used up: the whole window becomes it.
                    tails.clear();
                    let mut tail = Kahan::default();
                    tails.extend(values.iter().rev().map(|value| {
                        tail.add(*value);
                        tail
                    }));
                    tails.reverse();
                    (*tails_first, *middle, *next) = (ends.first, ends.next, ends.next);
                    *newer = Kahan::default();
                }
                while *next < ends.next {
                    newer.add(values[*next - ends.first]);
                    *next += 1;
                }
                let mut sum = tails[ends.first - *tails_first];
                sum.add(newer.sum);
                if sum.sum.is_infinite() {
                    return None; // an infinite value, or too large a sum for an average
                }
                sum.lost += newer.lost;
                let count = values.len() as f64;
                Some(if *averages { sum.sum / count + sum.lost / count } else { sum.total() })
            }
        }
    }
}

/// Whether windows are long and overlap much: else adding up each is as fast, and to the last bit what Prometheus
/// does.
fn is_worth_sliding(floats: &Slice<'_, f64>, length: i64, interval: i64) -> bool {
    let (Some(first), Some(last)) = (floats.times.first(), floats.times.last()) else { return false };
    let distance = (last - first) / (floats.len() as i64);
    length / distance.max(1) > 16 && length / 4 > interval
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sums(values: &[f64], length: usize) -> Vec<f64> {
        let times: Vec<i64> = (1..=values.len() as i64).collect();
        let all = Slice { times: &times, values, starts: &[] };
        let none = Slice { times: &[], values: &[], starts: &[] };
        let mut state = Sliding::Sums {
            tails: Vec::new(),
            tails_first: 0,
            middle: 0,
            newer: Kahan::default(),
            next: 0,
            averages: false,
        };
        let mut ends = Ends::default();
        let window = |end: i64| {
            ends.advance(&times, end - length as i64, end);
            let floats = all.part(ends.range());
            let window = Window { floats, histograms: none, start: 0, end, time: end };
            state.value(&ends, &window).unwrap_or(f64::NAN)
        };
        (1..=values.len() as i64).map(window).collect()
    }

    #[test]
    fn sliding_sums_are_the_sums_of_the_windows() {
        assert_eq!(sums(&[1.0, 2.0, 3.0, 4.0, 5.0], 3), [1.0, 3.0, 6.0, 9.0, 12.0]);
    }

    #[test]
    fn a_huge_value_that_has_left_leaves_no_trace() {
        assert_eq!(sums(&[1e100, 1.0, -1e100, 1.0, 2.0, 3.0], 3)[2..], [1.0, -1e100, 3.0 - 1e100, 6.0]);
    }
}
