//! What meta knows, and how a command changes it. Pure.

use super::command::{CONFIG_BYTES_MAX, MetaCommand, MetaResponse, OfferMode};
use model::{ClusterId, ConfigVersion, LogIndex, NodeId, TimestampMs};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use xxhash_rust::xxh3::xxh3_64;

/// Service discovery files by the path that the configuration names them with.
pub type ConfigFiles = BTreeMap<String, String>;

/// Configurations kept for `vestal config history`.
const HISTORY_MAX: usize = 16;
/// Removed nodes kept, so that a returned one can be told why it stays out.
const REMOVED_MAX: usize = 64;
/// Nodes at the most, so that the state stays small whatever asks for ids.
const NODES_MAX: usize = 64;

/// A node of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeRecord {
    /// What people call it; unique among nodes that are not removed, except while one replaces another.
    pub name: String,
    /// Where its peers reach it; empty before its first announcement.
    pub cluster_address: String,
    /// Where its HTTP API answers; empty before its first announcement.
    pub web_address: String,
    /// Its Vestal version.
    pub version: String,
    /// The nonce it was allocated for; 0 for the first members.
    pub nonce: u64,
    /// The node of the same name that it is to replace.
    pub replaces: Option<NodeId>,
    /// When it was removed.
    pub removed_at: Option<TimestampMs>,
    /// Hash of the configuration text this node last offered, in force or not: nodes whose files differ are named.
    pub offered_hash: Option<u64>,
}

/// One version of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigRecord {
    /// Its version; 0 is "none yet".
    pub version: ConfigVersion,
    /// `prometheus.yml`.
    pub text: String,
    /// Contents of its service discovery files.
    pub files: ConfigFiles,
    /// The node that offered it; `None` for an operator.
    pub offered_by: Option<NodeId>,
    /// When, by the offering node's clock.
    pub at: TimestampMs,
    /// The entry that brought it.
    pub index: LogIndex,
}

impl ConfigRecord {
    /// Hash of text and files, shown in status and compared between nodes.
    #[must_use]
    pub fn hash(&self) -> u64 {
        config_hash(&self.text, &self.files)
    }
}

/// Hash of a configuration's text and files.
#[must_use]
pub(super) fn config_hash(text: &str, files: &ConfigFiles) -> u64 {
    let bytes = postcard::to_stdvec(&(text, files)).expect("a vector takes all bytes");
    xxh3_64(&bytes)
}

/// Why a command changed nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Refusal {
    /// The cluster has begun under another id.
    #[error("the cluster has begun already as {0}")]
    Begun(ClusterId),
    /// No such node.
    #[error("node {0} is not a member of this cluster")]
    UnknownNode(NodeId),
    /// The id was removed.
    #[error("node {0} was removed from this cluster; give it an empty data directory to join again")]
    Removed(NodeId),
    /// Too many nodes.
    #[error("the cluster has {NODES_MAX} nodes already")]
    TooManyNodes,
    /// Another node is being replaced.
    #[error("node {0} is joining; one node at a time")]
    Busy(NodeId),
    /// The configuration is too large.
    #[error("configuration and its files have {0} bytes; at most {CONFIG_BYTES_MAX} are kept")]
    ConfigTooLarge(u64),
    /// The cluster has no configuration that the files could belong to.
    #[error("the cluster has no configuration yet")]
    NoConfig,
    /// Not a command of this format.
    #[error("malformed command")]
    Malformed,
}

/// All that meta knows. Maps are ordered, so that equal states have equal bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MetaState {
    /// `None` before the cluster has begun.
    pub cluster_id: Option<ClusterId>,
    /// Number of data shards.
    pub shards: u32,
    /// Nodes by id, removed ones included (the newest [`REMOVED_MAX`]).
    pub nodes: BTreeMap<NodeId, NodeRecord>,
    /// The next id to be given out.
    pub next_node_id: u64,
    /// The configuration in force is the last one.
    pub configs: Vec<ConfigRecord>,
}

impl MetaState {
    /// The configuration in force.
    #[must_use]
    pub fn config(&self) -> Option<&ConfigRecord> {
        self.configs.last()
    }

