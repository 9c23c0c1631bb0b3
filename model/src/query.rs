//! Reading: what a query sees and through which port.
//!
//! A query opens one view ([`Views::open`]), selects from it ([`Queryable`]) and drops it. Selects are synchronous
//! and run on threads that may block; every series is checked against the query's [`Budget`].

use crate::{BoxFuture, Clock, HistogramColumn, Labels, LogIndex, Matcher, ShardId, Spawner, TimestampMs};
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

/// Why a query ended without an answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// It ran longer than its deadline.
    #[error("query timed out")]
    TimedOut,
    /// The client closed, or the server stops.
    #[error("query was canceled")]
    Canceled,
    /// It would need more memory than it may have; nothing was spent on the part that did not fit.
    #[error(
        "query needs more than {limit} bytes of memory: {used} in use, {wanted} more wanted; \
         narrow it or raise --query.max-bytes"
    )]
    TooManyBytes {
        /// The query's limit, bytes.
        limit: u64,
        /// What it held.
        used: u64,
        /// What it asked for on top.
        wanted: u64,
    },
    /// All queries of the node would need more memory than they may have together. It may pass by itself.
    #[error(
        "queries of this node need more than {limit} bytes of memory together: {used} in use, {wanted} more wanted; \
         try again, narrow the query or raise --query.max-bytes-total"
    )]
    TooManyBytesTogether {
        /// The limit, bytes.
        limit: u64,
        /// What all of them held.
        used: u64,
        /// What this one asked for on top.
        wanted: u64,
    },
    /// Storage could not deliver.
    #[error("{0}")]
    Storage(String),
}

/// The memory that all queries of a node share.
#[derive(Debug)]
pub struct MemoryPool {
    bytes_max: u64,
    bytes: AtomicU64,
}

impl MemoryPool {
    /// A pool of so many bytes.
    #[must_use]
    pub fn new(bytes_max: u64) -> MemoryPool {
        MemoryPool { bytes_max, bytes: AtomicU64::new(0) }
    }

    /// Bytes taken now.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    fn take(&self, wanted: u64) -> Result<(), QueryError> {
        match add_up_to(&self.bytes, wanted, self.bytes_max) {
            Ok(_) => Ok(()),
            Err(used) => Err(QueryError::TooManyBytesTogether { limit: self.bytes_max, used, wanted }),
        }
    }

    fn give(&self, bytes: u64) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// Adds unless the sum is above `max`; yields the sum, or what was there. Never above `max` for a moment either: what
/// is refused to one must not be missing to another.
fn add_up_to(number: &AtomicU64, more: u64, max: u64) -> Result<u64, u64> {
    let sum = |now: u64| now.checked_add(more).filter(|sum| *sum <= max);
    number.fetch_update(Ordering::Relaxed, Ordering::Relaxed, sum).map(|before| before + more)
}

/// What one query may spend: time and bytes, shared by all its selects and evaluation threads. What it still holds is
/// given back to the pool when it is dropped.
#[derive(Debug)]
pub struct Budget {
    clock: Arc<dyn Clock>,
    deadline: Duration,
    bytes_max: u64,
    pool: Option<Arc<MemoryPool>>,
    /// Told, from a time on, by the query's threads to let others go first.
    courtesy: Option<(Arc<dyn Spawner>, Duration)>,
    bytes: AtomicU64,
    bytes_peak: AtomicU64,
    canceled: AtomicBool,
}

impl Budget {
    /// A budget that ends `timeout` from now and allows `bytes_max` bytes at once.
    pub fn new(clock: Arc<dyn Clock>, timeout: Duration, bytes_max: u64) -> Budget {
        let deadline = clock.monotonic() + timeout;
        Budget {
            clock,
            deadline,
            bytes_max,
            pool: None,
            courtesy: None,
            bytes: AtomicU64::new(0),
            bytes_peak: AtomicU64::new(0),
            canceled: AtomicBool::new(false),
        }
    }

