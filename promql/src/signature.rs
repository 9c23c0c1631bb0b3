//! The functions of the language: names, argument types, return types (Prometheus 3.14, `promql/parser/functions.go`).

use crate::ast::ValueType;
use std::fmt;

/// A function as the parser knows it.
#[derive(PartialEq, Eq)]
pub struct Function {
    /// The name, lower case.
    pub name: &'static str,
    /// The types of the arguments; further arguments of a variadic function have the last one's type.
    pub arg_types: &'static [ValueType],
    /// 0: exactly `arg_types`. n > 0: the last argument may be missing or come up to n times. -1: any number of times.
    pub variadic: i8,
    /// The type of the result.
    pub return_type: ValueType,
    /// Whether it needs the flag for experimental functions.
    pub experimental: bool,
}

impl fmt::Debug for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Function({})", self.name)
    }
}

const V: ValueType = ValueType::Vector;
const S: ValueType = ValueType::Scalar;
const M: ValueType = ValueType::Matrix;
const T: ValueType = ValueType::String;
const STABLE: bool = false;
const EXPERIMENTAL: bool = true;

const fn f(
    name: &'static str,
    arg_types: &'static [ValueType],
    variadic: i8,
    return_type: ValueType,
    experimental: bool,
) -> Function {
    Function { name, arg_types, variadic, return_type, experimental }
}

