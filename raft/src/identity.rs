//! Who this node is, on disk: the file `identity` in the data directory.
//!
//! ```text
//! ┌────────────┬────────────┬─────────┬──────────────────────────┬─────────────┐
//! │ "VESTALID" │ version u8 │ kind u8 │ body (postcard)          │ crc32c u32  │   big endian; the sum is over all before
//! └────────────┴────────────┴─────────┴──────────────────────────┴─────────────┘
//! ```
//!
//! kind 1: promised, the body is the proposal; kind 2: member; kind 3: fenced, the body is why. An unformed node has no file. The file is replaced
//! as a whole and synced; a node whose file is missing beside data, or damaged, does not start: guessing who it is
//! could let it vote twice.

use model::{ClusterId, Fs, NodeId};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
};

const MAGIC: &[u8; 8] = b"VESTALID";
pub(crate) const VERSION: u8 = 1;
const KIND_PROMISED: u8 = 1;
const KIND_MEMBER: u8 = 2;
const KIND_FENCED: u8 = 3;
const FILE: &str = "identity";

/// A cluster to be formed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proposal {
    /// Its id.
    pub cluster: ClusterId,
    /// All members, by name, with the ids they will have.
    pub members: BTreeMap<String, NodeId>,
    /// Its number of data shards.
    pub shards: u32,
}

/// How this node stands towards clusters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Standing {
    /// It belongs to none and has promised none.
    #[default]
    Unformed,
    /// It promised to form this one and no other.
    Promised(Proposal),
    /// It belongs, or belonged, to a cluster, and will never form one.
    Member {
        /// The cluster.
        cluster: ClusterId,
        /// The node's id.
        node: NodeId,
        /// The node's name.
        name: String,
        /// The proposal, if it was one of those who formed the cluster: groups may have to be initialised still.
        formed: Option<Proposal>,
    },
}

#[derive(Serialize, Deserialize)]
struct MemberBody {
    cluster: ClusterId,
    node: NodeId,
    name: String,
    formed: Option<Proposal>,
}

/// The identity file is missing, damaged or can not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// There is data, but nothing says whose.
    #[error(
        "{} is missing, but {} exists: restore the file, or move the data directory away and let the node rejoin \
         with an empty one", .path.display(), .found.display()
    )]
    Missing {
        /// Where the file should be.
        path: PathBuf,
        /// What is there.
        found: PathBuf,
    },
    /// The file is not what was written.
    #[error(
        "{} is damaged ({reason}): move the data directory away and let the node rejoin with an empty one",
        .path.display()
    )]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The node was fenced before, for this reason.
    #[error("{0}")]
    Fenced(String),
    /// The file system failed.
    #[error("read or write {}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl Standing {
    /// The file's bytes; `None` for an unformed node, which has no file.
    pub(crate) fn encode(&self) -> io::Result<Option<Vec<u8>>> {
        let (kind, body) = match self {
            Standing::Unformed => return Ok(None),
            Standing::Promised(proposal) => (KIND_PROMISED, postcard::to_stdvec(proposal)),
            Standing::Member { cluster, node, name, formed } => {
                let body =
                    MemberBody { cluster: *cluster, node: *node, name: name.clone(), formed: formed.clone() };
                (KIND_MEMBER, postcard::to_stdvec(&body))
            }
        };
        file(kind, body).map(Some)
    }

    /// How a node stands, or why it must not take part any more.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Result<Standing, String>, String> {
        let (content, sum) = bytes.split_last_chunk::<4>().ok_or("too short")?;
        if crc32c::crc32c(content) != u32::from_be_bytes(*sum) {
            return Err("checksum mismatch".to_owned());
        }
        let rest = content.strip_prefix(MAGIC.as_slice()).ok_or("not an identity file")?;
        let (&[version, kind], body) = rest.split_first_chunk::<2>().ok_or("too short")?;
        if version != VERSION {
            return Err(format!("format version {version}, this program reads version {VERSION}"));
        }
        let malformed = |error: postcard::Error| error.to_string();
        match kind {
            KIND_PROMISED => {
                postcard::from_bytes(body).map(|proposal| Ok(Standing::Promised(proposal))).map_err(malformed)
            }
            KIND_MEMBER => {
                let MemberBody { cluster, node, name, formed } =
                    postcard::from_bytes(body).map_err(malformed)?;
                Ok(Ok(Standing::Member { cluster, node, name, formed }))
            }
            KIND_FENCED => postcard::from_bytes(body).map(Err).map_err(malformed),
            other => Err(format!("unknown kind {other}")),
        }
    }

    /// Reads how this node stands from its data directory. `data` names what only a node with an identity has
    /// (the log's and the shards' directories).
    ///
    /// # Errors
    /// See [`IdentityError`]; a missing file is one only where there is data.
    pub fn load(fs: &dyn Fs, dir: &Path, data: &[&str]) -> Result<Standing, IdentityError> {
        let path = dir.join(FILE);
        if fs.exists(&path) {
            let bytes = fs.read(&path).map_err(|source| IdentityError::Io { path: path.clone(), source })?;
            let decoded =
                Standing::decode(&bytes).map_err(|reason| IdentityError::Corrupt { path, reason })?;
            return decoded.map_err(IdentityError::Fenced);
        }
        match data.iter().map(|name| dir.join(name)).find(|found| has_content(fs, found)) {
            Some(found) => Err(IdentityError::Missing { path, found }),
            None => Ok(Standing::Unformed),
        }
    }

    /// Makes this durable in the data directory. After an error the node must stop.
    ///
    /// # Errors
    /// As the system says.
    pub fn save(&self, fs: &dyn Fs, dir: &Path) -> Result<(), IdentityError> {
        let path = dir.join(FILE);
        model::point!("identity.save.begin");
        let written = self.encode().and_then(|bytes| match bytes {
            Some(bytes) => fs.create_dir_all(dir).and_then(|()| fs.replace(&path, &bytes)),
            None => Ok(()),
        });
        model::point!("identity.save.durable");
        written.map_err(|source| IdentityError::Io { path, source })
    }
}

