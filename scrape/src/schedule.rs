//! When each target is scraped. Pure: time comes in, effects go out.
//!
//! ```text
//!        offset            + interval          + interval
//!  ────────┼───────────────────┼───────────────────┼──────▶ wall clock
//!        slot                slot                slot
//! ```
//!
//! A target's slots are `offset + k * interval` with an offset that its identity decides, so a new leader goes on
//! in the rhythm of the old one. Invariants: a slot is begun at most once, and never before it is due; slots of one
//! target are begun in rising order; a slot that is passed over is in exactly one [`MissedSlots`].

use crate::target::Target;
use model::{DurationMs, SourceKey, TimestampMs};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Why slots were passed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MissedReason {
    /// They fell due while nobody led the shard.
    NoLeader,
    /// The scrape before was still under way.
    Overrun,
    /// The node did not run: it was stopped, or had too much to do. Or time itself was set forward.
    Stalled,
    /// The scraper panicked over what the target said.
    Panic,
}

impl MissedReason {
    /// For people.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            MissedReason::NoLeader => "no leader",
            MissedReason::Overrun => "previous scrape still running",
            MissedReason::Stalled => "node stalled",
            MissedReason::Panic => "scraper panicked",
        }
    }
}

/// Slots of one source that nobody scraped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MissedSlots {
    /// Whose.
    pub source: Arc<SourceKey>,
    /// The first of them.
    pub from: TimestampMs,
    /// The last of them.
    pub to: TimestampMs,
    /// How many, at least 1.
    pub slots: u64,
    /// Why.
    pub reason: MissedReason,
}

/// A target to scrape, and how far its scraping has come in the replicated state.
#[derive(Clone, Debug)]
pub struct Assignment {
    /// The target.
    pub target: Arc<Target>,
    /// The last slot that is recorded, as scraped or as missed.
    pub last_slot: Option<TimestampMs>,
    /// The timestamp of its newest row, which the next one must exceed.
    pub last_timestamp: Option<TimestampMs>,
}

/// What happens to the schedule.
#[derive(Clone, Debug)]
pub enum ScheduleEvent {
    /// These are all targets from now on. What is recorded of a target counts only when it is new here.
    Targets(Vec<Assignment>),
    /// Time has passed.
    Tick,
    /// A scrape that was begun has ended.
    Ended(Arc<SourceKey>),
}

/// What the schedule wants done.
#[derive(Clone, Debug)]
pub enum ScheduleEffect {
    /// Scrape the target for this slot.
    Scrape {
        /// The target.
        target: Arc<Target>,
        /// The scheduled time.
        slot: TimestampMs,
    },
    /// Slots were passed over.
    Missed(MissedSlots),
    /// The target is gone; a scrape of it that is under way is to be given up.
    Forget(Arc<SourceKey>),
}

#[derive(Clone, Debug)]
struct Entry {
    target: Arc<Target>,
    offset: DurationMs,
    next: TimestampMs,
    busy: bool,
    overrun: Option<(TimestampMs, TimestampMs, u64)>,
}

/// The schedule of one shard.
#[derive(Clone, Debug, Default)]
pub struct Schedule {
    /// How late a slot may be begun that fell due while nobody led.
    grace: DurationMs,
    entries: BTreeMap<Arc<SourceKey>, Entry>,
    due: BTreeSet<(TimestampMs, Arc<SourceKey>)>,
}

/// The first slot after `after`.
fn slot_after(after: TimestampMs, offset: DurationMs, interval: DurationMs) -> TimestampMs {
    let (offset, interval) = (offset.0 as i64, interval.0 as i64);
    let passed = after.0.saturating_sub(offset).div_euclid(interval);
    TimestampMs((passed + 1).saturating_mul(interval).saturating_add(offset))
}

/// The timestamp of a scrape for `slot` that began at `begun`: the slot's own time if it began within 2 ms and 1 % of
/// the interval (Prometheus's alignment), else when it really began; in any case later than `last`.
#[must_use]
pub fn scrape_timestamp(
    slot: TimestampMs,
    begun: TimestampMs,
    interval: DurationMs,
    last: Option<TimestampMs>,
) -> TimestampMs {
    let tolerance = DurationMs((interval.0 / 100).min(2));
    let aligned = if begun <= slot.plus(tolerance) { slot } else { begun };
    last.map_or(aligned, |last| aligned.max(last.plus(DurationMs(1))))
}

impl Schedule {
    /// A schedule without targets. A slot that fell due at most `grace` before its target came here, and is not
    /// recorded, is begun late instead of being missed: so a handover that takes less costs no slot.
    #[must_use]
    pub fn new(grace: DurationMs) -> Schedule {
        Schedule { grace, ..Schedule::default() }
    }

    /// When something is due next.
    #[must_use]
    pub fn wake_at(&self) -> Option<TimestampMs> {
        self.due.first().map(|(at, _)| *at)
    }

