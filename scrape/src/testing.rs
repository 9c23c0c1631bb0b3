//! Ports for tests: targets that answer out of memory, in the time of the test.

use crate::ScraperPorts;
use flate2::{Compression, write::GzEncoder};
use model::{
    BoxFuture, ClientIo, Clock, DatagramSocket, File, Fs, Listener, Net, OpenOptions, Spawner, TimestampMs,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf};
use tokio::sync::Notify;

/// The test's time, which tokio can pause and move.
#[derive(Debug)]
struct TestClock;

#[expect(
    clippy::disallowed_methods,
    reason = "this is the clock of the tests, and tokio's is the one they move"
)]
fn since_start() -> Duration {
    thread_local!(static START: tokio::time::Instant = tokio::time::Instant::now());
    START.with(|start| start.elapsed())
}

impl Clock for TestClock {
    fn now(&self) -> TimestampMs {
        TimestampMs(1_800_000_000_000 + since_start().as_millis() as i64)
    }

    fn monotonic(&self) -> Duration {
        since_start()
    }
}

#[derive(Debug)]
struct TestSpawner;

impl Spawner for TestSpawner {
    fn spawn(&self, _: &'static str, task: BoxFuture<'static, ()>) {
        tokio::spawn(task);
    }

    fn blocking(&self, _: &'static str, work: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, ()> {
        Box::pin(async move { work() })
    }

    fn thread(&self, _: &'static str, _: Box<dyn FnOnce() + Send>) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// A few files; those below `/mnt` are behind a gate.
#[derive(Debug, Default)]
struct TestFs {
    files: BTreeMap<&'static str, Vec<u8>>,
    gate: Gate,
}

/// Where reads hang until it is opened. Clones are the same gate.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gate(Arc<GateState>);

#[derive(Debug, Default)]
struct GateState {
    open: Mutex<bool>,
    opened: Condvar,
    entered: AtomicUsize,
    reached: Notify,
}

impl Gate {
    fn pass(&self) {
        self.0.entered.fetch_add(1, Ordering::SeqCst);
        self.0.reached.notify_one();
        let open = self.0.open.lock().expect("no panic");
        drop(self.0.opened.wait_while(open, |open| !*open).expect("no panic"));
    }

    /// Waits until a read has come here.
    pub(crate) async fn reached(&self) {
        self.0.reached.notified().await;
    }

    /// How many reads have come here.
    pub(crate) fn entered(&self) -> usize {
        self.0.entered.load(Ordering::SeqCst)
    }

    /// Lets all reads go on, and further ones pass.
    pub(crate) fn open(&self) {
        *self.0.open.lock().expect("no panic") = true;
        self.0.opened.notify_all();
    }
}

/// Does what blocks on threads: where a read hangs, the test goes on.
#[derive(Debug)]
struct ThreadSpawner;

impl Spawner for ThreadSpawner {
    fn spawn(&self, _: &'static str, task: BoxFuture<'static, ()>) {
        tokio::spawn(task);
    }

    #[expect(clippy::disallowed_methods, reason = "this is where the threads of the tests come from")]
    fn blocking(&self, _: &'static str, work: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, ()> {
        let (done, wait) = tokio::sync::oneshot::channel::<()>();
        std::thread::spawn(move || {
            work();
            drop(done);
        });
        Box::pin(async move {
            let _ended = wait.await;
        })
    }

    fn thread(&self, _: &'static str, _: Box<dyn FnOnce() + Send>) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

#[derive(Debug)]
struct TestFile(Vec<u8>);

impl File for TestFile {
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let from = offset as usize;
        let bytes = self.0.get(from..from + buf.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        buf.copy_from_slice(bytes);
        Ok(())
    }
    fn write_all_at(&self, _: &[u8], _: u64) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.len() as u64)
    }
    fn set_len(&self, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }
    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}

impl Fs for TestFs {
    fn open(&self, path: &Path, _: OpenOptions) -> io::Result<Box<dyn File>> {
        if path.starts_with("/mnt") {
            self.gate.pass();
        }
        let contents = path.to_str().and_then(|path| self.files.get(path)).ok_or(io::ErrorKind::NotFound)?;
        Ok(Box::new(TestFile(contents.clone())))
    }
    fn create_dir_all(&self, _: &Path) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
    fn list(&self, _: &Path) -> io::Result<Vec<PathBuf>> {
        Err(io::ErrorKind::NotFound.into())
    }
    fn exists(&self, _: &Path) -> bool {
        false
    }
    fn rename(&self, _: &Path, _: &Path) -> io::Result<()> {
        Err(io::ErrorKind::NotFound.into())
    }
    fn remove_file(&self, _: &Path) -> io::Result<()> {
        Err(io::ErrorKind::NotFound.into())
    }
    fn remove_dir_all(&self, _: &Path) -> io::Result<()> {
        Err(io::ErrorKind::NotFound.into())
    }
    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }
    fn free_bytes(&self, _: &Path) -> io::Result<u64> {
        Ok(0)
    }
}

/// One end of a pipe, as the `Net` port hands it out.
struct Pipe(DuplexStream);

impl futures::io::AsyncRead for Pipe {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut buf = ReadBuf::new(buf);
        ready!(Pin::new(&mut self.0).poll_read(cx, &mut buf))?;
        Poll::Ready(Ok(buf.filled().len()))
    }
}

