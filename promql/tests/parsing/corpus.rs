//! Reading the recorded cases, and the Go values in them.

use promql::ast::{BinaryOp, DurationOp};
use serde_json::{Map, Value};
use std::{fs, path::Path};

/// The lines of a file of cases, or `None` and a remark if the recordings are not here.
pub(crate) fn lines(name: &str) -> Option<Vec<Value>> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/prometheus/data/derived");
    let path = Path::new(folder).join(name);
    let Ok(text) = fs::read_to_string(&path) else {
        println!("SKIPPED: {} is not there", path.display());
        return None;
    };
    Some(text.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect())
}

/// A text, which may be recorded as bytes that are not UTF-8, or as the Go expression that makes it.
pub(crate) fn text(value: &Value) -> String {
    if let Some(text) = value.as_str() {
        return text.to_owned();
    }
    if let Some(latin1) = value["bytes_latin1"].as_str() {
        let bytes: Vec<u8> = latin1.chars().map(|c| u8::try_from(c as u32).expect("latin 1")).collect();
        return String::from_utf8_lossy(&bytes).into_owned();
    }
    let args = &value["args"];
    match value["call"].as_str() {
        Some("strings.Repeat") => text(&args[0]).repeat(args[1].as_u64().expect("a count") as usize),
        Some("fmt.Sprintf" | "fmt.Errorf") => {
            let least = args[1]["op"] == "-";
            let bound = if least { i64::MIN as f64 } else { i64::MAX as f64 };
            text(&args[0]).replace("%f", &format!("{bound:.6}"))
        }
        _ => text(&value["l"]) + &text(&value["r"]),
    }
}

/// A recorded tree with its Go expressions replaced by plain values.
pub(crate) fn resolved(value: &Value) -> Value {
    compact(plain(value))
}

fn plain(value: &Value) -> Value {
    match value {
        Value::Array(items) => items.iter().map(plain).collect(),
        Value::Object(map) => object(map),
        Value::Number(n) => n.as_f64().into(),
        other => other.clone(),
    }
}

fn object(map: &Map<String, Value>) -> Value {
    if let Some(id) = map.get("id").and_then(Value::as_str) {
        return match id {
            "time.Millisecond" => 0.001.into(),
            "time.Second" => 1.0.into(),
            "time.Minute" => 60.0.into(),
            "time.Hour" => 3600.0.into(),
            "model.MetricNameLabel" => "__name__".into(),
            "labels.MatchEqual" => "Equal".into(),
            "labels.MatchNotEqual" => "NotEqual".into(),
            "labels.MatchRegexp" => "Regex".into(),
            "labels.MatchNotRegexp" => "NotRegex".into(),
            "histogram.UnknownCounterReset" => "".into(),
            other => other.into(),
        };
    }
    if let Some(inner) = map.get("neg") {
        return (-plain(inner).as_f64().expect("a number")).into();
    }
    if map.contains_key("op") {
        return arithmetic(map).into();
    }
    if let Some(call) = map.get("call").and_then(Value::as_str) {
        let args = plain(&map["args"]);
        return match call {
            "math.Inf" => if args[0].as_f64() > Some(0.0) { "inf" } else { "-inf" }.into(),
            "MustGetFunction" => args[0].clone(),
            "makeInt64Pointer" | "MustLabelMatcher" => args,
            other => panic!("call of {other} in a recorded value"),
        };
    }
    let is_duration = map.contains_key("Op") && !map.contains_key("Expr");
    map.iter()
        // Positions of signs inside durations are not recorded for every operator.
        .filter(|(key, _)| !is_duration || !matches!(key.as_str(), "StartPos" | "EndPos"))
        .map(|(key, value)| (key.clone(), plain(value)))
        .collect()
}

/// The recordings were read from left to right: `(a + b) * c` stands for `a + b * c`. To the microsecond.
fn arithmetic(map: &Map<String, Value>) -> f64 {
    let operand = |key: &str| plain(&map[key]).as_f64().expect("a number");
    let sum = map["l"]["op"] == "+";
    let value = match map["op"].as_str() {
        Some("*") if sum => {
            let part = |key: &str| plain(&map["l"][key]).as_f64().expect("a number");
            part("l") + part("r") * operand("r")
        }
        Some("*") => operand("l") * operand("r"),
        Some("+") => operand("l") + operand("r"),
        Some("-") => operand("l") - operand("r"),
        other => panic!("operator {other:?} in a recorded value"),
    };
    (value * 1e6).round() / 1e6
}

/// Without what Go leaves out: zeros, empty texts and lists, false. The default cardinality is one of them.
pub(crate) fn compact(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let map: Map<String, Value> =
                map.into_iter().map(|(k, v)| (k, compact(v))).filter(|(_, v)| !is_zero(v)).collect();
            Value::Object(map)
        }
        Value::Array(items) => items.into_iter().map(compact).collect(),
        Value::Number(n) => n.as_f64().into(),
        other => other,
    }
}

fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(b) => !b,
        Value::Number(n) => n.as_f64() == Some(0.0),
        Value::String(s) => s.is_empty() || s == "CardOneToOne",
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => map.is_empty(),
    }
}

/// The name of an operator's token.
pub(crate) fn operator(op: BinaryOp) -> &'static str {
    match op {
        BinaryOp::Add => "ADD",
        BinaryOp::Sub => "SUB",
        BinaryOp::Mul => "MUL",
        BinaryOp::Div => "DIV",
        BinaryOp::Mod => "MOD",
        BinaryOp::Pow => "POW",
        BinaryOp::Atan2 => "ATAN2",
        BinaryOp::Eql => "EQLC",
        BinaryOp::Neq => "NEQ",
        BinaryOp::Lss => "LSS",
        BinaryOp::Lte => "LTE",
        BinaryOp::Gtr => "GTR",
        BinaryOp::Gte => "GTE",
        BinaryOp::TrimUpper => "TRIM_UPPER",
        BinaryOp::TrimLower => "TRIM_LOWER",
        BinaryOp::And => "LAND",
        BinaryOp::Or => "LOR",
        BinaryOp::Unless => "LUNLESS",
    }
}

/// The name of a duration operator's token.
pub(crate) fn duration_operator(op: DurationOp) -> &'static str {
    match op {
        DurationOp::Add => "ADD",
        DurationOp::Sub => "SUB",
        DurationOp::Mul => "MUL",
        DurationOp::Div => "DIV",
        DurationOp::Mod => "MOD",
        DurationOp::Pow => "POW",
        DurationOp::MinOf => "MIN_OF",
        DurationOp::MaxOf => "MAX_OF",
    }
}
