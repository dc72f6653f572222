//! The command line: `edge-secrets-agent --config FILE COMMAND`.

mod check;
mod enroll;
mod mount;
mod mounts;
mod status;

use std::fmt;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use edge_secrets_protocol::{Code, ConsumerName};
use jiff::Timestamp;
use serde::Serialize;
use tokio::runtime::{self, Runtime};

use crate::app::{self, AppError};
use crate::cache::SealedCache;
use crate::config::{Config, ConfigError, DEFAULT_PATH, Span};
use crate::local_api::{self, BindError, ClientError};
use crate::reconcile::{Reconciler, RuntimeError};

/// Delivers what the hub binds to this node's services, on tmpfs.
#[derive(Parser)]
#[command(name = "edge-secrets-agent", version, arg_required_else_help = true)]
struct Cli {
    /// The configuration.
    #[arg(long, global = true, value_name = "FILE", default_value = DEFAULT_PATH)]
    config: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Look whether everything here is as the agent and its services need it; change nothing.
    #[command(after_help = "Exits with 0 when nothing failed, else with the first failure's code.")]
    Check {
        /// How to write it.
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
    /// Make this node known to the hub with a one-time token.
    Enroll(EnrollArgs),
    /// Print the running agent's metrics as Prometheus reads them.
    Metrics,
    /// Let the agent read its files again and ask the hub now.
    Refresh,
    /// Mount the tmpfs at the runtime directory, where none is yet, and say how it keeps values.
    ///
    /// Needs no enrolment, and no configuration where the defaults are right. It is what
    /// edge-secrets-runtime.service does, so that the agent itself never needs the right to mount.
    Mount,
    /// Show what a service's container is to mount, as arguments for its engine.
    ///
    /// Secrets go to /open-horizon-secrets; where the consumer has a secrets API of its own, its
    /// credentials, its certificate, its socket and an environment file come with it.
    #[command(
        after_help = "podman run $(edge-secrets-agent mounts myorg/com.example.uplink) IMAGE"
    )]
    Mounts {
        /// ORG/URL, or the url alone.
        service: String,
        /// The consumer; needed where the service has several.
        consumer: Option<ConsumerName>,
        /// The engine whose arguments are written.
        #[arg(long = "for", value_enum, default_value_t)]
        engine: mounts::Engine,
        /// How to write it; a table is the arguments.
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
    /// Run the agent in the foreground.
    Run,
    /// Show each service's secrets and consumers.
    Services {
        /// ORG/URL, or the url alone; all when absent.
        service: Option<String>,
        /// How to write it.
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
    /// Show the hub's connection, and each service's secrets.
    Status {
        /// How to write it.
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
    /// Wait until a service can read all its secrets.
    #[command(
        after_help = "Exits with 0 when it can; 1 when not in time: not deployed, blocked, \
        failed, or stopped; 64 for usage or configuration; 69 when the agent does not run; 77 when \
        this user may not ask."
    )]
    Wait {
        /// ORG/URL, or the url alone.
        service: String,
        /// How long at most, like 30s or 5m.
        #[arg(long, default_value = "60s", value_name = "T")]
        timeout: Span,
    },
    /// Wipe everything that is delivered. The agent must be stopped.
    Wipe,
}

/// The token stands on a command line only if the user puts it there: others can see it then.
#[derive(Args)]
#[group(required = true, multiple = false, id = "from")]
struct TokenSource {
    /// The token; `-` reads it from standard input, which keeps it out of the process list.
    #[arg(long, value_name = "TOKEN|-", allow_hyphen_values = true)]
    token: Option<String>,
    /// A file with the token.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

#[derive(Args)]
struct EnrollArgs {
    #[command(flatten)]
    token: TokenSource,
    /// Replace an identity that is there already.
    #[arg(long)]
    force: bool,
}

#[derive(Clone, Copy, Default, ValueEnum)]
enum Output {
    #[default]
    Table,
    Json,
    Yaml,
}

/// A command that failed: what to say, and how to exit.
#[derive(Debug)]
struct Failure {
    exit: Exit,
    message: String,
}

/// The exit codes, as the README's table has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Exit {
    /// Usage or configuration: restarting does not help.
    Usage = 64,
    /// The hub is not available.
    Unavailable = 69,
    /// Denied.
    Denied = 77,
    /// Anything else.
    Other = 1,
}

impl Failure {
    fn new(exit: Exit, message: impl fmt::Display) -> Self {
        Self {
            exit,
            message: message.to_string(),
        }
    }
}

/// What can be typed: man pages and completions are made of it.
#[must_use]
pub fn command() -> clap::Command {
    Cli::command()
}

/// Runs the command that the arguments name. `protection` says what was reached for the process's
/// own memory.
#[must_use]
pub fn run(protection: Vec<String>) -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Nothing can be done about a terminal that is gone.
            error.print().ok();
            return if error.use_stderr() {
                refuse_waiting();
                ExitCode::from(Exit::Usage as u8)
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    match execute(cli, protection) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            writeln!(io::stderr(), "error: {}", failure.message).ok();
            ExitCode::from(failure.exit as u8)
        }
    }
}

/// A service whose command line is wrong stays down as one whose configuration is.
fn refuse_waiting() {
    if let Ok(runtime) = runtime() {
        runtime.block_on(app::refuse_waiting());
    }
}

fn runtime() -> io::Result<Runtime> {
    runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()
}

