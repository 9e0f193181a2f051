//! The command line `agentkey`.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(agentkey::cli::run(std::env::args_os().skip(1)))
}