    /// Its version; 0 if there is none.
    #[must_use]
    pub fn config_version(&self) -> ConfigVersion {
        self.config().map_or(ConfigVersion(0), |config| config.version)
    }

    /// Nodes that are not removed.
    pub fn members(&self) -> impl Iterator<Item = (NodeId, &NodeRecord)> {
        self.nodes.iter().filter(|(_, node)| node.removed_at.is_none()).map(|(id, node)| (*id, node))
    }

    /// The member of this name; of two while one replaces the other, the newer.
    #[must_use]
    pub fn member_by_name(&self, name: &str) -> Option<(NodeId, &NodeRecord)> {
        self.members().filter(|(_, node)| node.name == name).last()
    }

    /// Applies one command. Total: whatever comes, a response.
    pub fn apply(&mut self, index: LogIndex, command: MetaCommand) -> MetaResponse {
        match command {
            MetaCommand::Begin { cluster_id, shards, members } => self.begin(cluster_id, shards, members),
            MetaCommand::Announce { node, cluster_address, web_address, version } => {
                match self.nodes.get_mut(&node) {
                    None => MetaResponse::Refused(Refusal::UnknownNode(node)),
                    Some(record) if record.removed_at.is_some() => {
                        MetaResponse::Refused(Refusal::Removed(node))
                    }
                    Some(record) => {
                        record.cluster_address = cluster_address;
                        record.web_address = web_address;
                        record.version = version;
                        MetaResponse::Done
                    }
                }
            }
            MetaCommand::Allocate { name, cluster_address, nonce } => {
                self.allocate(name, cluster_address, nonce)
            }
            MetaCommand::Remove { node, at } => self.remove(node, at),
            MetaCommand::OfferConfig { node, mode, text, files, at } => {
                if let Some(record) = node.and_then(|id| self.nodes.get_mut(&id)) {
                    record.offered_hash = Some(xxh3_64(text.as_bytes()));
                }
                if mode == OfferMode::IfNone && self.config().is_some() {
                    return MetaResponse::Config { version: self.config_version(), changed: false };
                }
                self.set_config(ConfigRecord {
                    version: self.config_version(),
                    text,
                    files,
                    offered_by: node,
                    at,
                    index,
                })
            }
            MetaCommand::OfferFiles { node, files, at } => match self.config().cloned() {
                None => MetaResponse::Refused(Refusal::NoConfig),
                Some(mut config) => {
                    config.files.extend(files);
                    self.set_config(ConfigRecord { offered_by: Some(node), at, index, ..config })
                }
            },
        }
    }

    fn begin(&mut self, cluster_id: ClusterId, shards: u32, members: Vec<(NodeId, String)>) -> MetaResponse {
        match self.cluster_id {
            Some(begun) if begun == cluster_id => MetaResponse::Done,
            Some(begun) => MetaResponse::Refused(Refusal::Begun(begun)),
            None if members.len() > NODES_MAX => MetaResponse::Refused(Refusal::TooManyNodes),
            None => {
                self.cluster_id = Some(cluster_id);
                self.shards = shards;
                self.next_node_id = members.iter().map(|(id, _)| id.0 + 1).max().unwrap_or(1);
                self.nodes = members.into_iter().map(|(id, name)| (id, NodeRecord::new(name))).collect();
                MetaResponse::Done
            }
        }
    }

    fn allocate(&mut self, name: String, cluster_address: String, nonce: u64) -> MetaResponse {
        if let Some((id, _)) = self.members().find(|(_, node)| node.name == name && node.nonce == nonce) {
            return MetaResponse::Allocated(id);
        }
        let joining =
            self.members().find(|(_, node)| node.replaces.is_some()).map(|(id, node)| (id, node.clone()));
        let replaces = match joining {
            // A newcomer that lost its disk on its way: the next one of its name goes on in its place.
            Some((id, node)) if node.name == name => {
                if let Some(record) = self.nodes.get_mut(&id) {
                    record.replaces = None;
                    record.removed_at = Some(TimestampMs(0));
                }
                node.replaces
            }
            Some((id, _)) => return MetaResponse::Refused(Refusal::Busy(id)),
            None => self.member_by_name(&name).map(|(id, _)| id),
        };
        if self.members().count() >= NODES_MAX {
            return MetaResponse::Refused(Refusal::TooManyNodes);
        }
        let id = NodeId(self.next_node_id);
        self.next_node_id += 1;
        self.nodes.insert(id, NodeRecord { cluster_address, nonce, replaces, ..NodeRecord::new(name) });
        MetaResponse::Allocated(id)
    }