fn execute(cli: Cli, protection: Vec<String>) -> Result<(), Failure> {
    let runtime = runtime().map_err(|error| Failure::new(Exit::Other, error))?;
    let path = cli.config.as_path();
    runtime.block_on(async {
        if let Command::Check { output } = cli.command {
            return check::run(path, output).await;
        }
        if matches!(cli.command, Command::Mount) {
            return mount::run(path);
        }
        let config = match Config::load(path) {
            Ok(config) => config,
            Err(error) => {
                app::refuse_waiting().await;
                return Err(error.into());
            }
        };
        match cli.command {
            Command::Enroll(args) => enroll::run(&config, args).await,
            Command::Run => serve(config, path, protection).await,
            Command::Status { output } => status::show(&config.socket(), output).await,
            Command::Services { service, output } => {
                status::services(&config.socket(), service.as_deref(), output).await
            }
            Command::Mounts {
                service,
                consumer,
                engine,
                output,
            } => {
                mounts::run(
                    &config.socket(),
                    &service,
                    consumer.as_ref(),
                    engine,
                    output,
                )
                .await
            }
            Command::Metrics => say(local_api::metrics(&config.socket()).await?.trim_end()),
            Command::Refresh => {
                local_api::refresh(&config.socket()).await?;
                say("The agent looks again.")
            }
            Command::Wait { service, timeout } => {
                status::wait(&config.socket(), &service, timeout.duration()).await
            }
            Command::Wipe => wipe(&config).await,
            Command::Check { .. } | Command::Mount => Ok(()),
        }
    })
}

async fn serve(config: Config, path: &Path, protection: Vec<String>) -> Result<(), Failure> {
    app::init_log(&config.log);
    let built = app::build(config, path, protection);
    if built.is_err() {
        app::refuse_waiting().await;
    }
    built?.run_until_signal().await?;
    Ok(())
}

async fn wipe(config: &Config) -> Result<(), Failure> {
    match local_api::status(&config.socket()).await {
        Err(ClientError::NotRunning(_)) => {}
        Ok(_) | Err(_) => {
            return Err(Failure::new(
                Exit::Other,
                "the agent runs and would deliver again at once: stop it first (systemctl stop \
                 edge-secrets-agent), then wipe",
            ));
        }
    }
    let mut reconciler = Reconciler::open(&config.runtime())?;
    SealedCache::remove(&config.state_dir).map_err(|e| Failure::new(Exit::Other, e))?;
    reconciler
        .wipe_all(Timestamp::now())
        .map_err(|e| Failure::new(Exit::Other, e))?;
    // Readers that still have a file open keep it from being wiped until their grace is over.
    while let Some(at) = reconciler.tick(std::time::Instant::now()) {
        tokio::time::sleep_until(at.into()).await;
    }
    say("Everything is wiped.")
}

/// Writes `what` as asked for; `table` gives the text for people, or `None` when that is told.
fn print<T: Serialize + ?Sized>(
    what: &T,
    output: Output,
    table: impl FnOnce(&T) -> Option<String>,
) -> Result<(), Failure> {
    let other = |error: &dyn fmt::Display| Failure::new(Exit::Other, error);
    match output {
        Output::Table => table(what).map_or(Ok(()), |text| say(text.trim_end())),
        Output::Json => say(serde_json::to_string_pretty(what).map_err(|e| other(&e))?),
        Output::Yaml => say(serde_yaml::to_string(what)
            .map_err(|e| other(&e))?
            .trim_end()),
    }
}

/// Writes a line to standard output. A pipe that is closed is no failure of the command.
fn say(line: impl fmt::Display) -> Result<(), Failure> {
    match writeln!(io::stdout(), "{line}") {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::new(Exit::Other, error))
        }
        _ => Ok(()),
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::new(Exit::Usage, error)
    }
}

impl From<RuntimeError> for Failure {
    fn from(error: RuntimeError) -> Self {
        Self::new(Exit::Usage, error)
    }
}

impl From<AppError> for Failure {
    fn from(error: AppError) -> Self {
        let exit = match &error {
            AppError::Identity(_)
            | AppError::NotEnrolled(_)
            | AppError::Custody(_)
            | AppError::Runtime(_) => Exit::Usage,
            AppError::Socket { source, .. } => match source {
                BindError::UnknownGroup(_) | BindError::Group { .. } => Exit::Usage,
                BindError::Io(_) => Exit::Other,
            },
            AppError::Signals(_) | AppError::Credentials { .. } => Exit::Other,
        };
        Self::new(exit, error)
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let exit = match &error {
            ClientError::NotRunning(_) => Exit::Unavailable,
            ClientError::Denied(_) => Exit::Denied,
            ClientError::Refused(problem) if problem.code == Code::Denied => Exit::Denied,
            ClientError::Refused(_) | ClientError::Answer(_) => Exit::Other,
        };
        Self::new(exit, error)
    }
}

const WAIT_SLICE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> Result<Cli, clap::Error> {
        Cli::try_parse_from([&["edge-secrets-agent"], args].concat())
    }

    #[test]
    fn the_commands_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_token_comes_from_one_place() {
        assert!(parse(&["enroll", "--token", "-"]).is_ok());
        assert!(parse(&["enroll", "--token-file", "f", "--force"]).is_ok());
        assert!(parse(&["enroll"]).is_err());
        assert!(parse(&["enroll", "--token", "-", "--token-file", "f"]).is_err());
    }

    #[test]
    fn the_configuration_may_stand_before_or_after_the_command() {
        for args in [["--config", "f", "run"], ["run", "--config", "f"]] {
            assert_eq!(parse(&args).ok().unwrap().config, Path::new("f"));
        }
        assert_eq!(
            parse(&["run"]).ok().unwrap().config,
            Path::new(DEFAULT_PATH)
        );
    }

    #[test]
    fn a_timeout_needs_a_unit() {
        assert!(parse(&["wait", "svc", "--timeout", "5m"]).is_ok());
        assert!(parse(&["wait", "svc", "--timeout", "5"]).is_err());
    }
}
