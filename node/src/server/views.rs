//! Views: by default with read indexes from every shard's leader.

use super::Node;
use model::{BoxFuture, Consistency, EarlyView, OpenView, ShardId, ViewError, ViewIndexes, Views};
use std::{collections::BTreeMap, future::poll_fn, sync::Arc, task::Poll, time::Duration};
use storage::shard::MergedView;

/// Turns of the thread until a question is on the wire: one for the link to the peer, one for its socket, and one more.
const TURNS_TO_WIRE: usize = 3;

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

    /// Whether there is anything to show.
    fn check(&self) -> Result<(), ViewError> {
        let node = &self.node;
        if !node.health.are_shards_open() {
            return Err(ViewError::Unavailable(
                "this node is starting, or is not yet a member of its cluster".to_owned(),
            ));
        }
        if node.has_ended() {
            return Err(ViewError::Unavailable("this node is stopping".to_owned()));
        }
        Ok(())
    }

    /// Up to where the shards must be applied here to show all that there was before the call; they are, when this
    /// yields.
    async fn read_index(&self, patience: Duration) -> Result<ViewIndexes, ViewError> {
        let shards: Vec<ShardId> = self.node.data_shards().iter().map(|shard| shard.shard()).collect();
        let indexes = self.node.raft.read_index(&shards, patience).await;
        indexes.map(ViewIndexes).map_err(|error| ViewError::Unavailable(error.to_string()))
    }

    /// What this node shows now.
    fn view(&self, warnings: Vec<String>) -> OpenView {
        let views: Vec<_> = self.node.data_shards().iter().map(|shard| shard.view()).collect();
        let indexes: BTreeMap<_, _> = views.iter().map(|view| (view.shard(), view.index())).collect();
        let merged = MergedView::new(views).with_workers(self.node.ports.spawner.clone());
        OpenView { queryable: Arc::new(merged), indexes: ViewIndexes(indexes), warnings }
    }

    async fn open_view(&self, consistency: Consistency, patience: Duration) -> Result<OpenView, ViewError> {
        let deadline = self.node.ports.clock.monotonic() + patience;
        self.check()?;
        let mut warnings = Vec::new();
        match consistency {
            Consistency::Default => {
                let indexes = self.read_index(patience).await?;
                self.wait_applied(&indexes, deadline).await?;
            }
            Consistency::AtLeast(indexes) => self.wait_applied(&indexes, deadline).await?,
            Consistency::Stale => {
                warnings.extend(self.node.health.staleness(self.node.ports.clock.now()));
            }
        }
        Ok(self.view(warnings))
    }

    /// A view of now, when the question how far it must reach is on its way: the answer takes as long as a small query.
    /// What was read from the view counts if each of its shards was applied as far as the answer says, which holds what
    /// there was before the question, and so before the query.
    async fn open_view_early(&self, patience: Duration) -> Result<EarlyView<'_>, ViewError> {
        self.check()?;
        let mut reading: BoxFuture<'_, _> = Box::pin(self.read_index(patience));
        for _ in 0..TURNS_TO_WIRE {
            if let Poll::Ready(indexes) = futures::poll!(&mut reading) {
                indexes?;
                return Ok(EarlyView::settled(self.view(Vec::new())));
            }
            turn().await;
        }
        let view = self.view(Vec::new());
        let shown = view.indexes.clone();
        let verdict = Box::pin(async move {
            let indexes = reading.await?;
            if shows(&shown, &indexes) {
                return Ok(None);
            }
            model::point!("read.early-in-vain");
            Ok(Some(self.view(Vec::new())))
        });
        Ok(EarlyView { view, verdict })
    }
}

/// Whether a view of these indexes has all shards at least this far.
fn shows(shown: &ViewIndexes, wanted: &ViewIndexes) -> bool {
    wanted.0.iter().all(|(shard, index)| shown.0.get(shard).is_some_and(|shown| shown >= index))
}

/// Lets the tasks that are ready go first.
async fn turn() {
    let mut waited = false;
    poll_fn(|cx| {
        if waited {
            return Poll::Ready(());
        }
        waited = true;
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

impl Views for NodeViews {
    fn open(
        &self,
        consistency: Consistency,
        timeout: Duration,
    ) -> BoxFuture<'_, Result<OpenView, ViewError>> {
        Box::pin(self.open_view(consistency, timeout))
    }

    fn open_early(
        &self,
        consistency: Consistency,
        timeout: Duration,
    ) -> BoxFuture<'_, Result<EarlyView<'_>, ViewError>> {
        Box::pin(async move {
            if consistency == Consistency::Default {
                return self.open_view_early(timeout).await;
            }
            Ok(EarlyView::settled(self.open_view(consistency, timeout).await?))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::LogIndex;

    fn indexes(list: &[(u32, u64)]) -> ViewIndexes {
        ViewIndexes(list.iter().map(|(shard, index)| (ShardId(*shard), LogIndex(*index))).collect())
    }

    #[test]
    fn a_view_is_enough_if_each_shard_that_was_asked_for_is_as_far() {
        let shown = indexes(&[(1, 100), (2, 57)]);
        assert!(shows(&shown, &indexes(&[(1, 100), (2, 57)])));
        assert!(shows(&shown, &indexes(&[(1, 99)])));
        assert!(!shows(&shown, &indexes(&[(1, 100), (2, 58)])));
        assert!(!shows(&shown, &indexes(&[(3, 0)])));
    }
}
