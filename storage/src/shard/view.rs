//! A view of one shard at one applied index, and selecting from it.
//!
//! A view shares sources, index and the store's own view with apply, which copies what it changes while a view
//! holds it. So sealing, checkpoints, retention and installation pass it by.

use super::{
    cache::{ChunkCache, ReadError},
    cells::Cell,
    index::{Index, SeriesId},
    matching::series_at_most,
    parts::{MergedIter, Part},
    reading::Reading,
    source::Source,
};
use crate::kv::KvView;
use model::{
    Budget, LabelQuery, Labels, LogIndex, Matcher, QueryError, Queryable, Samples, SelectRequest, SeriesSet,
    ShardId, TimestampMs, Value,
};
use roaring::RoaringBitmap;
use std::{
    collections::BTreeSet,
    sync::{Arc, RwLock},
};

/// Series between two looks at the budget's time.
const CHECK_INTERVAL: usize = 16;
/// Bytes that an entry of a select's list of series is reckoned with.
const LISTED_BYTES: u64 = 320;

/// See the module. Cheap to make and to clone; holding it keeps old versions of what it shows.
#[derive(Clone, Debug)]
pub struct ShardView {
    pub(crate) inner: Arc<ViewInner>,
}

#[derive(Debug)]
pub(crate) struct ViewInner {
    pub shard: ShardId,
    pub index_applied: LogIndex,
    pub sources: Arc<Vec<Option<Arc<Source>>>>,
    pub index: Arc<RwLock<Index>>,
    /// Series from here on are later than the view.
    pub bound: SeriesId,
    pub kv: KvView,
    pub cache: Arc<ChunkCache>,
}

/// A series in a list to be read.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub labels: Labels,
    pub series: SeriesId,
    pub source: u32,
    /// Where it is in its source's layout, as a hint.
    pub column: u32,
}

pub(crate) fn storage_error(error: ReadError) -> QueryError {
    QueryError::Storage(error.to_string())
}

impl ShardView {
    /// The shard.
    #[must_use]
    pub fn shard(&self) -> ShardId {
        self.inner.shard
    }

    /// The applied index that it shows; 0 before the first entry.
    #[must_use]
    pub fn index(&self) -> LogIndex {
        self.inner.index_applied
    }

    fn matching(&self, matchers: &[Matcher], start: TimestampMs, end: TimestampMs) -> RoaringBitmap {
        let index = self.inner.index.read().expect("no holder panics");
        let mut set = index.select(matchers, self.inner.bound);
        let outside: Vec<SeriesId> =
            set.iter().filter(|id| !self.has_samples(&index, *id, start, end)).collect();
        for id in outside {
            set.remove(id);
        }
        set
    }

    /// Whether a series can have samples in a range, as far as the index knows.
    fn has_samples(&self, index: &Index, id: SeriesId, start: TimestampMs, end: TimestampMs) -> bool {
        let Some(record) = index.get(id) else { return false };
        let Some(Some(source)) = self.inner.sources.get(record.source as usize) else { return false };
        record.first <= end.0 && record.last.min(source.newest.0) >= start.0
    }

    /// The series that match, by labels, then source.
    pub(crate) fn find(&self, request: &SelectRequest, budget: &Budget) -> Result<Vec<Found>, QueryError> {
        let set = self.matching(&request.matchers, request.start, request.end);
        budget.take(set.len() * LISTED_BYTES)?;
        let index = self.inner.index.read().expect("no holder panics");
        let mut found: Vec<Found> = set
            .iter()
            .filter_map(|series| {
                let record = index.get(series)?;
                let labels = index.labels_of(record);
                Some(Found { labels, series, source: record.source, column: record.column })
            })
            .collect();
        drop(index);
        found.sort_unstable_by(|a, b| (&a.labels, a.source).cmp(&(&b.labels, b.source)));
        Ok(found)
    }

    /// Series for `/api/v1/series` and label queries, per set of matchers.
    fn of_query(&self, query: &LabelQuery) -> RoaringBitmap {
        if query.matcher_sets.is_empty() {
            return self.matching(&[], query.start, query.end);
        }
        query
            .matcher_sets
            .iter()
            .map(|matchers| self.matching(matchers, query.start, query.end))
            .fold(RoaringBitmap::new(), |all, set| all | set)
    }

    pub(crate) fn names(&self, query: &LabelQuery, budget: &Budget) -> Result<BTreeSet<String>, QueryError> {
        budget.check()?;
        let set = self.of_query(query);
        let index = self.inner.index.read().expect("no holder panics");
        let has = |label: &super::index::LabelIndex| !label.all.is_disjoint(&set);
        Ok(index.labels.iter().filter(|(_, label)| has(label)).map(|(name, _)| name.to_string()).collect())
    }

    pub(crate) fn values(
        &self,
        name: &str,
        query: &LabelQuery,
        budget: &Budget,
    ) -> Result<BTreeSet<String>, QueryError> {
        budget.check()?;
        let set = self.of_query(query);
        let index = self.inner.index.read().expect("no holder panics");
        let Some(label) = index.labels.get(name) else { return Ok(BTreeSet::new()) };
        let found = label.values.iter().filter(|(_, value)| value.postings.intersects(&set));
        Ok(found.map(|(text, _)| text.to_string()).collect())
    }
}

