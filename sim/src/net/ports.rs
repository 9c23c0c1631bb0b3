//! The `Net` port of one host.

use super::{
    Wires,
    state::{Datagrams, Listening, Phase},
};
use futures::io::{AsyncRead, AsyncWrite};
use model::{BoxFuture, ClientIo, DatagramSocket, Listener, Net};
use std::{
    future::poll_fn,
    io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    task::{Context, Poll},
};

/// The network as one process sees it; dead when the process is.
#[derive(Clone, Debug)]
pub struct SimNet {
    wires: Wires,
    host: IpAddr,
    life: u64,
}

impl SimNet {
    /// The network of the process that began last on `host`.
    #[must_use]
    pub fn new(wires: &Wires, host: IpAddr) -> SimNet {
        let life = wires.state().life(host).unwrap_or(0);
        SimNet { wires: wires.clone(), host, life }
    }

    fn alive(&self) -> io::Result<()> {
        let alive = self.wires.state().life(self.host) == Some(self.life);
        if alive { Ok(()) } else { Err(io::Error::other("this process has no network any more")) }
    }
}

/// One end of a connection.
#[derive(Debug)]
struct Stream {
    wires: Wires,
    id: u64,
    side: usize,
    finished: bool,
}

impl Drop for Stream {
    fn drop(&mut self) {
        let mut state = self.wires.state();
        let held = state.conns.get(&self.id).is_some_and(|conn| conn.held[self.side]);
        if held {
            if !self.finished {
                state.finish(self.id, self.side);
            }
            state.release(self.id, self.side);
            state.forget(self.id);
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let side = self.side;
        self.wires.act(|state, woken| {
            let Some(conn) = state.conns.get_mut(&self.id) else {
                return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
            };
            let inbox = &mut conn.inbox[side];
            let Some(piece) = inbox.data.front() else {
                return if inbox.reset {
                    Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()))
                } else if inbox.eof {
                    Poll::Ready(Ok(0))
                } else {
                    inbox.reader = Some(cx.waker().clone());
                    Poll::Pending
                };
            };
            let rest = &piece[inbox.read..];
            let count = rest.len().min(buf.len());
            buf[..count].copy_from_slice(&rest[..count]);
            inbox.read += count;
            if inbox.read == piece.len() {
                inbox.data.pop_front();
                inbox.read = 0;
            }
            inbox.unread -= count;
            woken.extend(inbox.writer.take());
            Poll::Ready(Ok(count))
        })
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let mut state = self.wires.state();
        match state.write(self.id, self.side, buf) {
            Ok(Some(count)) => Poll::Ready(Ok(count)),
            Ok(None) => {
                if let Some(conn) = state.conns.get_mut(&self.id) {
                    conn.inbox[1 - self.side].writer = Some(cx.waker().clone());
                }
                Poll::Pending
            }
            Err(error) => Poll::Ready(Err(error)),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.finished {
            self.finished = true;
            self.wires.state().finish(self.id, self.side);
        }
        Poll::Ready(Ok(()))
    }
}

#[derive(Debug)]
struct SimListener {
    net: SimNet,
    address: SocketAddr,
}

impl Drop for SimListener {
    fn drop(&mut self) {
        if self.net.alive().is_ok() {
            self.net.wires.state().listeners.remove(&self.address);
        }
    }
}

impl Listener for SimListener {
    fn accept(&self) -> BoxFuture<'_, io::Result<(Box<dyn ClientIo>, SocketAddr)>> {
        Box::pin(poll_fn(move |cx| {
            let mut state = self.net.wires.state();
            let Some(listening) = state.listeners.get_mut(&self.address) else {
                return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
            };
            let Some(id) = listening.queue.pop_front() else {
                listening.waker = Some(cx.waker().clone());
                return Poll::Pending;
            };
            let peer = state.conns.get(&id).map(|conn| conn.ends[0]);
            let peer = peer.ok_or(io::ErrorKind::ConnectionAborted)?;
            drop(state);
            let stream = Stream { wires: self.net.wires.clone(), id, side: 1, finished: false };
            Poll::Ready(Ok((Box::new(stream) as Box<dyn ClientIo>, peer)))
        }))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }
}

