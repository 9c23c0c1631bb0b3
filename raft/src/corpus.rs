//! What Raft stores and what nodes send, as it was written once: it is read for ever.

use crate::{
    PROTOCOL_VERSION,
    confirm::Word,
    engine::{
        network::{decode, encode},
        snapshot::{OfferAnswer, Opened, Piece, Read, SnapshotOffer},
        types::{
            self, Command, Membership, RaftMembership, RaftVote, Room, Types, decode_entry,
            decode_membership, decode_vote, encode_membership, encode_payload, encode_vote, raft_log_id,
        },
    },
    gossip::{self, GossipMeta},
    identity::{self, Proposal, Standing},
    meta::{ConfigFiles, Meta, MetaCommand, MetaResponse, OfferMode, Refusal, command, machine},
    peer::{Message, PeerName, Tag, hello, kind, messages, proto, read_hello},
    reach::{Members, Reach},
};
use bytes::{Bytes, BytesMut};
use model::{
    ClusterId, CommittedEntry, ConfigVersion, EntryPayload, Fs, LogId, LogIndex, NodeId, ShardId,
    SnapshotCheck, StateMachine, Term, TimestampMs,
    corpus::{self, Format, each, join, split},
};
use openraft::{
    impls::leader_id_std,
    raft::{
        AppendEntriesRequest, AppendEntriesResponse, TransferLeaderRequest, TransferLeaderResponse,
        VoteRequest, VoteResponse,
    },
};
use prost::Message as _;
use serde::{Serialize, de::DeserializeOwned};
use std::{collections::BTreeMap, collections::BTreeSet, fmt::Debug, path::Path, sync::Arc, time::Duration};
use storage::log::testing::MemFs;

fn id(index: u64) -> LogId {
    LogId { term: Term(3), index: LogIndex(index) }
}

fn vote() -> RaftVote {
    RaftVote { leader_id: leader_id_std::LeaderId { term: 4, voted_for: 2 }, committed: true }
}

fn members() -> Membership {
    Membership::new_with_defaults(vec![BTreeSet::from([1, 2, 3]), BTreeSet::from([2, 3, 4])], [5])
}

fn payloads() -> Vec<types::RaftEntry> {
    let payloads = [
        openraft::EntryPayload::Blank,
        openraft::EntryPayload::Normal(Command(Bytes::from_static(b"command"), Room::default())),
        openraft::EntryPayload::Membership(members()),
    ];
    let entry = |(at, payload)| types::RaftEntry { log_id: raft_log_id(id(at)), payload };
    (7..).zip(payloads).map(entry).collect()
}

fn text<T: Debug, E: ToString>(read: Result<T, E>) -> Result<String, String> {
    read.map(|what| format!("{what:?}")).map_err(|error| error.to_string())
}

fn stored_by_raft() -> Vec<u8> {
    let mut pieces: Vec<Bytes> = payloads().iter().map(|entry| encode_payload(&entry.payload)).collect();
    pieces.push(encode_vote(&vote()));
    pieces.push(encode_membership(&RaftMembership::new(Some(raft_log_id(id(9))), members())));
    join(pieces)
}

fn show_stored(at: usize, piece: &[u8]) -> Result<String, String> {
    let bytes = Bytes::copy_from_slice(piece);
    match at {
        0..3 => text(decode_entry(id(7), bytes)),
        3 => text(decode_vote(bytes)),
        _ => text(decode_membership(bytes)),
    }
}

/// A body that one node sends and another reads: what reading gives.
fn sent<T: Serialize>(body: &T) -> Bytes {
    encode(body).expect("encodes")
}

fn read<T: DeserializeOwned + Debug>(piece: &[u8]) -> Result<String, String> {
    text(decode::<T>(piece))
}

type TransferAnswer = TransferLeaderResponse<Types>;

