//! The engine: from a query to an answer.

use crate::annotations::Annotations;
use crate::ast::{Expr, ValueType, resolve_durations};
use crate::eval::{
    Evaluator, Grid,
    explain::explain,
    meter::Meter,
    plan::{Bounds, Kind, Node, plan},
    track::{Cell, Matrix, Track},
    window::{Window, track_columns, track_histograms},
};
use crate::eval::{extended::extended_samples, series::Columns};
use crate::parse::{ParseErrors, ParserOptions, parse};
use model::{Budget, FloatHistogram, Labels, QueryError, Queryable, Series};
use std::{cell::RefCell, sync::Arc};

/// Behaviour that Prometheus has behind `--enable-feature`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Features {
    /// `promql-delayed-name-removal`: names go at the end of a query, not where values change.
    pub delayed_name_removal: bool,
    /// `type-and-unit-labels`: `__type__` says whether a metric is a counter.
    pub type_and_unit_labels: bool,
    /// `use-start-timestamps`: start times of samples take part in `rate` and its sisters.
    pub use_start_timestamps: bool,
}

/// How the engine evaluates.
#[derive(Clone, Debug)]
pub struct EngineOptions {
    /// How old a sample may be to be taken, milliseconds (`--query.lookback-delta`).
    pub lookback_delta_ms: i64,
    /// The most samples that one query may hold at once (`--query.max-samples`).
    pub samples_max: u64,
    /// The step of a subquery that names none, milliseconds: the global evaluation interval.
    pub subquery_interval_ms: i64,
    /// Optional behaviour.
    pub features: Features,
    /// What the parser accepts.
    pub parser: ParserOptions,
    /// The most warnings, and infos, in an answer; 0 is no limit.
    pub annotations_max: usize,
}

impl Default for EngineOptions {
    fn default() -> EngineOptions {
        EngineOptions {
            lookback_delta_ms: 300_000,
            samples_max: 50_000_000,
            subquery_interval_ms: 60_000,
            features: Features::default(),
            parser: ParserOptions::default(),
            annotations_max: 10,
        }
    }
}

/// What one query asks for beyond its text.
#[derive(Clone, Copy, Debug, Default)]
pub struct QueryOptions {
    /// Replaces the engine's lookback, milliseconds (`lookback_delta`).
    pub lookback_delta_ms: Option<i64>,
    /// Whether [`Stats::by_step`] is wanted (`stats=all`).
    pub stats_by_step: bool,
}

/// The query failed. The texts are Prometheus's.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum EvalError {
    /// The text is not a query: `bad_data`.
    #[error(transparent)]
    Parse(#[from] ParseErrors),
    /// The query does not fit the kind of evaluation: `bad_data`.
    #[error("{0}")]
    BadQuery(String),
    /// It would hold more samples than it may: `execution`.
    #[error("query processing would load too many samples into memory in query execution")]
    TooManySamples,
    /// It ran too long: `timeout`.
    #[error("query timed out in expression evaluation")]
    TimedOut,
    /// It was cancelled: `canceled`.
    #[error("query was canceled in expression evaluation")]
    Canceled,
    /// The budget or storage refused: the source says which.
    #[error(transparent)]
    Query(QueryError),
    /// It cannot be evaluated on this data: `execution`.
    #[error("{0}")]
    Execution(String),
}

impl EvalError {
    pub(crate) fn execution(text: impl Into<String>) -> EvalError {
        EvalError::Execution(crate::go::shown(&text.into()).into_owned())
    }

    pub(crate) fn same_labels() -> EvalError {
        EvalError::execution("vector cannot contain metrics with the same labelset")
    }
}

impl From<QueryError> for EvalError {
    fn from(error: QueryError) -> EvalError {
        match error {
            QueryError::TimedOut => EvalError::TimedOut,
            QueryError::Canceled => EvalError::Canceled,
            error => EvalError::Query(error),
        }
    }
}

