//! A histogram in the form to compute with.

use super::{CounterResetHint, FloatHistogram, HistogramView, exponential_bound};
use crate::kahan::Kahan;
use model::{CustomBounds, Histogram, Span};
use std::sync::Arc;

/// A number that can be summed up: a plain float, or a compensated sum.
pub(crate) trait Amount: Copy {
    fn new(value: f64) -> Self;
    fn value(self) -> f64;
    /// Adds another sum, value first, then its compensation.
    fn merge(&mut self, other: Self);
    fn negated(self) -> Self;
    fn map(self, by: impl Fn(f64) -> f64) -> Self;
    /// Whether the value without compensation is infinite.
    fn is_infinite(self) -> bool;
}

impl Amount for f64 {
    fn new(value: f64) -> f64 {
        value
    }
    fn value(self) -> f64 {
        self
    }
    fn merge(&mut self, other: f64) {
        *self += other;
    }
    fn negated(self) -> f64 {
        -self
    }
    fn map(self, by: impl Fn(f64) -> f64) -> f64 {
        by(self)
    }
    fn is_infinite(self) -> bool {
        f64::is_infinite(self)
    }
}

impl Amount for Kahan {
    fn new(value: f64) -> Kahan {
        Kahan::new(value)
    }
    fn value(self) -> f64 {
        self.total()
    }
    fn merge(&mut self, other: Kahan) {
        Kahan::add(self, other.sum);
        if other.lost != 0.0 {
            Kahan::add(self, other.lost);
        }
    }
    fn negated(self) -> Kahan {
        Kahan { sum: -self.sum, lost: -self.lost }
    }
    fn map(self, by: impl Fn(f64) -> f64) -> Kahan {
        Kahan { sum: by(self.sum), lost: by(self.lost) }
    }
    fn is_infinite(self) -> bool {
        self.sum.is_infinite()
    }
}

/// One histogram has exponential buckets, the other custom ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mismatch;

/// What was noticed while two histograms were combined.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Combined {
    /// One said that it follows a counter reset, the other that it does not.
    pub(crate) reset_collision: bool,
    /// Their custom bounds differed; only the shared ones are left.
    pub(crate) bounds_reconciled: bool,
}

/// A histogram as sorted lists of (bucket index, amount).
#[derive(Clone, Debug)]
pub(crate) struct Sparse<N> {
    pub(crate) hint: CounterResetHint,
    pub(crate) schema: i32,
    pub(crate) zero_threshold: f64,
    pub(crate) zero: N,
    pub(crate) count: N,
    pub(crate) sum: N,
    pub(crate) positive: Vec<(i32, N)>,
    pub(crate) negative: Vec<(i32, N)>,
    pub(crate) bounds: CustomBounds,
}

/// The buckets of one side with their indexes. Ends early where spans promise more buckets than there are.
pub(crate) fn indexed<'a>(spans: &'a [Span], counts: &'a [f64]) -> impl Iterator<Item = (i32, f64)> + 'a {
    let mut next = 0_i32;
    let indexes = spans.iter().flat_map(move |span| {
        let first = next.wrapping_add(span.offset);
        next = first.wrapping_add_unsigned(span.length);
        (0..span.length).map(move |i| first.wrapping_add_unsigned(i))
    });
    indexes.zip(counts.iter().copied())
}

fn to_sparse<N: Amount>(spans: &[Span], counts: &[f64]) -> Vec<(i32, N)> {
    let mut side = Vec::with_capacity(counts.len());
    side.extend(
        indexed(spans, counts).filter(|(_, count)| *count != 0.0).map(|(i, count)| (i, N::new(count))),
    );
    side
}

fn to_spans<N: Amount>(side: &[(i32, N)]) -> (Vec<Span>, Vec<f64>) {
    let mut spans: Vec<Span> = Vec::new();
    let mut counts = Vec::with_capacity(side.len());
    let mut next = 0_i32;
    for (index, amount) in side {
        let count = amount.value();
        if count == 0.0 {
            continue;
        }
        match spans.last_mut() {
            Some(span) if *index == next => span.length += 1,
            _ => spans.push(Span { offset: index.wrapping_sub(next), length: 1 }),
        }
        counts.push(count);
        next = index.wrapping_add(1);
    }
    (spans, counts)
}

/// The bucket of a coarser schema that holds bucket `index`.
pub(crate) fn coarser(index: i32, from: i32, to: i32) -> i32 {
    (index.wrapping_sub(1) >> (from - to).clamp(0, 31)).wrapping_add(1)
}

fn reduce<N: Amount>(side: &mut Vec<(i32, N)>, from: i32, to: i32) {
    side.iter_mut().for_each(|bucket| bucket.0 = coarser(bucket.0, from, to));
    side.dedup_by(|later, first| {
        let same = later.0 == first.0;
        if same {
            first.1.merge(later.1);
        }
        same
    });
}