fn bodies() -> Vec<u8> {
    let last = Some(raft_log_id(id(6)));
    let append = AppendEntriesRequest::<Types> {
        vote: vote(),
        prev_log_id: last,
        entries: payloads(),
        leader_commit: last,
    };
    let transfer = TransferLeaderRequest::<Types>::new(vote(), 3, last);
    let members = Members { index: 5, voters: vec![vec![1, 2, 3]] };
    let reach = Reach { last: 130, members };
    join([
        sent(&append),
        sent(&AppendEntriesResponse::<Types>::Success),
        sent(&AppendEntriesResponse::<Types>::PartialSuccess(last)),
        sent(&AppendEntriesResponse::<Types>::Conflict),
        sent(&AppendEntriesResponse::<Types>::HigherVote(vote())),
        sent(&VoteRequest::<Types>::new(vote(), last)),
        sent(&VoteResponse::<Types>::new(vote(), last, true)),
        sent(&transfer),
        sent(&TransferAnswer::Ok(())),
        sent(&SnapshotOffer { vote: vote(), last_log_id: last }),
        sent(&OfferAnswer::Receiving(5)),
        sent(&OfferAnswer::Done(vote())),
        sent(&OfferAnswer::Failed("why".to_owned())),
        sent(&OfferAnswer::Outvoted(vote())),
        sent(&Opened {
            id: 1,
            log_id: Some((3, 6)),
            membership: encode_membership(&RaftMembership::default()),
            manifest: Bytes::from_static(b"manifest"),
        }),
        sent(&Read { id: 1, part: 2, from: Bytes::from_static(b"key"), max: 1 << 20 }),
        sent(&Piece {
            sum: 1 << 100,
            data: Bytes::from_static(b"data"),
            next: Some(Bytes::from_static(b"key")),
        }),
        sent(&vec![1_u32, 2]),
        sent(&vec![Word { shard: 1, reach: None }, Word { shard: 2, reach: Some(reach) }]),
    ])
}

fn show_body(at: usize, piece: &[u8]) -> Result<String, String> {
    match at {
        0 => read::<AppendEntriesRequest<Types>>(piece),
        1..5 => read::<AppendEntriesResponse<Types>>(piece),
        5 => read::<VoteRequest<Types>>(piece),
        6 => read::<VoteResponse<Types>>(piece),
        7 => read::<TransferLeaderRequest<Types>>(piece),
        8 => read::<TransferAnswer>(piece),
        9 => read::<SnapshotOffer>(piece),
        10..14 => read::<OfferAnswer>(piece),
        14 => read::<Opened>(piece),
        15 => read::<Read>(piece),
        16 => read::<Piece>(piece),
        17 => read::<Vec<u32>>(piece),
        _ => read::<Vec<Word>>(piece),
    }
}

/// Whether a node would lead: the answer to [`kind::WILLING`], which came after the other bodies.
fn willing() -> Vec<u8> {
    join([sent(&true), sent(&false)])
}

fn proposal() -> Proposal {
    let members = BTreeMap::from([("a".to_owned(), NodeId(1)), ("b".to_owned(), NodeId(2))]);
    Proposal { cluster: ClusterId(5 << 100), members, shards: 6 }
}

fn identities() -> Vec<u8> {
    let (cluster, node, name) = (ClusterId(5 << 100), NodeId(1), "a".to_owned());
    let standings = [
        Standing::Promised(proposal()),
        Standing::Member { cluster, node, name: name.clone(), formed: Some(proposal()) },
        Standing::Member { cluster, node, name, formed: None },
    ];
    join(standings.map(|standing| standing.encode().expect("encodes").expect("has a file")))
}

