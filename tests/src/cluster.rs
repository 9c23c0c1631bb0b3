//! A local cluster of real processes (`vestal dev`) in a temporary folder.

use crate::{Client, DATA_TIMEOUT, Ran, run, wait_until};
use serde_json::Value;
use std::{
    env, fs,
    net::TcpListener,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU16, Ordering},
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// The built binary: `VESTAL_BIN`, or beside the running test or tool.
///
/// # Panics
/// If it is not there: it must be built before.
#[must_use]
pub fn vestal_binary() -> PathBuf {
    if let Some(path) = env::var_os("VESTAL_BIN") {
        return path.into();
    }
    let me = env::current_exe().expect("a program has a path");
    let found = me.ancestors().skip(1).map(|dir| dir.join("vestal")).find(|path| path.is_file());
    found.expect("the binary is built first: cargo build -p node")
}

/// What to start.
#[derive(Clone, Debug)]
pub struct ClusterOptions {
    /// How many nodes.
    pub nodes: usize,
    /// `prometheus.yml`; `{PORT1}`.. stand for the nodes' web ports.
    pub config: String,
    /// Further `vestal serve` flags.
    pub flags: Vec<String>,
    /// The binary.
    pub binary: PathBuf,
}

impl Default for ClusterOptions {
    fn default() -> Self {
        let flags = vec!["--storage.log.size=64MiB".to_owned()];
        ClusterOptions {
            nodes: 3,
            config: "global: {scrape_interval: 1s}\n".to_owned(),
            flags,
            binary: vestal_binary(),
        }
    }
}

/// A running cluster; stopped when it is dropped.
#[derive(Debug)]
pub struct Cluster {
    dir: TempDir,
    options: ClusterOptions,
    port: u16,
    dev: Option<Child>,
    by_hand: Vec<Child>,
}

/// Blocks of ports: each cluster of this process takes the next.
static NEXT_BLOCK: AtomicU16 = AtomicU16::new(0);
const BLOCK: u16 = 20;
/// How long a node may say that it is ready and not answer: it looks once a second, and is patient with an election.
const READY_AND_SILENT_MAX: Duration = Duration::from_secs(15);
/// How long a killed process may take to end: a thread in a sync ends with the sync.
const ENDING_MAX: Duration = Duration::from_secs(90);

/// A base port such that web and cluster ports are free now.
fn free_base_port() -> u16 {
    let start = 21_000 + (u16::try_from(std::process::id() % 200).expect("below 200")) * 40;
    for _ in 0..200 {
        let block = NEXT_BLOCK.fetch_add(1, Ordering::Relaxed) % 250;
        let base = 20_000 + (start - 20_000 + block * BLOCK) % 10_000;
        let ports = (base..base + 16).chain(base + 1000..base + 1032);
        if ports.into_iter().all(|port| TcpListener::bind(("127.0.0.1", port)).is_ok()) {
            return base;
        }
    }
    panic!("no block of free ports");
}

impl Cluster {
    /// Starts a cluster and waits until every node can answer.
    ///
    /// # Panics
    /// If it does not start within three minutes.
    #[must_use]
    pub fn start(options: ClusterOptions) -> Cluster {
        let cluster = Cluster::launch(options);
        cluster.wait_ready(Duration::from_secs(180));
        cluster
    }

    /// Starts a cluster without waiting.
    ///
    /// # Panics
    /// If the processes cannot be started.
    #[must_use]
    pub fn launch(options: ClusterOptions) -> Cluster {
        let dir = TempDir::with_prefix("vestal-test-").expect("a temporary folder");
        let port = free_base_port();
        let mut cluster = Cluster { dir, options, port, dev: None, by_hand: Vec::new() };
        cluster.write_config(&cluster.options.config.clone());
        cluster.start_dev();
        cluster
    }

