//! What a query asks of storage: which matchers, which range, and how often.
#![allow(clippy::unwrap_used, reason = "tests")]

use model::{
    Budget, Clock, LabelQuery, Labels, QueryError, Queryable, Samples, SelectRequest, Series, SeriesSet,
    TimestampMs,
};
use promql::{Engine, EngineOptions, QueryOptions};
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

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

/// Two series of whatever is asked for, and a list of what was.
#[derive(Default)]
struct Recorder(Mutex<Vec<String>>);

impl Queryable for Recorder {
    fn select<'a>(
        &'a self,
        request: &SelectRequest,
        _budget: &'a Budget,
    ) -> Result<SeriesSet<'a>, QueryError> {
        let mut matchers: Vec<String> =
            request.matchers.iter().map(|m| format!("{}{}{}", m.name, m.op, m.value)).collect();
        matchers.sort();
        let text =
            format!("{} ({}, {}]", matchers.join(","), (request.start.0 - 1) / 1000, request.end.0 / 1000);
        self.0.lock().unwrap().push(text);
        let name = request.matchers.iter().find(|m| m.name == "__name__").map_or("a", |m| &m.value);
        let series = ["1", "2"].map(|number| Series {
            labels: Labels::from_pairs([("__name__", name), ("n", number)]),
            samples: Samples {
                timestamps: (0..=3600).step_by(15).map(|s| s * 1000).collect(),
                floats: (0..=240).map(f64::from).collect(),
                ..Samples::default()
            },
        });
        Ok(Box::new(series.into_iter().map(Ok)))
    }

    fn label_names(&self, _query: &LabelQuery, _budget: &Budget) -> Result<Vec<String>, QueryError> {
        Ok(Vec::new())
    }

    fn label_values(
        &self,
        _name: &str,
        _query: &LabelQuery,
        _budget: &Budget,
    ) -> Result<Vec<String>, QueryError> {
        Ok(Vec::new())
    }
}

/// Checks what an hour in minutes asks for.
#[track_caller]
fn check(query: &str, expected: &[&str]) {
    let recorder = Recorder::default();
    let budget = Budget::new(Arc::new(Still), Duration::from_secs(60), 1 << 30);
    let engine = Engine::new(EngineOptions::default());
    engine.range(&recorder, query, 0, 3_600_000, 60_000, &budget, QueryOptions::default()).unwrap();
    assert_eq!(*recorder.0.lock().unwrap(), expected, "{query}");
}

#[test]
fn matchers_offsets_and_fixed_times_reach_storage() {
    check("a", &["__name__=a (-300, 3600]"]);
    check("a{n=~\"1|2\",x!=\"y\"} offset 1h", &["__name__=a,n=~1|2,x!=y (-3900, 0]"]);
    check("rate(a[5m] offset 10m)", &["__name__=a (-900, 3000]"]);
    check("sum(rate(a[5m] @ 1800))", &["__name__=a (1500, 1800]"]);
}

#[test]
fn what_does_not_depend_on_the_step_is_asked_for_once() {
    check("a - max(a @ end())", &["__name__=a (-300, 3600]", "__name__=a (3300, 3600]"]);
    check("max_over_time(rate(a[5m])[30m:1m])", &["__name__=a (-2040, 3600]"]);
    check("max_over_time(sum(a @ 600)[30m:1m])", &["__name__=a (300, 600]"]);
    check("a * 2 + 1 > bool 3", &["__name__=a (-300, 3600]"]);
}
