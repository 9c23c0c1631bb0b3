//! The command line: what each subcommand takes, and its exit status.

mod check;
mod config;
mod dev;
pub(crate) mod features;
mod http;
pub(crate) mod serve;
mod status;

use crate::config::ConfigError;
use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Usage errors and refused configurations.
pub(crate) const EXIT_USAGE: u8 = 2;

/// A highly available Prometheus: identical nodes, one binary, no other service.
#[derive(Debug, Parser)]
#[command(name = "vestal", version, max_term_width = 110)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs a node: alone without cluster flags, else as a member of a cluster.
    Serve(Box<serve::ServeArgs>),
    /// Runs a local cluster on 127.0.0.1, each node its own process and folder.
    Dev(dev::DevArgs),
    /// Shows nodes, shards and leaders, and whether one more node may be lost (exit status 0 yes, 1 no, 3 no quorum).
    Status(status::StatusArgs),
    /// Checks, applies and shows the cluster's configuration.
    Config(config::ConfigArgs),
    /// Reads everything stored in a data directory, verifies it and says what is damaged.
    Check(check::CheckArgs),
}

/// Lets this process end quietly when nobody reads its output any more, as in `vestal config show | head`.
fn end_with_the_reader() {
    // SAFETY: sets the disposition of one signal to its default, before there are other threads.
    #[expect(unsafe_code, reason = "Rust ignores SIGPIPE before main, and panics at the next line printed")]
    unsafe {
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
    }
}

/// Runs the command line of this process.
#[must_use]
pub fn main() -> ExitCode {
    let Cli { command } = Cli::parse();
    if matches!(command, Command::Status(_) | Command::Config(_) | Command::Check(_)) {
        end_with_the_reader();
    }
    let result = match command {
        Command::Serve(args) => serve::run(*args),
        Command::Dev(args) => dev::run(args),
        Command::Status(args) => status::run(&args),
        Command::Config(args) => config::run(&args),
        Command::Check(args) => check::run(&args),
    };
    result.unwrap_or_else(|error| {
        // What is wrong with a configuration begins with its file and line, for editors.
        match error.downcast_ref::<ConfigError>() {
            Some(wrong) => eprintln!("{wrong}"),
            None => eprintln!("vestal: {error:#}"),
        }
        ExitCode::from(EXIT_USAGE)
    })
}
