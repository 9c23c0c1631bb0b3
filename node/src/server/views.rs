//! Views: by default with read indexes from every shard's leader.

use super::Node;
use model::{BoxFuture, Consistency, OpenView, ShardId, ViewError, ViewIndexes, Views};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use storage::shard::MergedView;

/// Opens views of this node's replicas.
pub(crate) struct NodeViews {
    node: Arc<Node>,
}

impl NodeViews {
    pub(crate) fn new(node: Arc<Node>) -> NodeViews {
        NodeViews { node }
    }

    /// Waits until this node has applied at least these indexes.
    async fn wait_applied(&self, indexes: &ViewIndexes, deadline: Duration) -> Result<(), ViewError> {
        for (shard, index) in &indexes.0 {
            let left = deadline.saturating_sub(self.node.ports.clock.monotonic());
            if !self.node.raft.wait_applied(*shard, *index, left).await {
                let reason = format!("shard {shard} has not applied entry {index} on this node in time");
                return Err(ViewError::Unavailable(reason));
            }
        }
        Ok(())
    }

    async fn open_view(&self, consistency: Consistency, patience: Duration) -> Result<OpenView, ViewError> {
        let node = &self.node;
        let deadline = node.ports.clock.monotonic() + patience;
        if !node.health.are_shards_open() {
            return Err(ViewError::Unavailable(
                "this node is starting, or is not yet a member of its cluster".to_owned(),
            ));
        }
        if node.has_ended() {
            return Err(ViewError::Unavailable("this node is stopping".to_owned()));
        }
        let shards: Vec<ShardId> = node.data_shards().iter().map(|shard| shard.shard()).collect();
        let mut warnings = Vec::new();
        match consistency {
            Consistency::Default => {
                let indexes = node.raft.read_index(&shards, patience).await;
                let indexes = indexes.map_err(|error| ViewError::Unavailable(error.to_string()))?;
                self.wait_applied(&ViewIndexes(indexes), deadline).await?;
            }
            Consistency::AtLeast(indexes) => self.wait_applied(&indexes, deadline).await?,
            Consistency::Stale => warnings.extend(node.health.staleness(node.ports.clock.now())),
        }
        let views: Vec<_> = node.data_shards().iter().map(|shard| shard.view()).collect();
        let merged = MergedView::new(views.clone()).with_workers(node.ports.spawner.clone());
        let indexes: BTreeMap<_, _> = views.iter().map(|view| (view.shard(), view.index())).collect();
        Ok(OpenView { queryable: Arc::new(merged), indexes: ViewIndexes(indexes), warnings })
    }
}

impl Views for NodeViews {
    fn open(
        &self,
        consistency: Consistency,
        timeout: Duration,
    ) -> BoxFuture<'_, Result<OpenView, ViewError>> {
        Box::pin(self.open_view(consistency, timeout))
    }
}
