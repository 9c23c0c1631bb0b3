//! The shard's door to the codecs: rows of a segment, columns of a chunk, single histograms.

use super::wire::{Malformed, Reader};
pub(crate) use crate::codec::block::Encoder;
use crate::codec::{block, histograms, values};
use model::Value;
use std::ops::Range;

/// Appends the floats of a segment's row.
pub(crate) fn put_values(floats: &[f64], out: &mut Vec<u8>) {
    values::encode_values(floats, out);
}

/// Reads `count` floats of a segment's row.
pub(crate) fn read_values(
    reader: &mut Reader<'_>,
    count: usize,
    into: &mut Vec<f64>,
) -> Result<(), Malformed> {
    let mut rest = reader.rest();
    values::decode_values(&mut rest, count, into).map_err(|_| Malformed("values"))?;
    reader.take(reader.len() - rest.len())?;
    Ok(())
}

/// Appends one column of a chunk.
pub(crate) fn put_column(floats: &[f64], encoder: &mut block::Encoder, out: &mut Vec<u8>) {
    encoder.encode(floats, out);
}

/// Reads one column of `count` floats.
pub(crate) fn read_column(bytes: &[u8], count: usize, into: &mut Vec<f64>) -> Result<(), Malformed> {
    block::decode(bytes, count, into).map_err(|_| Malformed("column"))
}

/// Reads of one column of `count` floats those of the rows `within`.
pub(crate) fn read_rows(
    bytes: &[u8],
    count: usize,
    within: Range<usize>,
    into: &mut Vec<f64>,
) -> Result<(), Malformed> {
    block::decode_within(bytes, count, within, into).map_err(|_| Malformed("column"))
}

/// Appends the timestamps of a chunk.
pub(crate) fn put_timestamps(timestamps: &[i64], out: &mut Vec<u8>) {
    block::encode_timestamps(timestamps, out);
}

/// Reads the `count` timestamps of a chunk.
pub(crate) fn read_timestamps(bytes: &[u8], count: usize, into: &mut Vec<i64>) -> Result<(), Malformed> {
    block::decode_timestamps(bytes, count, into).map_err(|_| Malformed("timestamps"))
}

/// Appends the histograms of a column.
pub(crate) fn put_histograms(values: &[Value], encoder: &mut block::Encoder, out: &mut Vec<u8>) {
    histograms::encode(values, encoder, out);
}

/// Reads the `count` histograms of a column.
pub(crate) fn read_histograms(bytes: &[u8], count: usize) -> Result<Vec<Value>, Malformed> {
    let mut values = Vec::with_capacity(count.min(1_024));
    histograms::decode(bytes, count, &mut values).map_err(|_| Malformed("histograms"))?;
    Ok(values)
}

/// Reads those of the `count` histograms of a column, from the `first` on, that have a place in `out`.
pub(crate) fn read_histograms_within(
    bytes: &[u8],
    count: usize,
    first: usize,
    out: &mut histograms::Within<'_>,
) -> Result<(), Malformed> {
    histograms::decode_within(bytes, count, first, out).map_err(|_| Malformed("histograms"))
}

/// Appends a histogram.
pub(crate) fn put_histogram(value: &Value, out: &mut Vec<u8>) {
    histograms::encode(std::slice::from_ref(value), &mut block::Encoder::default(), out);
}

/// Reads a histogram.
pub(crate) fn read_histogram(bytes: &[u8]) -> Result<Value, Malformed> {
    let mut values = Vec::with_capacity(1);
    histograms::decode(bytes, 1, &mut values).map_err(|_| Malformed("histogram"))?;
    values.pop().ok_or(Malformed("histogram"))
}