/// All functions, sorted by name.
#[rustfmt::skip]
pub static FUNCTIONS: &[Function] = &[
    f("abs", &[V], 0, V, STABLE),
    f("absent", &[V], 0, V, STABLE),
    f("absent_over_time", &[M], 0, V, STABLE),
    f("acos", &[V], 0, V, STABLE),
    f("acosh", &[V], 0, V, STABLE),
    f("asin", &[V], 0, V, STABLE),
    f("asinh", &[V], 0, V, STABLE),
    f("atan", &[V], 0, V, STABLE),
    f("atanh", &[V], 0, V, STABLE),
    f("avg_over_time", &[M], 0, V, STABLE),
    f("ceil", &[V], 0, V, STABLE),
    f("changes", &[M], 0, V, STABLE),
    f("clamp", &[V, S, S], 0, V, STABLE),
    f("clamp_max", &[V, S], 0, V, STABLE),
    f("clamp_min", &[V, S], 0, V, STABLE),
    f("cos", &[V], 0, V, STABLE),
    f("cosh", &[V], 0, V, STABLE),
    f("count_over_time", &[M], 0, V, STABLE),
    f("day_of_month", &[V], 1, V, STABLE),
    f("day_of_week", &[V], 1, V, STABLE),
    f("day_of_year", &[V], 1, V, STABLE),
    f("days_in_month", &[V], 1, V, STABLE),
    f("deg", &[V], 0, V, STABLE),
    f("delta", &[M], 0, V, STABLE),
    f("deriv", &[M], 0, V, STABLE),
    f("double_exponential_smoothing", &[M, S, S], 0, V, EXPERIMENTAL),
    f("end", &[], 0, S, EXPERIMENTAL),
    f("exp", &[V], 0, V, STABLE),
    f("first_over_time", &[M], 0, V, STABLE),
    f("floor", &[V], 0, V, STABLE),
    f("histogram_avg", &[V], 0, V, STABLE),
    f("histogram_count", &[V], 0, V, STABLE),
    f("histogram_fraction", &[S, S, V], 0, V, STABLE),
    f("histogram_quantile", &[S, V], 0, V, STABLE),
    f("histogram_quantiles", &[V, T, S, S], 9, V, EXPERIMENTAL),
    f("histogram_stddev", &[V], 0, V, STABLE),
    f("histogram_stdvar", &[V], 0, V, STABLE),
    f("histogram_sum", &[V], 0, V, STABLE),
    f("hour", &[V], 1, V, STABLE),
    f("idelta", &[M], 0, V, STABLE),
    f("increase", &[M], 0, V, STABLE),
    f("info", &[V, V], 1, V, EXPERIMENTAL),
    f("irate", &[M], 0, V, STABLE),
    f("label_join", &[V, T, T, T], -1, V, STABLE),
    f("label_replace", &[V, T, T, T, T], 0, V, STABLE),
    f("last_over_time", &[M], 0, V, STABLE),
    f("ln", &[V], 0, V, STABLE),
    f("log10", &[V], 0, V, STABLE),
    f("log2", &[V], 0, V, STABLE),
    f("mad_over_time", &[M], 0, V, EXPERIMENTAL),
    f("max_of", &[S, S], 0, S, EXPERIMENTAL),
    f("max_over_time", &[M], 0, V, STABLE),
    f("min_of", &[S, S], 0, S, EXPERIMENTAL),
    f("min_over_time", &[M], 0, V, STABLE),
    f("minute", &[V], 1, V, STABLE),
    f("month", &[V], 1, V, STABLE),
    f("pi", &[], 0, S, STABLE),
    f("predict_linear", &[M, S], 0, V, STABLE),
    f("present_over_time", &[M], 0, V, STABLE),
    f("quantile_over_time", &[S, M], 0, V, STABLE),
    f("rad", &[V], 0, V, STABLE),
    f("range", &[], 0, S, EXPERIMENTAL),
    f("rate", &[M], 0, V, STABLE),
    f("resets", &[M], 0, V, STABLE),
    f("round", &[V, S], 1, V, STABLE),
    f("scalar", &[V], 0, S, STABLE),
    f("sgn", &[V], 0, V, STABLE),
    f("sin", &[V], 0, V, STABLE),
    f("sinh", &[V], 0, V, STABLE),
    f("sort", &[V], 0, V, STABLE),
    f("sort_by_label", &[V, T], -1, V, EXPERIMENTAL),
    f("sort_by_label_desc", &[V, T], -1, V, EXPERIMENTAL),
    f("sort_desc", &[V], 0, V, STABLE),
    f("sqrt", &[V], 0, V, STABLE),
    f("start", &[], 0, S, EXPERIMENTAL),
    f("start_timestamp", &[V], 0, V, EXPERIMENTAL),
    f("stddev_over_time", &[M], 0, V, STABLE),
    f("stdvar_over_time", &[M], 0, V, STABLE),
    f("step", &[], 0, S, EXPERIMENTAL),
    f("sum_over_time", &[M], 0, V, STABLE),
    f("tan", &[V], 0, V, STABLE),
    f("tanh", &[V], 0, V, STABLE),
    f("time", &[], 0, S, STABLE),
    f("timestamp", &[V], 0, V, STABLE),
    f("ts_of_first_over_time", &[M], 0, V, EXPERIMENTAL),
    f("ts_of_last_over_time", &[M], 0, V, EXPERIMENTAL),
    f("ts_of_max_over_time", &[M], 0, V, EXPERIMENTAL),
    f("ts_of_min_over_time", &[M], 0, V, EXPERIMENTAL),
    f("vector", &[S], 0, V, STABLE),
    f("year", &[V], 1, V, STABLE),
];

/// The function of this name.
#[must_use]
pub fn function(name: &str) -> Option<&'static Function> {
    FUNCTIONS.binary_search_by(|f| f.name.cmp(name)).ok().map(|i| &FUNCTIONS[i])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_by_name() {
        assert!(FUNCTIONS.is_sorted_by(|a, b| a.name < b.name));
    }

    #[test]
    fn there_are_ninety_functions() {
        assert_eq!(FUNCTIONS.len(), 90);
    }

    #[test]
    fn a_function_is_found_by_its_exact_name() {
        assert_eq!(function("rate").map(|f| f.arg_types), Some(&[ValueType::Matrix][..]));
        assert!(function("Rate").is_none());
    }
}