/// Adds sorted `from` into sorted `into`.
fn merge<N: Amount>(into: &mut Vec<(i32, N)>, from: &[(i32, N)]) {
    if into.len() == from.len() && into.iter().zip(from).all(|(a, b)| a.0 == b.0) {
        into.iter_mut().zip(from).for_each(|(a, b)| a.1.merge(b.1));
        return;
    }
    let old = std::mem::take(into);
    into.reserve(old.len() + from.len());
    let (mut a, mut b) = (old.into_iter().peekable(), from.iter().copied().peekable());
    loop {
        let next = match (a.peek(), b.peek()) {
            (Some(x), Some(y)) if x.0 == y.0 => {
                let (mut x, y) = (*x, *y);
                x.1.merge(y.1);
                a.next();
                b.next();
                Some(x)
            }
            (Some(x), Some(y)) if x.0 < y.0 => a.next(),
            (Some(_), None) => a.next(),
            (_, Some(_)) => b.next(),
            (None, None) => None,
        };
        match next {
            Some(bucket) => into.push(bucket),
            None => return,
        }
    }
}

/// Adds the buckets of one side, empty ones left out, into sorted `into`.
fn merge_counts<N: Amount>(
    into: &mut Vec<(i32, N)>,
    spans: &[Span],
    counts: &[f64],
    signed: impl Fn(f64) -> f64,
) {
    let mut buckets = indexed(spans, counts)
        .filter(|(_, count)| *count != 0.0)
        .map(|(i, count)| (i, N::new(signed(count))));
    let mut at = 0;
    while let Some((index, amount)) = buckets.next() {
        while into.get(at).is_some_and(|bucket| bucket.0 < index) {
            at += 1;
        }
        match into.get_mut(at) {
            Some(bucket) if bucket.0 == index => bucket.1.merge(amount),
            _ => {
                let rest: Vec<(i32, N)> = std::iter::once((index, amount)).chain(buckets).collect();
                merge(into, &rest);
                return;
            }
        }
    }
}

/// Whether two sets of custom bounds are the same.
pub(crate) fn same_bounds(a: &[f64], b: &[f64]) -> bool {
    std::ptr::eq(a, b) || (a.len() == b.len() && a.iter().zip(b).all(|(x, y)| x.to_bits() == y.to_bits()))
}

/// The bounds that both have.
pub(crate) fn shared_bounds(a: &[f64], b: &[f64]) -> CustomBounds {
    let mut rest = b.iter().peekable();
    let shared = a.iter().copied().filter(|bound| {
        while rest.next_if(|other| *other < bound).is_some() {}
        rest.peek().is_some_and(|other| *other == bound)
    });
    shared.collect::<Vec<_>>().into()
}

/// Puts custom buckets into those of a subset of their bounds.
pub(crate) fn remap<N: Amount>(side: &[(i32, N)], bounds: &[f64], shared: &[f64]) -> Vec<(i32, N)> {
    let mut out: Vec<(i32, N)> = Vec::with_capacity(shared.len() + 1);
    let mut target = 0;
    for (index, amount) in side {
        match usize::try_from(*index).ok().and_then(|i| bounds.get(i)) {
            Some(bound) => {
                while shared.get(target).is_some_and(|s| s < bound) {
                    target += 1;
                }
            }
            None => target = shared.len(),
        }
        match out.last_mut() {
            Some(last) if last.0 == target as i32 => last.1.merge(*amount),
            _ => out.push((target as i32, *amount)),
        }
    }
    out
}

impl<N: Amount> Sparse<N> {
    /// How many buckets it has room for.
    pub(crate) fn buckets(&self) -> usize {
        self.positive.capacity() + self.negative.capacity()
    }

    pub(crate) fn new(histogram: HistogramView<'_>) -> Sparse<N> {
        Sparse {
            hint: histogram.counter_reset_hint,
            schema: histogram.schema,
            zero_threshold: histogram.zero_threshold,
            zero: N::new(histogram.zero_count),
            count: N::new(histogram.count),
            sum: N::new(histogram.sum),
            positive: to_sparse(histogram.positive_spans, histogram.positive_buckets),
            negative: to_sparse(histogram.negative_spans, histogram.negative_buckets),
            bounds: histogram.custom_values.clone(),
        }
    }