    fn remove(&mut self, node: NodeId, at: TimestampMs) -> MetaResponse {
        let Some(record) = self.nodes.get_mut(&node) else {
            return MetaResponse::Refused(Refusal::UnknownNode(node));
        };
        record.removed_at.get_or_insert(at);
        record.replaces = None;
        for other in self.nodes.values_mut().filter(|other| other.replaces == Some(node)) {
            other.replaces = None;
        }
        let removed: Vec<_> =
            self.nodes.iter().filter(|(_, n)| n.removed_at.is_some()).map(|(id, _)| *id).collect();
        for id in removed.iter().rev().skip(REMOVED_MAX) {
            self.nodes.remove(id);
        }
        MetaResponse::Done
    }

    /// Puts `config` in force under the next version, if it differs from what is.
    fn set_config(&mut self, config: ConfigRecord) -> MetaResponse {
        let bytes = config.text.len()
            + config.files.iter().map(|(path, text)| path.len() + text.len()).sum::<usize>();
        if bytes > CONFIG_BYTES_MAX {
            return MetaResponse::Refused(Refusal::ConfigTooLarge(bytes as u64));
        }
        let version = self.config_version();
        if self.config().is_some_and(|now| now.text == config.text && now.files == config.files) {
            return MetaResponse::Config { version, changed: false };
        }
        let version = ConfigVersion(version.0 + 1);
        self.configs.push(ConfigRecord { version, ..config });
        let surplus = self.configs.len().saturating_sub(HISTORY_MAX);
        self.configs.drain(..surplus);
        MetaResponse::Config { version, changed: true }
    }
}

