//! Blocks, rows, presence and histograms: arbitrary bytes decode to values or an error, never reserve more than the
//! count asked for, and arbitrary values survive to the bit.
//!
//! Input: which codec, a count (two bytes, little endian), bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use storage::codec::{block, histograms, presence, values};

/// Rows of a merged block.
const COUNT_MAX: usize = 4_096;

fn bits(values: &[f64]) -> Vec<u64> {
    values.iter().map(|value| value.to_bits()).collect()
}

fuzz_target!(|data: &[u8]| {
    let [which, low, high, rest @ ..] = data else { return };
    let count = usize::from(u16::from_le_bytes([*low, *high])) % (COUNT_MAX + 1);
    let (mut floats, mut integers, mut words) = (Vec::new(), Vec::new(), Vec::new());
    match which % 6 {
        0 => {
            if block::decode(rest, count, &mut floats).is_ok() {
                assert_eq!(floats.len(), count);
            }
        }
        1 => {
            if block::decode_timestamps(rest, count, &mut integers).is_ok() {
                assert_eq!(integers.len(), count);
            }
        }
        2 => {
            let mut left = rest;
            if values::decode_values(&mut left, count, &mut floats).is_ok() {
                assert_eq!(floats.len(), count);
            }
        }
        3 => _ = presence::decode(rest, count, &mut words),
        4 => {
            let mut decoded = Vec::new();
            let whole = histograms::decode(rest, count, &mut decoded);
            if whole.is_ok() {
                assert_eq!(decoded.len(), count);
            }
            let positions: Vec<u32> = (0..count as u32).collect();
            let (mut column, mut others) = (model::HistogramColumn::default(), Vec::new());
            let mut out =
                histograms::Within { positions: &positions, histograms: &mut column, floats: &mut others };
            if histograms::decode_within(rest, count, 0, &mut out).is_ok() {
                assert_eq!(column.len() + others.len(), count);
            } else {
                assert!(whole.is_err());
            }
        }
        _ => {
            let given: Vec<f64> =
                rest.chunks_exact(8).take(COUNT_MAX).map(|c| f64::from_le_bytes(c.try_into().expect("8"))).collect();
            let times: Vec<i64> = given.iter().map(|value| value.to_bits().cast_signed()).collect();
            let mut encoded = Vec::new();
            block::encode(&given, &mut encoded);
            block::decode(&encoded, given.len(), &mut floats).expect("what was encoded can be decoded");
            assert_eq!(bits(&floats), bits(&given));
            encoded.clear();
            block::encode_timestamps(&times, &mut encoded);
            block::decode_timestamps(&encoded, times.len(), &mut integers).expect("likewise");
            assert_eq!(integers, times);
            encoded.clear();
            values::encode_values(&given, &mut encoded);
            floats.clear();
            values::decode_values(&mut encoded.as_slice(), given.len(), &mut floats).expect("likewise");
            assert_eq!(bits(&floats), bits(&given));
        }
    }
});
