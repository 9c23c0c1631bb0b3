//! How much memory this process may have.

use std::fs;

/// The least of the machine's memory and the limits of the process's control group; `None` if the system does not say.
#[must_use]
pub fn memory_bytes() -> Option<u64> {
    let number = |path: &str| fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
    // In a container its own group is mounted here, of version 2 or 1. "max" is no number.
    let groups = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];
    groups.into_iter().filter_map(number).chain(machine()).min()
}

fn machine() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let total = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    total.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_has_memory() {
        let bytes = memory_bytes().expect("Linux says how much");
        assert!(bytes > 16 << 20, "{bytes}");
    }
}
