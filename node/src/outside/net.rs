//! The system's sockets.

use model::{BoxFuture, ClientIo, DatagramSocket, Listener, Net};
use std::{io, net::SocketAddr};
use tokio::net::{TcpListener, TcpStream, UdpSocket, lookup_host};
use tokio_util::compat::TokioAsyncReadCompatExt;

/// TCP and UDP of the machine.
#[derive(Debug, Default)]
pub struct SystemNet;

#[derive(Debug)]
struct SystemListener(TcpListener);

#[derive(Debug)]
struct SystemDatagrams(UdpSocket);

fn client(stream: TcpStream) -> io::Result<Box<dyn ClientIo>> {
    stream.set_nodelay(true)?; // a heartbeat or an acknowledgement never waits for more to say
    Ok(Box::new(stream.compat()))
}

impl Net for SystemNet {
    fn connect<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Box<dyn ClientIo>>> {
        Box::pin(async move { client(TcpStream::connect(address).await?) })
    }

    fn listen(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Listener>>> {
        Box::pin(async move {
            Ok(Box::new(SystemListener(TcpListener::bind(address).await?)) as Box<dyn Listener>)
        })
    }

    fn bind_datagram(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn DatagramSocket>>> {
        Box::pin(async move {
            Ok(Box::new(SystemDatagrams(UdpSocket::bind(address).await?)) as Box<dyn DatagramSocket>)
        })
    }

    fn resolve<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
        Box::pin(async move { Ok(lookup_host(address).await?.collect()) })
    }
}

impl Listener for SystemListener {
    fn accept(&self) -> BoxFuture<'_, io::Result<(Box<dyn ClientIo>, SocketAddr)>> {
        Box::pin(async move {
            let (stream, peer) = self.0.accept().await?;
            Ok((client(stream)?, peer))
        })
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

impl DatagramSocket for SystemDatagrams {
    fn send_to<'a>(&'a self, data: &'a [u8], to: SocketAddr) -> BoxFuture<'a, io::Result<usize>> {
        Box::pin(self.0.send_to(data, to))
    }

    fn recv_from<'a>(&'a self, buf: &'a mut [u8]) -> BoxFuture<'a, io::Result<(usize, SocketAddr)>> {
        Box::pin(self.0.recv_from(buf))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}
