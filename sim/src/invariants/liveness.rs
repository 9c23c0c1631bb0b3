//! O9: when faults have ended the world heals: every node runs and answers, every shard has one leader, the same
//! members and no backlog, and every node hears the gossip of every other. And at any time: what is
//! applied is told to who waits for it.

use crate::{machine::Machine, violation::Violation};
use model::{LogIndex, ShardId, Term};
use node::{GroupRole, ShardReport};
use std::collections::BTreeMap;

/// Entries that a replica may be behind in a world that goes on.
const BACKLOG_MAX: u64 = 64;

/// The same where a disk may be lost: what one replica still lacks is on the two others only.
const BACKLOG_MAX_STRICT: u64 = 4;

/// Why gossip does not work; `None` if every node hears every other.
#[must_use]
pub fn not_heard(machines: &[Machine]) -> Option<String> {
    for machine in machines {
        let (heard, restarts) = machine.probe().map(|probe| probe.gossip()).unwrap_or_default();
        let others = machines.iter().map(|other| other.name).filter(|other| *other != machine.name);
        let mut unheard = others.filter(|other| !heard.contains(*other));
        if let Some(other) = unheard.next() {
            return Some(format!(
                "{} hears no gossip of {other}; it began {restarts} times anew",
                machine.name
            ));
        }
    }
    None
}

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
        let leads = |report: &ShardReport| report.status.role == GroupRole::Leader && report.status.ready;
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
        let index = |report: &ShardReport| index_of(report).0;
        let most = replicas.iter().map(|(_, report)| index(report)).max().unwrap_or(0);
        if let Some((name, report)) = replicas.iter().find(|(_, report)| index(report) + backlog_max < most) {
            return Some(format!("shard {shard} at {name} is at {} of {most}", index(report)));
        }
    }
    None
}

/// The highest term that any replica knows, by shard: elections that nobody won count, too.
#[must_use]
pub fn terms(machines: &[Machine]) -> BTreeMap<ShardId, Term> {
    highest(machines, |report| report.status.term)
}

/// The highest index that any replica has applied, by shard.
#[must_use]
pub fn applied(machines: &[Machine]) -> BTreeMap<ShardId, LogIndex> {
    highest(machines, index_of)
}

fn index_of(report: &ShardReport) -> LogIndex {
    report.applied.map_or(LogIndex(0), |id| id.index)
}

fn highest<T: Ord + Copy>(machines: &[Machine], of: impl Fn(&ShardReport) -> T) -> BTreeMap<ShardId, T> {
    let mut highest = BTreeMap::new();
    for report in machines.iter().filter_map(Machine::probe).flat_map(|probe| probe.shards()) {
        let known = highest.entry(report.shard).or_insert(of(&report));
        *known = of(&report).max(*known);
    }
    highest
}

/// Who has not applied what was there; `None` if everybody has.
#[must_use]
pub fn behind(machines: &[Machine], there: &BTreeMap<ShardId, LogIndex>) -> Option<String> {
    for machine in machines {
        let Some(probe) = machine.probe() else { return Some(format!("{} does not run", machine.name)) };
        for report in probe.shards() {
            let (has, wanted) = (index_of(&report), there.get(&report.shard).copied().unwrap_or_default());
            if has < wanted {
                return Some(format!("shard {} at {} is at {has} of {wanted}", report.shard, machine.name));
            }
        }
    }
    None
}

/// Looks whether who waits for an entry was told of it. A node tells in the same breath in which it applies, without
/// anything that takes time between, so nobody ever sees one without the other; but a replica that its disk has
/// `failed` has stopped, and its readers hear that instead.
///
/// # Errors
/// If a read would wait for what was applied.
pub fn told(machine: &str, report: &ShardReport) -> Result<(), Violation> {
    let ShardReport { shard, status, applied, told, .. } = report;
    let applied = applied.map(|id| id.index);
    if status.failure.is_some() || *told >= applied {
        return Ok(());
    }
    let text = format!(
        "{machine} has applied {applied:?} of shard {shard} and told {told:?}: reads wait for nothing"
    );
    Err(Violation { invariant: "O9", text })
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::LogId;
    use node::GroupStatus;

    #[test]
    fn an_applied_entry_that_is_not_told_is_seen_unless_the_replica_stopped() {
        let judge = |index, failure: Option<&str>| {
            let status = GroupStatus { failure: failure.map(str::to_owned), ..GroupStatus::default() };
            let applied = Some(LogId { term: Term(1), index: LogIndex(5) });
            let told = Some(LogIndex(index));
            super::told("n1", &ShardReport { shard: ShardId(1), status, applied, told, hashes: Vec::new() })
        };
        assert!(judge(5, None).is_ok());
        assert!(judge(4, None).is_err());
        assert!(judge(4, Some("input/output error")).is_ok());
    }
}
