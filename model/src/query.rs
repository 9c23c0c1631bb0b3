//! Reading: what a query sees and through which port.
//!
//! A query opens one view ([`Views::open`]), selects from it ([`Queryable`]) and drops it. Selects are synchronous
//! and run on threads that may block; every series is checked against the query's [`Budget`].

use crate::{BoxFuture, Clock, FloatHistogram, Labels, LogIndex, Matcher, ShardId, TimestampMs};
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
        "query needs more than {limit} bytes of memory: {used} in use, {wanted} more wanted; narrow it or raise the limit"
    )]
    TooManyBytes {
        /// The query's limit, bytes.
        limit: u64,
        /// What it held.
        used: u64,
        /// What it asked for on top.
        wanted: u64,
    },
    /// Storage could not deliver.
    #[error("{0}")]
    Storage(String),
}

/// What one query may spend: time and bytes, shared by all its selects and evaluation threads.
#[derive(Debug)]
pub struct Budget {
    clock: Arc<dyn Clock>,
    deadline: Duration,
    bytes_max: u64,
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
            bytes: AtomicU64::new(0),
            bytes_peak: AtomicU64::new(0),
            canceled: AtomicBool::new(false),
        }
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
        if self.clock.monotonic() > self.deadline { Err(QueryError::TimedOut) } else { Ok(()) }
    }

    /// Takes `wanted` bytes before they are spent.
    ///
    /// # Errors
    /// If they do not fit.
    pub fn take(&self, wanted: u64) -> Result<(), QueryError> {
        let used = self.bytes.fetch_add(wanted, Ordering::Relaxed);
        let now = used.saturating_add(wanted);
        if now > self.bytes_max {
            self.bytes.fetch_sub(wanted, Ordering::Relaxed);
            return Err(QueryError::TooManyBytes { limit: self.bytes_max, used, wanted });
        }
        self.bytes_peak.fetch_max(now, Ordering::Relaxed);
        Ok(())
    }

    /// Gives bytes back.
    pub fn give(&self, bytes: u64) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// The most bytes held at once so far.
    #[must_use]
    pub fn bytes_peak(&self) -> u64 {
        self.bytes_peak.load(Ordering::Relaxed)
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
    /// Histogram samples by position in the other columns, ascending. Their stale markers are float stale markers.
    pub histograms: Vec<(u32, Arc<FloatHistogram>)>,
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
        (self.timestamps.len() * 16 + self.histograms.len() * 256 + self.start_timestamps.len() * 8) as u64
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

/// Series in ascending order of their labels, each label set once, decoded as they are asked for.
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

/// Opens views.
pub trait Views: Send + Sync {
    /// Opens a view of all data shards, waiting at most `timeout` for leaders and for this node to catch up.
    fn open(&self, consistency: Consistency, timeout: Duration)
    -> BoxFuture<'_, Result<OpenView, ViewError>>;
}
