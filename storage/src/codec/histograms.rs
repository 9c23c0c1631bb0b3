//! A column with native histograms: runs of values of one kind and layout, each run in columns.
//!
//! ```text
//!  │ version │ run │ run │ ...
//!  run    │ kind │ n │ floats: a block of n                                                        │
//!         │ kind │ n │ layout │ hints │ count │ zero count │ sum │ a block per bucket, n values each │
//!  layout │ schema │ zero threshold, 8 bytes │ spans + │ spans - │ bounds n, 8 bytes each │
//! ```
//!
//! A bucket's counts over time are a counter: they are kept absolute (integers sum their differences up, wrapping),
//! so that a steady histogram costs what as many steady counters do. A histogram whose layout differs from the one
//! before begins a new run; a stale one has no buckets and is one.

use super::{
    DecodeError, Reader,
    block::{self, Encoder},
    put_signed, put_varint, times,
};
use model::{
    CounterResetHint, CustomBounds, FloatHistogram, Histogram, HistogramColumn, HistogramLayout, STALE_NAN,
    Span, Value, is_stale_nan,
};
use std::sync::Arc;

pub(crate) const VERSION: u8 = 1;
const FLOATS: u8 = 0;
const INTEGERS: u8 = 1;
const FLOAT_HISTOGRAMS: u8 = 2;

/// Cells (buckets, spans and 4) times histograms in one run of more than one: what a few bytes can make a decoder reserve.
const CELLS_MAX: usize = 1 << 20;
/// Buckets, spans or bounds of one histogram.
const BUCKETS_MAX: usize = 1 << 16;

/// What histograms of one run have in common.
#[derive(Clone, Debug)]
struct Layout {
    schema: i32,
    zero_threshold: f64,
    positive: Vec<Span>,
    negative: Vec<Span>,
    positive_buckets: usize,
    negative_buckets: usize,
    bounds: CustomBounds,
}

impl Layout {
    /// What one histogram takes in memory, in words: spans are copied into each.
    fn cells(&self) -> usize {
        self.positive_buckets + self.negative_buckets + self.positive.len() + self.negative.len() + 4
    }

    fn into_shared(self) -> HistogramLayout {
        HistogramLayout {
            schema: self.schema,
            zero_threshold: self.zero_threshold,
            positive_spans: self.positive,
            negative_spans: self.negative,
            positive_buckets: self.positive_buckets,
            negative_buckets: self.negative_buckets,
            custom_values: self.bounds,
        }
    }

    fn put(&self, out: &mut Vec<u8>) {
        put_signed(out, i64::from(self.schema));
        out.extend_from_slice(&self.zero_threshold.to_bits().to_le_bytes());
        for (spans, buckets) in
            [(&self.positive, self.positive_buckets), (&self.negative, self.negative_buckets)]
        {
            put_varint(out, spans.len() as u64);
            for span in spans {
                put_signed(out, i64::from(span.offset));
                put_varint(out, u64::from(span.length));
            }
            // Kept beside the spans: what came in is stored even where the two disagree.
            put_varint(out, buckets as u64);
        }
        put_varint(out, self.bounds.len() as u64);
        self.bounds.iter().for_each(|bound| out.extend_from_slice(&bound.to_bits().to_le_bytes()));
    }

    fn read(reader: &mut Reader<'_>) -> Result<Layout, DecodeError> {
        let schema = i32::try_from(reader.signed()?).map_err(|_| DecodeError::Malformed("schema"))?;
        let zero_threshold = float(reader)?;
        let (positive, positive_buckets) = read_spans(reader)?;
        let (negative, negative_buckets) = read_spans(reader)?;
        let bounds = reader.bounded(BUCKETS_MAX, "custom bounds")?;
        let bounds = (0..bounds).map(|_| float(reader)).collect::<Result<Vec<_>, _>>()?;
        Ok(Layout {
            schema,
            zero_threshold,
            positive,
            negative,
            positive_buckets,
            negative_buckets,
            bounds: Arc::from(bounds),
        })
    }
}

fn float(reader: &mut Reader<'_>) -> Result<f64, DecodeError> {
    Ok(f64::from_bits(u64::from_le_bytes(reader.array()?)))
}

