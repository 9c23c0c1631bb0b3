//! Tasks on tokio, threads of the system.
//!
//! A vital task or a thread that panics ends the process at once, without finishing anything: what it left half done
//! in memory must not reach the disk, and Raft lets the other nodes go on within a second.

use futures::FutureExt;
use model::{BoxFuture, Spawner, Work};
use std::{
    fmt, io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};
use tokio::{runtime::Handle, sync::oneshot};

/// Spawns on one tokio runtime; blocking work on its blocking threads.
#[derive(Clone)]
pub struct TokioSpawner {
    runtime: Handle,
    /// Pieces that can run at once: the cores that this process may use.
    width: usize,
    /// Cores that nobody computes on side by side with others.
    spare: Arc<AtomicUsize>,
    /// What follows the panic of something vital, whose name it gets.
    end: fn(&'static str),
}

impl fmt::Debug for TokioSpawner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokioSpawner").field("width", &self.width).finish_non_exhaustive()
    }
}

/// Ends the process; the panic itself was printed where it happened.
fn end_process(task: &'static str) {
    tracing::error!(task, "a part that this node cannot do without panicked: the process ends");
    std::process::abort();
}

impl TokioSpawner {
    /// Spawns on `runtime`.
    #[must_use]
    pub fn new(runtime: Handle) -> TokioSpawner {
        let width = std::thread::available_parallelism().map_or(1, usize::from);
        TokioSpawner { runtime, width, spare: Arc::new(AtomicUsize::new(width - 1)), end: end_process }
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

    fn vital(&self, name: &'static str, task: BoxFuture<'static, ()>) -> BoxFuture<'static, ()> {
        let end = self.end;
        Box::pin(async move {
            if AssertUnwindSafe(task).catch_unwind().await.is_err() {
                end(name);
            }
        })
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
        let end = self.end;
        let guarded = move || {
            if catch_unwind(AssertUnwindSafe(work)).is_err() {
                end(name);
            }
        };
        std::thread::Builder::new().name(name.into()).spawn(guarded).map(drop)
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::{sync::mpsc, time::Duration};

    static ENDED: Mutex<Vec<&str>> = Mutex::new(Vec::new());

    fn note(name: &'static str) {
        ENDED.lock().unwrap_or_else(PoisonError::into_inner).push(name);
    }

    #[tokio::test]
    async fn a_vital_task_and_a_thread_that_panic_end_the_process_and_others_do_not() {
        let spawner = TokioSpawner { end: note, ..TokioSpawner::new(Handle::current()) };
        spawner.spawn("harmless", Box::pin(async { panic!("on purpose") }));
        spawner.vital("good", Box::pin(async {})).await;
        spawner.vital("vital", Box::pin(async { panic!("on purpose") })).await;
        let (gone, wait) = mpsc::channel::<()>();
        let work = move || {
            let _gone = gone;
            panic!("on purpose");
        };
        spawner.thread("thread", Box::new(work)).expect("a thread");
        wait.recv_timeout(Duration::from_secs(60)).expect_err("nothing is sent");
        let both = || *ENDED.lock().unwrap_or_else(PoisonError::into_inner) == ["vital", "thread"];
        while !both() {
            tokio::task::yield_now().await;
        }
    }
}
