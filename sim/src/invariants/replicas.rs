//! O4 and O5: equal state hashes at equal index, one leader in a term, terms that never go back, indexes that never
//! go back within a life.

use crate::violation::Violation;
use model::{LogIndex, NodeId, ShardId, Term};
use node::{GroupRole, ShardReport};
use std::collections::BTreeMap;

/// What was seen of all replicas, ever.
#[derive(Debug, Default)]
pub struct Replicas {
    hashes: BTreeMap<(ShardId, LogIndex), (u128, &'static str)>,
    leaders: BTreeMap<(ShardId, Term), NodeId>,
    /// By machine and shard, within a life: term, applied index, last index whose hash was compared.
    seen: BTreeMap<(&'static str, ShardId), (Term, LogIndex, LogIndex)>,
    /// Hashes that were compared with another node's.
    pub compared: u64,
}

impl Replicas {
    /// A machine's process is a new one, or its disk is.
    pub fn forget(&mut self, machine: &'static str) {
        self.seen.retain(|(name, _), _| *name != machine);
    }

    /// Terms that had a leader, per shard.
    #[must_use]
    pub fn terms(&self) -> BTreeMap<ShardId, u64> {
        let mut terms = BTreeMap::new();
        self.leaders.keys().for_each(|(shard, _)| *terms.entry(*shard).or_default() += 1);
        terms
    }

    /// The state's hash after an index, if any replica told it.
    #[must_use]
    pub fn hash(&self, shard: ShardId, index: LogIndex) -> Option<u128> {
        self.hashes.get(&(shard, index)).map(|(hash, _)| *hash)
    }

    /// Looks at one node.
    ///
    /// # Errors
    /// With what is broken.
    pub fn look(
        &mut self,
        machine: &'static str,
        us: Option<NodeId>,
        shards: &[ShardReport],
    ) -> Result<(), Violation> {
        let broken = |invariant, text| Err(Violation { invariant, text });
        for report in shards {
            let shard = report.shard;
            let term = report.status.term;
            let applied = report.applied.map_or(LogIndex(0), |id| id.index);
            let seen = self.seen.entry((machine, shard)).or_insert((term, LogIndex(0), LogIndex(0)));
            if term < seen.0 {
                return broken(
                    "O5",
                    format!("{machine}: shard {shard} went back from term {} to {term}", seen.0),
                );
            }
            if applied < seen.1 {
                return broken(
                    "O5",
                    format!("{machine}: shard {shard} went back from index {} to {applied}", seen.1),
                );
            }
            (seen.0, seen.1) = (term, applied);
            if let (GroupRole::Leader, true, Some(us)) = (report.status.role, report.status.ready, us) {
                let leader = *self.leaders.entry((shard, term)).or_insert(us);
                if leader != us {
                    return broken(
                        "O5",
                        format!("shard {shard} has two leaders in term {term}: {leader} and {us}"),
                    );
                }
            }
            for at in report.hashes.iter().filter(|at| at.index > seen.2) {
                let (hash, who) = *self.hashes.entry((shard, at.index)).or_insert((at.hash, machine));
                self.compared += u64::from(who != machine);
                if hash != at.hash {
                    return broken(
                        "O4",
                        format!(
                            "shard {shard} at index {}: {who} has {hash:032x}, {machine} has {:032x}",
                            at.index, at.hash
                        ),
                    );
                }
            }
            seen.2 = report.hashes.last().map_or(seen.2, |at| at.index.max(seen.2));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::{LogId, StateHash};
    use node::GroupStatus;

    fn report(term: u64, index: u64, hash: u128, leads: bool) -> ShardReport {
        let role = if leads { GroupRole::Leader } else { GroupRole::Follower };
        ShardReport {
            shard: ShardId(1),
            status: GroupStatus { role, ready: leads, term: Term(term), ..GroupStatus::default() },
            applied: Some(LogId { term: Term(term), index: LogIndex(index) }),
            told: Some(LogIndex(index)),
            hashes: vec![StateHash { index: LogIndex(index), hash }],
        }
    }

    #[test]
    fn other_hashes_two_leaders_and_steps_back_are_seen() {
        let mut replicas = Replicas::default();
        let mut look =
            |name, id, report| replicas.look(name, Some(NodeId(id)), &[report]).map_err(|v| v.invariant);
        assert_eq!(look("n1", 1, report(2, 5, 77, true)), Ok(()));
        assert_eq!(look("n2", 2, report(2, 5, 77, false)), Ok(()));
        assert_eq!(look("n3", 3, report(2, 5, 78, false)), Err("O4"));
        assert_eq!(look("n2", 2, report(2, 6, 79, true)), Err("O5"));
        assert_eq!(look("n1", 1, report(1, 6, 79, false)), Err("O5"));
        assert_eq!(look("n1", 1, report(2, 4, 70, false)), Err("O5"));
    }
}
