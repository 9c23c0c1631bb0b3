//! Waiting for conditions, never for time.

use std::{
    thread::sleep,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// Calls `condition` until it yields a value.
///
/// # Panics
/// If it does not within `patience`; the message names `what` and the last thing that `condition` said.
pub fn wait_until<T>(what: &str, patience: Duration, condition: impl FnMut() -> Result<T, String>) -> T {
    within(what, patience, condition).unwrap_or_else(|late| panic!("{late}"))
}

/// Calls `condition` until it yields a value.
///
/// # Errors
/// If it does not within `patience`; the text names `what` and the last thing that `condition` said.
pub fn within<T>(
    what: &str,
    patience: Duration,
    mut condition: impl FnMut() -> Result<T, String>,
) -> Result<T, String> {
    let deadline = Instant::now() + patience;
    loop {
        match condition() {
            Ok(value) => return Ok(value),
            Err(said) if Instant::now() >= deadline => {
                return Err(format!("{what}: not within {patience:?}; last: {said}"));
            }
            Err(_) => sleep(Duration::from_millis(50)),
        }
    }
}

/// Milliseconds since the epoch.
#[must_use]
pub fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("the machine's clock is past 1970");
    i64::try_from(since.as_millis()).expect("the machine's clock is not that far ahead")
}
