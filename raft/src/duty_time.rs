//! The time by which duties are done. Pure: both clocks come in.
//!
//! ```text
//!  cluster time ──agreed by a majority──▶ base ──+ monotonic──▶ duty time
//!                 small: run 1 % faster or slower      never goes back
//!                 large: follow when it has lasted
//! ```
//!
//! Slots are times that never come again: a slot that is recorded is taken, and those before it are. So duties do
//! not go by a wall clock, which may be set to tomorrow and back, but by the monotonic one, from where a majority of
//! the wall clocks agreed. While no majority agrees it runs on by itself, wrong by what a quartz loses.
//!
//! Invariants: duty time never goes back within a process; no single wall clock moves it; a jump of what a majority
//! says is followed only when it has lasted [`JUMP_LASTS`], because following it forward cannot be undone.

use model::TimestampMs;
use std::time::Duration;

/// Differences up to this are made up for by running faster or slower, microseconds.
const SLEW_MAX_US: i64 = 5_000_000;
/// By so many parts of a million.
const SLEW_PPM: i64 = 10_000;
/// How long a majority must have said that time is elsewhere before duty time goes there.
const JUMP_LASTS: Duration = Duration::from_secs(60);

/// Where duty time went at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Jump {
    /// It was not known and is now.
    Known,
    /// Forward by so many milliseconds: what lies between will never be scraped.
    Forward(u64),
    /// Back by so many milliseconds: it stands still until it has caught up.
    Back(u64),
}

/// Duty time of one process.
#[derive(Clone, Debug, Default)]
pub struct DutyTime {
    /// Duty time when the monotonic clock was at 0, microseconds; `None` until somebody could say.
    base: Option<i64>,
    /// Where a majority says that the base is instead, and since when.
    elsewhere: Option<(Duration, i64)>,
    /// When it was looked last.
    looked: Duration,
    /// The latest that was told.
    told: Option<TimestampMs>,
}

fn micros(span: Duration) -> i64 {
    i64::try_from(span.as_micros()).unwrap_or(i64::MAX)
}

/// The base from which `time` is shown when the monotonic clock is at `now`.
fn base_of(now: Duration, time: TimestampMs) -> i64 {
    time.0.saturating_mul(1000).saturating_sub(micros(now))
}

impl DutyTime {
    /// Duty time; `None` until it is known.
    pub fn at(&mut self, now: Duration) -> Option<TimestampMs> {
        let time = TimestampMs(self.base?.saturating_add(micros(now)).div_euclid(1000));
        let told = self.told.map_or(time, |told| told.max(time));
        self.told = Some(told);
        Some(told)
    }

    /// Takes the word of a node that knows duty time, as long as this one does not.
    pub fn learn(&mut self, now: Duration, time: TimestampMs) -> Option<Jump> {
        if self.base.is_some() {
            return None;
        }
        self.step(now, Some(time))
    }