fn read_spans(reader: &mut Reader<'_>) -> Result<(Vec<Span>, usize), DecodeError> {
    let count = reader.bounded(BUCKETS_MAX, "spans")?;
    let mut spans = Vec::new();
    for _ in 0..count {
        let offset = i32::try_from(reader.signed()?).map_err(|_| DecodeError::Malformed("span offset"))?;
        let length = u32::try_from(reader.varint()?).map_err(|_| DecodeError::Malformed("span length"))?;
        spans.push(Span { offset, length });
    }
    Ok((spans, reader.bounded(BUCKETS_MAX, "buckets")?))
}

fn same_bounds(a: &CustomBounds, b: &CustomBounds) -> bool {
    Arc::ptr_eq(a, b) || a.iter().map(|v| v.to_bits()).eq(b.iter().map(|v| v.to_bits()))
}

macro_rules! layout_of {
    ($name:ident, $same:ident, $histogram:ty, $positive:ident, $negative:ident) => {
        fn $name(histogram: &$histogram) -> Layout {
            Layout {
                schema: histogram.schema,
                zero_threshold: histogram.zero_threshold,
                positive: histogram.positive_spans.clone(),
                negative: histogram.negative_spans.clone(),
                positive_buckets: histogram.$positive.len(),
                negative_buckets: histogram.$negative.len(),
                bounds: histogram.custom_values.clone(),
            }
        }

        fn $same(a: &$histogram, b: &$histogram) -> bool {
            a.schema == b.schema
                && a.zero_threshold.to_bits() == b.zero_threshold.to_bits()
                && a.positive_spans == b.positive_spans
                && a.negative_spans == b.negative_spans
                && a.$positive.len() == b.$positive.len()
                && a.$negative.len() == b.$negative.len()
                && same_bounds(&a.custom_values, &b.custom_values)
        }
    };
}
layout_of!(integer_layout, same_integer_layout, Histogram, positive_deltas, negative_deltas);
layout_of!(float_layout, same_float_layout, FloatHistogram, positive_buckets, negative_buckets);

fn hint_number(hint: CounterResetHint) -> i64 {
    match hint {
        CounterResetHint::Unknown => 0,
        CounterResetHint::Reset => 1,
        CounterResetHint::NotReset => 2,
        CounterResetHint::Gauge => 3,
    }
}

fn hint_of(number: i64) -> Result<CounterResetHint, DecodeError> {
    Ok(match number {
        0 => CounterResetHint::Unknown,
        1 => CounterResetHint::Reset,
        2 => CounterResetHint::NotReset,
        3 => CounterResetHint::Gauge,
        _ => return Err(DecodeError::Malformed("counter reset hint")),
    })
}

/// Whether `b` may follow `a` in one run.
fn same_run(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Float(_), Value::Float(_)) => true,
        (Value::Histogram(a), Value::Histogram(b)) => same_integer_layout(a, b),
        (Value::FloatHistogram(a), Value::FloatHistogram(b)) => same_float_layout(a, b),
        _ => false,
    }
}

/// Appends a column of values of any kind.
///
/// # Panics
/// If there are more than [`block::VALUES_MAX`], or a histogram has more than 65 536 buckets, spans or bounds on
/// one side: what takes histograms in refuses those.
pub fn encode(values: &[Value], encoder: &mut Encoder, out: &mut Vec<u8>) {
    assert!(values.len() <= block::VALUES_MAX);
    out.push(VERSION);
    let mut rest = values;
    while let Some(first) = rest.first() {
        let longest = match first {
            Value::Float(_) => rest.len(),
            Value::Histogram(h) => CELLS_MAX / integer_layout(h).cells(),
            Value::FloatHistogram(h) => CELLS_MAX / float_layout(h).cells(),
        };
        let same = rest.iter().take_while(|value| same_run(first, value)).count();
        let (run, after) = rest.split_at(same.min(longest.max(1)));
        rest = after;
        put_run(run, encoder, out);
    }
}

