use super::*;
use serde_json::Value as Json;
use std::collections::BTreeMap;

/// Reads a body to its end or its first error.
fn read(body: &[u8], dialect: Dialect) -> Result<Vec<Json>, ParseError> {
    let mut body = body.to_vec();
    if dialect == Dialect::Prometheus {
        body.push(b'\n');
    }
    let mut parser = TextParser::new(&body, dialect);
    let mut found = Vec::new();
    while let Some(entry) = parser.next()? {
        found.push(show(&parser, entry));
    }
    Ok(found)
}

/// An entry in the words of the corpus.
fn show(parser: &TextParser<'_>, entry: Entry) -> Json {
    match entry {
        Entry::Kind(kind) => serde_json::json!({"m": parser.name(), "typ": kind.as_str()}),
        Entry::Help => serde_json::json!({"m": parser.name(), "help": parser.text()}),
        Entry::Unit => serde_json::json!({"m": parser.name(), "unit": parser.text()}),
        Entry::Comment => serde_json::json!({"comment": parser.text_raw()}),
        Entry::Sample { value, timestamp } => {
            let mut labels: BTreeMap<String, String> =
                parser.labels().map(|(n, v)| (n.into_owned(), v.into_owned())).collect();
            labels.insert("__name__".into(), parser.name().into_owned());
            let value = if value.is_nan() { "NaN".to_owned() } else { value.to_string() };
            let series = String::from_utf8_lossy(parser.series()).into_owned();
            serde_json::json!({"m": series, "v": value, "t": timestamp, "lset": labels})
        }
    }
}

/// An expected entry of the corpus in our words.
fn expected(line: &str) -> Json {
    let raw: Json = serde_json::from_str(line).expect("json");
    if let Some(kind) = raw.pointer("/typ/id").and_then(Json::as_str) {
        let kind = kind.trim_start_matches("model.MetricType").to_lowercase();
        return serde_json::json!({"m": raw["m"], "typ": kind});
    }
    let Some(plain) = raw.get("lset") else { return raw };
    // Some rows have the labels alone, some at the end of a list, others before the kind.
    let list = plain.get("args").and_then(Json::as_array);
    let labels = list
        .map_or(plain, |args| args.iter().rev().find(|arg| arg.get("__name__").is_some()).expect("labels"));
    let labels: BTreeMap<String, String> = labels
        .as_object()
        .expect("an object")
        .iter()
        .map(|(name, value)| (name.clone(), value.as_str().map_or("counter".to_owned(), str::to_owned)))
        .collect();
    let value = match &raw["v"] {
        Json::Number(number) => number.as_f64().expect("a float").to_string(),
        Json::Null => "0".to_owned(),
        _ => "NaN".to_owned(),
    };
    serde_json::json!({"m": raw["m"], "v": value, "t": raw.get("t"), "lset": labels})
}

fn check_good(name: &str, dialect: Dialect, skip: impl Fn(&Json) -> bool) {
    let Some(lines) = crate::corpus::read(&format!("derived/{name}_good_expected.jsonl")) else { return };
    let input = crate::corpus::read_bytes(&format!("derived/{name}_good_input.txt")).expect("its input");
    let found = read(&input, dialect).expect("a good body");
    let found: Vec<Json> = found.into_iter().filter(|entry| !skip(entry)).collect();
    let expected: Vec<Json> = lines.lines().map(expected).collect();
    for (found, expected) in found.iter().zip(&expected) {
        assert_eq!(found, expected);
    }
    println!("{} entries of {name} agree", found.len());
    assert_eq!(found.len(), expected.len());
}

