//! The outside, as traits: production and the simulator each supply one of every kind.
//!
//! Waiting is `tokio::time`, which a simulator can pause; everything else that touches the world stands here.

use crate::{LogIndex, NodeId, ShardId, Term, TimestampMs};
use bytes::Bytes;
use futures::channel::oneshot;
use std::{
    fmt::Debug,
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    pin::Pin,
    time::Duration,
};

/// A future behind a pointer.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Two clocks: one of the world, which may jump, and one that only rises.
pub trait Clock: Send + Sync + Debug {
    /// Wall-clock time. May step in both directions.
    fn now(&self) -> TimestampMs;
    /// Time since some fixed point; never goes back, does not jump with the wall clock.
    fn monotonic(&self) -> Duration;
}

/// The random source.
pub trait Rng: Send + Sync + Debug {
    /// 64 random bits.
    fn next_u64(&self) -> u64;

    /// A number in `0..bound`; `bound` must not be 0.
    fn below(&self, bound: u64) -> u64 {
        self.next_u64() % bound
    }
}

/// Starts tasks. Blocking work goes through it, so that a simulator can run it inline.
pub trait Spawner: Send + Sync + Debug {
    /// Starts a task; `name` shows up in logs.
    fn spawn(&self, name: &'static str, task: BoxFuture<'static, ()>);

    /// Makes of a task one that the process cannot do without: should it panic, production ends the process, because
    /// a node that has lost a part without a word is worse than one that is gone and replaced by the others.
    fn vital(&self, name: &'static str, task: BoxFuture<'static, ()>) -> BoxFuture<'static, ()> {
        let _ = name;
        task
    }

    /// Runs work that blocks (disk, long computation) outside the async threads and waits for it.
    fn blocking(&self, name: &'static str, work: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, ()>;

    /// Starts a thread that lives until `work` returns, and is vital, as [`Spawner::vital`] says; a simulator may refuse
    /// and the caller then works inline.
    ///
    /// # Errors
    /// If the system gives no thread.
    fn thread(&self, name: &'static str, work: Box<dyn FnOnce() + Send>) -> io::Result<()>;

    /// How many pieces of [`Spawner::side_by_side`] can run at once; 1 is one after the other.
    fn width(&self) -> usize {
        1
    }

    /// Runs pieces of computation, several at once where cores are free, and returns when the last has ended. Who comes
    /// later gets a core back between two pieces. Which runs when must not matter.
    fn side_by_side<'w>(&self, work: Vec<Work<'w>>) {
        work.into_iter().for_each(|work| work());
    }

    /// Said by work that takes long, on the thread that does it: others go first from now on, until it is done.
    fn step_back(&self) {}
}

/// Runs a `job` as [`Spawner::blocking`] and gives back what it returned; `None` if it panicked.
pub async fn run_blocking<T: Send + 'static>(
    spawner: &dyn Spawner,
    name: &'static str,
    job: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let (told, wait) = oneshot::channel();
    spawner.blocking(name, Box::new(move || drop(told.send(job())))).await;
    wait.await.ok()
}

/// A piece of computation.
pub type Work<'w> = Box<dyn FnOnce() + Send + 'w>;

/// How a file is opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OpenOptions {
    /// Open for writing, too.
    pub write: bool,
    /// Create it if it does not exist.
    pub create: bool,
    /// Fail if it exists already.
    pub exclusive: bool,
    /// Cut it to no bytes.
    pub truncate: bool,
}

/// An open file; positions are explicit.
pub trait File: Send + Sync + Debug {
    /// Fills `buf` from `offset`.
    ///
    /// # Errors
    /// As the system says; a short file is `UnexpectedEof`.
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()>;
    /// Writes all of `data` at `offset`.
    ///
    /// # Errors
    /// As the system says.
    fn write_all_at(&self, data: &[u8], offset: u64) -> io::Result<()>;
    /// Length in bytes.
    ///
    /// # Errors
    /// As the system says.
    fn len(&self) -> io::Result<u64>;
    /// Whether it has no bytes.
    ///
    /// # Errors
    /// As the system says.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
    /// Cuts or extends it.
    ///
    /// # Errors
    /// As the system says.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Makes sure that writes from `from` up to `upto` find room; neither length nor contents change. A file system
    /// that cannot promise it says nothing: then the writes themselves may fail.
    ///
    /// # Errors
    /// As the system says; `StorageFull` if there is no room.
    fn reserve(&self, from: u64, upto: u64) -> io::Result<()> {
        let _cannot = (from, upto);
        Ok(())
    }
    /// Makes data and length durable (`fdatasync`). After an error the file's contents are unknown: never retry.
    ///
    /// # Errors
    /// As the system says.
    fn sync(&self) -> io::Result<()>;
}

