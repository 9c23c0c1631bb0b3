//! Two answers side by side, as Prometheus's own tests compare: floats almost, the rest exactly.

use serde_json::Value;
use std::{collections::BTreeMap, fmt};
use tests::Answer;

/// Relative, as `promqltest` has it.
const EPSILON: f64 = 1e-6;
/// How much of an answer is shown.
const SHOWN_BYTES: usize = 600;

/// What differs, and both answers.
#[derive(Clone, Debug)]
pub(crate) struct Difference {
    pub(crate) asked: String,
    pub(crate) what: String,
    pub(crate) theirs: String,
    pub(crate) ours: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cut = |text: &str| text.chars().take(SHOWN_BYTES).collect::<String>();
        writeln!(f, "  {}: {}", self.asked, self.what)?;
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

/// `[time, "value"]`. Floats that are the same must be written the same.
fn same_point(theirs: &Value, ours: &Value) -> bool {
    let (Some(a), Some(b)) = (float(&theirs[1]), float(&ours[1])) else { return false };
    let same_text = a.to_bits() != b.to_bits() || theirs[1] == ours[1];
    theirs[0] == ours[0] && almost(a, b) && same_text
}

fn by_labels(result: &Value) -> Option<BTreeMap<String, &Value>> {
    let list = result.as_array()?;
    let found: BTreeMap<_, _> = list.iter().map(|series| (series["metric"].to_string(), series)).collect();
    (found.len() == list.len()).then_some(found)
}

/// What differs between two results of one type.
fn results(kind: &str, theirs: &Value, ours: &Value) -> Result<(), String> {
    if kind == "scalar" || kind == "string" {
        let same = theirs == ours || same_point(theirs, ours);
        return if same { Ok(()) } else { Err(format!("{kind}: {theirs} {ours}")) };
    }
    let (Some(theirs), Some(ours)) = (by_labels(theirs), by_labels(ours)) else {
        return Err("a series comes twice".to_owned());
    };
    if let Some(missing) = theirs.keys().find(|labels| !ours.contains_key(*labels)) {
        return Err(format!("{missing} is missing here"));
    }
    for (labels, ours) in ours {
        let Some(theirs) = theirs.get(&labels) else { return Err(format!("{labels} is only here")) };
        let points = |series: &Value| match kind {
            "vector" => vec![series["value"].clone()],
            _ => series["values"].as_array().cloned().unwrap_or_default(),
        };
        let (theirs, ours) = (points(theirs), points(ours));
        if theirs.len() != ours.len() {
            return Err(format!("{labels}: {} and {} points", theirs.len(), ours.len()));
        }
        if let Some((a, b)) = theirs.iter().zip(&ours).find(|(a, b)| !same_point(a, b)) {
            return Err(format!("{labels}: {a} and {b}"));
        }
    }
    Ok(())
}

/// What differs between two answers; errors are equal if they are of one type.
pub(crate) fn compare(asked: &str, theirs: &Answer, ours: &Answer) -> Option<Difference> {
    let (a, b) = (theirs.json(), ours.json());
    let what = if a["status"] != b["status"] {
        Err("one of them fails".to_owned())
    } else if a["status"] == "error" {
        if a["errorType"] == b["errorType"] { Ok(()) } else { Err("other errors".to_owned()) }
    } else if a["data"]["resultType"] != b["data"]["resultType"] {
        Err("other types".to_owned())
    } else {
        let kind = a["data"]["resultType"].as_str().unwrap_or_default();
        results(kind, &a["data"]["result"], &b["data"]["result"])
    };
    let (theirs, ours) = (theirs.body.clone(), ours.body.clone());
    what.err().map(|what| Difference { asked: asked.to_owned(), what, theirs, ours })
}

/// Whether there is anything in an answer.
pub(crate) fn is_filled(answer: &Answer) -> bool {
    !answer.json()["data"]["result"].as_array().is_none_or(Vec::is_empty)
}
