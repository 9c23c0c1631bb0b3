//! Label sets of remote write: checked once, then found again by their bytes.
//!
//! A writer sends the same few thousand label sets with every request. The cache maps a 128-bit hash of the bytes of
//! a series's label fields to the checked [`Labels`], so that a known series costs one hash. It keeps no copy of the
//! bytes and does not compare them: among a million sets two share a hash with a probability of 10^-27, and a writer
//! who constructs such a pair gains nothing, because it may write to either series anyway. The cache is a fixed
//! number of slots in shards with a lock each; a shard that holds too many bytes is emptied.

use super::wire::{Field, Reader, WireError};
use model::{Labels, METRIC_NAME};
use std::sync::Mutex;
use xxhash_rust::xxh3::xxh3_128;

/// Limits on the labels of one series.
#[derive(Clone, Copy, Debug)]
pub struct LabelLimits {
    /// Labels of one series.
    pub count_max: usize,
    /// Bytes of a label's name.
    pub name_bytes_max: usize,
    /// Bytes of a label's value.
    pub value_bytes_max: usize,
}

impl Default for LabelLimits {
    fn default() -> Self {
        LabelLimits { count_max: 512, name_bytes_max: 1024, value_bytes_max: 64 << 10 }
    }
}

/// A series cannot be taken because of its labels.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LabelError {
    /// No metric name.
    #[error("series has no metric name")]
    NoMetricName,
    /// A label without a name.
    #[error("label name is empty")]
    EmptyName,
    /// Text that is not UTF-8.
    #[error("label name or value is not valid UTF-8")]
    NotUtf8,
    /// One name twice.
    #[error("label {0:?} is given twice")]
    Duplicate(String),
    /// Too many labels.
    #[error("series has {count} labels, the limit is {limit}")]
    TooMany {
        /// How many it has.
        count: usize,
        /// How many it may have.
        limit: usize,
    },
    /// A name or a value is too long.
    #[error("{what} of {bytes} bytes, the limit is {limit}")]
    TooLong {
        /// `label name` or `label value`.
        what: &'static str,
        /// Its length.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
}

/// A label's name and value, not yet checked.
type RawPair<'a> = (&'a [u8], &'a [u8]);

/// Name and value of one label message.
#[inline]
fn pair(message: &[u8]) -> Result<RawPair<'_>, WireError> {
    let (mut name, mut value): (&[u8], &[u8]) = (&[], &[]);
    let mut reader = Reader::new(message);
    while let Some((number, field)) = reader.next()? {
        match number {
            1 => name = field.bytes(1)?,
            2 => value = field.bytes(2)?,
            _ => {}
        }
    }
    Ok((name, value))
}

/// The pairs in a run of label fields (field 1 of a time series), those with empty values left out.
struct Pairs<'a>(Reader<'a>);

impl<'a> Pairs<'a> {
    #[inline]
    fn next(&mut self) -> Result<Option<RawPair<'a>>, WireError> {
        while let Some((_, field)) = self.0.next()? {
            let Field::Bytes(message) = field else { return Err(WireError::WrongType(1)) };
            let (name, value) = pair(message)?;
            if !value.is_empty() {
                return Ok(Some((name, value)));
            }
        }
        Ok(None)
    }
}

/// Checks a run of label fields. Order is not demanded, as Prometheus's receiver does not demand it: it sorts.
fn check(run: &[u8], limits: &LabelLimits) -> Result<Result<Labels, LabelError>, WireError> {
    let mut pairs: Vec<(&str, &str)> = Vec::with_capacity(16);
    let mut reader = Pairs(Reader::new(run));
    let mut refused = None;
    while let Some((name, value)) = reader.next()? {
        if refused.is_none() {
            match one(name, value, pairs.len(), limits) {
                Ok(pair) => pairs.push(pair),
                Err(error) => refused = Some(error),
            }
        }
    }
    Ok(match refused {
        Some(error) => Err(error),
        None => all(pairs),
    })
}

