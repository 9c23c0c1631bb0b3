//! A file system in memory that behaves as badly as a real one may.
//!
//! ```text
//!            write            sync (file)                    power loss
//!  bytes     ─────▶ current ─────────────▶ durable   ◀── durable + some of the writes since, torn at sectors
//!            create, rename   sync (dir)
//!  names     ─────▶ current ─────────────▶ durable   ◀── durable + some of the changes since
//! ```
//!
//! A sync that fails loses what it was to make durable, although reads still show it: so does Linux. After
//! [`MemFs::crash`] and [`MemFs::power_loss`] the files that were open are dead, so whoever lived before cannot
//! write any more. Directories themselves are durable at once.

use model::{File, Fs, OpenOptions};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

pub(super) const SECTOR: usize = 512;

/// What a call does, for a hook to decide on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FsOp {
    /// Open or create a file.
    Open,
    /// Read from a file.
    Read,
    /// Write to a file.
    Write,
    /// Change a file's length.
    SetLen,
    /// Keep room for a file.
    Reserve,
    /// Sync a file.
    Sync,
    /// Rename a file.
    Rename,
    /// Remove a file.
    Remove,
    /// Sync a directory.
    SyncDir,
}

/// A call that is about to happen.
#[derive(Clone, Debug)]
pub struct FsCall {
    /// What it does.
    pub op: FsOp,
    /// The file or directory; where it was when it was opened.
    pub path: PathBuf,
    /// Bytes to be read or written, or the new length.
    pub bytes: u64,
}

type Hook = Arc<dyn Fn(&FsCall) -> io::Result<()> + Send + Sync>;

#[derive(Clone, Debug)]
enum Change {
    Write { offset: usize, data: Vec<u8> },
    SetLen(usize),
}

impl Change {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Change::Write { offset, data } => {
                if bytes.len() < offset + data.len() {
                    bytes.resize(offset + data.len(), 0);
                }
                bytes[*offset..offset + data.len()].copy_from_slice(data);
            }
            Change::SetLen(len) => bytes.resize(*len, 0),
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Inode {
    pub(super) current: Vec<u8>,
    pub(super) durable: Vec<u8>,
    /// What happened to `current` since the last sync.
    since: Vec<Change>,
    /// Room is kept up to here.
    reserved: u64,
}

impl Inode {
    /// Room that it takes.
    fn taken(&self) -> u64 {
        self.reserved.max(self.current.len() as u64)
    }
}

#[derive(Clone, Debug)]
enum Naming {
    Add(PathBuf, u64),
    Remove(PathBuf),
    Rename(PathBuf, PathBuf, u64),
}

impl Naming {
    fn apply(&self, names: &mut BTreeMap<PathBuf, u64>) {
        match self {
            Naming::Add(path, inode) => drop(names.insert(path.clone(), *inode)),
            Naming::Remove(path) => drop(names.remove(path)),
            Naming::Rename(from, to, inode) => {
                names.remove(from);
                names.insert(to.clone(), *inode);
            }
        }
    }

    fn in_dir(&self, dir: &Path) -> bool {
        match self {
            Naming::Add(path, _) | Naming::Remove(path) | Naming::Rename(_, path, _) => {
                path.parent() == Some(dir)
            }
        }
    }
}

#[derive(Default)]
pub(super) struct Disk {
    pub(super) inodes: BTreeMap<u64, Inode>,
    pub(super) names: BTreeMap<PathBuf, u64>,
    durable_names: BTreeMap<PathBuf, u64>,
    /// What happened to `names` since the last sync of the directory.
    since: Vec<Naming>,
    dirs: BTreeSet<PathBuf>,
    next_inode: u64,
    /// Files opened in an earlier life are dead.
    life: u64,
    capacity: Option<u64>,
    /// As a file system that keeps no room for anybody.
    reserves_nothing: bool,
    peak: u64,
    syncs: u64,
    failing_syncs: u64,
    /// Calls of these kinds fail with an input/output error, each so-manieth of them.
    failing: Option<(Vec<FsOp>, u64)>,
    asked: u64,
    losses: DiskLosses,
    hook: Option<Hook>,
}

/// What power losses took from a disk, in calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskLosses {
    /// Writes of which nothing was left.
    pub lost: u64,
    /// Writes of which a part was left.
    pub torn: u64,
    /// Names that were not given, changed or removed.
    pub names: u64,
}

