//! Threads on which entries are applied, so that a state machine that works never delays a heartbeat. What waits for
//! the disk (a checkpoint, the installation of a snapshot) is done beside them: few as they are, two shards whose disk is
//! slow would stop all others.

use model::{Spawner, run_blocking};
use std::{
    fmt, io,
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    time::Duration,
};
use tokio::sync::oneshot;

type Work = Box<dyn FnOnce() + Send>;

/// Jobs that wait for a thread. Each group has at most a few at once, so this is never reached in practice.
const QUEUE_MAX: usize = 1024;
/// How long a caller waits when the queue is full.
const PATIENCE: Duration = Duration::from_millis(5);

/// Runs work of all groups on a few threads of its own; inline where there are none.
#[derive(Clone)]
pub(crate) struct ApplyPool {
    queue: Option<SyncSender<Work>>,
    spawner: Arc<dyn Spawner>,
}

impl fmt::Debug for ApplyPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApplyPool").field("inline", &self.queue.is_none()).finish()
    }
}

fn run(work: &Mutex<Receiver<Work>>) {
    loop {
        let next = work.lock().unwrap_or_else(PoisonError::into_inner).recv();
        match next {
            Ok(job) => job(),
            Err(_) => return, // every handle is gone
        }
    }
}

impl ApplyPool {
    /// Work is done by the caller.
    pub(crate) fn inline(spawner: Arc<dyn Spawner>) -> ApplyPool {
        ApplyPool { queue: None, spawner }
    }

    /// Starts `threads` threads; works inline where the spawner gives none.
    pub(crate) fn start(spawner: Arc<dyn Spawner>, threads: usize) -> io::Result<ApplyPool> {
        let (queue, work) = sync_channel::<Work>(QUEUE_MAX);
        let work = Arc::new(Mutex::new(work));
        for _ in 0..threads {
            let work = work.clone();
            match spawner.thread("apply", Box::new(move || run(&work))) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::Unsupported => {
                    return Ok(ApplyPool::inline(spawner));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(ApplyPool { queue: Some(queue), spawner })
    }

    /// Runs a `job` that waits for the disk, beside the threads that apply, and gives back what it returned; `None` if it
    /// panicked.
    pub(crate) async fn run_aside<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        run_blocking(&*self.spawner, "checkpoint", job).await
    }

    /// Runs `job` and gives back what it returned; `None` if the threads are gone or it panicked.
    pub(crate) async fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        let Some(queue) = &self.queue else { return Some(job()) };
        let (told, wait) = oneshot::channel();
        let mut work: Work = Box::new(move || drop(told.send(job())));
        loop {
            match queue.try_send(work) {
                Ok(()) => return wait.await.ok(),
                Err(TrySendError::Full(back)) => {
                    work = back;
                    tokio::time::sleep(PATIENCE).await;
                }
                Err(TrySendError::Disconnected(_)) => return None,
            }
        }
    }
}
