//! The index of a shard: which series there are and which of them match.
//!
//! ```text
//!  name ─▶ value ─▶ pair id ─▶ postings (series ids, roaring)       pairs are interned: a series is a list of pair ids
//!  hash of (source, labels) ─▶ series id                            a few bytes each in one arena
//! ```
//!
//! Ids are given in apply, rising, so a source's series are neighbours and postings are runs. Series are only ever
//! added in place; a reader bounds what it sees by the number of ids at its view. Removal builds a new index, and
//! readers keep the one they have.

use super::{matching::select_postings, table::HashSlots};
use model::{Labels, Matcher};
use roaring::RoaringBitmap;
use std::{collections::BTreeMap, sync::Arc};

/// A series of a shard. Never reused.
pub(crate) type SeriesId = u32;
/// A source of a shard. Never reused.
pub(crate) type SourceId = u32;

/// The position of a series that is not in its source's layout.
pub(crate) const NO_COLUMN: u32 = u32::MAX;
/// The `last` of a series that is in its source's layout: it may get samples at any time.
pub(crate) const ACTIVE: i64 = i64::MAX;
const REMOVED: SourceId = u32::MAX;

/// What the index knows of one series.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SeriesRecord {
    /// Hash of source key and labels, the same on every node.
    pub hash: u64,
    /// Its source.
    pub source: SourceId,
    /// Its position in the source's present layout, or [`NO_COLUMN`].
    pub column: u32,
    /// Where its pair ids begin in the arena.
    labels_at: u32,
    /// Its earliest timestamp.
    pub first: i64,
    /// Its last timestamp once it left the layout, else [`ACTIVE`].
    pub last: i64,
}

/// Series ids under one label pair; most unique values have one.
#[derive(Clone, Debug)]
pub(crate) enum Postings {
    One(SeriesId),
    Many(RoaringBitmap),
}

impl Postings {
    fn insert(&mut self, id: SeriesId) {
        match self {
            Postings::One(only) => *self = Postings::Many(RoaringBitmap::from_iter([*only, id])),
            Postings::Many(ids) => {
                ids.insert(id);
            }
        }
    }

    pub(crate) fn add_to(&self, set: &mut RoaringBitmap) {
        match self {
            Postings::One(id) => {
                set.insert(*id);
            }
            Postings::Many(ids) => *set |= ids,
        }
    }

    pub(crate) fn intersects(&self, set: &RoaringBitmap) -> bool {
        match self {
            Postings::One(id) => set.contains(*id),
            Postings::Many(ids) => !ids.is_disjoint(set),
        }
    }

    pub(crate) fn len(&self) -> u64 {
        match self {
            Postings::One(_) => 1,
            Postings::Many(ids) => ids.len(),
        }
    }

    pub(crate) fn to_set(&self) -> RoaringBitmap {
        match self {
            Postings::One(id) => RoaringBitmap::from_iter([*id]),
            Postings::Many(ids) => ids.clone(),
        }
    }
}

/// One value of a label.
#[derive(Debug)]
pub(crate) struct ValueIndex {
    pair: u32,
    pub postings: Postings,
}

/// One label name.
#[derive(Debug, Default)]
pub(crate) struct LabelIndex {
    /// Values in order.
    pub values: BTreeMap<Arc<str>, ValueIndex>,
    /// All series that have the label.
    pub all: RoaringBitmap,
}

/// The index; see the module.
#[derive(Debug, Default)]
pub(crate) struct Index {
    base: SeriesId,
    series: Vec<SeriesRecord>,
    arena: Vec<u8>,
    pairs: Vec<(Arc<str>, Arc<str>)>,
    pub labels: BTreeMap<Arc<str>, LabelIndex>,
    pub all: RoaringBitmap,
    by_hash: HashSlots,
}

impl Index {
    /// The id the next series gets.
    pub(crate) fn next_id(&self) -> SeriesId {
        self.base + self.series.len() as u32
    }

    /// Number of series.
    pub(crate) fn len(&self) -> u64 {
        self.all.len()
    }

