//! The calling side: keeps a stream to each peer, sends what all groups have for it, hands answers back.
//!
//! While there is no stream every call fails at once. A stream that owes answers and stays silent for
//! [`SILENCE`] is broken off: it is asked for a ping half-way, so a slow answer alone does not break it.

use super::{
    PeerError, PeerName, check_cluster, hello,
    io::{AbortOnDrop, connect, with_causes},
    plain::{self, PlainFrames},
    proto::{Frame, Hello},
    read_hello,
    wire::{FRAME_BYTES, FRAME_BYTES_MAX, HEADER_BYTES, Message, Tag, kind, messages},
};
use crate::time::{ClockSample, Offsets, read_pong};
use bytes::{Bytes, BytesMut};
use model::{Clock, Net, NodeId, ShardId, Spawner};
use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    runtime::Handle,
    sync::{mpsc, oneshot, watch},
    task::{AbortHandle, yield_now},
    time::{sleep, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

/// A stream that owes answers and has been silent for this long is broken.
const SILENCE: Duration = Duration::from_millis(1000);
/// How long connecting and greeting may take.
const CONNECT_PATIENCE: Duration = Duration::from_millis(1000);
/// Of it, how long a plain connection may take.
const PLAIN_PATIENCE: Duration = Duration::from_millis(500);
/// Between two attempts to connect.
const CONNECT_PAUSE: Duration = Duration::from_millis(100);
/// Between two measurements of the peer's clock.
const PING_INTERVAL: Duration = Duration::from_secs(2);
/// Calls that may wait for one peer, and their bytes.
const QUEUE_MAX: usize = 4096;
const QUEUE_BYTES_MAX: usize = 2 * FRAME_BYTES_MAX;
/// Frames on their way into the stream.
const FRAMES_MAX: usize = 4;

type Reply = oneshot::Sender<Result<Bytes, PeerError>>;

struct Ask {
    kind: u16,
    shard: ShardId,
    body: Bytes,
    patience: Duration,
    reply: Reply,
}

struct Link {
    address: watch::Sender<String>,
    queue: mpsc::Sender<Ask>,
    state: Arc<LinkState>,
    task: AbortHandle,
}

#[derive(Default)]
struct LinkState {
    queued_bytes: AtomicUsize,
    reason: Mutex<String>,
    offsets: Mutex<Offsets>,
    /// When something came last, ms of the monotonic clock; 0 for never.
    heard_ms: AtomicU64,
}

/// How links are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// A gRPC stream, for frames of any size.
    Grpc,
    /// A plain connection for small frames; a gRPC stream to a node that does not know it.
    Plain,
}

struct Shared {
    way: Way,
    net: Arc<dyn Net>,
    clock: Arc<dyn Clock>,
    us: watch::Receiver<PeerName>,
    links: Mutex<BTreeMap<NodeId, Link>>,
    runtime: Handle,
    spawner: Arc<dyn Spawner>,
}

/// The peers of this node, by id.
#[derive(Clone)]
pub(crate) struct Peers(Arc<Shared>);

impl fmt::Debug for Peers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Peers")
    }
}

impl Peers {
    /// Without peers yet; `us` is what is said to them. Links run on `runtime`.
    pub(crate) fn new(
        way: Way,
        net: Arc<dyn Net>,
        clock: Arc<dyn Clock>,
        us: watch::Receiver<PeerName>,
        runtime: Handle,
        spawner: Arc<dyn Spawner>,
    ) -> Peers {
        Peers(Arc::new(Shared { way, net, clock, us, links: Mutex::default(), runtime, spawner }))
    }

