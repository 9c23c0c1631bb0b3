//! The cluster's state, gathered from all nodes, and the one answer an operator wants: may I lose another node?

use super::{
    Node,
    calls::{self, ASK_PATIENCE},
    views::NodeViews,
};
use api::ports::{
    Cluster, ClusterStatus, ConfigStatus, Gap, GapQuery, NodeState, NodeStatus, ReplicaRole, ReplicaStatus,
    ShardStatus,
};
use futures::future::join_all;
use model::{
    BoxFuture, ConfigVersion, LogIndex, NodeId, ShardId, StateHash, StateMachine, Term, ViewError, Views,
};
use raft::{GroupRole, meta::MetaState};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

/// Silence after which a node that does not answer is called dead.
const DEAD_AFTER: Duration = Duration::from_secs(5);
/// Entries by which a replica may lag and still count as whole.
const LAG_MAX: u64 = 2_000;
/// How long a removed node stays listed.
const REMOVED_LISTED_MS: i64 = 3_600_000;

/// What a node says of one of its replicas.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ReplicaInfo {
    leads: bool,
    leader: Option<NodeId>,
    term: Term,
    committed: Option<LogIndex>,
    applied: Option<LogIndex>,
    config_version: ConfigVersion,
    /// (index, hash) of the newest entries.
    hashes: Vec<(u64, u128)>,
    failure: Option<String>,
}

impl ReplicaInfo {
    /// Whether it has applied nearly everything. One that has applied nothing yet has nothing to give, however
    /// young the shard is.
    fn is_whole(&self, committed: LogIndex) -> bool {
        self.failure.is_none() && self.applied.is_some_and(|applied| applied.0 + LAG_MAX >= committed.0)
    }
}

/// What a node says of itself.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct NodeInfo {
    version: String,
    replicas: BTreeMap<ShardId, ReplicaInfo>,
}

/// What two replicas' state hashes say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Likeness {
    /// They were equal at this index, the newest that both remember.
    Equal(LogIndex),
    /// They were not.
    Different(LogIndex),
    /// Both remember no index, or one has not applied anything.
    Unknown,
}

impl NodeInfo {
    /// Compares two nodes' replicas of a shard.
    pub(crate) fn compare(&self, other: &NodeInfo, shard: ShardId) -> Likeness {
        let (Some(ours), Some(theirs)) = (self.replicas.get(&shard), other.replicas.get(&shard)) else {
            return Likeness::Unknown;
        };
        let both = ours.hashes.iter().rev().find_map(|(at, hash)| {
            let theirs = theirs.hashes.iter().find(|(of, _)| of == at)?;
            Some((LogIndex(*at), *hash == theirs.1))
        });
        match both {
            Some((at, true)) => Likeness::Equal(at),
            Some((at, false)) => Likeness::Different(at),
            None => Likeness::Unknown,
        }
    }
}

/// What this node says of itself.
pub(crate) fn info_of(node: &Node) -> NodeInfo {
    let replica = |shard: ShardId| {
        let status = node.raft.status(shard)?;
        let progress = node.raft.progress(shard)?;
        let (hashes, config_version) = match node.shard(shard) {
            Some(data) => (data.recent_hashes(), data.config_version()),
            None => (node.meta.recent_hashes(), node.meta.state().config_version()),
        };
        let info = ReplicaInfo {
            leads: status.role == GroupRole::Leader,
            leader: status.leader,
            term: status.term,
            committed: progress.committed,
            applied: progress.applied,
            config_version,
            hashes: hashes.iter().map(|hash| (hash.index.0, hash.hash)).collect(),
            failure: node.health.trouble().or(status.failure),
        };
        Some((shard, info))
    };
    let replicas = node.raft.shards().into_iter().filter_map(replica).collect();
    NodeInfo { version: env!("CARGO_PKG_VERSION").to_owned(), replicas }
}

/// Implements the API's port.
pub(crate) struct NodeCluster {
    node: Arc<Node>,
    views: NodeViews,
}

impl NodeCluster {
    pub(crate) fn new(node: Arc<Node>) -> NodeCluster {
        NodeCluster { views: NodeViews::new(node.clone()), node }
    }

