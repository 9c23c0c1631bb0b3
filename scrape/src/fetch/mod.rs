//! One GET of a target: connection, TLS, credentials, redirects, body.

mod body;
mod client;
mod io;
mod room;
mod secrets;
mod tls;

pub(crate) use client::{Client, ClientPorts, Reply};
pub use room::{BODY_ROOM_BYTES, BodyRoom};
pub use secrets::SecretFiles;

/// A scrape failed; Prometheus's texts where it has one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScrapeError {
    /// The target is not to be asked.
    #[error("{0}")]
    Forced(String),
    /// The time-out has passed.
    #[error("Get {url:?}: context deadline exceeded")]
    Deadline {
        /// What was asked.
        url: String,
    },
    /// The time-out has passed while this node had no room for the body.
    #[error(
        "Get {url:?}: context deadline exceeded while waiting for room: this node's scrapes hold bodies of {bytes} \
         bytes, which is all it has room for; a body_size_limit of those that are too large helps"
    )]
    NoRoom {
        /// What was asked.
        url: String,
        /// The room, in bytes.
        bytes: u64,
    },
    /// No connection, or it broke.
    #[error("Get {url:?}: {what}")]
    Connection {
        /// What was asked.
        url: String,
        /// Why.
        what: String,
    },
    /// Redirected in a circle, or too often.
    #[error("Get {url:?}: {what}")]
    Redirect {
        /// Where it ended.
        url: String,
        /// Why.
        what: String,
    },
    /// Not a URL that can be asked.
    #[error("Get {url:?}: invalid URL: {what}")]
    Url {
        /// The URL.
        url: String,
        /// Why.
        what: String,
    },
    /// Not "200 OK".
    #[error("server returned HTTP status {0}")]
    Status(String),
    /// More bytes than allowed, after unpacking.
    #[error("body size limit exceeded")]
    BodyTooLarge,
    /// No gzip, though it says so.
    #[error("gzip: {0}")]
    Gzip(String),
    /// A Content-Encoding that was not asked for.
    #[error("unsupported Content-Encoding {0:?}")]
    Encoding(String),
    /// A file of a secret cannot be read on this node.
    #[error("unable to read file {path}: {what}")]
    Secret {
        /// The file.
        path: String,
        /// Why.
        what: String,
    },
    /// A header cannot be sent.
    #[error("header {name:?} has a value that can not be sent")]
    Header {
        /// Its name.
        name: String,
    },
    /// TLS cannot be set up.
    #[error("tls: {0}")]
    Tls(String),
}
