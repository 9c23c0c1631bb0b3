//! Tasks on tokio, threads of the system.

use model::{BoxFuture, Spawner, Work};
use std::{
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};
use tokio::{runtime::Handle, sync::oneshot};

/// Spawns on one tokio runtime; blocking work on its blocking threads.
#[derive(Clone, Debug)]
pub struct TokioSpawner {
    runtime: Handle,
    /// Pieces that can run at once: the cores that this process may use.
    width: usize,
    /// Cores that nobody computes on side by side with others.
    spare: Arc<AtomicUsize>,
}

impl TokioSpawner {
    /// Spawns on `runtime`.
    #[must_use]
    pub fn new(runtime: Handle) -> TokioSpawner {
        let width = std::thread::available_parallelism().map_or(1, usize::from);
        TokioSpawner { runtime, width, spare: Arc::new(AtomicUsize::new(width - 1)) }
    }

    fn take_spare(&self) -> bool {
        let less = |spare: usize| spare.checked_sub(1);
        self.spare.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok()
    }
}

impl Spawner for TokioSpawner {
    fn spawn(&self, _name: &'static str, task: BoxFuture<'static, ()>) {
        self.runtime.spawn(task);
    }

    fn blocking(&self, _name: &'static str, work: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, ()> {
        let (done, wait) = oneshot::channel::<()>();
        self.runtime.spawn_blocking(move || {
            work();
            drop(done);
        });
        Box::pin(async move {
            let _ended = wait.await;
        })
    }

    fn thread(&self, name: &'static str, work: Box<dyn FnOnce() + Send>) -> io::Result<()> {
        std::thread::Builder::new().name(name.into()).spawn(work).map(drop)
    }

    fn width(&self) -> usize {
        self.width
    }

    fn side_by_side<'w>(&self, work: Vec<Work<'w>>) {
        let helpers = (1..work.len().min(self.width)).take_while(|_| self.take_spare()).count();
        let queue = Mutex::new(work.into_iter());
        let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).next();
        let run = || {
            while let Some(work) = next() {
                work();
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..helpers {
                scope.spawn(run);
            }
            run();
        });
        self.spare.fetch_add(helpers, Ordering::Relaxed);
    }
}