    /// Starts `vestal dev` (again) on the same folder.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn start_dev(&mut self) {
        let log = fs::File::create(self.dir.path().join("dev.log")).expect("a log file");
        let child = Command::new(&self.options.binary)
            .arg("dev")
            .args(["--nodes", &self.options.nodes.to_string()])
            .arg("--data")
            .arg(self.dir.path())
            .args(["--web.base-port", &self.port.to_string()])
            .arg("--config.file")
            .arg(self.config_file())
            .arg("--")
            .args(&self.options.flags)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log)
            .process_group(0)
            .spawn();
        self.dev = Some(child.expect("vestal dev starts"));
    }

    /// The configuration file that all nodes share.
    #[must_use]
    pub fn config_file(&self) -> PathBuf {
        self.dir.path().join("prometheus.yml")
    }

    /// Writes the configuration file; nobody is told.
    ///
    /// # Panics
    /// If it cannot be written.
    pub fn write_config(&self, config: &str) {
        let mut text = config.to_owned();
        for i in 1..=self.options.nodes {
            text = text.replace(&format!("{{PORT{i}}}"), &self.web_port(i).to_string());
        }
        fs::write(self.config_file(), text).expect("the configuration is written");
    }

    /// The numbers of all nodes, from 1.
    pub fn nodes(&self) -> impl Iterator<Item = usize> + use<> {
        1..=self.options.nodes
    }

    /// Node `i`'s web port.
    #[must_use]
    pub fn web_port(&self, i: usize) -> u16 {
        self.port + u16::try_from(i - 1).expect("few nodes")
    }

    /// Node `i`'s folder.
    #[must_use]
    pub fn node_dir(&self, i: usize) -> PathBuf {
        self.dir.path().join(format!("node-{i}"))
    }

    /// A client of node `i`.
    #[must_use]
    pub fn client(&self, i: usize) -> Client {
        Client::new(self.url(i), DATA_TIMEOUT)
    }

    /// Node `i`'s process id, as it wrote it.
    ///
    /// # Panics
    /// If it never started.
    #[must_use]
    pub fn pid(&self, i: usize) -> i32 {
        self.written_pid(i).expect("a node writes its pid file")
    }

    /// The same; `None` after a stop in order, which takes the file away.
    fn written_pid(&self, i: usize) -> Option<i32> {
        let text = fs::read_to_string(self.node_dir(i).join("vestal.pid")).ok()?;
        Some(text.trim().parse().expect("a pid is a number"))
    }

    /// Sends a signal to node `i`.
    pub fn signal(&self, i: usize, signal: i32) {
        // SAFETY: `kill` takes two numbers; the process is one of this cluster's own.
        #[expect(unsafe_code, reason = "the standard library cannot send signals")]
        unsafe {
            libc::kill(self.pid(i), signal);
        }
    }

    /// Kills node `i` without warning.
    pub fn kill(&self, i: usize) {
        self.signal(i, libc::SIGKILL);
    }

    /// Starts node `i` again with its start script, once its former process has ended.
    ///
    /// # Panics
    /// If the former process does not end or the script cannot be started.
    pub fn restart(&mut self, i: usize) {
        self.restart_with(i, &[]);
    }

    /// The same with further variables in its environment.
    ///
    /// # Panics
    /// If the former process does not end or the script cannot be started.
    pub fn restart_with(&mut self, i: usize, variables: &[(&str, &str)]) {
        self.wait_gone(i);
        let group = self.dev.as_ref().map_or(0, |dev| i32::try_from(dev.id()).expect("a pid fits"));
        let mut command = Command::new(self.node_dir(i).join("start"));
        command.envs(variables.iter().copied()).stdin(Stdio::null()).process_group(group);
        let child = command.spawn();
        self.by_hand.push(child.expect("the start script starts"));
    }

    /// Starts node `i` again with its data on a file system of its own of so many bytes, in a mount namespace.
    ///
    /// # Errors
    /// Where the machine does not allow that; nothing was started.
    ///
    /// # Panics
    /// If it cannot be started although the machine allows it.
    pub fn restart_on_small_disk(&mut self, i: usize, bytes: u64) -> Result<(), String> {
        self.wait_gone(i);
        let unshare = |more: &[&str]| {
            let mut command = Command::new("unshare");
            command.arg("--mount").args(more);
            command
        };
        // Who is not root becomes it in a namespace of users.
        let works = |more: &[&str]| {
            let try_it = unshare(more).args(["mount", "-t", "tmpfs", "tmpfs", "/mnt"]).output();
            try_it.is_ok_and(|output| output.status.success())
        };
        let more: &[&str] = [&[][..], &["--map-root-user"]]
            .into_iter()
            .find(|more| works(more))
            .ok_or("a file system cannot be mounted in a namespace here")?;
        let script = "cp -a \"$0\" \"$0.kept\" && mount -t tmpfs -o size=$2 tmpfs \"$0\" && \
                      cp -a \"$0.kept/.\" \"$0\" && exec \"$1\"";
        let group = self.dev.as_ref().map_or(0, |dev| i32::try_from(dev.id()).expect("a pid fits"));
        let child = unshare(more)
            .args(["sh", "-c", script])
            .arg(self.node_dir(i).join("data"))
            .arg(self.node_dir(i).join("start"))
            .arg(bytes.to_string())
            .stdin(Stdio::null())
            .process_group(group)
            .spawn();
        self.by_hand.push(child.expect("unshare starts"));
        Ok(())
    }

    /// A file in node `i`'s data folder, as its process sees it.
    #[must_use]
    pub fn seen_by_node(&self, i: usize, name: &str) -> PathBuf {
        let file = self.node_dir(i).join("data").join(name);
        let root = PathBuf::from(format!("/proc/{}/root", self.pid(i)));
        root.join(file.strip_prefix("/").expect("a temporary folder has an absolute path"))
    }

    /// Shards that node `i` leads, asked of node `asked`.
    ///
    /// # Errors
    /// If that one does not answer.
    pub fn leads(&self, asked: usize, i: usize) -> Result<usize, String> {
        let status = self.client(asked).status()?;
        let name = format!("node-{i}");
        let shards = status["shards"].as_array().map_or(&[][..], Vec::as_slice);
        Ok(shards.iter().filter(|shard| shard["leader"] == name.as_str()).count())
    }

    /// Stops node `i` cleanly and waits until its process has ended.
    ///
    /// # Panics
    /// If it does not within `patience`.
    pub fn stop_node(&mut self, i: usize, patience: Duration) {
        let pid = self.pid(i); // a clean stop takes the pid file away
        self.signal(i, libc::SIGTERM);
        self.wait_process(i, pid, patience);
    }

    /// Waits until the process of node `i`, which was killed or fails, has ended.
    ///
    /// # Panics
    /// If it does not within `patience`.
    pub fn wait_ended(&mut self, i: usize, patience: Duration) {
        let pid = self.pid(i);
        self.wait_process(i, pid, patience);
    }

    /// Waits until what ran of node `i` before has ended, however it was told to.
    fn wait_gone(&mut self, i: usize) {
        if let Some(pid) = self.written_pid(i) {
            self.wait_process(i, pid, ENDING_MAX);
        }
    }

    fn wait_process(&mut self, i: usize, pid: i32, patience: Duration) {
        wait_until(&format!("node-{i} ends"), patience, || {
            // One that was started by hand is this process's own child and must be reaped.
            self.by_hand.retain_mut(|child| !matches!(child.try_wait(), Ok(Some(_))));
            if is_running(pid) { Err(format!("process {pid} runs")) } else { Ok(()) }
        });
    }

    /// Kills node `i`, waits for its end and forgets everything it had stored.
    ///
    /// # Panics
    /// If its data cannot be removed.
    pub fn wipe(&mut self, i: usize) {
        self.kill(i);
        self.wait_ended(i, ENDING_MAX);
        fs::remove_dir_all(self.node_dir(i).join("data")).expect("a dead node's data can be removed");
    }

    /// Runs the binary with `arguments` to its end.
    ///
    /// # Panics
    /// If it cannot be started.
    #[must_use]
    pub fn vestal(&self, arguments: &[&str]) -> Ran {
        run(Command::new(&self.options.binary).args(arguments))
    }

    /// `http://127.0.0.1:PORT` of node `i`.
    #[must_use]
    pub fn url(&self, i: usize) -> String {
        format!("http://127.0.0.1:{}", self.web_port(i))
    }

    /// Node `i`'s cluster address.
    #[must_use]
    pub fn cluster_address(&self, i: usize) -> String {
        format!("127.0.0.1:{}", self.port + 1000 + 2 * u16::try_from(i - 1).expect("few nodes"))
    }

    /// The folder with everything in it.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Clients of all nodes.
    #[must_use]
    pub fn clients(&self) -> Vec<Client> {
        self.nodes().map(|i| self.client(i)).collect()
    }

    /// Waits until every node is ready.
    ///
    /// # Panics
    /// If one is not within `patience`.
    pub fn wait_ready(&self, patience: Duration) {
        for i in self.nodes() {
            self.wait_node_ready(i, patience);
        }
    }

    /// Waits until node `i` is ready and answers a default query. An election may come between the two, so that it is
    /// ready for some seconds and does not answer; more is a fault.
    ///
    /// # Panics
    /// If it is not within `patience`, or does not answer for long; the message has the end of its log.
    pub fn wait_node_ready(&self, i: usize, patience: Duration) {
        let client = self.client(i);
        let mut ready_since = None;
        wait_until(&format!("node-{i} is ready"), patience, || match client.get("/-/ready", &[]) {
            Ok(answer) if answer.status == 200 => {
                let since = *ready_since.get_or_insert_with(Instant::now);
                match client.get("/api/v1/query", &[("query", "up")]) {
                    Ok(answer) if answer.status == 200 => Ok(()),
                    other => {
                        let text =
                            format!("node-{i} is ready and does not answer: {other:?}\n{}", self.log_tail(i));
                        assert!(since.elapsed() < READY_AND_SILENT_MAX, "{text}");
                        Err(text)
                    }
                }
            }
            other => {
                ready_since = None;
                Err(format!("{other:?}\n{}", self.log_tail(i)))
            }
        });
    }

    /// Waits until every shard has a leader and, where `whole`, one more node may be lost.
    ///
    /// # Panics
    /// If that does not come within `patience`.
    pub fn wait_status(&self, asked: usize, whole: bool, patience: Duration) -> Value {
        let client = self.client(asked);
        wait_until("the cluster is well", patience, || {
            let status = client.status()?;
            let led = status["shards"]
                .as_array()
                .is_some_and(|s| !s.is_empty() && s.iter().all(|s| !s["leader"].is_null()));
            let may = status["mayLoseAnotherNode"] == Value::Bool(true);
            if led && (may || !whole) { Ok(status) } else { Err(status.to_string()) }
        })
    }

    /// The node that leads most shards, asked of node `asked`.
    ///
    /// # Panics
    /// If the cluster does not settle within 90 s.
    #[must_use]
    pub fn busiest(&self, asked: usize) -> usize {
        let status = self.wait_status(asked, false, Duration::from_secs(90));
        let leads = |i: usize| {
            let name = format!("node-{i}");
            status["shards"]
                .as_array()
                .map_or(0, |shards| shards.iter().filter(|s| s["leader"] == name.as_str()).count())
        };
        self.nodes().max_by_key(|i| leads(*i)).expect("a cluster has nodes")
    }

    /// All that node `i` has logged.
    #[must_use]
    pub fn log(&self, i: usize) -> String {
        let bytes = fs::read(self.node_dir(i).join("vestal.log")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The end of node `i`'s log.
    #[must_use]
    pub fn log_tail(&self, i: usize) -> String {
        tail(&self.node_dir(i).join("vestal.log"))
    }

    /// Stops everything cleanly and waits for it.
    ///
    /// # Panics
    /// If `vestal dev` does not end within 90 s.
    pub fn stop(&mut self) {
        let Some(mut dev) = self.dev.take() else { return };
        // SAFETY: `kill` takes two numbers; the process was started here.
        #[expect(unsafe_code, reason = "the standard library cannot send SIGTERM")]
        unsafe {
            libc::kill(i32::try_from(dev.id()).expect("a pid fits"), libc::SIGTERM);
        }
        wait_until("vestal dev stops", Duration::from_secs(90), || match dev.try_wait() {
            Ok(Some(_)) => Ok(()),
            other => Err(format!("{other:?}")),
        });
        for mut child in self.by_hand.drain(..) {
            child.wait().expect("a node that was started by hand has stopped, too");
        }
    }
}

/// Whether a thread of a process runs; one that has ended and was not reaped does not.
///
/// The process's own state is that of its first thread. After a SIGKILL that may be a zombie while another thread sits
/// in a sync, and until that one ends the process keeps its ports and file locks.
fn is_running(pid: i32) -> bool {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    threads.into_iter().any(|thread| {
        let stat = fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        let state = stat.rsplit(')').next().and_then(|rest| rest.trim().chars().next());
        state.is_some_and(|state| !"ZX".contains(state))
    })
}

fn tail(path: &Path) -> String {
    let text = fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text[text.len().saturating_sub(4096)..]).into_owned();
    format!("--- end of {}\n{text}", path.display())
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // The test failed: what the nodes said helps to see why.
            self.nodes().for_each(|i| eprintln!("{}", self.log_tail(i)));
        }
        let Some(mut dev) = self.dev.take() else { return };
        // One that stops takes its pid file away.
        let pid =
            |i: usize| fs::read_to_string(self.node_dir(i).join("vestal.pid")).ok()?.trim().parse().ok();
        for pid in self.nodes().filter_map(pid) {
            let mine = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let dir = self.dir.path().display().to_string();
            if String::from_utf8_lossy(&mine).contains(&dir) {
                // SAFETY: `kill` takes two numbers; the command line names this cluster's folder.
                #[expect(
                    unsafe_code,
                    reason = "the standard library cannot signal a process it did not start"
                )]
                unsafe {
                    libc::kill(pid, libc::SIGKILL);
                }
            }
        }
        let _killed = dev.kill();
        let _reaped = dev.wait();
        for mut child in self.by_hand.drain(..) {
            // One that has not written its pid file yet was not found above.
            let _killed = child.kill();
            let _reaped = child.wait();
        }
    }
}
