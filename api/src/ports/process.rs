//! The process: readiness, its end, what it is and what it measures.

use model::TimestampMs;

/// Whether the node can answer a default query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// It can.
    Ready,
    /// It cannot, and why; reads are tried nevertheless and find out for themselves.
    NotReady(String),
    /// It is reading its own disk: nothing can be read from it, stale reads included.
    Starting(String),
    /// It stops.
    Stopping,
}

/// The process's life.
pub trait Lifecycle: Send + Sync {
    /// Asks the process to stop gracefully; returns at once.
    fn quit(&self);
    /// Whether it is ready, with 5 s of patience for an election and none for a lost quorum.
    fn readiness(&self) -> Readiness;
    /// What `/api/v1/status/runtimeinfo` says.
    fn runtime(&self) -> RuntimeInfo;
}

/// The content of `/api/v1/status/runtimeinfo`. Fields of Go's runtime have their nearest meaning here.
#[derive(Clone, Debug, Default)]
pub struct RuntimeInfo {
    /// When the process started.
    pub start_time: TimestampMs,
    /// The working directory.
    pub cwd: String,
    /// The host's name.
    pub hostname: String,
    /// Whether the last reload succeeded.
    pub reload_config_success: bool,
    /// When the configuration in force was taken up.
    pub last_config_time: TimestampMs,
    /// Damages found since the start.
    pub corruption_count: i64,
    /// Tasks alive.
    pub tasks: u64,
    /// Worker threads.
    pub threads: u64,
    /// The memory limit in bytes; `i64::MAX` without.
    pub memory_limit: i64,
    /// Retention as Prometheus prints it: `15d` or `15d or 10GiB`.
    pub storage_retention: String,
}

/// The content of `/api/v1/status/buildinfo` and `/version`.
#[derive(Clone, Debug, Default)]
pub struct BuildInfo {
    /// The version that clients choose features by: the Prometheus release whose API this is.
    pub version: String,
    /// Git revision.
    pub revision: String,
    /// Git branch.
    pub branch: String,
    /// Who built it.
    pub build_user: String,
    /// When.
    pub build_date: String,
    /// The compiler, in `goVersion`.
    pub compiler: String,
    /// Vestal's own version, an extra field `vestalVersion`.
    pub vestal_version: String,
}

/// The node's own metrics.
pub trait Metrics: Send + Sync {
    /// Appends all metrics in the text format 0.0.4.
    fn render(&self, out: &mut String);
}
