//! Expressions of all kinds over the series of [`crate::samples`], most of them meaningful.

use crate::{
    expression::{Expression, Kind},
    random::Random,
    words::{
        AGGREGATIONS, ARITHMETIC, COMPARISONS, DURATIONS, FLOATS, HISTOGRAMS, LABELS, NUMBERS, OF_NOTHING,
        OF_RANGES, OF_RANGES_EXPERIMENTAL, OF_VECTORS, OFFSETS, RANGES, SETS, STRINGS, TO, TOKENS,
    },
};
use Kind::{Range, Scalar, Vector};

const DEPTH: usize = 4;

struct Grammar<'r> {
    random: &'r mut Random,
    /// Seconds of the first sample.
    start: i64,
}

/// One expression over samples that begin at `start` seconds.
pub(crate) fn expression(random: &mut Random, start: i64) -> Expression {
    let depth = 1 + random.below(DEPTH);
    let mut grammar = Grammar { random, start };
    let expression = match grammar.random.below(40) {
        0..2 => grammar.scalar(depth),
        2 => grammar.range(depth),
        3 => Expression::leaf(Kind::Text, grammar.random.pick(&STRINGS)),
        _ => grammar.vector(depth),
    };
    if grammar.random.one_in(30) { grammar.broken(&expression.to_string()) } else { expression }
}

