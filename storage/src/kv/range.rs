//! Half-open ranges of keys.

use bytes::Bytes;

/// The keys from `start` on, and before `end` where there is one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRange {
    /// First key that belongs to it.
    pub start: Bytes,
    /// First key that does not; `None` is no end.
    pub end: Option<Bytes>,
}

impl KeyRange {
    /// All keys.
    #[must_use]
    pub fn all() -> KeyRange {
        KeyRange { start: Bytes::new(), end: None }
    }

    /// Keys from `start` to before `end`.
    pub fn new(start: impl Into<Bytes>, end: impl Into<Bytes>) -> KeyRange {
        KeyRange { start: start.into(), end: Some(end.into()) }
    }

    /// Keys that begin with `prefix`.
    #[must_use]
    pub fn prefix(prefix: &[u8]) -> KeyRange {
        let mut end = prefix.to_vec();
        while end.last() == Some(&0xff) {
            end.pop();
        }
        if let Some(last) = end.last_mut() {
            *last += 1;
        }
        let end = if end.is_empty() { None } else { Some(Bytes::from(end)) };
        KeyRange { start: Bytes::copy_from_slice(prefix), end }
    }

    /// Whether `key` belongs to it.
    #[must_use]
    pub fn contains(&self, key: &[u8]) -> bool {
        key >= &self.start[..] && self.end.as_ref().is_none_or(|end| key < &end[..])
    }

    /// Whether no key can belong to it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.end.as_ref().is_some_and(|end| *end <= self.start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_range_ends_where_the_prefix_does() {
        let range = KeyRange::prefix(b"a\xff");
        assert_eq!(range.end.as_deref(), Some(&b"b"[..]));
        assert!(range.contains(b"a\xff\xff\xff"));
        assert!(!range.contains(b"b"));
    }

    #[test]
    fn a_prefix_of_the_last_byte_has_no_end() {
        assert_eq!(KeyRange::prefix(b"\xff\xff").end, None);
        assert_eq!(KeyRange::prefix(b""), KeyRange::all());
    }
}
