//! O5, logs: equal entries at equal index and term, with equal entries before them; what is committed is on a majority
//! of disks at every moment, and no disk that had it loses it. And O6, terms: an entry that carries another term than
//! its own changes nothing.
//!
//! Judged by what each disk would hold if the power failed at that moment, so a promise that was given too early is
//! seen without a power loss.

use crate::violation::Violation;
use model::{LogId, LogIndex, NodeId, ShardId, Term};
use std::collections::BTreeMap;
use storage::{log::testing::GroupContents, shard::DataCommand};
use xxhash_rust::xxh3::xxh3_64;

/// An entry of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskEntry {
    /// Where it stands.
    pub id: LogId,
    /// Hash of its bytes.
    pub digest: u64,
    /// The term in which the duty began whose outcome it is.
    pub carried: Option<Term>,
}

/// A vote as a disk has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskVote {
    /// The term.
    pub term: Term,
    /// The candidate, or the leader.
    pub candidate: NodeId,
    /// Whether the candidate was elected: whoever voted for another in this term follows it.
    pub is_elected: bool,
}

/// What a disk holds of a group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DiskLog {
    /// Its vote.
    pub vote: Option<DiskVote>,
    /// Entries up to here are gone.
    pub purged: Option<LogId>,
    /// The others, in order.
    pub entries: Vec<DiskEntry>,
}

/// The parts of `docs/formats/peer.md` that are judged: version 1, term, node, committed.
fn vote_of(bytes: &[u8]) -> Option<DiskVote> {
    let number = |from: usize| Some(u64::from_be_bytes(bytes.get(from..from + 8)?.try_into().ok()?));
    (bytes.first() == Some(&1)).then_some(())?;
    Some(DiskVote { term: Term(number(1)?), candidate: NodeId(number(9)?), is_elected: *bytes.get(17)? != 0 })
}

impl DiskLog {
    /// From what was read of a disk.
    #[must_use]
    pub fn new(shard: ShardId, contents: &GroupContents) -> DiskLog {
        let entries = contents.entries.iter().map(|(id, payload)| {
            // An entry is version 1, kind 1 and the command (docs/formats/peer.md).
            let is_command = shard != ShardId::META && payload.starts_with(&[1, 1]);
            let command = is_command.then(|| DataCommand::decode(&payload.slice(2..)).ok()).flatten();
            let carried = command.and_then(|command| command.term());
            DiskEntry { id: *id, digest: xxh3_64(payload), carried }
        });
        DiskLog {
            vote: contents.state.vote.as_deref().and_then(vote_of),
            purged: contents.state.purged,
            entries: entries.collect(),
        }
    }

    /// Whether it has this entry, or had it until it was in a checkpoint.
    fn holds(&self, id: LogId) -> bool {
        self.purged.is_some_and(|purged| purged.index >= id.index) || self.at(id.index) == Some(id)
    }

    fn at(&self, index: LogIndex) -> Option<LogId> {
        let found = self.entries.binary_search_by_key(&index, |entry| entry.id.index);
        found.ok().map(|at| self.entries[at].id)
    }
}

/// What was seen of all logs, ever.
#[derive(Debug, Default)]
pub struct Logs {
    /// By place: the bytes' hash, and the term of the entry before.
    seen: BTreeMap<(ShardId, LogId), (u64, Option<Term>)>,
    committed: BTreeMap<(ShardId, LogIndex), Term>,
    newest: BTreeMap<ShardId, LogId>,
    /// The newest committed entry that a machine's disk had.
    held: BTreeMap<(&'static str, ShardId), LogId>,
}

fn broken(text: String) -> Result<(), Violation> {
    Err(Violation { invariant: "O5", text })
}

impl Logs {
    /// A replica has applied up to this entry, so it is committed.
    ///
    /// # Errors
    /// If another entry was committed there.
    pub fn commit(&mut self, machine: &str, shard: ShardId, id: LogId) -> Result<(), Violation> {
        let term = *self.committed.entry((shard, id.index)).or_insert(id.term);
        if term != id.term {
            return broken(format!(
                "{machine} applied entry {} of shard {shard} of term {}; another replica that of term {term}",
                id.index, id.term
            ));
        }
        let newest = self.newest.entry(shard).or_insert(id);
        *newest = id.max(*newest);
        Ok(())
    }

