//! The vocabulary of Vestal and the ports through which the outside comes in.
//!
//! Every other crate may use what stands here; this crate knows none of them and does no I/O.
//!
//! - words: [`Labels`], [`Matcher`], samples and histograms, ids, [`Row`], [`SourceKey`]
//! - ports: [`Clock`], [`Rng`], [`Fs`], [`Net`], [`Spawner`], [`Proposer`], [`Queryable`], [`Views`]

#[cfg(any(test, feature = "testing"))]
pub mod corpus;
mod histogram;
mod histogram_column;
mod ids;
mod labels;
mod matcher;
pub mod points;
mod ports;
mod query;
mod regex;
mod row;
mod sample;
mod source;
mod state_machine;

pub use histogram::{CounterResetHint, CustomBounds, FloatHistogram, Histogram, Span};
pub use histogram_column::{HistogramColumn, HistogramLayout, HistogramRow, HistogramView};
pub use ids::{ClusterId, ConfigVersion, LogId, LogIndex, NodeId, ShardId, Term};
pub use labels::{Labels, LabelsBuilder, METRIC_NAME};
pub use matcher::{MatchOp, Matcher, MatcherError};
pub use ports::{
    BoxFuture, ClientIo, Clock, DatagramSocket, File, Fs, Listener, Net, OpenOptions, ProposeError, Proposer,
    Rng, Spawner, Work, run_blocking,
};
pub use query::{
    Budget, Consistency, EarlyView, LabelQuery, MemoryPool, OpenView, QueryError, Queryable, Samples,
    SelectRequest, Series, SeriesSet, ViewError, ViewIndexes, Views,
};
pub use regex::{AnchoredRegex, RegexError};
pub use row::{Row, RowKind, SeriesTable, SlotId};
pub use sample::{DurationMs, NORMAL_NAN, STALE_NAN, STALE_NAN_BITS, TimestampMs, Value, is_stale_nan};
pub use source::{SourceKey, shard_of};
pub use state_machine::{
    Applied, CommittedEntry, EntryPayload, SnapshotCheck, SnapshotPiece, SnapshotSink, SnapshotSource,
    StateError, StateHash, StateMachine, WantedPart,
};