impl Disk {
    fn used(&self) -> u64 {
        self.names
            .values()
            .filter_map(|inode| self.inodes.get(inode))
            .map(|inode| inode.current.len() as u64)
            .sum()
    }

    /// Bytes of all files, and what is kept for them.
    fn taken(&self) -> u64 {
        self.names.values().filter_map(|inode| self.inodes.get(inode)).map(Inode::taken).sum()
    }

    fn rename_inode(&mut self, change: Naming) {
        change.apply(&mut self.names);
        self.since.push(change);
    }

    /// How many bytes a file may grow by.
    fn room(&self) -> u64 {
        self.capacity.map_or(u64::MAX, |capacity| capacity.saturating_sub(self.taken()))
    }
}

/// The file system; clones share it.
#[derive(Clone, Default)]
pub struct MemFs(Arc<Mutex<Disk>>);

impl fmt::Debug for MemFs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.disk().names.keys()).finish()
    }
}

fn full() -> io::Error {
    io::Error::new(io::ErrorKind::StorageFull, "no space left on device")
}

/// EIO, as the system says it.
fn input_output() -> io::Error {
    io::Error::other("input/output error")
}

fn not_found(path: &Path) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("{}: no such file or directory", path.display()))
}

/// SplitMix64: a few good bits from a seed, the same everywhere.
pub(super) struct Dice(pub(super) u64);

impl Dice {
    pub(super) fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % sides as u64) as usize
    }
}

impl MemFs {
    pub(super) fn disk(&self) -> MutexGuard<'_, Disk> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Power fails and comes back: of what was not synced an arbitrary part is there, chosen by `seed`. Writes may
    /// be torn at any sector and persist in any order.
    pub fn power_loss(&self, seed: u64) {
        let mut dice = Dice(seed);
        let mut disk = self.disk();
        let disk = &mut *disk;
        for inode in disk.inodes.values_mut() {
            for change in std::mem::take(&mut inode.since) {
                match lose(&change, &mut inode.durable, &mut dice) {
                    Left::Nothing => disk.losses.lost += 1,
                    Left::Part => disk.losses.torn += 1,
                    Left::All => {}
                }
            }
            inode.current.clone_from(&inode.durable);
            inode.reserved = 0;
        }
        for change in std::mem::take(&mut disk.since) {
            if dice.roll(2) == 0 {
                change.apply(&mut disk.durable_names);
            } else {
                disk.losses.names += 1;
            }
        }
        disk.names.clone_from(&disk.durable_names);
        let named: BTreeSet<u64> = disk.names.values().copied().collect();
        disk.inodes.retain(|inode, _| named.contains(inode));
        disk.life += 1;
    }

    /// The process dies; the system lives: nothing is lost but who had files open.
    pub fn crash(&self) {
        self.disk().life += 1;
    }

