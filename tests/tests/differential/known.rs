//! Where an older Prometheus rightly answers otherwise than 3.14, which Vestal follows; each with its reason.
//!
//! The numbers are those of Prometheus's changes. `docs/promql.md` has the same list for users.

use crate::{
    answer::{Difference, Part},
    disguise::{
        letters, pruned, same_notes, unbracketed, unquoted, without_detail, without_name, without_number,
        without_place, without_places,
    },
    peer::Version,
};

/// A difference that is not ours.
struct Known {
    /// The first version that answers as Vestal does.
    until: Version,
    /// Whether it concerns this query and this difference.
    concerns: fn(&str, &Difference) -> bool,
    why: &'static str,
}

/// No version does: what Prometheus answers is an accident.
const NEVER: Version = (u32::MAX, 0);

/// What 3.5 did not understand.
const NEW_WORDS: [&str; 19] = [
    "smoothed",
    "anchored",
    "fill",
    "</",
    ">/",
    "step()",
    "step ()",
    "step  (",
    "[step]",
    "range()",
    "range  (",
    "start()",
    "end()",
    "max_of",
    "min_of",
    "histogram_quantiles",
    "first_over_time",
    "start_timestamp",
    "foo[5s x 5s]",
];

const ALL: &[Known] = &[
    Known {
        until: NEVER,
        concerns: |query, d| {
            let of_a_map = [
                "histogram_quantile",
                "histogram_fraction",
                "count_values",
                "info(",
                "limitk",
                "limit_ratio",
            ];
            d.part == Part::Order && (any(query, &of_a_map) || is_subquery(query))
        },
        why: "the order of the instant vector is that of a map or a heap",
    },
    Known {
        until: NEVER,
        concerns: |query, d| d.part == Part::Order && query.contains("sort_by_label"),
        why: "sort_by_label does not know where a series without the label belongs",
    },
    Known {
        until: NEVER,
        concerns: |query, d| {
            let in_a_map = is_range(d)
                || is_subquery(query)
                || any(query, &["count_values", "info(", "histogram_", "sort_by_label"]);
            d.part == Part::Error
                && [&d.theirs, &d.ours].iter().all(|t| t.contains("found duplicate series"))
                && in_a_map
        },
        why: "series are in the order of a map, and so is which of them is a duplicate",
    },
    Known {
        until: NEVER,
        concerns: |query, d| {
            d.part == Part::Result && query.contains("limitk") && (is_range(d) || is_subquery(query))
        },
        why: "series are in the order of a map, and so is which of them are the first",
    },
    Known {
        until: NEVER,
        concerns: |query, d| {
            let of_computed = any(query, &["stddev", "stdvar"]) && (is_range(d) || is_subquery(query));
            d.part == Part::Result && of_computed && compares(query)
        },
        why: "series are in the order of a map, and with it change the last digits of stddev, which a comparison shows",
    },
    Known {
        until: NEVER,
        concerns: |query, d| {
            let in_a_map = is_range(d) || is_subquery(query);
            let aggregated = any(query, &["sum", "avg"]) && of_histograms(query);
            let first_met = |note: &str| {
                let told =
                    ["encountered a mix of", "contains a mix of", "were reconciled during aggregation"];
                if any(note, &told) { String::new() } else { note.to_owned() }
            };
            is_note(d) && in_a_map && aggregated && same_notes(d, first_met)
        },
        why: "series are in the order of a map, and so is which histograms are found not to go together, and when",
    },
    Known {
        until: NEVER,
        concerns: |query, d| {
            let uncounted = |note: &str| {
                let Some((before, behind)) = note.split_once(", over ") else { return note.to_owned() };
                format!("{before}{}", behind.split_once(" samples").map_or(behind, |(_, rest)| rest))
            };
            d.part == Part::Infos && (is_range(d) || is_subquery(query)) && same_notes(d, uncounted)
        },
        why: "the note on monotonicity counts what it has counted again at each step of a range query",
    },
    Known {
        until: NEVER,
        concerns: |query, d| {
            let joined = any(query, &["label_replace(mixed", "label_join(mixed"]);
            d.part == Part::Status && joined && d.ours.contains("with the same labelset")
        },
        why: "of two series that become one, a float and a histogram at one time are both kept",
    },
    Known {
        until: NEVER,
        concerns: |query, d| {
            d.part == Part::Result && any(query, &["ln(", "log10(", "log2("]) && query.contains("odd")
        },
        why: "Go takes logarithms of denormal numbers otherwise than mathematics",
    },
    Known {
        until: (3, 14),
        concerns: |query, d| {
            let lower = query.to_lowercase();
            any(&lower, &NEW_WORDS) && any(&d.theirs, &["parse error", "invalid expression type"])
        },
        why: "what the language did not have: anchored, smoothed, fill, trimming, functions of the query's context, durations of them, and more (16457, 16777, 17285, 17644, 17877, 17904)",
    },
    Known {
        until: (3, 14),
        concerns: |_, d| d.asked.ends_with("/parse_query") && pruned(&d.theirs) == pruned(&d.ours),
        why: "trees have more fields: anchored, smoothed, fillValues, duration expressions",
    },
    Known {
        until: (3, 14),
        concerns: |_, d| d.asked.ends_with("/format_query") && unquoted(&d.theirs) == unquoted(&d.ours),
        why: "names of labels in on, ignoring and group_left are quoted where they must be",
    },
    Known {
        until: (3, 9),
        concerns: |query, d| d.asked.ends_with("/format_query") && query.contains("ignoring ()"),
        why: "an empty ignoring() before group_left is printed (17643)",
    },
    Known {
        until: (3, 15),
        concerns: |_, d| {
            let same = letters(&d.theirs) == letters(&d.ours);
            d.part == Part::Error && d.theirs.contains("found duplicate series") && same
        },
        why: "the two series of the message are in order (18810)",
    },
    Known {
        until: (3, 15),
        concerns: |_, d| {
            let observations = |note: &str| {
                if note.contains("has NaN observations") { without_place(note) } else { note.to_owned() }
            };
            d.part == Part::Infos && same_notes(d, observations)
        },
        why: "notes on observations of NaN stand at the histogram, not at the first argument",
    },
    Known {
        until: (3, 15),
        concerns: |query, d| {
            let is_fixed = query.contains("info(") && any(query, &["@", "offset"]);
            d.part == Part::Result && is_fixed
        },
        why: "info() looks for info series as of the @ and the offset of its argument (19266)",
    },
    Known {
        until: (3, 15),
        concerns: |query, d| d.part == Part::Result && is_subquery(query) && query.contains('@'),
        why: "a subquery with @ under a function whose other argument changes from step to step",
    },
    Known {
        until: (3, 14),
        concerns: |_, d| d.ours.contains("step(), or range()") && d.theirs.contains("number or duration"),
        why: "messages name what durations may be made of (16777)",
    },
    Known {
        until: (3, 13),
        concerns: |_, d| {
            d.ours.contains("duration is NaN or infinite")
                && any(&d.theirs, &["duration is out of range", "success"])
        },
        why: "durations that are no numbers have a message of their own (18639)",
    },
    Known {
        until: (3, 14),
        concerns: |_, d| d.ours.contains("modifiers allowed before range"),
        why: "a modifier must not stand before a range",
    },
    Known {
        until: (3, 6),
        concerns: |_, d| {
            let parsing = matches!(d.part, Part::Error | Part::Result) && d.theirs.contains("parse error");
            parsing && without_places(&d.theirs) == without_places(&d.ours)
        },
        why: "positions in errors behind a call or an aggregation (16041, 16996, 17031)",
    },
    Known {
        until: (3, 14),
        concerns: |query, d| {
            let bracketed = any(query, &["offset (", "offset -(", "offset +(", "[("]);
            let same = d.asked.ends_with("/parse_query") || unbracketed(&d.theirs) == unbracketed(&d.ours);
            d.asked.ends_with("_query") && bracketed && same
        },
        why: "parentheses around a duration are kept",
    },
    Known {
        until: (3, 14),
        concerns: |_, d| d.theirs.contains("<Item ") || d.theirs.contains("\\u003cItem "),
        why: "tokens have names in messages",
    },
    Known {
        until: (3, 14),
        concerns: |_, d| d.ours.contains("expected ':'") && d.part != Part::Warnings,
        why: "only a colon stands between range and step",
    },
    Known {
        until: (3, 8),
        concerns: |_, d| d.theirs.contains("unexpected error"),
        why: "the parser broke down (17379)",
    },
    Known {
        until: (3, 7),
        concerns: |_, d| d.theirs.contains("unexpected result in StepInvariantExpr evaluation"),
        why: "a string in parentheses is a string (16896)",
    },
    Known {
        until: (3, 7),
        concerns: |_, d| {
            let without_collision = |note: &str| {
                let told = note.contains("conflicting counter resets during histogram aggregation");
                if told { String::new() } else { note.to_owned() }
            };
            d.part == Part::Warnings && same_notes(d, without_collision)
        },
        why: "counter resets that contradict each other in an aggregation are told (17051)",
    },
    Known {
        until: (3, 7),
        concerns: |_, d| {
            let said = ["addition", "subtraction"].map(|o| format!("counter resets during histogram {o}"));
            let collides = said.iter().any(|said| d.ours.contains(said));
            collides && matches!(d.part, Part::Result | Part::Warnings)
        },
        why: "counter resets that contradict each other are told, and leave no sum and no difference (17051)",
    },
    Known {
        until: (3, 12),
        concerns: |query, d| {
            let of_buckets = |note: &str| {
                if note.contains("bucket label \"le\"") { String::new() } else { note.to_owned() }
            };
            d.part == Part::Warnings && query.contains("info(") && same_notes(d, of_buckets)
        },
        why: "info() lost series (17135, 17199, 17817, 17898, 17932), and nothing is said about what is not there",
    },
    Known {
        until: (3, 6),
        concerns: |query, d| {
            is_note(d) && same_notes(d, if query.contains("((") { without_place } else { without_name })
        },
        why: "no metric's name in notes on classic histograms (16794); positions within parentheses (16996, 17031)",
    },
    Known {
        until: (3, 10),
        concerns: |_, d| d.part == Part::Infos && same_notes(d, without_detail),
        why: "the note on monotonicity has details (15578)",
    },
    Known {
        until: (3, 12),
        concerns: |query, d| {
            let unsorted = |note: &str| {
                if note.contains("sort is ineffective") { String::new() } else { without_place(note) }
            };
            d.part == Part::Warnings && query.contains("sort") && same_notes(d, unsorted)
        },
        why: "sort, sort_by_label and their likes warn in range queries (18498)",
    },
    Known {
        until: (3, 6),
        concerns: |_, d| {
            any(&d.ours, &["Parameter value is NaN", "Ratio value is NaN"])
                && any(&d.theirs, &["NaN", "success"])
        },
        why: "NaN is no parameter of topk and its likes (16725)",
    },
    Known {
        until: (3, 6),
        concerns: |query, d| {
            d.part == Part::Result && any(query, &["rate(", "increase("]) && of_histograms(query)
        },
        why: "rates of native histograms are not extrapolated below zero (16828)",
    },
    Known {
        until: (3, 8),
        concerns: |query, d| of_custom_bounds(query) && d.part != Part::Error && d.part != Part::Order,
        why: "histograms of different custom bounds are reconciled (17278), and say so",
    },
    Known {
        until: (3, 8),
        concerns: |query, d| d.part == Part::Result && query.contains("histogram_fraction"),
        why: "fractions from within the first bucket of classic histograms (17424)",
    },
    Known {
        until: (3, 12),
        concerns: |query, d| matches!(d.part, Part::Result | Part::Status) && query.contains("info("),
        why: "info() lost and mixed up series (17135, 17199, 17817, 17898, 17932)",
    },
    Known {
        until: (3, 12),
        concerns: |query, d| {
            d.part == Part::Result && any(query, &["last_over_time", "first_over_time"]) && is_subquery(query)
        },
        why: "last_over_time of a subquery drops a name that its inside drops, if names are dropped late (18409)",
    },
    Known {
        until: (3, 9),
        concerns: |_, d| d.part == Part::Status && d.ours.contains("multiple matches for labels"),
        why: "several matches are an error also where a filter takes all but one out (17668)",
    },
    Known {
        until: (3, 10),
        concerns: |query, d| {
            let nan = d.part == Part::Result && d.what.contains("NaN");
            let summed = any(query, &["sum", "avg"]) && of_histograms(query);
            summed && nan
                || of_histograms(query) && d.part == Part::Infos && d.what.contains("has NaN observations")
        },
        why: "histograms are added up with compensation: an infinite sum stays infinite, and counts are exact",
    },
    Known {
        until: (3, 14),
        concerns: |query, d| d.part == Part::Result && query.contains("mad_over_time"),
        why: "mad_over_time of a range with a NaN is NaN (19040)",
    },
    Known {
        until: NEVER,
        concerns: |_, d| d.part == Part::Warnings && same_notes(d, without_number),
        why: "last digits of powers and their like, in the text of a warning",
    },
    Known {
        until: (3, 13),
        concerns: |query, d| is_note(d) && is_subquery(query),
        why: "subqueries are not evaluated behind the last step, nor where they have none; what they say there is not said",
    },
    Known {
        until: (3, 6),
        concerns: |query, d| is_note(d) && d.theirs.contains("omitted") && query.contains("histogram_"),
        why: "notes without names of metrics are fewer (16794)",
    },
    Known {
        until: (3, 9),
        concerns: |query, d| {
            let brings_a_name =
                query.contains("bool") && query.contains("group_") && query.contains("__name__");
            d.part == Part::Result && brings_a_name
        },
        why: "a name that group_left brings stays in spite of bool",
    },
    Known {
        until: NEVER,
        concerns: |query, d| {
            d.part == Part::Result && any(query, &["exp(", "sinh(", "cosh("]) && d.what.contains("+Inf")
        },
        why: "Go's exp on amd64 overflows at 709.44 already",
    },
    Known {
        until: (3, 14),
        concerns: |_, d| d.ours.contains("overflows int64") && d.theirs.contains("success"),
        why: "parameters that are no integers fail also where there is nothing to take from",
    },
    Known {
        until: NEVER,
        concerns: |query, d| {
            let of_equals = any(query, &["topk", "bottomk"]) && (is_range(d) || is_subquery(query));
            let of_a_map = any(query, &["topk", "bottomk", "limitk"])
                && any(query, &["count_values", "limit_ratio", "histogram_quantile", "histogram_fraction"]);
            d.part == Part::Result && (of_equals && query.matches('(').count() > 1 || of_a_map)
        },
        why: "series are in the order of a map, and so is which of equals are taken",
    },
];

