//! `histogram_quantile`, `histogram_quantiles`, `histogram_fraction`: classic histograms (series with `le`) and native
//! ones.

use super::{
    Evaluator, Grid,
    plan::{Call, Node},
    scalar::Column,
    track::{Cell, Matrix, Track, is_float},
    without_metadata,
};
use crate::annotations::Position;
use crate::engine::EvalError;
use crate::histogram::{self, NanInput};
use crate::number::{format_float_label, parse_float};
use model::{HistogramView, Labels};
use std::{cmp::Ordering, collections::HashMap};

/// One classic histogram: its buckets by upper bound.
struct Classic {
    labels: Labels,
    drop_name: bool,
    /// Upper bound and the track with the cumulative counts, ascending.
    buckets: Vec<(f64, usize)>,
}

/// The input, taken apart.
struct Input<'a> {
    matrix: Matrix<'a>,
    classics: Vec<Classic>,
    /// Tracks with histograms, and the classic histogram of the same labels.
    natives: Vec<(usize, Option<usize>)>,
}

/// What is computed of a histogram.
enum Ask {
    Quantile(Column),
    Fraction(Column, Column),
}

/// A cumulative bucket.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Cumulative {
    pub(crate) upper: f64,
    pub(crate) count: f64,
}

/// What had to be repaired in a classic histogram.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Repair {
    lowest: f64,
    highest: f64,
    difference: f64,
}