/// A sample's value.
#[derive(Clone, Debug)]
pub enum Point {
    /// A float.
    Float(f64),
    /// A native histogram.
    Histogram(Arc<FloatHistogram>),
}

/// One series of an instant vector.
#[derive(Clone, Debug)]
pub struct VectorSample {
    /// Its labels.
    pub labels: Labels,
    /// Its value at the time of evaluation.
    pub value: Point,
}

impl VectorSample {
    /// Bytes that it takes in memory, as the budget counts them. Labels are shared with storage.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let histogram = match &self.value {
            Point::Float(_) => 0,
            Point::Histogram(histogram) => histogram_bytes(histogram),
        };
        (size_of::<VectorSample>() as u64).saturating_add(histogram)
    }
}

/// One series of a range of values.
#[derive(Clone, Debug)]
pub struct MatrixSeries {
    /// Its labels.
    pub labels: Labels,
    /// Floats with their times in milliseconds, ascending.
    pub floats: Vec<(i64, f64)>,
    /// Histograms likewise.
    pub histograms: Vec<(i64, Arc<FloatHistogram>)>,
}

impl MatrixSeries {
    /// Bytes that it takes in memory, as the budget counts them. Labels are shared with storage.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let points = size_of::<MatrixSeries>() + 16 * (self.floats.capacity() + self.histograms.capacity());
        let histograms = self.histograms.iter().map(|(_, histogram)| histogram_bytes(histogram));
        (points as u64).saturating_add(histograms.sum())
    }
}

fn histogram_bytes(histogram: &FloatHistogram) -> u64 {
    crate::histogram::sample_size(histogram.view()).saturating_mul(16)
}

/// What a query evaluates to.
#[derive(Clone, Debug)]
pub enum Value {
    /// A number.
    Scalar(f64),
    /// A text.
    String(String),
    /// Series with one value each, in the order of evaluation (`sort` shows).
    Vector(Vec<VectorSample>),
    /// Series with values over time, sorted by labels.
    Matrix(Vec<MatrixSeries>),
}

/// Figures of one evaluation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Samples that the steps looked at, one looked at twice counted twice.
    pub total_queryable_samples: u64,
    /// [`Stats::total_queryable_samples`] for each step (milliseconds), if it was asked for.
    pub by_step: Vec<(i64, u64)>,
    /// The most samples held at once.
    pub peak_samples: u64,
    /// The most bytes held at once.
    pub peak_bytes: u64,
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The value. Its bytes are taken from the budget and remain so until they are given back or the budget ends.
    pub value: Value,
    /// The time of a scalar, a string or a vector, milliseconds; of a range query its last step.
    pub timestamp: i64,
    /// Warnings, as they are shown.
    pub warnings: Vec<String>,
    /// Infos, as they are shown.
    pub infos: Vec<String>,
    /// Figures.
    pub stats: Stats,
}

/// Evaluates queries. Cheap to clone; holds no state between queries.
#[derive(Clone, Debug, Default)]
pub struct Engine {
    options: EngineOptions,
}

impl Engine {
    /// Makes an engine.
    #[must_use]
    pub fn new(options: EngineOptions) -> Engine {
        Engine { options }
    }

    /// How it evaluates.
    #[must_use]
    pub fn options(&self) -> &EngineOptions {
        &self.options
    }

    /// Parses a query with the engine's options.
    ///
    /// # Errors
    /// If the text is not a query.
    pub fn parse(&self, text: &str) -> Result<Expr, EvalError> {
        Ok(parse(text, &self.options.parser)?)
    }

    /// Evaluates a query at one time (milliseconds).
    ///
    /// # Errors
    /// See [`EvalError`].
    pub fn instant(
        &self,
        queryable: &dyn Queryable,
        text: &str,
        time: i64,
        budget: &Budget,
        query: QueryOptions,
    ) -> Result<Answer, EvalError> {
        self.instant_expr(queryable, text, &self.parse(text)?, time, budget, query)
    }

