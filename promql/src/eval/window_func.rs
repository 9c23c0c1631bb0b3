//! The functions of windows: their names and what sets them apart.

use super::rate::RateKind;
use crate::ast::RangeMode;
use crate::engine::EvalError;

/// A function of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WindowFunc {
    Absent,
    Avg,
    Changes,
    Count,
    Deriv,
    First,
    Idelta,
    Irate,
    Last,
    Mad,
    Max,
    Min,
    PredictLinear,
    Present,
    Quantile,
    Rate(RateKind),
    Resets,
    Smoothing,
    Stddev,
    Stdvar,
    Sum,
    TimeOfFirst,
    TimeOfLast,
    TimeOfMax,
    TimeOfMin,
}

impl WindowFunc {
    pub(crate) fn by_name(name: &str) -> Option<WindowFunc> {
        Some(match name {
            "absent_over_time" => WindowFunc::Absent,
            "avg_over_time" => WindowFunc::Avg,
            "changes" => WindowFunc::Changes,
            "count_over_time" => WindowFunc::Count,
            "delta" => WindowFunc::Rate(RateKind::Delta),
            "deriv" => WindowFunc::Deriv,
            "double_exponential_smoothing" => WindowFunc::Smoothing,
            "first_over_time" => WindowFunc::First,
            "idelta" => WindowFunc::Idelta,
            "increase" => WindowFunc::Rate(RateKind::Increase),
            "irate" => WindowFunc::Irate,
            "last_over_time" => WindowFunc::Last,
            "mad_over_time" => WindowFunc::Mad,
            "max_over_time" => WindowFunc::Max,
            "min_over_time" => WindowFunc::Min,
            "predict_linear" => WindowFunc::PredictLinear,
            "present_over_time" => WindowFunc::Present,
            "quantile_over_time" => WindowFunc::Quantile,
            "rate" => WindowFunc::Rate(RateKind::Rate),
            "resets" => WindowFunc::Resets,
            "stddev_over_time" => WindowFunc::Stddev,
            "stdvar_over_time" => WindowFunc::Stdvar,
            "sum_over_time" => WindowFunc::Sum,
            "ts_of_first_over_time" => WindowFunc::TimeOfFirst,
            "ts_of_last_over_time" => WindowFunc::TimeOfLast,
            "ts_of_max_over_time" => WindowFunc::TimeOfMax,
            "ts_of_min_over_time" => WindowFunc::TimeOfMin,
            _ => return None,
        })
    }

    fn name(self) -> &'static str {
        match self {
            WindowFunc::Absent => "absent_over_time",
            WindowFunc::Avg => "avg_over_time",
            WindowFunc::Changes => "changes",
            WindowFunc::Count => "count_over_time",
            WindowFunc::Deriv => "deriv",
            WindowFunc::First => "first_over_time",
            WindowFunc::Idelta => "idelta",
            WindowFunc::Irate => "irate",
            WindowFunc::Last => "last_over_time",
            WindowFunc::Mad => "mad_over_time",
            WindowFunc::Max => "max_over_time",
            WindowFunc::Min => "min_over_time",
            WindowFunc::PredictLinear => "predict_linear",
            WindowFunc::Present => "present_over_time",
            WindowFunc::Quantile => "quantile_over_time",
            WindowFunc::Rate(RateKind::Rate) => "rate",
            WindowFunc::Rate(RateKind::Increase) => "increase",
            WindowFunc::Rate(RateKind::Delta) => "delta",
            WindowFunc::Resets => "resets",
            WindowFunc::Smoothing => "double_exponential_smoothing",
            WindowFunc::Stddev => "stddev_over_time",
            WindowFunc::Stdvar => "stdvar_over_time",
            WindowFunc::Sum => "sum_over_time",
            WindowFunc::TimeOfFirst => "ts_of_first_over_time",
            WindowFunc::TimeOfLast => "ts_of_last_over_time",
            WindowFunc::TimeOfMax => "ts_of_max_over_time",
            WindowFunc::TimeOfMin => "ts_of_min_over_time",
        }
    }

    /// Whether start times of samples take part.
    pub(crate) fn uses_starts(self) -> bool {
        matches!(
            self,
            WindowFunc::Rate(RateKind::Rate | RateKind::Increase) | WindowFunc::Irate | WindowFunc::Resets
        )
    }

    pub(crate) fn keeps_name(self) -> bool {
        matches!(self, WindowFunc::First | WindowFunc::Last)
    }

    pub(crate) fn check_mode(self, mode: RangeMode) -> Result<(), EvalError> {
        let (word, allowed) = match mode {
            RangeMode::Plain => return Ok(()),
            RangeMode::Anchored => ("anchored", "changes, delta, increase, rate, resets"),
            RangeMode::Smoothed => ("smoothed", "delta, increase, rate"),
        };
        let name = self.name();
        if allowed.split(", ").any(|word| word == name) {
            return Ok(());
        }
        Err(EvalError::execution(format!(
            "{word} modifier can only be used with: {allowed} - not with {name}"
        )))
    }
}
