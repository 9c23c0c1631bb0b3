//! One timer for all groups of a node: heartbeats of what is led here, campaigns where a leader fell silent.
//!
//! ```text
//!  peers ──Heard, Granted──▶ ┌────────┐ ──Heartbeat(shard)──▶ openraft
//!  status ─Role────────────▶ │ Driver │ ──Campaign(shard)───▶ openraft (pre-vote first)
//!  timer ──Tick────────────▶ └────────┘ ──WakeAt(t)─────────▶ timer
//! ```
//!
//! Left alone, every group of openraft ticks for itself: five percent of a core at rest and more than a second from
//! a crash to the next commit. Here the heartbeats of all groups go out together, once per interval, and a group
//! campaigns when it heard nothing for its lease. Who goes first differs by group, so that two survivors share what
//! the third one led.
//!
//! Invariants: a group that is led here never campaigns; a node that abstains never does; between two campaigns of a
//! group lies at least [`Timing::retry`]; every step ends with one `WakeAt` that is not later than the next thing due.

use model::ShardId;
use std::{collections::BTreeMap, time::Duration};

/// Time since the clock's fixed point.
pub type Instant = Duration;

/// The driver's intervals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// Between two heartbeats of a leader.
    pub heartbeat: Duration,
    /// How long a leader's word holds: nobody campaigns and nobody grants a vote before. This is openraft's lease.
    pub lease: Duration,
    /// Between the ranks of a group's voters.
    pub rank: Duration,
    /// From a campaign to the next; up to as much again is added at random.
    pub retry: Duration,
    /// No campaign of one's own for so long after granting a vote to another.
    pub hold: Duration,
}

impl Default for Timing {
    /// As measured: half a second from a crash to the next commit, 0.6 % of a core at rest.
    fn default() -> Timing {
        Timing::of(Duration::from_millis(150), Duration::from_millis(450))
    }
}

impl Timing {
    /// The rest in proportion to heartbeat and lease.
    #[must_use]
    pub fn of(heartbeat: Duration, lease: Duration) -> Timing {
        Timing { heartbeat, lease, rank: lease * 4 / 45, retry: lease * 2 / 9, hold: lease * 4 / 9 }
    }
}

/// What this node is in a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Receives entries, has no vote.
    Learner,
    /// Has a vote; campaigns as the `rank`-th.
    Voter {
        /// Its turn among the voters, from 0.
        rank: u32,
    },
    /// Leads.
    Leader,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Time passed.
    Tick,
    /// The group is hosted here from now on, or this node's role in it changed.
    Role(ShardId, Role),
    /// The group is no longer hosted here.
    Gone(ShardId),
    /// A message of the group's leader was accepted.
    Heard(ShardId),
    /// A vote was granted to another node.
    Granted(ShardId),
    /// This node takes no leadership from now on (`true`), or does again.
    Abstain(bool),
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Send a heartbeat to all followers of the group.
    Heartbeat(ShardId),
    /// Ask for pre-votes, and for votes if they are granted.
    Campaign(ShardId),
    /// Step again at this time at the latest.
    WakeAt(Instant),
}

#[derive(Clone, Copy, Debug)]
struct Group {
    role: Role,
    heard: Instant,
    hold: Instant,
}

/// Decides for all groups of a node.
#[derive(Clone, Debug)]
pub struct Driver {
    timing: Timing,
    groups: BTreeMap<ShardId, Group>,
    beat_next: Instant,
    abstains: bool,
    /// State of the pseudo-random sequence that spreads campaigns; seeded from outside.
    random: u64,
}

impl Driver {
    /// A driver without groups. `seed` decides the spread of its campaigns.
    #[must_use]
    pub fn new(timing: Timing, seed: u64) -> Driver {
        Driver {
            timing,
            groups: BTreeMap::new(),
            beat_next: Duration::ZERO,
            abstains: false,
            random: seed | 1,
        }
    }

