//! The ports of reading, in memory.

use model::{
    BoxFuture, Budget, Clock, Consistency, EarlyView, FloatHistogram, LabelQuery, Labels, LogIndex, Matcher,
    OpenView, QueryError, Queryable, Samples, SelectRequest, Series, SeriesSet, ShardId, Spawner,
    TimestampMs, ViewError, ViewIndexes, Views,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// 2015-07-01T20:10:51.781Z, a date of Prometheus's documentation.
pub(crate) const NOW: TimestampMs = TimestampMs(1_435_781_451_781);

/// A view, as the header names it, that never opens.
pub(crate) const NEVER: &str = "99:1";

/// Always [`NOW`]; its monotonic time advances by a nanosecond with each look.
#[derive(Debug, Default)]
pub(crate) struct Stopped(AtomicU64);

impl Clock for Stopped {
    fn now(&self) -> TimestampMs {
        NOW
    }
    fn monotonic(&self) -> Duration {
        Duration::from_nanos(self.0.fetch_add(1, Ordering::Relaxed))
    }
}

/// Runs blocking work at once.
#[derive(Debug)]
pub(crate) struct Inline;

impl Spawner for Inline {
    fn spawn(&self, _name: &'static str, task: BoxFuture<'static, ()>) {
        tokio::spawn(task);
    }
    fn blocking(&self, _name: &'static str, work: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, ()> {
        Box::pin(async move { work() })
    }
    fn thread(&self, _name: &'static str, _work: Box<dyn FnOnce() + Send>) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// Series in memory.
#[derive(Default)]
pub(crate) struct Memory(BTreeMap<Labels, Samples>);

impl Memory {
    pub(crate) fn with(mut self, labels: &[(&str, &str)], samples: &[(i64, f64)]) -> Memory {
        let (timestamps, floats) = samples.iter().copied().unzip();
        let samples = Samples { timestamps, floats, ..Samples::default() };
        self.0.insert(Labels::from_pairs(labels.iter().copied()), samples);
        self
    }

    pub(crate) fn with_histogram(mut self, name: &str, at: i64, histogram: FloatHistogram) -> Memory {
        let samples = Samples {
            timestamps: vec![at],
            floats: vec![0.0],
            histograms: [(0, Arc::new(histogram))].into_iter().collect(),
            ..Samples::default()
        };
        self.0.insert(Labels::from_pairs([("__name__", name)]), samples);
        self
    }

    fn matching(
        &self,
        matchers: &[Matcher],
        start: TimestampMs,
        end: TimestampMs,
    ) -> Vec<(&Labels, Samples)> {
        let fits = |labels: &Labels| matchers.iter().all(|m| m.matches(labels.get(&m.name).unwrap_or("")));
        let in_range = |samples: &Samples| {
            let mut found = Samples::default();
            for (i, timestamp) in samples.timestamps.iter().enumerate() {
                if (start.0..=end.0).contains(timestamp) {
                    if let Some(histogram) = samples.histograms.at(i as u32) {
                        found.histograms.push(found.len() as u32, histogram);
                    }
                    found.timestamps.push(*timestamp);
                    found.floats.push(samples.floats[i]);
                }
            }
            found
        };
        let all = self.0.iter().filter(|(labels, _)| fits(labels)).map(|(labels, s)| (labels, in_range(s)));
        all.filter(|(_, samples)| !samples.is_empty()).collect()
    }

    fn listed(&self, query: &LabelQuery) -> BTreeSet<&Labels> {
        let everything = [Vec::new()];
        let sets = if query.matcher_sets.is_empty() { &everything[..] } else { &query.matcher_sets };
        sets.iter()
            .flat_map(|set| self.matching(set, query.start, query.end))
            .map(|(labels, _)| labels)
            .collect()
    }
}

fn cut(values: BTreeSet<&str>, limit: usize) -> Vec<String> {
    let limit = if limit == 0 { usize::MAX } else { limit };
    values.into_iter().take(limit).map(str::to_owned).collect()
}

impl Queryable for Memory {
    fn select<'a>(
        &'a self,
        request: &SelectRequest,
        budget: &'a Budget,
    ) -> Result<SeriesSet<'a>, QueryError> {
        let with_samples = request.with_samples;
        let limit = if request.limit == 0 { usize::MAX } else { request.limit };
        let found = self.matching(&request.matchers, request.start, request.end);
        Ok(Box::new(found.into_iter().take(limit).map(move |(labels, samples)| {
            budget.check()?;
            let samples = if with_samples { samples } else { Samples::default() };
            Ok(Series { labels: labels.clone(), samples })
        })))
    }

    fn series_at_most(&self, matchers: &[Matcher]) -> Option<u64> {
        Some(self.matching(matchers, TimestampMs(i64::MIN), TimestampMs(i64::MAX)).len() as u64)
    }

    fn label_names(&self, query: &LabelQuery, budget: &Budget) -> Result<Vec<String>, QueryError> {
        budget.check()?;
        let names = self.listed(query).into_iter().flat_map(|labels| labels.iter().map(|(name, _)| name));
        Ok(cut(names.collect(), query.limit))
    }

    fn label_values(
        &self,
        name: &str,
        query: &LabelQuery,
        budget: &Budget,
    ) -> Result<Vec<String>, QueryError> {
        budget.check()?;
        let values = self.listed(query).into_iter().filter_map(|labels| labels.get(name));
        Ok(cut(values.collect(), query.limit))
    }
}

/// Opens views of one memory; without a quorum only stale ones.
pub(crate) struct MemoryViews {
    pub(crate) memory: Arc<Memory>,
    pub(crate) quorum: bool,
    /// What is shown early, if that is not enough.
    pub(crate) behind: Option<Arc<Memory>>,
    /// What was asked for, in order.
    pub(crate) asked: Mutex<Vec<Consistency>>,
}

impl Views for MemoryViews {
    fn open(&self, consistency: Consistency, _: Duration) -> BoxFuture<'_, Result<OpenView, ViewError>> {
        self.asked.lock().unwrap().push(consistency.clone());
        Box::pin(async move {
            if matches!(&consistency, Consistency::AtLeast(view) if view.0.contains_key(&ShardId(99))) {
                std::future::pending::<()>().await;
            }
            if !self.quorum && consistency != Consistency::Stale {
                return Err(ViewError::Unavailable("shard 1 has no leader".into()));
            }
            let stale = (!self.quorum).then(|| "data may be 3s old".to_owned());
            Ok(OpenView {
                queryable: self.memory.clone(),
                indexes: ViewIndexes([(ShardId(1), LogIndex(100)), (ShardId(2), LogIndex(57))].into()),
                warnings: stale.into_iter().collect(),
            })
        })
    }

    fn open_early(
        &self,
        consistency: Consistency,
        timeout: Duration,
    ) -> BoxFuture<'_, Result<EarlyView<'_>, ViewError>> {
        let opening = self.open(consistency, timeout);
        Box::pin(async move {
            let Some(behind) = &self.behind else {
                return Ok(EarlyView {
                    view: opening.await?,
                    verdict: Box::pin(std::future::ready(Ok(None))),
                });
            };
            let indexes = ViewIndexes([(ShardId(1), LogIndex(99)), (ShardId(2), LogIndex(57))].into());
            let view = OpenView { queryable: behind.clone(), indexes, warnings: Vec::new() };
            Ok(EarlyView { view, verdict: Box::pin(async move { opening.await.map(Some) }) })
        })
    }
}
