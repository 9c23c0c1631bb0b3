//! One thread for the HTTP API: it reads requests, asks peers how far their logs reach, evaluates what is small and
//! writes answers. None of these has to wait for another thread to wake up, which costs more than all of them.

use super::TokioSpawner;
use model::Spawner;
use std::{io, sync::Arc, thread};
use tokio::{
    runtime::{Builder, Handle},
    sync::watch,
};

/// The thread. It ends when this is dropped, and with it what runs on it.
#[derive(Debug)]
pub struct WebThread {
    runtime: Handle,
    _stop: watch::Sender<()>,
}

impl WebThread {
    /// Starts it.
    ///
    /// # Errors
    /// As the system says.
    pub fn start() -> io::Result<WebThread> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (stop, mut stopped) = watch::channel(());
        let run = move || {
            runtime.block_on(async { while stopped.changed().await.is_ok() {} });
            runtime.shutdown_background();
        };
        thread::Builder::new().name("web".to_owned()).spawn(run)?;
        Ok(WebThread { runtime: handle, _stop: stop })
    }

    /// Its runtime.
    #[must_use]
    pub fn runtime(&self) -> Handle {
        self.runtime.clone()
    }

    /// Spawns tasks on it; work that blocks goes where that of `other` goes.
    #[must_use]
    pub fn spawner(&self, other: &TokioSpawner) -> Arc<dyn Spawner> {
        Arc::new(other.on(self.runtime.clone()))
    }
}
