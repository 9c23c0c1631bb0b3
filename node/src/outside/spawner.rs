//! Tasks on tokio, threads of the system.

use model::{BoxFuture, Spawner};
use std::io;
use tokio::{runtime::Handle, sync::oneshot};

/// Spawns on one tokio runtime; blocking work on its blocking threads.
#[derive(Clone, Debug)]
pub struct TokioSpawner {
    runtime: Handle,
}

impl TokioSpawner {
    /// Spawns on `runtime`.
    #[must_use]
    pub fn new(runtime: Handle) -> TokioSpawner {
        TokioSpawner { runtime }
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
}
