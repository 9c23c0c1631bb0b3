//! Room that is kept for entries until they are in the log.

use super::{lock, writer::Shared};
use std::{fmt, sync::Arc};

/// Room in the log, given back when this is dropped.
pub struct Reserved {
    log: Arc<Shared>,
    bytes: u64,
}

impl Reserved {
    pub(super) fn new(log: Arc<Shared>, bytes: u64) -> Reserved {
        Reserved { log, bytes }
    }
}

impl fmt::Debug for Reserved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reserved").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        lock(&self.log.state).reserved -= self.bytes;
    }
}
