//! Whose log it is: the log says so itself, beside the votes that it holds.
//!
//! ```text
//!  ┌───────────┬──────────────┬──────────┐
//!  │ version 1 │ cluster u128 │ node u64 │   the log's identity record, big endian
//!  └───────────┴──────────────┴──────────┘
//! ```
//!
//! A node that came back without its log would have forgotten what it acknowledged and whom it voted for, and with it
//! a majority could forget. So the record is durable before the first vote, and a member whose log does not bear it
//! does not start. Directories from before there was a record get it, if their log holds anything at all.

use super::Node;
use bytes::{BufMut, Bytes, BytesMut};
use model::{ClusterId, Fs, NodeId};
use raft::Standing;
use std::path::{Path, PathBuf};
use storage::log::{LogError, Recovered};
use tokio::sync::oneshot;

const VERSION: u8 = 1;

/// The log is not the one that belongs here.
#[derive(Debug, thiserror::Error)]
pub(super) enum OwnershipError {
    /// It was begun anew beside data.
    #[error(
        "{} is empty, but node {node} has stored data: its log, and with it what it voted and acknowledged, is gone; if it \
         is on a file system of its own, mount that and start again; if it is lost, move the data directory away and start \
         with an empty one, so that the others make this node whole again", .log.display()
    )]
    Lost {
        /// Where the log should be.
        log: PathBuf,
        /// Who stores here.
        node: NodeId,
    },
    /// It is another node's.
    #[error(
        "{} is the log of {theirs}, but its data directory is that of {ours}: put back the log that belongs here, or \
         move the data directory away and start with an empty one", .log.display()
    )]
    Foreign {
        /// Where the log is.
        log: PathBuf,
        /// Whose it is.
        theirs: String,
        /// Whose it should be.
        ours: String,
    },
    /// The record could not be written.
    #[error("write the node's identity into the log")]
    Write(#[source] LogError),
    /// It was not made durable.
    #[error("make the node's identity in the log durable")]
    Sync(#[source] std::io::Error),
}

fn encode(cluster: ClusterId, node: NodeId) -> Bytes {
    let mut bytes = BytesMut::with_capacity(25);
    bytes.put_u8(VERSION);
    bytes.put_u128(cluster.0);
    bytes.put_u64(node.0);
    bytes.freeze()
}

/// For people.
fn describe(record: &[u8]) -> String {
    let node = record.get(17..25).and_then(|bytes| bytes.try_into().ok()).map(u64::from_be_bytes);
    let cluster = record.get(1..17).and_then(|bytes| bytes.try_into().ok()).map(u128::from_be_bytes);
    match (record.first(), cluster, node) {
        (Some(&VERSION), Some(cluster), Some(node)) => {
            format!("node {} of cluster {}", NodeId(node), ClusterId(cluster))
        }
        _ => "a node that another version described".to_owned(),
    }
}

/// Whether the log that was opened may be used by a node that stands so. `stored` says whether the data directory holds
/// what only a member has.
///
/// # Errors
/// If the log is another one than the node wrote.
pub(super) fn check(
    standing: &Standing,
    log: &Path,
    recovered: &Recovered,
    stored: bool,
) -> Result<(), OwnershipError> {
    let is_empty = recovered.groups.is_empty();
    let log = log.to_owned();
    match (standing, &recovered.identity) {
        (Standing::Member { cluster, node, .. }, Some(found)) => {
            let ours = encode(*cluster, *node);
            if *found == ours {
                return Ok(());
            }
            Err(OwnershipError::Foreign { log, theirs: describe(found), ours: describe(&ours) })
        }
        (Standing::Member { node, .. }, None) if is_empty && stored => {
            Err(OwnershipError::Lost { log, node: *node })
        }
        (Standing::Member { .. }, None) => Ok(()),
        (Standing::Unformed | Standing::Promised(_), None) if is_empty => Ok(()),
        (Standing::Unformed | Standing::Promised(_), found) => {
            let theirs = found.as_deref().map_or_else(|| "a member of a cluster".to_owned(), describe);
            Err(OwnershipError::Foreign { log, theirs, ours: "a node without a cluster".to_owned() })
        }
    }
}

/// Whether the data directory holds what only a member has.
pub(super) fn is_stored(fs: &dyn Fs, data: &Path) -> bool {
    super::join::MEMBER_DATA
        .iter()
        .map(|name| data.join(name))
        .any(|path| fs.exists(&path) && fs.list(&path).map_or(true, |names| !names.is_empty()))
}

/// Makes the log say that it is this node's; returns when that is durable.
///
/// # Errors
/// If that fails; the node must not vote then.
pub(super) async fn claim(node: &Node) -> Result<(), OwnershipError> {
    let us = node.raft.identity();
    let (Some(cluster), Some(id)) = (us.cluster, us.node) else { return Ok(()) };
    let record = encode(cluster, id);
    if node.log.identity().as_ref() == Some(&record) {
        return Ok(());
    }
    let (done, durable) = oneshot::channel();
    let tell = move |result| drop(done.send(result));
    node.log.set_identity(record, Box::new(tell)).map_err(OwnershipError::Write)?;
    let ended = || Err(std::io::Error::other("the log ended"));
    durable.await.unwrap_or_else(|_| ended()).map_err(OwnershipError::Sync)?;
    model::point!("join.log.claimed");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::ShardId;
    use storage::log::GroupState;

    fn member(node: u64) -> Standing {
        Standing::Member { cluster: ClusterId(7), node: NodeId(node), name: "a".to_owned(), formed: None }
    }

    fn log(identity: Option<Bytes>, groups: u32) -> Recovered {
        let groups = (0..groups).map(|group| (ShardId(group), GroupState::default())).collect();
        Recovered { groups, identity, ..Recovered::default() }
    }

    fn refused(standing: &Standing, recovered: &Recovered, stored: bool) -> Option<String> {
        check(standing, Path::new("data/log"), recovered, stored).err().map(|error| error.to_string())
    }

    #[test]
    fn a_member_starts_with_its_own_log() {
        let own = log(Some(encode(ClusterId(7), NodeId(1))), 2);
        assert_eq!(refused(&member(1), &own, true), None);
    }

    #[test]
    fn a_member_whose_log_is_gone_does_not_start() {
        let text = refused(&member(1), &log(None, 0), true).expect("refused");
        assert!(text.starts_with("data/log is empty, but node 1 has stored data"), "{text}");
    }

    #[test]
    fn a_member_does_not_start_with_the_log_of_another() {
        let text = refused(&member(1), &log(Some(encode(ClusterId(7), NodeId(2))), 2), true);
        assert!(text.expect("refused").contains("is the log of node 2 of cluster "));
        assert!(refused(&member(1), &log(Some(Bytes::from_static(b"?")), 2), true).is_some());
    }

    #[test]
    fn a_directory_from_before_there_was_a_record_goes_on() {
        assert_eq!(refused(&member(1), &log(None, 2), true), None);
    }

    #[test]
    fn a_member_that_died_before_it_stored_anything_goes_on() {
        assert_eq!(refused(&member(1), &log(None, 0), false), None);
    }

    #[test]
    fn a_node_without_a_cluster_takes_no_members_log() {
        assert_eq!(refused(&Standing::Unformed, &log(None, 0), false), None);
        assert!(refused(&Standing::Unformed, &log(None, 1), false).is_some());
        assert!(
            refused(&Standing::Unformed, &log(Some(encode(ClusterId(7), NodeId(2))), 0), false).is_some()
        );
    }
}
