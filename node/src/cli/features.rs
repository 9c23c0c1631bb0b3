//! `--enable-feature`: what Prometheus has behind flags, by Prometheus's names.

use promql::{Features, ParserOptions};

/// Names that change nothing here, because the behaviour is there without them as in Prometheus 3.14.
const ALWAYS_ON: [&str; 4] =
    ["promql-at-modifier", "promql-negative-offset", "promql-duration-expr", "native-histograms"];

/// What was enabled.
#[derive(Clone, Debug, Default)]
pub(crate) struct Enabled {
    /// Of evaluation.
    pub(crate) features: Features,
    /// Of the language.
    pub(crate) parser: ParserOptions,
    /// Names without effect, for a warning.
    pub(crate) unknown: Vec<String>,
}

impl Enabled {
    /// From the names on the command line. A name that is unknown is no error, as in Prometheus.
    pub(crate) fn of(names: &[String]) -> Enabled {
        let mut enabled = Enabled::default();
        let Enabled { features, parser, unknown } = &mut enabled;
        for name in names {
            match name.as_str() {
                "promql-experimental-functions" => parser.experimental_functions = true,
                "promql-extended-range-selectors" => parser.extended_range_selectors = true,
                "promql-binop-fill-modifiers" => parser.fill_modifiers = true,
                "promql-delayed-name-removal" => features.delayed_name_removal = true,
                "type-and-unit-labels" => features.type_and_unit_labels = true,
                "use-start-timestamps" => features.use_start_timestamps = true,
                name if ALWAYS_ON.contains(&name) || name.is_empty() => {}
                name => unknown.push(name.to_owned()),
            }
        }
        enabled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_prometheus_s_and_unknown_ones_are_kept_for_a_warning() {
        let names = ["promql-experimental-functions", "promql-duration-expr", "exemplar-storage"];
        let enabled = Enabled::of(&names.map(str::to_owned));
        assert!(enabled.parser.experimental_functions);
        assert!(!enabled.parser.fill_modifiers && !enabled.features.delayed_name_removal);
        assert_eq!(enabled.unknown, ["exemplar-storage"]);
    }
}
