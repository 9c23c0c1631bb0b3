//! A node's wall clock and its disk's syncs, made worse while it runs: steers `tests/shim/world.c`, which is preloaded
//! into the node. Works without root, and without libfaketime.

use crate::program::cache;
use std::{
    ffi::OsString,
    fs::{self, File},
    hash::{DefaultHasher, Hash, Hasher},
    io::Write,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process::{Command, Stdio, id},
    sync::OnceLock,
    time::Duration,
};

/// The source is in the test program, so that it is compiled wherever that runs.
const SOURCE: &str = include_str!("../shim/world.c");
/// Size of `struct world`.
const BYTES: u64 = 64;

/// The places of `struct world`'s words.
#[derive(Clone, Copy, Debug)]
enum Word {
    ClockOffsetNs = 0,
    ClockDriftPpm = 1,
    ClockDriftFrom = 2,
    SyncDelayUs = 3,
    SyncFailures = 4,
    Syncs = 6,
}

/// What is wrong beneath one node. Nothing is, at first; it outlives restarts of the node.
#[derive(Debug)]
pub struct Shim {
    library: PathBuf,
    path: PathBuf,
    world: File,
}

impl Shim {
    /// Makes the file at `path` by which a node is steered.
    ///
    /// # Errors
    /// If there is no C compiler, or the file cannot be made.
    pub fn new(path: &Path) -> Result<Shim, String> {
        static LIBRARY: OnceLock<Result<PathBuf, String>> = OnceLock::new();
        let library = LIBRARY.get_or_init(compiled).clone()?;
        let open = || -> std::io::Result<File> {
            let world = File::options().read(true).write(true).create(true).truncate(true).open(path)?;
            world.set_len(BYTES)?;
            Ok(world)
        };
        let world = open().map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(Shim { library, path: path.to_owned(), world })
    }

    /// The variables that a node's environment needs.
    #[must_use]
    pub fn variables(&self) -> [(&'static str, OsString); 2] {
        [("LD_PRELOAD", self.library.clone().into()), ("VESTAL_WORLD", self.path.clone().into())]
    }

    /// Every sync takes at least so long from now on, those that wait included.
    pub fn set_sync_delay(&self, delay: Duration) {
        self.set(Word::SyncDelayUs, i64::try_from(delay.as_micros()).unwrap_or(i64::MAX));
    }

    /// The next `count` syncs fail with EIO, and sync nothing.
    pub fn fail_syncs(&self, count: u32) {
        self.set(Word::SyncFailures, count.into());
    }

    /// How many of the failures that were asked for have not happened yet.
    #[must_use]
    pub fn failures_left(&self) -> i64 {
        self.get(Word::SyncFailures)
    }

    /// Syncs that the node asked for so far.
    #[must_use]
    pub fn syncs(&self) -> i64 {
        self.get(Word::Syncs)
    }

    /// The wall clock is so many milliseconds ahead from now on.
    pub fn set_clock_offset(&self, milliseconds: i64) {
        self.set(Word::ClockOffsetNs, milliseconds.saturating_mul(1_000_000));
    }

    /// The wall clock gains so many microseconds a second from now on; 0 also takes back what it has gained.
    pub fn set_clock_drift(&self, ppm: i64) {
        self.set(Word::ClockDriftFrom, 0);
        self.set(Word::ClockDriftPpm, ppm);
    }

    fn set(&self, word: Word, value: i64) {
        self.world.write_all_at(&value.to_le_bytes(), word as u64 * 8).expect("the file was written before");
    }

    fn get(&self, word: Word) -> i64 {
        let mut bytes = [0; 8];
        self.world.read_exact_at(&mut bytes, word as u64 * 8).expect("the file has all words");
        i64::from_le_bytes(bytes)
    }
}

/// The compiled library, kept below the cache under a name that follows from its source.
fn compiled() -> Result<PathBuf, String> {
    let mut hasher = DefaultHasher::new();
    SOURCE.hash(&mut hasher);
    let dir = cache().join("shim");
    let library = dir.join(format!("world-{:016x}.so", hasher.finish()));
    if library.is_file() {
        return Ok(library);
    }
    fs::create_dir_all(&dir).map_err(|error| format!("{}: {error}", dir.display()))?;
    let part = dir.join(format!("part-{}.so", id()));
    // The C++ compiler's driver, because that is the one which `scripts/env` sees to.
    let mut command = Command::new("g++");
    command.args(["-x", "c", "-std=gnu11", "-O2", "-Wall", "-shared", "-fPIC", "-o"]).arg(&part);
    command.args(["-", "-ldl"]).stdin(Stdio::piped()).stderr(Stdio::piped());
    let mut compiler = command.spawn().map_err(|error| format!("g++: {error}"))?;
    let written = compiler.stdin.take().map(|mut pipe| pipe.write_all(SOURCE.as_bytes()));
    let output = compiler.wait_with_output().map_err(|error| format!("g++: {error}"))?;
    if !output.status.success() || !matches!(written, Some(Ok(()))) {
        return Err(format!("g++: {}", String::from_utf8_lossy(&output.stderr)));
    }
    fs::rename(&part, &library).map_err(|error| format!("{}: {error}", library.display()))?;
    Ok(library)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    /// What `date +%s` says, and whether `sync` could sync, under the shim.
    fn seconds(shim: &Shim) -> i64 {
        let out = Command::new("date").arg("+%s").envs(shim.variables()).output().unwrap().stdout;
        String::from_utf8_lossy(&out).trim().parse().unwrap()
    }

    fn sync(shim: &Shim, dir: &Path) -> bool {
        fs::write(dir.join("synced"), "").unwrap();
        let mut command = Command::new("sync");
        command.arg("--data").arg(dir.join("synced")).envs(shim.variables());
        command.output().unwrap().status.success()
    }

    #[test]
    fn a_clock_is_off_by_as_much_as_was_set() {
        let dir = tempfile::tempdir().unwrap();
        let shim = Shim::new(&dir.path().join("world")).unwrap();
        let before = seconds(&shim);
        shim.set_clock_offset(-86_400_000);
        let off = before - seconds(&shim);
        assert!((86_300..=86_400).contains(&off), "{off}");
    }

    #[test]
    fn a_sync_fails_once_and_is_slow_as_was_set_and_both_are_counted() {
        let dir = tempfile::tempdir().unwrap();
        let shim = Shim::new(&dir.path().join("world")).unwrap();
        shim.fail_syncs(1);
        assert_eq!([sync(&shim, dir.path()), sync(&shim, dir.path())], [false, true]);
        assert_eq!((shim.failures_left(), shim.syncs()), (0, 2));
        shim.set_sync_delay(Duration::from_millis(300));
        let begun = Instant::now();
        assert!(sync(&shim, dir.path()));
        assert!(begun.elapsed() >= Duration::from_millis(300));
    }
}
