//! `rate` and its sisters over a whole column of native histograms.
//!
//! What neighbours have to do with each other is found once for a series: where the counter was reset, where the layout
//! changes, which are gauges. A window between two changes of the layout, as nearly all are, then costs one pass over
//! the rows of its first and last histogram and of those before resets; no bucket is looked for.

use super::{
    Evaluator, Grid,
    frames::Frames,
    rate::{RateKind, resets},
    series::Slice,
    sliding::Inside,
    track::{HISTOGRAM, Histograms, Track},
    window::{WindowCall, running_sizes},
};
use crate::engine::EvalError;
use crate::histogram;
use model::{CounterResetHint, Histogram, HistogramColumn, HistogramLayout, HistogramRow, Labels, Span};
use std::sync::Arc;

/// How many layouts of results are looked through before one is made anew.
const LAYOUTS_MAX: usize = 8;

/// Layouts of what is left of rows without their empty buckets.
#[derive(Default)]
struct Compact {
    known: Vec<Kept>,
}

struct Kept {
    /// Of the rows that it is made from.
    from: Arc<HistogramLayout>,
    /// Whether each bucket stays.
    stays: Vec<bool>,
    layout: Arc<HistogramLayout>,
}

impl Compact {
    /// The layout without the buckets that are zero in `buckets`.
    fn layout(&mut self, from: &Arc<HistogramLayout>, buckets: &[f64]) -> &Kept {
        let fits = |kept: &Kept| {
            Arc::ptr_eq(&kept.from, from)
                && kept.stays.iter().zip(buckets).fold(true, |all, (stays, b)| all & (*stays == (*b != 0.0)))
        };
        if let Some(at) = self.known.iter().position(fits) {
            return &self.known[at];
        }
        if self.known.len() == LAYOUTS_MAX {
            self.known.remove(0);
        }
        let row = [&[0.0; HistogramLayout::BUCKETS], buckets].concat();
        let row = HistogramRow { layout: from, hint: CounterResetHint::Gauge, amounts: &row };
        let layout = Arc::new(HistogramLayout::of(histogram::compacted(row.view()).view()));
        let stays = buckets.iter().map(|bucket| *bucket != 0.0).collect();
        self.known.push(Kept { from: Arc::clone(from), stays, layout });
        &self.known[self.known.len() - 1]
    }
}

/// Whether there is a bucket for each place in the spans, in ascending order.
fn is_sound(layout: &HistogramLayout) -> bool {
    let side = |spans: &[Span], buckets: usize| {
        spans.iter().skip(1).all(|span| span.offset >= 0)
            && spans.iter().map(|span| span.length as usize).sum::<usize>() == buckets
    };
    side(&layout.positive_spans, layout.positive_buckets)
        && side(&layout.negative_spans, layout.negative_buckets)
}

/// What is found once for all windows of a series.
struct Neighbours {
    /// Where the counter was reset.
    resets: Vec<u32>,
    /// Where a layout differs from the one before, or may.
    changes: Vec<u32>,
    gauges: Vec<u32>,
    is_sound: bool,
}

impl Neighbours {
    fn new(kind: RateKind, points: &Slice<'_, HistogramRow<'_>>) -> Neighbours {
        let values = points.values;
        let positions = |of: &dyn Fn(usize) -> bool| {
            (1..values.len()).filter(|at| of(*at)).map(|at| at as u32).collect::<Vec<u32>>()
        };
        let changes = positions(&|at| !Arc::ptr_eq(values[at].layout, values[at - 1].layout));
        let mut begins = std::iter::once(0).chain(changes.iter().copied());
        Neighbours {
            is_sound: begins.all(|at| is_sound(values[at as usize].layout)),
            resets: if kind.is_counter() { resets(points) } else { Vec::new() },
            gauges: positions(&|at| values[at].hint == CounterResetHint::Gauge),
            changes,
        }
    }
}

