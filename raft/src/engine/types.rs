//! How openraft's types are set, and what of them is stored: entries, votes and memberships in formats of our own,
//! so that no stored byte depends on openraft's. Described in `docs/formats/peer.md`.
//!
//! ```text
//! entry:      version 1 │ kind │ body             kind 0 blank (no body), 1 command (its bytes), 2 membership
//! vote:       version 1 │ term u64 │ node u64 │ committed u8                      big endian
//! membership: version 1 │ has log id u8 │ term u64 │ index u64 │ configs u16 │ (voters u16 │ id u64 …) … │ nodes u16 │ id u64 …
//! ```

use bytes::{Buf, BufMut, Bytes, BytesMut};
use model::{LogId, LogIndex, Term};
use openraft::{
    EntryPayload, alias,
    impls::{EmptyNode, leader_id_std},
};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, collections::BTreeSet, fmt, io, sync::Arc};
use storage::log::Reserved;

pub(crate) const VERSION: u8 = 1;
const KIND_BLANK: u8 = 0;
const KIND_COMMAND: u8 = 1;
const KIND_MEMBERSHIP: u8 = 2;

/// A command in the state machine's own format, and the room that the log keeps for it until it is appended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Command(pub(crate) Bytes, #[serde(skip)] pub(crate) Room);

impl Command {
    /// Bytes of an entry's payload beside those of its command.
    pub(crate) const HEAD_BYTES: usize = 2;
}

/// Room in the log: of this entry alone, or of all that came with it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Room(
    #[expect(dead_code, reason = "it is held until it is dropped")] pub(crate) Option<Arc<Reserved>>,
);

/// Room is no part of a command.
impl PartialEq for Room {
    fn eq(&self, _: &Room) -> bool {
        true
    }
}

impl Eq for Room {}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

/// What apply answered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Answer(pub(crate) Bytes);

openraft::declare_raft_types!(
    /// Our choice of openraft's types.
    pub(crate) Types:
        D = Command,
        R = Answer,
        NodeId = u64,
        Node = EmptyNode,
        LeaderId = leader_id_std::LeaderId<u64, u64>,
        AsyncRuntime = openraft_rt_tokio::TokioRuntime,
);

pub(crate) type Raft = openraft::Raft<Types, super::machine::Machine>;
pub(crate) type RaftLogId = alias::LogIdOf<Types>;
pub(crate) type RaftVote = alias::VoteOf<Types>;
pub(crate) type RaftEntry = alias::EntryOf<Types>;
pub(crate) type RaftMembership = alias::StoredMembershipOf<Types>;
pub(crate) type SnapshotMeta = alias::SnapshotMetaOf<Types>;
pub(crate) type Membership = openraft::Membership<u64, EmptyNode>;

/// Ours from theirs.
pub(crate) fn log_id(id: &RaftLogId) -> LogId {
    LogId { term: Term(id.leader_id.term), index: LogIndex(id.index) }
}

/// Theirs from ours.
pub(crate) fn raft_log_id(id: LogId) -> RaftLogId {
    RaftLogId::new_term_index(id.term.0, id.index.0)
}

fn malformed(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("malformed {what}"))
}

fn take<const N: usize>(bytes: &mut Bytes, what: &'static str) -> io::Result<[u8; N]> {
    if bytes.len() < N {
        return Err(malformed(what));
    }
    let mut out = [0; N];
    bytes.copy_to_slice(&mut out);
    Ok(out)
}

fn check_version(bytes: &mut Bytes, what: &'static str) -> io::Result<()> {
    match take::<1>(bytes, what)? {
        [VERSION] => Ok(()),
        [other] => {
            let text = format!("{what} has format version {other}, this program reads version {VERSION}");
            Err(io::Error::new(io::ErrorKind::InvalidData, text))
        }
    }
}

/// The bytes of an entry's payload.
pub(crate) fn encode_payload(payload: &EntryPayload<Command, u64, EmptyNode>) -> Bytes {
    let mut out = BytesMut::new();
    match payload {
        EntryPayload::Blank => out.put_slice(&[VERSION, KIND_BLANK]),
        EntryPayload::Normal(command) => {
            out.reserve(command.0.len() + Command::HEAD_BYTES);
            out.put_slice(&[VERSION, KIND_COMMAND]);
            out.put_slice(&command.0);
        }
        EntryPayload::Membership(membership) => {
            out.put_slice(&[VERSION, KIND_MEMBERSHIP]);
            put_membership(&mut out, membership);
        }
    }
    out.freeze()
}

/// An entry from its id and payload.
pub(crate) fn decode_entry(id: LogId, mut bytes: Bytes) -> io::Result<RaftEntry> {
    check_version(&mut bytes, "entry")?;
    let payload = match take::<1>(&mut bytes, "entry")? {
        [KIND_BLANK] => EntryPayload::Blank,
        [KIND_COMMAND] => EntryPayload::Normal(Command(bytes, Room::default())),
        [KIND_MEMBERSHIP] => EntryPayload::Membership(take_membership(&mut bytes)?),
        _ => return Err(malformed("entry kind")),
    };
    Ok(RaftEntry { log_id: raft_log_id(id), payload })
}

