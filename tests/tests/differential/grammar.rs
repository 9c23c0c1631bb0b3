//! Expressions of all kinds over the series of [`crate::samples`], most of them meaningful.

use crate::{
    expression::{Expression, Kind},
    random::Random,
};
use Kind::{Range, Scalar, Vector};

const DEPTH: usize = 4;

const SELECTORS: [&str; 26] = [
    "node_load1",
    "up",
    "odd",
    "once",
    "sparse",
    "a_ten",
    "temperature_celsius",
    "node_uname_info",
    "node_memory_MemFree_bytes",
    "node_time_seconds",
    "node_cpu_seconds_total",
    "node_cpu_seconds_total{mode!=\"idle\"}",
    "node_cpu_seconds_total{instance=~\"a.*|b:9100\",mode=\"user\"}",
    "node_cpu_seconds_total{cpu=\"0\",mode!~\"i.+\"}",
    "node_filesystem_avail_bytes",
    "node_filesystem_size_bytes{mountpoint=\"/\"}",
    "http_requests_total",
    "http_requests_total{code=\"500\"}",
    "http_requests_total{code=~\"[45]..\"}",
    "http_request_duration_seconds_bucket",
    "http_request_duration_seconds_count",
    "http_request_duration_seconds_sum",
    "{__name__=~\"node_(load1|time_seconds)\",instance!=\"c:9100\"}",
    "{job=\"api\",le=\"\",code=\"\"}",
    "h_ten{l=\"3\"}",
    "missing_metric",
];
const RANGES: [&str; 8] = ["15s", "30s", "1m", "65s", "5m", "7m", "20m", "1h"];
const OFFSETS: [&str; 7] =
    [" offset 1m", " offset 7s", " offset -3m", " @ end()", " @ start()", " @ end() offset 2m", " offset 1h"];
const LABELS: [&str; 11] =
    ["instance", "job", "mode", "cpu", "code", "method", "le", "l", "place", "device", "nodename"];
const OF_RANGES: [&str; 24] = [
    "rate",
    "rate",
    "increase",
    "delta",
    "irate",
    "idelta",
    "deriv",
    "changes",
    "resets",
    "avg_over_time",
    "min_over_time",
    "max_over_time",
    "sum_over_time",
    "count_over_time",
    "last_over_time",
    "present_over_time",
    "stddev_over_time",
    "stdvar_over_time",
    "absent_over_time",
    "rate",
    "increase",
    "delta",
    "avg_over_time",
    "max_over_time",
];
const OF_VECTORS: [&str; 32] = [
    "abs",
    "ceil",
    "floor",
    "exp",
    "ln",
    "log2",
    "log10",
    "sqrt",
    "sgn",
    "sin",
    "cos",
    "tan",
    "atan",
    "asinh",
    "tanh",
    "deg",
    "rad",
    "timestamp",
    "sort",
    "sort_desc",
    "absent",
    "hour",
    "minute",
    "day_of_week",
    "day_of_month",
    "day_of_year",
    "days_in_month",
    "month",
    "year",
    "round",
    "-",
    "+",
];
const AGGREGATIONS: [&str; 10] =
    ["sum", "sum", "avg", "min", "max", "count", "group", "stddev", "stdvar", "sum"];
const ARITHMETIC: [&str; 7] = ["+", "-", "*", "/", "%", "^", "atan2"];
const COMPARISONS: [&str; 6] = ["==", "!=", ">", "<", ">=", "<="];
const SETS: [&str; 3] = ["and", "or", "unless"];
const NUMBERS: [&str; 14] =
    ["0", "1", "2", "0.5", "-1", "3.7", "100", "1e9", "NaN", "+Inf", "-Inf", "0.99", "60", "1e-7"];

struct Grammar<'r> {
    random: &'r mut Random,
    experimental: bool,
}

/// One expression.
pub(crate) fn expression(random: &mut Random, experimental: bool) -> Expression {
    let depth = 1 + random.below(DEPTH);
    let mut grammar = Grammar { random, experimental };
    if grammar.random.one_in(15) { grammar.scalar(depth) } else { grammar.vector(depth) }
}

