//! Watching managers: each secret that anything binds is looked at again and again, once for the whole
//! fleet and without its value; nodes hear of it when it is another one.

mod hints;
mod next;
mod pace;

use std::collections::BTreeMap;
use std::sync::Arc;

use edge_secrets_protocol::OrgId;
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
pub use hints::{Hint, Hints};
use hints::{Mail, Mailbox};
use next::Belief;
pub(crate) use next::trouble;
use pace::Pace;

/// Watches every manager until it is dropped.
pub async fn observe(catalog: Arc<dyn Catalog>, registry: Registry, hints: Hints) {
    let mut bell = catalog.bell();
    let mut watchers = JoinSet::new();
    for manager in registry.iter() {
        let watcher = Watcher {
            catalog: Arc::clone(&catalog),
            manager: Arc::clone(manager),
            mailbox: hints.register(&manager.name),
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
    mailbox: Arc<Mailbox>,
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
                mail = self.mailbox.take() => self.read(mail),
                () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {
                    self.look().await;
                }
            }
        }
    }

    fn read(&mut self, mail: Mail) {
        let now = Instant::now();
        for (key, watch) in mail.watched {
            let Some(known) = watch else {
                self.watched.remove(&key);
                continue;
            };
            // What is watched already may still stand as unasked there, for it is being asked about, or
            // was when this was sent: that is no reason to ask again.
            let watched = self.watched.entry(key).or_insert_with(|| Watched {
                belief: Belief::default(),
                next: now,
            });
            if known.is_some() {
                watched.belief.known = known;
            }
        }
        if !mail.all && mail.these.is_empty() {
            return;
        }
        // Whoever gives hints without end, a manager's own audit of our looks say, is not followed more
        // than once in a while.
        let soon = self.heard.map_or(now, |heard| now.max(heard + pace::HINTS));
        self.heard = Some(soon);
        for ((_, reference), watched) in &mut self.watched {
            if mail.all || mail.these.contains(reference) {
                watched.next = watched.next.min(soon);
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
