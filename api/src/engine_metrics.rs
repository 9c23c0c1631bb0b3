//! What dashboards for Prometheus know about its engine, under Prometheus's names: how many queries there are, where
//! their time goes, and what they read.

use crate::state::Counters;
use std::{
    collections::VecDeque,
    fmt::Write,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// A part of the time that a query takes, the label `slice`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Slice {
    InnerEval,
    PrepareTime,
    QueueTime,
    ResultSort,
}

const SLICES: [(Slice, &str); 4] = [
    (Slice::InnerEval, "inner_eval"),
    (Slice::PrepareTime, "prepare_time"),
    (Slice::QueueTime, "queue_time"),
    (Slice::ResultSort, "result_sort"),
];

/// Upper bounds of the histogram, seconds, as Prometheus has them.
const BOUNDS: [f64; 4] = [0.01, 0.1, 1.0, 10.0];
/// The quantiles of the summary.
const QUANTILES: [f64; 3] = [0.5, 0.9, 0.99];
/// How long a time counts for the quantiles.
const WINDOW: Duration = Duration::from_secs(600);
/// Times that are kept for them; with more in the window the oldest go.
const TIMES_MAX: usize = 4096;

/// The times of one slice.
#[derive(Debug, Default)]
struct Times {
    newest: VecDeque<(Duration, f64)>,
    /// Not cumulative; the last one has no bound.
    buckets: [u64; BOUNDS.len() + 1],
    count: u64,
    sum: f64,
}

impl Times {
    fn observe(&mut self, now: Duration, seconds: f64) {
        if self.newest.len() == TIMES_MAX {
            self.newest.pop_front();
        }
        self.newest.push_back((now, seconds));
        self.buckets[BOUNDS.iter().take_while(|bound| seconds > **bound).count()] += 1;
        self.count += 1;
        self.sum += seconds;
    }

    /// The quantiles of the window; NaN if it is empty.
    fn quantiles(&self, now: Duration) -> [f64; QUANTILES.len()] {
        let recent = self.newest.iter().filter(|(at, _)| now.saturating_sub(*at) <= WINDOW);
        let mut times: Vec<f64> = recent.map(|(_, seconds)| *seconds).collect();
        times.sort_by(f64::total_cmp);
        QUANTILES.map(|quantile| {
            let rank = (quantile * times.len() as f64).ceil() as usize;
            times.get(rank.saturating_sub(1)).copied().unwrap_or(f64::NAN)
        })
    }
}

/// Figures of the engine.
#[derive(Debug, Default)]
pub struct EngineMetrics {
    /// Queries that are evaluated or wait for a place.
    queries: AtomicU64,
    /// 1 if queries are logged.
    log_enabled: AtomicU64,
    /// Lines that could not be written, and files that could not be opened.
    log_failures: AtomicU64,
    samples: AtomicU64,
    /// In the order of [`SLICES`].
    times: [Mutex<Times>; SLICES.len()],
    /// Places for queries.
    concurrent_max: AtomicU64,
}

impl EngineMetrics {
    pub(crate) fn set_concurrent_max(&self, places: usize) {
        self.concurrent_max.store(places as u64, Ordering::Relaxed);
    }

    pub(crate) fn set_log_enabled(&self, enabled: bool) {
        self.log_enabled.store(u64::from(enabled), Ordering::Relaxed);
    }

    pub(crate) fn log_failed(&self) {
        Counters::add(&self.log_failures, 1);
    }

    pub(crate) fn samples(&self, samples: u64) {
        Counters::add(&self.samples, samples);
    }

    pub(crate) fn enter(&self) {
        Counters::add(&self.queries, 1);
    }

    pub(crate) fn leave(&self) {
        self.queries.fetch_sub(1, Ordering::Relaxed);
    }

    pub(crate) fn observe(&self, slice: Slice, now: Duration, took: Duration) {
        let times = &self.times[slice as usize];
        times.lock().unwrap_or_else(PoisonError::into_inner).observe(now, took.as_secs_f64());
    }

    /// Appends the families in the text format; `now` is the monotonic clock's.
    pub fn render(&self, out: &mut String, now: Duration) {
        self.render_into(out, now).expect("a string takes all text");
    }

