//! Running scripts.

use crate::judge;
use crate::script::{Command, Eval, When, parse};
use crate::store::Store;
use model::{Budget, Clock, TimestampMs};
use promql::ast::{AtModifier, Expr};
use promql::{Answer, Engine, EngineOptions, EvalError, Features, ParserOptions, QueryOptions, Value};
use std::{path::Path, sync::Arc, time::Duration};

/// What came of evaluations.
#[derive(Default)]
pub(crate) struct Counts {
    pub(crate) evals: usize,
    pub(crate) passed: usize,
    pub(crate) failed: usize,
}

impl Counts {
    pub(crate) fn add(&mut self, other: &Counts) {
        self.evals += other.evals;
        self.passed += other.passed;
        self.failed += other.failed;
    }
}

/// A clock that stands still: scripts have no deadline.
#[derive(Debug)]
struct Still;

impl Clock for Still {
    fn now(&self) -> TimestampMs {
        TimestampMs(0)
    }
    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }
}

fn budget() -> Budget {
    Budget::new(Arc::new(Still), Duration::from_secs(100), 1 << 30)
}

fn engine() -> Engine {
    Engine::new(EngineOptions {
        samples_max: 10_000,
        features: Features {
            delayed_name_removal: true,
            type_and_unit_labels: false,
            use_start_timestamps: true,
        },
        parser: ParserOptions::all_features(),
        annotations_max: 0,
        ..EngineOptions::default()
    })
}

/// Runs a script, printing what fails.
pub(crate) fn run_file(path: &Path) -> Counts {
    let mut counts = Counts::default();
    let name = path.display();
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => {
            println!("{name}: {error}");
            counts.failed += 1;
            return counts;
        }
    };
    let commands = match parse(&text) {
        Ok(commands) => commands,
        Err(error) => {
            println!("{name}: {error}");
            counts.failed += 1;
            return counts;
        }
    };
    let mut store = Store::default();
    let engine = engine();
    for command in commands {
        match command {
            Command::Clear => store = Store::default(),
            Command::Load(load) => {
                if let Err(error) = store.load(&load) {
                    println!("{name}: load: {error}");
                    counts.failed += 1;
                }
            }
            Command::Eval(eval) => {
                counts.evals += 1;
                match run_eval(&engine, &store, &eval) {
                    Ok(()) => counts.passed += 1,
                    Err(error) => {
                        counts.failed += 1;
                        println!("{name}:{}: {}\n    {error}", eval.line, eval.text);
                    }
                }
            }
        }
    }
    counts
}

fn failed(eval: &Eval, error: &EvalError) -> Result<(), String> {
    let text = error.to_string();
    match &eval.fail {
        Some(expected) if expected.matches(&text) => Ok(()),
        Some(expected) => Err(format!("expected failure {expected:?}, got {text:?}")),
        None => Err(format!("failed: {text}")),
    }
}

fn run_eval(engine: &Engine, store: &Store, eval: &Eval) -> Result<(), String> {
    match eval.when {
        When::Range { start, end, step } => {
            let result =
                engine.range(store, &eval.text, start, end, step, &budget(), QueryOptions::default());
            let answer = match result {
                Ok(answer) if eval.fail.is_none() => answer,
                Ok(_) => return Err("expected a failure, got an answer".to_owned()),
                Err(error) => return failed(eval, &error),
            };
            judge::annotations(eval, &answer)?;
            judge::value(eval, &answer.value)
        }
        When::Instant(time) => {
            let expr = engine.parse(&eval.text);
            run_instant(engine, store, eval, &eval.text, time)?;
            let Ok(mut expr) = expr else { return Ok(()) };
            if depends_on_time(&expr) {
                return Ok(());
            }
            pin(&mut expr, time);
            let text = expr.to_string();
            let times =
                if time == 0 { vec![-1000, 0, 1000] } else { vec![-10 * time, 0, time / 5, time, 10 * time] };
            for at in times {
                run_instant(engine, store, eval, &text, at)
                    .map_err(|error| format!("as {text} at {at}: {error}"))?;
            }
            Ok(())
        }
    }
}

