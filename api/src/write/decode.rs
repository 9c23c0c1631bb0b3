//! A remote-write 1.0 message, decoded in one pass over its bytes into a [`WriteRequest`].
//!
//! ```text
//! WriteRequest { 1: repeated TimeSeries }         everything else (metadata) is skipped
//! TimeSeries   { 1: repeated Label, 2: repeated Sample, 4: repeated Histogram }   exemplars (3) are skipped
//! Label { 1: name, 2: value }   Sample { 1: double value, 2: int64 timestamp }
//! ```
//!
//! A malformed message fails the whole request. A series with bad labels, or a histogram that contradicts itself,
//! is left out and counted in [`Decoded::invalid`]: the rest is written.

use super::{
    histogram,
    labels::{LabelCache, LabelLimits},
    wire::{Field, Reader, WireError},
};
use crate::ports::{WriteRequest, WriteSeries};
use model::{NORMAL_NAN, TimestampMs, Value, is_stale_nan};

/// A request's content.
#[derive(Debug, Default)]
pub struct Decoded {
    /// What can be written.
    pub request: WriteRequest,
    /// Samples that cannot, because of their labels or because of themselves.
    pub invalid: u64,
    /// The first of them, in words.
    pub first_invalid: Option<String>,
    /// What the samples take, in floats.
    cost: usize,
}

/// Limits of one request.
#[derive(Clone, Copy, Debug)]
pub struct DecodeLimits {
    /// On the labels of each series.
    pub labels: LabelLimits,
    /// Samples in one request; a histogram counts as eight and one for every four of its bytes.
    pub samples_max: usize,
    /// Buckets and spans of one histogram.
    pub buckets_max: usize,
}

impl Default for DecodeLimits {
    fn default() -> Self {
        DecodeLimits { labels: LabelLimits::default(), samples_max: 2_000_000, buckets_max: 16_384 }
    }
}

/// A request cannot be taken at all.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The bytes are not a remote-write message.
    #[error("body is not a remote-write message: {0}")]
    Malformed(&'static str),
    /// It is too much for one request.
    #[error("request has more than {0} samples; send smaller requests")]
    TooManySamples(usize),
}

impl From<WireError> for DecodeError {
    fn from(error: WireError) -> Self {
        DecodeError::Malformed(match error {
            WireError::Truncated => "unexpected end of message",
            WireError::Overflow => "varint overflows 64 bits",
            WireError::IllegalTag => "illegal tag",
            WireError::WrongType(_) => "a field has the wrong wire type",
        })
    }
}

const LABEL_TAG: u8 = 0x0a;
const SERIES_TAG: u8 = 0x0a;

/// Decodes an uncompressed message.
///
/// # Errors
/// If it is malformed or larger than the limits.
pub fn decode(message: &[u8], cache: &LabelCache, limits: &DecodeLimits) -> Result<Decoded, DecodeError> {
    let mut decoded = Decoded::default();
    let (series, samples) = estimate(message);
    decoded.request.series.reserve(series);
    decoded.request.samples.reserve(samples);
    let mut reader = Reader::new(message);
    while let Some((number, field)) = reader.next()? {
        if number == 1 {
            time_series(field.bytes(1)?, cache, limits, &mut decoded)?;
        }
    }
    Ok(decoded)
}

/// Room to reserve: numbers that the message's first series suggests, never more than the message can hold.
fn estimate(message: &[u8]) -> (usize, usize) {
    let first = message.first().filter(|tag| **tag == SERIES_TAG).and_then(|_| {
        let mut reader = Reader::new(&message[1..]);
        reader.bytes().ok().map(<[u8]>::len)
    });
    let series = message.len() / first.unwrap_or(usize::MAX).max(64);
    (series + 1, series + 1)
}

