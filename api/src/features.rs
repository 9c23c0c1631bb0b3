//! `/api/v1/features`: what of Prometheus's features this node has and has enabled, by category, so that clients need not
//! derive it from a version.

use crate::{call::Call, error::ApiError, json::Object, options::Options, respond::Answer};
use axum::response::Response;
use promql::{
    ast::{AggregateOp, BinaryOp},
    signature::FUNCTIONS,
};
use std::collections::BTreeMap;

type Features = BTreeMap<&'static str, bool>;

pub(crate) async fn features(call: Call) -> Result<Response, ApiError> {
    let mut answer = Answer::new(call.encoding);
    let mut all = Object::new(answer.data());
    for (category, features) in categories(&call.state.options) {
        let mut object = Object::new(all.key(category));
        for (name, enabled) in features {
            object.bool(name, enabled);
        }
        object.end();
    }
    all.end();
    Ok(answer.finish())
}

fn categories(options: &Options) -> BTreeMap<&'static str, Features> {
    BTreeMap::from([
        ("api", api(options)),
        ("prometheus", Features::from([("agent_mode", false), ("server_mode", true)])),
        ("promql", promql(options)),
        ("promql_functions", functions(options)),
        ("promql_operators", operators(options)),
        ("service_discovery_providers", Features::from([("file", true), ("static", true)])),
        (
            "tsdb",
            Features::from([("exemplar_storage", false), ("isolation", true), ("native_histograms", true)]),
        ),
    ])
}

fn api(options: &Options) -> Features {
    Features::from([
        ("admin", false),
        ("label_values_match", true),
        ("lifecycle", options.lifecycle_enabled),
        ("otlp_write_receiver", false),
        ("query_stats", true),
        ("query_warnings", true),
        ("remote_write_receiver", options.remote_write_enabled),
        ("search", false),
        ("time_range_labels", true),
        ("time_range_series", true),
    ])
}

fn promql(options: &Options) -> Features {
    let (parser, engine) = (&options.parser, &options.features);
    let always = [
        "at_modifier",
        "bool",
        "by",
        "group_left",
        "group_right",
        "ignoring",
        "negative_offset",
        "offset",
        "on",
        "per_query_lookback_delta",
        "subqueries",
        "without",
    ];
    let mut features: Features = always.map(|name| (name, true)).into();
    features.extend([
        ("anchored", parser.extended_range_selectors),
        ("smoothed", parser.extended_range_selectors),
        ("fill", parser.fill_modifiers),
        ("fill_left", parser.fill_modifiers),
        ("fill_right", parser.fill_modifiers),
        ("duration_expr", parser.duration_expressions),
        ("delayed_name_removal", engine.delayed_name_removal),
        ("type_and_unit_labels", engine.type_and_unit_labels),
        ("per_step_stats", options.per_step_stats),
    ]);
    features
}

fn functions(options: &Options) -> Features {
    let enabled = |experimental: bool| !experimental || options.parser.experimental_functions;
    FUNCTIONS.iter().map(|function| (function.name, enabled(function.experimental))).collect()
}

fn operators(options: &Options) -> Features {
    let enabled = |experimental: bool| !experimental || options.parser.experimental_functions;
    let binary = BinaryOp::ALL.map(|op| (op.as_str(), true));
    let aggregates = AggregateOp::ALL.map(|op| (op.as_str(), enabled(op.is_experimental())));
    binary.into_iter().chain(aggregates).chain(["=~", "!~", "@"].map(|op| (op, true))).collect()
}