    /// Whether another series can be added: ids and arena are 32 bits wide.
    pub(crate) fn has_room(&self) -> bool {
        self.next_id() < u32::MAX - 1 && self.arena.len() < (u32::MAX - (1 << 20)) as usize
    }

    pub(crate) fn get(&self, id: SeriesId) -> Option<&SeriesRecord> {
        let record = self.series.get(id.checked_sub(self.base)? as usize)?;
        (record.source != REMOVED).then_some(record)
    }

    pub(crate) fn get_mut(&mut self, id: SeriesId) -> Option<&mut SeriesRecord> {
        let record = self.series.get_mut(id.checked_sub(self.base)? as usize)?;
        (record.source != REMOVED).then_some(record)
    }

    /// The series of `source` with these labels; `hash` is theirs.
    pub(crate) fn find(&self, source: SourceId, hash: u64, labels: &Labels) -> Option<SeriesId> {
        self.by_hash.find(hash, |id| {
            self.get(id).is_some_and(|record| {
                record.hash == hash && record.source == source && self.pairs_of(record).eq(labels.iter())
            })
        })
    }

    /// Adds a series at the next id.
    pub(crate) fn add(
        &mut self,
        source: SourceId,
        hash: u64,
        labels: &Labels,
        column: u32,
        first: i64,
        last: i64,
    ) -> SeriesId {
        let id = self.next_id();
        self.add_at(id, source, hash, labels, column, first, last);
        id
    }

    /// Adds a series at a given id, not below any that is there; ids left out are removed ones.
    #[expect(clippy::too_many_arguments, reason = "one record, taken apart")]
    pub(crate) fn add_at(
        &mut self,
        id: SeriesId,
        source: SourceId,
        hash: u64,
        labels: &Labels,
        column: u32,
        first: i64,
        last: i64,
    ) {
        if self.series.is_empty() {
            self.base = id;
        }
        let labels_at = self.arena.len() as u32;
        let hole = SeriesRecord { hash: 0, source: REMOVED, column: NO_COLUMN, labels_at, first: 0, last: 0 };
        while self.next_id() < id {
            self.series.push(hole);
        }
        self.series.push(SeriesRecord { hash, source, column, labels_at, first, last });
        self.arena.push(labels.len().min(255) as u8);
        for (name, value) in labels.iter().take(255) {
            let pair = self.intern(name, value, id);
            put_varint(&mut self.arena, pair);
        }
        self.all.insert(id);
        let (series, base) = (&self.series, self.base);
        self.by_hash.insert(hash, id, |id| series[(id - base) as usize].hash);
    }

    /// Says that ids below `id` were given, even if their series are gone.
    pub(crate) fn reserve_to(&mut self, id: SeriesId) {
        if self.series.is_empty() {
            self.base = self.base.max(id);
        }
        let labels_at = self.arena.len() as u32;
        while self.next_id() < id {
            self.series.push(SeriesRecord {
                hash: 0,
                source: REMOVED,
                column: NO_COLUMN,
                labels_at,
                first: 0,
                last: 0,
            });
        }
    }

    fn intern(&mut self, name: &str, value: &str, id: SeriesId) -> u32 {
        if !self.labels.contains_key(name) {
            self.labels.insert(Arc::from(name), LabelIndex::default());
        }
        let (shared_name, _) = self.labels.get_key_value(name).expect("it was just put there");
        let shared_name = Arc::clone(shared_name);
        let label = self.labels.get_mut(name).expect("it was just put there");
        label.all.insert(id);
        if let Some(known) = label.values.get_mut(value) {
            known.postings.insert(id);
            return known.pair;
        }
        let pair = self.pairs.len() as u32;
        let shared_value: Arc<str> = Arc::from(value);
        self.pairs.push((shared_name, Arc::clone(&shared_value)));
        label.values.insert(shared_value, ValueIndex { pair, postings: Postings::One(id) });
        pair
    }

