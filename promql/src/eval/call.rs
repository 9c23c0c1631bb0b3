//! Functions of instant vectors and scalars.

use super::{
    Evaluator, Grid, Sink,
    dates::Date,
    order,
    plan::{Call, Kind, Node},
    track::{ABSENT, HISTOGRAM, Histograms, Matrix, Track, is_float, is_present},
    window_func::WindowFunc,
};
use crate::engine::EvalError;
use crate::{histogram, number};
use model::{HistogramView, Labels, METRIC_NAME, MatchOp, Matcher};

/// What the date functions give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DatePart {
    DaysInMonth,
    DayOfMonth,
    DayOfWeek,
    DayOfYear,
    Hour,
    Minute,
    Month,
    Year,
}

/// What the functions of native histograms give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HistogramPart {
    Count,
    Sum,
    Avg,
    Stddev,
    Stdvar,
}

/// A function, resolved.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Func {
    Window(WindowFunc),
    Map(fn(f64) -> f64),
    Clamp,
    ClampMin,
    ClampMax,
    Round,
    Date(DatePart),
    Histogram(HistogramPart),
    Time,
    Pi,
    Scalar,
    MaxOf,
    MinOf,
    Vector,
    Absent,
    Timestamp,
    StartTimestamp,
    Sort { descending: bool },
    SortByLabel { descending: bool },
    LabelReplace,
    LabelJoin,
    Info,
    HistogramQuantile,
    HistogramQuantiles,
    HistogramFraction,
}

fn sign(value: f64) -> f64 {
    if value < 0.0 {
        -1.0
    } else if value > 0.0 {
        1.0
    } else {
        value
    }
}

/// `sinh` and `cosh` overflow where `exp` does, as in Go, though half of it would have a place.
fn sinh(value: f64) -> f64 {
    if value.abs() > HALF_EXP { (value.abs().exp() * 0.5).copysign(value) } else { value.sinh() }
}

fn cosh(value: f64) -> f64 {
    if value.abs() > HALF_EXP { value.abs().exp() * 0.5 } else { value.cosh() }
}

/// From here on the other half of `sinh` and `cosh` is lost in rounding.
const HALF_EXP: f64 = 21.0;

fn asinh(value: f64) -> f64 {
    if value == 0.0 { value } else { value.asinh() }
}

impl Func {
    /// The function of a name that the parser has accepted.
    pub(crate) fn by_name(name: &str) -> Func {
        if let Some(window) = WindowFunc::by_name(name) {
            return Func::Window(window);
        }
        match name {
            "abs" => Func::Map(f64::abs),
            "absent" => Func::Absent,
            "acos" => Func::Map(f64::acos),
            "acosh" => Func::Map(f64::acosh),
            "asin" => Func::Map(f64::asin),
            "asinh" => Func::Map(asinh),
            "atan" => Func::Map(f64::atan),
            "atanh" => Func::Map(f64::atanh),
            "ceil" => Func::Map(f64::ceil),
            "clamp" => Func::Clamp,
            "clamp_max" => Func::ClampMax,
            "clamp_min" => Func::ClampMin,
            "cos" => Func::Map(f64::cos),
            "cosh" => Func::Map(cosh),
            "day_of_month" => Func::Date(DatePart::DayOfMonth),
            "day_of_week" => Func::Date(DatePart::DayOfWeek),
            "day_of_year" => Func::Date(DatePart::DayOfYear),
            "days_in_month" => Func::Date(DatePart::DaysInMonth),
            "deg" => Func::Map(|value| value * 180.0 / std::f64::consts::PI),
            "exp" => Func::Map(f64::exp),
            "floor" => Func::Map(f64::floor),
            "histogram_avg" => Func::Histogram(HistogramPart::Avg),
            "histogram_count" => Func::Histogram(HistogramPart::Count),
            "histogram_fraction" => Func::HistogramFraction,
            "histogram_quantile" => Func::HistogramQuantile,
            "histogram_quantiles" => Func::HistogramQuantiles,
            "histogram_stddev" => Func::Histogram(HistogramPart::Stddev),
            "histogram_stdvar" => Func::Histogram(HistogramPart::Stdvar),
            "histogram_sum" => Func::Histogram(HistogramPart::Sum),
            "hour" => Func::Date(DatePart::Hour),
            "info" => Func::Info,
            "label_join" => Func::LabelJoin,
            "label_replace" => Func::LabelReplace,
            "ln" => Func::Map(f64::ln),
            "log10" => Func::Map(f64::log10),
            "log2" => Func::Map(f64::log2),
            "max_of" => Func::MaxOf,
            "min_of" => Func::MinOf,
            "minute" => Func::Date(DatePart::Minute),
            "month" => Func::Date(DatePart::Month),
            "pi" => Func::Pi,
            "rad" => Func::Map(|value| value * std::f64::consts::PI / 180.0),
            "round" => Func::Round,
            "scalar" => Func::Scalar,
            "sgn" => Func::Map(sign),
            "sin" => Func::Map(f64::sin),
            "sinh" => Func::Map(sinh),
            "sort" => Func::Sort { descending: false },
            "sort_by_label" => Func::SortByLabel { descending: false },
            "sort_by_label_desc" => Func::SortByLabel { descending: true },
            "sort_desc" => Func::Sort { descending: true },
            "sqrt" => Func::Map(f64::sqrt),
            "start_timestamp" => Func::StartTimestamp,
            "tan" => Func::Map(f64::tan),
            "tanh" => Func::Map(f64::tanh),
            "time" => Func::Time,
            "timestamp" => Func::Timestamp,
            "vector" => Func::Vector,
            "year" => Func::Date(DatePart::Year),
            _ => unreachable!(
                "the parser accepts only functions of its table, and all of them are here: {name}"
            ),
        }
    }

