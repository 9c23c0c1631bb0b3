//! What one group says to one peer: openraft's requests as messages of the shared link.

use super::{
    machine::SnapshotData,
    snapshot::{OfferAnswer, SnapshotOffer, Snapshots},
    types::{Command, Raft, RaftEntry, RaftLogId, RaftVote, Room, Types},
    witness::Witness,
};
use crate::peer::{PeerError, Peers, kind};
use bytes::Bytes;
use futures::{Stream, StreamExt};
use model::{LogIndex, NodeId, ShardId, Term, points::VoteGiven};
use openraft::{
    EntryPayload, OptionalSend, alias,
    base::{BoxFuture, BoxStream},
    errors::{RPCError, ReplicationClosed, StreamingError, Unreachable},
    impls::EmptyNode,
    network::{RPCOption, RaftNetworkFactory, v2::RaftNetworkV2},
    raft::{
        AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendResult,
        TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
    },
};
use serde::{Serialize, de::DeserializeOwned};
use std::{future::Future, io, sync::Arc, time::Duration};
use storage::log::{LogError, Reserved};

/// Appends that may be on their way to one follower of one group.
const PIPELINE: usize = 8;
/// How long an append may take: openraft's own limit, the heartbeat interval, is too short for a large one.
const APPEND_PATIENCE: Duration = Duration::from_secs(2);
/// Patience with a member that is told to fence itself; it is told again with its next answer.
const FENCE_PATIENCE: Duration = Duration::from_secs(1);
/// Between two questions how a follower's snapshot gets on, and how long it may stand still.
const OFFER_PAUSE: Duration = Duration::from_millis(250);
const OFFER_STALLED_MAX: u32 = 240;

/// The bytes of a message.
pub(crate) fn encode<T: Serialize>(message: &T) -> Result<Bytes, String> {
    postcard::to_stdvec(message).map(Bytes::from).map_err(|error| format!("encode a message: {error}"))
}

/// A message from its bytes.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    postcard::from_bytes(bytes).map_err(|error| format!("malformed message: {error}"))
}

fn unreachable(reason: impl ToString) -> Unreachable<Types> {
    Unreachable::new(&io::Error::other(reason.to_string()))
}

/// Makes the connections of one group.
#[derive(Clone)]
pub(crate) struct GroupNet {
    shard: ShardId,
    peers: Peers,
    snapshots: Arc<Snapshots>,
    witness: Witness,
}

impl GroupNet {
    pub(crate) fn new(shard: ShardId, peers: Peers, snapshots: Arc<Snapshots>) -> GroupNet {
        GroupNet { shard, peers, snapshots, witness: Witness::default() }
    }
}

impl RaftNetworkFactory<Types> for GroupNet {
    type Network = GroupPeer;

    async fn new_client(&mut self, target: u64, _node: &EmptyNode) -> GroupPeer {
        let GroupNet { shard, peers, snapshots, witness } = self.clone();
        GroupPeer { shard, node: NodeId(target), peers, snapshots, witness }
    }
}

/// One peer of one group.
#[derive(Clone)]
pub(crate) struct GroupPeer {
    shard: ShardId,
    node: NodeId,
    peers: Peers,
    snapshots: Arc<Snapshots>,
    witness: Witness,
}

impl GroupPeer {
    /// Queues at once; the future waits for the answer.
    fn ask<Q: Serialize, A: DeserializeOwned>(
        &self,
        kind: u16,
        request: &Q,
        patience: Duration,
    ) -> impl Future<Output = Result<A, Unreachable<Types>>> + Send + 'static + use<Q, A> {
        let asked = encode(request).map(|body| self.peers.ask(self.node, kind, self.shard, body, patience));
        async move {
            let answer = asked.map_err(unreachable)?.await.map_err(unreachable)?;
            decode(&answer).map_err(unreachable)
        }
    }

    /// Remembers what the peer acknowledged. A peer that lacks some of it is told to fence itself, and its answer goes
    /// no further.
    async fn check(
        &self,
        vote: &RaftVote,
        previous: Option<RaftLogId>,
        last: Option<RaftLogId>,
        answer: &AppendEntriesResponse<Types>,
    ) -> Result<(), Unreachable<Types>> {
        let index = |id: Option<RaftLogId>| id.map(|id| LogIndex(id.index));
        let acknowledged = match answer {
            AppendEntriesResponse::Success => index(last),
            AppendEntriesResponse::PartialSuccess(upto) => index(*upto),
            AppendEntriesResponse::Conflict => {
                let lacks = index(previous).unwrap_or_default();
                let Some(upto) = self.witness.lost(self.node.0, vote, lacks) else { return Ok(()) };
                tracing::error!(shard = %self.shard, node = %self.node, %upto, %lacks, "log of a member went backwards");
                // Waited for: what nobody waits for is not sent.
                let told = self.ask::<_, ()>(kind::FENCE, &upto.0, FENCE_PATIENCE).await;
                tracing::info!(shard = %self.shard, node = %self.node, ?told, "told it to fence itself");
                return Err(unreachable(format!("the log of node {} went backwards", self.node)));
            }
            AppendEntriesResponse::HigherVote(_) => None,
        };
        if let Some(upto) = acknowledged {
            self.witness.acknowledged(self.node.0, vote, upto);
        }
        Ok(())
    }
}