    pub(crate) fn finish(&self) -> FloatHistogram {
        let (positive_spans, positive_buckets) = to_spans(&self.positive);
        let (negative_spans, negative_buckets) = to_spans(&self.negative);
        FloatHistogram {
            counter_reset_hint: self.hint,
            schema: self.schema,
            zero_threshold: self.zero_threshold,
            zero_count: self.zero.value(),
            count: self.count.value(),
            sum: self.sum.value(),
            positive_spans,
            negative_spans,
            positive_buckets,
            negative_buckets,
            custom_values: self.bounds.clone(),
        }
    }

    pub(crate) fn is_custom(&self) -> bool {
        self.schema == Histogram::CUSTOM_BUCKETS_SCHEMA
    }

    /// Applies `by` to every amount.
    pub(crate) fn map(&mut self, by: impl Fn(f64) -> f64 + Copy) {
        self.zero = self.zero.map(by);
        self.count = self.count.map(by);
        self.sum = self.sum.map(by);
        self.positive.iter_mut().chain(&mut self.negative).for_each(|bucket| bucket.1 = bucket.1.map(by));
    }

    /// Whether a sum ran over.
    pub(crate) fn has_overflow(&self) -> bool {
        self.zero.is_infinite()
            || self.count.is_infinite()
            || self.sum.is_infinite()
            || self.positive.iter().chain(&self.negative).any(|bucket| bucket.1.is_infinite())
            || self.bounds.iter().any(|bound| bound.is_infinite())
    }

    /// Lowers the resolution to `schema` if it is higher.
    pub(crate) fn reduce_to(&mut self, schema: i32) {
        if schema < self.schema && !self.is_custom() && schema != Histogram::CUSTOM_BUCKETS_SCHEMA {
            reduce(&mut self.positive, self.schema, schema);
            reduce(&mut self.negative, self.schema, schema);
            self.schema = schema;
        }
    }