    /// The same, of a query that lets others go first when it has taken so long.
    #[must_use]
    pub fn courteous(mut self, spawner: Arc<dyn Spawner>, after: Duration) -> Budget {
        self.courtesy = Some((spawner, self.clock.monotonic() + after));
        self
    }

    /// The same, with all its bytes taken from a pool, too.
    #[must_use]
    pub fn within(mut self, pool: Arc<MemoryPool>) -> Budget {
        self.pool = Some(pool);
        self
    }

    /// Asks the query to end.
    pub fn cancel(&self) {
        self.canceled.store(true, Ordering::Relaxed);
    }

    /// Whether the query may go on; called once per series.
    ///
    /// # Errors
    /// If it was cancelled or its time is over.
    pub fn check(&self) -> Result<(), QueryError> {
        if self.canceled.load(Ordering::Relaxed) {
            return Err(QueryError::Canceled);
        }
        let now = self.clock.monotonic();
        if now > self.deadline {
            return Err(QueryError::TimedOut);
        }
        if let Some((spawner, from)) = &self.courtesy
            && now > *from
        {
            spawner.step_back();
        }
        Ok(())
    }

    /// Takes `wanted` bytes before they are spent.
    ///
    /// # Errors
    /// If they do not fit.
    pub fn take(&self, wanted: u64) -> Result<(), QueryError> {
        let now = add_up_to(&self.bytes, wanted, self.bytes_max)
            .map_err(|used| QueryError::TooManyBytes { limit: self.bytes_max, used, wanted })?;
        if let Some(pool) = &self.pool {
            pool.take(wanted).inspect_err(|_| _ = self.bytes.fetch_sub(wanted, Ordering::Relaxed))?;
        }
        self.bytes_peak.fetch_max(now, Ordering::Relaxed);
        Ok(())
    }

    /// Gives bytes back.
    pub fn give(&self, bytes: u64) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        if let Some(pool) = &self.pool {
            pool.give(bytes);
        }
    }

    /// The most bytes held at once so far.
    #[must_use]
    pub fn bytes_peak(&self) -> u64 {
        self.bytes_peak.load(Ordering::Relaxed)
    }
}

impl Drop for Budget {
    fn drop(&mut self) {
        if let Some(pool) = &self.pool {
            pool.give(*self.bytes.get_mut());
        }
    }
}

/// What to select.
#[derive(Clone, Debug)]
pub struct SelectRequest {
    /// All of them must match.
    pub matchers: Vec<Matcher>,
    /// First timestamp wanted, inclusive.
    pub start: TimestampMs,
    /// Last timestamp wanted, inclusive.
    pub end: TimestampMs,
    /// With `false`, only labels are wanted and `samples` stays empty (`/api/v1/series`).
    pub with_samples: bool,
    /// At most so many series; 0 is no limit.
    pub limit: usize,
}

/// The samples of one series, in columns: timestamps strictly ascending, one float each. Where the sample is a
/// histogram, the float is 0 and `histograms` has it under the sample's position.
#[derive(Clone, Debug, Default)]
pub struct Samples {
    /// Milliseconds since the epoch.
    pub timestamps: Vec<i64>,
    /// Values; stale markers included.
    pub floats: Vec<f64>,
    /// Histogram samples by position in the other columns. Their stale markers are float stale markers.
    pub histograms: HistogramColumn,
    /// Start timestamps (created timestamps), 0 where unknown; empty if no sample has one.
    pub start_timestamps: Vec<i64>,
}

impl Samples {
    /// Number of samples.
    #[must_use]
    pub fn len(&self) -> usize {
        self.timestamps.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.timestamps.is_empty()
    }

    /// Bytes on the heap, for the budget.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        (self.timestamps.len() * 16 + self.start_timestamps.len() * 8) as u64 + self.histograms.bytes()
    }
}

