//! Every case of Prometheus's own parser tests: the tree with its positions, or the errors with theirs.

use crate::corpus::{self, lines, resolved};
use promql::{
    ParserOptions,
    ast::{AtModifier, DurationArg, DurationExpr, Expr, PosRange, RangeMode, UnaryOp, VectorSelector},
    parse,
};
use serde_json::{Map, Value, json};

#[test]
fn every_expression_of_the_corpus_parses_or_fails_as_in_prometheus() {
    let Some(cases) = lines("promql_parse_cases.jsonl") else { return };
    let wrong: Vec<String> = cases.iter().filter_map(|case| check(case).err()).collect();
    println!("{} of {} expressions as in prometheus", cases.len() - wrong.len(), cases.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(cases.len(), 356);
}

fn check(case: &Value) -> Result<(), String> {
    let input = corpus::text(&case["input"]);
    let result = parse(&input, &ParserOptions::all_features());
    match (case["fail"] == true, result) {
        (false, Ok(Expr::String(literal))) if case["ast"]["Val"].is_object() => {
            // A Go string that is not UTF-8.
            let expected = case["ast"]["Val"]["bytes_latin1"].as_str().unwrap_or("");
            let expected: Vec<u8> = expected.chars().map(|c| c as u32 as u8).collect();
            same(&input, &json!(expected), &json!(promql::go::bytes(&literal.value)))
        }
        (false, Ok(expr)) => same(&input, &resolved(&case["ast"]), &compact(tree(&expr))),
        (true, Err(errors)) => match &case["errors"][0] {
            // Any error will do.
            expected if expected["err"].is_null() => Ok(()),
            expected => {
                let first = &errors.0[0];
                same(&input, &corpus::text(&expected["err"]).into(), &first.message.clone().into())?;
                // Where the text had to be changed to be UTF-8, its length is another.
                let known = case["input"].is_string() && !expected["pos"].is_null();
                let got = compact(pos(first.pos));
                if known { same(&input, &compact(expected["pos"].clone()), &got) } else { Ok(()) }
            }
        },
        (false, Err(errors)) => Err(format!("{input}: must parse: {errors}")),
        (true, Ok(_)) => Err(format!("{input}: must fail: {}", case["errors"])),
    }
}

fn same(input: &str, expected: &Value, got: &Value) -> Result<(), String> {
    if expected == got { Ok(()) } else { Err(format!("{input}:\n  expected {expected}\n  got      {got}")) }
}

/// Without what Go leaves out: zeros, empty texts and lists, false.
fn compact(value: Value) -> Value {
    corpus::compact(value)
}

fn pos(p: PosRange) -> Value {
    json!({ "Start": p.start, "End": p.end })
}

fn tree(expr: &Expr) -> Value {
    match expr {
        Expr::Number(e) => number(e),
        Expr::String(e) => json!({ "Val": e.value, "PosRange": pos(e.pos) }),
        Expr::Paren(e) => json!({ "Expr": tree(&e.expr), "PosRange": pos(e.pos) }),
        Expr::Unary(e) => {
            let op = if e.op == UnaryOp::Plus { "ADD" } else { "SUB" };
            json!({ "Op": op, "Expr": tree(&e.expr), "StartPos": e.pos.start })
        }
        Expr::Binary(e) => {
            let matching = e.matching.as_ref().map(|m| {
                json!({
                    "Card": format!("Card{:?}", m.card), "MatchingLabels": m.labels, "On": m.on,
                    "Include": m.include,
                })
            });
            json!({
                "Op": corpus::operator(e.op), "LHS": tree(&e.lhs), "RHS": tree(&e.rhs),
                "VectorMatching": matching, "ReturnBool": e.return_bool,
            })
        }
        Expr::Aggregate(e) => json!({
            "Op": e.op.as_str().to_uppercase(), "Expr": tree(&e.expr), "Param": e.param.as_ref().map(tree),
            "Grouping": e.grouping, "Without": e.without, "PosRange": pos(e.pos),
        }),
        Expr::Call(e) => json!({
            "Func": e.func.name, "Args": e.args.iter().map(tree).collect::<Vec<_>>(), "PosRange": pos(e.pos),
        }),
        Expr::Vector(e) => selector(e),
        Expr::Matrix(e) => {
            let mut map = json!({ "VectorSelector": selector(&e.selector), "EndPos": e.pos.end });
            put(&mut map, "Range", &e.range);
            map
        }
        Expr::Subquery(e) => {
            let mut map = json!({ "Expr": tree(&e.expr), "EndPos": e.pos.end });
            put(&mut map, "Range", &e.range);
            put(&mut map, "Step", &e.step);
            put(&mut map, "OriginalOffset", &e.offset);
            put_at(&mut map, e.at);
            map
        }
        Expr::StepInvariant(e) => tree(e),
    }
}

fn number(n: &promql::ast::NumberLiteral) -> Value {
    let value = if n.value.is_finite() { json!(n.value) } else { json!(n.value.to_string()) };
    json!({ "Val": value, "Duration": n.is_duration, "PosRange": pos(n.pos) })
}

fn selector(e: &VectorSelector) -> Value {
    let matchers: Vec<Value> =
        e.matchers.iter().map(|m| json!([format!("{:?}", m.op), m.name, m.value])).collect();
    let mut map = json!({
        "Name": e.name, "LabelMatchers": matchers, "PosRange": pos(e.pos),
        "BypassEmptyMatcherCheck": e.bypass_empty_matcher_check,
        "Anchored": e.mode == RangeMode::Anchored, "Smoothed": e.mode == RangeMode::Smoothed,
    });
    put(&mut map, "OriginalOffset", &e.offset);
    put_at(&mut map, e.at);
    map
}

fn put(map: &mut Value, name: &str, arg: &DurationArg) {
    map[name] = json!(arg.ms as f64 / 1000.0);
    if let Some(expr) = &arg.expr {
        map[format!("{name}Expr")] = duration(expr);
    }
}

fn put_at(map: &mut Value, at: Option<AtModifier>) {
    match at {
        Some(AtModifier::Time(ms)) => map["Timestamp"] = json!([ms as f64]),
        Some(AtModifier::Start) => map["StartOrEnd"] = json!("START"),
        Some(AtModifier::End) => map["StartOrEnd"] = json!("END"),
        None => {}
    }
}

fn duration(expr: &DurationExpr) -> Value {
    let (op, lhs, rhs, wrapped) = match expr {
        DurationExpr::Number(n) => return number(n),
        DurationExpr::Step { wrapped, .. } => ("STEP", None, None, wrapped),
        DurationExpr::Range { wrapped, .. } => ("RANGE", None, None, wrapped),
        DurationExpr::Unary { minus, expr, wrapped, .. } => {
            (if *minus { "SUB" } else { "ADD" }, None, Some(duration(expr)), wrapped)
        }
        DurationExpr::Binary { op, lhs, rhs, wrapped, .. } => {
            (corpus::duration_operator(*op), Some(duration(lhs)), Some(duration(rhs)), wrapped)
        }
    };
    let mut map = Map::new();
    map.insert("Op".into(), op.into());
    map.insert("LHS".into(), lhs.into());
    map.insert("RHS".into(), rhs.into());
    map.insert("Wrapped".into(), (*wrapped).into());
    Value::Object(map)
}
