//! What people see of a configuration: no secret, no comment, and still YAML that means the same.
//!
//! Secrets are known by the names of their fields. Names that people choose, of labels and parameters, hide nothing, as
//! in Prometheus.

use super::tree::{Node, scalar};

/// Fields whose value is a secret, those of parts that are not supported yet included.
const SECRET_FIELDS: [&str; 14] = [
    "password",
    "credentials",
    "bearer_token",
    "client_secret",
    "client_certificate_key",
    "key",
    "secrets",
    "secret_key",
    "access_key",
    "secret",
    "token",
    "api_key",
    "auth_token",
    "application_secret",
];
/// Fields whose value is a mapping with names that people choose.
const FREE_FIELDS: [&str; 3] = ["labels", "external_labels", "params"];
/// What stands in a secret's place.
const MASK: &str = "<secret>";
/// The longest text shown, bytes: anchors may unfold to more than the text that has them.
const SHOWN_BYTES_MAX: usize = 16 << 20;

/// The configuration with secrets masked, and user and password in URLs.
#[must_use]
pub fn mask_secrets(yaml: &str) -> String {
    Node::parse(yaml).map_or_else(|| "# not shown: it is not YAML\n".to_owned(), |root| show(&root))
}

/// The section of `scrape_configs` with this `job_name`, masked; `None` if there is none.
#[must_use]
pub fn section_of(yaml: &str, job_name: &str) -> Option<String> {
    let root = Node::parse(yaml)?;
    let sections = root.get("scrape_configs")?.entries();
    let named =
        |section: &&std::rc::Rc<Node>| section.get("job_name").and_then(|name| name.text()) == Some(job_name);
    sections.iter().find(named).map(|section| show(section))
}

fn show(root: &Node) -> String {
    if root.text() == Some("") {
        return String::new();
    }
    let mut writer = Writer { out: String::new(), full: false };
    writer.node(root, 0, Place::Fields);
    if writer.full {
        return format!(
            "# not shown: it has more than {SHOWN_BYTES_MAX} bytes once its anchors are unfolded\n"
        );
    }
    writer.out
}

/// What the keys of a mapping are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Names of fields.
    Fields,
    /// Names that people choose; nothing behind them is a secret.
    Free,
    /// Anything; all behind them is secret.
    Secret,
}

impl Place {
    fn behind(self, key: &str) -> Place {
        match self {
            Place::Fields if SECRET_FIELDS.contains(&key) => Place::Secret,
            Place::Fields if FREE_FIELDS.contains(&key) => Place::Free,
            place => place,
        }
    }
}

struct Writer {
    out: String,
    full: bool,
}

impl Writer {
    /// Writes a node where a line has begun that is indented by `indent`; ends with a line feed.
    fn node(&mut self, node: &Node, indent: usize, place: Place) {
        self.full |= self.out.len() > SHOWN_BYTES_MAX;
        match node {
            _ if self.full => {}
            Node::Scalar { text, plain } => {
                match (place, text.as_str()) {
                    (Place::Secret, text) if !text.is_empty() => self.out.push_str(MASK),
                    (_, text) => self.out.push_str(&scalar(&mask_url(text), *plain)),
                }
                self.out.push('\n');
            }
            Node::List(entries) if entries.is_empty() => self.out.push_str("[]\n"),
            Node::Map(pairs) if pairs.is_empty() => self.out.push_str("{}\n"),
            Node::List(entries) => {
                for (i, entry) in entries.iter().enumerate() {
                    self.begin(i, indent);
                    self.out.push_str("- ");
                    self.node(entry, indent + 2, place);
                }
            }
            Node::Map(pairs) => {
                for (i, (key, value)) in pairs.iter().enumerate() {
                    self.begin(i, indent);
                    self.pair(key, value, indent, place);
                }
            }
        }
    }

    /// Begins all lines but the first, which has begun.
    fn begin(&mut self, i: usize, indent: usize) {
        if i > 0 {
            self.out.extend(std::iter::repeat_n(' ', indent));
        }
    }

    fn pair(&mut self, key: &Node, value: &Node, indent: usize, place: Place) {
        let Node::Scalar { text: name, plain } = key else {
            self.out.push_str("# a key that is no text\n");
            return;
        };
        self.out.push_str(&scalar(name, *plain));
        self.out.push(':');
        let place = place.behind(name);
        // As Prometheus writes it, a list is not indented below its key.
        let below = match value {
            Node::List(entries) if !entries.is_empty() => Some(indent),
            Node::Map(pairs) if !pairs.is_empty() => Some(indent + 2),
            Node::Scalar { text, plain: true } if text.is_empty() => return self.out.push('\n'),
            _ => None,
        };
        match below {
            Some(indent) => {
                self.out.push('\n');
                self.begin(1, indent);
                self.node(value, indent, place);
            }
            None => {
                self.out.push(' ');
                self.node(value, indent, place);
            }
        }
    }
}

