//! Places for queries: so many are evaluated at once, the others wait for as long as their time allows.

use crate::{
    active::{ActiveLog, Entered},
    options::Options,
    state::Counters,
};
use model::Fs;
use std::{sync::Arc, time::Duration};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

pub(crate) struct Queue {
    places: Arc<Semaphore>,
    active: Option<ActiveLog>,
    counters: Arc<Counters>,
}

impl Queue {
    pub(crate) fn new(fs: &dyn Fs, options: &Options, counters: Arc<Counters>) -> Queue {
        let places = options.query_concurrency_max.max(1);
        counters.engine.set_concurrent_max(places);
        let active = options.active_queries.as_deref().and_then(|path| {
            let opened = ActiveLog::open(fs, path, places);
            opened
                .inspect_err(|error| {
                    let file = path.display();
                    tracing::warn!(%error, %file, "the queries that run cannot be written down");
                })
                .ok()
        });
        Queue { places: Arc::new(Semaphore::new(places)), active, counters }
    }

    /// Waits for a place; `None` if there is none in time.
    pub(crate) async fn enter(&self, patience: Duration) -> Option<Place> {
        let counted = Counted::new(&self.counters);
        let permit = tokio::time::timeout(patience, self.places.clone().acquire_owned()).await;
        Some(Place { _permit: permit.ok()?.ok()?, _counted: counted })
    }

    /// Writes a query down that has a place. Blocks for a moment.
    pub(crate) fn write_down(&self, query: &str, at: i64) -> Option<Entered<'_>> {
        self.active.as_ref().map(|active| active.enter(query, at))
    }
}

/// A query's place; free again when dropped.
pub(crate) struct Place {
    _permit: OwnedSemaphorePermit,
    _counted: Counted,
}

/// Counts a query that waits or is evaluated.
struct Counted(Arc<Counters>);

impl Counted {
    fn new(counters: &Arc<Counters>) -> Counted {
        counters.engine.enter();
        Counted(counters.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.engine.leave();
    }
}
