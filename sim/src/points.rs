//! The named points that the nodes' code reaches, the plug that is pulled at one of them, and the votes that nodes give.

use crate::{
    machine::{Death, Outside},
    trace,
};
use model::points::VoteGiven;
use std::{cell::RefCell, collections::BTreeMap};

/// A plug to be pulled.
#[derive(Clone, Debug)]
pub struct Armed {
    /// The machine, by its place.
    pub machine: usize,
    /// At which point.
    pub point: &'static str,
    /// How often the point is passed before.
    pub passes: u64,
    /// How it dies.
    pub death: Death,
    /// What is taken away.
    pub outside: Outside,
    /// Randomness of what is lost.
    pub seed: u64,
}

#[derive(Default)]
struct Points {
    running: Option<usize>,
    reached: BTreeMap<&'static str, u64>,
    died_at: BTreeMap<&'static str, u64>,
    armed: Option<Armed>,
    fired: bool,
    votes: Vec<(usize, VoteGiven)>,
}

thread_local!(static POINTS: RefCell<Points> = RefCell::default());

/// Begins to listen on this thread.
pub fn begin() {
    POINTS.set(Points::default());
    model::points::set_hook(Some(Box::new(reached)));
    model::points::set_witness(Some(Box::new(|vote| {
        POINTS.with_borrow_mut(|points| {
            // After the plug was pulled the rest of the step still votes, but nobody hears it.
            let alive = points.running.filter(|_| !points.fired);
            points.votes.extend(alive.map(|machine| (machine, vote)));
        });
    })));
}

/// The votes that left machines since the last call, each with the machine's place.
#[must_use]
pub fn votes() -> Vec<(usize, VoteGiven)> {
    POINTS.with_borrow_mut(|points| std::mem::take(&mut points.votes))
}

fn reached(name: &'static str) {
    let fire = POINTS.with_borrow_mut(|points| {
        *points.reached.entry(name).or_default() += 1;
        let armed = points
            .armed
            .as_mut()
            .filter(|armed| Some(armed.machine) == points.running && armed.point == name)?;
        if points.fired {
            return None;
        }
        if armed.passes > 0 {
            armed.passes -= 1;
            return None;
        }
        points.fired = true;
        *points.died_at.entry(name).or_default() += 1;
        Some(armed.clone())
    });
    if let Some(armed) = fire {
        trace::say(&format!("the plug is pulled at {name} ({:?})", armed.death));
        armed.outside.take_away(armed.death, armed.seed);
    }
}

/// A machine's process runs from now on; `None` for none.
pub fn running(machine: Option<usize>) {
    POINTS.with_borrow_mut(|points| points.running = machine);
}

/// Arms a plug; `None` takes it back.
pub fn arm(armed: Option<Armed>) {
    POINTS.with_borrow_mut(|points| (points.armed, points.fired) = (armed, false));
}

/// The machine whose plug was pulled, once.
#[must_use]
pub fn fired() -> Option<usize> {
    POINTS.with_borrow_mut(|points| {
        let machine = points.armed.as_ref().filter(|_| points.fired)?.machine;
        (points.armed, points.fired) = (None, false);
        Some(machine)
    })
}

/// How often each point was reached, and how often a plug was pulled at it.
#[must_use]
pub fn counts() -> (BTreeMap<&'static str, u64>, BTreeMap<&'static str, u64>) {
    POINTS.with_borrow(|points| (points.reached.clone(), points.died_at.clone()))
}