impl Grammar<'_> {
    /// A text with something missing, or too much.
    fn broken(&mut self, text: &str) -> Expression {
        let bounds: Vec<usize> = text.char_indices().map(|(i, _)| i).collect();
        let from = bounds[self.random.below(bounds.len())];
        let mut text = text.to_owned();
        if self.random.one_in(2) {
            text.insert_str(from, self.random.pick(&TOKENS));
        } else {
            let until =
                bounds.iter().copied().find(|i| *i > from + self.random.below(4)).unwrap_or(text.len());
            text.replace_range(from..until, "");
        }
        Expression::leaf(Kind::Text, text)
    }

    fn modified(&mut self, text: &str) -> String {
        match self.random.below(12) {
            0 => format!("{text}{}", self.random.pick(&OFFSETS)),
            1 => format!(
                "{text} @ {}.{:03}",
                self.start + self.random.below(6000) as i64,
                self.random.below(1000)
            ),
            2 => format!("{text} offset {}", self.random.pick(&RANGES)),
            3 if self.random.one_in(3) => format!("{text} offset ({})", self.random.pick(&DURATIONS)),
            _ => text.to_owned(),
        }
    }

    fn plain_selector(&mut self) -> &'static str {
        if self.random.one_in(4) { self.random.pick(&HISTOGRAMS) } else { self.random.pick(&FLOATS) }
    }

    fn selector(&mut self) -> Expression {
        let text = self.plain_selector();
        Expression::leaf(Vector, self.modified(text))
    }

    fn histogram_selector(&mut self) -> Expression {
        let text = self.random.pick(&HISTOGRAMS);
        Expression::leaf(Vector, self.modified(text))
    }

    fn duration(&mut self) -> &'static str {
        if self.random.one_in(12) { self.random.pick(&DURATIONS) } else { self.random.pick(&RANGES) }
    }

    fn range(&mut self, depth: usize) -> Expression {
        let range = self.duration();
        if depth > 1 && self.random.one_in(5) {
            let step = self.random.pick(&["", "", "15s", "1m", "37s", "5m", "2m30s", "120"]);
            let template = self.modified(&format!("(#)[{range}:{step}]"));
            return Expression::of(Range, &template, vec![self.vector(depth - 1)]);
        }
        let text = format!("{}[{range}]", self.plain_selector());
        Expression::leaf(Range, self.modified(&text))
    }

    fn labels(&mut self) -> String {
        let count = self.random.below(4);
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
        match self.random.below(24) {
            0 => self.selector(),
            1..6 => self.of_range(depth),
            6..9 => {
                let name = self.random.pick(&OF_VECTORS);
                Expression::of(Vector, &format!("{name}(#)"), vec![self.vector(depth - 1)])
            }
            9..13 => {
                let name = self.random.pick(&AGGREGATIONS);
                let (before, after) = (self.grouping(), self.random.one_in(3));
                let template =
                    if after { format!("{name} (#){before}") } else { format!("{name}{before} (#)") };
                Expression::of(Vector, &template, vec![self.vector(depth - 1)])
            }
            13 => self.aggregation_with_parameter(depth),
            14..16 => self.with_scalar(depth),
            16..19 => self.with_vector(depth),
            19..21 => self.histogram(depth),
            _ => self.other(depth),
        }
    }

    fn of_range(&mut self, depth: usize) -> Expression {
        let range = self.range(depth);
        match self.random.below(14) {
            0 => Expression::of(Vector, "quantile_over_time(#, #)", vec![self.scalar(1), range]),
            1 => Expression::of(Vector, "predict_linear(#, #)", vec![range, self.scalar(1)]),
            2 => {
                let name = self.random.pick(&OF_RANGES_EXPERIMENTAL);
                Expression::of(Vector, &format!("{name}(#)"), vec![range])
            }
            3 => {
                let factors = self.random.pick(&["0.3, 0.6", "0.9, 0.1", "1, 0.5", "0.5, 0.01"]);
                Expression::of(Vector, &format!("double_exponential_smoothing(#, {factors})"), vec![range])
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
        let parameter = if self.random.one_in(4) {
            self.scalar(1)
        } else {
            Expression::leaf(Scalar, self.random.pick(&["1", "2", "3", "5", "0.4", "-0.4", "0.9"]))
        };
        // The last digit of what is computed becomes a label: only values as they were written.
        let word =
            self.random.pick(&["topk", "bottomk", "quantile", "limitk", "limit_ratio", "count_values"]);
        if word == "count_values" {
            let label = self.random.pick(&["value", "l", "a b", "", "__name__"]);
            let template = format!("count_values{grouping} (\"{label}\", #)");
            return Expression::of(Vector, &template, vec![self.selector()]);
        }
        Expression::of(Vector, &format!("{word}{grouping} (#, #)"), vec![parameter, inner])
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
        let template = if self.random.one_in(5) { "# {} #" } else { "(# {} #)" };
        Expression::of(Vector, &template.replace("{}", &operator), operands)
    }

    fn with_vector(&mut self, depth: usize) -> Expression {
        let left = self.vector(depth - 1);
        // Often the same again, so that something matches.
        let right = if self.random.one_in(2) { left.clone() } else { self.vector(depth - 1) };
        let word = self.random.pick(&["on", "ignoring"]);
        if self.random.one_in(3) {
            let set = self.random.pick(&SETS);
            let matching =
                if self.random.one_in(2) { format!(" {word} ({})", self.labels()) } else { String::new() };
            return Expression::of(Vector, &format!("(# {set}{matching} #)"), vec![left, right]);
        }
        let operator = self.operator();
        match self.random.below(6) {
            0 => {
                let template = format!("(# {operator} {word} ({}) #)", self.labels());
                Expression::of(Vector, &template, vec![left, right])
            }
            1 => {
                let include = self.labels();
                let template = format!("(# {operator} on (instance) group_left ({include}) #)");
                let one = self.random.pick(&["node_uname_info", "node_load1", "up", "native_gauge"]);
                Expression::of(Vector, &template, vec![left, Expression::leaf(Vector, one)])
            }
            2 => {
                let include = self.labels();
                let side = self.random.pick(&["group_left", "group_right"]);
                let template = format!("(# {operator} {word} ({}) {side} ({include}) #)", self.labels());
                Expression::of(Vector, &template, vec![left, right])
            }
            3 => {
                let template = format!("(# {operator} on (instance) group_right #)");
                let one =
                    self.random.pick(&["node_uname_info", "up * 2", "sum by (instance) (native_seconds)"]);
                Expression::of(Vector, &template, vec![Expression::leaf(Vector, one), left])
            }
            _ => Expression::of(Vector, &format!("(# {operator} #)"), vec![left, right]),
        }
    }

    fn histogram(&mut self, depth: usize) -> Expression {
        let range = self.random.pick(&RANGES);
        let inner = match self.random.below(8) {
            0 => self.vector(depth - 1),
            1 => Expression::leaf(Vector, "http_request_duration_seconds_bucket"),
            2 => Expression::leaf(Vector, "h_ten"),
            3 => self.histogram_selector(),
            4 => Expression::of(Vector, &format!("rate(#[{range}])"), vec![self.plain_histogram()]),
            5 => {
                let template = format!("sum{} (rate(#[{range}]))", self.grouping());
                Expression::of(Vector, &template, vec![self.plain_histogram()])
            }
            6 => Expression::leaf(Vector, "both"),
            _ => {
                let by = self.random.pick(&["le", "le, instance", "instance"]);
                let text = format!("sum by ({by}) (rate(http_request_duration_seconds_bucket[{range}]))");
                Expression::leaf(Vector, text)
            }
        };
        match self.random.below(5) {
            0 => {
                let operands = vec![self.scalar(1), self.scalar(1), inner];
                Expression::of(Vector, "histogram_fraction(#, #, #)", operands)
            }
            1 => {
                let name = ["avg", "count", "sum", "stddev", "stdvar"];
                let name = self.random.pick(&name);
                Expression::of(Vector, &format!("histogram_{name}(#)"), vec![inner])
            }
            _ => Expression::of(Vector, "histogram_quantile(#, #)", vec![self.scalar(1), inner]),
        }
    }

    fn plain_histogram(&mut self) -> Expression {
        Expression::leaf(Vector, self.random.pick(&HISTOGRAMS))
    }

    fn other(&mut self, depth: usize) -> Expression {
        match self.random.below(14) {
            0 => Expression::of(Vector, "vector(#)", vec![self.scalar(depth - 1)]),
            1..3 => {
                let (label, regex) = (
                    self.random.pick(&LABELS).trim_matches('"'),
                    self.random.pick(&["(.*)", "(.).*", "a.*", "(.*):(.*)", "(?P<n>.+):.*", "", "(", "x|"]),
                );
                let to = self.random.pick(&TO);
                let with = self.random.pick(&["$1", "x-$2", "", "${1}y", "$n", "$1y", "$$", "z"]);
                let template = format!("label_replace(#, \"{to}\", \"{with}\", \"{label}\", \"{regex}\")");
                Expression::of(Vector, &template, vec![self.vector(depth - 1)])
            }
            3 => {
                let (a, b) = (self.random.pick(&LABELS), self.random.pick(&LABELS));
                let (a, b) = (a.trim_matches('"'), b.trim_matches('"'));
                let to = self.random.pick(&["joined", "joined", "instance", "__name__", ""]);
                let template = format!("label_join(#, \"{to}\", \"/\", \"{a}\", \"{b}\")");
                Expression::of(Vector, &template, vec![self.vector(depth - 1)])
            }
            4 => Expression::of(
                Vector,
                "clamp(#, #, #)",
                vec![self.vector(depth - 1), self.scalar(1), self.scalar(1)],
            ),
            5 => {
                let name = self.random.pick(&["clamp_max", "clamp_min", "round"]);
                Expression::of(Vector, &format!("{name}(#, #)"), vec![self.vector(depth - 1), self.scalar(1)])
            }
            6 => Expression::of(Vector, "absent(#)", vec![self.selector()]),
            7 => Expression::of(Vector, "-#", vec![self.vector(depth - 1)]),
            8 => Expression::of(Vector, "(#)", vec![self.vector(depth - 1)]),
            9 => Expression::leaf(Vector, self.random.pick(&OF_NOTHING)),
            10 => {
                let name = self.random.pick(&["sort_by_label", "sort_by_label_desc"]);
                let label = self.random.pick(&LABELS).trim_matches('"');
                Expression::of(
                    Vector,
                    &format!("{name}(#, \"{label}\", \"l\")"),
                    vec![self.vector(depth - 1)],
                )
            }
            11..13 => {
                let second = self.random.pick(&[
                    "",
                    ", {k8s_cluster_name=~\".+\"}",
                    ", {k8s_cluster_name=\"us-east\"}",
                    ", {missing=\"\"}",
                    ", {__name__=\"node_uname_info\"}",
                    ", {__name__=~\"target_info|node_uname_info\",nodename!=\"\"}",
                ]);
                Expression::of(Vector, &format!("info(#{second})"), vec![self.vector(depth - 1)])
            }
            _ => Expression::leaf(Vector, format!("{} # a comment\n", self.plain_selector())),
        }
    }

    fn scalar(&mut self, depth: usize) -> Expression {
        match self.random.below(if depth == 0 { 5 } else { 10 }) {
            5 => Expression::leaf(Scalar, self.random.pick(&["time()", "pi()"])),
            6 => Expression::of(Scalar, "scalar(#)", vec![self.vector(depth - 1)]),
            7 => {
                let operator = self.random.pick(&ARITHMETIC);
                let operands = vec![self.scalar(depth - 1), self.scalar(depth - 1)];
                Expression::of(Scalar, &format!("(# {operator} #)"), operands)
            }
            8 => {
                let operator = self.random.pick(&COMPARISONS);
                let operands = vec![self.scalar(depth - 1), self.scalar(depth - 1)];
                Expression::of(Scalar, &format!("(# {operator} bool #)"), operands)
            }
            9 => Expression::of(Scalar, "-#", vec![self.scalar(depth - 1)]),
            _ => Expression::leaf(Scalar, self.random.pick(&NUMBERS)),
        }
    }
}
