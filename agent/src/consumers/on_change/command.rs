//! A command as a process of the agent's own, where no service manager can run it.
//!
//! It gets the profile's arguments and nothing else: a fixed search path, `LANG=C`, its user's home,
//! `/` as its directory, no input, and nowhere to print to. It leads a process group of its own, and
//! who stops waiting for it kills the whole group. Not caught is what leaves the group (setsid(2)),
//! and what a command that ended by itself has left running.
//!
//! Another user gets their user id and primary group, and no supplementary groups.

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{ExitStatus, Stdio};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::{Pid, Uid, User, geteuid};
use tokio::process::Command;

use super::super::profile::Principal;
use super::ActionError;

/// Runs it to its end. Dropped before that, kills it.
pub(super) async fn run(argv: &[String], user: Option<&Principal>) -> Result<(), ActionError> {
    let [program, arguments @ ..] = argv else {
        return Err(ActionError("the command is empty".to_owned()));
    };
    if !Path::new(program).is_absolute() {
        return Err(ActionError(format!(
            "{program} is not an absolute path: write where the program stands"
        )));
    }
    let account = account(user).await?;
    let home = account.as_ref().map(|account| account.dir.as_path());
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env_clear()
        .envs([("PATH", SEARCH_PATH), ("LANG", "C")])
        .env("HOME", home.unwrap_or_else(|| Path::new("/")))
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .kill_on_drop(true);
    if let Some(account) = account.filter(|account| account.uid != geteuid()) {
        if !geteuid().is_root() {
            return Err(ActionError(format!(
                "only root can run {program} as {}: run the agent as root, or leave the user out",
                account.name
            )));
        }
        // The standard library drops the supplementary groups with it.
        command.gid(account.gid.as_raw()).uid(account.uid.as_raw());
    }
    let mut child = command
        .spawn()
        .map_err(|error| ActionError(format!("{program} cannot be started: {error}")))?;
    // Declared after the child, so dropped before it: while nobody has waited for the leader, its
    // number is nobody else's.
    let group = Group::of(child.id());
    let status = child.wait().await;
    group.ended();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(ActionError(format!("{program} {}", how(status)))),
        Err(error) => Err(ActionError(format!(
            "{program} was started, and cannot be waited for: {error}"
        ))),
    }
}

/// Whom the command runs as, the agent's own user when `None`; who that is need not be known.
async fn account(user: Option<&Principal>) -> Result<Option<User>, ActionError> {
    let (wanted, who) = match user {
        None => (Principal::Id(geteuid().as_raw()), String::new()),
        Some(Principal::Name(name)) => (Principal::Name(name.clone()), name.clone()),
        Some(Principal::Id(id)) => (Principal::Id(*id), id.to_string()),
    };
    // The user database may be far away, and asking it blocks.
    let found = tokio::task::spawn_blocking(move || match wanted {
        Principal::Name(name) => User::from_name(&name),
        Principal::Id(id) => User::from_uid(Uid::from_raw(id)),
    });
    match found.await {
        Ok(Ok(Some(account))) => Ok(Some(account)),
        _ if user.is_none() => Ok(None),
        Ok(Ok(None)) => Err(ActionError(format!(
            "there is no user {who} on this machine: add it, or name another in the profile"
        ))),
        Ok(Err(error)) => Err(ActionError(format!(
            "the user {who} cannot be looked up: {error}"
        ))),
        Err(_) => Err(ActionError(format!(
            "the user {who} was not looked up: the agent ends"
        ))),
    }
}

fn how(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("ended with exit code {code}"),
        (None, Some(signal)) => match Signal::try_from(signal) {
            Ok(signal) => format!("was ended by {signal}"),
            Err(_) => format!("was ended by signal {signal}"),
        },
        (None, None) => "ended in a way that is not known".to_owned(),
    }
}

/// A process group that is killed unless its leader has ended.
struct Group(Option<Pid>);

impl Group {
    /// The group of a leader that nobody has waited for.
    fn of(leader: Option<u32>) -> Self {
        let leader = leader.and_then(|id| i32::try_from(id).ok());
        Self(leader.map(Pid::from_raw))
    }

    /// The leader has been waited for: its number may become somebody else's.
    fn ended(mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(leader) = self.0 {
            // It fails only where nobody is left to kill, or where it may not: a program with more
            // rights than the agent.
            killpg(leader, Signal::SIGKILL).ok();
        }
    }
}

const SEARCH_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

#[cfg(test)]
mod tests;