fn one<'a>(
    name: &'a [u8],
    value: &'a [u8],
    before: usize,
    limits: &LabelLimits,
) -> Result<(&'a str, &'a str), LabelError> {
    if before >= limits.count_max {
        return Err(LabelError::TooMany { count: before + 1, limit: limits.count_max });
    }
    let short = |what, text: &[u8], limit| match text.len() {
        bytes if bytes > limit => Err(LabelError::TooLong { what, bytes, limit }),
        _ => Ok(()),
    };
    short("label name", name, limits.name_bytes_max)?;
    short("label value", value, limits.value_bytes_max)?;
    let text = |bytes| std::str::from_utf8(bytes).map_err(|_| LabelError::NotUtf8);
    Ok((text(name)?, text(value)?))
}

fn all(mut pairs: Vec<(&str, &str)>) -> Result<Labels, LabelError> {
    if !pairs.is_sorted() {
        pairs.sort_unstable();
    }
    if pairs.first().is_some_and(|(name, _)| name.is_empty()) {
        return Err(LabelError::EmptyName);
    }
    if let Some(twice) = pairs.windows(2).find(|two| two[0].0 == two[1].0) {
        return Err(LabelError::Duplicate(twice[0].0.to_owned()));
    }
    if pairs.binary_search_by_key(&METRIC_NAME, |(name, _)| name).is_err() {
        return Err(LabelError::NoMetricName);
    }
    Ok(Labels::from_sorted(pairs))
}

const SHARDS: usize = 64;
const WAYS: usize = 4;
/// A set longer than this on the wire is checked anew each time.
const CACHED_BYTES_MAX: usize = 4096;

#[derive(Default)]
struct Shard {
    /// Allocated at the first use; sets of [`WAYS`] neighbours.
    slots: Vec<Option<(u128, Labels)>>,
    bytes: usize,
    turn: usize,
}

/// The cache. Bounded in slots and bytes; shared by all requests.
pub struct LabelCache {
    shards: Vec<Mutex<Shard>>,
    slots_per_shard: usize,
    bytes_per_shard: usize,
}

impl LabelCache {
    /// A cache of about `series` label sets in at most `bytes` bytes of text.
    #[must_use]
    pub fn new(series: usize, bytes: usize) -> LabelCache {
        LabelCache {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            slots_per_shard: (series / SHARDS).next_power_of_two().max(WAYS),
            bytes_per_shard: (bytes / SHARDS).max(CACHED_BYTES_MAX),
        }
    }

    /// The checked labels for a run of label fields.
    ///
    /// # Errors
    /// Outside, if the bytes are malformed, which fails the request; inside, if the series cannot be taken.
    pub(crate) fn get(
        &self,
        run: &[u8],
        limits: &LabelLimits,
    ) -> Result<Result<Labels, LabelError>, WireError> {
        if run.len() > CACHED_BYTES_MAX {
            return check(run, limits);
        }
        let hash = xxh3_128(run);
        let mut shard = self.shards[hash as usize % SHARDS].lock().expect("no holder panics");
        if shard.slots.is_empty() {
            shard.slots.resize(self.slots_per_shard, None);
        }
        let first = (hash >> 32) as usize % (self.slots_per_shard / WAYS) * WAYS;
        let set = &shard.slots[first..first + WAYS];
        for (tag, labels) in set.iter().flatten() {
            if *tag == hash {
                return Ok(Ok(labels.clone()));
            }
        }
        let labels = match check(run, limits)? {
            Ok(labels) => labels,
            refused => return Ok(refused),
        };
        shard.insert(first, hash, labels.clone(), self.bytes_per_shard);
        Ok(Ok(labels))
    }
}

