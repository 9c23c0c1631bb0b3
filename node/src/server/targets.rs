//! Targets and their metadata, gathered from the nodes that scrape them.

use super::{
    Node,
    calls::{self, ASK_PATIENCE, PackedLabels},
    duties,
};
use api::ports::{
    DroppedTarget, MetricMetadata, TargetHealth, TargetList, TargetMetadata, TargetStatus, Targets,
};
use futures::future::join_all;
use model::{BoxFuture, Labels, NodeId, TimestampMs};
use scrape::{Health, config::format_duration, target::Target};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, sync::Arc};

/// Metric families told of one target.
const METADATA_MAX: usize = 10_000;

/// The last scrape of a target, as one node tells another.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Scraped {
    job: String,
    labels: PackedLabels,
    url: String,
    up: Option<bool>,
    last_error: String,
    last_scrape: Option<i64>,
    last_seconds: f64,
}

/// The metadata of a target, as one node tells another.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ScrapedMetadata {
    labels: PackedLabels,
    /// Family, kind, help, unit.
    metrics: Vec<(String, String, String, String)>,
}

/// What this node scrapes.
pub(crate) fn scraped_here(node: &Node) -> Vec<Scraped> {
    let statuses = node.scrapers().into_iter().flat_map(|(_, scraper)| scraper.status());
    statuses
        .map(|status| Scraped {
            job: status.target.config.job_name.clone(),
            labels: (&status.target.labels).into(),
            url: status.target.url.to_string(),
            up: match status.health {
                Health::Unknown => None,
                Health::Up => Some(true),
                Health::Down => Some(false),
            },
            last_error: status.last_error,
            last_scrape: status.last_scrape.map(|at| at.0),
            last_seconds: status.last_duration.as_secs_f64(),
        })
        .collect()
}

/// Metadata of what this node scrapes.
pub(crate) fn metadata_here(node: &Node, metric: Option<&str>) -> Vec<ScrapedMetadata> {
    let mut all = Vec::new();
    for (_, scraper) in node.scrapers() {
        for status in scraper.status() {
            let found = scraper.metadata(&status.target.source);
            let metrics =
                found.into_iter().filter(|m| metric.is_none_or(|name| m.metric == name)).take(METADATA_MAX);
            let metrics = metrics.map(|m| (m.metric, m.kind.as_str().to_owned(), m.help, m.unit)).collect();
            all.push(ScrapedMetadata { labels: (&status.target.labels).into(), metrics });
        }
    }
    all
}

/// Implements the API's port.
pub(crate) struct NodeTargets {
    node: Arc<Node>,
}

impl NodeTargets {
    pub(crate) fn new(node: Arc<Node>) -> NodeTargets {
        NodeTargets { node }
    }

    /// Asks every other member, within a second.
    async fn ask<T: serde::de::DeserializeOwned>(
        &self,
        kind: u16,
        body: bytes::Bytes,
    ) -> Vec<(NodeId, Vec<T>)> {
        let us = self.node.id();
        let state = self.node.meta.state();
        let asked = state.members().filter(|(id, _)| *id != us).map(|(id, _)| {
            let body = body.clone();
            async move {
                let answer = self.node.raft.call(id, kind, body, ASK_PATIENCE).await.ok()?;
                calls::decode::<Vec<T>>(&answer).ok().map(|list| (id, list))
            }
        });
        join_all(asked).await.into_iter().flatten().collect()
    }

    async fn list_all(&self) -> TargetList {
        let plan = self.node.plan.borrow().clone();
        let mut scraped: BTreeMap<(String, Labels, String), (NodeId, Scraped)> = BTreeMap::new();
        let here = calls::aside(&self.node, scraped_here).await.unwrap_or_default();
        let here = (self.node.id(), here);
        for (id, list) in self.ask(calls::TARGETS, bytes::Bytes::new()).await.into_iter().chain([here]) {
            for one in list {
                scraped.insert((one.job.clone(), (&one.labels).into(), one.url.clone()), (id, one));
            }
        }
        let host_name = self.node.host_name();
        let mut list = TargetList::default();
        for (shard, targets) in &plan.by_shard {
            for target in targets {
                let key = (target.config.job_name.clone(), target.labels.clone(), target.url.to_string());
                let leader = self.node.raft.status(*shard).and_then(|status| status.leader);
                let mut status = status_of(target, scraped.get(&key).map(|(_, scraped)| scraped), &host_name);
                status.scraped_by = leader.map(|id| self.node.name_of(id));
                status.shard = *shard;
                list.active.push(status);
            }
        }
        list.dropped_counts = duties::jobs(&plan).into_iter().map(|job| (job, 0)).collect();
        for (job, dropped) in &plan.dropped {
            list.dropped_counts.insert(job.clone(), dropped.count as u64);
            let labels = dropped.labels.iter();
            list.dropped.extend(
                labels.map(|labels| DroppedTarget {
                    discovered_labels: labels.clone(),
                    scrape_pool: job.clone(),
                }),
            );
        }
        list
    }

    async fn all_metadata(&self, metric: Option<&str>) -> Vec<TargetMetadata> {
        let body = calls::encode(&metric);
        let wanted = metric.map(str::to_owned);
        let here = calls::aside(&self.node, move |node| metadata_here(node, wanted.as_deref()));
        let here = here.await.unwrap_or_default();
        let there = self.ask::<ScrapedMetadata>(calls::METADATA, body).await;
        let all = here.into_iter().chain(there.into_iter().flat_map(|(_, list)| list));
        all.map(|one| TargetMetadata {
            target: (&one.labels).into(),
            metrics: one
                .metrics
                .into_iter()
                .map(|(family, kind, help, unit)| MetricMetadata { family, kind, help, unit })
                .collect(),
        })
        .collect()
    }
}

fn status_of(target: &Target, scraped: Option<&Scraped>, host_name: &str) -> TargetStatus {
    let health = match scraped.and_then(|scraped| scraped.up) {
        None => TargetHealth::Unknown,
        Some(true) => TargetHealth::Up,
        Some(false) => TargetHealth::Down,
    };
    TargetStatus {
        discovered_labels: target.discovered.clone(),
        labels: target.labels.clone(),
        scrape_pool: target.config.job_name.clone(),
        scrape_url: target.url.to_string(),
        global_url: target.global_url(host_name).to_string(),
        last_error: scraped.map(|scraped| scraped.last_error.clone()).unwrap_or_default(),
        last_scrape: scraped.and_then(|scraped| scraped.last_scrape).map(TimestampMs),
        last_scrape_duration: scraped.map_or(0.0, |scraped| scraped.last_seconds),
        health,
        scrape_interval: format_duration(target.interval),
        scrape_timeout: format_duration(target.timeout),
        scrape_offset: target.offset(),
        ..TargetStatus::default()
    }
}

impl Targets for NodeTargets {
    fn list(&self) -> BoxFuture<'_, TargetList> {
        Box::pin(self.list_all())
    }

    fn metadata<'a>(&'a self, metric: Option<&'a str>) -> BoxFuture<'a, Vec<TargetMetadata>> {
        Box::pin(self.all_metadata(metric))
    }

    fn scrape_pools(&self) -> Vec<String> {
        duties::jobs(&self.node.plan.borrow()).into_iter().collect()
    }

    fn scrape_pool_config(&self, pool: &str) -> Option<String> {
        let state = self.node.meta.state();
        crate::config::section_of(&state.config()?.text, pool)
    }
}