    fn with_links<T>(&self, work: impl FnOnce(&mut BTreeMap<NodeId, Link>) -> T) -> T {
        work(&mut self.0.links.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Where a node is from now on, HOST:PORT.
    pub(crate) fn set_address(&self, node: NodeId, address: &str) {
        let us = self.0.us.borrow().node;
        if us == Some(node) {
            return;
        }
        self.with_links(|links| match links.get(&node) {
            Some(link) => drop(link.address.send_if_modified(|known| {
                let changed = known != address;
                if changed {
                    address.clone_into(known);
                }
                changed
            })),
            None => drop(links.insert(node, self.start(node, address))),
        });
    }

    /// Ends the link to a node that is no longer one of ours.
    pub(crate) fn forget(&self, node: NodeId) {
        if let Some(link) = self.with_links(|links| links.remove(&node)) {
            link.task.abort();
        }
    }

    /// Ends all links.
    pub(crate) fn close(&self) {
        self.with_links(std::mem::take).into_values().for_each(|link| link.task.abort());
    }

    fn start(&self, node: NodeId, address: &str) -> Link {
        let (address, known) = watch::channel(address.to_owned());
        let (queue, asks) = mpsc::channel(QUEUE_MAX);
        let state = Arc::new(LinkState::default());
        let keeper = Keeper {
            node,
            address: known,
            asks,
            state: state.clone(),
            way: self.0.way,
            net: self.0.net.clone(),
            clock: self.0.clock.clone(),
            us: self.0.us.clone(),
        };
        let keeping = self.0.spawner.vital("link", Box::pin(keeper.run()));
        let task = self.0.runtime.spawn(keeping).abort_handle();
        Link { address, queue, state, task }
    }

    /// Queues a request at once, in the order of the calls; the future waits for the answer.
    pub(crate) fn ask(
        &self,
        node: NodeId,
        kind: u16,
        shard: ShardId,
        body: Bytes,
        patience: Duration,
    ) -> impl Future<Output = Result<Bytes, PeerError>> + Send + 'static + use<> {
        let queued = self.enqueue(node, kind, shard, body, patience);
        async move {
            let answer = timeout(patience, queued?).await;
            answer.map_err(|_| PeerError::TimedOut(patience))?.unwrap_or_else(|_| Err(lost("link ended")))
        }
    }

    fn enqueue(
        &self,
        node: NodeId,
        kind: u16,
        shard: ShardId,
        body: Bytes,
        patience: Duration,
    ) -> Result<oneshot::Receiver<Result<Bytes, PeerError>>, PeerError> {
        let bytes = body.len() + HEADER_BYTES;
        if bytes > FRAME_BYTES_MAX {
            return Err(PeerError::Malformed(format!(
                "message of {bytes} bytes, at most {FRAME_BYTES_MAX} can be sent"
            )));
        }
        let (reply, answer) = oneshot::channel();
        self.with_links(|links| {
            let link = links
                .get(&node)
                .ok_or_else(|| not_sent(format!("the address of node {node} is not known")))?;
            if link.state.queued_bytes.load(Ordering::Relaxed) + bytes > QUEUE_BYTES_MAX {
                return Err(not_sent(format!("too many bytes wait for node {node}")));
            }
            link.state.queued_bytes.fetch_add(bytes, Ordering::Relaxed);
            link.queue.try_send(Ask { kind, shard, body, patience, reply }).map_err(|_| {
                link.state.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
                not_sent(format!("too many calls wait for node {node}"))
            })
        })?;
        Ok(answer)
    }

    /// Calls whoever answers at `address`, over a stream of its own: to form a cluster or to join one.
    pub(crate) async fn call_address(
        &self,
        address: &str,
        kind: u16,
        body: Bytes,
        patience: Duration,
    ) -> Result<(PeerName, Bytes), PeerError> {
        let us = self.0.us.borrow().clone();
        let call = async {
            let (mut stream, them) =
                dial(Way::Grpc, &self.0.net, address, &us, None).await.map_err(not_sent)?;
            let request = Message { tag: Tag::Request, kind, shard: ShardId::META, id: 1, patience, body };
            let mut frame = BytesMut::new();
            request.put(&mut frame);
            stream.send(frame.freeze()).await?;
            loop {
                for message in messages(stream.receive().await?)? {
                    match message.tag {
                        Tag::Answer => return Ok((them, message.body)),
                        Tag::Refusal => return Err(refusal(&message.body)),
                        Tag::Request => {}
                    }
                }
            }
        };
        timeout(patience, call).await.unwrap_or(Err(PeerError::TimedOut(patience)))
    }

    /// The clock offsets of the peers heard from; ms that their clocks are ahead of ours now.
    pub(crate) fn clock_samples(&self) -> BTreeMap<NodeId, ClockSample> {
        let (now, wall) = (self.0.clock.monotonic(), self.0.clock.now());
        self.with_links(|links| {
            let best = |link: &Link| {
                link.state.offsets.lock().unwrap_or_else(PoisonError::into_inner).best(now, wall)
            };
            links.iter().filter_map(|(node, link)| Some((*node, best(link)?))).collect()
        })
    }

    /// How long ago each peer was last heard over our link to it; `None` if never.
    pub(crate) fn silence(&self) -> BTreeMap<NodeId, Option<Duration>> {
        let now = self.0.clock.monotonic();
        let since = |heard: u64| (heard > 0).then(|| now.saturating_sub(Duration::from_millis(heard)));
        self.with_links(|links| {
            links
                .iter()
                .map(|(node, link)| (*node, since(link.state.heard_ms.load(Ordering::Relaxed))))
                .collect()
        })
    }
}

fn not_sent(reason: String) -> PeerError {
    PeerError::NotSent(reason)
}

fn lost(reason: &str) -> PeerError {
    PeerError::Lost(reason.to_owned())
}

fn refusal(text: &[u8]) -> PeerError {
    PeerError::Refused(String::from_utf8_lossy(text).into_owned())
}

/// An open stream to a peer.
struct PeerStream {
    frames: mpsc::Sender<Frame>,
    answers: Answers,
}

enum Answers {
    Grpc(Streaming<Frame>),
    /// What still waits to be sent goes with the stream.
    Plain(PlainFrames, #[expect(dead_code, reason = "for its drop")] AbortOnDrop),
}

impl Answers {
    async fn next(&mut self) -> Result<Option<Frame>, PeerError> {
        match self {
            Answers::Grpc(answers) => answers.message().await.map_err(|status| lost(&with_causes(&status))),
            Answers::Plain(answers, _) => answers.next().await,
        }
    }
}

impl PeerStream {
    async fn send(&self, messages: Bytes) -> Result<(), PeerError> {
        let frame = Frame { hello: None, messages };
        self.frames.send(frame).await.map_err(|_| lost("stream closed"))
    }

