//! `on_change` and `lifecycle`: exactly one thing to do, exactly one life to follow.

use std::time::Duration;

use super::check::{HOUR, Place, Wrong};
use super::locate::Step;
use super::text::{Account, ActionText, LifecycleText, OnChangeText};
use crate::consumers::names::{ContainerName, SignalName, UnitName};
use crate::consumers::profile::{Action, Lifecycle, OnChange, Workload};

/// What is done after a swap; none for `none`.
pub(super) fn on_change(
    written: OnChangeText,
    place: &Place<'_>,
) -> Result<Option<OnChange>, Wrong> {
    let written = match written {
        OnChangeText::Nothing => return Ok(None),
        OnChangeText::Something(written) => *written,
    };
    let key = |key| [Step::Key("on_change"), Step::Key(key)];
    let count = [
        written.reload.is_some(),
        written.restart.is_some(),
        written.try_restart.is_some(),
        written.signal.is_some(),
        written.command.is_some(),
        written.none.is_some(),
    ];
    if count.iter().filter(|given| **given).count() != 1 {
        let reason = "needs exactly one of reload, restart, try_restart, signal, command, none";
        return Err(place.wrong(&[Step::Key("on_change")], reason));
    }
    let signal = written.signal.is_some();
    for (name, given, fits) in [
        ("unit", written.unit.is_some(), signal),
        ("container", written.container.is_some(), signal),
        ("user", written.user.is_some(), written.command.is_some()),
        (
            "debounce",
            written.debounce.is_some(),
            written.none.is_none(),
        ),
        ("timeout", written.timeout.is_some(), written.none.is_none()),
    ] {
        if given && !fits {
            let reason = format!("`{name}` makes no sense with this action: drop it");
            return Err(place.wrong(&key(name), reason));
        }
    }
    if let Some(none) = written.none {
        return if none {
            Ok(None)
        } else {
            Err(place.wrong(&key("none"), "is either true or not there"))
        };
    }
    let default_timeout = if written.command.is_some() {
        COMMAND_TIMEOUT
    } else {
        TIMEOUT
    };
    let debounce = (Duration::ZERO, HOUR);
    let timeout = (Duration::from_millis(1), HOUR);
    Ok(Some(OnChange {
        debounce: place.span(&key("debounce"), written.debounce, DEBOUNCE, debounce)?,
        timeout: place.span(&key("timeout"), written.timeout, default_timeout, timeout)?,
        action: action(written, place)?,
    }))
}

/// When a consumer may have its secrets.
pub(super) fn lifecycle(written: LifecycleText, place: &Place<'_>) -> Result<Lifecycle, Wrong> {
    let key = |key| [Step::Key("lifecycle"), Step::Key(key)];
    let workload = match (written.unit, written.container) {
        (Some(unit), None) => Workload::Unit(whole(unit, &key("unit"), place)?),
        (None, Some(container)) => Workload::Container(container),
        _ => {
            let reason = "needs exactly one of unit, container";
            return Err(place.wrong(&[Step::Key("lifecycle")], reason));
        }
    };
    let bounds = (Duration::ZERO, 24 * HOUR);
    let linger = place.span(&key("linger"), written.linger, LINGER, bounds)?;
    Ok(Lifecycle { workload, linger })
}

fn action(written: ActionText, place: &Place<'_>) -> Result<Action, Wrong> {
    let key = |key| [Step::Key("on_change"), Step::Key(key)];
    let unit = |name, unit| whole(unit, &key(name), place);
    Ok(match written {
        ActionText {
            reload: Some(name), ..
        } => Action::Reload(unit("reload", name)?),
        ActionText {
            restart: Some(name),
            ..
        } => Action::Restart(unit("restart", name)?),
        ActionText {
            try_restart: Some(name),
            ..
        } => Action::TryRestart(unit("try_restart", name)?),
        ActionText {
            command: Some(argv),
            user,
            ..
        } => command(argv.0, user, place)?,
        ActionText {
            signal: Some(signal),
            unit,
            container,
            ..
        } => signalled(signal, unit, container, place)?,
        _ => return Err(place.wrong(&[Step::Key("on_change")], "names no action")),
    })
}

fn signalled(
    signal: SignalName,
    unit: Option<UnitName>,
    container: Option<ContainerName>,
    place: &Place<'_>,
) -> Result<Action, Wrong> {
    let key = |key| [Step::Key("on_change"), Step::Key(key)];
    match (unit, container) {
        (Some(unit), None) => {
            let unit = whole(unit, &key("unit"), place)?;
            Ok(Action::SignalUnit(unit, signal))
        }
        (None, Some(container)) => Ok(Action::SignalContainer(container, signal)),
        _ => {
            let reason = "needs exactly one of unit, container beside it";
            Err(place.wrong(&key("signal"), reason))
        }
    }
}

fn command(argv: Vec<String>, user: Option<Account>, place: &Place<'_>) -> Result<Action, Wrong> {
    let path = [Step::Key("on_change"), Step::Key("command")];
    let reason = match argv.first() {
        None => "is empty: write a program and its arguments",
        Some(program) if !program.starts_with('/') => {
            "its program must be an absolute path, like /usr/local/bin/notify"
        }
        _ if argv.iter().any(|arg| arg.contains('\0')) => "no argument may hold a NUL character",
        _ if argv.iter().map(String::len).sum::<usize>() > MAX_COMMAND => {
            "is longer than 16 KiB: put it into a script"
        }
        _ => {
            let user = user.map(|account| account.0);
            return Ok(Action::Command { argv, user });
        }
    };
    Err(place.wrong(&path, reason))
}

/// A unit that runs, rather than a template of such.
fn whole(unit: UnitName, path: &[Step<'_>], place: &Place<'_>) -> Result<UnitName, Wrong> {
    if unit.is_template() {
        let reason = format!("{unit} is a template: name one of its instances");
        return Err(place.wrong(path, reason));
    }
    Ok(unit)
}

const DEBOUNCE: Duration = Duration::from_millis(100);
const TIMEOUT: Duration = Duration::from_secs(30);
const COMMAND_TIMEOUT: Duration = Duration::from_secs(60);
const LINGER: Duration = Duration::from_secs(10);
const MAX_COMMAND: usize = 16 * 1024;
