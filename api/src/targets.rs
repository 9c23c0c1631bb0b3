//! `/api/v1/targets`, `/targets/metadata`, `/metadata`, `/scrape_pools`: what is scraped, by whom, and what it said.

use crate::{
    call::Call,
    error::{ApiError, ErrorType},
    json::{self, Object},
    param::{self, TIME_NEVER},
    ports::{DroppedTarget, MetricMetadata, TargetHealth, TargetStatus},
    respond::Answer,
    selector,
};
use axum::response::Response;
use std::collections::{BTreeMap, BTreeSet};

pub(crate) async fn targets(call: Call) -> Result<Response, ApiError> {
    let pool = call.form.get_url("scrapePool");
    let state = call.form.get_url("state").to_lowercase();
    let shows = |kind: &str| state.is_empty() || state == "any" || state == kind;
    let in_pool = |name: &str| pool.is_empty() || pool == name;
    let mut list = call.state.ports.targets.list().await;
    list.active.sort_by(|a, b| a.scrape_pool.cmp(&b.scrape_pool));
    list.dropped.sort_by(|a, b| a.scrape_pool.cmp(&b.scrape_pool));

    let mut answer = Answer::new(call.encoding);
    let mut object = Object::new(answer.data());
    let active = list.active.iter().filter(|t| shows("active") && in_pool(&t.scrape_pool));
    json::array(object.key("activeTargets"), active, active_target);
    let dropped = list.dropped.iter().filter(|t| shows("dropped") && in_pool(&t.scrape_pool));
    json::array(object.key("droppedTargets"), dropped, dropped_target);
    let counts = object.key("droppedTargetCounts");
    if shows("dropped") {
        let mut object = Object::new(counts);
        for (pool, count) in &list.dropped_counts {
            object.integer(pool, *count);
        }
        object.end();
    } else {
        counts.extend(b"null");
    }
    object.end();
    Ok(answer.finish())
}

fn active_target(out: &mut Vec<u8>, target: &TargetStatus) {
    let health = match target.health {
        TargetHealth::Unknown => "unknown",
        TargetHealth::Up => "up",
        TargetHealth::Down => "down",
    };
    let mut object = Object::new(out);
    object
        .labels("discoveredLabels", &target.discovered_labels)
        .labels("labels", &target.labels)
        .text("scrapePool", &target.scrape_pool)
        .text("scrapeUrl", &target.scrape_url)
        .text("globalUrl", &target.global_url)
        .text("lastError", &target.last_error)
        .text("lastScrape", &target.last_scrape.map_or_else(|| TIME_NEVER.to_owned(), param::format_time))
        .number("lastScrapeDuration", target.last_scrape_duration)
        .text("health", health)
        .text("scrapeInterval", &target.scrape_interval)
        .text("scrapeTimeout", &target.scrape_timeout)
        .number("scrapeOffset", target.scrape_offset.0 as f64 / 1000.0);
    match &target.scraped_by {
        Some(node) => object.text("scrapedBy", node),
        None => object.null("scrapedBy"),
    };
    object.integer("shard", target.shard.0);
    object.end();
}

fn dropped_target(out: &mut Vec<u8>, target: &DroppedTarget) {
    let mut object = Object::new(out);
    object.labels("discoveredLabels", &target.discovered_labels).text("scrapePool", &target.scrape_pool);
    object.end();
}

/// A count as these endpoints read it: empty and negative numbers are no limit.
fn count(call: &Call, name: &str) -> Result<usize, ApiError> {
    let text = call.form.get(name);
    if text.is_empty() {
        return Ok(usize::MAX);
    }
    match param::whole(text) {
        Ok(number) => Ok(usize::try_from(number).unwrap_or(usize::MAX)),
        Err(_) => Err(ApiError::bad_data(format!("{name} must be a number"))),
    }
}

pub(crate) async fn target_metadata(call: Call) -> Result<Response, ApiError> {
    let limit = count(&call, "limit")?;
    let matchers = match call.form.get("match_target") {
        "" => Vec::new(),
        text => {
            let matchers = {
                let owned = text.to_owned();
                let one = move || selector::one(&owned);
                selector::read(&call.state, selector::is_light(text), one).await?
            };
            matchers.map_err(|e| ApiError::parameter("match_target", e))?
        }
    };
    let metric = Some(call.form.get("metric")).filter(|name| !name.is_empty());
    let all = call.state.ports.targets.metadata(metric).await;
    let mut answer = Answer::new(call.encoding);
    let matching =
        all.iter().filter(|t| matchers.iter().all(|m| m.matches(t.target.get(&m.name).unwrap_or(""))));
    // As in Prometheus, the limit is looked at between targets: the last one is told of whole.
    let mut rows = Vec::new();
    for target in matching {
        if rows.len() >= limit {
            break;
        }
        let metrics = target.metrics.iter().filter(|m| metric.is_none_or(|name| m.family == name));
        rows.extend(metrics.map(|m| (&target.target, m)));
    }
    json::array(answer.data(), rows, |out, (target, metadata)| {
        let mut object = Object::new(out);
        object.labels("target", target);
        if metric.is_none() {
            object.text("metric", &metadata.family);
        }
        metadata_fields(object, metadata);
    });
    Ok(answer.finish())
}

fn metadata_fields(mut object: Object<'_>, metadata: &MetricMetadata) {
    object.text("type", &metadata.kind).text("help", &metadata.help).text("unit", &metadata.unit);
    object.end();
}

pub(crate) async fn metadata(call: Call) -> Result<Response, ApiError> {
    let limit = count(&call, "limit")?;
    // Here, unlike above, 0 is no limit.
    let per_metric = Some(count(&call, "limit_per_metric")?).filter(|n| *n > 0).unwrap_or(usize::MAX);
    let metric = Some(call.form.get("metric")).filter(|name| !name.is_empty());
    let all = call.state.ports.targets.metadata(metric).await;
    let mut by_name: BTreeMap<&str, BTreeSet<&MetricMetadata>> = BTreeMap::new();
    for metadata in all.iter().flat_map(|t| &t.metrics) {
        if metric.is_none_or(|name| metadata.family == name) {
            let known = by_name.entry(&metadata.family).or_default();
            if known.len() < per_metric {
                known.insert(metadata);
            }
        }
    }
    let mut answer = Answer::new(call.encoding);
    let mut object = Object::new(answer.data());
    for (name, list) in by_name.into_iter().take(limit) {
        json::array(object.key(name), list, |out, metadata| metadata_fields(Object::new(out), metadata));
    }
    object.end();
    Ok(answer.finish())
}

pub(crate) async fn scrape_pools(call: Call) -> Result<Response, ApiError> {
    let mut pools = call.state.ports.targets.scrape_pools();
    pools.sort();
    let mut answer = Answer::new(call.encoding);
    let mut object = Object::new(answer.data());
    json::texts(object.key("scrapePools"), pools.iter().map(String::as_str));
    object.end();
    Ok(answer.finish())
}

pub(crate) async fn scrape_pool_config(call: Call) -> Result<Response, ApiError> {
    let pool = call.form.get("scrapePool");
    if pool.is_empty() {
        return Err(ApiError::bad_data("no scrapePool parameter provided"));
    }
    let Some(yaml) = call.state.ports.targets.scrape_pool_config(pool) else {
        let text = format!("error retrieving scrape config: scrape pool {pool:?} not found");
        return Err(ApiError::new(ErrorType::BadData, text));
    };
    let mut answer = Answer::new(call.encoding);
    let mut object = Object::new(answer.data());
    object.text("yaml", &yaml);
    object.end();
    Ok(answer.finish())
}
