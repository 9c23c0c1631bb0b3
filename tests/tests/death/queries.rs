//! Two hundred queries that nobody should ask, by what they would spend.

/// How a query is asked.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Grid {
    /// Now.
    Instant,
    /// 11,000 steps of a second, the most there may be.
    Finest,
    /// 11,000 steps of a day: thirty years.
    Widest,
}

/// What kills, the text, and how it is asked.
#[derive(Clone, Debug)]
pub(crate) struct Death {
    pub(crate) by: &'static str,
    pub(crate) text: String,
    pub(crate) grid: Grid,
}

/// Matches all series there are.
const ALL: &str = "{__name__=~\".+\"}";

/// All of them.
pub(crate) fn deaths() -> Vec<Death> {
    let mut all = Vec::new();
    let mut add = |by, grid, texts: Vec<String>| {
        all.extend(texts.into_iter().map(|text| Death { by, text, grid }));
    };
    for grid in [Grid::Instant, Grid::Widest, Grid::Finest] {
        add("range", grid, ranges());
    }
    add("join", Grid::Instant, joins());
    add("join", Grid::Finest, joins());
    add("subquery", Grid::Instant, subqueries());
    add("subquery", Grid::Finest, subqueries().into_iter().step_by(2).collect());
    add("everything", Grid::Instant, everything());
    add("everything", Grid::Finest, everything());
    add("regex", Grid::Instant, regexes());
    add("regex", Grid::Finest, regexes());
    add("labels", Grid::Instant, labels());
    add("labels", Grid::Finest, labels());
    add("nesting", Grid::Instant, nesting());
    add("nesting", Grid::Finest, nesting().into_iter().step_by(3).collect());
    all
}

/// Windows and offsets of years.
fn ranges() -> Vec<String> {
    [
        "rate(m[100y])",
        "quantile_over_time(0.99, m[100y])",
        "mad_over_time(m[100y])",
        "sum_over_time({__name__=~\".+\"}[290y])",
        "double_exponential_smoothing(m[100y], 0.5, 0.5)",
        "predict_linear(m[100y], 1e18)",
        "m offset 290y",
        "max_over_time(m[100y] offset -100y)",
        "stddev_over_time(m[10y] @ end())",
        "absent_over_time({i=~\".*\", __name__=\"m\"}[100y])",
        "histogram_quantile(0.9, rate(m[100y]))",
        "deriv(m[290y]) + changes(m[290y]) + resets(m[290y])",
    ]
    .map(str::to_owned)
    .into()
}

/// Everything with everything.
fn joins() -> Vec<String> {
    let chain = |op: &str, side: &str, times: usize| vec![side; times].join(op);
    let renamed = "label_replace(m, \"j\", \"$1\", \"i\", \"(.*)\")";
    let mut texts = vec![
        "m * on () m".to_owned(),
        "m * on () group_left () m".to_owned(),
        "m and on () m".to_owned(),
        "m unless on (k) n".to_owned(),
        "m or on (i) n or on (k) {i=~\".+\"}".to_owned(),
        format!("{renamed} * on (i) group_left (j) m"),
        format!("sum by (i, k) (m) * ignoring (k) group_right () {renamed}"),
        "m + on (i) fill (0) n".to_owned(),
        "topk by (i) (1e9, m) / ignoring (i) group_left () sum(m)".to_owned(),
    ];
    texts.extend([chain(" + ", "m", 100), chain(" or ", "m", 100), chain(" and ", ALL, 50)]);
    texts.push(chain(" == ", "(m > bool 0)", 60));
    texts
}

/// Steps within steps.
fn subqueries() -> Vec<String> {
    let nested = |depth: usize, inner: &str, window: &str| {
        (0..depth).fold(inner.to_owned(), |text, _| format!("max_over_time({text}[{window}])"))
    };
    let mut texts = vec![
        "max_over_time(m[100y:1ms])".to_owned(),
        "max_over_time(rate(m[5m])[1y:1s])".to_owned(),
        "sum_over_time(vector(time())[100y:1s])".to_owned(),
        "quantile_over_time(0.5, sum(m)[30d:1s])".to_owned(),
        "avg_over_time((m > 0 or n)[1d:1s])".to_owned(),
        "count_over_time(count_values by (i) (\"v\", m)[1h:1s])".to_owned(),
        "max_over_time(m[290y:1ms] @ end())".to_owned(),
        "m[10y:1s]".to_owned(),
    ];
    texts.extend((2..=8).map(|depth| nested(depth, "rate(m[1m])", "1h:1s")));
    texts.extend([
        nested(30, "m", "1d:1m"),
        nested(100, "vector(time())", "5m:1s"),
        nested(200, "m", "1m:1m"),
    ]);
    texts
}

