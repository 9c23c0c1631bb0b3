//! memberlist over [`model::Net`]. The sockets are not its own: one list after the other uses them.

use super::runtime::Guarded;
use crate::places::Places;
use bytes::Bytes;
use futures::{
    AsyncReadExt, AsyncWriteExt,
    io::{ReadHalf, WriteHalf},
};
use memberlist::{
    agnostic::RuntimeLite,
    net::resolver::socket_addr::SocketAddrResolver,
    proto::Payload,
    transport::{
        Connection, Packet, PacketSubscriber, StreamSubscriber, Transport, TransportError, packet_stream,
        promised_stream,
    },
};
use model::{ClientIo, DatagramSocket, Listener, Net};
use peekable::future::AsyncPeekable;
use smol_str::SmolStr;
use std::{
    borrow::Cow,
    fmt, io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::task::AbortHandle;

/// Largest datagram sent: fits into an Ethernet frame.
const PACKET_BYTES_MAX: usize = 1400;
/// Datagrams that may wait to be worked on.
const PACKETS_MAX: usize = 1024;
/// Longest datagram there is.
const DATAGRAM_BYTES_MAX: usize = 65_536;
/// Connections that may be open at once; each carries one exchange.
const CONNECTIONS_MAX: usize = 64;
/// How long an exchange may take.
const CONNECTION_PATIENCE: Duration = Duration::from_secs(30);
/// How long receiving rests after it failed.
const PAUSE: Duration = Duration::from_millis(100);

type Moment = <Guarded as RuntimeLite>::Instant;

/// A connection.
pub(crate) struct GossipStream {
    read: AsyncPeekable<ReadHalf<Box<dyn ClientIo>>>,
    write: WriteHalf<Box<dyn ClientIo>>,
}

impl GossipStream {
    fn new(io: Box<dyn ClientIo>) -> GossipStream {
        let (read, write) = io.split();
        GossipStream { read: AsyncPeekable::new(read), write }
    }
}

impl Connection for GossipStream {
    type Reader = AsyncPeekable<ReadHalf<Box<dyn ClientIo>>>;
    type Writer = WriteHalf<Box<dyn ClientIo>>;

    fn split(self) -> (Self::Reader, Self::Writer) {
        (self.read, self.write)
    }
    async fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.read.read(buf).await
    }
    async fn read_exact(&mut self, buf: &mut [u8]) -> io::Result<()> {
        self.read.read_exact(buf).await
    }
    async fn peek(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.read.peek(buf).await
    }
    async fn peek_exact(&mut self, buf: &mut [u8]) -> io::Result<()> {
        self.read.peek_exact(buf).await
    }
    async fn write_all(&mut self, data: &[u8]) -> io::Result<()> {
        self.write.write_all(data).await
    }
    async fn flush(&mut self) -> io::Result<()> {
        self.write.flush().await
    }
    async fn close(&mut self) -> io::Result<()> {
        self.write.close().await
    }
}

/// Sending or receiving failed.
#[derive(Debug)]
pub(crate) struct NetTransportError {
    reason: String,
    remote: bool,
}

impl fmt::Display for NetTransportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

impl std::error::Error for NetTransportError {}

impl From<io::Error> for NetTransportError {
    fn from(error: io::Error) -> Self {
        NetTransportError { reason: error.to_string(), remote: true }
    }
}

impl TransportError for NetTransportError {
    fn is_remote_failure(&self) -> bool {
        self.remote
    }
    fn custom(reason: Cow<'static, str>) -> Self {
        NetTransportError { reason: reason.into_owned(), remote: false }
    }
}

/// Where gossip comes in.
#[derive(Clone, Debug)]
pub(crate) struct Sockets {
    datagrams: Arc<dyn DatagramSocket>,
    listener: Arc<dyn Listener>,
}

impl Sockets {
    pub(crate) async fn bind(net: &dyn Net, listen: SocketAddr) -> io::Result<Sockets> {
        let datagrams = Arc::from(net.bind_datagram(listen).await?);
        Ok(Sockets { datagrams, listener: Arc::from(net.listen(listen).await?) })
    }
}

/// What the transport is made of.
pub(crate) struct NetTransportOptions {
    pub(crate) net: Arc<dyn Net>,
    pub(crate) sockets: Sockets,
    pub(crate) id: SmolStr,
    pub(crate) listen: SocketAddr,
    pub(crate) advertise: SocketAddr,
}

