//! Disks that lie: bits turn over, sectors are written where others belong. Neither is noticed before it is read.

use super::mem_fs::{Dice, MemFs, SECTOR};
use std::path::{Path, PathBuf};

/// A place that was damaged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The file.
    pub path: PathBuf,
    /// Where in it.
    pub offset: usize,
}

impl MemFs {
    /// A bit turns over where something is stored, in one of the files that `concerned` chooses; `None` if none of
    /// them holds anything. Whatever was written there may still be written over.
    pub fn rot(&self, seed: u64, concerned: &dyn Fn(&Path) -> bool) -> Option<Damage> {
        let mut dice = Dice(seed);
        let (path, end) = self.pick_file(&mut dice, concerned)?;
        let (offset, mask) = (dice.roll(end), 1 << dice.roll(8));
        self.flip(&path, offset, mask).ok()?;
        Some(Damage { path, offset })
    }

    /// A sector is written where another one belongs, in one of the files that `concerned` chooses: a disk that
    /// loses its way. `None` if there is nothing, or nothing changed by it.
    pub fn misdirect(&self, seed: u64, concerned: &dyn Fn(&Path) -> bool) -> Option<Damage> {
        let mut dice = Dice(seed);
        let (from, from_end) = self.pick_file(&mut dice, concerned)?;
        let (path, end) = self.pick_file(&mut dice, concerned)?;
        let source = dice.roll(from_end) / SECTOR * SECTOR;
        let offset = dice.roll(end) / SECTOR * SECTOR;
        let mut disk = self.disk();
        let disk = &mut *disk;
        let sector = disk.inodes.get(disk.names.get(&from)?)?.current.get(source..)?;
        let sector = sector[..sector.len().min(SECTOR)].to_vec();
        let inode = disk.inodes.get_mut(disk.names.get(&path)?)?;
        let before = inode.current.clone();
        for bytes in [&mut inode.current, &mut inode.durable] {
            let end = bytes.len().min(offset + sector.len());
            if let Some(place) = bytes.get_mut(offset..end) {
                place.copy_from_slice(&sector[..end - offset]);
            }
        }
        (before != inode.current).then_some(Damage { path, offset })
    }

    /// A file with content, and the length up to the last byte that is not zero.
    fn pick_file(&self, dice: &mut Dice, concerned: &dyn Fn(&Path) -> bool) -> Option<(PathBuf, usize)> {
        let disk = self.disk();
        let files: Vec<(PathBuf, usize)> = disk
            .names
            .iter()
            .filter(|(path, _)| concerned(path))
            .filter_map(|(path, inode)| {
                let bytes = &disk.inodes.get(inode)?.current;
                Some((path.clone(), bytes.iter().rposition(|byte| *byte != 0)? + 1))
            })
            .collect();
        (!files.is_empty()).then(|| files[dice.roll(files.len())].clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::testing::FsOp;
    use model::Fs;

    const DIR: &str = "/log";

    fn disk(files: &[(&str, &[u8])]) -> MemFs {
        let fs = MemFs::default();
        fs.create_dir_all(Path::new(DIR)).expect("created");
        for (name, bytes) in files {
            fs.replace(&Path::new(DIR).join(name), bytes).expect("written");
        }
        fs
    }

    fn read(fs: &MemFs, name: &str) -> Vec<u8> {
        fs.read(&Path::new(DIR).join(name)).expect("read")
    }

    #[test]
    fn rot_turns_one_bit_of_a_concerned_file_over_for_good() {
        let fs = disk(&[("a", &[0xff; 100]), ("b", &[0xff; 100])]);
        let damage = fs.rot(7, &|path| path.ends_with("b")).expect("there is something");
        fs.power_loss(1);
        assert_eq!(read(&fs, "a"), [0xff; 100]);
        let ones: u32 = read(&fs, "b").iter().map(|byte| byte.count_ones()).sum();
        assert_eq!((ones, read(&fs, "b")[damage.offset].count_ones()), (799, 7));
    }

    #[test]
    fn a_misdirected_sector_stands_where_another_belongs() {
        let first: Vec<u8> = [[1; SECTOR], [2; SECTOR]].concat();
        let changed = (0..20).filter(|seed| {
            let fs = disk(&[("a", &first)]);
            let damage = fs.misdirect(*seed, &|_| true);
            assert_eq!(damage.is_some(), read(&fs, "a") != first);
            damage.is_some()
        });
        assert!((5..20).contains(&changed.count()), "some were written where they belong");
    }

    #[test]
    fn nothing_is_damaged_where_nothing_is() {
        assert_eq!(disk(&[]).rot(1, &|_| true), None);
        assert_eq!(disk(&[("a", &[0; 10])]).misdirect(1, &|_| true), None);
    }

    #[test]
    fn each_third_read_fails_until_the_disk_is_healthy() {
        let fs = disk(&[("a", b"x")]);
        fs.fail_calls(&[FsOp::Read], 3);
        let failed = (0..9).filter(|_| fs.read(&Path::new(DIR).join("a")).is_err());
        assert_eq!(failed.count(), 3);
        fs.fail_calls(&[], 0);
        assert!((0..9).all(|_| fs.read(&Path::new(DIR).join("a")).is_ok()));
    }
}
