//! The configuration: in force, offered, and before.

use model::{BoxFuture, ConfigVersion, Labels, TimestampMs};
use std::{collections::BTreeMap, path::PathBuf, time::Duration};

/// A committed configuration.
#[derive(Clone, Debug)]
pub struct ConfigEntry {
    /// Its version.
    pub version: ConfigVersion,
    /// Hash of its text and its files of targets, hexadecimal.
    pub hash: String,
    /// XXH3-64 of its text as it was offered, hexadecimal: the same for a file that is the same.
    pub text_hash: String,
    /// When it was offered.
    pub offered_at: TimestampMs,
    /// Name of the node that offered it.
    pub offered_by: String,
    /// The text, secrets masked; empty if it is no longer kept.
    pub yaml: String,
}

/// Where queries are logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueryLogFile {
    /// The file.
    pub path: PathBuf,
    /// Rises with each reload: the file is then opened again.
    pub reloads: u64,
}

/// Why an offered configuration is not known to be in force.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OfferError {
    /// It has a mistake, or the cluster does not take it: it will never be in force. The text for the user.
    #[error("{0}")]
    Rejected(String),
    /// Nobody could take it now, or it may yet be in force: offer it again.
    #[error("{0}")]
    Unavailable(String),
}

/// The configuration.
pub trait ConfigSource: Send + Sync {
    /// The configuration in force as YAML with defaults, secrets as `<secret>`.
    fn yaml(&self) -> String;
    /// Flag names without dashes, and their values.
    fn flags(&self) -> BTreeMap<String, String>;
    /// `global.external_labels`, for federation.
    fn external_labels(&self) -> Labels;
    /// `global.evaluation_interval` in force: the step of subqueries that name none.
    fn evaluation_interval(&self) -> Duration {
        Duration::from_secs(60)
    }
    /// `global.query_log_file` in force.
    fn query_log(&self) -> Option<QueryLogFile> {
        None
    }
    /// Offers this node's file. The error is the text for the user, `FILE:LINE: FIELD: ...`.
    fn reload(&self) -> BoxFuture<'_, Result<(), String>>;
    /// Offers a text (`vestal config apply`): checked whole, committed once. Yields the version in force.
    fn apply(&self, yaml: String) -> BoxFuture<'_, Result<ConfigVersion, OfferError>>;
    /// Committed versions, newest first, at most `limit`.
    fn history(&self, limit: usize) -> BoxFuture<'_, Vec<ConfigEntry>>;
}