    /// What the zero bucket holds if it is widened to at least `threshold`, and how wide it then is: a bucket with
    /// observations is never split.
    fn widened_zero(&self, mut threshold: f64) -> (N, f64) {
        'again: loop {
            let mut zero = self.zero;
            for (index, amount) in &self.positive {
                if exponential_bound(index.wrapping_sub(1), self.schema) >= threshold {
                    break;
                }
                zero.merge(*amount);
                let upper = exponential_bound(*index, self.schema);
                if upper > threshold {
                    threshold = upper;
                    break;
                }
            }
            for (index, amount) in &self.negative {
                if exponential_bound(index.wrapping_sub(1), self.schema) >= threshold {
                    break;
                }
                zero.merge(*amount);
                let upper = exponential_bound(*index, self.schema);
                if upper > threshold {
                    threshold = upper;
                    continue 'again;
                }
            }
            return (zero, threshold);
        }
    }

    /// Widens the zero bucket and takes the buckets that fall into it.
    pub(crate) fn widen_zero(&mut self, threshold: f64) {
        if threshold == self.zero_threshold {
            return;
        }
        let schema = self.schema;
        (self.zero, self.zero_threshold) = self.widened_zero(threshold);
        let threshold = self.zero_threshold;
        let outside = |bucket: &(i32, N)| exponential_bound(bucket.0.wrapping_sub(1), schema) >= threshold;
        self.positive.retain(outside);
        self.negative.retain(outside);
    }

    fn combine_hint(&mut self, other: CounterResetHint) -> bool {
        use CounterResetHint::{Gauge, NotReset, Reset, Unknown};
        let (hint, collision) = match (self.hint, other) {
            (a, b) if a == b => (a, false),
            (Gauge, _) | (_, Gauge) => (Gauge, false),
            (Reset, NotReset) | (NotReset, Reset) => (Unknown, true),
            _ => (Unknown, false),
        };
        self.hint = hint;
        collision
    }

    /// Adds `other`.
    pub(crate) fn add(&mut self, other: HistogramView<'_>) -> Result<Combined, Mismatch> {
        if self.has_bounds_of(other) {
            return Ok(self.combine_in_place(other, |amount| amount));
        }
        self.combine(Sparse::new(other))
    }

    /// Subtracts `other`.
    pub(crate) fn subtract(&mut self, other: HistogramView<'_>) -> Result<Combined, Mismatch> {
        if self.has_bounds_of(other) {
            return Ok(self.combine_in_place(other, |amount| -amount));
        }
        let mut other: Sparse<N> = Sparse::new(other);
        // Widening first would add up and then negate the same numbers: negation is exact.
        other.zero = other.zero.negated();
        other.count = other.count.negated();
        other.sum = other.sum.negated();
        other.positive.iter_mut().chain(&mut other.negative).for_each(|bucket| bucket.1 = bucket.1.negated());
        self.combine(other)
    }

    /// Whether a bucket of one index has the same bounds in both.
    fn has_bounds_of(&self, other: HistogramView<'_>) -> bool {
        self.schema == other.schema
            && if self.is_custom() {
                same_bounds(&self.bounds, other.custom_values)
            } else {
                self.zero_threshold == other.zero_threshold
            }
    }

    /// [`Sparse::combine`] with one that has the same bounds: where there are the same buckets, nothing is allocated.
    fn combine_in_place(&mut self, other: HistogramView<'_>, signed: impl Fn(f64) -> f64 + Copy) -> Combined {
        let reset_collision = self.combine_hint(other.counter_reset_hint);
        if !self.is_custom() {
            self.zero.merge(N::new(signed(other.zero_count)));
        }
        self.count.merge(N::new(signed(other.count)));
        self.sum.merge(N::new(signed(other.sum)));
        merge_counts(&mut self.positive, other.positive_spans, other.positive_buckets, signed);
        merge_counts(&mut self.negative, other.negative_spans, other.negative_buckets, signed);
        Combined { reset_collision, bounds_reconciled: false }
    }

    fn combine(&mut self, mut other: Sparse<N>) -> Result<Combined, Mismatch> {
        if self.is_custom() != other.is_custom() {
            return Err(Mismatch);
        }
        let reset_collision = self.combine_hint(other.hint);
        let mut bounds_reconciled = false;
        if self.is_custom() {
            if !same_bounds(&self.bounds, &other.bounds) {
                bounds_reconciled = true;
                let shared = shared_bounds(&self.bounds, &other.bounds);
                self.positive = remap(&self.positive, &self.bounds, &shared);
                other.positive = remap(&other.positive, &other.bounds, &shared);
                self.bounds = Arc::clone(&shared);
            }
        } else {
            while self.zero_threshold != other.zero_threshold {
                if other.zero_threshold < self.zero_threshold {
                    other.widen_zero(self.zero_threshold);
                } else if self.zero_threshold < other.zero_threshold {
                    self.widen_zero(other.zero_threshold);
                } else {
                    break; // a threshold that is not a number
                }
            }
            self.zero.merge(other.zero);
            self.reduce_to(other.schema);
            other.reduce_to(self.schema);
        }
        self.count.merge(other.count);
        self.sum.merge(other.sum);
        merge(&mut self.positive, &other.positive);
        merge(&mut self.negative, &other.negative);
        Ok(Combined { reset_collision, bounds_reconciled })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn histogram(schema: i32, offset: i32, counts: &[f64]) -> FloatHistogram {
        FloatHistogram {
            schema,
            count: counts.iter().sum(),
            positive_spans: vec![Span { offset, length: counts.len() as u32 }],
            positive_buckets: counts.to_vec(),
            ..FloatHistogram::default()
        }
    }

    #[test]
    fn the_sum_has_the_lower_resolution() {
        let mut sum = Sparse::<f64>::new(histogram(1, 1, &[1.0, 2.0, 3.0, 4.0]).view());
        sum.add(histogram(0, 1, &[10.0, 20.0]).view()).unwrap();
        assert_eq!((sum.schema, sum.positive), (0, vec![(1, 13.0), (2, 27.0)]));
    }

    #[test]
    fn a_wider_zero_bucket_swallows_whole_buckets() {
        let mut sum = Sparse::<f64>::new(histogram(0, 0, &[1.0, 2.0, 3.0]).view());
        let wide =
            FloatHistogram { zero_threshold: 1.5, zero_count: 5.0, count: 5.0, ..FloatHistogram::default() };
        sum.add(wide.view()).unwrap();
        assert_eq!((sum.zero_threshold, sum.zero, sum.positive), (2.0, 8.0, vec![(2, 3.0)]));
    }

    #[test]
    fn custom_buckets_meet_in_their_shared_bounds() {
        let custom = |bounds: &[f64], counts: &[f64]| FloatHistogram {
            custom_values: bounds.into(),
            ..histogram(Histogram::CUSTOM_BUCKETS_SCHEMA, 0, counts)
        };
        let mut sum = Sparse::<f64>::new(custom(&[1.0, 2.0, 3.0], &[1.0, 1.0, 1.0, 1.0]).view());
        let combined = sum.add(custom(&[2.0, 5.0], &[10.0, 10.0, 10.0]).view()).unwrap();
        assert!(combined.bounds_reconciled);
        assert_eq!((&sum.bounds[..], sum.positive), (&[2.0][..], vec![(0, 12.0), (1, 22.0)]));
    }

    #[test]
    fn exponential_and_custom_buckets_do_not_add() {
        let mut sum = Sparse::<f64>::new(histogram(0, 0, &[1.0]).view());
        assert_eq!(sum.add(histogram(Histogram::CUSTOM_BUCKETS_SCHEMA, 0, &[1.0]).view()), Err(Mismatch));
    }
}
