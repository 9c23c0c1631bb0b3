//! What a group looks like from this node.

use model::{LogIndex, NodeId, Term};
use std::collections::{BTreeMap, BTreeSet};

/// What this node is in a group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GroupRole {
    /// Receives entries without a vote, or does not belong to the group yet.
    #[default]
    Learner,
    /// Follows a leader, or waits for one.
    Follower,
    /// Campaigns.
    Candidate,
    /// Leads.
    Leader,
    /// The replica here has stopped; `failure` says why.
    Stopped,
}

/// Role, leader and members; changes rarely, so one can wait for it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupStatus {
    /// What this node is.
    pub role: GroupRole,
    /// Who leads, as far as is known here.
    pub leader: Option<NodeId>,
    /// The term known here.
    pub term: Term,
    /// Whether this node leads and has applied an entry of its own term: duties may begin, in this term.
    pub ready: bool,
    /// Members with a vote; during a change those of both configurations.
    pub voters: BTreeSet<NodeId>,
    /// Members without.
    pub learners: BTreeSet<NodeId>,
    /// Whether a change of members is under way.
    pub changing: bool,
    /// Why the replica stopped.
    pub failure: Option<String>,
}

/// How far a group has come, asked for when wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupProgress {
    /// The last entry in the log here.
    pub last: Option<LogIndex>,
    /// Known to be committed here.
    pub committed: Option<LogIndex>,
    /// Applied here.
    pub applied: Option<LogIndex>,
    /// The last checkpoint here.
    pub checkpointed: Option<LogIndex>,
    /// The log begins behind this.
    pub purged: Option<LogIndex>,
    /// On the leader: how far each member's log is known to match, itself included.
    pub matched: BTreeMap<NodeId, Option<LogIndex>>,
    /// On the leader: milliseconds since a majority was heard.
    pub quorum_age_ms: Option<u64>,
}
