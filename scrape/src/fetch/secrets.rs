//! Secrets in files, read on this node at each scrape that needs them.

use super::ScrapeError;
use super::tls::SYSTEM_ROOTS;
use crate::config::{Scheme, ScrapeConfig, Secret};
use model::{Fs, OpenOptions, Spawner};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

/// The longest such file, in bytes.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// The files of one scrape.
#[derive(Debug, Default)]
pub(super) struct Secrets {
    files: BTreeMap<String, Result<Vec<u8>, String>>,
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
    /// Reads all files that this scrape may need; a missing one is an error only when it is used.
    pub(super) async fn read(
        config: &ScrapeConfig,
        scheme: Scheme,
        fs: &Arc<dyn Fs>,
        spawner: &dyn Spawner,
    ) -> Secrets {
        let tls = scheme == Scheme::Https;
        let mut paths = paths(config, tls);
        let system = tls && config.tls.ca.is_none() && !config.tls.insecure_skip_verify;
        if paths.is_empty() && !system {
            return Secrets::default();
        }
        let found = Arc::new(Mutex::new(Secrets::default()));
        let (fs, result) = (fs.clone(), found.clone());
        let work = move || {
            if system {
                paths.extend(
                    SYSTEM_ROOTS.iter().find(|path| fs.exists(Path::new(path))).map(|p| (*p).to_owned()),
                );
            }
            let files = paths.into_iter().map(|path| {
                let contents = read_file(&*fs, &path);
                (path, contents)
            });
            let secrets = Secrets { files: files.collect() };
            if let Ok(mut slot) = result.lock() {
                *slot = secrets;
            }
        };
        spawner.blocking("read secrets", Box::new(work)).await;
        found.lock().map(|mut found| std::mem::take(&mut *found)).unwrap_or_default()
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