    fn render_into(&self, out: &mut String, now: Duration) -> std::fmt::Result {
        let load = |number: &AtomicU64| number.load(Ordering::Relaxed);
        let plain = [
            ("queries", "gauge", "Queries that are evaluated or wait for a place.", &self.queries),
            (
                "queries_concurrent_max",
                "gauge",
                "Queries evaluated at once at the most.",
                &self.concurrent_max,
            ),
            ("query_log_enabled", "gauge", "Whether queries are logged.", &self.log_enabled),
            (
                "query_log_failures_total",
                "counter",
                "Lines of the query log that could not be written.",
                &self.log_failures,
            ),
            (
                "query_samples_total",
                "counter",
                "Samples that the steps of all queries looked at.",
                &self.samples,
            ),
        ];
        for (name, kind, help, number) in plain {
            writeln!(out, "# HELP prometheus_engine_{name} {help}\n# TYPE prometheus_engine_{name} {kind}")?;
            writeln!(out, "prometheus_engine_{name} {}", load(number))?;
        }
        self.render_summary(out, now)?;
        self.render_histogram(out)
    }

    fn render_summary(&self, out: &mut String, now: Duration) -> std::fmt::Result {
        let name = "prometheus_engine_query_duration_seconds";
        writeln!(out, "# HELP {name} Times of the parts of a query.\n# TYPE {name} summary")?;
        for (slice, label) in SLICES {
            let times = self.times[slice as usize].lock().unwrap_or_else(PoisonError::into_inner);
            for (quantile, seconds) in QUANTILES.iter().zip(times.quantiles(now)) {
                writeln!(out, "{name}{{slice=\"{label}\",quantile=\"{quantile}\"}} {seconds}")?;
            }
            writeln!(out, "{name}_sum{{slice=\"{label}\"}} {}", times.sum)?;
            writeln!(out, "{name}_count{{slice=\"{label}\"}} {}", times.count)?;
        }
        Ok(())
    }

    fn render_histogram(&self, out: &mut String) -> std::fmt::Result {
        let name = "prometheus_engine_query_duration_histogram_seconds";
        writeln!(out, "# HELP {name} Times of the parts of a query.\n# TYPE {name} histogram")?;
        for (slice, label) in SLICES {
            let times = self.times[slice as usize].lock().unwrap_or_else(PoisonError::into_inner);
            let mut below = 0;
            for (bound, count) in BOUNDS.iter().zip(times.buckets) {
                below += count;
                writeln!(out, "{name}_bucket{{slice=\"{label}\",le=\"{bound}\"}} {below}")?;
            }
            writeln!(out, "{name}_bucket{{slice=\"{label}\",le=\"+Inf\"}} {}", times.count)?;
            writeln!(out, "{name}_sum{{slice=\"{label}\"}} {}", times.sum)?;
            writeln!(out, "{name}_count{{slice=\"{label}\"}} {}", times.count)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(metrics: &EngineMetrics, now: u64) -> String {
        let mut out = String::new();
        metrics.render(&mut out, Duration::from_secs(now));
        out
    }

    fn has(text: &str, line: &str) {
        assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
    }

    #[test]
    fn times_are_a_summary_and_a_histogram() {
        let metrics = EngineMetrics::default();
        let observe = |ms| metrics.observe(Slice::InnerEval, Duration::ZERO, Duration::from_millis(ms));
        (1..=100).for_each(observe);
        let text = rendered(&metrics, 1);
        has(&text, "prometheus_engine_query_duration_seconds{slice=\"inner_eval\",quantile=\"0.5\"} 0.05");
        has(&text, "prometheus_engine_query_duration_seconds{slice=\"inner_eval\",quantile=\"0.99\"} 0.099");
        has(&text, "prometheus_engine_query_duration_seconds_count{slice=\"inner_eval\"} 100");
        let bucket = "prometheus_engine_query_duration_histogram_seconds_bucket{slice=\"inner_eval\",le=";
        has(&text, &format!("{bucket}\"0.01\"}} 10"));
        has(&text, &format!("{bucket}\"0.1\"}} 100"));
        has(&text, &format!("{bucket}\"+Inf\"}} 100"));
        has(&text, "prometheus_engine_query_duration_seconds{slice=\"queue_time\",quantile=\"0.5\"} NaN");
    }

    #[test]
    fn quantiles_are_those_of_ten_minutes() {
        let metrics = EngineMetrics::default();
        metrics.observe(Slice::QueueTime, Duration::ZERO, Duration::from_secs(9));
        metrics.observe(Slice::QueueTime, Duration::from_secs(500), Duration::from_secs(1));
        let text = rendered(&metrics, 601);
        has(&text, "prometheus_engine_query_duration_seconds{slice=\"queue_time\",quantile=\"0.99\"} 1");
        has(&text, "prometheus_engine_query_duration_seconds_sum{slice=\"queue_time\"} 10");
    }
}
