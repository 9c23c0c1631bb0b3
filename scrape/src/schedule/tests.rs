use super::*;
use crate::config::ScrapeConfig;
use crate::target::{TargetGroup, TargetSet};

/// A target with an interval of 10 s, and its offset.
fn target() -> (Arc<Target>, i64) {
    let mut config = ScrapeConfig::new("node");
    config.scrape_interval = DurationMs(10_000);
    let set = TargetSet::build(&Arc::new(config), &[TargetGroup::of_addresses("0", ["a:1"])]);
    let offset = set.active[0].offset().0 as i64;
    (set.active[0].clone(), offset)
}

/// A time in ms after slot `k`.
fn at(k: i64, ms: i64) -> TimestampMs {
    TimestampMs(target().1 + k * 10_000 + ms)
}

fn assigned(last: Option<i64>) -> ScheduleEvent {
    let last_slot = last.map(|k| at(k, 0));
    ScheduleEvent::Targets(vec![Assignment { target: target().0, last_slot, last_timestamp: None }])
}

fn ended() -> ScheduleEvent {
    ScheduleEvent::Ended(target().0.source.clone())
}

/// The effects in short: `scrape 3`, `missed 1-2 (2) no leader`.
fn step(schedule: &mut Schedule, now: TimestampMs, event: ScheduleEvent) -> Vec<String> {
    let number = |slot: TimestampMs| (slot.0 - target().1) / 10_000;
    let show = |effect: &ScheduleEffect| match effect {
        ScheduleEffect::Scrape { slot, .. } => format!("scrape {}", number(*slot)),
        ScheduleEffect::Missed(missed) => format!(
            "missed {}-{} ({}) {}",
            number(missed.from),
            number(missed.to),
            missed.slots,
            missed.reason.as_str()
        ),
        ScheduleEffect::Forget(_) => "forget".to_owned(),
    };
    schedule.step(now, event).iter().map(show).collect()
}

#[test]
fn a_slot_is_scraped_when_it_is_due_and_not_before() {
    let mut s = Schedule::default();
    assert!(step(&mut s, at(0, 1), assigned(None)).is_empty());
    assert_eq!(s.wake_at(), Some(at(1, 0)));
    assert!(step(&mut s, at(0, 9_999), ScheduleEvent::Tick).is_empty());
    assert_eq!(step(&mut s, at(1, 0), ScheduleEvent::Tick), ["scrape 1"]);
    assert!(step(&mut s, at(1, 500), ended()).is_empty());
    assert_eq!(step(&mut s, at(2, 3), ScheduleEvent::Tick), ["scrape 2"]);
}

#[test]
fn a_new_leader_goes_on_with_the_next_slot_and_says_what_was_missed() {
    let mut s = Schedule::default();
    assert_eq!(step(&mut s, at(7, 1), assigned(Some(4))), ["missed 5-7 (3) no leader"]);
    assert_eq!(s.wake_at(), Some(at(8, 0)));
}

#[test]
fn a_handover_within_one_interval_misses_nothing() {
    let mut s = Schedule::default();
    assert!(step(&mut s, at(4, 9_000), assigned(Some(4))).is_empty());
    assert_eq!(step(&mut s, at(5, 0), ScheduleEvent::Tick), ["scrape 5"]);
}

#[test]
fn a_new_leader_begins_a_slot_late_that_only_just_fell_due() {
    let mut s = Schedule::new(DurationMs(500));
    let effects = step(&mut s, at(7, 400), assigned(Some(4)));
    assert_eq!(effects, ["missed 5-6 (2) no leader", "scrape 7"]);
    assert_eq!(s.wake_at(), Some(at(8, 0)));
}

#[test]
fn a_recorded_slot_ahead_of_the_clock_is_not_begun_again() {
    let mut s = Schedule::default();
    assert!(step(&mut s, at(3, 0), assigned(Some(5))).is_empty());
    assert_eq!(s.wake_at(), Some(at(6, 0)));
}

#[test]
fn slots_that_fall_due_during_a_scrape_are_one_overrun() {
    let mut s = Schedule::default();
    let _ = step(&mut s, at(0, 1), assigned(None));
    assert_eq!(step(&mut s, at(1, 0), ScheduleEvent::Tick), ["scrape 1"]);
    assert!(step(&mut s, at(2, 0), ScheduleEvent::Tick).is_empty());
    assert!(step(&mut s, at(3, 0), ScheduleEvent::Tick).is_empty());
    assert!(step(&mut s, at(3, 5), ended()).is_empty());
    let effects = step(&mut s, at(4, 0), ScheduleEvent::Tick);
    assert_eq!(effects, ["missed 2-3 (2) previous scrape still running", "scrape 4"]);
}

#[test]
fn after_a_stall_the_newest_slot_is_scraped_and_the_others_are_missed() {
    let mut s = Schedule::default();
    let _ = step(&mut s, at(0, 1), assigned(None));
    let effects = step(&mut s, at(4, 200), ScheduleEvent::Tick);
    assert_eq!(effects, ["missed 1-3 (3) node stalled", "scrape 4"]);
}

#[test]
fn a_target_that_stays_keeps_its_rhythm_and_one_that_goes_is_forgotten() {
    let mut s = Schedule::default();
    let _ = step(&mut s, at(0, 1), assigned(None));
    assert_eq!(step(&mut s, at(1, 0), ScheduleEvent::Tick), ["scrape 1"]);
    assert!(step(&mut s, at(1, 5), assigned(Some(0))).is_empty());
    assert_eq!(s.wake_at(), Some(at(2, 0)));
    assert_eq!(step(&mut s, at(1, 6), ScheduleEvent::Targets(vec![])), ["forget"]);
    assert!(s.is_empty());
}

#[test]
fn a_timestamp_is_the_slots_own_unless_the_scrape_began_late() {
    let stamp = |late: i64, last| {
        scrape_timestamp(TimestampMs(100), TimestampMs(100 + late), DurationMs(1_000), last).0
    };
    assert_eq!(stamp(0, None), 100);
    assert_eq!(stamp(2, None), 100);
    assert_eq!(stamp(3, None), 103);
    assert_eq!(stamp(0, Some(TimestampMs(100))), 101);
    let short = scrape_timestamp(TimestampMs(100), TimestampMs(101), DurationMs(50), None);
    assert_eq!(short.0, 101);
}

proptest::proptest! {
    #[test]
    fn every_slot_is_begun_or_missed_exactly_once(steps in proptest::collection::vec((0..30_000_i64, 0..2_u8), 1..60)) {
        let mut s = Schedule::default();
        let mut now = at(0, 1);
        let mut accounted = Vec::new();
        let mut take = |effects: Vec<ScheduleEffect>| {
            for effect in effects {
                match effect {
                    ScheduleEffect::Scrape { slot, .. } => accounted.push(slot.0),
                    ScheduleEffect::Missed(missed) => {
                        accounted.extend((0..missed.slots as i64).map(|i| missed.from.0 + i * 10_000));
                    }
                    ScheduleEffect::Forget(_) => {}
                }
            }
        };
        take(s.step(now, assigned(None)));
        for (pause, end) in steps {
            now = now.plus(DurationMs(pause as u64));
            let event = if end == 1 { ended() } else { ScheduleEvent::Tick };
            take(s.step(now, event));
        }
        take(s.step(now, ScheduleEvent::Targets(vec![])));
        accounted.sort_unstable();
        let expected: Vec<i64> = (1..).map(|k| at(k, 0).0).take_while(|slot| *slot <= now.0).collect();
        proptest::prop_assert_eq!(accounted, expected);
    }
}
