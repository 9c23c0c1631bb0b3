//! One host with a node on it, a disk of its own (a file system in memory, seen by nobody else), and a clock and syncs
//! that are steered.

use super::wanted::Wanted;
use crate::{Hosts, Program, Shim};
use screenplay::node_name;
use std::{
    fs::{self, File},
    io::{BufRead, BufReader, ErrorKind, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// Size of a disk: more than a short run needs. It is memory.
const DISK_MIB: usize = 256;
/// A node that was asked to stop has stopped by then.
const STOP_PATIENCE: Duration = Duration::from_secs(30);
/// How long a node stays down after it came to its end, as under a supervisor.
const RESTART_PAUSE: Duration = Duration::from_secs(1);

/// One host.
#[derive(Debug)]
pub(super) struct Machine {
    name: String,
    /// Holds the host's namespaces open; ends when its standard input does, with this process at the latest.
    holder: Child,
    /// Where the disk is, for the node.
    disk: PathBuf,
    log: PathBuf,
    vestal: PathBuf,
    flags: Vec<String>,
    shim: Shim,
    node: Option<Program>,
    /// Since when it has been asked to stop.
    stopping: Option<Instant>,
    /// Since when it is down, if it came to its end by itself or is to come back a while later.
    ended: Option<Instant>,
    /// What is in force.
    now: Wanted,
}

impl Machine {
    /// A host with an empty disk and no node.
    pub(super) fn new(
        hosts: &Hosts,
        place: usize,
        dir: &Path,
        vestal: &Path,
        flags: Vec<String>,
    ) -> Result<Machine, String> {
        let name = node_name(place);
        let wrong = |error: std::io::Error| format!("{name}: {error}");
        let disk = dir.join(&name).join("disk");
        fs::create_dir_all(&disk).map_err(wrong)?;
        let shim = Shim::new(&dir.join(&name).join("world"))?;
        // `ip netns exec` gives each program mounts of its own: nobody else sees this disk, and it goes with the last
        // process in there.
        let mut command = hosts.command(place + 1);
        let mount = format!("mount -t tmpfs -o size={DISK_MIB}m vestal \"$0\" && echo mounted && exec cat");
        command.args(["sh", "-c", &mount]).arg(&disk).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut holder = command.spawn().map_err(wrong)?;
        let mut said = String::new();
        let out = holder.stdout.take().expect("it is piped");
        BufReader::new(out).read_line(&mut said).map_err(wrong)?;
        if said != "mounted\n" {
            return Err(format!("{name}: no disk can be mounted"));
        }
        let log = dir.join(format!("{name}.log"));
        let (vestal, now) = (vestal.to_owned(), Wanted::default());
        let (node, stopping, ended) = (None, None, None);
        Ok(Machine { name, holder, disk, log, vestal, flags, shim, node, stopping, ended, now })
    }

    /// The disk as this process sees it.
    fn disk_here(&self) -> PathBuf {
        let root = PathBuf::from(format!("/proc/{}/root", self.holder.id()));
        root.join(self.disk.strip_prefix("/").unwrap_or(&self.disk))
    }

    /// Starts the node.
    pub(super) fn start(&mut self) {
        let mut command = Command::new("nsenter");
        // It replaces itself by the program, so its pid is the node's.
        command.args(["--target", &self.holder.id().to_string(), "--mount", "--net", "--"]);
        command.arg(&self.vestal).args(&self.flags);
        command.arg(format!("--storage.tsdb.path={}", self.disk.join("data").display()));
        command.envs(self.shim.variables());
        self.node = Some(Program::start_again(&mut command, &self.log));
        (self.stopping, self.ended) = (None, None);
    }

    /// Whether a node runs here that was not asked to stop.
    pub(super) fn is_running(&self) -> bool {
        self.node.is_some() && self.stopping.is_none()
    }

    /// Everything that it said.
    pub(super) fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Makes the machine what is wanted. To be called again and again.
    ///
    /// # Errors
    /// If the node did what no node may: it ended by itself, or did not when asked.
    pub(super) fn enforce(&mut self, wanted: &Wanted) -> Result<(), String> {
        let before = std::mem::replace(&mut self.now, wanted.clone());
        let observed = self.observe(wanted);
        if before.sync_delay != wanted.sync_delay {
            self.shim.set_sync_delay(wanted.sync_delay);
        }
        if before.clock_offset != wanted.clock_offset {
            self.shim.set_clock_offset(wanted.clock_offset);
        }
        if before.clock_drift != wanted.clock_drift {
            self.shim.set_clock_drift(wanted.clock_drift);
        }
        if before.full != wanted.full {
            self.fill(wanted.full);
        }
        if before.failed_sync != wanted.failed_sync {
            // It may hang on to its life without the sync that failed: a machine with such a disk is restarted.
            self.shim.fail_syncs(u32::from(wanted.failed_sync));
            if !wanted.failed_sync {
                self.kill();
            }
        }
        if before.paused != wanted.paused
            && let Some(node) = &self.node
        {
            node.signal(if wanted.paused { libc::SIGSTOP } else { libc::SIGCONT });
        }
        if wanted.down {
            self.kill();
        }
        let may_start = !wanted.down
            && self.stopping.is_none()
            && !(wanted.failed_sync && self.ended.is_some())
            && self.ended.is_none_or(|since| since.elapsed() >= RESTART_PAUSE);
        if may_start && self.node.is_none() {
            self.start();
        }
        observed
    }

    /// Notices that the node has ended.
    fn observe(&mut self, wanted: &Wanted) -> Result<(), String> {
        if let Some(since) = self.stopping.filter(|since| since.elapsed() > STOP_PATIENCE) {
            self.kill();
            return Err(format!("{} had not stopped {:?} after SIGTERM", self.name, since.elapsed()));
        }
        let Some(status) = self.node.as_mut().and_then(Program::ended) else { return Ok(()) };
        let was_asked = self.stopping.take().is_some();
        self.node = None;
        self.ended = Some(Instant::now());
        match (was_asked, status) {
            (true, 0) => Ok(()),
            (true, status) => Err(format!("{} stopped with exit status {status}", self.name)),
            (false, _) if wanted.failed_sync => Ok(()),
            (false, status) => Err(format!("{} ended by itself, exit status {status}", self.name)),
        }
    }

    /// Asks the node to stop; it is started again a while after its end.
    pub(super) fn restart(&mut self) {
        if let Some(node) = &self.node {
            node.signal(libc::SIGTERM);
            node.signal(libc::SIGCONT); // it may have been paused
            self.stopping = Some(Instant::now());
        }
    }

    /// Takes the disk away; the node is started on an empty one after a while.
    pub(super) fn wipe(&mut self) {
        self.kill();
        self.ended = Some(Instant::now());
        match fs::remove_dir_all(self.disk_here().join("data")) {
            Err(error) if error.kind() == ErrorKind::NotFound => {} // empty already
            removed => removed.expect("the data of a killed node can be removed"),
        }
    }

    fn kill(&mut self) {
        if let Some(mut node) = self.node.take() {
            node.kill();
        }
        (self.stopping, self.ended) = (None, None);
    }

    /// Fills the disk to the last block, or makes room again.
    fn fill(&self, full: bool) {
        let filler = self.disk_here().join("filler");
        if !full {
            fs::remove_file(filler).expect("the file that fills a disk was made before");
            return;
        }
        let mut file = File::create(filler).expect("a file can be made on a disk that is not full");
        for size in [1 << 20, 4096] {
            while file.write_all(&vec![0; size]).is_ok() {}
        }
    }

    /// Asks the node to stop.
    ///
    /// # Errors
    /// If it does not, or says that it failed.
    pub(super) fn stop(&mut self) -> Result<(), String> {
        let Some(node) = &self.node else { return Ok(()) };
        node.signal(libc::SIGTERM);
        self.stopping = Some(Instant::now());
        while self.stopping.is_some() {
            std::thread::sleep(Duration::from_millis(20));
            self.observe(&Wanted::default())?;
        }
        Ok(())
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.kill();
        drop(self.holder.stdin.take());
        let _reaped = self.holder.wait();
    }
}
