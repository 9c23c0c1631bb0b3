//! `prometheus.yml`: text → [`raw`] as people write it → [`Config`] as the code uses it.
//!
//! A configuration is checked whole. What is wrong is said as `FILE:LINE: FIELD: what is wrong; remedy`, and what
//! Prometheus knows and Vestal does not support yet is refused by name, unless it is empty or the operator chose to
//! have it ignored.

mod check;
mod mask;
mod raw;
mod tree;

pub use check::parse;
pub use mask::{mask_secrets, section_of};

use model::{DurationMs, Labels};
use scrape::config::ScrapeConfig;

/// A checked configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// `global.evaluation_interval`: the step of subqueries that name none.
    pub evaluation_interval: DurationMs,
    /// `global.external_labels`. Environment variables are refused; if they are to be ignored, they are left as they stand.
    pub external_labels: Labels,
    /// `global.query_log_file` as it stands there; relative to the configuration file.
    pub query_log_file: Option<String>,
    /// `storage.tsdb.out_of_order_time_window`.
    pub out_of_order_time_window: DurationMs,
    /// `storage.tsdb.retention.time`, which beats the flag.
    pub retention_time: Option<DurationMs>,
    /// `storage.tsdb.retention.size` in bytes, which beats the flag.
    pub retention_size: Option<u64>,
    /// `scrape_configs`, with what they take from `global`.
    pub scrape_configs: Vec<ScrapeConfig>,
    /// Keys that were accepted although they do nothing here.
    pub ignored: Vec<String>,
}

impl Config {
    /// Patterns of all `file_sd_configs`, each once.
    #[must_use]
    pub fn file_sd_patterns(&self) -> Vec<String> {
        let files = self.scrape_configs.iter().flat_map(|c| &c.file_sd_configs).flat_map(|sd| &sd.files);
        let mut patterns: Vec<_> = files.cloned().collect();
        patterns.sort();
        patterns.dedup();
        patterns
    }
}

/// How a node names a text that was offered to it without a file; who has the file puts its name there.
pub const OFFERED: &str = "configuration";

/// What a configuration's text is known by where it is not shown itself, because of its secrets.
#[must_use]
pub fn text_hash(text: &str) -> String {
    format!("{:016x}", xxhash_rust::xxh3::xxh3_64(text.as_bytes()))
}

/// How strictly unsupported keys are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unsupported {
    /// They are errors.
    Refuse,
    /// They are accepted and listed (`--config.ignore-unsupported`).
    Ignore,
}

/// What is wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}: {message}")]
pub struct ConfigError {
    /// The file as the user named it.
    pub file: String,
    /// The line, from 1; 0 if it is not known.
    pub line: u64,
    /// `FIELD: what is wrong; remedy`.
    pub message: String,
}
