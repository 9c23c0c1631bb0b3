//! Calls between nodes on the peer channel: kinds, bodies, handlers. See `docs/formats/calls.md`.
//!
//! Bodies are a version byte and postcard, but for proposals, whose command follows raw.

use super::{Node, cluster, targets};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use model::{ProposeError, ShardId, run_blocking};
use raft::CALL_KIND_MIN;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::{
    sync::{Arc, Weak, atomic::Ordering},
    time::Duration,
};

/// Propose a command on the leader.
pub(crate) const PROPOSE: u16 = CALL_KIND_MIN;
/// What a node says of itself and its replicas.
pub(crate) const NODE_INFO: u16 = CALL_KIND_MIN + 1;
/// The targets a node scrapes.
pub(crate) const TARGETS: u16 = CALL_KIND_MIN + 2;
/// The metadata a node has of its targets.
pub(crate) const METADATA: u16 = CALL_KIND_MIN + 3;
/// Duty time, if the node knows it.
pub(crate) const CLOCK: u16 = CALL_KIND_MIN + 4;

/// Whether files of targets on a node are not as the cluster has them.
pub(crate) const OTHER_FILES: u16 = CALL_KIND_MIN + 5;

/// How long another node may take to tell its state.
pub(crate) const ASK_PATIENCE: Duration = Duration::from_secs(1);

pub(super) const VERSION: u8 = 1;

pub(crate) fn encode<T: Serialize>(what: &T) -> Bytes {
    postcard::to_extend(what, vec![VERSION]).expect("a vector takes all bytes").into()
}

pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    match bytes.split_first() {
        Some((&VERSION, body)) => {
            postcard::from_bytes(body).map_err(|error| format!("malformed message: {error}"))
        }
        _ => Err("message of an unknown version; upgrade this node".to_owned()),
    }
}

pub(crate) fn encode_propose(shard: ShardId, command: &Bytes) -> Bytes {
    let mut body = BytesMut::with_capacity(5 + command.len());
    body.put_u8(VERSION);
    body.put_u32(shard.0);
    body.extend_from_slice(command);
    body.freeze()
}

pub(super) fn decode_propose(mut body: Bytes) -> Result<(ShardId, Bytes), String> {
    if body.len() < 5 || body.get_u8() != VERSION {
        return Err("malformed proposal".to_owned());
    }
    Ok((ShardId(body.get_u32()), body))
}

const APPLIED: u8 = 0;
const REFUSED: u8 = 1;
const UNKNOWN: u8 = 2;

pub(super) fn encode_proposed(outcome: &Result<Bytes, ProposeError>) -> Bytes {
    let (kind, body) = match outcome {
        Ok(response) => (APPLIED, &response[..]),
        Err(ProposeError::Refused { reason, .. }) => (REFUSED, reason.as_bytes()),
        Err(ProposeError::Unknown { reason }) => (UNKNOWN, reason.as_bytes()),
    };
    let mut bytes = BytesMut::with_capacity(2 + body.len());
    bytes.put_u8(VERSION);
    bytes.put_u8(kind);
    bytes.extend_from_slice(body);
    bytes.freeze()
}

/// What became of a proposal at the leader.
pub(crate) fn decode_proposed(bytes: &Bytes) -> Result<Bytes, ProposeError> {
    let text = || String::from_utf8_lossy(&bytes[2..]).into_owned();
    match bytes.get(..2) {
        Some([VERSION, APPLIED]) => Ok(bytes.slice(2..)),
        Some([VERSION, REFUSED]) => Err(ProposeError::Refused { reason: text(), leader: None }),
        Some([VERSION, UNKNOWN]) => Err(ProposeError::Unknown { reason: text() }),
        _ => Err(ProposeError::Unknown { reason: "malformed answer of the leader".to_owned() }),
    }
}

/// A handler that works on a node for as long as there is one.
fn handler<F, R>(node: &Weak<Node>, work: F) -> raft::CallHandler
where
    F: Fn(Arc<Node>, Bytes) -> R + Send + Sync + 'static,
    R: Future<Output = Result<Bytes, String>> + Send + 'static,
{
    let node = node.clone();
    Arc::new(move |_, body| match node.upgrade() {
        Some(node) => Box::pin(work(node, body)),
        None => Box::pin(async { Err("node is stopping".to_owned()) }),
    })
}

/// Runs work that takes a while beside the thread that asks: calls are answered on raft's, which has heartbeats to send.
pub(crate) async fn aside<T: Send + 'static>(
    node: &Arc<Node>,
    work: impl FnOnce(&Node) -> T + Send + 'static,
) -> Result<T, String> {
    let here = node.clone();
    let answer = run_blocking(&*node.ports.spawner, "call", move || work(&here)).await;
    answer.ok_or_else(|| "the answer could not be made".to_owned())
}

/// Answers the calls of other nodes from now on.
pub(crate) fn register(node: &Arc<Node>) {
    let weak = Arc::downgrade(node);
    let raft = &node.raft;
    raft.register(
        PROPOSE,
        handler(&weak, |node, body| async move {
            let (shard, command) = decode_propose(body)?;
            Ok(encode_proposed(&node.propose_here(shard, None, command).await))
        }),
    );
    raft.register(
        CLOCK,
        handler(&weak, |node, _| async move { Ok(encode(&node.duty_clock.known().map(|time| time.0))) }),
    );
    raft.register(NODE_INFO, handler(&weak, |node, _| async move { Ok(encode(&cluster::info_of(&node))) }));
    raft.register(
        OTHER_FILES,
        handler(&weak, |node, _| async move { Ok(encode(&node.has_other_files.load(Ordering::Relaxed))) }),
    );
    raft.register(
        TARGETS,
        handler(
            &weak,
            |node, _| async move { aside(&node, |node| encode(&targets::scraped_here(node))).await },
        ),
    );
    raft.register(
        METADATA,
        handler(&weak, |node, body| async move {
            let metric: Option<String> = decode(&body)?;
            aside(&node, move |node| encode(&targets::metadata_here(node, metric.as_deref()))).await
        }),
    );
}

/// Labels travel packed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct PackedLabels(Vec<u8>);

impl From<&model::Labels> for PackedLabels {
    fn from(labels: &model::Labels) -> Self {
        PackedLabels(labels.as_bytes().to_vec())
    }
}

impl From<&PackedLabels> for model::Labels {
    fn from(packed: &PackedLabels) -> Self {
        model::Labels::from_bytes(&packed.0).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proposal_and_its_outcome_round_trip() {
        let body = encode_propose(ShardId(7), &Bytes::from_static(b"command"));
        assert_eq!(decode_propose(body), Ok((ShardId(7), Bytes::from_static(b"command"))));
        let applied = encode_proposed(&Ok(Bytes::from_static(b"done")));
        assert_eq!(decode_proposed(&applied), Ok(Bytes::from_static(b"done")));
        let refused = ProposeError::Refused { reason: "no".into(), leader: None };
        assert_eq!(decode_proposed(&encode_proposed(&Err(refused.clone()))), Err(refused));
    }

    #[test]
    fn a_malformed_outcome_is_unknown_because_the_leader_may_have_acted() {
        assert!(matches!(decode_proposed(&Bytes::new()), Err(ProposeError::Unknown { .. })));
    }
}