    async fn receive(&mut self) -> Result<Bytes, PeerError> {
        let frame = self.answers.next().await?;
        frame.map(|frame| frame.messages).ok_or_else(|| lost("closed by the peer"))
    }
}

/// Connects and greets.
async fn dial(
    way: Way,
    net: &Arc<dyn Net>,
    address: &str,
    us: &PeerName,
    to: Option<NodeId>,
) -> Result<(PeerStream, PeerName), String> {
    if way == Way::Plain
        && let Ok(Ok(stream)) = timeout(PLAIN_PATIENCE, dial_plain(net, address, us, to)).await
    {
        return Ok(stream);
    }
    // Also to hear why a plain connection was refused: that just closes it.
    dial_grpc(net, address, us, to).await
}

async fn dial_plain(
    net: &Arc<dyn Net>,
    address: &str,
    us: &PeerName,
    to: Option<NodeId>,
) -> Result<(PeerStream, PeerName), String> {
    let io = net.connect(address).await.map_err(|error| error.to_string())?;
    let (mut answers, mut writing) = plain::halves(io);
    plain::greet(&mut writing, hello(us, to)).await.map_err(|error| error.to_string())?;
    let first = answers.next().await.map_err(|error| error.to_string())?;
    let them = greeted(first, address, us, to)?;
    let (frames, outgoing) = mpsc::channel(FRAMES_MAX);
    let sending = AbortOnDrop(tokio::spawn(plain::send_all(writing, outgoing)).abort_handle());
    Ok((PeerStream { frames, answers: Answers::Plain(answers, sending) }, them))
}

async fn dial_grpc(
    net: &Arc<dyn Net>,
    address: &str,
    us: &PeerName,
    to: Option<NodeId>,
) -> Result<(PeerStream, PeerName), String> {
    let mut client = connect(net, address).await?.max_decoding_message_size(FRAME_BYTES_MAX + 1024);
    let (frames, outgoing) = mpsc::channel(FRAMES_MAX);
    let greeting = Frame { hello: Some(hello(us, to)), messages: Bytes::new() };
    frames.try_send(greeting).map_err(|_| "stream closed".to_owned())?;
    let answers =
        client.link(ReceiverStream::new(outgoing)).await.map_err(|status| status.message().to_owned())?;
    let mut answers = answers.into_inner();
    let first = answers.message().await.map_err(|status| status.message().to_owned())?;
    let them = greeted(first, address, us, to)?;
    Ok((PeerStream { frames, answers: Answers::Grpc(answers) }, them))
}

/// Who greeted with this frame, if it may be our peer.
fn greeted(
    first: Option<Frame>,
    address: &str,
    us: &PeerName,
    to: Option<NodeId>,
) -> Result<PeerName, String> {
    let theirs: Hello = first.and_then(|frame| frame.hello).ok_or("no greeting")?;
    let them = read_hello(&theirs)?;
    check_cluster(us, &them)?;
    if let (Some(expected), found) = (to, them.node)
        && found != Some(expected)
    {
        return Err(format!("node {expected} was expected at {address}, found {them}"));
    }
    Ok(them)
}

/// Keeps the stream to one peer.
struct Keeper {
    node: NodeId,
    address: watch::Receiver<String>,
    asks: mpsc::Receiver<Ask>,
    state: Arc<LinkState>,
    way: Way,
    net: Arc<dyn Net>,
    clock: Arc<dyn Clock>,
    us: watch::Receiver<PeerName>,
}

/// What was asked over the present stream.
#[derive(Default)]
struct Open {
    calls: HashMap<u64, Reply>,
    id_last: u64,
    /// Pings under way: id, monotonic time of sending.
    pings: BTreeMap<u64, Duration>,
}

impl Keeper {
    async fn run(mut self) {
        loop {
            let Some(mut stream) = self.connected().await else { return };
            let mut open = Open::default();
            let end = self.serve(&mut stream, &mut open).await;
            let Some(error) = end else { return };
            tracing::info!(node = %self.node, %error, "link to peer ended");
            self.set_reason(error.to_string());
            for (_, reply) in open.calls {
                reply.send(Err(error.clone())).ok();
            }
        }
    }

