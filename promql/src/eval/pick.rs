//! Aggregations that need all series of a group at once: `topk`, `bottomk`, `limitk`, `limit_ratio`, `quantile`,
//! `count_values`.

use super::{
    Evaluator, Grid,
    aggregate::{Groups, group_labels},
    heap::Heap,
    meter::Held,
    plan::Aggregate,
    scalar::Column,
    track::{ABSENT, Cell, HISTOGRAM, Matrix, Track, is_float, is_present},
};
use crate::ast::AggregateOp;
use crate::engine::EvalError;
use crate::go;
use crate::histogram::histogram_text;
use crate::number::{format_float, format_float_g, max, min, to_int64};
use model::{Labels, METRIC_NAME};
use std::collections::HashMap;

/// Series by group.
struct Grouped<'a> {
    matrix: Matrix<'a>,
    labels: Vec<Labels>,
    members: Vec<Vec<usize>>,
}

/// A parameter, and what is checked of it before the first step.
struct Param {
    column: Column,
    lowest: f64,
    highest: f64,
    has_nan: bool,
}

impl<'a> Evaluator<'a> {
    fn param(&self, aggregate: &Aggregate, grid: &Grid) -> Result<Param, EvalError> {
        let column = match &aggregate.param {
            Some(node) => self.scalar(node, grid)?,
            None => Column::Constant(f64::NAN),
        };
        let mut param = Param { column, lowest: f64::MAX, highest: -f64::MAX, has_nan: false };
        for step in 0..grid.steps {
            let value = param.column.get(step);
            param.highest = max(param.highest, value);
            param.lowest = min(param.lowest, value);
            param.has_nan |= value.is_nan();
        }
        Ok(param)
    }

