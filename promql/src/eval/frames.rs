//! Where the windows of a grid lie in a column of times.
//!
//! The series of one target have the same times as a rule, so this is found once and kept for the series that follow:
//! what is left for each is what depends on its values.

use super::rate::{RateKind, Reach};

/// Bytes of all that is kept for one list of series: too few to be taken from the budget.
const KEPT_BYTES_MAX: u64 = 4 << 20;

/// The ends of a window in a column: `first..next`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) first: u32,
    pub(crate) next: u32,
}

impl Span {
    pub(crate) fn range(self) -> std::ops::Range<usize> {
        self.first as usize..self.next as usize
    }

    pub(crate) fn len(self) -> usize {
        (self.next - self.first) as usize
    }

    pub(crate) fn is_empty(self) -> bool {
        self.first == self.next
    }
}

/// Moves `at`, up to which all times are at or before an earlier limit, on to a later one. Steps and samples lie evenly
/// as a rule, so the `stride` of the step before is tried first.
#[inline]
pub(crate) fn advance(times: &[i64], at: usize, limit: i64, stride: usize) -> usize {
    const NEAR: usize = 8;
    let guess = at + stride;
    if guess <= times.len()
        && (guess == at || times[guess - 1] <= limit)
        && times.get(guess).is_none_or(|time| *time > limit)
    {
        return guess;
    }
    let mut at = at;
    for _ in 0..NEAR {
        if times.get(at).is_none_or(|time| *time > limit) {
            return at;
        }
        at += 1;
    }
    at + times[at..].partition_point(|time| *time <= limit)
}

/// The ends of a window that moves forward in a column.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Ends {
    first: usize,
    next: usize,
    first_stride: usize,
    next_stride: usize,
}

impl Ends {
    /// Moves on to `(start, end]`.
    #[inline]
    pub(crate) fn advance(&mut self, times: &[i64], start: i64, end: i64) {
        let next = advance(times, self.next, end, self.next_stride);
        let first = advance(&times[..next], self.first, start, self.first_stride);
        (self.next_stride, self.first_stride) = (next - self.next, first - self.first);
        (self.next, self.first) = (next, first);
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

/// How the windows of a call lie.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Layout {
    /// Length of a window, milliseconds.
    pub(crate) length: i64,
    /// The function, if it looks at how far samples reach.
    pub(crate) rate: Option<RateKind>,
}

/// The windows of all steps in one column of times.
#[derive(Clone, Debug, Default)]
pub(crate) struct Frames {
    times: Vec<i64>,
    pub(crate) spans: Vec<Span>,
    /// Samples in all windows together.
    pub(crate) samples: u64,
    /// Samples in the largest window.
    pub(crate) widest: u64,
    /// For rates: how far the samples of each window reach, as a position in `reaches`.
    pub(crate) reach_of: Vec<u32>,
    pub(crate) reaches: Vec<Reach>,
}

impl Frames {
    fn find(&mut self, times: &[i64], layout: Layout, steps: usize, reference: &impl Fn(usize) -> i64) {
        self.times.clear();
        self.spans.clear();
        self.reach_of.clear();
        self.reaches.clear();
        (self.samples, self.widest) = (0, 0);
        let mut ends = Ends::default();
        let mut before = None;
        for step in 0..steps {
            let end = reference(step);
            let start = end.saturating_sub(layout.length);
            ends.advance(times, start, end);
            let range = ends.range();
            self.spans.push(Span { first: range.start as u32, next: range.end as u32 });
            self.samples += range.len() as u64;
            self.widest = self.widest.max(range.len() as u64);
            let Some(kind) = layout.rate else { continue };
            if range.len() > 1 {
                let (first, last) = (times[range.start], times[range.end - 1]);
                let shape = (first - start, last - first, range.len());
                if before != Some(shape) {
                    before = Some(shape);
                    self.reaches.push(Reach::new(kind, (start, end), (first, last), range.len()));
                }
            }
            self.reach_of.push((self.reaches.len() as u32).saturating_sub(1));
        }
    }

    fn bytes(&self) -> u64 {
        let (times, steps) = (self.times.len() * 8, self.spans.len() * 8 + self.reach_of.len() * 4);
        (times + steps + self.reaches.len() * size_of::<Reach>() + 256) as u64
    }
}

/// The frames of the columns seen so far.
#[derive(Default)]
pub(crate) struct FrameCache {
    kept: Vec<Frames>,
    /// For columns that are not kept.
    scratch: Frames,
    last: usize,
    bytes: u64,
}

impl FrameCache {
    /// The windows of the steps in `times`; all calls must be with the same layout, steps and references.
    pub(crate) fn get(
        &mut self,
        times: &[i64],
        layout: Layout,
        steps: usize,
        reference: &impl Fn(usize) -> i64,
    ) -> &Frames {
        // Comparing costs more than finding a few windows.
        let worth = steps * 4 > times.len();
        if worth {
            let same = |frames: &Frames| {
                frames.times.len() == times.len()
                    && frames.times.first() == times.first()
                    && frames.times == times
            };
            let known = self.kept.get(self.last).is_some_and(same).then_some(self.last);
            if let Some(index) = known.or_else(|| self.kept.iter().position(same)) {
                self.last = index;
                return &self.kept[index];
            }
        }
        self.scratch.find(times, layout, steps, reference);
        let bytes = self.scratch.bytes() + times.len() as u64 * 8;
        if !worth || self.bytes + bytes > KEPT_BYTES_MAX {
            return &self.scratch;
        }
        self.bytes += bytes;
        self.scratch.times.extend_from_slice(times);
        self.last = self.kept.len();
        self.kept.push(std::mem::take(&mut self.scratch));
        &self.kept[self.last]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn windows_hold_exactly_the_samples_in_them(
            gaps in proptest::collection::vec(prop_oneof![Just(15_i64), Just(15), 1_i64..200], 0..120),
            length in 1_i64..400,
            interval in 1_i64..300,
            start in -100_i64..400,
        ) {
            let times: Vec<i64> = gaps.iter().scan(0, |at, gap| { *at += gap; Some(*at) }).collect();
            let mut frames = Frames::default();
            let reference = |step: usize| start + step as i64 * interval;
            frames.find(&times, Layout { length, rate: Some(RateKind::Rate) }, 30, &reference);
            for step in 0..30 {
                let (from, to) = (reference(step) - length, reference(step));
                let inside: Vec<i64> = times.iter().copied().filter(|t| *t > from && *t <= to).collect();
                let span = frames.spans[step];
                prop_assert_eq!(&times[span.range()], &inside[..]);
                if inside.len() > 1 {
                    let ends = (inside[0], inside[inside.len() - 1]);
                    let reach = Reach::new(RateKind::Rate, (from, to), ends, inside.len());
                    prop_assert_eq!(frames.reaches[frames.reach_of[step] as usize], reach);
                }
            }
        }
    }
}
