//! Label sets: what identifies a series.
//!
//! One allocation holds the whole set, sorted by name, each name and value behind its length:
//!
//! ```text
//! ┌─────────┬──────┬──────────┬───────┬─────────┬──────┬─ ─ ─
//! │ name len│ name │ value len│ value │ name len│ name │
//! └─────────┴──────┴──────────┴───────┴─────────┴──────┴─ ─ ─     lengths: LEB128
//! ```
//!
//! So a set costs its text and a few bytes, is cloned by counting, and equality and hash are those of bytes.
//! Invariants: names strictly ascending bytewise; no empty name; no empty value (in Prometheus an empty label
//! value is an absent label).

use std::{cmp::Ordering, collections::BTreeMap, fmt, sync::Arc};

/// The label that holds a series's metric name.
pub const METRIC_NAME: &str = "__name__";

/// A sorted set of label names and values.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Labels(Arc<[u8]>);

impl Labels {
    /// The set without labels.
    #[must_use]
    pub fn empty() -> Labels {
        Labels(Arc::from([]))
    }

    /// Makes a set of pairs in any order. A later pair replaces an earlier one of the same name, empty values are
    /// dropped.
    pub fn from_pairs<N: AsRef<str>, V: AsRef<str>>(pairs: impl IntoIterator<Item = (N, V)>) -> Labels {
        let mut builder = LabelsBuilder::default();
        for (name, value) in pairs {
            builder.set(name.as_ref(), value.as_ref());
        }
        builder.build()
    }

    /// Makes a set of pairs that are sorted by name already, without duplicates or empty values.
    ///
    /// # Panics
    /// In debug builds, if the pairs are not as promised.
    pub fn from_sorted<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Labels {
        let mut bytes = Vec::with_capacity(128);
        let mut before = "";
        for (name, value) in pairs {
            debug_assert!(before < name && !value.is_empty(), "labels out of order: {before:?}, {name:?}");
            put_str(&mut bytes, name);
            put_str(&mut bytes, value);
            before = name;
        }
        Labels(Arc::from(bytes))
    }

    /// The pairs in order of their names.
    #[must_use]
    pub fn iter(&self) -> Iter<'_> {
        Iter(&self.0)
    }

    /// The value of label `name`, if the set has it.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.iter().find(|(n, _)| *n >= name).filter(|(n, _)| *n == name).map(|(_, value)| value)
    }

    /// The metric name, or the empty string.
    #[must_use]
    pub fn metric_name(&self) -> &str {
        self.get(METRIC_NAME).unwrap_or("")
    }

    /// Whether there is no label.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Number of labels; walks the set.
    #[must_use]
    pub fn len(&self) -> usize {
        self.iter().count()
    }

    /// The packed form, which [`Labels::from_bytes`] reads.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Reads the packed form; `None` if it breaks an invariant of the module.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Labels> {
        let mut rest = bytes;
        let mut before = "";
        while !rest.is_empty() {
            let name = checked_str(&mut rest)?;
            let value = checked_str(&mut rest)?;
            if name <= before || value.is_empty() {
                return None;
            }
            before = name;
        }
        Some(Labels(Arc::from(bytes)))
    }

    /// A 64-bit hash of the set, the same on every node and in every version (xxh3 of the packed form).
    #[must_use]
    pub fn stable_hash(&self) -> u64 {
        xxhash_rust::xxh3::xxh3_64(&self.0)
    }

    /// Starts a change of this set.
    #[must_use]
    pub fn to_builder(&self) -> LabelsBuilder {
        LabelsBuilder { map: self.iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect() }
    }

    /// The set without the labels for which `keep` says no.
    #[must_use]
    pub fn retain(&self, mut keep: impl FnMut(&str) -> bool) -> Labels {
        Labels::from_sorted(self.iter().filter(|(name, _)| keep(name)))
    }
}

impl Default for Labels {
    fn default() -> Self {
        Labels::empty()
    }
}

impl Ord for Labels {
    /// Prometheus's order: pair by pair, name before value; a prefix comes first.
    fn cmp(&self, other: &Self) -> Ordering {
        if Arc::ptr_eq(&self.0, &other.0) {
            return Ordering::Equal;
        }
        // Names and values that end within the common bytes are equal; the next one decides. To see which that is takes
        // a look at lengths only, and series of one metric have most of their bytes in common.
        let (ours, theirs) = (&*self.0, &*other.0);
        let common = common_prefix(ours, theirs);
        let mut at = 0;
        while at < ours.len() && at < theirs.len() {
            let mut rest = &ours[at..];
            let text = trusted_str(&mut rest);
            let end = ours.len() - rest.len();
            if end > common {
                return text.cmp(trusted_str(&mut &theirs[at..]));
            }
            at = end;
        }
        ours.len().cmp(&theirs.len())
    }
}

/// Number of bytes that two slices begin with alike.
fn common_prefix(a: &[u8], b: &[u8]) -> usize {
    let words = a.chunks_exact(8).zip(b.chunks_exact(8));
    let equal = 8 * words.take_while(|(a, b)| a == b).count();
    equal + a[equal..].iter().zip(&b[equal..]).take_while(|(a, b)| a == b).count()
}

impl PartialOrd for Labels {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// As Prometheus prints a label set: `{a="1", b="2"}`, values quoted with escapes.
impl fmt::Display for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        for (i, (name, value)) in self.iter().enumerate() {
            let comma = if i > 0 { ", " } else { "" };
            if is_legacy_label_name(name) {
                write!(f, "{comma}{name}={value:?}")?;
            } else {
                write!(f, "{comma}{name:?}={value:?}")?;
            }
        }
        f.write_str("}")
    }
}