impl<'a> Evaluator<'a> {
    /// The three functions.
    pub(crate) fn histogram_call(&self, call: &Call, grid: &Grid) -> Result<Matrix<'a>, EvalError> {
        use super::call::Func;
        match call.func {
            Func::HistogramQuantile => {
                let q = self.scalar(&call.args[0], grid)?;
                self.note_quantiles(&q, &call.args[0], grid);
                let input = self.take_apart(&call.args[1], grid)?;
                let mut result = Matrix::new(self.meter);
                self.answer(&input, &Ask::Quantile(q), call.args[1].at, None, grid, &mut result)?;
                Ok(result)
            }
            Func::HistogramFraction => {
                let ask = Ask::Fraction(self.scalar(&call.args[0], grid)?, self.scalar(&call.args[1], grid)?);
                let input = self.take_apart(&call.args[2], grid)?;
                let mut result = Matrix::new(self.meter);
                self.answer(&input, &ask, call.args[2].at, None, grid, &mut result)?;
                Ok(result)
            }
            _ => {
                let mut quantiles = Vec::new();
                for arg in &call.args[2..] {
                    let q = self.scalar(arg, grid)?;
                    self.note_quantiles(&q, arg, grid);
                    quantiles.push(q);
                }
                let input = self.take_apart(&call.args[0], grid)?;
                let mut result = Matrix::new(self.meter);
                let label = call.text(1);
                for q in quantiles {
                    self.answer(&input, &Ask::Quantile(q), call.args[0].at, Some(label), grid, &mut result)?;
                }
                Ok(result)
            }
        }
    }

    fn note_quantiles(&self, q: &Column, arg: &Node, grid: &Grid) {
        for step in 0..grid.steps {
            let q = q.get(step);
            if !(0.0..=1.0).contains(&q) {
                self.note(|notes| notes.invalid_quantile(q, arg.at));
            }
        }
    }

    fn take_apart(&self, arg: &Node, grid: &Grid) -> Result<Input<'a>, EvalError> {
        let matrix = self.vector(arg, grid)?;
        let mut by_labels: HashMap<Labels, usize> = HashMap::new();
        let mut classics: Vec<Classic> = Vec::new();
        for (index, track) in matrix.tracks.iter().enumerate() {
            if !track.floats.iter().any(|value| is_float(*value)) {
                continue;
            }
            let le = track.labels.get("le").unwrap_or("");
            let Some(upper) = parse_float(le) else {
                let name = if self.features.delayed_name_removal { track.labels.metric_name() } else { "" };
                self.note(|notes| notes.bad_bucket_label(name, le, arg.at));
                continue;
            };
            let labels = track.labels.retain(|name| name != "le");
            let number = *by_labels.entry(labels).or_insert_with_key(|labels| {
                classics.push(Classic { labels: labels.clone(), drop_name: true, buckets: Vec::new() });
                classics.len() - 1
            });
            classics[number].buckets.push((upper, index));
        }
        for classic in &mut classics {
            classic.buckets.sort_by(|a, b| a.0.partial_cmp(&b.0).unwrap_or(Ordering::Equal));
        }
        let natives = matrix.tracks.iter().enumerate().filter(|(_, track)| !track.histograms.is_empty());
        let natives = natives.map(|(index, track)| (index, by_labels.get(&track.labels).copied())).collect();
        Ok(Input { matrix, classics, natives })
    }

    /// Adds the results for one quantile or fraction; `quantile_label` names the label that gets the quantile.
    fn answer(
        &self,
        input: &Input<'_>,
        ask: &Ask,
        at: Position,
        quantile_label: Option<&str>,
        grid: &Grid,
        result: &mut Matrix<'a>,
    ) -> Result<(), EvalError> {
        let tracks = &input.matrix.tracks;
        let mut conflicts: HashMap<usize, Vec<bool>> = HashMap::new();
        for (index, classic) in &input.natives {
            self.check()?;
            let track = &tracks[*index];
            let mut out = Track::empty(track.labels.clone(), grid.steps);
            for step in 0..grid.steps {
                let Cell::Histogram(histogram) = track.get(step) else { continue };
                if let Some(number) = classic {
                    let buckets = &input.classics[*number].buckets;
                    if buckets.iter().any(|(_, index)| is_float(tracks[*index].floats[step])) {
                        let name =
                            if self.features.delayed_name_removal { track.labels.metric_name() } else { "" };
                        self.note(|notes| notes.mixed_classic_native(name, at));
                        conflicts.entry(*number).or_insert_with(|| vec![false; grid.steps])[step] = true;
                        continue;
                    }
                }
                // Without delayed removal the name is gone before it could be told.
                let name = if self.features.delayed_name_removal { track.labels.metric_name() } else { "" };
                out.floats[step] = self.native(ask, step, histogram.view(), name, at);
            }
            self.emit(out, ask, quantile_label, grid, result)?;
        }
        let mut buckets = Vec::new();
        for (number, classic) in input.classics.iter().enumerate() {
            self.check()?;
            let mut out = Track::empty(classic.labels.clone(), grid.steps);
            out.drop_name = classic.drop_name;
            for step in 0..grid.steps {
                if conflicts.get(&number).is_some_and(|conflict| conflict[step]) {
                    continue;
                }
                buckets.clear();
                for (upper, index) in &classic.buckets {
                    let count = tracks[*index].floats[step];
                    if is_float(count) {
                        buckets.push(Cumulative { upper: *upper, count });
                    }
                }
                if buckets.is_empty() {
                    continue;
                }
                out.floats[step] = match ask {
                    Ask::Fraction(lower, upper) => {
                        bucket_fraction(lower.get(step), upper.get(step), &mut buckets)
                    }
                    Ask::Quantile(q) => {
                        let (value, repair) = bucket_quantile(q.get(step), &mut buckets);
                        if let Some(repair) = repair {
                            let name = if self.features.delayed_name_removal {
                                classic.labels.metric_name()
                            } else {
                                ""
                            };
                            let Repair { lowest, highest, difference } = repair;
                            let time = grid.time(step);
                            self.note(|notes| {
                                notes.forced_monotonicity(name, time, lowest, highest, difference, at);
                            });
                        }
                        value
                    }
                };
            }
            self.emit(out, ask, quantile_label, grid, result)?;
        }
        Ok(())
    }

    fn emit(
        &self,
        mut out: Track,
        ask: &Ask,
        quantile_label: Option<&str>,
        grid: &Grid,
        result: &mut Matrix<'a>,
    ) -> Result<(), EvalError> {
        out.drop_name = true;
        if !self.features.delayed_name_removal {
            out.labels = without_metadata(&out.labels);
        }
        let (Some(label), Ask::Quantile(q)) = (quantile_label, ask) else {
            return result.push_if_any(out);
        };
        // The quantile may differ from step to step, and is part of the labels.
        let mut by_text: Vec<(String, Track)> = Vec::new();
        for step in 0..grid.steps {
            if !is_float(out.floats[step]) {
                continue;
            }
            let text = format_float_label(q.get(step));
            let index = match by_text.iter().position(|(known, _)| *known == text) {
                Some(index) => index,
                None => {
                    let labels = out.labels.to_builder().set(label, &text).build();
                    let mut track = Track::empty(labels, grid.steps);
                    track.drop_name = true;
                    by_text.push((text, track));
                    by_text.len() - 1
                }
            };
            by_text[index].1.floats[step] = out.floats[step];
        }
        by_text.into_iter().try_for_each(|(_, track)| result.push(track))
    }

    fn native(&self, ask: &Ask, step: usize, histogram: HistogramView<'_>, name: &str, at: Position) -> f64 {
        match ask {
            Ask::Quantile(q) => {
                let quantile = histogram::quantile(q.get(step), histogram);
                match quantile.nan_input {
                    Some(NanInput::ResultIsNan) => self.note(|notes| notes.quantile_is_nan(name, at)),
                    Some(NanInput::SkewedHigher) => self.note(|notes| notes.quantile_is_skewed(name, at)),
                    None => {}
                }
                quantile.value
            }
            Ask::Fraction(lower, upper) => {
                let fraction = histogram::fraction(lower.get(step), upper.get(step), histogram);
                if fraction.nan_input {
                    self.note(|notes| notes.fraction_without_nan(name, at));
                }
                fraction.value
            }
        }
    }
}

