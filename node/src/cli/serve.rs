//! `vestal serve`: the flags of a node. Names and defaults are Prometheus's where the meaning is, and
//! Alertmanager's `--cluster.*` where it is a cluster's.

use super::features::Enabled;
use crate::{
    outside::{Host, SystemHost, memory_bytes},
    server::{self, ServeOptions},
};
use anyhow::Context;
use clap::{ArgAction, Args, Parser, ValueEnum};
use scrape::config::{parse_bytes, parse_duration};
use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, process::ExitCode, time::Duration};

/// What all queries may hold together where nothing else is said and there is memory enough.
const QUERY_BYTES_TOTAL: u64 = 4 << 30;

/// Milliseconds of a duration as Prometheus writes it.
fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text).map(Into::into).map_err(|error| error.to_string())
}

/// Bytes of a size as Prometheus writes it.
fn bytes(text: &str) -> Result<u64, String> {
    parse_bytes(text).map_err(|error| error.to_string())
}

/// Severity from which on things are logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogLevel {
    Debug,
    Info,
    Warn,
    Error,
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    Logfmt,
    Json,
}

#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// Prometheus configuration file, offered to the cluster.
    #[arg(long = "config.file", value_name = "FILE", default_value = "prometheus.yml")]
    config_file: PathBuf,
    /// Accept keys of the configuration that Vestal does not support yet: logged, and listed in status.
    #[arg(long = "config.ignore-unsupported")]
    config_ignore_unsupported: bool,

    /// Where data is kept.
    #[arg(long = "storage.tsdb.path", value_name = "DIR", default_value = "data/")]
    storage_path: PathBuf,
    /// How long samples are kept.
    #[arg(long = "storage.tsdb.retention.time", value_name = "DURATION", default_value = "15d", value_parser = duration)]
    retention_time: Duration,
    /// How many bytes of samples a node keeps at the most; 0 is no limit.
    #[arg(long = "storage.tsdb.retention.size", value_name = "SIZE", default_value = "0", value_parser = bytes)]
    retention_size: u64,
    /// How many bytes the replicated log may take on disk; at least 16MiB.
    #[arg(long = "storage.log.size", value_name = "SIZE", default_value = "1GiB", value_parser = bytes)]
    log_size: u64,

    /// Where the HTTP API answers.
    #[arg(long = "web.listen-address", value_name = "ADDRESS", default_value = "0.0.0.0:9090")]
    web_listen_address: String,
    /// The URL under which the HTTP API is reached from outside; its path stands before every path.
    #[arg(long = "web.external-url", value_name = "URL")]
    web_external_url: Option<String>,
    /// Allow reload and quit by HTTP request.
    #[arg(long = "web.enable-lifecycle")]
    web_enable_lifecycle: bool,
    /// Accept remote writes; on by default, because a cluster is written to.
    #[arg(long = "web.enable-remote-write-receiver", value_name = "BOOL", default_value_t = true, num_args = 0..=1,
          default_missing_value = "true", action = ArgAction::Set)]
    web_enable_remote_write_receiver: bool,

    /// How long a query may run.
    #[arg(long = "query.timeout", value_name = "DURATION", default_value = "2m", value_parser = duration)]
    query_timeout: Duration,
    /// How many queries run at once; further ones wait.
    #[arg(long = "query.max-concurrency", value_name = "N", default_value_t = 20)]
    query_max_concurrency: usize,
    /// How many samples a query may hold in memory.
    #[arg(long = "query.max-samples", value_name = "N", default_value_t = 50_000_000)]
    query_max_samples: usize,
    /// How many bytes a query may hold in memory, its answer included.
    #[arg(long = "query.max-bytes", value_name = "SIZE", default_value = "2GiB", value_parser = bytes)]
    query_max_bytes: u64,
    /// How many bytes all queries may hold together, answers on their way included; 0 is 4GiB, or half of the memory
    /// where that is less.
    #[arg(long = "query.max-bytes-total", value_name = "SIZE", default_value = "0", value_parser = bytes)]
    query_max_bytes_total: u64,
    /// How far back a selector looks for a sample.
    #[arg(long = "query.lookback-delta", value_name = "DURATION", default_value = "5m", value_parser = duration)]
    query_lookback_delta: Duration,
    /// How long a default query waits for leaders before it answers 503.
    #[arg(long = "query.consistency-timeout", value_name = "DURATION", default_value = "2s", value_parser = duration)]
    query_consistency_timeout: Duration,
    /// Features that Prometheus has behind this flag too, comma-separated or repeated.
    #[arg(long = "enable-feature", value_name = "NAMES", value_delimiter = ',')]
    enable_feature: Vec<String>,

    /// A name of the cluster for people: it stands in each line of the log, and in the metric vestal_node_info.
    #[arg(long = "cluster.name", value_name = "NAME", default_value = "")]
    cluster_name: String,
    /// Names of the nodes that form the cluster, comma-separated, the same on all of them.
    #[arg(long = "cluster.initial-members", value_name = "NAMES", value_delimiter = ',')]
    cluster_initial_members: Vec<String>,
    /// Another node's cluster address; repeatable.
    #[arg(long = "cluster.peer", value_name = "HOST:PORT")]
    cluster_peers: Vec<String>,
    /// Where peers reach this node (gRPC); gossip uses the next port, TCP and UDP.
    #[arg(long = "cluster.listen-address", value_name = "ADDRESS", default_value = "0.0.0.0:9390")]
    cluster_listen_address: SocketAddr,
    /// What peers are told instead of the listen address.
    #[arg(long = "cluster.advertise-address", value_name = "HOST:PORT")]
    cluster_advertise_address: Option<String>,
    /// Number of data shards; in force only when the cluster is formed.
    #[arg(long = "cluster.shards", value_name = "N", default_value_t = 6, value_parser = clap::value_parser!(u32).range(1..=64))]
    cluster_shards: u32,
    /// How often leaders show that they live.
    #[arg(long = "cluster.heartbeat", value_name = "DURATION", default_value = "150ms", value_parser = duration)]
    cluster_heartbeat: Duration,
    /// How long a leader may be silent before others campaign; at least twice the heartbeat.
    #[arg(long = "cluster.election-timeout", value_name = "DURATION", default_value = "450ms", value_parser = duration)]
    cluster_election_timeout: Duration,
    /// Allow a cluster address that is not loopback although peers are not authenticated yet.
    #[arg(long = "cluster.insecure")]
    cluster_insecure: bool,
    /// This node's name; the host's name by default.
    #[arg(long = "node.name", value_name = "NAME")]
    node_name: Option<String>,
    /// Write the process id here at each start.
    #[arg(long = "node.pid-file", value_name = "FILE")]
    node_pid_file: Option<PathBuf>,

    /// Severity from which on things are logged.
    #[arg(long = "log.level", value_name = "LEVEL", default_value = "info")]
    pub(crate) log_level: LogLevel,
    /// How log lines are written.
    #[arg(long = "log.format", value_name = "FORMAT", default_value = "logfmt")]
    pub(crate) log_format: LogFormat,
}

