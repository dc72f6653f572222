//! Why systemd did not do what it was asked.

use std::time::Duration;

use zbus::DBusError;
use zbus::message::Sequence;

use crate::consumers::names::UnitName;

/// Why systemd did not do what it was asked. Says what to do; never holds a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ManagerError {
    /// No bus, or no systemd on it.
    #[error("the system bus does not answer at {address}: is systemd running here? ({reason})")]
    Absent { address: String, reason: String },
    /// A command ended with something else than success.
    #[error("the command {how}: see `journalctl -u {unit}`")]
    Command { unit: String, how: String },
    /// The agent may not do this.
    #[error(
        "systemd denies it ({0}): run the agent as root, or allow its user \
         org.freedesktop.systemd1.manage-units in polkit"
    )]
    Denied(String),
    /// The job ended, but not well.
    #[error("systemd could not do it, {unit} ended its job with `{result}`: {hint}")]
    Job {
        unit: String,
        result: String,
        hint: String,
    },
    /// An answer that is not what systemd documents.
    #[error("systemd gave an answer that cannot be read ({0}): is it another version?")]
    Malformed(&'static str),
    /// The unit runs without a main process.
    #[error("{0} has no main process that could hear a signal: reload or restart it instead")]
    NoMainProcess(UnitName),
    /// The unit is not there.
    #[error(
        "systemd knows no unit {0}: correct the name in the profile, or install the unit and run \
         `systemctl daemon-reload`"
    )]
    NoSuchUnit(String),
    /// Anything else that systemd refuses, in its own words.
    #[error("systemd refuses: {0}")]
    Refused(String),
    /// No answer in time.
    #[error("systemd did not finish {what} within {after:?}")]
    Timeout { what: String, after: Duration },
}

impl ManagerError {
    /// A job's end that is not `done`.
    pub(super) fn job(unit: &str, result: &str) -> Self {
        let hint = match result {
            "canceled" => "another job took its place, it is tried again".to_owned(),
            "dependency" => {
                format!("a unit that it needs did not start, see `systemctl status {unit}`")
            }
            _ => format!("see `journalctl -u {unit}`"),
        };
        Self::Job {
            unit: unit.to_owned(),
            result: plain(result),
            hint,
        }
    }
}

/// How a call failed: with a D-Bus error of this name, or altogether.
#[derive(Debug)]
pub(super) enum CallError {
    /// The callee's answer. The position is its place among all that came over the connection,
    /// before everything where that is not known.
    Answer {
        name: String,
        text: String,
        position: Sequence,
    },
    Failed(ManagerError),
}

impl CallError {
    pub(super) fn new(error: zbus::Error, address: &str) -> Self {
        let absent = |reason: String| {
            Self::Failed(ManagerError::Absent {
                address: address.to_owned(),
                reason: plain(&reason),
            })
        };
        match error {
            zbus::Error::MethodError(name, text, message) => Self::Answer {
                name: name.as_str().to_owned(),
                text: plain(&text.unwrap_or_default()),
                position: message.recv_position(),
            },
            zbus::Error::FDO(error) => match *error {
                zbus::fdo::Error::AccessDenied(text)
                | zbus::fdo::Error::InteractiveAuthorizationRequired(text)
                | zbus::fdo::Error::AuthFailed(text) => {
                    Self::Failed(ManagerError::Denied(plain(&text)))
                }
                zbus::fdo::Error::ServiceUnknown(text)
                | zbus::fdo::Error::NameHasNoOwner(text)
                | zbus::fdo::Error::NoServer(text)
                | zbus::fdo::Error::NoReply(text)
                | zbus::fdo::Error::Disconnected(text) => absent(text),
                other => Self::Answer {
                    name: other.name().as_str().to_owned(),
                    text: plain(other.description().unwrap_or_default()),
                    position: Sequence::default(),
                },
            },
            zbus::Error::Connection(source, _) | zbus::Error::InputOutput(source) => {
                absent(source.to_string())
            }
            zbus::Error::Handshake(text) | zbus::Error::Address(text) => absent(text),
            _ => Self::Failed(ManagerError::Malformed("a message")),
        }
    }

    /// Whether systemd answered with this error of its own.
    pub(super) fn is(&self, error: &str) -> bool {
        matches!(self, Self::Answer { name, .. }
            if name.strip_prefix("org.freedesktop.systemd1.") == Some(error))
    }

    /// What it means where `unit` was asked for.
    pub(super) fn of(self, unit: &str) -> ManagerError {
        if self.is("NoSuchUnit") {
            return ManagerError::NoSuchUnit(unit.to_owned());
        }
        self.into()
    }
}

impl From<ManagerError> for CallError {
    fn from(error: ManagerError) -> Self {
        Self::Failed(error)
    }
}

impl From<CallError> for ManagerError {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Answer { text, .. } => Self::Refused(text),
            CallError::Failed(error) => error,
        }
    }
}

/// Text from outside, short and on one line.
pub(super) fn plain(text: &str) -> String {
    let visible = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    visible.take(LONGEST_TEXT).collect()
}

const LONGEST_TEXT: usize = 200;