    fn set_reason(&self, reason: String) {
        *self.state.reason.lock().unwrap_or_else(PoisonError::into_inner) = reason;
    }

    fn take(&self, ask: &Ask) {
        self.state.queued_bytes.fetch_sub(ask.body.len() + HEADER_BYTES, Ordering::Relaxed);
    }

    /// Connects, however long it takes; calls fail meanwhile. `None` when nobody needs the link any more.
    async fn connected(&mut self) -> Option<PeerStream> {
        let (way, net, us, mut address, node) =
            (self.way, self.net.clone(), self.us.clone(), self.address.clone(), self.node);
        self.address.mark_unchanged(); // the clone below reads whatever comes later
        let state = self.state.clone();
        let mut dialling = Box::pin(async move {
            loop {
                let (to, us) = (address.borrow_and_update().clone(), us.borrow().clone());
                let reason = match timeout(CONNECT_PATIENCE, dial(way, &net, &to, &us, Some(node))).await {
                    Ok(Ok((stream, _))) => return stream,
                    Ok(Err(reason)) => reason,
                    Err(_) => "connecting timed out".to_owned(),
                };
                tracing::debug!(%node, to, reason, "connecting to peer failed");
                *state.reason.lock().unwrap_or_else(PoisonError::into_inner) = reason;
                sleep(CONNECT_PAUSE).await;
            }
        });
        loop {
            tokio::select! {
                biased;
                stream = &mut dialling => return Some(stream),
                ask = self.asks.recv() => {
                    let ask = ask?;
                    self.take(&ask);
                    let reason = self.state.reason.lock().unwrap_or_else(PoisonError::into_inner).clone();
                    ask.reply.send(Err(not_sent(format!("no connection to node {}: {reason}", self.node)))).ok();
                }
            }
        }
    }

