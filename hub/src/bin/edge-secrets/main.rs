//! The operator's command line.
//!
//! It is built on the hub's wire types and the protocol crate alone, so that it could move out.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser;
use edge_secrets_hub::operator::{cli, times};
use nix::sys::prctl;
use zeroizing_alloc::ZeroAlloc;

use crate::cli::Cli;
use crate::output::Ui;

mod client;
mod commands;
mod context;
mod error;
mod input;
mod output;
#[cfg(test)]
mod testing;

/// Wipes what is freed: values pass through buffers of libraries too.
#[global_allocator]
static ALLOCATOR: ZeroAlloc<std::alloc::System> = ZeroAlloc(std::alloc::System);

fn main() -> ExitCode {
    // Before any value can be here: no core dump, and no other process of this user looks in.
    let guarded = prctl::set_dumpable(false);
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(shown) => return error::usage_exit(&shown),
    };
    let mut ui = Ui::process(cli.output, cli.yes);
    if guarded.is_err() {
        ui.note("warning: this process could not be kept out of core dumps");
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let done = match runtime {
        Ok(runtime) => runtime.block_on(commands::run(cli, &mut ui)),
        Err(error) => Err(error::Error::Failed(format!("cannot start: {error}"))),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            ui.fail(&error);
            ExitCode::from(error.exit_code())
        }
    }
}