/// User and password in front of a URL's host.
fn mask_url(text: &str) -> String {
    let Some(scheme) = text.find("://").map(|at| at + 3) else { return text.to_owned() };
    let end = text[scheme..].find(['/', ' ', '"', '\'']).map_or(text.len(), |at| scheme + at);
    match text[scheme..end].rfind('@') {
        Some(at) => format!("{}{MASK}{}", &text[..scheme], mask_url(&text[scheme + at..])),
        None => format!("{}{}", &text[..end], mask_url(&text[end..])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_is_yaml_in_the_form_of_prometheus() {
        let yaml = "global: {scrape_interval: 15s}\nscrape_configs:\n  - job_name: 'a' # the first\n    static_configs:\n\
                    \x20   - targets: [\"b:1\", 'c:1']\n      labels: {}\n    honor_labels:\n";
        let shown = "global:\n  scrape_interval: 15s\nscrape_configs:\n- job_name: 'a'\n  static_configs:\n  - targets:\n\
                     \x20   - 'b:1'\n    - 'c:1'\n    labels: {}\n  honor_labels:\n";
        assert_eq!(mask_secrets(yaml), shown);
        assert_eq!(mask_secrets(shown), shown);
    }

    #[test]
    fn a_secret_is_masked_whatever_its_form() {
        let masked = "a:\n  username: u\n  password: <secret>\n";
        assert_eq!(mask_secrets("a:\n  username: u\n  password: \"p: x\"\n"), masked);
        assert_eq!(mask_secrets("a: {username: u, password: 'it''s, q'}\n"), masked);
        assert_eq!(
            mask_secrets("a: {username: u, \"password\":\n    p}\n"),
            masked.replace("password", "'password'")
        );
        assert_eq!(mask_secrets("a:\n  username: u\n  password: |\n    -----BEGIN\n    abc\n"), masked);
        assert_eq!(
            mask_secrets("secrets:\n- a\n- b\nfiles: [f]\n"),
            "secrets:\n- <secret>\n- <secret>\nfiles:\n- f\n"
        );
    }

    #[test]
    fn what_follows_a_secret_is_still_there() {
        let yaml = "basic_auth: {username: u, password: p, x: [y]}\nz: 1\n";
        let shown = "basic_auth:\n  username: u\n  password: <secret>\n  x:\n  - y\nz: 1\n";
        assert_eq!(mask_secrets(yaml), shown);
    }

    #[test]
    fn labels_and_parameters_are_no_secrets_whatever_their_names() {
        let yaml = "labels:\n  key: k\n  token: t\nparams:\n  key:\n  - k\ntls_config:\n  key: <secret>\n";
        assert_eq!(mask_secrets(&yaml.replace("<secret>", "k")), yaml);
    }

    #[test]
    fn a_secret_in_a_comment_or_a_url_is_not_shown() {
        assert_eq!(mask_secrets("# password: old\nx: 1 # token: t\n"), "x: 1\n");
        assert_eq!(mask_secrets("url: http://u:p@h:1/x\n"), "url: http://<secret>@h:1/x\n");
    }

    #[test]
    fn what_is_no_yaml_is_not_shown() {
        assert_eq!(mask_secrets("a: [password: p\n"), "# not shown: it is not YAML\n");
        assert_eq!(mask_secrets(""), "");
    }

    #[test]
    fn anchors_that_unfold_without_end_are_not_shown() {
        let mut yaml = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for i in 1..12 {
            let alias = format!("*a{}, ", i - 1).repeat(10);
            yaml += &format!("a{i}: &a{i} [{alias}]\n");
        }
        assert!(mask_secrets(&yaml).starts_with("# not shown: it has more than"));
    }

    #[test]
    fn a_section_is_found_by_its_job_name_in_any_style() {
        let yaml = "scrape_configs:\n  - job_name: a # one\n    scheme: http\n  - {job_name: 'b', basic_auth: {password: p}}\n";
        assert_eq!(section_of(yaml, "a").as_deref(), Some("job_name: a\nscheme: http\n"));
        assert_eq!(
            section_of(yaml, "b").as_deref(),
            Some("job_name: 'b'\nbasic_auth:\n  password: <secret>\n")
        );
        assert_eq!(section_of(yaml, "c"), None);
    }

    #[test]
    fn file_names_of_secrets_are_no_secrets() {
        assert_eq!(mask_secrets("password_file: /etc/p\n"), "password_file: /etc/p\n");
    }
}