    /// Advances the machine. Never blocks, never reads a clock: `now` comes in.
    #[must_use]
    pub fn step(&mut self, now: Instant, event: Event) -> Vec<Effect> {
        let mut effects = Vec::new();
        match event {
            Event::Tick => {}
            Event::Role(shard, role) => self.role(now, shard, role, &mut effects),
            Event::Gone(shard) => drop(self.groups.remove(&shard)),
            Event::Heard(shard) => self.group(shard, |group| group.heard = now),
            Event::Granted(shard) => {
                let hold = now + self.timing.hold;
                self.group(shard, |group| group.hold = group.hold.max(hold));
            }
            Event::Abstain(abstains) => self.abstains = abstains,
        }
        self.beat(now, &mut effects);
        self.campaign(now, &mut effects);
        effects.push(Effect::WakeAt(self.wake(now)));
        effects
    }

    fn group(&mut self, shard: ShardId, change: impl FnOnce(&mut Group)) {
        if let Some(group) = self.groups.get_mut(&shard) {
            change(group);
        }
    }

    fn role(&mut self, now: Instant, shard: ShardId, role: Role, effects: &mut Vec<Effect>) {
        // A new group first listens for a lease: openraft itself starts without one, but a leader may be there.
        let group = self.groups.entry(shard).or_insert(Group { role, heard: now, hold: now });
        if group.role == Role::Leader && role != Role::Leader {
            group.heard = now; // deposed: the new leader has its turn
        }
        if role == Role::Leader && group.role != Role::Leader {
            effects.push(Effect::Heartbeat(shard)); // its followers learn at once whom to listen to
        }
        group.role = role;
    }

    fn beat(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        if now < self.beat_next {
            return;
        }
        // After a pause one round is enough: rounds do not pile up.
        self.beat_next = (self.beat_next + self.timing.heartbeat).max(now + self.timing.heartbeat / 2);
        let led = self.groups.iter().filter(|(_, group)| group.role == Role::Leader);
        for (shard, _) in led {
            if !effects.contains(&Effect::Heartbeat(*shard)) {
                effects.push(Effect::Heartbeat(*shard));
            }
        }
    }

    fn due(&self, group: &Group) -> Option<Instant> {
        let Role::Voter { rank } = group.role else { return None };
        if self.abstains {
            return None;
        }
        let patience = self.timing.lease + Duration::from_millis(5) + self.timing.rank * rank;
        Some((group.heard + patience).max(group.hold))
    }

    fn campaign(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        let due: Vec<ShardId> = self
            .groups
            .iter()
            .filter(|(_, group)| self.due(group).is_some_and(|due| due <= now))
            .map(|(shard, _)| *shard)
            .collect();
        for shard in due {
            let spread = self.spread();
            let hold = now + self.timing.retry + spread;
            self.group(shard, |group| group.hold = hold);
            effects.push(Effect::Campaign(shard));
        }
    }

    /// Up to one retry interval (xorshift64: enough to keep two candidates apart).
    fn spread(&mut self) -> Duration {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let retry_us = u64::try_from(self.timing.retry.as_micros()).unwrap_or(u64::MAX).max(1);
        Duration::from_micros(self.random % retry_us)
    }