    fn grouped(&self, aggregate: &Aggregate, grid: &Grid) -> Result<Grouped<'a>, EvalError> {
        let matrix = self.vector(&aggregate.inner, grid)?;
        let mut numbers = Groups::default();
        let mut members: Vec<Vec<usize>> = Vec::new();
        for (index, track) in matrix.tracks.iter().enumerate() {
            let group = numbers.index(group_labels(&track.labels, &aggregate.grouping, aggregate.without));
            if group == members.len() {
                members.push(Vec::new());
            }
            members[group].push(index);
        }
        Ok(Grouped { matrix, labels: numbers.labels, members })
    }

    /// `quantile`.
    pub(crate) fn quantile_aggregate(
        &self,
        aggregate: &Aggregate,
        grid: &Grid,
    ) -> Result<Matrix<'a>, EvalError> {
        let param = self.param(aggregate, grid)?;
        let grouped = self.grouped(aggregate, grid)?;
        let at = aggregate.param.as_ref().map_or(aggregate.at, |param| param.at);
        let bad = [
            (param.has_nan, f64::NAN),
            (param.highest > 1.0, param.highest),
            (param.lowest < 0.0, param.lowest),
        ];
        for (_, value) in bad.iter().filter(|(is_bad, _)| *is_bad) {
            self.note(|notes| notes.invalid_quantile(*value, at));
        }
        let mut result = Matrix::new(self.meter);
        let mut values = Vec::new();
        let mut unchecked = 0;
        for (labels, members) in grouped.labels.into_iter().zip(&grouped.members) {
            self.check()?;
            let mut out = Track::empty(labels, grid.steps);
            let tracks = || members.iter().map(|index| &grouped.matrix.tracks[*index]);
            out.drop_name = tracks().any(|track| track.drop_name);
            if tracks().any(|track| track.histograms.has_any()) {
                self.note(|notes| notes.ignored_in_aggregation("quantile", aggregate.inner.at));
            }
            for step in 0..grid.steps {
                self.check_now_and_then(&mut unchecked, members.len() as u64)?;
                values.clear();
                values.extend(tracks().map(|track| track.floats[step]).filter(|value| is_float(*value)));
                if !values.is_empty() {
                    out.floats[step] = quantile(param.column.get(step), &mut values);
                }
            }
            result.push_if_any(out)?;
        }
        Ok(result)
    }

    /// `topk`, `bottomk`, `limitk`, `limit_ratio`.
    pub(crate) fn pick(&self, aggregate: &Aggregate, grid: &Grid) -> Result<Matrix<'a>, EvalError> {
        let param = self.param(aggregate, grid)?;
        let grouped = self.grouped(aggregate, grid)?;
        let op = aggregate.op;
        if !self.param_is_usable(aggregate, &param)? {
            return Ok(Matrix::new(self.meter));
        }
        let Grouped { matrix, members, .. } = grouped;
        let offsets: Vec<f64> = if op == AggregateOp::LimitRatio {
            matrix.tracks.iter().map(|track| sampling_offset(&track.labels)).collect()
        } else {
            Vec::new()
        };
        let mut masks_held = Held::new(self.meter);
        masks_held.take((grid.steps as u64).saturating_mul(matrix.tracks.len() as u64))?;
        let mut masks: Vec<Vec<bool>> = vec![vec![false; grid.steps]; matrix.tracks.len()];
        let mut order_out: Vec<usize> = Vec::new();
        let mut unchecked = 0;
        for members in &members {
            self.check()?;
            for step in 0..grid.steps {
                self.check_now_and_then(&mut unchecked, members.len() as u64)?;
                let value = param.column.get(step);
                let present = || members.iter().filter(|i| is_present(matrix.tracks[**i].floats[step]));
                let count = || usize::try_from(to_int64(value)).unwrap_or(0);
                let picked: Vec<usize> = match op {
                    AggregateOp::LimitRatio => {
                        present().filter(|index| is_in_ratio(offsets[**index], value)).copied().collect()
                    }
                    AggregateOp::Limitk => present().take(count()).copied().collect(),
                    _ => self.extremes(aggregate, &matrix.tracks, members, step, count()),
                };
                let picked = match op {
                    AggregateOp::Limitk | AggregateOp::LimitRatio if grid.is_instant() => {
                        as_in_a_heap(&matrix.tracks, &picked)
                    }
                    _ => picked,
                };
                if grid.is_instant() {
                    order_out.extend(&picked);
                }
                for index in picked {
                    masks[index].get_mut(step).into_iter().for_each(|kept| *kept = true);
                }
            }
        }
        let mut tracks: Vec<Option<Track>> = matrix.tracks.into_iter().map(Some).collect();
        if !grid.is_instant() {
            order_out = (0..tracks.len()).collect();
        }
        let mut result = Matrix::new(self.meter);
        for index in order_out {
            let Some(mut track) = tracks[index].take() else { continue };
            let cells = track.floats.iter_mut().zip(&masks[index]);
            cells.filter(|(_, kept)| !**kept).for_each(|(value, _)| *value = ABSENT);
            result.push_if_any(track)?;
        }
        Ok(result)
    }

    /// Checks a parameter as a whole; `false` if the result is empty.
    fn param_is_usable(&self, aggregate: &Aggregate, param: &Param) -> Result<bool, EvalError> {
        let at = aggregate.param.as_ref().map_or(aggregate.at, |param| param.at);
        if aggregate.op == AggregateOp::LimitRatio {
            if param.highest == 0.0 && param.lowest == 0.0 {
                return Ok(false);
            }
            if param.has_nan {
                return Err(EvalError::execution("Ratio value is NaN"));
            }
            if param.highest > 1.0 {
                self.note(|notes| notes.invalid_ratio(param.highest, 1.0, at));
            }
            if param.lowest < -1.0 {
                self.note(|notes| notes.invalid_ratio(param.lowest, -1.0, at));
            }
            return Ok(true);
        }
        if param.highest < 1.0 {
            return Ok(false);
        }
        if param.has_nan {
            return Err(EvalError::execution("Parameter value is NaN"));
        }
        if param.lowest <= -9_223_372_036_854_775_808.0 {
            let value = format_float_g(param.lowest);
            return Err(EvalError::execution(format!("Scalar value {value} underflows int64")));
        }
        if param.highest >= 9_223_372_036_854_775_807.0 {
            let value = format_float_g(param.highest);
            return Err(EvalError::execution(format!("Scalar value {value} overflows int64")));
        }
        Ok(true)
    }

    /// The members with the `count` largest or smallest floats, best first; NaN is the worst either way.
    fn extremes(
        &self,
        aggregate: &Aggregate,
        tracks: &[Track],
        members: &[usize],
        step: usize,
        count: usize,
    ) -> Vec<usize> {
        if count == 0 {
            return Vec::new();
        }
        let value = |index: usize| tracks[index].floats[step];
        if members.iter().any(|index| value(*index).to_bits() == HISTOGRAM.to_bits()) {
            self.note(|notes| notes.ignored_in_aggregation(aggregate.op.as_str(), aggregate.at));
        }
        let mut heap = Heap::new(aggregate.op == AggregateOp::Bottomk);
        for index in members.iter().filter(|index| is_float(value(**index))) {
            heap.offer(value(*index), *index, count);
        }
        heap.sorted()
    }

    /// `count_values`: one series per group and value.
    pub(crate) fn count_values(&self, aggregate: &Aggregate, grid: &Grid) -> Result<Matrix<'a>, EvalError> {
        use super::plan::Kind;
        let label = match aggregate.param.as_ref().map(|param| &param.kind) {
            Some(Kind::Text(text)) => text.as_str(),
            _ => "",
        };
        if label.is_empty() || !go::is_utf8(label) {
            return Err(EvalError::execution(format!("invalid label name {}", go::quote(label))));
        }
        let without_label: Vec<String> =
            aggregate.grouping.iter().filter(|name| *name != label).cloned().collect();
        // `without` takes the name away, even if it is the value.
        let dropped = label == METRIC_NAME || aggregate.grouping.iter().any(|name| name == label);
        let keeps_label = !aggregate.without || !dropped;
        let mut groups = Groups::default();
        let mut outputs: HashMap<(usize, Value), usize> = HashMap::new();
        let mut by_labels: HashMap<Labels, usize> = HashMap::new();
        let mut tracks: Vec<Track> = Vec::new();
        let mut result = Matrix::new(self.meter);
        let mut input = Matrix::new(self.meter);
        self.stream(&aggregate.inner, grid, &mut |track| {
            input.held.hold(track.points())?;
            let mut labels = group_labels(&track.labels, &without_label, aggregate.without);
            if labels.get(label).is_some() {
                labels = labels.retain(|name| name != label);
            }
            let group = groups.index(labels);
            for step in 0..grid.steps {
                let value = match track.get(step) {
                    Cell::Absent => continue,
                    Cell::Float(value) if value.is_nan() => Value::Float(f64::NAN.to_bits()),
                    Cell::Float(value) => Value::Float(value.to_bits()),
                    Cell::Histogram(histogram) => Value::Text(histogram_text(histogram.view())),
                };
                let index = match outputs.get(&(group, value.clone())) {
                    Some(index) => *index,
                    None => {
                        let mut labels = groups.labels[group].clone();
                        if keeps_label {
                            labels = labels.to_builder().set(label, &value.text()).build();
                        }
                        let next = tracks.len();
                        let index = *by_labels.entry(labels.clone()).or_insert(next);
                        if index == next {
                            result.held.take(grid.steps as u64 * 8 + 128)?;
                            result.held.hold(1)?;
                            tracks.push(Track::empty(labels, grid.steps));
                        }
                        outputs.insert((group, value), index);
                        index
                    }
                };
                let count = &mut tracks[index].floats[step];
                *count = if is_float(*count) { *count + 1.0 } else { 1.0 };
            }
            Ok(())
        })?;
        for track in tracks {
            result.push(track)?;
        }
        Ok(result)
    }
}

