//! Two answers side by side, as Prometheus's own tests compare: floats almost, the rest exactly.

use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};
use tests::Answer;

/// Relative, as `promqltest` has it.
const EPSILON: f64 = 1e-6;
/// How much of an answer is shown.
const SHOWN_BYTES: usize = 600;

/// In what two answers differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// One of them is an error.
    Status,
    /// Kind or text of the error.
    Error,
    /// Series, points or values.
    Result,
    Order,
    Warnings,
    Infos,
}

/// What differs, and both answers.
#[derive(Clone, Debug)]
pub(crate) struct Difference {
    pub(crate) asked: String,
    pub(crate) part: Part,
    pub(crate) what: String,
    pub(crate) theirs: String,
    pub(crate) ours: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cut = |text: &str| text.chars().take(SHOWN_BYTES).collect::<String>();
        writeln!(f, "  {}: {:?}: {}", self.asked, self.part, self.what)?;
        writeln!(f, "  Prometheus: {}", cut(&self.theirs))?;
        write!(f, "  here:       {}", cut(&self.ours))
    }
}

/// `almost.Equal`: stale markers do not leave a server, so that every NaN is like any other.
pub(crate) fn almost(a: f64, b: f64) -> bool {
    if a.is_nan() || b.is_nan() {
        return a.is_nan() && b.is_nan();
    }
    if a == b {
        return true;
    }
    let (sum, difference) = (a.abs() + b.abs(), (a - b).abs());
    if a == 0.0 || b == 0.0 || sum < f64::MIN_POSITIVE {
        return difference < EPSILON * f64::MIN_POSITIVE;
    }
    difference / sum.min(f64::MAX) < EPSILON
}

fn float(text: &Value) -> Option<f64> {
    match text.as_str()? {
        "+Inf" => Some(f64::INFINITY),
        "-Inf" => Some(f64::NEG_INFINITY),
        text => text.parse().ok(),
    }
}

/// Floats that are the same must be written the same.
fn same_float(theirs: &Value, ours: &Value) -> bool {
    let (Some(a), Some(b)) = (float(theirs), float(ours)) else { return false };
    almost(a, b) && (a.to_bits() != b.to_bits() || theirs == ours)
}

/// What differs between two like `{"count": "1", "sum": "2", "buckets": [[0, "1", "2", "3"], ...]}`.
fn histograms(theirs: &Value, ours: &Value) -> Option<String> {
    for key in ["count", "sum"] {
        if !same_float(&theirs[key], &ours[key]) {
            return Some(format!("{key} {} and {}", theirs[key], ours[key]));
        }
    }
    let buckets = |h: &Value| h["buckets"].as_array().cloned().unwrap_or_default();
    let (a, b) = (buckets(theirs), buckets(ours));
    if a.len() != b.len() {
        return Some(format!("{} and {} buckets", a.len(), b.len()));
    }
    let same_bucket = |a: &Value, b: &Value| a[0] == b[0] && (1..4).all(|i| same_float(&a[i], &b[i]));
    a.iter().zip(&b).find(|(a, b)| !same_bucket(a, b)).map(|(a, b)| format!("bucket {a} and {b}"))
}

/// What differs between two like `[time, "value"]` or `[time, {histogram}]`.
fn point(theirs: &Value, ours: &Value) -> Option<String> {
    if theirs[0] != ours[0] {
        return Some(format!("times {} and {}", theirs[0], ours[0]));
    }
    let what = if theirs[1].is_object() && ours[1].is_object() {
        histograms(&theirs[1], &ours[1])
    } else {
        (!same_float(&theirs[1], &ours[1])).then(|| format!("{} and {}", theirs[1], ours[1]))
    };
    what.map(|what| format!("at {}: {what}", theirs[0]))
}

fn by_labels(result: &Value) -> Option<BTreeMap<String, &Value>> {
    let list = result.as_array()?;
    let found: BTreeMap<_, _> = list.iter().map(|series| (series["metric"].to_string(), series)).collect();
    (found.len() == list.len()).then_some(found)
}

/// What differs between the points of two series.
fn points(theirs: &Value, ours: &Value) -> Option<String> {
    for key in ["value", "histogram"] {
        let (a, b) = (&theirs[key], &ours[key]);
        if a.is_null() != b.is_null() {
            return Some(format!("{a} and {b}"));
        }
        if let Some(what) = point(a, b).filter(|_| !a.is_null()) {
            return Some(what);
        }
    }
    for key in ["values", "histograms"] {
        let list = |series: &Value| series[key].as_array().cloned().unwrap_or_default();
        let (a, b) = (list(theirs), list(ours));
        if a.len() != b.len() {
            return Some(format!("{} and {} {key}", a.len(), b.len()));
        }
        if let Some(what) = a.iter().zip(&b).find_map(|(a, b)| point(a, b)) {
            return Some(what);
        }
    }
    None
}