/// One series of an answer.
#[derive(Clone, Debug)]
pub struct Series {
    /// Its labels.
    pub labels: Labels,
    /// Its samples in the wanted range, sources with equal labels merged by time.
    pub samples: Samples,
}

/// Series in ascending order of their labels, each label set once, decoded as they are asked for. The set takes the
/// samples of a series from the budget before it decodes them and gives them back when the next series is asked for or
/// the set is dropped; whoever keeps samples longer takes them again.
pub type SeriesSet<'a> = Box<dyn Iterator<Item = Result<Series, QueryError>> + Send + 'a>;

/// Which label names or values to list.
#[derive(Clone, Debug)]
pub struct LabelQuery {
    /// Only of series that match one of these sets; empty means all.
    pub matcher_sets: Vec<Vec<Matcher>>,
    /// Only of series with samples from here, as far as the index can tell cheaply.
    pub start: TimestampMs,
    /// To here.
    pub end: TimestampMs,
    /// At most so many; 0 is no limit.
    pub limit: usize,
}

/// One view of the data: every call sees the same state.
pub trait Queryable: Send + Sync {
    /// The series that match, sorted by labels.
    ///
    /// # Errors
    /// If storage fails or the budget is used up.
    fn select<'a>(&'a self, request: &SelectRequest, budget: &'a Budget)
    -> Result<SeriesSet<'a>, QueryError>;

    /// The same, cut into lists of about `length` series that follow each other and can be read side by side.
    ///
    /// # Errors
    /// As for `select`.
    fn select_lists<'a>(
        &'a self,
        request: &SelectRequest,
        budget: &'a Budget,
        length: usize,
    ) -> Result<Vec<SeriesSet<'a>>, QueryError> {
        let _ = length;
        Ok(vec![self.select(request, budget)?])
    }

    /// Who can read lists side by side, if anybody.
    fn workers(&self) -> Option<&dyn Spawner> {
        None
    }

    /// How many series can match at the most, if that can be told without looking for them.
    fn series_at_most(&self, matchers: &[Matcher]) -> Option<u64> {
        let _ = matchers;
        None
    }

    /// Label names, sorted, each once.
    ///
    /// # Errors
    /// As for `select`.
    fn label_names(&self, query: &LabelQuery, budget: &Budget) -> Result<Vec<String>, QueryError>;

    /// Values of one label, sorted, each once.
    ///
    /// # Errors
    /// As for `select`.
    fn label_values(
        &self,
        name: &str,
        query: &LabelQuery,
        budget: &Budget,
    ) -> Result<Vec<String>, QueryError>;
}

/// How fresh an answer has to be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Consistency {
    /// It contains everything that was acknowledged before the query was asked (read index).
    #[default]
    Default,
    /// What this node has, with a warning that says how old it may be where that cannot be known to be fresh.
    Stale,
    /// At least these indexes (`X-Vestal-View`).
    AtLeast(ViewIndexes),
}

/// An applied index per shard: what names a view.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ViewIndexes(pub BTreeMap<ShardId, LogIndex>);

/// A view, held open until it is dropped.
pub struct OpenView {
    /// Where to select.
    pub queryable: Arc<dyn Queryable>,
    /// The applied index of each shard in it.
    pub indexes: ViewIndexes,
    /// Said in the answer's `warnings`.
    pub warnings: Vec<String>,
}

/// No view could be opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ViewError {
    /// Some shard has no leader that could confirm its index in time.
    #[error("{0}")]
    Unavailable(String),
}

/// A view as this node had it when it was asked for, while it is still being found out whether that is enough.
pub struct EarlyView<'v> {
    /// What this node shows.
    pub view: OpenView,
    /// Nothing if `view` is as fresh as was asked for; else one that is.
    pub verdict: BoxFuture<'v, Result<Option<OpenView>, ViewError>>,
}

impl EarlyView<'_> {
    /// A view that is known to be enough.
    #[must_use]
    pub fn settled(view: OpenView) -> Self {
        EarlyView { view, verdict: Box::pin(std::future::ready(Ok(None))) }
    }
}