impl futures::io::AsyncWrite for Pipe {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, data)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }
    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// Serves one connection to its end.
type Handler = Arc<dyn Fn(DuplexStream) -> BoxFuture<'static, ()> + Send + Sync>;

/// A network of handlers by address.
pub(crate) struct TestNet {
    hosts: BTreeMap<&'static str, Handler>,
    connects: AtomicUsize,
}

impl std::fmt::Debug for TestNet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.hosts.keys()).finish()
    }
}

impl TestNet {
    pub(crate) fn new<const N: usize>(hosts: [(&'static str, Handler); N]) -> Arc<TestNet> {
        Arc::new(TestNet { hosts: hosts.into(), connects: AtomicUsize::new(0) })
    }

    /// How many connections were made.
    pub(crate) fn connects(&self) -> usize {
        self.connects.load(Ordering::Relaxed)
    }
}

impl Net for TestNet {
    fn connect<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Box<dyn ClientIo>>> {
        Box::pin(async move {
            let handler = self.hosts.get(address).ok_or(io::ErrorKind::ConnectionRefused)?;
            self.connects.fetch_add(1, Ordering::Relaxed);
            let (ours, theirs) = tokio::io::duplex(64 << 10);
            tokio::spawn(handler(theirs));
            Ok(Box::new(Pipe(ours)) as Box<dyn ClientIo>)
        })
    }
    fn listen(&self, _: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Listener>>> {
        Box::pin(async { Err(io::ErrorKind::Unsupported.into()) })
    }
    fn bind_datagram(&self, _: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn DatagramSocket>>> {
        Box::pin(async { Err(io::ErrorKind::Unsupported.into()) })
    }
    fn resolve<'a>(&'a self, _: &'a str) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
        Box::pin(async { Err(io::ErrorKind::Unsupported.into()) })
    }
}

/// The ports of a test whose node has these files.
pub(crate) fn ports_with<const N: usize>(
    net: Arc<TestNet>,
    files: [(&'static str, &'static [u8]); N],
) -> ScraperPorts {
    let files = files.into_iter().map(|(path, contents)| (path, contents.to_vec())).collect();
    ScraperPorts {
        clock: Arc::new(TestClock),
        net,
        fs: Arc::new(TestFs { files, gate: Gate::default() }),
        spawner: Arc::new(TestSpawner),
        secrets: Arc::default(),
        bodies: Arc::default(),
    }
}

/// The ports of a test whose files below `/mnt` are behind a gate.
pub(crate) fn ports_behind<const N: usize>(
    gate: &Gate,
    files: [(&'static str, &'static [u8]); N],
) -> ScraperPorts {
    let files = files.into_iter().map(|(path, contents)| (path, contents.to_vec())).collect();
    let fs = Arc::new(TestFs { files, gate: gate.clone() });
    ScraperPorts { fs, spawner: Arc::new(ThreadSpawner), ..ports(TestNet::new([])) }
}

/// The ports of a test.
pub(crate) fn ports(net: Arc<TestNet>) -> ScraperPorts {
    ports_with(net, [])
}

/// An answer.
pub(crate) struct Answer {
    status: String,
    content_type: String,
    headers: String,
    body: Vec<u8>,
    raw: Option<String>,
    after: Duration,
    close: bool,
}

/// 200 with a body in the text format.
pub(crate) fn ok(body: &str) -> Answer {
    Answer {
        status: "200 OK".to_owned(),
        content_type: "text/plain; version=0.0.4".to_owned(),
        headers: String::new(),
        body: body.as_bytes().to_vec(),
        raw: None,
        after: Duration::ZERO,
        close: false,
    }
}

impl Answer {
    pub(crate) fn status(mut self, status: &str) -> Answer {
        status.clone_into(&mut self.status);
        self
    }

    pub(crate) fn content_type(mut self, content_type: &str) -> Answer {
        content_type.clone_into(&mut self.content_type);
        self
    }

    pub(crate) fn header(mut self, line: &str) -> Answer {
        self.headers.push_str(line);
        self.headers.push_str("\r\n");
        self
    }

    pub(crate) fn gzip(mut self) -> Answer {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(&self.body).expect("into memory");
        self.body = encoder.finish().expect("into memory");
        self.header("Content-Encoding: gzip")
    }

    pub(crate) fn after(mut self, pause: Duration) -> Answer {
        self.after = pause;
        self
    }

    /// Closes the connection behind the answer without saying so before.
    pub(crate) fn closing(mut self) -> Answer {
        self.close = true;
        self
    }

    /// These bytes and nothing else.
    pub(crate) fn raw(mut self, bytes: &str) -> Answer {
        self.raw = Some(bytes.to_owned());
        self
    }

    fn bytes(&self) -> Vec<u8> {
        if let Some(raw) = &self.raw {
            return raw.as_bytes().to_vec();
        }
        let head = format!(
            "HTTP/1.1 {}\r\nContent-Type: {}\r\nContent-Length: {}\r\n{}\r\n",
            self.status,
            self.content_type,
            self.body.len(),
            self.headers
        );
        [head.as_bytes(), &self.body].concat()
    }
}

/// Reads a request to its empty line.
async fn request<S: AsyncRead + Unpin>(stream: &mut S) -> Option<String> {
    let mut text = Vec::new();
    while !text.ends_with(b"\r\n\r\n") {
        text.push(stream.read_u8().await.ok()?);
    }
    String::from_utf8(text).ok()
}

type Answers = Arc<dyn Fn(&str) -> Answer + Send + Sync>;

/// Answers each request of a connection.
pub(crate) fn respond(answer: impl Fn(&str) -> Answer + Send + Sync + 'static) -> Handler {
    let answers: Answers = Arc::new(answer);
    Arc::new(move |stream| Box::pin(serve(stream, answers.clone())))
}

async fn serve<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, answers: Answers) {
    while let Some(request) = request(&mut stream).await {
        let answer = answers(&request);
        tokio::time::sleep(answer.after).await;
        if stream.write_all(&answer.bytes()).await.is_err() || answer.close {
            return;
        }
        let _ = stream.flush().await;
    }
}

/// The same behind TLS, with a certificate for `a` and `127.0.0.1` by [`TEST_AUTHORITY`]. If `client_auth`, only
/// clients are served that have a certificate of the same authority.
pub(crate) fn respond_tls(
    client_auth: bool,
    answer: impl Fn(&str) -> Answer + Send + Sync + 'static,
) -> Handler {
    let answers: Answers = Arc::new(answer);
    let acceptor = tokio_rustls::TlsAcceptor::from(server_config(client_auth));
    Arc::new(move |stream| {
        let (acceptor, answers) = (acceptor.clone(), answers.clone());
        Box::pin(async move {
            if let Ok(stream) = acceptor.accept(stream).await {
                serve(stream, answers).await;
            }
        })
    })
}

/// Who signed the certificates of the tests.
pub(crate) const TEST_AUTHORITY: &[u8] = include_bytes!("fetch/testdata/ca.pem");
/// A certificate for `a`.
pub(crate) const TEST_CERT: &[u8] = include_bytes!("fetch/testdata/leaf.pem");
/// Its key.
pub(crate) const TEST_KEY: &[u8] = include_bytes!("fetch/testdata/leaf.key");

fn server_config(client_auth: bool) -> Arc<rustls::ServerConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let authority = CertificateDer::from_pem_slice(TEST_AUTHORITY).expect("a certificate");
    let mut roots = rustls::RootCertStore::empty();
    roots.add(authority).expect("an authority");
    let builder = rustls::ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .expect("ring has them");
    let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    let builder = if client_auth {
        builder.with_client_cert_verifier(verifier.build().expect("a verifier"))
    } else {
        builder.with_no_client_auth()
    };
    let cert = CertificateDer::from_pem_slice(TEST_CERT).expect("a certificate");
    let key = PrivateKeyDer::from_pem_slice(TEST_KEY).expect("a key");
    Arc::new(builder.with_single_cert(vec![cert], key).expect("a pair"))
}

/// Sends a body for ever, a piece at a time.
pub(crate) fn respond_slowly(piece: &'static str, pause: Duration) -> Handler {
    Arc::new(move |mut stream| {
        Box::pin(async move {
            let _ = request(&mut stream).await;
            let head = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n";
            let mut sent = stream.write_all(head.as_bytes()).await;
            while sent.is_ok() {
                tokio::time::sleep(pause).await;
                sent = stream.write_all(format!("{:x}\r\n{piece}\r\n", piece.len()).as_bytes()).await;
            }
        })
    })
}
