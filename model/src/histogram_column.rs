//! Native histograms of one series in columns: what they have in common stands once, their amounts side by side.
//!
//! Histograms that follow each other nearly always have the same buckets. A column is a list of runs of one layout;
//! the amounts of a histogram are one row of plain numbers, so that whoever computes with many of them neither
//! allocates nor looks for buckets.

use crate::histogram::absolute;
use crate::{CounterResetHint, CustomBounds, FloatHistogram, Histogram, Span};
use std::sync::Arc;

/// A native histogram in float form that lies somewhere else. The fields are those of [`FloatHistogram`].
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs, reason = "they are documented there")]
pub struct HistogramView<'h> {
    pub counter_reset_hint: CounterResetHint,
    pub schema: i32,
    pub zero_threshold: f64,
    pub zero_count: f64,
    pub count: f64,
    pub sum: f64,
    pub positive_spans: &'h [Span],
    pub negative_spans: &'h [Span],
    pub positive_buckets: &'h [f64],
    pub negative_buckets: &'h [f64],
    pub custom_values: &'h CustomBounds,
}

impl FloatHistogram {
    /// The histogram as something that lies here.
    #[must_use]
    pub fn view(&self) -> HistogramView<'_> {
        HistogramView {
            counter_reset_hint: self.counter_reset_hint,
            schema: self.schema,
            zero_threshold: self.zero_threshold,
            zero_count: self.zero_count,
            count: self.count,
            sum: self.sum,
            positive_spans: &self.positive_spans,
            negative_spans: &self.negative_spans,
            positive_buckets: &self.positive_buckets,
            negative_buckets: &self.negative_buckets,
            custom_values: &self.custom_values,
        }
    }
}

impl HistogramView<'_> {
    /// A histogram of its own.
    #[must_use]
    pub fn to_float(&self) -> FloatHistogram {
        FloatHistogram {
            counter_reset_hint: self.counter_reset_hint,
            schema: self.schema,
            zero_threshold: self.zero_threshold,
            zero_count: self.zero_count,
            count: self.count,
            sum: self.sum,
            positive_spans: self.positive_spans.to_vec(),
            negative_spans: self.negative_spans.to_vec(),
            positive_buckets: self.positive_buckets.to_vec(),
            negative_buckets: self.negative_buckets.to_vec(),
            custom_values: self.custom_values.clone(),
        }
    }

    /// Whether the bucket bounds are explicit (schema -53).
    #[must_use]
    pub fn uses_custom_buckets(&self) -> bool {
        self.schema == Histogram::CUSTOM_BUCKETS_SCHEMA
    }
}

/// What histograms of one run have in common.
#[derive(Clone, Debug, Default)]
pub struct HistogramLayout {
    /// Resolution, -4..=8, or -53 for custom buckets.
    pub schema: i32,
    /// Width of the zero bucket.
    pub zero_threshold: f64,
    /// Positive buckets present.
    pub positive_spans: Vec<Span>,
    /// Negative buckets present.
    pub negative_spans: Vec<Span>,
    /// Number of positive buckets. It stands beside the spans, which may disagree in what came in.
    pub positive_buckets: usize,
    /// Number of negative buckets.
    pub negative_buckets: usize,
    /// Upper bounds for schema -53, else empty.
    pub custom_values: CustomBounds,
}

impl HistogramLayout {
    /// Where the count is in a row.
    pub const COUNT: usize = 0;
    /// Where the count of the zero bucket is in a row.
    pub const ZERO: usize = 1;
    /// Where the sum is in a row.
    pub const SUM: usize = 2;
    /// Where the buckets begin in a row: first the positive ones, then the negative ones.
    pub const BUCKETS: usize = 3;

    /// The layout of a histogram.
    #[must_use]
    pub fn of(histogram: HistogramView<'_>) -> HistogramLayout {
        HistogramLayout {
            schema: histogram.schema,
            zero_threshold: histogram.zero_threshold,
            positive_spans: histogram.positive_spans.to_vec(),
            negative_spans: histogram.negative_spans.to_vec(),
            positive_buckets: histogram.positive_buckets.len(),
            negative_buckets: histogram.negative_buckets.len(),
            custom_values: histogram.custom_values.clone(),
        }
    }

    /// Numbers in a row.
    #[must_use]
    pub fn width(&self) -> usize {
        HistogramLayout::BUCKETS + self.positive_buckets + self.negative_buckets
    }

    /// Whether a histogram has this layout, to the bit.
    #[must_use]
    pub fn fits(&self, histogram: HistogramView<'_>) -> bool {
        self.is_made_of(
            (histogram.schema, histogram.zero_threshold),
            (histogram.positive_spans, histogram.positive_buckets.len()),
            (histogram.negative_spans, histogram.negative_buckets.len()),
            histogram.custom_values,
        )
    }

