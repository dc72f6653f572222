//! Which secrets have changed and not been acknowledged. Pure.
//!
//! Each change of a secret has a number of its own, however quickly changes follow one another, and also
//! when a version comes back. An acknowledgement is good for what the service was told before it, and
//! for no more: what changes between the two stays on the list.

use std::collections::BTreeMap;

use edge_secrets_protocol::{DeploymentId, SecretName, SecretVersion};
use serde::{Deserialize, Serialize};

/// What is known of one consumer's secrets. Names and versions, no value.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Notes {
    /// Whose they are; none before the first.
    deployment: Option<DeploymentId>,
    secrets: BTreeMap<SecretName, Note>,
    /// Whether there was something before that nobody knows any more.
    #[serde(skip)]
    lost: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Note {
    version: SecretVersion,
    /// Grows with every change.
    change: u64,
    /// The change that the service was last told of in this life of the agent.
    #[serde(skip)]
    told: u64,
    /// The change that the service has acknowledged, or began with.
    received: u64,
}

impl Notes {
    /// In the place of what cannot be read any more: all that comes is news, since any of it may be.
    pub(super) fn lost() -> Self {
        Self {
            lost: true,
            ..Self::default()
        }
    }

    /// Takes what can be read now, and says whether that is something else than before. What is there
    /// when a consumer begins is no news: its service begins with it.
    pub(super) fn take(
        &mut self,
        deployment: &DeploymentId,
        secrets: &BTreeMap<SecretName, SecretVersion>,
    ) -> bool {
        let before = self.clone();
        let begins = self.deployment.is_none() && !std::mem::take(&mut self.lost);
        // Of another deployment nothing is the same, whatever it is called.
        let another = !begins && self.deployment.as_ref() != Some(deployment);
        self.deployment = Some(deployment.clone());
        self.secrets.retain(|name, _| secrets.contains_key(name));
        for (name, version) in secrets {
            match self.secrets.get_mut(name) {
                Some(note) if note.version == *version && !another => {}
                Some(note) => {
                    note.version = version.clone();
                    note.change += 1;
                }
                None => {
                    let note = Note {
                        version: version.clone(),
                        change: 1,
                        told: 0,
                        received: u64::from(begins),
                    };
                    self.secrets.insert(name.clone(), note);
                }
            }
        }
        *self != before
    }

    /// What has changed since it was acknowledged. The service is told of it with this call.
    pub(super) fn tell_updated(&mut self) -> Vec<SecretName> {
        let updated = self.secrets.iter_mut();
        let updated = updated.filter(|(_, note)| note.change > note.received);
        updated
            .map(|(name, note)| {
                note.told = note.change;
                name.clone()
            })
            .collect()
    }

    /// The service is told what the secret is now.
    pub(super) fn tell(&mut self, name: &SecretName) {
        if let Some(note) = self.secrets.get_mut(name) {
            note.told = note.change;
        }
    }