impl NodeRecord {
    fn new(name: String) -> NodeRecord {
        NodeRecord {
            name,
            cluster_address: String::new(),
            web_address: String::new(),
            version: String::new(),
            nonce: 0,
            replaces: None,
            removed_at: None,
            offered_hash: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begun() -> MetaState {
        let mut state = MetaState::default();
        let members = (1..=3).map(|i| (NodeId(i), format!("node-{i}"))).collect();
        let done =
            state.apply(LogIndex(1), MetaCommand::Begin { cluster_id: ClusterId(7), shards: 6, members });
        assert_eq!(done, MetaResponse::Done);
        state
    }

    fn offer(mode: OfferMode, text: &str) -> MetaCommand {
        let (files, at) = (ConfigFiles::new(), TimestampMs(0));
        MetaCommand::OfferConfig { node: Some(NodeId(1)), mode, text: text.into(), files, at }
    }

    fn allocate(name: &str, nonce: u64) -> MetaCommand {
        MetaCommand::Allocate { name: name.into(), cluster_address: "h:1".into(), nonce }
    }

    #[test]
    fn a_cluster_begins_once() {
        let mut state = begun();
        let again = MetaCommand::Begin { cluster_id: ClusterId(8), shards: 1, members: vec![] };
        assert_eq!(state.apply(LogIndex(2), again), MetaResponse::Refused(Refusal::Begun(ClusterId(7))));
        assert_eq!(state.shards, 6);
    }

    #[test]
    fn ids_are_never_reused_and_asking_again_yields_the_same() {
        let mut state = begun();
        assert_eq!(state.apply(LogIndex(2), allocate("node-3", 11)), MetaResponse::Allocated(NodeId(4)));
        assert_eq!(state.apply(LogIndex(3), allocate("node-3", 11)), MetaResponse::Allocated(NodeId(4)));
        state.apply(LogIndex(4), MetaCommand::Remove { node: NodeId(4), at: TimestampMs(5) });
        assert_eq!(state.apply(LogIndex(5), allocate("node-3", 12)), MetaResponse::Allocated(NodeId(5)));
    }

    #[test]
    fn a_newcomer_under_a_known_name_replaces_its_former_self_one_at_a_time() {
        let mut state = begun();
        state.apply(LogIndex(2), allocate("node-3", 11));
        assert_eq!(state.nodes[&NodeId(4)].replaces, Some(NodeId(3)));
        assert_eq!(
            state.apply(LogIndex(3), allocate("node-2", 12)),
            MetaResponse::Refused(Refusal::Busy(NodeId(4)))
        );
        state.apply(LogIndex(4), MetaCommand::Remove { node: NodeId(3), at: TimestampMs(5) });
        assert_eq!(state.nodes[&NodeId(4)].replaces, None);
        assert_eq!(state.member_by_name("node-3").map(|(id, _)| id), Some(NodeId(4)));
    }

    #[test]
    fn a_newcomer_that_lost_its_disk_on_its_way_is_followed_by_the_next_of_its_name() {
        let mut state = begun();
        state.apply(LogIndex(2), allocate("node-3", 11));
        assert_eq!(state.apply(LogIndex(3), allocate("node-3", 12)), MetaResponse::Allocated(NodeId(5)));
        assert_eq!(state.nodes[&NodeId(5)].replaces, Some(NodeId(3)));
        assert!(state.nodes[&NodeId(4)].removed_at.is_some());
    }

    #[test]
    fn a_removed_node_may_not_announce_itself() {
        let mut state = begun();
        state.apply(LogIndex(2), MetaCommand::Remove { node: NodeId(2), at: TimestampMs(5) });
        let announce = MetaCommand::Announce {
            node: NodeId(2),
            cluster_address: "a:1".into(),
            web_address: "a:2".into(),
            version: "1".into(),
        };
        assert_eq!(state.apply(LogIndex(3), announce), MetaResponse::Refused(Refusal::Removed(NodeId(2))));
    }

    #[test]
    fn a_first_sight_never_overrides_what_is_committed() {
        let mut state = begun();
        state.apply(LogIndex(2), offer(OfferMode::IfNone, "a"));
        let second = state.apply(LogIndex(3), offer(OfferMode::IfNone, "b"));
        assert_eq!(second, MetaResponse::Config { version: ConfigVersion(1), changed: false });
        assert_eq!(state.config().map(|c| c.text.as_str()), Some("a"));
    }

    #[test]
    fn the_same_configuration_again_is_no_new_version() {
        let mut state = begun();
        state.apply(LogIndex(2), offer(OfferMode::Replace, "a"));
        let again = state.apply(LogIndex(3), offer(OfferMode::Replace, "a"));
        assert_eq!(again, MetaResponse::Config { version: ConfigVersion(1), changed: false });
        let other = state.apply(LogIndex(4), offer(OfferMode::Replace, "b"));
        assert_eq!(other, MetaResponse::Config { version: ConfigVersion(2), changed: true });
    }

    #[test]
    fn a_changed_discovery_file_is_a_new_version_and_the_other_files_stay() {
        let mut state = begun();
        let file = |text: &str| MetaCommand::OfferFiles {
            node: NodeId(1),
            files: [("t.yml".to_owned(), text.to_owned())].into(),
            at: TimestampMs(0),
        };
        assert_eq!(state.apply(LogIndex(1), file("x")), MetaResponse::Refused(Refusal::NoConfig));
        state.apply(LogIndex(2), offer(OfferMode::Replace, "a"));
        state.apply(LogIndex(3), file("x"));
        assert_eq!(state.config().map(|c| c.files["t.yml"].as_str()), Some("x"));
        assert_eq!(state.config_version(), ConfigVersion(2));
    }

    #[test]
    fn a_configuration_beyond_the_limit_changes_nothing() {
        let mut state = begun();
        let huge = "x".repeat(CONFIG_BYTES_MAX + 1);
        let refused = state.apply(LogIndex(2), offer(OfferMode::Replace, &huge));
        assert_eq!(refused, MetaResponse::Refused(Refusal::ConfigTooLarge(CONFIG_BYTES_MAX as u64 + 1)));
        assert_eq!(state.config(), None);
    }
}