/// Opens views.
pub trait Views: Send + Sync {
    /// Opens a view of all data shards, waiting at most `timeout` for leaders and for this node to catch up.
    fn open(&self, consistency: Consistency, timeout: Duration)
    -> BoxFuture<'_, Result<OpenView, ViewError>>;

    /// The same without waiting: for who can do the work while others are asked, and throws the outcome away if the
    /// verdict is another view.
    fn open_early(
        &self,
        consistency: Consistency,
        timeout: Duration,
    ) -> BoxFuture<'_, Result<EarlyView<'_>, ViewError>> {
        Box::pin(async move { Ok(EarlyView::settled(self.open(consistency, timeout).await?)) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Stopped;

    impl Clock for Stopped {
        fn now(&self) -> TimestampMs {
            TimestampMs(0)
        }
        fn monotonic(&self) -> Duration {
            Duration::ZERO
        }
    }

    fn budget(bytes_max: u64, pool: &Arc<MemoryPool>) -> Budget {
        Budget::new(Arc::new(Stopped), Duration::from_secs(1), bytes_max).within(pool.clone())
    }

    #[test]
    fn a_query_is_refused_what_does_not_fit_with_the_sizes_and_the_remedy() {
        let pool = Arc::new(MemoryPool::new(1000));
        let budget = budget(100, &pool);
        budget.take(90).unwrap();
        let text = budget.take(20).unwrap_err().to_string();
        assert_eq!(
            text,
            "query needs more than 100 bytes of memory: 90 in use, 20 more wanted; \
             narrow it or raise --query.max-bytes"
        );
        assert_eq!((budget.bytes_peak(), pool.bytes()), (90, 90));
    }

    #[derive(Debug, Default)]
    struct Told(AtomicBool);

    impl Spawner for Told {
        fn spawn(&self, _: &'static str, _: BoxFuture<'static, ()>) {}
        fn blocking(&self, _: &'static str, _: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, ()> {
            Box::pin(async {})
        }
        fn thread(&self, _: &'static str, _: Box<dyn FnOnce() + Send>) -> std::io::Result<()> {
            Ok(())
        }
        fn step_back(&self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    #[derive(Debug, Default)]
    struct Set(AtomicU64);

    impl Clock for Set {
        fn now(&self) -> TimestampMs {
            TimestampMs(0)
        }
        fn monotonic(&self) -> Duration {
            Duration::from_millis(self.0.load(Ordering::Relaxed))
        }
    }

    #[test]
    fn a_query_that_takes_long_lets_others_go_first() {
        let (clock, spawner) = (Arc::new(Set::default()), Arc::new(Told::default()));
        let budget = Budget::new(clock.clone(), Duration::from_secs(1), 1);
        let budget = budget.courteous(spawner.clone(), Duration::from_millis(50));
        clock.0.store(50, Ordering::Relaxed);
        assert_eq!((budget.check(), spawner.0.load(Ordering::Relaxed)), (Ok(()), false));
        clock.0.store(51, Ordering::Relaxed);
        assert_eq!((budget.check(), spawner.0.load(Ordering::Relaxed)), (Ok(()), true));
    }

    #[test]
    fn queries_share_a_pool() {
        let pool = Arc::new(MemoryPool::new(100));
        let (one, other) = (budget(100, &pool), budget(100, &pool));
        one.take(70).unwrap();
        let refused = QueryError::TooManyBytesTogether { limit: 100, used: 70, wanted: 40 };
        assert_eq!(other.take(40), Err(refused));
        one.give(20);
        assert_eq!(other.take(40), Ok(()));
    }

    #[test]
    fn a_query_that_ends_gives_back_what_it_holds() {
        let pool = Arc::new(MemoryPool::new(100));
        let one = budget(100, &pool);
        one.take(70).unwrap();
        drop(one);
        assert_eq!(pool.bytes(), 0);
    }
}
