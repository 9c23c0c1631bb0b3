//! The byte streams of [`model::Net`] as tonic wants them.

use super::proto::peer_client::PeerClient;
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

/// A connection.
pub(super) struct PeerIo(Compat<Box<dyn ClientIo>>);

impl PeerIo {
    fn new(io: Box<dyn ClientIo>) -> PeerIo {
        PeerIo(io.compat())
    }
}

impl Connected for PeerIo {
    type ConnectInfo = ();
    fn connect_info(&self) {}
}

impl AsyncRead for PeerIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for PeerIo {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// Connects to `address`; the caller bounds the time.
pub(super) async fn connect(net: &Arc<dyn Net>, address: &str) -> Result<PeerClient<Channel>, String> {
    let connector = tower::service_fn({
        let (net, address) = (net.clone(), address.to_owned());
        move |_| {
            let (net, address) = (net.clone(), address.clone());
            async move { Ok::<_, io::Error>(TokioIo::new(PeerIo::new(net.connect(&address).await?))) }
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

/// Connections as they come in; a failure to accept is waited out.
pub(super) fn incoming(listener: Arc<dyn Listener>) -> impl Stream<Item = io::Result<PeerIo>> {
    futures::stream::unfold(listener, |listener| async move {
        loop {
            match listener.accept().await {
                Ok((io, _)) => return Some((Ok(PeerIo::new(io)), listener)),
                Err(error) => {
                    tracing::warn!(%error, "accepting a peer failed");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    })
}