pub(crate) fn push(samples: &mut Samples, timestamp: i64, cell: &Cell<'_>) {
    let at = samples.timestamps.len() as u32;
    samples.timestamps.push(timestamp);
    samples.floats.push(match cell {
        Cell::Float(value) => *value,
        Cell::Histogram(value) if value.is_stale() => model::STALE_NAN,
        Cell::Histogram(Value::Float(value)) => *value,
        Cell::Histogram(Value::Histogram(histogram)) => {
            samples.histograms.push_integer(at, histogram);
            0.0
        }
        Cell::Histogram(Value::FloatHistogram(histogram)) => {
            samples.histograms.push(at, histogram.view());
            0.0
        }
    });
}

/// Puts samples of overlapping chunks in order; a source stores no timestamp of a series twice.
pub(crate) fn sort(samples: &mut Samples) {
    let mut order: Vec<u32> = (0..samples.timestamps.len() as u32).collect();
    order.sort_by_key(|at| samples.timestamps[*at as usize]);
    let mut place = vec![0_u32; order.len()];
    for (new, old) in (0_u32..).zip(&order) {
        place[*old as usize] = new;
    }
    samples.timestamps = order.iter().map(|at| samples.timestamps[*at as usize]).collect();
    samples.floats = order.iter().map(|at| samples.floats[*at as usize]).collect();
    samples.histograms = samples.histograms.moved(|at| place[at as usize]);
}

/// Label sets with all that one shard has of each, ascending.
pub(crate) struct PartsIter<'a> {
    view: &'a ShardView,
    budget: &'a Budget,
    with_samples: bool,
    reading: Reading<'a>,
    found: std::vec::IntoIter<Found>,
    listed: u64,
}

impl<'a> PartsIter<'a> {
    pub(crate) fn new(
        view: &'a ShardView,
        request: &SelectRequest,
        budget: &'a Budget,
    ) -> Result<PartsIter<'a>, QueryError> {
        let found = view.find(request, budget)?;
        let listed = found.len() as u64 * LISTED_BYTES;
        let reading = Reading::new(&view.inner, request.start, request.end);
        let with_samples = request.with_samples;
        Ok(PartsIter { view, budget, with_samples, reading, found: found.into_iter(), listed })
    }

    /// The next `count` items as an iterator of their own.
    pub(crate) fn split_front(&mut self, count: usize) -> PartsIter<'a> {
        let members: usize =
            self.found.as_slice().chunk_by(|a, b| a.labels == b.labels).take(count).map(<[_]>::len).sum();
        let found: Vec<Found> = self.found.by_ref().take(members).collect();
        let listed = members as u64 * LISTED_BYTES;
        self.listed -= listed;
        PartsIter {
            view: self.view,
            budget: self.budget,
            with_samples: self.with_samples,
            reading: self.reading.again(),
            found: found.into_iter(),
            listed,
        }
    }

    /// The labels of the items to come.
    pub(crate) fn labels(&self) -> impl Iterator<Item = &Labels> {
        self.found.as_slice().chunk_by(|a, b| a.labels == b.labels).map(|same| &same[0].labels)
    }
}

impl Iterator for PartsIter<'_> {
    type Item = Result<(Labels, Vec<Part>), QueryError>;

    fn next(&mut self) -> Option<Self::Item> {
        let first = self.found.next()?;
        // Reading the clock for each series would cost as much as reading a short one.
        if self.found.len().is_multiple_of(CHECK_INTERVAL)
            && let Err(error) = self.budget.check()
        {
            return Some(Err(error));
        }
        let labels = first.labels.clone();
        let mut members = vec![first];
        let same = self.found.as_slice().iter().take_while(|next| next.labels == labels).count();
        members.extend(self.found.by_ref().take(same));
        let mut parts = Vec::with_capacity(members.len());
        if self.with_samples {
            for member in members {
                let read = self.reading.read(&member, self.budget);
                match read {
                    Ok(samples) => {
                        parts.push(Part { shard: self.view.shard(), source: member.source, samples })
                    }
                    Err(error) => {
                        self.budget.give(parts.iter().map(|part: &Part| part.samples.bytes()).sum());
                        return Some(Err(error));
                    }
                }
            }
        }
        Some(Ok((labels, parts)))
    }
}

impl Drop for PartsIter<'_> {
    fn drop(&mut self) {
        self.budget.give(self.listed);
    }
}

impl Queryable for ShardView {
    fn select<'a>(
        &'a self,
        request: &SelectRequest,
        budget: &'a Budget,
    ) -> Result<SeriesSet<'a>, QueryError> {
        let parts = PartsIter::new(self, request, budget)?;
        Ok(Box::new(MergedIter::new(vec![parts], request, budget)))
    }

    fn series_at_most(&self, matchers: &[Matcher]) -> Option<u64> {
        series_at_most(&self.inner.index.read().expect("no holder panics"), matchers)
    }

    fn label_names(&self, query: &LabelQuery, budget: &Budget) -> Result<Vec<String>, QueryError> {
        Ok(limited(self.names(query, budget)?, query.limit))
    }

    fn label_values(
        &self,
        name: &str,
        query: &LabelQuery,
        budget: &Budget,
    ) -> Result<Vec<String>, QueryError> {
        Ok(limited(self.values(name, query, budget)?, query.limit))
    }
}

pub(crate) fn limited(all: BTreeSet<String>, limit: usize) -> Vec<String> {
    let limit = if limit == 0 { usize::MAX } else { limit };
    all.into_iter().take(limit).collect()
}
