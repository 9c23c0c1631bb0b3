//! Every format's blobs of every version, as they were written once: what reads them today must still make the same of
//! them. For the tests of crates that have formats.
//!
//! ```text
//! docs/formats/corpus/CRATE/NAME.vVERSION.bin    the blob; never changed, never deleted
//! docs/formats/corpus/CRATE/NAME.vVERSION.txt    what a reader makes of it
//! ```

use std::{
    fs,
    path::{Path, PathBuf},
};

/// A format that is stored or sent.
#[derive(Clone, Copy, Debug)]
pub struct Format {
    /// Its name: that of its files.
    pub name: &'static str,
    /// The oldest version that is still read.
    pub oldest: u32,
    /// The version that is written today.
    pub version: u32,
    /// Makes a blob of that version, with everything in it that the format can say.
    pub record: fn() -> Vec<u8>,
    /// What reading a blob of any version gives, for people.
    pub render: fn(&[u8]) -> Result<String, String>,
}

/// The directory of a crate's blobs; `manifest` is its `CARGO_MANIFEST_DIR`.
#[must_use]
pub fn dir(manifest: &str) -> PathBuf {
    let manifest = Path::new(manifest);
    manifest.join("../docs/formats/corpus").join(manifest.file_name().unwrap_or_default())
}

/// Reads every blob in `dir` and compares what that gives with the text beside it. Every version that is read has a
/// blob, and every file there belongs to one that somebody reads. With `record`, a blob of today's version that is
/// missing is written, and so are the texts; a blob that is there never is.
///
/// # Errors
/// With what is wrong, and the remedy.
pub fn check(dir: &Path, formats: &[Format], record: bool) -> Result<(), String> {
    let io = |path: &Path| {
        let path = path.display().to_string();
        move |error: std::io::Error| format!("{path}: {error}")
    };
    if record {
        fs::create_dir_all(dir).map_err(io(dir))?;
    }
    for format in formats {
        let path = |version: u32| dir.join(format!("{}.v{version}.bin", format.name));
        if let Some(gone) = (format.oldest..format.version).map(path).find(|path| !path.exists()) {
            return Err(format!("{} is gone: take it back from the history", gone.display()));
        }
        let path = path(format.version);
        if path.exists() {
            continue;
        }
        if !record {
            return Err(format!(
                "{} is written in version {} and no blob of it is recorded: run the test with RECORD=1, look at the \
                 new files, and commit them; leave those of older versions as they are",
                format.name, format.version
            ));
        }
        fs::write(&path, (format.record)()).map_err(io(&path))?;
    }
    let entries = fs::read_dir(dir).map_err(io(dir))?;
    let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    for path in &paths {
        let extension = path.extension().and_then(|extension| extension.to_str());
        if extension == Some("txt") && path.with_extension("bin").exists() {
            continue; // read with its blob
        }
        let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        let format = stem.rsplit_once(".v").and_then(|(name, _)| formats.iter().find(|f| f.name == name));
        let format = format.filter(|_| extension == Some("bin"));
        let format = format
            .ok_or_else(|| format!("{}: nobody reads this; a format is never given up", path.display()))?;
        let blob = fs::read(path).map_err(io(path))?;
        let text =
            (format.render)(&blob).map_err(|reason| format!("{stem} cannot be read any more: {reason}"))?;
        let beside = path.with_extension("txt");
        if record {
            fs::write(&beside, &text).map_err(io(&beside))?;
        }
        let expected = fs::read_to_string(&beside).map_err(io(&beside))?;
        if text != expected {
            return Err(format!(
                "{stem} gives something else than it did. If only words changed, rewrite the text with RECORD=1 and \
                 look at the difference; else old data is misread.\n{text}"
            ));
        }
    }
    Ok(())
}

