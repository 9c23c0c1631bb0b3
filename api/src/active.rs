//! `queries.active`: the queries under evaluation, in a file of fixed size, so that after a crash one knows what ran.
//!
//! Laid out as Prometheus lays it out: `[`, then one place of 1,000 bytes for each query that may run at once, with
//! `{"query":...,"timestamp_sec":...}`, zeros, and a comma at its end; an empty place is all zeros. What is left of
//! the last run is said at the start, and the file begins anew. It is advice for people: never synced, not checked.

use crate::json::{self, Object};
use model::{File, Fs, OpenOptions};
use std::{
    io,
    path::Path,
    sync::{Mutex, PoisonError},
};

/// Bytes of one place.
const PLACE: usize = 1000;

pub(crate) struct ActiveLog {
    file: Box<dyn File>,
    free: Mutex<Vec<usize>>,
}

impl ActiveLog {
    /// Says what the last run left, and begins anew.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub(crate) fn open(fs: &dyn Fs, path: &Path, places: usize) -> io::Result<ActiveLog> {
        if let Some(queries) = unfinished(fs, path, places) {
            tracing::info!(queries, "these queries did not finish in the last run");
        }
        let file =
            fs.open(path, OpenOptions { write: true, create: true, truncate: true, exclusive: false })?;
        file.set_len((1 + places * PLACE) as u64)?;
        file.write_all_at(b"[", 0)?;
        Ok(ActiveLog { file, free: Mutex::new((0..places).rev().collect()) })
    }

    fn free(&self) -> std::sync::MutexGuard<'_, Vec<usize>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes a query down for as long as what this yields lives. `at` is in seconds since the epoch.
    pub(crate) fn enter(&self, query: &str, at: i64) -> Entered<'_> {
        let place = self.free().pop();
        if let Some(place) = place {
            self.write(place, &entry(query, at));
        }
        Entered { log: self, place }
    }

    /// A failure is no reason to refuse a query.
    fn write(&self, place: usize, bytes: &[u8; PLACE]) {
        if let Err(error) = self.file.write_all_at(bytes, (1 + place * PLACE) as u64) {
            tracing::debug!(%error, "queries.active cannot be written");
        }
    }
}

/// A query in the log; leaves when dropped.
pub(crate) struct Entered<'a> {
    log: &'a ActiveLog,
    place: Option<usize>,
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        if let Some(place) = self.place {
            self.log.write(place, &[0; PLACE]);
            self.log.free().push(place);
        }
    }
}

/// A place's bytes; a query that is too long is cut between characters.
fn entry(query: &str, at: i64) -> [u8; PLACE] {
    let written = |query: &str| {
        let mut out = Vec::new();
        let mut object = Object::new(&mut out);
        object.text("query", query).integer("timestamp_sec", at);
        object.end();
        out
    };
    let room = PLACE - 1 - written("").len();
    let mut end = 0;
    let (mut used, mut escaped) = (0, Vec::new());
    for (at, c) in query.char_indices() {
        escaped.clear();
        json::text(&mut escaped, c.encode_utf8(&mut [0; 4]));
        used += escaped.len() - 2; // without quotes
        if used > room {
            break;
        }
        end = at + c.len_utf8();
    }
    let bytes = written(&query[..end]);
    let mut place = [0; PLACE];
    place[..bytes.len()].copy_from_slice(&bytes);
    place[PLACE - 1] = b',';
    place
}

/// What a run that did not end well left behind, as JSON.
fn unfinished(fs: &dyn Fs, path: &Path, places: usize) -> Option<String> {
    let file = fs.open(path, OpenOptions::default()).ok()?;
    // The last run may have had more places or fewer.
    let length = file.len().ok()?.min((1 + places.max(1000) * PLACE) as u64);
    let mut bytes = vec![0; usize::try_from(length).ok()?];
    file.read_exact_at(&mut bytes, 0).ok()?;
    bytes.retain(|byte| *byte != 0);
    let text = String::from_utf8_lossy(&bytes);
    let text = text.strip_suffix(',').unwrap_or(&text);
    (text.len() > 1).then(|| format!("{text}]"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(query: &str) -> String {
        let place = entry(query, 17);
        assert_eq!(place[PLACE - 1], b',');
        String::from_utf8(place[..PLACE - 1].iter().copied().filter(|byte| *byte != 0).collect()).unwrap()
    }

    #[test]
    fn an_entry_is_json_that_fits() {
        assert_eq!(text("up"), r#"{"query":"up","timestamp_sec":17}"#);
        let cut: serde_json::Value = serde_json::from_str(&text(&"é<\"".repeat(1000))).unwrap();
        let query = cut["query"].as_str().unwrap();
        assert!(query.len() > 300 && "é<\"".repeat(1000).starts_with(query), "{query}");
    }
}
