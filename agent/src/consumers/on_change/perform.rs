//! Actions in the real world: units through the service manager, containers through their engine,
//! commands as transient units or as processes of the agent's own.

use std::fmt::Display;
use std::future::Future;
use std::path::Path;
use std::time::Duration;

use nix::unistd::geteuid;

use super::super::names::{ContainerName, SignalName, UnitName};
use super::super::profile::{Action, Principal};
use super::{ActionError, Perform, command, describe};

/// The service manager, as far as actions need it. Every call ends when what it asked for has ended
/// (a job, a command), and ends that when it is dropped where the manager knows how to.
pub(crate) trait Units: Send + Sync + 'static {
    /// Says what to do; never a value.
    type Error: Display + Send;

    /// `systemctl reload`. Nothing to do where the unit is not active.
    fn reload(&self, unit: &UnitName) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// `systemctl restart`.
    fn restart(&self, unit: &UnitName) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// `systemctl try-restart`. Nothing to do where the unit is not active.
    fn try_restart(&self, unit: &UnitName) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// `systemctl kill --kill-whom=main`, of a unit that is starting once it has started. Nothing to do
    /// where the unit is not active.
    fn signal_main(
        &self,
        unit: &UnitName,
        signal: SignalName,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Runs a command as a transient unit of its own, for `timeout` at most. An exit code other than
    /// zero is an error.
    fn run(
        &self,
        description: &str,
        argv: &[String],
        user: Option<&Principal>,
        timeout: Duration,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send;
}

/// The container engine, as far as actions need it.
pub(crate) trait Engines: Send + Sync + 'static {
    /// Says what to do; never a value.
    type Error: Display + Send;

    /// Sends a signal to the container's first process. Nothing to do where it does not run.
    fn signal(
        &self,
        container: &ContainerName,
        signal: SignalName,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send;
}

/// How commands run. What they print is discarded in both cases: they read secrets, and the agent's
/// log must not hold what they say of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Commands {
    /// As transient units: the agent's sandbox and lack of capabilities do not reach them, and nothing
    /// that they start outlives them.
    Transient,
    /// As processes of the agent's own, with its rights and sandbox. Another user than the agent's
    /// needs root.
    Direct,
}

impl Commands {
    /// As transient units where systemd manages the machine (sd_booted(3)) and the agent is root, who
    /// alone may start them; else directly.
    pub(crate) fn of_this_machine() -> Self {
        if geteuid().is_root() && Path::new("/run/systemd/system").is_dir() {
            Self::Transient
        } else {
            Self::Direct
        }
    }
}

/// The machine that the agent runs on.
#[derive(Debug)]
pub(crate) struct Host<U, E> {
    units: U,
    engines: E,
    commands: Commands,
}

impl<U: Units, E: Engines> Host<U, E> {
    /// Nothing is asked of anybody before there is an action.
    pub(crate) fn new(units: U, engines: E, commands: Commands) -> Self {
        Self {
            units,
            engines,
            commands,
        }
    }

    async fn command(
        &self,
        action: &Action,
        argv: &[String],
        user: Option<&Principal>,
        timeout: Duration,
    ) -> Result<(), ActionError> {
        match self.commands {
            Commands::Direct => command::run(argv, user).await,
            Commands::Transient => {
                let description = format!("On-change action of edge-secrets: {}", describe(action));
                let run = self.units.run(&description, argv, user, timeout);
                told(run.await)
            }
        }
    }
}

impl<U: Units, E: Engines> Perform for Host<U, E> {
    async fn perform(&self, action: &Action, timeout: Duration) -> Result<(), ActionError> {
        match action {
            Action::Reload(unit) => told(self.units.reload(unit).await),
            Action::Restart(unit) => told(self.units.restart(unit).await),
            Action::TryRestart(unit) => told(self.units.try_restart(unit).await),
            Action::SignalUnit(unit, signal) => told(self.units.signal_main(unit, *signal).await),
            Action::SignalContainer(container, signal) => {
                told(self.engines.signal(container, *signal).await)
            }
            Action::Command { argv, user } => {
                self.command(action, argv, user.as_ref(), timeout).await
            }
        }
    }
}

fn told<E: Display>(result: Result<(), E>) -> Result<(), ActionError> {
    result.map_err(|error| ActionError(error.to_string()))
}

#[cfg(test)]
mod tests;
