//! Hosts in network namespaces on a bridge, so that one can be cut off. Needs root and `ip` (iproute2).
//!
//! ```text
//!   host 1 ─eth0──p1─┐
//!   host 2 ─eth0──p2─┤ br0, in a namespace of its own, in which the client lives
//!   host 3 ─eth0──p3─┘
//! ```

use crate::program::run;
use std::{
    fs::{self, File},
    net::IpAddr,
    os::fd::AsRawFd,
    path::Path,
    process::{Command, id},
    sync::atomic::{AtomicU32, Ordering},
    thread,
};

/// Namespaces with addresses 10.87.0.1, .2, ...; removed when dropped.
#[derive(Debug)]
pub struct Hosts {
    prefix: String,
    count: usize,
}

static NEXT: AtomicU32 = AtomicU32::new(0);

fn ip(arguments: &str) -> Result<(), String> {
    let ran = run(Command::new("ip").args(arguments.split(' ')));
    if ran.status == 0 { Ok(()) } else { Err(format!("ip {arguments}: {}", ran.err.trim())) }
}

impl Hosts {
    /// Makes `count` hosts.
    ///
    /// # Errors
    /// Where the machine does not allow it; the test is to be skipped then.
    pub fn up(count: usize) -> Result<Hosts, String> {
        let found = Command::new("ip").arg("-V").output().is_ok();
        if !found {
            return Err("`ip` is missing (iproute2)".to_owned());
        }
        forget_interrupted();
        let hosts = Hosts { prefix: format!("vt{}x{}", id(), NEXT.fetch_add(1, Ordering::Relaxed)), count };
        let switch = hosts.switch();
        ip(&format!("netns add {switch}"))?;
        ip(&format!("-n {switch} link set lo up"))?;
        ip(&format!("-n {switch} link add br0 type bridge"))?;
        ip(&format!("-n {switch} addr add 10.87.0.254/24 dev br0"))?;
        ip(&format!("-n {switch} link set br0 up"))?;
        for i in 1..=count {
            let host = hosts.host(i);
            ip(&format!("netns add {host}"))?;
            ip(&format!("link add p{i} netns {switch} type veth peer name eth0 netns {host}"))?;
            ip(&format!("-n {switch} link set p{i} master br0"))?;
            ip(&format!("-n {switch} link set p{i} up"))?;
            ip(&format!("-n {host} link set lo up"))?;
            ip(&format!("-n {host} addr add {}/24 dev eth0", hosts.address(i)))?;
            ip(&format!("-n {host} link set eth0 up"))?;
            ip(&format!("netns exec {host} true"))?; // who may make a namespace may not everywhere enter it so
        }
        Ok(hosts)
    }

    fn switch(&self) -> String {
        format!("{}sw", self.prefix)
    }

    fn host(&self, i: usize) -> String {
        format!("{}h{i}", self.prefix)
    }

    /// Host `i`'s address.
    #[must_use]
    pub fn address(&self, i: usize) -> String {
        format!("10.87.0.{i}")
    }

    /// The clients' address.
    #[must_use]
    pub fn client_address(&self) -> IpAddr {
        IpAddr::from([10, 87, 0, 254])
    }

    /// A command that runs on host `i`. It replaces itself by the program, so its pid is the program's.
    #[must_use]
    pub fn command(&self, i: usize) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.host(i)]);
        command
    }

    /// Cuts host `i` off: frames from and to it are dropped, and it is not told.
    ///
    /// # Panics
    /// If that fails.
    pub fn cut(&self, i: usize) {
        ip(&format!("-n {} link set p{i} nomaster", self.switch())).expect("a port is taken off the bridge");
    }

    /// Ends the cut.
    ///
    /// # Panics
    /// If that fails.
    pub fn heal(&self, i: usize) {
        ip(&format!("-n {} link set p{i} master br0", self.switch())).expect("a port is put on the bridge");
    }

    /// Whether what host `from` sends to host `to` arrives. Nobody is told: frames go to a station that is not there.
    /// Clients still reach both.
    ///
    /// # Panics
    /// If that fails.
    pub fn set_heard(&self, from: usize, to: usize, heard: bool) {
        let (host, to) = (self.host(from), self.address(to));
        let change = if heard {
            format!("-n {host} neigh del {to} dev eth0")
        } else {
            format!("-n {host} neigh replace {to} lladdr 02:00:00:00:00:00 dev eth0 nud permanent")
        };
        ip(&change).expect("a host's table of neighbours is changed");
    }

    /// Does something on host `i`: sockets that it opens, and threads that it starts, live there.
    ///
    /// # Panics
    /// If the namespace cannot be entered, or the work panics.
    pub fn on<T: Send>(&self, i: usize, work: impl FnOnce() -> T + Send) -> T {
        enter(&self.host(i), work)
    }

    /// Does something as a client of the hosts, likewise.
    ///
    /// # Panics
    /// If the namespace cannot be entered, or the work panics.
    pub fn as_client<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        enter(&self.switch(), work)
    }
}

/// Removes the namespaces of runs that were interrupted: their names say whose they were.
fn forget_interrupted() {
    for entry in fs::read_dir("/var/run/netns").into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let pid = name.strip_prefix("vt").and_then(|rest| rest.split('x').next());
        let pid = pid.and_then(|pid| pid.parse::<u32>().ok());
        if pid.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
            let _another_run_may_have = ip(&format!("netns del {name}"));
        }
    }
}

fn enter<T: Send>(namespace: &str, work: impl FnOnce() -> T + Send) -> T {
    let file = File::open(format!("/var/run/netns/{namespace}")).expect("the namespace is there");
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            // SAFETY: `setns` takes a descriptor that is open and a flag; it changes this thread only.
            #[expect(unsafe_code, reason = "the standard library cannot change a thread's namespace")]
            let result = unsafe { libc::setns(file.as_raw_fd(), libc::CLONE_NEWNET) };
            assert_eq!(result, 0, "enter the network namespace");
            work()
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

impl Drop for Hosts {
    fn drop(&mut self) {
        // Whoever still runs in there is killed by whoever started it; the namespaces go with the last of them.
        for i in 1..=self.count {
            let _may_be_missing = ip(&format!("netns del {}", self.host(i)));
        }
        let _may_be_missing = ip(&format!("netns del {}", self.switch()));
    }
}
