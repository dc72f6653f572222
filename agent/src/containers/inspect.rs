//! What the engine says of one container.

use serde::Deserialize;

use super::EngineError;
use crate::consumers::lifecycle::Presence;
use crate::consumers::names::ContainerName;

/// A container that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    /// The engine's id, in hexadecimal digits.
    pub(super) id: String,
    pub(super) liveness: Liveness,
}

/// Where a container stands in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Liveness {
    /// Its process is there, though perhaps paused or about to end.
    Runs,
    /// It is made and not started yet, or the engine starts it again: its next process will read
    /// what is there then.
    Starts,
    /// Its process has ended.
    Ended,
    /// It stands somewhere that neither engine was known to have.
    Strange,
}

impl Liveness {
    /// Whether its consumer may have its secrets. A container that was made counts: what it needs
    /// must be there before its process is.
    pub(super) fn presence(self) -> Presence {
        match self {
            Self::Runs | Self::Starts => Presence::Present,
            Self::Ended => Presence::Absent,
            Self::Strange => Presence::Unknown,
        }
    }

    /// Whether there is a process to signal. Where that cannot be told the engine may say so.
    pub(super) fn takes_signals(self) -> bool {
        matches!(self, Self::Runs | Self::Strange)
    }

    fn of(status: &str) -> Self {
        match status {
            "running" | "paused" | "stopping" => Self::Runs,
            "created" | "configured" | "initialized" | "restarting" => Self::Starts,
            "exited" | "stopped" | "dead" | "removing" => Self::Ended,
            _ => Self::Strange,
        }
    }
}

/// Reads the answer of `GET /containers/NAME/json`; none when it is about another container, whose
/// id begins as the name does.
///
/// # Errors
/// When it is no such answer.
pub(super) fn parse(name: &ContainerName, body: &[u8]) -> Result<Option<Found>, EngineError> {
    // Only what is needed is kept: the rest, the environment for one, is nobody's business here.
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Inspected {
        id: String,
        name: String,
        state: State,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct State {
        status: String,
    }
    let wrong = |why: &str| EngineError::Answer(format!("container {name}: {why}"));
    let answer: Inspected =
        serde_json::from_slice(body).map_err(|_| wrong("it is described in an unknown way"))?;
    if answer.name.strip_prefix('/').unwrap_or(&answer.name) != name.as_str() {
        return Ok(None);
    }
    let hexadecimal = answer.id.bytes().all(|b| b.is_ascii_hexdigit());
    if !hexadecimal || !(MIN_ID..=MAX_ID).contains(&answer.id.len()) {
        return Err(wrong("its id is none"));
    }
    Ok(Some(Found {
        id: answer.id,
        liveness: Liveness::of(&answer.state.status),
    }))
}

const MIN_ID: usize = 12;
const MAX_ID: usize = 128;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Result<Option<Found>, EngineError> {
        parse(&"uplink".parse().expect("a name"), text.as_bytes())
    }

    fn answer(name: &str, id: &str, status: &str) -> String {
        format!(r#"{{"Id":"{id}","Name":"{name}","State":{{"Status":"{status}"}},"Config":{{}}}}"#)
    }

    #[test]
    fn every_state_of_either_engine_has_its_place() {
        for (status, presence, signals) in [
            ("running", Presence::Present, true),
            ("paused", Presence::Present, true),
            ("stopping", Presence::Present, true),
            ("created", Presence::Present, false),
            ("initialized", Presence::Present, false),
            ("restarting", Presence::Present, false),
            ("exited", Presence::Absent, false),
            ("stopped", Presence::Absent, false),
            ("dead", Presence::Absent, false),
            ("removing", Presence::Absent, false),
            ("", Presence::Unknown, true),
            ("levitating", Presence::Unknown, true),
        ] {
            let found = read(&answer("/uplink", "0123456789ab", status));
            let found = found.expect("understood").expect("there");
            assert_eq!(found.liveness.presence(), presence, "{status}");
            assert_eq!(found.liveness.takes_signals(), signals, "{status}");
        }
    }

    #[test]
    fn another_container_whose_id_begins_like_the_name_does_not_count() {
        let found = read(&answer("/other", "0123456789ab", "running"));
        assert_eq!(found.expect("understood"), None);
    }

    #[test]
    fn what_is_no_description_is_refused_without_being_quoted() {
        let no_id = answer("/uplink", "../../etc", "running");
        let short = answer("/uplink", "ab", "running");
        for text in [
            "",
            "[]",
            "{\"Id\":7}",
            "{\"secret\":\"hunter2\"",
            &no_id,
            &short,
        ] {
            let error = read(text).expect_err(text).to_string();
            assert!(error.contains("container uplink"), "{error}");
            assert!(
                !error.contains("hunter2") && !error.contains("etc"),
                "{error}"
            );
        }
    }

    proptest! {
        #[test]
        fn no_answer_breaks_the_reader(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(parse(&"uplink".parse().expect("a name"), &body).is_err());
        }
    }
}