fn frames() -> Vec<u8> {
    let us = PeerName {
        cluster: Some(ClusterId(5 << 100)),
        node: Some(NodeId(7)),
        name: "a".to_owned(),
        address: "a.example:9390".to_owned(),
    };
    let mut frame = BytesMut::new();
    for (tag, kind) in [(Tag::Request, kind::VOTE), (Tag::Answer, kind::VOTE), (Tag::Refusal, 0x0100)] {
        let (body, patience) = (Bytes::from_static(b"body"), Duration::from_millis(1500));
        Message { tag, kind, shard: ShardId(3), id: 1 << 40, patience, body }.put(&mut frame);
    }
    let newcomer = PeerName { name: "b".to_owned(), ..PeerName::default() };
    join([
        hello(&us, Some(NodeId(9))).encode_to_vec(),
        hello(&newcomer, None).encode_to_vec(),
        frame.to_vec(),
    ])
}

fn show_frame(at: usize, piece: &[u8]) -> Result<String, String> {
    if at == 2 {
        return text(messages(Bytes::copy_from_slice(piece)));
    }
    let hello = proto::Hello::decode(piece).map_err(|error| error.to_string())?;
    text(read_hello(&hello).map(|name| (name, hello.to_node_id)))
}

fn announcement() -> Vec<u8> {
    let meta = GossipMeta {
        name: "a".to_owned(),
        node: Some(NodeId(7)),
        cluster: Some(ClusterId(5 << 100)),
        address: "a.example:9390".to_owned(),
        web_address: "a.example:9090".to_owned(),
        version: "1.2.3".to_owned(),
    };
    let encoded = gossip::encode(&meta).expect("it is short");
    AsRef::<[u8]>::as_ref(&encoded).to_vec()
}

fn meta_commands() -> Vec<MetaCommand> {
    let (node, at) = (NodeId(2), TimestampMs(1_700_000_000_000));
    let files = ConfigFiles::from([("targets/*.json".to_owned(), "[]".to_owned())]);
    let named = [1, 2, 3].map(|id| (NodeId(id), format!("n{id}")));
    let (cluster_address, web_address) = ("h:9390".to_owned(), "h:9090".to_owned());
    vec![
        MetaCommand::Begin { cluster_id: ClusterId(5 << 100), shards: 6, members: named.into() },
        MetaCommand::Announce {
            node,
            cluster_address: cluster_address.clone(),
            web_address,
            version: "1.2.3".to_owned(),
        },
        MetaCommand::Allocate { name: "n3".to_owned(), cluster_address, nonce: 1 << 60 },
        MetaCommand::OfferConfig {
            node: Some(node),
            mode: OfferMode::IfNone,
            text: "global: {}\n".to_owned(),
            files: files.clone(),
            at,
        },
        MetaCommand::OfferConfig {
            node: None,
            mode: OfferMode::Replace,
            text: "scrape_configs: []\n".to_owned(),
            files: ConfigFiles::new(),
            at,
        },
        MetaCommand::OfferFiles { node, files, at },
        MetaCommand::Remove { node: NodeId(3), at },
    ]
}

fn meta_responses() -> Vec<MetaResponse> {
    let refusals = [
        Refusal::Begun(ClusterId(5)),
        Refusal::UnknownNode(NodeId(9)),
        Refusal::Removed(NodeId(3)),
        Refusal::TooManyNodes,
        Refusal::Busy(NodeId(4)),
        Refusal::ConfigTooLarge(1 << 30),
        Refusal::NoConfig,
        Refusal::Malformed,
    ];
    let mut all = vec![
        MetaResponse::Done,
        MetaResponse::Allocated(NodeId(4)),
        MetaResponse::Config { version: ConfigVersion(2), changed: true },
    ];
    all.extend(refusals.map(MetaResponse::Refused));
    all
}

const DIR: &str = "/meta";

