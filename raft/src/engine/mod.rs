//! openraft, and what it needs: log storage, state machine, network, timer. Nobody outside sees its types.

pub(crate) mod apply;
pub(crate) mod driver;
pub(crate) mod log_store;
pub(crate) mod machine;
pub(crate) mod network;
pub(crate) mod snapshot;
pub(crate) mod types;
pub(crate) mod witness;