impl Grammar<'_> {
    fn modified(&mut self, text: &str) -> String {
        let modifier = if self.random.one_in(6) { self.random.pick(&OFFSETS) } else { "" };
        format!("{text}{modifier}")
    }

    fn selector(&mut self) -> Expression {
        let text = self.random.pick(&SELECTORS);
        Expression::leaf(Vector, self.modified(text))
    }

    fn range(&mut self, depth: usize) -> Expression {
        let range = self.random.pick(&RANGES);
        if depth > 1 && self.random.one_in(5) {
            let step = self.random.pick(&["", "15s", "1m", "37s", "5m"]);
            let template = self.modified(&format!("(#)[{range}:{step}]"));
            return Expression::of(Range, &template, vec![self.vector(depth - 1)]);
        }
        let text = format!("{}[{range}]", self.random.pick(&SELECTORS));
        Expression::leaf(Range, self.modified(&text))
    }

    fn labels(&mut self) -> String {
        let count = self.random.below(3);
        (0..count).map(|_| self.random.pick(&LABELS)).collect::<Vec<_>>().join(", ")
    }

    fn grouping(&mut self) -> String {
        let word = self.random.pick(&["by", "by", "without", ""]);
        if word.is_empty() { String::new() } else { format!(" {word} ({})", self.labels()) }
    }

    fn vector(&mut self, depth: usize) -> Expression {
        if depth == 0 {
            return self.selector();
        }
        match self.random.below(20) {
            0 => self.selector(),
            1..5 => self.of_range(depth),
            5..7 => {
                let name = self.random.pick(&OF_VECTORS);
                Expression::of(Vector, &format!("{name}(#)"), vec![self.vector(depth - 1)])
            }
            7..11 => {
                let name = self.random.pick(&AGGREGATIONS);
                let template = format!("{name}{} (#)", self.grouping());
                Expression::of(Vector, &template, vec![self.vector(depth - 1)])
            }
            11 => self.aggregation_with_parameter(depth),
            12..14 => self.with_scalar(depth),
            14..17 => self.with_vector(depth),
            17 => self.histogram(depth),
            _ => self.other(depth),
        }
    }

    fn of_range(&mut self, depth: usize) -> Expression {
        let range = self.range(depth);
        match self.random.below(12) {
            0 => Expression::of(Vector, "quantile_over_time(#, #)", vec![self.scalar(1), range]),
            1 => Expression::of(Vector, "predict_linear(#, #)", vec![range, self.scalar(1)]),
            2 if self.experimental => {
                let name = self.random.pick(&["mad_over_time", "ts_of_max_over_time", "ts_of_min_over_time"]);
                Expression::of(Vector, &format!("{name}(#)"), vec![range])
            }
            3 if self.experimental => {
                Expression::of(Vector, "double_exponential_smoothing(#, 0.3, 0.6)", vec![range])
            }
            _ => {
                let name = self.random.pick(&OF_RANGES);
                Expression::of(Vector, &format!("{name}(#)"), vec![range])
            }
        }
    }

    fn aggregation_with_parameter(&mut self, depth: usize) -> Expression {
        let grouping = self.grouping();
        let inner = self.vector(depth - 1);
        match self.random.below(if self.experimental { 6 } else { 4 }) {
            // Among equals, which is taken is an accident of the heap: only values that hardly meet.
            0 => Expression::leaf(Vector, format!("topk{grouping} (2, rate(node_cpu_seconds_total[5m]))")),
            1 => Expression::leaf(Vector, format!("bottomk{grouping} (3, node_time_seconds)")),
            2 => Expression::of(Vector, &format!("quantile{grouping} (#, #)"), vec![self.scalar(1), inner]),
            // The last digit of what is computed becomes a label: only values as they were written.
            3 => Expression::of(
                Vector,
                &format!("count_values{grouping} (\"value\", #)"),
                vec![self.selector()],
            ),
            4 => Expression::of(Vector, &format!("limitk{grouping} (2, #)"), vec![inner]),
            _ => Expression::of(Vector, &format!("limit_ratio{grouping} (0.4, #)"), vec![inner]),
        }
    }

    fn operator(&mut self) -> String {
        if self.random.one_in(3) {
            let bool = if self.random.one_in(2) { " bool" } else { "" };
            return format!("{}{bool}", self.random.pick(&COMPARISONS));
        }
        self.random.pick(&ARITHMETIC).to_owned()
    }

    fn with_scalar(&mut self, depth: usize) -> Expression {
        let operator = self.operator();
        let (vector, scalar) = (self.vector(depth - 1), self.scalar(depth - 1));
        let operands = if self.random.one_in(3) { vec![scalar, vector] } else { vec![vector, scalar] };
        Expression::of(Vector, &format!("(# {operator} #)"), operands)
    }

    fn with_vector(&mut self, depth: usize) -> Expression {
        let left = self.vector(depth - 1);
        // Often the same again, so that something matches.
        let right = if self.random.one_in(2) { left.clone() } else { self.vector(depth - 1) };
        if self.random.one_in(3) {
            let set = self.random.pick(&SETS);
            let on = if self.random.one_in(2) { format!(" on ({})", self.labels()) } else { String::new() };
            return Expression::of(Vector, &format!("(# {set}{on} #)"), vec![left, right]);
        }
        let operator = self.operator();
        match self.random.below(4) {
            0 => {
                let word = self.random.pick(&["on", "ignoring"]);
                let template = format!("(# {operator} {word} ({}) #)", self.labels());
                Expression::of(Vector, &template, vec![left, right])
            }
            1 => {
                let include = self.labels();
                let template = format!("(# {operator} on (instance) group_left ({include}) #)");
                let one =
                    Expression::leaf(Vector, self.random.pick(&["node_uname_info", "node_load1", "up"]));
                Expression::of(Vector, &template, vec![left, one])
            }
            _ => Expression::of(Vector, &format!("(# {operator} #)"), vec![left, right]),
        }
    }

    fn histogram(&mut self, depth: usize) -> Expression {
        let quantile = self.scalar(1);
        let inner = match self.random.below(4) {
            0 => self.vector(depth - 1),
            1 => Expression::leaf(Vector, "http_request_duration_seconds_bucket"),
            2 => Expression::leaf(Vector, "h_ten"),
            _ => {
                let range = self.random.pick(&RANGES);
                let by = self.random.pick(&["le", "le, instance", "instance"]);
                let text = format!("sum by ({by}) (rate(http_request_duration_seconds_bucket[{range}]))");
                Expression::leaf(Vector, text)
            }
        };
        Expression::of(Vector, "histogram_quantile(#, #)", vec![quantile, inner])
    }

    fn other(&mut self, depth: usize) -> Expression {
        match self.random.below(8) {
            0 => Expression::of(Vector, "vector(#)", vec![self.scalar(depth - 1)]),
            1 => {
                let (label, regex) =
                    (self.random.pick(&LABELS), self.random.pick(&["(.*)", "(.).*", "a.*", "(.*):(.*)"]));
                let to = self.random.pick(&["copy", "instance", "job", "le"]);
                let with = self.random.pick(&["$1", "x-$2", "", "${1}y"]);
                let template = format!("label_replace(#, \"{to}\", \"{with}\", \"{label}\", \"{regex}\")");
                Expression::of(Vector, &template, vec![self.vector(depth - 1)])
            }
            2 => {
                let (a, b) = (self.random.pick(&LABELS), self.random.pick(&LABELS));
                let template = format!("label_join(#, \"joined\", \"/\", \"{a}\", \"{b}\")");
                Expression::of(Vector, &template, vec![self.vector(depth - 1)])
            }
            3 => Expression::of(
                Vector,
                "clamp(#, #, #)",
                vec![self.vector(depth - 1), self.scalar(1), self.scalar(1)],
            ),
            4 => Expression::of(Vector, "clamp_max(#, #)", vec![self.vector(depth - 1), self.scalar(1)]),
            5 => Expression::of(Vector, "round(#, #)", vec![self.vector(depth - 1), self.scalar(1)]),
            6 => Expression::of(Vector, "absent(#)", vec![self.selector()]),
            _ => Expression::of(Vector, "-#", vec![self.vector(depth - 1)]),
        }
    }

    fn scalar(&mut self, depth: usize) -> Expression {
        match self.random.below(if depth == 0 { 4 } else { 8 }) {
            4 => Expression::leaf(Scalar, "time()"),
            5 => Expression::of(Scalar, "scalar(#)", vec![self.vector(depth - 1)]),
            6 => {
                let operator = self.random.pick(&ARITHMETIC);
                let operands = vec![self.scalar(depth - 1), self.scalar(depth - 1)];
                Expression::of(Scalar, &format!("(# {operator} #)"), operands)
            }
            7 => {
                let operator = self.random.pick(&COMPARISONS);
                let operands = vec![self.scalar(depth - 1), self.scalar(depth - 1)];
                Expression::of(Scalar, &format!("(# {operator} bool #)"), operands)
            }
            _ => Expression::leaf(Scalar, self.random.pick(&NUMBERS)),
        }
    }
}