/// The bytes of a vote.
pub(crate) fn encode_vote(vote: &RaftVote) -> Bytes {
    let mut out = BytesMut::with_capacity(18);
    out.put_u8(VERSION);
    out.put_u64(vote.leader_id.term);
    out.put_u64(vote.leader_id.voted_for);
    out.put_u8(u8::from(vote.committed));
    out.freeze()
}

/// A vote from its bytes.
pub(crate) fn decode_vote(mut bytes: Bytes) -> io::Result<RaftVote> {
    check_version(&mut bytes, "vote")?;
    let term = u64::from_be_bytes(take(&mut bytes, "vote")?);
    let voted_for = u64::from_be_bytes(take(&mut bytes, "vote")?);
    let [committed] = take(&mut bytes, "vote")?;
    Ok(RaftVote { leader_id: leader_id_std::LeaderId { term, voted_for }, committed: committed != 0 })
}

fn put_ids(out: &mut BytesMut, ids: impl ExactSizeIterator<Item = u64>) {
    out.put_u16(ids.len() as u16);
    ids.for_each(|id| out.put_u64(id));
}

fn take_ids(bytes: &mut Bytes) -> io::Result<BTreeSet<u64>> {
    let count = u16::from_be_bytes(take(bytes, "membership")?);
    (0..count).map(|_| Ok(u64::from_be_bytes(take(bytes, "membership")?))).collect()
}

fn put_membership(out: &mut BytesMut, membership: &Membership) {
    let configs = membership.get_joint_config();
    out.put_u16(configs.len() as u16);
    configs.iter().for_each(|voters| put_ids(out, voters.iter().copied()));
    let nodes: Vec<u64> = membership.nodes().map(|(id, _)| *id).collect();
    put_ids(out, nodes.into_iter());
}

fn take_membership(bytes: &mut Bytes) -> io::Result<Membership> {
    let count = u16::from_be_bytes(take(bytes, "membership")?);
    let configs = (0..count).map(|_| take_ids(bytes)).collect::<io::Result<Vec<_>>>()?;
    let nodes: BTreeMap<u64, EmptyNode> = take_ids(bytes)?.into_iter().map(|id| (id, EmptyNode {})).collect();
    Ok(Membership::new_with_defaults(configs, nodes.into_keys()))
}

/// The bytes that a state machine keeps as its membership.
pub(crate) fn encode_membership(membership: &RaftMembership) -> Bytes {
    let mut out = BytesMut::new();
    out.put_u8(VERSION);
    let id = membership.log_id().as_ref().map(log_id);
    out.put_u8(u8::from(id.is_some()));
    let id = id.unwrap_or_default();
    out.put_u64(id.term.0);
    out.put_u64(id.index.0);
    put_membership(&mut out, membership.membership());
    out.freeze()
}

/// What a state machine kept as its membership; empty before the first.
pub(crate) fn decode_membership(mut bytes: Bytes) -> io::Result<RaftMembership> {
    if bytes.is_empty() {
        return Ok(RaftMembership::default());
    }
    check_version(&mut bytes, "membership")?;
    let [present] = take(&mut bytes, "membership")?;
    let term = Term(u64::from_be_bytes(take(&mut bytes, "membership")?));
    let index = LogIndex(u64::from_be_bytes(take(&mut bytes, "membership")?));
    let id = (present != 0).then(|| raft_log_id(LogId { term, index }));
    Ok(RaftMembership::new(id, take_membership(&mut bytes)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn id(index: u64) -> LogId {
        LogId { term: Term(3), index: LogIndex(index) }
    }

    fn check(payload: EntryPayload<Command, u64, EmptyNode>) {
        let entry = decode_entry(id(7), encode_payload(&payload)).expect("own encoding");
        assert_eq!((entry.payload, log_id(&entry.log_id)), (payload, id(7)));
    }

    fn members() -> Membership {
        Membership::new_with_defaults(vec![BTreeSet::from([1, 2, 3]), BTreeSet::from([2, 3, 4])], [5])
    }

    #[test]
    fn every_kind_of_entry_comes_back() {
        check(EntryPayload::Blank);
        check(EntryPayload::Normal(Command(Bytes::from_static(b"abc"), Room::default())));
        check(EntryPayload::Membership(members()));
    }

    #[test]
    fn a_vote_comes_back() {
        let vote = RaftVote { leader_id: leader_id_std::LeaderId { term: 4, voted_for: 2 }, committed: true };
        assert_eq!(decode_vote(encode_vote(&vote)).expect("own encoding"), vote);
    }

    #[test]
    fn a_membership_comes_back_with_where_it_was_decided() {
        let stored = RaftMembership::new(Some(raft_log_id(id(9))), members());
        assert_eq!(decode_membership(encode_membership(&stored)).expect("own encoding"), stored);
        assert_eq!(decode_membership(Bytes::new()).expect("none yet"), RaftMembership::default());
    }

    proptest! {
        #[test]
        fn foreign_bytes_are_refused_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let bytes = Bytes::from(bytes);
            let _ = decode_entry(id(1), bytes.clone());
            let _ = decode_vote(bytes.clone());
            let _ = decode_membership(bytes);
        }
    }
}