/// Adds up buckets of equal bounds. They are sorted.
fn coalesce(buckets: &mut Vec<Cumulative>) {
    buckets.dedup_by(|later, first| {
        let same = later.upper == first.upper;
        if same {
            first.count += later.count;
        }
        same
    });
}

/// Whether two counts differ by no more than rounding may have done.
fn almost_equal(a: f64, b: f64) -> bool {
    const TOLERANCE: f64 = 1e-12;
    if a.is_nan() || b.is_nan() {
        return a.is_nan() && b.is_nan();
    }
    if a == b {
        return true;
    }
    let (sum, difference) = (a.abs() + b.abs(), (a - b).abs());
    if a == 0.0 || b == 0.0 || sum < f64::MIN_POSITIVE {
        return difference < TOLERANCE * f64::MIN_POSITIVE;
    }
    difference / sum.min(f64::MAX) < TOLERANCE
}

/// Makes cumulative counts ascend. Differences as small as rounding are repaired silently.
fn make_monotonic(buckets: &mut [Cumulative]) -> Option<Repair> {
    let mut repair: Option<Repair> = None;
    let mut before = buckets[0].count;
    for bucket in &mut buckets[1..] {
        if bucket.count == before {
            continue;
        }
        if almost_equal(before, bucket.count) {
            bucket.count = before;
        } else if bucket.count < before {
            let found = repair.get_or_insert(Repair {
                lowest: f64::INFINITY,
                highest: f64::NEG_INFINITY,
                difference: 0.0,
            });
            found.lowest = found.lowest.min(bucket.upper);
            found.highest = found.highest.max(bucket.upper);
            found.difference = found.difference.max(before - bucket.count);
            bucket.count = before;
        } else {
            before = bucket.count;
        }
    }
    repair
}

