//! Threads for work that blocks. They are kept for a while, but for those whose work stepped back: the system lets a
//! thread become less urgent, not more urgent again, so such a thread ends with its work.

use std::{
    cell::Cell,
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::runtime::Handle;

/// Threads at most; further work waits for one.
const THREADS_MAX: usize = 512;
/// How long a thread waits for more work.
const KEPT: Duration = Duration::from_secs(10);
/// How much less urgent a thread is that has stepped back: it gets a ninth of the processor beside one that has not.
const NICENESS: i32 = 10;

/// How long a turn on the processor such a thread asks for, which is the longest there is.
const TURN: Duration = Duration::from_millis(100);

type Job = Box<dyn FnOnce() + Send>;

thread_local! {
    /// Whether this thread may step back, and has.
    static STANCE: Cell<Stance> = const { Cell::new(Stance::Vital) };
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stance {
    /// Others wait for what it does next.
    Vital,
    Usual,
    SteppedBack,
}

/// This thread does one piece of work after the other, or just one, and may step back with it.
pub(super) fn may_step_back() {
    STANCE.set(Stance::Usual);
}

/// Makes this thread less urgent, for as long as it lives, if it may be.
pub(super) fn step_back() {
    if STANCE.get() != Stance::Usual {
        return;
    }
    STANCE.set(Stance::SteppedBack);
    // SAFETY: plain system calls. On Linux 0 stands for the calling thread.
    #[expect(unsafe_code, reason = "the standard library does not set priorities")]
    let set = unsafe {
        // A whole process that was started less urgent must not become more so, which root may.
        let usual = libc::getpriority(libc::PRIO_PROCESS, 0);
        libc::setpriority(libc::PRIO_PROCESS, 0, NICENESS.max(usual))
    };
    if set != 0 {
        tracing::debug!(error = %std::io::Error::last_os_error(), "a thread cannot step back");
    }
    take_long_turns();
}

/// Asks the system for long turns for this thread: one that wakes up with shorter ones takes the processor from it at
/// once, instead of waiting for the end of a turn. Known to Linux since 6.12; before that it changes nothing.
fn take_long_turns() {
    #[expect(unsafe_code, reason = "the standard library does not ask for turns")]
    let asked = {
        // SAFETY: numbers only, for which zeros are valid.
        let mut attr: libc::sched_attr = unsafe { std::mem::zeroed() };
        let size = u32::try_from(size_of::<libc::sched_attr>()).expect("a few words");
        // SAFETY: a system call that writes at most `size` bytes to `attr`; 0 stands for the calling thread.
        let got = unsafe { libc::syscall(libc::SYS_sched_getattr, 0, &raw mut attr, size, 0) };
        attr.size = size;
        attr.sched_runtime = u64::try_from(TURN.as_nanos()).expect("a tenth of a second");
        // SAFETY: a system call that reads `size` bytes of `attr`.
        got == 0 && unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attr, 0) } == 0
    };
    if !asked {
        tracing::debug!(error = %std::io::Error::last_os_error(), "a thread cannot ask for long turns");
    }
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    threads: usize,
    /// Those of them that were started and have not looked for work yet.
    starting: usize,
    /// Those of them that wait for work.
    idle: usize,
}

/// See the module.
pub(super) struct Pool {
    runtime: Handle,
    threads_max: usize,
    state: Mutex<State>,
    wake: Condvar,
    /// Told when a thread has nothing to do.
    rest: Condvar,
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pool")
    }
}

impl Pool {
    /// Without threads yet; work may use `runtime`.
    pub(super) fn new(runtime: Handle) -> Arc<Pool> {
        Pool::of(runtime, THREADS_MAX)
    }

