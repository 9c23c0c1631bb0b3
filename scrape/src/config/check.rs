//! What must hold of a scrape configuration as a whole.

use super::{ScrapeConfig, ScrapeProtocol, format_duration};
use crate::target::check_address;
use model::DurationMs;

/// A scrape configuration that Prometheus would refuse; the texts are Prometheus's where it has one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScrapeConfigError {
    /// Without a name.
    #[error("job_name is empty")]
    NoJobName,
    /// Patience beyond the next slot.
    #[error("scrape timeout greater than scrape interval for scrape config with job name {job_name:?}")]
    TimeoutBeyondInterval {
        /// The job.
        job_name: String,
    },
    /// No interval.
    #[error("scrape_interval of job {job_name:?} must be at least 1ms, got {}", format_duration(*.interval))]
    NoInterval {
        /// The job.
        job_name: String,
        /// What it has.
        interval: DurationMs,
    },
    /// No patience.
    #[error("scrape_timeout of job {job_name:?} must be at least 1ms")]
    NoTimeout {
        /// The job.
        job_name: String,
    },
    /// A protocol nobody knows.
    #[error(
        "unknown scrape protocol {0}, supported: [OpenMetricsText0.0.1 OpenMetricsText1.0.0 PrometheusProto \
         PrometheusText0.0.4 PrometheusText1.0.0]"
    )]
    UnknownProtocol(String),
    /// A protocol twice.
    #[error("duplicated protocol in scrape_protocols, got [{0}]")]
    DuplicateProtocol(String),
    /// An empty list of protocols.
    #[error("scrape_protocols cannot be empty")]
    NoProtocols,
    /// Two ways to say who we are.
    #[error("at most one of basic_auth, oauth2 & authorization must be configured")]
    TwoCredentials,
    /// A static target that is a URL.
    #[error("{0:?} is not a valid hostname")]
    Address(String),
    /// A header that cannot be sent, or is set elsewhere.
    #[error("http_headers of job {job_name:?}: {name:?} can not be set here; use the field made for it")]
    Header {
        /// The job.
        job_name: String,
        /// The header.
        name: String,
    },
    /// A certificate without its key, or the reverse.
    #[error("exactly one of key or key_file must be configured when a client certificate is configured")]
    CertWithoutKey,
    /// The reverse.
    #[error("exactly one of cert or cert_file must be configured when a client key is configured")]
    KeyWithoutCert,
    /// An upside-down range of versions.
    #[error(
        "tls_config.max_version must be greater than or equal to tls_config.min_version if both are specified"
    )]
    TlsVersions,
}

/// Headers that have a field of their own, are written by the scrape, or belong to the transport: Prometheus's list, but
/// for the headers of remote write, and the last two, which here would break the connection.
const RESERVED_HEADERS: [&str; 15] = [
    "authorization",
    "host",
    "content-encoding",
    "content-length",
    "content-type",
    "user-agent",
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "www-authenticate",
    "accept-encoding",
    "x-prometheus-scrape-timeout-seconds",
    "transfer-encoding",
    "upgrade",
];

impl ScrapeConfig {
    /// Checks what concerns several fields; each field alone was checked when it was made.
    ///
    /// # Errors
    /// The first thing that Prometheus would refuse.
    pub fn check(&self) -> Result<(), ScrapeConfigError> {
        let job_name = || self.job_name.clone();
        if self.job_name.is_empty() {
            return Err(ScrapeConfigError::NoJobName);
        }
        if self.scrape_interval.0 == 0 {
            return Err(ScrapeConfigError::NoInterval {
                job_name: job_name(),
                interval: self.scrape_interval,
            });
        }
        if self.scrape_timeout.0 == 0 {
            return Err(ScrapeConfigError::NoTimeout { job_name: job_name() });
        }
        if self.scrape_timeout > self.scrape_interval {
            return Err(ScrapeConfigError::TimeoutBeyondInterval { job_name: job_name() });
        }
        check_protocols(&self.scrape_protocols)?;
        if self.basic_auth.is_some() && self.authorization.is_some() {
            return Err(ScrapeConfigError::TwoCredentials);
        }
        // With relabelling it is the final address that counts: a probe's targets are URLs that become a parameter.
        let mut addresses = self.static_configs.iter().flat_map(|group| group.addresses());
        if self.relabel_configs.is_empty()
            && let Some(address) = addresses.find(|address| !check_address(address))
        {
            return Err(ScrapeConfigError::Address(address.to_owned()));
        }
        let refused = |name: &&str| {
            RESERVED_HEADERS.contains(&name.to_ascii_lowercase().as_str())
                || http::HeaderName::from_bytes(name.as_bytes()).is_err()
        };
        if let Some(name) = self.http_headers.iter().map(|header| header.name.as_str()).find(refused) {
            return Err(ScrapeConfigError::Header { job_name: job_name(), name: name.to_owned() });
        }
        match (&self.tls.cert, &self.tls.key) {
            (Some(_), None) => Err(ScrapeConfigError::CertWithoutKey),
            (None, Some(_)) => Err(ScrapeConfigError::KeyWithoutCert),
            _ if matches!((self.tls.min_version, self.tls.max_version), (Some(min), Some(max)) if min > max) => {
                Err(ScrapeConfigError::TlsVersions)
            }
            _ => Ok(()),
        }
    }
}

