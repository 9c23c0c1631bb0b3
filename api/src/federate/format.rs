//! What a reader of `/federate` can take: format and escaping of names, negotiated as Prometheus does it
//! (`expfmt.Negotiate`, `model.EscapeName`).

use http::{HeaderMap, header};
use std::{borrow::Cow, fmt::Write};

/// How names are written that are no legacy ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Escaping {
    /// As they are.
    AllowUtf8,
    /// Each strange character becomes an underscore; for readers that say nothing.
    #[default]
    Underscores,
    /// `.` becomes `_dot_`, an underscore two.
    Dots,
    /// `U__`, and strange characters in hexadecimal.
    Values,
}

impl Escaping {
    const ALL: [Escaping; 4] = [Escaping::AllowUtf8, Escaping::Underscores, Escaping::Dots, Escaping::Values];

    fn as_str(self) -> &'static str {
        match self {
            Escaping::AllowUtf8 => "allow-utf-8",
            Escaping::Underscores => "underscores",
            Escaping::Dots => "dots",
            Escaping::Values => "values",
        }
    }
}

/// How samples are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Format {
    pub(super) protobuf: bool,
    pub(super) escaping: Escaping,
}

impl Format {
    /// The format that the client likes best among those there are; text for who names none of them.
    pub(super) fn accepted(headers: &HeaderMap) -> Format {
        let header = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or("");
        let mut clauses: Vec<Clause<'_>> = header.split(',').map(Clause).collect();
        clauses.sort_by(|a, b| b.quality().total_cmp(&a.quality())); // stable
        let mut escaping = Escaping::default();
        for clause in clauses {
            // A format that cannot be had still says what its reader understands: a scraping Prometheus asks for
            // names in UTF-8 only with formats that are newer than this endpoint's.
            let named = clause.parameter("escaping");
            escaping =
                Escaping::ALL.into_iter().find(|known| named == Some(known.as_str())).unwrap_or(escaping);
            let protobuf = clause.media_type() == "application/vnd.google.protobuf"
                && clause.parameter("proto") == Some("io.prometheus.client.MetricFamily")
                && clause.parameter("encoding") == Some("delimited");
            let text = clause.media_type() == "text/plain"
                && matches!(clause.parameter("version"), None | Some("" | "0.0.4"));
            if protobuf || text {
                return Format { protobuf, escaping };
            }
        }
        Format { protobuf: false, escaping }
    }

    pub(super) fn content_type(self) -> &'static str {
        macro_rules! with {
            ($escaping:literal) => {
                match self.protobuf {
                    false => concat!("text/plain; version=0.0.4; charset=utf-8; escaping=", $escaping),
                    true => concat!(
                        "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; \
                         encoding=delimited; escaping=",
                        $escaping
                    ),
                }
            };
        }
        match self.escaping {
            Escaping::AllowUtf8 => with!("allow-utf-8"),
            Escaping::Underscores => with!("underscores"),
            Escaping::Dots => with!("dots"),
            Escaping::Values => with!("values"),
        }
    }

    /// A name as this format has it.
    pub(super) fn name(self, name: &str, colon: bool) -> Cow<'_, str> {
        let legacy = is_legacy(name, colon);
        let plain = |(at, c): (usize, char)| {
            c.is_ascii_alphabetic() || c == '_' || colon && c == ':' || at > 0 && c.is_ascii_digit()
        };
        match self.escaping {
            Escaping::AllowUtf8 => Cow::Borrowed(name),
            Escaping::Underscores | Escaping::Values if legacy => Cow::Borrowed(name),
            Escaping::Underscores => {
                name.char_indices().map(|(at, c)| if plain((at, c)) { c } else { '_' }).collect()
            }
            Escaping::Dots => {
                let mut out = String::with_capacity(2 * name.len());
                for (at, c) in name.char_indices() {
                    match c {
                        '.' => out.push_str("_dot_"),
                        c if c != '_' && plain((at, c)) => out.push(c),
                        _ => out.push_str("__"),
                    }
                }
                Cow::Owned(out)
            }
            Escaping::Values => {
                let mut out = String::from("U__");
                for (at, c) in name.char_indices() {
                    match c {
                        '_' => out.push_str("__"),
                        c if plain((at, c)) => out.push(c),
                        c => {
                            let _ = write!(out, "_{:x}_", u32::from(c));
                        }
                    }
                }
                Cow::Owned(out)
            }
        }
    }
}

