//! Secrets in files, read on this node at each scrape that needs them.
//!
//! ```text
//!  scrape ─path─▶ ┌─────────────┐ ──read, on a thread──▶ file
//!  scrape ─path─▶ │ SecretFiles │                          │
//!  scrape ◀───────┴─────────────┴◀────────contents─────────┘
//! ```
//!
//! Invariant: a file is read once at a time, and at most [`READS_MAX`] are; a scrape waits for a read that is under way
//! instead of beginning another. A read cannot be given up: on a mount that hangs it holds its thread for as long as
//! that lasts, and a thread for each scrape would soon be all that there are.

use super::ScrapeError;
use super::tls::SYSTEM_ROOTS;
use crate::config::{Scheme, ScrapeConfig, Secret};
use model::{Fs, OpenOptions, Spawner};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{Semaphore, watch};

/// The longest such file, in bytes.
const FILE_BYTES_MAX: u64 = 4 << 20;
/// Files that are being read at most; further ones wait.
const READS_MAX: usize = 32;

/// What became of a read.
type Contents = Result<Arc<[u8]>, String>;
/// Gets the contents; ends without them if the reader panicked.
type Read = watch::Receiver<Option<Contents>>;

/// The reads of secrets under way on a node; all its scrapers share them.
#[derive(Debug)]
pub struct SecretFiles {
    reads: Mutex<BTreeMap<String, Read>>,
    permits: Arc<Semaphore>,
}

impl Default for SecretFiles {
    fn default() -> SecretFiles {
        SecretFiles { reads: Mutex::default(), permits: Arc::new(Semaphore::new(READS_MAX)) }
    }
}

impl SecretFiles {
    fn reads(&self) -> MutexGuard<'_, BTreeMap<String, Read>> {
        self.reads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The contents of a file, by a read that may have begun earlier.
    async fn read(self: &Arc<Self>, path: &str, fs: &Arc<dyn Fs>, spawner: &dyn Spawner) -> Contents {
        let known = under_way(&self.reads(), path);
        let mut read = match known {
            Some(read) => read,
            None => self.begin(path, fs, spawner).await,
        };
        let ended = read.wait_for(Option::is_some).await.ok().and_then(|contents| contents.clone());
        ended.unwrap_or_else(|| Err("its read broke off".to_owned()))
    }

    async fn begin(self: &Arc<Self>, path: &str, fs: &Arc<dyn Fs>, spawner: &dyn Spawner) -> Read {
        let permit = self.permits.clone().acquire_owned().await;
        let mut reads = self.reads();
        if let Some(read) = under_way(&reads, path) {
            return read; // somebody else got a permit before
        }
        let (done, read) = watch::channel(None);
        reads.insert(path.to_owned(), read.clone());
        drop(reads);
        let (files, fs, path) = (self.clone(), fs.clone(), path.to_owned());
        let work = move || {
            let contents = read_file(&*fs, &path).map(Arc::from);
            files.reads().remove(&path);
            done.send_replace(Some(contents));
            drop(permit);
        };
        // A task of its own: the work must begin though this scrape may give up.
        spawner.spawn("read a secret", spawner.blocking("read a secret", Box::new(work)));
        read
    }
}

fn under_way(reads: &BTreeMap<String, Read>, path: &str) -> Option<Read> {
    // One whose sender is gone has ended.
    reads.get(path).filter(|read| read.has_changed().is_ok()).cloned()
}

/// The files of one scrape.
#[derive(Debug, Default)]
pub(super) struct Secrets {
    files: BTreeMap<String, Contents>,
}

/// The paths that a configuration names.
fn paths(config: &ScrapeConfig, tls: bool) -> Vec<String> {
    let auth = config.basic_auth.iter().flat_map(|auth| [&auth.username, &auth.password]);
    let token = config.authorization.iter().map(|auth| &auth.credentials);
    let headers = config.http_headers.iter().flat_map(|header| &header.values);
    let in_tls = [&config.tls.ca, &config.tls.cert, &config.tls.key].into_iter().flatten().filter(|_| tls);
    let files = auth.chain(token).chain(headers).chain(in_tls).filter_map(|secret| match secret {
        Secret::File(path) => Some(path.clone()),
        Secret::Inline(_) => None,
    });
    files.collect()
}

