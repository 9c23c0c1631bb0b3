//! What nodes say to each other and keep in small files, as it was written once: it is read for ever.

use super::{
    calls::{self, decode, encode},
    cluster::NodeInfo,
    configuration::Remembered,
    join::{JoinAnswer, JoinRequest, StandingAnswer},
    targets::{Scraped, ScrapedMetadata},
};
use bytes::Bytes;
use model::{
    ClusterId, NodeId, ProposeError, ShardId,
    corpus::{self, Format, each, join},
};
use raft::{FormingAnswer, FormingRequest, Proposal};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Debug,
};

/// Makes what has private fields.
fn made<T: DeserializeOwned>(of: Value) -> T {
    serde_json::from_value(of).expect("all fields, by name")
}

fn text<T: Debug>(read: Result<T, String>) -> Result<String, String> {
    read.map(|what| format!("{what:?}"))
}

fn read<T: DeserializeOwned + Debug>(piece: &[u8]) -> Result<String, String> {
    text(decode::<T>(piece))
}

fn info() -> NodeInfo {
    made(json!({
        "version": "1.2.3",
        "replicas": {"1": {
            "leads": true, "leader": 2, "term": 4, "committed": 120, "applied": 119, "config_version": 3,
            "hashes": [[119, 1_u64 << 60]], "failure": "disk full",
        }},
    }))
}

fn scraped() -> Vec<Scraped> {
    let labels = model::Labels::from_pairs([("instance", "a:1"), ("job", "node")]);
    let target = |up: Option<bool>| {
        json!({
            "job": "node", "labels": labels.as_bytes(), "url": "http://a:1/metrics", "up": up,
            "last_error": "refused", "last_scrape": 1_700_000_000_000_i64, "last_seconds": 0.25,
        })
    };
    made(json!([target(None), target(Some(true))]))
}

fn metadata() -> Vec<ScrapedMetadata> {
    let labels = model::Labels::from_pairs([("instance", "a:1")]);
    made(json!([{"labels": labels.as_bytes(), "metrics": [["m_total", "counter", "Helps.", "seconds"]]}]))
}

fn members_calls() -> Vec<u8> {
    let refused = Err(ProposeError::Refused { reason: "not the leader".to_owned(), leader: None });
    let unknown = Err(ProposeError::Unknown { reason: "no outcome in time".to_owned() });
    join([
        calls::encode_propose(ShardId(7), &Bytes::from_static(b"command")),
        calls::encode_proposed(&Ok(Bytes::from_static(b"answer"))),
        calls::encode_proposed(&refused),
        calls::encode_proposed(&unknown),
        encode(&info()),
        encode(&scraped()),
        encode(&Some("m_total")),
        encode(&metadata()),
    ])
}

fn show_members_call(at: usize, piece: &[u8]) -> Result<String, String> {
    let bytes = Bytes::copy_from_slice(piece);
    match at {
        0 => text(calls::decode_propose(bytes)),
        1..4 => Ok(format!("{:?}", calls::decode_proposed(&bytes))),
        4 => read::<NodeInfo>(piece),
        5 => read::<Vec<Scraped>>(piece),
        6 => read::<Option<String>>(piece),
        _ => read::<Vec<ScrapedMetadata>>(piece),
    }
}

fn open_calls() -> Vec<u8> {
    let cluster = ClusterId(5 << 100);
    let members = BTreeMap::from([("a".to_owned(), NodeId(1)), ("b".to_owned(), NodeId(2))]);
    let named = vec![(NodeId(1), "a:9390".to_owned()), (NodeId(2), "b:9390".to_owned())];
    let name = "b".to_owned();
    join([
        encode(&FormingRequest::Ask),
        encode(&FormingRequest::Offer(Proposal { cluster, members, shards: 6 })),
        encode(&FormingAnswer::Unformed(BTreeSet::from(["a".to_owned(), name.clone()]))),
        encode(&FormingAnswer::Promised(cluster)),
        encode(&FormingAnswer::Member(cluster)),
        encode(&FormingAnswer::Refused("other members".to_owned())),
        encode(&JoinRequest { name, address: "b:9390".to_owned(), nonce: 1 << 60 }),
        encode(&JoinAnswer::Welcome { cluster, node: NodeId(4), members: named }),
        encode(&JoinAnswer::Later("another node is joining".to_owned())),
        encode(&JoinAnswer::Refused("this name lives".to_owned())),
        encode(&StandingAnswer::Member),
        encode(&StandingAnswer::Removed),
    ])
}

fn show_open_call(at: usize, piece: &[u8]) -> Result<String, String> {
    match at {
        0..2 => read::<FormingRequest>(piece),
        2..6 => read::<FormingAnswer>(piece),
        6 => read::<JoinRequest>(piece),
        7..10 => read::<JoinAnswer>(piece),
        _ => read::<StandingAnswer>(piece),
    }
}

fn offered() -> Vec<u8> {
    let remembered: Remembered = made(json!({"version": 1, "text": 7, "files": {"targets/a.json": 9}}));
    serde_json::to_vec(&remembered).expect("it has no odd keys")
}

#[test]
fn what_nodes_said_and_kept_is_still_read() {
    let format = |name, version: u32, record, render| Format { name, oldest: 1, version, record, render };
    let formats = [
        format("calls-members", calls::VERSION.into(), members_calls, |blob| each(blob, show_members_call)),
        format("calls-open", calls::VERSION.into(), open_calls, |blob| each(blob, show_open_call)),
        format("offered", 1, offered, |blob| {
            text(serde_json::from_slice::<Remembered>(blob).map_err(|error| error.to_string()))
        }),
    ];
    let dir = corpus::dir(env!("CARGO_MANIFEST_DIR"));
    let checked = corpus::check(&dir, &formats, std::env::var_os("RECORD").is_some());
    checked.unwrap_or_else(|wrong| panic!("{wrong}"));
}