/// Series of one step in the order in which Prometheus's heap leaves them.
fn as_in_a_heap(tracks: &[Track], picked: &[usize]) -> Vec<usize> {
    let mut heap = Heap::default();
    for index in picked {
        let value = tracks[*index].floats[0];
        heap.push(if is_float(value) { value } else { 0.0 }, *index);
    }
    heap.unsorted()
}

/// A value as a key.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Value {
    Float(u64),
    Text(String),
}

impl Value {
    fn text(&self) -> String {
        match self {
            Value::Float(bits) => format_float(f64::from_bits(*bits)),
            Value::Text(text) => text.clone(),
        }
    }
}

/// The `q`-quantile of values, between two of them linear. Sorts them.
pub(crate) fn quantile(q: f64, values: &mut [f64]) -> f64 {
    if values.is_empty() || q.is_nan() {
        return f64::NAN;
    }
    if q < 0.0 {
        return f64::NEG_INFINITY;
    }
    if q > 1.0 {
        return f64::INFINITY;
    }
    values.sort_unstable_by(|a, b| match (a.is_nan(), b.is_nan()) {
        (false, false) => a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal),
        (a, b) => b.cmp(&a),
    });
    let last = (values.len() - 1) as f64;
    let rank = q * last;
    let below = rank.floor().max(0.0);
    let above = (below + 1.0).min(last);
    let weight = rank - rank.floor();
    values[below as usize] * (1.0 - weight) + values[above as usize] * weight
}

