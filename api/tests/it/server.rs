//! The server: limits, slow clients, shutdown.

use crate::{
    memory::{Inline, NEVER},
    world::World,
};
use api::{Options, ServerOptions};
use model::{BoxFuture, ClientIo, Listener};
use std::{io, net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    sync::{Mutex, mpsc, oneshot},
    time::timeout,
};
use tokio_util::compat::TokioAsyncReadCompatExt;

/// Connections that the test makes.
#[derive(Debug)]
struct Doors(Mutex<mpsc::Receiver<DuplexStream>>);

impl Listener for Doors {
    fn accept(&self) -> BoxFuture<'_, io::Result<(Box<dyn ClientIo>, SocketAddr)>> {
        Box::pin(async {
            match self.0.lock().await.recv().await {
                Some(stream) => {
                    Ok((Box::new(stream.compat()) as Box<dyn ClientIo>, ([127, 0, 0, 1], 1).into()))
                }
                None => std::future::pending().await,
            }
        })
    }
    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(([127, 0, 0, 1], 9090).into())
    }
}

struct Server {
    doors: mpsc::Sender<DuplexStream>,
    stop: Option<oneshot::Sender<()>>,
    task: tokio::task::JoinHandle<()>,
}

fn serve(options: ServerOptions) -> Server {
    serve_world(options, World::default())
}

fn serve_world(options: ServerOptions, world: World) -> Server {
    let (doors, accepted) = mpsc::channel(16);
    let (stop, stopped) = oneshot::channel::<()>();
    let listener = Box::new(Doors(Mutex::new(accepted)));
    let router = world.open().router;
    let shutdown = Box::pin(async { _ = stopped.await });
    let task = tokio::spawn(api::serve(listener, router, Arc::new(Inline), options, shutdown));
    Server { doors, stop: Some(stop), task }
}

impl Server {
    async fn connect(&self) -> DuplexStream {
        let (ours, theirs) = duplex(1 << 16);
        self.doors.send(theirs).await.unwrap();
        ours
    }
}

/// Reads one answer of the health endpoint.
async fn read_answer(stream: &mut DuplexStream) -> String {
    let mut text = String::new();
    while !text.ends_with("Healthy.\n") {
        let mut piece = Vec::new();
        if stream.read_buf(&mut piece).await.unwrap_or(0) == 0 {
            break;
        }
        text.push_str(std::str::from_utf8(&piece).unwrap());
    }
    text
}

const HEALTHY: &[u8] = b"GET /-/healthy HTTP/1.1\r\nhost: x\r\n\r\n";

#[tokio::test]
async fn a_request_is_answered_and_the_connection_kept() {
    let server = serve(ServerOptions::default());
    let mut stream = server.connect().await;
    stream.write_all(HEALTHY).await.unwrap();
    assert!(read_answer(&mut stream).await.starts_with("HTTP/1.1 200 OK\r\n"));
    stream.write_all(HEALTHY).await.unwrap();
    assert!(read_answer(&mut stream).await.starts_with("HTTP/1.1 200 OK\r\n"));
}

#[tokio::test(start_paused = true)]
async fn a_head_that_does_not_come_closes_the_connection() {
    let server = serve(ServerOptions { head_timeout: Duration::from_secs(5), ..ServerOptions::default() });
    let mut stream = server.connect().await;
    stream.write_all(b"GET / HTTP/1.1\r\nx-slow: ").await.unwrap();
    let closed = timeout(Duration::from_secs(6), stream.read_to_end(&mut Vec::new())).await;
    assert!(closed.is_ok());
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_is_closed() {
    let server = serve(ServerOptions { head_timeout: Duration::from_secs(5), ..ServerOptions::default() });
    let mut stream = server.connect().await;
    stream.write_all(HEALTHY).await.unwrap();
    read_answer(&mut stream).await;
    let closed = timeout(Duration::from_secs(11), stream.read_to_end(&mut Vec::new())).await;
    assert!(closed.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_client_that_takes_nothing_is_closed() {
    let server = serve(ServerOptions { write_timeout: Duration::from_secs(5), ..ServerOptions::default() });
    let (mut ours, theirs) = duplex(64);
    server.doors.send(theirs).await.unwrap();
    ours.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    tokio::time::sleep(Duration::from_secs(6)).await;
    let mut left = Vec::new();
    let closed = timeout(Duration::from_secs(1), ours.read_to_end(&mut left)).await;
    assert!(closed.is_ok() && left.len() <= 64);
}

#[tokio::test]
async fn a_head_that_is_too_large_is_refused() {
    let server = serve(ServerOptions::default());
    let mut stream = server.connect().await;
    let (mut read, mut write) = tokio::io::split(&mut stream);
    let head = format!("GET /{} HTTP/1.1\r\n", "x".repeat(100 << 10));
    let mut reply = Vec::new();
    let _ = tokio::join!(write.write_all(head.as_bytes()), read.read_to_end(&mut reply));
    let reply = String::from_utf8(reply).unwrap();
    assert!(reply.starts_with("HTTP/1.1 431 ") || reply.starts_with("HTTP/1.1 414 "), "{reply}");
}

#[tokio::test]
async fn connections_beyond_the_limit_wait() {
    let server = serve(ServerOptions { connections_max: 1, ..ServerOptions::default() });
    let mut first = server.connect().await;
    first.write_all(HEALTHY).await.unwrap();
    read_answer(&mut first).await;
    let mut second = server.connect().await;
    second.write_all(HEALTHY).await.unwrap();
    assert!(timeout(Duration::from_millis(50), read_answer(&mut second)).await.is_err());
    drop(first);
    assert!(read_answer(&mut second).await.starts_with("HTTP/1.1 200 OK\r\n"));
}

#[tokio::test]
async fn a_shutdown_closes_idle_connections_and_ends() {
    let mut server = serve(ServerOptions::default());
    let mut idle = server.connect().await;
    idle.write_all(HEALTHY).await.unwrap();
    read_answer(&mut idle).await;
    server.stop.take().unwrap().send(()).unwrap();
    timeout(Duration::from_secs(2), &mut server.task).await.expect("ends").unwrap();
    let closed = timeout(Duration::from_secs(1), idle.read_to_end(&mut Vec::new())).await;
    assert!(closed.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_does_not_wait_for_ever() {
    let mut server =
        serve(ServerOptions { drain_timeout: Duration::from_secs(3), ..ServerOptions::default() });
    let mut slow = server.connect().await;
    slow.write_all(b"POST /api/v1/write HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n").await.unwrap();
    tokio::time::sleep(Duration::from_millis(10)).await;
    server.stop.take().unwrap().send(()).unwrap();
    timeout(Duration::from_secs(4), &mut server.task).await.expect("ends").unwrap();
}

#[tokio::test]
async fn a_client_that_goes_away_gives_its_place_to_the_next() {
    let options = Options { query_concurrency_max: 1, ..Options::default() };
    let server = serve_world(ServerOptions::default(), World { options, ..World::default() });
    let mut first = server.connect().await;
    let stuck = format!("GET /api/v1/query?query=1 HTTP/1.1\r\nhost: x\r\nx-vestal-view: {NEVER}\r\n\r\n");
    first.write_all(stuck.as_bytes()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(20)).await;
    let mut second = server.connect().await;
    second.write_all(b"GET /api/v1/query?query=1 HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut byte = [0];
    assert!(timeout(Duration::from_millis(50), second.read(&mut byte)).await.is_err());
    drop(first);
    timeout(Duration::from_secs(2), second.read(&mut byte)).await.expect("is answered").unwrap();
}