fn put_run(run: &[Value], encoder: &mut Encoder, out: &mut Vec<u8>) {
    let head = |kind: u8, out: &mut Vec<u8>| {
        out.push(kind);
        put_varint(out, run.len() as u64);
    };
    match &run[0] {
        Value::Float(_) => {
            head(FLOATS, out);
            let floats: Vec<f64> =
                run.iter().filter_map(|v| if let Value::Float(f) = v { Some(*f) } else { None }).collect();
            encoder.encode(&floats, out);
        }
        Value::Histogram(_) => {
            head(INTEGERS, out);
            let run: Vec<&Histogram> = run
                .iter()
                .filter_map(|v| if let Value::Histogram(h) = v { Some(&**h) } else { None })
                .collect();
            put_integers(&run, encoder, out);
        }
        Value::FloatHistogram(_) => {
            head(FLOAT_HISTOGRAMS, out);
            let run: Vec<&FloatHistogram> = run
                .iter()
                .filter_map(|v| if let Value::FloatHistogram(h) = v { Some(&**h) } else { None })
                .collect();
            put_floats(&run, encoder, out);
        }
    }
}

fn check_sizes(layout: &Layout) {
    let sizes = [
        layout.positive.len(),
        layout.negative.len(),
        layout.positive_buckets,
        layout.negative_buckets,
        layout.bounds.len(),
    ];
    assert!(sizes.iter().all(|size| *size <= BUCKETS_MAX));
}

fn put_integers(run: &[&Histogram], encoder: &mut Encoder, out: &mut Vec<u8>) {
    let layout = integer_layout(run[0]);
    check_sizes(&layout);
    layout.put(out);
    let mut column: Vec<i64> = run.iter().map(|h| hint_number(h.counter_reset_hint)).collect();
    encoder.encode_timestamps(&column, out);
    let mut put = |value: &dyn Fn(&Histogram) -> i64| {
        column.clear();
        column.extend(run.iter().map(|h| value(h)));
        encoder.encode_timestamps(&column, out);
    };
    put(&|h| h.count as i64);
    put(&|h| h.zero_count as i64);
    let sums: Vec<f64> = run.iter().map(|h| h.sum).collect();
    encoder.encode(&sums, out);
    let sides: [fn(&Histogram) -> &[i64]; 2] = [|h| &h.positive_deltas, |h| &h.negative_deltas];
    for side in sides {
        let mut absolute = vec![0_i64; run.len()];
        for bucket in 0..side(run[0]).len() {
            for (count, histogram) in absolute.iter_mut().zip(run) {
                *count = count.wrapping_add(side(histogram)[bucket]);
            }
            encoder.encode_timestamps(&absolute, out);
        }
    }
}

fn put_floats(run: &[&FloatHistogram], encoder: &mut Encoder, out: &mut Vec<u8>) {
    let layout = float_layout(run[0]);
    check_sizes(&layout);
    layout.put(out);
    let hints: Vec<i64> = run.iter().map(|h| hint_number(h.counter_reset_hint)).collect();
    encoder.encode_timestamps(&hints, out);
    let mut column = Vec::with_capacity(run.len());
    let mut put = |value: &dyn Fn(&FloatHistogram) -> f64| {
        column.clear();
        column.extend(run.iter().map(|h| value(h)));
        encoder.encode(&column, out);
    };
    put(&|h| h.count);
    put(&|h| h.zero_count);
    put(&|h| h.sum);
    (0..layout.positive_buckets).for_each(|i| put(&|h| h.positive_buckets[i]));
    (0..layout.negative_buckets).for_each(|i| put(&|h| h.negative_buckets[i]));
}

/// Appends the `count` values of a column to `out`.
///
/// # Errors
/// If the bytes are not a column of `count` values; `out` is then as long as before.
pub fn decode(bytes: &[u8], count: usize, out: &mut Vec<Value>) -> Result<(), DecodeError> {
    let start = out.len();
    let result = read(bytes, count, out);
    if result.is_err() {
        out.truncate(start);
    }
    result
}