    async fn gather(&self, state: &MetaState) -> BTreeMap<NodeId, NodeInfo> {
        let us = self.node.id();
        let asked = state.members().filter(|(id, _)| *id != us).map(|(id, _)| async move {
            let answer =
                self.node.raft.call(id, calls::NODE_INFO, bytes::Bytes::new(), ASK_PATIENCE).await.ok()?;
            calls::decode::<NodeInfo>(&answer).ok().map(|info| (id, info))
        });
        let mut infos: BTreeMap<_, _> = join_all(asked).await.into_iter().flatten().collect();
        infos.insert(us, info_of(&self.node));
        infos
    }

    /// The nodes that say that their files of targets are not as the cluster has them. Who does not say is not told of.
    async fn with_other_files(&self, state: &MetaState) -> BTreeSet<NodeId> {
        let us = self.node.id();
        let asked = state.members().map(|(id, _)| async move {
            let differs = if id == us {
                self.node.has_other_files.load(Ordering::Relaxed)
            } else {
                let body = bytes::Bytes::new();
                let answer = self.node.raft.call(id, calls::OTHER_FILES, body, ASK_PATIENCE).await.ok()?;
                calls::decode::<bool>(&answer).ok()?
            };
            differs.then_some(id)
        });
        join_all(asked).await.into_iter().flatten().collect()
    }

    async fn all_status(&self) -> ClusterStatus {
        let state = self.node.meta.state();
        let (infos, other_files) = futures::join!(self.gather(&state), self.with_other_files(&state));
        let nodes = self.nodes(&state, &infos);
        let shards: Vec<_> = self
            .node
            .raft
            .shards()
            .into_iter()
            .filter_map(|shard| self.shard_status(shard, &state, &infos))
            .collect();
        let why = self.why_not(&state, &infos, &shards);
        ClusterStatus {
            cluster_id: state.cluster_id,
            nodes,
            shards,
            config: self.config_status(&state, &other_files),
            may_lose_another_node: why.is_none(),
            why: why.unwrap_or_default(),
        }
    }

    fn nodes(&self, state: &MetaState, infos: &BTreeMap<NodeId, NodeInfo>) -> Vec<NodeStatus> {
        let silence = self.node.raft.silence();
        let now = self.node.ports.clock.now();
        let listed = state
            .nodes
            .iter()
            .filter(|(_, node)| node.removed_at.is_none_or(|at| now.0 - at.0 < REMOVED_LISTED_MS));
        listed
            .map(|(id, record)| {
                let silent = silence.get(id).copied().flatten();
                let node_state = match infos.get(id) {
                    _ if record.removed_at.is_some() => NodeState::Removed,
                    _ if record.replaces.is_some() => NodeState::Joining,
                    Some(_) => NodeState::Alive,
                    None if silent.is_some_and(|silent| silent < DEAD_AFTER) => NodeState::Suspect,
                    None => NodeState::Dead,
                };
                NodeStatus {
                    id: *id,
                    name: record.name.clone(),
                    state: node_state,
                    web_address: record.web_address.clone(),
                    version: infos
                        .get(id)
                        .map_or_else(|| record.version.clone(), |info| info.version.clone()),
                    clock_offset_seconds: self.node.clock_off_ms(*id).map(|ms| ms as f64 / 1000.0),
                }
            })
            .collect()
    }