    /// The service has received what it was told. Says whether that is news; none when there is no
    /// such secret.
    pub(super) fn receive(&mut self, name: &SecretName) -> Option<bool> {
        let note = self.secrets.get_mut(name)?;
        let news = note.told > note.received;
        note.received = note.received.max(note.told);
        Some(news)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(notes: &mut Notes, deployment: &str, secrets: &[(&str, &str)]) -> bool {
        let secrets = secrets.iter();
        let secrets =
            secrets.map(|(name, version)| (name.parse().unwrap(), version.parse().unwrap()));
        notes.take(&deployment.parse().unwrap(), &secrets.collect())
    }

    fn updated(notes: &mut Notes) -> Vec<String> {
        let names = notes.tell_updated();
        names.iter().map(ToString::to_string).collect()
    }

    fn receive(notes: &mut Notes, name: &str) -> Option<bool> {
        notes.receive(&name.parse().unwrap())
    }

    fn begun() -> Notes {
        let mut notes = Notes::default();
        assert!(take(&mut notes, "d", &[("a", "1"), ("b", "1")]));
        notes
    }

    #[test]
    fn what_is_there_at_the_start_is_no_news() {
        let mut notes = begun();
        assert!(updated(&mut notes).is_empty());
        assert!(!take(&mut notes, "d", &[("a", "1"), ("b", "1")]));
    }

    #[test]
    fn a_change_is_listed_until_it_is_acknowledged_and_every_change_counts() {
        let mut notes = begun();
        for version in ["2", "3", "2"] {
            assert!(take(&mut notes, "d", &[("a", version), ("b", "1")]));
            assert_eq!(updated(&mut notes), ["a"]);
            assert_eq!(updated(&mut notes), ["a"]);
            assert_eq!(receive(&mut notes, "a"), Some(true));
            assert_eq!(receive(&mut notes, "a"), Some(false));
            assert!(updated(&mut notes).is_empty());
        }
        assert_eq!(receive(&mut notes, "c"), None);
    }

    #[test]
    fn what_changes_between_telling_and_acknowledging_stays_listed() {
        let mut notes = begun();
        take(&mut notes, "d", &[("a", "2"), ("b", "1")]);
        assert_eq!(updated(&mut notes), ["a"]);
        take(&mut notes, "d", &[("a", "3"), ("b", "1")]);
        assert_eq!(receive(&mut notes, "a"), Some(true));
        assert_eq!(updated(&mut notes), ["a"]);
        // Repeated by a client that has not heard the answer: not for what it was never told.
        receive(&mut notes, "a");
        take(&mut notes, "d", &[("a", "4"), ("b", "1")]);
        assert_eq!(receive(&mut notes, "a"), Some(false));
        assert_eq!(updated(&mut notes), ["a"]);
    }

    #[test]
    fn who_asks_for_the_secret_itself_has_been_told() {
        let mut notes = begun();
        take(&mut notes, "d", &[("a", "2"), ("b", "1")]);
        assert_eq!(receive(&mut notes, "a"), Some(false), "it was not told");
        notes.tell(&"a".parse().unwrap());
        assert_eq!(receive(&mut notes, "a"), Some(true));
        assert!(updated(&mut notes).is_empty());
    }

    #[test]
    fn a_restart_forgets_no_acknowledgement_and_no_change() {
        let mut notes = begun();
        take(&mut notes, "d", &[("a", "2"), ("b", "2")]);
        updated(&mut notes);
        receive(&mut notes, "a");
        let text = serde_json::to_vec(&notes).unwrap();
        let mut notes: Notes = serde_json::from_slice(&text).unwrap();
        assert!(!take(&mut notes, "d", &[("a", "2"), ("b", "2")]));
        assert_eq!(updated(&mut notes), ["b"]);
        // Changed while the agent was not there.
        assert!(take(&mut notes, "d", &[("a", "3"), ("b", "2")]));
        assert_eq!(updated(&mut notes), ["a", "b"]);
    }

    #[test]
    fn after_notes_that_were_lost_everything_is_news() {
        let mut notes = Notes::lost();
        assert!(take(&mut notes, "d", &[("a", "2")]));
        assert_eq!(updated(&mut notes), ["a"]);
        assert_eq!(receive(&mut notes, "a"), Some(true));
        assert!(!take(&mut notes, "d", &[("a", "2")]));
        assert!(updated(&mut notes).is_empty());
    }

    #[test]
    fn what_comes_later_and_another_deployments_are_news() {
        let mut notes = begun();
        take(&mut notes, "d", &[("a", "1"), ("c", "1")]);
        assert_eq!(updated(&mut notes), ["c"]);
        receive(&mut notes, "c");
        assert_eq!(receive(&mut notes, "b"), None, "it is gone");
        take(&mut notes, "other", &[("a", "1"), ("c", "1")]);
        assert_eq!(updated(&mut notes), ["a", "c"]);
    }
}
