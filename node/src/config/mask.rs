//! Secrets are never shown: what people see of a configuration has `<secret>` in their place.

/// Keys whose value is a secret.
const SECRET_KEYS: [&str; 6] = ["password", "credentials", "bearer_token", "client_secret", "key", "secrets"];
/// What stands in a secret's place.
const MASK: &str = "<secret>";

/// The text with the values of secret keys masked, line by line, whatever their quoting; a block or list below a
/// secret key is masked as a whole.
#[must_use]
pub fn mask_secrets(yaml: &str) -> String {
    let yaml = mask_flow(yaml);
    let mut out = String::with_capacity(yaml.len());
    let mut hidden: Option<usize> = None; // the indentation of a secret key whose block is being left out
    for line in yaml.lines() {
        let indent = line.len() - line.trim_start().len();
        let blank = line.trim().is_empty();
        if let Some(key_indent) = hidden {
            let item = line.trim_start().starts_with('-') && indent == key_indent;
            if blank || indent > key_indent || item {
                continue;
            }
            hidden = None;
        }
        match secret_key(line) {
            Some(end) => {
                out.push_str(&line[..end]);
                out.push(' ');
                out.push_str(MASK);
                // What follows deeper is this value's continuation: a block scalar, a quoted text over several
                // lines, a list. A key behind list dashes stands where its name does.
                let dashes = line.len() - line.trim_start_matches([' ', '-']).len();
                hidden = Some(dashes);
            }
            None => out.push_str(line),
        }
        out.push('\n');
    }
    out
}

/// The position behind the colon, if the line sets a secret key.
fn secret_key(line: &str) -> Option<usize> {
    let name_from = line.len() - line.trim_start_matches([' ', '-']).len();
    let (name, _) = line[name_from..].split_once(':')?;
    let bare = name.trim().trim_matches(['"', '\'']);
    let url = bare == "proxy_url";
    (SECRET_KEYS.contains(&bare) || url).then_some(name_from + name.len() + 1)
}

/// Flow mappings (`{username: a, password: b}`) put a secret in the middle of a line.
fn mask_flow(yaml: &str) -> String {
    let mut out = String::with_capacity(yaml.len());
    for line in yaml.lines() {
        out.push_str(&mask_flow_line(line));
        out.push('\n');
    }
    out
}

fn mask_flow_line(line: &str) -> String {
    let mut out = String::new();
    let mut rest = line;
    while let Some(at) = rest.find(['{', ',']) {
        let (before, behind) = rest.split_at(at + 1);
        out.push_str(before);
        rest = behind;
        let name = rest.trim_start();
        let Some((key, value)) = name.split_once(':') else { continue };
        if !SECRET_KEYS.contains(&key.trim().trim_matches(['"', '\''])) {
            continue;
        }
        let value = value.trim_start();
        let end = match value.chars().next() {
            Some(quote @ ('"' | '\'')) => value[1..].find(quote).map_or(value.len(), |end| end + 2),
            Some('[') => value.find(']').map_or(value.len(), |end| end + 1),
            _ => value.find([',', '}']).unwrap_or(value.len()),
        };
        out.push_str(&rest[..rest.len() - name.len()]);
        out.push_str(key);
        out.push_str(": ");
        out.push_str(MASK);
        rest = &value[end..];
    }
    out.push_str(rest);
    out
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
    fn a_secret_in_a_flow_mapping_is_masked() {
        let yaml = "basic_auth: {username: u, password: 'p, q'}\n";
        assert_eq!(mask_flow(yaml), "basic_auth: {username: u, password: <secret>}\n");
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
