//! The edge-secrets agent's process. Everything it does is in the library.

use std::process::ExitCode;

use edge_secrets_agent::{cli, memory};
use zeroizing_alloc::ZeroAlloc;

/// Whatever is freed is wiped first, in dependencies too.
#[global_allocator]
static ALLOCATOR: ZeroAlloc<std::alloc::System> = ZeroAlloc(std::alloc::System);

fn main() -> ExitCode {
    let protection = memory::harden_process();
    cli::run(protection)
}