impl fmt::Debug for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl<'a> IntoIterator for &'a Labels {
    type Item = (&'a str, &'a str);
    type IntoIter = Iter<'a>;
    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

/// Whether `name` can be written without quotes: `[a-zA-Z_][a-zA-Z0-9_]*`.
fn is_legacy_label_name(name: &str) -> bool {
    !name.is_empty()
        && !name.as_bytes()[0].is_ascii_digit()
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// The pairs of a [`Labels`], in order.
#[derive(Clone, Debug)]
pub struct Iter<'a>(&'a [u8]);

impl<'a> Iterator for Iter<'a> {
    type Item = (&'a str, &'a str);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let name = trusted_str(&mut self.0);
        let value = trusted_str(&mut self.0);
        Some((name, value))
    }
}

fn put_str(bytes: &mut Vec<u8>, text: &str) {
    let mut len = text.len();
    while len >= 0x80 {
        bytes.push(len as u8 | 0x80);
        len >>= 7;
    }
    bytes.push(len as u8);
    bytes.extend_from_slice(text.as_bytes());
}

fn split_str<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let mut len = 0_usize;
    for shift in (0..35).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        len |= usize::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            let (text, rest) = bytes.split_at_checked(len)?;
            *bytes = rest;
            return Some(text);
        }
    }
    None
}

fn checked_str<'a>(bytes: &mut &'a [u8]) -> Option<&'a str> {
    std::str::from_utf8(split_str(bytes)?).ok()
}

#[inline]
#[expect(
    unsafe_code,
    reason = "the text was checked when the set was made; checking again costs a third of a walk"
)]
fn trusted_str<'a>(bytes: &mut &'a [u8]) -> &'a str {
    let text = split_str(bytes).expect("a packed label set is well formed");
    debug_assert!(std::str::from_utf8(text).is_ok());
    // SAFETY: every way to make a `Labels` writes or checks UTF-8 strings.
    unsafe { std::str::from_utf8_unchecked(text) }
}

/// A label set under change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelsBuilder {
    map: BTreeMap<String, String>,
}

impl LabelsBuilder {
    /// Sets a label; the empty value removes it.
    pub fn set(&mut self, name: &str, value: &str) -> &mut Self {
        if value.is_empty() {
            self.map.remove(name);
        } else if let Some(old) = self.map.get_mut(name) {
            value.clone_into(old);
        } else {
            self.map.insert(name.to_owned(), value.to_owned());
        }
        self
    }

    /// Removes a label.
    pub fn remove(&mut self, name: &str) -> &mut Self {
        self.map.remove(name);
        self
    }

    /// Keeps only the labels for which `keep` says yes.
    pub fn retain(&mut self, mut keep: impl FnMut(&str, &str) -> bool) -> &mut Self {
        self.map.retain(|name, value| keep(name, value));
        self
    }

    /// The value of a label, or the empty string.
    #[must_use]
    pub fn get(&self, name: &str) -> &str {
        self.map.get(name).map_or("", String::as_str)
    }

    /// The pairs in order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.map.iter().map(|(n, v)| (n.as_str(), v.as_str()))
    }

    /// The finished set.
    #[must_use]
    pub fn build(&self) -> Labels {
        Labels::from_sorted(self.iter().filter(|(name, _)| !name.is_empty()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        Labels::from_pairs(pairs.iter().copied())
    }

    #[test]
    fn labels_are_sorted_whatever_the_order_they_came_in() {
        assert_eq!(labels(&[("b", "2"), ("a", "1")]), labels(&[("a", "1"), ("b", "2")]));
    }

    #[test]
    fn an_empty_value_is_an_absent_label() {
        assert_eq!(labels(&[("a", ""), ("b", "2")]), labels(&[("b", "2")]));
    }

    #[test]
    fn a_long_value_round_trips() {
        let long = "x".repeat(70_000);
        let set = labels(&[("a", &long)]);
        assert_eq!(Labels::from_bytes(set.as_bytes()), Some(set.clone()));
        assert_eq!(set.get("a"), Some(long.as_str()));
    }

    #[test]
    fn packed_bytes_out_of_order_are_refused() {
        assert_eq!(Labels::from_bytes(b"\x01b\x011\x01a\x012"), None);
        assert_eq!(Labels::from_bytes(b"\x05a"), None);
        assert_eq!(Labels::from_bytes(b"\x01a\x00"), None);
    }

    #[test]
    fn order_is_by_name_then_value_and_a_prefix_comes_first() {
        let mut sets = [labels(&[("a", "2")]), labels(&[("a", "1"), ("b", "1")]), labels(&[("a", "1")])];
        sets.sort();
        assert_eq!(sets, [labels(&[("a", "1")]), labels(&[("a", "1"), ("b", "1")]), labels(&[("a", "2")])]);
    }

    proptest::proptest! {
        #[test]
        fn order_is_that_of_the_pairs(
            a in proptest::collection::btree_map("[ab]{1,2}", "[xy]{1,3}|x{130}|y{128,140}", 0..4),
            b in proptest::collection::btree_map("[ab]{1,2}", "[xy]{1,3}|x{130}|y{128,140}", 0..4),
        ) {
            let (x, y) = (Labels::from_pairs(&a), Labels::from_pairs(&b));
            proptest::prop_assert_eq!(x.cmp(&y), a.iter().cmp(b.iter()));
        }
    }

    #[test]
    fn a_set_prints_as_prometheus_prints_it() {
        assert_eq!(labels(&[("b.c", "2\n"), ("a", "1")]).to_string(), r#"{a="1", "b.c"="2\n"}"#);
    }
}
