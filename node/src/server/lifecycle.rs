//! The process's life, as the API tells and changes it.

use super::{Node, ServeOptions, configuration::Configuration};
use crate::config::Config;
use api::ports::{Readiness, RuntimeInfo};
use scrape::config::{ByteSize, format_duration};
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};
use tokio::sync::watch;

/// What is kept, in Prometheus's words: the configuration beats the flags.
fn retention(options: &ServeOptions, config: Option<&Config>) -> String {
    let flag = model::DurationMs(u64::try_from(options.retention_time.as_millis()).unwrap_or(u64::MAX));
    let time = config.and_then(|config| config.retention_time).unwrap_or(flag);
    let size = config.and_then(|config| config.retention_size).unwrap_or(options.retention_size);
    let time = (time.0 > 0).then(|| format_duration(time));
    let size = (size > 0).then(|| ByteSize(size).to_string());
    time.into_iter().chain(size).collect::<Vec<_>>().join(" or ")
}

/// Implements the API's port.
pub(crate) struct Lifecycle {
    node: Arc<Node>,
    configuration: Arc<Configuration>,
    quit: watch::Sender<bool>,
    stopping: AtomicBool,
    /// What the node itself runs on; requests may be worked on elsewhere.
    runtime: Option<tokio::runtime::Handle>,
}

impl Lifecycle {
    pub(crate) fn new(
        node: Arc<Node>,
        configuration: Arc<Configuration>,
        quit: watch::Sender<bool>,
    ) -> Lifecycle {
        let runtime = tokio::runtime::Handle::try_current().ok();
        Lifecycle { node, configuration, quit, stopping: AtomicBool::new(false), runtime }
    }

    /// The node is stopping.
    pub(crate) fn stopping(&self) {
        self.stopping.store(true, Ordering::Release);
    }
}

impl api::ports::Lifecycle for Lifecycle {
    fn quit(&self) {
        self.quit.send_replace(true);
    }

    fn readiness(&self) -> Readiness {
        if self.stopping.load(Ordering::Acquire) {
            return Readiness::Stopping;
        }
        match self.node.health.not_ready() {
            None => Readiness::Ready,
            Some(reason) if self.node.health.are_shards_open() => Readiness::NotReady(reason),
            Some(reason) => Readiness::Starting(reason),
        }
    }

    fn runtime(&self) -> RuntimeInfo {
        let (last_config_time, reload_config_success) = self.configuration.last_reload();
        let options = &self.node.options;
        let plan = self.node.plan.borrow().clone();
        let storage_retention = retention(options, plan.config.as_ref());
        RuntimeInfo {
            start_time: self.node.started,
            cwd: self.node.ports.host.working_directory(),
            hostname: self.node.ports.host.name().unwrap_or_default(),
            reload_config_success,
            last_config_time,
            corruption_count: 0,
            tasks: self.runtime.as_ref().map_or(0, |h| h.metrics().num_alive_tasks() as u64),
            threads: self.runtime.as_ref().map_or(0, |h| h.metrics().num_workers() as u64),
            memory_limit: i64::MAX,
            storage_retention,
        }
    }
}
