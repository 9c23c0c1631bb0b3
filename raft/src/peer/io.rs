//! The byte streams of [`model::Net`] as tonic wants them.

use super::{plain::MAGIC, proto::peer_client::PeerClient};
use crate::places::{Known, Places};
use bytes::Bytes;
use futures::{AsyncReadExt, Stream, StreamExt};
use hyper_util::rt::TokioIo;
use model::{BoxFuture, ClientIo, Listener, Net};
use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::mpsc,
    task::AbortHandle,
    time::timeout,
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::compat::{Compat, FuturesAsyncReadCompatExt};
use tonic::transport::{Channel, Endpoint, server::Connected};

/// HTTP/2 windows: a snapshot's part and a full frame travel without waiting for the other side's permission.
pub(super) const WINDOW_BYTES: u32 = 8 << 20;
/// How long accepting rests after it failed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long a connection may take to say how it begins.
const FIRST_PATIENCE: Duration = Duration::from_secs(2);
/// Connections of peers that may be open at once; each node has two to each other, and two from it.
const CONNECTIONS_MAX: usize = 256;
/// How long a connection may take until who is there has greeted and may stay.
const STREAM_PATIENCE: Duration = Duration::from_secs(10);
/// Connections that may wait to be served.
const ACCEPTED_MAX: usize = 4;

/// A connection, perhaps one of which the first bytes were read already.
pub(super) struct PeerIo {
    io: Compat<Box<dyn ClientIo>>,
    first: Bytes,
    known: Known,
}

impl PeerIo {
    fn new(io: Box<dyn ClientIo>, first: Bytes, known: Known) -> PeerIo {
        PeerIo { io: io.compat(), first, known }
    }
}

impl Connected for PeerIo {
    type ConnectInfo = Known;
    fn connect_info(&self) -> Known {
        self.known.clone()
    }
}

impl AsyncRead for PeerIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.first.is_empty() {
            let count = buf.remaining().min(self.first.len());
            buf.put_slice(&self.first.split_to(count));
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl AsyncWrite for PeerIo {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// Connects to `address`; the caller bounds the time.
pub(super) async fn connect(net: &Arc<dyn Net>, address: &str) -> Result<PeerClient<Channel>, String> {
    let connector = tower::service_fn({
        let (net, address) = (net.clone(), address.to_owned());
        move |_| {
            let (net, address) = (net.clone(), address.clone());
            async move {
                let io = net.connect(&address).await?;
                Ok::<_, io::Error>(TokioIo::new(PeerIo::new(io, Bytes::new(), Known::default())))
            }
        }
    });
    // The name in the URI goes nowhere: the connector knows the address.
    let channel = Endpoint::from_static("http://peer")
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(2 * WINDOW_BYTES)
        .connect_with_connector(connector)
        .await
        .map_err(|error| with_causes(&error))?;
    Ok(PeerClient::new(channel))
}

/// An error and what caused it, on one line.
pub(super) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// Connections as they come in, as many as have a place: those that begin as plain ones go to `plain`, the others to
/// what this yields. A failure to accept is waited out.
pub(super) fn incoming(
    listener: Arc<dyn Listener>,
    plain: impl Fn(Box<dyn ClientIo>, Known) -> BoxFuture<'static, ()> + Send + Sync + 'static,
) -> impl Stream<Item = io::Result<PeerIo>> {
    let (others, incoming) = mpsc::channel(ACCEPTED_MAX);
    let plain = Arc::new(plain);
    let places = Places::new("connections of peers", CONNECTIONS_MAX, STREAM_PATIENCE);
    let sort = async move {
        loop {
            let accepted = tokio::select! {
                () = others.closed() => return,
                accepted = listener.accept() => accepted,
            };
            let placed = match accepted {
                Ok((io, _)) => places.take(io),
                Err(error) => {
                    tracing::warn!(%error, "accepting a peer failed");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let Some(mut io) = placed else { continue };
            // One that says nothing must not keep the others waiting.
            let (others, plain) = (others.clone(), plain.clone());
            tokio::spawn(async move {
                let mut first = [0; MAGIC.len()];
                let read = timeout(FIRST_PATIENCE, io.read_exact(&mut first)).await;
                let known = io.known();
                match read {
                    Ok(Ok(())) if first == MAGIC => plain(Box::new(io), known).await,
                    Ok(Ok(())) => {
                        let first = Bytes::copy_from_slice(&first);
                        others.send(Ok(PeerIo::new(Box::new(io), first, known))).await.ok();
                    }
                    _ => {}
                }
            });
        }
    };
    let sorting = tokio::spawn(sort);
    let ending = AbortOnDrop(sorting.abort_handle());
    ReceiverStream::new(incoming).map(move |accepted| {
        let _ends_with_the_stream = &ending;
        accepted
    })
}

/// Ends a task when it is dropped.
pub(super) struct AbortOnDrop(pub(super) AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
