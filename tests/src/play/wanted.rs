//! What the faults that are on at a time make of each machine and each link. A pure function, so that overlapping faults
//! need no bookkeeping: a link is cut for as long as any of them cuts it.

use screenplay::{Event, Fault};
use std::{collections::BTreeSet, time::Duration};

/// Longer than any script: a disk that does not answer.
const STALLED: Duration = Duration::from_secs(86_400);

/// What is wanted of one machine; by default that nothing is wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) down: bool,
    pub(super) paused: bool,
    pub(super) full: bool,
    /// One sync has failed; a node that stops for that stays down.
    pub(super) failed_sync: bool,
    pub(super) sync_delay: Duration,
    /// Milliseconds ahead.
    pub(super) clock_offset: i64,
    /// Parts in a million ahead.
    pub(super) clock_drift: i64,
}

/// Whether a fault can be had with real processes. Slow links and lossy ones need a queueing discipline that not every
/// kernel has; of bytes on a disk that go bad nobody here knows where they matter.
pub(super) fn is_real(fault: Fault) -> bool {
    matches!(
        fault,
        Fault::Kill
            | Fault::Power
            | Fault::PowerAll
            | Fault::Restart
            | Fault::Pause
            | Fault::Isolate
            | Fault::Partition
            | Fault::OneWay
            | Fault::SlowSync
            | Fault::Stall
            | Fault::Full
            | Fault::SyncError
            | Fault::ClockStep
            | Fault::ClockDrift
            | Fault::Wipe
    )
}

/// What is wanted of the machine at `place` while `on` is on.
pub(super) fn of(place: usize, on: &[Event]) -> Wanted {
    let mut wanted = Wanted::default();
    for event in on.iter().filter(|event| event.node == place || event.fault == Fault::PowerAll) {
        let amount = Duration::from_millis(event.by.unsigned_abs());
        match event.fault {
            // What was not synced is in the kernel's memory, which a process cannot make forget.
            Fault::Kill | Fault::Power | Fault::PowerAll => wanted.down = true,
            Fault::Pause => wanted.paused = true,
            Fault::Full => wanted.full = true,
            Fault::SyncError => wanted.failed_sync = true,
            Fault::SlowSync => wanted.sync_delay = wanted.sync_delay.max(amount),
            Fault::Stall => wanted.sync_delay = STALLED,
            Fault::ClockStep => wanted.clock_offset += event.by,
            Fault::ClockDrift => wanted.clock_drift += event.by,
            _ => {}
        }
    }
    wanted
}

/// From whom to whom of so many nodes nothing arrives while `on` is on.
pub(super) fn cut(on: &[Event], nodes: usize) -> BTreeSet<(usize, usize)> {
    let mut cut = BTreeSet::new();
    for event in on {
        let (node, other) = (event.node, event.other);
        match event.fault {
            Fault::OneWay => drop(cut.insert((node, other))),
            Fault::Partition => cut.extend([(node, other), (other, node)]),
            Fault::Isolate => {
                cut.extend((0..nodes).filter(|place| *place != node).flat_map(|p| [(node, p), (p, node)]));
            }
            _ => {}
        }
    }
    cut
}

#[cfg(test)]
mod tests {
    use super::*;
    use screenplay::{NODES, Script};

    fn events(text: &str) -> Vec<Event> {
        text.parse::<Script>().unwrap().events
    }

    #[test]
    fn nothing_is_wanted_while_nothing_is_on() {
        assert_eq!(of(0, &[]), Wanted::default());
        assert_eq!(cut(&[], NODES), BTreeSet::new());
    }

    #[test]
    fn a_link_is_cut_by_each_fault_in_its_own_directions() {
        let of = |text: &str| cut(&events(text), NODES).into_iter().collect::<Vec<_>>();
        assert_eq!(of("at 1s one-way node-1 -> node-3 for 1s"), [(0, 2)]);
        assert_eq!(of("at 1s partition node-3 node-2 for 1s"), [(1, 2), (2, 1)]);
        assert_eq!(of("at 1s isolate node-2 for 1s"), [(0, 1), (1, 0), (1, 2), (2, 1)]);
    }

    #[test]
    fn a_node_is_down_for_as_long_as_anything_keeps_it_down() {
        let down = |text: &str| [0, 1, 2].map(|place| of(place, &events(text)).down);
        assert_eq!(
            down("at 1s kill node-1\nat 1s power node-3\nat 1s pause node-2 for 9s"),
            [true, false, true]
        );
        assert_eq!(down("at 1s power-all"), [true; 3]);
    }

    #[test]
    fn what_is_wrong_beneath_a_node_adds_up_and_is_its_own() {
        let on = events(
            "at 1s clock-step node-1 by -1d for 9s\nat 1s clock-step node-1 by 1s for 9s\nat 1s slow-sync node-1 by 30ms for 9s\nat 2s full node-2 for 1s\nat 2s sync-error node-2 for 1s\nat 1s stall node-3 for 5s",
        );
        let wanted = [0, 1, 2].map(|place| of(place, &on));
        assert_eq!((wanted[0].clock_offset, wanted[0].sync_delay.as_millis()), (-86_399_000, 30));
        assert!(wanted[1].full && wanted[1].failed_sync && !wanted[0].full);
        assert_eq!(wanted[2].sync_delay, STALLED);
    }
}