/// Puts pieces into one blob.
#[must_use]
pub fn join<T: AsRef<[u8]>>(pieces: impl IntoIterator<Item = T>) -> Vec<u8> {
    let mut blob = Vec::new();
    for piece in pieces {
        blob.extend_from_slice(&(piece.as_ref().len() as u32).to_be_bytes());
        blob.extend_from_slice(piece.as_ref());
    }
    blob
}

/// Takes a blob's pieces out again.
///
/// # Errors
/// If it is no such blob.
pub fn split(mut blob: &[u8]) -> Result<Vec<&[u8]>, String> {
    let mut pieces = Vec::new();
    while let Some((length, rest)) = blob.split_first_chunk::<4>() {
        let length = u32::from_be_bytes(*length) as usize;
        let (piece, rest) = rest.split_at_checked(length).ok_or("a piece is cut")?;
        pieces.push(piece);
        blob = rest;
    }
    if blob.is_empty() { Ok(pieces) } else { Err("a length is cut".to_owned()) }
}

/// Renders each piece of a blob.
///
/// # Errors
/// If one cannot be read.
pub fn each(blob: &[u8], render: impl Fn(usize, &[u8]) -> Result<String, String>) -> Result<String, String> {
    let pieces = split(blob)?.into_iter().enumerate();
    pieces.map(|(at, piece)| render(at, piece).map(|text| text + "\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn format(version: u32, render: fn(&[u8]) -> Result<String, String>) -> Format {
        Format { name: "number", oldest: 1, version, record: || vec![7], render }
    }

    fn number(blob: &[u8]) -> Result<String, String> {
        Ok(format!("{blob:?}"))
    }

    fn other(_: &[u8]) -> Result<String, String> {
        Ok("8".to_owned())
    }

    fn unreadable(_: &[u8]) -> Result<String, String> {
        Err("unknown version".to_owned())
    }

    /// An empty directory of this test's own.
    fn empty(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("vestal-corpus-{name}-{}", std::process::id()));
        let _nothing_there = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).expect("created");
        dir
    }

    #[test]
    fn a_new_version_without_a_blob_fails_with_the_remedy() {
        let dir = empty("new");
        let missing = check(&dir, &[format(1, number)], false).expect_err("nothing is recorded");
        assert!(missing.contains("RECORD=1"), "{missing}");
        check(&dir, &[format(1, number)], true).expect("recorded");
        check(&dir, &[format(1, number)], false).expect("there");
        assert!(check(&dir, &[format(2, number)], false).is_err());
    }

    #[test]
    fn a_blob_that_is_read_as_something_else_or_not_at_all_or_by_nobody_fails() {
        let dir = empty("old");
        check(&dir, &[format(1, number)], true).expect("recorded");
        assert!(check(&dir, &[format(1, other)], false).is_err());
        assert!(check(&dir, &[format(1, unreadable)], false).is_err());
        assert!(check(&dir, &[], false).is_err());
    }

    #[test]
    fn a_blob_of_an_older_version_that_is_gone_or_a_text_without_a_blob_fails() {
        let dir = empty("gone");
        check(&dir, &[format(1, number)], true).expect("recorded");
        check(&dir, &[format(2, number)], true).expect("recorded");
        fs::remove_file(dir.join("number.v1.bin")).expect("removed");
        assert!(check(&dir, &[format(2, number)], true).is_err_and(|wrong| wrong.contains("gone")));
        fs::write(dir.join("number.v1.bin"), [7]).expect("written");
        check(&dir, &[format(2, number)], false).expect("there again");
        fs::write(dir.join("other.v1.txt"), "").expect("written");
        assert!(check(&dir, &[format(2, number)], false).is_err_and(|wrong| wrong.contains("nobody")));
    }

    #[test]
    fn pieces_come_out_as_they_went_in() {
        let blob = join(["a", "", "bcd"]);
        assert_eq!(split(&blob), Ok(vec![&b"a"[..], b"", b"bcd"]));
        assert!(split(&blob[..blob.len() - 1]).is_err());
    }
}