/// What differs between two results of one type.
fn results(kind: &str, theirs: &Value, ours: &Value) -> Result<(), String> {
    if kind == "scalar" || kind == "string" {
        let same = theirs == ours || kind == "scalar" && point(theirs, ours).is_none();
        return if same { Ok(()) } else { Err(format!("{kind}: {theirs} {ours}")) };
    }
    let (Some(theirs), Some(ours)) = (by_labels(theirs), by_labels(ours)) else {
        let same = theirs == ours;
        return if same { Ok(()) } else { Err("a series comes twice".to_owned()) };
    };
    if let Some(missing) = theirs.keys().find(|labels| !ours.contains_key(*labels)) {
        return Err(format!("{missing} is missing here"));
    }
    for (labels, ours) in ours {
        let Some(theirs) = theirs.get(&labels) else { return Err(format!("{labels} is only here")) };
        if let Some(what) = points(theirs, ours) {
            return Err(format!("{labels}: {what}"));
        }
    }
    Ok(())
}

fn order(result: &Value) -> Vec<String> {
    result.as_array().map_or_else(Vec::new, |list| list.iter().map(|s| s["metric"].to_string()).collect())
}

/// Prometheus shows ten of each, chosen at random, and then how many more there are.
fn notes(theirs: &Value, ours: &Value) -> Option<String> {
    let set = |v: &Value| {
        let list = v.as_array().cloned().unwrap_or_default();
        list.iter().map(|text| text.as_str().unwrap_or_default().to_owned()).collect::<BTreeSet<_>>()
    };
    let (theirs, ours) = (set(theirs), set(ours));
    let more = |notes: &BTreeSet<String>| notes.iter().find(|text| text.ends_with("omitted")).cloned();
    let same = if more(&theirs).is_some() { more(&theirs) == more(&ours) } else { theirs == ours };
    let only = |a: &BTreeSet<String>, b: &BTreeSet<String>| a.difference(b).cloned().collect::<Vec<_>>();
    (!same).then(|| format!("only theirs {:?}, only ours {:?}", only(&theirs, &ours), only(&ours, &theirs)))
}

/// What differs between two answers.
pub(crate) fn compare(asked: &str, theirs: &Answer, ours: &Answer) -> Vec<Difference> {
    let (a, b) = (theirs.json(), ours.json());
    let difference = |part, what: String| {
        let (theirs, ours) = (theirs.body.clone(), ours.body.clone());
        Difference { asked: asked.to_owned(), part, what, theirs, ours }
    };
    if a["status"] != b["status"] || theirs.status != ours.status {
        return vec![difference(Part::Status, format!("status {} and {}", theirs.status, ours.status))];
    }
    if a["status"] == "error" {
        let same = a["errorType"] == b["errorType"] && a["error"] == b["error"];
        return if same {
            Vec::new()
        } else {
            vec![difference(Part::Error, format!("{} and {}", a["error"], b["error"]))]
        };
    }
    let (theirs, ours) = (&a["data"], &b["data"]);
    let mut found = Vec::new();
    if theirs["resultType"] != ours["resultType"] {
        found.push(difference(Part::Result, "other types".to_owned()));
    } else {
        let kind = theirs["resultType"].as_str().unwrap_or_default();
        match results(kind, &theirs["result"], &ours["result"]) {
            Err(what) => found.push(difference(Part::Result, what)),
            Ok(()) if order(&theirs["result"]) != order(&ours["result"]) => {
                found.push(difference(Part::Order, "another order".to_owned()));
            }
            Ok(()) => {}
        }
    }
    for (key, part) in [("warnings", Part::Warnings), ("infos", Part::Infos)] {
        found.extend(notes(&a[key], &b[key]).map(|what| difference(part, what)));
    }
    found
}

/// What differs between two answers that hold no samples.
pub(crate) fn compare_texts(asked: &str, theirs: &Answer, ours: &Answer) -> Vec<Difference> {
    if theirs.status == ours.status && theirs.json() == ours.json() {
        return Vec::new();
    }
    let (theirs, ours) = (theirs.body.clone(), ours.body.clone());
    vec![Difference {
        asked: asked.to_owned(),
        part: Part::Result,
        what: "other texts".to_owned(),
        theirs,
        ours,
    }]
}

/// Whether there is anything in an answer.
pub(crate) fn is_filled(answer: &Answer) -> bool {
    !answer.json()["data"]["result"].as_array().is_none_or(Vec::is_empty)
}
