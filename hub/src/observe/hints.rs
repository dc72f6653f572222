//! What watchers are told. What is not taken yet is merged: however often somebody says the same while
//! a manager hangs, it waits once.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use edge_secrets_protocol::OrgId;
use tokio::sync::Notify;

use crate::catalog::records::{Observation, Observed};
use crate::managers::ManagerName;
use crate::reference::SecretRef;

/// Tells the watchers to look at once. A hint: they look anyway. Clones share it.
#[derive(Clone, Default)]
pub struct Hints(Arc<Mutex<HashMap<ManagerName, Arc<Mailbox>>>>);

/// What to look at.
#[derive(Debug, Clone)]
pub enum Hint {
    /// Everything of the manager.
    All,
    /// These secrets of it.
    These(Vec<SecretRef>),
    /// Secrets that were just bound, or that the catalog remembers.
    Watch(Vec<Observed>),
    /// Secrets that nothing binds any more.
    Forget(Vec<(OrgId, SecretRef)>),
}

/// What a watcher has not taken yet.
#[derive(Debug, Default)]
pub(super) struct Mailbox {
    mail: Mutex<Mail>,
    bell: Notify,
}

/// Everything that was said since it was taken last.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Mail {
    /// Look at everything.
    pub(super) all: bool,
    /// Look at these.
    pub(super) these: BTreeSet<SecretRef>,
    /// Watch a secret, with what is known of it; none: watch it no more. The last word counts.
    pub(super) watched: BTreeMap<(OrgId, SecretRef), Option<Watch>>,
}

/// What is known of a secret that is to be watched.
pub(super) type Watch = Option<Observation>;

impl Hints {
    /// Gives a hint about a manager. `false` where nobody watches it.
    #[must_use]
    pub fn give(&self, manager: &ManagerName, hint: Hint) -> bool {
        let mailboxes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(mailbox) = mailboxes.get(manager) else {
            return false;
        };
        mailbox.lock().add(hint);
        mailbox.bell.notify_one();
        true
    }

    pub(super) fn register(&self, manager: &ManagerName) -> Arc<Mailbox> {
        let mailbox = Arc::<Mailbox>::default();
        let mut mailboxes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        mailboxes.insert(manager.clone(), Arc::clone(&mailbox));
        mailbox
    }
}

impl Mailbox {
    /// Waits for something to be said, and takes all of it. Safe to cancel.
    pub(super) async fn take(&self) -> Mail {
        self.bell.notified().await;
        mem::take(&mut *self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, Mail> {
        self.mail.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Mail {
    fn add(&mut self, hint: Hint) {
        match hint {
            Hint::All => self.all = true,
            Hint::These(references) => self.these.extend(references),
            Hint::Watch(found) => {
                for Observed {
                    org,
                    reference,
                    known,
                } in found
                {
                    self.watched.insert((org, reference), Some(known));
                }
            }
            Hint::Forget(gone) => {
                self.watched.extend(gone.into_iter().map(|key| (key, None)));
            }
        }
        if self.these.len() > MAX_THESE {
            self.these.clear();
            self.all = true;
        }
    }
}

/// More than so many are everything.
const MAX_THESE: usize = 4_096;

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(path: &str) -> SecretRef {
        format!("v:{path}").parse().unwrap()
    }

    #[tokio::test]
    async fn what_is_said_again_waits_once_and_the_last_word_counts() {
        let (hints, manager) = (Hints::default(), "v".parse().unwrap());
        assert!(!hints.give(&manager, Hint::All), "nobody watches yet");
        let mailbox = hints.register(&manager);
        let org: OrgId = "o".parse().unwrap();
        let watch = || {
            Hint::Watch(vec![Observed {
                org: org.clone(),
                reference: secret("a"),
                known: None,
            }])
        };
        for _ in 0..1_000 {
            assert!(hints.give(&manager, watch()));
            assert!(hints.give(&manager, Hint::These(vec![secret("b")])));
        }
        let key = (org.clone(), secret("a"));
        let mail = mailbox.take().await;
        assert_eq!(mail.watched, [(key.clone(), Some(None))].into());
        assert_eq!(mail.these, [secret("b")].into());
        assert!(!mail.all);
        let _given = hints.give(&manager, watch());
        let _given = hints.give(&manager, Hint::Forget(vec![key.clone()]));
        assert_eq!(mailbox.take().await.watched, [(key, None)].into());
    }

    #[tokio::test]
    async fn very_many_are_everything() {
        let (hints, manager) = (Hints::default(), "v".parse().unwrap());
        let mailbox = hints.register(&manager);
        for number in 0..=MAX_THESE {
            let _given = hints.give(&manager, Hint::These(vec![secret(&number.to_string())]));
        }
        let mail = mailbox.take().await;
        assert!(mail.all && mail.these.is_empty());
    }
}