    /// From now on the files may have so many bytes together; `None` for no limit.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.disk().capacity = bytes;
    }

    /// From now on no room is kept for anybody: as on file systems that cannot.
    pub fn reserve_nothing(&self) {
        self.disk().reserves_nothing = true;
    }

    /// The next `count` syncs of files fail, and lose what they were to make durable.
    pub fn fail_syncs(&self, count: u64) {
        self.disk().failing_syncs = count;
    }

    /// From now on each `nth` call of the kinds `ops` fails with an input/output error; none with an empty list.
    pub fn fail_calls(&self, ops: &[FsOp], nth: u64) {
        self.disk().failing = (!ops.is_empty()).then(|| (ops.to_vec(), nth.max(1)));
    }

    /// What power losses took so far.
    #[must_use]
    pub fn losses(&self) -> DiskLosses {
        self.disk().losses
    }

    /// Asks `hook` before each call; it may fail the call, or block. Called without a lock held.
    pub fn set_hook(&self, hook: impl Fn(&FsCall) -> io::Result<()> + Send + Sync + 'static) {
        self.disk().hook = Some(Arc::new(hook));
    }

    /// Changes bits of a byte, on the disk and in memory.
    ///
    /// # Errors
    /// If there is no such byte.
    pub fn flip(&self, path: &Path, offset: usize, mask: u8) -> io::Result<()> {
        let mut disk = self.disk();
        let inode = disk.names.get(path).copied().ok_or_else(|| not_found(path))?;
        let inode = disk.inodes.get_mut(&inode).ok_or_else(|| not_found(path))?;
        *inode.current.get_mut(offset).ok_or(io::ErrorKind::UnexpectedEof)? ^= mask;
        if let Some(byte) = inode.durable.get_mut(offset) {
            *byte ^= mask;
        }
        Ok(())
    }

    /// Makes everything durable and gives an independent copy.
    #[must_use]
    pub fn fork(&self) -> MemFs {
        let disk = self.disk();
        let inodes = disk.inodes.iter().map(|(id, inode)| {
            let bytes = inode.current.clone();
            (*id, Inode { durable: bytes.clone(), current: bytes, ..Inode::default() })
        });
        MemFs(Arc::new(Mutex::new(Disk {
            inodes: inodes.collect(),
            names: disk.names.clone(),
            durable_names: disk.names.clone(),
            dirs: disk.dirs.clone(),
            next_inode: disk.next_inode,
            ..Disk::default()
        })))
    }

    /// An independent copy of what is durable: what a power loss that takes everything unsynced would leave.
    #[must_use]
    pub fn fork_durable(&self) -> MemFs {
        let disk = self.disk();
        let named = disk.durable_names.values().filter_map(|id| {
            let bytes = disk.inodes.get(id)?.durable.clone();
            Some((*id, Inode { durable: bytes.clone(), current: bytes, ..Inode::default() }))
        });
        MemFs(Arc::new(Mutex::new(Disk {
            inodes: named.collect(),
            names: disk.durable_names.clone(),
            durable_names: disk.durable_names.clone(),
            dirs: disk.dirs.clone(),
            next_inode: disk.next_inode,
            ..Disk::default()
        })))
    }

    /// Bytes of all files together, and the most there ever were.
    #[must_use]
    pub fn used_and_peak(&self) -> (u64, u64) {
        let disk = self.disk();
        (disk.used(), disk.peak)
    }

    /// Bytes of the files in one directory together.
    #[must_use]
    pub fn bytes_in(&self, dir: &Path) -> u64 {
        let disk = self.disk();
        let inside = disk.names.iter().filter(|(path, _)| path.parent() == Some(dir));
        inside.filter_map(|(_, id)| disk.inodes.get(id)).map(|inode| inode.current.len() as u64).sum()
    }

    /// Bytes of the files in a directory and all below it together.
    #[must_use]
    pub fn bytes_below(&self, dir: &Path) -> u64 {
        let disk = self.disk();
        let inside = disk.names.iter().filter(|(path, _)| path.starts_with(dir));
        inside.filter_map(|(_, id)| disk.inodes.get(id)).map(|inode| inode.current.len() as u64).sum()
    }

    /// Syncs of files so far.
    #[must_use]
    pub fn syncs(&self) -> u64 {
        self.disk().syncs
    }

    fn ask(&self, op: FsOp, path: &Path, bytes: u64) -> io::Result<()> {
        let hook = {
            let mut disk = self.disk();
            let disk = &mut *disk;
            if let Some((ops, nth)) = &disk.failing
                && ops.contains(&op)
            {
                disk.asked += 1;
                if disk.asked.is_multiple_of(*nth) {
                    return Err(input_output());
                }
            }
            disk.hook.clone()
        };
        hook.map_or(Ok(()), |hook| hook(&FsCall { op, path: path.to_owned(), bytes }))
    }
}

/// What a power loss leaves of a change.
enum Left {
    Nothing,
    Part,
    All,
}

