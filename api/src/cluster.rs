//! `/api/v1/status/cluster` and `/api/v1/status/gaps`: ours.

use crate::{
    call::Call,
    error::ApiError,
    json::{self, Object},
    param,
    ports::{ClusterStatus, Gap, GapQuery, NodeState, NodeStatus, ReplicaRole, ReplicaStatus, ShardStatus},
    respond::Answer,
};
use axum::response::Response;

pub(crate) async fn status(call: Call) -> Result<Response, ApiError> {
    let status = call.state.ports.cluster.status().await;
    let mut answer = Answer::new(call.encoding);
    content(answer.data(), &status);
    Ok(answer.finish())
}

fn content(out: &mut Vec<u8>, status: &ClusterStatus) {
    let mut object = Object::new(out);
    match &status.cluster_id {
        Some(id) => object.text("clusterId", &id.to_string()),
        None => object.null("clusterId"),
    };
    json::array(object.key("nodes"), &status.nodes, node);
    json::array(object.key("shards"), &status.shards, shard);
    let mut config = Object::new(object.key("config"));
    config.integer("version", status.config.version.0).text("hash", &status.config.hash);
    let texts = |list: &[String], out: &mut Vec<u8>| json::texts(out, list.iter().map(String::as_str));
    texts(&status.config.nodes_with_other_files, config.key("nodesWithOtherFiles"));
    texts(&status.config.ignored, config.key("ignored"));
    config.end();
    object.bool("mayLoseAnotherNode", status.may_lose_another_node).text("why", &status.why);
    object.end();
}

pub(crate) fn node_state(state: NodeState) -> &'static str {
    match state {
        NodeState::Alive => "alive",
        NodeState::Suspect => "suspect",
        NodeState::Dead => "dead",
        NodeState::Joining => "joining",
        NodeState::Removed => "removed",
    }
}

fn node(out: &mut Vec<u8>, node: &NodeStatus) {
    let mut object = Object::new(out);
    object
        .integer("id", node.id.0)
        .text("name", &node.name)
        .text("state", node_state(node.state))
        .text("webAddress", &node.web_address)
        .text("version", &node.version);
    match node.clock_offset_seconds {
        Some(offset) => object.number("clockOffsetSeconds", offset),
        None => object.null("clockOffsetSeconds"),
    };
    object.end();
}

fn shard(out: &mut Vec<u8>, shard: &ShardStatus) {
    let mut object = Object::new(out);
    object.integer("id", shard.id.0);
    match &shard.leader {
        Some(leader) => object.text("leader", leader),
        None => object.null("leader"),
    };
    object
        .integer("term", shard.term.0)
        .integer("commitIndex", shard.commit_index.0)
        .integer("configVersion", shard.config_version.0);
    json::array(object.key("replicas"), &shard.replicas, replica);
    object.end();
}

fn replica(out: &mut Vec<u8>, replica: &ReplicaStatus) {
    let role = match replica.role {
        ReplicaRole::Leader => "leader",
        ReplicaRole::Voter => "voter",
        ReplicaRole::Learner => "learner",
    };
    let mut object = Object::new(out);
    object.text("node", &replica.node).text("role", role);
    match replica.applied_index {
        Some(index) => object.integer("appliedIndex", index.0),
        None => object.null("appliedIndex"),
    };
    match &replica.state_hash {
        Some(hash) => {
            let mut object = Object::new(object.key("stateHash"));
            object.integer("index", hash.index.0).text("hash", &format!("{:032x}", hash.hash));
            object.end();
        }
        None => _ = object.null("stateHash"),
    }
    object.end();
}

pub(crate) async fn gaps(call: Call) -> Result<Response, ApiError> {
    let time = |name: &str, default| {
        param::time_or(call.form.get(name), name, default).map_err(|e| ApiError::parameter(name, e))
    };
    let limit = param::limit(call.form.get("limit")).map_err(|e| ApiError::parameter("limit", e))?;
    let gaps_max = call.state.options.gaps_max;
    let limit = if limit == 0 { gaps_max } else { limit.min(gaps_max) };
    let query = GapQuery {
        start: time("start", param::TIME_MIN)?,
        end: time("end", param::TIME_MAX)?,
        limit: limit + 1,
        consistency: crate::view::consistency(&call.form, &call.headers)?,
        timeout: call.state.options.consistency_timeout,
    };
    let gaps = call.state.ports.cluster.gaps(query).await?;
    let mut answer = Answer::new(call.encoding);
    json::array(answer.data(), gaps.iter().take(limit), gap);
    if gaps.len() > limit {
        answer.warn(["results truncated due to limit".to_owned()]);
    }
    Ok(answer.finish())
}

fn gap(out: &mut Vec<u8>, gap: &Gap) {
    let mut object = Object::new(out);
    object.labels("target", &gap.target);
    json::timestamp(object.key("from"), gap.from);
    json::timestamp(object.key("to"), gap.to);
    object.integer("slots", gap.slots).text("reason", &gap.reason);
    object.end();
}
