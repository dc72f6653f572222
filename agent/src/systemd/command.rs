//! A command as a transient unit (systemd.unit(5), StartTransientUnit): systemd ends it with all its
//! children when its time is over, whatever becomes of the agent.

use std::time::Duration;

use nix::unistd::{Uid, User};
use zbus::{Connection, Variant};

use super::error::{ManagerError, plain};
use super::manager::Manager;
use super::session::{MANAGER, MANAGER_PATH, SERVICE, SYSTEMD, Session};
use crate::consumers::profile::Principal;

/// A unit's property.
type Property = (&'static str, Variant<'static>);

/// What StartTransientUnit takes: name, mode, properties, and no further units.
pub(super) type Transient<'a> = (
    &'a str,
    &'static str,
    Vec<Property>,
    Vec<(&'static str, Vec<Property>)>,
);

/// A name that no other unit has.
pub(super) fn unit_name() -> String {
    format!(
        "edge-secrets-action-{:016x}.service",
        crate::hub::backoff::random()
    )
}

/// The unit that runs `argv` once.
pub(super) fn transient<'a>(
    unit: &'a str,
    description: &str,
    argv: &[String],
    user: Option<&Principal>,
    limit: Duration,
) -> Result<Transient<'a>, ManagerError> {
    let Some(program) = argv.first() else {
        return Err(ManagerError::Refused("the command is empty".to_owned()));
    };
    // D-Bus has no such texts, and a bus cuts off whoever sends one.
    let name = match user {
        Some(Principal::Name(name)) => Some(name),
        _ => None,
    };
    if argv.iter().chain(name).any(|text| text.contains('\0')) {
        return Err(ManagerError::Refused(
            "the command holds a zero byte".to_owned(),
        ));
    }
    // systemd puts environment variables into arguments; `$$` is a dollar. The program's path is
    // taken as it is.
    let literal: Vec<String> = argv.iter().map(|arg| arg.replace('$', "$$")).collect();
    let mut properties: Vec<Property> = vec![
        ("Description", Variant::new(plain(description))),
        ("Type", Variant::new("oneshot")),
        (
            "ExecStart",
            Variant::new(vec![(program.clone(), literal, false)]),
        ),
        // For oneshot the whole run is its start: RuntimeMaxSec= does not count.
        ("TimeoutStartUSec", Variant::new(micros(limit))),
        ("TimeoutStopUSec", Variant::new(micros(STOP_LIMIT))),
        ("CollectMode", Variant::new("inactive-or-failed")),
        // Kept until this connection ends, so that its exit status can be read.
        ("AddRef", Variant::new(true)),
    ];
    properties.extend(identity(user));
    Ok((unit, "replace", properties, Vec::new()))
}

/// How the command ended, from the unit's properties.
pub(super) async fn ending(session: &mut Session, unit: &str) -> Option<String> {
    let path = session.path_of("GetUnit", unit).await.ok()?;
    let (_, result) = session.text(&path, SERVICE, "Result").await.ok()?;
    if result != "exit-code" && result != "signal" && result != "core-dump" {
        return Some(match result.as_str() {
            "timeout" => "was ended because its time was over".to_owned(),
            _ => format!("could not be run ({result})"),
        });
    }
    let (_, status) = session
        .property(&path, SERVICE, "ExecMainStatus")
        .await
        .ok()?;
    let status = status.downcast_ref::<i32>().ok()?;
    Some(if result == "exit-code" {
        format!("ended with status {status}")
    } else {
        format!("was ended by signal {status}")
    })
}

/// Stops the unit when dropped, unless it has ended.
pub(super) struct Running {
    manager: Manager,
    /// The one over which the unit was started: a call on it cannot overtake the start.
    connection: Connection,
    /// None once it has ended.
    unit: Option<String>,
}

impl Running {
    pub(super) fn new(manager: Manager, connection: Connection, unit: String) -> Self {
        Self {
            manager,
            connection,
            unit: Some(unit),
        }
    }

    pub(super) fn ended(mut self) {
        self.unit = None;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let (Some(unit), Ok(runtime)) = (self.unit.take(), tokio::runtime::Handle::try_current())
        else {
            return;
        };
        let (manager, connection) = (self.manager.clone(), self.connection.clone());
        runtime.spawn(async move {
            let body = (unit.as_str(), "replace");
            let stop = connection.call_method(
                Some(SYSTEMD),
                MANAGER_PATH,
                Some(MANAGER),
                "StopUnit",
                &body,
            );
            let stopped = tokio::time::timeout(STOP_LIMIT, stop).await;
            // An answer of systemd's, even that it knows no such unit, is the end of it.
            let answered = matches!(stopped, Ok(Ok(_) | Err(zbus::Error::MethodError(..))));
            if !answered && let Err(reason) = manager.stop(&unit).await {
                tracing::warn!(%unit, %reason, "Command could not be stopped; systemd ends it in time.");
            }
        });
    }
}

fn identity(user: Option<&Principal>) -> Vec<Property> {
    let id = match user {
        Some(Principal::Name(name)) => return vec![("User", Variant::new(name.clone()))],
        Some(Principal::Id(id)) => *id,
        // Whatever has no user runs as root.
        None if Uid::effective().is_root() => return Vec::new(),
        None => Uid::effective().as_raw(),
    };
    let mut identity = vec![("User", Variant::new(id.to_string()))];
    // A user that nobody knows would keep root's group.
    if !matches!(User::from_uid(Uid::from_raw(id)), Ok(Some(_))) {
        identity.push(("Group", Variant::new(id.to_string())));
    }
    identity
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// Between the signal that asks and the one that ends.
pub(super) const STOP_LIMIT: Duration = Duration::from_secs(5);
