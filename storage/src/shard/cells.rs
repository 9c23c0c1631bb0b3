//! The cells of one open row: raw floats by column, in the order of the source's layout.
//!
//! A row that has most columns is dense (a float each, a bitmap where some are missing), one that has few is sparse
//! (column and float), so memory is bounded by the cells present and not by the width of the layout. Histograms
//! stand beside, sorted by column.

use super::{blocks, hash};
use model::{TimestampMs, Value};

/// One cell.
#[derive(Clone, Debug)]
pub(crate) enum Cell<'a> {
    Float(f64),
    Histogram(&'a Value),
}

impl Cell<'_> {
    /// What the state hash and the comparison of duplicates see.
    pub(crate) fn bits(&self) -> u64 {
        match self {
            Cell::Float(value) => value.to_bits(),
            Cell::Histogram(value) => histogram_bits(value),
        }
    }
}

/// What stands for a histogram where a float has its bits.
pub(crate) fn histogram_bits(value: &Value) -> u64 {
    let mut bytes = Vec::with_capacity(256);
    blocks::put_histogram(value, &mut bytes);
    hash::blob_bits(&bytes)
}

/// Cells to be stored: strictly ascending columns.
#[derive(Clone, Debug, Default)]
pub(crate) struct NewCells {
    pub floats: Vec<(u32, f64)>,
    pub histograms: Vec<(u32, Value)>,
}

impl NewCells {
    pub(crate) fn len(&self) -> usize {
        self.floats.len() + self.histograms.len()
    }

    pub(crate) fn sort(&mut self) {
        if !self.floats.is_sorted_by_key(|(column, _)| *column) {
            self.floats.sort_by_key(|(column, _)| *column);
        }
        if !self.histograms.is_sorted_by_key(|(column, _)| *column) {
            self.histograms.sort_by_key(|(column, _)| *column);
        }
    }
}

/// The cells of a row.
#[derive(Clone, Debug, Default)]
pub(crate) struct RowCells {
    /// Sparse: the columns of `values`, ascending. Dense: none, and `values[i]` is column `i`.
    columns: Option<Vec<u32>>,
    values: Vec<f64>,
    /// Dense only: which columns have a float; none means all of `values`.
    present: Option<Vec<u64>>,
    histograms: Vec<(u32, Value)>,
}

impl RowCells {
    /// A row in which columns `0..values.len()` each have a float.
    pub(crate) fn full(values: Vec<f64>) -> RowCells {
        RowCells { values, ..RowCells::default() }
    }

    /// A row with these cells; `width` is the layout's.
    pub(crate) fn of(cells: NewCells, width: usize) -> RowCells {
        let mut row = RowCells { histograms: cells.histograms, ..RowCells::default() };
        row.set_floats(cells.floats, width);
        row
    }

    fn set_floats(&mut self, floats: Vec<(u32, f64)>, width: usize) {
        if floats.len() * 2 < width {
            self.columns = Some(floats.iter().map(|(column, _)| *column).collect());
            self.values = floats.into_iter().map(|(_, value)| value).collect();
            self.present = None;
            return;
        }
        let len = floats.last().map_or(0, |(column, _)| *column as usize + 1);
        self.columns = None;
        self.values = vec![0.0; len];
        let all = floats.len() == len;
        let mut present = vec![0_u64; if all { 0 } else { len.div_ceil(64) }];
        for (column, value) in floats {
            self.values[column as usize] = value;
            if !all {
                present[column as usize / 64] |= 1 << (column % 64);
            }
        }
        self.present = (!all).then_some(present);
    }

    fn float(&self, column: u32) -> Option<f64> {
        match (&self.columns, &self.present) {
            (Some(columns), _) => columns.binary_search(&column).ok().map(|at| self.values[at]),
            (None, None) => self.values.get(column as usize).copied(),
            (None, Some(present)) => {
                let word = present.get(column as usize / 64)?;
                (word >> (column % 64) & 1 == 1).then(|| self.values[column as usize])
            }
        }
    }

