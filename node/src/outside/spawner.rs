//! Tasks on tokio, threads of the system.
//!
//! A vital task or a thread that panics ends the process at once, without finishing anything: what it left half done
//! in memory must not reach the disk, and Raft lets the other nodes go on within a second.

use super::pool::{self, Pool};
use futures::FutureExt;
use model::{BoxFuture, Spawner, Work};
use std::{
    fmt, io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{runtime::Handle, sync::oneshot};

/// Spawns on one tokio runtime; blocking work on threads beside it.
#[derive(Clone)]
pub struct TokioSpawner {
    runtime: Handle,
    pool: Arc<Pool>,
    /// Pieces that can run at once: the cores that this process may use.
    width: usize,
    /// Threads that help with work side by side.
    helpers: Arc<AtomicUsize>,
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
        let pool = Pool::new(runtime.clone());
        TokioSpawner { runtime, pool, width, helpers: Arc::default(), end: end_process }
    }

    /// The same, with tasks on another runtime.
    pub(super) fn on(&self, runtime: Handle) -> TokioSpawner {
        TokioSpawner { runtime, ..self.clone() }
    }

    /// Waits until work that blocks is done, or `patience` ends: to be called before the process ends.
    pub fn settle(&self, patience: Duration) {
        self.pool.settle(patience);
    }

    /// Takes a core that nobody works on, if there is one.
    fn take_core(&self) -> bool {
        let busy = self.pool.busy();
        let more = |helpers: usize| (busy + helpers < self.width).then_some(helpers + 1);
        self.helpers.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }

    /// Whether there is more work than cores: then who helps leaves its core to others.
    fn is_crowded(&self) -> bool {
        self.pool.busy() + self.helpers.load(Ordering::Relaxed) > self.width
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
        self.pool.run(Box::new(move || {
            work();
            drop(done);
        }));
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
        let helpers = (1..work.len().min(self.width)).take_while(|_| self.take_core()).count();
        let queue = Mutex::new(work.into_iter());
        let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).next();
        let run = |stay: &dyn Fn() -> bool| {
            while stay()
                && let Some(work) = next()
            {
                work();
            }
        };
        let help = || {
            let _core = Core(&self.helpers);
            pool::may_step_back();
            run(&|| !self.is_crowded());
        };
        std::thread::scope(|scope| {
            for _ in 0..helpers {
                scope.spawn(help);
            }
            run(&|| true);
        });
    }

    fn step_back(&self) {
        pool::step_back();
    }
}

/// A core taken, until it is dropped.
struct Core<'c>(&'c AtomicUsize);

impl Drop for Core<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
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
