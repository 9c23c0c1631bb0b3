//! Places for connections that come in: so many at once, and no longer than a while for who does not say who it is.
//!
//! ```text
//!  accept ─▶ Places::take ─▶ a place is free?  no: closed at once
//!                              │ yes
//!                              ▼
//!                           Placed: reads fail once the patience is over ─── unless Known::set was called
//! ```
//!
//! A place is free again when its connection is dropped.

use futures::io::{AsyncRead, AsyncWrite};
use model::ClientIo;
use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Sleep, sleep},
};

/// The places of one listener.
#[derive(Debug)]
pub(crate) struct Places {
    /// For the log.
    what: &'static str,
    max: usize,
    free: Arc<Semaphore>,
    /// How long a connection is kept of whom nothing is known.
    patience: Duration,
    /// Whether the last connection found no place: it is told once.
    full: AtomicBool,
}

impl Places {
    pub(crate) fn new(what: &'static str, max: usize, patience: Duration) -> Places {
        Places { what, max, free: Arc::new(Semaphore::new(max)), patience, full: AtomicBool::new(false) }
    }

    /// A place for a connection; `None`, and the connection is closed, if there is none.
    pub(crate) fn take(&self, io: Box<dyn ClientIo>) -> Option<Placed> {
        let place = self.free.clone().try_acquire_owned().ok();
        let was_full = self.full.swap(place.is_none(), Ordering::Relaxed);
        if place.is_none() && !was_full {
            tracing::warn!(
                max = self.max,
                "too many connections: closing new {} until others end",
                self.what
            );
        }
        let (known, patience) = (Known::default(), Box::pin(sleep(self.patience)));
        Some(Placed { io, known, patience: Some(patience), _place: place? })
    }
}

/// Whether it is known who is at the other end. Shared by all clones.
#[derive(Clone, Debug, Default)]
pub(crate) struct Known(Arc<AtomicBool>);

impl Known {
    /// From now on the connection may last.
    pub(crate) fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A connection that has a place.
pub(crate) struct Placed {
    io: Box<dyn ClientIo>,
    known: Known,
    patience: Option<Pin<Box<Sleep>>>,
    _place: OwnedSemaphorePermit,
}

impl Placed {
    pub(crate) fn known(&self) -> Known {
        self.known.clone()
    }
}

impl AsyncRead for Placed {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        if self.known.0.load(Ordering::Relaxed) {
            self.patience = None;
        }
        if let Some(patience) = &mut self.patience
            && patience.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "nobody said who this is")));
        }
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl AsyncWrite for Placed {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }
    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_close(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::AsyncReadExt;
    use tokio::{io::duplex, time::timeout};
    use tokio_util::compat::TokioAsyncReadCompatExt;

    const PATIENCE: Duration = Duration::from_millis(50);

    fn places() -> Places {
        Places::new("peers", 2, PATIENCE)
    }

    fn silent() -> (tokio::io::DuplexStream, Box<dyn ClientIo>) {
        let (ours, theirs) = duplex(64);
        (theirs, Box::new(ours.compat()))
    }

    #[tokio::test]
    async fn who_says_nothing_is_closed_and_who_is_known_stays() {
        let places = places();
        let ((_a, a), (_b, b)) = (silent(), silent());
        let (mut unknown, mut known) = (places.take(a).unwrap(), places.take(b).unwrap());
        known.known().set();
        let read = unknown.read(&mut [0; 1]).await;
        assert_eq!(read.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert!(timeout(PATIENCE * 10, known.read(&mut [0; 1])).await.is_err(), "it waits for more");
    }

    #[tokio::test]
    async fn there_are_so_many_places_and_who_leaves_frees_one() {
        let places = places();
        let first = places.take(silent().1).unwrap();
        let _second = places.take(silent().1).unwrap();
        assert!(places.take(silent().1).is_none());
        drop(first);
        assert!(places.take(silent().1).is_some());
    }
}
