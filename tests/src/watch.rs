//! Watching what a node answers while something is done to the cluster.

use crate::{Client, Ledger, now_ms, wait_until};
use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle, sleep},
    time::Duration,
};

/// What a watched node answered.
#[derive(Clone, Debug, Default)]
pub struct Watched {
    /// Default answers that contained everything acknowledged before the question.
    pub fresh: u64,
    /// Questions without an answer (503, no connection).
    pub refused: u64,
    /// Answers that lacked something acknowledged before; must be empty.
    pub stale: Vec<String>,
}

/// Asks one node without a pause whether a default answer holds the newest sample that was acknowledged before the
/// question.
#[derive(Debug)]
pub struct FreshnessWatch {
    stop: Arc<AtomicBool>,
    fresh: Arc<AtomicU64>,
    refused: Arc<AtomicU64>,
    thread: JoinHandle<Watched>,
}

impl FreshnessWatch {
    /// Watches `node` for the samples of instance 0 in the ledger of a writer of `metric`.
    ///
    /// # Panics
    /// In its thread, if the writer panicked.
    #[must_use]
    pub fn start(node: &Client, metric: &str, ledger: Arc<Mutex<Ledger>>) -> FreshnessWatch {
        let stop = Arc::new(AtomicBool::new(false));
        let fresh = Arc::new(AtomicU64::new(0));
        let refused = Arc::new(AtomicU64::new(0));
        let (stopped, answered, unanswered) = (stop.clone(), fresh.clone(), refused.clone());
        let node = Client::new(node.base.clone(), Duration::from_secs(5));
        let query = format!("timestamp({metric}{{instance=\"i000\",series=\"s00000\"}})");
        let thread = thread::spawn(move || {
            let mut watched = Watched::default();
            while !stopped.load(Ordering::Relaxed) {
                let newest = ledger.lock().expect("no writer panics").newest(0);
                // At our time: the node's own may be a day off.
                match (newest, node.query(&query, Some(now_ms() as f64 / 1000.0))) {
                    (None, _) => {}
                    (Some(_), Err(_)) => {
                        watched.refused += 1;
                        unanswered.store(watched.refused, Ordering::Relaxed);
                    }
                    (Some(newest), Ok(found)) => {
                        let value = found.first().and_then(|series| series["value"][1].as_str());
                        let got = value.and_then(|text| text.parse::<f64>().ok()).unwrap_or(0.0);
                        if (got * 1000.0).round() as i64 >= newest {
                            watched.fresh += 1;
                            answered.store(watched.fresh, Ordering::Relaxed);
                        } else {
                            watched
                                .stale
                                .push(format!("{newest} was acknowledged, the answer ends at {got}"));
                        }
                    }
                }
                sleep(Duration::from_millis(20));
            }
            watched
        });
        FreshnessWatch { stop, fresh, refused, thread }
    }

    /// Default answers so far that contained everything acknowledged before the question.
    #[must_use]
    pub fn fresh(&self) -> u64 {
        self.fresh.load(Ordering::Relaxed)
    }

    /// Waits until there are more such answers than `before`.
    ///
    /// # Panics
    /// If there are not within `patience`.
    pub fn wait_fresh(&self, before: u64, patience: Duration) {
        wait_until("a watched node gives a fresh answer", patience, || match self.fresh() {
            fresh if fresh > before => Ok(()),
            fresh => Err(format!("{fresh} so far")),
        });
    }

    /// Waits until a question had no answer.
    ///
    /// # Panics
    /// If each has one within `patience`.
    pub fn wait_refused(&self, patience: Duration) {
        wait_until("a watched node refuses to answer", patience, || {
            match self.refused.load(Ordering::Relaxed) {
                0 => Err("each question has an answer".to_owned()),
                _ => Ok(()),
            }
        });
    }

    /// Ends the watch.
    ///
    /// # Panics
    /// If its thread panicked.
    #[must_use]
    pub fn stop(self) -> Watched {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the watch does not panic")
    }
}
