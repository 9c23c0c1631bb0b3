//! The points of series of floats, `[1435781430.781,"1"],[1435781460,"1.5"]`: most of the bytes of most answers.
//!
//! The series of an answer have the same times as a rule, and many series the same value for long; what was written
//! before is copied instead of being formatted again.

use crate::json;
use model::TimestampMs;

/// Longest `[`, time, `,"`.
const OPENING_MAX: usize = 32;
/// Times that are kept: those of the longest range query.
const TIMES_MAX: usize = 11_001;

/// Writes the points of one series after the other.
#[derive(Default)]
pub(crate) struct Points {
    times: Vec<i64>,
    /// `[1435781430.781,"` for each time, with its length.
    openings: Vec<([u8; OPENING_MAX], u8)>,
    value: Vec<u8>,
}

impl Points {
    /// Appends `[time,"value"],...`.
    pub(crate) fn write(&mut self, out: &mut Vec<u8>, points: &[(i64, f64)]) {
        let mut before: Option<u64> = None;
        // Where the series begins among the known times; it need not have all of them.
        let mut next = points.first().map_or(0, |(at, _)| self.times.partition_point(|time| time < at));
        for (i, (at, value)) in points.iter().enumerate() {
            if i > 0 {
                out.push(b',');
            }
            while self.times.get(next).is_some_and(|time| time < at) {
                next += 1;
            }
            self.open(out, next, *at);
            if before != Some(value.to_bits()) {
                before = Some(value.to_bits());
                self.value.clear();
                json::bare(&mut self.value, *value);
                self.value.extend_from_slice(b"\"]");
            }
            out.extend_from_slice(&self.value);
        }
    }

    /// Appends `[time,"`, which may be the `next`th of those that are known.
    #[inline]
    fn open(&mut self, out: &mut Vec<u8>, next: usize, at: i64) {
        if self.times.get(next) == Some(&at) {
            let (text, len) = &self.openings[next];
            out.extend_from_slice(&text[..usize::from(*len)]);
            return;
        }
        let start = out.len();
        out.push(b'[');
        json::timestamp(out, TimestampMs(at));
        out.extend_from_slice(b",\"");
        let written = &out[start..];
        // Only what lies behind the known times is kept, so that they ascend.
        if next == self.times.len() && next < TIMES_MAX && written.len() <= OPENING_MAX {
            let mut text = [0; OPENING_MAX];
            text[..written.len()].copy_from_slice(written);
            self.openings.push((text, written.len() as u8));
            self.times.push(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn points_are_written_as_each_alone(
            all in prop::collection::vec(prop::collection::btree_map(-50_i64..50, prop_oneof![Just(1.5), Just(2.0), any::<f64>()], 0..20), 0..5)
        ) {
            let mut points = Points::default();
            for series in all {
                let series: Vec<(i64, f64)> = series.into_iter().map(|(at, v)| (at * 1500, v)).collect();
                let (mut got, mut expected) = (Vec::new(), Vec::new());
                got.push(b'[');
                points.write(&mut got, &series);
                got.push(b']');
                json::array(&mut expected, &series, |out, (at, value)| {
                    out.push(b'[');
                    json::timestamp(out, TimestampMs(*at));
                    out.push(b',');
                    json::value(out, *value);
                    out.push(b']');
                });
                prop_assert_eq!(String::from_utf8(got).unwrap(), String::from_utf8(expected).unwrap());
            }
        }
    }
}
