//! The answering side: takes the streams of other nodes and works on what comes.
//!
//! Requests of one stream are begun in the order in which they came, which is what pipelined appends need; answers
//! go out when they are ready, those that are ready together in one frame.

use super::{
    CALL_KIND_MIN, CallHandler, Gate, OPEN_KIND_MIN, PeerName, check_cluster, hello,
    io::{WINDOW_BYTES, incoming},
    plain::{self, PlainFrames},
    proto::{Frame, Hello, peer_server},
    read_hello,
    refusals::Refusals,
    wire::{FRAME_BYTES, FRAME_BYTES_MAX, Message, Tag, kind, messages},
};
use crate::{places::Known, time::pong};
use bytes::{Bytes, BytesMut};
use futures::{FutureExt, StreamExt, stream::FuturesUnordered};
use model::{BoxFuture, ClientIo, Clock, Listener, ShardId};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::Duration,
};
use tokio::{
    sync::{mpsc, watch},
    task::yield_now,
    time::timeout,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming, transport::Server};

/// How long a greeting may take.
const GREETING_PATIENCE: Duration = Duration::from_secs(2);
/// Calls of the node that one stream may have in progress; more are refused at once.
const CALLS_MAX: usize = 256;
/// Raft's own requests that one stream may have in progress; beyond them reading waits.
const REQUESTS_MAX: usize = 4096;
/// Streams that may be open at once.
const STREAMS_MAX: usize = 256;
const FRAMES_MAX: usize = 4;

/// Works on raft's own requests.
pub(crate) type RaftHandler =
    Arc<dyn Fn(PeerName, u16, ShardId, Bytes) -> BoxFuture<'static, Result<Bytes, String>> + Send + Sync>;

/// What may come from peers, and who works on it.
pub(crate) struct Inbox {
    us: watch::Receiver<PeerName>,
    clock: Arc<dyn Clock>,
    raft: RaftHandler,
    calls: RwLock<BTreeMap<u16, CallHandler>>,
    gate: RwLock<Option<Gate>>,
    refusals: Mutex<Refusals>,
    streams: tokio::sync::Semaphore,
    stop: watch::Receiver<bool>,
}

impl Inbox {
    pub(crate) fn new(
        us: watch::Receiver<PeerName>,
        clock: Arc<dyn Clock>,
        raft: RaftHandler,
        stop: watch::Receiver<bool>,
    ) -> Inbox {
        let streams = tokio::sync::Semaphore::new(STREAMS_MAX);
        let (calls, gate, refusals) = (RwLock::default(), RwLock::default(), Mutex::default());
        Inbox { us, clock, raft, calls, gate, refusals, streams, stop }
    }

    /// Calls of `kind` go to `handler` from now on.
    pub(crate) fn register(&self, kind: u16, handler: CallHandler) {
        assert!(kind >= CALL_KIND_MIN, "kinds below {CALL_KIND_MIN:#x} are raft's own");
        self.calls.write().unwrap_or_else(PoisonError::into_inner).insert(kind, handler);
    }

    /// Asks `gate` about every peer that connects.
    pub(crate) fn set_gate(&self, gate: Gate) {
        *self.gate.write().unwrap_or_else(PoisonError::into_inner) = Some(gate);
    }

    /// Whether a peer that greets so may stay.
    fn admit(&self, them: &PeerName, to: u64) -> Result<PeerName, Status> {
        let us = self.us.borrow().clone();
        let refuse = |reason: String| {
            let now = self.clock.monotonic();
            let mut refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(passed_over) = refusals.note(now, &them.to_string(), &reason) {
                tracing::warn!(peer = %them, reason, passed_over, "peer refused");
            }
            Status::failed_precondition(reason)
        };
        check_cluster(&us, them).map_err(refuse)?;
        if let Some(id) = us.node
            && to != 0
            && to != id.0
        {
            return Err(refuse(format!("node {to} was expected here, this is node {id}, {us}")));
        }
        let gate = self.gate.read().unwrap_or_else(PoisonError::into_inner).clone();
        gate.map_or(Ok(()), |gate| gate(them)).map_err(refuse)?;
        Ok(us)
    }

    /// The work that a request asks for.
    fn work(
        &self,
        from: &PeerName,
        member: bool,
        message: Message,
    ) -> Result<BoxFuture<'static, Result<Bytes, String>>, String> {
        if !member && message.kind < OPEN_KIND_MIN {
            return Err("both nodes must belong to the same cluster for this".to_owned());
        }
        if message.kind < CALL_KIND_MIN {
            return Ok((self.raft)(from.clone(), message.kind, message.shard, message.body));
        }
        let handler = self.calls.read().unwrap_or_else(PoisonError::into_inner).get(&message.kind).cloned();
        let handler = handler.ok_or_else(|| format!("no handler for calls of kind {:#06x}", message.kind))?;
        Ok(handler(from.clone(), message.body))
    }
}

