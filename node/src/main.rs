//! The binary `vestal`.

use std::process::ExitCode;

fn main() -> ExitCode {
    node::cli::main()
}