fn time_series(
    message: &[u8],
    cache: &LabelCache,
    limits: &DecodeLimits,
    decoded: &mut Decoded,
) -> Result<(), DecodeError> {
    let (run, rest) = split_labels(message)?;
    let samples = &mut decoded.request.samples;
    let start = samples.len();
    let mut scattered: Vec<u8> = Vec::new();
    let mut invalid = None;
    let mut invalid_count = 0;
    let mut reader = Reader::new(rest);
    while let Some((number, field)) = reader.next()? {
        match number {
            1 => {
                // Labels behind samples: legal, and nobody does it. Gathered as one run in canonical form.
                gather(&mut scattered, run, field.bytes(1)?);
            }
            2 => {
                samples.push(sample(field.bytes(2)?)?);
                decoded.cost += 1;
            }
            4 => {
                let message = field.bytes(4)?;
                decoded.cost += 8 + message.len() / 4;
                match histogram::decode(message, limits.buckets_max)? {
                    Ok(sample) => samples.push(sample),
                    Err(error) => {
                        invalid_count += 1;
                        invalid.get_or_insert(error);
                    }
                }
            }
            _ => {}
        }
        if decoded.cost > limits.samples_max {
            return Err(DecodeError::TooManySamples(limits.samples_max));
        }
    }
    if samples.len() == start && invalid.is_none() {
        return Ok(());
    }
    let run = if scattered.is_empty() { run } else { &scattered };
    match cache.get(run, &limits.labels)? {
        Ok(labels) => {
            if let Some(error) = invalid {
                decoded.first_invalid.get_or_insert_with(|| format!("series {labels}: {error}"));
                decoded.invalid += invalid_count;
            }
            let range = start as u32..samples.len() as u32; // both at most `samples_max`
            if !range.is_empty() {
                decoded.request.series.push(WriteSeries { labels, samples: range });
            }
        }
        Err(error) => {
            decoded.invalid += (samples.len() - start) as u64 + invalid_count;
            samples.truncate(start);
            decoded.first_invalid.get_or_insert_with(|| error.to_string());
        }
    }
    Ok(())
}

/// The label fields that a series begins with, and the rest.
#[inline]
fn split_labels(message: &[u8]) -> Result<(&[u8], &[u8]), WireError> {
    let mut reader = Reader::new(message);
    while reader.rest.first() == Some(&LABEL_TAG) {
        reader.rest = &reader.rest[1..];
        reader.bytes()?;
    }
    Ok(message.split_at(message.len() - reader.rest.len()))
}

fn gather(scattered: &mut Vec<u8>, run: &[u8], label: &[u8]) {
    if scattered.is_empty() {
        scattered.extend_from_slice(run);
    }
    scattered.push(LABEL_TAG);
    let mut length = label.len();
    while length >= 0x80 {
        scattered.push(length as u8 | 0x80);
        length >>= 7;
    }
    scattered.push(length as u8);
    scattered.extend_from_slice(label);
}

#[inline]
fn sample(message: &[u8]) -> Result<(TimestampMs, Value), WireError> {
    // What every sender writes: the value, then the timestamp.
    if let [0x09, rest @ ..] = message
        && let Some((bits, [0x10, rest @ ..])) = rest.split_first_chunk::<8>()
    {
        let mut reader = Reader::new(rest);
        let timestamp = reader.varint()?.cast_signed();
        if reader.rest.is_empty() {
            return Ok((TimestampMs(timestamp), float(f64::from_le_bytes(*bits))));
        }
    }
    let (mut value, mut timestamp) = (0.0, 0);
    let mut reader = Reader::new(message);
    while let Some((number, field)) = reader.next()? {
        match (number, field) {
            (1, field) => value = field.double(1)?,
            (2, Field::Varint(bits)) => timestamp = bits.cast_signed(),
            (2, _) => return Err(WireError::WrongType(2)),
            _ => {}
        }
    }
    Ok((TimestampMs(timestamp), float(value)))
}

/// A value as it is stored. Every NaN but the stale marker is the ordinary one, as it is after a scrape: among the others
/// are bits by which queries mark what is no float.
#[inline]
fn float(value: f64) -> Value {
    Value::Float(if value.is_nan() && !is_stale_nan(value) { NORMAL_NAN } else { value })
}