/// Carries gossip.
pub(crate) struct NetTransport {
    options: NetTransportOptions,
    packets: PacketSubscriber<SocketAddr, Moment>,
    streams: StreamSubscriber<SocketAddr, GossipStream>,
    tasks: Mutex<Vec<AbortHandle>>,
}

impl Transport for NetTransport {
    type Error = NetTransportError;
    type Id = SmolStr;
    type Address = SocketAddr;
    type ResolvedAddress = SocketAddr;
    type Resolver = SocketAddrResolver<Guarded>;
    type Connection = GossipStream;
    type Runtime = Guarded;
    type Options = NetTransportOptions;

    async fn new(options: NetTransportOptions) -> Result<Self, NetTransportError> {
        let Sockets { datagrams: socket, listener } = options.sockets.clone();
        let (packets_in, packets) = packet_stream::<Self>(PACKETS_MAX);
        let (streams_in, streams) = promised_stream::<Self>();
        let receive = tokio::spawn(async move {
            let mut buf = vec![0; DATAGRAM_BYTES_MAX];
            loop {
                let Ok((count, from)) = socket.recv_from(&mut buf).await else {
                    tokio::time::sleep(PAUSE).await;
                    continue;
                };
                let data = Bytes::copy_from_slice(&buf[..count]);
                if packets_in.send(Packet::new(from, Guarded::now(), data)).await.is_err() {
                    return;
                }
            }
        });
        let accept = tokio::spawn(async move {
            let places = Places::new("connections of gossip", CONNECTIONS_MAX, CONNECTION_PATIENCE);
            loop {
                let Ok((io, from)) = listener.accept().await else {
                    tokio::time::sleep(PAUSE).await;
                    continue;
                };
                let Some(placed) = places.take(io) else { continue };
                if streams_in.send(from, GossipStream::new(Box::new(placed))).await.is_err() {
                    return;
                }
            }
        });
        let tasks = Mutex::new(vec![receive.abort_handle(), accept.abort_handle()]);
        Ok(NetTransport { options, packets, streams, tasks })
    }

    async fn resolve(&self, address: &SocketAddr) -> Result<SocketAddr, NetTransportError> {
        Ok(*address)
    }
    fn local_id(&self) -> &SmolStr {
        &self.options.id
    }
    fn local_address(&self) -> &SocketAddr {
        &self.options.listen
    }
    fn advertise_address(&self) -> &SocketAddr {
        &self.options.advertise
    }
    fn max_packet_size(&self) -> usize {
        PACKET_BYTES_MAX
    }
    fn header_overhead(&self) -> usize {
        0
    }
    fn blocked_address(&self, _address: &SocketAddr) -> Result<(), NetTransportError> {
        Ok(())
    }
    async fn send_to(&self, to: &SocketAddr, packet: Payload) -> Result<(usize, Moment), NetTransportError> {
        let begun = Guarded::now();
        let sent = self.options.sockets.datagrams.send_to(packet.as_slice(), *to).await?;
        Ok((sent, begun))
    }
    async fn open(&self, to: &SocketAddr, deadline: Moment) -> Result<GossipStream, NetTransportError> {
        let address = to.to_string();
        let connected = Guarded::timeout_at(deadline, self.options.net.connect(&address)).await;
        let timed_out = |_| NetTransportError { reason: "connecting timed out".to_owned(), remote: true };
        Ok(GossipStream::new(connected.map_err(timed_out)??))
    }
    fn packet(&self) -> PacketSubscriber<SocketAddr, Moment> {
        self.packets.clone()
    }
    fn stream(&self) -> StreamSubscriber<SocketAddr, GossipStream> {
        self.streams.clone()
    }
    fn packet_reliable(&self) -> bool {
        false
    }
    fn packet_secure(&self) -> bool {
        false
    }
    fn stream_secure(&self) -> bool {
        false
    }
    async fn shutdown(&self) -> Result<(), NetTransportError> {
        self.end();
        Ok(())
    }
}

impl NetTransport {
    fn end(&self) {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner).drain(..).for_each(|task| task.abort());
    }
}

impl Drop for NetTransport {
    fn drop(&mut self) {
        self.end(); // a list that came to nothing is not shut down
    }
}
