//! The relay as a program of its own: no Kubernetes client, no JSON Schema and no CEL is reached
//! from here, so none is linked in.

use std::process::ExitCode;

fn main() -> ExitCode {
    maxchannel::cli::relay::main()
}