    /// Whether the result may change from step to step even if the arguments do not.
    pub(crate) fn depends_on_time(self) -> bool {
        matches!(self, Func::Date(_) | Func::Time | Func::Timestamp | Func::Window(WindowFunc::PredictLinear))
    }

    /// Whether it looks at count and sum of histograms only.
    pub(crate) fn wants_stats(self) -> bool {
        matches!(self, Func::Histogram(HistogramPart::Count | HistogramPart::Sum | HistogramPart::Avg))
    }
}

impl Call {
    /// Whether it turns series into series one by one.
    pub(crate) fn streams(&self) -> bool {
        match self.func {
            Func::Window(func) => func != WindowFunc::Absent,
            Func::Map(_)
            | Func::Clamp
            | Func::ClampMin
            | Func::ClampMax
            | Func::Round
            | Func::Histogram(_)
            | Func::Timestamp
            | Func::StartTimestamp
            | Func::Date(_)
            | Func::Vector => true,
            _ => false,
        }
    }

    /// The text of an argument that the parser has found to be a literal.
    pub(crate) fn text(&self, index: usize) -> &str {
        match self.args.get(index).map(|arg| &arg.kind) {
            Some(Kind::Text(text)) => text,
            _ => "",
        }
    }
}

impl DatePart {
    fn of(self, seconds: i64) -> f64 {
        let date = Date::of_seconds(seconds);
        match self {
            DatePart::DaysInMonth => f64::from(date.days_in_month()),
            DatePart::DayOfMonth => f64::from(date.day),
            DatePart::DayOfWeek => f64::from(date.weekday),
            DatePart::DayOfYear => f64::from(date.day_of_year()),
            DatePart::Hour => f64::from(date.hour),
            DatePart::Minute => f64::from(date.minute),
            DatePart::Month => f64::from(date.month),
            DatePart::Year => date.year as f64,
        }
    }
}

impl HistogramPart {
    fn of(self, h: HistogramView<'_>) -> f64 {
        match self {
            HistogramPart::Count => h.count,
            HistogramPart::Sum => h.sum,
            HistogramPart::Avg => h.sum / h.count,
            HistogramPart::Stddev => histogram::variance(h).sqrt(),
            HistogramPart::Stdvar => histogram::variance(h),
        }
    }
}

fn round_to(value: f64, inverse: f64) -> f64 {
    (value * inverse + 0.5).floor() / inverse
}

impl<'a> Evaluator<'a> {
    /// Functions that turn series into series one by one.
    pub(crate) fn stream_call(&self, call: &Call, grid: &Grid, sink: Sink<'_>) -> Result<(), EvalError> {
        match call.func {
            Func::Window(func) => self.stream_window(call, func, grid, sink),
            Func::Map(change) => self.stream_floats(&call.args[0], grid, sink, |track| track.map(change)),
            Func::Clamp | Func::ClampMin | Func::ClampMax | Func::Round => {
                self.stream_adjusted(call, grid, sink)
            }
            Func::Date(part) => {
                let Some(arg) = call.args.first() else {
                    let times = (0..grid.steps).map(|step| part.of(grid.time(step) / 1000)).collect();
                    return sink(Track::of_floats(Labels::empty(), times));
                };
                self.stream_floats(arg, grid, sink, |track| {
                    track.map(|value| part.of(number::to_int64(value)));
                })
            }
            Func::Histogram(part) => self.stream(&call.args[0], grid, &mut |mut track| {
                if track.histograms.is_empty() {
                    return Ok(());
                }
                let histograms = std::mem::take(&mut track.histograms);
                for (step, value) in track.floats.iter_mut().enumerate() {
                    let is_marked = value.to_bits() == HISTOGRAM.to_bits();
                    let histogram = if is_marked { histograms.get(step) } else { None };
                    *value = histogram.map_or(ABSENT, |histogram| part.of(histogram.view()));
                }
                // Prometheus leaves type and unit here, unless names go at the end.
                if !self.features.delayed_name_removal {
                    track.labels = track.labels.retain(|name| name != METRIC_NAME);
                }
                track.drop_name = true;
                if track.has_points() { sink(track) } else { Ok(()) }
            }),
            Func::Timestamp | Func::StartTimestamp => self.stream_timestamps(call, grid, sink),
            Func::Vector => {
                let values = self.scalar(&call.args[0], grid)?.into_steps(grid.steps);
                sink(Track::of_floats(Labels::empty(), values))
            }
            _ => Ok(()),
        }
    }