    /// A look at cluster time, as far as a majority agrees on one; to be had every second or so.
    pub fn step(&mut self, now: Duration, cluster: Option<TimestampMs>) -> Option<Jump> {
        let elapsed = micros(now.saturating_sub(std::mem::replace(&mut self.looked, now)));
        let Some(wanted) = cluster.map(|cluster| base_of(now, cluster)) else {
            self.elsewhere = None;
            return None;
        };
        let Some(base) = self.base else {
            self.base = Some(wanted);
            return Some(Jump::Known);
        };
        let apart = wanted.saturating_sub(base);
        if apart.unsigned_abs() <= SLEW_MAX_US.unsigned_abs() {
            self.elsewhere = None;
            let most = elapsed / 1_000_000 * SLEW_PPM + elapsed % 1_000_000 * SLEW_PPM / 1_000_000;
            self.base = Some(base + apart.clamp(-most, most));
            return None;
        }
        let same = |(_, before): &(Duration, i64)| wanted.abs_diff(*before) <= SLEW_MAX_US.unsigned_abs();
        let since = self.elsewhere.filter(same).map_or(now, |(since, _)| since);
        self.elsewhere = Some((since, wanted));
        if now.saturating_sub(since) < JUMP_LASTS {
            return None;
        }
        self.elsewhere = None;
        self.base = Some(wanted);
        let ms = apart.unsigned_abs() / 1000;
        Some(if apart > 0 { Jump::Forward(ms) } else { Jump::Back(ms) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Some day, milliseconds.
    const T: i64 = 1_700_000_000_000;
    const DAY: i64 = 86_400_000;

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// A world in which the monotonic clock was at 0 at `T`; a majority says that it is `ahead` ms later than that.
    fn agreed(seconds: u64, ahead: i64) -> Option<TimestampMs> {
        Some(TimestampMs(T + seconds as i64 * 1000 + ahead))
    }

    /// How far duty time is ahead of that world, ms.
    fn ahead(duty: &mut DutyTime, seconds: u64) -> i64 {
        duty.at(s(seconds)).expect("known").0 - T - seconds as i64 * 1000
    }

    fn known() -> DutyTime {
        let mut duty = DutyTime::default();
        assert_eq!(duty.step(s(100), agreed(100, 0)), Some(Jump::Known));
        duty
    }

    #[test]
    fn it_is_not_known_before_a_majority_agrees() {
        let mut duty = DutyTime::default();
        assert_eq!(duty.step(s(1), None), None);
        assert_eq!(duty.at(s(1)), None);
        assert_eq!(duty.step(s(2), agreed(2, 0)), Some(Jump::Known));
        assert_eq!(ahead(&mut duty, 3), 0);
    }

    #[test]
    fn it_runs_on_while_nobody_agrees() {
        let mut duty = known();
        assert_eq!(duty.step(s(4000), None), None);
        assert_eq!(ahead(&mut duty, 4001), 0);
    }

    #[test]
    fn a_small_difference_is_made_up_for_slowly_and_never_backwards() {
        let mut duty = known();
        assert_eq!(duty.step(s(101), agreed(101, 500)), None);
        assert_eq!(ahead(&mut duty, 101), 10, "ten milliseconds a second");
        assert_eq!(duty.step(s(111), agreed(111, -500)), None);
        assert_eq!(ahead(&mut duty, 111), -90);
        let told = duty.at(s(111));
        assert_eq!(duty.step(s(111), agreed(111, -5000)), None);
        assert!(duty.at(s(111)) >= told, "no time passed");
    }

    #[test]
    fn a_jump_that_does_not_last_moves_nothing() {
        let mut duty = known();
        for second in 101..160 {
            assert_eq!(duty.step(s(second), agreed(second, DAY)), None);
        }
        assert_eq!(duty.step(s(160), agreed(160, 0)), None);
        assert_eq!(duty.step(s(165), agreed(165, DAY)), None, "counted anew");
        assert_eq!(ahead(&mut duty, 165), 0);
    }

    #[test]
    fn a_jump_that_lasts_is_followed() {
        let mut duty = known();
        assert_eq!(duty.step(s(101), agreed(101, DAY)), None);
        assert_eq!(duty.step(s(161), agreed(161, DAY + 20)), Some(Jump::Forward(DAY as u64 + 20)));
        assert_eq!(ahead(&mut duty, 162), DAY + 20);
    }

    #[test]
    fn after_a_jump_back_it_stands_still_until_it_has_caught_up() {
        let mut duty = known();
        assert_eq!(ahead(&mut duty, 161), 0);
        let told = duty.at(s(161));
        assert_eq!(duty.step(s(101), agreed(101, -60_000)), None);
        assert_eq!(duty.step(s(161), agreed(161, -60_000)), Some(Jump::Back(60_000)));
        assert_eq!(duty.at(s(162)), told);
        assert_eq!(duty.at(s(221)), told);
        assert_eq!(ahead(&mut duty, 222), -60_000);
    }

    #[test]
    fn the_word_of_another_counts_only_while_nothing_is_known() {
        let mut duty = DutyTime::default();
        assert_eq!(duty.learn(s(1), TimestampMs(T + 1000)), Some(Jump::Known));
        assert_eq!(duty.learn(s(2), TimestampMs(T + DAY)), None);
        assert_eq!(ahead(&mut duty, 2), 0);
    }

    #[test]
    fn absurd_clocks_do_no_harm() {
        for time in [i64::MIN, i64::MAX] {
            let mut duty = DutyTime::default();
            assert_eq!(duty.step(s(1), Some(TimestampMs(time))), Some(Jump::Known));
            assert!(duty.at(s(1_000_000)).is_some());
            assert_eq!(duty.step(s(2), agreed(2, 0)), None);
            assert!(duty.step(s(62), agreed(62, 0)).is_some());
        }
    }
}
