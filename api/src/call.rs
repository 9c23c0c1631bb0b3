//! One request to the API on its way to its endpoint.

use crate::{form::Form, output::Encoding, state::Shared};
use http::{HeaderMap, Method};
use model::Budget;
use std::{net::IpAddr, sync::Arc, time::Duration};

/// A query that takes longer lets others go first: a dashboard's are shorter.
const COURTESY: Duration = Duration::from_millis(50);

/// What every endpoint gets.
pub(crate) struct Call {
    pub(crate) state: Shared,
    pub(crate) form: Form,
    pub(crate) headers: HeaderMap,
    pub(crate) encoding: Encoding,
    pub(crate) origin: Origin,
}

/// Where a call comes from, for the query log.
#[derive(Clone, Debug)]
pub(crate) struct Origin {
    /// Not known of requests that came over no connection.
    pub(crate) client: Option<IpAddr>,
    pub(crate) method: Method,
    /// Below `/api/v1`.
    pub(crate) path: String,
}

impl Call {
    /// A budget for one query that begins now.
    pub(crate) fn budget(&self, timeout: Duration) -> Arc<Budget> {
        let state = &self.state;
        let budget = Budget::new(state.ports.clock.clone(), timeout, state.options.query_bytes_max);
        let spawner = state.ports.spawner.clone();
        Arc::new(budget.within(state.memory.clone()).courteous(spawner, COURTESY))
    }
}
