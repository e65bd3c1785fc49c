//! The runner of the demo: `maxchannel run` by a clock that the demo sets, for as long as the demo
//! lives.
//!
//! Stdin is the line to the demo. Each of its lines says how many milliseconds the clock is to be
//! ahead of the real one; its end is the end of the demo, however that came about, and of this
//! process. A demo that was killed has left its temporary folder, whose path stands in
//! [`FOLDER`]: it goes with this process. `maxchannel run` itself knows no other clock than the
//! real one.

use std::io::BufRead as _;
use std::process::ExitCode;

use crate::cli::run;
use crate::time::{Clock, Millis};

/// The name of the command; nobody types it.
pub(super) const COMMAND: &str = "demo-runner";
/// The variable in which the demo names its temporary folder.
pub(super) const FOLDER: &str = "MAXCHANNEL_DEMO_FOLDER";
/// How often the folder is removed, because this process may be writing into it.
const REMOVALS: usize = 10;

pub(in crate::cli) fn run_as_child(args: run::Args) -> ExitCode {
    let (clock, hand) = Clock::of_runtime(Clock::real().now());
    std::thread::spawn(move || {
        let mut ahead: Millis = 0;
        for line in std::io::stdin().lock().lines() {
            let Ok(line) = line else { break };
            if let Ok(wanted) = line.trim().parse::<Millis>() {
                hand.set_wall(wanted - ahead);
                ahead = wanted;
            }
        }
        // There is nobody left to see any of it.
        if let Some(folder) = std::env::var_os(FOLDER) {
            for _ in 0..REMOVALS {
                match std::fs::remove_dir_all(&folder) {
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => break,
                    _ => {}
                }
            }
        }
        std::process::exit(0);
    });
    run::run_by(args, clock)
}