/// Whether a series at this offset is in the sample; a negative ratio means the complement.
fn is_in_ratio(offset: f64, ratio: f64) -> bool {
    let ratio = ratio.clamp(-1.0, 1.0);
    if ratio < 0.0 { offset >= 1.0 + ratio } else { offset < ratio }
}

/// Where in [0, 1) a series lies for `limit_ratio`: Prometheus's hash of its labels over the largest hash, so that
/// both pick the same series.
fn sampling_offset(labels: &Labels) -> f64 {
    let mut packed = Vec::with_capacity(128);
    for (name, value) in labels {
        for text in [name, value] {
            let len = text.len();
            if len < 255 {
                packed.push(len as u8);
            } else {
                packed.extend_from_slice(&[255, len as u8, (len >> 8) as u8, (len >> 16) as u8]);
            }
            packed.extend_from_slice(text.as_bytes());
        }
    }
    xxh64(&packed) as f64 / u64::MAX as f64
}

const PRIMES: [u64; 5] = [
    0x9E37_79B1_85EB_CA87,
    0xC2B2_AE3D_27D4_EB4F,
    0x1656_67B1_9E37_79F9,
    0x85EB_CA77_C2B2_AE63,
    0x27D4_EB2F_1656_67C5,
];

fn round(lane: u64, input: u64) -> u64 {
    lane.wrapping_add(input.wrapping_mul(PRIMES[1])).rotate_left(31).wrapping_mul(PRIMES[0])
}

/// xxHash64 with seed 0.
fn xxh64(data: &[u8]) -> u64 {
    let word = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().expect("eight bytes"));
    let mut stripes = data.chunks_exact(32);
    let mut hash = if data.len() >= 32 {
        let mut lanes = [PRIMES[0].wrapping_add(PRIMES[1]), PRIMES[1], 0, 0_u64.wrapping_sub(PRIMES[0])];
        for stripe in stripes.by_ref() {
            for (lane, bytes) in lanes.iter_mut().zip(stripe.chunks_exact(8)) {
                *lane = round(*lane, word(bytes));
            }
        }
        let turns = [1, 7, 12, 18];
        let sum =
            lanes.iter().zip(turns).fold(0_u64, |sum, (lane, by)| sum.wrapping_add(lane.rotate_left(by)));
        lanes
            .iter()
            .fold(sum, |hash, lane| (hash ^ round(0, *lane)).wrapping_mul(PRIMES[0]).wrapping_add(PRIMES[3]))
    } else {
        PRIMES[4]
    };
    hash = hash.wrapping_add(data.len() as u64);
    let mut words = stripes.remainder().chunks_exact(8);
    for bytes in words.by_ref() {
        hash = (hash ^ round(0, word(bytes))).rotate_left(27).wrapping_mul(PRIMES[0]).wrapping_add(PRIMES[3]);
    }
    let mut rest = words.remainder();
    if rest.len() >= 4 {
        let (four, after) = rest.split_at(4);
        let value = u64::from(u32::from_le_bytes(four.try_into().expect("four bytes")));
        hash = (hash ^ value.wrapping_mul(PRIMES[0]))
            .rotate_left(23)
            .wrapping_mul(PRIMES[1])
            .wrapping_add(PRIMES[2]);
        rest = after;
    }
    for byte in rest {
        hash = (hash ^ u64::from(*byte).wrapping_mul(PRIMES[4])).rotate_left(11).wrapping_mul(PRIMES[0]);
    }
    hash = (hash ^ (hash >> 33)).wrapping_mul(PRIMES[1]);
    hash = (hash ^ (hash >> 29)).wrapping_mul(PRIMES[2]);
    hash ^ (hash >> 32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_xxhash64() {
        assert_eq!(xxh64(b""), 0xef46_db37_51d8_e999);
        assert_eq!(xxh64(b"a"), 0xd24e_c4f1_a98c_6e5b);
        assert_eq!(
            xxh64(b"Call me Ishmael. Some years ago--never mind how long precisely-"),
            0x02a2_e854_70d6_fd96
        );
    }

    #[test]
    fn a_quantile_lies_between_two_values() {
        assert_eq!(quantile(0.5, &mut [3.0, 1.0, 2.0, 4.0]), 2.5);
        assert_eq!(quantile(0.0, &mut [3.0, 1.0]), 1.0);
        assert_eq!(quantile(2.0, &mut [3.0]), f64::INFINITY);
    }
}