    /// What a machine's disk holds.
    ///
    /// # Errors
    /// If it contradicts what was seen before.
    pub fn keep(
        &mut self,
        machine: &'static str,
        disk: &BTreeMap<ShardId, DiskLog>,
    ) -> Result<(), Violation> {
        let none = DiskLog::default();
        let owed: Vec<(ShardId, LogId)> = self
            .held
            .range((machine, ShardId(0))..=(machine, ShardId(u32::MAX)))
            .map(|((_, shard), id)| (*shard, *id))
            .collect();
        for (shard, id) in owed {
            if !disk.get(&shard).unwrap_or(&none).holds(id) {
                return broken(format!(
                    "{machine} had entry {} of term {} of shard {shard} on its disk, which is committed, and has it no more",
                    id.index, id.term
                ));
            }
        }
        for (shard, log) in disk {
            let mut before = log.purged;
            for entry in &log.entries {
                let follows = before.filter(|before| before.index.0 + 1 == entry.id.index.0);
                let now = (entry.digest, follows.map(|before| before.term));
                let known = self.seen.entry((*shard, entry.id)).or_insert(now);
                let same_before = known.1.is_none() || now.1.is_none() || known.1 == now.1;
                if known.0 != now.0 || !same_before {
                    return broken(format!(
                        "{machine} has another entry {} of term {} of shard {shard} than was seen before, or another \
                         before it",
                        entry.id.index, entry.id.term
                    ));
                }
                known.1 = known.1.or(now.1);
                before = Some(entry.id);
                if self.committed.get(&(*shard, entry.id.index)) == Some(&entry.id.term) {
                    self.held.insert((machine, *shard), entry.id);
                }
            }
        }
        Ok(())
    }

    /// What all disks hold at one moment; `None` for one that cannot be read or was damaged: it may have held
    /// everything.
    ///
    /// # Errors
    /// If something committed is on too few.
    pub fn on_majority(&self, disks: &[Option<BTreeMap<ShardId, DiskLog>>]) -> Result<(), Violation> {
        for (shard, id) in &self.newest {
            let holds = |disk: &Option<BTreeMap<ShardId, DiskLog>>| {
                disk.as_ref().is_none_or(|disk| disk.get(shard).is_some_and(|log| log.holds(*id)))
            };
            let holders = disks.iter().filter(|disk| holds(disk)).count();
            if holders * 2 <= disks.len() {
                return broken(format!(
                    "entry {} of term {} of shard {shard} is committed and on {holders} of {} disks",
                    id.index,
                    id.term,
                    disks.len()
                ));
            }
        }
        Ok(())
    }

    /// Compares state hashes around committed entries that carry another term than their own; `hash` tells the state's
    /// hash after an index, if it is known.
    ///
    /// # Errors
    /// If such an entry changed the state.
    pub fn fenced(
        &self,
        disk: &BTreeMap<ShardId, DiskLog>,
        hash: impl Fn(ShardId, LogIndex) -> Option<u128>,
    ) -> Result<(), Violation> {
        for (shard, log) in disk {
            let newest = self.newest.get(shard).map(|id| id.index);
            for entry in log.entries.iter().filter(|entry| Some(entry.id.index) <= newest) {
                let LogId { term, index } = entry.id;
                let Some(carried) = entry.carried.filter(|carried| *carried != term) else { continue };
                let before = index.0.checked_sub(1).and_then(|before| hash(*shard, LogIndex(before)));
                if let (Some(before), Some(after)) = (before, hash(*shard, index))
                    && before != after
                {
                    return Err(Violation {
                        invariant: "O6",
                        text: format!(
                            "entry {index} of shard {shard} is of term {term}, carries the outcome of a duty of term \
                             {carried}, and was applied"
                        ),
                    });
                }
            }
        }
        Ok(())
    }