    /// Evaluates a parsed query at one time; `text` is what it was parsed from, for the positions in annotations.
    ///
    /// # Errors
    /// See [`EvalError`].
    pub fn instant_expr(
        &self,
        queryable: &dyn Queryable,
        text: &str,
        expr: &Expr,
        time: i64,
        budget: &Budget,
        query: QueryOptions,
    ) -> Result<Answer, EvalError> {
        let bounds = Bounds { start: time, end: time, step: 0 };
        let node = self.plan(expr, bounds)?;
        let meter = Meter::new(budget, self.options.samples_max);
        let evaluator = self.evaluator(queryable, budget, &meter, query);
        evaluator.check()?;
        let grid = Grid::instant(time);
        evaluator.count_by_step(query, &grid);
        let value = evaluator.instant_value(&node, time)?;
        Ok(self.answer(value, &grid, text, &evaluator))
    }

    /// Evaluates a query at `start`, `start + step`, ... up to `end` (milliseconds).
    ///
    /// # Errors
    /// See [`EvalError`].
    #[expect(clippy::too_many_arguments, reason = "they are the parameters of a range query")]
    pub fn range(
        &self,
        queryable: &dyn Queryable,
        text: &str,
        start: i64,
        end: i64,
        step: i64,
        budget: &Budget,
        query: QueryOptions,
    ) -> Result<Answer, EvalError> {
        self.range_expr(queryable, text, &self.parse(text)?, start, end, step, budget, query)
    }

    /// Evaluates a parsed query as [`Engine::range`] does; `text` is what it was parsed from.
    ///
    /// # Errors
    /// See [`EvalError`].
    #[expect(clippy::too_many_arguments, reason = "they are the parameters of a range query")]
    pub fn range_expr(
        &self,
        queryable: &dyn Queryable,
        text: &str,
        expr: &Expr,
        start: i64,
        end: i64,
        step: i64,
        budget: &Budget,
        query: QueryOptions,
    ) -> Result<Answer, EvalError> {
        let bounds = Bounds { start, end, step };
        let value_type = expr.value_type();
        if !matches!(value_type, ValueType::Vector | ValueType::Scalar) {
            return Err(EvalError::BadQuery(format!(
                "invalid expression type \"{}\" for range query, must be Scalar or instant Vector",
                value_type.describe()
            )));
        }
        if step <= 0 {
            return Err(EvalError::BadQuery("step must be greater than 0 milliseconds".to_owned()));
        }
        let node = self.plan(expr, bounds)?;
        let meter = Meter::new(budget, self.options.samples_max);
        let evaluator = self.evaluator(queryable, budget, &meter, query);
        evaluator.check()?;
        let grid = Grid::range(start, end, step);
        evaluator.check_grid(&grid)?;
        evaluator.count_by_step(query, &grid);
        let value = evaluator.range_value(&node, &grid)?;
        Ok(self.answer(value, &grid, text, &evaluator))
    }

    /// How a query would be evaluated at `start`, `start + step`, ... up to `end` (milliseconds; `step` is 0 for one
    /// time): its plan, a line for each part, and which parts could be evaluated where the data is, with the same bits.
    ///
    /// # Errors
    /// If the text is not a query, or its durations cannot be resolved.
    pub fn explain(&self, text: &str, start: i64, end: i64, step: i64) -> Result<String, EvalError> {
        Ok(explain(&self.plan(&self.parse(text)?, Bounds { start, end, step })?))
    }

    fn plan(&self, expr: &Expr, bounds: Bounds) -> Result<Node, EvalError> {
        let mut expr = expr.clone();
        resolve_durations(&mut expr, bounds.step, bounds.end - bounds.start)
            .map_err(|error| EvalError::BadQuery(error.to_string()))?;
        Ok(plan(&expr, bounds))
    }