/// Makes it durable that the node of this data directory must not take part any more, for a reason that people are told
/// at every later start. Its log lacks what it had acknowledged: what it says of itself is worth nothing.
///
/// # Errors
/// As the system says.
pub fn fence(fs: &dyn Fs, dir: &Path, reason: &str) -> Result<(), IdentityError> {
    let path = dir.join(FILE);
    let written = file(KIND_FENCED, postcard::to_stdvec(reason)).and_then(|bytes| fs.replace(&path, &bytes));
    written.map_err(|source| IdentityError::Io { path, source })
}

/// The bytes of the file.
fn file(kind: u8, body: postcard::Result<Vec<u8>>) -> io::Result<Vec<u8>> {
    let mut bytes = [MAGIC.as_slice(), &[VERSION, kind], &body.map_err(io::Error::other)?].concat();
    bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_be_bytes());
    Ok(bytes)
}

/// A file, or a directory with something in it.
fn has_content(fs: &dyn Fs, path: &Path) -> bool {
    fs.exists(path) && fs.list(path).map_or(true, |names| !names.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use storage::log::testing::MemFs;

    fn member() -> Standing {
        let members: BTreeMap<String, NodeId> = [("a".to_owned(), NodeId(1))].into();
        let formed = Some(Proposal { cluster: ClusterId(5), members, shards: 6 });
        Standing::Member { cluster: ClusterId(5), node: NodeId(1), name: "a".to_owned(), formed }
    }

    fn saved(standing: &Standing) -> MemFs {
        let fs = MemFs::default();
        fs.create_dir_all(Path::new("data")).expect("created");
        fs.sync_dir(Path::new("")).ok();
        standing.save(&fs, Path::new("data")).expect("saved");
        fs
    }

    #[test]
    fn what_was_saved_is_loaded() {
        let Standing::Member { formed: Some(proposal), .. } = member() else { panic!("member") };
        for standing in [member(), Standing::Promised(proposal)] {
            let fs = saved(&standing);
            assert_eq!(Standing::load(&fs, Path::new("data"), &["log"]).expect("loaded"), standing);
        }
    }

    #[test]
    fn a_fenced_node_stays_fenced_and_says_why() {
        let fs = saved(&member());
        fence(&fs, Path::new("data"), "its log went backwards").expect("fenced");
        let loaded = Standing::load(&fs, Path::new("data"), &["log"]);
        assert!(matches!(loaded, Err(IdentityError::Fenced(reason)) if reason == "its log went backwards"));
    }

    #[test]
    fn an_empty_directory_is_unformed() {
        let loaded = Standing::load(&MemFs::default(), Path::new("data"), &["log", "shards"]);
        assert_eq!(loaded.expect("nothing there"), Standing::Unformed);
    }

    #[test]
    fn data_without_an_identity_is_refused() {
        let fs = MemFs::default();
        fs.create_dir_all(Path::new("data/log")).expect("created");
        fs.replace(Path::new("data/log/00000001"), b"x").expect("written");
        let loaded = Standing::load(&fs, Path::new("data"), &["log"]);
        assert!(matches!(loaded, Err(IdentityError::Missing { .. })), "{loaded:?}");
    }

    #[test]
    fn any_flipped_bit_is_found() {
        let bytes = member().encode().expect("encodes").expect("has a file");
        for at in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[at / 8] ^= 1 << (at % 8);
            assert!(Standing::decode(&damaged).is_err(), "bit {at}");
        }
    }
}
