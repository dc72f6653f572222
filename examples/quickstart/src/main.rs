//! The main job on one machine, with real processes: publish, read, rotate, explain, withdraw, and
//! see that nothing is left. Needs no root, cleans up behind itself, and fails when a step fails.
#![forbid(unsafe_code)]

mod binaries;
mod place;
mod story;
mod tell;
mod watch;

use std::process::ExitCode;

use crate::place::Place;
use crate::tell::say;

/// What went wrong, for people.
type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    match run() {
        Ok(()) => {
            say("Done.");
            ExitCode::SUCCESS
        }
        Err(failure) => {
            eprintln!("\nThe quickstart failed: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Failure> {
    let binaries = binaries::build()?;
    let mut place = Place::new(binaries)?;
    let told = story::tell(&mut place);
    if told.is_err() {
        place.show_logs();
    }
    // Also after a failure: whatever was started ends, and whatever was written goes.
    let cleaned = place.clean_up();
    told.and(cleaned)
}