impl RaftNetworkV2<Types> for GroupPeer {
    type SnapshotData = SnapshotData;

    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<Types>,
        _option: RPCOption,
    ) -> Result<AppendEntriesResponse<Types>, RPCError<Types>> {
        let last = request.entries.last().map(|entry| entry.log_id).or(request.prev_log_id);
        let answer = self.ask(kind::APPEND, &request, APPEND_PATIENCE).await?;
        self.check(&request.vote, request.prev_log_id, last, &answer).await?;
        Ok(answer)
    }

    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        _option: RPCOption,
    ) -> BoxFuture<
        's,
        Result<BoxStream<'s, Result<StreamAppendResult<Types>, RPCError<Types>>>, RPCError<Types>>,
    >
    where
        S: Stream<Item = AppendEntriesRequest<Types>> + OptionalSend + Unpin + 'static,
    {
        let peer = self.clone();
        let answers = input
            .map(move |request| {
                let previous = request.prev_log_id;
                let last = request.entries.last().map(|entry| entry.log_id).or(previous);
                let (peer, vote) = (peer.clone(), request.vote);
                let asked =
                    peer.ask::<_, AppendEntriesResponse<Types>>(kind::APPEND, &request, APPEND_PATIENCE);
                async move {
                    let answer = asked.await.map_err(RPCError::from)?;
                    peer.check(&vote, previous, last, &answer).await?;
                    let whole = match &answer {
                        AppendEntriesResponse::Success => true,
                        AppendEntriesResponse::PartialSuccess(upto) => *upto == last,
                        _ => false,
                    };
                    Ok((answer.into_stream_result(previous, last), whole))
                }
            })
            .buffered(PIPELINE);
        // What was sent behind a request that did not wholly succeed says nothing: the stream ends with it.
        let answers = answers.scan(true, |going, answer: Result<(_, bool), RPCError<Types>>| {
            let item = going.then(|| {
                *going = matches!(&answer, Ok((_, true)));
                answer.map(|(result, _)| result)
            });
            futures::future::ready(item)
        });
        Box::pin(async move { Ok(Box::pin(answers) as BoxStream<'s, _>) })
    }

    async fn vote(
        &mut self,
        request: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        // Who asks has voted for itself.
        vote_given(self.shard, request.vote.leader_id.voted_for, &request.vote);
        Ok(self.ask(kind::VOTE, &request, option.soft_ttl()).await?)
    }

    async fn pre_vote(
        &mut self,
        request: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        Ok(self.ask(kind::PRE_VOTE, &request, option.soft_ttl()).await?)
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<Types>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<Types>, RPCError<Types>> {
        Ok(self.ask(kind::TRANSFER, &request, option.hard_ttl()).await?)
    }

    /// Offers the snapshot; the follower pulls it at its own pace and is asked how it gets on.
    async fn full_snapshot(
        &mut self,
        vote: RaftVote,
        snapshot: alias::SnapshotOf<Types, SnapshotData>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        let offer = SnapshotOffer { vote, last_log_id: snapshot.meta.last_log_id };
        let mut cancel = std::pin::pin!(cancel);
        let (mut stalled, mut before) = (0, 0);
        loop {
            let asked = self.ask::<_, OfferAnswer>(kind::SNAPSHOT_OFFER, &offer, APPEND_PATIENCE);
            let answer = tokio::select! {
                closed = &mut cancel => return Err(closed.into()),
                answer = asked => answer?,
            };
            match answer {
                OfferAnswer::Done(done) if done == vote => {
                    self.snapshots.over(self.shard, self.node);
                    return Ok(SnapshotResponse::new(done));
                }
                OfferAnswer::Outvoted(later) if later > vote => return Ok(SnapshotResponse::new(later)),
                OfferAnswer::Done(other) | OfferAnswer::Outvoted(other) => {
                    return Err(unreachable(format!("it answers for vote {other}, not for {vote}")).into());
                }
                OfferAnswer::Failed(reason) => return Err(unreachable(reason).into()),
                OfferAnswer::Receiving(steps) => {
                    self.snapshots.at_work(self.shard, self.node);
                    stalled = if steps > before { 0 } else { stalled + 1 };
                    before = steps;
                    if stalled > OFFER_STALLED_MAX {
                        return Err(unreachable("the follower's snapshot stands still").into());
                    }
                }
            }
            tokio::select! {
                closed = &mut cancel => return Err(closed.into()),
                () = tokio::time::sleep(OFFER_PAUSE) => {}
            }
        }
    }
}

/// The command of an entry that has one.
fn command(entry: &mut RaftEntry) -> Option<&mut Command> {
    match &mut entry.payload {
        EntryPayload::Normal(command) => Some(command),
        EntryPayload::Blank | EntryPayload::Membership(_) => None,
    }
}

/// What came of one of raft's requests beside the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Noted {
    Nothing,
    /// The group's leader was heard.
    Heard,
    /// The leader of this term was heard, and found nothing missing before what it sent.
    Followed(Term),
    /// A vote was granted.
    Granted,
}

fn vote_given(shard: ShardId, voter: u64, vote: &RaftVote) {
    let (term, candidate) = (Term(vote.leader_id.term), NodeId(vote.leader_id.voted_for));
    model::points::vote_given(VoteGiven { shard, voter: NodeId(voter), term, candidate });
}

/// Works on an append, vote, pre-vote or transfer. `room` keeps room in the log for so many entries with so many bytes.
pub(crate) async fn answer(
    shard: ShardId,
    raft: &Raft,
    kind: u16,
    body: &[u8],
    room: impl FnOnce(usize, usize) -> Result<Reserved, LogError> + Send,
) -> Result<(Bytes, Noted), String> {
    Ok(match kind {
        kind::APPEND => {
            let mut request: AppendEntriesRequest<Types> = decode(body)?;
            let mut commands: Vec<&mut Command> = request.entries.iter_mut().filter_map(command).collect();
            if !commands.is_empty() {
                // A group does not survive an append that the log refuses: refuse it before. The word of a leader
                // without entries is heard on a full disk, too.
                let bytes = commands.iter().map(|command| command.0.len() + Command::HEAD_BYTES).sum();
                let kept = Arc::new(room(commands.len(), bytes).map_err(|error| error.to_string())?);
                commands.iter_mut().for_each(|command| command.1 = Room(Some(kept.clone())));
            }
            let term = Term(request.vote.leader_id.term);
            let answer = raft.append_entries(request).await.map_err(|error| error.to_string())?;
            let noted = match answer {
                AppendEntriesResponse::HigherVote(_) => Noted::Nothing,
                AppendEntriesResponse::Conflict => Noted::Heard,
                AppendEntriesResponse::Success | AppendEntriesResponse::PartialSuccess(_) => {
                    Noted::Followed(term)
                }
            };
            (encode(&answer)?, noted)
        }
        kind::VOTE => {
            let request: VoteRequest<Types> = decode(body)?;
            let vote = request.vote;
            let answer = raft.vote(request).await.map_err(|error| error.to_string())?;
            if answer.vote_granted {
                vote_given(shard, *raft.node_id(), &vote);
            }
            (encode(&answer)?, if answer.vote_granted { Noted::Granted } else { Noted::Nothing })
        }
        kind::PRE_VOTE => {
            let answer = raft.pre_vote(decode(body)?).await.map_err(|error| error.to_string())?;
            (encode(&answer)?, Noted::Nothing)
        }
        kind::TRANSFER => {
            let request: TransferLeaderRequest<Types> = decode(body)?;
            let answer = raft.handle_transfer_leader(request).await.map_err(|error| error.to_string())?;
            (encode(&answer)?, Noted::Nothing)
        }
        other => return Err(format!("no such request: {other}")),
    })
}

impl From<PeerError> for RPCError<Types> {
    fn from(error: PeerError) -> Self {
        unreachable(error).into()
    }
}