/// The state file after all commands.
fn meta_state() -> Vec<u8> {
    let fs = MemFs::default();
    let meta = Meta::open(Arc::new(fs.clone()), Path::new(DIR)).expect("opens");
    let membership = encode_membership(&RaftMembership::new(Some(raft_log_id(id(1))), members()));
    let commands = meta_commands().into_iter().map(|command| EntryPayload::Command(command.encode()));
    let payloads = std::iter::once(EntryPayload::Membership(membership)).chain(commands);
    let entries: Vec<_> =
        (1..).zip(payloads).map(|(index, payload)| CommittedEntry { log_id: id(index), payload }).collect();
    meta.apply(&entries).expect("applied");
    meta.checkpoint().expect("written");
    fs.read(&Path::new(DIR).join("meta.state")).expect("there")
}

fn show_meta_state(blob: &[u8]) -> Result<String, String> {
    let fs = MemFs::default();
    fs.create_dir_all(Path::new(DIR)).expect("a directory in memory");
    fs.replace(&Path::new(DIR).join("meta.state"), blob).expect("a file in memory");
    let meta = Meta::open(Arc::new(fs), Path::new(DIR)).map_err(|error| error.to_string())?;
    Ok(format!("{:?}\n{:#?}\n", meta.applied(), meta.state()))
}

/// A snapshot of meta: its manifest, and the file as its one part.
fn meta_snapshot() -> Vec<u8> {
    let fs = MemFs::default();
    fs.create_dir_all(Path::new(DIR)).expect("a directory in memory");
    fs.replace(&Path::new(DIR).join("meta.state"), &meta_state()).expect("a file in memory");
    let source = Meta::open(Arc::new(fs), Path::new(DIR)).expect("opens").open_snapshot().expect("there");
    join([source.manifest(), source.read(0, &[], 1 << 20).expect("a part").data])
}

fn show_meta_snapshot(blob: &[u8]) -> Result<String, String> {
    let [manifest, part] = split(blob)?[..] else { return Err("not two pieces".to_owned()) };
    let meta = Meta::open(Arc::new(MemFs::default()), Path::new(DIR)).map_err(|error| error.to_string())?;
    let sink = meta.begin_install(Bytes::copy_from_slice(manifest));
    let mut sink = sink.map_err(|error| error.to_string())?;
    sink.write(0, part, true).map_err(|error| error.to_string())?;
    while sink.check().map_err(|error| error.to_string())? == SnapshotCheck::More {}
    text(sink.commit())
}

#[test]
fn what_raft_stored_and_nodes_sent_is_still_read() {
    let format = |name, version: u32, record, render| Format { name, oldest: 1, version, record, render };
    let (command, state) = (command::VERSION.into(), machine::VERSION.into());
    let formats = [
        format("stored", types::VERSION.into(), stored_by_raft, |blob| each(blob, show_stored)),
        format("bodies", PROTOCOL_VERSION, bodies, |blob| each(blob, show_body)),
        format("willing", PROTOCOL_VERSION, willing, |blob| each(blob, |_, piece| read::<bool>(piece))),
        format("frames", PROTOCOL_VERSION, frames, |blob| each(blob, show_frame)),
        format("identity", identity::VERSION.into(), identities, |blob| {
            each(blob, |_, piece| text(Standing::decode(piece)))
        }),
        format("gossip", gossip::META_VERSION.into(), announcement, |blob| {
            text(gossip::decode(blob).ok_or("not read"))
        }),
        format(
            "meta-command",
            command,
            || join(meta_commands().iter().map(MetaCommand::encode)),
            |blob| each(blob, |_, piece| text(MetaCommand::decode(piece))),
        ),
        format(
            "meta-answer",
            command,
            || join(meta_responses().iter().map(MetaResponse::encode)),
            |blob| each(blob, |_, piece| text(MetaResponse::decode(piece))),
        ),
        format("meta-state", state, meta_state, show_meta_state),
        format("meta-snapshot", state, meta_snapshot, show_meta_snapshot),
    ];
    let dir = corpus::dir(env!("CARGO_MANIFEST_DIR"));
    let checked = corpus::check(&dir, &formats, std::env::var_os("RECORD").is_some());
    checked.unwrap_or_else(|wrong| panic!("{wrong}"));
}
