//! The HTTP server: connections from a [`Listener`], requests to the router, limits around both.
//!
//! - at most so many connections at once; the next ones wait in the system's backlog
//! - a request's head must arrive within a time, and an idle connection may stay for the same time
//! - a client that takes no bytes of its answer for a time is closed
//! - on shutdown, requests under way may finish within a time; idle connections close at once

use axum::{Router, body::Body};
use futures::io::{AsyncRead, AsyncWrite};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use model::{BoxFuture, ClientIo, Listener, Spawner};
use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    sync::{Semaphore, watch},
    time::{Sleep, sleep, timeout},
};
use tokio_util::compat::FuturesAsyncReadCompatExt;
use tower::ServiceExt;

/// Limits of the server.
#[derive(Clone, Copy, Debug)]
pub struct ServerOptions {
    /// `--web.max-connections`.
    pub connections_max: usize,
    /// How long a request's head may take, and a connection be idle.
    pub head_timeout: Duration,
    /// How long a client may take no bytes of its answer.
    pub write_timeout: Duration,
    /// How long requests under way may take to finish on shutdown.
    pub drain_timeout: Duration,
    /// Bytes of a request's head, and of the buffer of a connection.
    pub head_bytes_max: usize,
    /// Header fields of a request.
    pub headers_max: usize,
}

impl Default for ServerOptions {
    fn default() -> Self {
        ServerOptions {
            connections_max: 512,
            head_timeout: Duration::from_secs(60),
            write_timeout: Duration::from_secs(30),
            drain_timeout: Duration::from_secs(5),
            head_bytes_max: 64 << 10, // a query in a URL may be long
            headers_max: 100,
        }
    }
}

/// Serves until `shutdown` is done, then drains; returns when the last connection is closed or the drain's time is
/// over. Failures to accept are logged and tried again: they pass (file handles) or the node is stopped anyway.
pub async fn serve(
    listener: Box<dyn Listener>,
    router: Router,
    spawner: Arc<dyn Spawner>,
    options: ServerOptions,
    shutdown: BoxFuture<'static, ()>,
) {
    let (stop, stopped) = watch::channel(false);
    let connections = Arc::new(Semaphore::new(options.connections_max));
    let mut shutdown = shutdown;
    loop {
        let permit = tokio::select! {
            permit = connections.clone().acquire_owned() => permit.expect("never closed"),
            () = &mut shutdown => break,
        };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut shutdown => break,
        };
        let (io, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "accept a web connection");
                sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let (router, stopped) = (router.clone(), stopped.clone());
        let task = async move {
            connection(io, peer, router, options, stopped).await;
            drop(permit);
        };
        spawner.spawn("web_connection", Box::pin(task));
    }
    drop(listener);
    let _ = stop.send(true);
    let all = u32::try_from(options.connections_max).unwrap_or(u32::MAX);
    if timeout(options.drain_timeout, connections.acquire_many(all)).await.is_err() {
        tracing::warn!("web connections did not finish in time and are cut");
    }
    // Dropping `stop` ends those that are left.
}

/// Who sent a request, among its extensions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer(pub(crate) SocketAddr);

async fn connection(
    io: Box<dyn ClientIo>,
    peer: SocketAddr,
    router: Router,
    options: ServerOptions,
    mut stopped: watch::Receiver<bool>,
) {
    let io = TokioIo::new(Patient::new(io, options.write_timeout).compat());
    let service = hyper::service::service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        let router = router.clone();
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(Peer(peer));
        router.oneshot(request)
    });
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(options.head_timeout)
        .max_buf_size(options.head_bytes_max.max(8 << 10))
        .max_headers(options.headers_max);
    let serving = builder.serve_connection(io, service);
    tokio::pin!(serving);
    loop {
        tokio::select! {
            result = &mut serving => {
                if let Err(error) = result {
                    tracing::debug!(%error, "web connection ended");
                }
                return;
            }
            changed = stopped.changed() => match changed {
                Ok(()) => serving.as_mut().graceful_shutdown(),
                Err(_) => return, // the server is gone
            },
        }
    }
}

/// Bytes that a connection writes before the others get their turn: they may share a thread, and the system takes
/// megabytes of a large answer without a pause.
const TURN_BYTES: usize = 256 << 10;

/// A stream that gives up when a write makes no progress for too long, and lets others go between its writes.
struct Patient {
    io: Box<dyn ClientIo>,
    limit: Duration,
    waiting: Option<Pin<Box<Sleep>>>,
    /// Written since the last pause.
    written: usize,
}

impl Patient {
    fn new(io: Box<dyn ClientIo>, limit: Duration) -> Patient {
        Patient { io, limit, waiting: None, written: 0 }
    }

    /// Whether it is the others' turn; then this one is polled again behind them.
    fn pauses(&mut self, cx: &mut Context<'_>) -> bool {
        let pauses = self.written >= TURN_BYTES;
        if pauses {
            self.written = 0;
            cx.waker().wake_by_ref();
        }
        pauses
    }

    fn count(&mut self, poll: &Poll<io::Result<usize>>) {
        match poll {
            Poll::Ready(Ok(bytes)) => self.written += bytes,
            _ => self.written = 0,
        }
    }

    /// Passes a result on; of a pending one it sees to it that it does not stay so.
    fn watch<T>(&mut self, cx: &mut Context<'_>, poll: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if poll.is_ready() {
            self.waiting = None;
            return poll;
        }
        let limit = self.limit;
        let waiting = self.waiting.get_or_insert_with(|| Box::pin(sleep(limit)));
        match waiting.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl AsyncRead for Patient {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl AsyncWrite for Patient {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.pauses(cx) {
            return Poll::Pending;
        }
        let poll = Pin::new(&mut self.io).poll_write(cx, buf);
        self.count(&poll);
        self.watch(cx, poll)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.pauses(cx) {
            return Poll::Pending;
        }
        let poll = Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        self.count(&poll);
        self.watch(cx, poll)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let poll = Pin::new(&mut self.io).poll_flush(cx);
        self.watch(cx, poll)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let poll = Pin::new(&mut self.io).poll_close(cx);
        self.watch(cx, poll)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::{FutureExt, io::AsyncWriteExt};

    #[tokio::test]
    async fn a_connection_with_much_to_write_lets_others_go_in_between() {
        let mut stream = Patient::new(Box::new(futures::io::Cursor::new(Vec::new())), Duration::from_secs(1));
        let piece = vec![0; TURN_BYTES / 2];
        for _ in 0..3 {
            assert!(stream.write_all(&piece).now_or_never().is_some());
            assert!(stream.write_all(&piece).now_or_never().is_some());
            assert!(stream.write_all(&piece).now_or_never().is_none(), "the others' turn");
        }
        stream.write_all(&vec![0; 10 * TURN_BYTES]).await.expect("all is written at last");
    }
}