    fn shard_status(
        &self,
        shard: ShardId,
        state: &MetaState,
        infos: &BTreeMap<NodeId, NodeInfo>,
    ) -> Option<ShardStatus> {
        let group = self.node.raft.status(shard)?;
        let of = |id: &NodeId| infos.get(id).and_then(|info| info.replicas.get(&shard));
        // Whoever says that it leads in the highest term, if a majority may agree; else what this node knows.
        let claims =
            infos.iter().filter_map(|(id, info)| info.replicas.get(&shard).map(|replica| (id, replica)));
        let leader = claims.filter(|(_, replica)| replica.leads).max_by_key(|(_, replica)| replica.term);
        let followers = group
            .voters
            .iter()
            .filter(|id| of(id).is_some_and(|r| leader.is_some_and(|(l, _)| r.leader == Some(*l))));
        let quorum = followers.count() * 2 > group.voters.len();
        let leader = leader.filter(|_| quorum);
        let members: Vec<NodeId> = group.voters.iter().chain(&group.learners).copied().collect();
        let common = common_hash_index(members.iter().filter_map(of));
        let replicas = members.iter().map(|id| {
            let info = of(id);
            let role = match (leader, group.voters.contains(id)) {
                (Some((leader, _)), _) if leader == id => ReplicaRole::Leader,
                (_, true) => ReplicaRole::Voter,
                (_, false) => ReplicaRole::Learner,
            };
            let hash = common.and_then(|index| {
                let (index, hash) = info?.hashes.iter().find(|(at, _)| *at == index)?;
                Some(StateHash { index: LogIndex(*index), hash: *hash })
            });
            ReplicaStatus {
                node: name(state, *id),
                role,
                applied_index: info.and_then(|info| info.applied),
                state_hash: hash,
            }
        });
        let known = || infos.values().filter_map(|info| info.replicas.get(&shard));
        Some(ShardStatus {
            id: shard,
            leader: leader.map(|(id, _)| name(state, *id)),
            term: known().map(|replica| replica.term).max().unwrap_or(group.term),
            commit_index: known().filter_map(|replica| replica.committed).max().unwrap_or_default(),
            config_version: known().map(|replica| replica.config_version).max().unwrap_or_default(),
            replicas: replicas.collect(),
        })
    }

    fn config_status(&self, state: &MetaState, other_files: &BTreeSet<NodeId>) -> ConfigStatus {
        let Some(config) = state.config() else { return ConfigStatus::default() };
        let in_force = xxhash_rust::xxh3::xxh3_64(config.text.as_bytes());
        let other = state.members().filter(|(id, node)| {
            node.offered_hash.is_some_and(|hash| hash != in_force) || other_files.contains(id)
        });
        ConfigStatus {
            version: config.version,
            hash: format!("{:016x}", config.hash()),
            nodes_with_other_files: other.map(|(_, node)| node.name.clone()).collect(),
            ignored: self
                .node
                .plan
                .borrow()
                .config
                .as_ref()
                .map(|config| config.ignored.clone())
                .unwrap_or_default(),
        }
    }

    /// Why no further node may be lost; `None` if one may.
    fn why_not(
        &self,
        state: &MetaState,
        infos: &BTreeMap<NodeId, NodeInfo>,
        shards: &[ShardStatus],
    ) -> Option<String> {
        if shards.len() != state.shards as usize + 1 || state.shards == 0 {
            return Some("this node has not opened all shards yet".to_owned());
        }
        if let Some((id, node)) = state.members().find(|(_, node)| node.replaces.is_some()) {
            return Some(format!("node {id} ({}) is still joining", node.name));
        }
        for shard in shards {
            let Some(group) = self.node.raft.status(shard.id) else {
                return Some(format!("shard {} is not hosted here", shard.id));
            };
            if shard.leader.is_none() {
                return Some(format!("shard {} has no leader with a majority", shard.id));
            }
            if group.voters.len() < 3 {
                return Some(format!(
                    "shard {} has {} voters; three are needed to lose one",
                    shard.id,
                    group.voters.len()
                ));
            }
            if group.changing {
                return Some(format!("the members of shard {} are changing", shard.id));
            }
            let mut hashes = shard.replicas.iter().filter_map(|replica| replica.state_hash);
            if let Some(first) = hashes.next()
                && hashes.any(|other| other != first)
            {
                return Some(format!("replicas of shard {} differ: run vestal check on the nodes", shard.id));
            }
            let whole = |id: &&NodeId| {
                let replica = infos.get(id).and_then(|info| info.replicas.get(&shard.id));
                replica.is_some_and(|replica| replica.is_whole(shard.commit_index))
            };
            let count = group.voters.iter().filter(whole).count();
            let majority = group.voters.len() / 2 + 1;
            if count < majority + 1 {
                let missing = group.voters.iter().find(|id| !whole(id));
                let said = missing.and_then(|id| infos.get(id)?.replicas.get(&shard.id)?.failure.clone());
                let what = said.unwrap_or_else(|| "missing, or lags behind".to_owned());
                return Some(format!(
                    "{}: {what}; shard {} has {count} of {} replicas up to date",
                    missing.map(|id| name(state, *id)).unwrap_or_default(),
                    shard.id,
                    group.voters.len()
                ));
            }
        }
        None
    }