fn read(bytes: &[u8], count: usize, out: &mut Vec<Value>) -> Result<(), DecodeError> {
    let mut reader = Reader::new(bytes);
    let version = reader.u8()?;
    if version != VERSION {
        return Err(DecodeError::Version(version));
    }
    let mut left = count;
    while left > 0 {
        let kind = reader.u8()?;
        let len = reader.bounded(left.min(block::VALUES_MAX), "run length")?;
        if len == 0 {
            return Err(DecodeError::Malformed("run length"));
        }
        left -= len;
        match kind {
            FLOATS => {
                let mut floats = Vec::new();
                block::read(&mut reader, len, &mut floats)?;
                out.extend(floats.into_iter().map(Value::Float));
            }
            INTEGERS | FLOAT_HISTOGRAMS => {
                let layout = Layout::read(&mut reader)?;
                if len > 1 && len.saturating_mul(layout.cells()) > CELLS_MAX {
                    return Err(DecodeError::Malformed("run length"));
                }
                if kind == INTEGERS {
                    read_integers(&mut reader, &layout, len, out)?;
                } else {
                    read_floats(&mut reader, &layout, len, out)?;
                }
            }
            _ => return Err(DecodeError::Malformed("run kind")),
        }
    }
    reader.end()
}

fn read_integers(
    reader: &mut Reader<'_>,
    layout: &Layout,
    len: usize,
    out: &mut Vec<Value>,
) -> Result<(), DecodeError> {
    let mut run = vec![Histogram::default(); len];
    let mut column: Vec<i64> = Vec::with_capacity(len);
    let mut next = |reader: &mut Reader<'_>, set: &mut dyn FnMut(usize, i64) -> Result<(), DecodeError>| {
        column.clear();
        times::read(reader, len, &mut column)?;
        column.iter().enumerate().try_for_each(|(i, value)| set(i, *value))
    };
    next(reader, &mut |i, hint| {
        run[i].counter_reset_hint = hint_of(hint)?;
        Ok(())
    })?;
    next(reader, &mut |i, count| {
        run[i].count = count as u64;
        Ok(())
    })?;
    next(reader, &mut |i, count| {
        run[i].zero_count = count as u64;
        Ok(())
    })?;
    let mut sums = Vec::with_capacity(len);
    block::read(reader, len, &mut sums)?;
    for (histogram, sum) in run.iter_mut().zip(sums) {
        histogram.sum = sum;
        histogram.schema = layout.schema;
        histogram.zero_threshold = layout.zero_threshold;
        histogram.positive_spans = layout.positive.clone();
        histogram.negative_spans = layout.negative.clone();
        histogram.custom_values = layout.bounds.clone();
    }
    type Side = fn(&mut Histogram) -> &mut Vec<i64>;
    let sides: [(usize, Side); 2] = [
        (layout.positive_buckets, |h| &mut h.positive_deltas),
        (layout.negative_buckets, |h| &mut h.negative_deltas),
    ];
    for (buckets, side) in sides {
        let mut before = vec![0_i64; len];
        for _ in 0..buckets {
            next(reader, &mut |i, count| {
                side(&mut run[i]).push(count.wrapping_sub(before[i]));
                before[i] = count;
                Ok(())
            })?;
        }
    }
    out.extend(run.into_iter().map(|h| Value::Histogram(Arc::new(h))));
    Ok(())
}

fn read_floats(
    reader: &mut Reader<'_>,
    layout: &Layout,
    len: usize,
    out: &mut Vec<Value>,
) -> Result<(), DecodeError> {
    let mut hints = Vec::with_capacity(len);
    times::read(reader, len, &mut hints)?;
    let mut run = Vec::with_capacity(len);
    for hint in hints {
        run.push(FloatHistogram {
            counter_reset_hint: hint_of(hint)?,
            schema: layout.schema,
            zero_threshold: layout.zero_threshold,
            positive_spans: layout.positive.clone(),
            negative_spans: layout.negative.clone(),
            custom_values: layout.bounds.clone(),
            ..FloatHistogram::default()
        });
    }
    let mut column = Vec::with_capacity(len);
    let mut next = |set: &dyn Fn(&mut FloatHistogram, f64)| {
        column.clear();
        block::read(reader, len, &mut column)?;
        run.iter_mut().zip(&column).for_each(|(histogram, value)| set(histogram, *value));
        Ok(())
    };
    next(&|h, v| h.count = v)?;
    next(&|h, v| h.zero_count = v)?;
    next(&|h, v| h.sum = v)?;
    (0..layout.positive_buckets).try_for_each(|_| next(&|h, v| h.positive_buckets.push(v)))?;
    (0..layout.negative_buckets).try_for_each(|_| next(&|h, v| h.negative_buckets.push(v)))?;
    out.extend(run.into_iter().map(|h| Value::FloatHistogram(Arc::new(h))));
    Ok(())
}