    fn of(runtime: Handle, threads_max: usize) -> Arc<Pool> {
        let state = Mutex::default();
        Arc::new(Pool { runtime, threads_max, state, wake: Condvar::new(), rest: Condvar::new() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Pieces of work that are being done.
    pub(super) fn busy(&self) -> usize {
        let state = self.state();
        state.threads - state.idle
    }

    /// Does `job` on a thread, soon.
    pub(super) fn run(self: &Arc<Self>, job: Job) {
        let mut state = self.state();
        state.jobs.push_back(job);
        if state.jobs.len() <= state.idle {
            drop(state);
            self.wake.notify_one();
        } else {
            self.start(state);
        }
    }

    /// One thread more, if there may be one.
    fn start(self: &Arc<Self>, mut state: MutexGuard<'_, State>) {
        if state.threads >= self.threads_max {
            return;
        }
        state.threads += 1;
        state.starting += 1;
        drop(state);
        let pool = self.clone();
        // A new thread is as urgent as the one that starts it.
        let stance = match STANCE.get() {
            Stance::SteppedBack => Stance::SteppedBack,
            Stance::Vital | Stance::Usual => Stance::Usual,
        };
        let work = move || {
            STANCE.set(stance);
            pool.work();
        };
        if let Err(error) = std::thread::Builder::new().name("work".to_owned()).spawn(work) {
            tracing::warn!(%error, "no thread for work that blocks");
            let mut state = self.state();
            state.threads -= 1;
            state.starting -= 1;
            // Whoever is there takes it up; if nobody is, it is done here, late rather than never.
            let alone = if state.threads == 0 { state.jobs.pop_front() } else { None };
            drop(state);
            alone.into_iter().for_each(|job| job());
        }
    }

    fn work(self: Arc<Self>) {
        let _entered = self.runtime.enter();
        let mut state = self.state();
        state.starting -= 1;
        loop {
            if let Some(job) = state.jobs.pop_front() {
                drop(state);
                // As everywhere, a panic ends the work and is logged by the hook; who waits for it learns of it.
                let _ended = catch_unwind(AssertUnwindSafe(job));
                state = self.state();
            }
            if STANCE.get() == Stance::SteppedBack {
                break;
            }
            if !state.jobs.is_empty() {
                continue;
            }
            state.idle += 1;
            self.rest.notify_all();
            let (woken, waited) = self.wake.wait_timeout(state, KEPT).unwrap_or_else(PoisonError::into_inner);
            state = woken;
            state.idle -= 1;
            if waited.timed_out() && state.jobs.is_empty() {
                break;
            }
        }
        state.threads -= 1;
        self.rest.notify_all();
        if state.jobs.len() > state.idle + state.starting {
            self.start(state);
        }
    }

    /// Waits until all work is done, or `patience` ends.
    pub(super) fn settle(&self, patience: Duration) {
        let at_work = |state: &mut State| state.threads > state.idle || !state.jobs.is_empty();
        drop(self.rest.wait_timeout_while(self.state(), patience, at_work));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    const PATIENCE: Duration = Duration::from_secs(30);

    fn niceness() -> i32 {
        // SAFETY: a plain system call.
        #[expect(unsafe_code, reason = "the standard library does not tell priorities")]
        unsafe {
            libc::getpriority(libc::PRIO_PROCESS, 0)
        }
    }

    fn told<T: Send + 'static>(pool: &Arc<Pool>, tell: impl FnOnce() -> T + Send + 'static) -> T {
        let (send, receive) = mpsc::channel();
        pool.run(Box::new(move || drop(send.send(tell()))));
        receive.recv_timeout(PATIENCE).expect("the work is done")
    }

    #[tokio::test]
    async fn a_thread_that_stepped_back_does_no_other_work() {
        let pool = Pool::new(Handle::current());
        let usual = niceness();
        let first = told(&pool, || std::thread::current().id());
        // What was done is told before its thread waits for more.
        pool.settle(PATIENCE);
        let (second, nice) = told(&pool, || {
            step_back();
            (std::thread::current().id(), niceness())
        });
        pool.settle(PATIENCE);
        let (third, usual_again) = told(&pool, || (std::thread::current().id(), niceness()));
        assert_eq!(first, second, "a thread is used again");
        assert_ne!(second, third);
        assert_eq!((nice, usual_again), (NICENESS.max(usual), usual));
    }

    #[test]
    fn a_thread_for_whose_next_work_others_wait_does_not_step_back() {
        let (before, after) = std::thread::spawn(|| {
            let before = niceness();
            step_back();
            (before, niceness())
        })
        .join()
        .expect("no panic");
        assert_eq!(before, after);
    }

    #[tokio::test]
    async fn a_thread_started_by_one_that_stepped_back_is_as_little_urgent_and_not_kept_either() {
        let pool = Pool::of(Handle::current(), 1);
        let usual = niceness();
        let (send, receive) = mpsc::channel();
        let queue = pool.clone();
        pool.run(Box::new(move || {
            step_back();
            // There is no room for another thread: this one starts it when it ends.
            queue.run(Box::new(move || send.send(niceness()).expect("the test waits")));
        }));
        assert_eq!(receive.recv_timeout(PATIENCE), Ok(NICENESS.max(usual)));
        pool.settle(PATIENCE);
        assert_eq!(told(&pool, niceness), usual);
    }

    #[tokio::test]
    async fn work_that_waits_for_other_work_does_not_keep_it_waiting() {
        let pool = Pool::new(Handle::current());
        let (send, receive) = mpsc::channel();
        let waiting = pool.clone();
        pool.run(Box::new(move || {
            let inner = told(&waiting, || 7);
            let _ = send.send(inner);
        }));
        assert_eq!(receive.recv_timeout(PATIENCE), Ok(7));
    }

    #[tokio::test]
    async fn a_panic_costs_no_thread() {
        let pool = Pool::new(Handle::current());
        pool.run(Box::new(|| panic!("on purpose")));
        pool.settle(PATIENCE);
        assert_eq!(pool.busy(), 0);
        assert_eq!(told(&pool, || 7), 7);
    }
}
