//! The same samples, the same questions: a real Prometheus and a cluster must give the same answers.
//!
//! Needs a `prometheus` (see [`peer`]); without one the tests say that they were skipped. `DIFFERENTIAL=20000` sets the
//! number of generated expressions, `DIFFERENTIAL_SEED=7` generates others, `DIFFERENTIAL_EXPR='rate(x[5m])'` compares
//! just that one, or each line of it, and prints both answers. `DIFFERENTIAL_FEATURES=promql-delayed-name-removal` enables more on both sides,
//! `DIFFERENTIAL_ONLY=17` compares just the expression of that number,
//! `DIFFERENTIAL_MAX=50` goes on until there are so many differences.

mod answer;
mod corpus;
mod disguise;
mod expression;
mod grammar;
mod histograms;
mod known;
mod peer;
mod random;
mod same;
mod samples;
mod words;

use answer::Difference;
use expression::Expression;
use peer::{Pair, Times};
use random::Random;
use std::{
    env,
    time::{Duration, Instant},
};
use tests::{my_turn, skipped};

/// Expressions in `scripts/test`.
const COUNT: usize = 300;
/// Differences after which there is no sense in going on.
const DIFFERENCES_MAX: usize = 10;
/// Every so many expressions are also printed and taken apart.
const TEXTS_EACH: usize = 4;
/// Attempts at making one failing expression smaller.
const SHRINKS_MAX: usize = 300;
/// Time for anything else than generated expressions, and for each of those: ten times what is usual.
const PATIENCE: Duration = Duration::from_secs(120);
const PATIENCE_EACH: Duration = Duration::from_millis(200);

fn number(variable: &str, default: usize) -> usize {
    env::var(variable).ok().map_or(default, |text| text.parse().expect("a number in the variable"))
}

/// The smallest expression that still differs.
fn shrink(pair: &Pair, expression: Expression, times: Times, found: Difference) -> (Expression, Difference) {
    let (mut smallest, mut difference) = (expression, found);
    let mut attempts = 0;
    'again: loop {
        for candidate in smallest.smaller() {
            attempts += 1;
            if attempts > SHRINKS_MAX {
                return (smallest, difference);
            }
            if let Some(found) = pair.compare(&candidate.to_string(), times) {
                (smallest, difference) = (candidate, found);
                continue 'again;
            }
        }
        return (smallest, difference);
    }
}

#[test]
fn generated_expressions_are_answered_as_prometheus_answers_them() {
    let _turn = my_turn();
    let Some(pair) = Pair::start() else { return };
    if let Ok(texts) = env::var("DIFFERENTIAL_EXPR") {
        let asked = texts.lines().flat_map(|text| pair.times().map(|times| (text, times)));
        let found = asked.filter_map(|(text, times)| Some(format!("{text}\n{}", pair.compare(text, times)?)));
        let differences: Vec<_> = found.collect();
        assert!(differences.is_empty(), "{} differences\n\n{}", differences.len(), differences.join("\n\n"));
        return;
    }
    let (count, seed) = (number("DIFFERENTIAL", COUNT), number("DIFFERENTIAL_SEED", 1));
    let deadline = Instant::now() + PATIENCE + PATIENCE_EACH * u32::try_from(count).unwrap_or(u32::MAX);
    let (mut differences, mut compared) = (Vec::new(), 0);
    let only = env::var("DIFFERENTIAL_ONLY")
        .ok()
        .map(|text| text.parse::<usize>().expect("a number in the variable"));
    for i in only.map_or(0..count, |only| only..only + 1) {
        if differences.len() >= number("DIFFERENTIAL_MAX", DIFFERENCES_MAX) || Instant::now() > deadline {
            break;
        }
        let mut random = Random::new(seed as u64, i as u64);
        let expression = grammar::expression(&mut random, pair.start);
        let times = pair.random_times(&mut random);
        if i % TEXTS_EACH == 0 {
            let whole = expression.to_string();
            differences.extend(
                pair.compare_texts(&whole)
                    .map(|found| format!("seed {seed}, expression {i}: {whole}\n{found}")),
            );
        }
        if let Some(found) = pair.compare(&expression.to_string(), times) {
            let whole = expression.to_string();
            let (smallest, difference) = shrink(&pair, expression, times, found);
            differences
                .push(format!("seed {seed}, expression {i}: {whole}\nshrunk to: {smallest}\n{difference}"));
        }
        compared += 1;
    }
    eprintln!("differential: {compared} of {count} expressions compared, seed {seed}; {}", pair.summary());
    if compared < count && only.is_none() && differences.is_empty() {
        skipped(&format!("{} generated expressions: the time was over", count - compared));
    }
    assert!(differences.is_empty(), "{} differences\n\n{}", differences.len(), differences.join("\n\n"));
    assert!(
        only.is_some() || pair.filled() * 2 > compared,
        "most expressions find nothing: {}",
        pair.summary()
    );
}

#[test]
fn expressions_of_others_are_answered_as_prometheus_answers_them() {
    let _turn = my_turn();
    let sources: [(&str, Option<Vec<String>>); 4] = [
        ("benchmarks", corpus::benchmarks()),
        ("rules and dashboards", corpus::rules()),
        ("parser cases", corpus::parser_cases()),
        ("test scripts", corpus::scripts()),
    ];
    let Some(pair) = Pair::start() else { return };
    let began = Instant::now();
    let mut differences = Vec::new();
    for (name, queries) in &sources {
        let queries = queries.iter().flatten();
        let mut compared = 0;
        for query in queries {
            assert!(began.elapsed() < PATIENCE * 4, "{compared} of {name} took too long");
            for times in pair.times() {
                differences.extend(pair.compare(query, times).map(|found| format!("{query}\n{found}")));
            }
            differences.extend(pair.compare_texts(query).map(|found| format!("{query}\n{found}")));
            compared += 1;
        }
        eprintln!("differential: {compared} expressions of {name} compared");
    }
    eprintln!("differential: {}", pair.summary());
    assert!(differences.is_empty(), "{} differences\n\n{}", differences.len(), differences.join("\n\n"));
}
