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
            let (ours, theirs) = (mask_secrets(&read(file)?), in_force(url)?);
            let lines = diff(&theirs, &ours);
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
    use super::{diff, named};

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