/// Applies a change in full, in part, or not at all.
fn lose(change: &Change, bytes: &mut Vec<u8>, dice: &mut Dice) -> Left {
    match (dice.roll(4), change) {
        (0, _) => Left::Nothing,
        (1, _) | (_, Change::SetLen(_)) => {
            change.apply(bytes);
            Left::All
        }
        // The first part.
        (2, Change::Write { offset, data }) => {
            let data = data[..dice.roll(data.len() + 1)].to_vec();
            Change::Write { offset: *offset, data }.apply(bytes);
            Left::Part
        }
        // The whole length, but only some sectors.
        (_, Change::Write { offset, data }) => {
            if bytes.len() < offset + data.len() {
                bytes.resize(offset + data.len(), 0);
            }
            let mut from = 0;
            while from < data.len() {
                let to = data.len().min((offset + from) / SECTOR * SECTOR + SECTOR - offset);
                if dice.roll(2) == 0 {
                    bytes[offset + from..offset + to].copy_from_slice(&data[from..to]);
                }
                from = to;
            }
            Left::Part
        }
    }
}

struct MemFile {
    fs: MemFs,
    path: PathBuf,
    inode: u64,
    life: u64,
    write: bool,
}

impl fmt::Debug for MemFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MemFile({})", self.path.display())
    }
}

impl MemFile {
    fn with<T>(&self, act: impl FnOnce(&mut Disk, u64) -> io::Result<T>) -> io::Result<T> {
        let mut disk = self.fs.disk();
        if disk.life != self.life {
            return Err(io::Error::other("the process that opened this file is dead"));
        }
        act(&mut disk, self.inode)
    }

    fn change(&self, change: Change) -> io::Result<()> {
        if !self.write {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        self.with(|disk, id| {
            let room = disk.room();
            let inode = disk.inodes.get_mut(&id).ok_or(io::ErrorKind::NotFound)?;
            let len = inode.taken();
            let (result, change) = match change {
                Change::Write { offset, data } => {
                    // As write(2): what fits is written before the error.
                    let fits = len.saturating_add(room).saturating_sub(offset as u64).min(data.len() as u64)
                        as usize;
                    let result = if fits < data.len() { Err(full()) } else { Ok(()) };
                    (result, Change::Write { offset, data: data[..fits].to_vec() })
                }
                change => (Ok(()), change),
            };
            if let Change::SetLen(len) = &change {
                inode.reserved = inode.reserved.min(*len as u64);
            }
            change.apply(&mut inode.current);
            inode.since.push(change);
            disk.peak = disk.peak.max(disk.used());
            result
        })
    }
}

impl File for MemFile {
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.fs.ask(FsOp::Read, &self.path, buf.len() as u64)?;
        self.with(|disk, inode| {
            let bytes = &disk.inodes.get(&inode).ok_or(io::ErrorKind::NotFound)?.current;
            let start = usize::try_from(offset).map_err(io::Error::other)?;
            let part = start.checked_add(buf.len()).and_then(|end| bytes.get(start..end));
            buf.copy_from_slice(part.ok_or(io::ErrorKind::UnexpectedEof)?);
            Ok(())
        })
    }

    fn write_all_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        self.fs.ask(FsOp::Write, &self.path, data.len() as u64)?;
        self.change(Change::Write {
            offset: usize::try_from(offset).map_err(io::Error::other)?,
            data: data.to_vec(),
        })
    }

    fn len(&self) -> io::Result<u64> {
        self.with(|disk, inode| {
            Ok(disk.inodes.get(&inode).ok_or(io::ErrorKind::NotFound)?.current.len() as u64)
        })
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.fs.ask(FsOp::SetLen, &self.path, len)?;
        self.change(Change::SetLen(usize::try_from(len).map_err(io::Error::other)?))
    }

    fn reserve(&self, _: u64, upto: u64) -> io::Result<()> {
        self.fs.ask(FsOp::Reserve, &self.path, upto)?;
        self.with(|disk, id| {
            let (room, can) = (disk.room(), !disk.reserves_nothing);
            let inode = disk.inodes.get_mut(&id).ok_or(io::ErrorKind::NotFound)?;
            let more = upto.saturating_sub(inode.taken());
            if !can || more == 0 {
                return Ok(());
            }
            if more > room {
                return Err(full());
            }
            inode.reserved = upto;
            Ok(())
        })
    }

    fn sync(&self) -> io::Result<()> {
        self.fs.ask(FsOp::Sync, &self.path, 0)?;
        self.with(|disk, inode| {
            disk.syncs += 1;
            let failing = disk.failing_syncs > 0;
            disk.failing_syncs = disk.failing_syncs.saturating_sub(1);
            let inode = disk.inodes.get_mut(&inode).ok_or(io::ErrorKind::NotFound)?;
            let since = std::mem::take(&mut inode.since);
            if failing {
                return Err(input_output());
            }
            since.iter().for_each(|change| change.apply(&mut inode.durable));
            Ok(())
        })
    }
}

