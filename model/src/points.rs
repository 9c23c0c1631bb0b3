//! Named points in the code at which a simulator may pull the plug: `model::point!("log.batch.written")`.
//!
//! Without the feature `points` they are nothing. With it each asks the hook of its thread. Votes are told in the same
//! way, so that a simulator can hold replicas to them.

use crate::{NodeId, ShardId, Term};

/// A vote on its way out of a node: from then on others may count on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VoteGiven {
    /// Of which group.
    pub shard: ShardId,
    /// Who votes.
    pub voter: NodeId,
    /// In which term.
    pub term: Term,
    /// For whom.
    pub candidate: NodeId,
}

#[cfg(feature = "points")]
mod hook {
    use super::VoteGiven;
    use crate::TimestampMs;
    use std::cell::{Cell, RefCell};

    type Hook = Box<dyn Fn(&'static str)>;
    type Witness = Box<dyn Fn(VoteGiven)>;

    thread_local! {
        static HOOK: RefCell<Option<Hook>> = const { RefCell::new(None) };
        static WITNESS: RefCell<Option<Witness>> = const { RefCell::new(None) };
        static PLANTED: RefCell<String> = const { RefCell::new(String::new()) };
        static ASKED: Cell<u64> = const { Cell::new(0) };
        static WALL: Cell<TimestampMs> = const { Cell::new(TimestampMs(0)) };
    }

    /// Chooses the planted bug that is awake on this thread. There is none in this tree: `scripts/mutants` plants
    /// them in a copy of it.
    pub fn plant(name: &str) {
        PLANTED.with_borrow_mut(|planted| name.clone_into(planted));
        ASKED.set(0);
    }

    /// Whether a planted bug is awake.
    #[must_use]
    pub fn planted(name: &str) -> bool {
        let awake = PLANTED.try_with(|planted| *planted.borrow() == name).unwrap_or(false);
        let _thread_is_ending = ASKED.try_with(|asked| asked.set(asked.get() + u64::from(awake)));
        awake
    }

    /// How often code asked for the planted bug that is awake on this thread: never, if there is none of its name.
    #[must_use]
    pub fn asked() -> u64 {
        ASKED.get()
    }

    /// Sets what the wall clock of the machine shows whose process this thread runs now.
    pub fn set_wall_clock(now: TimestampMs) {
        WALL.set(now);
    }

    /// What that wall clock shows: for planted bugs that read it where code has no clock.
    #[must_use]
    pub fn wall_clock() -> TimestampMs {
        WALL.get()
    }

    /// Calls `hook` at every point that this thread reaches from now on; `None` for no more.
    pub fn set_hook(hook: Option<Box<dyn Fn(&'static str)>>) {
        HOOK.with_borrow_mut(|slot| *slot = hook);
    }

    /// Tells `witness` of every vote that this thread gives from now on; `None` for no more.
    pub fn set_witness(witness: Option<Box<dyn Fn(VoteGiven)>>) {
        WITNESS.with_borrow_mut(|slot| *slot = witness);
    }

    /// A vote is about to leave the node.
    pub fn vote_given(vote: VoteGiven) {
        let _thread_is_ending = WITNESS.try_with(|slot| {
            if let Ok(slot) = slot.try_borrow()
                && let Some(witness) = &*slot
            {
                witness(vote);
            }
        });
    }

    /// A point was reached. A hook must not reach points itself.
    pub fn reached(name: &'static str) {
        let _thread_is_ending = HOOK.try_with(|slot| {
            if let Ok(slot) = slot.try_borrow()
                && let Some(hook) = &*slot
            {
                hook(name);
            }
        });
    }
}

#[cfg(feature = "points")]
pub use hook::{
    asked, plant, planted, reached, set_hook, set_wall_clock, set_witness, vote_given, wall_clock,
};

/// A point was reached; nothing in production.
#[cfg(not(feature = "points"))]
#[inline(always)]
pub fn reached(_name: &'static str) {}

/// A vote is about to leave the node; nothing in production.
#[cfg(not(feature = "points"))]
#[inline(always)]
pub fn vote_given(_vote: VoteGiven) {}

/// Names a point at which a simulator may pull the plug. Costs nothing in production.
#[macro_export]
macro_rules! point {
    ($name:literal) => {
        $crate::points::reached($name)
    };
}