impl ServeArgs {
    /// Flag names without dashes and their values, for `/api/v1/status/flags`.
    fn flags(&self) -> BTreeMap<String, String> {
        let duration = |span: Duration| {
            scrape::config::format_duration(model::DurationMs(
                u64::try_from(span.as_millis()).unwrap_or(u64::MAX),
            ))
        };
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        [
            ("config.file", self.config_file.display().to_string()),
            ("config.ignore-unsupported", self.config_ignore_unsupported.to_string()),
            ("storage.tsdb.path", self.storage_path.display().to_string()),
            ("storage.tsdb.retention.time", duration(self.retention_time)),
            ("storage.tsdb.retention.size", format!("{}B", self.retention_size)),
            ("storage.log.size", format!("{}B", self.log_size)),
            ("web.listen-address", self.web_listen_address.clone()),
            ("web.external-url", text(&self.web_external_url)),
            ("web.enable-lifecycle", self.web_enable_lifecycle.to_string()),
            ("web.enable-remote-write-receiver", self.web_enable_remote_write_receiver.to_string()),
            ("query.timeout", duration(self.query_timeout)),
            ("query.max-concurrency", self.query_max_concurrency.to_string()),
            ("query.max-samples", self.query_max_samples.to_string()),
            ("query.max-bytes", format!("{}B", self.query_max_bytes)),
            ("query.max-bytes-total", format!("{}B", self.query_bytes_total())),
            ("query.lookback-delta", duration(self.query_lookback_delta)),
            ("query.consistency-timeout", duration(self.query_consistency_timeout)),
            ("enable-feature", self.enable_feature.join(",")),
            ("cluster.name", self.cluster_name.clone()),
            ("cluster.initial-members", self.cluster_initial_members.join(",")),
            ("cluster.peer", self.cluster_peers.join(",")),
            ("cluster.listen-address", self.cluster_listen_address.to_string()),
            ("cluster.advertise-address", text(&self.cluster_advertise_address)),
            ("cluster.shards", self.cluster_shards.to_string()),
            ("cluster.heartbeat", duration(self.cluster_heartbeat)),
            ("cluster.election-timeout", duration(self.cluster_election_timeout)),
            ("cluster.insecure", self.cluster_insecure.to_string()),
            ("node.name", text(&self.node_name)),
            ("log.level", format!("{:?}", self.log_level).to_lowercase()),
            ("log.format", format!("{:?}", self.log_format).to_lowercase()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into()
    }

    /// What all queries may hold together.
    fn query_bytes_total(&self) -> u64 {
        match self.query_max_bytes_total {
            0 => memory_bytes().map_or(QUERY_BYTES_TOTAL, |bytes| (bytes / 2).min(QUERY_BYTES_TOTAL)),
            bytes => bytes,
        }
    }

    fn into_options(self) -> anyhow::Result<ServeOptions> {
        let flags = self.flags();
        let query_max_bytes_total = self.query_bytes_total();
        let clustered = !self.cluster_initial_members.is_empty() || !self.cluster_peers.is_empty();
        if clustered && !self.cluster_insecure && !self.cluster_listen_address.ip().is_loopback() {
            anyhow::bail!(
                "--cluster.listen-address: {} is not loopback and peers are not authenticated yet; \
                 give --cluster.insecure if everyone who can reach it is trusted",
                self.cluster_listen_address
            );
        }
        if clustered
            && self.cluster_listen_address.ip().is_unspecified()
            && self.cluster_advertise_address.is_none()
        {
            anyhow::bail!(
                "--cluster.advertise-address: needed because --cluster.listen-address is {}, which no peer can call; \
                 give HOST:PORT under which the other nodes reach this one",
                self.cluster_listen_address
            );
        }
        if self.log_size < 16 << 20 {
            anyhow::bail!("--storage.log.size: {} bytes are too few; at least 16MiB", self.log_size);
        }
        if self.cluster_election_timeout < self.cluster_heartbeat * 2 {
            anyhow::bail!("--cluster.election-timeout: must be at least twice --cluster.heartbeat");
        }
        // Prometheus takes ":9090" for every interface.
        let web = match self.web_listen_address.strip_prefix(':') {
            Some(port) => format!("0.0.0.0:{port}"),
            None => self.web_listen_address,
        };
        let web_listen_address = web.parse().with_context(|| {
            format!("--web.listen-address: {web:?} is not an address; give IP:PORT or :PORT")
        })?;
        let web_route_prefix = match &self.web_external_url {
            Some(url) => route_prefix(url).with_context(|| {
                format!("--web.external-url: {url:?} cannot be used; give http://HOST[:PORT][/PATH]")
            })?,
            None => String::new(),
        };
        let node_name = match self.node_name {
            Some(name) => name,
            None => {
                SystemHost.name().context("--node.name: not given, and the host's name cannot be read")?
            }
        };
        let members = &self.cluster_initial_members;
        if !members.is_empty() && self.cluster_peers.is_empty() && members.len() > 1 {
            anyhow::bail!("--cluster.peer: name at least one other node's cluster address");
        }
        Ok(ServeOptions {
            config_file: self.config_file,
            ignore_unsupported: self.config_ignore_unsupported,
            data: self.storage_path,
            retention_time: self.retention_time,
            retention_size: self.retention_size,
            log_size: self.log_size,
            web_listen_address,
            web_external_url: self.web_external_url,
            web_route_prefix,
            enable_lifecycle: self.web_enable_lifecycle,
            enable_remote_write_receiver: self.web_enable_remote_write_receiver,
            query_timeout: self.query_timeout,
            query_max_concurrency: self.query_max_concurrency,
            query_max_samples: self.query_max_samples,
            query_max_bytes: self.query_max_bytes.min(query_max_bytes_total),
            query_max_bytes_total,
            query_lookback_delta: self.query_lookback_delta,
            enabled: Enabled::of(&self.enable_feature),
            query_consistency_timeout: self.query_consistency_timeout,
            cluster_name: self.cluster_name,
            clustered,
            initial_members: self.cluster_initial_members,
            peers: self.cluster_peers,
            cluster_listen_address: self.cluster_listen_address,
            cluster_advertise_address: self.cluster_advertise_address,
            shards: self.cluster_shards,
            heartbeat: self.cluster_heartbeat,
            election_timeout: self.cluster_election_timeout,
            node_name,
            pid_file: self.node_pid_file,
            flags,
        })
    }
}

/// The path of an external URL as it stands before every path: empty, or with a slash in front and none behind.
fn route_prefix(url: &str) -> anyhow::Result<String> {
    let uri: hyper::Uri = url.parse().context("not a URL")?;
    let is_http = matches!(uri.scheme_str(), Some("http" | "https"));
    anyhow::ensure!(
        is_http && uri.host().is_some_and(|host| !host.is_empty()),
        "not a URL with http or https and a host"
    );
    anyhow::ensure!(uri.query().is_none() && !url.contains('#'), "a query or fragment leads nowhere");
    let path = uri.path().trim_matches('/');
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-._~/".contains(c);
    anyhow::ensure!(path.chars().all(is_plain), "only letters, digits and -._~/ are possible in its path");
    Ok(if path.is_empty() { String::new() } else { format!("/{path}") })
}

#[derive(Debug, Parser)]
#[command(name = "serve", no_binary_name = true)]
struct Flags {
    #[command(flatten)]
    serve: ServeArgs,
}

impl ServeOptions {
    /// The options that these flags of `vestal serve` mean.
    ///
    /// # Errors
    /// If a flag is unknown, or its value cannot be used.
    pub fn from_flags(flags: &[String]) -> anyhow::Result<ServeOptions> {
        Flags::try_parse_from(flags)?.serve.into_options()
    }
}

pub(crate) fn run(args: ServeArgs) -> anyhow::Result<ExitCode> {
    crate::logging::start(args.log_level, args.log_format, &args.cluster_name);
    server::run(args.into_options()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(url: &str) -> Result<String, String> {
        let options = ServeOptions::from_flags(&[format!("--web.external-url={url}")]);
        options.map(|options| options.web_route_prefix).map_err(|error| format!("{error:#}"))
    }

    #[test]
    fn the_path_of_the_external_url_stands_before_every_path() {
        assert_eq!(prefix("https://a.example/monitoring/vestal/").as_deref(), Ok("/monitoring/vestal"));
        assert_eq!(prefix("http://a.example:9090").as_deref(), Ok(""));
        assert_eq!(prefix("http://a.example:9090/").as_deref(), Ok(""));
        assert_eq!(ServeOptions::from_flags(&[]).expect("no flag is needed").web_route_prefix, "");
    }

    #[test]
    fn an_external_url_that_is_none_is_refused_with_field_and_remedy() {
        let refused = |url: &str| prefix(url).expect_err(url);
        assert_eq!(
            refused("a.example:9090"),
            "--web.external-url: \"a.example:9090\" cannot be used; give http://HOST[:PORT][/PATH]: \
             not a URL with http or https and a host"
        );
        assert!(refused("/vestal").contains("not a URL with http"));
        assert!(refused("ftp://a.example/").contains("not a URL with http"));
        assert!(refused("http://a b/").contains("not a URL"));
        assert!(refused("http://a/?x=1").contains("query"));
        assert!(refused("http://a/{x}").contains("letters"));
    }
}