/// Whether readers of every age know a name; `colon` if it may have one, as a metric's.
pub(super) fn is_legacy(name: &str, colon: bool) -> bool {
    !name.is_empty()
        && !name.as_bytes()[0].is_ascii_digit()
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || colon && byte == b':')
}

/// One of the things that an Accept header names.
#[derive(Clone, Copy)]
struct Clause<'h>(&'h str);

impl<'h> Clause<'h> {
    fn media_type(self) -> &'h str {
        self.0.split(';').next().unwrap_or("").trim()
    }

    fn parameter(self, name: &str) -> Option<&'h str> {
        let pairs = self.0.split(';').skip(1).filter_map(|part| part.split_once('='));
        pairs.filter(|(key, _)| key.trim() == name).last().map(|(_, value)| value.trim())
    }

    /// How much it is wanted, from 0 to 1.
    fn quality(self) -> f32 {
        self.parameter("q").map_or(1.0, |text| text.parse().unwrap_or(0.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn accepted(header: &'static str) -> (bool, Escaping) {
        let headers = HeaderMap::from_iter([(header::ACCEPT, HeaderValue::from_static(header))]);
        let format = Format::accepted(&headers);
        (format.protobuf, format.escaping)
    }

    #[test]
    fn a_prometheus_that_scrapes_with_its_defaults_gets_names_in_utf_8() {
        let header = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
                      application/openmetrics-text;version=0.0.1;q=0.5,\
                      text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        assert_eq!(accepted(header), (false, Escaping::AllowUtf8));
    }

    #[test]
    fn what_is_liked_best_decides_and_not_what_stands_first() {
        let protobuf = "text/plain;version=0.0.4;escaping=dots;q=0.3,application/vnd.google.protobuf;\
                        proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.7";
        assert_eq!(accepted(protobuf), (true, Escaping::Underscores));
        assert_eq!(accepted("text/plain;escaping=values"), (false, Escaping::Values));
        assert_eq!(
            accepted("text/plain;escaping=strange, text/plain;escaping=dots"),
            (false, Escaping::Underscores)
        );
        assert_eq!(accepted("*/*"), (false, Escaping::Underscores));
        assert_eq!(accepted(""), (false, Escaping::Underscores));
    }

    #[test]
    fn names_are_escaped_as_prometheus_escapes_them() {
        let name = |escaping, name| Format { protobuf: false, escaping }.name(name, true).into_owned();
        let all = |text| Escaping::ALL.map(|escaping| name(escaping, text));
        assert_eq!(
            all("mysystem.prod.west.cpu.load"),
            [
                "mysystem.prod.west.cpu.load",
                "mysystem_prod_west_cpu_load",
                "mysystem_dot_prod_dot_west_dot_cpu_dot_load",
                "U__mysystem_2e_prod_2e_west_2e_cpu_2e_load",
            ]
        );
        assert_eq!(
            all("http.status:sum_x"),
            ["http.status:sum_x", "http_status:sum_x", "http_dot_status:sum__x", "U__http_2e_status:sum__x",]
        );
        assert_eq!(
            all("no:escaping_required"),
            ["no:escaping_required", "no:escaping_required", "no:escaping__required", "no:escaping_required",]
        );
        assert_eq!(
            all("label with 😱"),
            ["label with 😱", "label_with__", "label__with____", "U__label_20_with_20__1f631_",]
        );
    }
}