    fn pairs_of(&self, record: &SeriesRecord) -> impl Iterator<Item = (&str, &str)> {
        let mut rest = &self.arena[record.labels_at as usize..];
        let count = rest.first().copied().unwrap_or(0);
        rest = rest.get(1..).unwrap_or_default();
        (0..count).map(move |_| {
            let (name, value) = &self.pairs[take_varint(&mut rest) as usize];
            (&**name, &**value)
        })
    }

    /// The value of a label of a series.
    pub(crate) fn value_of(&self, id: SeriesId, name: &str) -> Option<&str> {
        self.pairs_of(self.get(id)?).find_map(|(found, value)| (found == name).then_some(value))
    }

    /// The labels of a series.
    pub(crate) fn labels_of(&self, record: &SeriesRecord) -> Labels {
        Labels::from_sorted(self.pairs_of(record))
    }

    /// Series below `bound` that match all of `matchers`.
    pub(crate) fn select(&self, matchers: &[Matcher], bound: SeriesId) -> RoaringBitmap {
        let mut set = select_postings(self, matchers);
        set.remove_range(bound..);
        set
    }

    /// Ids and records, ascending.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (SeriesId, &SeriesRecord)> {
        let base = self.base;
        (0_u32..).zip(&self.series).map(move |(i, r)| (base + i, r)).filter(|(_, r)| r.source != REMOVED)
    }

    /// The same index without some series; ids stay.
    pub(crate) fn without(&self, gone: &RoaringBitmap) -> Index {
        let mut index = Index::default();
        for (id, record) in self.iter().filter(|(id, _)| !gone.contains(*id)) {
            let labels = self.labels_of(record);
            index.add_at(id, record.source, record.hash, &labels, record.column, record.first, record.last);
        }
        index.reserve_to(self.next_id());
        index
    }

    /// Roughly the bytes held.
    pub(crate) fn bytes(&self) -> usize {
        let postings: usize = self
            .labels
            .values()
            .flat_map(|label| label.values.values())
            .map(|value| match &value.postings {
                Postings::One(_) => 0,
                Postings::Many(ids) => ids.serialized_size() + 32,
            })
            .sum();
        self.series.capacity() * size_of::<SeriesRecord>()
            + self.arena.capacity()
            + self.pairs.len() * 140
            + postings
            + self.by_hash.bytes()
    }

    /// Number of distinct label pairs.
    pub(crate) fn pair_count(&self) -> usize {
        self.pairs.len()
    }
}

fn put_varint(bytes: &mut Vec<u8>, mut value: u32) {
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

fn take_varint(bytes: &mut &[u8]) -> u32 {
    let mut value = 0;
    for shift in (0..35).step_by(7) {
        let Some((&byte, rest)) = bytes.split_first() else { break };
        *bytes = rest;
        value |= u32::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            break;
        }
    }
    value
}

#[cfg(test)]
mod tests {
    use super::{super::matching::series_at_most, *};
    use model::MatchOp;

    fn index() -> Index {
        let mut index = Index::default();
        for (i, (name, job)) in
            [("up", "a"), ("up", "b"), ("down", "a"), ("left", "")].into_iter().enumerate()
        {
            let labels = Labels::from_pairs([("__name__", name), ("job", job)]);
            index.add(0, labels.stable_hash(), &labels, i as u32, 0, ACTIVE);
        }
        index
    }

