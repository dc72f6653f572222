//! Watching managers: each secret that anything binds is looked at again and again, once for the whole
//! fleet and without its value; nodes hear of it when it is another one.

mod next;
mod pace;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use edge_secrets_protocol::OrgId;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tracing::{debug, error, info, warn};

use crate::catalog::records::{Actor, NewAudit, Observation, Observed};
use crate::catalog::{Catalog, CatalogError};
use crate::clock;
use crate::managers::guarded::Guarded;
use crate::managers::registry::Registry;
use crate::managers::{Fault, ManagerError, ManagerName, Target};
use crate::reference::SecretRef;
use next::Belief;
pub(crate) use next::trouble;
use pace::Pace;

/// Tells the watchers to look at once. A hint: they look anyway. Clones share it.
#[derive(Clone, Default)]
pub struct Hints(Arc<Mutex<HashMap<ManagerName, mpsc::UnboundedSender<Hint>>>>);

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

impl Hints {
    /// Gives a hint about a manager. `false` where nobody watches it.
    #[must_use]
    pub fn give(&self, manager: &ManagerName, hint: Hint) -> bool {
        let senders = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let sender = senders.get(manager);
        sender.is_some_and(|sender| sender.send(hint).is_ok())
    }

    fn register(&self, manager: &ManagerName) -> mpsc::UnboundedReceiver<Hint> {
        let (sender, receiver) = mpsc::unbounded_channel();
        let mut senders = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        senders.insert(manager.clone(), sender);
        receiver
    }
}

/// Watches every manager until it is dropped.
pub async fn observe(catalog: Arc<dyn Catalog>, registry: Registry, hints: Hints) {
    let mut bell = catalog.bell();
    let mut watchers = JoinSet::new();
    for manager in registry.iter() {
        let watcher = Watcher {
            catalog: Arc::clone(&catalog),
            manager: Arc::clone(manager),
            hints: hints.register(&manager.name),
            watched: BTreeMap::new(),
            heard: None,
        };
        watchers.spawn(watcher.run());
        watchers.spawn(tend(Arc::clone(manager)));
    }
    let mut sweep = tokio::time::interval(pace::TEND);
    let mut unasked = false;
    loop {
        match catalog.observed(unasked).await {
            Ok(found) => {
                unasked = true;
                dispatch(&*catalog, &hints, found).await;
            }
            Err(error) => {
                error!(%error, "What is bound to managers cannot be read; trying again.");
                tokio::time::sleep(pace::RETRY).await;
                continue;
            }
        }
        tokio::select! {
            // Whoever supervises begins anew, with everything.
            _ = watchers.join_next(), if !watchers.is_empty() => {
                error!("A watcher of a secrets manager ended.");
                return;
            }
            rung = bell.changed() => if rung.is_err() {
                return;
            },
            _ = sweep.tick() => forget(&*catalog, &hints).await,
        }
    }
}

async fn forget(catalog: &dyn Catalog, hints: &Hints) {
    let gone = match catalog.forget_unbound().await {
        Ok(gone) => gone,
        Err(error) => {
            error!(%error, "What nothing binds any more cannot be forgotten.");
            return;
        }
    };
    for (org, reference) in gone {
        if let Some(manager) = reference.manager().cloned() {
            // Where nobody watches there is nothing to forget.
            let _watched = hints.give(&manager, Hint::Forget(vec![(org, reference)]));
        }
    }
}

/// Lets the backend do what is due by itself, however long the watcher's looks take.
async fn tend(manager: Arc<Guarded>) {
    let mut tick = tokio::time::interval(pace::TEND);
    loop {
        tick.tick().await;
        manager.tend().await;
    }
}

/// Gives what is to be watched to the watchers of its managers. What names a manager that the hub has
/// no more says so.
async fn dispatch(catalog: &dyn Catalog, hints: &Hints, found: Vec<Observed>) {
    let mut by_manager: BTreeMap<ManagerName, Vec<Observed>> = BTreeMap::new();
    for observed in found {
        if let Some(manager) = observed.reference.manager() {
            by_manager
                .entry(manager.clone())
                .or_default()
                .push(observed);
        }
    }
    for (manager, found) in by_manager {
        if hints.give(&manager, Hint::Watch(found.clone())) {
            continue;
        }
        for observed in found {
            let why = format!("this hub has no secrets manager \"{manager}\" (any more)");
            let error = ManagerError::new(Fault::UnknownManager, why);
            let mut belief = Belief {
                known: observed.known.clone(),
                doubted: false,
            };
            if let Some(next) = belief.learn(Err(error), clock::now())
                && let Err(error) = keep(catalog, &observed.org, &observed.reference, &next).await
            {
                error!(%error, "What is known of a secret cannot be kept.");
            }
        }
    }
}