    /// The cell of a column.
    pub(crate) fn get(&self, column: u32) -> Option<Cell<'_>> {
        if let Some(value) = self.float(column) {
            return Some(Cell::Float(value));
        }
        if self.histograms.is_empty() {
            return None;
        }
        let at = self.histograms.binary_search_by_key(&column, |(c, _)| *c).ok()?;
        Some(Cell::Histogram(&self.histograms[at].1))
    }

    /// Floats in order of their columns.
    pub(crate) fn floats(&self) -> impl Iterator<Item = (u32, f64)> + '_ {
        self.values.iter().enumerate().filter_map(move |(i, value)| match (&self.columns, &self.present) {
            (Some(columns), _) => Some((columns[i], *value)),
            (None, None) => Some((i as u32, *value)),
            (None, Some(present)) => (present[i / 64] >> (i % 64) & 1 == 1).then_some((i as u32, *value)),
        })
    }

    /// Histograms in order of their columns.
    pub(crate) fn histograms(&self) -> &[(u32, Value)] {
        &self.histograms
    }

    /// Number of cells.
    pub(crate) fn len(&self) -> usize {
        let floats = self
            .present
            .as_ref()
            .map_or(self.values.len(), |words| words.iter().map(|w| w.count_ones() as usize).sum());
        floats + self.histograms.len()
    }

    /// Adds cells; columns that are there already are a caller's error and keep their first value.
    pub(crate) fn merge(&mut self, cells: NewCells, width: usize) {
        if self.columns.is_none() && cells.floats.iter().all(|(c, _)| (*c as usize) < self.values.len()) {
            if let Some(present) = &mut self.present {
                for (column, value) in cells.floats {
                    let (word, bit) = (column as usize / 64, 1_u64 << (column % 64));
                    if present[word] & bit == 0 {
                        present[word] |= bit;
                        self.values[column as usize] = value;
                    }
                }
            }
        } else {
            let mut floats = Vec::with_capacity(self.values.len() + cells.floats.len());
            let mut old = self.floats().peekable();
            for (column, value) in cells.floats {
                while let Some(cell) = old.next_if(|(c, _)| *c < column) {
                    floats.push(cell);
                }
                if old.peek().is_none_or(|(c, _)| *c != column) {
                    floats.push((column, value));
                }
            }
            floats.extend(old);
            self.set_floats(floats, width);
        }
        for (column, value) in cells.histograms {
            if let Err(at) = self.histograms.binary_search_by_key(&column, |(c, _)| *c) {
                self.histograms.insert(at, (column, value));
            }
        }
    }

    /// The same cells under other columns.
    pub(crate) fn remap(&self, to: &[u32], width: usize) -> RowCells {
        let mut cells = NewCells {
            floats: self.floats().map(|(c, value)| (to[c as usize], value)).collect(),
            histograms: self.histograms.iter().map(|(c, v)| (to[*c as usize], v.clone())).collect(),
        };
        cells.sort();
        RowCells::of(cells, width)
    }

    /// Sum of the cells' contributions to the state hash.
    pub(crate) fn hash(&self, timestamp: TimestampMs, series_hashes: &[u64]) -> u128 {
        let key = hash::time_key(timestamp.0);
        let mut sum = 0_u128;
        if self.columns.is_none() && self.present.is_none() {
            for (value, series) in self.values.iter().zip(series_hashes) {
                sum = sum.wrapping_add(hash::cell(*series, key, value.to_bits()));
            }
        } else {
            for (column, value) in self.floats() {
                sum = sum.wrapping_add(hash::cell(series_hashes[column as usize], key, value.to_bits()));
            }
        }
        for (column, value) in &self.histograms {
            sum = sum.wrapping_add(hash::cell(series_hashes[*column as usize], key, histogram_bits(value)));
        }
        sum
    }

    /// Bytes on the heap.
    pub(crate) fn bytes(&self) -> usize {
        self.values.capacity() * 8
            + self.columns.as_ref().map_or(0, |c| c.capacity() * 4)
            + self.present.as_ref().map_or(0, |p| p.capacity() * 8)
            + self.histograms.len() * 256
    }
}

