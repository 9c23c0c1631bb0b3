//! Blocks come back to the bit, are small where they should be, and take no harm from bytes.

use super::*;
use model::STALE_NAN;
use proptest::prelude::*;

fn check(values: &[f64]) -> usize {
    let mut bytes = Vec::new();
    encode(values, &mut bytes);
    let mut back = vec![7.0];
    decode(&bytes, values.len(), &mut back).expect("decode");
    assert_eq!(bits(&back[1..]), bits(values));
    bytes.len()
}

fn check_timestamps(timestamps: &[i64]) -> usize {
    let mut bytes = Vec::new();
    encode_timestamps(timestamps, &mut bytes);
    let mut back = Vec::new();
    decode_timestamps(&bytes, timestamps.len(), &mut back).expect("decode");
    assert_eq!(back, timestamps);
    bytes.len()
}

fn bits(values: &[f64]) -> Vec<u64> {
    values.iter().map(|v| v.to_bits()).collect()
}

fn odd() -> impl Strategy<Value = f64> {
    proptest::sample::select(vec![
        0.0,
        -0.0,
        1.0,
        f64::INFINITY,
        f64::NEG_INFINITY,
        f64::NAN,
        STALE_NAN,
        f64::from_bits(0x7ff0_0000_0000_0001),
        f64::from_bits(0xfff8_dead_beef_0001),
        f64::MIN_POSITIVE,
        f64::from_bits(1),
        f64::MAX,
        f64::MIN,
        9_007_199_254_740_992.0,
        9_007_199_254_740_993.0,
        -9_007_199_254_740_992.0,
        1.0 / 3.0,
        1e22,
        1e-15,
    ])
}

