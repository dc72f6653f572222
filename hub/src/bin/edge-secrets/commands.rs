//! What each command does.

use clap::CommandFactory;
use clap_complete::Shell;
use edge_secrets_hub::wire::{HubInfo, paths};

use crate::cli::{Cli, Command};
use crate::client::{Client, at};
use crate::context::{self, Context};
use crate::error::Error;
use crate::output::Ui;

mod audit;
mod changes;
mod explain;
mod follow;
mod import;
mod lease;
mod manager;
mod named;
mod node;
mod pattern;
mod policy;
mod remedy;
mod rollout;
mod secret;
mod secrets_manager;
mod service;
mod standing;
mod user;

/// What commands work with.
pub(crate) struct Session<'a> {
    client: Client,
    ui: &'a mut Ui,
}

impl Session<'_> {
    /// Who the hub says we are, and where it wants values sealed to.
    ///
    /// # Errors
    /// When the certificate is somebody else's than the context says.
    async fn hub_info(&mut self) -> Result<HubInfo, Error> {
        let info: HubInfo = self.client.get(at(paths::HUB, &[])).await?;
        let (org, user) = (self.client.org(), self.client.user());
        if (&info.org, &info.user) != (org, user) {
            return Err(Error::Usage(format!(
                "the context says that you are {user} of {org}, but its certificate is that of {} \
                 of {}",
                info.user, info.org
            )));
        }
        Ok(info)
    }
}

/// Runs one command line.
///
/// # Errors
/// With what ended it.
pub(crate) async fn run(cli: Cli, ui: &mut Ui) -> Result<(), Error> {
    // Needs no hub, and so no context.
    if let Command::Completions { shell } = cli.command {
        return completions(shell, ui);
    }
    let file = context::locate(cli.context, |name| std::env::var_os(name).map(Into::into))?;
    let context = Context::load(&file)?;
    if context.key_is_exposed() {
        let key = context.key.display();
        ui.note(&format!(
            "warning: others can read the private key {key}: chmod 600 it"
        ));
    }
    let client = Client::new(&context)?;
    let mut session = Session { client, ui };
    let done = dispatch(cli.command, &mut session).await;
    session.client.close().await;
    done
}

async fn dispatch(command: Command, session: &mut Session<'_>) -> Result<(), Error> {
    match command {
        Command::Secret(command) => secret::run(command, session).await,
        Command::SecretsManager(args) => secrets_manager::run(args, session).await,
        Command::Import(command) => import::run(command, session).await,
        Command::Service(command) => service::run(command, session).await,
        Command::Policy(command) => policy::run(command, session).await,
        Command::Pattern(command) => pattern::run(command, session).await,
        Command::Node(command) => node::run(command, session).await,
        Command::Rollout(args) => rollout::run(args, session).await,
        Command::Explain(args) => explain::run(args, session).await,
        Command::User(command) => user::run(command, session).await,
        Command::Manager(command) => manager::run(command, session).await,
        Command::Lease(command) => lease::run(command, session).await,
        Command::Audit(args) => audit::run(args, session).await,
        Command::Completions { shell } => completions(shell, session.ui),
    }
}

fn completions(shell: Shell, ui: &mut Ui) -> Result<(), Error> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "edge-secrets", &mut script);
    ui.raw(&script)
}

#[cfg(test)]
mod tests;
