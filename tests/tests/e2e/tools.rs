//! The command line's output when nobody reads it, as in `vestal config check FILE | true`.

use crate::load::PATIENCE;
use std::{
    fs, io,
    os::unix::process::ExitStatusExt,
    process::{Child, Command, ExitStatus, Stdio},
};
use tempfile::TempDir;
use tests::{Client, DATA_TIMEOUT, free_port, my_turn, run, vestal_binary, wait_until};

/// A pipe that nobody reads.
fn unread() -> Stdio {
    let (reader, writer) = io::pipe().expect("a pipe");
    drop(reader);
    writer.into()
}

fn with_configuration() -> TempDir {
    let dir = TempDir::new().expect("a folder");
    fs::write(dir.path().join("prometheus.yml"), "global: {scrape_interval: 1s}\n").expect("a configuration");
    dir
}

#[test]
fn a_tool_ends_quietly_when_nobody_reads_its_output() {
    let dir = with_configuration();
    let mut check = Command::new(vestal_binary());
    check.args(["config", "check"]).arg(dir.path().join("prometheus.yml"));
    let child = check.stdout(unread()).stderr(Stdio::piped()).spawn().expect("vestal starts");
    let ended = child.wait_with_output().expect("it ends");
    assert_eq!(ended.status.signal(), Some(libc::SIGPIPE), "{ended:?}");
    assert_eq!(String::from_utf8_lossy(&ended.stderr), "");
}

/// Stops the nodes with `dev`, whatever becomes of the test.
struct Dev(Child);

impl Dev {
    fn stop(&mut self) -> ExitStatus {
        // SAFETY: `kill` takes two numbers; the process was started here and has not been reaped.
        #[expect(unsafe_code, reason = "the standard library cannot send SIGTERM")]
        unsafe {
            libc::kill(i32::try_from(self.0.id()).expect("a pid fits"), libc::SIGTERM);
        }
        self.0.wait().expect("a child can be waited for")
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        if !matches!(self.0.try_wait(), Ok(Some(_))) {
            self.stop();
        }
    }
}

#[test]
fn dev_does_not_leave_its_nodes_alone_when_nobody_reads_its_output() {
    let _turn = my_turn();
    let dir = with_configuration();
    let (web, cluster) = (free_port(), free_port());
    let mut dev = Command::new(vestal_binary());
    dev.args(["dev", "--nodes=1"]).arg(format!("--data={}", dir.path().join("dev").display()));
    dev.arg(format!("--config.file={}", dir.path().join("prometheus.yml").display()));
    dev.arg(format!("--web.base-port={web}")).arg(format!("--cluster.base-port={cluster}"));
    let mut dev = Dev(dev.stdin(Stdio::null()).stdout(unread()).spawn().expect("vestal starts"));
    let node = Client::new(format!("http://127.0.0.1:{web}"), DATA_TIMEOUT);
    wait_until("its node is ready", PATIENCE, || match node.get("/-/ready", &[])?.status {
        200 => Ok(()),
        other => Err(other.to_string()),
    });
    assert!(matches!(dev.0.try_wait(), Ok(None)), "dev lives");
    let mut check = Command::new(vestal_binary());
    let busy = run(check.arg("check").arg(dir.path().join("dev/node-1/data")));
    assert_eq!(busy.status, 2, "{busy:?}");
    assert!(busy.err.contains("stop it first"), "a node that runs is not damage: {busy:?}");
    assert_eq!(dev.stop().code(), Some(0));
    assert!(node.get("/-/ready", &[]).is_err(), "its node has stopped with it");
}
