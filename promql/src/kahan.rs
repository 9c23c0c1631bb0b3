//! Compensated summation (Kahan, with Neumaier's improvement), in the very steps that Prometheus takes.

/// A running sum and what rounding has lost of it so far.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Kahan {
    /// The sum as rounded.
    pub(crate) sum: f64,
    /// The compensation: add it at the end.
    pub(crate) lost: f64,
}

impl Kahan {
    /// A sum that begins with `first`.
    pub(crate) fn new(first: f64) -> Kahan {
        Kahan { sum: first, lost: 0.0 }
    }

    /// Adds one value. An infinite sum forgets its compensation.
    #[inline]
    pub(crate) fn add(&mut self, value: f64) {
        let total = self.sum + value;
        if total.is_infinite() {
            self.lost = 0.0;
        } else if self.sum.abs() >= value.abs() {
            self.lost += (self.sum - total) + value;
        } else {
            self.lost += (value - total) + self.sum;
        }
        self.sum = total;
    }

    /// The sum with its compensation.
    #[inline]
    pub(crate) fn total(self) -> f64 {
        self.sum + self.lost
    }
}

/// [`Kahan::add`] of each value to its own sum, without a branch, so that it is done for several at once.
#[inline]
pub(crate) fn add_all(sums: &mut [f64], lost: &mut [f64], values: &[f64]) {
    for ((sum, lost), value) in sums.iter_mut().zip(lost).zip(values) {
        let total = *sum + *value;
        let larger = sum.abs() >= value.abs();
        let (large, small) = if larger { (*sum, *value) } else { (*value, *sum) };
        let compensation = *lost + ((large - total) + small);
        *lost = if total.is_infinite() { 0.0 } else { compensation };
        *sum = total;
    }
}

/// The mean of values that come one by one: a compensated sum until that would overflow, from then on incremental.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mean {
    sum: Kahan,
    count: f64,
    incremental: bool,
}

impl Mean {
    /// A mean of one value.
    pub(crate) fn new(first: f64) -> Mean {
        Mean { sum: Kahan::new(first), count: 1.0, incremental: false }
    }

    /// Takes one more value in.
    #[inline]
    pub(crate) fn add(&mut self, value: f64) {
        self.count += 1.0;
        let count = self.count;
        if !self.incremental {
            let mut sum = self.sum;
            sum.add(value);
            if !sum.sum.is_infinite() {
                self.sum = sum;
                return;
            }
            self.incremental = true;
            self.sum = Kahan { sum: self.sum.sum / (count - 1.0), lost: self.sum.lost / (count - 1.0) };
        }
        let keep = (count - 1.0) / count;
        self.sum = Kahan { sum: keep * self.sum.sum, lost: keep * self.sum.lost };
        self.sum.add(value / count);
    }

    /// The mean of what came.
    pub(crate) fn total(self) -> f64 {
        if self.incremental {
            self.sum.total()
        } else {
            self.sum.sum / self.count + self.sum.lost / self.count
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_value_survives_between_large_ones() {
        let mut sum = Kahan::new(1e100);
        sum.add(1.0);
        sum.add(-1e100);
        assert_eq!(sum.total(), 1.0);
    }

    proptest::proptest! {
        #[test]
        fn sums_side_by_side_are_those_one_by_one(
            values in proptest::collection::vec(proptest::num::f64::ANY | proptest::num::f64::ZERO, 1..9),
        ) {
            let mut one = Kahan::new(values[0]);
            values[1..].iter().for_each(|value| one.add(*value));
            let (mut sum, mut lost) = ([-0.0], [0.0]);
            values.iter().for_each(|value| add_all(&mut sum, &mut lost, &[*value]));
            let (a, b) = (one.total(), sum[0] + lost[0]);
            proptest::prop_assert!(a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan()), "{} {}", a, b);
        }
    }

    #[test]
    fn a_mean_of_the_largest_values_does_not_overflow() {
        let mut mean = Mean::new(f64::MAX);
        mean.add(f64::MAX);
        mean.add(f64::MAX);
        assert!((mean.total() / f64::MAX - 1.0).abs() < 1e-15);
    }
}