/// The `q`-quantile of a classic histogram with sorted buckets, linear within a bucket.
pub(crate) fn bucket_quantile(q: f64, buckets: &mut Vec<Cumulative>) -> (f64, Option<Repair>) {
    if q.is_nan() {
        return (f64::NAN, None);
    }
    if q < 0.0 {
        return (f64::NEG_INFINITY, None);
    }
    if q > 1.0 {
        return (f64::INFINITY, None);
    }
    if buckets.last().is_none_or(|last| last.upper != f64::INFINITY) {
        return (f64::NAN, None);
    }
    coalesce(buckets);
    let repair = make_monotonic(buckets);
    let last = buckets.len() - 1;
    let observations = buckets[last].count;
    if last == 0 || observations == 0.0 {
        return (f64::NAN, repair);
    }
    let mut rank = q * observations;
    let index =
        buckets[..last].partition_point(|bucket| bucket.count.partial_cmp(&rank).is_none_or(Ordering::is_lt));
    let value = if index == last {
        buckets[last - 1].upper
    } else if index == 0 && buckets[0].upper <= 0.0 {
        buckets[0].upper
    } else {
        let Cumulative { upper, mut count } = buckets[index];
        let mut lower = 0.0;
        if index > 0 {
            lower = buckets[index - 1].upper;
            count -= buckets[index - 1].count;
            rank -= buckets[index - 1].count;
        }
        lower + (upper - lower) * (rank / count)
    };
    (value, repair)
}

/// The fraction of observations between two values, of a classic histogram with sorted buckets.
pub(crate) fn bucket_fraction(lower: f64, upper: f64, buckets: &mut Vec<Cumulative>) -> f64 {
    if buckets.last().is_none_or(|last| last.upper != f64::INFINITY) {
        return f64::NAN;
    }
    coalesce(buckets);
    let total = buckets[buckets.len() - 1].count;
    if total == 0.0 || lower.is_nan() || upper.is_nan() {
        return f64::NAN;
    }
    if lower >= upper {
        return 0.0;
    }
    let below = |bound: f64| -> f64 {
        let mut from = if buckets[0].upper <= 0.0 { f64::NEG_INFINITY } else { 0.0 };
        let mut rank = 0.0;
        for bucket in buckets.iter() {
            if from >= bound {
                return rank;
            }
            if bucket.upper > bound {
                if from == f64::NEG_INFINITY {
                    return bucket.count;
                }
                return rank + (bucket.count - rank) * (bound - from) / (bucket.upper - from);
            }
            rank = bucket.count;
            from = bucket.upper;
        }
        total
    };
    let at_most = |rank: f64| if rank > total { total } else { rank };
    (at_most(below(upper)) - at_most(below(lower))) / total
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buckets(pairs: &[(f64, f64)]) -> Vec<Cumulative> {
        pairs.iter().map(|(upper, count)| Cumulative { upper: *upper, count: *count }).collect()
    }

    #[test]
    fn a_quantile_is_linear_within_its_bucket() {
        let mut all = buckets(&[(1.0, 10.0), (2.0, 20.0), (f64::INFINITY, 20.0)]);
        assert_eq!(bucket_quantile(0.75, &mut all), (1.5, None));
    }

    #[test]
    fn a_decrease_is_repaired_and_told() {
        let mut all = buckets(&[(1.0, 10.0), (2.0, 8.0), (f64::INFINITY, 20.0)]);
        let (value, repair) = bucket_quantile(0.5, &mut all);
        assert_eq!(value, 1.0);
        assert_eq!(repair, Some(Repair { lowest: 2.0, highest: 2.0, difference: 2.0 }));
    }

    #[test]
    fn a_fraction_counts_what_lies_between() {
        let mut all = buckets(&[(1.0, 10.0), (2.0, 20.0), (f64::INFINITY, 20.0)]);
        assert_eq!(bucket_fraction(0.5, 1.5, &mut all), 0.5);
    }
}