impl Shard {
    fn insert(&mut self, first: usize, hash: u128, labels: Labels, bytes_max: usize) {
        let bytes = labels.as_bytes().len();
        if self.bytes + bytes > bytes_max {
            self.slots.fill(None);
            self.bytes = 0;
        }
        let free = self.slots[first..first + WAYS].iter().position(Option::is_none);
        self.turn = self.turn.wrapping_add(1);
        let slot = &mut self.slots[first + free.unwrap_or(self.turn % WAYS)];
        let old = slot.replace((hash, labels)).map_or(0, |(_, old)| old.as_bytes().len());
        self.bytes = self.bytes + bytes - old;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Label fields as a writer sends them.
    fn run(pairs: &[(&str, &str)]) -> Vec<u8> {
        let mut out = Vec::new();
        for (name, value) in pairs {
            let mut label = vec![0x0a, name.len() as u8];
            label.extend_from_slice(name.as_bytes());
            label.extend([0x12, value.len() as u8]);
            label.extend_from_slice(value.as_bytes());
            out.extend([0x0a, label.len() as u8]);
            out.extend(label);
        }
        out
    }

    fn get(pairs: &[(&str, &str)]) -> Result<Labels, LabelError> {
        LabelCache::new(64, 1 << 16).get(&run(pairs), &LabelLimits::default()).unwrap()
    }

    #[test]
    fn labels_are_taken_as_they_come() {
        let pairs = [("__name__", "up"), ("job", "a")];
        assert_eq!(get(&pairs), Ok(Labels::from_pairs(pairs)));
    }

    #[test]
    fn labels_out_of_order_are_sorted() {
        let pairs = [("job", "a"), ("__name__", "up")];
        assert_eq!(get(&pairs), Ok(Labels::from_pairs(pairs)));
    }

    #[test]
    fn empty_values_are_dropped_also_from_known_sets() {
        let cache = LabelCache::new(64, 1 << 16);
        let run = run(&[("__name__", "up"), ("dc", ""), ("job", "a")]);
        let limits = LabelLimits::default();
        let first = cache.get(&run, &limits).unwrap().unwrap();
        assert_eq!(first, Labels::from_pairs([("__name__", "up"), ("job", "a")]));
        assert_eq!(cache.get(&run, &limits).unwrap(), Ok(first));
    }

    #[test]
    fn what_prometheus_refuses_is_refused() {
        assert_eq!(get(&[("job", "a")]), Err(LabelError::NoMetricName));
        assert_eq!(get(&[("__name__", "")]), Err(LabelError::NoMetricName));
        assert_eq!(get(&[("__name__", "up"), ("", "a")]), Err(LabelError::EmptyName));
        let twice = [("__name__", "up"), ("job", "a"), ("job", "b")];
        assert_eq!(get(&twice), Err(LabelError::Duplicate("job".into())));
        let mut broken = run(&[("__name__", "up"), ("job", "x")]);
        *broken.last_mut().unwrap() = 0xff;
        let cache = LabelCache::new(64, 1 << 16);
        assert_eq!(cache.get(&broken, &LabelLimits::default()).unwrap(), Err(LabelError::NotUtf8));
    }

    #[test]
    fn limits_hold() {
        let limits = LabelLimits { count_max: 2, name_bytes_max: 8, value_bytes_max: 3 };
        let cache = LabelCache::new(64, 1 << 16);
        let get = |pairs: &[(&str, &str)]| cache.get(&run(pairs), &limits).unwrap();
        let many = get(&[("__name__", "up"), ("a", "1"), ("b", "2"), ("c", "3")]);
        assert_eq!(many, Err(LabelError::TooMany { count: 3, limit: 2 }));
        let long = get(&[("__name__", "upup")]);
        assert_eq!(long, Err(LabelError::TooLong { what: "label value", bytes: 4, limit: 3 }));
    }

    #[test]
    fn a_known_set_is_found_again_without_a_new_allocation() {
        let cache = LabelCache::new(64, 1 << 16);
        let run = run(&[("__name__", "up"), ("job", "a")]);
        let one = cache.get(&run, &LabelLimits::default()).unwrap().unwrap();
        let two = cache.get(&run, &LabelLimits::default()).unwrap().unwrap();
        assert_eq!(one.as_bytes().as_ptr(), two.as_bytes().as_ptr());
    }

    #[test]
    fn more_series_than_slots_cost_neither_memory_nor_truth() {
        let cache = LabelCache::new(256, 64 << 10);
        for i in 0..20_000 {
            let value = i.to_string();
            let pairs = [("__name__", "up"), ("instance", value.as_str())];
            let got = cache.get(&run(&pairs), &LabelLimits::default()).unwrap();
            assert_eq!(got, Ok(Labels::from_pairs(pairs)));
        }
        let bytes: usize = cache.shards.iter().map(|s| s.lock().unwrap().bytes).sum();
        assert!(bytes <= SHARDS * CACHED_BYTES_MAX, "{bytes} bytes");
    }

    #[test]
    fn a_malformed_label_fails_the_request() {
        let cache = LabelCache::new(64, 1 << 16);
        let truncated = &run(&[("__name__", "up")])[..6];
        assert_eq!(cache.get(truncated, &LabelLimits::default()), Err(WireError::Truncated));
    }
}
