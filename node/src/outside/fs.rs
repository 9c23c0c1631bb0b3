//! The system's files.

use model::{File, Fs, OpenOptions};
use std::{
    ffi::CString,
    fs, io,
    os::{
        fd::AsRawFd,
        unix::{ffi::OsStrExt, fs::FileExt},
    },
    path::{Path, PathBuf},
};

/// The file system of the machine.
#[derive(Debug, Default)]
pub struct SystemFs;

#[derive(Debug)]
struct SystemFile(fs::File);

impl File for SystemFile {
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.0.read_exact_at(buf, offset)
    }

    fn write_all_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(data, offset)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn reserve(&self, from: u64, upto: u64) -> io::Result<()> {
        let offset = |at: u64| libc::off_t::try_from(at).map_err(io::Error::other);
        let (from, length) = (offset(from)?, offset(upto.saturating_sub(from))?);
        if length == 0 {
            return Ok(());
        }
        loop {
            // SAFETY: a plain system call on a descriptor that `self` holds open.
            #[expect(unsafe_code, reason = "the standard library cannot reserve room")]
            let done =
                unsafe { libc::fallocate(self.0.as_raw_fd(), libc::FALLOC_FL_KEEP_SIZE, from, length) };
            let error = io::Error::last_os_error();
            match error.raw_os_error() {
                _ if done == 0 => return Ok(()),
                Some(libc::EINTR) => {}
                // Not every file system can.
                Some(libc::EOPNOTSUPP | libc::ENOSYS | libc::EINVAL) => return Ok(()),
                _ => return Err(error),
            }
        }
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }
}

impl Fs for SystemFs {
    fn open(&self, path: &Path, options: OpenOptions) -> io::Result<Box<dyn File>> {
        let file = fs::OpenOptions::new()
            .read(true)
            .write(options.write)
            .create(options.create && !options.exclusive)
            .create_new(options.exclusive)
            .truncate(options.truncate)
            .open(path)?;
        Ok(Box::new(SystemFile(file)))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        fs::create_dir_all(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        let mut names = fs::read_dir(path)?
            .map(|entry| entry.map(|entry| PathBuf::from(entry.file_name())))
            .collect::<io::Result<Vec<_>>>()?;
        names.sort();
        Ok(names)
    }

    fn exists(&self, path: &Path) -> bool {
        path.exists()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir_all(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        fs::File::open(path)?.sync_all()
    }

    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        let path = CString::new(path.as_os_str().as_bytes())?;
        // SAFETY: `statvfs` writes the struct it is given, and `path` ends with a zero byte.
        #[expect(unsafe_code, reason = "the standard library cannot tell free space")]
        let stat = unsafe {
            let mut stat = std::mem::zeroed::<libc::statvfs>();
            if libc::statvfs(path.as_ptr(), &raw mut stat) != 0 {
                return Err(io::Error::last_os_error());
            }
            stat
        };
        Ok(stat.f_bavail * stat.f_frsize)
    }
}
