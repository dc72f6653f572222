//! The clients of systemd and of the container engine, as actions use them.

use std::time::Duration;

use super::super::names::{ContainerName, SignalName, UnitName};
use super::super::profile::Principal;
use super::perform::{Engines, Units};
use crate::containers::{Engine, EngineError};
use crate::systemd::manager::{Manager, ManagerError};

impl Units for Manager {
    type Error = ManagerError;

    async fn reload(&self, unit: &UnitName) -> Result<(), ManagerError> {
        Self::reload(self, unit).await
    }

    async fn restart(&self, unit: &UnitName) -> Result<(), ManagerError> {
        Self::restart(self, unit).await
    }

    async fn try_restart(&self, unit: &UnitName) -> Result<(), ManagerError> {
        Self::try_restart(self, unit).await
    }

    async fn signal_main(&self, unit: &UnitName, signal: SignalName) -> Result<(), ManagerError> {
        Self::signal_main(self, unit, signal).await
    }

    async fn run(
        &self,
        description: &str,
        argv: &[String],
        user: Option<&Principal>,
        timeout: Duration,
    ) -> Result<(), ManagerError> {
        Self::run(self, description, argv, user, timeout).await
    }
}

impl Engines for Engine {
    type Error = EngineError;

    async fn signal(
        &self,
        container: &ContainerName,
        signal: SignalName,
    ) -> Result<(), EngineError> {
        Self::signal(self, container, signal).await
    }
}