/// A file system.
pub trait Fs: Send + Sync + Debug {
    /// Opens a file.
    ///
    /// # Errors
    /// As the system says.
    fn open(&self, path: &Path, options: OpenOptions) -> io::Result<Box<dyn File>>;
    /// Creates a directory and those above it.
    ///
    /// # Errors
    /// As the system says.
    fn create_dir_all(&self, path: &Path) -> io::Result<()>;
    /// Names in a directory, sorted; an error if it does not exist.
    ///
    /// # Errors
    /// As the system says.
    fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>>;
    /// Whether something is there.
    fn exists(&self, path: &Path) -> bool;
    /// Renames, replacing what is at `to`. Durable only after [`Fs::sync_dir`].
    ///
    /// # Errors
    /// As the system says.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    ///
    /// # Errors
    /// As the system says.
    fn remove_file(&self, path: &Path) -> io::Result<()>;
    /// Removes a directory and all in it.
    ///
    /// # Errors
    /// As the system says.
    fn remove_dir_all(&self, path: &Path) -> io::Result<()>;
    /// Makes creations, renames and removals in a directory durable.
    ///
    /// # Errors
    /// As the system says.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
    /// Bytes free for us on the file system of `path`.
    ///
    /// # Errors
    /// As the system says.
    fn free_bytes(&self, path: &Path) -> io::Result<u64>;

    /// Reads a whole file.
    ///
    /// # Errors
    /// As the system says.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let file = self.open(path, OpenOptions::default())?;
        let mut bytes = vec![0; usize::try_from(file.len()?).map_err(io::Error::other)?];
        file.read_exact_at(&mut bytes, 0)?;
        Ok(bytes)
    }

    /// Replaces a file as a whole: written beside it, synced, renamed, directory synced.
    ///
    /// # Errors
    /// As the system says; the old contents are then still there.
    fn replace(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let part = path.with_extension("part");
        let file =
            self.open(&part, OpenOptions { write: true, create: true, truncate: true, exclusive: false })?;
        file.write_all_at(bytes, 0)?;
        crate::point!("file.replace.written");
        file.sync()?;
        drop(file);
        crate::point!("file.replace.synced");
        self.rename(&part, path)?;
        crate::point!("file.replace.renamed");
        self.sync_dir(path.parent().unwrap_or(Path::new(".")))
    }
}

/// A byte stream to a peer.
pub trait ClientIo: futures::io::AsyncRead + futures::io::AsyncWrite + Send + Unpin {}
impl<T: futures::io::AsyncRead + futures::io::AsyncWrite + Send + Unpin> ClientIo for T {}

/// Accepts connections.
pub trait Listener: Send + Sync + Debug {
    /// Waits for the next connection.
    fn accept(&self) -> BoxFuture<'_, io::Result<(Box<dyn ClientIo>, SocketAddr)>>;
    /// Where it listens.
    ///
    /// # Errors
    /// As the system says.
    fn local_addr(&self) -> io::Result<SocketAddr>;
}

/// Sends and receives datagrams.
pub trait DatagramSocket: Send + Sync + Debug {
    /// Sends one datagram.
    fn send_to<'a>(&'a self, data: &'a [u8], to: SocketAddr) -> BoxFuture<'a, io::Result<usize>>;
    /// Receives one datagram.
    fn recv_from<'a>(&'a self, buf: &'a mut [u8]) -> BoxFuture<'a, io::Result<(usize, SocketAddr)>>;
    /// Where it listens.
    ///
    /// # Errors
    /// As the system says.
    fn local_addr(&self) -> io::Result<SocketAddr>;
}

/// The network.
pub trait Net: Send + Sync + Debug {
    /// Connects to `HOST:PORT`; the caller bounds the time.
    fn connect<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Box<dyn ClientIo>>>;
    /// Listens for connections.
    fn listen(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Listener>>>;
    /// Opens a datagram socket.
    fn bind_datagram(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn DatagramSocket>>>;
    /// Resolves `HOST:PORT`.
    fn resolve<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>>;
}

/// How a proposal ended, if not by being committed and applied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// It is certain that the command was not and will not be applied.
    #[error("refused: {reason}")]
    Refused {
        /// Why.
        reason: String,
        /// Who leads the shard, as far as this node knows.
        leader: Option<NodeId>,
    },
    /// The command may have been applied or may yet be. A duty never retries it.
    #[error("outcome unknown: {reason}")]
    Unknown {
        /// Why.
        reason: String,
    },
}

/// Puts commands into a shard's log, on the shard's leader only: never forwards.
pub trait Proposer: Send + Sync + Debug {
    /// Proposes `command` and waits until it is committed and applied here; yields its index and apply's response.
    /// With a `term` the proposal is refused in any other term.
    fn propose(
        &self,
        shard: ShardId,
        term: Option<Term>,
        command: Bytes,
    ) -> BoxFuture<'_, Result<(LogIndex, Bytes), ProposeError>>;
}