fn column() -> impl Strategy<Value = Vec<f64>> {
    let raw = proptest::collection::vec(any::<u64>().prop_map(f64::from_bits), 1..150);
    let decimals = (0_usize..10, proptest::collection::vec((any::<i64>(), 15_u32..64), 1..300)).prop_map(
        |(exponent, parts)| parts.into_iter().map(|(i, s)| (i >> s) as f64 / POWERS[exponent]).collect(),
    );
    let walk =
        (any::<f64>(), proptest::collection::vec(-1000_i64..1000, 1..300)).prop_map(|(start, steps)| {
            let mut value = start;
            steps
                .into_iter()
                .map(|s| {
                    value += s as f64 * 0.25;
                    value
                })
                .collect()
        });
    let counter = proptest::collection::vec(0_u32..5000, 1..300).prop_map(|steps| {
        let mut value = 0.0;
        steps
            .into_iter()
            .map(|s| {
                value = if s == 77 { 0.0 } else { value + f64::from(s) };
                value
            })
            .collect()
    });
    let column = prop_oneof![raw, decimals, walk, counter, proptest::collection::vec(odd(), 1..40)];
    (column, proptest::collection::vec((any::<usize>(), odd()), 0..5)).prop_map(
        |(mut column, odd): (Vec<f64>, _)| {
            let len = column.len();
            odd.into_iter().for_each(|(at, value)| column[at % len] = value);
            column
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn every_column_comes_back_to_the_bit(values in column()) {
        check(&values);
    }

    #[test]
    fn any_part_of_a_column_is_as_in_the_whole(values in column(), from: usize, to: usize) {
        let mut bytes = Vec::new();
        encode(&values, &mut bytes);
        let (from, to) = (from % (values.len() + 1), to % (values.len() + 1));
        let within = from.min(to)..from.max(to);
        let mut part = vec![7.0];
        decode_within(&bytes, values.len(), within.clone(), &mut part).expect("decode");
        prop_assert_eq!(bits(&part[1..]), bits(&values[within]));
    }

    #[test]
    fn every_list_of_timestamps_comes_back(
        start in any::<i64>(),
        step in 1_i64..100_000,
        jitter in proptest::collection::vec((-20_i64..20, 0_i64..3), 1..200),
        odd in proptest::collection::vec((any::<usize>(), any::<i64>()), 0..2),
    ) {
        let mut slot = start;
        let mut timestamps: Vec<i64> = jitter
            .into_iter()
            .map(|(j, missed)| { slot = slot.wrapping_add(step.wrapping_mul(1 + missed / 2)); slot.wrapping_add(j) })
            .collect();
        let len = timestamps.len();
        odd.into_iter().for_each(|(at, t)| timestamps[at % len] = t);
        check_timestamps(&timestamps);
    }

    #[test]
    fn arbitrary_bytes_do_no_harm(mut bytes in proptest::collection::vec(any::<u8>(), 1..200), kind in 0_u8..6, count in 0_usize..2000) {
        bytes[0] = lead(kind);
        let mut out = Vec::new();
        let result = decode(&bytes, count, &mut out);
        prop_assert_eq!(out.len(), if result.is_ok() { count } else { 0 });
        let mut out = Vec::new();
        let result = decode_timestamps(&bytes, count, &mut out);
        prop_assert_eq!(out.len(), if result.is_ok() { count } else { 0 });
    }

    #[test]
    fn damaged_blocks_do_no_harm(values in column(), at in any::<usize>(), to in any::<u8>(), part: (usize, usize)) {
        let mut bytes = Vec::new();
        encode(&values, &mut bytes);
        let len = bytes.len();
        bytes[at % len] = to;
        let mut out = Vec::new();
        let result = decode(&bytes, values.len(), &mut out);
        prop_assert_eq!(out.len(), if result.is_ok() { values.len() } else { 0 });
        let mut out = Vec::new();
        let (from, to) = (part.0 % len, part.1 % len);
        let result = decode_within(&bytes, values.len(), from..to, &mut out);
        let wanted = to.min(values.len()).saturating_sub(from.min(values.len()));
        prop_assert_eq!(out.len(), if result.is_ok() { wanted } else { 0 });
    }
}

#[test]
fn a_constant_takes_two_to_ten_bytes() {
    assert_eq!(check(&[0.0; 480]), 2);
    assert_eq!(check(&[STALE_NAN; 480]), 2);
    assert_eq!(check(&[17.0; 480]), 3);
    assert_eq!(check(&[1.0 / 3.0; 480]), 10);
}

#[test]
fn a_negative_zero_keeps_its_sign_among_decimals() {
    check(&[0.5, -0.0, 0.25, 0.0, -0.0]);
}

#[test]
fn a_stale_marker_at_the_end_of_a_counter_costs_little() {
    let mut values: Vec<f64> = (0..64).map(|i| f64::from(i * 100)).collect();
    let without = check(&values);
    values[63] = STALE_NAN;
    // The line breaks at the repeated integer, too.
    assert!(check(&values) <= without + 9);
}

#[test]
fn leading_exceptions_take_the_first_integer_there_is() {
    let mut values = vec![f64::NAN, STALE_NAN];
    values.extend((0..62).map(|i| 1e9 + f64::from(i)));
    assert!(check(&values) < 40);
}

#[test]
fn neighbours_in_the_last_bit_stay_apart() {
    let one = 1.0_f64.to_bits();
    let values: Vec<f64> = (0..64).map(|i| f64::from_bits(one + i)).collect();
    check(&values);
    check(&[f64::MIN, f64::MAX, -1.0 / 3.0, f64::from_bits(f64::MAX.to_bits() - 1)]);
}

#[test]
fn a_regular_grid_is_free_and_a_jittered_one_half_a_byte() {
    let regular: Vec<i64> = (0..480).map(|i| 1_700_000_000_123 + i * 15_000).collect();
    assert!(check_timestamps(&regular) <= 16);
    let jittered: Vec<i64> = regular.iter().enumerate().map(|(i, t)| t + (i * i * 7 % 6) as i64).collect();
    assert!(check_timestamps(&jittered) <= 240, "{}", check_timestamps(&jittered));
    let missed: Vec<i64> =
        jittered.iter().enumerate().filter(|(i, _)| i % 50 != 7).map(|(_, t)| *t).collect();
    assert!(check_timestamps(&missed) <= 290, "{}", check_timestamps(&missed));
}

#[test]
fn a_later_version_is_refused_by_name() {
    assert_eq!(decode(&[0x20, 0], 1, &mut Vec::new()), Err(DecodeError::Version(2)));
}

#[test]
fn merged_blocks_hold_all_values_in_order() {
    let (a, b) = ([1.5, 2.5, STALE_NAN], [3.5, -0.0]);
    let (mut first, mut second, mut merged, mut back) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    encode(&a, &mut first);
    encode(&b, &mut second);
    let parts = [(&first[..], 3), (&second[..], 2)];
    assert_eq!(Encoder::default().merge(parts, &mut merged), Ok(5));
    decode(&merged, 5, &mut back).expect("decode");
    assert_eq!(bits(&back), bits(&[1.5, 2.5, STALE_NAN, 3.5, -0.0]));
    assert!(Encoder::default().merge([(&first[..], 3), (&second[1..], 2)], &mut merged).is_err());
    assert!(Encoder::default().merge([(&first[..], VALUES_MAX + 1)], &mut merged).is_err());
}
