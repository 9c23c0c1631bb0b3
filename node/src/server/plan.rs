//! What is to be scraped, and in which shard: a function of the configuration in force, the same on every node.

use super::Node;
use crate::config::{self, Config, Unsupported};
use model::{ConfigVersion, Labels, ShardId};
use raft::meta::{ConfigRecord, MetaState};
use scrape::target::{Target, TargetGroup, TargetSet};
use std::{collections::BTreeMap, path::Path, sync::Arc};

/// The targets of one scrape configuration that are not scraped.
#[derive(Clone, Debug, Default)]
pub(crate) struct Dropped {
    /// Labels before relabelling, as many as are to be remembered.
    pub(crate) labels: Vec<Labels>,
    /// How many there are.
    pub(crate) count: usize,
}

/// Targets by shard.
#[derive(Clone, Debug)]
pub(crate) struct TargetPlan {
    /// The configuration that it follows.
    pub(crate) version: ConfigVersion,
    /// Whether this node understands the committed configuration. If not, the targets are those of the version
    /// before, and nothing is ended, set or deleted by it.
    pub(crate) is_usable: bool,
    /// The checked configuration; `None` before there is one.
    pub(crate) config: Option<Config>,
    /// Targets by the shard whose leader scrapes them.
    pub(crate) by_shard: BTreeMap<ShardId, Vec<Arc<Target>>>,
    /// Dropped targets by job.
    pub(crate) dropped: BTreeMap<String, Dropped>,
}

impl Default for TargetPlan {
    fn default() -> Self {
        TargetPlan {
            version: ConfigVersion(0),
            is_usable: true,
            config: None,
            by_shard: BTreeMap::new(),
            dropped: BTreeMap::new(),
        }
    }
}

impl TargetPlan {
    /// Makes the plan of a committed configuration; `before` is the one it follows. Secrets lie where they do on this
    /// node: relative to `directory`, in which its configuration file is.
    fn of(record: &ConfigRecord, shards: u32, before: &TargetPlan, directory: &Path) -> TargetPlan {
        // It was checked before it was committed; a node that is stricter by its flags goes along.
        let mut config = match config::parse("committed configuration", &record.text, Unsupported::Ignore) {
            Ok(config) => config,
            Err(error) => {
                tracing::error!(%error, version = %record.version, "the committed configuration cannot be used here; upgrade this node");
                return TargetPlan { version: record.version, is_usable: false, ..before.clone() };
            }
        };
        let mut plan = TargetPlan { version: record.version, ..TargetPlan::default() };
        for scrape in &mut config.scrape_configs {
            scrape.set_directory(directory);
            let mut groups = scrape.static_configs.clone();
            for pattern in scrape.file_sd_configs.iter().flat_map(|sd| &sd.files) {
                groups.extend(file_groups(pattern, record));
            }
            let set = TargetSet::build(&Arc::new(scrape.clone()), &groups);
            for error in &set.errors {
                tracing::warn!(job = %scrape.job_name, %error, "target left out");
            }
            let dropped = Dropped { labels: set.dropped, count: set.dropped_count };
            plan.dropped.insert(scrape.job_name.clone(), dropped);
            for target in set.active {
                plan.by_shard.entry(target.source.shard(shards)).or_default().push(target);
            }
        }
        if !config.ignored.is_empty() {
            tracing::warn!(keys = %config.ignored.join(", "), "ignored, because they are not supported yet");
        }
        plan.config = Some(config);
        plan
    }

    /// The targets of one shard.
    pub(crate) fn targets(&self, shard: ShardId) -> &[Arc<Target>] {
        self.by_shard.get(&shard).map_or(&[], Vec::as_slice)
    }
}

fn file_groups(pattern: &str, record: &ConfigRecord) -> Vec<TargetGroup> {
    let mut groups = Vec::new();
    for (path, contents) in record.files.iter().filter(|(path, _)| matches_pattern(pattern, path)) {
        match TargetGroup::parse_file(path, contents) {
            Ok(found) => groups.extend(found),
            Err(error) => tracing::warn!(%error, "file of targets left out"),
        }
    }
    groups
}

/// Whether a path matches a pattern whose last part may hold one or more `*`.
pub(crate) fn matches_pattern(pattern: &str, path: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return pattern == path };
    let Some(mut path) = path.strip_prefix(first) else { return false };
    let mut parts: Vec<_> = rest.split('*').collect();
    let Some(last) = parts.pop() else { return false };
    for part in parts {
        match path.find(part) {
            Some(at) => path = &path[at + part.len()..],
            None => return false,
        }
    }
    path.len() >= last.len() && path.ends_with(last) && !path.contains('/')
}

/// Keeps the node's plan up to date with meta.
pub(crate) async fn run(node: Arc<Node>) {
    let mut meta = node.meta.watch();
    loop {
        let state: Arc<MetaState> = meta.borrow_and_update().clone();
        if let Some(record) = state.config().filter(|config| config.version != node.plan.borrow().version) {
            let directory = node.options.config_file.parent().unwrap_or(Path::new(""));
            let before = node.plan.borrow().clone();
            let plan = TargetPlan::of(record, state.shards.max(1), &before, directory);
            let targets: usize = plan.by_shard.values().map(Vec::len).sum();
            tracing::info!(version = %record.version, targets, "configuration in force");
            node.plan.send_replace(Arc::new(plan));
        }
        if meta.changed().await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use scrape::config::Secret;

    #[test]
    fn secrets_lie_beside_the_configuration_file_of_the_node_that_scrapes() {
        let text = "scrape_configs:\n- job_name: a\n  authorization: {credentials_file: token}\n  static_configs: \
                    [{targets: ['a:1']}]\n";
        let record = ConfigRecord {
            version: ConfigVersion(1),
            text: text.to_owned(),
            files: BTreeMap::new(),
            offered_by: None,
            at: model::TimestampMs(0),
            index: model::LogIndex(1),
        };
        let plan = TargetPlan::of(&record, 1, &TargetPlan::default(), Path::new("/etc/vestal"));
        let target = plan.by_shard.values().flatten().next().expect("one target");
        let credentials = target.config.authorization.as_ref().map(|auth| auth.credentials.clone());
        assert_eq!(credentials, Some(Secret::File("/etc/vestal/token".to_owned())));
    }

    #[test]
    fn a_star_stands_for_anything_within_one_folder() {
        assert!(matches_pattern("a/*.yml", "a/b.yml"));
        assert!(!matches_pattern("a/*.yml", "a/b/c.yml"));
        assert!(matches_pattern("a/x*y*.json", "a/x1y2.json"));
        assert!(!matches_pattern("a/*.yml", "a/b.json"));
        assert!(matches_pattern("a/b.yml", "a/b.yml"));
    }
}
