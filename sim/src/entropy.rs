//! The two system calls through which libraries reach past the ports: `getrandom` (hash keys of the standard library,
//! `rand`, tokio's `select!`) and `clock_gettime` (`Instant::now` and `SystemTime::now` of libraries).
//!
//! The functions below take the place of libc's for the whole binary. On a thread that [`Held::hold`]s them they
//! answer from a seed and from the simulated time; on every other thread they make the real system call. RocksDB is
//! linked but never runs here: its own threads would see two clocks.
#![expect(unsafe_code, reason = "libc's symbols are C functions")]

use std::{cell::Cell, time::Duration};

thread_local! {
    static RANDOM: Cell<Option<u64>> = const { Cell::new(None) };
    static ELAPSED: Cell<Option<Duration>> = const { Cell::new(None) };
}

/// When every world begins: 2023-11-14 22:13:20 UTC.
pub const EPOCH_MS: i64 = 1_700_000_000_000;
/// Where the monotonic clock of a simulated thread begins.
const MONOTONIC_BASE: Duration = Duration::from_secs(1_000_000);

/// This thread's entropy and clocks are simulated until it is dropped.
#[derive(Debug)]
pub struct Held(());

impl Held {
    /// Begins with `seed` at the epoch. The standard library keeps a thread's hash keys for ever: use a new thread.
    #[must_use]
    pub fn hold(seed: u64) -> Held {
        RANDOM.set(Some(seed));
        ELAPSED.set(Some(Duration::ZERO));
        Held(())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        RANDOM.set(None);
        ELAPSED.set(None);
    }
}

/// Sets the simulated time of this thread, counted from the epoch.
pub fn set_elapsed(elapsed: Duration) {
    ELAPSED.set(Some(elapsed));
}

/// # Safety
/// As libc's: `buf` has room for `len` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn getrandom(buf: *mut u8, len: usize, flags: u32) -> isize {
    let Some(mut state) = RANDOM.try_with(Cell::get).ok().flatten() else {
        // SAFETY: the caller's promise is the system call's.
        return unsafe { libc::syscall(libc::SYS_getrandom, buf, len, flags) as isize };
    };
    for i in 0..len {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        // SAFETY: `i` is below `len`.
        unsafe { *buf.add(i) = (z ^ (z >> 31)) as u8 };
    }
    let _gone_at_thread_end = RANDOM.try_with(|random| random.set(Some(state)));
    len as isize
}

/// # Safety
/// As libc's: `ts` points to a timespec.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn clock_gettime(clock: libc::clockid_t, ts: *mut libc::timespec) -> libc::c_int {
    let elapsed = ELAPSED.try_with(Cell::get).ok().flatten();
    let shown = match (clock, elapsed) {
        (libc::CLOCK_REALTIME, Some(elapsed)) => Duration::from_millis(EPOCH_MS as u64) + elapsed,
        (libc::CLOCK_MONOTONIC, Some(elapsed)) => MONOTONIC_BASE + elapsed,
        // SAFETY: the caller's promise is the system call's.
        _ => return unsafe { libc::syscall(libc::SYS_clock_gettime, clock, ts) as libc::c_int },
    };
    // SAFETY: the caller promises that `ts` is valid.
    unsafe {
        (*ts).tv_sec = shown.as_secs() as libc::time_t;
        (*ts).tv_nsec = libc::c_long::from(shown.subsec_nanos());
    }
    0
}
