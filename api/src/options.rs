//! What of the API is configurable, with limits for everything that comes from outside.

use crate::write::DecodeLimits;
use promql::{Features, ParserOptions};
use std::{path::PathBuf, time::Duration};

/// Settings of the API, from flags. Limits without a flag of their own have their values in [`Options::default`].
#[derive(Clone, Debug)]
pub struct Options {
    /// `--query.timeout`: the longest a query may take; the `timeout` parameter can only lower it.
    pub query_timeout: Duration,
    /// `--query.max-concurrency`: queries evaluated at once; others wait, within their timeout.
    pub query_concurrency_max: usize,
    /// `queries.active`: where the queries under evaluation are written down, for the time after a crash.
    pub active_queries: Option<PathBuf>,
    /// `--query.max-samples`: samples one query may load.
    pub query_samples_max: u64,
    /// `--query.max-bytes`: bytes one query may hold, its answer included.
    pub query_bytes_max: u64,
    /// `--query.max-bytes-total`: bytes all queries may hold together, answers on their way to clients included.
    pub query_bytes_total_max: u64,
    /// `--enable-feature=promql-per-step-stats`: whether `stats=all` says more than `stats=true`.
    pub per_step_stats: bool,
    /// `--query.lookback-delta`.
    pub lookback_delta: Duration,
    /// Optional behaviour of the language (`--enable-feature`).
    pub features: Features,
    /// What the parser accepts (`--enable-feature`).
    pub parser: ParserOptions,
    /// `--query.consistency-timeout`: how long a default read waits for leaders.
    pub consistency_timeout: Duration,
    /// `--web.cors.origin`: which origins may read, as an anchored regular expression.
    pub cors_origin: model::AnchoredRegex,
    /// `--web.enable-lifecycle`: `/-/reload` and `/-/quit`.
    pub lifecycle_enabled: bool,
    /// `--web.enable-remote-write-receiver`.
    pub remote_write_enabled: bool,
    /// `POST /api/v1/status/config`, by which `vestal config apply` offers a configuration.
    pub config_apply_enabled: bool,
    /// Bytes of a form body.
    pub form_bytes_max: usize,
    /// Bytes of a configuration offered by `vestal config apply`: as many as the cluster keeps.
    pub config_bytes_max: usize,
    /// Bytes of a write as sent.
    pub write_body_bytes_max: usize,
    /// Bytes of a write when decompressed.
    pub write_message_bytes_max: usize,
    /// Bytes of request bodies, packed and unpacked, that may be in memory at once; more are told to come back.
    pub body_bytes_in_flight_max: usize,
    /// How long a body may take to arrive.
    pub body_timeout: Duration,
    /// Limits on what a write contains.
    pub write: DecodeLimits,
    /// Label sets that the write path remembers; at most about 512 bytes each.
    pub write_cache_series: usize,
    /// `--web.route-prefix`, by default the path of `--web.external-url`: what stands before every path; empty, or
    /// with a slash in front and none behind.
    pub route_prefix: String,
    /// Gaps listed in one answer.
    pub gaps_max: usize,
    /// Label names or values, and series, listed in one answer when the client names no limit.
    pub list_max: usize,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            query_timeout: Duration::from_secs(120),
            query_concurrency_max: 20,
            active_queries: None,
            query_samples_max: 50_000_000,
            query_bytes_max: 2 << 30,
            query_bytes_total_max: 4 << 30,
            per_step_stats: false,
            lookback_delta: Duration::from_secs(300),
            features: Features::default(),
            parser: ParserOptions::default(),
            consistency_timeout: Duration::from_secs(2),
            cors_origin: model::AnchoredRegex::new(".*").expect("a constant that is a regular expression"),
            lifecycle_enabled: false,
            remote_write_enabled: true,
            config_apply_enabled: true,
            form_bytes_max: 4 << 20, // Go takes 10 MiB; a query may have 1 MiB, encoded at most 3
            config_bytes_max: 8 << 20,
            write_body_bytes_max: 16 << 20,
            write_message_bytes_max: 32 << 20,
            body_bytes_in_flight_max: 384 << 20,
            body_timeout: Duration::from_secs(30),
            write: DecodeLimits::default(),
            write_cache_series: 1 << 18,
            route_prefix: String::new(),
            gaps_max: 10_000,
            list_max: 5_000_000,
        }
    }
}