    /// The same of a histogram in integer form.
    fn fits_integer(&self, histogram: &Histogram) -> bool {
        self.is_made_of(
            (histogram.schema, histogram.zero_threshold),
            (&histogram.positive_spans, histogram.positive_deltas.len()),
            (&histogram.negative_spans, histogram.negative_deltas.len()),
            &histogram.custom_values,
        )
    }

    /// Whether both are the same to the bit.
    #[must_use]
    pub fn same_bits(&self, other: &HistogramLayout) -> bool {
        self.is_made_of(
            (other.schema, other.zero_threshold),
            (&other.positive_spans, other.positive_buckets),
            (&other.negative_spans, other.negative_buckets),
            &other.custom_values,
        )
    }

    /// Schema and zero threshold, spans and numbers of buckets, bounds: the same, to the bit?
    fn is_made_of(
        &self,
        (schema, zero_threshold): (i32, f64),
        positive: (&[Span], usize),
        negative: (&[Span], usize),
        bounds: &CustomBounds,
    ) -> bool {
        self.schema == schema
            && self.zero_threshold.to_bits() == zero_threshold.to_bits()
            && (&self.positive_spans[..], self.positive_buckets) == positive
            && (&self.negative_spans[..], self.negative_buckets) == negative
            && same_bounds(&self.custom_values, bounds)
    }

    fn bytes(&self) -> usize {
        size_of::<HistogramLayout>()
            + (self.positive_spans.len() + self.negative_spans.len()) * size_of::<Span>()
            + self.custom_values.len() * 8
    }
}

fn same_bounds(a: &CustomBounds, b: &CustomBounds) -> bool {
    Arc::ptr_eq(a, b) || a.iter().map(|v| v.to_bits()).eq(b.iter().map(|v| v.to_bits()))
}

/// Histograms of one layout that follow each other.
#[derive(Clone, Debug)]
struct Run {
    /// Index of its first histogram.
    first: usize,
    /// Where its first row begins in the amounts.
    at: usize,
    layout: Arc<HistogramLayout>,
}

/// A row of a column: a histogram without names for its numbers.
#[derive(Clone, Copy, Debug)]
pub struct HistogramRow<'c> {
    /// Its layout, which says what the amounts are.
    pub layout: &'c Arc<HistogramLayout>,
    /// Its counter reset hint.
    pub hint: CounterResetHint,
    /// Count, count of the zero bucket, sum, positive buckets, negative buckets: [`HistogramLayout::COUNT`] and so on.
    pub amounts: &'c [f64],
}

impl<'c> HistogramRow<'c> {
    /// The row with names.
    #[must_use]
    pub fn view(self) -> HistogramView<'c> {
        let (layout, amounts) = (self.layout, self.amounts);
        let (positive, negative) = amounts[HistogramLayout::BUCKETS..].split_at(layout.positive_buckets);
        HistogramView {
            counter_reset_hint: self.hint,
            schema: layout.schema,
            zero_threshold: layout.zero_threshold,
            zero_count: amounts[HistogramLayout::ZERO],
            count: amounts[HistogramLayout::COUNT],
            sum: amounts[HistogramLayout::SUM],
            positive_spans: &layout.positive_spans,
            negative_spans: &layout.negative_spans,
            positive_buckets: positive,
            negative_buckets: negative,
            custom_values: &layout.custom_values,
        }
    }
}

/// Histograms by ascending positions.
#[derive(Clone, Debug, Default)]
pub struct HistogramColumn {
    positions: Vec<u32>,
    hints: Vec<CounterResetHint>,
    amounts: Vec<f64>,
    runs: Vec<Run>,
}

impl HistogramColumn {
    /// Number of histograms.
    #[must_use]
    pub fn len(&self) -> usize {
        self.positions.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.positions.is_empty()
    }

    /// The positions, ascending.
    #[must_use]
    pub fn positions(&self) -> &[u32] {
        &self.positions
    }

    /// The counter reset hints.
    #[must_use]
    pub fn hints(&self) -> &[CounterResetHint] {
        &self.hints
    }

