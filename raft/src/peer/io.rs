//! The byte streams of [`model::Net`] as tonic wants them.

use super::proto::peer_client::PeerClient;
use crate::places::{Known, Places};
use futures::Stream;
use hyper_util::rt::TokioIo;
use model::{ClientIo, Listener, Net};
use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::compat::{Compat, FuturesAsyncReadCompatExt};
use tonic::transport::{Channel, Endpoint, server::Connected};

/// HTTP/2 windows: a snapshot's part and a full frame travel without waiting for the other side's permission.
pub(super) const WINDOW_BYTES: u32 = 8 << 20;
/// How long accepting rests after it failed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Connections of peers that may be open at once; each node has two to each other.
const CONNECTIONS_MAX: usize = 256;
/// How long a connection may take until a stream on it has greeted and may stay.
const STREAM_PATIENCE: Duration = Duration::from_secs(10);

/// A connection.
pub(super) struct PeerIo {
    io: Compat<Box<dyn ClientIo>>,
    known: Known,
}

impl PeerIo {
    fn new(io: Box<dyn ClientIo>, known: Known) -> PeerIo {
        PeerIo { io: io.compat(), known }
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
                Ok::<_, io::Error>(TokioIo::new(PeerIo::new(net.connect(&address).await?, Known::default())))
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

/// Connections as they come in, as many as have a place; a failure to accept is waited out.
pub(super) fn incoming(listener: Arc<dyn Listener>) -> impl Stream<Item = io::Result<PeerIo>> {
    let places = Places::new("connections of peers", CONNECTIONS_MAX, STREAM_PATIENCE);
    futures::stream::unfold((listener, places), |(listener, places)| async move {
        loop {
            match listener.accept().await {
                Ok((io, _)) => {
                    let Some(placed) = places.take(io) else { continue };
                    let known = placed.known();
                    return Some((Ok(PeerIo::new(Box::new(placed), known)), (listener, places)));
                }
                Err(error) => {
                    tracing::warn!(%error, "accepting a peer failed");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    })
}