/// A set of columns.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ColumnSet {
    words: Vec<u64>,
}

impl ColumnSet {
    pub(crate) fn insert(&mut self, column: u32) {
        let word = column as usize / 64;
        if word >= self.words.len() {
            self.words.resize(word + 1, 0);
        }
        self.words[word] |= 1 << (column % 64);
    }

    pub(crate) fn insert_range(&mut self, range: std::ops::Range<u32>) {
        if range.start == 0 {
            let whole = range.end as usize / 64;
            if self.words.len() < whole {
                self.words.resize(whole, 0);
            }
            self.words[..whole].fill(u64::MAX);
            for column in (whole as u32 * 64)..range.end {
                self.insert(column);
            }
        } else {
            for column in range {
                self.insert(column);
            }
        }
    }

    pub(crate) fn remove(&mut self, column: u32) {
        if let Some(word) = self.words.get_mut(column as usize / 64) {
            *word &= !(1 << (column % 64));
        }
    }

    pub(crate) fn contains(&self, column: u32) -> bool {
        self.words.get(column as usize / 64).is_some_and(|word| word >> (column % 64) & 1 == 1)
    }

    /// Columns that are here and not in `other`, ascending.
    pub(crate) fn minus(&self, other: &ColumnSet) -> Vec<u32> {
        let mut columns = Vec::new();
        for (i, word) in self.words.iter().enumerate() {
            let mut left = word & !other.words.get(i).copied().unwrap_or(0);
            while left != 0 {
                columns.push(i as u32 * 64 + left.trailing_zeros());
                left &= left - 1;
            }
        }
        columns
    }

    /// All columns, ascending.
    pub(crate) fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.words.iter().enumerate().flat_map(|(i, word)| {
            (0..64).filter(move |bit| word >> bit & 1 == 1).map(move |bit| i as u32 * 64 + bit)
        })
    }

    pub(crate) fn len(&self) -> usize {
        self.words.iter().map(|word| word.count_ones() as usize).sum()
    }

    pub(crate) fn clear(&mut self) {
        self.words.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn floats(row: &RowCells) -> Vec<(u32, f64)> {
        row.floats().collect()
    }

    #[test]
    fn pieces_fill_one_row_whatever_its_form() {
        let mut row = RowCells::of(NewCells { floats: vec![(3, 3.0)], ..NewCells::default() }, 10);
        row.merge(NewCells { floats: vec![(1, 1.0), (9, 9.0)], ..NewCells::default() }, 10);
        assert_eq!(floats(&row), [(1, 1.0), (3, 3.0), (9, 9.0)]);
        let rest = [0, 2, 4, 5].map(|c| (c, f64::from(c))).to_vec();
        row.merge(NewCells { floats: rest, ..NewCells::default() }, 10);
        assert!(row.columns.is_none());
        row.merge(NewCells { floats: vec![(6, 6.0)], ..NewCells::default() }, 10);
        assert_eq!(floats(&row), [0, 1, 2, 3, 4, 5, 6, 9].map(|c| (c, f64::from(c))));
        assert!(row.get(7).is_none());
        assert_eq!(row.len(), 8);
    }

    #[test]
    fn the_hash_of_a_row_does_not_depend_on_its_form() {
        let hashes: Vec<u64> = (0..100).collect();
        let cells = || vec![(5, 1.5), (7, -0.0)];
        let sparse = RowCells::of(NewCells { floats: cells(), ..NewCells::default() }, 100);
        let dense = RowCells::of(NewCells { floats: cells(), ..NewCells::default() }, 2);
        assert_eq!(sparse.hash(TimestampMs(9), &hashes), dense.hash(TimestampMs(9), &hashes));
    }

    #[test]
    fn column_sets_subtract() {
        let (mut a, mut b) = (ColumnSet::default(), ColumnSet::default());
        a.insert_range(0..130);
        b.insert_range(0..128);
        b.remove(3);
        assert_eq!(a.minus(&b), [3, 128, 129]);
        assert_eq!(a.len(), 130);
    }
}
