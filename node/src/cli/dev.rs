//! `vestal dev`: a local cluster on 127.0.0.1, for trying out and for tests.
//!
//! Node `i` has the folder `DIR/node-i` with `start` (an executable script that becomes the node), `vestal.log`,
//! `vestal.pid` (written by the node) and `data`. It answers on web base + i - 1 and uses two cluster ports from
//! cluster base + 2(i - 1) on.

use anyhow::Context;
use clap::Args;
use std::{
    fmt::Write as _,
    fs,
    io::{self, Write as _},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{ExitCode, ExitStatus, Stdio},
    time::Duration,
};
use tokio::{
    process::{Child, Command},
    signal::unix::{SignalKind, signal},
    task::JoinSet,
    time::{Instant, sleep},
};

/// How long a node may take to stop by itself.
const STOP_PATIENCE: Duration = Duration::from_secs(30);

#[derive(Debug, Args)]
pub(crate) struct DevArgs {
    /// How many nodes.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=16))]
    nodes: u16,
    /// The folder with everything in it; a second start continues the same cluster.
    #[arg(long, value_name = "DIR", default_value = "vestal-dev")]
    data: PathBuf,
    /// The first node's web port; the others follow.
    #[arg(long = "web.base-port", value_name = "PORT", default_value_t = 9090)]
    web_base_port: u16,
    /// The first node's cluster port; two a node. By default the web base port + 1000.
    #[arg(long = "cluster.base-port", value_name = "PORT")]
    cluster_base_port: Option<u16>,
    /// Prometheus configuration file.
    #[arg(long = "config.file", value_name = "FILE", default_value = "prometheus.yml")]
    config_file: PathBuf,
    /// Further flags for each `vestal serve`.
    #[arg(last = true)]
    serve_flags: Vec<String>,
}

/// One node of the local cluster.
struct DevNode {
    name: String,
    dir: PathBuf,
}

impl DevNode {
    fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// The living process of this node, whoever started it: its pid file names it and its command line proves it.
    ///
    /// Any of its threads is asked: a killed process lives on, with its ports, until a thread that syncs has ended, while
    /// its first thread has no command line any more.
    fn living(&self) -> Option<i32> {
        let pid: i32 = fs::read_to_string(self.dir.join("vestal.pid")).ok()?.trim().parse().ok()?;
        let mine = format!("--storage.tsdb.path={}", self.data().display());
        let is_mine = |cmdline: &[u8]| cmdline.split(|byte| *byte == 0).any(|word| word == mine.as_bytes());
        let mut threads = fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten();
        threads
            .any(|thread| fs::read(thread.path().join("cmdline")).is_ok_and(|cmdline| is_mine(&cmdline)))
            .then_some(pid)
    }

    fn signal(&self, signal: i32) {
        if let Some(pid) = self.living() {
            // SAFETY: `kill` takes two numbers; the pid was just proven to be this node's.
            #[expect(
                unsafe_code,
                reason = "the standard library cannot send a signal to a process it did not start"
            )]
            unsafe {
                libc::kill(pid, signal);
            }
        }
    }
}

pub(crate) fn run(args: DevArgs) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(cluster(args))
}

