//! What the agent asks of systemd: reload, restart, signal, run, and whether it is being restarted.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::sync::mpsc;
use zbus::{ObjectPath, OwnedObjectPath};

use super::command::{self, Running, STOP_LIMIT};
use super::error::CallError;
pub(crate) use super::error::ManagerError;
use super::session::{ACTIVE_STATE, SERVICE, Session, UNIT};
use super::watch;
use crate::app::AbortOnDrop;
use crate::consumers::lifecycle::{Observed, Presence};
use crate::consumers::names::{SignalName, UnitName};
use crate::consumers::profile::Principal;

/// A handle to systemd. Holds no connection: each request opens one and closes it, so that nothing
/// is there to break, to wake up for, or to wait behind. Every request is bounded in time.
#[derive(Debug, Clone)]
pub(crate) struct Manager {
    address: Option<String>,
    limits: Limits,
}

/// How long to wait for systemd.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// For the answer to a call.
    pub(super) call: Duration,
    /// For the end of a job. systemd has limits of its own for each; whoever calls, too.
    pub(super) job: Duration,
}

/// How a unit stands, as far as a change matters to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// It reads what is there when it starts.
    Stopped,
    /// It may have read what was there before, and cannot be told yet.
    Starting,
    Running,
}

impl Manager {
    /// systemd on the bus at `address` (a D-Bus address), on the system bus when none.
    pub(crate) fn new(address: Option<String>) -> Self {
        Self::with_limits(address, LIMITS)
    }

    pub(super) fn with_limits(address: Option<String>, limits: Limits) -> Self {
        Self { address, limits }
    }

    /// `systemctl reload`, waiting for its end. Nothing to do for a unit that is not active.
    ///
    /// # Errors
    /// When there is no such unit, it cannot be reloaded, or its reload fails.
    pub(crate) async fn reload(&self, unit: &UnitName) -> Result<(), ManagerError> {
        let mut session = self.open().await?;
        match self.standing(&mut session, unit).await? {
            Standing::Stopped => return Ok(()),
            // systemd drops the reload of a unit that starts and waits for the start alone.
            Standing::Starting => self.job(&mut session, "ReloadUnit", unit).await?,
            Standing::Running => {}
        }
        self.job(&mut session, "ReloadUnit", unit).await
    }

    /// `systemctl restart`, waiting for its end. Starts a unit that is not active.
    ///
    /// # Errors
    /// When there is no such unit, or it does not start.
    pub(crate) async fn restart(&self, unit: &UnitName) -> Result<(), ManagerError> {
        let mut session = self.open().await?;
        self.job(&mut session, "RestartUnit", unit).await
    }

    /// `systemctl try-restart`, waiting for its end. Nothing to do for a unit that is not active.
    ///
    /// # Errors
    /// When there is no such unit, or it does not start again.
    pub(crate) async fn try_restart(&self, unit: &UnitName) -> Result<(), ManagerError> {
        let mut session = self.open().await?;
        match self.standing(&mut session, unit).await? {
            Standing::Stopped => Ok(()),
            // systemd would leave a unit that starts alone, though it may have read what is old.
            Standing::Starting => self.job(&mut session, "RestartUnit", unit).await,
            Standing::Running => self.job(&mut session, "TryRestartUnit", unit).await,
        }
    }

