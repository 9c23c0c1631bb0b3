//! What belongs to the HTTP client of a scrape: scheme, credentials, TLS.
//!
//! Secrets never show in `Debug`. Files are named, not read: they are read on the scraping node at each scrape.

use std::fmt;

/// How a target is reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// `http`
    #[default]
    Http,
    /// `https`
    Https,
}

impl Scheme {
    /// The scheme of a text in any case, as URLs have it; `None` for any other.
    #[must_use]
    pub fn parse(text: &str) -> Option<Scheme> {
        [Scheme::Http, Scheme::Https].into_iter().find(|scheme| text.eq_ignore_ascii_case(scheme.as_str()))
    }

    /// As it stands in a URL.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Scheme::Http => "http",
            Scheme::Https => "https",
        }
    }

    /// The port if none is named.
    #[must_use]
    pub fn default_port(self) -> u16 {
        match self {
            Scheme::Http => 80,
            Scheme::Https => 443,
        }
    }
}

/// A secret: written in the configuration, or the path of a file that holds it.
///
/// A relative path is as written until [`super::ScrapeConfig::set_directory`] has joined it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum Secret {
    /// The secret itself.
    Inline(String),
    /// A file on the scraping node; white space around its contents is cut off.
    File(String),
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Secret::Inline(_) => f.write_str("<secret>"),
            Secret::File(path) => write!(f, "File({path:?})"),
        }
    }
}

/// `basic_auth`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct BasicAuth {
    /// `username` or `username_file`.
    pub username: Secret,
    /// `password` or `password_file`; the empty inline one if neither stands there.
    pub password: Secret,
}

/// `authorization`, and the older `bearer_token`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Authorization {
    /// `type`, by default `Bearer`.
    pub kind: String,
    /// `credentials` or `credentials_file`.
    pub credentials: Secret,
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TlsVersion {
    /// 1.0, which is refused when connecting: the library has none.
    Tls10,
    /// 1.1, likewise.
    Tls11,
    /// 1.2
    Tls12,
    /// 1.3
    Tls13,
}

/// `tls_config`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct TlsConfig {
    /// `ca` or `ca_file`: the authorities to trust; the system's if absent.
    pub ca: Option<Secret>,
    /// `cert` or `cert_file`: our certificate.
    pub cert: Option<Secret>,
    /// `key` or `key_file`: its key.
    pub key: Option<Secret>,
    /// `server_name`: the name that the target's certificate must bear.
    pub server_name: Option<String>,
    /// `insecure_skip_verify`: any certificate will do.
    pub insecure_skip_verify: bool,
    /// `min_version`.
    pub min_version: Option<TlsVersion>,
    /// `max_version`.
    pub max_version: Option<TlsVersion>,
}

/// One of `http_headers`: all its values are sent.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HttpHeader {
    /// The header's name.
    pub name: String,
    /// `values`, `secrets` and `files`, in this order.
    pub values: Vec<Secret>,
}
