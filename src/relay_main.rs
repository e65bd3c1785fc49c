//! The relay as a program of its own: no Kubernetes client, no JSON Schema and no CEL is reached
//! from here, so none is linked in; its arguments are parsed without clap for the same reason.

use std::process::ExitCode;

fn main() -> ExitCode {
    maxchannel::cli::relay::main()
}