    fn check(matchers: &[(MatchOp, &str, &str)], expected: &[u32]) {
        let matchers: Vec<_> =
            matchers.iter().map(|(op, n, v)| Matcher::new(*op, *n, *v).expect("a matcher")).collect();
        assert_eq!(index().select(&matchers, 100).into_iter().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn matchers_select_by_sets() {
        use MatchOp::{Equal, NotEqual, NotRegex, Regex};
        check(&[(Equal, "__name__", "up")], &[0, 1]);
        check(&[(Equal, "__name__", "up"), (NotEqual, "job", "a")], &[1]);
        check(&[(NotEqual, "job", "a")], &[1, 3]);
        check(&[(Equal, "job", "")], &[3]);
        check(&[(NotEqual, "job", "")], &[0, 1, 2]);
        check(&[(Regex, "job", "a|b")], &[0, 1, 2]);
        check(&[(Regex, "job", "a|")], &[0, 2, 3]);
        check(&[(Regex, "job", "b.*")], &[1]);
        check(&[(NotRegex, "job", "a|b")], &[3]);
        check(&[(NotRegex, "__name__", "u.|l.+")], &[2]);
        check(&[(Regex, "nosuch", ".*"), (Equal, "job", "b")], &[1]);
        check(&[(Regex, "nosuch", ".+")], &[]);
        check(&[], &[0, 1, 2, 3]);
        check(&[(Regex, "__name__", "(?i)U.*")], &[0, 1]);
        check(&[(Regex, "__name__", "(?i:LEFT)|down")], &[2, 3]);
        check(&[(NotRegex, "__name__", "d.*n")], &[0, 1, 3]);
    }

    #[test]
    fn few_series_are_tried_one_by_one() {
        use MatchOp::{Equal, NotRegex, Regex};
        let up = (Equal, "__name__", "up");
        check(&[up, (Regex, "job", "b.*")], &[1]);
        check(&[up, (Regex, "job", "x.*")], &[]);
        check(&[up, (NotRegex, "job", "b.*")], &[0]);
        check(&[up, (NotRegex, "job", "b.*|")], &[0]);
        let left = (Equal, "__name__", "left");
        check(&[left, (Regex, "job", ".+")], &[]);
        check(&[left, (Regex, "job", "a.*|")], &[3]);
        check(&[left, (NotRegex, "job", "a.*")], &[3]);
        check(&[left, (NotRegex, "job", ".*")], &[]);
    }

    #[test]
    fn of_many_values_only_those_of_few_series_are_looked_at() {
        let mut index = index();
        for i in 0..1_000 {
            let labels = Labels::from_pairs([("__name__", "many"), ("job", &format!("j{i}"))]);
            index.add(0, labels.stable_hash(), &labels, i, 0, ACTIVE);
        }
        let at_most = |name: &str| {
            let any = Matcher::new(MatchOp::Regex, "job", "j.*9").expect("a matcher");
            series_at_most(&index, &[Matcher::new(MatchOp::Equal, "__name__", name).expect("a matcher"), any])
        };
        assert_eq!((at_most("up"), at_most("many")), (Some(2), None));
    }

    #[test]
    fn no_more_series_match_than_the_rarest_value_has() {
        use MatchOp::{Equal, NotEqual, Regex};
        let at_most = |matchers: &[(MatchOp, &str, &str)]| {
            let matchers: Vec<_> =
                matchers.iter().map(|(op, n, v)| Matcher::new(*op, *n, *v).expect("a matcher")).collect();
            series_at_most(&index(), &matchers)
        };
        assert_eq!(at_most(&[(Equal, "__name__", "up")]), Some(2));
        assert_eq!(at_most(&[(Equal, "__name__", "up"), (Equal, "job", "b")]), Some(1));
        assert_eq!(at_most(&[(Equal, "__name__", "up"), (Equal, "job", "nosuch")]), Some(0));
        assert_eq!(at_most(&[(Equal, "__name__", "up"), (Regex, "job", "a.*")]), Some(2));
        assert_eq!(at_most(&[(NotEqual, "job", "a"), (Regex, "__name__", "u.*"), (Equal, "job", "")]), None);
    }

    #[test]
    fn a_series_is_found_by_its_labels_and_gives_them_back() {
        let index = index();
        let labels = Labels::from_pairs([("__name__", "down"), ("job", "a")]);
        assert_eq!(index.find(0, labels.stable_hash(), &labels), Some(2));
        assert_eq!(index.find(1, labels.stable_hash(), &labels), None);
        assert_eq!(index.labels_of(index.get(2).expect("a record")), labels);
    }

    #[test]
    fn removed_series_leave_and_their_ids_are_not_given_again() {
        let index = index().without(&RoaringBitmap::from_iter([0, 3]));
        assert_eq!(index.select(&[], 100).into_iter().collect::<Vec<_>>(), [1, 2]);
        assert_eq!(index.next_id(), 4);
        assert!(index.get(3).is_none() && index.get(0).is_none());
    }
}