    /// Sends the unit's main process a signal; one that is starting gets it once it has started, however
    /// long that takes. Nothing to do for a unit that is not active.
    ///
    /// # Errors
    /// When there is no such unit, or it is active without a main process.
    pub(crate) async fn signal_main(
        &self,
        unit: &UnitName,
        signal: SignalName,
    ) -> Result<(), ManagerError> {
        let mut session = self.open().await?;
        if self.hears_signals(&mut session, unit).await? == Standing::Stopped {
            return Ok(());
        }
        let body = (unit.as_str(), "main", signal.signal() as i32);
        match session.manager("KillUnit", &body).await {
            Ok(_) => Ok(()),
            // It may have stopped just now, or begun anew.
            Err(error) if error.is("NoSuchProcess") || error.is("NoSuchUnit") => {
                match self.standing(&mut session, unit).await? {
                    Standing::Stopped | Standing::Starting => Ok(()),
                    Standing::Running => Err(ManagerError::NoMainProcess(unit.clone())),
                }
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Runs a command as a transient unit and waits for its end; after `timeout` it is ended with
    /// all its children. Dropping the future ends it, too. `user`: the agent's own when absent.
    /// Nothing but `argv` reaches the command, as it stands: no shell, no variables.
    ///
    /// # Errors
    /// When it cannot be started, ends with another status than 0, or its time is over.
    pub(crate) async fn run(
        &self,
        description: &str,
        argv: &[String],
        user: Option<&Principal>,
        timeout: Duration,
    ) -> Result<(), ManagerError> {
        let unit = command::unit_name();
        let body = command::transient(&unit, description, argv, user, timeout)?;
        let mut session = self.open().await?;
        let running = Running::new(self.clone(), session.connection(), unit.clone());
        let limit = timeout.saturating_add(STOP_LIMIT.saturating_add(self.limits.call));
        let result = session.job("StartTransientUnit", &body, limit).await;
        if result.as_ref().is_ok_and(|result| result == "done") {
            running.ended();
            return Ok(());
        }
        let result = match result {
            Ok(result) => result,
            // Answered with an error: it has not begun.
            Err(error @ CallError::Answer { .. }) => {
                running.ended();
                return Err(error.into());
            }
            Err(error) => return Err(error.into()),
        };
        let how = command::ending(&mut session, &unit).await;
        running.ended();
        Err(match how {
            Some(how) => ManagerError::Command { unit, how },
            None => ManagerError::job(&unit, &result),
        })
    }

    /// Whether systemd stops this very process in order to start it again. No job, or one that
    /// stops it for good: false.
    ///
    /// # Errors
    /// When systemd cannot be asked, or this process runs in none of its units.
    pub(crate) async fn restarts(&self) -> Result<bool, ManagerError> {
        let mut session = self.open().await?;
        let reply = session.manager("GetUnitByPID", &std::process::id()).await?;
        let body = reply.body();
        let unit = body.deserialize::<ObjectPath<'_>>();
        let unit = unit.map_err(|_| ManagerError::Malformed("a unit's path"))?;
        let (_, job) = session.property(&unit, UNIT, "Job").await?;
        let job: (u32, OwnedObjectPath) = job
            .try_into()
            .map_err(|_| ManagerError::Malformed("a unit's job"))?;
        if job.0 == 0 {
            return Ok(false);
        }
        let (_, kind) = session.text(&job.1, JOB, "JobType").await?;
        Ok(kind == "restart" || kind == "try-restart")
    }

    /// Tells through `seen` of each unit whether it lives: now, at every change, and anew whenever
    /// systemd could not be asked for a while. Several changes in a row may make one: the last. Ends
    /// when dropped, or when nobody listens.
    pub(crate) fn watch(
        &self,
        units: BTreeSet<UnitName>,
        seen: mpsc::UnboundedSender<Observed>,
    ) -> AbortOnDrop {
        let address = self.address.clone();
        let watch = watch::Watch::new(address, self.limits.call, units, seen);
        AbortOnDrop::new(tokio::spawn(watch.run()))
    }

    /// Stops a unit, without waiting for its end.
    pub(super) async fn stop(&self, unit: &str) -> Result<(), ManagerError> {
        let mut session = self.open().await?;
        match session.manager("StopUnit", &(unit, "replace")).await {
            Err(error) if !error.is("NoSuchUnit") => Err(error.into()),
            _ => Ok(()),
        }
    }

    async fn open(&self) -> Result<Session, ManagerError> {
        let session = Session::open(self.address.as_deref(), self.limits.call).await?;
        if session.is_manned() {
            Ok(session)
        } else {
            Err(session.absent("systemd is not on this bus"))
        }
    }

    async fn job(
        &self,
        session: &mut Session,
        member: &str,
        unit: &UnitName,
    ) -> Result<(), ManagerError> {
        let body = (unit.as_str(), "replace");
        let job = session.job(member, &body, self.limits.job).await;
        match job.map_err(|error| inapplicable(error, unit))?.as_str() {
            // Skipped: the unit's state leaves nothing to do.
            "done" | "skipped" => Ok(()),
            // What systemd says of the reload of a unit that has become inactive.
            "invalid" if member == "ReloadUnit" => Ok(()),
            result => Err(ManagerError::job(unit.as_str(), result)),
        }
    }

    /// Waits for the end of a start: a signal ends a program that has not said yet what it does with it.
    async fn hears_signals(
        &self,
        session: &mut Session,
        unit: &UnitName,
    ) -> Result<Standing, ManagerError> {
        let standing = self.standing(session, unit).await?;
        if standing != Standing::Starting {
            return Ok(standing);
        }
        let path = unit_path(session, unit).await?;
        // All that such a unit ever does is its start.
        let kind = session.text(&path, SERVICE, "Type").await;
        if kind.is_ok_and(|(_, kind)| kind == "oneshot") {
            return Ok(Standing::Running);
        }
        session.subscribe().await?;
        session.follow_unit(&path).await?;
        loop {
            // First this and then whether it starts: a change between the two is seen by the latter.
            let (_, step) = session.text(&path, UNIT, "SubState").await?;
            let standing = self.standing(session, unit).await?;
            if standing != Standing::Starting {
                return Ok(standing);
            }
            if BEFORE_MAIN.contains(&step.as_str()) {
                return Ok(Standing::Stopped);
            }
            session.more().await?;
        }
    }

    async fn standing(
        &self,
        session: &mut Session,
        unit: &UnitName,
    ) -> Result<Standing, ManagerError> {
        let path = unit_path(session, unit).await?;
        let (_, load) = session.text(&path, UNIT, "LoadState").await?;
        if load == "not-found" {
            return Err(ManagerError::NoSuchUnit(unit.to_string()));
        }
        let (_, state) = session.text(&path, UNIT, ACTIVE_STATE).await?;
        Ok(match (state.as_str(), presence(&state)) {
            // On its way to a start it reads anew.
            (_, Presence::Absent) | ("deactivating", _) => Standing::Stopped,
            ("activating", _) => Standing::Starting,
            _ => Standing::Running,
        })
    }
}

async fn unit_path(
    session: &mut Session,
    unit: &UnitName,
) -> Result<OwnedObjectPath, ManagerError> {
    let path = session.path_of("LoadUnit", unit.as_str()).await;
    path.map_err(|error| error.of(unit.as_str()))
}

/// What an ActiveState means (org.freedesktop.systemd1(5)). A unit that stops may still read.
pub(super) fn presence(state: &str) -> Presence {
    match state {
        "active" | "activating" | "reloading" | "refreshing" | "deactivating" => Presence::Present,
        "inactive" | "failed" | "maintenance" => Presence::Absent,
        _ => Presence::Unknown,
    }
}

fn inapplicable(error: CallError, unit: &UnitName) -> ManagerError {
    if error.is("JobTypeNotApplicable") {
        return ManagerError::Refused(format!(
            "{unit} has no ExecReload= and cannot be reloaded: use restart, or a signal"
        ));
    }
    error.of(unit.as_str())
}

const LIMITS: Limits = Limits {
    call: Duration::from_secs(10),
    job: Duration::from_secs(600),
};
/// What comes before a service's own program, which then reads what is there (systemd's ServiceState).
const BEFORE_MAIN: [&str; 4] = [
    "auto-restart",
    "auto-restart-queued",
    "condition",
    "start-pre",
];
const JOB: &str = "org.freedesktop.systemd1.Job";

#[cfg(test)]
mod tests;
