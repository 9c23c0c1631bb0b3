//! The named points that the nodes' code reaches, the plug that is pulled at one of them, and the votes that nodes give.

use crate::{
    machine::{Death, Outside},
    trace,
};
use model::points::VoteGiven;
use std::{cell::RefCell, collections::BTreeMap, time::Duration};

/// A plug to be pulled.
#[derive(Clone, Debug)]
pub struct Armed {
    /// The machines, by their places, of which the first that passes there dies; and what is taken away from it.
    pub machines: Vec<(usize, Outside)>,
    /// At which point.
    pub point: &'static str,
    /// How often the point is passed before.
    pub passes: u64,
    /// How long after that it dies: then between two milliseconds.
    pub delay: Duration,
    /// How it dies.
    pub death: Death,
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
    /// The armed point was passed, and then is when the machine dies.
    late: Option<Duration>,
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
        // Neither a stranger counts nor what runs on after its plug was pulled.
        let running = points.running.filter(|_| !points.fired);
        running?;
        *points.reached.entry(name).or_default() += 1;
        let is_running = |(machine, _): &(usize, Outside)| Some(*machine) == running;
        let armed = points
            .armed
            .as_mut()
            .filter(|armed| armed.point == name && armed.machines.iter().any(is_running))?;
        if points.late.is_some() {
            return None;
        }
        if armed.passes > 0 {
            armed.passes -= 1;
            return None;
        }
        armed.machines.retain(is_running);
        if !armed.delay.is_zero() {
            points.late = Some(trace::now() + armed.delay);
            return None;
        }
        points.fired = true;
        Some(armed.clone())
    });
    if let Some(armed) = fire {
        trace::say(&format!("the plug is pulled at {name} ({:?})", armed.death));
        armed.take_away();
    }
}

impl Armed {
    fn take_away(&self) {
        self.machines.iter().for_each(|(_, outside)| outside.take_away(self.death, self.seed));
    }
}

/// A machine's process runs from now on; `None` for none.
pub fn running(machine: Option<usize>) {
    POINTS.with_borrow_mut(|points| points.running = machine);
}

/// Arms a plug; `None` takes it back.
pub fn arm(armed: Option<Armed>) {
    POINTS.with_borrow_mut(|points| (points.armed, points.fired, points.late) = (armed, false, None));
}

/// The machine whose plug was pulled, once, and how it died.
#[must_use]
pub fn fired() -> Option<(usize, Death)> {
    let (dead, now) = POINTS.with_borrow_mut(|points| {
        let due = points.late.is_some_and(|at| at <= trace::now());
        let armed = points.armed.take_if(|_| points.fired || due)?;
        let now = !points.fired;
        *points.died_at.entry(armed.point).or_default() += 1;
        (points.fired, points.late) = (false, None);
        Some((armed, now))
    })?;
    if now {
        trace::say(&format!("the plug is pulled {:?} after {} ({:?})", dead.delay, dead.point, dead.death));
        dead.take_away();
    }
    dead.machines.first().map(|(machine, _)| (*machine, dead.death))
}

/// How often each point was reached, and how often a plug was pulled at it.
#[must_use]
pub fn counts() -> (BTreeMap<&'static str, u64>, BTreeMap<&'static str, u64>) {
    POINTS.with_borrow(|points| (points.reached.clone(), points.died_at.clone()))
}
