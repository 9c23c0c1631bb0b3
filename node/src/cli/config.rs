//! `vestal config`: check, apply, show, history, diff.

use super::{EXIT_USAGE, http};
use crate::config::{self, Unsupported, mask_secrets};
use anyhow::Context;
use clap::{Args, Subcommand};
use hyper::Method;
use std::{fs, path::PathBuf, process::ExitCode};

#[derive(Debug, Args)]
pub(crate) struct ConfigArgs {
    #[command(subcommand)]
    command: ConfigCommand,
}

#[derive(Debug, Args)]
struct Url {
    /// Any node's web address.
    #[arg(long, default_value = "http://127.0.0.1:9090")]
    url: String,
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Checks a configuration file; changes nothing.
    Check {
        /// The file.
        file: PathBuf,
        /// Accept keys that are not supported yet.
        #[arg(long = "config.ignore-unsupported")]
        ignore_unsupported: bool,
    },
    /// Puts a configuration in force in the cluster: checked whole, committed once.
    Apply {
        /// The file.
        file: PathBuf,
        #[command(flatten)]
        url: Url,
    },
    /// Shows the configuration in force, secrets masked.
    Show {
        #[command(flatten)]
        url: Url,
    },
    /// Lists the versions, newest first.
    History {
        #[command(flatten)]
        url: Url,
    },
    /// Shows how a file differs from what is in force, secrets masked.
    Diff {
        /// The file.
        file: PathBuf,
        #[command(flatten)]
        url: Url,
    },
}

fn read(file: &PathBuf) -> anyhow::Result<String> {
    fs::read_to_string(file).with_context(|| file.display().to_string())
}

fn in_force(url: &Url) -> anyhow::Result<String> {
    let data = http::api_data(Method::GET, &address(url, "/api/v1/status/config"), String::new())?;
    Ok(data["yaml"].as_str().unwrap_or_default().to_owned())
}

fn address(url: &Url, path: &str) -> String {
    format!("{}{path}", url.url.trim_end_matches('/'))
}

