//! O9: when faults have ended the world heals: every node runs and answers, every shard has one leader, the same
//! members and no backlog. And at any time: what is applied is told to who waits for it.

use crate::{machine::Machine, violation::Violation};
use model::{LogIndex, ShardId};
use node::GroupRole;
use std::{collections::BTreeMap, time::Duration};

/// How long an applied entry may remain untold: longer than a disk stands still under the checkpoint that follows it.
const UNTOLD_MAX: Duration = Duration::from_secs(12);
/// Entries that a replica may be behind in a world that goes on.
const BACKLOG_MAX: u64 = 64;

/// The same where a disk may be lost: what one replica still lacks is on the two others only.
const BACKLOG_MAX_STRICT: u64 = 4;

/// Why the world is not whole; `None` if it is.
#[must_use]
pub fn not_whole(machines: &[Machine], shards: usize) -> Option<String> {
    not_whole_by(machines, shards, BACKLOG_MAX)
}

/// Why a disk may not be lost; `None` if it may.
#[must_use]
pub fn not_threefold(machines: &[Machine], shards: usize) -> Option<String> {
    not_whole_by(machines, shards, BACKLOG_MAX_STRICT)
}

fn not_whole_by(machines: &[Machine], shards: usize, backlog_max: u64) -> Option<String> {
    let mut all = Vec::new();
    for machine in machines {
        let name = machine.name;
        let Some(probe) = machine.probe() else { return Some(format!("{name} does not run")) };
        if machine.frozen_until.is_some() {
            return Some(format!("{name} is frozen"));
        }
        if let Some(reason) = probe.not_ready() {
            return Some(format!("{name} is not ready: {reason}"));
        }
        let reports = probe.shards();
        if reports.len() != shards {
            return Some(format!("{name} hosts {} shards of {shards}", reports.len()));
        }
        all.push((name, reports));
    }
    for at in 0..shards {
        let replicas: Vec<_> = all.iter().map(|(name, reports)| (name, &reports[at])).collect();
        let (_, first) = replicas[0];
        let shard = first.shard;
        let leads =
            |report: &node::ShardReport| report.status.role == GroupRole::Leader && report.status.ready;
        let leaders = replicas.iter().filter(|(_, report)| leads(report)).count();
        if leaders != 1 {
            return Some(format!("shard {shard} has {leaders} leaders"));
        }
        for (name, report) in &replicas {
            let status = &report.status;
            if let Some(failure) = &status.failure {
                return Some(format!("shard {shard} at {name} has failed: {failure}"));
            }
            if status.leader != first.status.leader || status.term != first.status.term {
                return Some(format!("{name} follows another leader of shard {shard}"));
            }
            if status.voters != first.status.voters || !status.learners.is_empty() || status.changing {
                return Some(format!("members of shard {shard} are not settled at {name}"));
            }
            if status.voters.len() != machines.len() {
                return Some(format!("shard {shard} has {} voters", status.voters.len()));
            }
        }
        let index = |report: &node::ShardReport| report.applied.map_or(LogIndex(0), |id| id.index).0;
        let most = replicas.iter().map(|(_, report)| index(report)).max().unwrap_or(0);
        if let Some((name, report)) = replicas.iter().find(|(_, report)| index(report) + backlog_max < most) {
            return Some(format!("shard {shard} at {name} is at {} of {most}", index(report)));
        }
    }
    None
}

/// Since when replicas have applied more than they have told.
#[derive(Debug, Default)]
pub struct Untold(BTreeMap<(&'static str, ShardId), Duration>);

impl Untold {
    /// Looks at a replica of a machine that runs.
    ///
    /// # Errors
    /// If a read would wait for what was applied long ago.
    pub fn look(
        &mut self,
        now: Duration,
        (machine, shard): (&'static str, ShardId),
        applied: Option<LogIndex>,
        told: Option<LogIndex>,
    ) -> Result<(), Violation> {
        let Some(applied) = applied.filter(|applied| told < Some(*applied)) else {
            self.0.remove(&(machine, shard));
            return Ok(());
        };
        let since = *self.0.entry((machine, shard)).or_insert(now);
        if now.saturating_sub(since) <= UNTOLD_MAX {
            return Ok(());
        }
        let text = format!(
            "{machine} has applied entry {applied} of shard {shard} and told {told:?} for {:?}: reads wait for nothing",
            now.saturating_sub(since)
        );
        Err(Violation { invariant: "O9", text })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_applied_entry_that_is_not_told_is_seen_after_a_while() {
        let mut untold = Untold::default();
        let mut look = |ms, told| {
            let at = ("n1", ShardId(1));
            untold.look(Duration::from_millis(ms), at, Some(LogIndex(5)), Some(LogIndex(told))).is_ok()
        };
        assert!(look(0, 4));
        assert!(look(12_000, 4));
        assert!(look(12_001, 5));
        assert!(look(12_050, 4));
        assert!(!look(24_051, 4));
    }
}