/// All series, sorted, counted and copied.
fn everything() -> Vec<String> {
    let mut texts: Vec<String> = [
        "sort(ALL)",
        "sort_desc(ALL)",
        "sort_by_label(ALL, \"i\", \"k\", \"__name__\")",
        "sort_by_label_desc(ALL, \"i\")",
        "topk(1e15, ALL)",
        "bottomk by (i) (1e15, ALL)",
        "limitk(1e15, ALL)",
        "limit_ratio(1, ALL)",
        "quantile(0.5, ALL)",
        "count_values(\"v\", ALL)",
        "count_values without (__name__) (\"v\", ALL)",
        "group by (__name__, i, k) (ALL)",
        "stddev without (i) (ALL)",
        "sum without () (ALL)",
        "absent(ALL)",
        "timestamp(ALL)",
        "rate(ALL[1h])",
        "histogram_quantile(0.9, ALL)",
        "info(ALL)",
        "info(rate(m[5m]), ALL)",
        "-ALL",
        "sum(sum by (i) (sum by (i, k) (ALL)))",
        "ALL[1d]",
    ]
    .map(|text| text.replace("ALL", ALL))
    .into();
    texts.push(ALL.to_owned());
    texts
}

/// Expressions that kill engines that search back, or whose programs are huge.
fn regexes() -> Vec<String> {
    let long = "a".repeat(5_000);
    let alternatives = |count: usize| (0..count).map(|i| format!("v{i}.*x")).collect::<Vec<_>>().join("|");
    let mut texts: Vec<String> = [
        "(a+)+$",
        "(a|aa)+$",
        "(x+x+)+y",
        "(.*)*",
        "(.*a){20}",
        "(a{1,1000}){1,1000}",
        "((((a{10}){10}){10}){10}){10}",
        "(?i)(ab?c?d?e?)*f",
        ".*.*.*.*.*.*.*.*=.*",
        "[\\\\pL\\\\pN]{500}",
        "(((((((((((a?)?)?)?)?)?)?)?)?)?)?)*",
    ]
    .map(|regex| format!("m{{i=~\"{regex}\"}}"))
    .into();
    texts.push(format!("m{{i=~\"{}\"}}", alternatives(20_000)));
    texts.push(format!("m{{i=~\"({long}|{long}b)*\"}}"));
    texts.push(format!("m{{{}}}", vec!["i=~\".*1.*2.*\""; 1_000].join(",")));
    texts.push(format!("m{{{}}}", vec!["i!~\".*1.*2.*\""; 10_000].join(",")));
    texts.push("label_replace(m, \"x\", \"$1\", \"i\", \"(.*)*(.*)*(.*)*\")".to_owned());
    texts.push(format!("label_replace(m, \"x\", \"$1\", \"i\", \"{}\")", "(.?)".repeat(2_000)));
    texts
}

/// Label values that double with each call, and many of them.
fn labels() -> Vec<String> {
    let nested =
        |times: usize, call: &dyn Fn(String) -> String| (0..times).fold("m".to_owned(), |text, _| call(text));
    vec![
        nested(40, &|text| format!("label_join({text}, \"i\", \"\", \"i\", \"i\")")),
        nested(40, &|text| format!("label_replace({text}, \"i\", \"$1$1$1$1\", \"i\", \"(.*)\")")),
        nested(400, &|text| format!("label_replace({text}, \"i\", \"$1x\", \"i\", \"(.*)\")")),
        format!("label_replace(m, \"x\", \"{}\", \"i\", \".*\")", "$0".repeat(100_000)),
        format!("label_join(m, \"x\", \"{}\", {})", "-".repeat(10_000), vec!["\"i\""; 1_000].join(",")),
        format!("count_values(\"{}\", m)", "v".repeat(500_000)),
        format!("sum by ({}) (m)", (0..50_000).map(|i| format!("l{i}")).collect::<Vec<_>>().join(",")),
        format!("vector(1) == on ({}) vector(1)", vec!["i"; 100_000].join(",")),
    ]
}

/// Texts that are long or deep.
fn nesting() -> Vec<String> {
    let around = |open: &str, times: usize, inner: &str, close: &str| {
        format!("{}{inner}{}", open.repeat(times), close.repeat(times))
    };
    vec![
        around("(", 100_000, "1", ")"),
        around("(", 490, "m", ")"),
        around("sum(", 490, "m", ")"),
        around("sum by (i, k) (", 490, "m", ")"),
        around("abs(", 490, "m", ")"),
        around("abs(", 400_000, "", ""),
        around("-", 490, "m", ""),
        around("-", 1_000_000, "m", ""),
        around("1 + ", 490, "m", ""),
        around("m ^ ", 490, "m", ""),
        around("1 + ", 250_000, "1", ""),
        around("{", 100_000, "", "}"),
        around("sort(", 490, "m", ")"),
        around("topk(100000, ", 490, "m", ")"),
        around("scalar(vector(", 240, "1", "))"),
        around("vector(scalar(", 240, "m", "))"),
        "\"".repeat(500_000),
        "m[".repeat(100_000),
        "1".repeat(900_000),
        "m @ ".to_owned() + &"9".repeat(400),
    ]
}
