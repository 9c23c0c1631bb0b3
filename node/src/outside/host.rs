//! The process around a node: its name, its lock, its signals, its figures.

use anyhow::Context;
use model::BoxFuture;
use std::{
    fmt::{self, Debug},
    fs, io,
    path::Path,
    time::Duration,
};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
    time::sleep,
};

/// Between two attempts at the lock on the data directory.
const LOCK_PAUSE: Duration = Duration::from_millis(50);
/// Attempts at it: about five seconds.
const LOCK_ATTEMPTS: u32 = 100;
/// Orders that may wait; more of the same kind change nothing.
const ORDERS_MAX: usize = 8;

/// Time for the last log line.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// What a process is told from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Finish and end (SIGTERM, SIGINT).
    Stop,
    /// Read the configuration file again (SIGHUP).
    Reload,
}

/// What a process uses.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ProcessFigures {
    /// CPU seconds, user and system.
    pub cpu_seconds: f64,
    /// Resident memory, bytes.
    pub resident_bytes: u64,
    /// Virtual memory, bytes.
    pub virtual_bytes: u64,
    /// Open file handles.
    pub open_files: u64,
    /// File handles that it may have open; the system's largest number if that is not limited.
    pub open_files_max: u64,
    /// Virtual memory that it may have, bytes; the system's largest number if that is not limited.
    pub virtual_bytes_max: u64,
}

/// Holds a data directory until it is dropped.
pub struct DirectoryLock(Box<dyn Send>);

impl DirectoryLock {
    /// A lock that ends when `guard` is dropped.
    #[must_use]
    pub fn new(guard: Box<dyn Send>) -> DirectoryLock {
        DirectoryLock(guard)
    }
}

impl Debug for DirectoryLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let DirectoryLock(_guard) = self;
        f.write_str("DirectoryLock")
    }
}

/// The process and the machine around a node.
pub trait Host: Send + Sync + Debug {
    /// Locks a data directory against other processes.
    fn lock<'a>(&'a self, dir: &'a Path) -> BoxFuture<'a, anyhow::Result<DirectoryLock>>;
    /// The id of the process.
    fn process_id(&self) -> u32;
    /// The host's name.
    ///
    /// # Errors
    /// If the system does not tell it.
    fn name(&self) -> io::Result<String>;
    /// Where relative paths begin.
    fn working_directory(&self) -> String;
    /// What the process uses; `None` where that cannot be told.
    fn figures(&self) -> Option<ProcessFigures>;
    /// Orders from now on; to be asked once.
    ///
    /// # Errors
    /// If the system gives no signals.
    fn orders(&self) -> io::Result<mpsc::Receiver<Order>>;
    /// Ends the process at once, without finishing anything, because of this. It returns only where the process is
    /// simulated, which then ends within a millisecond.
    fn abort(&self, reason: &str);
}

/// The limit of this name that is in force, of what `/proc/PID/limits` holds.
fn limit(limits: &str, name: &str) -> Option<u64> {
    let in_force = limits.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()?;
    if in_force == "unlimited" { Some(u64::MAX) } else { in_force.parse().ok() }
}

/// The process this is.
#[derive(Debug, Default)]
pub struct SystemHost;

impl Host for SystemHost {
    /// Two processes on one directory would tear each other's files. A process that was killed a moment ago may
    /// still be on its way out, and holds its lock until it is gone.
    fn lock<'a>(&'a self, dir: &'a Path) -> BoxFuture<'a, anyhow::Result<DirectoryLock>> {
        Box::pin(async move {
            let path = dir.join("lock");
            let file = fs::OpenOptions::new().create(true).truncate(false).write(true).open(&path);
            let file = file.with_context(|| format!("open {}", path.display()))?;
            for _ in 0..LOCK_ATTEMPTS {
                match file.try_lock() {
                    Ok(()) => return Ok(DirectoryLock::new(Box::new(file))),
                    Err(fs::TryLockError::WouldBlock) => sleep(LOCK_PAUSE).await,
                    Err(fs::TryLockError::Error(error)) => {
                        return Err(error).with_context(|| format!("lock {}", path.display()));
                    }
                }
            }
            anyhow::bail!(
                "{}: another process uses this directory; stop it, or give another --storage.tsdb.path",
                dir.display()
            )
        })
    }

    fn process_id(&self) -> u32 {
        std::process::id()
    }

    fn name(&self) -> io::Result<String> {
        Ok(fs::read_to_string("/proc/sys/kernel/hostname")?.trim().to_owned())
    }

    fn working_directory(&self) -> String {
        std::env::current_dir().map(|dir| dir.display().to_string()).unwrap_or_default()
    }

    fn figures(&self) -> Option<ProcessFigures> {
        let stat = fs::read_to_string("/proc/self/stat").ok()?;
        let limits = fs::read_to_string("/proc/self/limits").ok()?;
        // The second field is the name in brackets and may hold anything.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let number = |i: usize| fields.get(i).and_then(|field| field.parse::<u64>().ok());
        // SAFETY: asks for two constants of the system.
        #[expect(unsafe_code, reason = "the standard library does not know the clock tick and the page size")]
        let (ticks, page) = unsafe { (libc::sysconf(libc::_SC_CLK_TCK), libc::sysconf(libc::_SC_PAGESIZE)) };
        Some(ProcessFigures {
            cpu_seconds: (number(11)? + number(12)?) as f64 / ticks as f64,
            resident_bytes: number(21)? * u64::try_from(page).ok()?,
            virtual_bytes: number(20)?,
            open_files: fs::read_dir("/proc/self/fd").map(Iterator::count).unwrap_or(0) as u64,
            open_files_max: limit(&limits, "Max open files")?,
            virtual_bytes_max: limit(&limits, "Max address space")?,
        })
    }

    fn orders(&self) -> io::Result<mpsc::Receiver<Order>> {
        let (told, orders) = mpsc::channel(ORDERS_MAX);
        let kinds = [
            (SignalKind::terminate(), Order::Stop),
            (SignalKind::interrupt(), Order::Stop),
            (SignalKind::hangup(), Order::Reload),
        ];
        for (kind, order) in kinds {
            let (mut signal, told) = (signal(kind)?, told.clone());
            tokio::spawn(async move {
                while signal.recv().await.is_some() {
                    let _enough_wait = told.try_send(order);
                }
            });
        }
        Ok(orders)
    }

    /// Says why on a thread of its own: a disk that hangs may be the journal's, too, and who writes there then waits
    /// with it.
    fn abort(&self, reason: &str) {
        let text = reason.to_owned();
        let saying = std::thread::Builder::new()
            .name("last words".to_owned())
            .spawn(move || tracing::error!(reason = text, "the process ends"));
        if saying.is_ok() {
            std::thread::sleep(LAST_WORDS);
        }
        std::process::abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limits_of_a_process_are_read() {
        let limits = "Limit                     Soft Limit           Hard Limit           Units     \n\
                      Max open files            1024                 1048576              files     \n\
                      Max address space         unlimited            unlimited            bytes     \n";
        assert_eq!(limit(limits, "Max open files"), Some(1024));
        assert_eq!(limit(limits, "Max address space"), Some(u64::MAX));
        assert_eq!(limit(limits, "Max cpu time"), None);
        let here = SystemHost.figures().expect("Linux tells it");
        assert!(here.open_files_max >= here.open_files);
        assert!(here.virtual_bytes_max >= here.virtual_bytes);
    }
}