    fn wake(&self, now: Instant) -> Instant {
        let campaigns = self.groups.values().filter_map(|group| self.due(group)).min();
        campaigns.unwrap_or(self.beat_next).min(self.beat_next).max(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: ShardId = ShardId(0);
    const B: ShardId = ShardId(1);

    fn ms(ms: u64) -> Instant {
        Duration::from_millis(ms)
    }

    /// Heartbeat 150 ms, lease 450 ms, ranks 40 ms apart, retry 100 to 200 ms, hold 200 ms.
    fn driver(roles: &[(ShardId, Role)]) -> Driver {
        let mut driver = Driver::new(Timing::default(), 7);
        for (shard, role) in roles {
            let _ = driver.step(ms(0), Event::Role(*shard, *role));
        }
        driver
    }

    /// All effects but wakes, from stepping whenever the driver asks to, until `until`.
    fn run(driver: &mut Driver, from: u64, until: u64) -> Vec<(u64, Effect)> {
        let (mut now, mut all) = (ms(from), Vec::new());
        while now <= ms(until) {
            let mut wake = now;
            for effect in driver.step(now, Event::Tick) {
                match effect {
                    Effect::WakeAt(at) => wake = at,
                    other => all.push((now.as_millis() as u64, other)),
                }
            }
            now = wake.max(now + ms(1));
        }
        all
    }

    #[test]
    fn heartbeats_of_all_led_groups_go_out_together() {
        let mut driver = driver(&[(A, Role::Leader), (B, Role::Leader)]);
        let beats = run(&mut driver, 1, 310);
        let at = |t| [(t, Effect::Heartbeat(A)), (t, Effect::Heartbeat(B))];
        assert_eq!(beats, [at(150), at(300)].concat());
    }

    #[test]
    fn a_new_leader_is_heard_at_once() {
        let mut driver = driver(&[(A, Role::Voter { rank: 0 })]);
        assert!(driver.step(ms(70), Event::Role(A, Role::Leader)).contains(&Effect::Heartbeat(A)));
    }

    #[test]
    fn the_first_rank_campaigns_when_the_lease_is_over() {
        let mut driver = driver(&[(A, Role::Voter { rank: 0 }), (B, Role::Voter { rank: 2 })]);
        assert_eq!(run(&mut driver, 1, 454), []);
        assert_eq!(run(&mut driver, 455, 500), [(455, Effect::Campaign(A))]);
        assert!(run(&mut driver, 535, 535).contains(&(535, Effect::Campaign(B))));
    }

    #[test]
    fn a_heard_leader_postpones_the_campaign() {
        let mut driver = driver(&[(A, Role::Voter { rank: 0 })]);
        let _ = driver.step(ms(400), Event::Heard(A));
        assert_eq!(run(&mut driver, 401, 854), []);
        assert_eq!(run(&mut driver, 855, 900), [(855, Effect::Campaign(A))]);
    }

    #[test]
    fn a_granted_vote_gives_the_candidate_time() {
        let mut driver = driver(&[(A, Role::Voter { rank: 0 })]);
        let _ = driver.step(ms(450), Event::Granted(A));
        assert_eq!(run(&mut driver, 451, 649), []);
        assert_eq!(run(&mut driver, 650, 700), [(650, Effect::Campaign(A))]);
    }

    #[test]
    fn campaigns_are_repeated_but_not_in_a_rush() {
        let mut driver = driver(&[(A, Role::Voter { rank: 0 })]);
        let times: Vec<u64> = run(&mut driver, 1, 3000).into_iter().map(|(at, _)| at).collect();
        assert!(times.len() >= 12, "{times:?}");
        assert!(times.windows(2).all(|pair| (100..=201).contains(&(pair[1] - pair[0]))), "{times:?}");
    }

    #[test]
    fn a_learner_never_campaigns_and_a_group_that_is_gone_neither() {
        let mut driver = driver(&[(A, Role::Learner), (B, Role::Voter { rank: 0 })]);
        let _ = driver.step(ms(10), Event::Gone(B));
        assert_eq!(run(&mut driver, 11, 3000), []);
    }

    #[test]
    fn a_node_that_abstains_keeps_its_leaderships_alive_and_takes_none() {
        let mut driver = driver(&[(A, Role::Voter { rank: 0 }), (B, Role::Leader)]);
        let _ = driver.step(ms(1), Event::Abstain(true));
        assert!(run(&mut driver, 2, 3000).iter().all(|(_, effect)| *effect == Effect::Heartbeat(B)));
        assert!(driver.step(ms(3001), Event::Abstain(false)).contains(&Effect::Campaign(A)));
    }

    #[test]
    fn after_a_pause_one_round_of_heartbeats_is_sent() {
        let mut driver = driver(&[(A, Role::Leader)]);
        assert_eq!(run(&mut driver, 10_000, 10_010), [(10_000, Effect::Heartbeat(A))]);
    }

    #[test]
    fn a_deposed_leader_waits_a_lease_before_it_campaigns() {
        let mut driver = driver(&[(A, Role::Leader)]);
        let _ = driver.step(ms(5_000), Event::Role(A, Role::Voter { rank: 0 }));
        assert_eq!(run(&mut driver, 5_001, 5_454), []);
    }
}