    fn evaluator<'a>(
        &self,
        queryable: &'a dyn Queryable,
        budget: &'a Budget,
        meter: &'a Meter<'a>,
        query: QueryOptions,
    ) -> Evaluator<'a> {
        let lookback = query.lookback_delta_ms.filter(|ms| *ms > 0);
        Evaluator {
            queryable,
            budget,
            meter,
            features: self.options.features,
            lookback: lookback.unwrap_or(self.options.lookback_delta_ms),
            subquery_interval: self.options.subquery_interval_ms,
            notes: RefCell::new(Annotations::default()),
        }
    }

    fn answer(&self, value: Value, grid: &Grid, text: &str, evaluator: &Evaluator<'_>) -> Answer {
        let by_step = evaluator.meter.read_by_step().into_iter().enumerate();
        let (warnings, infos) = evaluator.notes.borrow().render(text, self.options.annotations_max);
        let stats = Stats {
            total_queryable_samples: evaluator.meter.read(),
            by_step: by_step.map(|(step, samples)| (grid.time(step), samples)).collect(),
            peak_samples: evaluator.meter.samples_peak(),
            peak_bytes: evaluator.budget.bytes_peak(),
        };
        Answer { value, timestamp: grid.end(), warnings, infos, stats }
    }
}

fn by_labels(mut series: Vec<MatrixSeries>) -> Value {
    series.sort_by(|a, b| a.labels.cmp(&b.labels));
    Value::Matrix(series)
}

/// A track as series of an answer.
fn to_series(track: Track, grid: &Grid) -> MatrixSeries {
    let mut floats = Vec::with_capacity(track.floats.len());
    let mut histograms = Vec::new();
    for step in 0..grid.steps {
        match track.get(step) {
            Cell::Absent => {}
            Cell::Float(value) => floats.push((grid.time(step), value)),
            Cell::Histogram(histogram) => histograms.push((grid.time(step), histogram.to_shared())),
        }
    }
    MatrixSeries { labels: track.labels, floats, histograms }
}

fn columns_to_series(labels: Labels, columns: Columns<'_>) -> MatrixSeries {
    let Columns { floats, histograms } = columns;
    let values = histograms.values.iter().map(|row| Arc::new(row.view().to_float()));
    MatrixSeries {
        labels,
        floats: floats.times.into_iter().zip(floats.values).collect(),
        histograms: histograms.times.into_iter().zip(values).collect(),
    }
}