    /// Bytes on the heap.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let runs: usize = self.runs.iter().map(|run| size_of::<Run>() + run.layout.bytes()).sum();
        (self.positions.len() * (size_of::<u32>() + size_of::<CounterResetHint>())
            + self.amounts.len() * 8
            + runs) as u64
    }

    fn run_of(&self, index: usize) -> &Run {
        match &self.runs[..] {
            [one] => one,
            runs => &runs[runs.partition_point(|run| run.first <= index) - 1],
        }
    }

    /// The histogram with a number below [`HistogramColumn::len`], as a row.
    ///
    /// # Panics
    /// If there is no such histogram.
    #[must_use]
    #[inline]
    pub fn row(&self, index: usize) -> HistogramRow<'_> {
        let Run { first, at, layout } = self.run_of(index);
        let width = layout.width();
        let from = at + (index - first) * width;
        HistogramRow { layout, hint: self.hints[index], amounts: &self.amounts[from..from + width] }
    }

    /// The histogram with a number below [`HistogramColumn::len`].
    ///
    /// # Panics
    /// If there is no such histogram.
    #[must_use]
    #[inline]
    pub fn get(&self, index: usize) -> HistogramView<'_> {
        self.row(index).view()
    }

    /// Which histogram is at a position.
    #[must_use]
    #[inline]
    pub fn find(&self, position: u32) -> Option<usize> {
        // Where every position has one, they are their own numbers.
        if self.positions.get(position as usize) == Some(&position) {
            return Some(position as usize);
        }
        self.positions.binary_search(&position).ok()
    }

    /// The histogram at a position.
    #[must_use]
    pub fn at(&self, position: u32) -> Option<HistogramView<'_>> {
        self.find(position).map(|index| self.get(index))
    }

    /// The histograms with their positions.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (u32, HistogramView<'_>)> + ExactSizeIterator {
        self.positions.iter().enumerate().map(|(index, position)| (*position, self.get(index)))
    }

    /// The histograms as rows, with their positions.
    pub fn rows(&self) -> impl Iterator<Item = (u32, HistogramRow<'_>)> {
        self.runs().flat_map(move |(range, layout)| {
            let rows = self.row_amounts(range.start, layout).take(range.len());
            let heads = self.positions[range.clone()].iter().zip(&self.hints[range]);
            heads.zip(rows).map(move |((position, hint), amounts)| {
                (*position, HistogramRow { layout, hint: *hint, amounts })
            })
        })
    }

    fn row_amounts(&self, first: usize, layout: &HistogramLayout) -> std::slice::ChunksExact<'_, f64> {
        self.amounts[self.run_of(first).at..].chunks_exact(layout.width())
    }

    /// The layouts, each with the numbers of the histograms that have it.
    pub fn runs(&self) -> impl Iterator<Item = (std::ops::Range<usize>, &Arc<HistogramLayout>)> + '_ {
        let ends = self.runs.iter().skip(1).map(|run| run.first).chain(std::iter::once(self.len()));
        self.runs.iter().zip(ends).map(|(run, end)| (run.first..end, &run.layout))
    }

    fn begin(&mut self, layout: Arc<HistogramLayout>) {
        self.runs.push(Run { first: self.positions.len(), at: self.amounts.len(), layout });
    }

    /// Appends a histogram at a later position.
    pub fn push(&mut self, position: u32, histogram: HistogramView<'_>) {
        if self.runs.last().is_none_or(|run| !run.layout.fits(histogram)) {
            self.begin(Arc::new(HistogramLayout::of(histogram)));
        }
        self.positions.push(position);
        self.hints.push(histogram.counter_reset_hint);
        self.amounts.extend_from_slice(&[histogram.count, histogram.zero_count, histogram.sum]);
        self.amounts.extend_from_slice(histogram.positive_buckets);
        self.amounts.extend_from_slice(histogram.negative_buckets);
    }

    /// Appends a histogram in integer form at a later position.
    pub fn push_integer(&mut self, position: u32, histogram: &Histogram) {
        if self.runs.last().is_none_or(|run| !run.layout.fits_integer(histogram)) {
            return self.push(position, histogram.to_float().view());
        }
        self.positions.push(position);
        self.hints.push(histogram.counter_reset_hint);
        self.amounts.extend_from_slice(&[histogram.count as f64, histogram.zero_count as f64, histogram.sum]);
        self.amounts.extend(absolute(&histogram.positive_deltas));
        self.amounts.extend(absolute(&histogram.negative_deltas));
    }

    /// Appends a row at a later position.
    #[inline]
    pub fn push_row(&mut self, position: u32, row: HistogramRow<'_>) {
        self.grow(row.layout, [(position, row.hint)]).copy_from_slice(row.amounts);
    }

    /// Appends histograms of one layout at later positions, with these hints, and yields their rows, all zeros, one
    /// behind the other.
    #[inline]
    pub fn grow(
        &mut self,
        layout: &Arc<HistogramLayout>,
        heads: impl IntoIterator<Item = (u32, CounterResetHint)>,
    ) -> &mut [f64] {
        let last = self.runs.last().map(|run| &run.layout);
        if last.is_none_or(|last| !Arc::ptr_eq(last, layout) && !last.same_bits(layout)) {
            self.begin(Arc::clone(layout));
        }
        let before = self.positions.len();
        for (position, hint) in heads {
            self.positions.push(position);
            self.hints.push(hint);
        }
        let from = self.amounts.len();
        self.amounts.resize(from + (self.positions.len() - before) * layout.width(), 0.0);
        &mut self.amounts[from..]
    }

    /// The same histograms at other positions, in the order of those.
    #[must_use]
    pub fn moved(&self, to: impl Fn(u32) -> u32) -> HistogramColumn {
        let mut order: Vec<(u32, usize)> = (0..self.len()).map(|i| (to(self.positions[i]), i)).collect();
        order.sort_unstable();
        let mut moved = HistogramColumn::default();
        for (position, index) in order {
            moved.push_row(position, self.row(index));
        }
        moved
    }
}