async fn cluster(args: DevArgs) -> anyhow::Result<ExitCode> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let nodes = prepare(&args)?;
    let mut children = JoinSet::new();
    for (node, port) in nodes.iter().zip(args.web_base_port..) {
        let child = start(node)?;
        say(&format!(
            "{}: http://127.0.0.1:{port}  (log: {})",
            node.name,
            node.dir.join("vestal.log").display()
        ));
        children.spawn(wait(node.name.clone(), child));
    }
    loop {
        tokio::select! {
            _ = interrupt.recv() => break,
            _ = terminate.recv() => break,
            Some(ended) = children.join_next() => report(ended),
        }
    }
    say("stopping");
    stop(&nodes).await;
    while let Some(ended) = children.join_next().await {
        report(ended);
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints a line. The nodes must not be left alone because nobody listens, as in `vestal dev | head`.
fn say(line: &str) {
    let _nobody_listens = writeln!(io::stdout(), "{line}");
}

/// Folders, ports and start scripts.
fn prepare(args: &DevArgs) -> anyhow::Result<Vec<DevNode>> {
    fs::create_dir_all(&args.data).with_context(|| format!("create {}", args.data.display()))?;
    let root = args.data.canonicalize()?;
    let config = std::path::absolute(&args.config_file)?;
    let web = |i: u16| u32::from(args.web_base_port) + u32::from(i);
    let first = args.cluster_base_port.map_or(u32::from(args.web_base_port) + 1000, u32::from);
    let cluster = |i: u16| first + 2 * u32::from(i);
    let last = args.nodes - 1;
    anyhow::ensure!(
        web(last) <= 65535,
        "--web.base-port: {} leaves no room for {} nodes",
        web(0),
        args.nodes
    );
    anyhow::ensure!(
        cluster(last) < 65535,
        "--cluster.base-port: {first} leaves no room for {} nodes",
        args.nodes
    );
    let binary = std::env::current_exe()?;
    let names: Vec<_> = (1..=args.nodes).map(|i| format!("node-{i}")).collect();
    let mut nodes = Vec::new();
    for (i, name) in (0..args.nodes).zip(&names) {
        let node = DevNode { name: name.clone(), dir: root.join(name) };
        fs::create_dir_all(&node.dir).with_context(|| format!("create {}", node.dir.display()))?;
        if let Some(pid) = node.living() {
            anyhow::bail!("{name} is running already as process {pid}; stop it first");
        }
        let mut flags = vec![
            format!("--config.file={}", config.display()),
            format!("--storage.tsdb.path={}", node.data().display()),
            format!("--web.listen-address=127.0.0.1:{}", web(i)),
            format!("--cluster.listen-address=127.0.0.1:{}", cluster(i)),
            format!("--cluster.initial-members={}", names.join(",")),
            format!("--node.name={name}"),
            format!("--node.pid-file={}", node.dir.join("vestal.pid").display()),
        ];
        flags.extend(
            (0..args.nodes).filter(|j| *j != i).map(|j| format!("--cluster.peer=127.0.0.1:{}", cluster(j))),
        );
        // On one's own machine the cluster may be told everything.
        let lifecycle = "--web.enable-lifecycle";
        flags.extend((!args.serve_flags.iter().any(|flag| flag == lifecycle)).then(|| lifecycle.to_owned()));
        flags.extend(args.serve_flags.iter().cloned());
        write_start_script(&node.dir, &binary, &flags)?;
        nodes.push(node);
    }
    Ok(nodes)
}

/// A script that becomes the node, from wherever it is called.
fn write_start_script(dir: &Path, binary: &Path, flags: &[String]) -> anyhow::Result<()> {
    let quote = |text: &str| format!("'{}'", text.replace('\'', r"'\''"));
    let mut script = format!("#!/bin/sh\nexec {} serve", quote(&binary.display().to_string()));
    for flag in flags {
        write!(script, " \\\n  {}", quote(flag)).expect("a string takes all text");
    }
    writeln!(script, " \\\n  >>{} 2>&1", quote(&dir.join("vestal.log").display().to_string()))
        .expect("likewise");
    let path = dir.join("start");
    fs::write(&path, script).with_context(|| format!("write {}", path.display()))?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    Ok(())
}

fn start(node: &DevNode) -> anyhow::Result<Child> {
    let script = node.dir.join("start");
    Command::new(&script).stdin(Stdio::null()).spawn().with_context(|| format!("start {}", script.display()))
}

async fn wait(name: String, mut child: Child) -> (String, std::io::Result<ExitStatus>) {
    (name, child.wait().await)
}

fn report(ended: Result<(String, std::io::Result<ExitStatus>), tokio::task::JoinError>) {
    match ended {
        Ok((name, Ok(status))) => say(&format!("{name}: ended ({status})")),
        Ok((name, Err(error))) => say(&format!("{name}: lost sight of it: {error}")),
        Err(error) => say(&format!("lost sight of a node: {error}")),
    }
}

/// Stops every node, those started by hand too; who does not stop in time is killed.
#[expect(clippy::disallowed_methods, reason = "a tool for people on a real machine")]
async fn stop(nodes: &[DevNode]) {
    // A node that was told to stop may still be forwarding a signal of the terminal; a second one does no harm.
    nodes.iter().for_each(|node| node.signal(libc::SIGTERM));
    let deadline = Instant::now() + STOP_PATIENCE;
    while nodes.iter().any(|node| node.living().is_some()) {
        if Instant::now() >= deadline {
            nodes.iter().for_each(|node| node.signal(libc::SIGKILL));
            return;
        }
        sleep(Duration::from_millis(50)).await;
    }
}