/// Last minus first, plus what stood before each reset; `resets` are positions in `window`, all of which have one
/// layout. Adds up as [`Evaluator::histogram_difference`] does, to the same bits, but leaves empty buckets in.
fn difference(window: &[HistogramRow<'_>], first_at: u32, resets: &[u32], out: &mut Vec<f64>) {
    let (first, last) = (window[0], window[window.len() - 1]);
    out.clear();
    // Custom buckets have no zero bucket, so that it is not looked at.
    let custom = first.layout.schema == Histogram::CUSTOM_BUCKETS_SCHEMA;
    let mut resets = resets;
    if let [reset, rest @ ..] = resets
        && *reset == first_at + 1
    {
        // It begins anew right behind the first one, which is as if that were empty.
        resets = rest;
        out.extend_from_slice(last.amounts);
    } else {
        out.extend(last.amounts.iter().zip(first.amounts).map(|(last, first)| last - first));
    }
    for reset in resets {
        let before = window[(reset - first_at) as usize - 1];
        out.iter_mut().zip(before.amounts).for_each(|(amount, before)| *amount += before);
    }
    if custom {
        out[HistogramLayout::ZERO] = last.amounts[HistogramLayout::ZERO];
    }
}

impl Evaluator<'_> {
    /// The rates of a series of histograms without start times, in plain windows.
    pub(super) fn histogram_rates(
        &self,
        kind: RateKind,
        call: &WindowCall<'_>,
        points: &Slice<'_, HistogramRow<'_>>,
        frames: &Frames,
        (labels, grid): (Labels, &Grid),
    ) -> Result<Track, EvalError> {
        let values = points.values;
        let Neighbours { resets, changes, gauges, is_sound } = Neighbours::new(kind, points);
        let (mut resets, mut changes, mut gauges) =
            (Inside::new(&resets), Inside::new(&changes), Inside::new(&gauges));
        let is_gauge = |at: u32| values[at as usize].hint == CounterResetHint::Gauge;
        let sizes = running_sizes(values);
        let (mut widest, mut unchecked) = (0, 0);
        let mut track = Track::empty(labels, grid.steps);
        let mut column = HistogramColumn::default();
        let mut compact = Compact::default();
        let mut row = Vec::new();
        for (step, span) in frames.spans.iter().enumerate() {
            if span.is_empty() {
                continue;
            }
            let in_window = sizes[span.next as usize] - sizes[span.first as usize];
            widest = widest.max(in_window);
            self.meter.count_read(step, in_window);
            if span.len() < 2 {
                continue;
            }
            let window = &values[span.range()];
            let reach = &frames.reaches[frames.reach_of[step] as usize];
            let first_count = window[0].amounts[HistogramLayout::COUNT];
            let resets = resets.at(*span);
            self.check_now_and_then(&mut unchecked, (resets.len() + 1) as u64)?;
            if !is_sound || !changes.at(*span).is_empty() {
                self.check_now_and_then(&mut unchecked, in_window)?;
                let resets: Vec<u32> = resets.iter().map(|at| at - span.first).collect();
                let points = points.part(span.range());
                if let Some(difference) = self.histogram_difference(kind, call, &points, &resets) {
                    let factor = reach.factor(kind, first_count, difference.count);
                    let rate = histogram::multiplied(difference.view(), factor);
                    track.floats[step] = HISTOGRAM;
                    column.push(step as u32, rate.view());
                }
                continue;
            }
            if kind.is_counter() {
                if is_gauge(span.first) || !gauges.at(*span).is_empty() {
                    self.note(|notes| notes.not_counter(call.name(), call.at));
                }
            } else if !is_gauge(span.first) || !is_gauge(span.next - 1) {
                self.note(|notes| notes.not_gauge(call.name(), call.at));
            }
            difference(window, span.first, resets, &mut row);
            let factor = reach.factor(kind, first_count, row[HistogramLayout::COUNT]);
            let (head, buckets) = row.split_at(HistogramLayout::BUCKETS);
            let Kept { stays, layout, .. } = compact.layout(window[0].layout, buckets);
            let out = column.grow(layout, [(step as u32, CounterResetHint::Gauge)]);
            let (out_head, out_buckets) = out.split_at_mut(HistogramLayout::BUCKETS);
            out_head.iter_mut().zip(head).for_each(|(out, amount)| *out = amount * factor);
            if out_buckets.len() == buckets.len() {
                out_buckets.iter_mut().zip(buckets).for_each(|(out, amount)| *out = amount * factor);
            } else {
                let kept = buckets.iter().zip(stays).filter(|(_, stays)| **stays);
                out_buckets.iter_mut().zip(kept).for_each(|(out, (amount, _))| *out = amount * factor);
            }
            track.floats[step] = HISTOGRAM;
        }
        self.meter.would_hold(widest)?;
        if !column.is_empty() {
            track.histograms = Histograms::Column(column);
        }
        Ok(track)
    }
}