fn check_protocols(protocols: &[ScrapeProtocol]) -> Result<(), ScrapeConfigError> {
    if protocols.is_empty() {
        return Err(ScrapeConfigError::NoProtocols);
    }
    let repeated = protocols.iter().enumerate().any(|(i, protocol)| protocols[..i].contains(protocol));
    if repeated {
        let names: Vec<&str> = protocols.iter().map(|protocol| protocol.as_str()).collect();
        return Err(ScrapeConfigError::DuplicateProtocol(names.join(" ")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Authorization, BasicAuth, HttpHeader, Secret};
    use crate::target::TargetGroup;

    fn error(change: impl FnOnce(&mut ScrapeConfig)) -> String {
        let mut config = ScrapeConfig::new("node");
        change(&mut config);
        config.check().map_or_else(|e| e.to_string(), |()| "fine".to_owned())
    }

    #[test]
    fn the_defaults_are_fine_and_a_job_needs_a_name() {
        assert_eq!(error(|_| {}), "fine");
        assert_eq!(error(|c| c.job_name.clear()), "job_name is empty");
    }

    #[test]
    fn a_timeout_beyond_the_interval_is_refused() {
        let text = error(|c| c.scrape_interval = DurationMs(5_000));
        assert_eq!(
            text,
            "scrape timeout greater than scrape interval for scrape config with job name \"node\""
        );
    }

    #[test]
    fn a_protocol_stands_once() {
        let text = error(|c| c.scrape_protocols = vec![ScrapeProtocol::PrometheusProto; 2]);
        assert_eq!(text, "duplicated protocol in scrape_protocols, got [PrometheusProto PrometheusProto]");
        let text = ScrapeProtocol::parse("prometheusproto").unwrap_err().to_string();
        assert!(
            text.starts_with(
                "unknown scrape protocol prometheusproto, supported: [OpenMetricsText0.0.1 Open"
            )
        );
    }

    #[test]
    fn a_static_target_is_an_address_and_no_url() {
        let group = TargetGroup::of_addresses("0", ["http://bad"]);
        assert_eq!(error(|c| c.static_configs = vec![group]), "\"http://bad\" is not a valid hostname");
    }

    #[test]
    fn what_a_scrape_writes_itself_is_no_extra_header() {
        let error =
            |name: &str| error(|c| c.http_headers = vec![HttpHeader { name: name.into(), values: vec![] }]);
        assert!(error("User-Agent").contains("can not be set here"));
        assert!(error("content-type").contains("can not be set here"));
        assert!(error("X-Prometheus-Scrape-Timeout-Seconds").contains("can not be set here"));
        assert_eq!(error("Accept-Language"), "fine");
    }

    #[test]
    fn there_is_one_way_to_say_who_we_are() {
        let secret = || Secret::Inline("x".into());
        let text = error(|c| {
            c.basic_auth = Some(BasicAuth { username: secret(), password: secret() });
            c.authorization = Some(Authorization { kind: "Bearer".into(), credentials: secret() });
        });
        assert_eq!(text, "at most one of basic_auth, oauth2 & authorization must be configured");
        let header = |name: &str| vec![HttpHeader { name: name.into(), values: vec![] }];
        assert!(error(|c| c.http_headers = header("Authorization")).contains("can not be set here"));
        assert_eq!(error(|c| c.http_headers = header("X-Scope")), "fine");
    }

    #[test]
    fn a_certificate_comes_with_its_key() {
        let text = error(|c| c.tls.cert = Some(Secret::File("a.pem".into())));
        assert!(text.starts_with("exactly one of key or key_file"));
    }
}
