//! Warnings and infos that accompany an answer.
//!
//! Two of the same text are one, wherever they arose; the position told is that of the last, or of the first where
//! details are gathered. Their order is that in which they first arose, so that every node gives the same answer.

use crate::go::quote;
use crate::number::{format_float_g, format_float_g_precision};
use std::collections::BTreeMap;

/// Where an annotation arose: a byte offset into the query.
pub(crate) type Position = usize;

/// How an operation on histograms is called in an annotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Addition,
    Subtraction,
    Aggregation,
}

impl Operation {
    fn name(self) -> &'static str {
        match self {
            Operation::Addition => "addition",
            Operation::Subtraction => "subtraction",
            Operation::Aggregation => "aggregation",
        }
    }
}

/// Whether it is a warning or an info.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Warning,
    Info,
}

/// What is told beyond the text, gathered over all occurrences.
#[derive(Clone, Debug)]
enum Detail {
    None,
    /// Buckets that were not monotonic.
    Monotonicity {
        first: i64,
        last: i64,
        lowest: f64,
        highest: f64,
        difference: f64,
        samples: u64,
    },
    /// How often it happened.
    Occurrences(u64),
}

impl Detail {
    fn gather(&mut self, new: Detail) {
        match (self, new) {
            (
                Detail::Monotonicity { first, last, lowest, highest, difference, samples },
                Detail::Monotonicity {
                    first: first2,
                    last: last2,
                    lowest: lowest2,
                    highest: highest2,
                    difference: difference2,
                    samples: samples2,
                },
            ) => {
                *first = (*first).min(first2);
                *last = (*last).max(last2);
                *lowest = lowest.min(lowest2);
                *highest = highest.max(highest2);
                *difference = difference.max(difference2);
                *samples += samples2;
            }
            (Detail::Occurrences(count), Detail::Occurrences(more)) => *count += more,
            _ => {}
        }
    }
}

#[derive(Clone, Debug)]
struct Annotation {
    kind: Kind,
    text: String,
    position: Position,
    detail: Detail,
}

/// The annotations of one query.
#[derive(Clone, Debug, Default)]
pub(crate) struct Annotations {
    all: Vec<Annotation>,
    by_text: BTreeMap<String, usize>,
}

fn for_metric(text: &str, metric: &str) -> String {
    if metric.is_empty() { text.to_owned() } else { format!("{text} for metric name {}", quote(metric)) }
}

/// `line:column` of a byte offset, both from 1.
fn line_and_column(query: &str, position: Position) -> String {
    if position > query.len() {
        return "invalid position".to_owned();
    }
    let before = &query.as_bytes()[..position];
    let line = before.iter().filter(|b| **b == b'\n').count() + 1;
    let column = position - before.iter().rposition(|b| *b == b'\n').map_or(0, |i| i + 1) + 1;
    format!("{line}:{column}")
}

/// `2006-01-02T15:04:05Z` of milliseconds.
fn rfc3339(milliseconds: i64) -> String {
    let date = crate::eval::dates::Date::of_seconds(milliseconds.div_euclid(1000));
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z",
        date.year, date.month, date.day, date.hour, date.minute, date.second
    )
}

impl Annotations {
    pub(crate) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Adds others as if they had arisen here now.
    pub(crate) fn take_in(&mut self, others: Annotations) {
        for Annotation { kind, text, position, detail } in others.all {
            self.add_with(kind, text, position, detail);
        }
    }

    fn add(&mut self, kind: Kind, text: String, position: Position) {
        self.add_with(kind, text, position, Detail::None);
    }

    fn add_with(&mut self, kind: Kind, text: String, position: Position, detail: Detail) {
        if let Some(index) = self.by_text.get(&text) {
            let old = &mut self.all[*index];
            // Prometheus keeps the new one, but gathers details in the old one.
            if matches!(detail, Detail::None) {
                old.position = position;
            }
            old.detail.gather(detail);
        } else {
            self.by_text.insert(text.clone(), self.all.len());
            self.all.push(Annotation { kind, text, position, detail });
        }
    }

    fn warn(&mut self, text: impl Into<String>, position: Position) {
        self.add(Kind::Warning, text.into(), position);
    }

    fn info(&mut self, text: impl Into<String>, position: Position) {
        self.add(Kind::Info, text.into(), position);
    }