/// Where [`decode_within`] puts what it reads.
pub struct Within<'o> {
    /// For each value wanted, its position among the samples; ascending.
    pub positions: &'o [u32],
    /// Takes the histograms.
    pub histograms: &'o mut HistogramColumn,
    /// Takes the floats, and the stale markers of histograms, by position.
    pub floats: &'o mut Vec<(u32, f64)>,
}

/// Reads of the `count` values of a column those from `first` on that have a place in `out`. Nothing that lies behind
/// them is looked at.
///
/// # Errors
/// If the bytes up to there are not such a column; `out` may then hold part of it.
pub fn decode_within(
    bytes: &[u8],
    count: usize,
    first: usize,
    out: &mut Within<'_>,
) -> Result<(), DecodeError> {
    let mut reader = Reader::new(bytes);
    let version = reader.u8()?;
    if version != VERSION {
        return Err(DecodeError::Version(version));
    }
    let end = count.min(first.saturating_add(out.positions.len()));
    let mut scratch = Scratch::default();
    let mut at = 0;
    while at < end {
        let kind = reader.u8()?;
        let len = reader.bounded((count - at).min(block::VALUES_MAX), "run length")?;
        if len == 0 {
            return Err(DecodeError::Malformed("run length"));
        }
        // The wanted part of the run, and the positions of that.
        let wanted = first.clamp(at, at + len) - at..end.min(at + len) - at;
        let from = (at + wanted.start).saturating_sub(first);
        let positions = &out.positions[from..from + wanted.len()];
        at += len;
        if kind == FLOATS {
            scratch.floats.clear();
            block::read(&mut reader, len, &mut scratch.floats)?;
            out.floats.extend(positions.iter().copied().zip(scratch.floats[wanted].iter().copied()));
            continue;
        }
        let layout = Layout::read(&mut reader)?;
        if len > 1 && len.saturating_mul(layout.cells()) > CELLS_MAX {
            return Err(DecodeError::Malformed("run length"));
        }
        let heads = match kind {
            INTEGERS => read_heads(&mut reader, len, &mut scratch, read_counts)?,
            FLOAT_HISTOGRAMS => read_heads(&mut reader, len, &mut scratch, block::read)?,
            _ => return Err(DecodeError::Malformed("run kind")),
        };
        // A stale marker is a float; what else there is of it does not matter.
        let mut live: Vec<u32> = Vec::with_capacity(wanted.len());
        let mut live_heads = Vec::with_capacity(wanted.len());
        for (index, position) in wanted.zip(positions) {
            if is_stale_nan(heads.sums[index]) {
                out.floats.push((*position, STALE_NAN));
            } else {
                live.push(index as u32);
                live_heads.push((*position, heads.hints[index]));
            }
        }
        let layout = Arc::new(layout.into_shared());
        let width = layout.width();
        let rows = out.histograms.grow(&layout, live_heads);
        for (row, index) in rows.chunks_exact_mut(width).zip(&live) {
            row[HistogramLayout::COUNT] = heads.counts[*index as usize];
            row[HistogramLayout::ZERO] = heads.zeros[*index as usize];
            row[HistogramLayout::SUM] = heads.sums[*index as usize];
        }
        for bucket in HistogramLayout::BUCKETS..width {
            if kind == INTEGERS {
                scratch.integers.clear();
                times::read(&mut reader, len, &mut scratch.integers)?;
                for (row, index) in rows.chunks_exact_mut(width).zip(&live) {
                    row[bucket] = scratch.integers[*index as usize] as f64;
                }
            } else {
                scratch.floats.clear();
                block::read(&mut reader, len, &mut scratch.floats)?;
                for (row, index) in rows.chunks_exact_mut(width).zip(&live) {
                    row[bucket] = scratch.floats[*index as usize];
                }
            }
        }
    }
    Ok(())
}