impl Fs for MemFs {
    fn open(&self, path: &Path, options: OpenOptions) -> io::Result<Box<dyn File>> {
        self.ask(FsOp::Open, path, 0)?;
        let mut disk = self.disk();
        let known = disk.names.get(path).copied();
        let inode = match known {
            Some(_) if options.exclusive => return Err(io::ErrorKind::AlreadyExists.into()),
            Some(inode) => inode,
            None if !options.create => return Err(not_found(path)),
            None if path
                .parent()
                .is_some_and(|dir| !dir.as_os_str().is_empty() && !disk.dirs.contains(dir)) =>
            {
                return Err(not_found(path));
            }
            None => {
                disk.next_inode += 1;
                let inode = disk.next_inode;
                disk.inodes.insert(inode, Inode::default());
                disk.rename_inode(Naming::Add(path.to_owned(), inode));
                inode
            }
        };
        if options.truncate
            && let Some(inode) = disk.inodes.get_mut(&inode)
        {
            inode.current.clear();
            inode.reserved = 0;
            inode.since.push(Change::SetLen(0));
        }
        let life = disk.life;
        Ok(Box::new(MemFile { fs: self.clone(), path: path.to_owned(), inode, life, write: options.write }))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.disk().dirs.extend(path.ancestors().map(Path::to_owned));
        Ok(())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        let disk = self.disk();
        if !disk.dirs.contains(path) {
            return Err(not_found(path));
        }
        let inside = |entry: &&PathBuf| entry.parent() == Some(path);
        let names: BTreeSet<PathBuf> = disk
            .names
            .keys()
            .filter(inside)
            .chain(disk.dirs.iter().filter(inside))
            .filter_map(|entry| entry.file_name().map(PathBuf::from))
            .collect();
        Ok(names.into_iter().collect())
    }

    fn exists(&self, path: &Path) -> bool {
        let disk = self.disk();
        disk.names.contains_key(path) || disk.dirs.contains(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.ask(FsOp::Rename, from, 0)?;
        let mut disk = self.disk();
        let inode = disk.names.get(from).copied().ok_or_else(|| not_found(from))?;
        disk.rename_inode(Naming::Rename(from.to_owned(), to.to_owned(), inode));
        Ok(())
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.ask(FsOp::Remove, path, 0)?;
        let mut disk = self.disk();
        if !disk.names.contains_key(path) {
            return Err(not_found(path));
        }
        disk.rename_inode(Naming::Remove(path.to_owned()));
        Ok(())
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        self.ask(FsOp::Remove, path, 0)?;
        let mut disk = self.disk();
        let inside: Vec<PathBuf> = disk.names.keys().filter(|file| file.starts_with(path)).cloned().collect();
        inside.into_iter().for_each(|file| disk.rename_inode(Naming::Remove(file)));
        disk.dirs.retain(|dir| !dir.starts_with(path));
        Ok(())
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.ask(FsOp::SyncDir, path, 0)?;
        let mut disk = self.disk();
        if !disk.dirs.contains(path) && !path.as_os_str().is_empty() {
            return Err(not_found(path));
        }
        let disk = &mut *disk;
        let (here, elsewhere) =
            std::mem::take(&mut disk.since).into_iter().partition(|change| change.in_dir(path));
        disk.since = elsewhere;
        let here: Vec<Naming> = here;
        here.iter().for_each(|change| change.apply(&mut disk.durable_names));
        Ok(())
    }

    fn free_bytes(&self, _: &Path) -> io::Result<u64> {
        Ok(self.disk().room())
    }
}
