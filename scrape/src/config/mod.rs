//! The checked form of one scrape configuration: what a section of `scrape_configs` means once defaults are filled
//! in and everything was checked. Reading YAML is not done here.

mod check;
mod client;
mod protocol;
mod units;

pub use check::ScrapeConfigError;
pub use client::{Authorization, BasicAuth, HttpHeader, Scheme, Secret, TlsConfig, TlsVersion};
pub use protocol::ScrapeProtocol;
pub use units::{ByteSize, UnitError, format_duration, parse_bytes, parse_duration};

use crate::{relabel::RelabelConfig, target::TargetGroup};
use model::DurationMs;
use std::path::Path;

/// Which names of metrics and labels are allowed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NameValidation {
    /// Any UTF-8.
    #[default]
    Utf8,
    /// `[a-zA-Z_:][a-zA-Z0-9_:]*`.
    Legacy,
}

/// How names that a format can not carry are asked for, by the parameter `escaping` of the Accept header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NameEscaping {
    /// As they are.
    #[default]
    AllowUtf8,
    /// Every disallowed character becomes `_`.
    Underscores,
    /// Dots become `_dot_`.
    Dots,
    /// `U__` and hexadecimal.
    Values,
}

impl NameEscaping {
    /// The parameter's value.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            NameEscaping::AllowUtf8 => "allow-utf-8",
            NameEscaping::Underscores => "underscores",
            NameEscaping::Dots => "dots",
            NameEscaping::Values => "values",
        }
    }
}

/// Bounds of one scrape; 0 is no bound, as in Prometheus.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScrapeLimits {
    /// Bytes of the body after decompression.
    pub body_size: ByteSize,
    /// Samples after metric relabelling.
    pub samples: u64,
    /// Labels of one series.
    pub labels: u64,
    /// Bytes of a label name.
    pub label_name_length: u64,
    /// Bytes of a label value.
    pub label_value_length: u64,
    /// Targets of the configuration after relabelling; beyond it all of them fail.
    pub targets: u64,
    /// Buckets of a native histogram: its resolution is lowered until it meets them, and the scrape fails if none does.
    pub native_histogram_buckets: u64,
    /// The finest resolution of a native histogram, as an exponential schema; `None`: any.
    pub native_histogram_schema: Option<i32>,
}

/// A `file_sd_configs` entry. Watching the files is not done in this crate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileSdConfig {
    /// Paths, the last part of which may hold one `*`.
    pub files: Vec<String>,
    /// How often the files are read again even if nothing was noticed.
    pub refresh_interval: DurationMs,
}

/// One section of `scrape_configs`, checked by [`ScrapeConfig::check`].
#[derive(Clone, Debug, PartialEq)]
pub struct ScrapeConfig {
    /// `job_name`; unique.
    pub job_name: String,
    /// `scrape_interval`; at least 1 ms.
    pub scrape_interval: DurationMs,
    /// `scrape_timeout`; at most the interval.
    pub scrape_timeout: DurationMs,
    /// `scrape_protocols`, best first; not empty.
    pub scrape_protocols: Vec<ScrapeProtocol>,
    /// `fallback_scrape_protocol`: how a body without a usable Content-Type is read.
    pub fallback_scrape_protocol: Option<ScrapeProtocol>,
    /// `scrape_native_histograms`: histograms are kept in native form.
    pub scrape_native_histograms: bool,
    /// `always_scrape_classic_histograms`: classic buckets are kept beside native ones.
    pub always_scrape_classic_histograms: bool,
    /// `metrics_path`.
    pub metrics_path: String,
    /// `scheme`.
    pub scheme: Scheme,
    /// `params`, in order of their names.
    pub params: Vec<(String, Vec<String>)>,
    /// `honor_labels`: a scraped label beats the target's.
    pub honor_labels: bool,
    /// `honor_timestamps`: a scraped timestamp is used.
    pub honor_timestamps: bool,
    /// `track_timestamps_staleness`: series with scraped timestamps get stale markers, too.
    pub track_timestamps_staleness: bool,
    /// `basic_auth`.
    pub basic_auth: Option<BasicAuth>,
    /// `authorization`.
    pub authorization: Option<Authorization>,
    /// `tls_config`.
    pub tls: TlsConfig,
    /// `follow_redirects`.
    pub follow_redirects: bool,
    /// `enable_compression`: ask for gzip.
    pub enable_compression: bool,
    /// `http_headers`.
    pub http_headers: Vec<HttpHeader>,
    /// The limits.
    pub limits: ScrapeLimits,
    /// `keep_dropped_targets`: how many dropped targets are remembered for people to look at; 0 is all, which here
    /// means [`crate::DROPPED_TARGETS_MAX`].
    pub keep_dropped_targets: u64,
    /// `metric_name_validation_scheme`.
    pub name_validation: NameValidation,
    /// `metric_name_escaping_scheme`.
    pub name_escaping: NameEscaping,
    /// `extra_scrape_metrics`: three more synthetic series.
    pub extra_scrape_metrics: bool,
    /// `relabel_configs`.
    pub relabel_configs: Vec<RelabelConfig>,
    /// `metric_relabel_configs`.
    pub metric_relabel_configs: Vec<RelabelConfig>,
    /// `static_configs`, each with its number as source.
    pub static_configs: Vec<TargetGroup>,
    /// `file_sd_configs`.
    pub file_sd_configs: Vec<FileSdConfig>,
}