    /// Number of targets.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is no target.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Advances the schedule; call again at [`Schedule::wake_at`].
    #[must_use]
    pub fn step(&mut self, now: TimestampMs, event: ScheduleEvent) -> Vec<ScheduleEffect> {
        let mut effects = Vec::new();
        match event {
            ScheduleEvent::Targets(assignments) => self.set_targets(now, assignments, &mut effects),
            ScheduleEvent::Ended(source) => {
                if let Some(entry) = self.entries.get_mut(&source) {
                    entry.busy = false;
                }
            }
            ScheduleEvent::Tick => {}
        }
        while let Some((at, source)) = self.due.first().cloned().filter(|(at, _)| *at <= now) {
            self.due.remove(&(at, source.clone()));
            self.begin(now, &source, &mut effects);
        }
        self.assert_invariants(now);
        effects
    }

    fn set_targets(
        &mut self,
        now: TimestampMs,
        assignments: Vec<Assignment>,
        effects: &mut Vec<ScheduleEffect>,
    ) {
        let mut old = std::mem::take(&mut self.entries);
        self.due.clear();
        for assignment in assignments {
            let target = assignment.target;
            let (offset, interval) = (target.offset(), target.interval);
            let entry = match old.remove(&target.source) {
                Some(entry) if entry.target.interval == interval => Entry { target: target.clone(), ..entry },
                Some(mut entry) => {
                    flush_overrun(&mut entry, effects);
                    let next = slot_after(now, offset, interval);
                    Entry { target: target.clone(), offset, next, ..entry }
                }
                None => {
                    let last = assignment.last_slot;
                    let mut next = slot_after(last.map_or(now, |last| last.max(now)), offset, interval);
                    let newest = next.minus(interval);
                    if last.is_some_and(|last| newest > last) && newest.plus(self.grace) >= now {
                        next = newest;
                    }
                    if let Some(last) = last {
                        effects.extend(passed_over(&target, offset, last, next, MissedReason::NoLeader));
                    }
                    Entry { target: target.clone(), offset, next, busy: false, overrun: None }
                }
            };
            self.due.insert((entry.next, target.source.clone()));
            self.entries.insert(target.source.clone(), entry);
        }
        for (source, mut entry) in old {
            flush_overrun(&mut entry, effects);
            effects.push(ScheduleEffect::Forget(source));
        }
    }

    /// Begins the newest slot that is due, and accounts for those before it.
    fn begin(&mut self, now: TimestampMs, source: &Arc<SourceKey>, effects: &mut Vec<ScheduleEffect>) {
        let Some(entry) = self.entries.get_mut(source) else { return };
        let interval = entry.target.interval;
        let following = slot_after(now, entry.offset, interval);
        let slot = following.minus(interval).max(entry.next);
        let first = entry.next;
        entry.next = following.max(slot.plus(interval));
        self.due.insert((entry.next, source.clone()));
        if entry.busy {
            let count = slots_between(first, slot, interval);
            let (from, _, before) = entry.overrun.unwrap_or((first, first, 0));
            entry.overrun = Some((from, slot, before + count));
            return;
        }
        flush_overrun(entry, effects);
        if first < slot {
            let before = first.minus(interval);
            let reason = MissedReason::Stalled;
            effects.extend(passed_over(&entry.target, entry.offset, before, slot, reason));
        }
        entry.busy = true;
        effects.push(ScheduleEffect::Scrape { target: entry.target.clone(), slot });
    }

    fn assert_invariants(&self, now: TimestampMs) {
        assert!(self.due.len() == self.entries.len());
        assert!(self.due.first().is_none_or(|(at, _)| *at > now));
    }
}

fn slots_between(from: TimestampMs, to: TimestampMs, interval: DurationMs) -> u64 {
    to.since(from).0 / interval.0 + 1
}

/// The slots after `last` and before `next`, if there are any.
fn passed_over(
    target: &Target,
    offset: DurationMs,
    last: TimestampMs,
    next: TimestampMs,
    reason: MissedReason,
) -> Option<ScheduleEffect> {
    let from = slot_after(last, offset, target.interval);
    let to = next.minus(target.interval);
    (from <= to).then(|| {
        let slots = slots_between(from, to, target.interval);
        ScheduleEffect::Missed(MissedSlots { source: target.source.clone(), from, to, slots, reason })
    })
}

fn flush_overrun(entry: &mut Entry, effects: &mut Vec<ScheduleEffect>) {
    if let Some((from, to, slots)) = entry.overrun.take() {
        let source = entry.target.source.clone();
        let reason = MissedReason::Overrun;
        effects.push(ScheduleEffect::Missed(MissedSlots { source, from, to, slots, reason }));
    }
}

#[cfg(test)]
mod tests;
