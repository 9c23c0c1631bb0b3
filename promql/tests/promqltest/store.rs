//! An in-memory store for scripts, with the counter reset hints that a real one would give.

use crate::histogram::{Side, side, spans};
use crate::script::Load;
use crate::sequence::Item;
use model::{
    Budget, CounterResetHint, FloatHistogram, Histogram, LabelQuery, Labels, Matcher, QueryError, Queryable,
    STALE_NAN, Samples, SelectRequest, Series, SeriesSet, is_stale_nan,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

#[derive(Clone, Debug)]
enum Stored {
    Float(f64),
    Histogram(Arc<FloatHistogram>),
}

/// Series by labels, samples in order of time, with start times.
#[derive(Clone, Debug, Default)]
pub(crate) struct Store {
    series: BTreeMap<Labels, Vec<(i64, Stored, i64)>>,
}

impl Store {
    /// Adds what a `load` block says.
    pub(crate) fn load(&mut self, load: &Load) -> Result<(), String> {
        for (labels, (items, starts)) in &load.series {
            for (index, item) in items.iter().enumerate() {
                let time = index as i64 * load.step;
                let start = starts.get(index).copied().flatten().map_or(0, |offset| time + offset);
                let value = match item {
                    Item::Omitted => continue,
                    Item::Float(value) => Stored::Float(*value),
                    Item::Histogram(histogram, _) => Stored::Histogram(Arc::clone(histogram)),
                };
                self.append(labels, time, value, start)?;
            }
        }
        if load.with_nhcb { self.convert(load) } else { Ok(()) }
    }

    fn append(&mut self, labels: &Labels, time: i64, value: Stored, start: i64) -> Result<(), String> {
        let samples = self.series.entry(labels.clone()).or_default();
        if let (Some((last, Stored::Float(old), _)), Stored::Float(new)) = (samples.last(), &value)
            && *last == time
            && old.to_bits() == new.to_bits()
        {
            return Ok(());
        }
        if samples.last().is_some_and(|(last, _, _)| *last >= time) {
            return Err(format!("sample of {labels} at {time} is out of order"));
        }
        let before = match samples.last() {
            Some((_, Stored::Histogram(before), _)) => Some(before),
            _ => None,
        };
        let value = match value {
            Stored::Float(value) if is_stale_nan(value) && before.is_some() => {
                // The end of a series of histograms is a histogram, too.
                Stored::Histogram(Arc::new(FloatHistogram { sum: STALE_NAN, ..FloatHistogram::default() }))
            }
            Stored::Histogram(h) => {
                let counter_reset_hint = stored_hint(before, &h);
                Stored::Histogram(Arc::new(FloatHistogram {
                    counter_reset_hint,
                    ..FloatHistogram::clone(&h)
                }))
            }
            float => float,
        };
        samples.push((time, value, start));
        Ok(())
    }

    /// Makes native histograms with custom buckets of the classic ones in a block.
    fn convert(&mut self, load: &Load) -> Result<(), String> {
        type Classic = (BTreeMap<u64, f64>, Option<f64>, Option<f64>);
        let mut classics: BTreeMap<(Labels, i64), Classic> = BTreeMap::new();
        for (labels, (items, _)) in &load.series {
            let name = labels.metric_name();
            let suffix = ["_bucket", "_count", "_sum"].into_iter().find(|suffix| name.ends_with(suffix));
            let Some(suffix) = suffix else { continue };
            let le = labels.get("le").and_then(promql::parse_float).filter(|le| !le.is_nan());
            if suffix == "_bucket" && le.is_none() {
                continue;
            }
            let base = &name[..name.len() - suffix.len()];
            let base = labels.to_builder().set(model::METRIC_NAME, base).remove("le").build();
            for (index, item) in items.iter().enumerate() {
                let Item::Float(value) = item else { continue };
                let entry = classics.entry((base.clone(), index as i64 * load.step)).or_default();
                match (suffix, le) {
                    ("_bucket", Some(le)) => drop(entry.0.insert(ordered(le), *value)),
                    ("_count", _) => entry.1 = Some(*value),
                    _ => entry.2 = Some(*value),
                }
            }
        }
        for ((labels, time), (buckets, count, sum)) in classics {
            if let Some(histogram) = from_classic(&buckets, count, sum) {
                self.append(&labels, time, Stored::Histogram(Arc::new(histogram)), 0)?;
            }
        }
        Ok(())
    }
}

/// Bits of a float in an order that is the floats' own.
fn ordered(value: f64) -> u64 {
    let bits = value.to_bits();
    if value.is_sign_negative() { !bits } else { bits | 1 << 63 }
}

fn unordered(bits: u64) -> f64 {
    f64::from_bits(if bits >> 63 == 1 { bits & !(1 << 63) } else { !bits })
}

fn from_classic(
    buckets: &BTreeMap<u64, f64>,
    count: Option<f64>,
    sum: Option<f64>,
) -> Option<FloatHistogram> {
    let mut bounds = Vec::new();
    let mut counts = Side::new();
    let mut before = 0.0;
    let mut total = count;
    for (le, cumulative) in buckets {
        if *cumulative < before || cumulative.is_nan() {
            return None;
        }
        let le = unordered(*le);
        let index = bounds.len() as i32;
        if le == f64::INFINITY {
            total = total.or(Some(*cumulative));
        } else {
            bounds.push(le);
        }
        counts.insert(index, cumulative - before);
        before = *cumulative;
    }
    let total = total.unwrap_or(before);
    if total < before {
        return None;
    }
    if total > before {
        *counts.entry(bounds.len() as i32).or_insert(0.0) += total - before;
    }
    counts.retain(|_, count| *count != 0.0);
    let (positive_spans, positive_buckets) = spans(&counts);
    Some(FloatHistogram {
        schema: Histogram::CUSTOM_BUCKETS_SCHEMA,
        count: total,
        sum: sum.unwrap_or(0.0),
        positive_spans,
        positive_buckets,
        custom_values: bounds.into(),
        ..FloatHistogram::default()
    })
}

/// The hint that a store gives back. A histogram that continues the one before without a reset is known not to be
/// one; the first of a run is not known.
fn stored_hint(before: Option<&Arc<FloatHistogram>>, h: &FloatHistogram) -> CounterResetHint {
    use CounterResetHint::{Gauge, NotReset, Reset, Unknown};
    if h.counter_reset_hint == Gauge {
        return Gauge;
    }
    let Some(before) = before else { return Unknown };
    let is_gauge = before.counter_reset_hint == Gauge;
    if is_gauge || h.counter_reset_hint == Reset || (is_stale_nan(before.sum) && !is_stale_nan(h.sum)) {
        return Unknown;
    }
    let falls =
        |a: &Side, b: &Side| a.iter().any(|(index, count)| b.get(index).copied().unwrap_or(0.0) < *count);
    let new_run = h.count < before.count
        || h.schema != before.schema
        || h.zero_threshold != before.zero_threshold
        || h.custom_values[..] != before.custom_values[..]
        || h.zero_count < before.zero_count
        || falls(
            &side(&before.positive_spans, &before.positive_buckets),
            &side(&h.positive_spans, &h.positive_buckets),
        )
        || falls(
            &side(&before.negative_spans, &before.negative_buckets),
            &side(&h.negative_spans, &h.negative_buckets),
        );
    if new_run { Unknown } else { NotReset }
}

fn matches(labels: &Labels, matchers: &[Matcher]) -> bool {
    matchers.iter().all(|matcher| matcher.matches(labels.get(&matcher.name).unwrap_or("")))
}

fn samples_in(stored: &[(i64, Stored, i64)], start: i64, end: i64) -> Samples {
    let mut samples = Samples::default();
    for (time, value, start_time) in stored.iter().filter(|(time, _, _)| (start..=end).contains(time)) {
        match value {
            Stored::Float(value) => samples.floats.push(*value),
            Stored::Histogram(histogram) => {
                if is_stale_nan(histogram.sum) {
                    samples.floats.push(STALE_NAN);
                } else {
                    let position = samples.timestamps.len() as u32;
                    samples.histograms.push(position, histogram.view());
                    samples.floats.push(0.0);
                }
            }
        }
        samples.timestamps.push(*time);
        samples.start_timestamps.push(*start_time);
    }
    if samples.start_timestamps.iter().all(|start| *start == 0) {
        samples.start_timestamps.clear();
    }
    samples
}

impl Queryable for Store {
    fn select<'a>(
        &'a self,
        request: &SelectRequest,
        _budget: &'a Budget,
    ) -> Result<SeriesSet<'a>, QueryError> {
        let request = request.clone();
        let found = self.series.iter().filter(move |(labels, _)| matches(labels, &request.matchers));
        let (start, end) = (request.start.0, request.end.0);
        let series = found.map(move |(labels, stored)| {
            Ok(Series { labels: labels.clone(), samples: samples_in(stored, start, end) })
        });
        Ok(Box::new(series.collect::<Vec<_>>().into_iter()))
    }

    fn label_names(&self, _query: &LabelQuery, _budget: &Budget) -> Result<Vec<String>, QueryError> {
        let names = self.series.keys().flat_map(|labels| labels.iter().map(|(name, _)| name.to_owned()));
        Ok(names.collect::<BTreeSet<_>>().into_iter().collect())
    }

    fn label_values(
        &self,
        name: &str,
        _query: &LabelQuery,
        _budget: &Budget,
    ) -> Result<Vec<String>, QueryError> {
        let values = self.series.keys().filter_map(|labels| labels.get(name).map(str::to_owned));
        Ok(values.collect::<BTreeSet<_>>().into_iter().collect())
    }
}