impl ScrapeConfig {
    /// A section with nothing but a name, and Prometheus's defaults (interval 1 m, time-out 10 s).
    #[must_use]
    pub fn new(job_name: impl Into<String>) -> ScrapeConfig {
        ScrapeConfig {
            job_name: job_name.into(),
            scrape_interval: DurationMs(60_000),
            scrape_timeout: DurationMs(10_000),
            scrape_protocols: ScrapeProtocol::DEFAULT.to_vec(),
            fallback_scrape_protocol: None,
            scrape_native_histograms: false,
            always_scrape_classic_histograms: false,
            metrics_path: "/metrics".to_owned(),
            scheme: Scheme::Http,
            params: Vec::new(),
            honor_labels: false,
            honor_timestamps: true,
            track_timestamps_staleness: false,
            basic_auth: None,
            authorization: None,
            tls: TlsConfig::default(),
            follow_redirects: true,
            enable_compression: true,
            http_headers: Vec::new(),
            limits: ScrapeLimits::default(),
            keep_dropped_targets: 0,
            name_validation: NameValidation::default(),
            name_escaping: NameEscaping::default(),
            extra_scrape_metrics: false,
            relabel_configs: Vec::new(),
            metric_relabel_configs: Vec::new(),
            static_configs: Vec::new(),
            file_sd_configs: Vec::new(),
        }
    }

    /// Joins relative paths of secrets with the directory of the configuration file. Called on the node that scrapes,
    /// never before: what is agreed on is the text, and nodes may keep their files in different places.
    pub fn set_directory(&mut self, directory: &Path) {
        let auth = self.basic_auth.iter_mut().flat_map(|auth| [&mut auth.username, &mut auth.password]);
        let token = self.authorization.iter_mut().map(|auth| &mut auth.credentials);
        let headers = self.http_headers.iter_mut().flat_map(|header| &mut header.values);
        let tls = [&mut self.tls.ca, &mut self.tls.cert, &mut self.tls.key].into_iter().flatten();
        for secret in auth.chain(token).chain(headers).chain(tls) {
            if let Secret::File(path) = secret
                && !path.is_empty()
            {
                *path = directory.join(&*path).to_string_lossy().into_owned();
            }
        }
    }

    /// Whether a target is scraped alike under both: which targets there are does not matter.
    pub(crate) fn scrapes_like(&self, other: &ScrapeConfig) -> bool {
        let scraping = |config: &ScrapeConfig| ScrapeConfig {
            static_configs: Vec::new(),
            file_sd_configs: Vec::new(),
            relabel_configs: Vec::new(),
            keep_dropped_targets: 0,
            limits: ScrapeLimits { targets: 0, ..config.limits },
            ..config.clone()
        };
        scraping(self) == scraping(other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relative_paths_of_secrets_are_joined_with_the_directory() {
        let file = |path: &str| Secret::File(path.to_owned());
        let mut config = ScrapeConfig::new("a");
        config.basic_auth = Some(BasicAuth { username: Secret::Inline("u".into()), password: file("p.txt") });
        config.authorization = Some(Authorization { kind: "Bearer".into(), credentials: file("../token") });
        config.tls.ca = Some(file("/etc/ca.pem"));
        config.http_headers = vec![HttpHeader { name: "X".into(), values: vec![file("x")] }];
        config.set_directory(Path::new("/etc/vestal"));
        let auth = config.basic_auth.expect("there");
        assert_eq!((auth.username, auth.password), (Secret::Inline("u".into()), file("/etc/vestal/p.txt")));
        assert_eq!(config.authorization.expect("there").credentials, file("/etc/vestal/../token"));
        assert_eq!(config.tls.ca, Some(file("/etc/ca.pem")));
        assert_eq!(config.http_headers[0].values, [file("/etc/vestal/x")]);
    }
}
