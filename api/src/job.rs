//! Work of a request: on the spawner's threads, ended when the client goes away; or at once, if it is small.

use crate::{
    error::{ApiError, ErrorType},
    state::State,
};
use model::{Budget, run_blocking};
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

/// Cancels a budget when it is dropped: a handler is dropped when its client closes the connection.
pub(crate) struct CancelOnDrop(pub(crate) Arc<Budget>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// Runs `work` on a thread that may block and waits for what it yields.
pub(crate) async fn run<T: Send + 'static>(
    state: &State,
    name: &'static str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, ApiError> {
    run_blocking(&*state.ports.spawner, name, work).await.ok_or_else(ended)
}

/// Runs `work` here and now: for what takes no longer than waking a thread. As on a thread of its own, a panic ends the
/// work alone, and is logged by the hook.
pub(crate) fn here<T>(work: impl FnOnce() -> T) -> Result<T, ApiError> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|_| ended())
}

fn ended() -> ApiError {
    ApiError::new(ErrorType::Internal, "the work ended without an answer")
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::{Clock, QueryError, TimestampMs};
    use std::time::Duration;

    #[derive(Debug)]
    struct Stopped;

    impl Clock for Stopped {
        fn now(&self) -> TimestampMs {
            TimestampMs(0)
        }
        fn monotonic(&self) -> Duration {
            Duration::ZERO
        }
    }

    #[test]
    fn a_panic_of_small_work_is_an_error() {
        assert_eq!(here(|| 7).ok(), Some(7));
        let error = here(|| -> u8 { panic!("on purpose") }).expect_err("no answer");
        assert_eq!((error.kind, &*error.text), (ErrorType::Internal, "the work ended without an answer"));
    }

    #[test]
    fn a_dropped_handler_cancels_its_query() {
        let budget = Arc::new(Budget::new(Arc::new(Stopped), Duration::from_secs(1), 1));
        let guard = CancelOnDrop(budget.clone());
        assert_eq!(budget.check(), Ok(()));
        drop(guard);
        assert_eq!(budget.check(), Err(QueryError::Canceled));
    }
}
