//! The same samples, the same questions: a real Prometheus and a cluster must give the same answers.
//!
//! Needs a `prometheus` (see [`peer`]); without one the tests say that they were skipped. `DIFFERENTIAL=20000` sets the
//! number of generated expressions, `DIFFERENTIAL_SEED=7` generates others, `DIFFERENTIAL_EXPR='rate(x[5m])'` compares
//! just that one and prints both answers.

mod answer;
mod bench;
mod expression;
mod grammar;
mod known;
mod peer;
mod random;
mod samples;

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
    if let Ok(text) = env::var("DIFFERENTIAL_EXPR") {
        let differences: Vec<_> = pair.times().into_iter().filter_map(|t| pair.compare(&text, t)).collect();
        assert!(
            differences.is_empty(),
            "{text}: {}",
            differences.iter().map(ToString::to_string).collect::<String>()
        );
        return;
    }
    let (count, seed) = (number("DIFFERENTIAL", COUNT), number("DIFFERENTIAL_SEED", 1));
    let deadline = Instant::now() + PATIENCE + PATIENCE_EACH * u32::try_from(count).unwrap_or(u32::MAX);
    let (mut differences, mut compared) = (Vec::new(), 0);
    for i in 0..count {
        if differences.len() >= DIFFERENCES_MAX || Instant::now() > deadline {
            break;
        }
        let mut random = Random::new(seed as u64, i as u64);
        let expression = grammar::expression(&mut random, pair.experimental);
        let times = pair.random_times(&mut random);
        if let Some(found) = pair.compare(&expression.to_string(), times) {
            let whole = expression.to_string();
            let (smallest, difference) = shrink(&pair, expression, times, found);
            differences
                .push(format!("seed {seed}, expression {i}: {whole}\nshrunk to: {smallest}\n{difference}"));
        }
        compared += 1;
    }
    eprintln!("differential: {compared} of {count} expressions compared, seed {seed}; {}", pair.summary());
    if compared < count && differences.is_empty() {
        skipped(&format!("{} generated expressions: the time was over", count - compared));
    }
    assert!(differences.is_empty(), "{} differences\n\n{}", differences.len(), differences.join("\n\n"));
    assert!(pair.filled() * 2 > compared, "most expressions find nothing: {}", pair.summary());
}

#[test]
fn the_benchmarks_queries_are_answered_as_prometheus_answers_them() {
    let _turn = my_turn();
    let Some(queries) = bench::queries() else { return };
    let Some(pair) = Pair::start() else { return };
    let began = Instant::now();
    let (mut differences, mut compared) = (Vec::new(), 0);
    for query in &queries {
        assert!(began.elapsed() < PATIENCE * 2, "{compared} of {} queries took too long", queries.len());
        for times in pair.times() {
            differences.extend(pair.compare(query, times).map(|found| format!("{query}\n{found}")));
        }
        compared += 1;
    }
    eprintln!("differential: {compared} queries of the benchmark compared; {}", pair.summary());
    assert!(differences.is_empty(), "{} differences\n\n{}", differences.len(), differences.join("\n\n"));
}