impl Extend<(u32, Arc<FloatHistogram>)> for HistogramColumn {
    fn extend<I: IntoIterator<Item = (u32, Arc<FloatHistogram>)>>(&mut self, histograms: I) {
        histograms.into_iter().for_each(|(position, histogram)| self.push(position, histogram.view()));
    }
}

impl FromIterator<(u32, Arc<FloatHistogram>)> for HistogramColumn {
    fn from_iter<I: IntoIterator<Item = (u32, Arc<FloatHistogram>)>>(histograms: I) -> HistogramColumn {
        let mut column = HistogramColumn::default();
        column.extend(histograms);
        column
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn histogram(schema: i32, counts: &[f64]) -> FloatHistogram {
        FloatHistogram {
            schema,
            zero_count: 7.0,
            count: 1.0 + counts.iter().sum::<f64>(),
            positive_spans: vec![Span { offset: 0, length: counts.len() as u32 }],
            positive_buckets: counts.to_vec(),
            negative_spans: vec![Span { offset: 3, length: 1 }],
            negative_buckets: vec![counts.len() as f64],
            ..FloatHistogram::default()
        }
    }

    fn all() -> Vec<(u32, Arc<FloatHistogram>)> {
        let reset = CounterResetHint::Reset;
        let histograms = [
            histogram(1, &[1.0, 2.0]),
            FloatHistogram { counter_reset_hint: reset, ..histogram(1, &[3.0, 4.0]) },
            histogram(1, &[5.0]),
            histogram(0, &[6.0]),
            histogram(1, &[7.0, 8.0]),
        ];
        [2, 3, 5, 8, 9].into_iter().zip(histograms.map(Arc::new)).collect()
    }

    #[test]
    fn what_went_in_comes_out() {
        let column: HistogramColumn = all().into_iter().collect();
        assert_eq!(column.len(), 5);
        for ((position, expected), (at, view)) in all().iter().zip(column.iter()) {
            assert_eq!(*position, at);
            assert!(view.to_float().same_bits(expected));
            assert!(column.rows().any(|(p, row)| p == at && row.view().to_float().same_bits(expected)));
            assert!(column.at(at).is_some_and(|found| found.to_float().same_bits(expected)));
        }
        assert!(column.at(4).is_none());
        let runs: Vec<(std::ops::Range<usize>, i32)> =
            column.runs().map(|(range, layout)| (range, layout.schema)).collect();
        assert_eq!(runs, [(0..2, 1), (2..3, 1), (3..4, 0), (4..5, 1)]);
    }

    #[test]
    fn integers_become_floats() {
        let integers = |count: u64, deltas: &[i64]| Histogram {
            count,
            zero_count: u64::MAX,
            positive_spans: vec![Span { offset: 0, length: deltas.len() as u32 }],
            positive_deltas: deltas.to_vec(),
            negative_deltas: vec![4, -1],
            ..Histogram::default()
        };
        let all = [integers(1, &[1, 2, -3]), integers(2, &[i64::MAX, 1, 0]), integers(3, &[5])];
        let mut column = HistogramColumn::default();
        all.iter().zip(0..).for_each(|(histogram, at)| column.push_integer(at, histogram));
        for (expected, (_, view)) in all.iter().zip(column.iter()) {
            assert!(view.to_float().same_bits(&expected.to_float()));
        }
        assert_eq!(column.runs().count(), 2);
    }

    #[test]
    fn rows_are_moved_with_their_layouts() {
        let column: HistogramColumn = all().into_iter().collect();
        let moved = column.moved(|position| 20 - position);
        assert_eq!(moved.positions(), [11, 12, 15, 17, 18]);
        for ((_, expected), (_, view)) in all().iter().rev().zip(moved.iter()) {
            assert!(view.to_float().same_bits(expected));
        }
    }
}
