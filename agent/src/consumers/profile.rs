//! One delivery profile: what the administrator says of one service's consumers.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use edge_secrets_protocol::binding::Format;
use edge_secrets_protocol::{ConsumerName, SecretName, ServiceId};
use serde::Serialize;

use super::names::{ContainerName, CredentialId, FileName, SignalName, UnitName};

/// What one document of `services.d` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Profile {
    pub(crate) service: ServiceId,
    /// None: every consumer of the service that has no profile of its own.
    pub(crate) consumer: Option<ConsumerName>,
    /// Where it stands.
    pub(crate) file: PathBuf,
    pub(crate) shape: Shape,
    pub(crate) on_change: Option<OnChange>,
    pub(crate) lifecycle: Option<Lifecycle>,
    pub(crate) credentials: Option<Credentials>,
    /// Whether the consumers have a secrets API of their own; what `agent.yaml` says when absent.
    pub(crate) secrets_api: Option<bool>,
}

impl Profile {
    /// Whether the action is for who waits for the first secrets when it starts.
    pub(crate) fn starts_with(&self, action: &Action) -> bool {
        let lives = |workload: Workload| {
            let life = self.lifecycle.as_ref();
            life.is_some_and(|life| life.workload == workload)
        };
        match action {
            Action::Reload(unit)
            | Action::Restart(unit)
            | Action::TryRestart(unit)
            | Action::SignalUnit(unit, _) => {
                let template = unit.template();
                let mut waiting = self.credentials.iter().flat_map(|given| &given.units);
                lives(Workload::Unit(unit.clone()))
                    || waiting.any(|named| named == unit || Some(named) == template.as_ref())
            }
            Action::SignalContainer(container, _) => lives(Workload::Container(container.clone())),
            Action::Command { .. } => false,
        }
    }
}

/// How a consumer's files look.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Shape {
    /// The agent's own user when absent.
    pub(crate) owner: Option<Principal>,
    /// The owner's group when absent; without an owner the agent's own.
    pub(crate) group: Option<Principal>,
    /// The mode of every file: 0400 when absent.
    pub(crate) mode: Option<u32>,
    /// The format of every secret, whatever the service definition says.
    pub(crate) format: Option<Format>,
    /// What is special about one secret.
    pub(crate) secrets: BTreeMap<SecretName, SecretShape>,
    /// Files that are made of several secrets. In the order of the profile.
    pub(crate) templates: Vec<Template>,
    /// No file for the service: nobody but the agent's user looks into the directory. For units that
    /// take credentials alone.
    pub(crate) private: bool,
}

/// What is special about one secret's file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct SecretShape {
    pub(crate) format: Option<Format>,
    pub(crate) mode: Option<u32>,
}

/// A file rendered from several secrets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Template {
    /// What the file is called. Never a secret's name or another template's.
    pub(crate) name: SecretName,
    /// The template's text. It was compiled once when the profile was taken.
    pub(crate) text: String,
    /// The secrets it reads; none when that cannot be told before it runs, which means all.
    pub(crate) reads: Option<std::collections::BTreeSet<SecretName>>,
    pub(crate) mode: Option<u32>,
}

/// A user or group, by name or number. Looked up when a file is written: it may be made later.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub(crate) enum Principal {
    Id(u32),
    Name(String),
}

/// What is done after a swap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OnChange {
    pub(crate) action: Action,
    /// How long to wait for further changes, so that several make one action.
    pub(crate) debounce: Duration,
    /// How long one attempt may take.
    pub(crate) timeout: Duration,
}

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Action {
    /// `systemctl reload`; nothing to do where the unit is not active.
    Reload(UnitName),
    /// `systemctl restart`: starts a unit that is not active.
    Restart(UnitName),
    /// `systemctl try-restart`.
    TryRestart(UnitName),
    /// A signal to the unit's main process, once it has started; nothing to do where the unit is not active.
    SignalUnit(UnitName, SignalName),
    /// A signal to the container's first process; nothing to do where it does not run.
    SignalContainer(ContainerName, SignalName),
    /// A program with its arguments; the first is an absolute path.
    Command {
        argv: Vec<String>,
        /// The agent's own user when absent.
        user: Option<Principal>,
    },
}

/// When a consumer may have its secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Lifecycle {
    pub(crate) workload: Workload,
    /// How long after its end the secrets are wiped, so that a crash loop does not thrash.
    pub(crate) linger: Duration,
}

/// Whose life it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Workload {
    Unit(UnitName),
    Container(ContainerName),
}

/// Which units get the consumer's files as credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Credentials {
    /// Units; a template stands for all its instances. No unit is named by two profiles.
    pub(crate) units: Vec<UnitName>,
    /// Which file a credential is where its id is not the file's name.
    pub(crate) ids: BTreeMap<CredentialId, FileName>,
    /// How long an answer waits for a secret that is not there yet.
    pub(crate) wait: Duration,
}