    pub(crate) fn invalid_quantile(&mut self, q: f64, at: Position) {
        self.warn(format!("quantile value should be between 0 and 1, got {}", format_float_g(q)), at);
    }

    pub(crate) fn invalid_ratio(&mut self, ratio: f64, capped: f64, at: Position) {
        let (ratio, capped) = (format_float_g(ratio), format_float_g(capped));
        self.warn(format!("ratio value should be between -1 and 1, got {ratio}, capping to {capped}"), at);
    }

    pub(crate) fn bad_bucket_label(&mut self, metric: &str, label: &str, at: Position) {
        let text = format!("bucket label \"le\" is missing or has a malformed value of {}", quote(label));
        self.warn(for_metric(&text, metric), at);
    }

    pub(crate) fn mixed_floats_histograms(&mut self, metric: &str, at: Position) {
        self.warn(
            format!("encountered a mix of histograms and floats for metric name {}", quote(metric)),
            at,
        );
    }

    pub(crate) fn mixed_floats_histograms_in_aggregation(&mut self, at: Position) {
        self.warn("encountered a mix of histograms and floats for aggregation", at);
    }

    pub(crate) fn mixed_classic_native(&mut self, metric: &str, at: Position) {
        self.warn(for_metric("vector contains a mix of classic and native histograms", metric), at);
    }

    pub(crate) fn not_counter(&mut self, metric: &str, at: Position) {
        self.warn(format!("this native histogram metric is not a counter: {}", quote(metric)), at);
    }

    pub(crate) fn not_gauge(&mut self, metric: &str, at: Position) {
        self.warn(format!("this native histogram metric is not a gauge: {}", quote(metric)), at);
    }

    pub(crate) fn mixed_exponential_custom(&mut self, metric: &str, at: Position) {
        let text =
            "vector contains a mix of histograms with exponential and custom buckets schemas for metric name";
        self.warn(format!("{text} {}", quote(metric)), at);
    }

    pub(crate) fn incompatible_layout(&mut self, operator: &str, at: Position) {
        self.warn(format!("incompatible bucket layout encountered for binary operator {operator}"), at);
    }

    pub(crate) fn sort_in_range_query(&mut self, at: Position) {
        self.warn("sort is ineffective for range queries since results are always ordered by labels", at);
    }

    pub(crate) fn reset_collision(&mut self, operation: Operation, at: Position) {
        self.warn(format!("conflicting counter resets during histogram {}", operation.name()), at);
    }

    pub(crate) fn start_time_overlap(&mut self, metric: &str, at: Position) {
        let text = "sample has start time that overlaps with previous sample timestamp for metric";
        self.add_with(Kind::Warning, format!("{text} {}", quote(metric)), at, Detail::Occurrences(1));
    }

    pub(crate) fn not_counter_name(&mut self, metric: &str, at: Position) {
        let text = "metric might not be a counter, name does not end in _total/_sum/_count/_bucket:";
        self.info(format!("{text} {}", quote(metric)), at);
    }

    pub(crate) fn not_counter_type(&mut self, metric: &str, kind: &str, at: Position) {
        let text =
            "metric might not be a counter, __type__ label is not set to \"counter\" or \"histogram\", got";
        self.info(format!("{text} {}: {}", quote(kind), quote(metric)), at);
    }

    pub(crate) fn forced_monotonicity(
        &mut self,
        metric: &str,
        timestamp: i64,
        lowest: f64,
        highest: f64,
        difference: f64,
        at: Position,
    ) {
        let text = "input to histogram_quantile needed to be fixed for monotonicity (see \
                    https://prometheus.io/docs/prometheus/latest/querying/functions/#histogram_quantile)";
        let detail = Detail::Monotonicity {
            first: timestamp,
            last: timestamp,
            lowest,
            highest,
            difference,
            samples: 1,
        };
        self.add_with(Kind::Info, for_metric(text, metric), at, detail);
    }

    pub(crate) fn incompatible_types(&mut self, left: &str, operator: &str, right: &str, at: Position) {
        let text = "incompatible sample types encountered for binary operator";
        self.info(format!("{text} {}: {left} {operator} {right}", quote(operator)), at);
    }

