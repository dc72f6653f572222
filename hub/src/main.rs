//! The hub's process: arguments, logs, runtime and exit code; everything else is the library's.

use std::io::Write;
use std::process::ExitCode;

use edge_secrets_hub::app::{self, AppError};
use edge_secrets_hub::backup::{BackupError, command};
use edge_secrets_hub::ca::{self, CaError};
use edge_secrets_hub::cli::{Cli, Command};
use edge_secrets_hub::config::{Config, Log, LogFormat};
use edge_secrets_hub::{init, keys};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tracing_subscriber::EnvFilter;

/// What is freed is wiped, whatever it was.
#[global_allocator]
static ALLOCATOR: zeroizing_alloc::ZeroAlloc<std::alloc::System> =
    zeroizing_alloc::ZeroAlloc(std::alloc::System);

fn main() -> ExitCode {
    // No core dump and no debugger of the same user sees the keys.
    if let Err(error) = nix::sys::prctl::set_dumpable(false) {
        return fail(&format!("the process cannot be protected: {error}"), FAILED);
    }
    raise_descriptors();
    let cli = match Cli::read(std::env::args_os()) {
        Ok(cli) => cli,
        Err(error) => {
            error.print().ok();
            return if error.use_stderr() {
                ExitCode::from(USAGE)
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    let workers = std::thread::available_parallelism().map_or(2, |cores| cores.get().max(2));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(workers)
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("no runtime: {error}"), FAILED),
    };
    runtime.block_on(async {
        match cli.command {
            Command::Init(wanted) => match init::init(&wanted).await {
                Ok(made) => say(&made.to_string()),
                Err(error) => {
                    let code = if error.is_usage() { USAGE } else { FAILED };
                    fail(&error.to_string(), code)
                }
            },
            Command::AddOrg(wanted) => match init::org::add_org(&wanted).await {
                Ok(added) => say(&added.to_string()),
                Err(error) => {
                    let code = if error.is_usage() { USAGE } else { FAILED };
                    fail(&error.to_string(), code)
                }
            },
            Command::Serve { config } => match Config::load(&config) {
                Ok(config) => serve(config).await,
                Err(error) => fail(&error.to_string(), USAGE),
            },
            // The backup itself may be on standard output.
            Command::Backup(wanted) => match command::backup(&wanted).await {
                Ok(text) => {
                    std::io::stderr().write_all(text.as_bytes()).ok();
                    ExitCode::SUCCESS
                }
                Err(error) => refuse(&error),
            },
            Command::Restore(wanted) => told(command::bring_back(&wanted).await),
            Command::BackupKey { out } => told(command::make_key(&out)),
            Command::Ca { step } => match ca::take(&step).await {
                Ok(text) => say(&text),
                Err(CaError::Data(error)) => refuse(&error),
                Err(error) => fail(&error.to_string(), FAILED),
            },
            Command::RotateMasterKey { config } => {
                let rotated = keys::rotate_master_key(&config).await;
                told(rotated.map(|count| {
                    format!(
                        "The master key is another now; {count} keys are wrapped under it.\n\
                         Backups that were made before hold the old one: make a new one, and do away \
                         with them.\n"
                    )
                }))
            }
        }
    })
}

fn told(done: Result<String, BackupError>) -> ExitCode {
    match done {
        Ok(text) => say(&text),
        Err(error) => refuse(&error),
    }
}

fn refuse(error: &BackupError) -> ExitCode {
    let code = if error.is_usage() { USAGE } else { FAILED };
    fail(&error.to_string(), code)
}

async fn serve(config: Config) -> ExitCode {
    if let Err(error) = start_log(&config.log) {
        return fail(&format!("logs cannot be written: {error}"), USAGE);
    }
    let failed = |error: AppError| {
        let code = if error.is_configuration() {
            USAGE
        } else {
            FAILED
        };
        fail(&error.to_string(), code)
    };
    let bound = match app::build(config).await {
        Ok(bound) => bound,
        Err(error) => return failed(error),
    };
    // For those who started it with port 0.
    let listening = |address| {
        say(&format!("listening on {address}\n"));
    };
    match bound.run_until_shutdown(listening).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(error),
    }
}

fn start_log(log: &Log) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let builder = tracing_subscriber::fmt()
        .with_env_filter(log.level.parse::<EnvFilter>()?)
        .with_writer(std::io::stderr);
    match log.format {
        LogFormat::Text => builder.with_ansi(false).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    }
}

/// Every connection takes a descriptor: up to what the system allows, which may well be more than it
/// gives at first. Where it does not, connections wait.
fn raise_descriptors() {
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard).ok();
    }
}

/// A reader that has gone away is no reason to stop.
fn say(text: &str) -> ExitCode {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .ok();
    ExitCode::SUCCESS
}

fn fail(reason: &str, code: u8) -> ExitCode {
    let line = format!("edge-secrets-hub: {reason}\n");
    std::io::stderr().write_all(line.as_bytes()).ok();
    ExitCode::from(code)
}

/// Wrong arguments or configuration: starting again is in vain (`EX_USAGE` of sysexits).
const USAGE: u8 = 64;
/// Anything else.
const FAILED: u8 = 1;