    /// Float-only functions: histograms fall away, and so does the name.
    fn stream_floats(
        &self,
        arg: &Node,
        grid: &Grid,
        sink: Sink<'_>,
        change: impl Fn(&mut Track),
    ) -> Result<(), EvalError> {
        self.stream(arg, grid, &mut |mut track| {
            if !track.histograms.is_empty() {
                track.keep_floats();
                if !track.has_points() {
                    return Ok(());
                }
            }
            change(&mut track);
            self.drop_name(&mut track);
            sink(track)
        })
    }

    /// `clamp`, `clamp_min`, `clamp_max`, `round`: their parameters may differ from step to step.
    fn stream_adjusted(&self, call: &Call, grid: &Grid, sink: Sink<'_>) -> Result<(), EvalError> {
        let param = |index: usize| call.args.get(index).map(|arg| self.scalar(arg, grid)).transpose();
        let (first, second) = (param(1)?, param(2)?);
        let get = |column: &Option<super::scalar::Column>, step: usize, default: f64| {
            column.as_ref().map_or(default, |column| column.get(step))
        };
        let limits = |step: usize| match call.func {
            Func::Clamp => (get(&first, step, 0.0), get(&second, step, 0.0)),
            Func::ClampMin => (get(&first, step, 0.0), f64::INFINITY),
            _ => (f64::NEG_INFINITY, get(&first, step, 0.0)),
        };
        self.stream(&call.args[0], grid, &mut |mut track| {
            track.keep_floats();
            for step in 0..grid.steps {
                let value = track.floats[step];
                if !is_float(value) {
                    continue;
                }
                track.floats[step] = if matches!(call.func, Func::Round) {
                    round_to(value, 1.0 / get(&first, step, 1.0))
                } else {
                    let (low, high) = limits(step);
                    if high < low { ABSENT } else { number::max(low, number::min(high, value)) }
                };
            }
            if !track.has_points() {
                return Ok(());
            }
            self.drop_name(&mut track);
            sink(track)
        })
    }

    fn stream_timestamps(&self, call: &Call, grid: &Grid, sink: Sink<'_>) -> Result<(), EvalError> {
        let starts = matches!(call.func, Func::StartTimestamp);
        if let Kind::Selector(selector) = &call.args[0].kind {
            return self.stream_sample_times(selector, starts, grid, sink);
        }
        self.stream(&call.args[0], grid, &mut |mut track| {
            if starts {
                return Ok(()); // only samples have a start time
            }
            track.histograms = Histograms::None;
            for step in 0..grid.steps {
                if is_present(track.floats[step]) {
                    track.floats[step] = grid.time(step) as f64 / 1000.0;
                }
            }
            self.drop_name(&mut track);
            sink(track)
        })
    }

