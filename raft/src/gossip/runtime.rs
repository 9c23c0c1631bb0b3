//! Tokio for memberlist, with somebody who is told when one of memberlist's tasks panics: it starts none of them again,
//! and what is left of it hears or says nothing.
//!
//! Which list a task belongs to is a task-local value that each task hands on to those it starts.

use futures::FutureExt;
use memberlist::agnostic::{
    AsyncAfterSpawner, AsyncSpawner, RuntimeLite, Yielder,
    tokio::{
        TokioAfterHandle, TokioDelay, TokioInterval, TokioRuntime, TokioSleep, TokioSpawner, TokioTimeout,
    },
};
use std::{
    panic::{AssertUnwindSafe, resume_unwind},
    sync::Arc,
    time::Duration,
};
use tokio::{sync::watch, task::JoinHandle, time::Instant};

tokio::task_local!(static HEALTH: Health);

/// Whether all tasks of one list are well.
#[derive(Clone, Debug)]
pub(super) struct Health(Arc<watch::Sender<bool>>);

impl Health {
    pub(super) fn new() -> Health {
        Health(Arc::new(watch::Sender::new(true)))
    }

    /// Runs `work`, and all that it starts, as a part of the list.
    pub(super) async fn guard<F: Future>(&self, work: F) -> F::Output {
        let guarded = HEALTH.scope(self.clone(), AssertUnwindSafe(work).catch_unwind()).await;
        guarded.unwrap_or_else(|panic| {
            self.0.send_replace(false);
            resume_unwind(panic)
        })
    }

    /// Waits until a task has panicked.
    pub(super) async fn lost(&self) {
        self.0.subscribe().wait_for(|well| !well).await.ok();
    }
}

/// `work` as a part of the list that the present task belongs to.
async fn inherited<F: Future>(health: Option<Health>, work: F) -> F::Output {
    match health {
        Some(health) => health.guard(work).await,
        None => work.await,
    }
}

fn health() -> Option<Health> {
    HEALTH.try_with(Clone::clone).ok()
}

/// Tokio whose tasks are guarded.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Guarded;

impl Yielder for Guarded {
    async fn yield_now() {
        tokio::task::yield_now().await;
    }
    async fn yield_now_local() {
        tokio::task::yield_now().await;
    }
}

impl AsyncSpawner for Guarded {
    type JoinHandle<O>
        = JoinHandle<O>
    where
        O: Send + 'static;

    fn spawn<F>(future: F) -> JoinHandle<F::Output>
    where
        F::Output: Send + 'static,
        F: Future + Send + 'static,
    {
        tokio::spawn(inherited(health(), future))
    }
}

impl AsyncAfterSpawner for Guarded {
    type Instant = Instant;
    type JoinHandle<O>
        = TokioAfterHandle<O>
    where
        O: Send + 'static;

    fn spawn_after<F>(duration: Duration, future: F) -> TokioAfterHandle<F::Output>
    where
        F::Output: Send + 'static,
        F: Future + Send + 'static,
    {
        TokioSpawner::spawn_after(duration, inherited(health(), future))
    }

    fn spawn_after_at<F>(at: Instant, future: F) -> TokioAfterHandle<F::Output>
    where
        F::Output: Send + 'static,
        F: Future + Send + 'static,
    {
        TokioSpawner::spawn_after_at(at, inherited(health(), future))
    }
}

/// All but the tasks is tokio's.
impl RuntimeLite for Guarded {
    type Spawner = Guarded;
    type LocalSpawner = TokioSpawner;
    type BlockingSpawner = TokioSpawner;
    type Instant = Instant;
    type AfterSpawner = Guarded;
    type Interval = TokioInterval;
    type LocalInterval = TokioInterval;
    type Sleep = TokioSleep;
    type LocalSleep = TokioSleep;
    type Delay<F>
        = TokioDelay<F>
    where
        F: Future + Send;
    type LocalDelay<F>
        = TokioDelay<F>
    where
        F: Future;
    type Timeout<F>
        = TokioTimeout<F>
    where
        F: Future + Send;
    type LocalTimeout<F>
        = TokioTimeout<F>
    where
        F: Future;

    fn new() -> Self {
        Guarded
    }
    fn name() -> &'static str {
        "tokio"
    }
    fn fqname() -> &'static str {
        "tokio"
    }
    fn block_on<F: Future>(future: F) -> F::Output {
        TokioRuntime::block_on(future)
    }
    async fn yield_now() {
        tokio::task::yield_now().await;
    }
    fn interval(interval: Duration) -> TokioInterval {
        TokioRuntime::interval(interval)
    }
    fn interval_at(start: Instant, period: Duration) -> TokioInterval {
        TokioRuntime::interval_at(start, period)
    }
    fn interval_local(interval: Duration) -> TokioInterval {
        TokioRuntime::interval_local(interval)
    }
    fn interval_local_at(start: Instant, period: Duration) -> TokioInterval {
        TokioRuntime::interval_local_at(start, period)
    }
    fn sleep(duration: Duration) -> TokioSleep {
        TokioRuntime::sleep(duration)
    }
    fn sleep_until(instant: Instant) -> TokioSleep {
        TokioRuntime::sleep_until(instant)
    }
    fn sleep_local(duration: Duration) -> TokioSleep {
        TokioRuntime::sleep_local(duration)
    }
    fn sleep_local_until(instant: Instant) -> TokioSleep {
        TokioRuntime::sleep_local_until(instant)
    }
    fn delay<F: Future + Send>(duration: Duration, future: F) -> TokioDelay<F> {
        TokioRuntime::delay(duration, future)
    }
    fn delay_local<F: Future>(duration: Duration, future: F) -> TokioDelay<F> {
        TokioRuntime::delay_local(duration, future)
    }
    fn delay_at<F: Future + Send>(deadline: Instant, future: F) -> TokioDelay<F> {
        TokioRuntime::delay_at(deadline, future)
    }
    fn delay_local_at<F: Future>(deadline: Instant, future: F) -> TokioDelay<F> {
        TokioRuntime::delay_local_at(deadline, future)
    }
    fn timeout<F: Future + Send>(duration: Duration, future: F) -> TokioTimeout<F> {
        TokioRuntime::timeout(duration, future)
    }
    fn timeout_at<F: Future + Send>(deadline: Instant, future: F) -> TokioTimeout<F> {
        TokioRuntime::timeout_at(deadline, future)
    }
    fn timeout_local<F: Future>(duration: Duration, future: F) -> TokioTimeout<F> {
        TokioRuntime::timeout_local(duration, future)
    }
    fn timeout_local_at<F: Future>(deadline: Instant, future: F) -> TokioTimeout<F> {
        TokioRuntime::timeout_local_at(deadline, future)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_in_a_task_of_a_task_is_told_to_the_list_it_belongs_to() {
        let (hurt, well) = (Health::new(), Health::new());
        let tasks = async {
            let timer = async { panic!("on purpose") };
            let task = async { drop(<Guarded as RuntimeLite>::spawn_after(Duration::ZERO, timer)) };
            drop(<Guarded as RuntimeLite>::spawn(task));
        };
        hurt.guard(tasks).await;
        well.guard(async { drop(<Guarded as RuntimeLite>::spawn(async {})) }).await;
        hurt.lost().await;
        assert!(*well.0.borrow());
    }
}