    async fn find_gaps(&self, query: GapQuery) -> Result<Vec<Gap>, ViewError> {
        self.views.open(query.consistency, query.timeout).await?;
        let mut gaps = Vec::new();
        for shard in self.node.data_shards() {
            for gap in shard.gaps(query.start, query.end) {
                let target = match &*gap.source {
                    model::SourceKey::Scrape { labels, .. } => labels.clone(),
                    model::SourceKey::RemoteWrite { .. } => continue,
                };
                let slots = gap.slots.count();
                gaps.push(Gap {
                    target,
                    from: gap.slots.from,
                    to: gap.slots.to,
                    slots,
                    reason: gap.slots.reason,
                });
            }
        }
        gaps.sort_by(|a, b| (&a.target, a.from).cmp(&(&b.target, b.from)));
        gaps.truncate(query.limit);
        Ok(gaps)
    }
}

fn name(state: &MetaState, id: NodeId) -> String {
    state.nodes.get(&id).map_or_else(|| format!("node {id}"), |node| node.name.clone())
}

/// The newest index of which all reachable replicas know the hash.
fn common_hash_index<'a>(replicas: impl Iterator<Item = &'a ReplicaInfo> + Clone) -> Option<u64> {
    let first = replicas.clone().next()?;
    let known =
        |index: u64| replicas.clone().all(|replica| replica.hashes.iter().any(|(at, _)| *at == index));
    first.hashes.iter().rev().map(|(index, _)| *index).find(|index| known(*index))
}

impl Cluster for NodeCluster {
    fn status(&self) -> BoxFuture<'_, ClusterStatus> {
        Box::pin(self.all_status())
    }

    fn gaps(&self, query: GapQuery) -> BoxFuture<'_, Result<Vec<Gap>, ViewError>> {
        Box::pin(self.find_gaps(query))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replica(applied: Option<u64>, hashes: &[(u64, u128)]) -> ReplicaInfo {
        ReplicaInfo {
            leads: false,
            leader: None,
            term: Term(1),
            committed: None,
            applied: applied.map(LogIndex),
            config_version: ConfigVersion(1),
            hashes: hashes.to_vec(),
            failure: None,
        }
    }

    fn info(hashes: &[(u64, u128)]) -> NodeInfo {
        let replicas = BTreeMap::from([(ShardId(1), replica(Some(9), hashes))]);
        NodeInfo { version: String::new(), replicas }
    }

    fn compare(ours: &[(u64, u128)], theirs: &[(u64, u128)]) -> Likeness {
        info(ours).compare(&info(theirs), ShardId(1))
    }

    #[test]
    fn a_replica_without_anything_applied_is_not_whole_in_the_youngest_shard() {
        assert!(!replica(None, &[]).is_whole(LogIndex(3)));
        assert!(replica(Some(2), &[]).is_whole(LogIndex(3)));
        assert!(!replica(Some(1), &[]).is_whole(LogIndex(2 + LAG_MAX)));
    }

    #[test]
    fn replicas_are_alike_only_where_both_remember_the_same_hash() {
        assert_eq!(compare(&[(7, 1), (8, 2)], &[(8, 2), (9, 3)]), Likeness::Equal(LogIndex(8)));
        assert_eq!(compare(&[(7, 1), (8, 2)], &[(7, 1), (8, 3)]), Likeness::Different(LogIndex(8)));
        assert_eq!(compare(&[(7, 1)], &[(8, 2)]), Likeness::Unknown);
        assert_eq!(compare(&[], &[]), Likeness::Unknown);
        assert_eq!(info(&[(7, 1)]).compare(&NodeInfo::default(), ShardId(1)), Likeness::Unknown);
    }
}