pub(crate) fn run(args: &ConfigArgs) -> anyhow::Result<ExitCode> {
    match &args.command {
        ConfigCommand::Check { file, ignore_unsupported } => {
            let unsupported = if *ignore_unsupported { Unsupported::Ignore } else { Unsupported::Refuse };
            let checked = config::parse(&file.display().to_string(), &read(file)?, unsupported)?;
            for key in &checked.ignored {
                println!("{}: {key} is ignored", file.display());
            }
            println!("{}: good, {} scrape configurations", file.display(), checked.scrape_configs.len());
        }
        ConfigCommand::Apply { file, url } => {
            let text = read(file)?;
            // What this file says wrong is told by its own name. The nodes check again, and whether they accept what
            // is not supported is their affair.
            config::parse(&file.display().to_string(), &text, Unsupported::Ignore)?;
            let url = address(url, "/api/v1/status/config");
            let (status, body) = http::request(Method::POST, &url, "application/yaml", text)?;
            if !status.is_success() {
                eprintln!("{}", named(&file.display().to_string(), http::reason(status, &body)));
                return Ok(ExitCode::from(EXIT_USAGE));
            }
            let answer: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
            println!("version {} is in force", answer["data"]["version"]);
        }
        ConfigCommand::Show { url } => print!("{}", in_force(url)?),
        ConfigCommand::History { url } => {
            let history =
                http::api_data(Method::GET, &address(url, "/api/v1/status/config/history"), String::new())?;
            for entry in history.as_array().into_iter().flatten() {
                println!("{}", serde_json::to_string(&without_text(entry))?);
            }
        }
        ConfigCommand::Diff { file, url } => {
            let text = read(file)?;
            let history = address(url, "/api/v1/status/config/history?limit=1");
            let newest = http::api_data(Method::GET, &history, String::new())?[0].take();
            let theirs = InForce { shown: in_force(url)?, text_hash: newest["textHash"].as_str() };
            let lines = differences(&theirs, &text);
            lines.iter().for_each(|line| println!("{line}"));
            return Ok(ExitCode::from(u8::from(!lines.is_empty())));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// What a node says is wrong with a text it was offered, by the name of the file that has the text.
fn named(file: &str, reason: String) -> String {
    let line = reason.strip_prefix(config::OFFERED).filter(|rest| rest.starts_with(':'));
    line.map_or_else(|| reason.clone(), |rest| format!("{file}{rest}"))
}

fn without_text(entry: &serde_json::Value) -> serde_json::Value {
    let mut entry = entry.clone();
    if let Some(entry) = entry.as_object_mut() {
        entry.remove("yaml");
    }
    entry
}

/// A configuration as it may be known: secrets masked, and by the hash of what it really is, if a node tells that.
struct InForce<'a> {
    shown: String,
    text_hash: Option<&'a str>,
}

/// How a file differs from what is in force; nothing if it does not.
fn differences(in_force: &InForce<'_>, file: &str) -> Vec<String> {
    let lines = diff(&in_force.shown, &mask_secrets(file));
    if lines.is_empty() && in_force.text_hash.is_some_and(|hash| hash != config::text_hash(file)) {
        return vec!["differs in secrets or comments, which are not shown".to_owned()];
    }
    lines
}

/// Lines that only one of the texts has, `-` in force and `+` in the file: common beginning and end are left out.
fn diff(in_force: &str, file: &str) -> Vec<String> {
    let (a, b): (Vec<_>, Vec<_>) = (in_force.lines().collect(), file.lines().collect());
    let head = a.iter().zip(&b).take_while(|(a, b)| a == b).count();
    let rest = a.len().min(b.len()) - head;
    let tail = a.iter().rev().zip(b.iter().rev()).take(rest).take_while(|(a, b)| a == b).count();
    let removed = a[head..a.len() - tail].iter().map(|line| format!("-{line}"));
    let added = b[head..b.len() - tail].iter().map(|line| format!("+{line}"));
    removed.chain(added).collect()
}

#[cfg(test)]
mod tests {
    use super::{InForce, diff, differences, named};
    use crate::config::{mask_secrets, text_hash};

    #[test]
    fn a_rotated_password_is_a_difference_and_stays_a_secret() {
        let told = |in_force: &str, file: &str, hash: Option<&str>| {
            differences(&InForce { shown: mask_secrets(in_force), text_hash: hash }, file)
        };
        let (old, new) = ("a:\n  password: old\n", "a:\n  password: new\n");
        let hash = text_hash(old);
        assert_eq!(told(old, new, Some(&hash)), ["differs in secrets or comments, which are not shown"]);
        assert_eq!(told(old, old, Some(&hash)), Vec::<String>::new());
        assert_eq!(told(old, "b: 1\n", Some(&hash)), ["-a:", "-  password: <secret>", "+b: 1"]);
        assert_eq!(told(old, new, None), Vec::<String>::new(), "a node of an older build does not tell");
    }

    #[test]
    fn what_a_node_says_of_a_text_is_told_by_the_name_of_the_file() {
        let said = |reason: &str| named("/etc/p.yml", reason.to_owned());
        assert_eq!(said("configuration:4: a: unknown"), "/etc/p.yml:4: a: unknown");
        assert_eq!(
            said("configuration and its files have 9 bytes"),
            "configuration and its files have 9 bytes"
        );
        assert_eq!(said("503 Service Unavailable"), "503 Service Unavailable");
    }

    #[test]
    fn a_diff_shows_what_differs_and_nothing_else() {
        assert_eq!(diff("a\nb\nc\n", "a\nx\nc\n"), ["-b", "+x"]);
        assert_eq!(diff("a\n", "a\n"), Vec::<String>::new());
        assert_eq!(diff("a\na\n", "a\n"), ["-a"]);
    }
}