    pub(crate) fn ignored_in_aggregation(&mut self, aggregation: &str, at: Position) {
        self.info(format!("ignored histogram in {aggregation} aggregation"), at);
    }

    pub(crate) fn ignored_in_mixed_range(&mut self, metric: &str, at: Position) {
        let text = "ignored histograms in a range containing both floats and histograms for metric name";
        self.info(format!("{text} {}", quote(metric)), at);
    }

    pub(crate) fn quantile_is_nan(&mut self, metric: &str, at: Position) {
        self.info(for_metric("input to histogram_quantile has NaN observations, result is NaN", metric), at);
    }

    pub(crate) fn quantile_is_skewed(&mut self, metric: &str, at: Position) {
        let text = "input to histogram_quantile has NaN observations, result is skewed higher";
        self.info(for_metric(text, metric), at);
    }

    pub(crate) fn fraction_without_nan(&mut self, metric: &str, at: Position) {
        let text = "input to histogram_fraction has NaN observations, which are excluded from all fractions";
        self.info(for_metric(text, metric), at);
    }

    pub(crate) fn bounds_reconciled(&mut self, operation: Operation, at: Position) {
        self.info(format!("mismatched custom buckets were reconciled during {}", operation.name()), at);
    }

    /// Warnings and infos as Prometheus prints them, each list at most `max` long (0 is no limit) and then a line
    /// that says how many are missing.
    pub(crate) fn render(&self, query: &str, max: usize) -> (Vec<String>, Vec<String>) {
        (self.render_kind(Kind::Warning, query, max), self.render_kind(Kind::Info, query, max))
    }

    fn render_kind(&self, kind: Kind, query: &str, max: usize) -> Vec<String> {
        let wanted: Vec<&Annotation> = self.all.iter().filter(|a| a.kind == kind).collect();
        let shown = if max == 0 { wanted.len() } else { wanted.len().min(max) };
        let mut texts: Vec<String> = wanted[..shown].iter().map(|a| a.render(query)).collect();
        let name = if kind == Kind::Warning { "warning" } else { "info" };
        if shown < wanted.len() {
            texts.push(format!("{} more {name} annotations omitted", wanted.len() - shown));
        }
        texts
    }
}

impl Annotation {
    fn render(&self, query: &str) -> String {
        let prefix = if self.kind == Kind::Warning { "PromQL warning: " } else { "PromQL info: " };
        let detail = match &self.detail {
            Detail::None | Detail::Occurrences(1) => String::new(),
            Detail::Occurrences(count) => format!(" ({count} occurrences)"),
            Detail::Monotonicity { first, last, lowest, highest, difference, samples } => format!(
                ", from buckets {} to {}, with a max diff of {}, over {samples} samples from {} to {}",
                format_float_g(*lowest),
                format_float_g(*highest),
                format_float_g_precision(*difference, 2),
                rfc3339(*first),
                rfc3339(*last),
            ),
        };
        format!("{prefix}{}{detail} ({})", self.text, line_and_column(query, self.position))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_texts_are_one_annotation_at_the_last_position() {
        let mut annotations = Annotations::default();
        annotations.not_counter_name("x", 2);
        annotations.not_counter_name("x", 5);
        let (_, infos) = annotations.render("a\nb c d", 10);
        let text = "PromQL info: metric might not be a counter, name does not end in _total/_sum/_count/_bucket: \"x\"";
        assert_eq!(infos, [format!("{text} (2:4)")]);
    }

    #[test]
    fn annotations_with_details_stay_at_the_first_position() {
        let mut annotations = Annotations::default();
        annotations.start_time_overlap("x", 2);
        annotations.start_time_overlap("x", 5);
        let (warnings, _) = annotations.render("a\nb c d", 10);
        let text = "PromQL warning: sample has start time that overlaps with previous sample timestamp for metric \"x\"";
        assert_eq!(warnings, [format!("{text} (2 occurrences) (2:1)")]);
    }

    #[test]
    fn what_is_over_the_cap_is_counted() {
        let mut annotations = Annotations::default();
        ["a", "b", "c"].iter().for_each(|metric| annotations.not_gauge(metric, 0));
        let (warnings, _) = annotations.render("q", 2);
        assert_eq!(warnings[2], "1 more warning annotations omitted");
    }
}
