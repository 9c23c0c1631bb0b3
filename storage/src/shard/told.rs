//! What raft's thread and status pages ask of a replica, in a lock that nobody holds while he works: the state's own
//! is held for as long as an entry takes.

use super::state::State;
use model::{Applied, ConfigVersion, StateHash};
use std::collections::VecDeque;

/// State hashes that are remembered.
const HASHES_MAX: usize = 256;

/// As of the last entry.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) applied: Applied,
    pub(crate) checkpointed: Applied,
    pub(crate) config_version: ConfigVersion,
    /// Of the last entries, ascending.
    pub(crate) hashes: VecDeque<StateHash>,
}

impl Told {
    /// Of a state that was loaded.
    pub(crate) fn of(state: &State) -> Told {
        Told {
            applied: state.applied.clone(),
            checkpointed: state.checkpointed.clone(),
            config_version: state.settings.version,
            hashes: state.last_hash.into_iter().collect(),
        }
    }

    /// After an entry or a checkpoint; whether there is a new checkpoint.
    pub(crate) fn note(&mut self, state: &State) -> bool {
        let durable = self.checkpointed != state.checkpointed;
        if durable {
            self.checkpointed = state.checkpointed.clone();
        }
        self.applied = state.applied.clone();
        self.config_version = state.settings.version;
        if self.hashes.back() != state.last_hash.as_ref() {
            if self.hashes.len() == HASHES_MAX {
                self.hashes.pop_front();
            }
            self.hashes.extend(state.last_hash);
        }
        durable
    }
}
