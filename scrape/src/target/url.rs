//! The URL of a target, written as Go writes it so that both products name a target alike, and where a redirect
//! leads.

use crate::config::Scheme;
use std::fmt::{self, Write};

/// Where a GET goes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TargetUrl {
    /// `http` or `https`.
    pub scheme: Scheme,
    /// The scheme as written if it is neither; such a URL is shown and never asked.
    pub scheme_unknown: Option<String>,
    /// Host and perhaps port, as written.
    pub authority: String,
    /// Path and query; begins with `/`.
    pub path_and_query: String,
}

impl fmt::Display for TargetUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.scheme_unknown.as_deref() {
            None => write!(f, "{}:", self.scheme.as_str())?,
            Some("") => {}
            Some(unknown) => write!(f, "{unknown}:")?,
        }
        write!(f, "//{}{}", self.authority, self.path_and_query)
    }
}

impl TargetUrl {
    /// Puts a URL together; path and parameters are escaped here.
    #[must_use]
    pub fn new(scheme: Scheme, authority: &str, path: &str, params: &[(String, Vec<String>)]) -> TargetUrl {
        let mut path_and_query = String::with_capacity(path.len() + 16);
        if !path.starts_with('/') {
            path_and_query.push('/');
        }
        escape(&mut path_and_query, path, |b| b"-_.~$&+,/:;=@".contains(&b), false);
        let mut separator = '?';
        for (name, values) in params {
            for value in values {
                path_and_query.push(separator);
                separator = '&';
                escape(&mut path_and_query, name, |b| b"-_.~".contains(&b), true);
                path_and_query.push('=');
                escape(&mut path_and_query, value, |b| b"-_.~".contains(&b), true);
            }
        }
        TargetUrl { scheme, scheme_unknown: None, authority: authority.to_owned(), path_and_query }
    }

    /// `HOST:PORT` to connect to.
    #[must_use]
    pub fn host_and_port(&self) -> String {
        let (_, port) = split_port(&self.authority);
        match port {
            Some(_) => self.authority.clone(),
            None => format!("{}:{}", self.authority.trim_end_matches(':'), self.scheme.default_port()),
        }
    }

    /// The host alone, without the brackets of an IPv6 address.
    #[must_use]
    pub fn host(&self) -> &str {
        split_port(&self.authority).0.trim_start_matches('[').trim_end_matches(']')
    }

    /// Where `location` leads from here; `None` if that is no `http` or `https` URL.
    #[must_use]
    pub fn join(&self, location: &str) -> Option<TargetUrl> {
        let location = location.split('#').next().unwrap_or("");
        let absolute = |scheme, rest: &str| {
            let end = rest.find(['/', '?']).unwrap_or(rest.len());
            let (authority, path) = rest.split_at(end);
            let authority = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
            let slash = if path.starts_with('/') { "" } else { "/" };
            (!authority.is_empty()).then(|| TargetUrl {
                scheme,
                scheme_unknown: None,
                authority: authority.to_owned(),
                path_and_query: format!("{slash}{path}"),
            })
        };
        if let Some((scheme, rest)) = location.split_once("://").filter(|(s, _)| !s.contains(['/', '?'])) {
            return absolute(Scheme::parse(scheme)?, rest);
        }
        if let Some(rest) = location.strip_prefix("//") {
            return absolute(self.scheme, rest);
        }
        let path = self.path_and_query.split('?').next().unwrap_or("/");
        let path_and_query = match location.as_bytes().first() {
            None => self.path_and_query.clone(),
            Some(b'/') => without_dots(location),
            Some(b'?') => format!("{path}{location}"),
            Some(_) => {
                let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
                without_dots(&format!("{folder}/{location}"))
            }
        };
        Some(TargetUrl { path_and_query, ..self.clone() })
    }
}

/// Host and port; a colon inside the brackets of an IPv6 address is none.
fn split_port(authority: &str) -> (&str, Option<&str>) {
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) => {
            (host, Some(port))
        }
        Some((host, "")) => (host, None),
        _ => (authority, None),
    }
}

/// Takes `.` and `..` out of a path.
fn without_dots(path_and_query: &str) -> String {
    let (path, query) = match path_and_query.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (path_and_query, None),
    };
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/').skip(1) {
        match part {
            "." => {}
            ".." => {
                parts.pop();
            }
            _ => parts.push(part),
        }
    }
    let folder = if path.ends_with("/.") || path.ends_with("/..") { "/" } else { "" };
    let query = query.map_or(String::new(), |query| format!("?{query}"));
    format!("/{}{folder}{query}", parts.join("/"))
}

fn escape(text: &mut String, raw: &str, plain: impl Fn(u8) -> bool, plus: bool) {
    for byte in raw.bytes() {
        if byte.is_ascii_alphanumeric() || plain(byte) {
            text.push(char::from(byte));
        } else if byte == b' ' && plus {
            text.push('+');
        } else {
            let _ = write!(text, "%{byte:02X}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(authority: &str, path: &str) -> TargetUrl {
        TargetUrl::new(Scheme::Http, authority, path, &[])
    }

    #[test]
    fn a_url_is_escaped_as_go_escapes_it() {
        let params = [("match[]".to_owned(), vec!["{a=\"b c\"}".to_owned(), "x".to_owned()])];
        let url = TargetUrl::new(Scheme::Https, "h:1", "a b?", &params);
        let expected = "https://h:1/a%20b%3F?match%5B%5D=%7Ba%3D%22b+c%22%7D&match%5B%5D=x";
        assert_eq!(url.to_string(), expected);
    }

    #[test]
    fn the_port_is_the_schemes_if_none_is_named() {
        assert_eq!(url("h", "/").host_and_port(), "h:80");
        assert_eq!(url("h:9100", "/").host_and_port(), "h:9100");
        assert_eq!(url("[::1]", "/").host_and_port(), "[::1]:80");
        assert_eq!(url("[::1]:9100", "/").host(), "::1");
    }

    #[test]
    fn a_redirect_is_resolved_against_where_it_came_from() {
        let at = url("h:1", "/a/b");
        let join = |location| at.join(location).map(|url| url.to_string());
        assert_eq!(join("/x?y=1#z").as_deref(), Some("http://h:1/x?y=1"));
        assert_eq!(join("c").as_deref(), Some("http://h:1/a/c"));
        assert_eq!(join("../c").as_deref(), Some("http://h:1/c"));
        assert_eq!(join("https://o/m").as_deref(), Some("https://o/m"));
        assert_eq!(join("//o").as_deref(), Some("http://o/"));
        assert_eq!(join("?q").as_deref(), Some("http://h:1/a/b?q"));
        assert_eq!(join("ftp://o/m"), None);
    }
}