impl Evaluator<'_> {
    fn count_by_step(&self, query: QueryOptions, grid: &Grid) {
        if query.stats_by_step {
            self.meter.count_by_step(grid.steps);
        }
    }

    fn range_value(&self, node: &Node, grid: &Grid) -> Result<Value, EvalError> {
        if node.value_type == ValueType::Scalar {
            let values = self.scalar(node, grid)?.into_steps(grid.steps);
            let mut matrix = Matrix::new(self.meter);
            matrix.push(Track::of_floats(Labels::empty(), values))?;
            return self.series_of(matrix, |track| to_series(track, grid));
        }
        let matrix = self.vector(node, grid)?;
        let matrix = self.clean_up(matrix, grid)?;
        self.series_of(matrix, |track| to_series(track, grid))
    }

    /// Tracks as series of the answer, sorted; each track's share of the budget becomes its series's.
    fn series_of(
        &self,
        matrix: Matrix<'_>,
        convert: impl Fn(Track) -> MatrixSeries,
    ) -> Result<Value, EvalError> {
        let Matrix { tracks, mut held } = matrix;
        let mut all = Vec::with_capacity(tracks.len());
        for track in tracks {
            self.check()?;
            held.give(track.bytes());
            let series = convert(track);
            self.budget.take(series.bytes())?;
            all.push(series);
        }
        Ok(by_labels(all))
    }

    fn instant_value(&self, node: &Node, time: i64) -> Result<Value, EvalError> {
        let grid = Grid::instant(time);
        match (&node.kind, node.value_type) {
            (Kind::Text(text), _) => Ok(Value::String(crate::go::shown(text).into_owned())),
            (_, ValueType::Scalar) => Ok(Value::Scalar(self.scalar(node, &grid)?.get(0))),
            (_, ValueType::Matrix) => self.instant_matrix(node, &grid),
            _ => {
                let matrix = self.vector(node, &grid)?;
                let matrix = self.clean_up(matrix, &grid)?;
                let Matrix { tracks, mut held } = matrix;
                let mut samples = Vec::with_capacity(tracks.len());
                for track in tracks {
                    held.give(track.bytes());
                    let value = match track.get(0) {
                        Cell::Absent => continue,
                        Cell::Float(value) => Point::Float(value),
                        Cell::Histogram(histogram) => Point::Histogram(histogram.to_shared()),
                    };
                    let sample = VectorSample { labels: track.labels, value };
                    self.budget.take(sample.bytes())?;
                    samples.push(sample);
                }
                Ok(Value::Vector(samples))
            }
        }
    }

    /// A range selector or subquery that is the whole query: the samples themselves.
    fn instant_matrix(&self, node: &Node, grid: &Grid) -> Result<Value, EvalError> {
        use crate::ast::RangeMode;
        match &node.kind {
            Kind::Invariant(inner) => self.instant_matrix(inner, grid),
            Kind::Range(range) => {
                let mode = range.selector.mode;
                let (before, after) = match mode {
                    RangeMode::Plain => (0, 0),
                    RangeMode::Anchored => (self.lookback, 0),
                    RangeMode::Smoothed => (self.lookback, self.lookback),
                };
                let end = range.selector.reference(grid.start);
                let start = end.saturating_sub(range.length);
                let mut all = Vec::new();
                let mut held = crate::eval::meter::Held::new(self.meter);
                self.select(&range.selector, grid, range.length.saturating_add(before), after, |series| {
                    let bytes = series.samples.bytes();
                    held.take(bytes)?;
                    held.hold(series.samples.len() as u64)?;
                    let Series { labels, mut samples } = series;
                    let histograms = std::mem::take(&mut samples.histograms);
                    let columns = Columns::new(samples, &histograms, false);
                    let mut series = columns_to_series(labels, columns);
                    if mode != RangeMode::Plain {
                        if !series.histograms.is_empty() {
                            let word = if mode == RangeMode::Anchored { "anchored" } else { "smoothed" };
                            return Err(EvalError::execution(format!(
                                "{word} modifier is not supported with histograms"
                            )));
                        }
                        let (times, values): (Vec<i64>, Vec<f64>) = series.floats.iter().copied().unzip();
                        let floats =
                            crate::eval::series::Slice { times: &times, values: &values, starts: &[] };
                        let histograms = crate::eval::series::Slice { times: &[], values: &[], starts: &[] };
                        let window = Window { floats, histograms, start, end, time: grid.start };
                        series.floats = extended_samples(&floats, &window, mode == RangeMode::Smoothed);
                    }
                    if !series.floats.is_empty() || !series.histograms.is_empty() {
                        let sizes =
                            series.histograms.iter().map(|(_, h)| crate::histogram::sample_size(h.view()));
                        self.meter.count_read(0, series.floats.len() as u64 + sizes.sum::<u64>());
                        self.budget.take(series.bytes())?;
                        all.push(series);
                    }
                    held.give(bytes);
                    Ok(())
                })?;
                Ok(by_labels(all))
            }
            Kind::Subquery(subquery) => {
                let (inner, matrix) = self.meter.at_first_step(|| self.subquery(subquery, grid))?;
                let matrix = self.clean_up(matrix, &inner)?;
                self.series_of(matrix, |track| {
                    let histograms = track_histograms(&track, &inner);
                    let columns = track_columns(&track, &histograms, &inner);
                    columns_to_series(track.labels, columns)
                })
            }
            _ => Ok(Value::Matrix(Vec::new())),
        }
    }
}
