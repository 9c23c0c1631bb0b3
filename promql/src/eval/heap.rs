//! A heap as Go's `container/heap` and `sort.Sort` keep it, so that of equal values the same are taken, and come in the
//! same order, as in Prometheus.

/// Up to this length Go sorts by insertion; beyond, the order of equals is not followed.
const INSERTION_MAX: usize = 12;

/// Values with what they belong to; the first is the smallest, or with `largest_first` the largest, and NaN is before
/// everything.
#[derive(Debug, Default)]
pub(crate) struct Heap {
    entries: Vec<(f64, usize)>,
    largest_first: bool,
}

impl Heap {
    pub(crate) fn new(largest_first: bool) -> Heap {
        Heap { entries: Vec::new(), largest_first }
    }

    fn is_before(&self, i: usize, j: usize) -> bool {
        let (a, b) = (self.entries[i].0, self.entries[j].0);
        a.is_nan() || if self.largest_first { a > b } else { a < b }
    }

    pub(crate) fn push(&mut self, value: f64, index: usize) {
        self.entries.push((value, index));
        let mut child = self.entries.len() - 1;
        while child > 0 {
            let parent = (child - 1) / 2;
            if !self.is_before(child, parent) {
                break;
            }
            self.entries.swap(child, parent);
            child = parent;
        }
    }

    /// Keeps the `count` values that are farthest from the front; an equal value does not replace one that is there.
    pub(crate) fn offer(&mut self, value: f64, index: usize, count: usize) {
        if self.entries.len() < count {
            return self.push(value, index);
        }
        let Some(first) = self.entries.first_mut() else { return };
        let is_better = if self.largest_first { first.0 > value } else { first.0 < value };
        if is_better || first.0.is_nan() && !value.is_nan() {
            *first = (value, index);
            self.sink();
        }
    }

    fn sink(&mut self) {
        let (mut parent, length) = (0, self.entries.len());
        loop {
            let mut child = 2 * parent + 1;
            if child >= length {
                return;
            }
            if child + 1 < length && self.is_before(child + 1, child) {
                child += 1;
            }
            if !self.is_before(child, parent) {
                return;
            }
            self.entries.swap(parent, child);
            parent = child;
        }
    }

    /// As they lie in the heap.
    pub(crate) fn unsorted(self) -> Vec<usize> {
        self.entries.into_iter().map(|(_, index)| index).collect()
    }

    /// The farthest from the front first.
    pub(crate) fn sorted(mut self) -> Vec<usize> {
        if self.entries.len() > INSERTION_MAX {
            let descending = !self.largest_first;
            self.entries.sort_by(|a, b| super::order::order(a.0, b.0, descending));
            return self.unsorted();
        }
        for end in 1..self.entries.len() {
            let mut i = end;
            while i > 0 && self.is_before(i - 1, i) {
                self.entries.swap(i, i - 1);
                i -= 1;
            }
        }
        self.unsorted()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picked(values: &[f64], count: usize, largest_first: bool) -> Vec<usize> {
        let mut heap = Heap::new(largest_first);
        values.iter().enumerate().for_each(|(index, value)| heap.offer(*value, index, count));
        heap.sorted()
    }

    #[test]
    fn a_better_value_replaces_the_first_of_equals() {
        assert_eq!(picked(&[1.0, 1.0, 2.0], 2, false), [2, 1]);
        assert_eq!(picked(&[3.0, 3.0, 2.0], 2, true), [2, 1]);
        assert_eq!(picked(&[1.0, 1.0, 1.0], 2, false), [0, 1]);
    }

    #[test]
    fn nan_is_the_worst_and_its_order_is_that_of_prometheus() {
        let nan = f64::NAN;
        assert_eq!(picked(&[nan, nan, nan], 5, true), [1, 0, 2], "as 3.5 answered");
        assert_eq!(picked(&[nan, 1.0, nan], 1, false), [1]);
        assert_eq!(picked(&[nan, 1.0, 2.0], 2, true), [1, 2]);
    }

    #[test]
    fn many_values_are_taken_as_few() {
        let values: Vec<f64> = (0..100).map(|i| f64::from(i * 37 % 100)).collect();
        let taken: Vec<f64> = picked(&values, 20, false).into_iter().map(|i| values[i]).collect();
        assert_eq!(taken, (80..100).rev().map(f64::from).collect::<Vec<_>>());
    }
}