impl Secrets {
    /// Reads all files that this scrape may need; a missing one is an error only when it is used. `reading` is the
    /// file that is being waited for, for who gives up meanwhile.
    pub(super) async fn read(
        config: &ScrapeConfig,
        scheme: Scheme,
        (fs, spawner): (&Arc<dyn Fs>, &dyn Spawner),
        files: &Arc<SecretFiles>,
        reading: &Mutex<Option<String>>,
    ) -> Secrets {
        let tls = scheme == Scheme::Https;
        let note = |path: Option<&str>| {
            *reading.lock().unwrap_or_else(PoisonError::into_inner) = path.map(str::to_owned);
        };
        let mut found = Secrets::default();
        for path in paths(config, tls) {
            note(Some(&path));
            let contents = files.read(&path, fs, spawner).await;
            found.files.insert(path, contents);
        }
        if tls && config.tls.ca.is_none() && !config.tls.insecure_skip_verify {
            for path in SYSTEM_ROOTS {
                note(Some(path));
                let contents = files.read(path, fs, spawner).await;
                let there = contents.is_ok();
                found.files.insert((*path).to_owned(), contents);
                if there {
                    break;
                }
            }
        }
        note(None);
        found
    }

    /// The bytes of a secret.
    pub(super) fn bytes<'a>(&'a self, secret: &'a Secret) -> Result<&'a [u8], ScrapeError> {
        match secret {
            Secret::Inline(text) => Ok(text.as_bytes()),
            Secret::File(path) => match self.files.get(path) {
                Some(Ok(contents)) => Ok(contents),
                Some(Err(what)) => Err(ScrapeError::Secret { path: path.clone(), what: what.clone() }),
                None => Err(ScrapeError::Secret { path: path.clone(), what: "not read".to_owned() }),
            },
        }
    }

    /// A secret as text; white space around the contents of a file does not count.
    pub(super) fn text<'a>(&'a self, secret: &'a Secret) -> Result<&'a str, ScrapeError> {
        let path = || match secret {
            Secret::Inline(_) => "(inline)".to_owned(),
            Secret::File(path) => path.clone(),
        };
        let text = std::str::from_utf8(self.bytes(secret)?)
            .map_err(|_| ScrapeError::Secret { path: path(), what: "not UTF-8".to_owned() })?;
        Ok(if matches!(secret, Secret::File(_)) { text.trim() } else { text })
    }

    /// The authorities that the system trusts.
    pub(super) fn system_roots(&self) -> Result<&[u8], ScrapeError> {
        SYSTEM_ROOTS.iter().find_map(|path| self.files.get(*path)?.as_deref().ok()).ok_or_else(|| {
            ScrapeError::Tls("no authorities found on this system; set tls_config.ca_file".to_owned())
        })
    }
}

fn read_file(fs: &dyn Fs, path: &str) -> Result<Vec<u8>, String> {
    let file = fs.open(Path::new(path), OpenOptions::default()).map_err(|e| e.to_string())?;
    let length = file.len().map_err(|e| e.to_string())?;
    if length > FILE_BYTES_MAX {
        return Err(format!("longer than {FILE_BYTES_MAX} bytes"));
    }
    let mut contents = vec![0; length as usize];
    file.read_exact_at(&mut contents, 0).map_err(|e| e.to_string())?;
    Ok(contents)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Gate, ports_behind};

    fn contents(text: &str) -> Contents {
        Ok(Arc::from(text.as_bytes()))
    }

    #[tokio::test]
    async fn a_file_whose_read_hangs_is_read_once_however_many_ask_for_it() {
        let gate = Gate::default();
        let ports = ports_behind(&gate, [("/mnt/token", b"abc")]);
        let ask = || ports.secrets.read("/mnt/token", &ports.fs, &*ports.spawner);
        let asked = futures::future::join_all((0..100).map(|_| ask()));
        let opened = async {
            gate.reached().await;
            gate.open();
        };
        let (all, ()) = futures::join!(asked, opened);
        assert_eq!((all, gate.entered()), (vec![contents("abc"); 100], 1));
        assert_eq!((ask().await, gate.entered()), (contents("abc"), 2), "the next one reads anew");
    }

    #[tokio::test]
    async fn a_file_whose_read_hangs_keeps_no_other_from_being_read() {
        let gate = Gate::default();
        let ports = ports_behind(&gate, [("/mnt/token", b"abc"), ("/etc/token", b"xyz")]);
        let hanging = Box::pin(ports.secrets.read("/mnt/token", &ports.fs, &*ports.spawner));
        let other = Box::pin(ports.secrets.read("/etc/token", &ports.fs, &*ports.spawner));
        let first = futures::future::select(hanging, other).await;
        assert!(matches!(&first, futures::future::Either::Right((read, _)) if *read == contents("xyz")));
        gate.open();
    }
}
