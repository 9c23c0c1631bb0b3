//! One request to the API on its way to its endpoint.

use crate::{form::Form, output::Encoding, state::Shared};
use http::HeaderMap;
use model::Budget;
use std::{sync::Arc, time::Duration};

/// What every endpoint gets.
pub(crate) struct Call {
    pub(crate) state: Shared,
    pub(crate) form: Form,
    pub(crate) headers: HeaderMap,
    pub(crate) encoding: Encoding,
}

impl Call {
    /// A budget for one query that begins now.
    pub(crate) fn budget(&self, timeout: Duration) -> Arc<Budget> {
        Arc::new(Budget::new(self.state.ports.clock.clone(), timeout, self.state.options.query_bytes_max))
    }
}