type Ended = (Message, Result<Bytes, String>);

/// What comes from a peer.
enum Requests {
    Grpc(Streaming<Frame>),
    Plain(PlainFrames),
}

impl Requests {
    /// The next frame; nothing when the stream has ended, however.
    async fn next(&mut self) -> Option<Frame> {
        match self {
            Requests::Grpc(requests) => requests.message().await.ok().flatten(),
            Requests::Plain(requests) => requests.next().await.ok().flatten(),
        }
    }
}

/// Where answers go.
enum Answers {
    Grpc(mpsc::Sender<Result<Frame, Status>>),
    Plain(mpsc::Sender<Frame>),
}

impl Answers {
    /// Whether the frame was taken.
    async fn send(&self, frame: Frame) -> bool {
        match self {
            Answers::Grpc(answers) => answers.send(Ok(frame)).await.is_ok(),
            Answers::Plain(answers) => answers.send(frame).await.is_ok(),
        }
    }

    /// Ends the stream, with the reason where there is a place for it.
    async fn refuse(&self, status: Status) {
        if let Answers::Grpc(answers) = self {
            answers.send(Err(status)).await.ok();
        }
    }
}

/// One stream of a peer.
struct Session {
    inbox: Arc<Inbox>,
    them: PeerName,
    /// Whether both sides belong to the cluster.
    member: bool,
    open: FuturesUnordered<BoxFuture<'static, Ended>>,
    calls: usize,
}

impl Session {
    async fn run(mut self, mut requests: Requests, answers: &Answers) {
        loop {
            let frame = tokio::select! {
                biased;
                Some(first) = self.open.next() => self.collect(first).await,
                frame = requests.next(), if self.open.len() < REQUESTS_MAX => match frame {
                    Some(frame) => match messages(frame.messages) {
                        Ok(messages) => self.begin(messages),
                        Err(error) => {
                            tracing::warn!(peer = %self.them, %error, "closing the link of a peer");
                            answers.refuse(Status::invalid_argument(error.to_string())).await;
                            return;
                        }
                    },
                    None => return,
                },
            };
            if !frame.is_empty() {
                let frame = Frame { hello: None, messages: frame.freeze() };
                if !answers.send(frame).await {
                    return;
                }
            }
        }
    }

    /// Begins the work of a frame's requests, in order; yields what is answered already.
    fn begin(&mut self, messages: Vec<Message>) -> BytesMut {
        let mut frame = BytesMut::new();
        for mut message in messages {
            if message.tag != Tag::Request {
                continue;
            }
            if message.kind == kind::PING {
                let body = pong(self.inbox.clock.now());
                Message { tag: Tag::Answer, body, ..message }.put(&mut frame);
                continue;
            }
            let call = message.kind >= CALL_KIND_MIN;
            if call && self.calls >= CALLS_MAX {
                answer(message, Err(format!("more than {CALLS_MAX} calls in progress"))).put(&mut frame);
                continue;
            }
            let body = std::mem::take(&mut message.body);
            let begun = self.inbox.work(&self.them, self.member, Message { body, ..message.clone() });
            let mut work = match begun {
                Ok(work) => work,
                Err(reason) => {
                    answer(message, Err(reason)).put(&mut frame);
                    continue;
                }
            };
            // Polled once here and now, so that appends reach their group in order.
            if let Some(result) = (&mut work).now_or_never() {
                answer(message, result).put(&mut frame);
                continue;
            }
            self.calls += usize::from(call);
            self.open.push(Box::pin(async move {
                let result = timeout(message.patience, work).await;
                (message, result.unwrap_or_else(|_| Err("not done in time".to_owned())))
            }));
        }
        frame
    }

    /// A frame with this answer and the others that are ready.
    async fn collect(&mut self, first: Ended) -> BytesMut {
        let mut frame = BytesMut::new();
        yield_now().await; // the answers of the other groups join
        let mut next = Some(first);
        while let Some((message, result)) = next {
            self.calls -= usize::from(message.kind >= CALL_KIND_MIN);
            answer(message, result).put(&mut frame);
            let room = frame.len() < FRAME_BYTES;
            next = if room { self.open.next().now_or_never().flatten() } else { None };
        }
        frame
    }
}

