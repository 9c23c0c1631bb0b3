//! Which format is asked for, and which one came.

use crate::config::{NameEscaping, ScrapeProtocol};
use std::fmt::Write;

/// How a body is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BodyFormat {
    /// Prometheus text 0.0.4 or 1.0.0; one grammar reads both.
    PrometheusText,
    /// OpenMetrics text 0.0.1 or 1.0.0.
    OpenMetricsText,
    /// Delimited protobuf.
    Protobuf,
}

/// The Content-Type says nothing that can be read; Prometheus's texts.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// There is none.
    #[error(
        "non-compliant scrape target sending blank Content-Type and no fallback_scrape_protocol specified for target"
    )]
    Blank,
    /// It cannot be read as a media type.
    #[error("cannot parse Content-Type {0:?} and no fallback_scrape_protocol specified for target")]
    Malformed(String),
    /// It is another one.
    #[error("received unsupported Content-Type {0:?} and no fallback_scrape_protocol specified for target")]
    Unsupported(String),
}

impl From<ScrapeProtocol> for BodyFormat {
    fn from(protocol: ScrapeProtocol) -> BodyFormat {
        match protocol {
            ScrapeProtocol::PrometheusProto => BodyFormat::Protobuf,
            ScrapeProtocol::PrometheusText0_0_4 | ScrapeProtocol::PrometheusText1_0_0 => {
                BodyFormat::PrometheusText
            }
            ScrapeProtocol::OpenMetricsText0_0_1 | ScrapeProtocol::OpenMetricsText1_0_0 => {
                BodyFormat::OpenMetricsText
            }
        }
    }
}

impl BodyFormat {
    /// The format of a Content-Type; what cannot be read falls back, if there is something to fall back to.
    ///
    /// # Errors
    /// If it says nothing known and there is no fallback.
    pub fn of_content_type(
        content_type: &str,
        fallback: Option<ScrapeProtocol>,
    ) -> Result<BodyFormat, FormatError> {
        let fall_back = |error: FormatError| fallback.map(BodyFormat::from).ok_or(error);
        if content_type.is_empty() {
            return fall_back(FormatError::Blank);
        }
        let mut parts = content_type.split(';').map(str::trim);
        let media = parts.next().unwrap_or("").to_ascii_lowercase();
        let parameters = parts.filter(|part| !part.is_empty());
        if !media.contains('/') || media.contains(' ') || !parameters.clone().all(|part| part.contains('=')) {
            return fall_back(FormatError::Malformed(content_type.to_owned()));
        }
        let parameter_is = |name: &str, wanted: &str| {
            parameters.clone().any(|part| {
                part.split_once('=').is_some_and(|(n, v)| {
                    n.trim().eq_ignore_ascii_case(name) && v.trim().trim_matches('"') == wanted
                })
            })
        };
        match media.as_str() {
            "text/plain" => Ok(BodyFormat::PrometheusText),
            "application/openmetrics-text" => Ok(BodyFormat::OpenMetricsText),
            "application/vnd.google.protobuf"
                if parameter_is("proto", "io.prometheus.client.MetricFamily")
                    && parameter_is("encoding", "delimited") =>
            {
                Ok(BodyFormat::Protobuf)
            }
            _ => fall_back(FormatError::Unsupported(content_type.to_owned())),
        }
    }
}

/// The Accept header: the protocols with falling weights, and anything at the least.
pub(crate) fn accept_header(protocols: &[ScrapeProtocol], escaping: NameEscaping) -> String {
    let mut header = String::new();
    // Prometheus gives the first of n protocols q=0.(n+1), the last one 0.2, and anything else 0.1.
    let mut weight = protocols.len() + 1;
    for protocol in protocols {
        header.push_str(protocol.media_type());
        if protocol.carries_escaping() {
            let _ = write!(header, ";escaping={}", escaping.as_str());
        }
        let _ = write!(header, ";q=0.{weight},");
        weight -= 1;
    }
    let _ = write!(header, "*/*;q=0.{weight}");
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protocols_are_asked_for_with_falling_weights() {
        assert_eq!(
            accept_header(&ScrapeProtocol::DEFAULT, NameEscaping::AllowUtf8),
            "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,\
             application/openmetrics-text;version=0.0.1;q=0.4,\
             text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,\
             text/plain;version=0.0.4;q=0.2,*/*;q=0.1"
        );
        let native = accept_header(&ScrapeProtocol::DEFAULT_NATIVE, NameEscaping::Underscores);
        assert!(
            native.starts_with("application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;")
        );
        assert!(native.contains("encoding=delimited;q=0.6,"));
    }

    #[test]
    fn the_content_type_says_the_format() {
        let format = |text| BodyFormat::of_content_type(text, None);
        assert_eq!(format("text/plain; version=0.0.4; charset=utf-8"), Ok(BodyFormat::PrometheusText));
        assert_eq!(format("text/plain"), Ok(BodyFormat::PrometheusText));
        assert_eq!(
            format("application/openmetrics-text; version=1.0.0; charset=utf-8"),
            Ok(BodyFormat::OpenMetricsText)
        );
        let proto =
            "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited";
        assert_eq!(format(proto), Ok(BodyFormat::Protobuf));
    }

    #[test]
    fn without_a_known_content_type_a_scrape_fails_or_falls_back() {
        let fallback = Some(ScrapeProtocol::PrometheusText0_0_4);
        assert_eq!(BodyFormat::of_content_type("", None), Err(FormatError::Blank));
        assert_eq!(
            BodyFormat::of_content_type("text/html", None).unwrap_err().to_string(),
            "received unsupported Content-Type \"text/html\" and no fallback_scrape_protocol specified for target"
        );
        assert!(matches!(BodyFormat::of_content_type("text", None), Err(FormatError::Malformed(_))));
        assert_eq!(BodyFormat::of_content_type("text/html", fallback), Ok(BodyFormat::PrometheusText));
    }
}