    /// Functions that need all series at once; `None` for the others.
    pub(crate) fn whole_call(
        &self,
        node: &Node,
        call: &Call,
        grid: &Grid,
    ) -> Result<Option<Matrix<'a>>, EvalError> {
        let matrix = match call.func {
            Func::Window(WindowFunc::Absent) => self.absent_over_time(call, grid)?,
            Func::Absent => self.absent(call, grid)?,
            Func::Sort { descending } => self.sort(node, call, grid, descending)?,
            Func::SortByLabel { descending } => self.sort_by_label(node, call, grid, descending)?,
            Func::LabelReplace => self.label_replace(call, grid)?,
            Func::LabelJoin => self.label_join(call, grid)?,
            Func::Info => self.info(call, grid)?,
            Func::HistogramQuantile | Func::HistogramQuantiles | Func::HistogramFraction => {
                let matrix = self.histogram_call(call, grid)?;
                self.unique(matrix, grid)?
            }
            _ => return Ok(None),
        };
        Ok(Some(matrix))
    }

    /// One series with 1 where nothing else is, labelled by what was asked for.
    fn absence(&self, labels: Labels, present: &[bool], drop: bool) -> Result<Matrix<'a>, EvalError> {
        let mut matrix = Matrix::new(self.meter);
        let floats = present.iter().map(|present| if *present { ABSENT } else { 1.0 }).collect();
        let mut track = Track::of_floats(labels, floats);
        track.drop_name = drop;
        matrix.push_if_any(track)?;
        Ok(matrix)
    }

    fn absent(&self, call: &Call, grid: &Grid) -> Result<Matrix<'a>, EvalError> {
        let mut present = vec![false; grid.steps];
        self.stream(&call.args[0], grid, &mut |track| {
            present.iter_mut().zip(&track.floats).for_each(|(p, value)| *p |= is_present(*value));
            Ok(())
        })?;
        self.absence(absent_labels(&call.args[0]), &present, false)
    }

    fn absent_over_time(&self, call: &Call, grid: &Grid) -> Result<Matrix<'a>, EvalError> {
        let mut present = vec![false; grid.steps];
        self.stream_window(call, WindowFunc::Absent, grid, &mut |track| {
            present.iter_mut().zip(&track.floats).for_each(|(p, value)| *p |= is_present(*value));
            Ok(())
        })?;
        self.absence(absent_labels(&call.args[0]), &present, true)
    }

    fn sort(&self, node: &Node, call: &Call, grid: &Grid, descending: bool) -> Result<Matrix<'a>, EvalError> {
        if !grid.is_instant() {
            self.note(|notes| notes.sort_in_range_query(node.at));
        }
        let mut matrix = self.vector(&call.args[0], grid)?;
        matrix.tracks.iter_mut().for_each(Track::keep_floats);
        matrix.tracks.retain(Track::has_points);
        if grid.is_instant() {
            matrix.tracks.sort_by(|a, b| order::order(a.floats[0], b.floats[0], descending));
            // To Prometheus a NaN is less than any other, too, so that its sort turns their order round.
            let nans = matrix.tracks.partition_point(|track| !track.floats[0].is_nan());
            matrix.tracks[nans..].reverse();
        }
        Ok(matrix)
    }

    fn sort_by_label(
        &self,
        node: &Node,
        call: &Call,
        grid: &Grid,
        descending: bool,
    ) -> Result<Matrix<'a>, EvalError> {
        if !grid.is_instant() {
            self.note(|notes| notes.sort_in_range_query(node.at));
        }
        let mut matrix = self.vector(&call.args[0], grid)?;
        let names: Vec<&str> = (1..call.args.len()).map(|index| call.text(index)).collect();
        matrix.tracks.sort_by(|a, b| {
            let by_names = names.iter().map(|name| {
                let value = |track: &'_ Track| track.labels.get(name).unwrap_or("").to_owned();
                order::natural_order(&value(a), &value(b))
            });
            let order = by_names.fold(std::cmp::Ordering::Equal, std::cmp::Ordering::then);
            let order = order.then_with(|| a.labels.cmp(&b.labels));
            if descending { order.reverse() } else { order }
        });
        Ok(matrix)
    }

    /// A vector expression as scalars: the only float of each step, else NaN.
    pub(crate) fn only_floats(&self, arg: &Node, grid: &Grid) -> Result<Vec<f64>, EvalError> {
        let mut values = vec![f64::NAN; grid.steps];
        let mut found = vec![0_u8; grid.steps];
        self.stream(arg, grid, &mut |track| {
            for step in 0..grid.steps {
                if is_float(track.floats[step]) {
                    found[step] = found[step].saturating_add(1);
                    values[step] = if found[step] == 1 { track.floats[step] } else { f64::NAN };
                }
            }
            Ok(())
        })?;
        Ok(values)
    }
}

/// The labels that a selector fixes: names with exactly one `=`, the metric name excluded.
fn absent_labels(arg: &Node) -> Labels {
    let matchers: &[Matcher] = match &arg.kind {
        Kind::Selector(selector) => &selector.matchers,
        Kind::Range(range) => &range.selector.matchers,
        _ => &[],
    };
    let mut builder = Labels::empty().to_builder();
    let mut seen: Vec<&str> = Vec::new();
    for matcher in matchers.iter().filter(|matcher| matcher.name != METRIC_NAME) {
        if matcher.op == MatchOp::Equal && !seen.contains(&matcher.name.as_str()) {
            builder.set(&matcher.name, &matcher.value);
            seen.push(&matcher.name);
        } else {
            builder.remove(&matcher.name);
        }
    }
    builder.build()
}