/// Buffers that are used again.
#[derive(Default)]
struct Scratch {
    integers: Vec<i64>,
    floats: Vec<f64>,
}

/// What a run has beside its buckets.
struct Heads {
    hints: Vec<CounterResetHint>,
    counts: Vec<f64>,
    zeros: Vec<f64>,
    sums: Vec<f64>,
}

/// Reads a column of counts without a sign.
fn read_counts(reader: &mut Reader<'_>, len: usize, out: &mut Vec<f64>) -> Result<(), DecodeError> {
    let mut counts = Vec::with_capacity(len);
    times::read(reader, len, &mut counts)?;
    out.extend(counts.iter().map(|count| *count as u64 as f64));
    Ok(())
}

fn read_heads(
    reader: &mut Reader<'_>,
    len: usize,
    scratch: &mut Scratch,
    read_counts: impl Fn(&mut Reader<'_>, usize, &mut Vec<f64>) -> Result<(), DecodeError>,
) -> Result<Heads, DecodeError> {
    scratch.integers.clear();
    times::read(reader, len, &mut scratch.integers)?;
    let hints = scratch.integers.iter().map(|hint| hint_of(*hint)).collect::<Result<_, _>>()?;
    let (mut counts, mut zeros, mut sums) = (Vec::new(), Vec::new(), Vec::new());
    read_counts(reader, len, &mut counts)?;
    read_counts(reader, len, &mut zeros)?;
    block::read(reader, len, &mut sums)?;
    Ok(Heads { hints, counts, zeros, sums })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(values: &[Value]) -> usize {
        let mut bytes = Vec::new();
        encode(values, &mut Encoder::default(), &mut bytes);
        let mut back = Vec::new();
        decode(&bytes, values.len(), &mut back).expect("decode");
        assert_eq!(back.len(), values.len());
        assert!(back.iter().zip(values).all(|(a, b)| a.same_bits(b)));
        let third = values.len() / 3;
        for range in [0..values.len(), third..values.len() - third, third..third] {
            check_within(&bytes, values, range);
        }
        bytes.len()
    }

    /// A part of a column read as queries read it.
    fn check_within(bytes: &[u8], values: &[Value], range: std::ops::Range<usize>) {
        let positions: Vec<u32> = range.clone().map(|at| 2 * at as u32 + 1).collect();
        let (mut column, mut floats) = (HistogramColumn::default(), Vec::new());
        let mut out = Within { positions: &positions, histograms: &mut column, floats: &mut floats };
        decode_within(bytes, values.len(), range.start, &mut out).expect("decode");
        let mut floats = floats.into_iter();
        for (value, position) in values[range].iter().zip(positions) {
            let histogram = column.at(position).map(|view| view.to_float());
            let expected = match value {
                _ if value.is_stale() => None,
                Value::Float(_) => None,
                Value::Histogram(h) => Some(h.to_float()),
                Value::FloatHistogram(h) => Some(FloatHistogram::clone(h)),
            };
            match (histogram, expected) {
                (Some(a), Some(b)) => assert!(a.same_bits(&b)),
                (None, None) => {
                    let float = if let Value::Float(float) = value { *float } else { STALE_NAN };
                    assert_eq!(
                        floats.next().map(|(p, f)| (p, f.to_bits())),
                        Some((position, float.to_bits()))
                    );
                }
                _ => panic!("{value:?}"),
            }
        }
        assert_eq!(floats.next(), None);
    }

    fn float() -> impl Strategy<Value = f64> {
        prop_oneof![
            any::<u64>().prop_map(f64::from_bits),
            any::<i16>().prop_map(f64::from),
            Just(model::STALE_NAN)
        ]
    }

    fn hint() -> impl Strategy<Value = CounterResetHint> {
        (0_i64..4).prop_map(|n| hint_of(n).expect("a hint"))
    }

    fn histogram() -> impl Strategy<Value = Value> {
        let spans = || {
            proptest::collection::vec(
                (any::<i32>(), any::<u32>()).prop_map(|(offset, length)| Span { offset, length }),
                0..3,
            )
        };
        let deltas = || proptest::collection::vec(any::<i64>(), 0..6);
        let bounds = proptest::collection::vec(float(), 0..3);
        (
            (hint(), -5_i32..9, float(), any::<u64>(), any::<u64>(), float()),
            (spans(), spans(), deltas(), deltas(), bounds),
        )
            .prop_map(
                |((hint, schema, threshold, zeros, count, sum), (positive, negative, p, n, bounds))| {
                    Value::Histogram(Arc::new(Histogram {
                        counter_reset_hint: hint,
                        schema,
                        zero_threshold: threshold,
                        zero_count: zeros,
                        count,
                        sum,
                        positive_spans: positive,
                        negative_spans: negative,
                        positive_deltas: p,
                        negative_deltas: n,
                        custom_values: Arc::from(bounds),
                    }))
                },
            )
    }

    fn value() -> impl Strategy<Value = Value> {
        prop_oneof![
            float().prop_map(Value::Float),
            histogram(),
            histogram().prop_map(|value| match value {
                Value::Histogram(h) => Value::FloatHistogram(Arc::new(h.to_float())),
                other => other,
            }),
        ]
    }

    proptest! {
        #[test]
        fn every_column_comes_back(values in proptest::collection::vec((value(), 1_usize..4), 0..12)) {
            check(&values.into_iter().flat_map(|(v, n)| std::iter::repeat_n(v, n)).collect::<Vec<_>>());
        }

        #[test]
        fn damaged_columns_do_no_harm(values in proptest::collection::vec(value(), 1..6), at in any::<usize>(), to in any::<u8>()) {
            let mut bytes = Vec::new();
            encode(&values, &mut Encoder::default(), &mut bytes);
            let len = bytes.len();
            bytes[at % len] = to;
            let mut out = Vec::new();
            let result = decode(&bytes, values.len(), &mut out);
            prop_assert_eq!(out.len(), if result.is_ok() { values.len() } else { 0 });
            let positions: Vec<u32> = (0..values.len() as u32).collect();
            let (mut column, mut floats) = (HistogramColumn::default(), Vec::new());
            let mut within = Within { positions: &positions, histograms: &mut column, floats: &mut floats };
            let read = decode_within(&bytes, values.len(), 0, &mut within);
            prop_assert!(read.is_ok() || result.is_err());
        }
    }

    #[test]
    fn a_long_run_of_wide_histograms_is_cut_and_comes_back() {
        let wide = Arc::new(Histogram { positive_deltas: vec![1; 20_000], ..Histogram::default() });
        check(&vec![Value::Histogram(wide); 120]);
    }

    #[test]
    fn many_spans_times_many_histograms_are_refused_before_they_take_memory() {
        let mut bytes = vec![VERSION, INTEGERS];
        put_varint(&mut bytes, 60_000);
        let spans = vec![Span { offset: 1, length: 0 }; 60_000];
        integer_layout(&Histogram { positive_spans: spans, ..Histogram::default() }).put(&mut bytes);
        bytes.extend_from_slice(&[0; 100]);
        assert_eq!(decode(&bytes, 60_000, &mut Vec::new()), Err(DecodeError::Malformed("run length")));
    }

    #[test]
    fn a_steady_histogram_costs_what_its_counters_do() {
        let values: Vec<Value> = (0..120_u64)
            .map(|i| {
                Value::Histogram(Arc::new(Histogram {
                    count: i * 30,
                    sum: i as f64 * 12.5,
                    schema: 3,
                    positive_spans: vec![Span { offset: 0, length: 8 }],
                    positive_deltas: vec![i as i64 * 10, -(i as i64) * 5, 0, 0, 0, 0, 0, 0],
                    ..Histogram::default()
                }))
            })
            .collect();
        assert!(check(&values) < 120, "{}", check(&values));
    }
}
