//! What processes cost, as the kernel counts it.

use std::{fs, path::Path};

/// Clock ticks a second in `/proc/PID/stat`; Linux has shown this number to programs since 2.6.
const TICKS: f64 = 100.0;

/// User and system seconds of processes so far.
#[must_use]
pub fn cpu_seconds(pids: &[i32]) -> f64 {
    let of = |pid: &i32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let fields: Vec<_> =
            stat.rsplit(')').next().unwrap_or("").split_whitespace().map(str::to_owned).collect();
        let field = |i: usize| fields.get(i).and_then(|f| f.parse::<f64>().ok()).unwrap_or(0.0);
        (field(11) + field(12)) / TICKS
    };
    pids.iter().map(of).sum()
}

fn kib(pid: i32, file: &str, key: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(key)).unwrap_or("");
    line.split_whitespace().next().and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// Resident bytes of processes.
#[must_use]
pub fn resident_bytes(pids: &[i32]) -> u64 {
    pids.iter().map(|pid| kib(*pid, "status", "VmRSS:") * 1024).sum()
}

/// Bytes that processes had written to disks so far.
#[must_use]
pub fn written_bytes(pids: &[i32]) -> u64 {
    pids.iter().map(|pid| kib(*pid, "io", "write_bytes:")).sum()
}

/// Bytes of all files below a folder, without folders of this name.
#[must_use]
pub fn disk_bytes(dir: &Path, without: Option<&str>) -> u64 {
    let Ok(entries) = fs::read_dir(dir) else { return 0 };
    let of = |entry: fs::DirEntry| match entry.metadata() {
        Ok(meta) if meta.is_dir() => {
            let left_out = without.is_some_and(|name| entry.file_name() == name);
            if left_out { 0 } else { disk_bytes(&entry.path(), without) }
        }
        Ok(meta) => meta.len(),
        Err(_) => 0,
    };
    entries.flatten().map(of).sum()
}
