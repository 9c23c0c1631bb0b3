//! Refused peers come again ten times a second: each is logged once in a while, with how often it came.

use std::{collections::BTreeMap, time::Duration};

/// Between two lines about the same peer and reason.
const INTERVAL: Duration = Duration::from_secs(30);
/// Peers and reasons that are remembered; of more, the one that was logged first is forgotten.
const KNOWN_MAX: usize = 64;

/// What was refused lately.
#[derive(Debug, Default)]
pub(super) struct Refusals(BTreeMap<(String, String), (Duration, u64)>);

impl Refusals {
    /// Notes a refusal; yields how often the same was passed over if it is time to log it.
    pub(super) fn note(&mut self, now: Duration, peer: &str, reason: &str) -> Option<u64> {
        let key = (peer.to_owned(), reason.to_owned());
        if let Some((logged, silent)) = self.0.get_mut(&key) {
            if now < *logged + INTERVAL {
                *silent += 1;
                return None;
            }
            *logged = now;
            return Some(std::mem::take(silent));
        }
        if self.0.len() >= KNOWN_MAX {
            let oldest = self.0.iter().min_by_key(|(_, (logged, _))| *logged).map(|(key, _)| key.clone());
            oldest.and_then(|key| self.0.remove(&key));
        }
        self.0.insert(key, (now, 0));
        Some(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn the_same_refusal_is_logged_once_in_a_while_with_its_number() {
        let mut refusals = Refusals::default();
        assert_eq!(refusals.note(at(1), "node-2", "was removed"), Some(0));
        assert_eq!(refusals.note(at(2), "node-2", "was removed"), None);
        assert_eq!(refusals.note(at(3), "node-2", "is another"), Some(0));
        assert_eq!(refusals.note(at(30), "node-2", "was removed"), None);
        assert_eq!(refusals.note(at(31), "node-2", "was removed"), Some(2));
        assert_eq!(refusals.note(at(61), "node-2", "was removed"), Some(0));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut refusals = Refusals::default();
        (0..1_000_u64).for_each(|i| assert_eq!(refusals.note(at(i), &i.to_string(), "no"), Some(0)));
        assert_eq!(refusals.0.len(), KNOWN_MAX);
        assert_eq!(refusals.note(at(1_000), "999", "no"), None);
    }
}
