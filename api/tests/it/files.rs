//! Files in memory.

use model::{File, Fs, OpenOptions};
use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

type Content = Arc<Mutex<Vec<u8>>>;

/// A file system of plain files.
#[derive(Clone, Debug, Default)]
pub(crate) struct Files(Arc<Mutex<BTreeMap<PathBuf, Content>>>);

#[derive(Debug)]
struct Opened(Content);

impl Files {
    /// What is in a file, as text.
    pub(crate) fn text(&self, path: &str) -> String {
        String::from_utf8(self.read(Path::new(path)).unwrap()).unwrap()
    }

    /// A file with this content.
    pub(crate) fn with(self, path: &str, text: &str) -> Files {
        self.0.lock().unwrap().insert(path.into(), Arc::new(Mutex::new(text.as_bytes().to_vec())));
        self
    }

    /// Moves a file away under whoever has it open.
    pub(crate) fn rotate(&self, from: &str, to: &str) {
        let mut files = self.0.lock().unwrap();
        let content = files.remove(Path::new(from)).unwrap();
        files.insert(to.into(), content);
    }
}

impl Fs for Files {
    fn open(&self, path: &Path, options: OpenOptions) -> io::Result<Box<dyn File>> {
        let mut files = self.0.lock().unwrap();
        if !files.contains_key(path) {
            if !options.create {
                return Err(io::ErrorKind::NotFound.into());
            }
            files.insert(path.to_owned(), Content::default());
        }
        let content = files[path].clone();
        if options.truncate {
            content.lock().unwrap().clear();
        }
        Ok(Box::new(Opened(content)))
    }

    fn create_dir_all(&self, _path: &Path) -> io::Result<()> {
        Ok(())
    }
    fn list(&self, _path: &Path) -> io::Result<Vec<PathBuf>> {
        Ok(self.0.lock().unwrap().keys().cloned().collect())
    }
    fn exists(&self, path: &Path) -> bool {
        self.0.lock().unwrap().contains_key(path)
    }
    fn rename(&self, _from: &Path, _to: &Path) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.0.lock().unwrap().remove(path).map(drop).ok_or(io::ErrorKind::NotFound.into())
    }
    fn remove_dir_all(&self, _path: &Path) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
    fn sync_dir(&self, _path: &Path) -> io::Result<()> {
        Ok(())
    }
    fn free_bytes(&self, _path: &Path) -> io::Result<u64> {
        Ok(1 << 40)
    }
}

impl File for Opened {
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let content = self.0.lock().unwrap();
        let part = content.get(offset as usize..offset as usize + buf.len());
        buf.copy_from_slice(part.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write_all_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        let mut content = self.0.lock().unwrap();
        let end = offset as usize + data.len();
        if content.len() < end {
            content.resize(end, 0);
        }
        content[offset as usize..end].copy_from_slice(data);
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.lock().unwrap().len() as u64)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.lock().unwrap().resize(len as usize, 0);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}
