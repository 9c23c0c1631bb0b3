//! How finely a native histogram is kept: as Prometheus does, the resolution is lowered first to the one that
//! `native_histogram_min_bucket_factor` allows, then until `native_histogram_bucket_limit` is met.

use model::Value;
use std::sync::Arc;

/// The coarsest exponential schema.
const SCHEMA_MIN: i32 = -4;
/// The finest one that is kept.
const SCHEMA_MAX: i32 = 8;
/// A bucket's upper bound divided by its lower one at [`SCHEMA_MAX`], rounded.
const FACTOR_MIN: f64 = 1.00271;

/// The finest schema whose buckets are at least `factor` wide.
#[must_use]
pub fn schema_of_bucket_factor(factor: f64) -> i32 {
    let factor = if factor > 1.0 { factor } else { FACTOR_MIN };
    let finest = (-factor.log2().log2()).floor();
    // The cast saturates; what is not a number is not above 1.
    (finest as i32).clamp(SCHEMA_MIN, SCHEMA_MAX)
}

fn buckets(value: &Value) -> usize {
    match value {
        Value::Float(_) => 0,
        Value::Histogram(h) => h.positive_deltas.len() + h.negative_deltas.len(),
        Value::FloatHistogram(h) => h.positive_buckets.len() + h.negative_buckets.len(),
    }
}

/// The schema of a histogram with exponential buckets.
fn exponential_schema(value: &Value) -> Option<i32> {
    let schema = match value {
        Value::Float(_) => return None,
        Value::Histogram(h) => h.schema,
        Value::FloatHistogram(h) => h.schema,
    };
    Some(schema).filter(|schema| *schema >= SCHEMA_MIN)
}

fn reduce(value: &mut Value, schema: i32) {
    match value {
        Value::Float(_) => {}
        Value::Histogram(h) => Arc::make_mut(h).reduce_to(schema),
        Value::FloatHistogram(h) => Arc::make_mut(h).reduce_to(schema),
    }
}

/// Lowers the resolution of `value` to at most `schema_max`, and on until it has at most `buckets_max` buckets
/// (0: any number).
///
/// # Errors
/// If it has more at the lowest resolution, or its buckets are custom ones, which cannot be merged.
pub(super) fn limit(value: &mut Value, schema_max: Option<i32>, buckets_max: u64) -> Result<(), String> {
    let mut schema = exponential_schema(value);
    if let (Some(have), Some(most)) = (schema, schema_max)
        && have > most
    {
        reduce(value, most);
        schema = Some(most);
    }
    while buckets_max > 0 && buckets(value) as u64 > buckets_max {
        let coarser = schema.map(|schema| schema - 1).filter(|coarser| *coarser >= SCHEMA_MIN);
        let coarser = coarser.ok_or("histogram bucket limit exceeded")?;
        reduce(value, coarser);
        schema = Some(coarser);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::{Histogram, Span};

    /// `count` buckets in a row, one observation in each.
    fn histogram(schema: i32, count: u32) -> Value {
        let mut deltas = vec![0; count as usize];
        deltas[0] = 1;
        Value::Histogram(Arc::new(Histogram {
            schema,
            count: u64::from(count),
            positive_spans: vec![Span { offset: 1, length: count }],
            positive_deltas: deltas,
            custom_values: (0..if schema < SCHEMA_MIN { count } else { 0 }).map(f64::from).collect(),
            ..Histogram::default()
        }))
    }

    fn shape(value: &Value) -> (i32, usize) {
        let Value::Histogram(h) = value else { panic!("{value:?}") };
        (h.schema, h.positive_deltas.len())
    }

    fn limited(mut value: Value, schema_max: Option<i32>, buckets_max: u64) -> Result<(i32, usize), String> {
        limit(&mut value, schema_max, buckets_max)?;
        let float = match &value {
            Value::Histogram(h) => h.to_float(),
            _ => panic!("{value:?}"),
        };
        assert_eq!(float.positive_buckets.iter().sum::<f64>(), float.count, "no observation is lost");
        Ok(shape(&value))
    }

    #[test]
    fn a_histogram_over_its_bucket_limit_loses_resolution_until_it_fits() {
        assert_eq!(limited(histogram(3, 8), None, 0), Ok((3, 8)));
        assert_eq!(limited(histogram(3, 8), None, 8), Ok((3, 8)));
        assert_eq!(limited(histogram(3, 8), None, 7), Ok((2, 4)));
        assert_eq!(limited(histogram(3, 8), None, 1), Ok((0, 1)));
        assert_eq!(limited(histogram(-4, 8), None, 7), Err("histogram bucket limit exceeded".to_owned()));
    }

    #[test]
    fn custom_buckets_are_never_merged() {
        let custom = Histogram::CUSTOM_BUCKETS_SCHEMA;
        assert_eq!(limited(histogram(custom, 8), Some(-4), 8), Ok((custom, 8)));
        assert!(limited(histogram(custom, 8), None, 7).is_err());
    }

    #[test]
    fn buckets_are_at_least_as_wide_as_the_factor_says() {
        // Prometheus's own table (scrape/scrape_test.go, TestPickSchema).
        for (factor, schema) in [
            (65536.0, -4),
            (256.0, -3),
            (16.0, -2),
            (4.0, -1),
            (2.0, 0),
            (1.4, 1),
            (1.1, 2),
            (1.09, 3),
            (1.04, 4),
            (1.02, 5),
            (1.01, 6),
            (1.005, 7),
            (1.002, 8),
            (0.0, 8),
            (f64::INFINITY, -4),
        ] {
            assert_eq!(schema_of_bucket_factor(factor), schema, "{factor}");
        }
        assert_eq!(limited(histogram(8, 16), Some(schema_of_bucket_factor(1.02)), 0), Ok((5, 2)));
    }
}
