//! `--enable-feature`: names as Prometheus 3.14 knows them, and what they turn on here.

use promql::{Features, ParserOptions};

/// What the flags turn on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Enabled {
    /// How queries are evaluated.
    pub(crate) engine: Features,
    /// What queries may contain.
    pub(crate) parser: ParserOptions,
    /// Whether `stats=all` counts by step.
    pub(crate) per_step_stats: bool,
}

/// What becomes of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Enabled,
    /// Always on, or replaced by a setting.
    NoEffect(&'static str),
    /// Prometheus has it, Vestal does not.
    Missing,
    Unknown,
}

/// Flags of Prometheus 3.14 for what Vestal does not have.
const MISSING: [&str; 20] = [
    "auto-reload-config",
    "concurrent-rule-eval",
    "created-timestamp-zero-ingestion",
    "delayed-compaction",
    "exemplar-storage",
    "extra-scrape-metrics",
    "fast-startup",
    "histograms-st-encoding",
    "memory-snapshot-on-shutdown",
    "metadata-wal-records",
    "old-ui",
    "otlp-deltatocumulative",
    "otlp-native-delta-ingestion",
    "search-api",
    "st-storage",
    "st-synthesis",
    "use-uncached-io",
    "xor2-encoding",
    "agent",
    "remote-write-receiver",
];

impl Enabled {
    /// Of the values of all `--enable-feature` flags; what each does is logged.
    pub(crate) fn of(names: &[String]) -> Enabled {
        let mut enabled = Enabled::default();
        for option in names.iter().flat_map(|names| names.split(',')) {
            match enabled.enable(option) {
                Outcome::Enabled => tracing::info!(option, "feature enabled"),
                Outcome::NoEffect(why) => tracing::warn!(option, "--enable-feature: {why}"),
                Outcome::Missing => {
                    tracing::warn!(option, "--enable-feature: not supported yet; the flag has no effect");
                }
                Outcome::Unknown => tracing::warn!(option, "Unknown option for --enable-feature"),
            }
        }
        enabled
    }

    fn enable(&mut self, option: &str) -> Outcome {
        match option {
            "promql-experimental-functions" => self.parser.experimental_functions = true,
            "promql-extended-range-selectors" => self.parser.extended_range_selectors = true,
            "promql-binop-fill-modifiers" => self.parser.fill_modifiers = true,
            "promql-delayed-name-removal" => self.engine.delayed_name_removal = true,
            "promql-per-step-stats" => self.per_step_stats = true,
            "use-start-timestamps" => self.engine.use_start_timestamps = true,
            "type-and-unit-labels" => {
                self.engine.type_and_unit_labels = true;
                return Outcome::NoEffect(
                    "queries heed __type__ and __unit__, but scrapes do not add them yet",
                );
            }
            "promql-duration-expr" | "ooo-native-histograms" => {
                return Outcome::NoEffect("permanently enabled, the flag has no effect");
            }
            "native-histograms" => {
                return Outcome::NoEffect(
                    "the flag has no effect; set scrape_native_histograms in the configuration",
                );
            }
            _ if MISSING.contains(&option) => return Outcome::Missing,
            _ => return Outcome::Unknown,
        }
        Outcome::Enabled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn enabled(flags: &[&str]) -> Enabled {
        Enabled::of(&flags.iter().map(|flag| (*flag).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn names_may_be_in_one_flag_or_in_many() {
        let both = enabled(&["promql-experimental-functions,promql-per-step-stats"]);
        assert!(both.parser.experimental_functions && both.per_step_stats);
        assert_eq!(both, enabled(&["promql-per-step-stats", "promql-experimental-functions"]));
    }

    #[test]
    fn each_name_turns_on_what_it_says() {
        let all = enabled(&["promql-experimental-functions,promql-extended-range-selectors,\
                             promql-binop-fill-modifiers"]);
        assert_eq!(all.parser, ParserOptions::all_features());
        let engine =
            enabled(&["promql-delayed-name-removal,use-start-timestamps,type-and-unit-labels"]).engine;
        assert!(engine.delayed_name_removal && engine.use_start_timestamps && engine.type_and_unit_labels);
    }

    #[test]
    fn what_is_unknown_or_not_here_changes_nothing() {
        assert_eq!(
            enabled(&["", "no-such-feature", "exemplar-storage", "promql-duration-expr"]),
            Enabled::default()
        );
        assert_eq!(Enabled::default().enable("no-such-feature"), Outcome::Unknown);
        assert_eq!(Enabled::default().enable("old-ui"), Outcome::Missing);
    }
}