fn check_errors(name: &str, dialect: Dialect) {
    let Some(lines) = crate::corpus::read(&format!("derived/{name}_parse_errors.jsonl")) else { return };
    let mut count = 0;
    for line in lines.lines() {
        let case: Json = serde_json::from_str(line).expect("json");
        let latin1 = case.pointer("/input/bytes_latin1").and_then(Json::as_str);
        let input: Vec<u8> = match latin1 {
            Some(text) => text.chars().map(|c| c as u8).collect(),
            None => case["input"].as_str().expect("text").as_bytes().to_vec(),
        };
        let found = read(&input, dialect).map_or_else(|error| error.message, |_| "EOF".to_owned());
        assert_eq!(found, case["err"].as_str().expect("text"), "{line}");
        count += 1;
    }
    println!("{count} errors of {name} read as Prometheus's");
}

#[test]
fn prometheus_text_is_read_as_prometheus_reads_it() {
    check_good("promtext", Dialect::Prometheus, |_| false);
}

#[test]
fn prometheus_text_is_refused_as_prometheus_refuses_it() {
    check_errors("promtext", Dialect::Prometheus);
}

#[test]
fn openmetrics_is_read_as_prometheus_reads_it() {
    // The corpus was made with start times taken out of the series.
    let created = |entry: &Json| {
        let name = entry.pointer("/lset/__name__").and_then(Json::as_str).unwrap_or("");
        name.ends_with("_created") && name != "fizz_created"
    };
    check_good("openmetrics", Dialect::OpenMetrics, created);
}

#[test]
fn openmetrics_is_refused_as_prometheus_refuses_it() {
    check_errors("openmetrics", Dialect::OpenMetrics);
}

#[test]
fn every_good_case_of_openmetrics_itself_is_read() {
    let Ok(dir) = std::fs::read_dir(crate::corpus::path("openmetrics/testdata/parsers")) else {
        println!("SKIPPED: the OpenMetrics corpus is not here");
        return;
    };
    let (mut good, mut bad, mut refused) = (0, 0, 0);
    for case in dir.map(|case| case.expect("a case").path()) {
        let about = std::fs::read_to_string(case.join("test.json")).expect("about");
        let about: Json = serde_json::from_str(&about).expect("json");
        let body = std::fs::read(case.join("metrics")).expect("a body");
        let result = read(&body, Dialect::OpenMetrics);
        if about["shouldParse"] == true {
            good += 1;
            assert!(result.is_ok(), "{case:?}: {result:?}");
        } else {
            bad += 1;
            refused += usize::from(result.is_err());
        }
    }
    println!(
        "OpenMetrics: {good} good cases read; {refused} of {bad} bad ones refused (Prometheus is lax, too)"
    );
    assert!(good > 40);
}

#[test]
fn an_error_names_the_line() {
    let error = read(b"a 1\n\n# TYPE b gauge\nb 1 x\n", Dialect::Prometheus).unwrap_err();
    assert_eq!(error.line, 4);
    assert!(error.to_string().starts_with("line 4: expected timestamp or new record, got \"x\""));
}

#[test]
fn names_in_quotes_may_be_any_utf8() {
    let found = read(b"{\"a.b\",\"c d\"=\"e\"} 1\n", Dialect::Prometheus).unwrap();
    assert_eq!(found[0]["lset"], serde_json::json!({"__name__": "a.b", "c d": "e"}));
}

#[test]
fn escapes_are_resolved_once() {
    let found = read(br#"a{b="\\n\n\"\x"} 1"#, Dialect::Prometheus).unwrap();
    assert_eq!(found[0]["lset"]["b"], "\\n\n\"\\x");
}

proptest::proptest! {
    #[test]
    fn no_bytes_break_a_parser(body in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200)) {
        let _ = read(&body, Dialect::Prometheus);
        let _ = read(&body, Dialect::OpenMetrics);
        let _ = super::super::ProtobufParser::new(&body, true, true).next();
    }

    #[test]
    fn no_text_breaks_a_parser(body in "[ab_{}=\",\\\\# \nTYPEHLOF0-9.+x\t-]{0,120}") {
        let _ = read(body.as_bytes(), Dialect::Prometheus);
        let _ = read(body.as_bytes(), Dialect::OpenMetrics);
    }
}