/// Why a difference is none of ours, if it is known.
pub(crate) fn explains(query: &str, version: Version, difference: &Difference) -> Option<&'static str> {
    ALL.iter()
        .find(|known| version < known.until && (known.concerns)(query, difference))
        .map(|known| known.why)
}

fn any(text: &str, words: &[&str]) -> bool {
    words.iter().any(|word| text.contains(word))
}

fn is_note(difference: &Difference) -> bool {
    matches!(difference.part, Part::Warnings | Part::Infos)
}

fn is_range(difference: &Difference) -> bool {
    difference.asked.starts_with("Range")
}

fn compares(query: &str) -> bool {
    any(query, &[" == ", " != ", " < ", " > ", " <= ", " >= "])
}

/// Whether there may be native histograms.
fn of_histograms(query: &str) -> bool {
    any(query, &["native_", "custom_", "mixed", "both", "layouts", "job=\"api\"", "__name__"])
}

fn of_custom_bounds(query: &str) -> bool {
    any(query, &["custom_seconds", "layouts", "{job=\"api\",le"])
}

/// Whether there is something like `[5m:1m]`.
fn is_subquery(query: &str) -> bool {
    let mut insides = query.split('[').skip(1).filter_map(|rest| rest.split(']').next());
    insides.any(|inside| inside.contains(':'))
}