fn answer(message: Message, result: Result<Bytes, String>) -> Message {
    let (tag, body) = match result {
        Ok(body) if body.len() > FRAME_BYTES_MAX - FRAME_BYTES => {
            (Tag::Refusal, Bytes::from_static(b"answer too large"))
        }
        Ok(body) => (Tag::Answer, body),
        Err(reason) => (Tag::Refusal, Bytes::from(reason)),
    };
    Message { tag, body, ..message }
}

struct Service(Arc<Inbox>);

#[tonic::async_trait]
impl peer_server::Peer for Service {
    type LinkStream = ReceiverStream<Result<Frame, Status>>;

    async fn link(&self, request: Request<Streaming<Frame>>) -> Result<Response<Self::LinkStream>, Status> {
        let known = request.extensions().get::<Known>().cloned();
        let mut requests = request.into_inner();
        let first = timeout(GREETING_PATIENCE, requests.message()).await;
        let first = first.map_err(|_| Status::deadline_exceeded("no greeting in time"))??;
        let greeting =
            first.and_then(|frame| frame.hello).ok_or_else(|| Status::invalid_argument("no greeting"))?;
        let (us, them) = self.0.greeted(&greeting)?;
        known.inspect(Known::set);
        let (answers, outgoing) = mpsc::channel(FRAMES_MAX);
        let greeting = Frame { hello: Some(hello(&us, them.node)), messages: Bytes::new() };
        answers.try_send(Ok(greeting)).map_err(|_| Status::internal("stream closed"))?;
        tokio::spawn(self.0.clone().converse(us, them, Requests::Grpc(requests), Answers::Grpc(answers)));
        Ok(Response::new(ReceiverStream::new(outgoing)))
    }
}

impl Inbox {
    /// Who we are, and who greets so, if both may talk.
    fn greeted(&self, greeting: &Hello) -> Result<(PeerName, PeerName), Status> {
        let them = read_hello(greeting).map_err(Status::invalid_argument)?;
        let us = self.admit(&them, greeting.to_node_id)?;
        Ok((us, them))
    }

    /// Works on what comes from a peer that was greeted, until either side ends it.
    async fn converse(self: Arc<Self>, us: PeerName, them: PeerName, requests: Requests, answers: Answers) {
        let Ok(_permit) = self.streams.try_acquire() else {
            return answers.refuse(Status::resource_exhausted("too many streams")).await;
        };
        let member = us.cluster.is_some() && us.cluster == them.cluster;
        let session = Session { inbox: self.clone(), them, member, open: FuturesUnordered::new(), calls: 0 };
        let mut stop = self.stop.clone();
        tokio::select! {
            () = session.run(requests, &answers) => {}
            _ = stop.wait_for(|stop| *stop) => {}
        }
    }

    /// Serves a connection that began as a plain one. Whoever is refused sees it closed.
    async fn serve_plain(self: Arc<Self>, io: Box<dyn ClientIo>, known: Known) {
        let (mut requests, writing) = plain::halves(io);
        let Ok(Ok(Some(first))) = timeout(GREETING_PATIENCE, requests.next()).await else { return };
        let Some(greeting) = first.hello else { return };
        let Ok((us, them)) = self.greeted(&greeting) else { return };
        known.set();
        let (answers, outgoing) = mpsc::channel(FRAMES_MAX);
        let greeting = Frame { hello: Some(hello(&us, them.node)), messages: Bytes::new() };
        answers.try_send(greeting).expect("the channel is empty");
        tokio::select! {
            () = plain::send_all(writing, outgoing) => {}
            () = self.converse(us, them, Requests::Plain(requests), Answers::Plain(answers)) => {}
        }
    }
}

/// Serves peers until `stop` resolves.
pub(crate) async fn serve(listener: Arc<dyn Listener>, inbox: Arc<Inbox>, stop: impl Future<Output = ()>) {
    let (plain, serving) = (inbox.clone(), inbox.stop.clone());
    let plain = move |io, known| -> BoxFuture<'static, ()> {
        let (inbox, mut stop) = (plain.clone(), serving.clone());
        Box::pin(async move {
            tokio::select! {
                () = inbox.serve_plain(io, known) => {}
                _ = stop.wait_for(|stop| *stop) => {}
            }
        })
    };
    let service =
        peer_server::PeerServer::new(Service(inbox)).max_decoding_message_size(FRAME_BYTES_MAX + 1024);
    let served = Server::builder()
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(2 * WINDOW_BYTES)
        .max_concurrent_streams(16)
        .add_service(service)
        .serve_with_incoming_shutdown(incoming(listener, plain), stop)
        .await;
    if let Err(error) = served {
        tracing::error!(%error, "peer server ended");
    }
}