fn run_instant(engine: &Engine, store: &Store, eval: &Eval, text: &str, time: i64) -> Result<(), String> {
    let answer: Answer = match engine.instant(store, text, time, &budget(), QueryOptions::default()) {
        Ok(answer) if eval.fail.is_none() => answer,
        Ok(_) => return Err("expected a failure, got an answer".to_owned()),
        Err(error) => return failed(eval, &error),
    };
    judge::annotations(eval, &answer)?;
    judge::value(eval, &answer.value)?;
    let of_query = regex::Regex::new(r"(start|end|range|step)\(\)").expect("the pattern is a literal");
    if eval.range_vector.is_some() || eval.string.is_some() || of_query.is_match(text) {
        return Ok(());
    }
    let minute = 60_000;
    let result =
        engine.range(store, text, time - minute, time + minute, minute, &budget(), QueryOptions::default());
    let range = result.map_err(|error| format!("in range mode: failed: {error}"))?;
    if eval.ordered {
        return Ok(());
    }
    let Value::Matrix(series) = &range.value else { return Err("in range mode: no matrix".to_owned()) };
    let scalar = matches!(answer.value, Value::Scalar(_));
    judge::value_at(eval, series, time, scalar).map_err(|error| format!("in range mode: {error}"))
}

/// Whether pinning the selectors would not make the expression independent of time.
fn depends_on_time(expr: &Expr) -> bool {
    const UNSAFE: [&str; 15] = [
        "days_in_month",
        "day_of_month",
        "day_of_week",
        "day_of_year",
        "end",
        "hour",
        "minute",
        "month",
        "predict_linear",
        "range",
        "start",
        "step",
        "time",
        "timestamp",
        "year",
    ];
    match expr {
        Expr::Number(_) | Expr::String(_) | Expr::Vector(_) | Expr::Matrix(_) => false,
        Expr::Paren(e) => depends_on_time(&e.expr),
        Expr::Unary(e) => depends_on_time(&e.expr),
        Expr::Binary(e) => depends_on_time(&e.lhs) || depends_on_time(&e.rhs),
        Expr::Aggregate(e) => depends_on_time(&e.expr) || e.param.as_ref().is_some_and(depends_on_time),
        Expr::Call(e) => UNSAFE.contains(&e.func.name) || e.args.iter().any(depends_on_time),
        Expr::Subquery(e) => depends_on_time(&e.expr),
        Expr::StepInvariant(e) => depends_on_time(e),
    }
}

/// `start()` and `end()` are no times of their own here.
fn fix(at: &mut Option<AtModifier>, time: i64) {
    if !matches!(at, Some(AtModifier::Time(_))) {
        *at = Some(AtModifier::Time(time));
    }
}

/// Gives every selector and subquery without `@` the time of evaluation.
fn pin(expr: &mut Expr, time: i64) {
    match expr {
        Expr::Number(_) | Expr::String(_) => {}
        Expr::Vector(e) => fix(&mut e.at, time),
        Expr::Matrix(e) => fix(&mut e.selector.at, time),
        Expr::Paren(e) => pin(&mut e.expr, time),
        Expr::Unary(e) => pin(&mut e.expr, time),
        Expr::Binary(e) => {
            pin(&mut e.lhs, time);
            pin(&mut e.rhs, time);
        }
        Expr::Aggregate(e) => {
            pin(&mut e.expr, time);
            if let Some(param) = &mut e.param {
                pin(param, time);
            }
        }
        Expr::Call(e) => e.args.iter_mut().for_each(|arg| pin(arg, time)),
        Expr::Subquery(e) => fix(&mut e.at, time),
        Expr::StepInvariant(e) => pin(e, time),
    }
}