    /// Works until the stream ends, or `None` when nobody needs the link any more. Answers are taken while a frame
    /// waits to be sent: two full directions never wait for each other.
    async fn serve(&mut self, stream: &mut PeerStream, open: &mut Open) -> Option<PeerError> {
        let mut heard = self.clock.monotonic();
        let (mut pinged, mut waiting) = (None, None);
        let mut look = tokio::time::interval(SILENCE / 4);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let frames = stream.frames.clone();
        loop {
            tokio::select! {
                biased;
                answers = stream.receive() => {
                    heard = self.clock.monotonic();
                    self.state.heard_ms.store(heard.as_millis() as u64, Ordering::Relaxed);
                    if let Err(error) = answers.and_then(|frame| self.answered(frame, open)) {
                        return Some(error);
                    }
                }
                room = frames.reserve(), if waiting.is_some() => {
                    let (Ok(room), Some(messages)) = (room, waiting.take()) else { return Some(lost("stream closed")) };
                    room.send(Frame { hello: None, messages });
                }
                ask = self.asks.recv(), if waiting.is_none() => {
                    let ask = ask?;
                    if self.way == Way::Grpc {
                        yield_now().await; // the heartbeats of the other groups join
                    }
                    if open.calls.is_empty() {
                        heard = self.clock.monotonic(); // nothing was owed until now
                    }
                    waiting = Some(self.frame(ask, open));
                }
                _ = look.tick() => {
                    let now = self.clock.monotonic();
                    open.calls.retain(|_, reply| !reply.is_closed()); // whoever asked gave up
                    let owed = !open.calls.is_empty() || !open.pings.is_empty();
                    if owed && now.saturating_sub(heard) >= SILENCE {
                        return Some(lost("peer is silent"));
                    }
                    if self.address.has_changed().unwrap_or(false) {
                        return Some(lost("address changed"));
                    }
                    let overdue = pinged.is_none_or(|at| now.saturating_sub(at) >= PING_INTERVAL);
                    let probe = owed && open.pings.is_empty() && now.saturating_sub(heard) >= SILENCE / 2;
                    if waiting.is_none() && (overdue || probe) {
                        if !owed {
                            heard = now;
                        }
                        pinged = Some(now);
                        waiting = Some(self.ping(open, now));
                    }
                }
            }
        }
    }

    /// A frame with this call and whatever else waits.
    fn frame(&mut self, first: Ask, open: &mut Open) -> Bytes {
        let mut frame = BytesMut::new();
        let mut next = Some(first);
        while let Some(ask) = next {
            self.take(&ask);
            if !ask.reply.is_closed() {
                open.id_last += 1;
                let Ask { kind, shard, body, patience, reply } = ask;
                Message { tag: Tag::Request, kind, shard, id: open.id_last, patience, body }.put(&mut frame);
                open.calls.insert(open.id_last, reply);
            }
            let room = frame.len() < FRAME_BYTES;
            next = if room { self.asks.try_recv().ok() } else { None };
        }
        frame.freeze()
    }

    fn ping(&self, open: &mut Open, now: Duration) -> Bytes {
        open.id_last += 1;
        open.pings.insert(open.id_last, now);
        let mut frame = BytesMut::new();
        let (id, patience) = (open.id_last, SILENCE);
        Message {
            tag: Tag::Request,
            kind: kind::PING,
            shard: ShardId::META,
            id,
            patience,
            body: Bytes::new(),
        }
        .put(&mut frame);
        frame.freeze()
    }

    fn answered(&self, frame: Bytes, open: &mut Open) -> Result<(), PeerError> {
        for message in messages(frame)? {
            if let Some(sent_at) = open.pings.remove(&message.id) {
                if let Some(reading) = read_pong(&message.body, sent_at, self.clock.monotonic()) {
                    self.state.offsets.lock().unwrap_or_else(PoisonError::into_inner).push(reading);
                }
                continue;
            }
            let Some(reply) = open.calls.remove(&message.id) else { continue }; // gave up meanwhile
            reply
                .send(if message.tag == Tag::Answer { Ok(message.body) } else { Err(refusal(&message.body)) })
                .ok();
        }
        Ok(())
    }
}
