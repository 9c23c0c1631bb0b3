//! `/`: one plain page with the cluster's state and the paths, for people without tools at hand.

use crate::{cluster::node_state, ports::ClusterStatus, state::Shared, text::exact};
use axum::{body::Body, response::Response};
use http::StatusCode;
use std::fmt::Write;

const PATHS: [(&str, &str); 12] = [
    ("/api/v1/query?query=up", "instant query"),
    ("/api/v1/status/cluster", "nodes, shards, replicas"),
    ("/api/v1/status/gaps", "slots that were missed, and why"),
    ("/api/v1/targets", "targets and their last scrapes"),
    ("/api/v1/status/config", "the configuration in force"),
    ("/api/v1/status/flags", "flags"),
    ("/api/v1/status/tsdb", "cardinality"),
    ("/api/v1/status/buildinfo", "version"),
    ("/metrics", "metrics of this node"),
    ("/federate?match[]=up", "last samples, for another Prometheus"),
    ("/-/healthy", "is it running"),
    ("/-/ready", "can it answer"),
];

pub(crate) async fn page(state: Shared) -> Response {
    let status = state.ports.cluster.status().await;
    let page = render(&status, &state.ports.build.vestal_version, &state.options.route_prefix);
    exact(StatusCode::OK, Some("text/html; charset=utf-8"), Body::from(page))
}

fn render(status: &ClusterStatus, version: &str, prefix: &str) -> String {
    let mut page = String::from(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>Vestal</title><style>\
         body{font:15px/1.5 system-ui,sans-serif;margin:2em auto;max-width:60em;padding:0 1em}\
         table{border-collapse:collapse;margin:1em 0}td,th{text-align:left;padding:.2em 1.5em .2em 0;border-bottom:1px solid #ddd}\
         </style></head><body>",
    );
    let mut put = |text: std::fmt::Arguments<'_>| page.write_fmt(text).expect("a String takes all text");
    put(format_args!("<h1>Vestal {}</h1>", escaped(version)));
    match status.may_lose_another_node {
        true => put(format_args!("<p>May lose another node: <b>yes</b></p>")),
        false => put(format_args!("<p>May lose another node: <b>no</b>. {}</p>", escaped(&status.why))),
    }
    put(format_args!("<table><tr><th>Node<th>State<th>Web address<th>Version</tr>"));
    for node in &status.nodes {
        let (name, address) = (escaped(&node.name), escaped(&node.web_address));
        let (state, version) = (node_state(node.state), escaped(&node.version));
        put(format_args!("<tr><td>{name}<td>{state}<td>{address}<td>{version}</tr>"));
    }
    put(format_args!("</table><table><tr><th>Shard<th>Leader<th>Term<th>Committed<th>Applied</tr>"));
    for shard in &status.shards {
        let leader = escaped(shard.leader.as_deref().unwrap_or("none"));
        put(format_args!("<tr><td>{}<td>{leader}<td>{}<td>{}<td>", shard.id, shard.term, shard.commit_index));
        for replica in &shard.replicas {
            let applied = replica.applied_index.map_or("unreachable".to_owned(), |index| index.to_string());
            put(format_args!("{}: {applied} ", escaped(&replica.node)));
        }
        put(format_args!("</tr>"));
    }
    put(format_args!("</table><ul>"));
    let prefix = escaped(prefix);
    for (path, what) in PATHS {
        put(format_args!("<li><a href=\"{prefix}{path}\">{path}</a> {what}"));
    }
    put(format_args!("</ul></body></html>\n"));
    page
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
