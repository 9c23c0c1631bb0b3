//! Secrets are never shown: what people see of a configuration has `<secret>` in their place.

/// Keys whose value is a secret, those of parts that are not supported yet included.
const SECRET_KEYS: [&str; 14] = [
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
/// What stands in a secret's place.
const MASK: &str = "<secret>";

/// The text with secrets masked. In doubt more is masked than needed: the rest of a flow mapping behind a secret key,
/// everything deeper than a secret key's line, comments that name one, and user and password in URLs. What is shown
/// is for people; it need not be YAML any more.
#[must_use]
pub fn mask_secrets(yaml: &str) -> String {
    let mut out = String::with_capacity(yaml.len());
    let mut hidden: Option<usize> = None; // the indentation of a secret key whose continuation is being left out
    for line in yaml.lines() {
        let indent = line.len() - line.trim_start().len();
        if let Some(key_indent) = hidden {
            let item = line.trim_start().starts_with('-') && indent == key_indent;
            let closes = line.trim_start().starts_with(['}', ']']);
            if line.trim().is_empty() || indent > key_indent || item || closes {
                continue;
            }
            hidden = None;
        }
        if line.trim_start().starts_with('#') && SECRET_KEYS.iter().any(|key| line.contains(key)) {
            continue;
        }
        match secret_position(line) {
            Some(end) => {
                out.push_str(&line[..end]);
                out.push(' ');
                out.push_str(MASK);
                // A key behind list dashes stands where its name does; in a flow mapping the line's own place counts.
                let dashes = line.len() - line.trim_start_matches([' ', '-', '?']).len();
                hidden = Some(if line[..end].contains(['{', '[']) { indent } else { dashes });
            }
            None => out.push_str(&mask_url(line)),
        }
        out.push('\n');
    }
    out
}

/// The position behind the colon of the first secret key in a line, wherever it stands.
fn secret_position(line: &str) -> Option<usize> {
    let mut from = 0;
    while let Some(colon) = line[from..].find(':').map(|at| from + at) {
        let name = line[..colon].rsplit(['{', ',', '[', '-', '?', ' ']).next().unwrap_or_default();
        let name = if line[..colon].ends_with(['"', '\'', ' ']) {
            line[..colon]
                .trim_end()
                .trim_end_matches(['"', '\''])
                .rsplit(['{', ',', ' ', '"', '\''])
                .next()
                .unwrap_or_default()
        } else {
            name
        };
        if SECRET_KEYS.contains(&name.trim_matches(['"', '\''])) {
            return Some(colon + 1);
        }
        from = colon + 1;
    }
    None
}

/// User and password in front of a URL's host.
fn mask_url(line: &str) -> String {
    let Some(scheme) = line.find("://").map(|at| at + 3) else { return line.to_owned() };
    let end = line[scheme..].find(['/', ' ', '"', '\'']).map_or(line.len(), |at| scheme + at);
    match line[scheme..end].rfind('@') {
        Some(at) => format!("{}{MASK}{}", &line[..scheme], mask_url(&line[scheme + at..])),
        None => format!("{}{}", &line[..end], mask_url(&line[end..])),
    }
}

/// The section of `scrape_configs` with this `job_name`, as it stands in the text; `None` if there is none.
#[must_use]
pub fn section_of(yaml: &str, job_name: &str) -> Option<String> {
    let is_item = |line: &&str| line.trim_start().starts_with("- ");
    let mut sections: Vec<Vec<&str>> = Vec::new();
    let mut depth = None;
    for line in yaml.lines().skip_while(|line| !line.starts_with("scrape_configs:")).skip(1) {
        let indent = line.len() - line.trim_start().len();
        let top_level = indent == 0 && !line.is_empty() && !is_item(&line) && !line.starts_with('#');
        if top_level {
            break;
        }
        if is_item(&line) && depth.is_none_or(|depth| indent == depth) {
            depth = Some(indent);
            sections.push(Vec::new());
        }
        if let Some(section) = sections.last_mut() {
            section.push(line);
        }
    }
    let named = |section: &Vec<&str>| {
        section.iter().any(|line| {
            let line = line.trim_start_matches([' ', '-']);
            line.strip_prefix("job_name:")
                .is_some_and(|name| name.trim().trim_matches(['"', '\'']) == job_name)
        })
    };
    sections.into_iter().find(named).map(|section| section.join("\n") + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_masked_whatever_its_quoting() {
        let yaml = "basic_auth:\n  username: u\n  password: \"p: x\"\n- key: k\n";
        assert_eq!(mask_secrets(yaml), "basic_auth:\n  username: u\n  password: <secret>\n- key: <secret>\n");
    }

    #[test]
    fn a_secret_over_several_lines_is_masked_whole() {
        let yaml = "tls_config:\n  key: |\n    -----BEGIN\n    abc\n  cert: c\n";
        assert_eq!(mask_secrets(yaml), "tls_config:\n  key: <secret>\n  cert: c\n");
        let list = "secrets:\n- a\n- b\nfiles: [f]\n";
        assert_eq!(mask_secrets(list), "secrets: <secret>\nfiles: [f]\n");
    }

    #[test]
    fn a_secret_in_a_flow_mapping_takes_the_rest_with_it() {
        let yaml = "basic_auth: {username: u, password: 'it''s, q'}\nx: 1\n";
        assert_eq!(mask_secrets(yaml), "basic_auth: {username: u, password: <secret>\nx: 1\n");
        let next_line = "basic_auth: {username: u, \"password\":\n    p}\nx: 1\n";
        assert_eq!(mask_secrets(next_line), "basic_auth: {username: u, \"password\": <secret>\nx: 1\n");
        let quoted = "a: {password: \"p\\\"q\", b: c}\n";
        assert_eq!(mask_secrets(quoted), "a: {password: <secret>\n");
    }

    #[test]
    fn a_secret_in_a_comment_or_a_url_is_masked() {
        assert_eq!(mask_secrets("# password: old\nx: 1\n"), "x: 1\n");
        assert_eq!(mask_secrets("url: http://u:p@h:1/x\n"), "url: http://<secret>@h:1/x\n");
    }

    #[test]
    fn a_section_is_found_by_its_job_name() {
        let yaml = "scrape_configs:\n  - job_name: a\n    scheme: http\n  - job_name: 'b'\nother: 1\n";
        assert_eq!(section_of(yaml, "b").as_deref(), Some("  - job_name: 'b'\n"));
        assert_eq!(section_of(yaml, "c"), None);
    }

    #[test]
    fn file_names_of_secrets_are_no_secrets() {
        assert_eq!(mask_secrets("password_file: /etc/p\n"), "password_file: /etc/p\n");
    }
}
