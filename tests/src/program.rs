//! Programs that are not ours: Debian's, unpacked below the cache, never installed.

use std::{
    env,
    fs::{self, File},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
};

/// `$VESTAL_CACHE`, as `scripts/env` finds it.
pub(crate) fn cache() -> PathBuf {
    let home = || PathBuf::from(env::var_os("HOME").unwrap_or_default());
    let user = || env::var_os("XDG_CACHE_HOME").map_or_else(|| home().join(".cache"), PathBuf::from);
    env::var_os("VESTAL_CACHE").map_or_else(|| user().join("vestal"), PathBuf::from)
}

/// A file of a Debian package that `scripts/debian PACKAGE` unpacked; `None`, with a word, where it is missing.
#[must_use]
pub fn debian(package: &str, path: &str) -> Option<PathBuf> {
    let file = cache().join("debian").join(package).join(path);
    if file.is_file() {
        return Some(file);
    }
    crate::skipped(&format!("{} is missing; run scripts/debian {package}", file.display()));
    None
}

/// A port that is free now.
///
/// # Panics
/// If there is none.
#[must_use]
pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("a bound socket has an address").port()
}

/// A process that is killed when it is dropped.
#[derive(Debug)]
pub struct Program {
    child: Child,
    log: PathBuf,
}

impl Program {
    /// Starts a command whose output goes to `log`.
    ///
    /// # Panics
    /// If it cannot be started.
    #[must_use]
    pub fn start(command: &mut Command, log: &Path) -> Program {
        Program::spawn(command, log, File::create(log).expect("a log file"))
    }

    /// Starts a command whose output is added to `log`.
    ///
    /// # Panics
    /// If it cannot be started.
    #[must_use]
    pub fn start_again(command: &mut Command, log: &Path) -> Program {
        let out = File::options().create(true).append(true).open(log);
        Program::spawn(command, log, out.expect("a log file"))
    }

    fn spawn(command: &mut Command, log: &Path, out: File) -> Program {
        let err = out.try_clone().expect("a second handle");
        let child = command.stdin(Stdio::null()).stdout(out).stderr(err).spawn();
        Program { child: child.expect("the program starts"), log: log.to_owned() }
    }

    /// What it wrote so far.
    #[must_use]
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Its process id.
    ///
    /// # Panics
    /// Never: a pid fits.
    #[must_use]
    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).expect("a pid fits")
    }

    /// Its exit status, if it has ended.
    ///
    /// # Panics
    /// If the system does not know the process any more.
    pub fn ended(&mut self) -> Option<i32> {
        self.child.try_wait().expect("a child can be waited for").map(|status| status.code().unwrap_or(-1))
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: i32) {
        // SAFETY: `kill` takes two numbers; the process was started here and has not been reaped.
        #[expect(unsafe_code, reason = "the standard library cannot send signals")]
        unsafe {
            libc::kill(self.pid(), signal);
        }
    }

    /// Asks it to stop and waits for its end.
    ///
    /// # Panics
    /// If the system does not know the process any more.
    pub fn terminate(&mut self) {
        self.signal(libc::SIGTERM);
        self.child.wait().expect("a child can be waited for");
    }

    /// Kills it and waits for its end.
    pub fn kill(&mut self) {
        let _may_have_ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("--- {}\n{}", self.log.display(), self.log());
        }
    }
}

/// Exit status, standard output and standard error of a command that ends by itself.
#[derive(Clone, Debug)]
pub struct Ran {
    /// Exit status; -1 after a signal.
    pub status: i32,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

/// Runs a command to its end.
///
/// # Panics
/// If it cannot be started.
#[must_use]
pub fn run(command: &mut Command) -> Ran {
    let Output { status, stdout, stderr } =
        command.stdin(Stdio::null()).output().expect("the command starts");
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ran { status: status.code().unwrap_or(-1), out: text(stdout), err: text(stderr) }
}

/// A node_exporter on loopback.
#[derive(Debug)]
pub struct NodeExporter {
    /// Where it answers.
    pub port: u16,
    _program: Program,
}

impl NodeExporter {
    /// Starts Debian's, if it is unpacked.
    #[must_use]
    pub fn start(dir: &Path) -> Option<NodeExporter> {
        let binary = debian("prometheus-node-exporter", "usr/bin/prometheus-node-exporter")?;
        let port = free_port();
        let mut command = Command::new(binary);
        command.arg(format!("--web.listen-address=127.0.0.1:{port}"));
        let program = Program::start(&mut command, &dir.join("node_exporter.log"));
        Some(NodeExporter { port, _program: program })
    }
}