#[derive(Debug)]
struct SimDatagrams {
    net: SimNet,
    address: SocketAddr,
}

impl Drop for SimDatagrams {
    fn drop(&mut self) {
        if self.net.alive().is_ok() {
            self.net.wires.state().datagrams.remove(&self.address);
        }
    }
}

impl DatagramSocket for SimDatagrams {
    fn send_to<'a>(&'a self, data: &'a [u8], to: SocketAddr) -> BoxFuture<'a, io::Result<usize>> {
        Box::pin(async move {
            self.net.alive()?;
            self.net.wires.state().send_datagram(self.address, to, data);
            Ok(data.len())
        })
    }

    fn recv_from<'a>(&'a self, buf: &'a mut [u8]) -> BoxFuture<'a, io::Result<(usize, SocketAddr)>> {
        Box::pin(poll_fn(move |cx| {
            let mut state = self.net.wires.state();
            let Some(socket) = state.datagrams.get_mut(&self.address) else {
                return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
            };
            let Some((data, from)) = socket.queue.pop_front() else {
                socket.waker = Some(cx.waker().clone());
                return Poll::Pending;
            };
            let count = data.len().min(buf.len());
            buf[..count].copy_from_slice(&data[..count]);
            Poll::Ready(Ok((count, from)))
        }))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }
}

impl Net for SimNet {
    fn connect<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Box<dyn ClientIo>>> {
        Box::pin(async move {
            self.alive()?;
            let to: SocketAddr =
                address.parse().map_err(|_| io::Error::new(io::ErrorKind::NotFound, "no such host"))?;
            let id = self.wires.state().connect(self.host, to);
            let stream = Stream { wires: self.wires.clone(), id, side: 0, finished: false };
            poll_fn(|cx| {
                let mut state = self.wires.state();
                let Some(conn) = state.conns.get_mut(&id) else {
                    return Poll::Ready(Err(io::Error::from(io::ErrorKind::ConnectionReset)));
                };
                match conn.phase {
                    _ if conn.inbox[0].reset => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
                    Phase::Open => Poll::Ready(Ok(())),
                    Phase::Refused => Poll::Ready(Err(io::ErrorKind::ConnectionRefused.into())),
                    Phase::Connecting => {
                        conn.connecting = Some(cx.waker().clone());
                        Poll::Pending
                    }
                }
            })
            .await?;
            Ok(Box::new(stream) as Box<dyn ClientIo>)
        })
    }

    fn listen(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Listener>>> {
        Box::pin(async move {
            self.alive()?;
            let address = SocketAddr::new(self.host, address.port());
            let mut state = self.wires.state();
            if state.listeners.contains_key(&address) {
                return Err(io::ErrorKind::AddrInUse.into());
            }
            state.listeners.insert(address, Listening::default());
            Ok(Box::new(SimListener { net: self.clone(), address }) as Box<dyn Listener>)
        })
    }

    fn bind_datagram(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn DatagramSocket>>> {
        Box::pin(async move {
            self.alive()?;
            let address = SocketAddr::new(self.host, address.port());
            let mut state = self.wires.state();
            if state.datagrams.contains_key(&address) {
                return Err(io::ErrorKind::AddrInUse.into());
            }
            state.datagrams.insert(address, Datagrams::default());
            Ok(Box::new(SimDatagrams { net: self.clone(), address }) as Box<dyn DatagramSocket>)
        })
    }

    fn resolve<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
        Box::pin(async move {
            let parsed = address.parse();
            Ok(vec![parsed.map_err(|_| io::Error::new(io::ErrorKind::NotFound, "no such host"))?])
        })
    }
}