async fn keep(
    catalog: &dyn Catalog,
    org: &OrgId,
    reference: &SecretRef,
    next: &Observation,
) -> Result<bool, CatalogError> {
    let audit = audit(org, reference, next);
    let committed = catalog.observe(org, reference, next, audit).await?;
    if let Some(committed) = &committed {
        let nodes = committed.touched.len();
        match &next.trouble {
            None => info!(%org, %reference, nodes, "A secret is another one at its manager."),
            Some(trouble) => warn!(%org, %reference, nodes, fault = %trouble.fault,
                detail = trouble.detail, "A secret cannot be had at its manager."),
        }
    }
    Ok(committed.is_some())
}

fn audit(org: &OrgId, reference: &SecretRef, next: &Observation) -> NewAudit {
    let (result, detail) = match &next.trouble {
        Some(trouble) => (trouble.fault.to_string(), trouble.detail.clone()),
        None => (
            "ok".to_owned(),
            match &next.version {
                Some(version) => format!("version {version}"),
                None => "reads have a lease".to_owned(),
            },
        ),
    };
    NewAudit {
        org: org.clone(),
        at: clock::now(),
        actor: Actor::Hub,
        action: "secret.observe".into(),
        object: format!("secret/{reference}"),
        result,
        detail,
        peer: "-".into(),
    }
}

/// Watches one manager.
struct Watcher {
    catalog: Arc<dyn Catalog>,
    manager: Arc<Guarded>,
    hints: mpsc::UnboundedReceiver<Hint>,
    watched: BTreeMap<(OrgId, SecretRef), Watched>,
    /// When a hint was followed last.
    heard: Option<Instant>,
}

struct Watched {
    belief: Belief,
    next: Instant,
}

impl Watcher {
    async fn run(mut self) {
        loop {
            let next = self.watched.values().map(|watched| watched.next).min();
            tokio::select! {
                // Hints first: they may make more of it due at once.
                biased;
                hint = self.hints.recv() => match hint {
                    Some(hint) => self.take(hint),
                    None => return,
                },
                () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {
                    self.look().await;
                }
            }
        }
    }

    fn take(&mut self, hint: Hint) {
        let now = Instant::now();
        // Whoever gives hints without end, a manager's own audit of our looks say, is not followed more
        // than once in a while.
        let soon = self.heard.map_or(now, |heard| now.max(heard + pace::HINTS));
        if matches!(hint, Hint::All | Hint::These(_)) {
            self.heard = Some(soon);
        }
        match hint {
            Hint::All => {
                for watched in self.watched.values_mut() {
                    watched.next = watched.next.min(soon);
                }
            }
            Hint::These(references) => {
                for ((_, reference), watched) in &mut self.watched {
                    if references.contains(reference) {
                        watched.next = watched.next.min(soon);
                    }
                }
            }
            Hint::Forget(gone) => {
                for key in gone {
                    self.watched.remove(&key);
                }
            }
            Hint::Watch(found) => {
                for observed in found {
                    // What is watched already may still stand as unasked there, for it is being asked
                    // about, or was when this was sent: that is no reason to ask again.
                    let key = (observed.org, observed.reference);
                    let watched = self.watched.entry(key).or_insert_with(|| Watched {
                        belief: Belief::default(),
                        next: now,
                    });
                    if let Some(known) = observed.known {
                        watched.belief.known = Some(known);
                    }
                }
            }
        }
    }

    /// Looks at all that is due, in batches.
    async fn look(&mut self) {
        let now = Instant::now();
        let mut due: Vec<_> = self
            .watched
            .iter()
            .filter(|(_, watched)| watched.next <= now)
            .map(|(key, watched)| (watched.next, key.clone()))
            .collect();
        due.sort();
        due.truncate(BATCH);
        let targets: Vec<_> = due
            .iter()
            .map(|(_, (org, reference))| Target { org, reference })
            .collect();
        let answers = self.manager.describe_all(&targets).await;
        debug!(manager = %self.manager.name, secrets = due.len(), "Looked at.");
        let pace = Pace {
            poll: self.manager.settings.poll,
            per_second: self.manager.settings.limits.per_second,
            watched: self.watched.len(),
        };
        for ((_, key), answer) in due.into_iter().zip(answers) {
            self.learn(key, answer, pace).await;
        }
    }

    async fn learn(
        &mut self,
        key: (OrgId, SecretRef),
        answer: Result<crate::managers::Description, ManagerError>,
        pace: Pace,
    ) {
        let Some(watched) = self.watched.get_mut(&key) else {
            return;
        };
        let retry_after = answer.as_ref().err().and_then(|error| error.retry_after);
        let before = watched.belief.known.clone();
        let next = watched.belief.learn(answer, clock::now());
        watched.next = Instant::now() + pace.wait(retry_after, watched.belief.doubted);
        let Some(next) = next else {
            return;
        };
        let (org, reference) = &key;
        match keep(&*self.catalog, org, reference, &next).await {
            Ok(true) => {}
            // Nothing binds it any more.
            Ok(false) => {
                self.watched.remove(&key);
            }
            Err(error) => {
                error!(%org, %reference, %error, "What is known of a secret cannot be kept.");
                if let Some(watched) = self.watched.get_mut(&key) {
                    watched.belief.known = before;
                }
            }
        }
    }
}

/// Most secrets of one look.
const BATCH: usize = 200;

#[cfg(test)]
mod tests;