    /// A machine has lost its disk, or got an old one.
    pub fn lose(&mut self, machine: &'static str) {
        self.held.retain(|(name, _), _| *name != machine);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHARD: ShardId = ShardId(1);

    fn id(term: u64, index: u64) -> LogId {
        LogId { term: Term(term), index: LogIndex(index) }
    }

    /// A disk with entries of these terms and digests, from index 1.
    fn disk(entries: &[(u64, u64)]) -> BTreeMap<ShardId, DiskLog> {
        let entry = |(at, (term, digest)): (usize, &(u64, u64))| DiskEntry {
            id: id(*term, at as u64 + 1),
            digest: *digest,
            carried: None,
        };
        let entries = entries.iter().enumerate().map(entry).collect();
        BTreeMap::from([(SHARD, DiskLog { entries, ..DiskLog::default() })])
    }

    #[test]
    fn logs_that_do_not_match_are_seen() {
        let mut logs = Logs::default();
        assert!(logs.keep("n1", &disk(&[(1, 10), (2, 20)])).is_ok());
        assert!(logs.keep("n2", &disk(&[(1, 10), (1, 15)])).is_ok(), "another term, not committed");
        assert!(logs.keep("n2", &disk(&[(1, 11)])).is_err(), "other bytes in the same place");
        assert!(logs.keep("n2", &disk(&[(2, 10), (2, 20)])).is_err(), "another entry before the same");
    }

    #[test]
    fn another_entry_committed_in_a_place_is_seen() {
        let mut logs = Logs::default();
        assert!(logs.commit("n1", SHARD, id(1, 5)).is_ok());
        assert!(logs.commit("n2", SHARD, id(1, 5)).is_ok());
        assert!(logs.commit("n2", SHARD, id(2, 5)).is_err());
    }

    #[test]
    fn a_committed_entry_that_is_gone_from_a_disk_is_seen() {
        let mut logs = Logs::default();
        logs.commit("n1", SHARD, id(1, 2)).expect("the first");
        logs.keep("n1", &disk(&[(1, 10), (1, 20), (1, 30)])).expect("all there");
        assert!(logs.keep("n1", &disk(&[(1, 10), (1, 20)])).is_ok(), "the last was not committed");
        assert!(logs.keep("n1", &disk(&[(1, 10)])).is_err());
        let purged = DiskLog { purged: Some(id(1, 2)), ..DiskLog::default() };
        assert!(logs.keep("n1", &BTreeMap::from([(SHARD, purged)])).is_ok());
        logs.lose("n1");
        assert!(logs.keep("n1", &disk(&[])).is_ok());
    }

    #[test]
    fn a_committed_entry_on_too_few_disks_is_seen() {
        let mut logs = Logs::default();
        logs.commit("n1", SHARD, id(1, 2)).expect("the first");
        let (with, without) = (disk(&[(1, 10), (1, 20)]), disk(&[(1, 10)]));
        let judge = |disks: [Option<&BTreeMap<_, _>>; 3]| logs.on_majority(&disks.map(|disk| disk.cloned()));
        assert!(judge([Some(&with), Some(&without), Some(&with)]).is_ok());
        assert!(judge([Some(&with), Some(&without), Some(&without)]).is_err());
        assert!(judge([Some(&with), None, Some(&without)]).is_ok(), "one cannot be read");
    }

    #[test]
    fn an_outcome_of_another_term_that_was_applied_is_seen() {
        let mut logs = Logs::default();
        logs.commit("n1", SHARD, id(2, 2)).expect("the first");
        let mut with = disk(&[(1, 10), (2, 20)]);
        with.get_mut(&SHARD).expect("there").entries[1].carried = Some(Term(1));
        let hashes =
            |after: u128| move |_: ShardId, index: LogIndex| Some(if index.0 < 2 { 7 } else { after });
        assert!(logs.fenced(&with, hashes(7)).is_ok());
        assert!(logs.fenced(&with, hashes(8)).is_err());
        assert!(logs.fenced(&with, |_: ShardId, _: LogIndex| None).is_ok());
    }
}
